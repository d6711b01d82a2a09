//! Drafts by a smaller model: its likeliest tokens, one after the other, for all texts of a pass together.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::{CONFIDENCES, Confidence, Draft, DraftRequest, Drafter};
use crate::cpu::{PagePool, Part, RollbackPoint, Rows, Sequence, SequenceOptions};
use crate::engine::prefix_cache::{PrefixCache, common};
use crate::engine::sampler::likeliest;
use crate::kernels::Pool;
use crate::model::Model;

/// Maximum number of tokens that the draft model reads before it drafts. It reads longer prompts over several passes of the
/// large model, without drafting.
const MAX_READ: usize = 256;

/// A draft model and its states.
pub(super) struct ModelDrafter {
    model: Arc<Model>,
    /// Number of tokens that are in both vocabularies.
    shared_tokens: usize,
    context_length: usize,
    /// A sequence without tokens.
    empty: Sequence,
    /// States of the current texts, by their ids.
    states: HashMap<u64, State>,
    /// States of texts that have ended.
    stored: PrefixCache,
    /// Current texts that get no more drafts, since there was no memory for their states.
    released: HashSet<u64>,
    /// Seconds of drafting one token for one text: a running average.
    seconds: f64,
}

/// The state of the draft model for one text.
struct State {
    sequence: Sequence,
    /// The tokens of `sequence`: those of the text, then perhaps some of its last draft.
    tokens: Vec<u32>,
    /// The end of the text when the last draft was made.
    before_draft: Option<RollbackPoint>,
    salt: u64,
    store: bool,
}

impl State {
    /// Removes what differs from `text`, and the last token of `text` if it is there: its logits are needed.
    fn align(&mut self, text: &[u32], empty: &Sequence) {
        let known = common(&self.tokens, text).min(text.len().saturating_sub(1));
        if let Some(point) = self.before_draft.take() {
            let len = known.max(point.len());
            self.sequence.roll_back(point, len);
        }
        if known < self.sequence.len() && !self.sequence.truncate(known) {
            self.sequence = empty.clone();
        }
        self.tokens.truncate(self.sequence.len());
    }
}

impl ModelDrafter {
    /// Lets `model` draft for a model with `vocab_size` tokens whose sequences have these options, with states from `pages`.
    pub(super) fn new(model: Arc<Model>, vocab_size: usize, mut options: SequenceOptions, pages: &PagePool) -> Self {
        let decoder = model.decoder();
        let positions = decoder.learned_positions().unwrap_or(usize::MAX);
        options.context_length = options.context_length.min(positions);
        let shared_tokens = decoder.vocab_size().min(vocab_size);
        let empty = decoder.sequence_within(pages, options);
        Self {
            model,
            shared_tokens,
            context_length: options.context_length,
            empty,
            states: HashMap::new(),
            stored: PrefixCache::default(),
            released: HashSet::new(),
            seconds: 0.0,
        }
    }

    /// Tokens of a text that the draft model reads next, at most `max_read`; whether these are all that it has still to read; and
    /// how many tokens its context holds besides the text. `None` if it cannot read the text, or there is no memory for it.
    fn next_tokens(
        &mut self,
        request: &DraftRequest<'_>,
        max_read: usize,
        evict: &mut dyn FnMut() -> bool,
    ) -> Option<(Vec<u32>, bool, usize)> {
        let room = self.context_length.checked_sub(request.tokens.len())?;
        if self.released.contains(&request.text_id) {
            return None;
        }
        let (empty, stored, salt) = (&self.empty, &mut self.stored, request.salt);
        let state = self.states.entry(request.text_id).or_insert_with(|| {
            let found = if request.store { stored.find(salt, request.tokens) } else { None };
            let sequence = found.unwrap_or_else(|| empty.clone());
            let tokens = request.tokens[..sequence.len()].to_vec();
            State { sequence, tokens, before_draft: None, salt, store: request.store }
        });
        state.align(request.tokens, empty);
        let missing = &request.tokens[state.tokens.len()..];
        let next = &missing[..missing.len().min(max_read)];
        // A padded vocabulary has tokens that the draft model does not know.
        if next.iter().any(|&token| token as usize >= self.shared_tokens) {
            return None;
        }
        while state.sequence.reserve(next.len()).is_err() {
            if !stored.evict() && !evict() {
                return None;
            }
        }
        Some((next.to_vec(), next.len() == missing.len(), room))
    }

    /// Evaluates tokens of texts, given by their ids. Returns the likeliest next token, with its probability, for each text with
    /// output rows.
    fn pass(&mut self, pool: &Pool, reading: &[(u64, Vec<u32>, Rows)]) -> Vec<(u32, f32)> {
        let mut parts = Vec::new();
        let mut states: HashMap<u64, &mut State> = self.states.iter_mut().map(|(id, state)| (*id, state)).collect();
        for (id, tokens, logits) in reading {
            if let Some(state) = states.remove(id) {
                state.tokens.extend(tokens);
                parts.push(Part { sequence: &mut state.sequence, tokens, logits: *logits });
            }
        }
        if parts.is_empty() {
            return Vec::new();
        }
        let decoder = self.model.decoder();
        let logits = decoder.forward(self.model.run(pool), &mut parts);
        logits.chunks_exact(decoder.vocab_size()).map(|row| most_likely(&row[..self.shared_tokens])).collect()
    }
}

