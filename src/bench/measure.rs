//! Measures prompts and generation at given depths, on a session like that of other commands.

#![allow(clippy::cast_precision_loss, reason = "rates, of which three digits are shown")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cpu::KvType;
use crate::engine::{Error, Session, SessionOptions};
use crate::kernels::{Limits, Pool};
use crate::memory::{self, Memory};
use crate::model::{Model, Work};

/// Tokens of the prompt for measuring the time to the first token.
const FIRST_PROMPT: usize = 16;

/// Options of a measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Lengths of prompts.
    pub prompts: Vec<usize>,
    /// Tokens to generate.
    pub generations: Vec<usize>,
    /// Numbers of tokens evaluated before.
    pub depths: Vec<usize>,
    /// Repetitions of each test.
    pub repetitions: usize,
    /// Tokens of a forward pass.
    pub batch_size: usize,
    /// Type of cached keys and values.
    pub kv_type: KvType,
}

/// The kind of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Evaluates a prompt.
    Prompt,
    /// Generates token by token.
    Generation,
}

/// One test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Test {
    /// Its kind.
    pub kind: Kind,
    /// Number of tokens.
    pub tokens: usize,
    /// Number of tokens evaluated before.
    pub depth: usize,
}

/// The result of a test.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The test.
    pub test: Test,
    /// Seconds of each repetition.
    pub seconds: Vec<f64>,
    /// The least seconds that the machine's limits allow.
    pub least_seconds: f64,
    /// Share of the time that the calling thread waited for others.
    pub waiting: f64,
}

impl Measured {
    /// Tokens per second of each repetition.
    fn rates(&self) -> impl Iterator<Item = f64> + '_ {
        self.seconds.iter().map(|seconds| self.test.tokens as f64 / seconds)
    }

    /// Mean of the repetitions, in tokens per second.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.rates().sum::<f64>() / self.seconds.len().max(1) as f64
    }

    /// Standard deviation of the repetitions, in tokens per second.
    #[must_use]
    pub fn deviation(&self) -> f64 {
        let mean = self.mean();
        let squares: f64 = self.rates().map(|rate| (rate - mean).powi(2)).sum();
        (squares / self.seconds.len().saturating_sub(1).max(1) as f64).sqrt()
    }

    /// The share of the machine's limit that the mean reaches.
    #[must_use]
    pub fn share_of_limit(&self) -> f64 {
        self.mean() * self.least_seconds / self.test.tokens as f64
    }
}

/// All results of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The machine's limits.
    pub limits: Limits,
    /// The model's work.
    pub work: Work,
    /// Time to the logits of a prompt of 16 tokens in an empty session.
    pub first_prompt: Duration,
    /// Bytes of the cache at the greatest depth.
    pub cache_bytes: usize,
    /// Memory of this process at the end.
    pub memory: Option<Memory>,
    /// The tests, in order.
    pub tests: Vec<Measured>,
}

/// Arbitrary tokens of a vocabulary, the same in every run.
#[must_use]
pub fn prompt(tokens: usize, vocab_size: usize) -> Vec<u32> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from((state >> 33) % vocab_size.max(1) as u64).unwrap_or(0)
    };
    (0..tokens).map(|_| next()).collect()
}

/// Runs all tests. `progress` is called before each, and stops the measurement by returning false; the result is `None`
/// then.
///
/// # Errors
/// When a test has no tokens.
pub fn measure(
    model: &Arc<Model>,
    pool: &Arc<Pool>,
    options: &Options,
    progress: &mut dyn FnMut(Test) -> bool,
) -> Result<Option<Report>, Error> {
    let tests = tests(options);
    let longest = tests.iter().map(|test| test.tokens + test.depth).max().unwrap_or(0).max(FIRST_PROMPT);
    let session =
        SessionOptions { context_length: Some(longest), batch_size: options.batch_size, kv_type: options.kv_type };
    let mut session = Session::new(Arc::clone(model), Arc::clone(pool), session);
    let tokens = prompt(longest, model.decoder().vocab_size());
    let start = Instant::now();
    session.evaluate(&tokens[..FIRST_PROMPT], &mut |_| true)?;
    let first_prompt = start.elapsed();
    let weights: Vec<_> = model.tensors().iter().map(|(_, matrix)| matrix.shared_bytes().clone()).collect();
    let before = Limits::measure(pool, &weights);
    let work = Work::of(model, options.kv_type);
    let mut measured = Vec::new();
    let mut cache_bytes = 0;
    for test in tests {
        if !progress(test) {
            return Ok(None);
        }
        measured.push(run(&mut session, pool, &tokens, test, options.repetitions)?);
        cache_bytes = cache_bytes.max(session.cache_bytes());
    }
    // Other programs can only lower the measured limits.
    let limits = before.max(Limits::measure(pool, &weights));
    for measured in &mut measured {
        let Test { kind, tokens, depth } = measured.test;
        measured.least_seconds = match kind {
            Kind::Prompt => work.prompt_seconds(tokens, depth, &limits),
            Kind::Generation => work.generation_seconds(tokens, depth, &limits),
        };
    }
    Ok(Some(Report { limits, work, first_prompt, cache_bytes, memory: memory::of_process(), tests: measured }))
}

