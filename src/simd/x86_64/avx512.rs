//! Sixteen lanes in one AVX-512 register.

#![allow(unsafe_code, reason = "vector intrinsics")]

use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;

use crate::simd::LANES;
use crate::simd::integers::{Integers, Spread, dot_bytes_each, dot_pairs_each};
use crate::simd::lanes::{
    Columns, Kernel, Lanes, Product, ROUND, Rows, Sums, accumulate_bf16, multiply, transpose_words,
};

/// Proof that the CPU has AVX-512 F, BW, DQ and VL, and what [`super::avx2`] asks for; also VNNI if so marked.
#[derive(Clone, Copy)]
pub(crate) struct Avx512<const VNNI: bool>(());

impl<const VNNI: bool> Avx512<VNNI> {
    /// The proof, on a CPU that has them.
    pub(crate) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && is_x86_feature_detected!("popcnt")
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && (!VNNI || is_x86_feature_detected!("avx512vnni"));
        found.then_some(Self(()))
    }
}

/// Methods of one intrinsic each.
macro_rules! intrinsics {
    ($($name:ident($($argument:ident),+) = $call:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($argument: Self::Float),+) -> Self::Float {
            // SAFETY: a value of this type proves the instruction set.
            unsafe { $call }
        }
    )*};
}

/// As [`intrinsics`], of integers.
macro_rules! integer_intrinsics {
    ($($name:ident($($argument:ident),+) = $call:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($argument: Self::Int),+) -> Self::Int {
            // SAFETY: a value of this type proves the instruction set.
            unsafe { $call }
        }
    )*};
}

