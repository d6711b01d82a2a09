//! The checksums by which Ollama names blobs.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// Bytes of a step.
const STEP: usize = 1 << 20;

/// The SHA-256 of a blob.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(String);

impl Digest {
    /// Parses `sha256:` (or, as in names of files, `sha256-`) and 64 hexadecimal digits; anything else is no digest.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("sha256:").or_else(|| text.strip_prefix("sha256-"))?;
        let is_digest = digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        is_digest.then(|| Self(digits.to_ascii_lowercase()))
    }

    /// That of a text.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::finished(Sha256::new_with_prefix(bytes))
    }

    /// That of a file's bytes.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        Self::of_reader(&mut std::fs::File::open(path)?, &mut |_| Ok(()))
    }

    /// That of all bytes of `reader`, each step of which `take` gets.
    pub(crate) fn of_reader(reader: &mut dyn Read, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<Self> {
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; STEP]);
        loop {
            let n = match reader.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if n == 0 {
                return Ok(Self::finished(hash));
            }
            hash.update(&buffer[..n]);
            take(&buffer[..n])?;
        }
    }

    fn finished(hash: Sha256) -> Self {
        Self(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Its 64 hexadecimal digits.
    #[must_use]
    pub fn digits(&self) -> &str {
        &self.0
    }

    /// The first twelve digits, which are shown as a model's id.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}
