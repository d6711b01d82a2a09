//! The chat templates of a checkpoint: one, or several with names (`tool_use`, `rag`).

use serde_json::{Map, Value as Json};

use super::{Error, Folder};
use crate::gguf::{Array, Metadata, Value, keys};

/// Folder of templates beside the main one.
const FURTHER: &str = "additional_chat_templates";
/// Name of the main template in a list.
const MAIN: &str = "default";

/// Templates in the order of their source: names and texts.
#[derive(Default)]
pub(super) struct ChatTemplates(Vec<(String, String)>);

impl ChatTemplates {
    /// Reads the templates of a folder: from `tokenizer_config.json` first, then from separate files.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(super) fn read(folder: &Folder, settings: &Map<String, Json>) -> Result<Self, Error> {
        match settings.get("chat_template") {
            Some(Json::String(template)) => return Ok(Self::main(template.clone())),
            Some(Json::Array(list)) => {
                let entry =
                    |entry: &Json| Some((entry["name"].as_str()?.to_owned(), entry["template"].as_str()?.to_owned()));
                return Ok(Self(list.iter().filter_map(entry).collect()));
            }
            _ => {}
        }
        if let Some(template) = folder.text("chat_template.jinja")? {
            let mut templates = Self::main(template);
            for name in folder.names(FURTHER, ".jinja") {
                if let Some(template) = folder.text(&format!("{FURTHER}/{name}.jinja"))? {
                    templates.0.push((name, template));
                }
            }
            return Ok(templates);
        }
        let json = folder.json("chat_template.json")?;
        let template = json.and_then(|json| json.get("chat_template")?.as_str().map(str::to_owned));
        Ok(template.map(Self::main).unwrap_or_default())
    }

    fn main(template: String) -> Self {
        Self(vec![(MAIN.to_owned(), template)])
    }

    /// Adds their keys, in the order of the reference: named templates, the list of names, the main template.
    pub(super) fn write(&self, metadata: &mut Metadata) {
        let (mut main, mut names) = (None, Vec::<String>::new());
        for (name, template) in &self.0 {
            // Names become parts of keys.
            let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
            if name == MAIN {
                main = Some(template);
            } else if !name.is_empty() {
                metadata.set(format!("{}.{name}", keys::TOKENIZER_CHAT_TEMPLATE), template.as_str());
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        if !names.is_empty() {
            metadata.set(keys::TOKENIZER_CHAT_TEMPLATES, Value::Array(Array::strings(&names)));
        }
        if let Some(template) = main {
            metadata.set(keys::TOKENIZER_CHAT_TEMPLATE, template.as_str());
        }
    }

    /// Whether one of them contains `text`.
    pub(super) fn use_text(&self, text: &str) -> bool {
        !text.is_empty() && self.0.iter().any(|(_, template)| template.contains(text))
    }
}
