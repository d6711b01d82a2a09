//! Sixteen lanes in two AVX2 registers.

#![allow(unsafe_code, reason = "vector intrinsics")]

use std::arch::x86_64::*;
use std::ops::Range;

use crate::simd::LANES;
use crate::simd::integers::{Integers, Spread, dot_vectors};
use crate::simd::lanes::{Columns, Kernel, Lanes, Product, ROUND, Rows, multiply, transpose_words};

/// Proof that the CPU has AVX2, FMA, F16C and POPCNT; also AVX-VNNI if so marked.
#[derive(Clone, Copy)]
pub(crate) struct Avx2<const VNNI: bool>(());

impl<const VNNI: bool> Avx2<VNNI> {
    /// The proof, on a CPU that has them.
    pub(crate) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && is_x86_feature_detected!("popcnt")
            && (!VNNI || is_x86_feature_detected!("avxvnni"));
        found.then_some(Self(()))
    }

    /// `sum + a * b`, products of neighbouring words added in pairs.
    #[inline(always)]
    fn add_word_pairs(self, sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            if VNNI { _mm256_dpwssd_avx_epi32(sum, a, b) } else { _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)) }
        }
    }

    /// [`Integers::dot_vectors`] for codes of at most seven bits. As many products as fit are added up in words of 16 bits.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn dot_small<const VECTORS: usize, const N: usize>(
        self,
        greatest: usize,
        sums: &mut [IntPair; N],
        codes: *const __m256i,
        x: *const i32,
        stride: usize,
    ) {
        // A vector adds two products to each word.
        let run = i16::MAX as usize / (2 * 127 * greatest);
        // SAFETY: the caller vouches for so many vectors and rows; a value of this type proves the instruction set.
        unsafe {
            let (zero, ones) = (_mm256_setzero_si256(), _mm256_set1_epi16(1));
            let mut words = [IntPair(zero, zero); N];
            for k in 0..VECTORS {
                let (low, high) = (_mm256_loadu_si256(codes.add(2 * k)), _mm256_loadu_si256(codes.add(2 * k + 1)));
                for t in 0..N {
                    let x = _mm256_set1_epi32(*x.add(k * stride + t));
                    words[t].0 = _mm256_add_epi16(words[t].0, _mm256_maddubs_epi16(low, x));
                    words[t].1 = _mm256_add_epi16(words[t].1, _mm256_maddubs_epi16(high, x));
                }
                if (k + 1) % run == 0 || k + 1 == VECTORS {
                    for t in 0..N {
                        sums[t].0 = _mm256_add_epi32(sums[t].0, _mm256_madd_epi16(words[t].0, ones));
                        sums[t].1 = _mm256_add_epi32(sums[t].1, _mm256_madd_epi16(words[t].1, ones));
                        words[t] = IntPair(zero, zero);
                    }
                }
            }
        }
    }

    /// [`Integers::dot_vectors`] for codes of eight bits less 128: products of their magnitudes with `x`, which takes over the
    /// signs. Two of these fit 16 bits.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn dot_centered<const VECTORS: usize, const N: usize>(
        self,
        sums: &mut [IntPair; N],
        codes: *const __m256i,
        x: *const i32,
        stride: usize,
    ) {
        // SAFETY: the caller vouches for so many vectors and rows; a value of this type proves the instruction set.
        unsafe {
            let (ones, center) = (_mm256_set1_epi16(1), _mm256_set1_epi8(-128));
            for k in 0..VECTORS {
                let low = _mm256_xor_si256(_mm256_loadu_si256(codes.add(2 * k)), center);
                let high = _mm256_xor_si256(_mm256_loadu_si256(codes.add(2 * k + 1)), center);
                let magnitudes = (_mm256_abs_epi8(low), _mm256_abs_epi8(high));
                for t in 0..N {
                    let x = _mm256_set1_epi32(*x.add(k * stride + t));
                    let (x_low, x_high) = (_mm256_sign_epi8(x, low), _mm256_sign_epi8(x, high));
                    let words = (_mm256_maddubs_epi16(magnitudes.0, x_low), _mm256_maddubs_epi16(magnitudes.1, x_high));
                    sums[t].0 = _mm256_add_epi32(sums[t].0, _mm256_madd_epi16(words.0, ones));
                    sums[t].1 = _mm256_add_epi32(sums[t].1, _mm256_madd_epi16(words.1, ones));
                }
            }
        }
    }
}

/// Sixteen floats: the low eight, the high eight.
#[derive(Clone, Copy)]
pub(crate) struct Pair(__m256, __m256);

/// Sixteen integers, likewise.
#[derive(Clone, Copy)]
pub(crate) struct IntPair(__m256i, __m256i);

