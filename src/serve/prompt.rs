//! From the messages of a request to what the model reads: checked, put through the chat template, and turned to tokens in which
//! nothing that a message says is a control token.

use serde_json::{Map, Value as Json, json};

use super::failure::Failure;
use crate::engine::{ChatTemplate, Error, Rendered, TemplateOptions, ThinkingStyle};
use crate::gguf::{Metadata, Value, keys};
use crate::tokenizer::Tokenizer;

/// What makes prompts for a model.
pub(super) struct Prompts {
    pub(super) template: ChatTemplate,
    /// The template prints system messages.
    takes_system: bool,
    /// How the model marks its thinking, if its template knows of any.
    pub(super) thinking: Option<&'static ThinkingStyle>,
}

/// What the model reads.
pub(super) struct Prompt {
    pub(super) text: String,
    pub(super) tokens: Vec<u32>,
    /// The answer begins inside of thinking.
    pub(super) thinks: bool,
}

impl Prompts {
    pub(super) fn new(metadata: &Metadata, source: Option<&str>) -> Result<Self, Error> {
        let own = metadata.get(keys::TOKENIZER_CHAT_TEMPLATE).and_then(Value::as_str);
        let template = match source {
            Some(source) => ChatTemplate::with_tokens_of(source, metadata)?,
            None => ChatTemplate::from_metadata(metadata)?,
        };
        let thinking = source.or(own).and_then(ThinkingStyle::of_template);
        let mut prompts = Self { template, takes_system: true, thinking };
        prompts.takes_system = prompts.probe_system();
        Ok(prompts)
    }

    /// Whether the template prints a system message.
    fn probe_system(&self) -> bool {
        const NEEDLE: &str = "needle 8f1d";
        let messages = [json!({ "role": "system", "content": NEEDLE }), json!({ "role": "user", "content": "x" })];
        let render = |messages: &[Json]| self.template.render_json(&Json::from(messages), &options(Map::new()));
        // Where it refuses the user's message alone as well, the system message is not the reason.
        render(&messages).map_or_else(|_| render(&messages[1..]).is_err(), |rendered| rendered.text.contains(NEEDLE))
    }

    /// The prompt for `messages`, with further variables for the template. An assistant's message at the end is gone on with.
    pub(super) fn prompt(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Json],
        variables: Map<String, Json>,
    ) -> Result<Prompt, Failure> {
        let mut messages = checked(messages)?;
        let begun = begun(&mut messages)?;
        if !self.takes_system {
            fold_system(&mut messages);
        }
        let options = options(variables);
        let rendered = match self.template.render_json(&Json::from(messages.as_slice()), &options) {
            Ok(rendered) => rendered,
            Err(error) => {
                // Many templates want roles to alternate.
                let joined = join_roles(&messages);
                let again =
                    (joined.len() < messages.len()).then(|| self.template.render_json(&joined.into(), &options));
                again.transpose().ok().flatten().ok_or(error)?
            }
        };
        let Rendered { mut text, mut said } = rendered;
        let thinks = begun.is_none() && self.thinking.is_some_and(|style| style.begins_inside(&text));
        if let Some(begun) = begun.filter(|begun| !begun.is_empty()) {
            said.push(text.len()..text.len() + begun.len());
            text.push_str(&begun);
        }
        let rendered = Rendered { text, said };
        let tokens = rendered.tokens(tokenizer)?;
        Ok(Prompt { text: rendered.text, tokens, thinks })
    }
}

fn options(variables: Map<String, Json>) -> TemplateOptions {
    TemplateOptions { add_generation_prompt: true, variables, now: None }
}

/// The messages as templates know them: texts for contents, `system` for `developer`, `reasoning_content` for `reasoning`, objects
/// for the arguments of tool calls.
fn checked(messages: &[Json]) -> Result<Vec<Json>, Failure> {
    if messages.is_empty() {
        return Err(Failure::field("messages", "must not be empty"));
    }
    (0..).zip(messages).map(|(i, message)| check(i, message)).collect()
}

fn check(i: usize, message: &Json) -> Result<Json, Failure> {
    let wrong = |what: &str, must: &str| Failure::field(&format!("messages[{i}]{what}"), must);
    let Json::Object(map) = message else { return Err(wrong("", "must be an object")) };
    let mut map = map.clone();
    let role = match map.get("role").and_then(Json::as_str) {
        Some("developer") => "system",
        Some(role) if !role.is_empty() => role,
        _ => return Err(wrong(".role", "must be a string")),
    };
    let has_calls = map.get("tool_calls").is_some_and(|calls| calls.as_array().is_some_and(|calls| !calls.is_empty()));
    let content = match map.get("content") {
        Some(Json::String(text)) => text.clone(),
        Some(Json::Array(parts)) => texts(i, parts)?,
        None | Some(Json::Null) if role == "assistant" || has_calls => String::new(),
        _ => return Err(wrong(".content", "must be a string or an array of parts")),
    };
    map.insert("role".to_owned(), role.to_owned().into());
    map.insert("content".to_owned(), content.into());
    if let Some(reasoning) = map.remove("reasoning").or_else(|| map.remove("thinking")) {
        map.entry("reasoning_content").or_insert(reasoning);
    }
    if map.get("reasoning_content").is_some_and(Json::is_null) {
        map.remove("reasoning_content");
    }
    if !has_calls {
        map.remove("tool_calls");
    }
    for call in map.get_mut("tool_calls").and_then(Json::as_array_mut).into_iter().flatten() {
        let arguments = call.pointer_mut("/function/arguments");
        // What is no JSON stays the text that it is.
        if let Some(arguments) = arguments
            && let Some(Ok(object @ Json::Object(_))) = arguments.as_str().map(serde_json::from_str)
        {
            *arguments = object;
        }
    }
    Ok(Json::Object(map))
}

