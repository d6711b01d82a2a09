//! Prompts of conversations: a chat template, and adjustments for conversations that it does not support.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value as Json, json};

use super::template::dates::strftime;
use super::{ChatTemplate, Error, Rendered, TemplateOptions, ThinkingStyle, ToolSyntax, Tools};
use crate::gguf::{Metadata, Value, keys};

/// Renders the prompts of a model.
pub(crate) struct Prompter {
    /// Its template.
    pub(crate) template: ChatTemplate,
    /// Whether the file has a template, or one was given.
    pub(crate) has_template: bool,
    /// How the model marks its thinking, if its template supports thinking.
    pub(crate) thinking: Option<&'static ThinkingStyle>,
    /// Whether the template prints system messages.
    takes_system: bool,
    /// How the model calls tools.
    pub(crate) tool_syntax: &'static ToolSyntax,
    /// The template prints tools.
    pub(crate) takes_tools: bool,
}

impl Prompter {
    /// The prompter of a file, or with `source` of another template; `variables` are those of the rendering.
    ///
    /// # Errors
    /// When the template is not valid Jinja.
    pub(crate) fn new(metadata: &Metadata, source: Option<&str>, variables: &Map<String, Json>) -> Result<Self, Error> {
        let own = metadata.get(keys::TOKENIZER_CHAT_TEMPLATE).and_then(Value::as_str);
        let has_template = source.or(own).is_some();
        let template = match source {
            Some(source) => ChatTemplate::with_tokens_of(source, metadata)?,
            None => ChatTemplate::from_metadata(metadata)?,
        };
        let thinking = ThinkingStyle::of_template(template.source()).filter(|_| has_template);
        let takes_system = takes_system(&template, variables);
        let takes_tools = names_tools(template.source());
        // Where a template has no words for tools, the prompt names them in ours.
        let tool_syntax = ToolSyntax::of_template(if takes_tools { template.source() } else { "" });
        Ok(Self { template, has_template, thinking, takes_system, tool_syntax, takes_tools })
    }

    /// If the template does not support tools: moves the tools of `variables` to the system message, and writes calls and results as
    /// texts.
    pub(crate) fn tell_tools(&self, messages: &mut Vec<Json>, variables: &mut Map<String, Json>) {
        if self.takes_tools {
            self.tell_functions(variables);
            return;
        }
        let tools = variables.remove("tools").and_then(|tools| Tools::new(tools.as_array()?).ok());
        if let Some(tools) = tools.filter(|tools| !tools.is_empty()) {
            tell_system(messages, &tools.described());
        }
        for message in messages {
            spell_out(message);
        }
    }

    /// The tools as a text, `functions`, for FireFunction's templates, which print that and know no `tools`.
    fn tell_functions(&self, variables: &mut Map<String, Json>) {
        if !self.template.source().contains(" functools[") {
            return;
        }
        let tools = variables.get("tools").filter(|tools| tools.as_array().is_some_and(|tools| !tools.is_empty()));
        let text = tools.map(|tools| format!("{tools:#}")).unwrap_or_default();
        variables.entry("functions").or_insert(text.into());
    }

    /// If the template does not support system messages: puts them before the text of the first user message. Returns whether it
    /// did.
    pub(crate) fn fold_system(&self, messages: &mut Vec<Json>) -> bool {
        !self.takes_system && fold_system(messages)
    }

    /// The rendered conversation, and whether messages of the same role had to be joined (many templates require alternating
    /// roles). Where the template refuses it, arguments of calls are also tried as texts, which some templates expect.
    /// Where thinking is switched off and the template has no switch of its own, the prompt ends with an empty thought.
    ///
    /// # Errors
    /// When the template refuses the conversation.
    pub(crate) fn render(&self, messages: Vec<Json>, options: &TemplateOptions) -> Result<(Rendered, bool), Error> {
        let (mut rendered, joined) = self.render_any(messages, options)?;
        if let Some(style) = self.thinking
            && options.add_generation_prompt
            && thinking_is_off(&options.variables)
        {
            rendered.text.push_str(&style.without_thinking(&rendered.text));
        }
        Ok((rendered, joined))
    }