/// Runs `kernel` compiled for AVX-512 without VNNI.
pub(crate) fn run<K: Kernel>(lanes: Avx512<false>, kernel: K) -> K::Output {
    // SAFETY: the proof is for the features that are enabled.
    unsafe { enabled(lanes, kernel) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,popcnt")]
fn enabled<K: Kernel>(lanes: Avx512<false>, kernel: K) -> K::Output {
    kernel.run(lanes)
}

/// Runs `kernel` compiled for AVX-512 with VNNI.
pub(crate) fn run_vnni<K: Kernel>(lanes: Avx512<true>, kernel: K) -> K::Output {
    // SAFETY: the proof is for the features that are enabled.
    unsafe { enabled_vnni(lanes, kernel) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c,popcnt")]
fn enabled_vnni<K: Kernel>(lanes: Avx512<true>, kernel: K) -> K::Output {
    kernel.run(lanes)
}

impl<const VNNI: bool> Avx512<VNNI> {
    /// `sum + a * b`, products of neighbouring words added in pairs.
    #[inline(always)]
    fn add_word_pairs(self, sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { if VNNI { _mm512_dpwssd_epi32(sum, a, b) } else { _mm512_add_epi32(sum, _mm512_madd_epi16(a, b)) } }
    }
}

impl<const VNNI: bool> Lanes for Avx512<VNNI> {
    type Float = __m512;
    type Mask = __mmask16;
    const WIDE: bool = true;
    const ADDS_BITS: bool = VNNI;

    intrinsics! {
        add(a, b) = _mm512_add_ps(a, b);
        sub(a, b) = _mm512_sub_ps(a, b);
        mul(a, b) = _mm512_mul_ps(a, b);
        div(a, b) = _mm512_div_ps(a, b);
        max(a, b) = _mm512_max_ps(a, b);
        min(a, b) = _mm512_min_ps(a, b);
        mul_add(a, b, c) = _mm512_fmadd_ps(a, b, c);
        abs(x) = _mm512_abs_ps(x);
        sqrt(x) = _mm512_sqrt_ps(x);
        truncate(x) = _mm512_roundscale_ps::<{ _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC }>(x);
        nearest(x) = _mm512_cvtepi32_ps(_mm512_sub_epi32(
            _mm512_and_si512(
                _mm512_castps_si512(_mm512_add_ps(x, _mm512_set1_ps(ROUND))),
                _mm512_set1_epi32(0x007f_ffff),
            ),
            _mm512_set1_epi32(0x0040_0000),
        ));
        select_lt(a, b, yes, no) = _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), no, yes);
        add_exponent(x, n) = _mm512_castsi512_ps(_mm512_add_epi32(
            _mm512_castps_si512(x),
            _mm512_slli_epi32::<23>(_mm512_castps_si512(n)),
        ));
    }

    #[inline(always)]
    fn add_bits(self, x: __m512, bits: __m512i) -> __m512 {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x), bits)) }
    }

    #[inline(always)]
    fn lt(self, a: __m512, b: __m512) -> __mmask16 {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b) }
    }

    #[inline(always)]
    fn both(self, a: __mmask16, b: __mmask16) -> __mmask16 {
        a & b
    }

    #[inline(always)]
    fn select(self, mask: __mmask16, yes: __m512, no: __m512) -> __m512 {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { _mm512_mask_blend_ps(mask, no, yes) }
    }

    #[inline(always)]
    fn mask_bits(self, mask: __mmask16) -> u16 {
        mask
    }

    #[inline(always)]
    fn transpose(self, rows: [__m512; LANES]) -> [__m512; LANES] {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { transpose(rows) }
    }

    #[inline(always)]
    fn put_bytes(self, x: __m512, bytes: &mut [u8; LANES]) {
        // SAFETY: a value of this type proves the instruction set; the array holds 16 bytes.
        unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x))) }
    }

    #[inline(always)]
    fn to_halves(self, x: __m512) -> [u16; LANES] {
        let mut halves = [0; LANES];
        // SAFETY: a value of this type proves the instruction set; the array holds 16 numbers of two bytes.
        unsafe {
            let bits = _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x);
            _mm256_storeu_si256(halves.as_mut_ptr().cast(), bits);
        }
        halves
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        // SAFETY: the caller vouches for 16 floats.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_half(self, from: *const u16) -> __m512 {
        // SAFETY: the caller vouches for 16 numbers of two bytes.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    fn halves_at<const SHIFT: u32>(self, x: __m512i) -> __m512 {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32::<SHIFT>(x))) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, x: __m512) {
        // SAFETY: the caller vouches for 16 floats.
        unsafe { _mm512_storeu_ps(to, x) }
    }

    #[inline(always)]
    unsafe fn stream(self, to: *mut f32, x: __m512) {
        // SAFETY: the caller vouches for 16 floats at a multiple of 64 bytes.
        unsafe { _mm512_stream_ps(to, x) }
    }

    #[inline(always)]
    fn end_stream(self) {
        // SAFETY: every CPU of this kind has it.
        unsafe { _mm_sfence() }
    }

    #[inline(always)]
    fn bytes(self, bytes: &[i8; LANES]) -> __m512 {
        // SAFETY: a value of this type proves the instruction set; the array holds 16 bytes.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(bytes.as_ptr().cast()))) }
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
    fn round_to_bytes(self, x: __m512, bytes: &mut [i8; LANES]) {
        // SAFETY: a value of this type proves the instruction set, and the array holds 16 bytes.
        unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x))) }
    }

    #[inline(always)]
    fn bits(self, x: __m512) -> __m512i {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { _mm512_castps_si512(x) }
    }

    #[inline(always)]
    fn lanes_at(self, table: __m512, at: __m512i) -> __m512 {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { _mm512_permutexvar_ps(at, table) }
    }

    #[inline(always)]
    fn first_least(self, x: __m512) -> usize {
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            let mut least = _mm512_min_ps(x, _mm512_shuffle_f32x4::<0x4e>(x, x));
            least = _mm512_min_ps(least, _mm512_shuffle_f32x4::<0xb1>(least, least));
            least = _mm512_min_ps(least, _mm512_permute_ps::<0x4e>(least));
            least = _mm512_min_ps(least, _mm512_permute_ps::<0xb1>(least));
            _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(x, least).trailing_zeros() as usize & 15
        }
    }

    #[inline(always)]
    fn max_lane(self, x: __m512) -> f32 {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { _mm512_reduce_max_ps(x) }
    }

    #[inline(always)]
    fn sum(self, x: __m512) -> f32 {
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            let eight = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x));
            super::avx2::sum(eight)
        }
    }

    #[inline(always)]
    fn sums(self, vectors: &[__m512; LANES]) -> __m512 {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { reduce::<false>(vectors) }
    }

    #[inline(always)]
    fn max_lanes(self, vectors: &[__m512; LANES]) -> __m512 {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { reduce::<true>(vectors) }
    }

    #[inline(always)]
    fn bf16_pairs(self, x: __m512i) -> [__m512; 2] {
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            let odd = _mm512_and_si512(x, _mm512_set1_epi32(0xffff_0000_u32.cast_signed()));
            [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(x)), _mm512_castsi512_ps(odd)]
        }
    }

    #[inline(always)]
    unsafe fn accumulate_bf16<const R: usize, const T: usize>(
        self,
        w: [*const u8; R],
        x: [*const u8; T],
        vectors: usize,
        sums: &mut Sums<R, T>,
    ) {
        // SAFETY: the same contract; the CPU has been asked.
        unsafe {
            if VNNI && is_x86_feature_detected!("avx512bf16") {
                dot_bf16(w, x, vectors, sums)
            } else {
                accumulate_bf16(self, w, x, vectors, sums)
            }
        }
    }

    #[inline(always)]
    fn half(self, bits: u16) -> f32 {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { super::avx2::half(bits) }
    }

    #[inline(always)]
    fn int_to_float(self, x: __m512i) -> __m512 {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { _mm512_cvtepi32_ps(x) }
    }

    #[inline(always)]
    fn byte_products(self, rounds: usize) -> usize {
        const CHAINS: usize = 12;
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            let x = std::hint::black_box(_mm512_set1_epi8(1));
            let mut sums = [x; CHAINS];
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = if VNNI {
                        _mm512_dpbusd_epi32(*sum, x, x)
                    } else {
                        let pairs = _mm512_maddubs_epi16(*sum, x);
                        _mm512_add_epi32(*sum, _mm512_madd_epi16(pairs, x))
                    };
                }
            }
            std::hint::black_box(sums);
        }
        64 * CHAINS * rounds
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

