//! Whether this program can run a model, told from its header: the architecture, the names of its tensors, their types,
//! its tokenizer. What only weights show (shapes that do not go together) is left to loading.

use std::collections::HashSet;

use crate::arch::{self, Hparams};
use crate::formats;
use crate::gguf::{Reader, Value, keys};
use crate::tokenizer::pre_tokenizer_names;

/// What can be done with a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ability {
    /// Conversations with its own template.
    Chat,
    /// Texts can be continued.
    Complete,
    /// Its tokenizer alone can be used: the file has no weights.
    Tokenize,
}

/// What can be done with a model.
///
/// # Errors
/// Why it cannot be run: the architecture or one of its keys, a tensor or its type, the tokenizer.
pub fn usable(reader: &Reader) -> Result<Vec<Ability>, NotUsable> {
    let text = |key: &str| reader.metadata().get(key).and_then(Value::as_str);
    if let Some(kind) = text(keys::GENERAL_TYPE).filter(|kind| *kind != "model") {
        return Err(NotUsable::Kind(kind.to_owned()));
    }
    if reader.tensors().is_empty() {
        let has_tokens = reader.metadata().get(keys::TOKENIZER_TOKENS).is_some();
        return if has_tokens { Ok(vec![Ability::Tokenize]) } else { Err(NotUsable::Empty) };
    }
    let hparams = Hparams::from_metadata(reader.metadata())?;
    let rules = arch::by_name(&hparams.architecture)?.tensors(&hparams)?;
    let known: HashSet<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
    let layers = hparams.block_count..hparams.block_count + hparams.next_n;
    let predicts = |name: &str| {
        let layer = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next()?.parse().ok());
        layer.is_some_and(|layer: usize| layers.contains(&layer))
    };
    for tensor in reader.tensors().iter().filter(|tensor| !predicts(&tensor.name)) {
        if !known.contains(tensor.name.as_str()) {
            return Err(NotUsable::Tensor(tensor.name.clone()));
        }
        if formats::codec(tensor.ty).is_none() {
            return Err(NotUsable::Type(tensor.ty.name()));
        }
    }
    let missing =
        |rule: &&arch::TensorRule| rule.required && !predicts(&rule.name) && reader.tensor(&rule.name).is_none();
    if let Some(rule) = rules.iter().find(missing) {
        return Err(NotUsable::Missing(rule.name.clone()));
    }
    match (text(keys::TOKENIZER_MODEL), text(keys::TOKENIZER_PRE)) {
        (None, _) => return Err(NotUsable::NoTokenizer),
        (Some("gpt2"), Some(pre)) if !pre_tokenizer_names().any(|name| name == pre) => {
            return Err(NotUsable::PreTokenizer(pre.to_owned()));
        }
        _ => {}
    }
    let chats = text(keys::TOKENIZER_CHAT_TEMPLATE).is_some();
    Ok(if chats { vec![Ability::Chat, Ability::Complete] } else { vec![Ability::Complete] })
}

/// Why a model cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotUsable {
    /// The file is no model but an adapter, an importance matrix or the like.
    #[error("the file is of the kind {}, not a model", crate::printable::printable(.0).limit(40))]
    Kind(String),
    /// Neither tensors nor tokens.
    #[error("the file has neither tensors nor tokens")]
    Empty,
    /// The architecture or one of its keys.
    #[error(transparent)]
    Architecture(#[from] arch::Error),
    /// A tensor that the architecture has no place for.
    #[error("tensor {}: the architecture has no such tensor", crate::printable::printable(.0).limit(80))]
    Tensor(String),
    /// A tensor that the architecture needs.
    #[error("tensor {} is missing", crate::printable::printable(.0).limit(80))]
    Missing(String),
    /// A type that nothing here computes with.
    #[error("weights of type {0} cannot be run yet")]
    Type(&'static str),
    /// No tokenizer.
    #[error("the file has no tokenizer")]
    NoTokenizer,
    /// A pre-tokenizer that is not known.
    #[error("the pre-tokenizer {} is not known", crate::printable::printable(.0).limit(40))]
    PreTokenizer(String),
}
