//! One conversation with a model: tokens in, logits out, the cache kept in between.

use std::sync::Arc;

use super::Error;
use crate::cpu::{Decoder, KvType, Part, Rows, Sequence, SequenceOptions};
use crate::kernels::Pool;
use crate::model::Model;

/// Settings of a [`Session`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// Most tokens that the session may hold; the model's own context length when `None`. Never more than the
    /// positions that the model has learned, where it has learned each by itself. In models with other rotary
    /// frequencies for long contexts, this says which are taken.
    pub context_length: Option<usize>,
    /// Most tokens a forward pass; longer prompts are split.
    pub batch_size: usize,
    /// Type of cached keys and values.
    pub kv_type: KvType,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { context_length: None, batch_size: 512, kv_type: KvType::F16 }
    }
}

/// A model, a pool of threads and the state of one sequence.
pub struct Session {
    model: Arc<Model>,
    pool: Arc<Pool>,
    sequence: Sequence,
    tokens: Vec<u32>,
    context_length: usize,
    options: SessionOptions,
}

impl Session {
    /// An empty session.
    #[must_use]
    pub fn new(model: Arc<Model>, pool: Arc<Pool>, options: SessionOptions) -> Self {
        let wanted = options.context_length.unwrap_or_else(|| model.hparams().context_length);
        let context_length = model.decoder().learned_positions().map_or(wanted, |limit| wanted.min(limit));
        let sequence = model.decoder().sequence(SequenceOptions { kv_type: options.kv_type, context_length });
        Self { model, pool, sequence, tokens: Vec::new(), context_length, options }
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The tokens seen so far.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The types of cached keys and values.
    #[must_use]
    pub fn kv_type(&self) -> KvType {
        self.options.kv_type
    }

    /// The state of the model after the tokens.
    pub(super) fn sequence(&self) -> &Sequence {
        &self.sequence
    }

    pub(super) fn sequence_mut(&mut self) -> &mut Sequence {
        &mut self.sequence
    }

    /// Sets the tokens that belong to the state of the sequence.
    pub(super) fn set_tokens(&mut self, tokens: Vec<u32>) {
        debug_assert_eq!(tokens.len(), self.sequence.len());
        self.tokens = tokens;
    }

    /// Most tokens that the session may hold.
    #[must_use]
    pub fn context_length(&self) -> usize {
        self.context_length
    }

    /// Bytes of the session's cache.
    #[must_use]
    pub fn cache_bytes(&self) -> usize {
        self.sequence.bytes()
    }

    /// Brings the session to exactly `tokens`: keeps what the cache already holds of them, forgets what differs,
    /// and evaluates the rest. `keep_going` is asked between batches. Returns the logits after the last token,
    /// `[vocab]`, and how many tokens had to be evaluated; `None` when stopped, with the session at a batch's end.
    ///
    /// # Errors
    /// [`Error::ContextFull`] when `tokens` are more than the context, [`Error::NoTokens`] when there are none.
    pub fn advance_to(
        &mut self,
        tokens: &[u32],
        keep_going: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Option<(Vec<f32>, usize)>, Error> {
        let common = common(&self.tokens, tokens);
        // The last token is evaluated again when all are known: its logits are what is asked for.
        let kept = common.min(tokens.len().saturating_sub(1));
        if kept < self.tokens.len() {
            self.truncate(kept);
        }
        let kept = self.tokens.len();
        let rest = &tokens[kept..];
        Ok(self.evaluate(rest, keep_going)?.map(|logits| (logits, rest.len())))
    }

    /// How many of `tokens` [`Self::advance_to`] would evaluate.
    #[must_use]
    pub fn missing(&self, tokens: &[u32]) -> usize {
        let common = common(&self.tokens, tokens);
        tokens.len() - common.min(tokens.len().saturating_sub(1))
    }

    /// Appends `tokens` and returns the logits after the last, `[vocab]`; `None` when `keep_going`, asked between
    /// batches with the number of tokens done, said stop.
    ///
    /// # Errors
    /// [`Error::ContextFull`] when the context has no room for them, [`Error::NoTokens`] when there are none.
    pub fn evaluate(
        &mut self,
        tokens: &[u32],
        keep_going: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Option<Vec<f32>>, Error> {
        self.check(tokens)?;
        let mut logits = Vec::new();
        let mut done = 0;
        for batch in tokens.chunks(self.options.batch_size.max(1)) {
            if done > 0 && !keep_going(done) {
                return Ok(None);
            }
            done += batch.len();
            let rows = if done == tokens.len() { Rows::Last } else { Rows::None };
            logits = self.forward(batch, rows);
        }
        Ok(Some(logits))
    }

    /// Appends `tokens` and returns the logits after each of them, `[tokens, vocab]`.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn evaluate_all(&mut self, tokens: &[u32]) -> Result<Vec<f32>, Error> {
        self.check(tokens)?;
        let mut logits = Vec::with_capacity(tokens.len() * self.model.decoder().vocab_size());
        for batch in tokens.chunks(self.options.batch_size.max(1)) {
            logits.extend(self.forward(batch, Rows::From(0)));
        }
        Ok(logits)
    }

    /// Forgets all tokens from position `len` on; everything, where the model's state cannot go back.
    pub fn truncate(&mut self, len: usize) {
        if len >= self.tokens.len() {
            return;
        }
        if self.sequence.truncate(len) {
            self.tokens.truncate(len);
        } else {
            self.clear();
        }
    }

    /// Removes all tokens. The memory stays for later use.
    pub fn clear(&mut self) {
        self.sequence.truncate(0);
        self.tokens.clear();
    }

    fn check(&self, tokens: &[u32]) -> Result<(), Error> {
        let decoder = self.model.decoder();
        if !decoder.has_logits() {
            return Err(Error::NoLogits);
        }
        check_tokens(decoder, tokens, self.tokens.len(), self.context_length)
    }

    fn forward(&mut self, tokens: &[u32], logits: Rows) -> Vec<f32> {
        let mut parts = [Part { sequence: &mut self.sequence, tokens, logits }];
        let out = self.model.decoder().forward(self.model.run(&self.pool), &mut parts);
        self.tokens.extend_from_slice(tokens);
        out
    }
}

/// Fails where a sequence of `held` tokens cannot be gone on with by `tokens`.
///
/// # Errors
/// [`Error::NoTokens`], [`Error::ContextFull`] and [`Error::UnknownToken`].
pub(super) fn check_tokens(decoder: &Decoder, tokens: &[u32], held: usize, context_length: usize) -> Result<(), Error> {
    if tokens.is_empty() {
        return Err(Error::NoTokens);
    }
    let needed = held + tokens.len();
    if needed > context_length {
        return Err(Error::ContextFull { needed, context_length });
    }
    let vocab_size = decoder.vocab_size();
    match tokens.iter().find(|&&token| token as usize >= vocab_size) {
        Some(&token) => Err(Error::UnknownToken { token, vocab_size }),
        None => Ok(()),
    }
}

/// Number of tokens that both begin with.
pub(super) fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
