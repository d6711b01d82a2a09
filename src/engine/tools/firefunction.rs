//! FireFunction 2: `functools[{"name": ..., "arguments": {...}}, ...]`.

use super::reader::{Read, Reader};
use super::{Marks, ToolCall, ToolSyntax, Tools, granite};

pub(super) const SYNTAX: ToolSyntax = ToolSyntax {
    name: "firefunction",
    is_of: |source| source.contains("functools["),
    opens: &[("functools", false)],
    marks: &[],
    before_thinking: false,
    begun: false,
    read,
    grammar,
};

fn read(reader: &mut Reader<'_>, _: &Tools) -> Read<Vec<ToolCall>> {
    reader.mark("functools")?;
    granite::list(reader)
}

fn grammar(tools: &Tools, _: &Marks<'_>) -> String {
    format!("start: {}\n", granite::array_of(tools, "name", "arguments"))
}