    /// As [`Self::render`], as the template has it.
    fn render_any(&self, messages: Vec<Json>, options: &TemplateOptions) -> Result<(Rendered, bool), Error> {
        let joined = join_roles(&messages);
        let joins = joined.len() < messages.len();
        let spelled = with_arguments_as_texts(&messages);
        let spelled_joined = with_arguments_as_texts(&joined);
        let messages = Json::from(messages);
        let error = match self.template.render_json(&messages, options) {
            Ok(rendered) => return Ok((rendered, false)),
            Err(error) => error,
        };
        let others =
            [(Some(joined).filter(|_| joins), true), (spelled, false), (spelled_joined.filter(|_| joins), true)];
        for (messages, is_joined) in others {
            let rendered = messages.and_then(|messages| self.template.render_json(&messages.into(), options).ok());
            if let Some(rendered) = rendered {
                return Ok((rendered, is_joined));
            }
        }
        Err(error)
    }
}

/// The messages with the arguments of calls as texts of JSON, if there are any that are objects.
fn with_arguments_as_texts(messages: &[Json]) -> Option<Vec<Json>> {
    let (mut messages, mut changed) = (messages.to_vec(), false);
    for message in &mut messages {
        for call in message.get_mut("tool_calls").and_then(Json::as_array_mut).into_iter().flatten() {
            if let Some(arguments) = call.pointer_mut("/function/arguments").filter(|arguments| arguments.is_object()) {
                *arguments = arguments.to_string().into();
                changed = true;
            }
        }
    }
    changed.then_some(messages)
}

/// The variables by which templates switch thinking on and off: most have the first.
pub(crate) const THINKING_SWITCHES: [&str; 2] = ["enable_thinking", "thinking"];

/// Whether the variables switch thinking off.
fn thinking_is_off(variables: &Map<String, Json>) -> bool {
    THINKING_SWITCHES.iter().find_map(|name| variables.get(*name)) == Some(&Json::Bool(false))
}

/// Options for a prompt, which ends with the start of an answer. Also sets the variables with the date that llama.cpp has for
/// templates without `strftime_now`.
pub(crate) fn prompt_options(mut variables: Map<String, Json>) -> TemplateOptions {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    for (name, format) in [("date_string", "%d %b %Y"), ("datetime", "%b %d %Y %H:%M:%S GMT")] {
        variables.entry(name).or_insert_with(|| strftime(format, now).into());
    }
    TemplateOptions { add_generation_prompt: true, variables, now: None }
}

/// Whether a template has words of its own for tools.
pub(crate) fn names_tools(source: &str) -> bool {
    source.contains("tools")
}

/// Whether a template prints a system message.
fn takes_system(template: &ChatTemplate, variables: &Map<String, Json>) -> bool {
    const NEEDLE: &str = "needle 8f1d";
    let messages = [json!({ "role": "system", "content": NEEDLE }), json!({ "role": "user", "content": "x" })];
    let options = prompt_options(variables.clone());
    let render = |messages: &[Json]| template.render_json(&Json::from(messages), &options);
    // If it also refuses the user's message alone, the system message is not the reason.
    render(&messages).map_or_else(|_| render(&messages[1..]).is_err(), |rendered| rendered.text.contains(NEEDLE))
}

/// Adds a text to the system message.
fn tell_system(messages: &mut Vec<Json>, text: &str) {
    match messages.first_mut().filter(|message| message["role"] == "system") {
        Some(system) => {
            let own = system["content"].as_str().unwrap_or_default();
            system["content"] = format!("{own}\n\n{text}").trim_start().into();
        }
        None => messages.insert(0, json!({ "role": "system", "content": text })),
    }
}

/// Writes calls and results as texts.
fn spell_out(message: &mut Json) {
    let content = message["content"].as_str().unwrap_or_default().to_owned();
    if message["role"] == "tool" {
        *message = json!({ "role": "user", "content": format!("<tool_response>\n{content}\n</tool_response>") });
    }
    let Some(Json::Array(calls)) = message.as_object_mut().and_then(|message| message.remove("tool_calls")) else {
        return;
    };
    let call = |call: &Json| {
        let function = &call["function"];
        let call = json!({ "name": function["name"], "arguments": function["arguments"] });
        format!("<tool_call>\n{call}\n</tool_call>")
    };
    let texts = std::iter::once(content).filter(|content| !content.is_empty()).chain(calls.iter().map(call));
    message["content"] = texts.collect::<Vec<_>>().join("\n").into();
}

