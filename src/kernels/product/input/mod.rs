//! The input rows of a product, quantized as the weights' formats ask for it, once for all products that share them.

pub(super) mod groups;

use std::sync::OnceLock;

use half::bf16;

use groups::{Groups, Source};

use super::powers;
use super::tiles::Tiles;
use crate::TensorType;
use crate::formats::view::{BlockFormat, FloatFormat, SuperBlockFormat, ViewVisitor};
use crate::formats::{self, Format};
use crate::kernels::Pool;
use crate::simd::Isa;
use crate::simd::integers::sum_of_16;
use crate::simd::lanes::{Kernel, LANES, Lanes};

/// Elements whose sum is kept beside the codes.
pub(super) const SUM_LEN: usize = 16;
/// Elements that are quantized at a time.
const PART: usize = 256;
/// Bounds of a super-block's input: the sum of the magnitudes of 16 codes, and of 32 codes of one sign. So the products of 16 codes with
/// weights of -32 to 31 add up to a word of 16 bits, as do those of 32 codes with weights of 0 to 31, and two such sums meet their
/// scales in one instruction.
const MOST_OF_16: usize = 1023;
const MOST_OF_SIGN: usize = 1057;

/// Rows of floats, `[rows, cols]`, with their quantized forms made on first use.
pub struct Activations<'a> {
    x: &'a [f32],
    cols: usize,
    super_blocks: OnceLock<Quantized>,
    blocks: OnceLock<Quantized>,
    bf16: OnceLock<Vec<u16>>,
    arranged_super_blocks: OnceLock<Arranged>,
    arranged_blocks: OnceLock<Arranged>,
}

/// Quantized rows as the instruction set's kernel for many tokens reads them.
pub(super) enum Arranged {
    /// For AMX.
    Tiles(Tiles),
    /// For vectors.
    Groups(Groups),
}

/// Rows as eight-bit codes: `x = scale * code`.
#[derive(Default)]
pub(super) struct Quantized {
    /// `[rows, cols]`.
    pub(super) codes: Vec<i8>,
    /// `[rows, cols / block length]`.
    pub(super) scales: Vec<f32>,
    /// Sums of 16 codes: `[rows, cols / 16]`.
    pub(super) sums: Vec<i16>,
}

/// One row of [`Quantized`].
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) codes: &'a [i8],
    pub(super) scales: &'a [f32],
    pub(super) sums: &'a [i16],
}

impl Quantized {
    /// `n` zeros.
    pub(super) fn zeros(n: usize, block_len: usize) -> Self {
        Self { codes: vec![0; n], scales: vec![0.0; n / block_len], sums: vec![0; n / SUM_LEN] }
    }

    /// Row `row` of `cols` elements.
    pub(super) fn row(&self, row: usize, cols: usize) -> Row<'_> {
        let scales = self.scales.len() * cols / self.codes.len();
        Row {
            codes: &self.codes[row * cols..][..cols],
            scales: &self.scales[row * scales..][..scales],
            sums: &self.sums[row * cols / SUM_LEN..][..cols / SUM_LEN],
        }
    }

    /// Becomes the codes of `x`.
    pub(super) fn quantize(&mut self, isa: Isa, x: &[f32], block_len: usize) {
        *self = Self::zeros(x.len(), block_len);
        isa.run(Quantize { x, codes: &mut self.codes, scales: &mut self.scales, sums: &mut self.sums, block_len });
    }
}

/// How a weight format wants its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// As floats.
    Floats,
    /// As floats rounded to bf16.
    Bf16,
    /// One scale for 32 elements.
    Blocks,
    /// One scale for 256 elements.
    SuperBlocks,
}

impl Input {
    pub(super) fn of(ty: TensorType) -> Self {
        formats::view(ty, InputOf)
    }

    /// Whether it is eight-bit codes.
    pub(super) fn is_quantized(self) -> bool {
        matches!(self, Self::Blocks | Self::SuperBlocks)
    }

    /// Elements that share a scale.
    pub(super) fn block_len(self) -> usize {
        match self {
            Self::Floats | Self::Bf16 => 1,
            Self::Blocks => 32,
            Self::SuperBlocks => 256,
        }
    }
}

/// Which input a view takes.
struct InputOf;

impl ViewVisitor for InputOf {
    type Output = Input;

    fn super_blocks<F: SuperBlockFormat>(self) -> Input {
        Input::SuperBlocks
    }

    fn blocks<F: BlockFormat>(self) -> Input {
        Input::Blocks
    }

    fn floats<F: FloatFormat>(self) -> Input {
        if F::ROUNDED_INPUT { Input::Bf16 } else { Input::Floats }
    }

