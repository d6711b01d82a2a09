//! Whether this program can run a model, from its header: architecture, tensor names, shapes and types, tokenizer. Problems that
//! only the weights show are found on loading.

use crate::arch;
use crate::formats;
use crate::gguf::{ByteOrder, Reader, Value, keys};
use crate::model::Header;
use crate::tokenizer::pre_tokenizer_names;

/// What can be done with a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ability {
    /// Conversations with the model's own template.
    Chat,
    /// Continuing texts.
    Complete,
    /// Tokenizing alone: the file has no weights.
    Tokenize,
}

/// What can be done with a model.
///
/// # Errors
/// The reason why it cannot be run: the architecture or one of its keys, a tensor or its type, the tokenizer.
pub fn usable(reader: &Reader) -> Result<Vec<Ability>, NotUsable> {
    if reader.byte_order() == ByteOrder::Big {
        return Err(NotUsable::BigEndian);
    }
    let text = |key: &str| reader.metadata().get(key).and_then(Value::as_str);
    if let Some(kind) = text(keys::GENERAL_TYPE).filter(|kind| *kind != "model") {
        return Err(NotUsable::Kind(kind.to_owned()));
    }
    if reader.tensors().is_empty() {
        let has_tokens = reader.metadata().get(keys::TOKENIZER_TOKENS).is_some();
        return if has_tokens { Ok(vec![Ability::Tokenize]) } else { Err(NotUsable::Empty) };
    }
    if let Some(tensor) = reader.unknown_tensors().first() {
        return Err(NotUsable::UnknownType { name: tensor.name.clone(), type_id: tensor.type_id });
    }
    let header = Header::read(reader)?;
    if let Some((_, tensor)) = header.tensors.iter().find(|(_, tensor)| formats::codec(tensor.ty).is_none()) {
        return Err(NotUsable::Type(tensor.ty.name()));
    }
    let text = |key: &str| header.metadata.get(key).and_then(Value::as_str);
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
    /// The file is not a model but an adapter, an importance matrix or the like.
    #[error("the file is of the kind {}, not a model", crate::printable::printable(.0).limit(40))]
    Kind(String),
    /// The file is for machines of the other byte order.
    #[error("the file is big-endian: `gguf edit FILE --byte-order little -o OUT` makes one for this machine")]
    BigEndian,
    /// The file has neither tensors nor tokens.
    #[error("the file has neither tensors nor tokens")]
    Empty,
    /// The architecture or one of its keys, or a tensor that is unexpected, missing, or of another shape.
    #[error(transparent)]
    Architecture(#[from] arch::Error),
    /// A tensor of an unknown type.
    #[error("tensor {}: tensor type {type_id} is not known", crate::printable::printable(name).limit(80))]
    UnknownType {
        /// The tensor.
        name: String,
        /// The id of its type.
        type_id: u32,
    },
    /// A type without products.
    #[error("weights of type {0} cannot be run yet")]
    Type(&'static str),
    /// No tokenizer.
    #[error("the file has no tokenizer")]
    NoTokenizer,
    /// A pre-tokenizer that is not known.
    #[error("the pre-tokenizer {} is not known", crate::printable::printable(.0).limit(40))]
    PreTokenizer(String),
}
