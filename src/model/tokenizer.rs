//! Builds a tokenizer from a file's metadata.

use super::{Warning, dialects};
use crate::gguf::{Metadata, Reader, Value, keys};
use crate::tokenizer::{AddedTokenFlags, Error, Model, SpecialIds, TokenKind, Tokenizer, Vocab, pre_tokenizer_flags};

impl Tokenizer {
    /// The tokenizer of an opened file.
    ///
    /// ```
    /// # use gguf_toolkit::convert::{Conversion, Folder, Options};
    /// # let conversion = Conversion::new(Folder::open("testdata/storyteller".as_ref())?, &Options::default())?;
    /// # let bytes = gguf_toolkit::quantize::run_in_memory(&conversion, &conversion.plan(&[])?)?;
    /// use gguf_toolkit::gguf::Reader;
    /// use gguf_toolkit::tokenizer::{EncodeOptions, Tokenizer};
    ///
    /// let reader = Reader::from_bytes("model.gguf", bytes.into())?; // or Reader::open
    /// let tokenizer = Tokenizer::from_gguf(&reader)?;
    /// let options = EncodeOptions { add_special: true, parse_special: false };
    /// assert_eq!(tokenizer.encode("Once upon a time", options)?, [1, 569, 788, 262, 618]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When its metadata have no tokenizer that this crate knows.
    pub fn from_gguf(reader: &Reader) -> Result<Self, Error> {
        from_metadata(&dialects::translate(reader).metadata)
    }
}

/// The tokenizer that `metadata` describe.
///
/// # Errors
/// When they have no tokenizer that this crate knows.
pub fn from_metadata(metadata: &Metadata) -> Result<Tokenizer, Error> {
    from_metadata_with(metadata, &mut Vec::new())
}

/// As [`from_metadata`], and adds warnings.
///
/// # Errors
/// As [`from_metadata`].
pub(super) fn from_metadata_with(metadata: &Metadata, warnings: &mut Vec<Warning>) -> Result<Tokenizer, Error> {
    let name = text(metadata, keys::TOKENIZER_MODEL)?.ok_or(Error::MissingKey { key: keys::TOKENIZER_MODEL })?;
    let (model, defaults) = match name {
        "llama" => (Model::Spm, ids(Some(1), Some(2), Some(0), None)),
        "gpt2" => (Model::Bpe, ids(Some(11), Some(11), None, None)),
        "gemma4" => (Model::Bpe, SpecialIds::default()),
        "t5" => (Model::Unigram, ids(None, Some(1), Some(2), None)),
        "bert" => (Model::WordPiece, ids(Some(101), None, Some(100), Some(102))),
        other => return Err(Error::UnknownModel { name: other.to_owned() }),
    };
    let tokens = strings(metadata, keys::TOKENIZER_TOKENS)?.ok_or(Error::MissingKey { key: keys::TOKENIZER_TOKENS })?;
    let pre = match (name, text(metadata, keys::TOKENIZER_PRE)?) {
        ("gemma4", _) => "gemma4",
        (_, Some(pre)) => pre,
        (_, None) => {
            let guess = guess_pre(&tokens);
            if model == Model::Bpe {
                warnings.push(Warning::NoPreTokenizer { key: keys::TOKENIZER_PRE, guess });
            }
            guess
        }
    };
    let merges = strings(metadata, keys::TOKENIZER_MERGES)?.unwrap_or_default();
    if model == Model::Bpe && merges.is_empty() {
        return Err(Error::MissingKey { key: keys::TOKENIZER_MERGES });
    }
    let flag = |key: &'static str, default: bool| match metadata.get(key) {
        None => Ok(default),
        Some(value) => value.as_bool().ok_or(Error::BadKey { key, expected: "a boolean" }),
    };
    let pre_flags = pre_tokenizer_flags(pre);
    let add_bos = match model {
        Model::Spm | Model::WordPiece => true,
        Model::Bpe => pre_flags.and_then(|flags| flags.add_bos).unwrap_or(false),
        Model::Unigram => false,
    };
    let always_bos = model == Model::Bpe && pre_flags.is_some_and(|flags| flags.always_bos);
    let add_separator = match model {
        Model::Bpe => pre_flags.is_some_and(|flags| flags.add_separator),
        model => model == Model::WordPiece,
    };
    let lowercase = flag(keys::TOKENIZER_LOWERCASE, true)?;
    let kinds = kinds(metadata)?;
    let vocab = Vocab {
        added_tokens: added_token_flags(metadata, &tokens, &kinds)?,
        model,
        pre: pre.to_owned(),
        scores: floats(metadata, keys::TOKENIZER_SCORES)?,
        kinds,
        special: special(metadata, &defaults, tokens.len(), warnings)?,
        tokens,
        merges,
        add_bos: flag(keys::TOKENIZER_ADD_BOS, add_bos)? || always_bos,
        add_eos: flag(keys::TOKENIZER_ADD_EOS, model == Model::Unigram)?,
        add_separator: flag(keys::TOKENIZER_ADD_SEPARATOR, add_separator)?,
        add_space_prefix: flag(keys::TOKENIZER_ADD_SPACE_PREFIX, matches!(model, Model::Spm | Model::Unigram))?,
        remove_extra_spaces: flag(keys::TOKENIZER_REMOVE_EXTRA_SPACES, false)?,
        character_map: bytes(metadata, keys::TOKENIZER_CHARACTER_MAP)?,
        lowercase,
        strip_accents: flag(keys::TOKENIZER_STRIP_ACCENTS, lowercase)?,
    };
    Tokenizer::new(vocab)
}

