//! IQ1_M: 256 elements in 56 bytes: for each eight elements the low byte of an entry of IQ1_S's codebook, then a nibble
//! each with its high three bits and the sign of a shift; four words of 16 bits with three-bit scales of sixteen
//! sub-blocks, whose top four bits together are d.
//!
//! `x = d * (2 scale + 1) * (v + 1/8)`, or `v - 1/8`, with `v` -1, 0 or 1.

#![allow(unsafe_code, reason = "blocks come as raw pointers")]

use super::iq1_s::{CODEBOOK, put_shifted, shifted};
use super::view::{ONES, SuperBlockFormat, ViewVisitor, vectors};
use super::{Format, u16_at};
use crate::TensorType;
use crate::simd::LANES;
use crate::simd::lanes::Lanes;

const HIGH: usize = 32;
const SCALES: usize = 48;

pub(super) struct Iq1M;

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

impl SuperBlockFormat for Iq1M {
    const MINS: bool = false;
    const ZERO: i16 = 16;
    const SCALE_BIAS: i16 = 0;
    const SUB_LEN: usize = 16;
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
