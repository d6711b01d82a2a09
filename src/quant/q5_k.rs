//! Q5_K: 256 elements in 176 bytes: as Q4_K, with a fifth bit for every element.
//!
//! Bit `j` of fifth-bit byte `i` belongs to element `i` of sub-block `j`.

use super::scale_search::Search;
use super::{Format, six_bit_scales};
use crate::TensorType;

const SEARCH: Search = Search { top: 31, first: -0.5, step: 0.1, trials: 15, absolute: false };
const FIFTH: usize = 16;
const CODES: usize = 48;

#[allow(non_camel_case_types, reason = "the format's own name")]
pub(super) struct Q5_K;

impl Format for Q5_K {
    const TY: TensorType = TensorType::Q5_K;

    fn encode_block(x: &[f32], block: &mut [u8]) {
        let codes = six_bit_scales::encode(x, &SEARCH, block);
        let (fifth, nibbles) = block[FIFTH..].split_at_mut(CODES - FIFTH);
        for (i, byte) in fifth.iter_mut().enumerate() {
            *byte = (0..8).fold(0, |bits, j| bits | (codes[32 * j + i] >> 4) << j);
        }
        for (bytes, codes) in nibbles.chunks_exact_mut(32).zip(codes.chunks_exact(64)) {
            for (i, byte) in bytes.iter_mut().enumerate() {
                *byte = codes[i] & 15 | (codes[i + 32] & 15) << 4;
            }
        }
    }

    fn decode_block(block: &[u8], out: &mut [f32]) {
        let grids = six_bit_scales::grids(block);
        let (fifth, nibbles) = block[FIFTH..].split_at(CODES - FIFTH);
        for (j, (out, (scale, min))) in out.chunks_exact_mut(32).zip(grids).enumerate() {
            let nibbles = &nibbles[j / 2 * 32..][..32];
            for (i, x) in out.iter_mut().enumerate() {
                let low = nibbles[i] >> (4 * (j % 2)) & 15;
                let code = low | (fifth[i] >> j & 1) << 4;
                *x = scale * f32::from(code) - min;
            }
        }
    }
}
