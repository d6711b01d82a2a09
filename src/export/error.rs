//! Why a model cannot be exported.

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
    /// No class of transformers is known for the architecture.
    #[error(
        "{}: models of the architecture {} cannot be exported yet (can be: {known})",
        printable_path(path),
        printable(architecture)
    )]
    Architecture {
        /// The file.
        path: PathBuf,
        /// `general.architecture`.
        architecture: String,
        /// The architectures that can be.
        known: String,
    },
    /// The file is no valid model.
    #[error("{}: {source}", printable_path(path))]
    Model {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: arch::Error,
    },
    /// A key that the class has no setting for, or only with other values.
    #[error("{}: {}: {}: {class} has no setting that says this", printable_path(path), printable(key), printable(found).limit(60))]
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
        /// What is in the way.
        problem: TensorProblem,
    },
    /// The tokenizer's file cannot be made.
    #[error("{}: tokenizer: {problem}", printable_path(path))]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is in the way.
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
    /// The exported folder is not what the file was made from.
    #[error("{}: the exported folder would not convert back: {source}", printable_path(path))]
    NotConvertible {
        /// The file.
        path: PathBuf,
        /// What the conversion says.
        source: Box<convert::Error>,
    },
    /// The folder that is written to holds files of another checkpoint, which would be taken for a part of this one.
    #[error("{}: holds {}, which is no part of this checkpoint", printable_path(path), printable(name))]
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

/// What is in the way of a tensor.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorProblem {
    /// The family's table of tensors has none of this name.
    #[error("a layout of other programs; requantize or convert the model first")]
    Foreign,
    /// The steps to it cannot be taken back.
    #[error("its shape in a checkpoint does not follow from the file")]
    Reshaped,
    /// Rows of a fused tensor are in no tensor of the file.
    #[error("the file has only a part of the rows of {source_name}")]
    MissingRows {
        /// The checkpoint's tensor.
        source_name: String,
    },
    /// Some layers have it and some do not.
    #[error("only a part of the layers have it, or of the tensors beside it")]
    NotEverywhere,
    /// A type that cannot be decoded.
    #[error("weights of type {ty} cannot be decoded")]
    Type {
        /// The type.
        ty: TensorType,
    },
    /// A number that the output type does not hold.
    #[error("{value:e} is out of the range of {ty} (bf16 and f32 hold it)")]
    OutOfRange {
        /// The number.
        value: f32,
        /// The output type.
        ty: TensorType,
    },
    /// Rotary factors that no settings give.
    #[error("no settings of llama3's scaling give these factors")]
    Factors,
}

/// What is in the way of a tokenizer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerProblem {
    /// A kind of tokenizer that is not written.
    #[error("{name} tokenizers cannot be exported yet")]
    Model {
        /// Its name.
        name: &'static str,
    },
    /// A pre-tokenizer whose rules are not regular expressions of the library that reads the file.
    #[error("the pre-tokenizer {} cannot be exported yet", printable(name))]
    Pre {
        /// Its name.
        name: String,
    },
    /// A token that is no text.
    #[error("token {id} is no UTF-8")]
    NotText {
        /// The token.
        id: usize,
    },
    /// Another number of tokens comes back.
    #[error("{found} tokens come back from the exported folder, the file has {expected}")]
    Count {
        /// Tokens of the folder.
        found: usize,
        /// Tokens of the file.
        expected: usize,
    },
    /// A token comes back otherwise.
    #[error("token {id} comes back as `{}`", printable(found).limit(60))]
    Token {
        /// The token.
        id: usize,
        /// Its text in the folder.
        found: String,
    },
    /// A special token or a setting comes back otherwise.
    #[error("{what}: {found} comes back, the file says {expected}")]
    Setting {
        /// Which.
        what: &'static str,
        /// What the folder says.
        found: String,
        /// What the file says.
        expected: String,
    },
    /// A text becomes other tokens.
    #[error("the text `{}` becomes other tokens with the exported tokenizer", printable(text).limit(60))]
    Encoding {
        /// The text.
        text: String,
    },
}
