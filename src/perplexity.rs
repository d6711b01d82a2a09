//! Perplexity of a text, by llama-perplexity's procedure, so that figures can be laid beside everyone else's.
//!
//! The text is cut into chunks of a context each; every chunk starts afresh, with the begin-of-text token in place of
//! its first where the model wants one; the second half of its positions is scored.

use std::time::{Duration, Instant};

use crate::kernels::Pool;
use crate::model::Model;
use crate::nn::{KvType, Part, Rows, Sequence, SequenceOptions};
use crate::tokenizer::{self, EncodeOptions};

/// Bytes of logits held at once.
const MAX_LOGITS_BYTES: usize = 256 << 20;

/// How perplexity is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Tokens of a chunk.
    pub context: usize,
    /// Tokens of a forward pass; as many chunks as fit share it.
    pub batch: usize,
    /// Most chunks.
    pub chunks: Option<usize>,
    /// Type of cached keys and values.
    pub kv_type: KvType,
}

impl Default for Options {
    fn default() -> Self {
        Self { context: 512, batch: 2048, chunks: None, kv_type: KvType::F16 }
    }
}

/// What was measured.
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

/// How far a measurement is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Chunks done.
    pub done: usize,
    /// All chunks.
    pub total: usize,
    /// The perplexity so far; not a number before the first chunk.
    pub perplexity: f64,
}

/// Why perplexity cannot be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text cannot be encoded.
    #[error("tokenizer: {0}")]
    Tokenizer(#[from] tokenizer::Error),
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
    /// A chunk that leaves nothing to score.
    #[error("a context of {context} leaves nothing to score (at least 4)")]
    ContextTooSmall {
        /// Tokens of a chunk.
        context: usize,
    },
    /// A chunk longer than the positions that the model has learned.
    #[error("the model has learned {limit} positions, a context of {context} is too long")]
    ContextTooLarge {
        /// Tokens of a chunk.
        context: usize,
        /// Positions of the model.
        limit: usize,
    },
    /// A logit that is no number.
    #[error("the model computes what is no number at position {position} of chunk {chunk}")]
    NotFinite {
        /// The chunk, from 1.
        chunk: usize,
        /// The position in it.
        position: usize,
    },
}

/// Sums over the scored positions.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    count: usize,
    nll: f64,
    squares: f64,
}

impl Sums {
    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    fn perplexity(self) -> f64 {
        (self.nll / self.count as f64).exp()
    }

    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    fn stderr(self) -> f64 {
        let n = self.count as f64;
        let mean = self.nll / n;
        let variance = (self.squares / n - mean * mean) / (n - 1.0);
        self.perplexity() * variance.max(0.0).sqrt()
    }
}

