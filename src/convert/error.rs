//! Errors of converting a checkpoint.

use std::path::PathBuf;

use crate::files::FileError;
use crate::printable::{printable, printable_path};
use crate::safetensors::Dtype;
use crate::{arch, quantize, safetensors};

/// An error of a checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such folder.
    #[error("{}: no folder with a checkpoint (config.json, *.safetensors)", printable_path(path))]
    NoFolder {
        /// The path.
        path: PathBuf,
    },
    /// A necessary file is missing.
    #[error("{}: missing", printable_path(path))]
    MissingFile {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file is not valid JSON.
    #[error("{}: not valid JSON: {}", printable_path(path), printable(message).limit(120))]
    Json {
        /// The file.
        path: PathBuf,
        /// Line.
        line: usize,
        /// Column.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// The tensors' files are not valid.
    #[error(transparent)]
    Checkpoint(#[from] safetensors::Error),
    /// The configuration is not that of a model that this crate knows.
    #[error("{}: {source}", printable_path(path))]
    Architecture {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong.
        source: arch::Error,
    },
    /// An error that may be due to settings that `config.json` leaves out.
    #[error("{source} (config.json leaves out {assumed})")]
    Assumed {
        /// The settings with the defaults of the class.
        assumed: String,
        /// The error.
        source: Box<Self>,
    },
    /// Tensors are missing.
    #[error("{}: tensor {} is missing{}{}", printable_path(path), printable(name), and_more(*more), and_left(left.as_deref()))]
    MissingTensor {
        /// The folder.
        path: PathBuf,
        /// The first missing tensor.
        name: String,
        /// Number of further tensors.
        more: usize,
        /// The first unexpected tensor, which may be the missing one under another name.
        left: Option<String>,
    },
    /// Unexpected tensors.
    #[error("{}: tensor {}: the model has no place for it{}", printable_path(path), printable(name), and_more(*more))]
    LeftOver {
        /// The folder.
        path: PathBuf,
        /// The first of them.
        name: String,
        /// Number of further tensors.
        more: usize,
    },
    /// A tensor of the wrong shape.
    #[error("{}: tensor {}: shape {found:?}, expected {expected:?}", printable_path(path), printable(name))]
    BadShape {
        /// The folder.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<u64>,
        /// The shape according to the configuration.
        expected: Vec<u64>,
    },
    /// A tensor of a type that is not used for weights.
    #[error("{}: tensor {}: type {dtype} is not a type of weights", printable_path(path), printable(name))]
    BadType {
        /// The folder.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type.
        dtype: Dtype,
    },
    /// Weights are stored in a form that cannot be read.
    #[error("{}: quantization {} is not known (known: {known})", printable_path(path), printable(method).limit(80))]
    UnknownQuantization {
        /// The folder.
        path: PathBuf,
        /// What `quantization_config` names.
        method: String,
        /// The supported forms.
        known: &'static str,
    },
    /// The tensors of a quantized weight do not fit each other.
    #[error("{}: tensor {}: its scales, zeros or shapes do not fit it", printable_path(path), printable(name))]
    BadQuantization {
        /// The folder.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tokenizer that cannot be converted.
    #[error("{}: {problem}", printable_path(path))]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: TokenizerProblem,
    },
    /// The vocabulary is not valid.
    #[error("{}: {source}", printable_path(path))]
    Vocabulary {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        source: crate::tokenizer::Error,
    },
    /// An adapter that cannot be converted.
    #[error("{}: {problem}", printable_path(path))]
    Adapter {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: AdapterProblem,
    },
    /// The output cannot be written.
    #[error(transparent)]
    Write(#[from] quantize::Error),
}

impl Error {
    /// Adds the settings that `config.json` leaves out and that may have caused the error.
    pub(super) fn assuming(self, config: &arch::Config) -> Self {
        const MAX_NAMED: usize = 4;
        let concerned = match &self {
            Self::Architecture { .. } | Self::MissingTensor { .. } | Self::LeftOver { .. } | Self::BadShape { .. } => {
                true
            }
            Self::Tokenizer { problem, .. } => matches!(problem, TokenizerProblem::Vocabulary { .. }),
            _ => false,
        };
        let mut assumed = config.assumed_and_read();
        if !matches!(self, Self::BadShape { .. }) {
            assumed.retain(|(_, value)| !value.is_null());
        }
        if !concerned || assumed.is_empty() {
            return self;
        }
        let short = |value: &serde_json::Value| match value {
            serde_json::Value::Array(_) | serde_json::Value::Object(_) | serde_json::Value::Null => String::new(),
            value => format!(" (its class gives {value})"),
        };
        let named: Vec<String> =
            assumed.iter().take(MAX_NAMED).map(|(name, value)| format!("{name}{}", short(value))).collect();
        let more = assumed.len().saturating_sub(MAX_NAMED);
        Self::Assumed { assumed: named.join(", ") + &and_more(more), source: Box::new(self) }
    }
}

/// Why an adapter cannot be converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterProblem {
    /// A setting that requires something other than plain low-rank changes.
    #[error("{name} {} is not supported", printable(value).limit(80))]
    Setting {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// A necessary setting is missing or not valid.
    #[error("{name}: a positive number is needed")]
    Number {
        /// The setting.
        name: String,
    },
    /// A tensor is not a factor of a change.
    #[error("tensor {} is not a factor of a change (lora_A, lora_B)", printable(name).limit(120))]
    NoFactor {
        /// The tensor.
        name: String,
    },
    /// A module has only one factor.
    #[error("module {} has only one of its two factors", printable(module).limit(120))]
    OneFactor {
        /// The module.
        module: String,
    },
    /// The base model has no such module, or its tensor cannot be changed.
    #[error("the base model has no tensor of module {} that could be changed", printable(module).limit(120))]
    NoTensor {
        /// The module.
        module: String,
    },
    /// The factors do not fit the base model's tensor.
    #[error("the factors of module {} are {a:?} and {b:?}: do they belong to this base model?", printable(module).limit(120))]
    BadShape {
        /// The module.
        module: String,
        /// Shape of the first factor.
        a: Vec<u64>,
        /// Shape of the second factor.
        b: Vec<u64>,
    },
    /// The numbers have a type that is not supported for adapters.
    #[error("tensor {} has the type {dtype}", printable(name).limit(120))]
    BadType {
        /// The tensor.
        name: String,
        /// Its type.
        dtype: Dtype,
    },
}

/// Why a tokenizer cannot be converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerProblem {
    /// There is no tokenizer file.
    #[error("no tokenizer in this folder: tokenizer.json, tokenizer.model, tekken.json, or vocab.json and merges.txt")]
    NoFile,
    /// A vocabulary and merges without a known tokenizer class.
    #[error(
        "vocab.json and merges.txt of a {}: what it does to texts stands in neither, and is known for {known} alone; \
         AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) in Python's transformers writes a \
         tokenizer.json, which says it",
        printable(class).limit(80)
    )]
    UnknownClass {
        /// The class that its files name.
        class: String,
        /// The classes that are known.
        known: String,
    },
    /// The file is not a SentencePiece model.
    #[error("byte {offset}: not a sentencepiece model")]
    Sentencepiece {
        /// The offset.
        offset: usize,
    },
    /// A part is missing or of the wrong kind.
    #[error("{path}: expected {expected}")]
    Structure {
        /// The place in the file.
        path: &'static str,
        /// What is expected.
        expected: &'static str,
    },
    /// `vocab_size` far exceeds the tokens in the files.
    #[error("vocab_size: {count} tokens, but the tokenizer's files have {held}")]
    Padding {
        /// Number of tokens that the model should have.
        count: usize,
        /// Number of tokens in the files.
        held: usize,
    },
    /// The model needs a token for which it has no row.
    #[error("token {id} (`{}`) is outside the vocabulary of {vocab_size}, but {user}", printable(token).limit(60))]
    NoRow {
        /// Its id.
        id: u64,
        /// Its text.
        token: String,
        /// Number of tokens.
        vocab_size: usize,
        /// What needs it.
        user: &'static str,
    },
    /// The model has no row for a piece of text.
    #[error("token {token} is outside the vocabulary of {vocab_size}")]
    Vocabulary {
        /// Its id.
        token: u64,
        /// Number of tokens.
        vocab_size: usize,
    },
    /// The pre-tokenizer is not a known one.
    #[error(
        "the pre-tokenizer is not a known one; nearest is {nearest}, which cuts `{}` where this one cuts `{}` \
         (in `{}`); --pre {nearest} converts it anyway, --pre NAME another one",
        printable(known),
        printable(found),
        printable(text)
    )]
    UnknownPre {
        /// The nearest one's name.
        nearest: &'static str,
        /// A text that is split differently.
        text: &'static str,
        /// The first differing word, as split by the model's own pre-tokenizer.
        found: String,
        /// The word in its place, as split by the nearest one.
        known: String,
    },
    /// A pattern of a pre-tokenizer cannot be compared with the known ones.
    #[error(
        "pre_tokenizer: the pattern `{}` uses features that cannot be compared (--pre NAME takes a known one)",
        printable(pattern).limit(400)
    )]
    UnreadablePattern {
        /// The pattern.
        pattern: String,
    },
    /// A part of a pre-tokenizer cannot be expressed in a GGUF file.
    #[error("pre_tokenizer: {} cannot be expressed (--pre {anyway} converts it anyway)", printable(part).limit(200))]
    UnreadablePre {
        /// The part, as in the file.
        part: String,
        /// The value for `--pre` with which it is converted anyway.
        anyway: &'static str,
    },
    /// A part of a normalizer cannot be expressed in a GGUF file.
    #[error("normalizer: {} cannot be expressed (--pre {anyway} converts without it)", printable(part).limit(200))]
    Normalizer {
        /// The part, as in the file.
        part: String,
        /// The value for `--pre` with which it is converted anyway.
        anyway: &'static str,
    },
    /// This kind of tokenizer cannot be expressed in a GGUF file.
    #[error("model: a tokenizer {} cannot be expressed (BPE, Unigram and WordPiece can)", printable(name).limit(80))]
    UnknownModel {
        /// Its type.
        name: String,
    },
    /// A BPE of characters without byte tokens for other characters.
    #[error(
        "model: BPE of characters with {tokens} byte tokens: a GGUF file needs all 256, and byte_fallback (--pre \
         default converts it anyway)"
    )]
    NoBytes {
        /// Number of byte tokens.
        tokens: usize,
    },
    /// A token that the pre-tokenizer prevents, but that would be produced when a GGUF file is run.
    #[error(
        "token `{}` extends beyond a word, which a GGUF file cannot prevent (--pre default converts it anyway)",
        printable(token)
    )]
    AcrossWords {
        /// Its text.
        token: String,
    },
    /// A byte-level pre-tokenizer for a tokenizer of characters.
    #[error("--pre {}: is for byte-level BPE; this is BPE of characters (gemma4, default)", printable(name))]
    PreOfBytes {
        /// Its name.
        name: String,
    },
    /// The order of merges cannot be expressed by scores of tokens.
    #[error(
        "model.merges: those that make `{}` stand between others; a GGUF file has one score for all of them (a \
         tokenizer.model beside it is taken in its place; --pre default takes the first one's)",
        printable(token)
    )]
    MixedMerges {
        /// The token's text.
        token: String,
    },
    /// A pair that is not merged, but would be when a GGUF file is run.
    #[error(
        "model.merges: `{}` is not made of `{}` and `{}`; in a GGUF file, whatever makes a token is merged (a \
         tokenizer.model beside it is taken in its place; --pre default converts it anyway)",
        printable(token),
        printable(left),
        printable(right)
    )]
    MissingMerge {
        /// The token's text.
        token: String,
        /// The first part.
        left: String,
        /// The second part.
        right: String,
    },
}

fn and_left(left: Option<&str>) -> String {
    left.map(|name| format!("; it has no place for {}", printable(name))).unwrap_or_default()
}

fn and_more(more: usize) -> String {
    if more == 0 { String::new() } else { format!(" (and {more} more)") }
}
