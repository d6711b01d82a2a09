//! Errors of checkpoints: each is one line that names the file, the place and the cause.

use std::fmt;
use std::path::PathBuf;

use super::dtype::Dtype;
use crate::files::FileError;
use crate::printable::{printable, printable_path};

/// Why a checkpoint cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be opened or read, or has changed while it was read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The folder has no checkpoint.
    #[error(
        "{}: no checkpoint: neither model.safetensors nor model.safetensors.index.json{hint}",
        printable_path(folder)
    )]
    NoCheckpoint {
        /// The folder.
        folder: PathBuf,
        /// What the folder has instead, for the message; may be empty.
        hint: &'static str,
    },
    /// A file is not a valid safetensors file.
    #[error(transparent)]
    Format(Box<FormatError>),
    /// The index is not valid, or does not match the shards.
    #[error("{}: {problem}", printable_path(path))]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong.
        problem: IndexProblem,
    },
    /// A read of tensor data that is not inside the tensor.
    #[error("tensor {}: bytes {offset} to {offset}+{len} asked for, it has {bytes}", printable(name))]
    OutOfTensor {
        /// The tensor.
        name: String,
        /// First byte asked for.
        offset: u64,
        /// Number of bytes asked for.
        len: usize,
        /// Bytes the tensor has.
        bytes: u64,
    },
}

/// An invalid field of a file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {place} at offset {offset}: {problem}", printable_path(path))]
pub struct FormatError {
    /// The file.
    pub path: PathBuf,
    /// Which part of it.
    pub place: Place,
    /// Offset of the invalid field, in bytes from the start of the file.
    pub offset: u64,
    /// What is wrong.
    pub problem: Problem,
}

/// A part of a safetensors file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The number of bytes that the header takes.
    HeaderLength,
    /// The header as a whole.
    Header,
    /// A tensor.
    Tensor(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeaderLength => f.write_str("header length"),
            Self::Header => f.write_str("header"),
            Self::Tensor(name) => write!(f, "tensor {}", printable(name).limit(200)),
        }
    }
}

/// What is wrong at a place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Problem {
    #[error("{needed} bytes needed, {left} left in the file (truncated download?){}", hint(begins))]
    Truncated { needed: u64, left: u64, begins: Vec<u8> },
    #[error("{bytes} bytes long, the limit is {limit}{}", hint(begins))]
    TooLong { bytes: u64, limit: u64, begins: Vec<u8> },
    #[error("not valid: {}", printable(.0).limit(200))]
    Json(String),
    #[error("the same name twice")]
    Duplicate,
    #[error("dtype {} is not known", printable(.0).limit(40))]
    Dtype(String),
    #[error("{0} dimensions, the limit is {max}", max = super::MAX_DIMS)]
    Dimensions(usize),
    #[error("shape {0:?} is too large to exist")]
    Shape(Vec<u64>),
    #[error("data end at byte {end} of the data section, before they begin at {start}")]
    Range { start: u64, end: u64 },
    #[error("{found} bytes of data, but shape {shape:?} of {dtype} takes {expected}")]
    Size { found: u64, expected: u64, shape: Vec<u64>, dtype: Dtype },
    #[error("data begin at byte {start} of the data section, where {} end at {expected}",
        if *.start < *.expected { "those of another tensor" } else { "the data before them" })]
    NotAdjacent { start: u64, expected: u64 },
    #[error("data end at byte {end}, the file at {size} (truncated download?)")]
    PastEnd { end: u64, size: u64 },
    #[error("{bytes} bytes after the last tensor belong to no tensor")]
    Trailing { bytes: u64 },
}

/// What a file that is not safetensors is instead, if its first bytes show it.
fn hint(begins: &[u8]) -> &'static str {
    match begins {
        [b'P', b'K', 3, 4, ..] => "; a PyTorch or zip archive?",
        [b'G', b'G', b'U', b'F', ..] => "; a GGUF file?",
        [b'v', b'e', b'r', b's', ..] => "; a Git LFS pointer? run `git lfs pull`",
        [b'<', ..] => "; a web page?",
        _ => "",
    }
}

/// What is wrong with an index of shards.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages say it")]
pub enum IndexProblem {
    #[error("not valid: {}", printable(.0).limit(200))]
    Json(String),
    #[error("weight_map names no tensors")]
    Empty,
    #[error("weight_map names tensor {} twice", printable(.0).limit(200))]
    Duplicate(String),
    #[error("shard \"{}\" of tensor {} is no plain name of a .safetensors file",
        printable(shard).limit(80), printable(tensor).limit(200))]
    ShardName { tensor: String, shard: String },
    #[error("shard {} is missing", printable(.0))]
    ShardMissing(String),
    #[error("tensor {} is not in shard {}", printable(tensor).limit(200), printable(shard))]
    TensorMissing { tensor: String, shard: String },
    #[error("tensor {} of shard {} is not named in weight_map", printable(tensor).limit(200), printable(shard))]
    Unlisted { tensor: String, shard: String },
    #[error("tensor {} is in shard {}, and in {} too", printable(tensor).limit(200), printable(shard), printable(other))]
    InTwoShards { tensor: String, shard: String, other: String },
}
