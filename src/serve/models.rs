//! A model of a server.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Map;

use super::vectors::Vectors;
use crate::engine::prompter::Prompter;
use crate::engine::{Batcher, EmbeddingOptions, Error, SamplerOptions, TokenTrie};
use crate::gguf::{Metadata, Value};

use crate::quantize::file_type_name;

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}

/// Defaults of requests.
#[derive(Clone, Debug, Default)]
pub struct RequestDefaults {
    /// Sampler settings; the seed is not used.
    pub sampler: SamplerOptions,
    /// The seed; a random one for each request when `None`.
    pub seed: Option<u64>,
    /// Maximum tokens of an answer; as many as fit when `None`.
    pub max_tokens: Option<usize>,
    /// Settings of embeddings.
    pub embedding: EmbeddingOptions,
}

/// A loaded model with its engine.
pub struct ServedModel {
    pub(super) id: String,
    /// Its file; `None` for a model in memory.
    pub(super) path: Option<PathBuf>,
    pub(super) batcher: Batcher,
    pub(super) vectors: Arc<Vectors>,
    pub(super) prompter: Prompter,
    pub(super) defaults: RequestDefaults,
    /// Its tokens for constraints, built on first use.
    pub(super) trie: OnceLock<Arc<TokenTrie>>,
}

impl ServedModel {
    /// A model with the name `id` for clients. `template` replaces its own chat template.
    ///
    /// # Errors
    /// When the chat template is not valid Jinja.
    pub fn new(
        id: String,
        path: Option<PathBuf>,
        template: Option<&str>,
        defaults: RequestDefaults,
        batcher: Batcher,
    ) -> Result<Self, Error> {
        let metadata = batcher.model().metadata();
        let prompter = Prompter::new(metadata, template, &Map::new())?;
        let vectors = Arc::new(Vectors::new(&batcher, defaults.embedding));
        Ok(Self { id, path, batcher, vectors, prompter, defaults, trie: OnceLock::new() })
    }

    /// Its name for clients.
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

    /// The name of its file type (`Q4_K_M`), from the metadata.
    pub(super) fn quantization(&self) -> &'static str {
        let id = self.metadata().get("general.file_type").and_then(Value::as_u64);
        id.and_then(|id| file_type_name(id.try_into().ok()?)).unwrap_or("unknown")
    }
}