fn ids(bos: Option<u32>, eos: Option<u32>, unknown: Option<u32>, separator: Option<u32>) -> SpecialIds {
    SpecialIds { bos, eos, unknown, separator, ..SpecialIds::default() }
}

/// How added tokens are matched in a text: from the keys for it, or else from the model's name.
fn added_token_flags(metadata: &Metadata, tokens: &[Vec<u8>], kinds: &[TokenKind]) -> Result<AddedTokenFlags, Error> {
    let own = [
        keys::ADDED_TOKENS_LSTRIP,
        keys::ADDED_TOKENS_RSTRIP,
        keys::ADDED_TOKENS_SINGLE_WORD,
        keys::ADDED_TOKENS_NORMALIZED,
    ];
    if own.iter().all(|key| metadata.get(key).is_none()) {
        let name = metadata.get(keys::GENERAL_NAME).and_then(Value::as_str).unwrap_or_default();
        return Ok(flags_by_name(name, tokens, kinds));
    }
    let ids = |key: &'static str| -> Result<Vec<u32>, Error> {
        let Some(value) = metadata.get(key) else { return Ok(Vec::new()) };
        let ids = value.as_array().and_then(|array| array.to_i64s());
        let ids = ids.ok_or(Error::BadKey { key, expected: "an array of token ids" })?;
        let id = |id: i64| u32::try_from(id).ok().filter(|&id| (id as usize) < tokens.len());
        let ids = ids.into_iter().map(|n| id(n).ok_or(Error::BadKey { key, expected: "tokens of the vocabulary" }));
        let mut ids = ids.collect::<Result<Vec<u32>, Error>>()?;
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    };
    Ok(AddedTokenFlags {
        lstrip: ids(keys::ADDED_TOKENS_LSTRIP)?,
        rstrip: ids(keys::ADDED_TOKENS_RSTRIP)?,
        single_word: ids(keys::ADDED_TOKENS_SINGLE_WORD)?,
        normalized: ids(keys::ADDED_TOKENS_NORMALIZED)?,
    })
}

/// How added tokens are matched in files without keys for it: as in llama.cpp, which recognizes Phi-3 by the model's name. In
/// Phi-3, special tokens (with three exceptions) include the white space after them.
#[must_use]
pub fn flags_by_name(name: &str, tokens: &[Vec<u8>], kinds: &[TokenKind]) -> AddedTokenFlags {
    let name = name.to_lowercase();
    if !name.contains("phi-3") && !name.contains("phi3") {
        return AddedTokenFlags::default();
    }
    let keeps = |text: &[u8]| [&b"<unk>"[..], b"<s>", b"<|endoftext|>"].contains(&text);
    let special = |kind: &TokenKind| matches!(kind, TokenKind::Control | TokenKind::UserDefined | TokenKind::Unknown);
    let found = (0..).zip(tokens.iter().zip(kinds)).filter(|(_, (text, kind))| special(kind) && !keeps(text));
    AddedTokenFlags { rstrip: found.map(|(id, _)| id).collect(), ..AddedTokenFlags::default() }
}

