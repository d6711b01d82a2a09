//! The divergence of variants of a model from the model itself, on the same few chunks again and again.
//!
//! The model is run once. Of its distributions the hidden states are kept, from which logits are made when they are needed: they take
//! less memory than the logits by far, and less time than another run.

#![allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]

use std::sync::Arc;

use super::Error;
use super::scores::BaseRow;
use crate::cpu::KvType;
use crate::kernels::Pool;
use crate::model::Model;
use crate::perplexity::{begun, check_context, hidden, tokens};

/// Maximum bytes of logits in memory; the distributions beside them take twice as many.
const MAX_LOGITS_BYTES: usize = 32 << 20;

/// A model and a text.
pub struct Divergence {
    base: Model,
    pool: Arc<Pool>,
    chunks: Vec<Vec<u32>>,
    /// Hidden states of the scored positions, `[positions, embedding]`.
    hidden: Vec<f32>,
    /// The tokens that the positions predict.
    targets: Vec<u32>,
}

impl Divergence {
    /// Runs `base` on at most `chunks` chunks of `context` tokens, evenly spread over `text`. The second half of each is scored.
    ///
    /// # Errors
    /// When the text is too short or cannot be encoded, or the model does not predict tokens.
    pub fn new(base: Model, pool: Arc<Pool>, text: &str, context: usize, chunks: usize) -> Result<Self, Error> {
        let failed = |source| Error::Text { model: "the base".into(), source };
        check_context(&base, context).map_err(failed)?;
        let tokens = tokens(&base, text, context, false).map_err(failed)?;
        let all = begun(&base, &tokens, context);
        let wanted = chunks.clamp(1, all.len());
        let chunks: Vec<Vec<u32>> = (0..wanted).map(|i| all[i * all.len() / wanted].clone()).collect();
        let targets = chunks.iter().flat_map(|chunk| &chunk[context / 2 + 1..]).copied().collect();
        let mut divergence = Self { base, pool, chunks, hidden: Vec::new(), targets };
        divergence.hidden = divergence.states(&divergence.base);
        Ok(divergence)
    }

    /// The model.
    #[must_use]
    pub fn base(&self) -> &Model {
        &self.base
    }

    /// The mean divergence of `variant`, in nats.
    ///
    /// # Errors
    /// When a model computes NaN or infinity.
    ///
    /// # Panics
    /// If `variant` has another vocabulary or other hidden states.
    pub fn of(&self, variant: &Model) -> Result<f64, Error> {
        let vocab = self.base.decoder().vocab_size();
        let mut states = self.states(variant);
        let mut base = self.hidden.clone();
        let cols = self.base.decoder().embedding_length();
        let together = (MAX_LOGITS_BYTES / (vocab * size_of::<f32>())).clamp(1, self.targets.len());
        let mut logits = vec![0.0; together * vocab];
        let mut rows = vec![BaseRow::default(); together];
        let mut all = Vec::with_capacity(self.targets.len());
        for (block, targets) in self.targets.chunks(together).enumerate() {
            let part = block * together * cols..(block * together + targets.len()) * cols;
            let (logits, rows) = (&mut logits[..targets.len() * vocab], &mut rows[..targets.len()]);
            self.base.decoder().logits(self.base.run(&self.pool), &mut base[part.clone()], logits);
            let each = logits.chunks_exact(vocab).zip(targets).zip(&mut *rows).collect();
            self.pool.run_each(each, &|((logits, &target), row): ((&[f32], &u32), &mut BaseRow)| {
                row.set_logits(logits, target);
            });
            variant.decoder().logits(variant.run(&self.pool), &mut states[part], logits);
            let mut found = vec![0.0; targets.len()];
            let each = logits.chunks_exact(vocab).zip(targets).zip(&*rows).zip(&mut found).collect();
            self.pool.run_each(each, &|(((logits, &target), row), kl): (((&[f32], &u32), &BaseRow), &mut f64)| {
                *kl = f64::from(row.compare(logits, target).kl);
            });
            all.extend(found);
        }
        if let Some(at) = all.iter().position(|kl| !kl.is_finite()) {
            let first = self.chunks[0].len() / 2;
            let (chunk, position) = (at / self.per_chunk() + 1, first + at % self.per_chunk());
            return Err(Error::NotFinite { model: "a variant".into(), chunk, position });
        }
        Ok(all.iter().sum::<f64>() / all.len() as f64)
    }

    /// Scored positions of a chunk.
    fn per_chunk(&self) -> usize {
        self.targets.len() / self.chunks.len()
    }

    /// Hidden states of the scored positions.
    fn states(&self, model: &Model) -> Vec<f32> {
        let context = self.chunks[0].len();
        let positions = context / 2..context - 1;
        // All chunks in one pass.
        let batch = context * self.chunks.len();
        hidden(model, model.run(&self.pool), &self.chunks, positions, batch, KvType::F32)
    }
}
