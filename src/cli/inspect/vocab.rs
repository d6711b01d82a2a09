//! `gguf inspect --vocab`: the tokens of a vocabulary.

use std::io::Write;

use anyhow::Context as _;
use gguf_toolkit::gguf::{Metadata, Value, keys};
use gguf_toolkit::printable::printable;
use regex::Regex;
use serde_json::{Value as Json, json};

/// One token.
struct Token<'a> {
    id: usize,
    text: std::borrow::Cow<'a, str>,
    kind: &'static str,
    score: Option<f32>,
}

/// Kinds of tokens, by their numbers in `tokenizer.ggml.token_type`.
const KINDS: [&str; 7] = ["", "normal", "unknown", "control", "user-defined", "unused", "byte"];

/// The tokens whose texts match.
fn tokens<'a>(metadata: &'a Metadata, pattern: &'a Regex) -> anyhow::Result<impl Iterator<Item = Token<'a>>> {
    let texts = metadata.get(keys::TOKENIZER_TOKENS).and_then(Value::as_array).and_then(|array| array.strs());
    let texts = texts.context("the file has no vocabulary")?;
    let array = |key: &str| metadata.get(key).and_then(Value::as_array);
    let kinds = array(keys::TOKENIZER_TOKEN_TYPE).and_then(|array| array.to_i64s()).unwrap_or_default();
    let scores = array(keys::TOKENIZER_SCORES).and_then(|array| array.to_f32s()).unwrap_or_default();
    let tokens = texts.enumerate().filter(move |(_, text)| pattern.is_match(text));
    Ok(tokens.map(move |(id, text)| {
        let kind = kinds.get(id).and_then(|&kind| usize::try_from(kind).ok());
        Token {
            id,
            text,
            kind: kind.and_then(|kind| KINDS.get(kind)).copied().unwrap_or(""),
            score: scores.get(id).copied(),
        }
    }))
}

/// Writes a line for each token: id, kind, score, text.
pub(super) fn write(out: &mut impl Write, metadata: &Metadata, pattern: &Regex) -> anyhow::Result<()> {
    for token in tokens(metadata, pattern)? {
        let score = token.score.map_or_else(String::new, |score| format!("{score:>10}  "));
        writeln!(out, "{:>7}  {:<12}  {score}'{}'", token.id, token.kind, printable(token.text.as_ref()))?;
    }
    Ok(())
}

/// An object for each token.
pub(super) fn json(metadata: &Metadata, pattern: &Regex) -> anyhow::Result<Json> {
    let object = |token: Token<'_>| {
        let mut object = json!({ "id": token.id, "text": token.text, "kind": token.kind });
        if let Some(score) = token.score {
            object["score"] = score.into();
        }
        object
    };
    Ok(tokens(metadata, pattern)?.map(object).collect())
}

/// A pattern that a person has given; an empty one matches all.
pub(super) fn pattern(text: &str) -> anyhow::Result<Regex> {
    Regex::new(text).map_err(|error| {
        let cause = error.to_string().lines().last().unwrap_or_default().to_owned();
        anyhow::anyhow!("pattern {}: {cause}", printable(text))
    })
}
