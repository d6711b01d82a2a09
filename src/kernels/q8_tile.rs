//! Converts a tile of keys and values that are cached as bytes with scales (Q8_0) to floats.

use crate::simd::LANES;
use crate::simd::lanes::{Kernel, Lanes};

/// Elements that share a scale.
pub(crate) const Q8_BLOCK: usize = 32;

/// One head's keys and values of a tile, as bytes; scales are half-precision bits.
pub(crate) struct Q8Tile<'a> {
    pub(crate) k_dim: usize,
    /// Elements of a row of values, a multiple of 16.
    pub(crate) width: usize,
    /// `[4, k_dim, 16]`.
    pub(crate) keys: &'a [i8],
    /// `[4, ceil(k_dim / 32), 16]`.
    pub(crate) key_scales: &'a [u16],
    /// `[64, width]`.
    pub(crate) values: &'a [i8],
    /// `[64, ceil(width / 32)]`.
    pub(crate) value_scales: &'a [u16],
    /// Receives the keys, `[4, k_dim, 16]`.
    pub(crate) to_keys: &'a mut [f32],
    /// Receives the values, `[64, width]`.
    pub(crate) to_values: &'a mut [f32],
}

impl Kernel for Q8Tile<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let keys = self.keys.as_chunks::<LANES>().0.chunks_exact(self.k_dim);
        let to = self.to_keys.as_chunks_mut::<LANES>().0.chunks_exact_mut(self.k_dim);
        let scales = self.key_scales.as_chunks::<LANES>().0.chunks_exact(self.k_dim.div_ceil(Q8_BLOCK));
        for ((codes, to), scales) in keys.zip(to).zip(scales) {
            for ((codes, to), scale) in codes.chunks(Q8_BLOCK).zip(to.chunks_mut(Q8_BLOCK)).zip(scales) {
                let scale = l.halves(scale);
                for (codes, to) in codes.iter().zip(to) {
                    *to = l.to_array(l.mul(l.bytes(codes), scale));
                }
            }
        }
        let values = self.values.chunks_exact(self.width).zip(self.to_values.chunks_exact_mut(self.width));
        for ((codes, to), scales) in values.zip(self.value_scales.chunks_exact(self.width.div_ceil(Q8_BLOCK))) {
            for ((codes, to), &scale) in codes.chunks(Q8_BLOCK).zip(to.chunks_mut(Q8_BLOCK)).zip(scales) {
                let scale = l.splat(l.half(scale));
                let vectors = codes.as_chunks::<LANES>().0.iter().zip(to.as_chunks_mut::<LANES>().0);
                for (codes, to) in vectors {
                    *to = l.to_array(l.mul(l.bytes(codes), scale));
                }
            }
        }
    }
}
