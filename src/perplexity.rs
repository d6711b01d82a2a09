//! Perplexity of a text, by llama-perplexity's procedure, so that figures can be laid beside everyone else's.
//!
//! The text is cut into chunks of a context each; every chunk starts afresh, with the begin-of-text token in place of
//! its first where the model wants one; the second half of its positions is scored. With a stride, windows overlap, and each
//! scores the last tokens alone: every token has many before it.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::cpu::{KvType, Part, Rows, Run, Sequence, SequenceOptions};
use crate::kernels::{Pool, vector::log_sum_exp};
use crate::model::Model;
use crate::tokenizer::{self, EncodeOptions};

/// Bytes of logits held at once.
const MAX_LOGITS_BYTES: usize = 128 << 20;

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
    /// Chunks begin so many tokens after each other, and so many at their ends are scored. Their first tokens stay as they are.
    pub stride: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self { context: 512, batch: 2048, chunks: None, kv_type: KvType::F16, stride: None }
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

/// A token of the text, and how likely the model has found it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenScore {
    /// Its place among the tokens of the text.
    pub place: usize,
    /// The token.
    pub token: u32,
    /// Negative log-likelihood, in nats.
    pub nll: f64,
}

/// How far a measurement is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress<'a> {
    /// Chunks done.
    pub done: usize,
    /// All chunks.
    pub total: usize,
    /// The perplexity so far; not a number before the first chunk.
    pub perplexity: f64,
    /// The tokens that the last forward pass has scored.
    pub scores: &'a [TokenScore],
}

/// Why perplexity cannot be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text cannot be encoded.
    #[error("tokenizer: {0}")]
    Tokenizer(#[from] tokenizer::Error),
    /// An encoder, whose hidden states become no logits.
    #[error("the model makes embeddings: it predicts no tokens")]
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
    /// A stride that leaves nothing to score, or no token before what is scored.
    #[error("a stride of {stride} for chunks of {context} tokens (1 to {})", context - 1)]
    Stride {
        /// Tokens between the beginnings of chunks.
        stride: usize,
        /// Tokens of a chunk.
        context: usize,
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
pub(crate) struct Scores {
    count: usize,
    nll: f64,
    squares: f64,
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

    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub(crate) fn perplexity(self) -> f64 {
        (self.nll / self.count as f64).exp()
    }

    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub(crate) fn stderr(self) -> f64 {
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
    progress: &mut dyn FnMut(Progress<'_>) -> bool,
) -> Result<Option<Outcome>, Error> {
    let context = options.context;
    let (mut chunks, first, step) = match options.stride {
        None => (chunks(model, text, context, false)?, context / 2, context),
        Some(stride) => (windows(model, text, context, stride)?, context - 1 - stride, stride),
    };
    chunks.truncate(options.chunks.unwrap_or(usize::MAX));
    let total = chunks.len();
    let start = Instant::now();
    let mut sums = Scores::default();
    let mut done = 0;
    for group in chunks.chunks((options.batch / context).max(1)) {
        // Nothing follows a chunk's last token.
        let mut rows = hidden(model, model.run(pool), group, first..context - 1, options.batch, options.kv_type);
        let targets: Vec<u32> = group.iter().flat_map(|chunk| &chunk[first + 1..]).copied().collect();
        let mut scores = Vec::with_capacity(targets.len());
        for (i, nll) in score(model, model.run(pool), &mut rows, &targets).into_iter().enumerate() {
            if !nll.is_finite() {
                return Err(not_finite(i, done, first, context));
            }
            sums.add(nll);
            let (chunk, position) = (done + i / (context - 1 - first), i % (context - 1 - first));
            scores.push(TokenScore { place: chunk * step + first + 1 + position, token: targets[i], nll });
        }
        done += group.len();
        if !progress(Progress { done, total, perplexity: sums.perplexity(), scores: &scores }) {
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

/// The chunks of `text` that begin `stride` tokens after each other, as the text has them.
fn windows(model: &Model, text: &str, context: usize, stride: usize) -> Result<Vec<Vec<u32>>, Error> {
    check_context(model, context)?;
    if stride == 0 || stride >= context {
        return Err(Error::Stride { stride, context });
    }
    let tokens = tokens(model, text, context, false)?;
    let count = (tokens.len() - context).div_ceil(stride);
    Ok((0..count).map(|i| tokens[i * stride..i * stride + context].to_vec()).collect())
}

/// All whole chunks of `text` (without one newline at its end), each with the begin-of-text token in place of its first
/// where the model wants one. `parse_special`: control tokens in the text are such, and not text.
///
/// # Errors
/// When there is too little text, it cannot be encoded, or the model predicts no tokens.
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

/// The tokens of `text` (without one newline at its end), of which there are two chunks at least.
pub(crate) fn tokens(model: &Model, text: &str, context: usize, parse_special: bool) -> Result<Vec<u32>, Error> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let tokens = model.tokenizer().encode(text, EncodeOptions { add_special: true, parse_special })?;
    if tokens.len() < 2 * context {
        return Err(Error::TooShort { tokens: tokens.len(), needed: 2 * context, context });
    }
    Ok(tokens)
}

/// The whole chunks of `tokens`, each with the begin-of-text token in place of its first where the model wants one.
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

/// What the decoder makes of the `positions` of each chunk, chunk after chunk, `[chunks, positions, embedding]`; those behind are
/// not evaluated. A forward pass takes `batch` tokens: a context longer than that has one chunk in its group, and takes steps.
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

/// The error for score `i` of those of the positions from `first` on that have a token to predict, after `done` chunks.
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
