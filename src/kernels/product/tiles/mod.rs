//! The input of a product with many tokens, transposed so that sixteen tokens are side by side.
//!
//! With tokens in lanes, weights keep the order of their rows: a strip of them is decoded once and multiplied with all tokens.

#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "AMX alone has tiles"))]

use std::ops::Range;

use super::input::{Input, Quantized, SUM_LEN, Tokens};
use super::matrix::Matrix;
use crate::kernels::Pool;
use crate::kernels::scratch::{List, Scratch};
use crate::simd::LANES;
#[cfg(target_arch = "x86_64")]
use crate::simd::x86_64;

#[cfg(target_arch = "x86_64")]
mod amx;

/// Products with fewer tokens do not use tiles.
pub(super) const MIN_TOKENS: usize = 6;
/// Groups of 16 tokens are processed in pairs.
pub(super) const PAIR: usize = 2;
/// Digits of the sums of a super-block: a low and a high one for each of 16.
pub(super) const DIGITS: usize = 32;

/// Quantized rows of tokens, in groups of 16, padded with zeros to whole pairs of groups.
///
/// A tile is the input of one group for one block. Tiles of super-blocks are stored block by block, those of blocks group by
/// group: the order in which products read them.
pub(super) struct Tiles {
    /// Tokens without padding.
    pub(super) tokens: usize,
    /// Groups with padding.
    pub(super) groups: usize,
    /// Blocks of a row.
    pub(super) blocks: usize,
    input: Input,
    /// A tile is `[block length / 4, 16, 4]`: four elements of each token side by side.
    codes: Scratch<i8>,
    /// Scales, 16 for each tile.
    scales: Scratch,
    /// For super-blocks: sums of 16 codes as two digits in bf16, `low + 64 * high`; a tile is `[16, 16, 2]`, the low digits before
    /// the high ones.
    sums: Scratch<u16>,
    /// For blocks: sums of 32 codes, 16 for each tile.
    totals: Scratch,
}

impl Tiles {
    /// The rows `tokens` of `x`.
    pub(super) fn new(pool: &Pool, x: &Quantized, input: Input, tokens: Tokens<'_>, cols: usize) -> Self {
        let len = input.block_len();
        let groups = tokens.len().div_ceil(LANES).next_multiple_of(PAIR);
        let blocks = cols / len;
        let count = groups * blocks;
        let (sums, totals) = if input == Input::SuperBlocks { (DIGITS, 0) } else { (0, 1) };
        let mut tiles = Self {
            tokens: tokens.len(),
            groups,
            blocks,
            input,
            codes: Scratch::zeros(count * LANES * len),
            scales: Scratch::zeros(count * LANES),
            sums: Scratch::zeros(count * LANES * sums),
            totals: Scratch::zeros(count * LANES * totals),
        };
        let mut parts: List<Part<'_>> = tiles
            .codes
            .chunks_exact_mut(LANES * len)
            .zip(tiles.scales.chunks_exact_mut(LANES))
            .map(|(codes, scales)| Part { codes, scales, sums: &mut [], totals: &mut [] })
            .collect();
        for (part, sums) in parts.iter_mut().zip(tiles.sums.chunks_exact_mut(LANES * DIGITS)) {
            part.sums = sums;
        }
        for (part, totals) in parts.iter_mut().zip(tiles.totals.chunks_exact_mut(LANES)) {
            part.totals = totals;
        }
        let share = count.div_ceil(pool.threads() * 4).max(1);
        pool.run_over(parts.chunks_mut(share).enumerate(), &|(nth, parts): (usize, &mut [Part<'_>])| {
            for (i, part) in (nth * share..).zip(parts) {
                let (block, group) = match input {
                    Input::SuperBlocks => (i / groups, i % groups),
                    _ => (i % blocks, i / blocks),
                };
                for lane in 0..LANES.min(tokens.len().saturating_sub(group * LANES)) {
                    part.put(lane, x, tokens.row(group * LANES + lane) * blocks + block, len);
                }
            }
        });
        drop(parts);
        tiles
    }

    /// Number of the tile of `group` in `block`.
    #[inline(always)]
    pub(super) fn at(&self, block: usize, group: usize) -> usize {
        match self.input {
            Input::SuperBlocks => block * self.groups + group,
            _ => group * self.blocks + block,
        }
    }

    /// Codes of the tiles from `tile` on.
    #[inline(always)]
    pub(super) fn codes(&self, tile: usize) -> &[i8] {
        &self.codes[tile * LANES * self.input.block_len()..]
    }

    /// Scales of a tile.
    #[inline(always)]
    pub(super) fn scales(&self, tile: usize) -> &[f32; LANES] {
        &self.scales.as_chunks().0[tile]
    }

    /// Digits of the sums of the tiles from `tile` on.
    #[inline(always)]
    pub(super) fn sums(&self, tile: usize) -> &[u16] {
        &self.sums[tile * LANES * DIGITS..]
    }

    /// Sums of all codes of a tile.
    #[inline(always)]
    pub(super) fn totals(&self, tile: usize) -> &[f32; LANES] {
        &self.totals.as_chunks().0[tile]
    }
}

/// One tile while it is filled.
struct Part<'a> {
    codes: &'a mut [i8],
    scales: &'a mut [f32],
    sums: &'a mut [u16],
    totals: &'a mut [f32],
}

impl Part<'_> {
    /// Writes block `block` of `x`, of `len` elements, to `lane`.
    fn put(&mut self, lane: usize, x: &Quantized, block: usize, len: usize) {
        let codes = x.codes[block * len..][..len].as_chunks::<4>().0;
        for (to, from) in self.codes.as_chunks_mut::<4>().0[lane..].iter_mut().step_by(LANES).zip(codes) {
            *to = *from;
        }
        self.scales[lane] = x.scales[block];
        let sums = &x.sums[block * len / SUM_LEN..][..len / SUM_LEN];
        if let Some(total) = self.totals.get_mut(lane) {
            *total = f32::from(sums.iter().sum::<i16>());
        }
        if !self.sums.is_empty() {
            for (j, &sum) in sums.iter().enumerate() {
                for (digit, value) in [(j, sum & 63), (j + 16, sum >> 6)] {
                    self.sums[(digit / 2 * LANES + lane) * 2 + digit % 2] = bf16(value);
                }
            }
        }
    }
}

/// A small integer as bf16, which holds eight bits exactly.
pub(super) fn bf16(x: i16) -> u16 {
    (f32::from(x).to_bits() >> 16) as u16
}

/// `out[token][row] = weights[row] . x[token]` for a range of rows: `out` is `[tokens, stride]`.
pub(super) struct TileProduct<'a> {
    pub(super) weights: &'a Matrix,
    pub(super) rows: Range<usize>,
    pub(super) x: &'a Tiles,
    pub(super) out: &'a mut [f32],
    pub(super) stride: usize,
}

impl TileProduct<'_> {
    /// Computes it, on a CPU whose instruction set [has tiles](crate::simd::Isa::has_tiles).
    pub(super) fn run(self) {
        #[cfg(target_arch = "x86_64")]
        if let Some(proof) = x86_64::amx::Amx::detect() {
            amx::run(proof, self);
        }
    }
}
