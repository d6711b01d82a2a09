//! Tools: definitions of the tools that a model may call, and parsing of calls in its answers.
//!
//! Every family has its own syntax of calls. A syntax is a file with a parser, a grammar that keeps arguments to their
//! schemas, and a row in [`SYNTAXES`]. The syntax of a model is found by marks in its template.

mod apertus;
mod command_r;
mod deepseek;
mod firefunction;
mod functionary;
mod gemma4;
mod gigachat;
mod glm;
mod grammar;
mod granite;
mod harmony;
mod hermes;
mod hunyuan;
mod kimi;
mod kimi_k3;
mod lfm2;
mod llama3;
mod minimax;
mod minimax_m1;
mod minimax_m3;
mod mistral;
mod nemotron;
mod qwen_coder;
mod reader;
mod solar;
mod splitter;
#[cfg(test)]
mod tests;
mod tool_calls;

use serde_json::{Map, Value as Json, json};

use super::Error;
use super::schema::spaced;
use crate::tokenizer::{TokenKind, Tokenizer};
use reader::{Read, Reader};
pub use splitter::{ToolPart, ToolSplitter};

/// Whether tools may or must be called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// No tool is called.
    None,
    /// The model decides.
    #[default]
    Auto,
    /// At least one tool is called.
    Required,
    /// This tool is called.
    Named(String),
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// The tool's name.
    pub name: String,
    /// Its arguments: the text of a JSON object, or whatever the model wrote instead.
    pub arguments: String,
}

/// The tools that may be called.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tools {
    /// Definitions in OpenAI's form: `{"type": "function", "function": {"name", "description", "parameters"}}`.
    definitions: Vec<Json>,
    /// Whether tools may or must be called.
    pub choice: ToolChoice,
    /// Whether an answer may have several calls.
    pub parallel: bool,
}

impl Tools {
    /// Tools by their definitions, in OpenAI's form or bare (`{"name", "parameters"}`).
    ///
    /// # Errors
    /// [`Error::Tool`] for a tool without a name, or with parameters that are not a schema.
    pub fn new(definitions: &[Json]) -> Result<Self, Error> {
        let definitions = (0..).zip(definitions).map(|(i, tool)| checked(i, tool)).collect::<Result<_, _>>()?;
        Ok(Self { definitions, choice: ToolChoice::Auto, parallel: true })
    }

    /// Whether there are no tools, or none may be called.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.definitions.is_empty() || self.choice == ToolChoice::None
    }

    /// The definitions, in the form for templates.
    #[must_use]
    pub fn definitions(&self) -> &[Json] {
        &self.definitions
    }

    /// The tools that may be called, with the schemas of their arguments.
    fn callable(&self) -> impl Iterator<Item = (&str, &Json)> {
        let named = match &self.choice {
            ToolChoice::Named(name) => Some(name.as_str()),
            _ => None,
        };
        self.definitions.iter().filter_map(move |tool| {
            let function = &tool["function"];
            let name = function["name"].as_str()?;
            named.is_none_or(|named| named == name).then_some((name, &function["parameters"]))
        })
    }

    /// The same tools, with any object as arguments.
    pub(crate) fn loosened(&self) -> Self {
        let mut tools = self.clone();
        for tool in &mut tools.definitions {
            tool["function"]["parameters"] = json!({ "type": "object" });
        }
        tools
    }

    /// A description of the tools and the syntax of calls, for models whose template does not support tools.
    pub(crate) fn described(&self) -> String {
        let tools: Vec<String> = self.definitions.iter().map(|tool| tool["function"].to_string()).collect();
        format!(
            "You may call these tools:\n<tools>\n{}\n</tools>\nTo call one, answer with its name and its arguments:\n\
             <tool_call>\n{{\"name\": <name>, \"arguments\": <object>}}\n</tool_call>\n\
             Its result comes within <tool_response></tool_response>.",
            tools.join("\n")
        )
    }

    /// Whether there is a tool of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.definitions.iter().any(|tool| tool["function"]["name"] == name)
    }

    /// The value of a parameter that was written as bare text: a string if its schema requires one or it is not valid JSON.
    fn value(&self, tool: &str, parameter: &str, text: &str) -> Json {
        let definition = self.definitions.iter().find(|definition| definition["function"]["name"] == tool);
        let schema = definition.map(|definition| &definition["function"]["parameters"]["properties"][parameter]);
        if schema.is_some_and(grammar::is_text) {
            text.into()
        } else {
            serde_json::from_str(text).unwrap_or_else(|_| text.into())
        }
    }
}

