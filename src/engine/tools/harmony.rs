//! gpt-oss: `<|channel|>commentary to=functions.name <|constrain|>json<|message|>{...}<|call|>`; the name may also come before the
//! channel, as in the template.

use serde_json::Value as Json;

use super::reader::{Read, Reader, Stop};
use super::{Marks, ToolCall, ToolSyntax, Tools, arguments_text, json_of, text};

pub(super) const SYNTAX: ToolSyntax = ToolSyntax {
    name: "harmony",
    is_of: |source| source.contains("<|channel|>") && source.contains("<|call|>"),
    opens: &[
        ("<|channel|>commentary to=functions.", false),
        ("<|channel|>analysis to=functions.", false),
        ("<|start|>assistant to=functions.", false),
        (" to=functions.", true),
    ],
    marks: &["<|constrain|>json<|message|>", "<|call|>"],
    before_thinking: true,
    begun: false,
    read,
    grammar,
};

fn read(reader: &mut Reader<'_>, _: &Tools) -> Read<Vec<ToolCall>> {
    reader.until("to=functions.")?;
    let name = reader.name()?.to_owned();
    // The channel, if it comes after the name, and the content type.
    reader.until("<|message|>")?;
    let arguments = reader.json()?;
    if !matches!(arguments, Json::Object(_)) {
        return Err(Stop::Not);
    }
    reader.close("<|call|>")?;
    Ok(vec![ToolCall { name, arguments: arguments_text(&arguments) }])
}

fn grammar(tools: &Tools, marks: &Marks<'_>) -> String {
    let header = format!("\" \"? ({})? {}", marks.lark("<|constrain|>json"), marks.lark("<|message|>"));
    let one = |(name, schema): (&str, &Json)| format!("{} header {}", text(name), json_of(schema));
    format!("start: {}\nheader: {header}\n", tools.callable().map(one).collect::<Vec<_>>().join(" | "))
}