impl<const VNNI: bool> Integers for Avx512<VNNI> {
    type Int = __m512i;
    const ADDS_PAIRS: bool = VNNI;

    integer_intrinsics! {
        add_int(a, b) = _mm512_add_epi32(a, b);
        mul_int(a, b) = _mm512_mullo_epi32(a, b);
        or_int(a, b) = _mm512_or_si512(a, b);
        and_int(a, b) = _mm512_and_si512(a, b);
    }

    #[inline(always)]
    unsafe fn splat_at(self, from: *const i32) -> __m512i {
        // SAFETY: the same contract, and a value of this type proves the instruction set.
        unsafe { splat_at(from) }
    }

    #[inline(always)]
    fn splat_int(self, x: i32) -> __m512i {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { _mm512_set1_epi32(x) }
    }

    #[inline(always)]
    unsafe fn load_int(self, from: *const i32) -> __m512i {
        // SAFETY: the caller vouches for 64 bytes.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store_int(self, to: *mut i32, x: __m512i) {
        // SAFETY: the caller vouches for 64 bytes.
        unsafe { _mm512_storeu_si512(to.cast(), x) }
    }

    #[inline(always)]
    unsafe fn join(self, low: *const u8, high: *const u8) -> __m512i {
        // SAFETY: the caller vouches for 32 bytes each.
        unsafe {
            let low = _mm512_castsi256_si512(_mm256_loadu_si256(low.cast()));
            _mm512_inserti64x4::<1>(low, _mm256_loadu_si256(high.cast()))
        }
    }

    #[inline(always)]
    unsafe fn words_at(self, places: &[*const u8; LANES]) -> __m512i {
        // SAFETY: the caller vouches for four bytes at each place; a value of this type proves the instruction set.
        unsafe {
            let mut fours = [_mm_setzero_si128(); 4];
            for (i, four) in fours.iter_mut().enumerate() {
                *four = super::avx2::four_words(&places[4 * i..]);
            }
            let (low, high) = (_mm256_set_m128i(fours[1], fours[0]), _mm256_set_m128i(fours[3], fours[2]));
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
        }
    }

