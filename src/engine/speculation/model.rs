//! Drafts by a smaller model: its likeliest tokens, one after the other, for all texts of a pass together.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::{CONFIDENCES, Confidence, Draft, DraftRequest, Drafter};
use crate::cpu::{Part, RollbackPoint, Rows, Sequence, SequenceOptions};
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
    options: SequenceOptions,
    /// States of the current texts, by their ids.
    states: HashMap<u64, State>,
    /// States of texts that have ended.
    stored: PrefixCache,
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
    /// Lets `model` draft for a model with `vocab_size` tokens whose sequences have these options.
    pub(super) fn new(model: Arc<Model>, vocab_size: usize, mut options: SequenceOptions) -> Self {
        let decoder = model.decoder();
        let positions = decoder.learned_positions().unwrap_or(usize::MAX);
        options.context_length = options.context_length.min(positions);
        let shared_tokens = decoder.vocab_size().min(vocab_size);
        let (states, stored) = (HashMap::new(), PrefixCache::default());
        Self { model, shared_tokens, options, states, stored, seconds: 0.0 }
    }

    /// The tokens of a text that the draft model has still to read, and how many tokens its context holds besides the text.
    /// `None` if it cannot read the text.
    fn missing(&mut self, request: &DraftRequest<'_>) -> Option<(Vec<u32>, usize)> {
        let room = self.options.context_length.checked_sub(request.tokens.len())?;
        let empty = self.model.decoder().sequence(self.options);
        let (stored, salt) = (&mut self.stored, request.salt);
        let state = self.states.entry(request.text_id).or_insert_with(|| {
            let found = if request.store { stored.find(salt, request.tokens) } else { None };
            let sequence = found.unwrap_or_else(|| empty.clone());
            let tokens = request.tokens[..sequence.len()].to_vec();
            State { sequence, tokens, before_draft: None, salt, store: request.store }
        });
        state.align(request.tokens, &empty);
        let missing = &request.tokens[state.tokens.len()..];
        // A padded vocabulary has tokens that the draft model does not know.
        missing.iter().all(|&token| (token as usize) < self.shared_tokens).then(|| (missing.to_vec(), room))
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
fn most_likely(logits: &[f32]) -> (u32, f32) {
    let token = likeliest(logits);
    let highest = logits[token as usize];
    let sum: f32 = logits.iter().map(|logit| (logit - highest).exp()).filter(|p| !p.is_nan()).sum();
    (token, 1.0 / sum.max(1.0))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a probability")]
fn confidence(p: f32) -> Confidence {
    (p * CONFIDENCES as f32) as usize
}

impl Drafter for ModelDrafter {
    #[allow(clippy::cast_precision_loss, reason = "a small number")]
    fn default_rate(&self, confidence: Confidence) -> f64 {
        (confidence as f64 + 0.5) / CONFIDENCES as f64
    }

    fn draft(
        &mut self,
        pool: &Pool,
        requests: &[DraftRequest<'_>],
        drafts: &mut [Draft],
        worth: &mut dyn FnMut(usize, &[Confidence], f64) -> bool,
    ) {
        let mut left = MAX_READ;
        let (mut reading, mut drafting) = (Vec::new(), Vec::new());
        for (i, request) in requests.iter().enumerate() {
            if request.max_tokens == 0 || !drafts[i].tokens.is_empty() || !worth(i, &[], self.seconds) {
                continue;
            }
            let Some((mut tokens, room)) = self.missing(request) else { continue };
            let all = tokens.len();
            tokens.truncate(left);
            left -= tokens.len();
            let is_ready = tokens.len() == all;
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
            let seconds = self.seconds;
            drafting.retain(|&(i, most)| drafts[i].tokens.len() < most && worth(i, &drafts[i].confidences, seconds));
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

    fn visit_memory(&self, visit: &mut dyn FnMut(usize, usize)) {
        self.states.values().for_each(|state| state.sequence.visit_memory(visit));
        self.stored.visit_memory(visit);
    }

    fn bytes_at(&self, len: usize) -> usize {
        self.model.decoder().sequence(self.options).bytes_at(len)
    }
}
