//! The input of a product with many tokens, in groups of eight: word by word side by side, so that one pointer walks
//! all tokens of a group, and each word is spread over the lanes of a vector of weight rows.

use super::Pool;
use super::activations::{Input, Quantized, SUM_LEN};
use super::rows::Tokens;

/// Tokens of a group.
pub(super) const GROUP: usize = 8;

/// Quantized rows of tokens in groups, padded with zeros to whole ones.
///
/// Each array is `[group, block, words of a block, GROUP]`.
pub(super) struct Groups {
    /// Tokens without padding.
    tokens: usize,
    blocks: usize,
    /// Four codes a word.
    codes: Words<i32>,
    /// One a block.
    scales: Words<f32>,
    /// Negative sums of the codes of a block, or of each 16 of a super-block.
    sums: Words<i32>,
    /// Of super-blocks: sums of 16 codes, two a word.
    pairs_of_16: Words<i32>,
    /// Of super-blocks: sums of 32 codes, two a word.
    pairs_of_32: Words<i32>,
}

/// So many words of each block, for all tokens.
struct Words<T> {
    a_block: usize,
    words: Vec<T>,
}

impl<T: Copy + Default> Words<T> {
    fn new(a_block: usize, blocks: usize) -> Self {
        Self { a_block, words: vec![T::default(); a_block * blocks * GROUP] }
    }

    /// What each group of `blocks` blocks has.
    fn groups(&mut self, blocks: usize) -> impl Iterator<Item = &mut [T]> {
        self.words.chunks_mut((self.a_block * blocks * GROUP).max(1))
    }

    /// `count` blocks from block `first` on.
    fn blocks(&self, first: usize, count: usize) -> &[T] {
        &self.words[first * self.a_block * GROUP..][..count * self.a_block * GROUP]
    }
}

/// What one group has in some blocks, one after the other.
#[derive(Clone, Copy)]
pub(super) struct Group<'a> {
    pub(super) codes: &'a [i32],
    pub(super) scales: &'a [[f32; GROUP]],
    pub(super) sums: &'a [i32],
    pub(super) pairs_of_16: &'a [i32],
    pub(super) pairs_of_32: &'a [i32],
}

impl Groups {
    /// The rows `tokens` of `x`.
    pub(super) fn new(pool: &Pool, x: &Quantized, input: Input, tokens: Tokens<'_>, cols: usize) -> Self {
        let len = input.block_len();
        let blocks = cols / len;
        let count = tokens.len().div_ceil(GROUP);
        let (sums, pairs_of_16, pairs_of_32) = if input == Input::SuperBlocks { (16, 8, 4) } else { (1, 0, 0) };
        let all = count * blocks;
        let mut groups = Self {
            tokens: tokens.len(),
            blocks,
            codes: Words::new(len / 4, all),
            scales: Words::new(1, all),
            sums: Words::new(sums, all),
            pairs_of_16: Words::new(pairs_of_16, all),
            pairs_of_32: Words::new(pairs_of_32, all),
        };
        let mut parts: Vec<_> = groups
            .codes
            .groups(blocks)
            .zip(groups.scales.groups(blocks))
            .zip(groups.sums.groups(blocks))
            .map(|((codes, scales), sums)| Part { codes, scales, sums, pairs_of_16: &mut [], pairs_of_32: &mut [] })
            .collect();
        let pairs = groups.pairs_of_16.groups(blocks).zip(groups.pairs_of_32.groups(blocks));
        for (part, (pairs_of_16, pairs_of_32)) in parts.iter_mut().zip(pairs) {
            (part.pairs_of_16, part.pairs_of_32) = (pairs_of_16, pairs_of_32);
        }
        pool.run_each(parts.into_iter().enumerate().collect(), &|(group, mut part)| {
            let first = group * GROUP;
            for lane in 0..GROUP.min(tokens.len() - first) {
                part.put(lane, x, tokens.row(first + lane), cols, len);
            }
        });
        groups
    }

    /// Number of groups.
    pub(super) fn count(&self) -> usize {
        self.tokens.div_ceil(GROUP)
    }

    /// `count` blocks of a group from block `first` on.
    pub(super) fn blocks(&self, group: usize, first: usize, count: usize) -> Group<'_> {
        let first = group * self.blocks + first;
        Group {
            codes: self.codes.blocks(first, count),
            scales: self.scales.blocks(first, count).as_chunks().0,
            sums: self.sums.blocks(first, count),
            pairs_of_16: self.pairs_of_16.blocks(first, count),
            pairs_of_32: self.pairs_of_32.blocks(first, count),
        }
    }
}

/// One group, to be filled.
struct Part<'a> {
    codes: &'a mut [i32],
    scales: &'a mut [f32],
    sums: &'a mut [i32],
    pairs_of_16: &'a mut [i32],
    pairs_of_32: &'a mut [i32],
}

impl Part<'_> {
    /// Puts row `row` of `x`, of `cols` elements in blocks of `len`, into `lane`.
    fn put(&mut self, lane: usize, x: &Quantized, row: usize, cols: usize, len: usize) {
        put(self.codes, lane, x.codes[row * cols..][..cols].as_chunks::<4>().0, |word| {
            i32::from_ne_bytes(word.map(i8::cast_unsigned))
        });
        put(self.scales, lane, &x.scales[row * (cols / len)..][..cols / len], |scale| *scale);
        let sums = &x.sums[row * cols / SUM_LEN..][..cols / SUM_LEN];
        let (twos, fours) = (sums.as_chunks::<2>().0, sums.as_chunks::<4>().0);
        if self.pairs_of_16.is_empty() {
            put(self.sums, lane, twos, |[a, b]| -i32::from(a + b));
        } else {
            put(self.sums, lane, sums, |sum| -i32::from(*sum));
            put(self.pairs_of_16, lane, twos, |[a, b]| pair(*a, *b));
            put(self.pairs_of_32, lane, fours, |[a, b, c, d]| pair(a + b, c + d));
        }
    }
}

/// Puts words made of `from` into a lane.
fn put<T, U>(to: &mut [T], lane: usize, from: &[U], word: impl Fn(&U) -> T) {
    for (to, from) in to.as_chunks_mut::<GROUP>().0.iter_mut().zip(from) {
        to[lane] = word(from);
    }
}

/// Two words of 16 bits as one of 32, the first in its low half.
pub(super) fn pair(a: i16, b: i16) -> i32 {
    i32::from(a as u16) | i32::from(b) << 16
}