/// Methods that do the same to both halves.
macro_rules! intrinsics {
    ($($name:ident($($argument:ident),+) -> $pair:ident = $call:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($argument: $pair),+) -> $pair {
            // SAFETY: a value of this type proves the instruction set.
            unsafe {
                $pair(
                    { $(let $argument = $argument.0;)+ $call },
                    { $(let $argument = $argument.1;)+ $call },
                )
            }
        }
    )*};
}

/// Runs `kernel` compiled for AVX2 without VNNI.
pub(crate) fn run<K: Kernel>(lanes: Avx2<false>, kernel: K) -> K::Output {
    // SAFETY: the proof is for the features that are enabled.
    unsafe { enabled(lanes, kernel) }
}

#[target_feature(enable = "avx2,fma,f16c,popcnt")]
fn enabled<K: Kernel>(lanes: Avx2<false>, kernel: K) -> K::Output {
    kernel.run(lanes)
}

/// Runs `kernel` compiled for AVX2 with VNNI.
pub(crate) fn run_vnni<K: Kernel>(lanes: Avx2<true>, kernel: K) -> K::Output {
    // SAFETY: the proof is for the features that are enabled.
    unsafe { enabled_vnni(lanes, kernel) }
}

#[target_feature(enable = "avx2,fma,f16c,popcnt,avxvnni")]
fn enabled_vnni<K: Kernel>(lanes: Avx2<true>, kernel: K) -> K::Output {
    kernel.run(lanes)
}

/// The sum of eight lanes, by halves.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn sum(eight: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// A half-precision number.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn half(bits: u16) -> f32 {
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits))))
}

/// The sums of the integers of eight vectors.
#[inline]
#[target_feature(enable = "avx2")]
fn sum_each(v: &[__m256i]) -> __m256i {
    let ab = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    let cd = _mm256_hadd_epi32(_mm256_hadd_epi32(v[4], v[5]), _mm256_hadd_epi32(v[6], v[7]));
    _mm256_add_epi32(_mm256_permute2x128_si256::<0x20>(ab, cd), _mm256_permute2x128_si256::<0x31>(ab, cd))
}

/// Four bytes from each of four places.
///
/// # Safety
/// Each must have as many readable bytes.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn four_words(places: &[*const u8]) -> __m128i {
    let mut words = [_mm_setzero_si128(); 4];
    for (word, place) in words.iter_mut().zip(places) {
        // SAFETY: the caller vouches for it.
        *word = unsafe { _mm_loadu_si32(*place) };
    }
    let [a, b, c, d] = words;
    _mm_unpacklo_epi64(_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d))
}

/// Sixteen bytes from each of eight places: the first four of each, and so on.
///
/// # Safety
/// Each must have as many readable bytes.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn words_of_eight(places: &[*const u8]) -> [__m256i; 4] {
    // Places i and i + 4 in the halves.
    let mut rows = [_mm256_setzero_si256(); 4];
    for (i, row) in rows.iter_mut().enumerate() {
        // SAFETY: the caller vouches for it.
        *row = unsafe { _mm256_set_m128i(_mm_loadu_si128(places[i + 4].cast()), _mm_loadu_si128(places[i].cast())) };
    }
    let [a, b, c, d] = rows;
    let (ab, cd) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
    let (ab_high, cd_high) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
    [
        _mm256_unpacklo_epi64(ab, cd),
        _mm256_unpackhi_epi64(ab, cd),
        _mm256_unpacklo_epi64(ab_high, cd_high),
        _mm256_unpackhi_epi64(ab_high, cd_high),
    ]
}

/// The low quarters of four vectors, and the high ones.
#[inline]
#[target_feature(enable = "avx2")]
fn quarters(v: &[__m256i; 4]) -> [IntPair; 2] {
    let low = |a, b| _mm256_permute2x128_si256::<0x20>(a, b);
    let high = |a, b| _mm256_permute2x128_si256::<0x31>(a, b);
    [IntPair(low(v[0], v[1]), low(v[2], v[3])), IntPair(high(v[0], v[1]), high(v[2], v[3]))]
}

/// The lanes of `table` at eight indices of four bits.
#[inline]
#[target_feature(enable = "avx2")]
fn lanes_at(table: Pair, at: __m256i) -> __m256 {
    let (low, high) = (_mm256_permutevar8x32_ps(table.0, at), _mm256_permutevar8x32_ps(table.1, at));
    _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32::<28>(at)))
}

