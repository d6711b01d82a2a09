//! A model of a server.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value as Json, json};

use super::vectors::Vectors;
use crate::engine::prompter::Prompter;
use crate::engine::{Batcher, EmbeddingOptions, Error, SamplerOptions, TokenTrie};
use crate::gguf::Metadata;
use crate::modelfile::Setup;
use crate::quantize::file_type_name_of;

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
    /// What it was made with besides its file.
    pub(super) setup: Setup,
    /// Its tokens for constraints, from the first one on.
    trie: Mutex<Option<Arc<TokenTrie>>>,
}

impl ServedModel {
    /// A model with the name `id` for clients, and what it was made with besides its file. `template` replaces its chat template.
    ///
    /// # Errors
    /// When the chat template is not valid Jinja.
    pub fn new(
        id: String,
        path: Option<PathBuf>,
        template: Option<&str>,
        setup: Setup,
        defaults: RequestDefaults,
        batcher: Batcher,
    ) -> Result<Self, Error> {
        let metadata = batcher.model().metadata();
        let prompter = Prompter::new(metadata, template.or(setup.template.as_deref()), &Map::new())?;
        let vectors = Arc::new(Vectors::new(&batcher, defaults.embedding));
        Ok(Self { id, path, batcher, vectors, prompter, defaults, setup, trie: Mutex::default() })
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

    /// Its tokens for constraints, which are looked through once: who asks meanwhile waits.
    ///
    /// # Errors
    /// As [`TokenTrie::new`].
    pub(super) fn trie(&self) -> Result<Arc<TokenTrie>, Error> {
        let mut trie = self.trie.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trie) = trie.as_ref() {
            return Ok(trie.clone());
        }
        let made = Arc::new(TokenTrie::new(self.batcher.model().tokenizer())?);
        Ok(trie.insert(made).clone())
    }

    /// The messages of a request after those that the model was made with, and its system prompt where the request has none.
    pub(super) fn conversation(&self, mut messages: Vec<Json>) -> Vec<Json> {
        if messages.is_empty() {
            return messages;
        }
        let is_system = |message: &Json| matches!(message["role"].as_str(), Some("system" | "developer"));
        let own = self.setup.system.as_ref().map(|system| json!({ "role": "system", "content": system }));
        let system = if messages.first().is_some_and(is_system) { Some(messages.remove(0)) } else { own };
        let first = self.setup.messages.iter().map(|m| json!({ "role": m.role, "content": m.content }));
        system.into_iter().chain(first).chain(messages).collect()
    }

    pub(super) fn metadata(&self) -> &Metadata {
        self.batcher.model().metadata()
    }

    /// The name of its file type (`Q4_K_M`), from the metadata.
    pub(super) fn quantization(&self) -> &'static str {
        file_type_name_of(self.metadata()).unwrap_or("unknown")
    }
}
