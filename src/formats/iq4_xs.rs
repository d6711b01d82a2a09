//! IQ4_XS: 256 elements in 136 bytes: d, six-bit scales of eight sub-blocks, codes as in IQ4_NL.
//!
//! `x = d * (scale - 32) * v[code]`. A scale's high two bits stand in a word of 16 bits, its low four in a nibble.

use super::iq4_nl::{VALUES, put_nibbles};
use super::view::ViewVisitor;
use super::{Format, f16_at, u16_at};
use crate::TensorType;

const SUB_BLOCK: usize = 32;
const SCALES_HIGH: usize = 2;
const SCALES_LOW: usize = 4;
const CODES: usize = 8;

pub(super) struct Iq4Xs;

impl Format for Iq4Xs {
    const TY: TensorType = TensorType::IQ4_XS;

    fn decode_block(block: &[u8], out: &mut [f32]) {
        let d = f16_at(block, 0);
        let scales = scales(block);
        for (j, (bytes, out)) in
            block[CODES..].chunks_exact(SUB_BLOCK / 2).zip(out.chunks_exact_mut(SUB_BLOCK)).enumerate()
        {
            put_nibbles(bytes, &VALUES, d * f32::from(scales[j]), out);
        }
    }

    #[inline(always)]
    fn view<V: ViewVisitor>(visitor: V) -> V::Output {
        visitor.decoded::<Self>()
    }
}

/// The scales of the eight sub-blocks, -32 to 31.
fn scales(block: &[u8]) -> [i8; 8] {
    let high = u16_at(block, SCALES_HIGH);
    std::array::from_fn(|j| {
        let low = block[SCALES_LOW + j / 2] >> (4 * (j % 2)) & 15;
        (low | ((high >> (2 * j) & 3) as u8) << 4) as i8 - 32
    })
}
