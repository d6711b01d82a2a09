//! Converts the vocabulary of a `tokenizer.json`: byte-level BPE, BPE of characters, unigram, WordPiece.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;

use serde_json::Value as Json;

use super::added_tokens::{self, AddedToken};
use super::error::TokenizerProblem;
use super::metaspace::{Metaspace, parts};
use super::pre_tokenizer;
use super::tokenizer_file::{TokenizerFile, VocabList};
use super::vocabulary::{ADDED_SCORE, EMPTY_SCORE, Tokens, Vocabulary, index, token_count};
use crate::arch::TokenKey;
use crate::gguf::{Value, keys};
use crate::tokenizer::{PieceHasher, TokenKind, pre_tokenizer_flags};

/// The pre-tokenizer name with which a tokenizer is converted as closely as a file can express it.
const ANYWAY: &str = "default";
/// Score of every token whose merges are listed.
const UNSCORED: f32 = -1000.0;

type PieceHash = BuildHasherDefault<PieceHasher>;
/// Ids of tokens by their texts.
type PieceIds<'a> = HashMap<&'a [u8], usize, PieceHash>;

/// Converts `file`. `pre` names a pre-tokenizer, which is otherwise recognized.
///
/// # Errors
/// When it is not a valid tokenizer, or cannot be expressed in a GGUF file.
pub(super) fn read(
    file: TokenizerFile,
    vocab_size: Option<usize>,
    changes: &[TokenKey],
    pre: Option<&str>,
) -> Result<Vocabulary, TokenizerProblem> {
    if file.json.get("model").is_none() {
        return Err(structure("model", "a model"));
    }
    match kind(&file) {
        "BPE" => byte_pairs(file, vocab_size, changes, pre),
        "Unigram" => unigram(&file, vocab_size, pre),
        "WordPiece" => word_piece(&file, vocab_size, pre),
        other => Err(TokenizerProblem::UnknownModel { name: other.to_owned() }),
    }
}

fn structure(path: &'static str, expected: &'static str) -> TokenizerProblem {
    TokenizerProblem::Structure { path, expected }
}

/// The model's type; in older files it follows from the model's parts.
fn kind(file: &TokenizerFile) -> &str {
    let model = &file.json["model"];
    match model["type"].as_str() {
        Some(kind) => kind,
        None if file.merges.is_some() => "BPE",
        None if matches!(file.vocab, VocabList::Scores(_)) => "Unigram",
        None if model["continuing_subword_prefix"].is_string() => "WordPiece",
        None => "",
    }
}

/// The tokens of a vocabulary and those that were added to it. `kind` returns the kind of a token of the vocabulary.
fn tokens<'a>(
    json: &'a Json,
    vocab: impl Iterator<Item = (&'a str, u64)> + Clone,
    vocab_size: Option<usize>,
    kind: impl Fn(&str) -> TokenKind,
) -> Result<Tokens, TokenizerProblem> {
    let added: Vec<AddedToken> = added_tokens::of_json(json).collect();
    let ids = vocab.clone().map(|(_, id)| id).chain(added.iter().map(|token| token.id));
    if ids.clone().next().is_none() {
        return Err(structure("model.vocab", "at least one token"));
    }
    let count = token_count(vocab_size, ids)?;
    // An added token without a row is left out. A piece of text without a row means that the files are of different models.
    let is_added = |id: u64| added.iter().any(|token| token.id == id);
    if let Some((_, id)) = vocab.clone().find(|&(_, id)| id >= count as u64 && !is_added(id)) {
        return Err(TokenizerProblem::Vocabulary { token: id, vocab_size: count });
    }
    let mut tokens = Tokens::empty(count);
    for (text, id) in vocab {
        if let Some(id) = index(Some(id), count) {
            tokens.set(id, text.as_bytes().to_vec(), kind(text));
        }
    }
    for token in added {
        if let Some(id) = index(Some(token.id), count) {
            let (text, kind) = token.entry();
            tokens.set(id, text, kind);
        }
    }
    Ok(tokens)
}

/// Texts and ids of a vocabulary that is an object.
fn object_vocab(vocab: &VocabList) -> Result<impl Iterator<Item = (&str, u64)> + Clone, TokenizerProblem> {
    let vocab = vocab.ids().ok_or(structure("model.vocab", "tokens with their ids"))?;
    Ok(vocab.iter().map(|(text, id)| (text.as_str(), *id)))
}

