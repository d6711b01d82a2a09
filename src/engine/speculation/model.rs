//! Drafts by a smaller model: the tokens that it finds likeliest, one after the other, for all texts of a pass together.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::{CONFIDENCES, Confidence, Draft, Drafter, Text};
use crate::cpu::{Held, Part, Rows, Sequence, SequenceOptions};
use crate::engine::prefix_cache::{PrefixCache, common};
use crate::engine::sampler::likeliest;
use crate::kernels::Pool;
use crate::model::Model;

/// Tokens that the model reads before a draft, at most: a longer prompt is read beside several passes of the large model.
const CATCH_UP: usize = 256;

/// A model, and what it knows of each text.
pub(super) struct ModelDrafter {
    model: Arc<Model>,
    /// Tokens that both models know.
    known_tokens: usize,
    options: SequenceOptions,
    texts: HashMap<u64, State>,
    /// States of texts that have ended.
    stored: PrefixCache,
    /// Seconds that a token of one text takes, a running average.
    seconds: f64,
}

/// What the model knows of a text.
struct State {
    /// As long as `seen`.
    sequence: Sequence,
    /// Tokens of the text, then those that were drafted last.
    seen: Vec<u32>,
    /// Where the text ended when these were drafted.
    held: Option<Held>,
    salt: u64,
    store: bool,
}

impl State {
    /// Goes back to what `tokens` begins with, without its last token.
    fn align(&mut self, tokens: &[u32], empty: &Sequence) {
        let known = common(&self.seen, tokens).min(tokens.len().saturating_sub(1));
        if let Some(held) = self.held.take() {
            let least = held.len();
            self.sequence.go_back(held, known.max(least));
        }
        if known < self.sequence.len() && !self.sequence.truncate(known) {
            self.sequence = empty.clone();
        }
        self.seen.truncate(self.sequence.len());
    }
}

impl ModelDrafter {
    /// Lets `model` draft for another one of `vocab_size` tokens, whose sequences are made with `options`.
    pub(super) fn new(model: Arc<Model>, vocab_size: usize, mut options: SequenceOptions) -> Self {
        let decoder = model.decoder();
        let positions = decoder.learned_positions().unwrap_or(usize::MAX);
        options.context_length = options.context_length.min(positions);
        let known_tokens = decoder.vocab_size().min(vocab_size);
        let (texts, stored) = (HashMap::new(), PrefixCache::default());
        Self { model, known_tokens, options, texts, stored, seconds: 0.0 }
    }

    /// The tokens of a text that the model has not seen, and for how many more there is room after them; `None` when it cannot go
    /// on with the text.
    fn missing(&mut self, text: &Text<'_>) -> Option<(Vec<u32>, usize)> {
        let room = self.options.context_length.checked_sub(text.tokens.len())?;
        let empty = self.model.decoder().sequence(self.options);
        let (stored, salt) = (&mut self.stored, text.salt);
        let state = self.texts.entry(text.id).or_insert_with(|| {
            let sequence = stored.find(salt, text.tokens).filter(|_| text.store).unwrap_or_else(|| empty.clone());
            let seen = text.tokens[..sequence.len()].to_vec();
            State { sequence, seen, held: None, salt, store: text.store }
        });
        state.align(text.tokens, &empty);
        let missing = &text.tokens[state.seen.len()..];
        // Of tokens that a padded vocabulary has besides, nothing is known.
        missing.iter().all(|&token| (token as usize) < self.known_tokens).then(|| (missing.to_vec(), room))
    }

    /// Evaluates the tokens of these texts, and returns the likeliest next token of each whose rows are wanted, with its
    /// probability.
    fn pass(&mut self, pool: &Pool, reading: &[(u64, Vec<u32>, Rows)]) -> Vec<(u32, f32)> {
        let mut parts = Vec::new();
        let mut states: HashMap<u64, &mut State> = self.texts.iter_mut().map(|(id, state)| (*id, state)).collect();
        for (id, tokens, logits) in reading {
            if let Some(state) = states.remove(id) {
                state.seen.extend(tokens);
                parts.push(Part { sequence: &mut state.sequence, tokens, logits: *logits });
            }
        }
        if parts.is_empty() {
            return Vec::new();
        }
        let decoder = self.model.decoder();
        let logits = decoder.forward(self.model.run(pool), &mut parts);
        logits.chunks_exact(decoder.vocab_size()).map(|row| most_likely(&row[..self.known_tokens])).collect()
    }
}

/// The likeliest token, and its probability.
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
    fn usual(&self, confidence: Confidence) -> f64 {
        (confidence as f64 + 0.5) / CONFIDENCES as f64
    }

    fn draft(
        &mut self,
        pool: &Pool,
        texts: &[Text<'_>],
        drafts: &mut [Draft],
        worth: &mut dyn FnMut(usize, &[Confidence], f64) -> bool,
    ) {
        let mut left = CATCH_UP;
        let (mut reading, mut drafting) = (Vec::new(), Vec::new());
        for (i, text) in texts.iter().enumerate() {
            if text.most == 0 || !drafts[i].tokens.is_empty() || !worth(i, &[], self.seconds) {
                continue;
            }
            let Some((mut tokens, room)) = self.missing(text) else { continue };
            let all = tokens.len();
            tokens.truncate(left);
            left -= tokens.len();
            let is_ready = tokens.len() == all;
            if is_ready {
                drafting.push((i, text.most.min(room)));
            }
            if !tokens.is_empty() {
                reading.push((text.id, tokens, if is_ready { Rows::Last } else { Rows::None }));
            }
        }
        let mut next = self.pass(pool, &reading);
        for (i, _) in &drafting {
            if let Some(state) = self.texts.get_mut(&texts[*i].id) {
                state.held = Some(state.sequence.hold());
            }
        }
        while !drafting.is_empty() {
            for ((i, _), (token, p)) in drafting.iter().zip(&next) {
                drafts[*i].push(*token, confidence(*p));
            }
            let seconds = self.seconds;
            drafting.retain(|&(i, most)| drafts[i].tokens.len() < most && worth(i, &drafts[i].confidences, seconds));
            let one = |&(i, _): &(usize, usize)| {
                (texts[i].id, drafts[i].tokens.last().copied().into_iter().collect(), Rows::Last)
            };
            let reading: Vec<(u64, Vec<u32>, Rows)> = drafting.iter().map(one).collect();
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
        let ended: Vec<u64> = self.texts.keys().filter(|id| !texts.contains(id)).copied().collect();
        for mut state in ended.into_iter().filter_map(|id| self.texts.remove(&id)) {
            if let Some(held) = state.held.take() {
                // What was drafted last may be wrong.
                let len = held.len();
                state.sequence.go_back(held, len);
                state.seen.truncate(len);
            }
            if state.store {
                self.stored.insert(state.salt, &state.seen, state.sequence);
            }
        }
    }

    fn evict(&mut self) -> bool {
        self.stored.evict()
    }

    fn visit_memory(&self, visit: &mut dyn FnMut(usize, usize)) {
        self.texts.values().for_each(|state| state.sequence.visit_memory(visit));
        self.stored.visit_memory(visit);
    }

    fn bytes_at(&self, len: usize) -> usize {
        self.model.decoder().sequence(self.options).bytes_at(len)
    }
}
