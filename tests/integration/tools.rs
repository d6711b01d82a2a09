//! Tools: calls in the words of every template, and calls that a model cannot help making.

use std::path::PathBuf;
use std::sync::Arc;

use gguf_toolkit::engine::{
    Chat, ChatEvent, ChatOptions, ChatTemplate, SamplerOptions, TemplateOptions, ToolCall, ToolChoice, ToolPart,
    ToolSplitter, ToolSyntax, Tools,
};
use gguf_toolkit::kernels::Pool;
use gguf_toolkit::model::Model;
use serde_json::{Value as Json, json};

use super::shared::{json as read_json, testdata};
use super::storyteller;

/// What a template writes for an answer that calls tools: what comes after the prompt.
fn answer(template: &ChatTemplate, conversation: &Json) -> Option<String> {
    let messages = conversation["messages"].as_array().expect("messages");
    let calling = messages.iter().position(|message| message.get("tool_calls").is_some()).expect("a call");
    let render = |count: usize, prompt: bool| {
        let variables = [("tools".to_owned(), conversation["tools"].clone())].into_iter().collect();
        let options = TemplateOptions { add_generation_prompt: prompt, variables, now: None };
        template.render_json(&messages[..count].to_vec().into(), &options).ok().map(|rendered| rendered.text)
    };
    let (before, whole) = (render(calling, true)?, render(calling + 1, false)?);
    let common = before.bytes().zip(whole.bytes()).take_while(|(a, b)| a == b).count();
    let mut common = (0..=common).rev().find(|&at| whole.is_char_boundary(at))?;
    // Where the prompt goes on otherwise, both may begin with a part of the same mark.
    if common < before.len() {
        common = whole[..common].rfind('\n').map_or(common, |at| at + 1);
    }
    Some(whole[common..].to_owned())
}

/// What templates write for a call is what is read as one.
#[test]
fn calls_are_read_as_templates_write_them() {
    let ours = testdata("chat_templates");
    let folder = std::env::var_os("GGUF_TEMPLATES").map_or_else(|| ours.clone(), PathBuf::from);
    let conversations = read_json(&ours.join("conversations.json"));
    let conversation = &conversations["conversations"]["tools"];
    let tools = Tools::new(conversation["tools"].as_array().expect("tools")).expect("valid");
    let (mut read, mut failures) = (0, Vec::new());
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jinja"));
    files.sort();
    for path in files {
        let source = std::fs::read_to_string(&path).expect("a template");
        let Ok(template) = ChatTemplate::new(&source, "<s>", "</s>") else { continue };
        // Some templates know no calls, or refuse the conversation.
        let Some(text) = answer(&template, conversation).filter(|text| text.contains("get_weather")) else { continue };
        let syntax = ToolSyntax::of_template(&source);
        let mut splitter = ToolSplitter::new(syntax, Arc::new(tools.clone()));
        let mut parts = splitter.push(&text);
        parts.extend(splitter.finish());
        let calls: Vec<&ToolCall> =
            parts.iter().filter_map(|part| if let ToolPart::Call(call) = part { Some(call) } else { None }).collect();
        read += 1;
        let expected = json!({ "city": "Zürich", "days": 2 });
        let right = calls.len() == 1
            && calls[0].name == "get_weather"
            && serde_json::from_str::<Json>(&calls[0].arguments).is_ok_and(|arguments| arguments == expected);
        if !right {
            failures.push(format!("{} ({}): {text:?}: {calls:?}", path.display(), syntax.name));
        }
    }
    assert!(failures.is_empty(), "{} of {read}\n{}", failures.len(), failures.join("\n"));
    assert!(read >= 15, "{read} templates");
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
            let days = map["days"].as_u64().is_some_and(|days| (1..=9).contains(&days));
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
    let templates = [
        None,
        Some(marks("<tool_call>")),
        Some(marks("<|tool_call|>")),
        Some(marks("<|python_tag|>")),
        Some(marks("[TOOL_CALLS]")),
        Some(marks("[TOOL_CALLS] [ARGS]")),
        Some(marks("<tool_call> <function= <parameter=")),
        Some(marks("tool▁call▁begin")),
        Some(marks("tool▁call▁begin ```")),
        Some(marks("<|tool_call_argument_begin|>")),
        Some(marks("<function= </function>")),
    ];
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
        // Bare texts have no measure: this one may not come to its end.
        if calls.is_empty() && template.as_ref().is_some_and(|template| template.contains("<parameter=")) {
            assert!(text.contains("<function=get_weather>\n<parameter=city>\n"), "{text}");
            continue;
        }
        assert_eq!((calls.len(), told), (1, 1), "{template:?}");
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
