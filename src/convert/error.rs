//! Why a checkpoint cannot be converted.

use std::path::PathBuf;

use crate::files::FileError;
use crate::printable::{printable, printable_path};
use crate::safetensors::Dtype;
use crate::{arch, quantize, safetensors};

/// What is wrong with a checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No folder there.
    #[error("{}: no folder with a checkpoint (config.json, *.safetensors)", printable_path(path))]
    NoFolder {
        /// The path.
        path: PathBuf,
    },
    /// A file that every checkpoint has.
    #[error("{}: missing", printable_path(path))]
    MissingFile {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file is no JSON.
    #[error("{}: no valid JSON: {}", printable_path(path), printable(message).limit(120))]
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
    /// The configuration describes no model that this crate knows.
    #[error("{}: {source}", printable_path(path))]
    Architecture {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong.
        source: arch::Error,
    },
    /// What does not fit settings that `config.json` leaves out.
    #[error("{source} (config.json leaves out {assumed})")]
    Assumed {
        /// The settings and what the class gives for them.
        assumed: String,
        /// What does not fit.
        source: Box<Self>,
    },
    /// Tensors that the model needs.
    #[error("{}: tensor {} is missing{}{}", printable_path(path), printable(name), and_more(*more), and_left(left.as_deref()))]
    MissingTensor {
        /// The folder.
        path: PathBuf,
        /// The first that is missing.
        name: String,
        /// How many more.
        more: usize,
        /// The first that the model has no place for: perhaps the same under another name.
        left: Option<String>,
    },
    /// Tensors that the model has no place for.
    #[error("{}: tensor {}: the model has no place for it{}", printable_path(path), printable(name), and_more(*more))]
    LeftOver {
        /// The folder.
        path: PathBuf,
        /// The first.
        name: String,
        /// How many more.
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
        /// The shape that the configuration asks for.
        expected: Vec<u64>,
    },
    /// A tensor of a type that holds no weights.
    #[error("{}: tensor {}: type {dtype} holds no weights", printable_path(path), printable(name))]
    BadType {
        /// The folder.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type.
        dtype: Dtype,
    },
    /// Weights in a form that cannot be read.
    #[error("{}: quantization {} is not known (known: {known})", printable_path(path), printable(method).limit(80))]
    UnknownQuantization {
        /// The folder.
        path: PathBuf,
        /// What `quantization_config` names.
        method: String,
        /// What can be read.
        known: &'static str,
    },
    /// Tensors of one quantized weight that do not belong together.
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
    /// A vocabulary that makes no tokenizer.
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
    /// Adds the settings that `config.json` leaves out and that may be to blame.
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
    /// A setting that asks for something else than plain low-rank changes.
    #[error("{name} {} is not supported", printable(value).limit(80))]
    Setting {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// A setting that is needed.
    #[error("{name}: a positive number is needed")]
    Number {
        /// The setting.
        name: String,
    },
    /// A tensor that is no factor of a change.
    #[error("tensor {} is no factor of a change (lora_A, lora_B)", printable(name).limit(120))]
    NoFactor {
        /// The tensor.
        name: String,
    },
    /// A module with one factor.
    #[error("module {} has one of its two factors alone", printable(module).limit(120))]
    OneFactor {
        /// The module.
        module: String,
    },
    /// A module that the base model does not have, or that no change can be made of.
    #[error("the base model has no tensor that is made of module {} and could be changed", printable(module).limit(120))]
    NoTensor {
        /// The module.
        module: String,
    },
    /// Factors of other shapes than the base model's tensor asks for.
    #[error("the factors of module {} are {a:?} and {b:?}: do they belong to this base model?", printable(module).limit(120))]
    BadShape {
        /// The module.
        module: String,
        /// Shape of the first factor.
        a: Vec<u64>,
        /// Shape of the second factor.
        b: Vec<u64>,
    },
    /// Numbers of a type that adapters do not have.
    #[error("tensor {} has the type {dtype}", printable(name).limit(120))]
    BadType {
        /// The tensor.
        name: String,
        /// Its type.
        dtype: Dtype,
    },
}

/// What is wrong with a tokenizer's file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerProblem {
    /// None of the files that hold a tokenizer.
    #[error("no tokenizer in this folder: tokenizer.json, tokenizer.model, tekken.json, or vocab.json and merges.txt")]
    NoFile,
    /// A vocabulary and merges whose class is not known.
    #[error(
        "vocab.json and merges.txt of a {}: what it does to texts stands in neither, and is known for {known} alone; \
         AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) in Python's transformers writes a \
         tokenizer.json, which says it",
        printable(class).limit(80)
    )]
    UnknownClass {
        /// What its files say of its class.
        class: String,
        /// The classes that are known.
        known: String,
    },
    /// Not what such a file holds.
    #[error("byte {offset}: not a sentencepiece model")]
    Sentencepiece {
        /// Where.
        offset: usize,
    },
    /// A part that is missing or of another kind.
    #[error("{path}: expected {expected}")]
    Structure {
        /// Where in the file.
        path: &'static str,
        /// What may stand there.
        expected: &'static str,
    },
    /// Far more tokens than the files hold.
    #[error("vocab_size: {count} tokens, but the tokenizer's files hold {held}")]
    Padding {
        /// Number of tokens that the model should have.
        count: usize,
        /// Number of tokens that the files hold.
        held: usize,
    },
    /// A token that the model needs and has no row for.
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
    /// A piece of text without a row.
    #[error("token {token} is outside the vocabulary of {vocab_size}")]
    Vocabulary {
        /// Its id.
        token: u64,
        /// Number of tokens.
        vocab_size: usize,
    },
    /// A pre-tokenizer like no other.
    #[error(
        "the pre-tokenizer is like none that is known; nearest is {nearest}, which cuts `{}` where this one cuts `{}` \
         (in `{}`); --pre {nearest} takes it all the same, --pre NAME another one",
        printable(known),
        printable(found),
        printable(text)
    )]
    UnknownPre {
        /// The nearest one's name.
        nearest: &'static str,
        /// A text that it cuts otherwise.
        text: &'static str,
        /// The first word of it that differs, as the model's own pre-tokenizer cuts it.
        found: String,
        /// The word in its place, as the nearest one cuts it.
        known: String,
    },
    /// A pattern of a pre-tokenizer that cannot be compared with those that are known.
    #[error(
        "pre_tokenizer: the pattern `{}` uses what cannot be compared (--pre NAME takes a known one)",
        printable(pattern).limit(400)
    )]
    UnreadablePattern {
        /// The pattern.
        pattern: String,
    },
    /// A part of a pre-tokenizer that no GGUF file can express.
    #[error("pre_tokenizer: {} cannot be expressed (--pre {anyway} takes it all the same)", printable(part).limit(200))]
    UnreadablePre {
        /// The part, as it stands in the file.
        part: String,
        /// What to give for a pre-tokenizer.
        anyway: &'static str,
    },
    /// A normalizer that no GGUF file can express.
    #[error("normalizer: {} cannot be expressed (--pre {anyway} converts without it)", printable(part).limit(200))]
    Normalizer {
        /// The part, as it stands in the file.
        part: String,
        /// What to give for a pre-tokenizer.
        anyway: &'static str,
    },
    /// A kind of tokenizer that no GGUF file can express.
    #[error("model: a tokenizer {} cannot be expressed (BPE, Unigram and WordPiece can)", printable(name).limit(80))]
    UnknownModel {
        /// Its type.
        name: String,
    },
    /// Merges of characters without a way to say other characters.
    #[error(
        "model: merges of characters, {tokens} tokens for bytes: a GGUF file needs all 256, and byte_fallback (--pre \
         default takes it all the same)"
    )]
    NoBytes {
        /// Tokens of bytes found.
        tokens: usize,
    },
    /// A token that the pre-tokenizer would never let come about, and that would where a file is run.
    #[error(
        "token `{}` goes beyond a word, which a GGUF file cannot forbid (--pre default takes it all the same)",
        printable(token)
    )]
    AcrossWords {
        /// Its text.
        token: String,
    },
    /// A pre-tokenizer of bytes for a tokenizer of characters.
    #[error("--pre {}: cuts for merges of bytes; these are of characters (gemma4, default)", printable(name))]
    PreOfBytes {
        /// Its name.
        name: String,
    },
    /// Merges that scores of tokens cannot tell.
    #[error(
        "model.merges: those that make `{}` stand between others; a GGUF file has one score for all of them (a \
         tokenizer.model beside it is taken in its place; --pre default takes the first one's)",
        printable(token)
    )]
    MixedMerges {
        /// The token's text.
        token: String,
    },
    /// A pair that is not merged, but would be where a file is run.
    #[error(
        "model.merges: `{}` is not made of `{}` and `{}`; in a GGUF file, whatever makes a token is merged (a \
         tokenizer.model beside it is taken in its place; --pre default takes it all the same)",
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
