//! What a made model adds to its file when it is run.

use std::path::PathBuf;

use serde_json::Value as Json;

use crate::engine::{Message, jinja_of_go};
use crate::gguf::{Metadata, keys};
use crate::stores::Layers;

/// The template, the system prompt, the settings, the first messages and the adapters of a model, besides those of its file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Setup {
    /// The source of a template in Jinja, in place of the file's own.
    pub template: Option<String>,
    /// Why a template is not used.
    pub warning: Option<String>,
    /// The system prompt.
    pub system: Option<String>,
    /// Messages with which conversations begin.
    pub messages: Vec<Message>,
    /// Settings, a JSON object (`temperature`, `stop` ...).
    pub parameters: Option<Json>,
    /// Files of adapters (LoRA).
    pub adapters: Vec<PathBuf>,
}

impl Setup {
    /// The setup of a model with these layers and this metadata. A template of the layers holds where a user has given it, or the
    /// file has none.
    #[must_use]
    pub fn new(layers: &Layers, metadata: &Metadata) -> Self {
        let has_own = metadata.get(keys::TOKENIZER_CHAT_TEMPLATE).is_some();
        let wanted = layers.template.as_deref().filter(|_| layers.is_template_given || !has_own);
        let (template, warning) = match wanted.map(jinja_of_go) {
            None => (None, None),
            Some(Ok(source)) => (Some(source), None),
            Some(Err(error)) => {
                let then = if has_own { "that of the file is used" } else { "messages are joined as they are" };
                (None, Some(format!("the model's template (of Ollama) cannot be used: {error}; {then}")))
            }
        };
        let message = |(role, text): &(String, String)| Message::new(role.as_str(), text.as_str());
        Self {
            template,
            warning,
            system: layers.system.clone().filter(|system| !system.is_empty()),
            messages: layers.messages.iter().map(message).collect(),
            parameters: layers.parameters.clone(),
            adapters: layers.adapters.clone(),
        }
    }

    /// A setting that is a whole number; `None` for a negative one, which means as many as fit.
    #[must_use]
    pub fn count(&self, name: &str) -> Option<Option<usize>> {
        let value = self.parameters.as_ref()?.get(name)?;
        value.as_i64().map(|whole| usize::try_from(whole).ok())
    }

    /// The texts that end an answer.
    #[must_use]
    pub fn stop(&self) -> Vec<String> {
        let stop = self.parameters.as_ref().and_then(|parameters| parameters.get("stop"));
        match stop {
            Some(Json::String(text)) => vec![text.clone()],
            Some(Json::Array(texts)) => texts.iter().filter_map(Json::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        }
    }

    /// The settings that are numbers.
    pub fn numbers(&self) -> impl Iterator<Item = (&str, f64)> {
        let all = self.parameters.as_ref().and_then(Json::as_object).into_iter().flatten();
        all.filter_map(|(name, value)| Some((name.as_str(), value.as_f64()?)))
    }
}
