//! Reads the parts of a SentencePiece model file (`tokenizer.model`) that a tokenizer needs.
//!
//! The file is a protocol buffer, `sentencepiece_model.proto` of github.com/google/sentencepiece: field 1 is a piece
//! (text, score, type), field 2 says how the model was trained, field 3 is the normalizer.

use super::error::TokenizerProblem;
use super::metaspace::Metaspace;
use crate::tokenizer::TokenKind;

/// The content of a `tokenizer.model`.
#[derive(Debug)]
pub(super) struct Sentencepiece {
    pub(super) pieces: Vec<Piece>,
    pub(super) model_type: ModelType,
    /// The normalization of texts.
    pub(super) spaces: Metaspace,
}

/// The kind of model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ModelType {
    /// BPE.
    BytePairs,
    /// Unigram: the likeliest sequence of tokens.
    Unigram,
}

/// A token.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) text: Vec<u8>,
    pub(super) score: f32,
    pub(super) kind: TokenKind,
}

/// One field: its number and its value.
enum Field<'a> {
    Number(u32, u64),
    Bytes(u32, &'a [u8]),
    Float(u32, f32),
}

/// Walks over the fields of a message.
struct Message<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Offset of the message in the file.
    start: usize,
}

impl<'a> Message<'a> {
    fn fault(&self) -> TokenizerProblem {
        TokenizerProblem::Sentencepiece { offset: self.start + self.at }
    }

    fn varint(&mut self) -> Result<u64, TokenizerProblem> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or_else(|| self.fault())?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.fault())
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], TokenizerProblem> {
        let end = usize::try_from(len).ok().and_then(|len| self.at.checked_add(len));
        let part = end.and_then(|end| self.bytes.get(self.at..end)).ok_or_else(|| self.fault())?;
        self.at += part.len();
        Ok(part)
    }

    fn next(&mut self) -> Result<Option<Field<'a>>, TokenizerProblem> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_| self.fault())?;
        Ok(Some(match key & 7 {
            0 => Field::Number(number, self.varint()?),
            1 => {
                self.take(8)?;
                Field::Number(number, 0)
            }
            2 => {
                let len = self.varint()?;
                Field::Bytes(number, self.take(len)?)
            }
            5 => {
                let bytes = self.take(4)?;
                Field::Float(number, bytes.try_into().map_or(0.0, f32::from_le_bytes))
            }
            _ => return Err(self.fault()),
        }))
    }
}

impl Sentencepiece {
    /// Reads a model file.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, TokenizerProblem> {
        let spaces = Metaspace { prefix: true, escaped: true, merge_spaces: true, ..Metaspace::default() };
        let mut model = Self { pieces: Vec::new(), model_type: ModelType::BytePairs, spaces };
        let mut message = Message { bytes, at: 0, start: 0 };
        while let Some(field) = message.next()? {
            let Field::Bytes(number, part) = field else { continue };
            let start = message.at - part.len();
            match number {
                1 => model.pieces.push(Piece::parse(part, start)?),
                2 => model.trainer(part, start)?,
                3 => model.normalizer(part, start)?,
                _ => {}
            }
        }
        if model.pieces.is_empty() { Err(message.fault()) } else { Ok(model) }
    }

    fn trainer(&mut self, bytes: &[u8], start: usize) -> Result<(), TokenizerProblem> {
        const UNIGRAM: u64 = 1;
        const BYTE_PAIRS: u64 = 2;
        let mut message = Message { bytes, at: 0, start };
        let mut model_type = UNIGRAM;
        while let Some(field) = message.next()? {
            if let Field::Number(3, number) = field {
                model_type = number;
            }
        }
        self.model_type = match model_type {
            UNIGRAM => ModelType::Unigram,
            BYTE_PAIRS => ModelType::BytePairs,
            _ => return Err(TokenizerProblem::UnknownModel { name: "of whole words or single characters".into() }),
        };
        Ok(())
    }

    fn normalizer(&mut self, bytes: &[u8], start: usize) -> Result<(), TokenizerProblem> {
        let mut message = Message { bytes, at: 0, start };
        while let Some(field) = message.next()? {
            match field {
                Field::Bytes(2, map) => self.spaces.character_map = map.to_vec(),
                Field::Number(3, prefix) => self.spaces.prefix = prefix != 0,
                Field::Number(4, merge) => self.spaces.merge_spaces = merge != 0,
                _ => {}
            }
        }
        Ok(())
    }
}

impl Piece {
    fn parse(bytes: &[u8], start: usize) -> Result<Self, TokenizerProblem> {
        let mut piece = Self { text: Vec::new(), score: 0.0, kind: TokenKind::Normal };
        let mut message = Message { bytes, at: 0, start };
        while let Some(field) = message.next()? {
            match field {
                Field::Bytes(1, text) => piece.text = text.to_vec(),
                Field::Float(2, score) => piece.score = score,
                Field::Number(3, kind) => piece.kind = TokenKind::from_number(i64::try_from(kind).unwrap_or(0)),
                _ => {}
            }
        }
        Ok(piece)
    }
}