/// The text of a content of parts.
fn texts(i: usize, parts: &[Json]) -> Result<String, Failure> {
    let text = |part: &Json| match (part["type"].as_str(), part["text"].as_str()) {
        (Some("text" | "input_text" | "output_text") | None, Some(text)) => Ok(text.to_owned()),
        (kind, _) => {
            let name = format!("messages[{i}].content");
            Err(Failure::unsupported(&name, &format!("parts of type {} (only text)", kind.unwrap_or("none"))))
        }
    };
    Ok(parts.iter().map(text).collect::<Result<Vec<_>, _>>()?.join("\n"))
}

/// Takes the beginning of an answer from the end of the messages.
fn begun(messages: &mut Vec<Json>) -> Result<Option<String>, Failure> {
    let is_answer = |message: &Json| message["role"] == "assistant" && message.get("tool_calls").is_none();
    if !messages.last().is_some_and(is_answer) {
        return Ok(None);
    }
    let last = messages.pop();
    if messages.last().is_some_and(is_answer) {
        return Err(Failure::field("messages", "must not end with two messages of the assistant"));
    }
    if messages.is_empty() {
        return Err(Failure::field("messages", "must not be of the assistant alone"));
    }
    Ok(last.and_then(|message| message["content"].as_str().map(str::to_owned)))
}

/// Puts system messages before the text of the first user's message.
fn fold_system(messages: &mut Vec<Json>) {
    let mut system = Vec::new();
    messages.retain(|message| {
        let is_system = message["role"] == "system";
        system.extend(message["content"].as_str().filter(|_| is_system).map(str::to_owned));
        !is_system
    });
    if system.is_empty() {
        return;
    }
    let system = system.join("\n");
    match messages.iter_mut().find(|message| message["role"] == "user") {
        Some(first) => {
            first["content"] = format!("{system}\n{}", first["content"].as_str().unwrap_or_default()).into();
        }
        None => messages.insert(0, json!({ "role": "user", "content": system })),
    }
}

/// Messages of which no two in a row have the same role.
fn join_roles(messages: &[Json]) -> Vec<Json> {
    let mut joined: Vec<Json> = Vec::new();
    for message in messages {
        match joined.last_mut() {
            Some(last) if last["role"] == message["role"] && message.get("tool_calls").is_none() => {
                let text = |message: &Json| message["content"].as_str().unwrap_or_default().to_owned();
                last["content"] = format!("{}\n{}", text(last), text(message)).into();
            }
            _ => joined.push(message.clone()),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_checked_and_put_in_one_form() {
        let tool = json!({ "function": { "name": "f", "arguments": "{\"a\":1}" } });
        let messages = [
            json!({ "role": "developer", "content": "s" }),
            json!({ "role": "user", "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }] }),
            json!({ "role": "assistant", "content": null, "reasoning": "r", "tool_calls": [tool] }),
        ];
        let found = checked(&messages).expect("valid");
        assert_eq!(found[0], json!({ "role": "system", "content": "s" }));
        assert_eq!(found[1]["content"], "a\nb");
        assert_eq!(found[2]["reasoning_content"], "r");
        assert_eq!(found[2]["tool_calls"][0]["function"]["arguments"], json!({ "a": 1 }));
        for (message, expected) in [
            (json!(3), "messages[0] must be an object"),
            (json!({ "content": "x" }), "messages[0].role must be a string"),
            (json!({ "role": "user" }), "messages[0].content must be a string or an array of parts"),
            (
                json!({ "role": "user", "content": [{ "type": "image_url" }] }),
                "messages[0].content is not supported: parts of type image_url (only text)",
            ),
        ] {
            assert_eq!(checked(&[message]).map_err(|failure| failure.message), Err(expected.to_owned()));
        }
    }

    #[test]
    fn an_answer_that_has_begun_is_taken_from_the_end() {
        let message = |role: &str| json!({ "role": role, "content": role });
        let mut messages = vec![message("user"), message("assistant")];
        assert_eq!(begun(&mut messages), Ok(Some("assistant".to_owned())));
        assert_eq!(messages.len(), 1);
        assert_eq!(begun(&mut messages), Ok(None));
        assert!(begun(&mut vec![message("user"), message("assistant"), message("assistant")]).is_err());
        assert!(begun(&mut vec![message("assistant")]).is_err());
    }

    #[test]
    fn system_messages_go_before_the_first_where_the_template_takes_none() {
        let message = |role: &str, content: &str| json!({ "role": role, "content": content });
        let mut messages = vec![message("system", "a"), message("user", "b")];
        fold_system(&mut messages);
        assert_eq!(messages, [message("user", "a\nb")]);
        assert_eq!(join_roles(&[message("user", "a"), message("user", "b")]), [message("user", "a\nb")]);
    }
}
