//! What Ollama keeps beside a model: its system prompt and settings, which hold where the command line says nothing else.
//! Its template is in the language of Go, and is not used: that of the model's file is.

use gguf_toolkit::stores::Layers;
use serde_json::Value as Json;

use super::{Args, Limit};

impl Args {
    /// The same with what the layers of a model say.
    pub(super) fn with_layers(&self, layers: &Layers) -> Self {
        let mut args = self.clone();
        if args.system.is_none() {
            args.system.clone_from(&layers.system);
        }
        let Some(Json::Object(parameters)) = &layers.parameters else { return args };
        for (name, value) in parameters {
            match (name.as_str(), value) {
                ("stop", Json::Array(texts)) if self.stop.is_empty() => {
                    args.stop.extend(texts.iter().filter_map(Json::as_str).map(str::to_owned));
                }
                ("num_ctx", Json::Number(n)) if args.context.is_none() => {
                    args.context = n.as_u64().and_then(|n| usize::try_from(n).ok());
                }
                ("num_predict", Json::Number(n)) if args.max_tokens.is_none() => {
                    // Negative numbers mean as many as fit.
                    args.max_tokens = Some(Limit(n.as_u64().and_then(|n| usize::try_from(n).ok())));
                }
                (_, Json::Number(n)) => args.sampling.recommend(name, n.as_f64()),
                _ => {}
            }
        }
        args
    }
}
