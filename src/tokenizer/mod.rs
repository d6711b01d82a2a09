//! Converts text to tokens and back, from the vocabulary in a model's file.

mod ascii_words;
mod bpe;
mod bytes_as_text;
mod end_tokens;
mod error;
mod merge;
mod pattern;
mod pattern_parser;
mod pattern_tree;
mod pre_tokenizer;
mod special;
mod spm;
mod stream;
mod trie;
mod unicode;
mod unigram;
mod vocab;
mod wordpiece;

pub use bytes_as_text::character as byte_character;
pub use end_tokens::end_tokens;
pub use error::Error;
pub use pre_tokenizer::{Flags as PreTokenizerFlags, Recognized};
pub use stream::StreamDecoder;
pub(crate) use vocab::PieceHasher;
pub use vocab::{AddedTokenFlags, Model, SpecialIds, TokenKind, Vocab};

use std::borrow::Cow;
use std::ops::Range;

use special::{Part, Specials, overlaps};

/// How text is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct EncodeOptions {
    /// Whether BOS and EOS are added, as the model's settings require.
    pub add_special: bool,
    /// Whether control tokens that are spelled out in the text are recognized.
    pub parse_special: bool,
}

/// A model's tokenizer.
pub struct Tokenizer {
    encoder: Encoder,
    specials: Specials,
    /// Special tokens that are matched in normalized texts.
    later: Specials,
    /// The bytes of each token.
    pieces: Vec<Vec<u8>>,
    vocab: Vocab,
    /// Tokens that end a generation, in ascending order.
    ends: Vec<u32>,
}

enum Encoder {
    Spm(spm::Spm),
    Bpe { bpe: Box<bpe::Bpe>, escape_spaces: bool },
    Unigram(unigram::Unigram),
    WordPiece(wordpiece::WordPiece),
}

impl Encoder {
    /// Normalizes a text as a whole, before special tokens are matched a second time. `prefix` puts a space before it, for kinds of
    /// tokenizers with a space prefix.
    fn normalized<'t>(&self, text: &'t str, prefix: bool) -> Cow<'t, str> {
        match self {
            Self::Spm(_) => format!("{}{}", if prefix { "▁" } else { "" }, text.replace(' ', "▁")).into(),
            Self::Bpe { escape_spaces: true, .. } => text.replace(' ', "▁").into(),
            Self::WordPiece(wordpiece) => wordpiece.normalized(text),
            Self::Bpe { .. } | Self::Unigram(_) => text.into(),
        }
    }

    /// Appends the tokens of a normalized text.
    fn encode(&self, text: &str, tokens: &mut Vec<u32>) -> Result<(), Error> {
        match self {
            Self::Spm(spm) => spm.encode(text, tokens)?,
            Self::Bpe { bpe, .. } => bpe.encode(text, tokens)?,
            Self::Unigram(unigram) => unigram.encode(text, tokens),
            Self::WordPiece(wordpiece) => wordpiece.encode(text, tokens),
        }
        Ok(())
    }
}

impl Tokenizer {
    /// Builds a tokenizer.
    ///
    /// # Errors
    /// When lists do not have one element for each token, or the pre-tokenizer is not known.
    pub fn new(mut vocab: Vocab) -> Result<Self, Error> {
        let count = vocab.tokens.len();
        let lists = [("tokenizer.ggml.scores", vocab.scores.len()), ("tokenizer.ggml.token_type", vocab.kinds.len())];
        for (key, found) in lists {
            if found < count && found > 0 {
                return Err(Error::BadLength { key, found, tokens: count });
            }
        }
        vocab.kinds.resize(count, TokenKind::Normal);
        let special = &vocab.special;
        let ids = [special.bos, special.eos, special.eot, special.eom, special.unknown, special.separator];
        if let Some(id) = ids.into_iter().flatten().find(|&id| id as usize >= count) {
            return Err(Error::UnknownToken { token: u64::from(id), tokens: count });
        }
        let (encoder, pieces) = match vocab.model {
            Model::Spm => (Encoder::Spm(spm::Spm::new(&vocab)), sentencepiece_bytes(&vocab)),
            Model::Unigram => (Encoder::Unigram(unigram::Unigram::new(&vocab)?), sentencepiece_bytes(&vocab)),
            Model::WordPiece => (Encoder::WordPiece(wordpiece::WordPiece::new(&vocab)), sentencepiece_bytes(&vocab)),
            Model::Bpe => {
                let pre = pre_tokenizer::named(&vocab.pre)
                    .ok_or_else(|| Error::UnknownPre { name: vocab.pre.clone(), nearest: nearest_pre(&vocab.pre) })?;
                let pieces = bpe::token_bytes(&vocab, pre.flags.characters);
                let bpe = Box::new(bpe::Bpe::new(&vocab, pre));
                (Encoder::Bpe { bpe, escape_spaces: pre.flags.escape_spaces }, pieces)
            }
        };
        let specials = Specials::new(&vocab);
        let later = Specials::normalized(&vocab, |text| encoder.normalized(text, vocab.add_space_prefix).into_owned());
        let ends = end_tokens(&vocab.tokens, &vocab.kinds, &vocab.special);
        Ok(Self { encoder, specials, later, pieces, vocab, ends })
    }

