//! Tools: calls in the words of every template, and calls that a model cannot help making.

use std::path::PathBuf;
use std::sync::Arc;

use gguf_toolkit::engine::{
    Chat, ChatEvent, ChatOptions, ChatTemplate, SamplerOptions, TemplateOptions, ToolCall, ToolChoice, ToolPart,
    ToolSplitter, ToolSyntax, Tools,
};
#[cfg(feature = "constrain")]
use gguf_toolkit::engine::{Constraint, Event, Generation, GenerationOptions, Sampler, TokenTrie};
use gguf_toolkit::kernels::Pool;
use gguf_toolkit::model::Model;
#[cfg(feature = "constrain")]
use gguf_toolkit::tokenizer::TokenKind;
use serde_json::{Value as Json, json};

use super::shared::{json as read_json, testdata};
use super::storyteller;

/// Templates that write no call which could be read again, and why. Those of llama.cpp that are not in `testdata` are named, too.
const WITHOUT_CALLS: &[(&str, &str)] = &[
    ("HuggingFaceTB-SmolLM3-3B", "leaves calls out"),
    ("LFM2-8B-A1B", "leaves calls out"),
    ("LFM2.5-Instruct", "leaves calls out"),
    ("deepseek-ai-DeepSeek-R1-Distill-Llama-8B", "leaves calls out"),
    ("ibm-granite-granite-3.3-2B-Instruct", "leaves calls out"),
    ("google-gemma-2-2b-it", "knows no tools"),
    ("llama-cpp-rwkv-world", "knows no tools"),
    ("microsoft-Phi-3.5-mini-instruct", "knows no tools"),
];

/// A conversation in which the assistant calls tools, with these arguments of each call, as texts or as objects.
fn conversation(arguments: &[Json], as_texts: bool) -> (Vec<Json>, Json) {
    let call = |(i, arguments): (usize, &Json)| {
        let arguments = if as_texts { arguments.to_string().into() } else { arguments.clone() };
        json!({ "id": format!("call1234{i}"), "type": "function", "function": { "name": "get_weather", "arguments": arguments } })
    };
    let calls: Vec<Json> = arguments.iter().enumerate().map(call).collect();
    let messages = vec![
        json!({ "role": "user", "content": "How's the weather?" }),
        json!({ "role": "assistant", "content": "", "tool_calls": calls }),
    ];
    let properties = json!({
        "city": { "type": "string", "description": "The city's name" },
        "days": { "type": "integer", "description": "Days ahead" },
    });
    let parameters = json!({ "type": "object", "properties": properties, "required": ["city"] });
    let tools = json!([{ "type": "function", "function":
        { "name": "get_weather", "description": "The weather in a city.", "parameters": parameters } }]);
    (messages, tools)
}

/// What a template writes for an answer that calls tools: what comes after the prompt.
fn answer(template: &ChatTemplate, messages: &[Json], tools: &Json) -> Option<String> {
    let render = |count: usize, prompt: bool| {
        let variables = json!({ "tools": tools, "functions": tools.to_string(), "datetime": "Nov 23 2024" });
        let variables = variables.as_object().expect("variables").clone();
        let options = TemplateOptions { add_generation_prompt: prompt, variables, now: None };
        template.render_json(&messages[..count].to_vec().into(), &options).ok().map(|rendered| rendered.text)
    };
    let (before, whole) = (render(messages.len() - 1, true)?, render(messages.len(), false)?);
    let common = before.bytes().zip(whole.bytes()).take_while(|(a, b)| a == b).count();
    let mut common = (0..=common).rev().find(|&at| whole.is_char_boundary(at))?;
    // Where the prompt goes on otherwise, both may begin with a part of the same mark.
    if common < before.len() {
        common = whole[..common].rfind('\n').map_or(common, |at| at + 1);
    }
    Some(whole[common..].to_owned())
}

/// What is wrong with how the calls of a template are read; nothing if they are what was written. An error says what is written.
fn read_back(source: &str, template: &ChatTemplate, arguments: &[Json]) -> Result<(), String> {
    let cities: Vec<&str> = arguments.iter().map(|arguments| arguments["city"].as_str().expect("a text")).collect();
    let written = |as_texts: bool| {
        let (messages, tools) = conversation(arguments, as_texts);
        let text = answer(template, &messages, &tools)?;
        cities.iter().all(|city| text.contains(city)).then_some((text, tools))
    };
    let (text, tools) = written(false).or_else(|| written(true)).ok_or("no call is written")?;
    let tools = Tools::new(tools.as_array().expect("tools")).expect("valid");
    let syntax = ToolSyntax::of_template(source);
    let mut splitter = ToolSplitter::new(syntax, Arc::new(tools));
    let mut parts = splitter.push(&text);
    parts.extend(splitter.finish());
    let calls: Vec<&ToolCall> =
        parts.iter().filter_map(|part| if let ToolPart::Call(call) = part { Some(call) } else { None }).collect();
    let is_right = |(call, expected): (&&ToolCall, &Json)| {
        let read: Result<Json, _> = serde_json::from_str(&call.arguments);
        call.name == "get_weather" && read.is_ok_and(|read| read == *expected)
    };
    if calls.len() == arguments.len() && calls.iter().zip(arguments).all(is_right) {
        return Ok(());
    }
    Err(format!("{}: {text:?}: {calls:?}", syntax.name))
}

