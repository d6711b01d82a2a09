//! Checks the vocabulary: whether a tokenizer can be built from it, texts survive encoding and decoding, and special tokens are
//! as they should be.

use std::collections::HashMap;

use super::Findings;
use crate::gguf::{Reader, keys};
use crate::printable::printable;
use crate::tokenizer::{EncodeOptions, Error, Model, TokenKind, Tokenizer};

/// Texts that must survive encoding and decoding: words, numbers, white space, other scripts, code, combining characters.
const TEXTS: [&str; 6] = [
    "Hello, world! 3.14159 and 2026.",
    "  two spaces, a tab\t and\n\nlines ",
    "Größe, naïve, Ελληνικά, русский",
    "你好，世界。こんにちは 안녕하세요",
    "fn main() { println!(\"{}\", x[0]); }",
    "👩‍💻 e\u{301} ½ №",
];
/// Maximum special tokens that are reported individually.
const MOST_NAMED: usize = 3;

/// The tokenizer of an opened file, where it can be used.
pub(super) fn made(reader: &Reader, findings: &mut Findings) -> Option<Tokenizer> {
    let metadata = reader.metadata();
    if metadata.get(keys::TOKENIZER_MODEL).is_none() && metadata.get(keys::TOKENIZER_TOKENS).is_none() {
        // Files of other kinds (adapters, matrices) need none.
        if metadata.get(keys::GENERAL_TYPE).and_then(|kind| kind.as_str()).is_none_or(|kind| kind == "model") {
            findings.error("tokenizer.missing", "the file has no tokenizer");
        }
        return None;
    }
    match Tokenizer::from_gguf(reader) {
        Ok(tokenizer) => Some(tokenizer),
        Err(error) => {
            let id = match error {
                Error::UnknownPre { .. } => "tokenizer.pre-unknown",
                Error::UnknownModel { .. } => "tokenizer.model-unknown",
                Error::BadLength { .. } => "tokenizer.length",
                Error::MissingKey { .. } => "tokenizer.missing-key",
                _ => "tokenizer.invalid",
            };
            findings.error(id, error.to_string());
            None
        }
    }
}

/// Looks at a tokenizer.
pub(super) fn check(tokenizer: &Tokenizer, findings: &mut Findings) {
    duplicates(tokenizer, findings);
    special(tokenizer, findings);
    round_trips(tokenizer, findings);
}

fn shown(tokenizer: &Tokenizer, token: u32) -> String {
    let text = tokenizer.vocab().tokens.get(token as usize).map_or(&b""[..], Vec::as_slice);
    format!("{token} `{}`", printable(text).limit(40))
}

fn duplicates(tokenizer: &Tokenizer, findings: &mut Findings) {
    let vocab = tokenizer.vocab();
    let mut seen: HashMap<&[u8], u32> = HashMap::new();
    let mut twice = Vec::new();
    for (id, text) in (0u32..).zip(&vocab.tokens) {
        if let Some(first) = seen.insert(text, id) {
            twice.push((first, id));
        }
    }
    if let Some(&(first, second)) = twice.first() {
        let more = if twice.len() > 1 { format!(", and {} more", twice.len() - 1) } else { String::new() };
        let text =
            format!("tokens {} and {} have the same text{more}", shown(tokenizer, first), shown(tokenizer, second));
        findings.warning("tokenizer.duplicate", text);
    }
}

fn special(tokenizer: &Tokenizer, findings: &mut Findings) {
    let vocab = tokenizer.vocab();
    let special = &vocab.special;
    if vocab.add_bos && special.bos.is_none() && vocab.model != Model::WordPiece {
        findings.error("tokenizer.no-bos", "add_bos_token is set, and there is no bos_token_id");
    }
    if vocab.add_eos && special.eos.is_none() {
        findings.error("tokenizer.no-eos", "add_eos_token is set, and there is no eos_token_id");
    }
    if special.eos.is_none() && special.eot.is_none() && vocab.model != Model::WordPiece {
        findings.warning("tokenizer.no-end", "no token ends an answer: neither eos_token_id nor eot_token_id");
    }
    let named = [("bos_token_id", special.bos), ("eos_token_id", special.eos), ("eot_token_id", special.eot)];
    for (key, token) in named.into_iter().filter_map(|(key, token)| Some((key, token?))) {
        if matches!(tokenizer.kind(token), TokenKind::Normal | TokenKind::Byte) && !vocab.kinds.is_empty() {
            let text =
                format!("{key}: token {} is an ordinary token, so that texts may end in it", shown(tokenizer, token));
            findings.warning("tokenizer.special-kind", text);
        }
    }
    // A template cannot produce a control token whose own text is not encoded to it.
    let options = EncodeOptions { add_special: false, parse_special: true };
    let mut lost = Vec::new();
    for (id, text) in (0u32..).zip(&vocab.tokens) {
        if tokenizer.kind(id) != TokenKind::Control {
            continue;
        }
        let Ok(text) = str::from_utf8(text) else { continue };
        let found = tokenizer.encode(text, options).unwrap_or_default();
        let same_text = found
            .first()
            .and_then(|&other| vocab.tokens.get(other as usize))
            .is_some_and(|other| other == text.as_bytes());
        let leads_back = found.len() == 1 && same_text;
        if !leads_back && !text.trim().is_empty() {
            lost.push(id);
        }
    }
    if !lost.is_empty() {
        let names: Vec<String> = lost.iter().take(MOST_NAMED).map(|&id| shown(tokenizer, id)).collect();
        let more =
            if lost.len() > MOST_NAMED { format!(" and {} more", lost.len() - MOST_NAMED) } else { String::new() };
        let text = format!("control tokens that their own texts do not lead to: {}{more}", names.join(", "));
        findings.warning("tokenizer.control-lost", text);
    }
}

fn round_trips(tokenizer: &Tokenizer, findings: &mut Findings) {
    // WordPiece loses case and spaces; the normalizer of unigram models loses forms of characters.
    if matches!(tokenizer.vocab().model, Model::WordPiece | Model::Unigram) {
        return;
    }
    let options = EncodeOptions { add_special: false, parse_special: false };
    for text in TEXTS {
        match tokenizer.encode(text, options) {
            Err(error) => findings.error("tokenizer.encode", format!("`{}`: {error}", printable(text))),
            Ok(tokens) => {
                let back = tokenizer.decode(&tokens, false);
                // A vocabulary without byte tokens encodes unknown characters as the unknown token.
                let unknown = tokenizer.vocab().special.unknown.is_some_and(|unknown| tokens.contains(&unknown));
                if back != text && !unknown {
                    let text = format!("`{}` comes back as `{}`", printable(text), printable(&back).limit(80));
                    findings.warning("tokenizer.round-trip", text);
                    return;
                }
            }
        }
    }
}
