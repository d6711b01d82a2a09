//! GigaChat: a message of the role `function call` (3), or `<|function_call|>` (3.1), and `{"name": ..., "arguments": {...}}`.

use super::reader::{Read, Reader, Stop};
use super::{Marks, ToolCall, ToolSyntax, Tools, call_of, json_of, named_objects};

const ROLE: &str = "<|message_sep|>\n\nfunction call<|role_sep|>\n";

pub(super) const ROLES: ToolSyntax = ToolSyntax {
    name: "gigachat-3",
    is_of: |source| source.contains("'function call'") && source.contains("<|role_sep|>"),
    opens: &[(ROLE, false)],
    marks: &[],
    before_thinking: false,
    begun: false,
    read: |reader, _| {
        reader.mark(ROLE)?;
        object(reader)
    },
    grammar,
};

pub(super) const MARK: ToolSyntax = ToolSyntax {
    name: "gigachat-3.1",
    is_of: |source| source.contains("<|function_call|>"),
    opens: &[("<|function_call|>", false)],
    marks: &[],
    before_thinking: false,
    begun: false,
    read: |reader, _| {
        reader.mark("<|function_call|>")?;
        object(reader)
    },
    grammar,
};

fn object(reader: &mut Reader<'_>) -> Read<Vec<ToolCall>> {
    Ok(vec![call_of(&reader.json()?).ok_or(Stop::Not)?])
}

fn grammar(tools: &Tools, _: &Marks<'_>) -> String {
    format!("start: {}\n", json_of(&named_objects(tools, "name", "arguments")))
}