    #[inline(always)]
    unsafe fn four_words_at(self, places: &[*const u8; LANES]) -> [__m512i; 4] {
        // SAFETY: the caller vouches for 16 bytes at each place; a value of this type proves the instruction set.
        unsafe {
            // Places i, i + 4, i + 8 and i + 12 in the quarters.
            let mut rows = [_mm512_setzero_si512(); 4];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = self.join_four([places[i], places[i + 4], places[i + 8], places[i + 12]]);
            }
            let [a, b, c, d] = rows;
            let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
            let (ab_high, cd_high) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
            [
                _mm512_unpacklo_epi64(ab, cd),
                _mm512_unpackhi_epi64(ab, cd),
                _mm512_unpacklo_epi64(ab_high, cd_high),
                _mm512_unpackhi_epi64(ab_high, cd_high),
            ]
        }
    }

    #[inline(always)]
    fn zip_lanes(self, a: __m512i, b: __m512i) -> [[i32; 2]; LANES] {
        let mut pairs = [[0; 2]; LANES];
        // SAFETY: a value of this type proves the instruction set; the array holds 32 integers.
        unsafe {
            let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
            let to: *mut [i32; 2] = pairs.as_mut_ptr();
            _mm512_storeu_si512(to.cast(), _mm512_permutex2var_epi32(a, low, b));
            _mm512_storeu_si512(to.add(8).cast(), _mm512_permutex2var_epi32(a, high, b));
        }
        pairs
    }

    #[inline(always)]
    unsafe fn join_four(self, places: [*const u8; 4]) -> __m512i {
        // SAFETY: the caller vouches for 16 bytes each.
        unsafe {
            let mut all = _mm512_castsi128_si512(_mm_loadu_si128(places[0].cast()));
            all = _mm512_inserti32x4::<1>(all, _mm_loadu_si128(places[1].cast()));
            all = _mm512_inserti32x4::<2>(all, _mm_loadu_si128(places[2].cast()));
            _mm512_inserti32x4::<3>(all, _mm_loadu_si128(places[3].cast()))
        }
    }

    #[inline(always)]
    unsafe fn nibbles(self, low: *const u8, high: *const u8) -> __m512i {
        // SAFETY: the caller vouches for 16 bytes each.
        unsafe {
            let low = _mm512_castsi256_si512(_mm256_broadcastsi128_si256(_mm_loadu_si128(low.cast())));
            let both = _mm512_inserti64x4::<1>(low, _mm256_broadcastsi128_si256(_mm_loadu_si128(high.cast())));
            let shifted = _mm512_srlv_epi64(both, _mm512_setr_epi64(0, 0, 4, 4, 0, 0, 4, 4));
            _mm512_and_si512(shifted, _mm512_set1_epi8(15))
        }
    }

    #[inline(always)]
    unsafe fn nibbles_of_eights(self, from: *const u8) -> __m512i {
        // SAFETY: the caller vouches for 32 bytes; a value of this type proves the instruction set.
        unsafe {
            let low = _mm512_castsi256_si512(super::avx2::nibbles_of_two_eights(from));
            _mm512_inserti64x4::<1>(low, super::avx2::nibbles_of_two_eights(from.add(16)))
        }
    }

    #[inline(always)]
    unsafe fn lanes_of_bytes(self, from: *const u8) -> __m512i {
        // SAFETY: the caller vouches for 16 bytes; a value of this type proves the instruction set.
        unsafe {
            let low = _mm512_castsi256_si512(super::avx2::lanes_of_eight_bytes(from));
            _mm512_inserti64x4::<1>(low, super::avx2::lanes_of_eight_bytes(from.add(8)))
        }
    }

    #[inline(always)]
    fn low_words(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { _mm512_mask_blend_epi16(0xaaaa_aaaa, a, _mm512_slli_epi32::<16>(b)) }
    }

    #[inline(always)]
    fn and_bytes(self, x: __m512i, mask: u8) -> __m512i {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { _mm512_and_si512(x, _mm512_set1_epi8(mask.cast_signed())) }
    }

    #[inline(always)]
    fn xor_bytes(self, x: __m512i, mask: u8) -> __m512i {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { _mm512_xor_si512(x, _mm512_set1_epi8(mask.cast_signed())) }
    }

    #[inline(always)]
    fn shl_int<const N: u32>(self, x: __m512i) -> __m512i {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { _mm512_slli_epi32::<N>(x) }
    }

    #[inline(always)]
    fn shl_halves<const LOW: u32, const HIGH: u32>(self, x: __m512i) -> __m512i {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { _mm512_sllv_epi32(x, halves::<LOW, HIGH>()) }
    }

    #[inline(always)]
    fn shr_halves<const LOW: u32, const HIGH: u32>(self, x: __m512i) -> __m512i {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { _mm512_srlv_epi32(x, halves::<LOW, HIGH>()) }
    }

    #[inline(always)]
    fn bytes_of_bits(self, bits: [u32; 2], value: u8) -> __m512i {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { _mm512_maskz_set1_epi8(u64::from(bits[0]) | u64::from(bits[1]) << 32, value.cast_signed()) }
    }

    #[inline(always)]
    fn lookup(self, table: &[u8; 16], codes: __m512i) -> __m512i {
        // SAFETY: a value of this type proves the instruction set; the table has 16 bytes.
        unsafe { _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast())), codes) }
    }

    #[inline(always)]
    fn widen(self, bytes: [u64; 2]) -> [i16; 16] {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { super::avx2::widen(bytes) }
    }

    #[inline(always)]
    fn dot_bytes<const EIGHT_BITS: bool>(self, sum: __m512i, codes: __m512i, x: __m512i) -> __m512i {
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            if VNNI {
                return _mm512_dpbusd_epi32(sum, codes, x);
            }
            // Two products of seven bits, or of the eighth, fit into words.
            let words = |codes| _mm512_madd_epi16(_mm512_maddubs_epi16(codes, x), _mm512_set1_epi16(1));
            let high = _mm512_set1_epi8(-128);
            if EIGHT_BITS {
                let low = words(_mm512_andnot_si512(high, codes));
                _mm512_add_epi32(sum, _mm512_add_epi32(low, words(_mm512_and_si512(high, codes))))
            } else {
                _mm512_add_epi32(sum, words(codes))
            }
        }
    }

    #[inline(always)]
    unsafe fn dot_bytes_each<const EIGHT_BITS: bool, const N: usize>(
        self,
        sums: &mut [__m512i; N],
        codes: __m512i,
        x: *const i32,
    ) {
        // SAFETY: a value of this type proves the instruction set; the caller vouches for the words.
        unsafe {
            match sums.as_mut_slice().try_into() {
                Ok(sums) if VNNI => dot_bytes_eight(sums, codes, x),
                _ => dot_bytes_each::<Self, EIGHT_BITS, N>(self, sums, codes, x),
            }
        }
    }

    #[inline(always)]
    fn dot_pairs(self, sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        self.add_word_pairs(sum, a, b)
    }

    #[inline(always)]
    unsafe fn dot_pairs_each<const N: usize>(self, sums: &mut [__m512i; N], pairs: __m512i, x: *const i32) {
        // SAFETY: a value of this type proves the instruction set; the caller vouches for the words.
        unsafe {
            match sums.as_mut_slice().try_into() {
                Ok(sums) if VNNI => dot_pairs_eight(sums, pairs, x),
                _ => dot_pairs_each::<Self, N>(self, sums, pairs, x),
            }
        }
    }

    #[inline(always)]
    fn sums_of_16(self, bytes: &[i8; 256]) -> [i16; 16] {
        let mut sums = [0; 16];
        // SAFETY: a value of this type proves the instruction set; arrays are as long as what is read and written.
        unsafe {
            let (zero, one) = (_mm512_setzero_si512(), _mm512_set1_epi8(1));
            let mut fours = [zero; 4];
            for i in 0..4 {
                fours[i] = self.dot_bytes::<false>(zero, one, _mm512_loadu_si512(bytes.as_ptr().add(64 * i).cast()));
            }
            // A vector's in each lane of a quarter.
            let in_order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            let all = _mm512_permutexvar_epi32(in_order, sum_fours(fours));
            _mm256_storeu_si256(sums.as_mut_ptr().cast(), _mm512_cvtepi32_epi16(all));
        }
        sums
    }

    #[inline(always)]
    fn dot_scaled(self, sum: __m512i, codes: __m512i, x: __m512i, scales: &[i16; 16], spread: &Spread) -> __m512i {
        // SAFETY: a value of this type proves the instruction set; arrays are as long as what is read from them.
        unsafe {
            let scales = _mm512_castsi256_si512(_mm256_loadu_si256(scales.as_ptr().cast()));
            let scales = _mm512_permutexvar_epi16(_mm512_loadu_si512(spread.as_ptr().cast()), scales);
            // Codes have at most six bits, so that pairs of products fit into words.
            self.add_word_pairs(sum, _mm512_maddubs_epi16(codes, x), scales)
        }
    }

    #[inline(always)]
    fn dot_scaled_by_eight(
        self,
        sum: __m512i,
        codes: __m512i,
        x: __m512i,
        scales: [i32; 2],
        spread: &Spread,
    ) -> __m512i {
        // SAFETY: a value of this type proves the instruction set; both arrays are as long as what is read from them.
        unsafe {
            let scales = _mm512_set1_epi64(scales.as_ptr().cast::<i64>().read_unaligned());
            let scales = _mm512_shuffle_epi8(scales, _mm512_loadu_si512(spread.as_ptr().cast()));
            self.add_word_pairs(sum, _mm512_maddubs_epi16(codes, x), scales)
        }
    }

    #[inline(always)]
    fn dot_words(self, a: &[i16; 16], b: &[i16; 16]) -> __m512i {
        // SAFETY: a value of this type proves the instruction set; arrays are as long as what is read from them.
        unsafe {
            let (a, b) = (_mm256_loadu_si256(a.as_ptr().cast()), _mm256_loadu_si256(b.as_ptr().cast()));
            _mm512_zextsi256_si512(_mm256_madd_epi16(a, b))
        }
    }

    #[inline(always)]
    fn six_bits(self, words: &[u8; 16]) -> [u64; 2] {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { super::avx2::six_bits(words) }
    }

    #[inline(always)]
    fn transpose_words(self, words: &mut [[i32; LANES]; LANES]) {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { transpose_tile(self, words) }
    }

    #[inline(always)]
    fn sum_quarters_each(self, v: &[__m512i; LANES]) -> [__m512i; 4] {
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            let [a, b, c, d] = sum_all_fours(v);
            let (ab, cd) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0x88>(c, d));
            let (ab_odd, cd_odd) = (_mm512_shuffle_i32x4::<0xdd>(a, b), _mm512_shuffle_i32x4::<0xdd>(c, d));
            [
                _mm512_shuffle_i32x4::<0x88>(ab, cd),
                _mm512_shuffle_i32x4::<0x88>(ab_odd, cd_odd),
                _mm512_shuffle_i32x4::<0xdd>(ab, cd),
                _mm512_shuffle_i32x4::<0xdd>(ab_odd, cd_odd),
            ]
        }
    }

    #[inline(always)]
    fn sum_halves_each(self, v: &[__m512i; LANES]) -> [__m512i; 2] {
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            let [a, b, c, d] = sum_all_fours(v);
            let ab = _mm512_add_epi32(_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
            let cd = _mm512_add_epi32(_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xdd>(c, d));
            [_mm512_shuffle_i32x4::<0x88>(ab, cd), _mm512_shuffle_i32x4::<0xdd>(ab, cd)]
        }
    }
}