    fn decoded<F: Format>(self) -> Input {
        Input::Floats
    }
}

/// The rows of the input that take part.
#[derive(Clone, Copy)]
pub(super) enum Tokens<'a> {
    /// The first so many.
    First(usize),
    /// These.
    Listed(&'a [u32]),
}

impl Tokens<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::First(n) => *n,
            Self::Listed(list) => list.len(),
        }
    }

    #[inline(always)]
    pub(super) fn row(&self, i: usize) -> usize {
        match self {
            Self::First(_) => i,
            Self::Listed(list) => list[i] as usize,
        }
    }
}

impl<'a> Activations<'a> {
    /// Rows of `cols` floats.
    ///
    /// # Panics
    /// If `x` are not whole rows.
    #[must_use]
    pub fn new(x: &'a [f32], cols: usize) -> Self {
        assert!(cols > 0 && x.len().is_multiple_of(cols), "{} elements in rows of {cols}", x.len());
        Self {
            x,
            cols,
            super_blocks: OnceLock::new(),
            blocks: OnceLock::new(),
            bf16: OnceLock::new(),
            arranged_super_blocks: OnceLock::new(),
            arranged_blocks: OnceLock::new(),
        }
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

    /// Makes the form that `ty` wants, on all threads, unless it is there.
    pub(super) fn prepare(&self, pool: &Pool, ty: TensorType) {
        match Input::of(ty) {
            Input::Floats => {}
            Input::Bf16 => drop(self.bf16.get_or_init(|| self.round(pool))),
            input => drop(self.quantized(pool, input)),
        }
    }

    /// All rows in the form that `input` names, arranged on first use.
    pub(super) fn arranged(&self, pool: &Pool, input: Input) -> &Arranged {
        let cell = if input == Input::SuperBlocks { &self.arranged_super_blocks } else { &self.arranged_blocks };
        cell.get_or_init(|| {
            if pool.isa().has_tiles() {
                let x = self.quantized(pool, input);
                Arranged::Tiles(Tiles::new(pool, x, input, Tokens::First(self.rows()), self.cols))
            } else {
                Arranged::Groups(Groups::new(pool, Source::Floats(self.x), input, self.cols))
            }
        })
    }

    /// Some rows in the form that `input` names, arranged.
    pub(super) fn arrange(&self, pool: &Pool, input: Input, tokens: &[u32]) -> Arranged {
        let x = self.quantized(pool, input);
        if pool.isa().has_tiles() {
            Arranged::Tiles(Tiles::new(pool, x, input, Tokens::Listed(tokens), self.cols))
        } else {
            Arranged::Groups(Groups::new(pool, Source::Codes(x, tokens), input, self.cols))
        }
    }

    /// All rows in the form that `input` names, made on first use.
    fn quantized(&self, pool: &Pool, input: Input) -> &Quantized {
        let cell = if input == Input::SuperBlocks { &self.super_blocks } else { &self.blocks };
        cell.get_or_init(|| self.quantize(pool, input.block_len()))
    }

    /// The form with one scale for 32 elements.
    ///
    /// # Panics
    /// If it has not been prepared.
    pub(super) fn blocks(&self) -> &Quantized {
        self.blocks.get().expect("prepared before the product")
    }

    /// The form with one scale for 256 elements.
    ///
    /// # Panics
    /// If it has not been prepared.
    pub(super) fn super_blocks(&self) -> &Quantized {
        self.super_blocks.get().expect("prepared before the product")
    }

    /// Elements of a task of all threads.
    fn share(&self, pool: &Pool) -> usize {
        let rows = self.rows();
        // Few rows are worked on by the caller alone: that is done before another thread has woken.
        self.cols * if rows < 8 { rows.max(1) } else { rows.div_ceil(pool.threads() * 2) }
    }

    fn round(&self, pool: &Pool) -> Vec<u16> {
        let mut rounded = vec![0; self.x.len()];
        let len = self.share(pool);
        let parts = self.x.chunks(len).zip(rounded.chunks_mut(len)).map(|(x, to)| Round { x, to }).collect();
        pool.run_each(parts, &|part| pool.isa().run(part));
        rounded
    }

    fn quantize(&self, pool: &Pool, block_len: usize) -> Quantized {
        let mut quantized = Quantized::zeros(self.x.len(), block_len);
        let len = self.share(pool);
        let parts = self
            .x
            .chunks(len)
            .zip(quantized.codes.chunks_mut(len))
            .zip(quantized.scales.chunks_mut(len / block_len).zip(quantized.sums.chunks_mut(len / SUM_LEN)))
            .map(|((x, codes), (scales, sums))| Quantize { x, codes, scales, sums, block_len })
            .collect();
        pool.run_each(parts, &|part| pool.isa().run(part));
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

/// Codes, scales and sums of some blocks.
struct Quantize<'a> {
    x: &'a [f32],
    codes: &'a mut [i8],
    scales: &'a mut [f32],
    sums: &'a mut [i16],
    block_len: usize,
}

impl Kernel for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let n = self.block_len;
        let parts = self.x.chunks(PART).zip(self.codes.chunks_mut(PART));
        let places = self.scales.chunks_mut(PART / n).zip(self.sums.chunks_mut(PART / SUM_LEN));
        for ((x, codes), (scales, sums)) in parts.zip(places) {
            let blocks = x.chunks_exact(n).zip(codes.chunks_exact_mut(n)).zip(scales);
            for ((x, codes), scale) in blocks {
                let x = x.as_chunks::<LANES>().0;
                let mut greatest = l.splat(0.0);
                for v in x {
                    greatest = l.max(greatest, l.abs(l.array(v)));
                }
                let greatest = l.max_lane(greatest);
                let inverse;
                (*scale, inverse) = if let Ok(x) = x.try_into() {
                    let greatest = greatest.max(least_for_sums(l, x));
                    (greatest / 127.0, 127.0 / greatest)
                } else {
                    powers::round_up(greatest / 127.0)
                };
                let inverse = l.splat(if *scale > 0.0 { inverse } else { 0.0 });
                for (v, codes) in x.iter().zip(codes.as_chunks_mut::<LANES>().0) {
                    l.round_to_bytes(l.mul(l.array(v), inverse), codes);
                }
            }
            match (<&[i8; PART]>::try_from(&*codes), <&mut [i16; PART / SUM_LEN]>::try_from(&mut *sums)) {
                (Ok(codes), Ok(sums)) => *sums = l.sums_of_16(codes),
                _ => {
                    for (sum, codes) in sums.iter_mut().zip(codes.as_chunks::<SUM_LEN>().0) {
                        *sum = sum_of_16(codes);
                    }
                }
            }
        }
    }
}

