//! Sixteen `f32` lanes: the vector that kernels are written in, once for every instruction set.
//!
//! A kernel generic over [`Lanes`] does the same IEEE operations in the same order whatever implements it (one
//! AVX-512 register, two AVX2 registers, an array), so its results are equal bit for bit. Implementations live
//! beside their instruction set; [`super::scalar::Scalar`] is the reference and the fallback.

#![allow(unsafe_code, reason = "vector loads and stores go through raw pointers")]

use std::ops::Range;

use half::f16;

use super::LANES;
use super::integers::Integers;

/// Partial sums of `T` tokens and `R` rows, which wait in memory.
pub(crate) type Sums<const R: usize, const T: usize> = [[[f32; LANES]; R]; T];

/// [`Lanes::accumulate_bf16`] for any instruction set.
///
/// # Safety
/// As there.
#[inline(always)]
pub(crate) unsafe fn accumulate_bf16<L: Lanes, const R: usize, const T: usize>(
    l: L,
    w: [*const u8; R],
    x: [*const u8; T],
    vectors: usize,
    waiting: &mut Sums<R, T>,
) {
    let mut sums = load_sums(l, waiting);
    for k in 0..vectors {
        let mut weights = [l.splat_int(0); R];
        for r in 0..R {
            // SAFETY: the caller vouches for `vectors` vectors.
            weights[r] = unsafe { l.load_int(w[r].add(k * 4 * LANES).cast()) };
        }
        for t in 0..T {
            // SAFETY: as above.
            let x = unsafe { l.load_int(x[t].add(k * 4 * LANES).cast()) };
            for r in 0..R {
                sums[t][r] = l.dot_bf16(sums[t][r], weights[r], x);
            }
        }
    }
    store_sums(l, &sums, waiting);
}

/// [`super::integers::Integers::transpose_words`] by way of [`Lanes::transpose`].
#[inline(always)]
pub(crate) fn transpose_words<L: Lanes>(l: L, words: &mut [[i32; LANES]; LANES]) {
    let mut rows = [l.splat(0.0); LANES];
    for (row, words) in rows.iter_mut().zip(&*words) {
        // SAFETY: the array holds 16 numbers of four bytes.
        *row = unsafe { l.load(words.as_ptr().cast()) };
    }
    for (words, column) in words.iter_mut().zip(l.transpose(rows)) {
        // SAFETY: as above.
        unsafe { l.store(words.as_mut_ptr().cast(), column) };
    }
}

/// Partial sums from memory.
#[inline(always)]
pub(crate) fn load_sums<L: Lanes, const R: usize, const T: usize>(l: L, from: &Sums<R, T>) -> [[L::Float; R]; T] {
    let mut sums = [[l.splat(0.0); R]; T];
    for t in 0..T {
        for r in 0..R {
            sums[t][r] = l.array(&from[t][r]);
        }
    }
    sums
}

/// Partial sums to memory.
#[inline(always)]
pub(crate) fn store_sums<L: Lanes, const R: usize, const T: usize>(
    l: L,
    sums: &[[L::Float; R]; T],
    to: &mut Sums<R, T>,
) {
    for t in 0..T {
        for r in 0..R {
            to[t][r] = l.to_array(sums[t][r]);
        }
    }
}

/// A function that is compiled for every instruction set: [`super::Isa::run`] calls it for one.
pub(crate) trait Kernel: Sized {
    /// What it returns.
    type Output;
    /// Whether it gains from the CPU's dot products of bytes, of words or of bf16 (VNNI, `sdot`). Instruction sets that differ in these
    /// alone share one compiled kernel where this is false.
    const DOT_PRODUCTS: bool = false;

    /// The function; to be marked `#[inline(always)]`, so that it takes on its caller's instruction set.
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}

/// An instruction set's way to work on sixteen `f32`. A value of the implementing type proves that the CPU has it.
///
/// Every method is meant to be inlined into a function that enables the instruction set.
pub(crate) trait Lanes: Integers {
    /// Sixteen `f32`.
    type Float: Copy;
    /// A truth for each lane.
    type Mask: Copy;
    /// Whether there are registers for tiles of four by four vectors.
    const WIDE: bool;
    /// Whether kernels compute several rows and tokens at a time. Where there are no vector registers, that is not faster, and the
    /// reference is one row or token at a time.
    const TILES: bool = true;
    /// Whether sums with [`Self::add_bits`] are quicker than a product, see `kernels::product::powers`.
    const ADDS_BITS: bool = false;

