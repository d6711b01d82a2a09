//! Probabilities of tokens, as answers tell them.

/// Probabilities of one token: before any sampler, or after all of them, as the request wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Logprobs {
    /// Log-probability (natural) of the chosen token.
    pub taken: f32,
    /// The likeliest tokens with their log-probabilities, the likeliest first.
    pub top: Vec<(u32, f32)>,
}

impl Logprobs {
    /// The probability of `token` by `logits`, `[vocab]`, and those of the `top` likeliest.
    pub(super) fn of(logits: &[f32], token: u32, top: usize) -> Self {
        let numbers = || logits.iter().copied().filter(|logit| !logit.is_nan());
        let highest = numbers().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = numbers().map(|logit| f64::from(logit - highest).exp()).sum();
        #[allow(clippy::cast_possible_truncation, reason = "logits are single precision")]
        let of = |logit: f32| (f64::from(logit - highest) - sum.ln()) as f32;
        let taken = logits.get(token as usize).map_or(f32::NEG_INFINITY, |&logit| of(logit));
        let mut order: Vec<(u32, f32)> =
            (0..).zip(logits.iter().copied()).filter(|(_, logit)| !logit.is_nan()).collect();
        let best_first = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        let top = top.min(order.len());
        if top > 0 && top < order.len() {
            order.select_nth_unstable_by(top - 1, best_first);
        }
        order.truncate(top);
        order.sort_unstable_by(best_first);
        order.iter_mut().for_each(|(_, logit)| *logit = of(*logit));
        Self { taken, top: order }
    }
}
