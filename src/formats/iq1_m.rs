//! IQ1_M: 256 elements in 56 bytes: for each eight elements the low byte of an entry of IQ1_S's codebook, then a nibble
//! each with its high three bits and the sign of a shift; four words of 16 bits with three-bit scales of sixteen
//! sub-blocks, whose top four bits together are d.
//!
//! `x = d * (2 scale + 1) * (v + 1/8)`, or `v - 1/8`, with `v` -1, 0 or 1.

#![allow(unsafe_code, reason = "blocks come as raw pointers")]

use super::encode::ternary_grid::SideBySide;
use super::iq1_s::{CODEBOOK, GRID, put_shifted, shifted};
use super::super_block::{spread, sum_of_squares};
use super::ternary_search::{OneByOne, TernarySearch, values};
use super::view::{Centered, ONES, SuperBlockFormat, ViewVisitor, vectors};
use super::{Format, InLanes, SUPER_BLOCK, Written, nearest, u16_at};
use crate::TensorType;
use crate::simd::LANES;
use crate::simd::lanes::Lanes;

const SUB_BLOCK: usize = 16;
const HIGH: usize = 32;
const SCALES: usize = 48;

pub(crate) struct Iq1M;

impl Format for Iq1M {
    const TY: TensorType = TensorType::IQ1_M;

    fn decode_block(block: &[u8], out: &mut [f32]) {
        let words: [u16; 4] = std::array::from_fn(|i| u16_at(block, SCALES + 2 * i));
        let d = half::f16::from_bits(d(block)).to_f32();
        for (k, out) in out.chunks_exact_mut(8).enumerate() {
            let scale = words[k / 8] >> (k / 2 % 4 * 3) & 7;
            let nibble = block[HIGH + k / 2] >> (k % 2 * 4);
            let entry = usize::from(block[k]) | usize::from(nibble & 7) << 8;
            put_shifted(CODEBOOK[entry], nibble & 8 != 0, d * f32::from(2 * scale + 1), out);
        }
    }

    #[inline(always)]
    fn view<V: ViewVisitor>(visitor: V) -> V::Output {
        visitor.super_blocks::<Self>()
    }
}

impl Written for Iq1M {
    fn encode_block(x: &[f32], importance: Option<&[f32]>, block: &mut [u8]) {
        encode(&OneByOne, x, importance, block);
    }
}

impl InLanes for Iq1M {
    #[inline(always)]
    fn encode_lanes<L: Lanes>(l: L, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        let how = SideBySide::new(l, &GRID);
        let blocks = x.chunks_exact(SUPER_BLOCK).zip(out.chunks_exact_mut(Self::TY.block_bytes()));
        for (i, (x, block)) in blocks.enumerate() {
            let importance = importance.map(|importance| &importance[i * SUPER_BLOCK..][..SUPER_BLOCK]);
            encode(&how, x, importance, block);
        }
    }
}

/// The weights of a super-block.
type Weights = [[f32; SUB_BLOCK]; SUPER_BLOCK / SUB_BLOCK];

#[inline(always)]
fn encode(how: &impl TernarySearch, x: &[f32], importance: Option<&[f32]>, block: &mut [u8]) {
    let mut weights: Weights = [[0.0; SUB_BLOCK]; SUPER_BLOCK / SUB_BLOCK];
    let all = weights.as_flattened_mut();
    if let Some(importance) = importance {
        let mean_square = 2.0 * sum_of_squares(x) / SUPER_BLOCK as f32;
        for ((weight, &importance), &v) in all.iter_mut().zip(importance).zip(x) {
            *weight = spread(importance, mean_square, v);
        }
    } else {
        for (weight, &v) in all.iter_mut().zip(x) {
            *weight = v * v;
        }
    }
    put_block(how, x, &weights, block);
}

