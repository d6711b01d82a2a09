//! The input of a product with many tokens, in groups of eight: word by word side by side, so that one pointer walks
//! all tokens of a group, and each word is spread over the lanes of a vector of weight rows.

use super::Pool;
use super::activations::{Input, Quantized, SUM_LEN};
use super::rows::Tokens;

/// Tokens of a group.
pub(super) const GROUP: usize = 8;

/// Quantized rows of tokens in groups, padded with zeros to whole ones.
pub(super) struct Groups {
    /// Tokens without padding.
    pub(super) tokens: usize,
    blocks: usize,
    /// Words of a block.
    words: usize,
    /// Pairs of sums of a block.
    pairs: usize,
    /// Four codes a word: `[group, block, block length / 4, GROUP]`.
    codes: Vec<i32>,
    /// `[group, block, GROUP]`.
    scales: Vec<f32>,
    /// Sums of 16 codes, two a word: `[group, block, block length / 32, GROUP]`.
    sums: Vec<i32>,
}

/// What one group has in some blocks, one after the other.
#[derive(Clone, Copy)]
pub(super) struct Group<'a> {
    pub(super) codes: &'a [i32],
    pub(super) scales: &'a [[f32; GROUP]],
    pub(super) sums: &'a [[i32; GROUP]],
}

impl Groups {
    /// The rows `tokens` of `x`.
    pub(super) fn new(pool: &Pool, x: &Quantized, input: Input, tokens: Tokens<'_>, cols: usize) -> Self {
        let len = input.block_len();
        let (blocks, words, pairs) = (cols / len, len / 4, len / (2 * SUM_LEN));
        let count = tokens.len().div_ceil(GROUP);
        let mut groups = Self {
            tokens: tokens.len(),
            blocks,
            words,
            pairs,
            codes: vec![0; count * blocks * words * GROUP],
            scales: vec![0.0; count * blocks * GROUP],
            sums: vec![0; count * blocks * pairs * GROUP],
        };
        let parts: Vec<_> = groups
            .codes
            .chunks_mut((blocks * words * GROUP).max(1))
            .zip(groups.scales.chunks_mut((blocks * GROUP).max(1)))
            .zip(groups.sums.chunks_mut((blocks * pairs * GROUP).max(1)))
            .enumerate()
            .collect();
        pool.run_each(parts, &|(group, ((codes, scales), sums))| {
            let first = group * GROUP;
            for lane in 0..GROUP.min(tokens.len() - first) {
                let row = tokens.row(first + lane);
                let from = x.codes[row * cols..(row + 1) * cols].as_chunks::<4>().0;
                for (to, word) in codes[lane..].iter_mut().step_by(GROUP).zip(from) {
                    *to = i32::from_ne_bytes(word.map(|code| code as u8));
                }
                let from = &x.scales[row * blocks..(row + 1) * blocks];
                scales[lane..].iter_mut().step_by(GROUP).zip(from).for_each(|(to, scale)| *to = *scale);
                let from = x.sums[row * cols / SUM_LEN..(row + 1) * cols / SUM_LEN].as_chunks::<2>().0;
                for (to, [a, b]) in sums[lane..].iter_mut().step_by(GROUP).zip(from) {
                    *to = pair(*a, *b);
                }
            }
        });
        groups
    }

    /// Number of groups.
    pub(super) fn len(&self) -> usize {
        self.tokens.div_ceil(GROUP)
    }

    /// `count` blocks of a group from block `first` on.
    pub(super) fn blocks(&self, group: usize, first: usize, count: usize) -> Group<'_> {
        let block = group * self.blocks + first;
        Group {
            codes: &self.codes[block * self.words * GROUP..][..count * self.words * GROUP],
            scales: &self.scales.as_chunks().0[block..][..count],
            sums: &self.sums.as_chunks().0[block * self.pairs..][..count * self.pairs],
        }
    }
}

/// Two words of 16 bits as one of 32, the first in its low half.
pub(super) fn pair(a: i16, b: i16) -> i32 {
    i32::from(a as u16) | i32::from(b) << 16
}