/// What templates write for a call is what is read as one, for all of them but those that are listed with a reason.
#[test]
fn calls_are_read_as_templates_write_them() {
    let folder = std::env::var_os("GGUF_TEMPLATES").map_or_else(|| testdata("chat_templates"), PathBuf::from);
    let (mut read, mut several, mut failures) = (0, 0, Vec::new());
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jinja"));
    files.sort();
    for path in files {
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
        let source = std::fs::read_to_string(&path).expect("a template");
        let template = ChatTemplate::new(&source, "<s>", "</s>").expect("Jinja");
        let listed = WITHOUT_CALLS.iter().find(|(listed, _)| *listed == name);
        let [first, second] = [json!({ "city": "Zürich", "days": 2 }), json!({ "city": "New York", "days": 3 })];
        match (read_back(&source, &template, std::slice::from_ref(&first)), listed) {
            (Ok(()), None) => read += 1,
            (Ok(()), Some((_, reason))) => failures.push(format!("{name} is listed ({reason}), but is read")),
            (Err(_), Some(_)) => continue,
            (Err(error), None) => failures.push(format!("{name}: {error}")),
        }
        // Some templates write one call alone.
        match read_back(&source, &template, &[first, second]) {
            Ok(()) => several += 1,
            Err(error) if error == "no call is written" => {}
            Err(error) => failures.push(format!("{name}, two calls: {error}")),
        }
    }
    assert!(failures.is_empty(), "{} of {read}\n{}", failures.len(), failures.join("\n"));
    assert!(read >= 22 && several >= 15, "{read} templates, {several} with two calls");
}

fn tools(choice: ToolChoice, parallel: bool) -> Tools {
    let definitions = read_json(&testdata("tools").join("definitions.json"));
    let mut tools = Tools::new(definitions.as_array().expect("an array")).expect("valid");
    (tools.choice, tools.parallel) = (choice, parallel);
    tools
}

/// Whether a call is one of `definitions.json`.
pub(crate) fn is_valid(name: &str, arguments: &Json) -> bool {
    let Some(map) = arguments.as_object() else { return false };
    match name {
        "get_weather" => {
            let known = |key: &String| ["city", "days", "unit"].contains(&key.as_str());
            let unit = map.get("unit").is_none_or(|unit| unit == "celsius" || unit == "fahrenheit");
            let days = map.get("days").and_then(Json::as_u64).is_some_and(|days| (1..=9).contains(&days));
            map.keys().all(known) && map["city"].is_string() && days && unit
        }
        "time" => true,
        "write" => map.get("text").is_none_or(Json::is_string) && map.get("list").is_none_or(Json::is_array),
        _ => false,
    }
}