/// The likeliest token and its probability.
pub(super) fn most_likely(logits: &[f32]) -> (u32, f32) {
    let token = likeliest(logits);
    let highest = logits[token as usize];
    let sum: f32 = logits.iter().map(|logit| (logit - highest).exp()).filter(|p| !p.is_nan()).sum();
    (token, 1.0 / sum.max(1.0))
}

/// How sure a model is of a token that it gives the probability `p`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a probability")]
pub(super) fn confidence(p: f32) -> Confidence {
    (p * CONFIDENCES as f32) as usize
}

/// The share of tokens of this [`confidence`] that is expected to be accepted: their probability.
#[allow(clippy::cast_precision_loss, reason = "a small number")]
pub(super) fn default_rate(confidence: Confidence) -> f64 {
    (confidence as f64 + 0.5) / CONFIDENCES as f64
}

impl Drafter for ModelDrafter {
    fn default_rate(&self, confidence: Confidence) -> f64 {
        default_rate(confidence)
    }

    fn draft(
        &mut self,
        pool: &Pool,
        requests: &mut [DraftRequest<'_>],
        drafts: &mut [Draft],
        worth: &mut dyn FnMut(usize, &[Confidence], f64) -> bool,
        evict: &mut dyn FnMut() -> bool,
    ) {
        let mut left = MAX_READ;
        let (mut reading, mut drafting) = (Vec::new(), Vec::new());
        for (i, request) in requests.iter().enumerate() {
            if request.max_tokens == 0 || !drafts[i].tokens.is_empty() || !worth(i, &[], self.seconds) {
                continue;
            }
            let Some((tokens, is_ready, room)) = self.next_tokens(request, left, evict) else { continue };
            left -= tokens.len();
            if is_ready {
                drafting.push((i, request.max_tokens.min(room)));
            }
            if !tokens.is_empty() {
                reading.push((request.text_id, tokens, if is_ready { Rows::Last } else { Rows::None }));
            }
        }
        let mut next = self.pass(pool, &reading);
        for (i, _) in &drafting {
            if let Some(state) = self.states.get_mut(&requests[*i].text_id) {
                state.before_draft = Some(state.sequence.rollback_point());
            }
        }
        while !drafting.is_empty() {
            for ((i, _), (token, p)) in drafting.iter().zip(&next) {
                drafts[*i].push(*token, confidence(*p));
            }
            let (states, stored, seconds) = (&mut self.states, &mut self.stored, self.seconds);
            let mut has_memory = |id: &u64| {
                let Some(state) = states.get_mut(id) else { return false };
                loop {
                    if state.sequence.reserve(1).is_ok() {
                        return true;
                    }
                    if !stored.evict() && !evict() {
                        return false;
                    }
                }
            };
            drafting.retain(|&(i, most)| {
                drafts[i].tokens.len() < most
                    && worth(i, &drafts[i].confidences, seconds)
                    && has_memory(&requests[i].text_id)
            });
            let last = |&(i, _): &(usize, usize)| {
                (requests[i].text_id, drafts[i].tokens.last().copied().into_iter().collect(), Rows::Last)
            };
            let reading: Vec<(u64, Vec<u32>, Rows)> = drafting.iter().map(last).collect();
            let began = Instant::now();
            next = self.pass(pool, &reading);
            if !reading.is_empty() {
                #[allow(clippy::cast_precision_loss, reason = "few texts")]
                let took = began.elapsed().as_secs_f64() / reading.len() as f64;
                self.seconds += (took - self.seconds) * if self.seconds == 0.0 { 1.0 } else { 0.1 };
            }
        }
    }

    fn retain(&mut self, texts: &HashSet<u64>) {
        self.released.retain(|id| texts.contains(id));
        let ended: Vec<u64> = self.states.keys().filter(|id| !texts.contains(id)).copied().collect();
        for mut state in ended.into_iter().filter_map(|id| self.states.remove(&id)) {
            if let Some(point) = state.before_draft.take() {
                // The tokens of the last draft may have been rejected.
                let len = point.len();
                state.sequence.roll_back(point, len);
                state.tokens.truncate(len);
            }
            if state.store {
                self.stored.insert(state.salt, &state.tokens, state.sequence);
            }
        }
    }

    fn evict(&mut self) -> bool {
        self.stored.evict()
    }

    fn release(&mut self) -> bool {
        let texts = self.states.len();
        self.released.extend(self.states.drain().map(|(id, _)| id));
        texts > 0
    }
}
