//! The input rows of a product, quantized in the form that the format of the weights needs.

pub(super) mod groups;

use super::powers;
use crate::TensorType;
use crate::formats::view::{BlockFormat, FloatFormat, LongBlockFormat, SuperBlockFormat, ViewVisitor};
use crate::formats::{self, Format};
use crate::kernels::scratch::Scratch;
use crate::simd::Isa;
use crate::simd::LANES;
use crate::simd::integers::sum_of_16;
use crate::simd::lanes::{Kernel, Lanes};

/// Elements whose sum is kept beside the codes.
pub(super) const SUM_LEN: usize = 16;
/// Elements that are quantized at a time.
const PART: usize = 256;
/// Bounds on the input of a super-block that keep dot products inside 16 bits: the sum of the magnitudes of 16 codes, and of 32
/// codes of one sign. With them, 16 codes times weights from -32 to 31 fit an i16, as do 32 codes times weights from 0 to 31, and
/// one instruction multiplies two such sums with their scales.
pub(super) const MOST_OF_16: usize = 1023;
pub(super) const MOST_OF_SIGN: usize = 1057;

/// Rows as eight-bit codes: `x = scale * code`.
#[derive(Default)]
pub(super) struct Quantized {
    /// `[rows, cols]`.
    pub(super) codes: Scratch<i8>,
    /// `[rows, cols / block length]`.
    pub(super) scales: Scratch,
    /// Sums of 16 codes: `[rows, cols / 16]`.
    pub(super) sums: Scratch<i16>,
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
        Self { codes: Scratch::zeros(n), scales: Scratch::zeros(n / block_len), sums: Scratch::zeros(n / SUM_LEN) }
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

    /// Sets codes, scales and sums to those of `x` in the form `input`.
    pub(super) fn quantize(&mut self, isa: Isa, x: &[f32], input: Input) {
        *self = Self::zeros(x.len(), input.block_len());
        isa.run(Quantize { x, codes: &mut self.codes, scales: &mut self.scales, sums: &mut self.sums, input });
    }
}

/// The form of input that a weight format needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// As floats.
    Floats,
    /// As floats rounded to bf16.
    Bf16,
    /// One scale for 32 elements, a sum or difference of two powers of two.
    Blocks,
    /// One scale for 32 elements.
    LongBlocks,
    /// One scale for 256 elements.
    SuperBlocks,
}

/// Number of quantized forms.
pub(super) const QUANTIZED: usize = 3;

impl Input {
    pub(super) fn of(ty: TensorType) -> Self {
        formats::view(ty, InputOf)
    }

    /// Whether the input is quantized to eight-bit codes.
    pub(super) fn is_quantized(self) -> bool {
        matches!(self, Self::Blocks | Self::LongBlocks | Self::SuperBlocks)
    }

    /// Whether there is a layout of it as tiles, see [`super::tiles`].
    pub(super) fn has_tiles(self) -> bool {
        matches!(self, Self::Blocks | Self::SuperBlocks)
    }

    /// The place of a quantized form among all [`QUANTIZED`].
    ///
    /// # Panics
    /// If it is not quantized.
    pub(super) fn place(self) -> usize {
        match self {
            Self::Blocks => 0,
            Self::LongBlocks => 1,
            Self::SuperBlocks => 2,
            Self::Floats | Self::Bf16 => unreachable!("floats are not quantized"),
        }
    }

    /// Elements that share a scale.
    pub(super) fn block_len(self) -> usize {
        match self {
            Self::Floats | Self::Bf16 => 1,
            Self::Blocks | Self::LongBlocks => 32,
            Self::SuperBlocks => 256,
        }
    }
}

/// Maps a format's view to the form of its input.
struct InputOf;

impl ViewVisitor for InputOf {
    type Output = Input;

    fn super_blocks<F: SuperBlockFormat>(self) -> Input {
        Input::SuperBlocks
    }

    fn blocks<F: BlockFormat>(self) -> Input {
        Input::Blocks
    }

    fn long_blocks<F: LongBlockFormat>(self) -> Input {
        Input::LongBlocks
    }

    fn floats<F: FloatFormat>(self) -> Input {
        if F::ROUNDED_INPUT { Input::Bf16 } else { Input::Floats }
    }

    fn decoded<F: Format>(self) -> Input {
        Input::Floats
    }
}

/// The rows of the input that are used.
#[derive(Clone, Copy)]
pub(super) enum Tokens<'a> {
    /// The first rows, by count.
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

/// Codes, scales and sums of some blocks.
pub(super) struct Quantize<'a> {
    pub(in crate::kernels::product) x: &'a [f32],
    pub(in crate::kernels::product) codes: &'a mut [i8],
    pub(in crate::kernels::product) scales: &'a mut [f32],
    pub(in crate::kernels::product) sums: &'a mut [i16],
    pub(in crate::kernels::product) input: Input,
}

impl Kernel for Quantize<'_> {
    type Output = ();
    const DOT_PRODUCTS: bool = true;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let n = self.input.block_len();
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
                (*scale, inverse) = if self.input == Input::Blocks {
                    powers::round_up(greatest / 127.0)
                } else {
                    let greatest = match x.try_into() {
                        Ok(x) => greatest.max(least_for_sums(l, x)),
                        Err(_) => greatest,
                    };
                    (greatest / 127.0, 127.0 / greatest)
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

/// The smallest value for code 127 with which [`MOST_OF_16`] and [`MOST_OF_SIGN`] hold in a super-block.
#[inline(always)]
fn least_for_sums<L: Lanes>(l: L, x: &[[f32; LANES]; LANES]) -> f32 {
    // Rounding adds up to one half for each code. The bound is a multiple of 16, so that equal numbers are exact.
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
