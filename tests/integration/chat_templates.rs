//! Chat templates of published models against what Python's Jinja renders.
//!
//! A template `NAME.jinja` with the texts `NAME.expected.json` in the folder is a case. `GGUF_TEMPLATES` names llama.cpp's
//! `models/templates`, most of which are not ours to copy: of these texts the digests are kept.

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use gguf_toolkit::engine::{ChatTemplate, TemplateOptions};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use super::shared::{json, testdata};

/// 2024-11-23 16:50:45 UTC, the time at which the expected texts were rendered.
const NOW: Duration = Duration::from_secs(1_732_380_645);

/// Renders one conversation, given as the variables that Python's template got.
fn render(template: &ChatTemplate, conversation: &Json) -> Result<String, String> {
    let mut variables = conversation.as_object().expect("variables").clone();
    let messages = variables.remove("messages").expect("messages");
    let prompt = variables.remove("add_generation_prompt").and_then(|value| value.as_bool()).expect("a choice");
    let options = TemplateOptions { add_generation_prompt: prompt, variables, now: Some(UNIX_EPOCH + NOW) };
    template.render_json(&messages, &options).map(|rendered| rendered.text).map_err(|e| e.to_string())
}

/// The first 64 bits of a text's SHA-256.
fn digest(text: &str) -> String {
    Sha256::digest(text)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is wrong with the conversations of one template, of which texts are expected, or digests.
fn failures(folder: &Path, name: &str, conversations: &Json, digests: Option<&Json>) -> Vec<String> {
    let source = std::fs::read_to_string(folder.join(format!("{name}.jinja"))).expect("a template");
    let text = |key: &str| conversations[key].as_str().expect("a token");
    let template = match ChatTemplate::new(&source, text("bos_token"), text("eos_token")) {
        Ok(template) => template,
        Err(error) => return vec![format!("{name}: {error}")],
    };
    let expected =
        digests.map_or_else(|| json(&folder.join(format!("{name}.expected.json"))), |digests| digests[name].clone());
    let mut failures = Vec::new();
    for (conversation, expected) in expected.as_object().expect("texts") {
        let rendered = render(&template, &conversations["conversations"][conversation]);
        let rendered = if digests.is_some() { rendered.map(|text| digest(&text)) } else { rendered };
        match (rendered, expected.as_str()) {
            (Ok(text), Some(expected)) if text == expected => {}
            // The template itself refuses the conversation.
            (Err(_), None) => {}
            (Ok(text), Some(expected)) => {
                let at = text.bytes().zip(expected.bytes()).take_while(|(a, b)| a == b).count();
                let part = |text: &str| {
                    String::from_utf8_lossy(&text.as_bytes()[at.saturating_sub(30)..])
                        .chars()
                        .take(90)
                        .collect::<String>()
                };
                failures.push(format!("{name}, {conversation}: {:?}\n  not {:?}", part(&text), part(expected)));
            }
            (rendered, expected) => failures.push(format!("{name}, {conversation}: {rendered:?}, not {expected:?}")),
        }
    }
    failures
}

#[test]
fn templates_render_as_in_python() {
    let ours = testdata("chat_templates");
    let others = std::env::var_os("GGUF_TEMPLATES").map(PathBuf::from);
    let digests = others.is_some().then(|| json(&ours.join("llama.cpp.json")));
    let conversations = json(&ours.join("conversations.json"));
    let folder = others.unwrap_or(ours);
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .expect("a folder")
        .filter_map(|entry| Some(entry.expect("an entry").file_name().to_str()?.strip_suffix(".jinja")?.to_owned()))
        .collect();
    names.sort();
    assert!(names.len() > 20, "{} templates", names.len());
    let failures: Vec<String> =
        names.iter().flat_map(|name| failures(&folder, name, &conversations, digests.as_ref())).collect();
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

/// What templates are made of: each a template of its own, with the text that Python's Jinja renders.
#[test]
fn expressions_mean_what_they_mean_in_python() {
    let path = testdata("chat_templates").join("snippets.json");
    let snippets = json(&path);
    let variables = snippets["variables"].as_object().expect("variables").clone();
    let options = TemplateOptions { variables, now: Some(UNIX_EPOCH + NOW), ..TemplateOptions::default() };
    let mut failures = Vec::new();
    let cases = snippets["cases"].as_array().expect("cases");
    assert!(cases.len() > 60, "{} cases", cases.len());
    for case in cases {
        let (source, expected) = (case[0].as_str().expect("a template"), case[1].as_str().expect("a text"));
        let rendered = ChatTemplate::new(source, "", "").and_then(|t| t.render(&[], &options));
        match rendered {
            Ok(text) if text == expected => {}
            Ok(text) => failures.push(format!("{source}\n  {text:?}\n  {expected:?}")),
            Err(error) => failures.push(format!("{source}\n  {error}")),
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}
