//! Seeded mutants of everything that is read (`tests/mutants`). None may panic, take longer than a bound, or ask for more memory
//! than ten times what is read and 64 MiB.
//!
//! `GGUF_MUTANTS=N` makes N times as many as usual, and other ones.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::super::folder::Folder;
use super::super::mutants::{
    Checkpoints, Choices, Kind, Manifests, Models, Mutant, Sentencepieces, Stores, Subject, Templates, allowance,
    peak_of,
};
use super::check_line;

/// The longest that any mutant may take, in a build without optimizations on a machine that has other work.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many times the usual number of mutants.
fn times() -> usize {
    std::env::var("GGUF_MUTANTS").ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// What became of mutants.
#[derive(Default)]
struct Tally {
    faults: Vec<String>,
    good: usize,
    refused: usize,
}

impl Tally {
    /// Runs a mutant, which must come to an end in time and memory and without a panic. Messages are of the file `name`, if any.
    fn judge(&mut self, number: usize, mutant: Mutant<'_>, name: Option<&str>) {
        let Mutant { told, bytes, run } = mutant;
        let start = Instant::now();
        let mut outcome = None;
        let peak = peak_of(|| outcome = catch_unwind(AssertUnwindSafe(run)).ok());
        match outcome {
            None => self.faults.push(format!("mutant {number}, {told}: panics")),
            Some(Ok(())) => self.good += 1,
            Some(Err(message)) => {
                self.refused += 1;
                if let Some(name) = name {
                    check_line(&message, name);
                }
            }
        }
        if start.elapsed() > PATIENCE {
            self.faults.push(format!("mutant {number}, {told}: {:?}", start.elapsed()));
        }
        if peak > allowance(bytes) {
            self.faults.push(format!("mutant {number}, {told}: {peak} bytes for {bytes}"));
        }
    }

    /// Checks that nothing was wrong, and that mutants are neither all good nor all refused: that would test little.
    fn done(&self, least_good: usize, least_refused: usize) {
        assert!(self.faults.is_empty(), "{} faults:\n{}", self.faults.len(), self.faults.join("\n"));
        assert!(
            self.good >= least_good && self.refused >= least_refused,
            "{} good, {} refused",
            self.good,
            self.refused
        );
    }
}

/// Runs as many mutants of a subject.
fn judge(subject: &mut impl Subject, seed: u64, count: usize, name: Option<&str>) -> Tally {
    let mut choices = Choices::seeded(seed + times() as u64 * 2);
    let mut tally = Tally::default();
    for number in 0..count * times() {
        tally.judge(number, subject.mutant(&mut choices), name);
    }
    tally
}

#[test]
fn odd_models_whose_tensors_fit_run_or_are_refused() {
    let folder = Folder::new("mutants-models");
    let tally = judge(&mut Models::new(&folder), 0x0dd0_b41d_5eed_0001, 1200, Some("m.gguf"));
    tally.done(150 * times(), 150 * times());
}

#[test]
fn damaged_files_of_checkpoints_are_refused_or_convert_and_run() {
    let folder = Folder::new("mutants-checkpoints");
    let names = ["qwen2", "gemma2", "mixtral", "phi3", "qwen35", "deepseek2"];
    for (kind, count) in
        [(Kind::Any, 200), (Kind::Config, 100), (Kind::Tokenizer, 60), (Kind::Safetensors, 60), (Kind::Card, 30)]
    {
        let mut checkpoints = Checkpoints::new(&folder, &names, kind);
        let tally = judge(&mut checkpoints, 0x0dd0_c4ec_5eed_0003 + kind as u64, count, None);
        tally.done(5 * times(), if kind == Kind::Card { 0 } else { 5 * times() });
    }
}

#[test]
fn damaged_sentencepiece_models_are_refused_or_convert() {
    let folder = Folder::new("mutants-sentencepiece");
    judge(&mut Sentencepieces::new(&folder), 0x0dd0_59ec_5eed_0005, 150, None).done(10, 30);
}

#[test]
fn damaged_templates_are_refused_or_render() {
    judge(&mut Templates::new(), 0x0dd0_7e3b_5eed_0007, 1500, None).done(100, 100);
}

#[test]
fn damaged_manifests_and_recipes_are_refused_or_read() {
    let folder = Folder::new("mutants-manifests");
    judge(&mut Manifests, 0x0dd0_3a9f_5eed_0009, 2000, None).done(300, 300);
    judge(&mut Stores::new(&folder), 0x0dd0_57f0_5eed_000b, 1000, None).done(100, 100);
}

#[test]
fn the_bytes_of_a_fuzzer_make_the_same_mutant_again() {
    let mut templates = Templates::new();
    let mut told = |bytes: &[u8]| templates.mutant(&mut Choices::of_bytes(bytes)).told;
    let bytes = b"a seed and choices behind it";
    assert_eq!(told(bytes), told(bytes));
    assert_ne!(told(bytes), told(b"a seed and others behind it!"));
    assert_ne!(told(b""), told(b"x"));
}
