//! Perplexity of a text by the procedure of llama-perplexity, so that figures are comparable with published ones.
//!
//! The text is cut into chunks of the length of the context. Each chunk is evaluated separately, with the begin-of-text token
//! in place of its first token if the model uses one, and the second half of its positions is scored. With a stride, chunks
//! overlap, and only the last tokens of each are scored, so that every scored token has a long context.
//!
//! A measurement that was stopped can go on ([`Measurement`], [`State`]). Beside texts there are tasks: which of several endings a
//! model finds the likeliest ([`tasks`]).

mod measurement;
mod state;
pub mod tasks;

pub use measurement::{Measurement, Partial};
pub use state::{Kept, ModelState, State, StateError};

use std::ops::Range;
use std::time::Duration;

use crate::cpu::{KvType, Part, Rows, Run, Sequence, SequenceOptions};
use crate::kernels::{Pool, vector::log_sum_exp};
use crate::model::Model;
use crate::tokenizer::{self, EncodeOptions};

/// Bytes of logits held at once.
const MAX_LOGITS_BYTES: usize = 128 << 20;

/// Options of a measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Tokens of a chunk.
    pub context: usize,
    /// Tokens of a forward pass; as many chunks as fit share it.
    pub batch: usize,
    /// Maximum chunks.
    pub chunks: Option<usize>,
    /// Type of cached keys and values.
    pub kv_type: KvType,
    /// The distance between the starts of chunks, and the number of tokens that are scored at their ends. The first tokens of chunks
    /// are not replaced then.
    pub stride: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self { context: 512, batch: 2048, chunks: None, kv_type: KvType::F16, stride: None }
    }
}

/// The result of a measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// The perplexity.
    pub perplexity: f64,
    /// Its standard error.
    pub stderr: f64,
    /// Tokens evaluated.
    pub tokens: usize,
    /// Chunks evaluated.
    pub chunks: usize,
    /// Tokens of a chunk.
    pub context: usize,
    /// Time for the evaluation.
    pub time: Duration,
}

/// A token of the text with its likelihood.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenScore {
    /// Its index in the tokens of the text.
    pub place: usize,
    /// The token.
    pub token: u32,
    /// Negative log-likelihood, in nats.
    pub nll: f64,
}

/// The progress of a measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress<'a> {
    /// Chunks done.
    pub done: usize,
    /// All chunks.
    pub total: usize,
    /// The perplexity so far; NaN before the first chunk.
    pub perplexity: f64,
    /// The tokens that the latest forward pass has scored.
    pub scores: &'a [TokenScore],
}

/// Why perplexity cannot be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text cannot be encoded.
    #[error("tokenizer: {0}")]
    Tokenizer(#[from] tokenizer::Error),
    /// The model is an encoder, which has no logits.
    #[error("the model makes embeddings and does not predict tokens")]
    NoLogits,
    /// Too little text.
    #[error(
        "the text has {tokens} tokens, {needed} are needed (twice the context of {context}; a smaller one: --context)"
    )]
    TooShort {
        /// Tokens of the text.
        tokens: usize,
        /// Tokens needed.
        needed: usize,
        /// Tokens of a chunk.
        context: usize,
    },
    /// The chunks are too short to score anything.
    #[error("a context of {context} leaves nothing to score (at least 4)")]
    ContextTooSmall {
        /// Tokens of a chunk.
        context: usize,
    },
    /// A chunk is longer than the learned positions of the model.
    #[error("the model has learned {limit} positions, a context of {context} is too long")]
    ContextTooLarge {
        /// Tokens of a chunk.
        context: usize,
        /// Positions of the model.
        limit: usize,
    },
    /// The stride leaves nothing to score, or no token before the scored ones.
    #[error("a stride of {stride} for chunks of {context} tokens (1 to {})", context - 1)]
    Stride {
        /// Tokens between the beginnings of chunks.
        stride: usize,
        /// Tokens of a chunk.
        context: usize,
    },
    /// What was measured before is more than the text has, or than is wanted.
    #[error("{done} chunks are measured already, {total} are wanted")]
    TooMuchDone {
        /// Chunks measured.
        done: usize,
        /// Chunks of the text, or the most that are wanted.
        total: usize,
    },
    /// What was measured before does not have the sums of so many chunks.
    #[error("{found} tokens are scored in the {chunks} chunks measured already, and not {expected}")]
    OtherSums {
        /// Chunks measured.
        chunks: usize,
        /// Scored tokens.
        found: usize,
        /// Scored tokens of so many chunks.
        expected: usize,
    },
    /// A logit is NaN or infinite.
    #[error("the model computes NaN or infinity at position {position} of chunk {chunk}")]
    NotFinite {
        /// The chunk, from 1.
        chunk: usize,
        /// The position in the chunk.
        position: usize,
    },
}

