//! Converts a tile of keys and values that are cached as codes with scales to floats.
//!
//! Codes are in blocks of 32 with a scale (half precision) and, where the type has one, a minimum. These are the blocks of the
//! tensor type with the same name, with their parts in separate arrays. For keys, the blocks of sixteen positions are
//! interleaved, so that lanes are positions; for values, the blocks of a position follow one another.

#![allow(unsafe_code, reason = "codes are unpacked through raw pointers")]

use super::attention::TILE;
use crate::formats::IQ4_NL_VALUES;
use crate::simd::LANES;
use crate::simd::lanes::{Kernel, Lanes};

/// Elements that share a scale.
pub(crate) const BLOCK: usize = 32;

/// How numbers are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codes {
    /// `x = scale * code`, signed bytes (Q8_0).
    Bytes,
    /// `x = scale * table[code]`, four bits: codes `i` and `i + 16` of 32 share a byte (Q4_0, IQ4_NL).
    Nibbles(&'static [i8; 16]),
    /// `x = scale * code + minimum`, five bits: nibbles, and the fifth bits of 32 codes in a word (Q5_1).
    Fives,
}

impl Codes {
    /// The values of the codes of Q4_0.
    pub(crate) const Q4_0: Self = Self::Nibbles(&[-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7]);
    /// The values of the codes of IQ4_NL.
    pub(crate) const IQ4_NL: Self = Self::Nibbles(&IQ4_NL_VALUES);

    /// Bytes of a block's codes, without their fifth bits.
    pub(crate) fn code_bytes(self) -> usize {
        if self == Self::Bytes { BLOCK } else { BLOCK / 2 }
    }

    /// Bytes of a block's fifth bits.
    pub(crate) fn bit_bytes(self) -> usize {
        if self == Self::Fives { size_of::<u32>() } else { 0 }
    }

    /// Minima of a block.
    pub(crate) fn minima(self) -> usize {
        usize::from(self == Self::Fives)
    }
}

/// One head's keys or values in a tile.
#[derive(Clone, Copy)]
pub(crate) struct CodeTile<'a> {
    pub(crate) codes: Codes,
    /// In the order of blocks, `[blocks, 32]`; for keys, the blocks of sixteen positions are `[32, 16]`.
    pub(crate) bytes: &'a [u8],
    /// Fifth bits, where the type has them.
    pub(crate) bits: &'a [u32],
    /// Half-precision bits, one for each block.
    pub(crate) scales: &'a [u16],
    /// Half-precision bits, one for each block, where the type has minima.
    pub(crate) minima: &'a [u16],
}

impl CodeTile<'_> {
    /// The codes, one in each byte: as they are stored, or unpacked to `space`, which has room for those of a tile.
    #[inline(always)]
    fn unpacked<'b, L: Lanes>(&'b self, l: L, space: &'b mut [i8]) -> &'b [i8] {
        if self.codes == Codes::Bytes {
            return signed(self.bytes);
        }
        assert_eq!(space.len(), 2 * self.bytes.len(), "room for all codes");
        let table = if let Codes::Nibbles(table) = self.codes { Some(table.map(i8::cast_unsigned)) } else { None };
        let chunks = self.bytes.as_chunks::<32>().0.iter().zip(space.as_chunks_mut::<64>().0);
        for (i, (bytes, to)) in chunks.enumerate() {
            // SAFETY: both pointers are to sixteen bytes of `bytes`.
            let mut codes = unsafe { l.nibbles(bytes.as_ptr(), bytes.as_ptr().add(16)) };
            if let Some(table) = &table {
                codes = l.lookup(table, codes);
            } else if let Some([low, high]) = self.bits.as_chunks::<2>().0.get(i) {
                codes = l.or_int(codes, l.bytes_of_bits([*low, *high], 16));
            }
            // SAFETY: `to` has 64 bytes.
            unsafe { l.store_int(to.as_mut_ptr().cast(), codes) };
        }
        space
    }
}

/// Decodes keys to `[4, k_dim, 16]`.
pub(crate) struct DecodeKeys<'a> {
    pub(crate) tile: CodeTile<'a>,
    pub(crate) k_dim: usize,
    /// Room for the codes of the tile, a byte each, unless they are stored as bytes.
    pub(crate) space: &'a mut [i8],
    pub(crate) to: &'a mut [f32],
}

impl Kernel for DecodeKeys<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let blocks = self.k_dim.div_ceil(BLOCK);
        assert_eq!(self.to.len(), TILE * self.k_dim, "a tile of keys");
        let codes = self.tile.unpacked(l, self.space).as_chunks::<LANES>().0;
        let to = self.to.as_chunks_mut::<LANES>().0.chunks_exact_mut(self.k_dim);
        let scales = self.tile.scales.as_chunks::<LANES>().0;
        let minima = self.tile.minima.as_chunks::<LANES>().0;
        for (group, (to, codes)) in to.zip(codes.chunks_exact(blocks * BLOCK)).enumerate() {
            for (block, (to, codes)) in to.chunks_mut(BLOCK).zip(codes.chunks_exact(BLOCK)).enumerate() {
                let scale = l.halves(&scales[group * blocks + block]);
                if let Some(minimum) = minima.get(group * blocks + block) {
                    let minimum = l.halves(minimum);
                    for (to, codes) in to.iter_mut().zip(codes) {
                        *to = l.to_array(l.add(l.mul(l.bytes(codes), scale), minimum));
                    }
                } else {
                    for (to, codes) in to.iter_mut().zip(codes) {
                        *to = l.to_array(l.mul(l.bytes(codes), scale));
                    }
                }
            }
        }
    }
}

/// Decodes values to `[64, width]`.
pub(crate) struct DecodeValues<'a> {
    pub(crate) tile: CodeTile<'a>,
    /// Elements of a row, a multiple of 16.
    pub(crate) width: usize,
    /// As [`DecodeKeys::space`].
    pub(crate) space: &'a mut [i8],
    pub(crate) to: &'a mut [f32],
}

impl Kernel for DecodeValues<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let blocks = self.width.div_ceil(BLOCK);
        assert_eq!(self.to.len(), TILE * self.width, "a tile of values");
        let codes = self.tile.unpacked(l, self.space);
        let rows = self.to.chunks_exact_mut(self.width).zip(codes.chunks_exact(blocks * BLOCK));
        for (position, (to, codes)) in rows.enumerate() {
            for (block, (to, codes)) in to.chunks_mut(BLOCK).zip(codes.chunks_exact(BLOCK)).enumerate() {
                let scale = l.splat(l.half(self.tile.scales[position * blocks + block]));
                let minimum = self.tile.minima.get(position * blocks + block).map(|&bits| l.splat(l.half(bits)));
                let vectors = to.as_chunks_mut::<LANES>().0.iter_mut().zip(codes.as_chunks::<LANES>().0);
                for (to, codes) in vectors {
                    let x = l.mul(l.bytes(codes), scale);
                    *to = l.to_array(match minimum {
                        Some(minimum) => l.add(x, minimum),
                        None => x,
                    });
                }
            }
        }
    }
}

fn signed(bytes: &[u8]) -> &[i8] {
    super::lines::numbers(bytes)
}
