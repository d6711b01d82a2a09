//! Files of logits, as llama-perplexity writes them (`--kl-divergence-base`): log-probabilities in 16 bits.
//!
//! All numbers are little-endian. The head: `_logits_`; tokens of a chunk, tokens of the vocabulary and number of chunks, as
//! `i32`; the tokens of all chunks of the text, as `i32`. Then for each scored position a scale and the least log-probability,
//! as `f32`, and a code of 16 bits for each token, padded to an even number: `scale * code + least` is the log-probability.
//! Tokens that are more than 16 nats less likely than the likeliest have code 0.

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "codes have 16 bits")]

use std::io::{self, Write};
use std::path::Path;

use super::Error;
use super::scores::BaseRow;
use crate::files::InputFile;
use crate::kernels::vector::log_sum_exp;

const MAGIC: &[u8; 8] = b"_logits_";
/// Magic, tokens of a chunk, tokens of the vocabulary, chunks.
const HEADER_BYTES: u64 = 20;
/// The range of codes, in nats below the likeliest token.
const RANGE: f32 = 16.0;
/// Scale and least log-probability.
const ROW_HEADER_BYTES: usize = 8;

/// The head of a file of logits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseHeader {
    /// Tokens of a chunk.
    pub context: usize,
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
    /// The tokens of all chunks of the text, `[chunks, context]`. (Models may replace the first of a chunk.)
    pub tokens: Vec<u32>,
}

impl BaseHeader {
    /// Number of chunks.
    #[must_use]
    pub fn chunks(&self) -> usize {
        self.tokens.len() / self.context.max(1)
    }

    /// Scored positions of a chunk: those of its second half except the last.
    fn scored(&self) -> usize {
        self.context - 1 - self.context / 2
    }

    /// Bytes of a position.
    fn row_bytes(&self) -> usize {
        ROW_HEADER_BYTES + self.vocab_size.next_multiple_of(2) * 2
    }

    /// Bytes of the whole file; `None` if that exceeds 64 bits.
    #[must_use]
    pub fn file_bytes(&self) -> Option<u64> {
        let rows = (self.chunks() as u64).checked_mul(self.scored() as u64)?;
        let tokens = (self.tokens.len() as u64).checked_mul(4)?;
        rows.checked_mul(self.row_bytes() as u64)?.checked_add(tokens)?.checked_add(HEADER_BYTES)
    }
}

/// An opened file of logits.
#[derive(Debug)]
pub struct BaseFile {
    file: InputFile,
    header: BaseHeader,
}

impl BaseFile {
    /// Opens a file and reads all but its logits.
    ///
    /// # Errors
    /// When it cannot be read, is not a file of logits, or its size does not match its head.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = InputFile::open(path)?;
        let failed = |problem: String| Error::BaseFile { path: path.to_owned(), problem };
        if file.size() < HEADER_BYTES {
            return Err(failed(format!("no file of logits: it has {} bytes", file.size())));
        }
        let mut bytes = [0; HEADER_BYTES as usize];
        file.read_exact_at(&mut bytes, 0)?;
        if &bytes[..8] != MAGIC {
            return Err(failed("no file of logits: it does not begin with _logits_".into()));
        }
        let number = |at: usize| i32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let count = |at: usize, what: &str, least: i32| {
            usize::try_from(number(at))
                .ok()
                .filter(|_| number(at) >= least)
                .ok_or_else(|| failed(format!("{what}: {}, at least {least}", number(at))))
        };
        let (context, vocab_size) = (count(8, "tokens of a chunk", 4)?, count(12, "tokens of the vocabulary", 1)?);
        let chunks = count(16, "chunks", 1)?;
        // Checks that the file has all tokens before memory is allocated for them.
        let token_bytes = (context as u64) * (chunks as u64) * 4;
        if file.size() - HEADER_BYTES < token_bytes {
            return Err(failed(format!("has {} bytes, its tokens alone take {token_bytes}", file.size())));
        }
        let mut tokens = vec![0; context * chunks * 4];
        file.read_exact_at(&mut tokens, HEADER_BYTES)?;
        let tokens: Vec<u32> = tokens.as_chunks::<4>().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect();
        if let Some(token) = tokens.iter().find(|&&token| token as usize >= vocab_size) {
            return Err(failed(format!("token {token} in a vocabulary of {vocab_size}")));
        }
        let header = BaseHeader { context, vocab_size, tokens };
        match header.file_bytes() {
            Some(expected) if expected == file.size() => Ok(Self { file, header }),
            expected => Err(failed(format!(
                "has {} bytes, {} by its header: it is not complete",
                file.size(),
                expected.map_or_else(|| "more than any file".to_owned(), |bytes| bytes.to_string())
            ))),
        }
    }

    /// The head.
    #[must_use]
    pub fn header(&self) -> &BaseHeader {
        &self.header
    }

    /// Reads scored positions from number `first` on, whose next tokens are `targets`.
    pub(super) fn read(&self, first: usize, targets: &[u32], rows: &mut [BaseRow]) -> Result<(), Error> {
        let row_bytes = self.header.row_bytes();
        let start = HEADER_BYTES + self.header.tokens.len() as u64 * 4 + (first as u64) * row_bytes as u64;
        let mut bytes = vec![0; row_bytes * targets.len()];
        self.file.read_exact_at(&mut bytes, start)?;
        for ((bytes, &target), row) in bytes.chunks_exact(row_bytes).zip(targets).zip(rows) {
            let (header, codes) = bytes.split_at(ROW_HEADER_BYTES);
            let float = |at: usize| f32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
            let (scale, least) = (float(0), float(4));
            let codes = codes.as_chunks::<2>().0[..self.header.vocab_size].iter();
            row.set(codes.map(|&code| scale * f32::from(u16::from_le_bytes(code)) + least), target);
        }
        Ok(())
    }
}

