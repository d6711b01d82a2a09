//! Errors of GGUF files: each is one line that names the file, the place and the cause.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::limits;
use crate::files::FileError;
use crate::files::OutputError;
use crate::gguf::ValueType;
use crate::printable::{printable, printable_path};
use crate::tensor_type::TensorType;

/// Why a GGUF file cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input file cannot be opened or read, or has changed while it was read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The bytes are not a valid GGUF file.
    #[error(transparent)]
    Format(Box<FormatError>),
    /// The shards of a split model do not belong together.
    #[error("{}: {problem}", printable_path(path))]
    Shard {
        /// The shard that does not fit.
        path: PathBuf,
        /// What is wrong.
        problem: ShardProblem,
    },
    /// The file cannot be mapped into memory.
    #[error("{}: cannot map into memory: {source}", printable_path(path))]
    Map {
        /// The file.
        path: PathBuf,
        /// The OS error.
        source: io::Error,
    },
    /// The output file cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A key or a tensor cannot be stored in a file.
    #[error("{}: cannot write {place}: {problem}", printable_path(path))]
    Unwritable {
        /// The output.
        path: PathBuf,
        /// The key or tensor.
        place: Place,
        /// What is wrong.
        problem: Problem,
    },
    /// More data than the current tensor has room for. The name is empty when all tensors were complete.
    #[error("tensor {}: {bytes} bytes to write, room for {room}", printable(name))]
    TooMuchData {
        /// The tensor.
        name: String,
        /// Bytes that it still takes.
        room: u64,
        /// Bytes given.
        bytes: u64,
    },
    /// A file was to be finished without all of its data.
    #[error("tensor {}: {found} bytes written of {expected}", printable(name))]
    MissingData {
        /// The first tensor that is not complete.
        name: String,
        /// Its size in bytes.
        expected: u64,
        /// Bytes written.
        found: u64,
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
    /// Which part of the header.
    pub place: Place,
    /// Offset of the invalid field, in bytes from the start of the file.
    pub offset: u64,
    /// What is wrong.
    pub problem: Problem,
}

/// A part of the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A fixed field, by its name.
    Field(&'static str),
    /// A metadata entry whose key is not known yet, by its number from 0.
    KeyNumber(u64),
    /// A metadata entry.
    Key(String),
    /// A tensor whose name is not known yet, by its number from 0.
    TensorNumber(u64),
    /// A tensor.
    Tensor(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => f.write_str(name),
            Self::KeyNumber(index) => write!(f, "key number {index}"),
            Self::Key(key) => write!(f, "key {}", printable(key).limit(80)),
            Self::TensorNumber(index) => write!(f, "tensor number {index}"),
            Self::Tensor(name) => write!(f, "tensor {}", printable(name).limit(80)),
        }
    }
}

/// What is wrong at a place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Problem {
    #[error("{needed} bytes needed, {left} left in the file (truncated download?)")]
    Truncated { needed: u64, left: u64 },
    #[error("not a GGUF file: begins with \"{}\" instead of \"GGUF\"{}", printable(begins), hint(begins))]
    Magic { begins: [u8; 4] },
    #[error("big-endian file: `gguf edit FILE --byte-order little -o OUT` makes one for this machine")]
    BigEndian,
    #[error("GGUF version 1 is not supported any more: convert the model again")]
    VersionOne,
    #[error("GGUF version {0} is not known (known: 2 and 3)")]
    Version(u32),
    #[error("{count} announced, room for {room} at most in the {left} bytes left")]
    Count { count: u64, room: u64, left: u64 },
    #[error("{count} announced, the limit is {limit}")]
    TooMany { count: u64, limit: u64 },
    #[error("{bytes} bytes long, the limit is {limit}")]
    TooLong { bytes: u64, limit: u64 },
    #[error("the header is larger than the limit of {} bytes", limits::MAX_HEADER_BYTES)]
    HeaderTooLarge,
    #[error("not enough memory for a header of {0} bytes")]
    Memory(u64),
    #[error("value type {0} does not exist")]
    ValueType(u32),
    #[error("arrays inside arrays deeper than {}", limits::MAX_ARRAY_DEPTH)]
    TooDeep,
    #[error("a bool is {0}, neither 0 nor 1")]
    Bool(u8),
    #[error("the name is empty")]
    EmptyName,
    #[error("the name is not UTF-8")]
    NotUtf8,
    #[error("the name holds a zero byte")]
    ZeroInName,
    #[error("the same name twice")]
    Duplicate,
    #[error("alignment {0} is no power of two up to {max}", max = limits::MAX_ALIGNMENT)]
    Alignment(u32),
    #[error("must have type UINT32, has {}", .0.name())]
    AlignmentType(ValueType),
    #[error("{0} dimensions, the limit is {max}", max = limits::MAX_DIMS)]
    Dimensions(u32),
    #[error("shape {0:?} is too large to exist")]
    Shape(Vec<u64>),
    #[error("tensor type {0} is not known{removed}", removed = removed(.0))]
    TensorType(u32),
    #[error("rows of {cols} elements do not fill whole blocks of {} ({ty})", ty.block_len())]
    Row { cols: u64, ty: TensorType },
    #[error("data offset {offset} is no multiple of the alignment {alignment}")]
    Unaligned { offset: u64, alignment: u64 },
    #[error("data ends at byte {end}, the file at {size} (truncated download?)")]
    PastEnd { end: u64, size: u64 },
    #[error("data overlaps that of tensor {}", printable(.0))]
    Overlap(String),
}

/// What a file that is not GGUF is instead, if its first bytes show it.
fn hint(begins: &[u8; 4]) -> &'static str {
    match begins {
        b"FUGG" => " (big-endian?)",
        b"PK\x03\x04" => " (a PyTorch or zip archive?)",
        b"ggml" | b"lmgg" | b"ggjt" | b"tjgg" | b"ggmf" | b"fmgg" => " (an old GGML file?)",
        b"vers" => " (a Git LFS pointer? run `git lfs pull`)",
        b"<!do" | b"<!DO" | b"<htm" => " (a web page?)",
        [0, 0, 0, 0] => " (an interrupted download?)",
        [_, _, _, 0] => " (a safetensors checkpoint? use `gguf convert`)",
        _ => "",
    }
}

/// Remark for tensor types that ggml has removed.
fn removed(id: &u32) -> &'static str {
    if matches!(id, 4 | 5 | 31..=33 | 36..=38) { " any more" } else { "" }
}

/// Why a shard does not belong to the others.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ShardProblem {
    #[error("key {key} is missing")]
    KeyMissing { key: &'static str },
    #[error("key {key} is {found}, expected {expected}")]
    Key { key: &'static str, found: u64, expected: u64 },
    #[error("{count} shards, the limit is {max}", max = limits::MAX_SHARDS)]
    TooMany { count: u64 },
    #[error("is shard {} of {count}, and must be named NAME-{:05}-of-{count:05}.gguf for the others to be found", .no + 1, .no + 1)]
    FileName { no: u64, count: u64 },
    #[error("shard missing (opened by {})", printable_path(opened))]
    Missing { opened: PathBuf },
    #[error("the shards hold {found} tensors, {expected} announced in split.tensors.count")]
    Tensors { found: u64, expected: u64 },
    #[error("tensor {} is also in another shard", printable(name))]
    Duplicate { name: String },
}
