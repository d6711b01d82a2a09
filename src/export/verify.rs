//! Verifies an export: the folder, whose tensors have shapes but no numbers yet, is converted like any checkpoint. The resulting
//! network, tensors and tokenizer must be those of the file.

use std::collections::HashSet;
use std::path::Path;

use super::error::{Error, TensorProblem, TokenizerProblem};
use super::source::Source;
use crate::convert::{Conversion, Folder, Options};
use crate::gguf::{Metadata, Value, keys};
use crate::model::tokenizer::from_metadata;
use crate::quantize::Source as _;
use crate::tokenizer::{EncodeOptions, TokenKind, Tokenizer};

/// Texts that show differences between tokenizers.
const SAMPLES: &[&str] = &[
    "Hello, world! It's 2024; I'll say WE'RE fine, DON'T you?",
    " leading and trailing  ",
    "one 12 123 1234 12345 3.14 1,000,000 x86_64 ½ ²",
    "camelCase HTTPServer Größe ÉCOLE naïve cafe\u{301}",
    "a  b   c\td\t\te \n f\n\ng \r\n\r\n  h   \n   i    ",
    "fn main() {\n    println!(\"{}\", x[0] != y->z);\n}\n\n\n",
    "中文字符和日本語のテキスト、한국어 텍스트。ไทย हिन्दी العربية עברית",
    "🙂🙂 👩‍👩‍👧 🇩🇪 … — “quoted” \u{0} \u{7f} \u{feff}",
    "<s>[INST] Hi [/INST]</s> <|im_start|>user\nHi<|im_end|>",
    "",
];

/// Converts the folder and compares.
///
/// # Errors
/// When it cannot be converted, or something differs.
pub(super) fn check(source: &Source<'_>, class: &'static str, folder: &Path) -> Result<(), Error> {
    let failed = |error| Error::NotConvertible { path: source.path(), source: Box::new(error) };
    let conversion =
        Folder::open(folder).and_then(|folder| Conversion::new(folder, &Options::default())).map_err(failed)?;
    let back = conversion.metadata();
    let architecture = &source.header.hparams.architecture;
    // The class may be that of another architecture.
    let other = back.get(keys::GENERAL_ARCHITECTURE).and_then(Value::as_str).unwrap_or(architecture);
    let context = |metadata: &Metadata, architecture: &str| {
        metadata.get(&keys::of(architecture, keys::CONTEXT_LENGTH)).and_then(Value::as_u64)
    };
    if *conversion.spec() != source.spec || context(back, other) != context(&source.header.metadata, architecture) {
        let key = different_key(&source.header.metadata, back, architecture);
        return Err(source.key_fault(key, class));
    }
    let made: HashSet<(&str, u64)> =
        conversion.tensors().iter().map(|spec| (spec.name.as_str(), spec.shape.iter().product())).collect();
    let own = source.header.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.elements()));
    let lost = own.clone().find(|tensor| !made.contains(tensor)).map(|(name, _)| name);
    let own: HashSet<(&str, u64)> = own.collect();
    let gained = || made.iter().find(|tensor| !own.contains(*tensor)).map(|(name, _)| *name);
    if let Some(name) = lost.or_else(gained) {
        return Err(Error::Tensor { path: source.path(), name: name.to_owned(), problem: TensorProblem::Reshaped });
    }
    let tokenizer = from_metadata(back).map_err(|error| Error::Vocabulary { path: source.path(), source: error })?;
    tokenizers(source, &tokenizer).map_err(|problem| Error::Tokenizer { path: source.path(), problem })
}

/// The first of the architecture's keys that differs.
fn different_key(file: &Metadata, back: &Metadata, architecture: &str) -> String {
    let prefix = format!("{architecture}.");
    let own = |metadata: &Metadata| -> Vec<String> {
        metadata.iter().map(|(key, _)| key.to_owned()).filter(|key| key.starts_with(&prefix)).collect()
    };
    let keys: Vec<String> = own(file).into_iter().chain(own(back)).collect();
    let differs = |key: &&String| file.get(key) != back.get(key);
    // A key that both have is more informative.
    let both = keys.iter().filter(|key| file.get(key).is_some() && back.get(key).is_some()).find(differs);
    both.or_else(|| keys.iter().find(differs)).cloned().unwrap_or(prefix)
}

fn tokenizers(source: &Source<'_>, back: &Tokenizer) -> Result<(), TokenizerProblem> {
    let own = &source.tokenizer;
    let (found, expected) = (back.vocab_size(), own.vocab_size());
    if found != expected {
        return Err(TokenizerProblem::Count { found, expected });
    }
    let added = |kind| matches!(kind, TokenKind::Control | TokenKind::Unknown | TokenKind::UserDefined);
    for id in (0..).take(expected) {
        let (kind, other) = (own.kind(id), back.kind(id));
        let alike = kind == other && own.piece(id) == back.piece(id)
            || added(kind) && added(other) && own.piece(id) == back.piece(id);
        // Names of unused ids do not matter.
        if !alike && (kind, other) != (TokenKind::Unused, TokenKind::Unused) {
            let found = String::from_utf8_lossy(back.piece(id)).into_owned();
            return Err(TokenizerProblem::Token { id: id as usize, found });
        }
    }
    let other = back.vocab();
    let special = source.special();
    for (what, id, found) in [
        ("the token that begins texts", special.bos, other.special.bos),
        ("the token that ends texts", special.eos, other.special.eos),
    ] {
        if id.is_some() && id != found {
            return Err(setting(what, &found, &id));
        }
    }
    let ends = |tokenizer: &Tokenizer| (0..).take(expected).filter(|&id| tokenizer.ends_turn(id)).collect::<Vec<u32>>();
    let (found, expected) = (ends(back), ends(own));
    if found != expected {
        return Err(setting("the tokens that end a turn", &found, &expected));
    }
    texts(own, back)
}

fn setting(what: &'static str, found: &impl std::fmt::Debug, expected: &impl std::fmt::Debug) -> TokenizerProblem {
    TokenizerProblem::Setting { what, found: format!("{found:?}"), expected: format!("{expected:?}") }
}

/// Compares the encoding of the samples and of a text of all tokens.
fn texts(own: &Tokenizer, back: &Tokenizer) -> Result<(), TokenizerProblem> {
    let tokens: Vec<u32> = (0..).take(own.vocab_size()).collect();
    let of_tokens = tokens.chunks(256).map(|tokens| own.decode(tokens, true));
    for text in SAMPLES.iter().map(|&text| text.to_owned()).chain(of_tokens) {
        for (add_special, parse_special) in [(true, true), (false, false)] {
            let options = EncodeOptions { add_special, parse_special };
            let (found, expected) = (back.encode(&text, options), own.encode(&text, options));
            if !matches!((&found, &expected), (Ok(found), Ok(expected)) if found == expected) {
                return Err(TokenizerProblem::Encoding { text });
            }
        }
    }
    Ok(())
}