    /// Number of tokens.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.vocab.tokens.len()
    }

    /// The vocabulary from which the tokenizer was built.
    #[must_use]
    pub fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    /// The tokens of `text`.
    ///
    /// # Errors
    /// When the vocabulary has no token for one of its bytes.
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Result<Vec<u32>, Error> {
        let mut tokens = Vec::with_capacity(text.len() / 3 + 2);
        self.begin(options, &mut tokens);
        self.encode_parts(text, options, &[], &mut tokens)?;
        self.finish(options, &mut tokens);
        Ok(tokens)
    }

    /// As [`Self::encode`] with control tokens, but control tokens within the byte ranges `plain` are text. The ranges must be
    /// sorted and disjoint.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_marked(&self, text: &str, plain: &[Range<usize>], add_special: bool) -> Result<Vec<u32>, Error> {
        let options = EncodeOptions { add_special, parse_special: true };
        let mut tokens = Vec::with_capacity(text.len() / 3 + 2);
        self.begin(options, &mut tokens);
        self.encode_parts(text, options, plain, &mut tokens)?;
        self.finish(options, &mut tokens);
        Ok(tokens)
    }

    /// The tokens of a pair of texts, for models that compare texts.
    ///
    /// # Errors
    /// When the vocabulary has no token for one of their bytes.
    pub fn encode_pair(&self, first: &str, second: &str, options: EncodeOptions) -> Result<Vec<u32>, Error> {
        self.encode_two(first, second, options).map(|(tokens, _)| tokens)
    }

    /// As [`Self::encode_pair`], and where the second text begins.
    ///
    /// # Errors
    /// As [`Self::encode_pair`].
    pub fn encode_two(&self, first: &str, second: &str, options: EncodeOptions) -> Result<(Vec<u32>, usize), Error> {
        let mut tokens = Vec::with_capacity((first.len() + second.len()) / 3 + 4);
        self.begin(options, &mut tokens);
        self.encode_parts(first, options, &[], &mut tokens)?;
        let separator = self.vocab.special.separator;
        if options.add_special {
            tokens.extend(self.end_of_text());
            tokens.extend(separator.filter(|_| self.vocab.add_separator));
        }
        let start = tokens.len();
        self.encode_parts(second, options, &[], &mut tokens)?;
        if options.add_special {
            let word_piece = separator.filter(|_| self.vocab.model == Model::WordPiece);
            tokens.extend(self.end_of_text().or(word_piece));
        }
        Ok((tokens, start))
    }

    fn begin(&self, options: EncodeOptions, tokens: &mut Vec<u32>) {
        if options.add_special && (self.vocab.add_bos || self.vocab.model == Model::WordPiece) {
            tokens.extend(self.vocab.special.bos);
        }
    }

    fn finish(&self, options: EncodeOptions, tokens: &mut Vec<u32>) {
        if options.add_special {
            let word_piece = self.vocab.model == Model::WordPiece;
            tokens.extend(if word_piece { self.vocab.special.separator } else { self.end_of_text() });
        }
    }

    /// The token that is added at the end of a text, if any.
    fn end_of_text(&self) -> Option<u32> {
        let special = &self.vocab.special;
        if self.vocab.add_eos { special.eos.or(special.separator) } else { None }
    }

    /// Appends the tokens of `text`, including special tokens that it spells out.
    fn encode_parts(
        &self,
        text: &str,
        options: EncodeOptions,
        plain: &[Range<usize>],
        tokens: &mut Vec<u32>,
    ) -> Result<(), Error> {
        let mut failed = Ok(());
        let mut after_special = true;
        self.specials.split(text, options.parse_special, plain, |part| match part {
            Part::Token(id) => {
                tokens.push(id);
                after_special = true;
            }
            Part::Text(part) if failed.is_ok() => {
                // Normalizing moves bytes, so control tokens are not matched in a part that overlaps a plain range.
                let start = part.as_ptr() as usize - text.as_ptr() as usize;
                let parse_special = options.parse_special && !overlaps(plain, start..start + part.len());
                failed = self.encode_text(part, after_special, parse_special, tokens);
                after_special = false;
            }
            Part::Text(_) => {}
        });
        failed
    }

    fn encode_text(
        &self,
        text: &str,
        after_special: bool,
        parse_special: bool,
        tokens: &mut Vec<u32>,
    ) -> Result<(), Error> {
        let text = self.encoder.normalized(text, self.vocab.add_space_prefix && after_special);
        if self.later.is_empty() {
            return self.encoder.encode(&text, tokens);
        }
        let mut failed = Ok(());
        self.later.split(&text, parse_special, &[], |part| match part {
            Part::Token(id) => tokens.push(id),
            Part::Text(text) if failed.is_ok() => failed = self.encoder.encode(text, tokens),
            Part::Text(_) => {}
        });
        failed
    }

    /// The bytes of `token` in a text, or its name if it is a control token. Empty for an id outside the vocabulary.
    #[must_use]
    pub fn piece(&self, token: u32) -> &[u8] {
        self.pieces.get(token as usize).map_or(&[], Vec::as_slice)
    }

    /// Kind of `token`.
    #[must_use]
    pub fn kind(&self, token: u32) -> TokenKind {
        self.vocab.kinds.get(token as usize).copied().unwrap_or(TokenKind::Unused)
    }

    /// The text of `tokens`. Control tokens are left out unless `special`; invalid UTF-8 becomes U+FFFD.
    #[must_use]
    pub fn decode(&self, tokens: &[u32], special: bool) -> String {
        String::from_utf8_lossy(&self.decode_bytes(tokens, special)).into_owned()
    }

    /// As [`Self::decode`], but as bytes, which may end within a character.
    #[must_use]
    pub fn decode_bytes(&self, tokens: &[u32], special: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        for &token in tokens {
            if special || !matches!(self.kind(token), TokenKind::Control | TokenKind::Unknown) {
                bytes.extend_from_slice(self.piece(token));
            }
        }
        // The space that encoding puts before the text.
        let prefixed = self.vocab.add_space_prefix && matches!(self.vocab.model, Model::Spm | Model::Unigram);
        if prefixed && bytes.first() == Some(&b' ') {
            bytes.remove(0);
        }
        bytes
    }

    /// The tokens that end a generation, in ascending order.
    #[must_use]
    pub fn end_tokens(&self) -> &[u32] {
        &self.ends
    }

    /// Whether `token` ends a generation.
    #[must_use]
    pub fn ends_turn(&self, token: u32) -> bool {
        self.ends.binary_search(&token).is_ok()
    }
}