/// [`Lanes::accumulate_bf16`] with the instruction that is made for it.
///
/// # Safety
/// As there.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn dot_bf16<const R: usize, const T: usize>(
    w: [*const u8; R],
    x: [*const u8; T],
    vectors: usize,
    waiting: &mut Sums<R, T>,
) {
    #[inline(always)]
    fn numbers(x: __m512i) -> __m512bh {
        // SAFETY: both types are 64 bytes of any value.
        unsafe { std::mem::transmute::<__m512i, __m512bh>(x) }
    }
    let mut sums = [[_mm512_setzero_ps(); R]; T];
    for t in 0..T {
        for r in 0..R {
            // SAFETY: the array holds 16 floats.
            sums[t][r] = unsafe { _mm512_loadu_ps(waiting[t][r].as_ptr()) };
        }
    }
    for k in 0..vectors {
        let mut weights = [_mm512_setzero_si512(); R];
        for r in 0..R {
            // SAFETY: the caller vouches for `vectors` vectors.
            weights[r] = unsafe { _mm512_loadu_si512(w[r].add(k * 64).cast()) };
        }
        for t in 0..T {
            // SAFETY: as above.
            let x = unsafe { _mm512_loadu_si512(x[t].add(k * 64).cast()) };
            for r in 0..R {
                sums[t][r] = _mm512_dpbf16_ps(sums[t][r], numbers(weights[r]), numbers(x));
            }
        }
    }
    for t in 0..T {
        for r in 0..R {
            // SAFETY: the array holds 16 floats.
            unsafe { _mm512_storeu_ps(waiting[t][r].as_mut_ptr(), sums[t][r]) };
        }
    }
}

