//! A chat template, rendered for a short conversation.

#![no_main]

use gguf_toolkit::engine::{ChatTemplate, Message, TemplateOptions};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    let Ok(template) = ChatTemplate::new(source, "<s>", "</s>") else { return };
    let messages = [Message::new("system", "Be kind."), Message::new("user", "Hello"), Message::new("assistant", "Hi")];
    let _ = template.render(&messages, &TemplateOptions::default());
});