fn checked(i: usize, tool: &Json) -> Result<Json, Error> {
    let wrong = |message: &str| Error::Tool { tool: i, message: message.to_owned() };
    if tool.get("type").is_some_and(|kind| kind != "function") {
        return Err(wrong("type: must be function"));
    }
    let function = tool.get("function").unwrap_or(tool);
    let Json::Object(function) = function else { return Err(wrong("function: must be an object")) };
    let name = function.get("name").and_then(Json::as_str).unwrap_or_default();
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > 128 || !name.chars().all(is_word) {
        return Err(wrong("name: must be letters, digits, _, - and ."));
    }
    let mut function = function.clone();
    function.retain(|key, value| key != "type" && !value.is_null());
    match function.get("parameters") {
        Some(Json::Object(_)) => {}
        None => {
            function.insert(
                "parameters".to_owned(),
                json!({ "type": "object", "properties": {}, "additionalProperties": false }),
            );
        }
        Some(_) => return Err(wrong("parameters: must be a JSON schema")),
    }
    Ok(json!({ "type": "function", "function": function }))
}

/// The rest of a call after its opening mark, in Lark.
type Grammar = fn(&Tools, &Marks<'_>) -> String;

/// The syntax of calls of a family.
pub struct ToolSyntax {
    /// Its name.
    pub name: &'static str,
    /// Whether a template uses this syntax.
    is_of: fn(&str) -> bool,
    /// Marks with which calls begin; `true` for marks that are recognized only at the start of an answer.
    opens: &'static [(&'static str, bool)],
    /// Further marks, which may be control tokens.
    marks: &'static [&'static str],
    /// Whether calls are looked for before thinking is split off, because their marks are channels too.
    pub(crate) before_thinking: bool,
    /// Whether prompts end with the first mark: an answer goes on after it.
    pub(crate) begun: bool,
    /// Parses text that begins with one of the marks.
    read: fn(&mut Reader<'_>, &Tools) -> Read<Vec<ToolCall>>,
    /// The grammar of what may follow the first mark.
    grammar: Grammar,
}

/// All syntaxes, the more specific first. The last is for templates without tools.
const SYNTAXES: &[ToolSyntax] = &[
    harmony::SYNTAX,
    gemma4::SYNTAX,
    kimi::SYNTAX,
    kimi_k3::SYNTAX,
    deepseek::V4,
    deepseek::V32,
    deepseek::V31,
    deepseek::V3,
    mistral::NEW,
    mistral::OLD,
    command_r::R7B,
    command_r::R,
    lfm2::SYNTAX,
    apertus::SYNTAX,
    gigachat::MARK,
    gigachat::ROLES,
    solar::SYNTAX,
    hunyuan::SYNTAX,
    firefunction::SYNTAX,
    nemotron::SYNTAX,
    minimax_m3::SYNTAX,
    minimax::SYNTAX,
    minimax::ATEM,
    minimax::PLAIN,
    glm::SYNTAX,
    qwen_coder::SEED,
    qwen_coder::SYNTAX,
    granite::SYNTAX,
    tool_calls::SYNTAX,
    minimax_m1::SYNTAX,
    functionary::V32,
    functionary::V31,
    llama3::SYNTAX,
    hermes::SYNTAX,
];