/// [`Integers::splat_at`]. Compilers shift a word before they spread it, which takes a port of the products of bytes.
///
/// # Safety
/// As there.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn splat_at(from: *const i32) -> __m512i {
    let x;
    // SAFETY: the caller vouches for the word.
    unsafe {
        asm!(
            "vpbroadcastd {x}, dword ptr [{from}]",
            x = lateout(zmm_reg) x,
            from = in(reg) from,
            options(nostack, readonly, preserves_flags, pure),
        );
    }
    x
}

/// Defines a function that multiplies the lanes of one vector with each of eight words, and adds to eight sums. In assembly, as
/// the compiler changes the order of products so that each waits for the one before it, and takes two instructions for one.
macro_rules! dot_eight {
    ($(#[$doc:meta])* $name:ident, $instruction:literal) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// As there.
        #[inline]
        #[target_feature(enable = "avx512f,avx512vnni")]
        unsafe fn $name(sums: &mut [__m512i; 8], w: __m512i, x: *const i32) {
            // SAFETY: the caller vouches for eight words.
            unsafe {
                asm!(
                    concat!($instruction, " {a}, {w}, dword ptr [{x}]{{1to16}}"),
                    concat!($instruction, " {b}, {w}, dword ptr [{x} + 4]{{1to16}}"),
                    concat!($instruction, " {c}, {w}, dword ptr [{x} + 8]{{1to16}}"),
                    concat!($instruction, " {d}, {w}, dword ptr [{x} + 12]{{1to16}}"),
                    concat!($instruction, " {e}, {w}, dword ptr [{x} + 16]{{1to16}}"),
                    concat!($instruction, " {f}, {w}, dword ptr [{x} + 20]{{1to16}}"),
                    concat!($instruction, " {g}, {w}, dword ptr [{x} + 24]{{1to16}}"),
                    concat!($instruction, " {h}, {w}, dword ptr [{x} + 28]{{1to16}}"),
                    w = in(zmm_reg) w,
                    x = in(reg) x,
                    a = inout(zmm_reg) sums[0],
                    b = inout(zmm_reg) sums[1],
                    c = inout(zmm_reg) sums[2],
                    d = inout(zmm_reg) sums[3],
                    e = inout(zmm_reg) sums[4],
                    f = inout(zmm_reg) sums[5],
                    g = inout(zmm_reg) sums[6],
                    h = inout(zmm_reg) sums[7],
                    options(nostack, readonly, preserves_flags),
                );
            }
        }
    };
}

dot_eight! {
    /// [`Integers::dot_bytes_each`].
    dot_bytes_eight, "vpdpbusd"
}
dot_eight! {
    /// [`Integers::dot_pairs_each`].
    dot_pairs_eight, "vpdpwssd"
}

/// Of each four vectors, the sums of four lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn sum_all_fours(v: &[__m512i; LANES]) -> [__m512i; 4] {
    let mut fours = [_mm512_setzero_si512(); 4];
    for i in 0..4 {
        fours[i] = sum_fours([v[4 * i], v[4 * i + 1], v[4 * i + 2], v[4 * i + 3]]);
    }
    fours
}

