//! The models that a server answers with.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Map;

use super::failure::Failure;
use super::fields::Fields;
use super::vectors::Vectors;
use crate::engine::prompter::Prompter;
use crate::engine::{Batcher, EmbeddingOptions, Error, SamplerOptions};
use crate::gguf::{Metadata, Value};

use crate::quantize::file_type_name;

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}

/// What holds where a request does not say.
#[derive(Clone, Debug, Default)]
pub struct Usual {
    /// How tokens are chosen; its seed is not used.
    pub sampler: SamplerOptions,
    /// The seed; a random one for each request when `None`.
    pub seed: Option<u64>,
    /// Most tokens of an answer; as many as fit when `None`.
    pub max_tokens: Option<usize>,
    /// How embeddings are made.
    pub embedding: EmbeddingOptions,
}

/// A model, ready to answer.
pub struct ServedModel {
    pub(super) id: String,
    /// Further names by which clients may ask for it.
    aliases: Vec<String>,
    /// Its file; none for one in memory.
    pub(super) path: Option<PathBuf>,
    pub(super) batcher: Batcher,
    pub(super) vectors: Arc<Vectors>,
    pub(super) prompter: Prompter,
    pub(super) usual: Usual,
    /// When it was loaded, in seconds since 1970.
    pub(super) created: u64,
}

impl ServedModel {
    /// A model that clients know as `id`, or by one of `aliases`. `template` takes the place of its own chat template.
    ///
    /// # Errors
    /// When the chat template is no valid Jinja.
    pub fn new(
        id: String,
        aliases: Vec<String>,
        path: Option<PathBuf>,
        template: Option<&str>,
        usual: Usual,
        batcher: Batcher,
    ) -> Result<Self, Error> {
        let metadata = batcher.model().metadata();
        let prompter = Prompter::new(metadata, template, &Map::new())?;
        let vectors = Arc::new(Vectors::new(&batcher, usual.embedding));
        Ok(Self { id, aliases, path, batcher, vectors, prompter, usual, created: now() })
    }

    /// The name by which clients know it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The engine that answers.
    #[must_use]
    pub fn batcher(&self) -> &Batcher {
        &self.batcher
    }

    pub(super) fn metadata(&self) -> &Metadata {
        self.batcher.model().metadata()
    }

    /// A text of its metadata, or nothing.
    pub(super) fn text(&self, key: &str) -> &str {
        self.metadata().get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// The name of its file type (`Q4_K_M`), as the file says it.
    pub(super) fn quantization(&self) -> &'static str {
        let id = self.metadata().get("general.file_type").and_then(Value::as_u64);
        id.and_then(|id| file_type_name(id.try_into().ok()?)).unwrap_or("unknown")
    }

    /// Whether clients mean it by `name`; Ollama's names have a tag, and `latest` is the usual one.
    fn is_called(&self, name: &str) -> bool {
        let plain = name.strip_suffix(":latest").unwrap_or(name);
        std::iter::once(&self.id)
            .chain(&self.aliases)
            .any(|own| own.eq_ignore_ascii_case(name) || own.eq_ignore_ascii_case(plain))
    }
}

/// All of them.
pub(super) struct Models {
    pub(super) all: Vec<Arc<ServedModel>>,
    /// Names that nobody has are the first one's.
    pub(super) any_name: bool,
}

impl Models {
    /// The model that is called so.
    pub(super) fn named(&self, name: &str) -> Result<Arc<ServedModel>, Failure> {
        let found = self.all.iter().find(|model| model.is_called(name));
        found.or(self.all.first().filter(|_| self.any_name)).cloned().ok_or_else(|| Failure::model_not_found(name))
    }

    /// The model that a request asks for; the only one, where it asks for none.
    pub(super) fn wanted(&self, fields: Fields<'_>) -> Result<Arc<ServedModel>, Failure> {
        match (fields.text("model")?, self.all.as_slice()) {
            (Some(name), _) if !name.is_empty() => self.named(name),
            (_, [only]) => Ok(only.clone()),
            (_, [first, ..]) if self.any_name => Ok(first.clone()),
            _ => Err(Failure::field("model", "is needed: this server has several")),
        }
    }
}