/// Encodes a super-block.
#[inline(always)]
fn put_block(how: &impl TernarySearch, x: &[f32], weights: &Weights, block: &mut [u8]) {
    block.fill(0);
    let sub_blocks = x.as_chunks().0;
    let (mut scales, mut down) = ([0.0; SUPER_BLOCK / SUB_BLOCK], [[false; 2]; SUPER_BLOCK / SUB_BLOCK]);
    let mut greatest = 0.0;
    for (j, x) in sub_blocks.iter().enumerate() {
        let Some(found) = how.two_shifts(&GRID, x, &weights[j]) else { continue };
        for k in 0..2 {
            block[2 * j + k] = found.entries[k] as u8;
            block[HIGH + j] |= ((found.entries[k] >> 8) as u8) << (4 * k);
        }
        (scales[j], down[j]) = (found.scale, found.down);
        if greatest <= found.scale {
            greatest = found.scale;
        }
    }
    if greatest == 0.0 {
        return;
    }
    let mut words = [0u16; 4];
    let mut d = greatest / 15.0;
    let inverse = 1.0 / d;
    let (mut sum_qx, mut sum_q2) = (0.0, 0.0);
    for (j, x) in sub_blocks.iter().enumerate() {
        let code = nearest(0.5 * (inverse * scales[j] - 1.0)).clamp(0, 7);
        words[j / 4] |= (code as u16) << (3 * (j % 4));
        for k in 0..2 {
            block[HIGH + j] |= u8::from(down[j][k]) << (3 + 4 * k);
        }
        // The scale of the super-block, refitted for these codes.
        let weights = &weights[j];
        for k in 0..2 {
            let entry = u16::from(block[2 * j + k]) | u16::from(block[HIGH + j] >> (4 * k) & 7) << 8;
            for (i, &level) in GRID.entry(entry).iter().enumerate() {
                let (w, at) = (weights[8 * k + i], 8 * k + i);
                let q = values(down[j][k])[usize::from(level)] * (2 * code + 1) as f32;
                sum_qx += w * q * x[at];
                sum_q2 += w * q * q;
            }
        }
    }
    if sum_q2 > 0.0 {
        d = sum_qx / sum_q2;
    }
    let bits = half::f16::from_f32(d * 1.1125).to_bits();
    for (i, (bytes, word)) in block[SCALES..].chunks_exact_mut(2).zip(words).enumerate() {
        bytes.copy_from_slice(&(word | bits >> (4 * i) << 12).to_le_bytes());
    }
}

impl SuperBlockFormat for Iq1M {
    type Shape = Centered<16>;
    const SCALE_BIAS: i16 = 0;
    const FACTORS: usize = 0;
    #[inline(always)]
    fn codes<L: Lanes>(l: L, block: &[u8]) -> [L::Int; 4] {
        let mut codes = [0; 32];
        for (k, code) in codes.iter_mut().enumerate() {
            let nibble = usize::from(block[HIGH + k / 2] >> (k % 2 * 4));
            *code = shifted(CODEBOOK[usize::from(block[k]) | (nibble & 7) << 8], nibble & 8 != 0);
        }
        vectors(l, &codes)
    }

    #[inline(always)]
    fn scale_bytes<L: Lanes>(_: L, block: &[u8]) -> [u64; 2] {
        let mut scales = [0; 2];
        for (j, scale) in (0..16).map(|j| (j, u16_at(block, SCALES + j / 4 * 2) >> (3 * (j % 4)) & 7)) {
            scales[j / 8] |= u64::from(scale) << (8 * (j % 8));
        }
        scales.map(|scales| scales << 1 | ONES)
    }

    #[inline(always)]
    unsafe fn factors<L: Lanes>(l: L, blocks: &[*const u8; LANES]) -> [L::Float; 2] {
        let mut halves = [0; LANES];
        for (half, block) in halves.iter_mut().zip(blocks) {
            // SAFETY: the caller vouches for whole blocks.
            *half = d(unsafe { &*block.cast::<[u8; TensorType::IQ1_M.block_bytes()]>() });
        }
        [l.mul(l.halves(&halves), l.splat(0.125)), l.splat(0.0)]
    }
}

/// The bits of the factor, four in each word of scales.
#[inline(always)]
fn d(block: &[u8]) -> u16 {
    (0..4).fold(0, |bits, i| bits | u16_at(block, SCALES + 2 * i) >> 12 << (4 * i))
}
