//! Embeddings of a model: the queue of requests and its limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Mutex, Semaphore};

use super::blocking::blocking;
use super::failure::Failure;
use crate::engine::{Batcher, Embedder, EmbeddingOptions, Error};
use crate::network::Pooling;

/// Maximum numbers of an answer without pooling, which has a vector for each token.
const MOST_NUMBERS: usize = 1 << 24;

/// A model's embeddings.
pub(super) struct Vectors {
    /// Its vectors are not normalized, since some requests truncate them first.
    embedder: Result<Embedder, Error>,
    /// Maximum tokens of a text.
    pub(super) context_length: usize,
    /// Maximum waiting requests.
    queue: usize,
    /// Permits for waiting requests and the running one.
    places: Semaphore,
    /// Held by the running request.
    turn: Mutex<()>,
}

impl Vectors {
    /// Embeddings of a batcher's model.
    pub(super) fn new(batcher: &Batcher, options: EmbeddingOptions) -> Self {
        let options = EmbeddingOptions { normalize: false, ..options };
        let embedder = Embedder::new(batcher.model().clone(), batcher.pool().clone(), options);
        let trained = embedder.as_ref().map_or(0, Embedder::context_length);
        let (context_length, queue) = (trained.min(batcher.context_length()), batcher.options().queue);
        Self { embedder, context_length, queue, places: Semaphore::new(queue + 1), turn: Mutex::new(()) }
    }

    pub(super) fn embedder(&self) -> Result<&Embedder, Failure> {
        self.embedder.as_ref().map_err(|error| Failure::invalid(error.to_string()))
    }

    /// The vectors of texts. The work is cancelled when the client disconnects.
    pub(super) async fn embed(self: &Arc<Self>, texts: Vec<Vec<u32>>) -> Result<Vec<Vec<f32>>, Failure> {
        struct CancelOnDrop(Arc<AtomicBool>);
        impl Drop for CancelOnDrop {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let embedder = self.embedder()?;
        let context_length = self.context_length;
        if let Some(needed) = texts.iter().map(Vec::len).find(|length| *length > context_length) {
            return Err(Error::ContextFull { needed, context_length }.into());
        }
        let numbers = texts.iter().map(Vec::len).sum::<usize>().saturating_mul(embedder.length());
        if embedder.pooling() == Pooling::None && numbers > MOST_NUMBERS {
            return Err(Failure::invalid(format!(
                "the answer would be {numbers} numbers: without pooling, at most {MOST_NUMBERS} are given"
            )));
        }
        let _place = self.places.try_acquire().map_err(|_| Error::QueueFull { waiting: self.queue })?;
        let _turn = self.turn.lock().await;
        let given_up = Arc::new(AtomicBool::new(false));
        let _guard = CancelOnDrop(given_up.clone());
        let own = self.clone();
        let work = move || Ok(own.embedder()?.embed_until(&texts, &|| given_up.load(Ordering::Relaxed))?);
        blocking(work).await
    }
}
