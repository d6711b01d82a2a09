//! A model as one that makes embeddings and scores documents: which requests are computed when, and within which bounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Mutex, Semaphore};

use super::blocking::blocking;
use super::failure::Failure;
use crate::engine::{Batcher, Embedder, EmbeddingOptions, Error, Pair, Reranker};
use crate::network::Pooling;

/// Maximum numbers of an answer without pooling, which has a vector for each token.
const MOST_NUMBERS: usize = 1 << 24;

/// Cancels a piece of work when its request is dropped.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A model's embeddings and scores.
pub(super) struct Vectors {
    /// Its vectors are not normalized, since some requests truncate them first.
    embedder: Result<Embedder, Error>,
    reranker: Result<Reranker, Error>,
    /// Most tokens of a text.
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
        let (model, pool) = (batcher.model(), batcher.pool());
        let embedder = Embedder::new(model.clone(), pool.clone(), options);
        let reranker = Reranker::new(model.clone(), pool.clone(), options.kv_type);
        let trained = embedder.as_ref().map_or(0, Embedder::context_length);
        let trained = trained.max(reranker.as_ref().map_or(0, Reranker::context_length));
        let (context_length, queue) = (trained.min(batcher.context_length()), batcher.options().queue);
        Self { embedder, reranker, context_length, queue, places: Semaphore::new(queue + 1), turn: Mutex::new(()) }
    }

    pub(super) fn embedder(&self) -> Result<&Embedder, Failure> {
        self.embedder.as_ref().map_err(|error| Failure::invalid(error.to_string()))
    }

    /// The vectors of texts. The work is cancelled when the client disconnects.
    pub(super) async fn embed(self: &Arc<Self>, texts: Vec<Vec<u32>>) -> Result<Vec<Vec<f32>>, Failure> {
        let embedder = self.embedder()?;
        self.check(texts.iter().map(Vec::len))?;
        let numbers = texts.iter().map(Vec::len).sum::<usize>().saturating_mul(embedder.length());
        if embedder.pooling() == Pooling::None && numbers > MOST_NUMBERS {
            return Err(Failure::invalid(format!(
                "the answer would be {numbers} numbers: without pooling, at most {MOST_NUMBERS} are given"
            )));
        }
        self.in_turn(move |own, stop| Ok(own.embedder()?.embed_until(&texts, stop)?)).await
    }

    pub(super) fn reranker(&self) -> Result<&Reranker, Failure> {
        self.reranker.as_ref().map_err(|error| Failure::invalid(error.to_string()))
    }

    /// The scores of pairs. The work ends when nobody waits for it any more.
    pub(super) async fn scores(self: &Arc<Self>, pairs: Vec<Pair>) -> Result<Vec<f32>, Failure> {
        self.check(pairs.iter().map(|pair| pair.tokens.len()))?;
        self.in_turn(move |own, stop| Ok(own.reranker()?.scores(&pairs, stop)?)).await
    }

    /// Fails for texts that are too long.
    fn check(&self, mut lengths: impl Iterator<Item = usize>) -> Result<(), Failure> {
        let context_length = self.context_length;
        match lengths.find(|length| *length > context_length) {
            Some(needed) => Err(Error::ContextFull { needed, context_length }.into()),
            None => Ok(()),
        }
    }

    /// Work that takes its turn.
    async fn in_turn<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self, &(dyn Fn() -> bool + Sync)) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let _place = self.places.try_acquire().map_err(|_| Error::QueueFull { waiting: self.queue })?;
        let _turn = self.turn.lock().await;
        let cancelled = Arc::new(AtomicBool::new(false));
        let _guard = CancelOnDrop(cancelled.clone());
        let own = self.clone();
        blocking(move || work(own.as_ref(), &|| cancelled.load(Ordering::Relaxed))).await
    }
}