#[cfg(feature = "constrain")]
#[test]
fn a_model_that_has_to_call_a_tool_calls_it_by_its_schema() {
    let model = Arc::new(Model::from_reader(&storyteller::f16()).expect("loads"));
    // The storyteller's own template knows no tools; the others stand for families.
    let marks = |text: &str| format!("{{% for m in messages %}}{{{{ m.content }}}}{{% endfor %}}{{# tools {text} #}}");
    let mut templates = vec![None];
    let files = std::fs::read_dir(testdata("tools")).expect("a folder").map(|entry| entry.expect("an entry").path());
    // The calls of gpt-oss are channels, which are made of tokens that no other vocabulary has.
    let files = files.filter(|path| !path.ends_with("definitions.json") && !path.ends_with("harmony.json"));
    templates.extend(files.map(|path| Some(marks(read_json(&path)["marks"].as_str().expect("a text")))));
    assert!(templates.len() > 30);
    for template in templates {
        let options = ChatOptions {
            template: template.clone(),
            tools: tools(ToolChoice::Named("get_weather".to_owned()), false),
            sampler: SamplerOptions { seed: 3, ..SamplerOptions::default() },
            max_tokens: Some(500),
            ..ChatOptions::default()
        };
        let mut chat = Chat::new(model.clone(), Arc::new(Pool::new(2)), options).expect("a chat");
        let mut told = 0;
        let mut text = String::new();
        let mut show = |event: ChatEvent<'_>| {
            match event {
                ChatEvent::Call(_) => told += 1,
                ChatEvent::Text(piece) => text.push_str(piece),
                _ => {}
            }
            true
        };
        chat.say("The weather?", &mut show).expect("answers");
        let calls = chat.open_calls().to_vec();
        assert_eq!((calls.len(), told), (1, 1), "{template:?}: {text}");
        let (id, call) = &calls[0];
        let arguments: Json = serde_json::from_str(&call.arguments).expect("JSON");
        assert!(id.len() == 9 && is_valid(&call.name, &arguments), "{template:?}: {call:?}");
        // The result goes back, and there is an answer to it.
        chat.change(|options| options.tools.choice = ToolChoice::Auto);
        chat.send_results(&["{\"temperature\": 21}".to_owned()], &mut |_| true).expect("answers");
        let messages = chat.messages();
        assert_eq!(messages[2].role, "tool");
        assert_eq!(messages[2].result_of.as_ref().map(|(_, name)| name.as_str()), Some("get_weather"));
        assert_eq!(messages.len(), 4);
    }
}

/// What a model that wants to write `text` writes under a constraint.
#[cfg(feature = "constrain")]
fn written(model: &Arc<Model>, constraint: Constraint, text: &str) -> String {
    let tokenizer = model.tokenizer();
    let sampler = Sampler::for_model(SamplerOptions { temperature: 0.0, ..SamplerOptions::default() }, tokenizer);
    let options = GenerationOptions { constraint: Some(constraint), ..GenerationOptions::default() };
    let mut generation = Generation::new(model.clone(), sampler, options);
    let (mut rest, mut out) = (text.as_bytes(), String::new());
    for _ in 0..=text.len() {
        // The longest piece that goes on; at the end the token that ends a turn.
        let goes_on = |token: &u32| {
            let piece = tokenizer.piece(*token);
            tokenizer.kind(*token) != TokenKind::Control && !piece.is_empty() && rest.starts_with(piece)
        };
        let all = 0..u32::try_from(tokenizer.vocab_size()).expect("a vocabulary");
        let best = all.filter(goes_on).max_by_key(|token| tokenizer.piece(*token).len());
        let best = best.unwrap_or(tokenizer.end_tokens()[0]);
        let mut logits = vec![0.0; tokenizer.vocab_size()];
        logits[best as usize] = 10.0;
        match generation.next(&mut logits).expect("a token") {
            Event::Token { token, text } => {
                out.push_str(&text);
                if token != best {
                    return out;
                }
                rest = &rest[tokenizer.piece(token).len()..];
            }
            Event::Stop { text, .. } => return out + &text,
        }
    }
    out
}

/// Who has to call a tool may write the call as its family's template does: at least one text of each syntax is allowed as it is.
#[cfg(feature = "constrain")]
#[test]
fn calls_as_templates_write_them_are_allowed_where_one_is_required() {
    let model = Arc::new(Model::from_reader(&storyteller::f16()).expect("loads"));
    let trie = TokenTrie::new(model.tokenizer()).expect("a trie");
    let mut failures = Vec::new();
    for entry in std::fs::read_dir(testdata("tools")).expect("a folder") {
        let path = entry.expect("an entry").path();
        // The calls of gpt-oss are channels, which are made of tokens that no other vocabulary has.
        if path.ends_with("definitions.json") || path.ends_with("harmony.json") {
            continue;
        }
        let file = read_json(&path);
        let syntax = ToolSyntax::of_template(file["marks"].as_str().expect("a text"));
        let mut tried = Vec::new();
        for case in file["cases"].as_array().expect("cases") {
            let calls = case["calls"].as_array().expect("calls");
            let valid = |call: &Json| is_valid(call["name"].as_str().expect("a name"), &call["arguments"]);
            if calls.is_empty() || !calls.iter().all(valid) {
                continue;
            }
            let tools = tools(ToolChoice::Required, true);
            let constraint = trie.calls(syntax, &tools, model.tokenizer()).expect("compiles");
            // What comes before the mark is no part of the call; some prompts end with the mark.
            let text = case["text"].as_str().expect("a text");
            let text = text.find(syntax.mark()).map_or(text, |at| &text[at..]);
            let all = written(&model, constraint, text);
            tried.push((text.to_owned(), all));
        }
        if !tried.iter().any(|(text, written)| text == written) {
            failures.push(format!("{}: {tried:#?}", syntax.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
