//! `temperature`: divides logits. With a range, the temperature depends on the entropy of the candidates.

use super::{Candidates, History, Random, SamplerOptions, Stage};

pub(super) struct Temperature {
    temperature: f32,
    range: f32,
    exponent: f32,
}

impl Temperature {
    pub(super) fn stage(o: &SamplerOptions) -> Option<Box<dyn Stage>> {
        let (temperature, range) = (o.temperature, o.dynatemp_range);
        (temperature != 1.0 || range > 0.0)
            .then(|| Box::new(Self { temperature, range, exponent: o.dynatemp_exponent }) as _)
    }
}

impl Stage for Temperature {
    #[allow(clippy::cast_precision_loss, reason = "a vocabulary fits")]
    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &History, _: &mut Random) {
        let mut temperature = self.temperature;
        if self.range > 0.0 {
            if candidates.list().len() < 2 {
                return;
            }
            candidates.softmax();
            let list = candidates.list();
            let entropy: f32 = list.iter().filter(|c| c.p > 0.0).map(|c| -c.p * c.p.ln()).sum();
            let highest = (list.len() as f32).ln();
            let (least, most) = ((temperature - self.range).max(0.0), temperature + self.range);
            temperature = least + (most - least) * (entropy / highest).powf(self.exponent);
        }
        if temperature <= 0.0 {
            candidates.keep_top(1);
        } else {
            candidates.rescale(|logit| logit / temperature);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::after;
    use super::*;

    fn at(temperature: f32, range: f32, exponent: f32, logits: &[f32]) -> Vec<(u32, f32)> {
        let o =
            SamplerOptions { temperature, dynatemp_range: range, dynatemp_exponent: exponent, ..Default::default() };
        after(Temperature::stage(&o), logits, &[])
    }

    #[test]
    fn logits_are_divided() {
        assert_eq!(at(0.5, 0.0, 1.0, &[1.0, -2.0]), [(0, 2.0), (1, -4.0)]);
        assert_eq!(at(0.0, 0.0, 1.0, &[1.0, 3.0, 3.0]), [(1, 3.0)]);
    }

    #[test]
    fn the_entropy_chooses_within_the_range() {
        // Equal logits have the greatest entropy: the highest temperature.
        assert_eq!(at(1.0, 0.5, 1.0, &[3.0, 3.0]), [(0, 2.0), (1, 2.0)]);
        // 0.8 and 0.2: entropy 0.7219 of the greatest, squared 0.5212; 0.5 + 1.0 * 0.5212.
        let found = at(1.0, 0.5, 2.0, &[0.8f32.ln(), 0.2f32.ln()]);
        assert!((found[1].1 - 0.2f32.ln() / 1.021_2).abs() < 1e-3, "{found:?}");
    }
}
