//! `mirostat` 1 and 2: keeps the surprise of the chosen tokens near a target by learning how many candidates to keep.

use super::{Candidates, History, Random, SamplerOptions, Stage};

/// Number of likeliest tokens from which version 1 estimates the exponent of the distribution.
const ESTIMATED: usize = 100;

pub(super) struct Mirostat {
    second: bool,
    tau: f32,
    eta: f32,
    mu: f32,
}

impl Mirostat {
    /// Version 1 or 2, according to the options.
    pub(super) fn stage(o: &SamplerOptions) -> Box<dyn Stage> {
        Box::new(Self { second: o.mirostat == 2, tau: o.mirostat_tau, eta: o.mirostat_eta, mu: 2.0 * o.mirostat_tau })
    }

    /// The number of candidates that version 1 keeps.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates, which is meant"
    )]
    fn kept(&self, candidates: &mut Candidates<'_>) -> usize {
        let vocab_size = candidates.vocab_size() as f32;
        let list = candidates.list();
        let (mut products, mut squares) = (0.0, 0.0);
        for (i, pair) in list.windows(2).take(ESTIMATED - 1).enumerate() {
            let t = ((i + 2) as f32 / (i + 1) as f32).ln();
            products += t * (pair[0].p / pair[1].p).ln();
            squares += t * t;
        }
        let s: f32 = products / squares;
        let epsilon = s - 1.0;
        let k = (epsilon * self.mu.exp2() / (1.0 - vocab_size.powf(-epsilon))).powf(1.0 / s);
        if k.is_nan() { 1 } else { k as usize }
    }
}

impl Stage for Mirostat {
    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &History, _: &mut Random) {
        candidates.sort();
        candidates.softmax();
        let kept = if self.second {
            let mu = self.mu;
            candidates.list().iter().take_while(|c| -c.p.log2() <= mu).count()
        } else {
            self.kept(candidates)
        };
        candidates.keep_first(kept);
    }

    fn chosen(&mut self, _: u32, p: f32) {
        self.mu -= self.eta * (-p.log2() - self.tau);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(version: u8, mu: f32, probabilities: &[f32]) -> usize {
        let o = SamplerOptions { mirostat: version, mirostat_tau: mu / 2.0, ..Default::default() };
        let mut logits: Vec<f32> = probabilities.iter().map(|p| p.ln()).collect();
        let mut list = Vec::new();
        let mut stage = Mirostat::stage(&o);
        let mut candidates = Candidates::new(&mut logits, &mut list);
        stage.apply(&mut candidates, &History::default(), &mut Random::new(0));
        list.len()
    }

    #[test]
    fn the_second_version_cuts_by_surprise() {
        // Surprises 1, 2, 3, 3 bits.
        let probabilities = [0.5, 0.25, 0.125, 0.125];
        assert_eq!([0.5, 1.5, 2.5, 3.5].map(|mu| run(2, mu, &probabilities)), [1, 1, 2, 4]);
    }

    #[test]
    fn the_first_version_estimates_an_exponent() {
        // p ~ 1/rank^2: s = 2, epsilon = 1, k = sqrt(2^mu / (1 - 1/n)).
        let probabilities: Vec<f32> = (1..=1000u16).map(|rank| f32::from(rank).powi(-2)).collect();
        assert_eq!(run(1, 6.0, &probabilities), 8);
        assert_eq!(run(1, 8.0, &probabilities), 16);
    }

    #[test]
    fn what_was_chosen_moves_the_limit() {
        let o = SamplerOptions { mirostat_tau: 3.0, mirostat_eta: 0.5, ..Default::default() };
        let mut mirostat = Mirostat { second: true, tau: o.mirostat_tau, eta: o.mirostat_eta, mu: 6.0 };
        mirostat.chosen(0, 0.5);
        assert_eq!(mirostat.mu, 6.0 - 0.5 * (1.0 - 3.0));
    }
}