/// Whether `text` has the form `<0xNN>`.
fn is_byte(text: &str) -> bool {
    let digits = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}

fn byte_pairs(
    file: TokenizerFile,
    vocab_size: Option<usize>,
    changes: &[TokenKey],
    pre: Option<&str>,
) -> Result<Vocabulary, TokenizerProblem> {
    let TokenizerFile { json, vocab, merges } = file;
    for (part, path) in [
        ("continuing_subword_prefix", "model.continuing_subword_prefix"),
        ("end_of_word_suffix", "model.end_of_word_suffix"),
    ] {
        if json["model"][part].as_str().is_some_and(|text| !text.is_empty()) {
            return Err(structure(path, "none: no GGUF file can express marks of words' parts"));
        }
    }
    let merges = merges.ok_or(structure("model.merges", "a list"))?;
    let merges = merges.into_iter().collect::<Option<Vec<_>>>().ok_or(structure("model.merges", "pairs"))?;
    let of_bytes = |list, name| parts(&json[list], name).iter().any(|part| part["type"] == "ByteLevel");
    if of_bytes("pre_tokenizer", "pretokenizers")
        || of_bytes("normalizer", "normalizers")
        || of_bytes("decoder", "decoders")
    {
        let tokens = tokens(&json, object_vocab(&vocab)?, vocab_size, |_| TokenKind::Normal)?;
        let pre = match pre {
            Some(name) => name.to_owned(),
            None => {
                let texts: Vec<&str> = object_vocab(&vocab)?.map(|(text, _)| text).collect();
                let own = changes.iter().find_map(|change| match change {
                    TokenKey::Pre(name) => Some(*name),
                    _ => None,
                });
                pre_tokenizer::recognize(&json, &texts, own)?.to_owned()
            }
        };
        return Ok(Vocabulary { merges: Some(merges), ..Vocabulary::new("gpt2", Some(pre), tokens) });
    }
    let tokens = tokens(&json, object_vocab(&vocab)?, vocab_size, |text| {
        if is_byte(text) { TokenKind::Byte } else { TokenKind::Normal }
    })?;
    drop(vocab);
    characters(&json, tokens, merges, changes, pre)
}

/// BPE of characters, as in SentencePiece: with scores, or with merges for Gemma 4.
fn characters(
    json: &Json,
    mut tokens: Tokens,
    merges: Vec<String>,
    changes: &[TokenKey],
    pre: Option<&str>,
) -> Result<Vocabulary, TokenizerProblem> {
    let spaces = Metaspace::read(json);
    let anyway = pre == Some(ANYWAY);
    if !anyway {
        spaces.expressible()?;
        let bytes = tokens.kinds.iter().filter(|kind| **kind == TokenKind::Byte).count();
        if json["model"]["byte_fallback"] != true || bytes < 256 {
            return Err(TokenizerProblem::NoBytes { tokens: bytes });
        }
        if !spaces.escaped {
            return Err(structure("normalizer", "spaces to be written as `▁`"));
        }
        if !spaces.character_map.is_empty() {
            let part = "{\"type\":\"Precompiled\",...}".to_owned();
            return Err(TokenizerProblem::Normalizer { part, anyway: ANYWAY });
        }
        if spaces.split
            && let Some(token) = tokens.normal().find(|text| text.chars().skip(1).any(|c| c == '▁'))
        {
            return Err(TokenizerProblem::AcrossWords { token: token.to_owned() });
        }
    }
    let flags = pre.filter(|_| !anyway).and_then(pre_tokenizer_flags);
    match pre {
        Some(name) if flags.is_some_and(|flags| flags.escape_spaces) => {
            return Ok(Vocabulary { merges: Some(merges), ..Vocabulary::new("gpt2", Some(name.to_owned()), tokens) });
        }
        Some(name) if !anyway => return Err(TokenizerProblem::PreOfBytes { name: name.to_owned() }),
        _ => {}
    }
    if changes.contains(&TokenKey::MergesOfCharacters) {
        if !anyway && spaces.prefix {
            return Err(structure(
                "pre_tokenizer",
                "no space before a text: this model's GGUF files cannot ask for one",
            ));
        }
        if let Some(token) = tokens.normal().find(|text| text.contains('\n') && text.chars().any(|c| c != '\n')) {
            return Err(TokenizerProblem::AcrossWords { token: token.to_owned() });
        }
        for change in changes {
            if let TokenKey::Shown(text) = change {
                tokens.set_kind(text, TokenKind::UserDefined);
            }
        }
        let scores = vec![UNSCORED; tokens.texts.len()];
        let last = vec![(keys::TOKENIZER_ADD_BOS, Value::Bool(true))];
        return Ok(Vocabulary { scores, merges: Some(merges), last, ..Vocabulary::new("gemma4", None, tokens) });
    }
    let scores = scores(json, &tokens, &merges, anyway)?;
    let space_prefix = Some(spaces.prefix);
    let normalizes = !json["normalizer"].is_null();
    Ok(Vocabulary { scores, space_prefix, normalizes, ..Vocabulary::new("llama", Some("default".into()), tokens) })
}