/// The sums of four lanes: a vector's in each lane of a quarter.
#[inline]
#[target_feature(enable = "avx512f")]
fn sum_fours([a, b, c, d]: [__m512i; 4]) -> __m512i {
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd))
}

/// One number in the lanes of each half.
#[inline]
#[target_feature(enable = "avx512f")]
fn halves<const LOW: u32, const HIGH: u32>() -> __m512i {
    let (low, high) = (_mm256_set1_epi32(LOW.cast_signed()), _mm256_set1_epi32(HIGH.cast_signed()));
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
}

/// The greater numbers or the sums.
#[inline]
#[target_feature(enable = "avx512f")]
fn join<const MAX: bool>(a: __m512, b: __m512) -> __m512 {
    if MAX { _mm512_max_ps(a, b) } else { _mm512_add_ps(a, b) }
}

/// The greatest lane of each of sixteen vectors, or the sum of its lanes, by halves as [`Lanes::sum`] adds them.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn reduce<const MAX: bool>(vectors: &[__m512; LANES]) -> __m512 {
    // Of eight lanes, of vectors i and i + 8 in the halves of a register.
    let mut eights = [_mm512_setzero_ps(); 8];
    for i in 0..8 {
        let (a, b) = (vectors[i], vectors[i + 8]);
        eights[i] = join::<MAX>(_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b));
    }
    // Of four lanes, of vectors i, i + 4, i + 8 and i + 12 in its quarters.
    let mut fours = [_mm512_setzero_ps(); 4];
    for i in 0..4 {
        let (a, b) = (eights[i], eights[i + 4]);
        let even = join::<MAX>(_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
        // From i, i + 8, i + 4, i + 12.
        fours[i] = _mm512_shuffle_f32x4::<0xd8>(even, even);
    }
    let mut twos = [_mm512_setzero_ps(); 2];
    for i in 0..2 {
        let (a, b) = (_mm512_castps_pd(fours[i]), _mm512_castps_pd(fours[i + 2]));
        let (low, high) = (_mm512_unpacklo_pd(a, b), _mm512_unpackhi_pd(a, b));
        twos[i] = join::<MAX>(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
    }
    // Each quarter of the first has vectors 0, 0, 2, 2 of its four, each of the second 1, 1, 3, 3.
    let [a, b] = twos;
    let all = join::<MAX>(_mm512_shuffle_ps::<0x88>(a, b), _mm512_shuffle_ps::<0xdd>(a, b));
    // From 0, 2, 1, 3.
    _mm512_permute_ps::<0xd8>(all)
}

#[target_feature(enable = "avx512f,avx512dq")]
fn transpose_tile<const VNNI: bool>(lanes: Avx512<VNNI>, words: &mut [[i32; LANES]; LANES]) {
    transpose_words(lanes, words);
}

/// Columns of sixteen rows.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(crate) fn transpose(rows: [__m512; LANES]) -> [__m512; LANES] {
    let mut fours = rows;
    for i in 0..4 {
        let (a, b, c, d) = (rows[4 * i], rows[4 * i + 1], rows[4 * i + 2], rows[4 * i + 3]);
        let pairs = [
            (_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d)),
            (_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d)),
        ];
        for (half, (ab, cd)) in pairs.into_iter().enumerate() {
            let (ab, cd) = (_mm512_castps_pd(ab), _mm512_castps_pd(cd));
            fours[4 * i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd));
            fours[4 * i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd));
        }
    }
    let mut columns = rows;
    for j in 0..4 {
        let (a, b, c, d) = (fours[j], fours[4 + j], fours[8 + j], fours[12 + j]);
        let (ab, cd) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0x88>(c, d));
        columns[j] = _mm512_shuffle_f32x4::<0x88>(ab, cd);
        columns[8 + j] = _mm512_shuffle_f32x4::<0xdd>(ab, cd);
        let (ab, cd) = (_mm512_shuffle_f32x4::<0xdd>(a, b), _mm512_shuffle_f32x4::<0xdd>(c, d));
        columns[4 + j] = _mm512_shuffle_f32x4::<0x88>(ab, cd);
        columns[12 + j] = _mm512_shuffle_f32x4::<0xdd>(ab, cd);
    }
    columns
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
unsafe fn multiply_tile<
    const VNNI: bool,
    A: Rows,
    C: Columns<Avx512<VNNI>>,
    const ROWS: usize,
    const VECTORS: usize,
>(
    lanes: Avx512<VNNI>,
    product: Product<A>,
    columns: C,
    depth: Range<usize>,
) {
    // SAFETY: the same contract.
    unsafe { multiply::<Avx512<VNNI>, A, C, ROWS, VECTORS>(lanes, product, columns, depth) }
}
