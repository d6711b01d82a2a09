//! `adaptive_p`: prefers tokens whose probability is near a target, which moves against the probabilities of chosen tokens.

use super::{Candidate, Candidates, History, Random, SamplerOptions, Stage};

const WIDTH: f32 = 0.3;
const PEAK: f32 = 5.0;
const SHARPNESS: f32 = 10.0;

pub(super) struct AdaptiveP {
    target: f32,
    decay: f32,
    weighted_sum: f32,
    total_weight: f32,
    /// Candidates with their probabilities before this stage.
    before: Vec<Candidate>,
}

impl AdaptiveP {
    pub(super) fn stage(o: &SamplerOptions) -> Option<Box<dyn Stage>> {
        (o.adaptive_target >= 0.0).then(|| Box::new(Self::new(o)) as _)
    }

    fn new(o: &SamplerOptions) -> Self {
        let (target, decay) = (o.adaptive_target.min(1.0), o.adaptive_decay.clamp(0.0, 0.99));
        let total_weight = 1.0 / (1.0 - decay);
        Self { target, decay, weighted_sum: target * total_weight, total_weight, before: Vec::new() }
    }
}

impl Stage for AdaptiveP {
    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &History, _: &mut Random) {
        candidates.softmax();
        self.before.clone_from(candidates.list());
        let target = (2.0 * self.target - self.weighted_sum / self.total_weight).clamp(0.0, 1.0);
        for c in candidates.list().iter_mut().filter(|c| c.logit != f32::NEG_INFINITY) {
            let distance = ((c.p - target) / WIDTH).abs();
            c.logit = PEAK - SHARPNESS * distance * distance / (1.0 + distance);
        }
        candidates.unsorted();
    }

    fn chosen(&mut self, token: u32, _: f32) {
        if let Some(before) = self.before.iter().find(|c| c.token == token) {
            self.weighted_sum = before.p + self.decay * self.weighted_sum;
            self.total_weight = 1.0 + self.decay * self.total_weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_near_the_target_are_preferred_and_it_moves() {
        let o = SamplerOptions { adaptive_target: 0.3, adaptive_decay: 0.5, ..Default::default() };
        let mut stage = AdaptiveP::new(&o);
        let apply = |stage: &mut AdaptiveP| -> Vec<f32> {
            let mut logits = [0.6f32, 0.3, 0.1].map(f32::ln);
            let mut list = Vec::new();
            stage.apply(&mut Candidates::new(&mut logits, &mut list), &History::default(), &mut Random::new(0));
            list.iter().map(|c| c.logit).collect()
        };
        // Distances 1, 0 and 2/3 widths: 5 - 10/2, 5, 5 - (40/9)/(5/3).
        let found = apply(&mut stage);
        for (found, expected) in found.iter().zip([0.0, 5.0, 5.0 - 8.0 / 3.0]) {
            assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        }
        // 0.6 was chosen: the mean of 0.6 and 0.5 times (0.6 of weight 2) is 0.45, so the target is 0.15.
        stage.chosen(0, 0.9);
        assert!((stage.weighted_sum / stage.total_weight - 0.45).abs() < 1e-6);
        let found = apply(&mut stage);
        assert!(found[2] > found[0], "{found:?}");
        let distance: f32 = 0.15 / 0.3;
        assert!((found[1] - (5.0 - 10.0 * distance * distance / (1.0 + distance))).abs() < 1e-4, "{found:?}");
    }
}