/// What 127 must stand for, at least, for [`MOST_OF_16`] and [`MOST_OF_SIGN`] to hold in a super-block.
#[inline(always)]
fn least_for_sums<L: Lanes>(l: L, x: &[[f32; LANES]; LANES]) -> f32 {
    // Rounding adds up to a half for each code. Multiples, so that equal numbers are exact.
    const OF_16: usize = (MOST_OF_16 - 8) / 16 * 16;
    const OF_SIGN: usize = (MOST_OF_SIGN - 16) / 32 * 32;
    let (mut of_16, mut of_sign) = ([l.splat(0.0); LANES], [l.splat(0.0); LANES]);
    let (zero, factor) = (l.splat(0.0), l.splat(127.0 / OF_SIGN as f32));
    for i in 0..LANES / 2 {
        let (a, b) = (l.array(&x[2 * i]), l.array(&x[2 * i + 1]));
        (of_16[2 * i], of_16[2 * i + 1]) = (l.abs(a), l.abs(b));
        of_sign[2 * i] = l.mul(l.add(l.max(a, zero), l.max(b, zero)), factor);
        of_sign[2 * i + 1] = l.mul(l.add(l.min(a, zero), l.min(b, zero)), l.sub(zero, factor));
    }
    let of_16 = l.mul(l.sums(&of_16), l.splat(127.0 / OF_16 as f32));
    l.max_lane(l.max(of_16, l.sums(&of_sign)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Isa;

    #[test]
    fn codes_are_nearest_and_sums_agree_on_every_cpu() {
        let mut x: Vec<f32> =
            (0..1024i16).map(|i| f32::from((i * 37) % 255 - 127) * 0.01 * f32::from(i / 256)).collect();
        // Sub-blocks with many great numbers: of both signs, of one, and half of them.
        x.extend((0..256).map(|i| if i % 2 == 0 { 0.7 } else { -0.7 }));
        x.extend((0..256).map(|i| if i % 3 == 0 { -1.1 } else { -1.3 }));
        x.extend((0..256).map(|i| if i % 16 < 8 { 2.1 } else { 0.0 }));
        let mut first: Option<(Vec<i8>, Vec<f32>, Vec<i16>)> = None;
        for &isa in Isa::ALL.iter().filter(|isa| isa.available()) {
            let pool = Pool::with_isa(2, isa);
            let activations = Activations::new(&x, 256);
            activations.prepare(&pool, TensorType::Q4_K);
            let q = activations.super_blocks();
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
            let found = (q.codes.clone(), q.scales.clone(), q.sums.clone());
            assert_eq!(*first.get_or_insert(found.clone()), found, "{isa}");
        }
    }
}
