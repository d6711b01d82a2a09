//! Sixteen lanes in one AVX-512 register.

#![allow(unsafe_code, reason = "vector intrinsics")]

use std::arch::x86_64::*;
use std::ops::Range;

use crate::kernels::lanes::{Columns, Kernel, Lanes, Product, multiply};

/// Proof that the CPU has AVX-512 F, BW, DQ and VL, and what [`super::avx2`] asks for.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// The proof, on a CPU that has them.
    pub(crate) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
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

/// Runs `kernel` compiled for this instruction set.
pub(crate) fn run<K: Kernel>(lanes: Avx512, kernel: K) -> K::Output {
    // SAFETY: the proof is for the features that are enabled.
    unsafe { enabled(lanes, kernel) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
fn enabled<K: Kernel>(lanes: Avx512, kernel: K) -> K::Output {
    kernel.run(lanes)
}

impl Lanes for Avx512 {
    type Float = __m512;
    const WIDE: bool = true;

    intrinsics! {
        add(a, b) = _mm512_add_ps(a, b);
        sub(a, b) = _mm512_sub_ps(a, b);
        mul(a, b) = _mm512_mul_ps(a, b);
        div(a, b) = _mm512_div_ps(a, b);
        max(a, b) = _mm512_max_ps(a, b);
        min(a, b) = _mm512_min_ps(a, b);
        mul_add(a, b, c) = _mm512_fmadd_ps(a, b, c);
        select_lt(a, b, yes, no) = _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), no, yes);
        add_exponent(x, n) = _mm512_castsi512_ps(_mm512_add_epi32(
            _mm512_castps_si512(x),
            _mm512_slli_epi32::<23>(_mm512_castps_si512(n)),
        ));
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
    unsafe fn store(self, to: *mut f32, x: __m512) {
        // SAFETY: the caller vouches for 16 floats.
        unsafe { _mm512_storeu_ps(to, x) }
    }

    #[inline(always)]
    fn max_lane(self, x: __m512) -> f32 {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { _mm512_reduce_max_ps(x) }
    }

    #[inline(always)]
    unsafe fn multiply<C: Columns<Self>, const ROWS: usize, const VECTORS: usize>(
        self,
        product: Product,
        columns: C,
        depth: Range<usize>,
    ) {
        // SAFETY: the same contract, and a value of this type proves the instruction set.
        unsafe { multiply_tile::<C, ROWS, VECTORS>(self, product, columns, depth) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
unsafe fn multiply_tile<C: Columns<Avx512>, const ROWS: usize, const VECTORS: usize>(
    lanes: Avx512,
    product: Product,
    columns: C,
    depth: Range<usize>,
) {
    // SAFETY: the same contract.
    unsafe { multiply::<Avx512, C, ROWS, VECTORS>(lanes, product, columns, depth) }
}
