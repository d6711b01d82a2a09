//! Chooses the next token from logits: a chain of samplers with the names, order and meaning of llama.cpp, then one draw.
//!
//! Each sampler is a file with a [`Stage`] and a row in [`NAMES`]. A vocabulary of 256 k costs one pass over the logits:
//! top-k selects its candidates without sorting, and later stages see only these.

mod adaptive_p;
mod candidates;
mod dry;
mod min_p;
mod mirostat;
mod options;
mod penalties;
mod random;
mod temperature;
mod top_k;
mod top_n_sigma;
mod top_p;
mod typical;
mod xtc;

use candidates::{Candidate, Candidates};
use random::Random;

use crate::tokenizer::Tokenizer;
pub use candidates::likeliest;
pub use options::{SETTINGS, SamplerOptions, Setting};

/// One sampler of the chain.
trait Stage: Send {
    /// Changes logits, or removes candidates; at least one must remain.
    fn apply(&mut self, candidates: &mut Candidates<'_>, history: &History, random: &mut Random);

    /// Called with the token that was drawn, and its probability among the last candidates.
    fn chosen(&mut self, _token: u32, _p: f32) {}
}

/// Creates a stage, if the options enable it.
type Build = fn(&SamplerOptions, Option<&Tokenizer>) -> Option<Box<dyn Stage>>;

/// A sampler's name in `--samplers` and in a file's `general.sampling.sequence`, and its aliases.
struct Name {
    name: &'static str,
    aliases: &'static [&'static str],
    stage: Build,
}

/// All samplers, in the default order; those after `temperature` are not enabled by default.
const NAMES: &[Name] = &[
    Name { name: "penalties", aliases: &[], stage: |o, _| penalties::Penalties::stage(o) },
    Name { name: "dry", aliases: &[], stage: dry::Dry::stage },
    Name { name: "top_n_sigma", aliases: &["topnsigma"], stage: |o, _| top_n_sigma::TopNSigma::stage(o) },
    Name { name: "top_k", aliases: &["topk"], stage: |o, _| top_k::TopK::stage(o) },
    Name { name: "typ_p", aliases: &["typp", "typ", "typical"], stage: |o, _| typical::Typical::stage(o) },
    Name { name: "top_p", aliases: &["topp", "nucleus"], stage: |o, _| top_p::TopP::stage(o) },
    Name { name: "min_p", aliases: &["minp"], stage: |o, _| min_p::MinP::stage(o) },
    Name { name: "xtc", aliases: &[], stage: |o, _| xtc::Xtc::stage(o) },
    Name { name: "temperature", aliases: &["temp"], stage: |o, _| temperature::Temperature::stage(o) },
    Name { name: "adaptive_p", aliases: &["adaptivep"], stage: |o, _| adaptive_p::AdaptiveP::stage(o) },
];

/// The sampler with this name, written with `-` or `_`, in any case.
fn named(name: &str) -> Option<&'static Name> {
    let name = name.trim().to_ascii_lowercase().replace('-', "_");
    NAMES.iter().find(|row| row.name == name || row.aliases.contains(&name.as_str()))
}

/// The last tokens of a text, including those of the prompt.
#[derive(Default)]
struct History {
    tokens: Vec<u32>,
}

impl History {
    /// The last `n` tokens, or all.
    fn last(&self, n: Option<usize>) -> &[u32] {
        &self.tokens[self.tokens.len() - n.unwrap_or(usize::MAX).min(self.tokens.len())..]
    }
}

/// Chooses tokens, and keeps the recent ones.
pub struct Sampler {
    options: SamplerOptions,
    stages: Vec<Box<dyn Stage>>,
    /// Whether the likeliest token is taken after the stages that change logits, without a draw.
    greedy: bool,
    random: Random,
    history: History,
    list: Vec<Candidate>,
}

impl Default for Sampler {
    fn default() -> Self {
        Self::new(SamplerOptions::default())
    }
}

impl Sampler {
    /// A sampler at the start of its random numbers. DRY has no sequence breakers; see [`Self::for_model`].
    #[must_use]
    pub fn new(options: SamplerOptions) -> Self {
        Self::with_tokenizer(options, None)
    }

    /// A sampler for a model with `tokenizer`, which finds DRY's sequence breakers among its tokens.
    #[must_use]
    pub fn for_model(options: SamplerOptions, tokenizer: &Tokenizer) -> Self {
        Self::with_tokenizer(options, Some(tokenizer))
    }

