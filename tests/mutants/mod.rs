//! Mutants of everything that is read: GGUF files whose hyper-parameters are odd and whose tensors fit them, the files of
//! checkpoints, templates, manifests, recipes. Each goes as far as it comes: through conversion, loading and a forward pass.
//!
//! A mutant is made by [`Choices`]: of a seeded generator in the test suite (`tests/integration/hostile/mutants.rs`), of a fuzzer's
//! bytes in `tests/fuzz`.

mod checkpoints;
mod choices;
mod memory;
pub(crate) mod models;
mod templates;
mod texts;

pub(crate) use checkpoints::{Checkpoints, Kind, Sentencepieces};
pub(crate) use choices::Choices;
pub(crate) use memory::{Counting, allocations, peak_of};
pub(crate) use models::{Models, goldens, run, specs};
pub(crate) use templates::Templates;
pub(crate) use texts::{Manifests, Stores};

/// A message where a mutant is refused; in one line, which names the file for those of GGUF files.
pub(crate) type Outcome = Result<(), String>;

/// A mutant, which has not run yet.
pub(crate) struct Mutant<'m> {
    /// What it is, for messages.
    pub(crate) told: String,
    /// Bytes of all that is read.
    pub(crate) bytes: usize,
    /// Reads it and goes on with it as far as it comes.
    pub(crate) run: Box<dyn FnOnce() -> Outcome + 'm>,
}

/// What mutants are made of.
pub(crate) trait Subject {
    /// Makes a mutant.
    fn mutant<'m>(&'m mut self, choices: &'m mut Choices<'_>) -> Mutant<'m>;
}

/// Bytes that a program may ask for to read `bytes` of strangers.
pub(crate) const fn allowance(bytes: usize) -> usize {
    10 * bytes + (64 << 20)
}
