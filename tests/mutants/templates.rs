//! Chat templates of published models, cut and spliced.

use std::fs;

use gguf_toolkit::engine::{ChatTemplate, Message, TemplateOptions, jinja_of_go};
use serde_json::{Map, Value as Json};

use super::{Choices, Mutant, Subject};
use crate::shared::testdata;

/// Templates in Go's language, with all that Ollama's use.
const GO: [&str; 3] = [
    "{{ if .System }}<|system|>{{ .System }}{{ end }}{{ if .Prompt }}<|user|>{{ .Prompt }}{{ end }}<|assistant|>{{ .Response }}",
    "{{- range $i, $_ := .Messages }}{{- $last := eq (len (slice $.Messages $i)) 1 }}{{ if eq .Role \"user\" }}[INST] \
     {{ .Content }}[/INST]{{ else if and (eq .Role \"assistant\") (not $last) }}{{ .Content }}</s>{{ end }}{{ end }}",
    "{{- if or .System .Tools }}{{ range .Tools }}{{ . }}{{ end }}{{ end }}{{ range .Messages }}{{ range .ToolCalls }}\
     {\"name\": \"{{ .Function.Name }}\", \"parameters\": {{ .Function.Arguments }}}{{ end }}{{ end }}",
];

/// Templates, and what they are given.
pub(crate) struct Templates {
    jinja: Vec<String>,
    messages: Vec<Message>,
    options: TemplateOptions,
}

impl Templates {
    pub(crate) fn new() -> Self {
        let mut jinja: Vec<String> = fs::read_dir(testdata("chat_templates"))
            .expect("a folder")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "jinja"))
            .map(|path| fs::read_to_string(path).expect("text"))
            .collect();
        jinja.sort();
        let messages = vec![
            Message::new("system", "Be kind."),
            Message::new("user", "Hello"),
            Message::new("assistant", "Hi"),
            Message::new("user", "Bye"),
        ];
        let mut variables = Map::new();
        variables.insert("enable_thinking".into(), Json::Bool(true));
        Self { jinja, messages, options: TemplateOptions { variables, ..TemplateOptions::default() } }
    }
}

impl Subject for Templates {
    fn mutant<'m>(&'m mut self, choices: &'m mut Choices<'_>) -> Mutant<'m> {
        let go = choices.below(6) == 0;
        let mut source = if go { (*choices.pick(&GO)).to_owned() } else { choices.pick(&self.jinja).clone() };
        for _ in 0..=choices.below(3) {
            source = if choices.below(3) == 0 {
                // A piece of another one.
                let other: Vec<char> = choices.pick(&self.jinja).chars().collect();
                let from = choices.below(other.len());
                let piece: String = other[from..(from + 60).min(other.len())].iter().collect();
                let mut at = choices.below(source.len() + 1);
                while !source.is_char_boundary(at) {
                    at -= 1;
                }
                format!("{}{piece}{}", &source[..at], &source[at..])
            } else {
                choices.text(&source)
            };
        }
        Mutant {
            told: source.clone(),
            bytes: source.len(),
            run: Box::new(move || {
                let source = if go { jinja_of_go(&source).map_err(|e| e.to_string())? } else { source };
                let template = ChatTemplate::new(&source, "<s>", "</s>").map_err(|e| e.to_string())?;
                template.render(&self.messages, &self.options).map(drop).map_err(|e| e.to_string())
            }),
        }
    }
}