/// Sums over the scored positions, added in the order of the text.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scores {
    /// Scored positions.
    pub count: usize,
    /// Sum of the negative log-likelihoods, in nats.
    pub nll: f64,
    /// Sum of their squares.
    pub squares: f64,
}

impl Scores {
    /// Adds the negative log-likelihood of a position.
    pub(crate) fn add(&mut self, nll: f64) {
        self.count += 1;
        self.nll += nll;
        self.squares += nll * nll;
    }

    /// Scored positions.
    pub(crate) fn count(self) -> usize {
        self.count
    }

    /// The perplexity; NaN where nothing is scored.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub fn perplexity(self) -> f64 {
        (self.nll / self.count as f64).exp()
    }

    /// The standard error of the perplexity.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub fn stderr(self) -> f64 {
        let n = self.count as f64;
        let mean = self.nll / n;
        let variance = (self.squares / n - mean * mean) / (n - 1.0);
        self.perplexity() * variance.max(0.0).sqrt()
    }
}

/// Measures the perplexity of `text` (without one newline at its end). `progress` is called after every forward pass, and stops
/// the measurement by returning false; the result is `None` then.
///
/// # Errors
/// When there is too little text, it cannot be encoded, or the model computes NaN or infinity.
pub fn perplexity(
    model: &Model,
    pool: &Pool,
    text: &str,
    options: &Options,
    progress: &mut dyn FnMut(Progress<'_>) -> bool,
) -> Result<Option<Outcome>, Error> {
    let mut measurement = Measurement::new(model, pool, text, options, Partial::default())?;
    while measurement.advance()? {
        if !progress(measurement.progress()) {
            return Ok(None);
        }
    }
    Ok(Some(measurement.outcome()))
}

/// The chunks of `text`, which start `stride` tokens after each other, with their first tokens unchanged.
fn windows(model: &Model, text: &str, context: usize, stride: usize) -> Result<Vec<Vec<u32>>, Error> {
    check_context(model, context)?;
    if stride == 0 || stride >= context {
        return Err(Error::Stride { stride, context });
    }
    let tokens = tokens(model, text, context, false)?;
    let count = (tokens.len() - context).div_ceil(stride);
    Ok((0..count).map(|i| tokens[i * stride..i * stride + context].to_vec()).collect())
}

/// All whole chunks of `text` (without one newline at its end), each with the begin-of-text token in place of its first token if
/// the model uses one. With `parse_special`, control tokens in the text are recognized.
///
/// # Errors
/// When there is too little text, it cannot be encoded, or the model does not predict tokens.
pub(crate) fn chunks(model: &Model, text: &str, context: usize, parse_special: bool) -> Result<Vec<Vec<u32>>, Error> {
    check_context(model, context)?;
    Ok(begun(model, &tokens(model, text, context, parse_special)?, context))
}

/// Checks that `model` can evaluate chunks of `context` tokens.
pub(crate) fn check_context(model: &Model, context: usize) -> Result<(), Error> {
    if !model.decoder().has_logits() {
        return Err(Error::NoLogits);
    }
    if context < 4 {
        return Err(Error::ContextTooSmall { context });
    }
    match model.decoder().learned_positions().filter(|&limit| limit < context) {
        Some(limit) => Err(Error::ContextTooLarge { context, limit }),
        None => Ok(()),
    }
}

/// The tokens of `text` (without one newline at its end), at least two chunks.
pub(crate) fn tokens(model: &Model, text: &str, context: usize, parse_special: bool) -> Result<Vec<u32>, Error> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let tokens = model.tokenizer().encode(text, EncodeOptions { add_special: true, parse_special })?;
    if tokens.len() < 2 * context {
        return Err(Error::TooShort { tokens: tokens.len(), needed: 2 * context, context });
    }
    Ok(tokens)
}