/// Writes a file of logits, position by position.
pub struct BaseWriter<'a> {
    out: &'a mut dyn Write,
}

impl<'a> BaseWriter<'a> {
    /// Writes all but the logits.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(out: &'a mut dyn Write, header: &BaseHeader) -> io::Result<Self> {
        let number = |n: usize| i32::try_from(n).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge));
        out.write_all(MAGIC)?;
        for n in [header.context, header.vocab_size, header.chunks()] {
            out.write_all(&number(n)?.to_le_bytes())?;
        }
        for token in &header.tokens {
            out.write_all(&token.to_le_bytes())?;
        }
        Ok(Self { out })
    }

    /// Writes the next position, encoded by [`encode`].
    pub(super) fn write(&mut self, row: &[u8]) -> io::Result<()> {
        self.out.write_all(row)
    }
}

/// The bytes of a position with these logits.
pub(super) fn encode(logits: &[f32]) -> Vec<u8> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let min = logits.iter().copied().fold(f32::INFINITY, f32::min).max(max - RANGE);
    let log_sum = (log_sum_exp(logits) - f64::from(max)) as f32;
    let scale = (max - min) / 65535.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    let mut bytes = Vec::with_capacity(ROW_HEADER_BYTES + logits.len().next_multiple_of(2) * 2);
    bytes.extend_from_slice(&scale.to_le_bytes());
    bytes.extend_from_slice(&(min - max - log_sum).to_le_bytes());
    for &logit in logits {
        let code = if logit > min { (inverse * (logit - min)).round_ties_even() as u16 } else { 0 };
        bytes.extend_from_slice(&code.to_le_bytes());
    }
    if logits.len() % 2 == 1 {
        bytes.extend_from_slice(&[0, 0]);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::{BaseFile, BaseHeader, BaseWriter, encode};
    use crate::compare::scores::BaseRow;

    fn written(vocab: usize) -> (Vec<u8>, Vec<Vec<f32>>) {
        let header = BaseHeader { context: 8, vocab_size: vocab, tokens: (0..16).map(|t| t % vocab as u32).collect() };
        #[allow(clippy::cast_precision_loss, reason = "small")]
        let rows: Vec<Vec<f32>> =
            (0..6).map(|r| (0..vocab).map(|t| (t * 7 % 11 + r) as f32 * 0.37).collect()).collect();
        let mut bytes = Vec::new();
        let mut writer = BaseWriter::new(&mut bytes, &header).expect("written");
        rows.iter().for_each(|row| writer.write(&encode(row)).expect("written"));
        assert_eq!(header.file_bytes(), Some(bytes.len() as u64));
        (bytes, rows)
    }

    fn open(name: &str, bytes: &[u8]) -> Result<BaseFile, String> {
        let path = std::env::temp_dir().join(format!("gguf-base-file-{name}-{}", std::process::id()));
        std::fs::write(&path, bytes).expect("written");
        let file = BaseFile::open(&path);
        std::fs::remove_file(&path).expect("removed");
        file.map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_written_is_read() {
        for vocab in [5usize, 6] {
            let (bytes, rows) = written(vocab);
            let file = open(&format!("read-{vocab}"), &bytes).expect("valid");
            assert_eq!((file.header().chunks(), file.header().context), (2, 8));
            let mut read = vec![BaseRow::default(); 2];
            file.read(3, &[1, 2], &mut read).expect("read");
            for (row, logits) in read.iter().zip(&rows[3..]) {
                let mut exact = BaseRow::default();
                exact.set_logits(logits, if std::ptr::eq(row, &raw const read[0]) { 1 } else { 2 });
                assert!((row.score().nll - exact.score().nll).abs() < 1e-3);
                assert_eq!(row.score().top, exact.score().top);
                assert!(row.compare(logits, 1).kl.abs() < 1e-5);
            }
        }
    }

    #[test]
    fn files_that_are_none_are_refused() {
        let (bytes, _) = written(5);
        let changed = |at: usize, value: i32| {
            let mut bytes = bytes.clone();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            open(&format!("bad-{at}-{value}"), &bytes).expect_err("not valid")
        };
        assert!(open("short", &bytes[..19]).expect_err("short").contains("no file of logits"));
        assert!(changed(0, 7).contains("does not begin with _logits_"));
        assert!(changed(8, -1).contains("tokens of a chunk: -1"));
        assert!(changed(12, i32::MAX).contains("it is not complete"));
        assert!(changed(16, i32::MAX).contains("its tokens alone take"));
        assert!(changed(20, 99).contains("token 99 in a vocabulary of 5"));
        assert!(open("cut", &bytes[..bytes.len() - 1]).expect_err("cut").contains("it is not complete"));
    }

    #[test]
    fn equal_logits_have_codes() {
        let bytes = encode(&[2.0, 2.0]);
        let least = f32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        assert_eq!((bytes[0..4].to_vec(), bytes[8..].to_vec()), (vec![0; 4], vec![0; 4]));
        assert!((least + 2f32.ln()).abs() < 1e-6);
    }
}
