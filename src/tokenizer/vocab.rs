//! The tokens of a tokenizer and what its file says about them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// What kind of token one is, as files number them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A piece of text.
    Normal,
    /// Stands for what no token can say.
    Unknown,
    /// Begins, ends or divides texts; not text itself.
    Control,
    /// A piece of text that is always one token.
    UserDefined,
    /// In no text.
    Unused,
    /// One byte.
    Byte,
}

impl TokenKind {
    /// Its number.
    #[must_use]
    pub fn number(self) -> i32 {
        match self {
            Self::Normal => 1,
            Self::Unknown => 2,
            Self::Control => 3,
            Self::UserDefined => 4,
            Self::Unused => 5,
            Self::Byte => 6,
        }
    }

    /// The kind with this number; anything else is unused.
    #[must_use]
    pub fn from_number(number: i64) -> Self {
        match number {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            6 => Self::Byte,
            _ => Self::Unused,
        }
    }
}

/// Ids of the tokens with a meaning of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialIds {
    /// Begins a text.
    pub bos: Option<u32>,
    /// Ends a text.
    pub eos: Option<u32>,
    /// Ends a turn.
    pub eot: Option<u32>,
    /// Ends a message that expects an answer from a tool.
    pub eom: Option<u32>,
    /// Stands for what is unknown.
    pub unknown: Option<u32>,
    /// Divides two texts.
    pub separator: Option<u32>,
    /// Fills up.
    pub padding: Option<u32>,
    /// Fills up where a model fills in the middle of a file.
    pub fim_padding: Option<u32>,
    /// Begins another repository there.
    pub fim_repository: Option<u32>,
    /// Begins another file there.
    pub fim_separator: Option<u32>,
}

/// Which tokenizer a vocabulary is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// Sentencepiece byte-pair encoding (`llama`).
    Spm,
    /// Byte-level byte-pair encoding (`gpt2`).
    Bpe,
    /// Sentencepiece unigram (`t5`).
    Unigram,
    /// WordPiece (`bert`).
    WordPiece,
}

/// How tokens that were added to a vocabulary are found in a text: ids in ascending order. GGUF has no keys for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddedTokenFlags {
    /// White space before them belongs to them.
    pub lstrip: Vec<u32>,
    /// White space after them belongs to them.
    pub rstrip: Vec<u32>,
    /// They are not found next to characters of words.
    pub single_word: Vec<u32>,
    /// They are looked for after the others, in a text with its spaces and its case as the model sees them.
    pub normalized: Vec<u32>,
}

/// Everything that a tokenizer is made from.
#[derive(Clone, Debug)]
pub struct Vocab {
    /// Which tokenizer.
    pub model: Model,
    /// Name of the pre-tokenizer (byte-pair encodings only).
    pub pre: String,
    /// Texts of the tokens, as they stand in the file.
    pub tokens: Vec<Vec<u8>>,
    /// Scores of the tokens (sentencepiece only).
    pub scores: Vec<f32>,
    /// Kinds of the tokens.
    pub kinds: Vec<TokenKind>,
    /// Merges, best first: two texts with a space between.
    pub merges: Vec<Vec<u8>>,
    /// Tokens with a meaning of their own.
    pub special: SpecialIds,
    /// How added tokens are found.
    pub added_tokens: AddedTokenFlags,
    /// Whether texts begin with [`SpecialIds::bos`].
    pub add_bos: bool,
    /// Whether texts end with [`SpecialIds::eos`].
    pub add_eos: bool,
    /// Whether [`SpecialIds::separator`] divides two texts, after what ends the first.
    pub add_separator: bool,
    /// Whether a space is put before texts.
    pub add_space_prefix: bool,
    /// Whether runs of spaces count as one (unigram only).
    pub remove_extra_spaces: bool,
    /// Character map of a sentencepiece normalizer (unigram only).
    pub character_map: Vec<u8>,
    /// Whether words are taken in lower case (WordPiece only).
    pub lowercase: bool,
    /// Whether words are taken without accents (WordPiece only).
    pub strip_accents: bool,
}

/// A map keyed by pieces of text.
pub(super) type PieceMap<V> = HashMap<Box<[u8]>, V, BuildHasherDefault<PieceHasher>>;
/// A map keyed by integers.
pub(super) type NumberMap<V> = HashMap<u64, V, BuildHasherDefault<PieceHasher>>;

/// Multiply-and-rotate over eight bytes at a time: pieces are short, and come from models and texts that gain
/// nothing by collisions but slower tokens.
#[derive(Default)]
pub(crate) struct PieceHasher(u64);

impl PieceHasher {
    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for PieceHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.mix(u64::from_le_bytes(*word)));
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.mix(u64::from_le_bytes(last) ^ (rest.len() as u64) << 56);
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.mix(n);
    }

    fn write_usize(&mut self, n: usize) {
        self.mix(n as u64);
    }

    fn finish(&self) -> u64 {
        // The map takes its bucket from the low bits and its tag from the high ones.
        self.0 ^ self.0 >> 32
    }
}