/// The pre-tokenizer of files without its name (from before May 2024): that of Llama 3 if the vocabulary has its tokens, else
/// the default, as in llama.cpp.
fn guess_pre(tokens: &[Vec<u8>]) -> &'static str {
    const END_OF_TURN: usize = 128_009;
    if tokens.get(END_OF_TURN).is_some_and(|text| text == b"<|eot_id|>") { "llama-bpe" } else { "default" }
}

fn special(
    metadata: &Metadata,
    defaults: &SpecialIds,
    tokens: usize,
    warnings: &mut Vec<Warning>,
) -> Result<SpecialIds, Error> {
    let mut id = |key: &'static str, default: Option<u32>| match metadata.get(key) {
        None => Ok(default.filter(|&id| (id as usize) < tokens)),
        Some(value) => {
            let token = value.as_u64().ok_or(Error::BadKey { key, expected: "a token id" })?;
            // Some files have -1 (as u32) for none.
            if token == u64::from(u32::MAX) {
                return Ok(None);
            }
            match u32::try_from(token) {
                Ok(id) if (id as usize) < tokens => Ok(Some(id)),
                _ => {
                    warnings.push(Warning::NoSuchToken { key, token });
                    Ok(default.filter(|&id| (id as usize) < tokens))
                }
            }
        }
    };
    Ok(SpecialIds {
        bos: id(keys::TOKENIZER_BOS_ID, defaults.bos)?,
        eos: id(keys::TOKENIZER_EOS_ID, defaults.eos)?,
        eot: id(keys::TOKENIZER_EOT_ID, None)?,
        eom: id(keys::TOKENIZER_EOM_ID, None)?,
        unknown: id(keys::TOKENIZER_UNKNOWN_ID, defaults.unknown)?,
        separator: id("tokenizer.ggml.seperator_token_id", defaults.separator)?,
        padding: id(keys::TOKENIZER_PADDING_ID, None)?,
        fim_padding: id("tokenizer.ggml.fim_pad_token_id", None)?,
        fim_repository: id("tokenizer.ggml.fim_rep_token_id", None)?,
        fim_separator: id("tokenizer.ggml.fim_sep_token_id", None)?,
    })
}

fn text<'a>(metadata: &'a Metadata, key: &'static str) -> Result<Option<&'a str>, Error> {
    match metadata.get(key) {
        None => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or(Error::BadKey { key, expected: "a string" }),
    }
}

fn strings(metadata: &Metadata, key: &'static str) -> Result<Option<Vec<Vec<u8>>>, Error> {
    let Some(value) = metadata.get(key) else { return Ok(None) };
    let items = value.as_array().and_then(|array| array.string_bytes());
    items
        .map(|items| Some(items.map(<[u8]>::to_vec).collect()))
        .ok_or(Error::BadKey { key, expected: "an array of strings" })
}

fn floats(metadata: &Metadata, key: &'static str) -> Result<Vec<f32>, Error> {
    let Some(value) = metadata.get(key) else { return Ok(Vec::new()) };
    #[allow(clippy::cast_precision_loss, reason = "scores are ranks of tokens, far below 2^24")]
    let rounded = |numbers: Vec<i64>| numbers.into_iter().map(|number| number as f32).collect();
    let array = value.as_array();
    let floats = array.and_then(|array| array.to_f32s().or_else(|| array.to_i64s().map(rounded)));
    floats.ok_or(Error::BadKey { key, expected: "an array of numbers" })
}

fn bytes(metadata: &Metadata, key: &'static str) -> Result<Vec<u8>, Error> {
    let Some(value) = metadata.get(key) else { return Ok(Vec::new()) };
    let numbers = value.as_array().and_then(|array| array.to_i64s());
    let numbers = numbers.ok_or(Error::BadKey { key, expected: "an array of bytes" })?;
    // Files have them as signed or as unsigned bytes.
    numbers
        .into_iter()
        .map(|n| u8::try_from(n & 0xff).map_err(|_| Error::BadKey { key, expected: "an array of bytes" }))
        .collect()
}

fn kinds(metadata: &Metadata) -> Result<Vec<TokenKind>, Error> {
    let key = keys::TOKENIZER_TOKEN_TYPE;
    let Some(value) = metadata.get(key) else { return Ok(Vec::new()) };
    let numbers = value.as_array().and_then(|array| array.to_i64s());
    let numbers = numbers.ok_or(Error::BadKey { key, expected: "an array of integers" })?;
    Ok(numbers.into_iter().map(TokenKind::from_number).collect())
}
