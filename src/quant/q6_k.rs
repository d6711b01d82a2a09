//! Q6_K: 256 elements in 210 bytes: four low bits each, two high bits each, sixteen signed scales, d.
//!
//! `x = d * scale * (code - 32)`. Of each 128 elements, element `i` and `i + 64` share a low byte, and `i`, `i + 32`,
//! `i + 64`, `i + 96` a high byte.

use super::scale_search::{TINY, symmetric_scale};
use super::{Format, SUPER_BLOCK, f16_at, nearest, put_f16};
use crate::TensorType;

const SUB_BLOCK: usize = 16;
const HIGH: usize = 128;
const SCALES: usize = 192;
const D: usize = 208;

#[allow(non_camel_case_types, reason = "the format's own name")]
pub(super) struct Q6_K;

impl Format for Q6_K {
    const TY: TensorType = TensorType::Q6_K;

    fn encode_block(x: &[f32], block: &mut [u8]) {
        let mut codes = [0; SUPER_BLOCK];
        let mut scales = [0.0; 16];
        let (mut magnitude, mut max) = (0.0f32, 0.0f32);
        for (j, (x, codes)) in x.chunks_exact(SUB_BLOCK).zip(codes.chunks_exact_mut(SUB_BLOCK)).enumerate() {
            scales[j] = symmetric_scale(x, 32, codes);
            if scales[j].abs() > magnitude {
                magnitude = scales[j].abs();
                max = scales[j];
            }
        }
        if magnitude < TINY {
            block.fill(0);
            return;
        }
        let inverse = -128.0 / max;
        let d = put_f16(block, D, 1.0 / inverse);
        for (j, (x, codes)) in x.chunks_exact(SUB_BLOCK).zip(codes.chunks_exact_mut(SUB_BLOCK)).enumerate() {
            let scale = nearest(inverse * scales[j]).min(127) as i8;
            block[SCALES + j] = scale as u8;
            let d = d * f32::from(scale);
            if d == 0.0 {
                continue;
            }
            for (code, &v) in codes.iter_mut().zip(x) {
                *code = (nearest(v / d).clamp(-32, 31) + 32) as u8;
            }
        }
        for (half, codes) in codes.chunks_exact(128).enumerate() {
            for i in 0..32 {
                let [a, b, c, d] = [codes[i], codes[i + 32], codes[i + 64], codes[i + 96]];
                block[half * 64 + i] = a & 15 | (c & 15) << 4;
                block[half * 64 + 32 + i] = b & 15 | (d & 15) << 4;
                block[HIGH + half * 32 + i] = a >> 4 | b >> 4 << 2 | c >> 4 << 4 | d >> 4 << 6;
            }
        }
    }

    fn decode_block(block: &[u8], out: &mut [f32]) {
        let d = f16_at(block, D);
        for (j, out) in out.chunks_exact_mut(SUB_BLOCK).enumerate() {
            let scale = d * f32::from(block[SCALES + j] as i8);
            for (i, x) in out.iter_mut().enumerate() {
                let (half, at) = (j / 8, j % 8 * SUB_BLOCK + i);
                let low = block[half * 64 + at % 64] >> (at / 64 * 4) & 15;
                let high = block[HIGH + half * 32 + at % 32] >> (at / 32 * 2) & 3;
                *x = scale * f32::from(i16::from(low | high << 4) - 32);
            }
        }
    }
}