/// Columns of eight rows.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose(rows: [__m256; 8]) -> [__m256; 8] {
    let mut fours = rows;
    for i in 0..2 {
        let [a, b, c, d] = [rows[4 * i], rows[4 * i + 1], rows[4 * i + 2], rows[4 * i + 3]];
        let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
        fours[4 * i] = _mm256_shuffle_ps::<0x44>(ab, cd);
        fours[4 * i + 1] = _mm256_shuffle_ps::<0xee>(ab, cd);
        let (ab, cd) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
        fours[4 * i + 2] = _mm256_shuffle_ps::<0x44>(ab, cd);
        fours[4 * i + 3] = _mm256_shuffle_ps::<0xee>(ab, cd);
    }
    let mut columns = rows;
    for j in 0..4 {
        columns[j] = _mm256_permute2f128_ps::<0x20>(fours[j], fours[4 + j]);
        columns[4 + j] = _mm256_permute2f128_ps::<0x31>(fours[j], fours[4 + j]);
    }
    columns
}

impl<const VNNI: bool> Lanes for Avx2<VNNI> {
    type Float = Pair;
    type Mask = Pair;
    const WIDE: bool = false;

    intrinsics! {
        add(a, b) -> Pair = _mm256_add_ps(a, b);
        sub(a, b) -> Pair = _mm256_sub_ps(a, b);
        mul(a, b) -> Pair = _mm256_mul_ps(a, b);
        div(a, b) -> Pair = _mm256_div_ps(a, b);
        max(a, b) -> Pair = _mm256_max_ps(a, b);
        min(a, b) -> Pair = _mm256_min_ps(a, b);
        mul_add(a, b, c) -> Pair = _mm256_fmadd_ps(a, b, c);
        abs(x) -> Pair = _mm256_andnot_ps(_mm256_set1_ps(-0.0), x);
        sqrt(x) -> Pair = _mm256_sqrt_ps(x);
        truncate(x) -> Pair = _mm256_round_ps::<{ _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC }>(x);
        nearest(x) -> Pair = _mm256_cvtepi32_ps(_mm256_sub_epi32(
            _mm256_and_si256(
                _mm256_castps_si256(_mm256_add_ps(x, _mm256_set1_ps(ROUND))),
                _mm256_set1_epi32(0x007f_ffff),
            ),
            _mm256_set1_epi32(0x0040_0000),
        ));
        lt(a, b) -> Pair = _mm256_cmp_ps::<_CMP_LT_OQ>(a, b);
        both(a, b) -> Pair = _mm256_and_ps(a, b);
        select(mask, yes, no) -> Pair = _mm256_blendv_ps(no, yes, mask);
        select_lt(a, b, yes, no) -> Pair = _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b));
        add_exponent(x, n) -> Pair = _mm256_castsi256_ps(_mm256_add_epi32(
            _mm256_castps_si256(x),
            _mm256_slli_epi32::<23>(_mm256_castps_si256(n)),
        ));
    }

    #[inline(always)]
    fn mask_bits(self, mask: Pair) -> u16 {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { (_mm256_movemask_ps(mask.0) | _mm256_movemask_ps(mask.1) << 8) as u16 }
    }

    #[inline(always)]
    fn transpose(self, rows: [Pair; LANES]) -> [Pair; LANES] {
        let mut columns = rows;
        for half in [0, 8] {
            let (mut left, mut right) = ([rows[0].0; 8], [rows[0].0; 8]);
            for i in 0..8 {
                (left[i], right[i]) = (rows[half + i].0, rows[half + i].1);
            }
            // SAFETY: a value of this type proves the instruction set.
            unsafe { (left, right) = (transpose(left), transpose(right)) };
            for i in 0..8 {
                if half == 0 {
                    (columns[i].0, columns[8 + i].0) = (left[i], right[i]);
                } else {
                    (columns[i].1, columns[8 + i].1) = (left[i], right[i]);
                }
            }
        }
        columns
    }

    #[inline(always)]
    fn put_bytes(self, x: Pair, bytes: &mut [u8; LANES]) {
        // SAFETY: a value of this type proves the instruction set; the array holds 16 bytes.
        unsafe {
            let low = _mm256_set1_epi32(255);
            let (a, b) = (_mm256_cvtps_epi32(x.0), _mm256_cvtps_epi32(x.1));
            let words = _mm256_packus_epi32(_mm256_and_si256(a, low), _mm256_and_si256(b, low));
            let words = _mm256_permute4x64_epi64::<0xd8>(words);
            let (a, b) = (_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(bytes.as_mut_ptr().cast(), _mm_packus_epi16(a, b));
        }
    }

    #[inline(always)]
    fn to_halves(self, x: Pair) -> [u16; LANES] {
        const ROUNDING: i32 = _MM_FROUND_TO_NEAREST_INT;
        let mut halves = [0; LANES];
        // SAFETY: a value of this type proves the instruction set; the array holds 16 numbers of two bytes.
        unsafe {
            let to: *mut u16 = halves.as_mut_ptr();
            _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<ROUNDING>(x.0));
            _mm_storeu_si128(to.add(8).cast(), _mm256_cvtps_ph::<ROUNDING>(x.1));
        }
        halves
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Pair {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { Pair(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
    }

    #[inline(always)]
    fn halves_at<const SHIFT: u32>(self, x: IntPair) -> Pair {
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            let shift = _mm_cvtsi32_si128(SHIFT.cast_signed());
            let (low, high) = (_mm256_srl_epi32(x.0, shift), _mm256_srl_epi32(x.1, shift));
            let mask = _mm256_set1_epi32(0xffff);
            // From eights of the halves of both.
            let words = _mm256_packus_epi32(_mm256_and_si256(low, mask), _mm256_and_si256(high, mask));
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
            Pair(_mm256_cvtph_ps(_mm256_castsi256_si128(words)), _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(words)))
        }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Pair {
        // SAFETY: the caller vouches for 16 floats.
        unsafe { Pair(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
    }

    #[inline(always)]
    unsafe fn load_half(self, from: *const u16) -> Pair {
        // SAFETY: the caller vouches for 16 numbers of two bytes.
        unsafe {
            Pair(_mm256_cvtph_ps(_mm_loadu_si128(from.cast())), _mm256_cvtph_ps(_mm_loadu_si128(from.add(8).cast())))
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, x: Pair) {
        // SAFETY: the caller vouches for 16 floats.
        unsafe {
            _mm256_storeu_ps(to, x.0);
            _mm256_storeu_ps(to.add(8), x.1);
        }
    }

    #[inline(always)]
    unsafe fn stream(self, to: *mut f32, x: Pair) {
        // SAFETY: the caller vouches for 16 floats at a multiple of 64 bytes.
        unsafe {
            _mm256_stream_ps(to, x.0);
            _mm256_stream_ps(to.add(8), x.1);
        }
    }

    #[inline(always)]
    fn end_stream(self) {
        // SAFETY: every CPU of this kind has it.
        unsafe { _mm_sfence() }
    }

    #[inline(always)]
    fn bytes(self, bytes: &[i8; LANES]) -> Pair {
        // SAFETY: a value of this type proves the instruction set; the array holds 16 bytes.
        unsafe {
            let bytes = _mm_loadu_si128(bytes.as_ptr().cast());
            Pair(
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(bytes, bytes))),
            )
        }
    }

    #[inline(always)]
    fn prefetch<T>(self, at: *const T) {
        // SAFETY: a prefetch of any address is harmless.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    #[inline(always)]
    fn prefetch_far<T>(self, at: *const T) {
        // SAFETY: a prefetch of any address is harmless.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
    }

    #[inline(always)]
    fn bits(self, x: Pair) -> IntPair {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { IntPair(_mm256_castps_si256(x.0), _mm256_castps_si256(x.1)) }
    }

    #[inline(always)]
    fn lanes_at(self, table: Pair, at: IntPair) -> Pair {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { Pair(lanes_at(table, at.0), lanes_at(table, at.1)) }
    }

    #[inline(always)]
    fn first_least(self, x: Pair) -> usize {
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            let eight = _mm256_min_ps(x.0, x.1);
            let mut least = _mm256_min_ps(eight, _mm256_permute2f128_ps::<1>(eight, eight));
            least = _mm256_min_ps(least, _mm256_permute_ps::<0x4e>(least));
            least = _mm256_min_ps(least, _mm256_permute_ps::<0xb1>(least));
            let low = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_EQ_OQ>(x.0, least));
            let high = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_EQ_OQ>(x.1, least));
            (low | high << 8).trailing_zeros() as usize & 15
        }
    }

    #[inline(always)]
    fn max_lane(self, x: Pair) -> f32 {
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            let eight = _mm256_max_ps(x.0, x.1);
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    fn sum(self, x: Pair) -> f32 {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { sum(_mm256_add_ps(x.0, x.1)) }
    }

    #[inline(always)]
    fn bf16_pairs(self, x: IntPair) -> [Pair; 2] {
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            let high = _mm256_set1_epi32(0xffff_0000_u32.cast_signed());
            [
                Pair(
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(x.0)),
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(x.1)),
                ),
                Pair(
                    _mm256_castsi256_ps(_mm256_and_si256(x.0, high)),
                    _mm256_castsi256_ps(_mm256_and_si256(x.1, high)),
                ),
            ]
        }
    }

    #[inline(always)]
    fn half(self, bits: u16) -> f32 {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { half(bits) }
    }

    #[inline(always)]
    fn int_to_float(self, x: IntPair) -> Pair {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { Pair(_mm256_cvtepi32_ps(x.0), _mm256_cvtepi32_ps(x.1)) }
    }

    #[inline(always)]
    fn byte_products(self, rounds: usize) -> usize {
        const CHAINS: usize = 12;
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            let x = std::hint::black_box(_mm256_set1_epi8(1));
            let mut sums = [x; CHAINS];
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = if VNNI {
                        _mm256_dpbusd_avx_epi32(*sum, x, x)
                    } else {
                        let pairs = _mm256_maddubs_epi16(*sum, x);
                        _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, x))
                    };
                }
            }
            std::hint::black_box(sums);
        }
        32 * CHAINS * rounds
    }

    #[inline(always)]
    unsafe fn multiply<A: Rows, C: Columns<Self>, const ROWS: usize, const VECTORS: usize>(
        self,
        product: Product<A>,
        columns: C,
        depth: Range<usize>,
    ) {
        // SAFETY: the same contract, and a value of this type proves the instruction set.
        unsafe { multiply_tile::<VNNI, A, C, ROWS, VECTORS>(self, product, columns, depth) }
    }
}

