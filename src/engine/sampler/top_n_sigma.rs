//! `top_n_sigma`: keeps logits within n standard deviations of the highest.

use super::{Candidates, History, Random, SamplerOptions, Stage};

pub(super) struct TopNSigma(f32);

impl TopNSigma {
    pub(super) fn stage(o: &SamplerOptions) -> Option<Box<dyn Stage>> {
        (o.top_n_sigma > 0.0).then(|| Box::new(Self(o.top_n_sigma)) as _)
    }
}

impl Stage for TopNSigma {
    #[allow(clippy::cast_precision_loss, reason = "a vocabulary fits")]
    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &History, _: &mut Random) {
        let finite = |list: &[super::Candidate]| -> Vec<f32> {
            list.iter().map(|c| c.logit).filter(|logit| *logit != f32::NEG_INFINITY).collect()
        };
        let logits = finite(candidates.list());
        if logits.len() < 2 {
            return;
        }
        let mean = logits.iter().sum::<f32>() / logits.len() as f32;
        let variance = logits.iter().map(|logit| (logit - mean).powi(2)).sum::<f32>() / logits.len() as f32;
        let floor = candidates.highest() - self.0 * variance.sqrt();
        candidates.retain(|c| c.logit >= floor);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::tokens_after;
    use super::*;

    #[test]
    fn the_deviation_decides() {
        // Mean 2, deviation sqrt(3): one deviation below 5 is 3.27, two 1.54.
        let logits = [5.0, 3.0, 2.0, 0.0, 2.0, f32::NEG_INFINITY, 0.0];
        let at = |n| tokens_after(TopNSigma::stage(&SamplerOptions { top_n_sigma: n, ..Default::default() }), &logits);
        assert_eq!(at(1.0), [0]);
        assert_eq!(at(2.0), [0, 1, 2, 4]);
        assert!(TopNSigma::stage(&SamplerOptions::default()).is_none());
    }
}
