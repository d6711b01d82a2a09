//! One conversation with a model: tokens in, logits out, the cache kept in between.

use std::sync::Arc;
use std::time::Instant;

use super::prefix_cache::common;
use super::speculation::{Draft, DraftRequest, Speculation};
use super::{Error, SpeculationOptions};
use crate::cpu::{Decoder, KvType, PagePool, Part, RollbackPoint, Rows, Sequence, SequenceOptions};
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
    speculation: Option<Speculation>,
    drafted: usize,
    accepted: usize,
}

/// A forward pass over the end of a text and a draft of what comes next.
pub(super) struct Pass {
    /// Logits after the text and after each token of the draft, `[1 + draft, vocab]`.
    pub(super) logits: Vec<f32>,
    /// Number of tokens of the text.
    len: usize,
    /// The drafted tokens, which may be rejected.
    pub(super) draft: Draft,
    /// The end of the text; `None` without a draft.
    rollback: Option<RollbackPoint>,
}

impl Pass {
    /// A pass without a draft, with the logits after a text of `len` tokens.
    pub(super) fn without_draft(logits: Vec<f32>, len: usize) -> Self {
        Self { logits, len, draft: Draft::default(), rollback: None }
    }
}

impl Session {
    /// An empty session.
    #[must_use]
    pub fn new(model: Arc<Model>, pool: Arc<Pool>, options: SessionOptions) -> Self {
        let wanted = options.context_length.unwrap_or_else(|| model.hparams().context_length);
        let context_length = model.decoder().learned_positions().map_or(wanted, |limit| wanted.min(limit));
        let sequence = model.decoder().sequence(SequenceOptions { kv_type: options.kv_type, context_length });
        Self {
            model,
            pool,
            sequence,
            tokens: Vec::new(),
            context_length,
            options,
            speculation: None,
            drafted: 0,
            accepted: 0,
        }
    }

    /// Sets whether and how tokens are drafted. The answers stay the same, only their speed changes.
    pub fn speculate(&mut self, options: &SpeculationOptions) {
        let sequence = SequenceOptions { kv_type: self.options.kv_type, context_length: self.context_length };
        let (vocab_size, pages) = (self.model.decoder().vocab_size(), PagePool::unlimited());
        self.speculation = Speculation::new(options, vocab_size, sequence, &pages);
        if let Some(own) = &options.own {
            own.follow(&mut self.sequence, sequence, &pages);
        }
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

    /// Number of tokens that were drafted since the session began, and of those that were accepted.
    #[must_use]
    pub fn drafted(&self) -> (usize, usize) {
        (self.drafted, self.accepted)
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

    /// Evaluates the rest of `text`, which begins with the session's tokens and has at least one more, and a draft of up to
    /// `max_draft` tokens. [`Self::finish_pass`] must follow.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub(super) fn start_pass(&mut self, text: &[u32], max_draft: usize) -> Result<Pass, Error> {
        let known = self.tokens.len();
        self.check(&text[known..])?;
        let mut draft = Draft::default();
        if let Some(speculation) = &mut self.speculation {
            let max_tokens = max_draft.min(self.context_length - text.len());
            let rows = text.len() - known;
            let sequence = &mut self.sequence;
            let request = DraftRequest { text_id: 0, salt: 0, store: false, tokens: text, rows, max_tokens, sequence };
            draft = speculation.draft(&self.pool, &mut [request], &mut || false).pop().unwrap_or_default();
        }
        let rollback = (!draft.tokens.is_empty()).then(|| self.sequence.rollback_point());
        let tokens = [&text[known..], &draft.tokens].concat();
        let began = Instant::now();
        let logits = self.forward(&tokens, Rows::From(text.len() - known - 1));
        if let Some(speculation) = &mut self.speculation {
            speculation.learn_time(tokens.len(), began.elapsed());
        }
        Ok(Pass { logits, len: text.len(), draft, rollback })
    }

    /// Keeps the first `accepted` tokens of a pass's draft, and removes the others. `rejected` says that the text continued with
    /// another token than the next one of the draft; otherwise it ended before.
    pub(super) fn finish_pass(&mut self, pass: Pass, accepted: usize, rejected: bool) {
        let Some(rollback) = pass.rollback else { return };
        let len = self.sequence.roll_back(rollback, pass.len + accepted);
        self.tokens.truncate(len);
        self.drafted += pass.draft.tokens.len();
        self.accepted += accepted;
        if let Some(speculation) = &mut self.speculation {
            speculation.learn(0, &pass.draft, accepted, rejected);
        }
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
