//! `typ_p`: keeps the tokens whose surprise is nearest to the expected surprise, until they together reach p (locally typical
//! sampling).

use super::{Candidate, Candidates, History, Random, SamplerOptions, Stage};

pub(super) struct Typical(f32);

impl Typical {
    pub(super) fn stage(o: &SamplerOptions) -> Option<Box<dyn Stage>> {
        (o.typical_p < 1.0).then(|| Box::new(Self(o.typical_p)) as _)
    }
}

impl Stage for Typical {
    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &History, _: &mut Random) {
        candidates.sort();
        candidates.softmax();
        let list = candidates.list();
        // A token with probability zero has infinite surprise and adds nothing to the entropy.
        let entropy: f32 = list.iter().filter(|c| c.p > 0.0).map(|c| -c.p * c.p.ln()).sum();
        let distance = |c: &Candidate| (-c.p.ln() - entropy).abs();
        list.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
        let mut sum = 0.0;
        let kept = list.iter().position(|c| {
            sum += c.p;
            sum > self.0
        });
        if let Some(last) = kept {
            list.truncate(last + 1);
        }
        candidates.unsorted();
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::tokens_after;
    use super::*;

    /// llama.cpp's test of this sampler: of 0.97 and three times 0.01 the first stays; of 0.4, 0.2, 0.2, 0.2 the three.
    #[test]
    fn the_expected_surprise_decides() {
        let at = |p, probabilities: &[f32]| {
            let logits: Vec<f32> = probabilities.iter().map(|p| p.ln()).collect();
            tokens_after(Typical::stage(&SamplerOptions { typical_p: p, ..Default::default() }), &logits)
        };
        assert_eq!(at(0.5, &[0.97, 0.01, 0.01, 0.01]), [0]);
        assert_eq!(at(0.5, &[0.4, 0.2, 0.2, 0.2]), [1, 2, 3]);
    }
}