impl ToolSyntax {
    /// The syntax of a template.
    #[must_use]
    pub fn of_template(source: &str) -> &'static Self {
        SYNTAXES.iter().find(|syntax| (syntax.is_of)(source)).unwrap_or(&hermes::SYNTAX)
    }

    /// The mark with which calls begin.
    #[must_use]
    pub fn mark(&self) -> &'static str {
        self.opens.first().map_or("", |(mark, _)| mark)
    }

    /// The control tokens of `tokenizer` in its marks, which generation has to return as text.
    #[must_use]
    pub fn control_tokens(&self, tokenizer: &Tokenizer) -> Vec<u32> {
        let marks = || self.opens.iter().map(|(mark, _)| mark).chain(self.marks);
        let vocab = tokenizer.vocab();
        let is_part = |text: &[u8]| {
            std::str::from_utf8(text).is_ok_and(|text| text.len() > 2 && marks().any(|mark| mark.contains(text)))
        };
        (0..)
            .zip(vocab.tokens.iter().zip(&vocab.kinds))
            .filter(|(_, (text, kind))| **kind == TokenKind::Control && is_part(text))
            .map(|(id, _)| id)
            .collect()
    }

    /// The start of calls, and the grammar in Lark of what may follow.
    pub(crate) fn opening(&self, tools: &Tools, tokenizer: &Tokenizer) -> Opening {
        let (mark, at_start) = self.opens.first().copied().unwrap_or_default();
        let marks = Marks(tokenizer);
        Opening { mark, at_start, lark: marks.lark(mark), rest: (self.grammar)(tools, &marks) }
    }
}

/// The start of a call.
pub(crate) struct Opening {
    pub(crate) mark: &'static str,
    /// Whether it is recognized only at the start of an answer.
    pub(crate) at_start: bool,
    /// The mark in Lark.
    pub(crate) lark: String,
    /// The grammar in Lark of what follows it.
    pub(crate) rest: String,
}

/// Marks in the form for grammars.
pub(crate) struct Marks<'t>(&'t Tokenizer);

impl Marks<'_> {
    /// A mark in Lark: control tokens by their ids, the rest as text.
    pub(crate) fn lark(&self, mark: &str) -> String {
        let options = crate::tokenizer::EncodeOptions { add_special: false, parse_special: true };
        let Ok(tokens) = self.0.encode(mark, options) else { return text(mark) };
        if !tokens.iter().any(|&token| self.0.kind(token) == TokenKind::Control) {
            return text(mark);
        }
        let (mut parts, mut plain) = (Vec::new(), Vec::new());
        for token in tokens {
            if self.0.kind(token) == TokenKind::Control {
                if !plain.is_empty() {
                    parts.push(text(&String::from_utf8_lossy(&std::mem::take(&mut plain))));
                }
                parts.push(format!("<[{token}]>"));
            } else {
                plain.extend_from_slice(self.0.piece(token));
            }
        }
        if !plain.is_empty() {
            parts.push(text(&String::from_utf8_lossy(&plain)));
        }
        parts.join(" ")
    }
}

/// A text in Lark.
fn text(text: &str) -> String {
    Json::from(text).to_string()
}

/// JSON by a schema, in Lark.
fn json_of(schema: &Json) -> String {
    let mut schema = schema.as_object().cloned().unwrap_or_default();
    schema.entry("type").or_insert_with(|| "object".into());
    format!("%json {}", spaced(schema))
}

/// A schema of an object with a name and arguments, for each tool that may be called.
fn named_objects(tools: &Tools, name: &str, arguments: &str) -> Json {
    let one = |(tool, schema): (&str, &Json)| {
        let mut properties = Map::new();
        properties.insert(name.to_owned(), json!({ "const": tool }));
        properties.insert(arguments.to_owned(), schema.clone());
        json!({ "type": "object", "properties": properties, "required": [name, arguments], "additionalProperties": false })
    };
    let all: Vec<Json> = tools.callable().map(one).collect();
    json!({ "anyOf": all })
}

/// The call in an object of this form.
fn call_of(object: &Json) -> Option<ToolCall> {
    let object = object.get("function").filter(|function| function.is_object()).unwrap_or(object);
    let name = ["name", "tool_name", "function"].iter().find_map(|key| object.get(key)?.as_str())?;
    let arguments = ["arguments", "parameters", "args"].iter().find_map(|key| object.get(key));
    Some(ToolCall { name: name.to_owned(), arguments: arguments_text(arguments.unwrap_or(&Json::Object(Map::new()))) })
}

/// The text of arguments, which some models write as a string of JSON.
fn arguments_text(arguments: &Json) -> String {
    match arguments {
        Json::String(text) if serde_json::from_str::<Map<String, Json>>(text).is_ok() => text.clone(),
        Json::Null => "{}".to_owned(),
        other => other.to_string(),
    }
}

fn call(name: &str, arguments: Map<String, Json>) -> ToolCall {
    ToolCall { name: name.to_owned(), arguments: Json::Object(arguments).to_string() }
}
