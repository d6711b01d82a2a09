//! `top_k`: keeps the k likeliest tokens.

use super::{Candidates, History, Random, SamplerOptions, Stage};

pub(super) struct TopK(usize);

impl TopK {
    pub(super) fn stage(o: &SamplerOptions) -> Option<Box<dyn Stage>> {
        (o.top_k > 0).then(|| Box::new(Self(o.top_k)) as _)
    }
}

impl Stage for TopK {
    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &History, _: &mut Random) {
        candidates.keep_top(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::tokens_after;
    use super::*;

    #[test]
    fn the_likeliest_stay_and_of_equals_the_first() {
        let logits = [0.1, 0.4, 0.2, 0.3, 0.3];
        let at = |k| tokens_after(TopK::stage(&SamplerOptions { top_k: k, ..Default::default() }), &logits);
        assert_eq!(at(1), [1]);
        assert_eq!(at(2), [1, 3]);
        assert_eq!(at(9), [0, 1, 2, 3, 4]);
    }
}