    fn splat(self, x: f32) -> Self::Float;

    /// The lanes of an array.
    #[inline(always)]
    fn array(self, lanes: &[f32; LANES]) -> Self::Float {
        // SAFETY: the array holds 16 floats.
        unsafe { self.load(lanes.as_ptr()) }
    }

    /// Sixteen half-precision numbers, as bits.
    #[inline(always)]
    fn halves(self, bits: &[u16; LANES]) -> Self::Float {
        // SAFETY: the array holds 16 numbers of two bytes.
        unsafe { self.load_half(bits.as_ptr()) }
    }

    /// The half-precision numbers in the low bits (`SHIFT` 0) or the high ones (16) of lanes.
    #[inline(always)]
    fn halves_at<const SHIFT: u32>(self, x: Self::Int) -> Self::Float {
        let (mut lanes, mut halves) = ([0; LANES], [0; LANES]);
        // SAFETY: the array holds 16 integers.
        unsafe { self.store_int(lanes.as_mut_ptr(), x) };
        for (half, lane) in halves.iter_mut().zip(lanes) {
            *half = (lane as u32 >> SHIFT) as u16;
        }
        self.halves(&halves)
    }

    /// Sixteen signed bytes.
    #[inline(always)]
    fn bytes(self, bytes: &[i8; LANES]) -> Self::Float {
        self.array(&bytes.map(f32::from))
    }

    /// The lanes as an array.
    #[inline(always)]
    fn to_array(self, x: Self::Float) -> [f32; LANES] {
        let mut lanes = [0.0; LANES];
        // SAFETY: the array holds 16 floats.
        unsafe { self.store(lanes.as_mut_ptr(), x) };
        lanes
    }

    /// # Safety
    /// `from` points to 16 readable floats.
    unsafe fn load(self, from: *const f32) -> Self::Float;
    /// # Safety
    /// `from` points to 16 readable half-precision numbers.
    unsafe fn load_half(self, from: *const u16) -> Self::Float;
    /// # Safety
    /// `to` points to 16 writable floats.
    unsafe fn store(self, to: *mut f32, x: Self::Float);

    /// Writes 16 floats past the caches: nobody may read them before [`Self::end_stream`].
    ///
    /// # Safety
    /// `to` points to 16 writable floats, a line of the cache.
    #[inline(always)]
    unsafe fn stream(self, to: *mut f32, x: Self::Float) {
        // SAFETY: the caller vouches for 16 floats.
        unsafe { self.store(to, x) }
    }

    /// Store fence: makes streamed writes visible before later ones.
    #[inline(always)]
    fn end_stream(self) {}