/// Scores for which pairs are joined in the order of the `merges`: earlier merges have higher scores. SentencePiece joins every
/// pair that makes a token, so the list of merges must be complete.
fn scores(json: &Json, tokens: &Tokens, merges: &[String], anyway: bool) -> Result<Vec<f32>, TokenizerProblem> {
    let ids: PieceIds<'_> = tokens.texts.iter().enumerate().map(|(id, text)| (text.as_slice(), id)).collect();
    let mut first = vec![None; tokens.texts.len()];
    let mut pairs: HashSet<(usize, usize), PieceHash> = HashSet::default();
    let mut joined_text = Vec::new();
    let mut last = None;
    for (rank, merge) in merges.iter().enumerate() {
        let Some(space) = merge.char_indices().skip(1).find(|(_, c)| *c == ' ').map(|(at, _)| at) else { continue };
        let (left, right) = (&merge.as_bytes()[..space], &merge.as_bytes()[space + 1..]);
        joined_text.clear();
        joined_text.extend_from_slice(left);
        joined_text.extend_from_slice(right);
        let Some(&joined) = ids.get(joined_text.as_slice()) else { continue };
        // Runs of one character are joined from the left in any order.
        if first[joined].is_some() && last != Some(joined) && !anyway && !is_run(&tokens.texts[joined]) {
            return Err(TokenizerProblem::MixedMerges { token: tokens.text(joined) });
        }
        first[joined].get_or_insert(rank);
        last = Some(joined);
        if let (Some(&left), Some(&right)) = (ids.get(left), ids.get(right)) {
            pairs.insert((left, right));
        }
    }
    let part = |text: &[u8]| {
        let id = *ids.get(text).filter(|&&id| tokens.kinds[id] == TokenKind::Normal)?;
        (first[id].is_some() || tokens.text(id).chars().count() == 1).then_some(id)
    };
    let mut order: Vec<usize> = (0..tokens.texts.len()).filter(|&id| tokens.kinds[id] == TokenKind::Normal).collect();
    for &id in order.iter().filter(|_| !anyway) {
        let whole = &tokens.texts[id];
        for (at, _) in String::from_utf8_lossy(whole).char_indices().skip(1) {
            let Some((left, right)) = whole.split_at_checked(at) else { break };
            let Some(parts) = part(left).and_then(|left| Some((left, part(right)?))) else { continue };
            if !pairs.contains(&parts) {
                let (left, right) = (tokens.text(parts.0), tokens.text(parts.1));
                return Err(TokenizerProblem::MissingMerge { token: tokens.text(id), left, right });
            }
        }
    }
    order.sort_by_key(|&id| (first[id].unwrap_or(usize::MAX), id));
    let mut scores: Vec<f32> =
        tokens.kinds.iter().map(|kind| if *kind == TokenKind::Unused { EMPTY_SCORE } else { 0.0 }).collect();
    for (place, id) in order.into_iter().enumerate() {
        #[allow(clippy::cast_precision_loss, reason = "vocabularies have fewer than 2^24 tokens")]
        let place = place as f32;
        scores[id] = 0.0 - place;
    }
    for token in added_tokens::of_json(json) {
        if let Some(id) = index(Some(token.id), scores.len()) {
            scores[id] = ADDED_SCORE;
        }
    }
    Ok(scores)
}

fn is_run(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let mut chars = text.chars();
    chars.next().is_some_and(|first| chars.all(|c| c == first))
}

