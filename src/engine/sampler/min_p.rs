//! `min_p`: keeps tokens that are at least p times as likely as the likeliest.

use super::{Candidates, History, Random, SamplerOptions, Stage};

pub(super) struct MinP(f32);

impl MinP {
    pub(super) fn stage(o: &SamplerOptions) -> Option<Box<dyn Stage>> {
        (o.min_p > 0.0).then(|| Box::new(Self(o.min_p)) as _)
    }
}

impl Stage for MinP {
    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &History, _: &mut Random) {
        let floor = candidates.highest() + self.0.ln();
        candidates.retain(|c| c.logit >= floor);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::tokens_after;
    use super::*;

    /// llama.cpp's test of this sampler.
    #[test]
    fn the_likeliest_is_the_measure() {
        let logits = [0.1f32, 0.2, 0.3, 0.4].map(f32::ln);
        let at = |p| tokens_after(MinP::stage(&SamplerOptions { min_p: p, ..Default::default() }), &logits);
        assert_eq!(at(0.24), [0, 1, 2, 3]);
        assert_eq!(at(0.26), [1, 2, 3]);
        assert_eq!(at(0.51), [2, 3]);
        assert_eq!(at(0.76), [3]);
        assert_eq!(at(1.0), [3]);
        assert!(MinP::stage(&SamplerOptions { min_p: 0.0, ..Default::default() }).is_none());
    }
}
