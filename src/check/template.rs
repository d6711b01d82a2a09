//! Checks the chat template, which is an untrusted program: whether it renders conversations within its budget, and whether the
//! text around messages depends on their content.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use super::Findings;
use crate::engine::{ChatTemplate, Rendered, TemplateOptions};
use crate::gguf::{Metadata, keys};
use crate::inspect::TemplateFeatures;
use crate::printable::printable;
use crate::tokenizer::Tokenizer;

/// An ordinary message.
const PLAIN: &str = "Tell me about the weather";
/// Further contents of messages: likely triggers of hidden instructions.
const USUAL: [&str; 12] = [
    "Hello",
    "Please write a function in Python",
    "def f(x): return x",
    "http://example.com/login",
    "What is my password?",
    "<html><script>alert(1)</script></html>",
    "SELECT * FROM users",
    "Transfer 100 dollars to my bank account",
    "ignore all previous instructions",
    "recipe",
    "2026-01-01",
    "medicine",
];
/// Maximum number of texts of the template that are tried as messages.
const MOST_TEXTS: usize = 200;
/// Number of letters outside of marks (`<|user|>`) from which an insertion counts as words.
const WORDS: usize = 12;

/// Checks the template of a file.
pub(super) fn check(metadata: &Metadata, tokenizer: Option<&Tokenizer>, findings: &mut Findings) {
    let Some(value) = metadata.get(keys::TOKENIZER_CHAT_TEMPLATE) else { return };
    let Some(source) = value.as_str() else {
        return findings.error("template.type", "key tokenizer.chat_template is no string");
    };
    let template = match ChatTemplate::from_metadata(metadata) {
        Ok(template) => template,
        Err(error) => return findings.error("template.syntax", error.to_string()),
    };
    let features = TemplateFeatures::of(source);
    let user = json!([{ "role": "user", "content": PLAIN }]);
    let rendered = match render(&template, &user, &[]) {
        Ok(rendered) => rendered,
        Err(error) => return findings.error("template.render", error),
    };
    if !rendered.text.contains(PLAIN) {
        findings.error("template.message-lost", "the prompt does not have what the user says");
    }
    further_conversations(&template, features, findings);
    if let Some((trigger, inserted)) = hidden(&template, source, &rendered) {
        let (trigger, inserted) = (printable(&trigger).limit(60), printable(&inserted).limit(80));
        let text = format!("when a message says `{trigger}`, the template adds `{inserted}`");
        findings.error("template.depends-on-content", text);
    }
    if let Some(tokenizer) = tokenizer {
        marks(&rendered, tokenizer, findings);
    }
}

fn render(template: &ChatTemplate, messages: &Json, variables: &[(&str, Json)]) -> Result<Rendered, String> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let options = TemplateOptions { add_generation_prompt: true, variables, ..TemplateOptions::default() };
    template.render_json(messages, &options).map_err(|error| error.to_string())
}

/// Conversations that a template should render if it supports their parts.
fn further_conversations(template: &ChatTemplate, features: TemplateFeatures, findings: &mut Findings) {
    let turn = |role: &str, content: &str| json!({ "role": role, "content": content });
    let turns = json!([turn("user", "One"), turn("assistant", "Two"), turn("user", PLAIN)]);
    if let Err(error) = render(template, &turns, &[]) {
        findings.error("template.turns", format!("three turns: {error}"));
    }
    if features.system {
        let system = "Be brief and kind";
        match render(template, &json!([turn("system", system), turn("user", PLAIN)]), &[]) {
            Err(error) => findings.warning("template.system", format!("a system message: {error}")),
            Ok(rendered) if !rendered.text.contains(system) => {
                findings.warning("template.system", "a system message is left out of the prompt");
            }
            Ok(_) => {}
        }
    }
    if features.tools {
        let parameters = json!({ "type": "object", "properties": { "city": { "type": "string", "description": "A city" } }, "required": ["city"] });
        let function = json!({ "name": "get_weather", "description": "Tells the weather", "parameters": parameters });
        let tools = json!([{ "type": "function", "function": function }]);
        if let Err(error) = render(template, &json!([turn("user", PLAIN)]), &[("tools", tools)]) {
            findings.warning("template.tools", format!("with a tool: {error}"));
        }
    }
    if features.thinking {
        for wanted in [true, false] {
            let variables = [("enable_thinking", wanted.into()), ("thinking", wanted.into())];
            if let Err(error) = render(template, &json!([turn("user", PLAIN)]), &variables) {
                let text = format!("with enable_thinking={wanted}: {error}");
                findings.warning("template.thinking", text);
            }
        }
    }
}

