//! Drafts by the model's own layer that predicts further tokens (MTP): its likeliest tokens, one after the other, for all texts of
//! a pass together.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use super::model::{confidence, default_rate, most_likely};
use super::{Confidence, Draft, DraftRequest, Drafter};
use crate::cpu::{DraftText, Prediction, Run};
use crate::kernels::Pool;

/// The layer, and how long it takes. What it remembers of a text is kept with the model's state of the text.
pub(super) struct PredictionDrafter {
    layer: Arc<Prediction>,
    vocab_size: usize,
    /// Seconds of drafting one token for one text: a running average.
    seconds: f64,
}

impl PredictionDrafter {
    pub(super) fn new(layer: Arc<Prediction>, vocab_size: usize) -> Self {
        Self { layer, vocab_size, seconds: 0.0 }
    }

    /// Drafts one more token for each of these requests.
    fn pass(&mut self, pool: &Pool, requests: &mut [DraftRequest<'_>], drafts: &mut [Draft], drafting: &[usize]) {
        let began = Instant::now();
        let chosen = |i: &usize| drafting.contains(i);
        let tokens: Vec<Vec<u32>> =
            drafting.iter().map(|&i| [requests[i].tokens, &drafts[i].tokens[..]].concat()).collect();
        let sequences = requests.iter_mut().enumerate().filter(|(i, _)| chosen(i)).map(|(_, r)| &mut *r.sequence);
        let mut texts: Vec<_> =
            sequences.zip(&tokens).map(|(sequence, tokens)| DraftText { sequence, tokens }).collect();
        let logits = self.layer.draft(Run::new(pool), &mut texts);
        for (&i, row) in drafting.iter().zip(logits.chunks_exact(self.vocab_size)) {
            let (token, probability) = most_likely(row);
            drafts[i].push(token, confidence(probability));
        }
        #[allow(clippy::cast_precision_loss, reason = "few texts")]
        let took = began.elapsed().as_secs_f64() / drafting.len().max(1) as f64;
        self.seconds += (took - self.seconds) * if self.seconds == 0.0 { 1.0 } else { 0.1 };
    }
}

impl Drafter for PredictionDrafter {
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
        let mut drafting = Vec::new();
        for (i, request) in requests.iter_mut().enumerate() {
            let wanted = request.max_tokens > 0 && drafts[i].tokens.is_empty();
            if wanted && request.sequence.can_predict(request.tokens) && worth(i, &[], self.seconds) {
                drafting.push(i);
            }
        }
        let drafted = drafting.clone();
        loop {
            drafting.retain(|&i| {
                while requests[i].sequence.reserve_draft(1).is_err() {
                    if !evict() {
                        return false;
                    }
                }
                true
            });
            if drafting.is_empty() {
                break;
            }
            self.pass(pool, requests, drafts, &drafting);
            let seconds = self.seconds;
            drafting.retain(|&i| {
                drafts[i].tokens.len() < requests[i].max_tokens && worth(i, &drafts[i].confidences, seconds)
            });
        }
        drafted.into_iter().for_each(|i| requests[i].sequence.end_draft());
    }

    fn retain(&mut self, _: &HashSet<u64>) {}
}
