//! A list of checksums to compare a model with, as `gguf hash` and llama.cpp's `gguf-hash` print it: lines of algorithm,
//! checksum, and file name, optionally with a colon and a tensor name.

use std::collections::BTreeSet;

use super::{Algorithm, Checksum};
use crate::printable::printable;

/// The checksums of one file in a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    entries: Vec<Entry>,
}

/// A line of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// How the checksum is computed.
    pub algorithm: Algorithm,
    /// The checksum.
    pub text: String,
    /// A tensor's name; `None` for the model.
    pub tensor: Option<String>,
}

/// The result of comparing a checksum with a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The checksum matches.
    Ok,
    /// The manifest has another checksum.
    Mismatch,
    /// The manifest has no such checksum.
    NotFound,
}

impl Outcome {
    /// Its name in the output of `gguf-hash`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "Ok",
            Self::Mismatch => "Mismatch",
            Self::NotFound => "Not Found",
        }
    }
}

/// Why a manifest cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// No line has a checksum.
    #[error("no line has a checksum of a known kind (xxh64, sha1, sha256, uuid)")]
    Empty,
    /// The manifest has several files, none of this name.
    #[error("the manifest has several files, none of which is {}: {}", printable(name), printable(&found.join(", ")))]
    OtherFiles {
        /// The file that was asked for.
        name: String,
        /// The files in the manifest.
        found: Vec<String>,
    },
}

impl Manifest {
    /// Reads the checksums of the file `name`, whose tensors are `tensors`, from a manifest. If the manifest has a single file, that
    /// is used whatever its name; otherwise the file of the same name.
    ///
    /// # Errors
    /// When the manifest has no checksum, or only those of several other files.
    pub fn parse(text: &str, name: &str, tensors: &[&str]) -> Result<Self, ManifestError> {
        let lines: Vec<(Algorithm, &str, &str)> = text.lines().filter_map(line).collect();
        if lines.is_empty() {
            return Err(ManifestError::Empty);
        }
        let file = file(&lines, name, tensors)?;
        let of_file = |&(algorithm, text, name): &(Algorithm, &str, &str)| {
            let tensor = match name.strip_prefix(file)? {
                "" => None,
                rest => Some(rest.strip_prefix(':')?.to_owned()),
            };
            Some(Entry { algorithm, text: text.to_ascii_lowercase(), tensor })
        };
        Ok(Self { entries: lines.iter().filter_map(of_file).collect() })
    }

    /// The algorithms in it.
    #[must_use]
    pub fn algorithms(&self) -> BTreeSet<Algorithm> {
        self.entries.iter().map(|entry| entry.algorithm).collect()
    }

    /// Whether it has checksums of tensors.
    #[must_use]
    pub fn has_tensors(&self) -> bool {
        self.entries.iter().any(|entry| entry.tensor.is_some())
    }

    /// Compares a checksum with the manifest.
    #[must_use]
    pub fn check(&self, checksum: &Checksum) -> Outcome {
        let same = |entry: &&Entry| entry.algorithm == checksum.algorithm && entry.tensor == checksum.tensor;
        match self.entries.iter().find(same) {
            None => Outcome::NotFound,
            Some(entry) if entry.text == checksum.text => Outcome::Ok,
            Some(_) => Outcome::Mismatch,
        }
    }

    /// Tensors of the manifest that the model does not have.
    #[must_use]
    pub fn missing(&self, tensors: &[&str]) -> BTreeSet<&str> {
        self.entries.iter().filter_map(|entry| entry.tensor.as_deref()).filter(|name| !tensors.contains(name)).collect()
    }
}

