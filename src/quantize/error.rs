//! Errors of quantizing a model.

use std::path::PathBuf;

use crate::TensorType;
use crate::gguf;
use crate::printable::{printable, printable_path};

/// An error of a plan, its source or its output.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input or the output file.
    #[error(transparent)]
    File(#[from] gguf::Error),
    /// The source cannot be read.
    #[error(transparent)]
    Source(Box<dyn std::error::Error + Send + Sync>),
    /// A key that the rules of a mix need is missing or invalid.
    #[error("{}: key {}: {problem}", printable_path(path), printable(key))]
    Key {
        /// The input.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A tensor that is quantized already.
    #[error(
        "{}: tensor {} is {ty} already (quantizing it once more loses quality; --allow-requantize does it)",
        printable_path(path),
        printable(name)
    )]
    Requantize {
        /// The input.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type.
        ty: TensorType,
    },
    /// A tensor of a type that cannot be read as weights.
    #[error("{}: tensor {}: {ty} cannot be converted to another type", printable_path(path), printable(name))]
    NotReadable {
        /// The input.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type.
        ty: TensorType,
    },
    /// A type that can be read but not written.
    #[error("{}: tensor {}: {ty} cannot be written yet", printable_path(path), printable(name))]
    NotWritable {
        /// The input.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The type.
        ty: TensorType,
    },
    /// Rows of a tensor do not fill blocks of its type, and no fallback is allowed.
    #[error(
        "{}: tensor {}: rows of {cols} elements do not fill blocks of {ty} (it would become {fallback}; --no-fallback forbids it)",
        printable_path(path),
        printable(name)
    )]
    Fallback {
        /// The input.
        path: PathBuf,
        /// The first such tensor.
        name: String,
        /// Elements of a row.
        cols: u64,
        /// The type it should have.
        ty: TensorType,
        /// The type it would have.
        fallback: TensorType,
    },
    /// A weight is NaN or infinite.
    #[error("{}: tensor {}: element {index} is {value}", printable_path(path), printable(name))]
    NotFinite {
        /// The input.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Number of the element.
        index: u64,
        /// Its value.
        value: f32,
    },
    /// A weight is so large that the scale of its block, in half precision, would be infinite.
    #[error(
        "{}: tensor {}: {value} at element {index} is too large for a block of {ty}",
        printable_path(path),
        printable(name)
    )]
    TooLarge {
        /// The input.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Number of the element.
        index: u64,
        /// Its value.
        value: f32,
        /// The type that cannot hold it.
        ty: TensorType,
    },
    /// An importance matrix that cannot be used.
    #[error("{}: {problem}", printable_path(path))]
    Importance {
        /// The matrix.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// An importance matrix of another model.
    #[error(
        "{}: tensor {}: the importance matrix has {found} columns for it, the tensor has {expected}",
        printable_path(path),
        printable(name)
    )]
    ImportanceLength {
        /// The model.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Columns that the importance matrix has for the tensor.
        found: usize,
        /// Columns of the tensor.
        expected: u64,
    },
    /// A type that needs importance, for a tensor without any.
    #[error(
        "{}: tensor {}: {ty} needs an importance matrix that has this tensor (`gguf imatrix` makes one)",
        printable_path(path),
        printable(name)
    )]
    NeedsImportance {
        /// The model.
        path: PathBuf,
        /// The first such tensor.
        name: String,
        /// The type that it should have.
        ty: TensorType,
    },
    /// A pattern of `--tensor-type` that matches nothing.
    #[error("{}: no tensor matches {}", printable_path(path), printable(pattern))]
    NoMatch {
        /// The model.
        path: PathBuf,
        /// The pattern.
        pattern: String,
    },
    /// A pattern of `--tensor-type` that is not a regular expression.
    #[error("tensor pattern {}: {problem}", printable(pattern))]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong.
        problem: String,
    },
    /// A recipe that is not valid.
    #[error("{}:{line}:{column}: {}", printable_path(path), printable(problem))]
    Recipe {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Character of the line, from 1.
        column: usize,
        /// What is wrong there.
        problem: String,
    },
    /// No choice of types is small enough.
    #[error("{}: cannot be made as small as {limit} bytes: the minimum is {least} bytes", printable_path(path))]
    TargetTooSmall {
        /// The input.
        path: PathBuf,
        /// Bytes of the smallest choice, counted as the target is.
        least: u64,
        /// The allowed bytes.
        limit: u64,
    },
    /// The loss of a choice cannot be measured.
    #[error("the cost of {} cannot be measured: {problem}", printable(name))]
    Judge {
        /// The first tensor of those that were measured together.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A value of `--override-kv` that is not valid.
    #[error("override {}: {problem}", printable(text))]
    Override {
        /// The value.
        text: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A layer to leave out that the model does not have.
    #[error("{}: no layer {layer} to leave out (the model has {total})", printable_path(path))]
    NoSuchLayer {
        /// The input.
        path: PathBuf,
        /// The layer.
        layer: usize,
        /// Layers of the model.
        total: usize,
    },
    /// All layers are to be left out.
    #[error("{}: no layer would be left", printable_path(path))]
    NothingLeft {
        /// The input.
        path: PathBuf,
    },
    /// The data that was read back differ from what was written.
    #[error("{}: tensor {} differs from what was written when it is read back", printable_path(path), printable(name))]
    ReadBack {
        /// The output.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// The header that was read back differs from what was written.
    #[error("{}: the header differs from what was written when it is read back", printable_path(path))]
    ReadBackHeader {
        /// The output.
        path: PathBuf,
    },
    /// The machine has too little memory for the work.
    #[error("{}: no memory: needs {bytes} bytes, {available} are available", printable_path(path))]
    NoMemory {
        /// The output.
        path: PathBuf,
        /// Bytes that the work takes at most.
        bytes: u64,
        /// Available bytes.
        available: u64,
    },
    /// The work was stopped.
    #[error("stopped")]
    Stopped,
}