/// Each of two scales, both from the same eight, in the words of a half.
#[inline]
#[target_feature(enable = "avx2")]
fn spread_scales(scales: &[i16; 16], which: [u16; 2]) -> __m256i {
    let eight = &scales[usize::from(which[0] & 8)..][..8];
    // SAFETY: the slice has 16 bytes.
    let eight = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(eight.as_ptr().cast()) });
    // The two bytes of a scale, in each word of a half.
    let word = |which: u16| _mm_set1_epi16(((which & 7) * 0x0202 + 0x0100).cast_signed());
    _mm256_shuffle_epi8(eight, _mm256_set_m128i(word(which[1]), word(which[0])))
}

impl<const VNNI: bool> Integers for Avx2<VNNI> {
    type Int = IntPair;
    const ADDS_PAIRS: bool = VNNI;
    const CENTERS_BYTES: bool = !VNNI;

    intrinsics! {
        add_int(a, b) -> IntPair = _mm256_add_epi32(a, b);
        mul_int(a, b) -> IntPair = _mm256_mullo_epi32(a, b);
        or_int(a, b) -> IntPair = _mm256_or_si256(a, b);
        and_int(a, b) -> IntPair = _mm256_and_si256(a, b);
    }

    #[inline(always)]
    fn dot_pairs(self, sum: IntPair, a: IntPair, b: IntPair) -> IntPair {
        IntPair(self.add_word_pairs(sum.0, a.0, b.0), self.add_word_pairs(sum.1, a.1, b.1))
    }