/// Algorithm, checksum and name of a line; `None` for other lines.
fn line(line: &str) -> Option<(Algorithm, &str, &str)> {
    let (algorithm, rest) = line.trim().split_once(char::is_whitespace)?;
    let algorithm = Algorithm::ALL.into_iter().find(|one| one.name() == algorithm)?;
    let (text, name) = rest.trim_start().split_once(char::is_whitespace)?;
    let outcomes = ["Ok", "Mismatch", "Not Found"].map(|outcome| format!("  -  {outcome}"));
    let name = name.trim_start();
    let name = outcomes.iter().find_map(|outcome| name.strip_suffix(outcome.as_str())).unwrap_or(name);
    (!name.is_empty()).then_some((algorithm, text, name))
}

/// The name in the manifest of the file `name`.
fn file<'a>(lines: &[(Algorithm, &str, &'a str)], name: &str, tensors: &[&str]) -> Result<&'a str, ManifestError> {
    let mut files: BTreeSet<&'a str> = BTreeSet::new();
    for (.., found) in lines {
        let of_tensor = |tensor: &&str| found.strip_suffix(*tensor)?.strip_suffix(':');
        files.insert(tensors.iter().find_map(of_tensor).unwrap_or(found));
    }
    // A tensor that the model does not have looks like a file.
    let others = files.clone();
    files.retain(|file| !others.iter().any(|other| file.strip_prefix(other).is_some_and(|rest| rest.starts_with(':'))));
    let last = |path: &str| path.rsplit(['/', '\\']).next().map(str::to_owned);
    let same_name: Vec<&'a str> = files.iter().copied().filter(|file| last(file) == last(name)).collect();
    match (&same_name[..], files.len()) {
        _ if files.contains(name) => Ok(files.iter().copied().find(|file| *file == name).unwrap_or_default()),
        ([one], _) => Ok(one),
        (_, 1) => Ok(files.first().copied().unwrap_or_default()),
        _ => {
            let found = files.iter().map(|file| (*file).to_owned()).collect();
            Err(ManifestError::OtherFiles { name: name.to_owned(), found })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checksum(algorithm: Algorithm, tensor: Option<&str>, text: &str) -> Checksum {
        Checksum { algorithm, tensor: tensor.map(str::to_owned), text: text.into() }
    }

    #[test]
    fn lines_are_those_of_gguf_hash() {
        let text = "manifest  m.txt  xxh64\nxxh64     0f  a b/x.gguf:w  -  Ok\nxxh64  1A  a b/x.gguf:gone\nsha256    2b  a b/x.gguf\n\nVerification results for m.txt - Success\n";
        let manifest = Manifest::parse(text, "elsewhere.gguf", &["w", "v"]).expect("valid");
        let check = |algorithm, tensor, text| manifest.check(&checksum(algorithm, tensor, text));
        assert_eq!(check(Algorithm::Xxh64, Some("w"), "0f"), Outcome::Ok);
        assert_eq!(check(Algorithm::Xxh64, Some("w"), "0e"), Outcome::Mismatch);
        assert_eq!(check(Algorithm::Xxh64, Some("v"), "0f"), Outcome::NotFound);
        assert_eq!(check(Algorithm::Sha256, None, "2b"), Outcome::Ok);
        assert_eq!(manifest.missing(&["w", "v"]).into_iter().collect::<Vec<_>>(), ["gone"]);
        assert_eq!(Vec::from_iter(manifest.algorithms()), [Algorithm::Xxh64, Algorithm::Sha256]);
    }

    #[test]
    fn of_several_files_the_one_of_the_name_counts() {
        let text = "sha1  01  a/x.gguf\nsha1  02  a/y.gguf\n";
        let manifest = Manifest::parse(text, "/b/y.gguf", &[]).expect("valid");
        assert_eq!(manifest.check(&checksum(Algorithm::Sha1, None, "02")), Outcome::Ok);
        let other = Manifest::parse(text, "z.gguf", &[]).expect_err("which?").to_string();
        assert_eq!(other, "the manifest has several files, none of which is z.gguf: a/x.gguf, a/y.gguf");
        assert_eq!(Manifest::parse("hello\n", "x", &[]), Err(ManifestError::Empty));
    }
}