    fn add(self, a: Self::Float, b: Self::Float) -> Self::Float;
    fn sub(self, a: Self::Float, b: Self::Float) -> Self::Float;
    fn mul(self, a: Self::Float, b: Self::Float) -> Self::Float;
    fn div(self, a: Self::Float, b: Self::Float) -> Self::Float;
    fn max(self, a: Self::Float, b: Self::Float) -> Self::Float;
    fn min(self, a: Self::Float, b: Self::Float) -> Self::Float;
    /// `a * b + c`, rounded once.
    fn mul_add(self, a: Self::Float, b: Self::Float, c: Self::Float) -> Self::Float;
    fn abs(self, x: Self::Float) -> Self::Float;
    fn sqrt(self, x: Self::Float) -> Self::Float;
    /// Without the fraction.
    fn truncate(self, x: Self::Float) -> Self::Float;
    /// The nearest integer, ties to even, by the quantizers' trick: far outside 22 bits it wraps as that does.
    fn nearest(self, x: Self::Float) -> Self::Float;
    /// Where `a < b`.
    fn lt(self, a: Self::Float, b: Self::Float) -> Self::Mask;
    fn both(self, a: Self::Mask, b: Self::Mask) -> Self::Mask;
    fn select(self, mask: Self::Mask, yes: Self::Float, no: Self::Float) -> Self::Float;
    /// Lane `i` as bit `i`.
    fn mask_bits(self, mask: Self::Mask) -> u16;
    /// Lane `i` of vector `j` becomes lane `j` of vector `i`.
    fn transpose(self, rows: [Self::Float; LANES]) -> [Self::Float; LANES];
    /// Writes the lanes, whole numbers from -128 to 255, as bytes.
    fn put_bytes(self, x: Self::Float, bytes: &mut [u8; LANES]);
    /// The bits of the lanes as half-precision numbers, rounded to nearest, ties to even.
    fn to_halves(self, x: Self::Float) -> [u16; LANES];
    /// `yes` in the lanes where `a < b`, else `no`.
    fn select_lt(self, a: Self::Float, b: Self::Float, yes: Self::Float, no: Self::Float) -> Self::Float;
    /// The bits of `x` plus the bits of `n` shifted left by 23, as integers: `x * 2^n` where `n` carries a small
    /// integer in its low mantissa bits.
    fn add_exponent(self, x: Self::Float, n: Self::Float) -> Self::Float;
    /// The bits of `x` plus `bits`, as integers.
    #[inline(always)]
    fn add_bits(self, x: Self::Float, bits: Self::Int) -> Self::Float {
        let (mut lanes, mut more) = (self.to_array(x), [0; LANES]);
        // SAFETY: an array of 16 integers.
        unsafe { self.store_int(more.as_mut_ptr(), bits) };
        for (lane, more) in lanes.iter_mut().zip(more) {
            *lane = f32::from_bits(lane.to_bits().wrapping_add_signed(more));
        }
        self.array(&lanes)
    }
    /// The greatest lane.
    fn max_lane(self, x: Self::Float) -> f32;

    /// The bits of the lanes as integers.
    #[inline(always)]
    fn bits(self, x: Self::Float) -> Self::Int {
        let lanes = self.to_array(x);
        // SAFETY: the array holds 16 numbers of four bytes.
        unsafe { self.load_int(lanes.as_ptr().cast()) }
    }

    /// The lane of `table` whose index is in the low four bits of each lane of `at`.
    #[inline(always)]
    fn lanes_at(self, table: Self::Float, at: Self::Int) -> Self::Float {
        let (table, mut indices) = (self.to_array(table), [0; LANES]);
        // SAFETY: the array holds 16 integers.
        unsafe { self.store_int(indices.as_mut_ptr(), at) };
        self.array(&indices.map(|index| table[(index & 15) as usize]))
    }

    /// The first of the lanes with the least number; none may be NaN.
    #[inline(always)]
    fn first_least(self, x: Self::Float) -> usize {
        let lanes = self.to_array(x);
        (1..LANES).fold(0, |least, lane| if lanes[lane] < lanes[least] { lane } else { least })
    }

    /// Writes the lanes, rounded to the nearest integers (ties to even), which must fit, as bytes.
    #[inline(always)]
    fn round_to_bytes(self, x: Self::Float, bytes: &mut [i8; LANES]) {
        let rounded = self.to_array(self.add(x, self.splat(ROUND)));
        for (byte, lane) in bytes.iter_mut().zip(rounded) {
            // The low byte of the mantissa is the integer in two's complement.
            *byte = lane.to_bits() as i8;
        }
    }

    /// The sum of the lanes, by halves: lane `i` and lane `i + 8`, and so on.
    #[inline(always)]
    fn sum(self, x: Self::Float) -> f32 {
        tree_sum(&self.to_array(x))
    }

    /// [`Self::sum`] of each of sixteen vectors.
    #[inline(always)]
    fn sums(self, vectors: &[Self::Float; LANES]) -> Self::Float {
        let mut sums = [0.0; LANES];
        for (sum, vector) in sums.iter_mut().zip(vectors) {
            *sum = self.sum(*vector);
        }
        self.array(&sums)
    }

    /// `sum` plus the products of pairs of bf16 numbers, a pair a lane: first that of the odd ones (the high halves), then
    /// that of the even ones, each rounded once. That is what the CPU's own instruction does, except that it takes numbers
    /// below 2^-126 for zero; sums above 1e-27 have the same bits.
    #[inline(always)]
    fn dot_bf16(self, sum: Self::Float, a: Self::Int, b: Self::Int) -> Self::Float {
        let ([a_even, a_odd], [b_even, b_odd]) = (self.bf16_pairs(a), self.bf16_pairs(b));
        self.mul_add(a_even, b_even, self.mul_add(a_odd, b_odd, sum))
    }

