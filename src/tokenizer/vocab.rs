//! The tokens and settings of a tokenizer.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// The kind of a token, numbered as in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A piece of text.
    Normal,
    /// The unknown token.
    Unknown,
    /// A control token, which is not text.
    Control,
    /// A piece of text that is always one token.
    UserDefined,
    /// An unused token.
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

    /// The kind with this number; other numbers are [`Self::Unused`].
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

/// Ids of the tokens with a special meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialIds {
    /// Begin of text (BOS).
    pub bos: Option<u32>,
    /// End of text (EOS).
    pub eos: Option<u32>,
    /// End of turn (EOT).
    pub eot: Option<u32>,
    /// End of message (EOM), when a tool should answer.
    pub eom: Option<u32>,
    /// The unknown token.
    pub unknown: Option<u32>,
    /// The separator of two texts.
    pub separator: Option<u32>,
    /// Padding.
    pub padding: Option<u32>,
    /// Padding of fill-in-the-middle.
    pub fim_padding: Option<u32>,
    /// Start of a repository in fill-in-the-middle.
    pub fim_repository: Option<u32>,
    /// Separator of files in fill-in-the-middle.
    pub fim_separator: Option<u32>,
}

/// The kind of tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// SentencePiece BPE (`llama`).
    Spm,
    /// Byte-level BPE (`gpt2`).
    Bpe,
    /// SentencePiece unigram (`t5`).
    Unigram,
    /// WordPiece (`bert`).
    WordPiece,
}

/// How added tokens are matched in a text, as lists of ids in ascending order. GGUF itself has no keys for this.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddedTokenFlags {
    /// Tokens that include white space before them.
    pub lstrip: Vec<u32>,
    /// Tokens that include white space after them.
    pub rstrip: Vec<u32>,
    /// Tokens that are not matched next to word characters.
    pub single_word: Vec<u32>,
    /// Tokens that are matched after the others, in the normalized text.
    pub normalized: Vec<u32>,
}

/// Everything that a tokenizer is built from.
#[derive(Clone, Debug)]
pub struct Vocab {
    /// Which tokenizer.
    pub model: Model,
    /// Name of the pre-tokenizer (byte-pair encodings only).
    pub pre: String,
    /// Texts of the tokens, as in the file.
    pub tokens: Vec<Vec<u8>>,
    /// Scores of the tokens (SentencePiece only).
    pub scores: Vec<f32>,
    /// Kinds of the tokens.
    pub kinds: Vec<TokenKind>,
    /// Merges, best first: two texts with a space between.
    pub merges: Vec<Vec<u8>>,
    /// Special tokens.
    pub special: SpecialIds,
    /// How added tokens are matched.
    pub added_tokens: AddedTokenFlags,
    /// Whether texts begin with [`SpecialIds::bos`].
    pub add_bos: bool,
    /// Whether texts end with [`SpecialIds::eos`].
    pub add_eos: bool,
    /// Whether [`SpecialIds::separator`] is put between two texts, after the end of the first.
    pub add_separator: bool,
    /// Whether a space is put before texts.
    pub add_space_prefix: bool,
    /// Whether runs of spaces are merged (unigram only).
    pub remove_extra_spaces: bool,
    /// Character map of a SentencePiece normalizer (unigram only).
    pub character_map: Vec<u8>,
    /// Whether text is converted to lower case (WordPiece only).
    pub lowercase: bool,
    /// Whether accents are removed (WordPiece only).
    pub strip_accents: bool,
}

/// A map keyed by pieces of text.
pub(super) type PieceMap<V> = HashMap<Box<[u8]>, V, BuildHasherDefault<PieceHasher>>;
/// A map keyed by integers.
pub(super) type NumberMap<V> = HashMap<u64, V, BuildHasherDefault<PieceHasher>>;

/// Multiply-and-rotate over eight bytes at a time: pieces are short, and collisions provoked by a model or a text only slow
/// down tokenizing.
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
        // The hash map uses the low bits for the bucket and the high bits for the tag.
        self.0 ^ self.0 >> 32
    }
}
