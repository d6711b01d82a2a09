//! `tokenizer.json` and `tokenizer_config.json` of a file's vocabulary.

mod words;

use std::collections::HashMap;

use serde_json::{Map, Value as Json, json};

use super::error::TokenizerProblem;
use super::source::Source;
use crate::gguf::{Value, keys};
use crate::tokenizer::{AddedTokenFlags, Model, TokenKind, Vocab, pre_tokenizer_flags, pre_tokenizer_patterns};

/// The key of the token for what is to be guessed.
const MASK: &str = "tokenizer.ggml.mask_token_id";

/// `tokenizer.json`, for the library `tokenizers`.
///
/// # Errors
/// When the vocabulary cannot be expressed in it.
pub(super) fn tokenizer_json(source: &Source<'_>) -> Result<Json, TokenizerProblem> {
    let vocab = source.tokenizer.vocab();
    let texts = texts(vocab)?;
    let parts = match vocab.model {
        Model::Bpe => bytes(vocab, &texts)?,
        Model::Spm => characters(vocab, &texts),
        Model::Unigram => words::unigram(vocab, &texts)?,
        Model::WordPiece => words::word_piece(vocab, &texts),
    };
    let Parts { normalizer, pre_tokenizer, decoder, model } = parts;
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added_tokens(vocab, &texts),
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor(source, &texts), "decoder": decoder, "model": model,
    }))
}

/// `tokenizer_config.json`.
pub(super) fn tokenizer_config(source: &Source<'_>) -> Json {
    let (vocab, metadata) = (source.tokenizer.vocab(), &source.header.metadata);
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false,
        "model_max_length": source.header.hparams.context_length, "add_bos_token": vocab.add_bos, "add_eos_token": vocab.add_eos,
    });
    let special = source.special();
    let mut named = vec![
        ("bos_token", special.bos),
        ("eos_token", special.eos),
        ("unk_token", special.unknown),
        ("pad_token", special.padding),
    ];
    // Encoders have a token in front of texts, one between them, and one for what is to be guessed.
    if !source.spec.logits {
        let mask = metadata.get(MASK).and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
        named.extend([("cls_token", special.bos), ("sep_token", special.separator), ("mask_token", mask)]);
    }
    for (name, id) in named {
        // Naming it here would make a piece of text a special token; `config.json` has its id.
        let is_added = |id: &u32| !matches!(kind(vocab, *id as usize), TokenKind::Normal | TokenKind::Byte);
        let text = id.filter(is_added).and_then(|id| vocab.tokens.get(id as usize));
        let text = text.map(|text| String::from_utf8_lossy(text));
        config[name] = text.map_or(Json::Null, |text| text.into_owned().into());
    }
    if vocab.model == Model::Spm {
        config["add_prefix_space"] = vocab.add_space_prefix.into();
    }
    let text = |key: &str| metadata.get(key).and_then(Value::as_str);
    let main = text(keys::TOKENIZER_CHAT_TEMPLATE);
    let named = metadata.get(keys::TOKENIZER_CHAT_TEMPLATES).and_then(Value::as_array).and_then(|names| names.strs());
    let named: Vec<Json> = named
        .into_iter()
        .flatten()
        .filter_map(|name| {
            let template = text(&format!("{}.{name}", keys::TOKENIZER_CHAT_TEMPLATE))?;
            Some(json!({ "name": name, "template": template }))
        })
        .collect();
    config["chat_template"] = match (main, named.is_empty()) {
        (None, true) => return config,
        (Some(main), true) => main.into(),
        (main, false) => {
            main.map(|main| json!({ "name": "default", "template": main })).into_iter().chain(named).collect()
        }
    };
    config
}

/// The pipeline of a tokenizer: normalizer, pre-tokenizer, model, decoder.
struct Parts {
    normalizer: Json,
    pre_tokenizer: Json,
    decoder: Json,
    model: Json,
}

/// Texts of the tokens in the form of the library.
fn texts(vocab: &Vocab) -> Result<Vec<String>, TokenizerProblem> {
    let text = |(id, text): (usize, &Vec<u8>)| {
        let text = String::from_utf8(text.clone()).map_err(|_| TokenizerProblem::NotText { id })?;
        // Added tokens are matched before SentencePiece replaces spaces by its mark, so they have real spaces.
        let is_added = vocab.kinds.get(id) == Some(&TokenKind::UserDefined);
        Ok(if vocab.model == Model::Spm && is_added { text.replace('▁', " ") } else { text })
    };
    vocab.tokens.iter().enumerate().map(text).collect()
}

/// The kind of a token.
fn kind(vocab: &Vocab, id: usize) -> TokenKind {
    vocab.kinds.get(id).copied().unwrap_or(TokenKind::Normal)
}

/// The tokens that are matched before a text is split.
fn added_tokens(vocab: &Vocab, texts: &[String]) -> Vec<Json> {
    let AddedTokenFlags { lstrip, rstrip, single_word, normalized } = &vocab.added_tokens;
    let has = |ids: &[u32], id: usize| u32::try_from(id).is_ok_and(|id| ids.binary_search(&id).is_ok());
    let added = |(id, text): (usize, &String)| {
        let special = match kind(vocab, id) {
            TokenKind::Control | TokenKind::Unknown => true,
            TokenKind::UserDefined => false,
            _ => return None,
        };
        Some(json!({
            "id": id, "content": text, "single_word": has(single_word, id), "lstrip": has(lstrip, id),
            "rstrip": has(rstrip, id), "normalized": has(normalized, id), "special": special,
        }))
    };
    texts.iter().enumerate().filter(|(_, text)| !text.is_empty()).filter_map(added).collect()
}