    #[inline(always)]
    fn splat_int(self, x: i32) -> IntPair {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { IntPair(_mm256_set1_epi32(x), _mm256_set1_epi32(x)) }
    }

    #[inline(always)]
    unsafe fn load_int(self, from: *const i32) -> IntPair {
        // SAFETY: the caller vouches for 64 bytes.
        unsafe { IntPair(_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(8).cast())) }
    }

    #[inline(always)]
    unsafe fn store_int(self, to: *mut i32, x: IntPair) {
        // SAFETY: the caller vouches for 64 bytes.
        unsafe {
            _mm256_storeu_si256(to.cast(), x.0);
            _mm256_storeu_si256(to.add(8).cast(), x.1);
        }
    }

    #[inline(always)]
    unsafe fn join(self, low: *const u8, high: *const u8) -> IntPair {
        // SAFETY: the caller vouches for 32 bytes each.
        unsafe { IntPair(_mm256_loadu_si256(low.cast()), _mm256_loadu_si256(high.cast())) }
    }

    #[inline(always)]
    unsafe fn words_at(self, places: &[*const u8; LANES]) -> IntPair {
        // SAFETY: the caller vouches for four bytes at each place; a value of this type proves the instruction set.
        unsafe {
            let mut fours = [_mm_setzero_si128(); 4];
            for (i, four) in fours.iter_mut().enumerate() {
                *four = four_words(&places[4 * i..]);
            }
            IntPair(_mm256_set_m128i(fours[1], fours[0]), _mm256_set_m128i(fours[3], fours[2]))
        }
    }

    #[inline(always)]
    unsafe fn four_words_at(self, places: &[*const u8; LANES]) -> [IntPair; 4] {
        // SAFETY: the caller vouches for 16 bytes at each place; a value of this type proves the instruction set.
        unsafe {
            let (low, high) = (words_of_eight(&places[..8]), words_of_eight(&places[8..]));
            let mut words = [self.splat_int(0); 4];
            for i in 0..4 {
                words[i] = IntPair(low[i], high[i]);
            }
            words
        }
    }

    #[inline(always)]
    fn zip_lanes(self, a: IntPair, b: IntPair) -> [[i32; 2]; LANES] {
        let mut pairs = [[0; 2]; LANES];
        // SAFETY: a value of this type proves the instruction set; the array holds 32 integers.
        unsafe {
            for (to, (a, b)) in pairs.chunks_exact_mut(8).zip([(a.0, b.0), (a.1, b.1)]) {
                let (low, high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
                let to: *mut [i32; 2] = to.as_mut_ptr();
                _mm256_storeu_si256(to.cast(), _mm256_permute2x128_si256::<0x20>(low, high));
                _mm256_storeu_si256(to.add(4).cast(), _mm256_permute2x128_si256::<0x31>(low, high));
            }
        }
        pairs
    }

    #[inline(always)]
    unsafe fn join_four(self, places: [*const u8; 4]) -> IntPair {
        // SAFETY: the caller vouches for 16 bytes each.
        unsafe {
            let two = |low: *const u8, high: *const u8| {
                _mm256_set_m128i(_mm_loadu_si128(high.cast()), _mm_loadu_si128(low.cast()))
            };
            IntPair(two(places[0], places[1]), two(places[2], places[3]))
        }
    }

    #[inline(always)]
    unsafe fn nibbles(self, low: *const u8, high: *const u8) -> IntPair {
        // SAFETY: the caller vouches for 16 bytes each.
        unsafe {
            let counts = _mm256_setr_epi64x(0, 0, 4, 4);
            let half = |from: *const u8| {
                let both = _mm256_broadcastsi128_si256(_mm_loadu_si128(from.cast()));
                _mm256_and_si256(_mm256_srlv_epi64(both, counts), _mm256_set1_epi8(15))
            };
            IntPair(half(low), half(high))
        }
    }

    #[inline(always)]
    unsafe fn nibbles_of_eights(self, from: *const u8) -> IntPair {
        // SAFETY: the caller vouches for 32 bytes; a value of this type proves the instruction set.
        unsafe { IntPair(nibbles_of_two_eights(from), nibbles_of_two_eights(from.add(16))) }
    }

    #[inline(always)]
    unsafe fn lanes_of_bytes(self, from: *const u8) -> IntPair {
        // SAFETY: the caller vouches for 16 bytes; a value of this type proves the instruction set.
        unsafe { IntPair(lanes_of_eight_bytes(from), lanes_of_eight_bytes(from.add(8))) }
    }

    #[inline(always)]
    fn low_words(self, a: IntPair, b: IntPair) -> IntPair {
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            let high = [_mm256_slli_epi32::<16>(b.0), _mm256_slli_epi32::<16>(b.1)];
            IntPair(_mm256_blend_epi16::<0xaa>(a.0, high[0]), _mm256_blend_epi16::<0xaa>(a.1, high[1]))
        }
    }

    #[inline(always)]
    fn and_bytes(self, x: IntPair, mask: u8) -> IntPair {
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            let mask = _mm256_set1_epi8(mask.cast_signed());
            IntPair(_mm256_and_si256(x.0, mask), _mm256_and_si256(x.1, mask))
        }
    }

    #[inline(always)]
    fn xor_bytes(self, x: IntPair, mask: u8) -> IntPair {
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            let mask = _mm256_set1_epi8(mask.cast_signed());
            IntPair(_mm256_xor_si256(x.0, mask), _mm256_xor_si256(x.1, mask))
        }
    }

    #[inline(always)]
    fn shl_int<const N: u32>(self, x: IntPair) -> IntPair {
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            let count = _mm_cvtsi32_si128(N.cast_signed());
            IntPair(_mm256_sll_epi32(x.0, count), _mm256_sll_epi32(x.1, count))
        }
    }

    #[inline(always)]
    fn shl_halves<const LOW: u32, const HIGH: u32>(self, x: IntPair) -> IntPair {
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            let (low, high) = (_mm_cvtsi32_si128(LOW.cast_signed()), _mm_cvtsi32_si128(HIGH.cast_signed()));
            IntPair(_mm256_sll_epi32(x.0, low), _mm256_sll_epi32(x.1, high))
        }
    }

    #[inline(always)]
    fn shr_halves<const LOW: u32, const HIGH: u32>(self, x: IntPair) -> IntPair {
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            let (low, high) = (_mm_cvtsi32_si128(LOW.cast_signed()), _mm_cvtsi32_si128(HIGH.cast_signed()));
            IntPair(_mm256_srl_epi32(x.0, low), _mm256_srl_epi32(x.1, high))
        }
    }

    #[inline(always)]
    fn bytes_of_bits(self, bits: [u32; 2], value: u8) -> IntPair {
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            // Each byte of the bits eight times, and of each byte one bit.
            let (zeros, ones) = (0, 0x0101_0101_0101_0101);
            let bytes = _mm256_setr_epi64x(zeros, ones, 2 * ones, 3 * ones);
            let own = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64.cast_signed());
            let half = |bits: u32| {
                let spread = _mm256_shuffle_epi8(_mm256_set1_epi32(bits.cast_signed()), bytes);
                let set = _mm256_cmpeq_epi8(_mm256_and_si256(spread, own), own);
                _mm256_and_si256(set, _mm256_set1_epi8(value.cast_signed()))
            };
            IntPair(half(bits[0]), half(bits[1]))
        }
    }

    #[inline(always)]
    fn lookup(self, table: &[u8; 16], codes: IntPair) -> IntPair {
        // SAFETY: a value of this type proves the instruction set; the table has 16 bytes.
        unsafe {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            IntPair(_mm256_shuffle_epi8(table, codes.0), _mm256_shuffle_epi8(table, codes.1))
        }
    }

    #[inline(always)]
    fn widen(self, bytes: [u64; 2]) -> [i16; 16] {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { widen(bytes) }
    }

    #[inline(always)]
    fn dot_bytes<const EIGHT_BITS: bool>(self, sum: IntPair, codes: IntPair, x: IntPair) -> IntPair {
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            // Two products of seven bits, or of the eighth, fit into words.
            let words = |codes, x| _mm256_madd_epi16(_mm256_maddubs_epi16(codes, x), _mm256_set1_epi16(1));
            let high = _mm256_set1_epi8(-128);
            let dot = |sum, codes, x| {
                if VNNI {
                    _mm256_dpbusd_avx_epi32(sum, codes, x)
                } else if EIGHT_BITS {
                    let low = words(_mm256_andnot_si256(high, codes), x);
                    _mm256_add_epi32(sum, _mm256_add_epi32(low, words(_mm256_and_si256(high, codes), x)))
                } else {
                    _mm256_add_epi32(sum, words(codes, x))
                }
            };
            IntPair(dot(sum.0, codes.0, x.0), dot(sum.1, codes.1, x.1))
        }
    }

    #[inline(always)]
    unsafe fn dot_vectors<const VECTORS: usize, const N: usize>(
        self,
        greatest: usize,
        sums: &mut [IntPair; N],
        codes: *const [i32; LANES],
        x: *const i32,
        stride: usize,
    ) {
        // SAFETY: the same contract, and a value of this type proves the instruction set.
        unsafe {
            if VNNI {
                dot_vectors::<Self, VECTORS, N>(self, greatest, sums, codes, x, stride);
            } else if greatest > 127 {
                self.dot_centered::<VECTORS, N>(sums, codes.cast(), x, stride);
            } else {
                self.dot_small::<VECTORS, N>(greatest, sums, codes.cast(), x, stride);
            }
        }
    }

    #[inline(always)]
    fn dot_scaled(self, sum: IntPair, codes: IntPair, x: IntPair, scales: &[i16; 16], spread: &Spread) -> IntPair {
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            // Codes have at most six bits, so that pairs of products fit into words.
            let (low, high) = (_mm256_maddubs_epi16(codes.0, x.0), _mm256_maddubs_epi16(codes.1, x.1));
            IntPair(
                self.add_word_pairs(sum.0, low, spread_scales(scales, [spread[0], spread[8]])),
                self.add_word_pairs(sum.1, high, spread_scales(scales, [spread[16], spread[24]])),
            )
        }
    }

    #[inline(always)]
    fn dot_scaled_by_eight(
        self,
        sum: IntPair,
        codes: IntPair,
        x: IntPair,
        scales: [i32; 2],
        spread: &Spread,
    ) -> IntPair {
        // SAFETY: a value of this type proves the instruction set; both arrays are as long as what is read from them.
        unsafe {
            let scales = _mm256_set1_epi64x(scales.as_ptr().cast::<i64>().read_unaligned());
            let dot = |sum, codes, x, spread: *const u16| {
                let scales = _mm256_shuffle_epi8(scales, _mm256_loadu_si256(spread.cast()));
                self.add_word_pairs(sum, _mm256_maddubs_epi16(codes, x), scales)
            };
            IntPair(dot(sum.0, codes.0, x.0, spread.as_ptr()), dot(sum.1, codes.1, x.1, spread.as_ptr().add(16)))
        }
    }

    #[inline(always)]
    fn dot_words(self, a: &[i16; 16], b: &[i16; 16]) -> IntPair {
        // SAFETY: a value of this type proves the instruction set; arrays are as long as what is read from them.
        unsafe {
            let (a, b) = (_mm256_loadu_si256(a.as_ptr().cast()), _mm256_loadu_si256(b.as_ptr().cast()));
            IntPair(_mm256_madd_epi16(a, b), _mm256_setzero_si256())
        }
    }

    #[inline(always)]
    fn six_bits(self, words: &[u8; 16]) -> [u64; 2] {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { six_bits(words) }
    }

    #[inline(always)]
    fn transpose_words(self, words: &mut [[i32; LANES]; LANES]) {
        transpose_words(self, words);
    }

    #[inline(always)]
    fn sum_quarters_each(self, v: &[IntPair; LANES]) -> [IntPair; 4] {
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            // Of each four vectors, the sums of the first and of the second four lanes of both halves.
            let (mut low, mut high) = ([_mm256_setzero_si256(); 4], [_mm256_setzero_si256(); 4]);
            for i in 0..4 {
                let (a, b, c, d) = (v[4 * i], v[4 * i + 1], v[4 * i + 2], v[4 * i + 3]);
                low[i] = _mm256_hadd_epi32(_mm256_hadd_epi32(a.0, b.0), _mm256_hadd_epi32(c.0, d.0));
                high[i] = _mm256_hadd_epi32(_mm256_hadd_epi32(a.1, b.1), _mm256_hadd_epi32(c.1, d.1));
            }
            let [a, b] = quarters(&low);
            let [c, d] = quarters(&high);
            [a, b, c, d]
        }
    }

    #[inline(always)]
    fn sum_halves_each(self, v: &[IntPair; LANES]) -> [IntPair; 2] {
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            let (mut low, mut high) = ([_mm256_setzero_si256(); LANES], [_mm256_setzero_si256(); LANES]);
            for i in 0..LANES {
                (low[i], high[i]) = (v[i].0, v[i].1);
            }
            let sums = |v: &[__m256i; LANES]| IntPair(sum_each(&v[..8]), sum_each(&v[8..]));
            [sums(&low), sums(&high)]
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn multiply_tile<const VNNI: bool, A: Rows, C: Columns<Avx2<VNNI>>, const ROWS: usize, const VECTORS: usize>(
    lanes: Avx2<VNNI>,
    product: Product<A>,
    columns: C,
    depth: Range<usize>,
) {
    // SAFETY: the same contract.
    unsafe { multiply::<Avx2<VNNI>, A, C, ROWS, VECTORS>(lanes, product, columns, depth) }
}

/// [`Integers::nibbles_of_eights`] for 16 bytes.
///
/// # Safety
/// `from` points to as many readable bytes.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn nibbles_of_two_eights(from: *const u8) -> __m256i {
    // SAFETY: the caller vouches for 16 bytes.
    let bytes = _mm256_castsi128_si256(unsafe { _mm_loadu_si128(from.cast()) });
    let twice = _mm256_permute4x64_epi64::<0b01_01_00_00>(bytes);
    _mm256_and_si256(_mm256_srlv_epi64(twice, _mm256_setr_epi64x(0, 4, 0, 4)), _mm256_set1_epi8(15))
}

