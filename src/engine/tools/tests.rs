//! Tests with the files of `testdata/tools`, one for each syntax: texts of answers, and the calls in them.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value as Json;

use super::{SYNTAXES, ToolCall, ToolPart, ToolSplitter, ToolSyntax, Tools};

fn read(name: &str) -> Json {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/tools").join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

fn tools() -> Arc<Tools> {
    Arc::new(Tools::new(read("definitions").as_array().expect("an array")).expect("valid"))
}

/// The text and the calls of an answer that comes in pieces of `n` characters.
fn split(syntax: &'static ToolSyntax, text: &str, n: usize) -> (String, Vec<ToolCall>) {
    let mut splitter = ToolSplitter::new(syntax, tools());
    let characters: Vec<char> = text.chars().collect();
    let mut parts = Vec::new();
    for piece in characters.chunks(n) {
        parts.extend(splitter.push(&piece.iter().collect::<String>()));
    }
    parts.extend(splitter.finish());
    let (mut text, mut calls) = (String::new(), Vec::new());
    for part in parts {
        match part {
            ToolPart::Text(part) => text.push_str(&part),
            ToolPart::Call(call) => calls.push(call),
        }
    }
    (text, calls)
}

#[test]
fn calls_are_found_in_every_syntax_in_pieces_of_any_size() {
    for syntax in SYNTAXES {
        let file = read(syntax.name);
        let marks = file["marks"].as_str().expect("a text");
        assert_eq!(ToolSyntax::of_template(marks).name, syntax.name);
        let cases = file["cases"].as_array().expect("an array");
        assert!(!cases.is_empty(), "{}", syntax.name);
        for case in cases {
            let text = case["text"].as_str().expect("a text");
            for n in [1, 2, 3, 7, 10_000] {
                let (content, calls) = split(syntax, text, n);
                let place = format!("{} in pieces of {n}: {text}", syntax.name);
                assert_eq!(content, case["content"].as_str().expect("a text"), "{place}");
                let expected = case["calls"].as_array().expect("an array");
                assert_eq!(calls.len(), expected.len(), "{place}");
                for (call, expected) in calls.iter().zip(expected) {
                    assert_eq!(call.name, expected["name"].as_str().expect("a name"), "{place}");
                    let arguments: Json = serde_json::from_str(&call.arguments).expect("JSON");
                    assert_eq!(arguments, expected["arguments"], "{place}");
                }
            }
        }
    }
}

#[test]
fn nothing_that_a_model_says_is_lost_or_panics() {
    // Every beginning of every case, and every case with a piece cut out.
    for syntax in SYNTAXES {
        for case in read(syntax.name)["cases"].as_array().expect("an array") {
            let characters: Vec<char> = case["text"].as_str().expect("a text").chars().collect();
            for cut in 0..characters.len() {
                let beginning: String = characters[..cut].iter().collect();
                let (content, calls) = split(syntax, &beginning, 5);
                // The mark that nothing is called is not text, and neither are tags around it.
                let swallowed = ["directly_answer\"", "all\n", "<|message|>", "response<|sep|>"]
                    .iter()
                    .any(|mark| beginning.contains(mark));
                assert!(
                    !calls.is_empty() || content.trim() == beginning.trim() || swallowed,
                    "{}: {beginning:?} {content:?}",
                    syntax.name
                );
                let without: String = characters[..cut].iter().chain(characters.iter().skip(cut + 3)).collect();
                split(syntax, &without, 4);
            }
        }
    }
}

#[test]
fn definitions_are_checked_and_put_in_one_form() {
    let bare = serde_json::json!({ "name": "f", "parameters": { "type": "object" } });
    let tools = Tools::new(&[bare.clone(), serde_json::json!({ "type": "function", "function": { "name": "g" } })]);
    let tools = tools.expect("valid");
    assert_eq!(tools.definitions()[0]["function"], bare);
    assert_eq!(tools.definitions()[1]["function"]["parameters"]["type"], "object");
    assert!(tools.has("g") && !tools.has("h"));
    for (tool, expected) in [
        (serde_json::json!({ "type": "custom", "name": "f" }), "tools[0].type: must be function"),
        (serde_json::json!({ "name": "" }), "tools[0].name: must be letters, digits, _, - and ."),
        (serde_json::json!({ "name": "a b" }), "tools[0].name: must be letters, digits, _, - and ."),
        (serde_json::json!({ "name": "f", "parameters": 3 }), "tools[0].parameters: must be a JSON schema"),
    ] {
        assert_eq!(Tools::new(&[tool]).expect_err("refused").to_string(), expected);
    }
}
