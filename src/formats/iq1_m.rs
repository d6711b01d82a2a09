//! IQ1_M: 256 elements in 56 bytes: for each eight elements the low byte of an entry of IQ1_S's codebook, then a nibble
//! each with its high three bits and the sign of a shift; four words of 16 bits with three-bit scales of sixteen
//! sub-blocks, whose top four bits together are d.
//!
//! `x = d * (2 scale + 1) * (v + 1/8)`, or `v - 1/8`, with `v` -1, 0 or 1.

use super::iq1_s::{CODEBOOK, put_shifted};
use super::view::ViewVisitor;
use super::{Format, u16_at};
use crate::TensorType;

const HIGH: usize = 32;
const SCALES: usize = 48;

pub(super) struct Iq1M;

impl Format for Iq1M {
    const TY: TensorType = TensorType::IQ1_M;

    fn decode_block(block: &[u8], out: &mut [f32]) {
        let words: [u16; 4] = std::array::from_fn(|i| u16_at(block, SCALES + 2 * i));
        let d = (0..4).fold(0, |bits, i| bits | words[i] >> 12 << (4 * i));
        let d = half::f16::from_bits(d).to_f32();
        for (k, out) in out.chunks_exact_mut(8).enumerate() {
            let scale = words[k / 8] >> (k / 2 % 4 * 3) & 7;
            let nibble = block[HIGH + k / 2] >> (k % 2 * 4);
            let entry = usize::from(block[k]) | usize::from(nibble & 7) << 8;
            put_shifted(&CODEBOOK[entry], nibble & 8 != 0, d * f32::from(2 * scale + 1), out);
        }
    }

    #[inline(always)]
    fn view<V: ViewVisitor>(visitor: V) -> V::Output {
        visitor.decoded::<Self>()
    }
}