/// Prompts before generations, at one depth after the other.
fn tests(options: &Options) -> Vec<Test> {
    let mut tests = Vec::new();
    for &depth in &options.depths {
        for (kind, lengths) in [(Kind::Prompt, &options.prompts), (Kind::Generation, &options.generations)] {
            tests.extend(lengths.iter().filter(|&&n| n > 0).map(|&tokens| Test { kind, tokens, depth }));
        }
    }
    tests
}

/// Runs one test: once for warming up, then `repetitions` times.
fn run(session: &mut Session, pool: &Pool, tokens: &[u32], test: Test, repetitions: usize) -> Result<Measured, Error> {
    let mut seconds = Vec::new();
    let mut waiting = Duration::ZERO;
    for repetition in 0..=repetitions.max(1) {
        session.truncate(test.depth);
        let held = session.tokens().len();
        if held < test.depth {
            session.evaluate(&tokens[held..test.depth], &mut |_| true)?;
        }
        // A few tokens are enough for warming up generation.
        let warms_up = repetition == 0;
        let count = if warms_up && test.kind == Kind::Generation { test.tokens.min(2) } else { test.tokens };
        let counted = &tokens[test.depth..test.depth + count];
        let (start, waited) = (Instant::now(), pool.regions().waiting);
        match test.kind {
            Kind::Prompt => drop(session.evaluate(counted, &mut |_| true)?),
            Kind::Generation => {
                for token in counted {
                    session.evaluate(std::slice::from_ref(token), &mut |_| true)?;
                }
            }
        }
        if !warms_up {
            seconds.push(start.elapsed().as_secs_f64());
            waiting += pool.regions().waiting - waited;
        }
    }
    let waiting = waiting.as_secs_f64() / seconds.iter().sum::<f64>();
    Ok(Measured { test, seconds, least_seconds: 0.0, waiting })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Shape, SyntheticModel};
    use crate::bytes::Bytes;
    use crate::gguf::Reader;
    use crate::quantize::{FileType, Options as QuantizeOptions, Plan, run_in_memory};

    #[test]
    fn a_made_model_is_measured() {
        let made = SyntheticModel::new(Shape::from_name("llama-tiny").expect("in the table")).expect("made");
        let plan = Plan::new(&made, &QuantizeOptions::new(FileType::Q4_K_M)).expect("a plan");
        let bytes = run_in_memory(&made, &plan).expect("quantized");
        let reader = Reader::from_bytes("made", Bytes::from(bytes)).expect("valid");
        let model = Arc::new(Model::from_reader(&reader).expect("a model"));
        let pool = Arc::new(Pool::new(2));
        let options = Options {
            prompts: vec![20],
            generations: vec![3],
            depths: vec![0, 40],
            repetitions: 2,
            batch_size: 16,
            kv_type: KvType::F16,
        };
        let mut seen = Vec::new();
        let report = measure(&model, &pool, &options, &mut |test| {
            seen.push((test.kind, test.tokens, test.depth));
            true
        });
        let report = report.expect("measured").expect("not stopped");
        let expected =
            [(Kind::Prompt, 20, 0), (Kind::Generation, 3, 0), (Kind::Prompt, 20, 40), (Kind::Generation, 3, 40)];
        assert_eq!(seen, expected);
        for measured in &report.tests {
            assert_eq!(measured.seconds.len(), 2);
            assert!(measured.mean() > 0.0 && measured.share_of_limit() > 0.0 && measured.waiting < 1.0, "{measured:?}");
        }
        // Two layers: q, k, v, o and three matrices of the feed-forward part; a tied output. Only the last token is computed in
        // all of the second layer.
        let (key_value, others) = (2 * 256 * 128, 256 * 256 * 2 + 3 * 256 * 512);
        let products = [&report.work.each, &report.work.last].map(|products| products.weights.values().sum::<f64>());
        assert_eq!(products, [2 * key_value + others, others + 512 * 256].map(f64::from));
        assert_eq!(report.work.cache_bytes, f64::from(2 * 2 * 128 * 2));
        assert!(measure(&model, &pool, &options, &mut |_| false).expect("stopped").is_none());
    }
}