/// The bytes of SentencePiece tokens: `▁` is a space, `<0xNN>` a byte.
fn sentencepiece_bytes(vocab: &Vocab) -> Vec<Vec<u8>> {
    let bytes = |(text, kind): (&Vec<u8>, &TokenKind)| match kind {
        TokenKind::Byte => byte_of(text).map_or_else(|| text.clone(), |byte| vec![byte]),
        TokenKind::Control | TokenKind::Unknown => text.clone(),
        _ => bpe::unescaped(text),
    };
    vocab.tokens.iter().zip(&vocab.kinds).map(bytes).collect()
}

/// The byte that `<0xNN>` names.
fn byte_of(text: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(text).ok()?.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok()
}

/// Finds the known byte-level pre-tokenizer that splits texts like these regular expressions, applied one after the other, or
/// with no difference for these `tokens`, which are written as in vocabularies.
#[must_use]
pub fn recognize_pre_tokenizer(patterns: &[String], tokens: &[&str]) -> Recognized {
    pre_tokenizer::recognize(patterns, tokens)
}

/// The names of all known pre-tokenizers.
pub fn pre_tokenizer_names() -> impl Iterator<Item = &'static str> {
    pre_tokenizer::names()
}

/// Settings that go with a pre-tokenizer's name.
#[must_use]
pub fn pre_tokenizer_flags(name: &str) -> Option<PreTokenizerFlags> {
    Some(pre_tokenizer::named(name)?.flags)
}

/// The regular expressions of a pre-tokenizer, each of which splits the pieces of the one before.
#[must_use]
pub fn pre_tokenizer_patterns(name: &str) -> Option<&'static [&'static str]> {
    Some(pre_tokenizer::named(name)?.patterns)
}

fn nearest_pre(name: &str) -> &'static str {
    let shared = |other: &str| other.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
    pre_tokenizer::names().max_by_key(|other| shared(other)).unwrap_or("default")
}