/// The whole chunks of `tokens`, each with the begin-of-text token in place of its first token if the model uses one.
pub(crate) fn begun(model: &Model, tokens: &[u32], context: usize) -> Vec<Vec<u32>> {
    let vocab = model.tokenizer().vocab();
    let bos = vocab.special.bos.filter(|_| vocab.add_bos);
    let with_bos = |chunk: &[u32]| {
        let mut chunk = chunk.to_vec();
        chunk[0] = bos.unwrap_or(chunk[0]);
        chunk
    };
    tokens.chunks_exact(context).map(with_bos).collect()
}

/// The hidden states at the `positions` of each chunk, chunk after chunk, `[chunks, positions, embedding]`; later positions are
/// not evaluated. A forward pass has up to `batch` tokens; a chunk longer than that is evaluated alone, in several passes.
pub(crate) fn hidden(
    model: &Model,
    run: Run<'_>,
    group: &[Vec<u32>],
    positions: Range<usize>,
    batch: usize,
    kv_type: KvType,
) -> Vec<f32> {
    let decoder = model.decoder();
    let (first, length) = (positions.start, positions.end);
    let fresh = |chunk: &Vec<u32>| decoder.sequence(SequenceOptions { kv_type, context_length: chunk.len() });
    let mut sequences: Vec<Sequence> = group.iter().map(fresh).collect();
    let mut rows = Vec::new();
    let step = batch.clamp(1, length);
    for start in (0..length).step_by(step) {
        let end = (start + step).min(length);
        let logits = if end > first { Rows::From(first.saturating_sub(start)) } else { Rows::None };
        let parts = sequences.iter_mut().zip(group);
        let mut parts: Vec<Part<'_>> =
            parts.map(|(sequence, chunk)| Part { sequence, tokens: &chunk[start..end], logits }).collect();
        rows.extend(decoder.hidden(run, &mut parts));
    }
    rows
}

/// The error for score `i`, counted over the scored positions from `first` on, after `done` chunks.
pub(crate) fn not_finite(i: usize, done: usize, first: usize, context: usize) -> Error {
    let scored = context - 1 - first;
    Error::NotFinite { chunk: done + i / scored + 1, position: first + i % scored }
}

/// The negative log-likelihood of each target, given its row of [`Decoder::hidden`](crate::cpu::Decoder::hidden).
pub(crate) fn score(model: &Model, run: Run<'_>, rows: &mut [f32], targets: &[u32]) -> Vec<f64> {
    let decoder = model.decoder();
    let (cols, vocab) = (decoder.embedding_length(), decoder.vocab_size());
    let together = (MAX_LOGITS_BYTES / (vocab * size_of::<f32>())).clamp(1, targets.len());
    let mut logits = vec![0.0; together * vocab];
    let mut scores = vec![0.0; targets.len()];
    let parts = rows.chunks_mut(together * cols).zip(targets.chunks(together)).zip(scores.chunks_mut(together));
    for ((rows, targets), scores) in parts {
        let logits = &mut logits[..targets.len() * vocab];
        decoder.logits(run, rows, logits);
        let each = logits.chunks_exact(vocab).zip(targets).zip(scores).collect();
        run.pool.run_each(each, &|((logits, &target), score): ((&[f32], &u32), &mut f64)| {
            let own = logits.get(target as usize).copied().unwrap_or(f32::NAN);
            *score = log_sum_exp(logits) - f64::from(own);
        });
    }
    scores
}