    /// The even and the odd ones of 32 bf16 numbers.
    #[inline(always)]
    fn bf16_pairs(self, x: Self::Int) -> [Self::Float; 2] {
        let mut bits = [0_u32; LANES];
        // SAFETY: the array holds 16 integers.
        unsafe { self.store_int(bits.as_mut_ptr().cast(), x) };
        let (mut even, mut odd) = ([0.0; LANES], [0.0; LANES]);
        for i in 0..LANES {
            (even[i], odd[i]) = (f32::from_bits(bits[i] << 16), f32::from_bits(bits[i] & 0xffff_0000));
        }
        [self.array(&even), self.array(&odd)]
    }

    /// Adds to `sums` the products of `vectors` vectors of 32 bf16 numbers, from each of `w` and of `x` on.
    ///
    /// # Safety
    /// Every pointer must be to that many vectors.
    #[inline(always)]
    unsafe fn accumulate_bf16<const R: usize, const T: usize>(
        self,
        w: [*const u8; R],
        x: [*const u8; T],
        vectors: usize,
        sums: &mut Sums<R, T>,
    ) {
        // SAFETY: the same contract.
        unsafe { accumulate_bf16(self, w, x, vectors, sums) };
    }

    /// A half-precision number.
    #[inline(always)]
    fn half(self, bits: u16) -> f32 {
        f16::from_bits(bits).to_f32()
    }

    /// The nearest floats.
    fn int_to_float(self, x: Self::Int) -> Self::Float;

    /// Sixteen floats of any bits.
    #[inline(always)]
    fn float_bytes(self, bytes: &[u8; 4 * LANES]) -> Self::Float {
        // SAFETY: the array holds 64 bytes, and loads need no alignment.
        unsafe { self.load(bytes.as_ptr().cast()) }
    }

    /// Does `rounds` rounds of products of bytes, added up in registers, and returns how many: the most that there
    /// can be. What comes out means nothing.
    #[inline(always)]
    fn byte_products(self, rounds: usize) -> usize {
        let (codes, x) = (std::hint::black_box([3_u8; 64]), std::hint::black_box([5_i8; 64]));
        let mut sum = 0_i32;
        for _ in 0..rounds {
            let products = std::hint::black_box(codes).into_iter().zip(x);
            sum = sum.wrapping_add(products.map(|(code, x)| i32::from(code) * i32::from(x)).sum::<i32>());
        }
        std::hint::black_box(sum);
        64 * rounds
    }

    /// [`Self::max_lane`] of each of sixteen vectors.
    #[inline(always)]
    fn max_lanes(self, vectors: &[Self::Float; LANES]) -> Self::Float {
        let mut greatest = [0.0; LANES];
        for (greatest, vector) in greatest.iter_mut().zip(vectors) {
            *greatest = self.max_lane(*vector);
        }
        self.array(&greatest)
    }

    /// Asks for the cache line at `at`, which may be anywhere.
    #[inline(always)]
    fn prefetch<T>(self, _at: *const T) {}
    /// Likewise, for later: into the second-level cache.
    #[inline(always)]
    fn prefetch_far<T>(self, _at: *const T) {}
    /// Likewise for `len` bytes from `at` on.
    #[inline(always)]
    fn fetch(self, at: *const u8, len: usize) {
        for line in (0..len).step_by(64) {
            self.prefetch_far(at.wrapping_add(line));
        }
    }

    /// Sum of `rows` x `vectors` dot products, see [`multiply`].
    ///
    /// # Safety
    /// As [`multiply`].
    unsafe fn multiply<A: Rows, C: Columns<Self>, const ROWS: usize, const VECTORS: usize>(
        self,
        product: Product<A>,
        columns: C,
        depth: Range<usize>,
    );
}

/// The left-hand matrix of [`multiply`]: `[rows, depth]` in whatever layout.
pub(crate) trait Rows: Copy {
    /// An element.
    ///
    /// # Safety
    /// It must lie inside the matrix.
    unsafe fn get(self, row: usize, depth: usize) -> f32;
}

