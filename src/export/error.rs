//! Errors of exporting a model.

use std::io;
use std::path::PathBuf;

use crate::arch;
use crate::convert;
use crate::files::OutputError;
use crate::gguf;
use crate::printable::{printable, printable_path};
use crate::tensor_type::TensorType;
use crate::tokenizer;

/// An error of an export.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no class for the architecture.
    #[error(
        "{}: models of the architecture {} cannot be exported: no checkpoints of it are converted",
        printable_path(path),
        printable(architecture)
    )]
    Architecture {
        /// The file.
        path: PathBuf,
        /// `general.architecture`.
        architecture: String,
    },
    /// The file is not a valid model.
    #[error("{}: {source}", printable_path(path))]
    Model {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: arch::Error,
    },
    /// A key for which the class has no setting, or only with other values.
    #[error("{}: {}: {}: {class} has no setting for this", printable_path(path), printable(key), printable(found).limit(60))]
    Key {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// The class.
        class: &'static str,
    },
    /// A tensor that checkpoints of the class do not have in this form.
    #[error("{}: tensor {}: {problem}", printable_path(path), printable(name))]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The problem.
        problem: TensorProblem,
    },
    /// The tokenizer's file cannot be written.
    #[error("{}: tokenizer: {problem}", printable_path(path))]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// The problem.
        problem: TokenizerProblem,
    },
    /// The vocabulary is not valid.
    #[error("{}: {source}", printable_path(path))]
    Vocabulary {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: tokenizer::Error,
    },
    /// The exported folder would not convert back to the file.
    #[error("{}: the exported folder would not convert back: {source}", printable_path(path))]
    NotConvertible {
        /// The file.
        path: PathBuf,
        /// The error of the conversion.
        source: Box<convert::Error>,
    },
    /// The output folder has files of another checkpoint, which would be read as a part of this one.
    #[error("{}: has {}, which is not part of this checkpoint", printable_path(path), printable(name))]
    OtherCheckpoint {
        /// The folder.
        path: PathBuf,
        /// A file in it.
        name: String,
    },
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] gguf::Error),
    /// The folder cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A file of the folder cannot be written.
    #[error("{}: cannot write: {source}", printable_path(path))]
    Write {
        /// The file.
        path: PathBuf,
        /// The OS error.
        source: io::Error,
    },
    /// The caller has stopped the work.
    #[error("stopped")]
    Stopped,
}

/// Why a tensor cannot be exported.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorProblem {
    /// The family's table has no tensor of this name.
    #[error("a layout of other programs; requantize or convert the model first")]
    Foreign,
    /// Its conversion steps cannot be reversed.
    #[error("its shape in a checkpoint does not follow from the file")]
    Reshaped,
    /// Rows of a fused tensor are missing in the file.
    #[error("the file has only some of the rows of {source_name}")]
    MissingRows {
        /// The checkpoint's tensor.
        source_name: String,
    },
    /// Some layers have it, others do not.
    #[error("only some layers have it, or only some of the tensors that belong to it")]
    NotEverywhere,
    /// A type that cannot be decoded.
    #[error("weights of type {ty} cannot be decoded")]
    Type {
        /// The type.
        ty: TensorType,
    },
    /// A number is out of range of the output type.
    #[error("{value:e} is out of the range of {ty} (bf16 and f32 hold it)")]
    OutOfRange {
        /// The number.
        value: f32,
        /// The output type.
        ty: TensorType,
    },
    /// No settings give the rotary factors.
    #[error("no settings of llama3's scaling give these factors")]
    Factors,
}

/// Why a tokenizer cannot be exported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerProblem {
    /// This kind of tokenizer is not supported.
    #[error("{name} tokenizers cannot be exported yet")]
    Model {
        /// Its name.
        name: &'static str,
    },
    /// The rules of the pre-tokenizer cannot be written as regular expressions of the library that reads the file.
    #[error("the pre-tokenizer {} cannot be exported yet", printable(name))]
    Pre {
        /// Its name.
        name: String,
    },
    /// A token is not valid UTF-8.
    #[error("token {id} is not UTF-8")]
    NotText {
        /// The token.
        id: usize,
    },
    /// The exported folder has another number of tokens.
    #[error("the exported folder has {found} tokens, the file has {expected}")]
    Count {
        /// Tokens of the folder.
        found: usize,
        /// Tokens of the file.
        expected: usize,
    },
    /// A token differs in the exported folder.
    #[error("token {id} is `{}` in the exported folder", printable(found).limit(60))]
    Token {
        /// The token.
        id: usize,
        /// Its text in the folder.
        found: String,
    },
    /// A special token or a setting differs in the exported folder.
    #[error("{what}: {found} in the exported folder, {expected} in the file")]
    Setting {
        /// Its name.
        what: &'static str,
        /// Its value in the folder.
        found: String,
        /// Its value in the file.
        expected: String,
    },
    /// A text is encoded to other tokens.
    #[error("the text `{}` is encoded to other tokens by the exported tokenizer", printable(text).limit(60))]
    Encoding {
        /// The text.
        text: String,
    },
}