/// Every token except fillers. Added tokens are included, since the library would otherwise assign other ids to them.
fn ids(vocab: &Vocab, texts: &[String]) -> Map<String, Json> {
    let used = texts.iter().enumerate().filter(|(id, _)| kind(vocab, *id) != TokenKind::Unused);
    used.map(|(id, text)| (text.clone(), id.into())).collect()
}

/// Byte-level BPE.
fn bytes(vocab: &Vocab, texts: &[String]) -> Result<Parts, TokenizerProblem> {
    let unknown = || TokenizerProblem::Pre { name: vocab.pre.clone() };
    let flags = pre_tokenizer_flags(&vocab.pre).filter(|flags| !flags.characters).ok_or_else(unknown)?;
    let patterns = pre_tokenizer_patterns(&vocab.pre).ok_or_else(unknown)?;
    let split = |pattern: &&str| json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false });
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false });
    let cuts: Vec<Json> = patterns.iter().map(split).chain([byte_level.clone()]).collect();
    let merges: Vec<Json> = vocab.merges.iter().map(|merge| String::from_utf8_lossy(merge).into()).collect();
    Ok(Parts {
        normalizer: Json::Null,
        pre_tokenizer: json!({ "type": "Sequence", "pretokenizers": cuts }),
        decoder: byte_level,
        model: model(ids(vocab, texts), merges, &json!({ "ignore_merges": flags.whole_words })),
    })
}

/// SentencePiece BPE in the form that transformers uses for Llama 2: a merge for each way to split a token into two, in the order
/// of scores.
fn characters(vocab: &Vocab, texts: &[String]) -> Parts {
    let normal = |id: &usize| kind(vocab, *id) == TokenKind::Normal;
    let pieces: HashMap<&str, usize> = (0..texts.len()).filter(normal).map(|id| (texts[id].as_str(), id)).collect();
    let score = |id: usize| vocab.scores.get(id).copied().unwrap_or(0.0);
    let mut order: Vec<usize> = (0..texts.len()).filter(normal).collect();
    order.sort_by(|&a, &b| score(b).total_cmp(&score(a)).then(a.cmp(&b)));
    let mut merges: Vec<Json> = Vec::new();
    for id in order {
        let text = texts[id].as_str();
        let cuts = text.char_indices().skip(1).map(|(at, _)| text.split_at(at));
        let mut pairs: Vec<(usize, usize)> =
            cuts.filter_map(|(left, right)| Some((*pieces.get(left)?, *pieces.get(right)?))).collect();
        pairs.sort_unstable();
        merges.extend(pairs.into_iter().map(|(left, right)| json!([texts[left], texts[right]])));
    }
    let space = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" });
    let mut normalizers = vec![space];
    let mut decoders = vec![
        json!({ "type": "Replace", "pattern": { "String": "▁" }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if vocab.add_space_prefix {
        normalizers.insert(0, json!({ "type": "Prepend", "prepend": "▁" }));
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    let unknown = vocab.special.unknown.and_then(|id| texts.get(id as usize));
    let more = json!({ "unk_token": unknown, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false });
    Parts {
        normalizer: json!({ "type": "Sequence", "normalizers": normalizers }),
        pre_tokenizer: Json::Null,
        decoder: json!({ "type": "Sequence", "decoders": decoders }),
        model: model(ids(vocab, texts), merges, &more),
    }
}

fn model(vocab: Map<String, Json>, merges: Vec<Json>, more: &Json) -> Json {
    let mut model = json!({
        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
        "fuse_unk": false, "byte_fallback": false,
    });
    model.as_object_mut().into_iter().for_each(|model| model.extend(more.as_object().cloned().unwrap_or_default()));
    model["vocab"] = vocab.into();
    model["merges"] = merges.into();
    model
}

/// The post-processor that adds BOS and EOS as the file requires.
fn post_processor(source: &Source<'_>, texts: &[String]) -> Json {
    let (vocab, special) = (source.tokenizer.vocab(), source.special());
    let token = |id: Option<u32>, adds: bool| {
        let id = id.filter(|_| adds)?;
        Some((id, texts.get(id as usize)?))
    };
    let (first, last) = (token(special.bos, vocab.add_bos), token(special.eos, vocab.add_eos));
    if first.is_none() && last.is_none() {
        return match vocab.model {
            Model::Bpe => {
                json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true })
            }
            _ => Json::Null,
        };
    }
    // An encoder sees two texts as one, with a separator between them where the file says so.
    let encodes = !source.spec.logits;
    let between = token(special.separator, encodes && vocab.add_separator);
    let types = source.header.metadata.get(keys::TOKENIZER_TOKEN_TYPE_COUNT).and_then(Value::as_u64);
    let around = |sequences: &[&str]| {
        let mut parts: Vec<Json> = Vec::new();
        for (i, id) in sequences.iter().enumerate() {
            let ty = if encodes && types.unwrap_or(1) < 2 { 0 } else { i };
            let special = |token: Option<(u32, &String)>| {
                token.map(|(_, text)| json!({ "SpecialToken": { "id": text, "type_id": ty } }))
            };
            parts.extend(special(if i > 0 && encodes { between } else { first }));
            parts.push(json!({ "Sequence": { "id": id, "type_id": ty } }));
            parts.extend(special(last));
        }
        parts
    };
    let named: Map<String, Json> = [first, last, between]
        .into_iter()
        .flatten()
        .map(|(id, text)| (text.clone(), json!({ "id": text, "ids": [id], "tokens": [text] })))
        .collect();
    json!({ "type": "TemplateProcessing", "single": around(&["A"]), "pair": around(&["A", "B"]), "special_tokens": named })
}