/// The right-hand matrix of [`multiply`]: `[depth, vectors * 16]` in whatever layout and type.
pub(crate) trait Columns<L: Lanes>: Copy {
    /// The sixteen columns of vector `vector` at `depth`.
    ///
    /// # Safety
    /// Both must lie inside the matrix.
    unsafe fn load(self, lanes: L, depth: usize, vector: usize) -> L::Float;
}

/// The left-hand matrix and the result of [`multiply`].
#[derive(Clone, Copy)]
pub(crate) struct Product<A> {
    pub left: A,
    /// Row-major.
    pub out: *mut f32,
    pub out_stride: usize,
    /// Start from what `out` holds times a factor for each row, not from zero.
    pub keep: Option<*const f32>,
}

/// `out[row][column] (+)= sum over depth of left[row][depth] * columns[depth][column]`, each sum one chain of
/// fused multiply-adds in order of depth.
///
/// # Safety
/// `left` must hold `ROWS` and `depth`, `columns` `depth` and `VECTORS`; `out` must be writable in `ROWS` rows of
/// `VECTORS * 16` columns, and `keep` readable for as many rows.
#[inline(always)]
pub(crate) unsafe fn multiply<L: Lanes, A: Rows, C: Columns<L>, const ROWS: usize, const VECTORS: usize>(
    lanes: L,
    product: Product<A>,
    columns: C,
    depth: Range<usize>,
) {
    let Product { left, out, out_stride, keep } = product;
    let mut sums = [[lanes.splat(0.0); VECTORS]; ROWS];
    // SAFETY: all offsets lie in the ranges that the caller vouches for.
    unsafe {
        if let Some(keep) = keep {
            for (row, sums) in sums.iter_mut().enumerate() {
                let factor = lanes.splat(*keep.add(row));
                for (vector, sum) in sums.iter_mut().enumerate() {
                    *sum = lanes.mul(lanes.load(out.add(row * out_stride + vector * LANES)), factor);
                }
            }
        }
        for k in depth {
            let mut right = [lanes.splat(0.0); VECTORS];
            for (vector, right) in right.iter_mut().enumerate() {
                *right = columns.load(lanes, k, vector);
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let x = lanes.splat(left.get(row, k));
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = lanes.mul_add(x, right, *sum);
                }
            }
        }
        for (row, sums) in sums.into_iter().enumerate() {
            for (vector, sum) in sums.into_iter().enumerate() {
                lanes.store(out.add(row * out_stride + vector * LANES), sum);
            }
        }
    }
}

/// The sum of sixteen lanes, by halves.
#[must_use]
pub(crate) fn tree_sum(lanes: &[f32; LANES]) -> f32 {
    let mut sums = *lanes;
    let mut n = LANES / 2;
    while n > 0 {
        for i in 0..n {
            sums[i] += sums[i + n];
        }
        n /= 2;
    }
    sums[0]
}

/// Coefficients of the minimax polynomial `(2^f - 1) / f` on [-1/2, 1/2], highest power first; with it `exp2` is
/// within 1.7e-7 of the truth, and exact at whole numbers.
#[allow(clippy::approx_constant, reason = "the last coefficient only happens to be near ln 2")]
const EXP2: [f32; 5] = [0.001_326_472_7, 0.009_671_513, 0.055_507_336, 0.240_222_42, 0.693_147];
/// Added to and taken from a small float, rounds it to the nearest integer (ties to even) and leaves that integer in
/// the low bits.
pub(crate) const ROUND: f32 = 12_582_912.0;
/// Results of `exp2` below 2^-126 become zero.
const LOWEST_EXPONENT: f32 = -126.0;

/// `x` split into the float that carries the nearest integer `n` in its low bits, and `(2^f - 1)` as the factors
/// `(f, q)` for `f = x - n`.
#[inline(always)]
fn exp2_parts<L: Lanes>(l: L, x: L::Float) -> (L::Float, L::Float, L::Float) {
    let round = l.splat(ROUND);
    let n = l.add(x, round);
    let f = l.sub(x, l.sub(n, round));
    let mut q = l.splat(EXP2[0]);
    for &coefficient in &EXP2[1..] {
        q = l.mul_add(q, f, l.splat(coefficient));
    }
    (n, f, q)
}

