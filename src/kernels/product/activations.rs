//! The input rows of a product. Their quantized forms are computed once for all products that share them.

use std::sync::OnceLock;

use half::bf16;

use super::input::groups::{Groups, Source};
use super::input::{Input, QUANTIZED, Quantize, Quantized, SUM_LEN, Tokens};
use super::tiles::Tiles;
use crate::TensorType;
use crate::kernels::{Pool, Scratch};
use crate::simd::lanes::{Kernel, Lanes};

/// Rows of floats, `[rows, cols]`, with their quantized forms, which are computed on first use.
pub struct Activations<'a> {
    x: &'a [f32],
    cols: usize,
    bf16: OnceLock<Scratch<u16>>,
    quantized: [OnceLock<Quantized>; QUANTIZED],
    arranged: [OnceLock<Arranged>; QUANTIZED],
}

/// Quantized rows in the layout of the instruction set's kernel for many tokens.
pub(super) enum Arranged {
    /// For AMX.
    Tiles(Tiles),
    /// For vectors.
    Groups(Groups),
}

impl<'a> Activations<'a> {
    /// Rows of `cols` floats.
    ///
    /// # Panics
    /// If `x` are not whole rows.
    #[must_use]
    pub fn new(x: &'a [f32], cols: usize) -> Self {
        assert!(cols > 0 && x.len().is_multiple_of(cols), "{} elements in rows of {cols}", x.len());
        Self { x, cols, bf16: OnceLock::new(), quantized: Default::default(), arranged: Default::default() }
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.x.len() / self.cols
    }

    /// Length of a row.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Row `row` as floats.
    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.x[row * self.cols..(row + 1) * self.cols]
    }

    /// Row `row` rounded to bf16.
    ///
    /// # Panics
    /// If it has not been prepared.
    pub(super) fn bf16_row(&self, row: usize) -> &[u16] {
        &self.bf16.get().expect("prepared before the product")[row * self.cols..(row + 1) * self.cols]
    }

    /// Computes the form that weights of type `ty` need, on all threads, unless it exists.
    pub(super) fn prepare(&self, pool: &Pool, ty: TensorType) {
        match Input::of(ty) {
            Input::Floats => {}
            Input::Bf16 => drop(self.bf16.get_or_init(|| self.round(pool))),
            input => drop(self.quantized(pool, input)),
        }
    }

    /// All rows in the form `input`, in the layout for many tokens; computed on first use.
    pub(super) fn arranged(&self, pool: &Pool, input: Input) -> &Arranged {
        self.arranged[input.place()].get_or_init(|| {
            if pool.isa().has_tiles() && input.has_tiles() {
                let x = self.quantized(pool, input);
                Arranged::Tiles(Tiles::new(pool, x, input, Tokens::First(self.rows()), self.cols))
            } else {
                Arranged::Groups(Groups::new(pool, Source::Floats(self.x), input, self.cols))
            }
        })
    }

    /// The rows `tokens` in the form `input`, in the layout for many tokens.
    pub(super) fn arrange(&self, pool: &Pool, input: Input, tokens: &[u32]) -> Arranged {
        let x = self.quantized(pool, input);
        if pool.isa().has_tiles() && input.has_tiles() {
            Arranged::Tiles(Tiles::new(pool, x, input, Tokens::Listed(tokens), self.cols))
        } else {
            Arranged::Groups(Groups::new(pool, Source::Codes(x, tokens), input, self.cols))
        }
    }

    /// All rows in the form `input`, computed on first use.
    fn quantized(&self, pool: &Pool, input: Input) -> &Quantized {
        self.quantized[input.place()].get_or_init(|| self.quantize(pool, input))
    }

    /// All rows in the form `input`.
    ///
    /// # Panics
    /// If they have not been prepared.
    pub(super) fn prepared(&self, input: Input) -> &Quantized {
        self.quantized[input.place()].get().expect("prepared before the product")
    }

    /// Elements of one task when the work is shared by all threads.
    fn share(&self, pool: &Pool) -> usize {
        let rows = self.rows();
        // The caller quantizes few rows alone: that takes less time than waking another thread.
        self.cols * if rows < 8 { rows.max(1) } else { rows.div_ceil(pool.threads() * 2) }
    }

    fn round(&self, pool: &Pool) -> Scratch<u16> {
        let mut rounded = Scratch::new(self.x.len());
        let len = self.share(pool);
        let parts = self.x.chunks(len).zip(rounded.chunks_mut(len)).map(|(x, to)| Round { x, to });
        pool.run_over(parts, &|part| pool.isa().run(part));
        rounded
    }

    fn quantize(&self, pool: &Pool, input: Input) -> Quantized {
        let block_len = input.block_len();
        let mut quantized = Quantized::zeros(self.x.len(), block_len);
        let len = self.share(pool);
        let parts = self
            .x
            .chunks(len)
            .zip(quantized.codes.chunks_mut(len))
            .zip(quantized.scales.chunks_mut(len / block_len).zip(quantized.sums.chunks_mut(len / SUM_LEN)))
            .map(|((x, codes), (scales, sums))| Quantize { x, codes, scales, sums, input });
        pool.run_over(parts, &|part| pool.isa().run(part));
        quantized
    }
}

/// Floats to be rounded to bf16.
struct Round<'a> {
    x: &'a [f32],
    to: &'a mut [u16],
}

impl Kernel for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        for (to, x) in self.to.iter_mut().zip(self.x) {
            *to = bf16::from_f32(*x).to_bits();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::input::{MOST_OF_16, MOST_OF_SIGN};
    use super::*;
    use crate::simd::Isa;

    #[test]
    fn codes_are_nearest_and_sums_agree_on_every_cpu() {
        let mut x: Vec<f32> =
            (0..1024i16).map(|i| f32::from(i.wrapping_mul(37) % 255 - 127) * 0.01 * f32::from(i / 256)).collect();
        // Sub-blocks with many great numbers: of both signs, of one, and half of them.
        x.extend((0..256).map(|i| if i % 2 == 0 { 0.7 } else { -0.7 }));
        x.extend((0..256).map(|i| if i % 3 == 0 { -1.1 } else { -1.3 }));
        x.extend((0..256).map(|i| if i % 16 < 8 { 2.1 } else { 0.0 }));
        let mut first: Option<(Vec<i8>, Vec<f32>, Vec<i16>)> = None;
        for &isa in Isa::ALL.iter().filter(|isa| isa.available()) {
            let pool = Pool::with_isa(2, isa);
            let activations = Activations::new(&x, 256);
            activations.prepare(&pool, TensorType::Q4_K);
            let q = activations.prepared(Input::SuperBlocks);
            for (i, v) in x.iter().enumerate() {
                let scale = q.scales[i / 256];
                assert!((f32::from(q.codes[i]) * scale - v).abs() <= scale * 0.501);
            }
            for (sum, codes) in q.sums.iter().zip(q.codes.chunks(16)) {
                assert!(codes.iter().map(|c| usize::from(c.unsigned_abs())).sum::<usize>() <= MOST_OF_16);
                assert_eq!(*sum, codes.iter().map(|&c| i16::from(c)).sum::<i16>());
            }
            for codes in q.codes.chunks(32) {
                let of_sign = |sign: i16| codes.iter().map(|&c| (sign * i16::from(c)).max(0) as usize).sum::<usize>();
                assert!(of_sign(1).max(of_sign(-1)) <= MOST_OF_SIGN);
            }
            let found = (q.codes.to_vec(), q.scales.to_vec(), q.sums.to_vec());
            assert_eq!(*first.get_or_insert(found.clone()), found, "{isa}");
        }
    }
}
