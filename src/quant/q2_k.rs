//! Q2_K: 256 elements in 84 bytes: four-bit scales and mins of sixteen sub-blocks, two-bit codes, d, dmin.
//!
//! `x = d * scale * code - dmin * min`. Of each 128 elements, four runs of 32 share 32 bytes, two bits each.

use super::scale_search::{Search, scale_and_min};
use super::{Format, SUPER_BLOCK, f16_at, nearest, put_f16};
use crate::TensorType;

const SEARCH: Search = Search { top: 3, first: -0.5, step: 0.1, trials: 15, absolute: true };
const SUB_BLOCK: usize = 16;
const CODES: usize = 16;
const D: usize = 80;
const D_MIN: usize = 82;

#[allow(non_camel_case_types, reason = "the format's own name")]
pub(super) struct Q2_K;

impl Format for Q2_K {
    const TY: TensorType = TensorType::Q2_K;

    fn encode_block(x: &[f32], block: &mut [u8]) {
        let mut codes = [0; SUPER_BLOCK];
        let (mut scales, mut mins) = ([0.0; 16], [0.0; 16]);
        let (mut max_scale, mut max_min) = (0.0f32, 0.0f32);
        for (j, (x, codes)) in x.chunks_exact(SUB_BLOCK).zip(codes.chunks_exact_mut(SUB_BLOCK)).enumerate() {
            let weights: [f32; SUB_BLOCK] = std::array::from_fn(|i| x[i].abs());
            (scales[j], mins[j]) = scale_and_min(x, &weights, codes, &SEARCH);
            if scales[j] > max_scale {
                max_scale = scales[j];
            }
            if mins[j] > max_min {
                max_min = mins[j];
            }
        }
        block[..16].fill(0);
        let mut four_bits = |max: f32, values: [f32; 16], shift: u32| {
            if max > 0.0 {
                let inverse = 15.0 / max;
                for (byte, v) in block.iter_mut().zip(values) {
                    *byte |= (nearest(inverse * v) as u8) << shift;
                }
            }
        };
        four_bits(max_scale, scales, 0);
        four_bits(max_min, mins, 4);
        let d = put_f16(block, D, if max_scale > 0.0 { max_scale / 15.0 } else { 0.0 });
        let dmin = put_f16(block, D_MIN, if max_min > 0.0 { max_min / 15.0 } else { 0.0 });
        for (j, (x, codes)) in x.chunks_exact(SUB_BLOCK).zip(codes.chunks_exact_mut(SUB_BLOCK)).enumerate() {
            let d = d * f32::from(block[j] & 15);
            if d == 0.0 {
                continue;
            }
            let min = dmin * f32::from(block[j] >> 4);
            for (code, &v) in codes.iter_mut().zip(x) {
                *code = nearest((v + min) / d).clamp(0, SEARCH.top) as u8;
            }
        }
        pack_pairs(&codes, &mut block[CODES..D]);
    }

    fn decode_block(block: &[u8], out: &mut [f32]) {
        let (d, dmin) = (f16_at(block, D), f16_at(block, D_MIN));
        for (j, out) in out.chunks_exact_mut(SUB_BLOCK).enumerate() {
            let (scale, min) = (d * f32::from(block[j] & 15), dmin * f32::from(block[j] >> 4));
            for (i, x) in out.iter_mut().enumerate() {
                *x = scale * f32::from(pair(&block[CODES..D], j * SUB_BLOCK + i)) - min;
            }
        }
    }
}

/// Packs two-bit codes, as Q2_K and Q3_K lay them out.
pub(super) fn pack_pairs(codes: &[u8; SUPER_BLOCK], out: &mut [u8]) {
    for (bytes, codes) in out.chunks_exact_mut(32).zip(codes.chunks_exact(128)) {
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = codes[i] | codes[i + 32] << 2 | codes[i + 64] << 4 | codes[i + 96] << 6;
        }
    }
}

/// The two-bit code of element `i`.
pub(super) fn pair(bytes: &[u8], i: usize) -> u8 {
    bytes[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3
}