/// `2^x` for `x` up to 126; zero below -126, minus infinity included.
#[inline(always)]
pub(crate) fn exp2<L: Lanes>(l: L, x: L::Float) -> L::Float {
    let (n, f, q) = exp2_parts(l, x);
    let power = l.add_exponent(l.mul_add(q, f, l.splat(1.0)), n);
    l.select_lt(x, l.splat(LOWEST_EXPONENT), l.splat(0.0), power)
}

/// `tanh(x * ln(2) / 2)`, which is `(2^x - 1) / (2^x + 1)`.
#[inline(always)]
pub(crate) fn tanh_half_ln2<L: Lanes>(l: L, x: L::Float) -> L::Float {
    let x = l.max(l.splat(LOWEST_EXPONENT), l.min(l.splat(-LOWEST_EXPONENT), x));
    let (n, f, q) = exp2_parts(l, x);
    let power = l.add_exponent(l.splat(1.0), n);
    let less_one = l.mul_add(power, l.mul(q, f), l.sub(power, l.splat(1.0)));
    l.div(less_one, l.add(less_one, l.splat(2.0)))
}

#[cfg(test)]
mod tests {
    use super::super::LANES;
    use super::super::isa::Isa;
    use super::super::scalar::Scalar;
    use super::{Kernel, Lanes, exp2, tanh_half_ln2};

    /// [`Lanes::lanes_at`] of a table at indices, and [`Lanes::first_least`] of the table.
    struct Lookups([f32; LANES], [u32; LANES]);

    impl Kernel for Lookups {
        type Output = ([f32; LANES], usize);

        #[inline(always)]
        fn run<L: Lanes>(self, l: L) -> Self::Output {
            let table = l.array(&self.0);
            let found = l.lanes_at(table, l.bits(l.array(&self.1.map(f32::from_bits))));
            (l.to_array(found), l.first_least(table))
        }
    }

    #[test]
    fn lanes_are_found_by_the_low_bits_of_indices() {
        let indices: [u32; LANES] = std::array::from_fn(|i| (i as u32).wrapping_mul(0x9e37_79b9) ^ (0x40 * i as u32));
        for least in 0..LANES {
            let mut table: [f32; LANES] = std::array::from_fn(|i| (i as f32 - 5.5).powi(2) + 1.0);
            table[least] = -1.0;
            table[LANES - 1 - least / 2] = -1.0;
            let expected = indices.map(|index| table[index as usize % LANES]);
            for isa in Isa::ALL.iter().filter(|isa| isa.available()) {
                let (found, first) = isa.run(Lookups(table, indices));
                assert_eq!(found, expected, "{isa}");
                assert_eq!(first, least.min(LANES - 1 - least / 2), "{isa}");
            }
        }
    }

    #[test]
    fn exp2_is_close_and_exact_at_whole_numbers() {
        for step in 0..25_200_u16 {
            let x = f32::from(step) * 0.01 - 126.0;
            let y = exp2(Scalar, Scalar.splat(x))[0];
            let truth = f64::from(x).exp2();
            assert!((f64::from(y) - truth).abs() <= 1.8e-7 * truth, "2^{x}: {y} against {truth}");
        }
        for x in -126..=126_i16 {
            assert_eq!(exp2(Scalar, Scalar.splat(f32::from(x)))[0], f32::from(x).exp2());
        }
        assert_eq!(exp2(Scalar, Scalar.splat(f32::NEG_INFINITY))[0], 0.0);
        assert_eq!(exp2(Scalar, Scalar.splat(-126.5))[0], 0.0);
    }

    #[test]
    fn tanh_is_close_near_zero_and_far_away() {
        for x in [1e-6_f32, -1e-3, 0.1, -0.5, 0.7, 3.0, -20.0, 1000.0] {
            let y = tanh_half_ln2(Scalar, Scalar.splat(x))[0];
            let truth = (f64::from(x) * std::f64::consts::LN_2 / 2.0).tanh();
            assert!((f64::from(y) - truth).abs() <= 1e-6 * truth.abs(), "{x}: {y} against {truth}");
        }
    }
}
