//! `xtc`: with some probability, removes all likely tokens except the least likely of them ("exclude top choices").

use super::{Candidates, History, Random, SamplerOptions, Stage};

pub(super) struct Xtc {
    probability: f32,
    threshold: f32,
}

impl Xtc {
    pub(super) fn stage(o: &SamplerOptions) -> Option<Box<dyn Stage>> {
        // No two tokens have more than half of the probability.
        let works = o.xtc_probability > 0.0 && o.xtc_threshold <= 0.5;
        works.then(|| Box::new(Self { probability: o.xtc_probability, threshold: o.xtc_threshold }) as _)
    }
}

impl Stage for Xtc {
    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &History, random: &mut Random) {
        if candidates.list().len() < 2 || random.unit() > self.probability {
            return;
        }
        candidates.sort();
        candidates.softmax();
        let list = candidates.list();
        let likely = list.iter().take_while(|c| c.p >= self.threshold).count();
        list.drain(..likely.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::tokens_after;
    use super::*;

    /// llama.cpp's test of this sampler.
    #[test]
    fn of_the_likely_tokens_the_last_stays() {
        let logits = [0.4f32, 0.3, 0.2, 0.1].map(f32::ln);
        let at = |threshold| {
            let o = SamplerOptions { xtc_probability: 0.99, xtc_threshold: threshold, ..Default::default() };
            tokens_after(Xtc::stage(&o), &logits)
        };
        assert_eq!(at(0.09), [3]);
        assert_eq!(at(0.19), [2, 3]);
        assert_eq!(at(0.29), [1, 2, 3]);
        assert_eq!(at(0.45), [0, 1, 2, 3]);
    }
}
