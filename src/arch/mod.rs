//! Model architectures: one folder a family, one row in [`FAMILIES`] to register it.
//!
//! A family says three things: which metadata keys a checkpoint's `config.json` becomes (`config.rs`), which
//! tensors there are, in which shape and from where (`tensors.rs`: conversion and loading read the same table),
//! and how they are computed with (`forward.rs`).

mod error;
mod hparams;
pub mod keys;
mod tensor_rule;

pub use error::Error;
pub use hparams::Hparams;
pub use tensor_rule::{Source, Step, TensorRule};

/// What a family says about itself.
pub trait Architecture: Sync {
    /// `general.architecture` of its files.
    fn name(&self) -> &'static str;

    /// Class names in a checkpoint's `config.json` (`architectures`) that this family converts.
    fn classes(&self) -> &'static [&'static str];

    /// Every tensor that a model with these hyper-parameters has, or may have.
    ///
    /// # Errors
    /// When a hyper-parameter that shapes depend on is missing or impossible.
    fn tensors(&self, hparams: &Hparams) -> Result<Vec<TensorRule>, Error>;
}

/// All families.
pub static FAMILIES: &[&dyn Architecture] = &[];

/// The family of a file's `general.architecture`.
///
/// # Errors
/// [`Error::UnknownArchitecture`] with the list of the known ones and the nearest.
pub fn by_name(name: &str) -> Result<&'static dyn Architecture, Error> {
    FAMILIES.iter().copied().find(|family| family.name() == name).ok_or_else(|| {
        let known: Vec<&'static str> = FAMILIES.iter().map(|family| family.name()).collect();
        Error::UnknownArchitecture { name: name.to_owned(), nearest: nearest(name, &known), known: known.join(", ") }
    })
}

/// The one of `known` with the fewest edits from `name`.
fn nearest(name: &str, known: &[&'static str]) -> &'static str {
    known.iter().copied().min_by_key(|candidate| edits(name, candidate)).unwrap_or("none")
}

/// Levenshtein distance, in bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().take(256).enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name_has_the_fewest_edits() {
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(nearest("qwen-3", &["llama", "qwen2", "qwen3"]), "qwen3");
    }
}