fn fold_system(messages: &mut Vec<Json>) -> bool {
    let mut system = Vec::new();
    messages.retain(|message| {
        let is_system = message["role"] == "system";
        system.extend(message["content"].as_str().filter(|_| is_system).map(str::to_owned));
        !is_system
    });
    if system.is_empty() {
        return false;
    }
    let system = system.join("\n");
    match messages.iter_mut().find(|message| message["role"] == "user") {
        Some(first) => {
            first["content"] = format!("{system}\n{}", first["content"].as_str().unwrap_or_default()).into();
        }
        None => messages.insert(0, json!({ "role": "user", "content": system })),
    }
    true
}

/// Joins adjacent messages of the same role.
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
    fn tools_are_told_in_words_where_the_template_has_none() {
        let prompter = Prompter::new(&Metadata::default(), Some("{{ messages }}"), &Map::new()).expect("a template");
        let call = json!({ "id": "1", "type": "function", "function": { "name": "f", "arguments": { "a": 1 } } });
        let mut messages = vec![
            json!({ "role": "user", "content": "x" }),
            json!({ "role": "assistant", "content": "", "tool_calls": [call] }),
            json!({ "role": "tool", "name": "f", "content": "7" }),
        ];
        let tools = json!([{ "type": "function", "function": { "name": "f" } }]);
        let mut variables = Map::from_iter([("tools".to_owned(), tools)]);
        prompter.tell_tools(&mut messages, &mut variables);
        assert!(variables.is_empty());
        let system = messages[0]["content"].as_str().expect("text");
        assert!(messages[0]["role"] == "system" && system.contains("{\"name\":\"f\""), "{system}");
        let call = "<tool_call>\n{\"name\":\"f\",\"arguments\":{\"a\":1}}\n</tool_call>";
        assert_eq!(messages[2], json!({ "role": "assistant", "content": call }));
        assert_eq!(messages[3], json!({ "role": "user", "content": "<tool_response>\n7\n</tool_response>" }));
        assert_eq!(prompter.tool_syntax.name, "hermes");
    }

    /// The end of a prompt whose template opens a thought, whatever the request says.
    #[test]
    fn thinking_that_is_switched_off_is_ended_at_once() {
        let source = "{{ messages[0].content }}{% if add_generation_prompt %}A:<think>\n{% endif %}";
        let prompter = Prompter::new(&Metadata::default(), Some(source), &Map::new()).expect("a template");
        let prompt = |variables: Json, add_generation_prompt: bool| {
            let options = prompt_options(variables.as_object().expect("an object").clone());
            let options = TemplateOptions { add_generation_prompt, ..options };
            let messages = vec![json!({ "role": "user", "content": "<think>" })];
            prompter.render(messages, &options).expect("renders").0.text
        };
        assert_eq!(prompt(json!({}), true), "<think>A:<think>\n");
        assert_eq!(prompt(json!({ "enable_thinking": true, "thinking": false }), true), "<think>A:<think>\n");
        for off in [json!({ "enable_thinking": false }), json!({ "thinking": false })] {
            assert_eq!(prompt(off.clone(), true), "<think>A:<think>\n</think>");
            // Without a prompt for an answer, what the message says is not a thought.
            assert_eq!(prompt(off, false), "<think>");
        }
    }

    #[test]
    fn firefunction_gets_its_tools_as_a_text() {
        let source = "{{ ' functools[' }}{{ functions }}{{ datetime }}";
        let prompter = Prompter::new(&Metadata::default(), Some(source), &Map::new()).expect("a template");
        let functions = |tools: Json| {
            let mut variables = Map::from_iter([("tools".to_owned(), tools)]);
            prompter.tell_tools(&mut Vec::new(), &mut variables);
            variables["functions"].as_str().expect("a text").to_owned()
        };
        assert_eq!(functions(json!([])), "");
        assert_eq!(functions(json!([{ "type": "function" }])), "[\n  {\n    \"type\": \"function\"\n  }\n]");
    }

    #[test]
    fn arguments_are_texts_where_a_template_wants_texts() {
        let source = "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls %}{{ c.function.name + c.function.arguments }}{% endfor %}{% endfor %}";
        let prompter = Prompter::new(&Metadata::default(), Some(source), &Map::new()).expect("a template");
        let call = json!({ "id": "1", "type": "function", "function": { "name": "f", "arguments": { "a": 1 } } });
        let messages = vec![
            json!({ "role": "user", "content": "x" }),
            json!({ "role": "assistant", "content": "", "tool_calls": [call] }),
        ];
        let (rendered, joined) = prompter.render(messages, &prompt_options(Map::new())).expect("renders");
        assert_eq!((rendered.text.as_str(), joined), ("xf{\"a\":1}", false));
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
