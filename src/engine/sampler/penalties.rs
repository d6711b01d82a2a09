//! `penalties`: makes recent tokens less likely: by a factor, by a fixed amount, or by an amount for each occurrence.

use std::collections::HashMap;

use super::{Candidates, History, Random, SamplerOptions, Stage};

pub(super) struct Penalties {
    last_n: Option<usize>,
    repeat: f32,
    frequency: f32,
    presence: f32,
}

impl Penalties {
    pub(super) fn stage(o: &SamplerOptions) -> Option<Box<dyn Stage>> {
        let none = o.repeat_penalty == 1.0 && o.frequency_penalty == 0.0 && o.presence_penalty == 0.0;
        if none || o.repeat_last_n == Some(0) {
            return None;
        }
        Some(Box::new(Self {
            last_n: o.repeat_last_n,
            repeat: o.repeat_penalty,
            frequency: o.frequency_penalty,
            presence: o.presence_penalty,
        }))
    }
}

impl Stage for Penalties {
    fn apply(&mut self, candidates: &mut Candidates<'_>, history: &History, _: &mut Random) {
        let mut counts: HashMap<u32, f32> = HashMap::new();
        for &token in history.last(self.last_n) {
            *counts.entry(token).or_default() += 1.0;
        }
        for (token, count) in counts {
            candidates.adjust(token, |logit| {
                // Dividing would make a negative logit likelier, so it is multiplied instead.
                let logit = if logit <= 0.0 { logit * self.repeat } else { logit / self.repeat };
                logit - count * self.frequency - self.presence
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::after;
    use super::*;

    #[test]
    fn all_three_penalties_add_up() {
        let o = SamplerOptions {
            repeat_penalty: 2.0,
            frequency_penalty: 0.5,
            presence_penalty: 0.25,
            repeat_last_n: Some(3),
            ..SamplerOptions::default()
        };
        // Token 0 is too far back; token 1 occurred twice, token 2 once.
        let found = after(Penalties::stage(&o), &[1.0, 1.0, -1.0, 4.0], &[0, 1, 2, 1]);
        assert_eq!(found, [(0, 1.0), (1, 0.5 - 1.0 - 0.25), (2, -2.0 - 0.5 - 0.25), (3, 4.0)]);
        assert!(Penalties::stage(&SamplerOptions::default()).is_none());
    }
}
