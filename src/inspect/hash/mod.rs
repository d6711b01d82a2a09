//! Checksums of a model and of each of its tensors, the same as those of llama.cpp's `gguf-hash`: over the tensors' bytes
//! alone, so that metadata, padding and the split into files change nothing. Used by `gguf hash`.

mod manifest;

pub use manifest::{Entry, Manifest, ManifestError, Outcome};

use std::fmt::Write as _;

use rayon::prelude::*;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use twox_hash::XxHash64;

use crate::gguf::{Error, Reader, TensorInfo};

/// Bytes that are read at once.
const PIECE: u64 = 1 << 20;
/// The name space of model UUIDs: the version 5 UUID of `en.wikipedia.org/wiki/Llama.cpp` in the name space of URLs.
const NAMESPACE: [u8; 16] =
    [0xef, 0x00, 0x12, 0x06, 0xda, 0xdc, 0x5f, 0x6d, 0xa1, 0x5f, 0x33, 0x59, 0xe5, 0x77, 0xd4, 0xe5];

/// How a checksum is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// XXH64 with seed 0: fast, not cryptographic.
    Xxh64,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
    /// A version 5 UUID for the whole model, from SHA-1.
    Uuid,
}

impl Algorithm {
    /// All algorithms, in the order of output.
    pub const ALL: [Self; 4] = [Self::Xxh64, Self::Sha1, Self::Sha256, Self::Uuid];

    /// Its name in a manifest.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Xxh64 => "xxh64",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Uuid => "uuid",
        }
    }

    fn start(self) -> Sum {
        match self {
            Self::Xxh64 => Sum::Xxh64(Box::new(XxHash64::with_seed(0))),
            Self::Sha1 => Sum::Sha1(Sha1::new()),
            Self::Sha256 => Sum::Sha256(Sha256::new()),
            Self::Uuid => Sum::Uuid(Sha1::new().chain_update(NAMESPACE)),
        }
    }
}

/// A checksum of a tensor, or of all tensors in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksum {
    /// How it is computed.
    pub algorithm: Algorithm,
    /// The tensor's name; `None` for the model.
    pub tensor: Option<String>,
    /// Its usual form: hexadecimal digits, in groups for a UUID.
    pub text: String,
}

/// Checksums of a model with all of `algorithms`; with `tensors`, those of each tensor come first. `progress` is called with the
/// number of bytes done, from several threads.
///
/// # Errors
/// When the file cannot be read.
pub fn checksums(
    reader: &Reader,
    algorithms: &[Algorithm],
    tensors: bool,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Vec<Checksum>, Error> {
    let all = reader.tensors();
    let chosen: Vec<Algorithm> = Algorithm::ALL.into_iter().filter(|one| algorithms.contains(one)).collect();
    // The longest tasks start first.
    let mut tasks: Vec<(Algorithm, &[TensorInfo])> = chosen.iter().map(|&algorithm| (algorithm, all)).collect();
    if tensors {
        let of_tensors = chosen.iter().copied().filter(|&algorithm| algorithm != Algorithm::Uuid);
        let of_tensors: Vec<Algorithm> = of_tensors.collect();
        for tensor in all {
            tasks.extend(of_tensors.iter().map(|&algorithm| (algorithm, std::slice::from_ref(tensor))));
        }
    }
    let sum = |&(algorithm, tensors): &(Algorithm, &[TensorInfo])| sum(reader, algorithm, tensors, progress);
    let texts: Vec<String> = tasks.par_iter().with_max_len(1).map(sum).collect::<Result<_, _>>()?;
    let checksum = |(i, ((algorithm, tensors), text)): (usize, (&(Algorithm, &[TensorInfo]), String))| {
        let tensor = (i >= chosen.len()).then(|| tensors[0].name.clone());
        Checksum { algorithm: *algorithm, tensor, text }
    };
    let mut checksums: Vec<Checksum> = tasks.iter().zip(texts).enumerate().map(checksum).collect();
    // Those of the model come last.
    checksums.rotate_left(chosen.len());
    Ok(checksums)
}

fn sum(
    reader: &Reader,
    algorithm: Algorithm,
    tensors: &[TensorInfo],
    progress: &(dyn Fn(u64) + Sync),
) -> Result<String, Error> {
    let mut sum = algorithm.start();
    let mut piece = Vec::new();
    for tensor in tensors {
        let mut offset = 0;
        while offset < tensor.bytes() {
            let n = PIECE.min(tensor.bytes() - offset);
            piece.resize(usize::try_from(n).unwrap_or(0), 0);
            reader.read_at(tensor, offset, &mut piece)?;
            sum.add(&piece);
            progress(n);
            offset += n;
        }
    }
    Ok(sum.finish())
}

/// A checksum that is being computed.
enum Sum {
    Xxh64(Box<XxHash64>),
    Sha1(Sha1),
    Sha256(Sha256),
    Uuid(Sha1),
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        match self {
            Self::Xxh64(sum) => std::hash::Hasher::write(&mut **sum, bytes),
            Self::Sha1(sum) | Self::Uuid(sum) => sum.update(bytes),
            Self::Sha256(sum) => sum.update(bytes),
        }
    }

    fn finish(self) -> String {
        match self {
            Self::Xxh64(sum) => hex(&std::hash::Hasher::finish(&*sum).to_be_bytes()),
            Self::Sha1(sum) => hex(&sum.finalize()),
            Self::Sha256(sum) => hex(&sum.finalize()),
            Self::Uuid(sum) => uuid(&sum.finalize()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A UUID of version 5 (RFC 9562, section 5.5) of a SHA-1 sum.
fn uuid(sum: &[u8]) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&sum[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x50;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let groups: Vec<String> =
        [&bytes[..4], &bytes[4..6], &bytes[6..8], &bytes[8..10], &bytes[10..]].map(hex).into_iter().collect();
    groups.join("-")
}
