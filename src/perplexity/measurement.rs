//! Measuring a text pass by pass: it can be stopped after each, and go on later.

use std::time::{Duration, Instant};

use super::{Error, Options, Outcome, Progress, Scores, TokenScore, chunks, hidden, not_finite, score, windows};
use crate::kernels::Pool;
use crate::model::Model;

/// What has been measured of a text so far. The sums are exact: a measurement that goes on from here ends with the same bits as one that
/// was never stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Partial {
    /// Chunks done.
    pub chunks: usize,
    /// Sums over their scored positions.
    pub scores: Scores,
    /// Time for the evaluation.
    pub time: Duration,
}

/// A text that is being measured.
pub struct Measurement<'a> {
    model: &'a Model,
    pool: &'a Pool,
    options: Options,
    chunks: Vec<Vec<u32>>,
    /// The first position of a chunk whose prediction is scored.
    first: usize,
    /// Tokens between the beginnings of chunks.
    step: usize,
    partial: Partial,
    latest: Vec<TokenScore>,
}

impl<'a> Measurement<'a> {
    /// Begins with `text` (without one newline at its end), after what is done of it already.
    ///
    /// # Errors
    /// When there is too little text, it cannot be encoded, or `done` cannot be of this text and these options.
    pub fn new(model: &'a Model, pool: &'a Pool, text: &str, options: &Options, done: Partial) -> Result<Self, Error> {
        let context = options.context;
        let (mut chunks, first, step) = match options.stride {
            None => (chunks(model, text, context, false)?, context / 2, context),
            Some(stride) => (windows(model, text, context, stride)?, context - 1 - stride, stride),
        };
        chunks.truncate(options.chunks.unwrap_or(usize::MAX));
        if done.chunks > chunks.len() {
            return Err(Error::TooMuchDone { done: done.chunks, total: chunks.len() });
        }
        let expected = done.chunks * (context - 1 - first);
        if done.scores.count != expected {
            return Err(Error::OtherSums { chunks: done.chunks, found: done.scores.count, expected });
        }
        Ok(Self { model, pool, options: options.clone(), chunks, first, step, partial: done, latest: Vec::new() })
    }

    /// Evaluates the next chunks, as many as fit a forward pass. Returns whether there were any.
    ///
    /// # Errors
    /// When the model computes NaN or infinity.
    pub fn advance(&mut self) -> Result<bool, Error> {
        let (context, batch, first) = (self.options.context, self.options.batch, self.first);
        let done = self.partial.chunks;
        let group = &self.chunks[done..(done + (batch / context).max(1)).min(self.chunks.len())];
        if group.is_empty() {
            return Ok(false);
        }
        let start = Instant::now();
        // No token follows the last one of a chunk.
        let run = self.model.run(self.pool);
        let mut rows = hidden(self.model, run, group, first..context - 1, batch, self.options.kv_type);
        let targets: Vec<u32> = group.iter().flat_map(|chunk| &chunk[first + 1..]).copied().collect();
        let per_chunk = context - 1 - first;
        let mut sums = self.partial.scores;
        self.latest.clear();
        for (i, nll) in score(self.model, run, &mut rows, &targets).into_iter().enumerate() {
            if !nll.is_finite() {
                return Err(not_finite(i, done, first, context));
            }
            sums.add(nll);
            let place = (done + i / per_chunk) * self.step + first + 1 + i % per_chunk;
            self.latest.push(TokenScore { place, token: targets[i], nll });
        }
        self.partial = Partial { chunks: done + group.len(), scores: sums, time: self.partial.time + start.elapsed() };
        Ok(true)
    }

    /// The progress so far.
    #[must_use]
    pub fn progress(&self) -> Progress<'_> {
        let perplexity = self.partial.scores.perplexity();
        Progress { done: self.partial.chunks, total: self.chunks.len(), perplexity, scores: &self.latest }
    }

    /// What has been measured so far.
    #[must_use]
    pub fn partial(&self) -> Partial {
        self.partial
    }

    /// The figures of what has been measured so far.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let Partial { chunks, scores, time } = self.partial;
        let context = self.options.context;
        Outcome {
            perplexity: scores.perplexity(),
            stderr: scores.stderr(),
            tokens: chunks * context,
            chunks,
            context,
            time,
        }
    }
}