    fn with_tokenizer(options: SamplerOptions, tokenizer: Option<&Tokenizer>) -> Self {
        let build = |names: &[&str]| -> Vec<Box<dyn Stage>> {
            names.iter().filter_map(|name| named(name).and_then(|row| (row.stage)(&options, tokenizer))).collect()
        };
        let greedy = options.is_greedy();
        let stages = if greedy {
            // No other stage changes which logit is the highest.
            build(&["penalties", "dry"])
        } else if options.mirostat > 0 {
            let mut stages = build(&["temperature"]);
            stages.push(mirostat::Mirostat::stage(&options));
            stages
        } else {
            build(&options.samplers.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let random = Random::new(options.seed);
        Self { options, stages, greedy, random, history: History::default(), list: Vec::new() }
    }

    /// The settings.
    #[must_use]
    pub fn options(&self) -> &SamplerOptions {
        &self.options
    }

    /// Adds `token` to the recent tokens. To be called for the tokens of the prompt and for every generated token.
    pub fn accept(&mut self, token: u32) {
        self.history.tokens.push(token);
    }

    /// Clears the recent tokens.
    pub fn forget(&mut self) {
        self.history.tokens.clear();
    }

    /// The tokens that [`Self::sample`] has just drawn from, with their probabilities after all stages: at most `top`, the likeliest
    /// first, none of them impossible. Empty if the likeliest token was taken without a draw.
    #[must_use]
    pub fn drawn_from(&self, top: usize) -> Vec<(u32, f32)> {
        if self.greedy {
            return Vec::new();
        }
        let possible = self.list.iter().filter(|c| c.p > 0.0);
        let mut all: Vec<(u32, f32)> = possible.map(|c| (c.token, c.p)).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        all.truncate(top);
        all
    }

    /// Chooses the next token by `logits`, `[vocab]`, which penalties change in place.
    ///
    /// # Panics
    /// When `logits` is empty.
    pub fn sample(&mut self, logits: &mut [f32]) -> u32 {
        assert!(!logits.is_empty(), "no logits");
        let mut candidates = Candidates::new(logits, &mut self.list);
        for (token, bias) in &self.options.logit_bias {
            candidates.adjust(*token, |logit| logit + bias);
        }
        for stage in &mut self.stages {
            stage.apply(&mut candidates, &self.history, &mut self.random);
        }
        if self.greedy {
            return likeliest(logits);
        }
        candidates.softmax();
        let chosen = draw(candidates.list(), &mut self.random);
        self.stages.iter_mut().for_each(|stage| stage.chosen(chosen.token, chosen.p));
        chosen.token
    }
}

/// Draws one of the candidates by their probabilities.
fn draw(list: &[Candidate], random: &mut Random) -> Candidate {
    let sum: f32 = list.iter().map(|c| c.p).sum();
    let mut left = random.unit() * sum;
    for c in list {
        left -= c.p;
        if left < 0.0 {
            return *c;
        }
    }
    // Because of rounding, fall back to the last candidate with a probability.
    let last = list.iter().rev().find(|c| c.p > 0.0).or(list.last()).copied();
    last.unwrap_or(Candidate { token: 0, logit: f32::NEG_INFINITY, p: 1.0 })
}

/// Runs one sampler, for its tests.
#[cfg(test)]
mod testing {
    use super::{Candidates, History, Random, Stage};

    /// Tokens and logits after `stage`, in the order of tokens.
    pub(super) fn after(stage: Option<Box<dyn Stage>>, logits: &[f32], history: &[u32]) -> Vec<(u32, f32)> {
        let (mut logits, mut list) = (logits.to_vec(), Vec::new());
        let mut candidates = Candidates::new(&mut logits, &mut list);
        let history = History { tokens: history.to_vec() };
        stage.expect("the options ask for it").apply(&mut candidates, &history, &mut Random::new(1));
        candidates.list();
        list.sort_by_key(|c| c.token);
        list.iter().map(|c| (c.token, c.logit)).collect()
    }

    /// The tokens that `stage` keeps.
    pub(super) fn tokens_after(stage: Option<Box<dyn Stage>>, logits: &[f32]) -> Vec<u32> {
        after(stage, logits, &[]).into_iter().map(|(token, _)| token).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frequencies(options: SamplerOptions, logits: &[f32], draws: usize) -> Vec<f32> {
        let mut sampler = Sampler::new(options);
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..draws {
            counts[sampler.sample(&mut logits.to_vec()) as usize] += 1.0;
        }
        counts.iter().map(|c| c / draws as f32).collect()
    }

    fn open() -> SamplerOptions {
        SamplerOptions { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 7, ..SamplerOptions::default() }
    }

    #[test]
    fn draws_follow_the_softmax() {
        let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
        let f = frequencies(open(), &logits, 20_000);
        for (found, expected) in f.iter().zip([0.5, 0.3, 0.2]) {
            assert!((found - expected).abs() < 0.02, "{f:?}");
        }
        let sharp = frequencies(SamplerOptions { temperature: 0.5, ..open() }, &logits, 20_000);
        assert!((sharp[0] - 0.25 / 0.38).abs() < 0.02, "{sharp:?}");
    }

    /// llama.cpp's tests of whole chains.
    #[test]
    fn samplers_work_in_the_order_given() {
        let logits = [0.25f32, 0.25, 0.25, 0.125, 0.125].map(f32::ln);
        let order = |samplers: &[&str]| {
            let samplers = samplers.iter().map(|&name| name.to_owned()).collect();
            let options = SamplerOptions { top_k: 3, top_p: 0.6, samplers, ..open() };
            frequencies(options, &logits, 2000).iter().filter(|f| **f > 0.0).count()
        };
        // Of three equal candidates, two reach 0.67; of all, three are needed for 0.6.
        assert_eq!(order(&["top_k", "top_p"]), 2);
        assert_eq!(order(&["top-p", "TOP_K"]), 3);
        assert_eq!(order(&[]), 5);
    }

    #[test]
    fn what_was_drawn_from_is_told_with_probabilities_that_sum_to_one() {
        let logits = [0.5f32, 0.3, 0.15, 0.05].map(f32::ln);
        let mut sampler = Sampler::new(SamplerOptions { top_k: 3, temperature: 1.0, ..open() });
        let drawn = sampler.sample(&mut logits.clone());
        let all = sampler.drawn_from(10);
        assert_eq!(all.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [0, 1, 2]);
        assert!((all.iter().map(|(_, p)| p).sum::<f32>() - 1.0).abs() < 1e-5, "{all:?}");
        assert!((all[0].1 - 0.5 / 0.95).abs() < 1e-5 && all.iter().any(|(token, _)| *token == drawn), "{all:?}");
        assert_eq!(sampler.drawn_from(1), all[..1]);
        let mut greedy = Sampler::new(SamplerOptions::greedy());
        greedy.sample(&mut logits.clone());
        assert!(greedy.drawn_from(10).is_empty());
    }

    #[test]
    fn greedy_takes_the_first_highest() {
        let mut sampler = Sampler::new(SamplerOptions::greedy());
        assert_eq!(sampler.sample(&mut [1.0, 3.0, 3.0, f32::NAN]), 1);
        assert_eq!(Sampler::new(SamplerOptions { top_k: 1, ..open() }).sample(&mut [1.0, 3.0, 3.0]), 1);
        // Typical sampling may leave out the likeliest token.
        let probabilities = [0.4f32, 0.2, 0.2, 0.2];
        let typical = SamplerOptions { typical_p: 0.5, top_k: 0, ..SamplerOptions::greedy() };
        assert_eq!(Sampler::new(typical).sample(&mut probabilities.map(f32::ln)), 1);
    }

    #[test]
    fn logits_that_are_no_numbers_or_infinite_do_not_panic() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        let every = SamplerOptions {
            repeat_penalty: 1.1,
            dry_multiplier: 0.8,
            top_n_sigma: 2.0,
            typical_p: 0.9,
            xtc_probability: 1.0,
            dynatemp_range: 0.1,
            ..SamplerOptions::default()
        };
        let mirostats = [1, 2].map(|mirostat| SamplerOptions { mirostat, ..every.clone() });
        let adaptive =
            SamplerOptions { adaptive_target: 0.5, samplers: vec!["adaptive_p".to_owned()], ..every.clone() };
        for options in [SamplerOptions::default(), every, adaptive].into_iter().chain(mirostats) {
            for logits in [vec![1.0, inf, 2.0], vec![-inf; 9], vec![nan; 9], vec![nan, 1.0, -inf], vec![inf, inf]] {
                let mut sampler = Sampler::new(options.clone());
                for _ in 0..3 {
                    let token = sampler.sample(&mut logits.clone());
                    assert!((token as usize) < logits.len());
                    sampler.accept(token);
                }
            }
        }
        assert_eq!(Sampler::new(SamplerOptions::default()).sample(&mut [1.0, inf, 2.0]), 1);
        // Settings that should have been refused.
        for repeat_penalty in [0.0, 1e-45, nan, inf, -1.0] {
            let mut sampler = Sampler::new(SamplerOptions { repeat_penalty, ..SamplerOptions::default() });
            sampler.accept(1);
            assert!(sampler.sample(&mut [1.0, 2.0, 3.0]) < 3);
        }
    }

    #[test]
    fn repeat_penalty_pushes_recent_tokens_down() {
        let options = SamplerOptions { repeat_penalty: 2.0, repeat_last_n: Some(1), ..SamplerOptions::greedy() };
        let mut sampler = Sampler::new(options);
        sampler.accept(1);
        assert_eq!(sampler.sample(&mut [1.0, 1.5]), 0);
        assert_eq!(sampler.sample(&mut [-1.0, -0.75]), 0);
        sampler.accept(0);
        assert_eq!(sampler.sample(&mut [1.0, 0.9]), 1, "only the last token is recent");
    }

    #[test]
    fn biases_are_added() {
        let options = SamplerOptions { logit_bias: vec![(0, 5.0), (9, 1.0)], ..SamplerOptions::greedy() };
        assert_eq!(Sampler::new(options).sample(&mut [1.0, 3.0]), 0);
    }

    #[test]
    fn the_same_seed_draws_the_same_tokens() {
        let logits: Vec<f32> = (0..1000u16).map(|i| f32::from(i % 17)).collect();
        let run = |seed| {
            let mut sampler = Sampler::new(SamplerOptions { seed, ..SamplerOptions::default() });
            (0..50).map(|_| sampler.sample(&mut logits.clone())).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }
}
