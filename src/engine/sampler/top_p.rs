//! `top_p`: keeps the likeliest tokens that together reach probability p (nucleus sampling).

use super::{Candidates, History, Random, SamplerOptions, Stage};

pub(super) struct TopP(f32);

impl TopP {
    pub(super) fn stage(o: &SamplerOptions) -> Option<Box<dyn Stage>> {
        (o.top_p < 1.0).then(|| Box::new(Self(o.top_p)) as _)
    }
}

impl Stage for TopP {
    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &History, _: &mut Random) {
        candidates.softmax();
        candidates.keep_mass(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::tokens_after;
    use super::*;

    /// llama.cpp's test of this sampler.
    #[test]
    fn the_likeliest_stay_until_the_sum_is_reached() {
        let logits = [0.1f32, 0.2, 0.3, 0.4].map(f32::ln);
        let at = |p| tokens_after(TopP::stage(&SamplerOptions { top_p: p, ..Default::default() }), &logits);
        assert_eq!(at(0.0), [3]);
        assert_eq!(at(0.7), [2, 3]);
        assert_eq!(at(0.8), [1, 2, 3]);
    }

    #[test]
    fn more_than_one_step_of_sorting() {
        let logits = vec![0.0; 1000];
        let found = tokens_after(TopP::stage(&SamplerOptions { top_p: 0.4995, ..Default::default() }), &logits);
        assert_eq!(found, (0..500).collect::<Vec<u32>>());
    }
}
