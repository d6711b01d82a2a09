//! Checksums with which servers identify the content of files.

use std::fs::File;
use std::io::Read;

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The expected checksum of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Checksum {
    /// SHA-256 of the bytes, in lower-case hexadecimal.
    Sha256(String),
    /// SHA-1 of `blob LENGTH\0` and the bytes, as in git.
    Git(String),
}

impl Checksum {
    /// A SHA-256 from 64 hexadecimal digits.
    pub(super) fn sha256(digits: &str) -> Option<Self> {
        is_hex(digits, 64).then(|| Self::Sha256(digits.to_ascii_lowercase()))
    }

    /// A git checksum from 40 hexadecimal digits.
    pub(super) fn git(digits: &str) -> Option<Self> {
        is_hex(digits, 40).then(|| Self::Git(digits.to_ascii_lowercase()))
    }

    /// Its digits.
    pub(super) fn digits(&self) -> &str {
        match self {
            Self::Sha256(digits) | Self::Git(digits) => digits,
        }
    }

    /// Computes the checksum of the first `bytes` bytes of a file. `seen` is called with the number of bytes read, and stops by
    /// returning false; the result is `None` then.
    pub(super) fn of(
        &self,
        mut file: &File,
        bytes: u64,
        seen: &mut dyn FnMut(u64) -> bool,
    ) -> std::io::Result<Option<String>> {
        match self {
            Self::Sha256(_) => digest(Sha256::new(), &mut file, bytes, seen),
            Self::Git(_) => {
                let hash = Sha1::new_with_prefix(format!("blob {bytes}\0"));
                digest(hash, &mut file, bytes, seen)
            }
        }
    }
}

fn digest<D: Digest>(
    mut hash: D,
    file: &mut impl Read,
    bytes: u64,
    seen: &mut dyn FnMut(u64) -> bool,
) -> std::io::Result<Option<String>> {
    let mut file = file.take(bytes);
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0;
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(Some(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()));
        }
        hash.update(&buffer[..n]);
        done += n as u64;
        if !seen(done) {
            return Ok(None);
        }
    }
}

pub(super) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