/// Measures the perplexity of `text` (without one newline at its end). `progress` is told after every forward pass,
/// and stops the measurement by returning false; then the result is `None`.
///
/// # Errors
/// When there is too little text, it cannot be encoded, or the model computes what is no number.
pub fn perplexity(
    model: &Model,
    pool: &Pool,
    text: &str,
    options: &Options,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<Option<Outcome>, Error> {
    let context = options.context;
    if context < 4 {
        return Err(Error::ContextTooSmall { context });
    }
    if let Some(limit) = model.decoder().learned_positions().filter(|&limit| limit < context) {
        return Err(Error::ContextTooLarge { context, limit });
    }
    let text = text.strip_suffix('\n').unwrap_or(text);
    let encode = EncodeOptions { add_special: true, parse_special: false };
    let tokens = model.tokenizer().encode(text, encode)?;
    if tokens.len() < 2 * context {
        return Err(Error::TooShort { tokens: tokens.len(), needed: 2 * context, context });
    }
    let total = (tokens.len() / context).min(options.chunks.unwrap_or(usize::MAX));
    let vocab = model.tokenizer().vocab();
    let bos = vocab.special.bos.filter(|_| vocab.add_bos);
    let first = context / 2;
    let row_bytes = (context - first) * model.decoder().vocab_size() * size_of::<f32>();
    let together = (options.batch / context).min(MAX_LOGITS_BYTES / row_bytes.max(1)).max(1);
    let chunks: Vec<Vec<u32>> = tokens
        .chunks_exact(context)
        .take(total)
        .map(|chunk| {
            let mut chunk = chunk.to_vec();
            chunk[0] = bos.unwrap_or(chunk[0]);
            chunk
        })
        .collect();
    let start = Instant::now();
    let mut sums = Sums::default();
    let mut done = 0;
    for group in chunks.chunks(together) {
        for (i, chunk) in group.iter().zip(evaluate(model, pool, group, first, options)).enumerate() {
            let (chunk, logits) = chunk;
            score(model, pool, chunk, &logits, first, done + i + 1, &mut sums)?;
        }
        done += group.len();
        if !progress(Progress { done, total, perplexity: sums.perplexity() }) {
            return Ok(None);
        }
    }
    Ok(Some(Outcome {
        perplexity: sums.perplexity(),
        stderr: sums.stderr(),
        tokens: total * context,
        chunks: total,
        context,
        time: start.elapsed(),
    }))
}

/// Logits of the scored rows of each chunk, `[context - first, vocab]`.
fn evaluate(model: &Model, pool: &Pool, group: &[Vec<u32>], first: usize, options: &Options) -> Vec<Vec<f32>> {
    let decoder = model.decoder();
    let fresh = || decoder.sequence(SequenceOptions { kv_type: options.kv_type, context_length: options.context });
    let mut sequences: Vec<Sequence> = group.iter().map(|_| fresh()).collect();
    let mut rows: Vec<Vec<f32>> = vec![Vec::new(); group.len()];
    // A context longer than a batch is evaluated in steps.
    let step = options.batch.clamp(1, options.context);
    for start in (0..options.context).step_by(step) {
        let end = (start + step).min(options.context);
        let mut parts: Vec<Part<'_>> = sequences
            .iter_mut()
            .zip(group)
            .map(|(sequence, chunk)| Part {
                sequence,
                tokens: &chunk[start..end],
                logits: if end > first { Rows::From(first.saturating_sub(start)) } else { Rows::None },
            })
            .collect();
        let logits = decoder.forward(pool, &mut parts);
        if !logits.is_empty() {
            let each = logits.len() / group.len();
            for (rows, logits) in rows.iter_mut().zip(logits.chunks_exact(each)) {
                rows.extend_from_slice(logits);
            }
        }
    }
    rows
}

/// Adds a chunk's scores: each row from `first` on predicts the token after it.
fn score(
    model: &Model,
    pool: &Pool,
    chunk: &[u32],
    logits: &[f32],
    first: usize,
    number: usize,
    sums: &mut Sums,
) -> Result<(), Error> {
    let vocab = model.decoder().vocab_size();
    let targets = &chunk[first + 1..];
    let scores: Vec<std::sync::Mutex<f64>> = targets.iter().map(|_| std::sync::Mutex::new(0.0)).collect();
    pool.run(targets.len(), &|i| {
        let nll = negative_log_likelihood(&logits[i * vocab..(i + 1) * vocab], targets[i]);
        *scores[i].lock().unwrap_or_else(std::sync::PoisonError::into_inner) = nll;
    });
    for (i, nll) in scores.into_iter().enumerate() {
        let nll = nll.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !nll.is_finite() {
            return Err(Error::NotFinite { chunk: number, position: first + i });
        }
        sums.count += 1;
        sums.nll += nll;
        sums.squares += nll * nll;
    }
    Ok(())
}

fn negative_log_likelihood(logits: &[f32], target: u32) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|x| f64::from((x - max).exp())).sum();
    let own = logits.get(target as usize).copied().unwrap_or(f32::NAN);
    -(f64::from(own - max) - sum.ln())
}