fn unigram(file: &TokenizerFile, vocab_size: Option<usize>, pre: Option<&str>) -> Result<Vocabulary, TokenizerProblem> {
    let (json, model) = (&file.json, &file.json["model"]);
    let pairs = match &file.vocab {
        VocabList::Scores(pairs) => pairs.iter().map(Option::as_ref).collect::<Option<Vec<_>>>(),
        _ => None,
    };
    let pairs = pairs.ok_or(structure("model.vocab", "tokens with their scores"))?;
    let spaces = Metaspace::read(json);
    if pre != Some(ANYWAY) {
        spaces.expressible()?;
        if !spaces.escaped {
            return Err(structure("pre_tokenizer", "spaces to be written as `▁`"));
        }
    }
    let fallback = model["byte_fallback"] == true;
    let texts = (0..).zip(&pairs).map(|(id, (text, _))| (text.as_str(), id));
    let mut tokens =
        tokens(
            json,
            texts,
            vocab_size,
            |text| {
                if fallback && is_byte(text) { TokenKind::Byte } else { TokenKind::Normal }
            },
        )?;
    let unknown = model["unk_id"].as_u64().and_then(|id| index(Some(id), pairs.len()));
    let unknown = unknown.ok_or(structure("model.unk_id", "a token"))?;
    tokens.kinds[unknown] = TokenKind::Unknown;
    let kept = |kind: &TokenKind| if *kind == TokenKind::Unused { EMPTY_SCORE } else { ADDED_SCORE };
    let mut scores: Vec<f32> = tokens.kinds.iter().map(kept).collect();
    for (score, (_, of_token)) in scores.iter_mut().zip(&pairs) {
        #[allow(clippy::cast_possible_truncation, reason = "scores are single numbers in sentencepiece")]
        let of_token = *of_token as f32;
        *score = of_token;
    }
    Ok(Vocabulary {
        scores,
        unigram: Some(spaces),
        unknown: Some(unknown),
        ..Vocabulary::new("t5", Some("default".into()), tokens)
    })
}

fn word_piece(
    file: &TokenizerFile,
    vocab_size: Option<usize>,
    pre: Option<&str>,
) -> Result<Vocabulary, TokenizerProblem> {
    let (json, model) = (&file.json, &file.json["model"]);
    let normalizer = &json["normalizer"];
    let bert = normalizer["type"] == "BertNormalizer";
    let pre_tokenizer = &json["pre_tokenizer"];
    if pre != Some(ANYWAY) {
        let on = |option: &str| normalizer[option].as_bool().unwrap_or(true);
        if !bert || !on("clean_text") || !on("handle_chinese_chars") {
            return Err(TokenizerProblem::Normalizer { part: normalizer.to_string(), anyway: ANYWAY });
        }
        if pre_tokenizer["type"] != "BertPreTokenizer" {
            return Err(TokenizerProblem::UnreadablePre { part: pre_tokenizer.to_string(), anyway: ANYWAY });
        }
    }
    let inner = model["continuing_subword_prefix"].as_str().unwrap_or("##");
    let vocab = object_vocab(&file.vocab)?;
    let mut tokens = tokens(json, vocab.clone(), vocab_size, |_| TokenKind::Normal)?;
    for (text, kind) in tokens.texts.iter_mut().zip(&tokens.kinds) {
        // Words in the vocabulary begin with a space.
        if !matches!(kind, TokenKind::Control | TokenKind::UserDefined) {
            match text.strip_prefix(inner.as_bytes()).filter(|_| !inner.is_empty()) {
                Some(rest) => *text = rest.to_vec(),
                None => *text = ["▁".as_bytes(), text].concat(),
            }
        }
    }
    let unknown = model["unk_token"].as_str();
    let unknown = unknown.and_then(|unknown| vocab.clone().find(|(text, _)| *text == unknown).map(|(_, id)| id));
    let mut last = vec![(keys::TOKENIZER_LOWERCASE, Value::Bool(normalizer["lowercase"].as_bool().unwrap_or(bert)))];
    if let Some(strip) = normalizer["strip_accents"].as_bool() {
        last.push((keys::TOKENIZER_STRIP_ACCENTS, Value::Bool(strip)));
    }
    Ok(Vocabulary {
        last,
        unknown: index(unknown, tokens.texts.len()),
        normalizes: true,
        ..Vocabulary::new("bert", Some("bert-bge".into()), tokens)
    })
}