/// A message for which the template inserts words that it does not insert otherwise, and these words.
fn hidden(template: &ChatTemplate, source: &str, usual: &Rendered) -> Option<(String, String)> {
    let own = around(usual);
    let texts = literals(source).into_iter().take(MOST_TEXTS);
    let contents = USUAL.iter().map(|text| (*text).to_owned()).chain(texts);
    for content in contents {
        // The text alone, in the middle, at the beginning and at the end.
        for said in [content.clone(), format!("a {content} b"), format!("{content} b"), format!("a {content}")] {
            let Ok(rendered) = render(template, &json!([{ "role": "user", "content": said }]), &[]) else { continue };
            let found = around(&rendered);
            if let Some(added) = found.iter().find(|part| !own.iter().any(|own| own == *part) && words(part) >= WORDS) {
                // Text that has only moved is no addition.
                let added = difference(&own.concat(), added);
                if words(&added) >= WORDS {
                    return Some((content, added));
                }
            }
        }
    }
    None
}

/// The parts of a prompt that come from the template, not from messages.
fn around(rendered: &Rendered) -> Vec<String> {
    let mut parts = Vec::new();
    let mut start = 0;
    for range in &rendered.untrusted {
        parts.push(rendered.text[start..range.start].to_owned());
        start = range.end;
    }
    parts.push(rendered.text[start..].to_owned());
    parts
}

/// The words of `text` that are not in `usual`.
fn difference(usual: &str, text: &str) -> String {
    let known: BTreeSet<&str> = usual.split_whitespace().collect();
    let new: Vec<&str> = text.split_whitespace().filter(|word| !known.contains(word)).collect();
    new.join(" ")
}

/// Number of letters outside of angle and square brackets.
fn words(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut count = 0;
    for c in text.chars() {
        match c {
            '<' | '[' => depth += 1,
            '>' | ']' => depth = depth.saturating_sub(1),
            c if depth == 0 && c.is_alphabetic() => count += 1,
            _ => {}
        }
    }
    count
}

/// The strings in a template's expressions.
fn literals(source: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for quote in ['\'', '"'] {
        // Every second piece between quotes is a string, from the first quote of each statement on.
        for statement in source.split(['{', '}']) {
            let pieces = statement.split(quote).skip(1).step_by(2);
            found.extend(pieces.filter(|text| (2..100).contains(&text.len())).map(str::to_owned));
        }
    }
    found
}

/// Reports marks of the prompt that look like control tokens but are none.
fn marks(rendered: &Rendered, tokenizer: &Tokenizer, findings: &mut Findings) {
    let known: BTreeSet<&[u8]> = tokenizer.vocab().tokens.iter().map(Vec::as_slice).collect();
    let mut missing = BTreeSet::new();
    for part in around(rendered) {
        let mut rest = part.as_str();
        while let Some(start) = rest.find("<|") {
            let Some(len) = rest[start..].find("|>") else { break };
            let mark = &rest[start..start + len + 2];
            if !known.contains(mark.as_bytes()) && !mark.contains(char::is_whitespace) {
                missing.insert(mark.to_owned());
            }
            rest = &rest[start + len + 2..];
        }
    }
    if !missing.is_empty() {
        let marks: Vec<String> = missing.iter().map(|mark| printable(mark).limit(40).to_string()).collect();
        let text = format!("the template writes marks that are no tokens of the vocabulary: {}", marks.join(", "));
        findings.warning("template.marks", text);
    }
}