/// [`Integers::lanes_of_bytes`] for eight bytes.
///
/// # Safety
/// `from` points to as many readable bytes.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn lanes_of_eight_bytes(from: *const u8) -> __m256i {
    // SAFETY: the caller vouches for eight bytes.
    _mm256_cvtepu8_epi32(unsafe { _mm_loadl_epi64(from.cast()) })
}

/// [`Integers::widen`].
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn widen(bytes: [u64; 2]) -> [i16; 16] {
    let mut words = [0; 16];
    let bytes = _mm_set_epi64x(bytes[1].cast_signed(), bytes[0].cast_signed());
    // SAFETY: the array holds 16 words.
    unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), _mm256_cvtepu8_epi16(bytes)) };
    words
}

/// [`Integers::six_bits`].
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn six_bits(words: &[u8; 16]) -> [u64; 2] {
    // SAFETY: the array has 16 bytes; both types are 16 bytes of any value.
    unsafe {
        let words = _mm_loadu_si128(words.as_ptr().cast());
        let low = _mm_srlv_epi32(_mm_shuffle_epi32::<0b11_10_11_01>(words), _mm_setr_epi32(0, 0, 0, 4));
        let low = _mm_and_si128(low, _mm_setr_epi32(0x3f3f_3f3f, 0x0f0f_0f0f, 0x3f3f_3f3f, 0x0f0f_0f0f));
        let high = _mm_srli_epi32::<2>(_mm_shuffle_epi32::<0b10_10_01_01>(words));
        let high = _mm_and_si128(high, _mm_setr_epi32(0, 0x3030_3030, 0, 0x3030_3030));
        std::mem::transmute(_mm_or_si128(low, high))
    }
}
