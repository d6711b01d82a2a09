//! Sixteen lanes in four NEON registers, with the products of bytes that newer CPUs have.
//!
//! Instructions whose intrinsics are not in the oldest compiler that we support are written in assembly.

#![allow(unsafe_code, reason = "vector intrinsics")]

use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};
use std::ops::Range;

use crate::simd::LANES;
use crate::simd::integers::{Integers, Spread};
use crate::simd::lanes::{
    Columns, Kernel, Lanes, Product, ROUND, Rows, Sums, accumulate_bf16, load_sums, multiply, store_sums,
    transpose_words,
};

/// Proof that the CPU has NEON; also `sdot` and `usdot` if so marked.
#[derive(Clone, Copy)]
pub(crate) struct Neon<const DOTPROD: bool, const I8MM: bool>(());

impl<const DOTPROD: bool, const I8MM: bool> Neon<DOTPROD, I8MM> {
    /// The proof, on a CPU that has them.
    pub(crate) fn detect() -> Option<Self> {
        let found = is_aarch64_feature_detected!("neon")
            && (!DOTPROD || is_aarch64_feature_detected!("dotprod"))
            && (!I8MM || is_aarch64_feature_detected!("i8mm"));
        found.then_some(Self(()))
    }
}

/// Sixteen floats, four a register.
#[derive(Clone, Copy)]
pub(crate) struct Floats([float32x4_t; 4]);

/// Sixteen integers, likewise.
#[derive(Clone, Copy)]
pub(crate) struct Ints([int32x4_t; 4]);

/// Sixteen truths, likewise: all bits or none.
#[derive(Clone, Copy)]
pub(crate) struct Truths([uint32x4_t; 4]);

/// Methods that do the same to each register.
macro_rules! intrinsics {
    ($($name:ident($($argument:ident: $from:ty),+) -> $to:ident = $call:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($argument: $from),+) -> $to {
            // SAFETY: a value of this type proves the instruction set.
            unsafe {
                $to([
                    { $(let $argument = $argument.0[0];)+ $call },
                    { $(let $argument = $argument.0[1];)+ $call },
                    { $(let $argument = $argument.0[2];)+ $call },
                    { $(let $argument = $argument.0[3];)+ $call },
                ])
            }
        }
    )*};
}

/// Runs `kernel` compiled for NEON alone.
pub(crate) fn run<K: Kernel>(lanes: Neon<false, false>, kernel: K) -> K::Output {
    // SAFETY: the proof is for the feature that is enabled.
    unsafe { enabled(lanes, kernel) }
}

#[target_feature(enable = "neon")]
fn enabled<K: Kernel>(lanes: Neon<false, false>, kernel: K) -> K::Output {
    kernel.run(lanes)
}

/// Runs `kernel` compiled for NEON with `sdot`.
pub(crate) fn run_dotprod<K: Kernel>(lanes: Neon<true, false>, kernel: K) -> K::Output {
    // SAFETY: the proof is for the features that are enabled.
    unsafe { enabled_dotprod(lanes, kernel) }
}

#[target_feature(enable = "neon,dotprod")]
fn enabled_dotprod<K: Kernel>(lanes: Neon<true, false>, kernel: K) -> K::Output {
    kernel.run(lanes)
}

/// Runs `kernel` compiled for NEON with `sdot` and `usdot`.
pub(crate) fn run_i8mm<K: Kernel>(lanes: Neon<true, true>, kernel: K) -> K::Output {
    // SAFETY: the proof is for the features that are enabled.
    unsafe { enabled_i8mm(lanes, kernel) }
}

#[target_feature(enable = "neon,dotprod,i8mm")]
fn enabled_i8mm<K: Kernel>(lanes: Neon<true, true>, kernel: K) -> K::Output {
    kernel.run(lanes)
}

/// `sum` plus the products of the four bytes of each lane, both signed.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot(mut sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction reads and writes registers alone.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {a:v}.16b, {b:v}.16b",
            sum = inout(vreg) sum,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// `sum` plus the products of the four bytes of each lane, those of `a` unsigned.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn usdot(mut sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction reads and writes registers alone.
    unsafe {
        asm!(
            "usdot {sum:v}.4s, {a:v}.16b, {b:v}.16b",
            sum = inout(vreg) sum,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// `sum` plus the products of the four bytes of each lane, both signed, of which two add up to a word.
#[inline]
#[target_feature(enable = "neon")]
fn widening_dot(sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    let (low, high) = (vmull_s8(vget_low_s8(a), vget_low_s8(b)), vmull_high_s8(a, b));
    vpadalq_s16(sum, vpaddq_s16(low, high))
}

/// Four numbers of half precision.
#[inline]
#[target_feature(enable = "neon")]
fn four_halves(bits: uint16x4_t) -> float32x4_t {
    let floats;
    // SAFETY: the instruction, which every CPU with NEON has, reads and writes registers alone.
    unsafe {
        asm!(
            "fcvtl {floats:v}.4s, {bits:v}.4h",
            floats = lateout(vreg) floats,
            bits = in(vreg) bits,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    floats
}

/// Four floats as numbers of half precision.
#[inline]
#[target_feature(enable = "neon")]
fn to_four_halves(floats: float32x4_t) -> uint16x4_t {
    let bits;
    // SAFETY: the instruction, which every CPU with NEON has, reads and writes registers alone.
    unsafe {
        asm!(
            "fcvtn {bits:v}.4h, {floats:v}.4s",
            bits = lateout(vreg) bits,
            floats = in(vreg) floats,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    bits
}

/// Columns of four rows.
#[inline]
#[target_feature(enable = "neon")]
fn transpose_four([a, b, c, d]: [int32x4_t; 4]) -> [int32x4_t; 4] {
    let pairs = |x| vreinterpretq_s64_s32(x);
    let (ab, ab_high) = (pairs(vzip1q_s32(a, b)), pairs(vzip2q_s32(a, b)));
    let (cd, cd_high) = (pairs(vzip1q_s32(c, d)), pairs(vzip2q_s32(c, d)));
    [
        vreinterpretq_s32_s64(vzip1q_s64(ab, cd)),
        vreinterpretq_s32_s64(vzip2q_s64(ab, cd)),
        vreinterpretq_s32_s64(vzip1q_s64(ab_high, cd_high)),
        vreinterpretq_s32_s64(vzip2q_s64(ab_high, cd_high)),
    ]
}

/// The greater lanes, as the scalar code compares them.
#[inline]
#[target_feature(enable = "neon")]
fn greater(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    vbslq_f32(vcgtq_f32(a, b), a, b)
}

/// The greatest lane.
#[inline]
#[target_feature(enable = "neon")]
fn greatest(x: [float32x4_t; 4]) -> f32 {
    let four = greater(greater(x[0], x[2]), greater(x[1], x[3]));
    let two = greater(four, vextq_f32::<2>(four, four));
    vgetq_lane_f32::<0>(greater(two, vextq_f32::<1>(two, two)))
}

/// Of sixteen lanes, the sums of lanes i, i + 4, i + 8 and i + 12, by halves.
#[inline]
#[target_feature(enable = "neon")]
fn sum_to_four(x: [float32x4_t; 4]) -> float32x4_t {
    vaddq_f32(vaddq_f32(x[0], x[2]), vaddq_f32(x[1], x[3]))
}

/// The sums of the lanes of four vectors, by halves.
#[inline]
#[target_feature(enable = "neon")]
fn sum_four([a, b, c, d]: [float32x4_t; 4]) -> float32x4_t {
    let two = |a, b| {
        let (a, b) = (vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b));
        vaddq_f32(vreinterpretq_f32_f64(vzip1q_f64(a, b)), vreinterpretq_f32_f64(vzip2q_f64(a, b)))
    };
    vpaddq_f32(two(a, b), two(c, d))
}

/// The low bytes of sixteen integers.
#[inline]
#[target_feature(enable = "neon")]
fn low_bytes(x: [int32x4_t; 4]) -> int8x16_t {
    let low = vcombine_s16(vmovn_s32(x[0]), vmovn_s32(x[1]));
    let high = vcombine_s16(vmovn_s32(x[2]), vmovn_s32(x[3]));
    vcombine_s8(vmovn_s16(low), vmovn_s16(high))
}

impl<const DOTPROD: bool, const I8MM: bool> Neon<DOTPROD, I8MM> {
    /// `sum` plus the products of the four bytes of each lane of `codes`, unsigned, of six bits or of eight if so marked,
    /// with those of `x`, signed and at least -127.
    #[inline(always)]
    fn dot<const EIGHT_BITS: bool>(self, sum: int32x4_t, codes: int32x4_t, x: int32x4_t) -> int32x4_t {
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            let (codes, x) = (vreinterpretq_s8_s32(codes), vreinterpretq_s8_s32(x));
            if I8MM {
                usdot(sum, codes, x)
            } else if EIGHT_BITS {
                // As signed codes, and 128 times the input, which does not fit into a signed byte.
                let signed = veorq_s8(codes, vdupq_n_s8(-128));
                if DOTPROD {
                    let half = vdupq_n_s8(64);
                    sdot(sdot(sdot(sum, signed, x), half, x), half, x)
                } else {
                    let sums = vpaddlq_s16(vpaddlq_s8(x));
                    widening_dot(vaddq_s32(sum, vshlq_n_s32::<7>(sums)), signed, x)
                }
            } else if DOTPROD {
                sdot(sum, codes, x)
            } else {
                widening_dot(sum, codes, x)
            }
        }
    }
}

impl<const DOTPROD: bool, const I8MM: bool> Lanes for Neon<DOTPROD, I8MM> {
    type Float = Floats;
    type Mask = Truths;
    const WIDE: bool = false;

    intrinsics! {
        add(a: Floats, b: Floats) -> Floats = vaddq_f32(a, b);
        sub(a: Floats, b: Floats) -> Floats = vsubq_f32(a, b);
        mul(a: Floats, b: Floats) -> Floats = vmulq_f32(a, b);
        div(a: Floats, b: Floats) -> Floats = vdivq_f32(a, b);
        // The CPU's own maximum is another where zeros differ in sign.
        max(a: Floats, b: Floats) -> Floats = greater(a, b);
        min(a: Floats, b: Floats) -> Floats = vbslq_f32(vcltq_f32(a, b), a, b);
        mul_add(a: Floats, b: Floats, c: Floats) -> Floats = vfmaq_f32(c, a, b);
        abs(x: Floats) -> Floats = vabsq_f32(x);
        sqrt(x: Floats) -> Floats = vsqrtq_f32(x);
        truncate(x: Floats) -> Floats = vrndq_f32(x);
        nearest(x: Floats) -> Floats = vcvtq_f32_s32(vsubq_s32(
            vandq_s32(vreinterpretq_s32_f32(vaddq_f32(x, vdupq_n_f32(ROUND))), vdupq_n_s32(0x007f_ffff)),
            vdupq_n_s32(0x0040_0000),
        ));
        lt(a: Floats, b: Floats) -> Truths = vcltq_f32(a, b);
        both(a: Truths, b: Truths) -> Truths = vandq_u32(a, b);
        select(mask: Truths, yes: Floats, no: Floats) -> Floats = vbslq_f32(mask, yes, no);
        select_lt(a: Floats, b: Floats, yes: Floats, no: Floats) -> Floats = vbslq_f32(vcltq_f32(a, b), yes, no);
        add_exponent(x: Floats, n: Floats) -> Floats = vreinterpretq_f32_s32(vaddq_s32(
            vreinterpretq_s32_f32(x),
            vshlq_n_s32::<23>(vreinterpretq_s32_f32(n)),
        ));
        add_bits(x: Floats, bits: Ints) -> Floats = vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(x), bits));
        int_to_float(x: Ints) -> Floats = vcvtq_f32_s32(x);
    }

    #[inline(always)]
    fn mask_bits(self, mask: Truths) -> u16 {
        const BITS: [u32; 4] = [1, 2, 4, 8];
        // SAFETY: a value of this type proves the instruction set; the array is a register.
        unsafe {
            let bits = vld1q_u32(BITS.as_ptr());
            let four = |i: usize| vaddvq_u32(vandq_u32(mask.0[i], bits)) << (4 * i);
            (four(0) | four(1) | four(2) | four(3)) as u16
        }
    }

    #[inline(always)]
    fn transpose(self, rows: [Floats; LANES]) -> [Floats; LANES] {
        let mut columns = rows;
        for i in 0..4 {
            for j in 0..4 {
                // SAFETY: a value of this type proves the instruction set.
                unsafe {
                    let row = |k: usize| vreinterpretq_s32_f32(rows[4 * i + k].0[j]);
                    let four = transpose_four([row(0), row(1), row(2), row(3)]);
                    for k in 0..4 {
                        columns[4 * j + k].0[i] = vreinterpretq_f32_s32(four[k]);
                    }
                }
            }
        }
        columns
    }

    #[inline(always)]
    fn put_bytes(self, x: Floats, bytes: &mut [u8; LANES]) {
        // SAFETY: a value of this type proves the instruction set; the array holds 16 bytes.
        unsafe {
            let integers = [0, 1, 2, 3].map(|i: usize| vcvtnq_s32_f32(x.0[i]));
            vst1q_s8(bytes.as_mut_ptr().cast(), low_bytes(integers));
        }
    }

    #[inline(always)]
    fn round_to_bytes(self, x: Floats, bytes: &mut [i8; LANES]) {
        // SAFETY: a value of this type proves the instruction set; the array holds 16 bytes.
        unsafe {
            let integers = [0, 1, 2, 3].map(|i: usize| vcvtnq_s32_f32(x.0[i]));
            vst1q_s8(bytes.as_mut_ptr(), low_bytes(integers));
        }
    }

    #[inline(always)]
    fn to_halves(self, x: Floats) -> [u16; LANES] {
        let mut halves = [0; LANES];
        for i in 0..4 {
            // SAFETY: a value of this type proves the instruction set; the array holds 16 numbers of two bytes.
            unsafe { vst1_u16(halves[4 * i..].as_mut_ptr(), to_four_halves(x.0[i])) };
        }
        halves
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Floats {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { Floats([vdupq_n_f32(x); 4]) }
    }

    #[inline(always)]
    fn halves_at<const SHIFT: u32>(self, x: Ints) -> Floats {
        let mut floats = self.splat(0.0);
        for i in 0..4 {
            // SAFETY: a value of this type proves the instruction set.
            unsafe {
                let lanes = vreinterpretq_u32_s32(x.0[i]);
                floats.0[i] = four_halves(if SHIFT == 0 { vmovn_u32(lanes) } else { vshrn_n_u32::<16>(lanes) });
            }
        }
        floats
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Floats {
        // SAFETY: the caller vouches for 16 floats.
        unsafe { Floats([vld1q_f32(from), vld1q_f32(from.add(4)), vld1q_f32(from.add(8)), vld1q_f32(from.add(12))]) }
    }

    #[inline(always)]
    unsafe fn load_half(self, from: *const u16) -> Floats {
        // SAFETY: the caller vouches for 16 numbers of two bytes.
        unsafe {
            Floats([
                four_halves(vld1_u16(from)),
                four_halves(vld1_u16(from.add(4))),
                four_halves(vld1_u16(from.add(8))),
                four_halves(vld1_u16(from.add(12))),
            ])
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, x: Floats) {
        for i in 0..4 {
            // SAFETY: the caller vouches for 16 floats.
            unsafe { vst1q_f32(to.add(4 * i), x.0[i]) };
        }
    }

    #[inline(always)]
    fn bytes(self, bytes: &[i8; LANES]) -> Floats {
        // SAFETY: a value of this type proves the instruction set; the array holds 16 bytes.
        unsafe {
            let bytes = vld1q_s8(bytes.as_ptr());
            let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
            self.int_to_float(Ints([
                vmovl_s16(vget_low_s16(low)),
                vmovl_high_s16(low),
                vmovl_s16(vget_low_s16(high)),
                vmovl_high_s16(high),
            ]))
        }
    }

    #[inline(always)]
    fn prefetch<T>(self, at: *const T) {
        // SAFETY: a prefetch of any address is harmless.
        unsafe { asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(readonly, nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn prefetch_far<T>(self, at: *const T) {
        // SAFETY: a prefetch of any address is harmless.
        unsafe { asm!("prfm pldl2keep, [{at}]", at = in(reg) at, options(readonly, nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn bits(self, x: Floats) -> Ints {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { Ints(x.0.map(|x| vreinterpretq_s32_f32(x))) }
    }

    #[inline(always)]
    fn lanes_at(self, table: Floats, at: Ints) -> Floats {
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            let [a, b, c, d] = table.0.map(|table| vreinterpretq_u8_f32(table));
            let table = uint8x16x4_t(a, b, c, d);
            Floats(at.0.map(|at| {
                // The four bytes of a lane.
                let first = vandq_u32(vreinterpretq_u32_s32(at), vdupq_n_u32(15));
                let bytes = vmlaq_n_u32(vdupq_n_u32(0x0302_0100), first, 0x0404_0404);
                vreinterpretq_f32_u8(vqtbl4q_u8(table, vreinterpretq_u8_u32(bytes)))
            }))
        }
    }

    #[inline(always)]
    fn max_lane(self, x: Floats) -> f32 {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { greatest(x.0) }
    }

    #[inline(always)]
    fn sum(self, x: Floats) -> f32 {
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            let four = sum_to_four(x.0);
            vgetq_lane_f32::<0>(sum_four([four; 4]))
        }
    }

    #[inline(always)]
    fn sums(self, vectors: &[Floats; LANES]) -> Floats {
        let mut sums = self.splat(0.0);
        for i in 0..4 {
            // SAFETY: a value of this type proves the instruction set.
            unsafe {
                let four = |k: usize| sum_to_four(vectors[4 * i + k].0);
                sums.0[i] = sum_four([four(0), four(1), four(2), four(3)]);
            }
        }
        sums
    }

    #[inline(always)]
    fn bf16_pairs(self, x: Ints) -> [Floats; 2] {
        let (mut even, mut odd) = (self.splat(0.0), self.splat(0.0));
        for i in 0..4 {
            // SAFETY: a value of this type proves the instruction set.
            unsafe {
                even.0[i] = vreinterpretq_f32_s32(vshlq_n_s32::<16>(x.0[i]));
                odd.0[i] = vreinterpretq_f32_s32(vandq_s32(x.0[i], vdupq_n_s32(0xffff_0000_u32.cast_signed())));
            }
        }
        [even, odd]
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
            if I8MM && is_aarch64_feature_detected!("bf16") {
                multiply_bf16(self, w, x, vectors, sums);
            } else {
                accumulate_bf16(self, w, x, vectors, sums);
            }
        }
    }

    #[inline(always)]
    fn half(self, bits: u16) -> f32 {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { vgetq_lane_f32::<0>(four_halves(vdup_n_u16(bits))) }
    }

    #[inline(always)]
    fn byte_products(self, rounds: usize) -> usize {
        const CHAINS: usize = 12;
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            let x = std::hint::black_box(vdupq_n_s32(0x0101_0101));
            let mut sums = [x; CHAINS];
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = self.dot::<false>(*sum, x, x);
                }
            }
            std::hint::black_box(sums);
        }
        16 * CHAINS * rounds
    }

    #[inline(always)]
    unsafe fn multiply<A: Rows, C: Columns<Self>, const ROWS: usize, const VECTORS: usize>(
        self,
        product: Product<A>,
        columns: C,
        depth: Range<usize>,
    ) {
        // SAFETY: the same contract.
        unsafe { multiply::<Self, A, C, ROWS, VECTORS>(self, product, columns, depth) }
    }
}

impl<const DOTPROD: bool, const I8MM: bool> Integers for Neon<DOTPROD, I8MM> {
    type Int = Ints;

    intrinsics! {
        add_int(a: Ints, b: Ints) -> Ints = vaddq_s32(a, b);
        mul_int(a: Ints, b: Ints) -> Ints = vmulq_s32(a, b);
        or_int(a: Ints, b: Ints) -> Ints = vorrq_s32(a, b);
        and_int(a: Ints, b: Ints) -> Ints = vandq_s32(a, b);
        low_words(a: Ints, b: Ints) -> Ints = vsliq_n_s32::<16>(a, b);
        add_low_product(sum: Ints, a: Ints, b: Ints) -> Ints =
            vmlaq_s32(sum, a, vshrq_n_s32::<16>(vshlq_n_s32::<16>(b)));
        dot_pairs(sum: Ints, a: Ints, b: Ints) -> Ints = {
            let (a, b) = (vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b));
            let low = vmull_s16(vget_low_s16(a), vget_low_s16(b));
            vaddq_s32(sum, vpaddq_s32(low, vmull_high_s16(a, b)))
        };
    }

    #[inline(always)]
    fn splat_int(self, x: i32) -> Ints {
        // SAFETY: a value of this type proves the instruction set.
        unsafe { Ints([vdupq_n_s32(x); 4]) }
    }

    #[inline(always)]
    unsafe fn load_int(self, from: *const i32) -> Ints {
        // SAFETY: the caller vouches for 64 bytes.
        unsafe { Ints([vld1q_s32(from), vld1q_s32(from.add(4)), vld1q_s32(from.add(8)), vld1q_s32(from.add(12))]) }
    }

    #[inline(always)]
    unsafe fn store_int(self, to: *mut i32, x: Ints) {
        for i in 0..4 {
            // SAFETY: the caller vouches for 64 bytes.
            unsafe { vst1q_s32(to.add(4 * i), x.0[i]) };
        }
    }

    #[inline(always)]
    unsafe fn join(self, low: *const u8, high: *const u8) -> Ints {
        // SAFETY: the caller vouches for 32 bytes each.
        unsafe { self.join_four([low, low.add(16), high, high.add(16)]) }
    }

    #[inline(always)]
    unsafe fn join_four(self, places: [*const u8; 4]) -> Ints {
        // SAFETY: the caller vouches for 16 bytes each.
        unsafe { Ints(places.map(|place| vreinterpretq_s32_u8(vld1q_u8(place)))) }
    }

    #[inline(always)]
    unsafe fn nibbles_of_eights(self, from: *const u8) -> Ints {
        // SAFETY: the caller vouches for 32 bytes.
        unsafe {
            let two = |from: *const u8| {
                let bytes = vld1q_u8(from);
                let low = vreinterpretq_s64_u8(vandq_u8(bytes, vdupq_n_u8(15)));
                let high = vreinterpretq_s64_u8(vshrq_n_u8::<4>(bytes));
                [vreinterpretq_s32_s64(vzip1q_s64(low, high)), vreinterpretq_s32_s64(vzip2q_s64(low, high))]
            };
            let ([a, b], [c, d]) = (two(from), two(from.add(16)));
            Ints([a, b, c, d])
        }
    }

    #[inline(always)]
    unsafe fn nibbles(self, low: *const u8, high: *const u8) -> Ints {
        // SAFETY: the caller vouches for 16 bytes each.
        unsafe {
            let (low, high) = (vld1q_u8(low), vld1q_u8(high));
            let mask = vdupq_n_u8(15);
            Ints([
                vreinterpretq_s32_u8(vandq_u8(low, mask)),
                vreinterpretq_s32_u8(vshrq_n_u8::<4>(low)),
                vreinterpretq_s32_u8(vandq_u8(high, mask)),
                vreinterpretq_s32_u8(vshrq_n_u8::<4>(high)),
            ])
        }
    }

    #[inline(always)]
    unsafe fn four_words_at(self, places: &[*const u8; LANES]) -> [Ints; 4] {
        let mut words = [self.splat_int(0); 4];
        for i in 0..4 {
            // SAFETY: the caller vouches for 16 bytes at each place.
            unsafe {
                let row = |k: usize| vreinterpretq_s32_u8(vld1q_u8(places[4 * i + k]));
                let four = transpose_four([row(0), row(1), row(2), row(3)]);
                for k in 0..4 {
                    words[k].0[i] = four[k];
                }
            }
        }
        words
    }

    #[inline(always)]
    fn zip_lanes(self, a: Ints, b: Ints) -> [[i32; 2]; LANES] {
        let mut pairs = [[0; 2]; LANES];
        for (i, to) in pairs.chunks_exact_mut(4).enumerate() {
            // SAFETY: a value of this type proves the instruction set; the slice holds eight integers.
            unsafe {
                let to: *mut i32 = to.as_mut_ptr().cast();
                vst1q_s32(to, vzip1q_s32(a.0[i], b.0[i]));
                vst1q_s32(to.add(4), vzip2q_s32(a.0[i], b.0[i]));
            }
        }
        pairs
    }

    #[inline(always)]
    fn and_bytes(self, x: Ints, mask: u8) -> Ints {
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            let mask = vreinterpretq_s32_u8(vdupq_n_u8(mask));
            Ints(x.0.map(|x| vandq_s32(x, mask)))
        }
    }

    #[inline(always)]
    fn xor_bytes(self, x: Ints, mask: u8) -> Ints {
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            let mask = vreinterpretq_s32_u8(vdupq_n_u8(mask));
            Ints(x.0.map(|x| veorq_s32(x, mask)))
        }
    }

    #[inline(always)]
    fn shl_int<const N: u32>(self, x: Ints) -> Ints {
        self.shl_halves::<N, N>(x)
    }

    #[inline(always)]
    fn shl_halves<const LOW: u32, const HIGH: u32>(self, x: Ints) -> Ints {
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            let (low, high) = (vdupq_n_s32(LOW.cast_signed()), vdupq_n_s32(HIGH.cast_signed()));
            let [a, b, c, d] = x.0;
            Ints([vshlq_s32(a, low), vshlq_s32(b, low), vshlq_s32(c, high), vshlq_s32(d, high)])
        }
    }

    #[inline(always)]
    fn shr_halves<const LOW: u32, const HIGH: u32>(self, x: Ints) -> Ints {
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            // Shifts to the left by less than nothing.
            let (low, high) = (vdupq_n_s32(-LOW.cast_signed()), vdupq_n_s32(-HIGH.cast_signed()));
            let shift = |x, count| vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(x), count));
            let [a, b, c, d] = x.0;
            Ints([shift(a, low), shift(b, low), shift(c, high), shift(d, high)])
        }
    }

    #[inline(always)]
    fn bytes_of_bits(self, bits: [u32; 2], value: u8) -> Ints {
        // SAFETY: a value of this type proves the instruction set.
        unsafe {
            // Each byte of the bits eight times, and of each byte one bit.
            let own = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
            let quarter = |bits: u32| {
                let spread = vcombine_u8(vdup_n_u8(bits as u8), vdup_n_u8((bits >> 8) as u8));
                vreinterpretq_s32_u8(vandq_u8(vtstq_u8(spread, own), vdupq_n_u8(value)))
            };
            Ints([quarter(bits[0]), quarter(bits[0] >> 16), quarter(bits[1]), quarter(bits[1] >> 16)])
        }
    }

    #[inline(always)]
    fn lookup(self, table: &[u8; 16], codes: Ints) -> Ints {
        // SAFETY: a value of this type proves the instruction set; the table has 16 bytes.
        unsafe {
            let table = vld1q_u8(table.as_ptr());
            Ints(codes.0.map(|codes| vreinterpretq_s32_u8(vqtbl1q_u8(table, vreinterpretq_u8_s32(codes)))))
        }
    }

    #[inline(always)]
    fn dot_bytes<const EIGHT_BITS: bool>(self, sum: Ints, codes: Ints, x: Ints) -> Ints {
        let mut sums = sum;
        for i in 0..4 {
            sums.0[i] = self.dot::<EIGHT_BITS>(sum.0[i], codes.0[i], x.0[i]);
        }
        sums
    }

    #[inline(always)]
    fn sums_of_16(self, bytes: &[i8; 256]) -> [i16; 16] {
        let mut sums = [0; 16];
        for (sum, bytes) in sums.iter_mut().zip(bytes.as_chunks::<16>().0) {
            // SAFETY: a value of this type proves the instruction set; the array holds 16 bytes.
            *sum = unsafe { vaddlvq_s8(vld1q_s8(bytes.as_ptr())) };
        }
        sums
    }

    #[inline(always)]
    fn dot_scaled(self, sum: Ints, codes: Ints, x: Ints, scales: &[i16; 16], spread: &Spread) -> Ints {
        let mut sums = sum;
        for i in 0..4 {
            // The codes of a register have one scale.
            let scale = i32::from(scales[usize::from(spread[8 * i] & 15)]);
            // SAFETY: a value of this type proves the instruction set.
            unsafe {
                let products = self.dot::<false>(vdupq_n_s32(0), codes.0[i], x.0[i]);
                sums.0[i] = vmlaq_n_s32(sum.0[i], products, scale);
            }
        }
        sums
    }

    #[inline(always)]
    fn dot_scaled_by_eight(self, sum: Ints, codes: Ints, x: Ints, scales: [i32; 2], spread: &Spread) -> Ints {
        let scales = [scales[0].to_le_bytes(), scales[1].to_le_bytes()];
        let mut sums = sum;
        for i in 0..4 {
            // As above.
            let which = usize::from(spread[8 * i] & 7);
            let scale = i32::from(scales[which / 4][which % 4]);
            // SAFETY: a value of this type proves the instruction set.
            unsafe {
                let products = self.dot::<false>(vdupq_n_s32(0), codes.0[i], x.0[i]);
                sums.0[i] = vmlaq_n_s32(sum.0[i], products, scale);
            }
        }
        sums
    }

    #[inline(always)]
    fn dot_words(self, a: &[i16; 16], b: &[i16; 16]) -> Ints {
        // SAFETY: a value of this type proves the instruction set; arrays are as long as what is read from them.
        unsafe {
            let (a, b) = (a.as_ptr(), b.as_ptr());
            let (a, b) = ([vld1q_s16(a), vld1q_s16(a.add(8))], [vld1q_s16(b), vld1q_s16(b.add(8))]);
            let low = |i: usize| vmull_s16(vget_low_s16(a[i]), vget_low_s16(b[i]));
            let high = |i: usize| vmull_high_s16(a[i], b[i]);
            Ints([low(0), high(0), low(1), high(1)])
        }
    }

    #[inline(always)]
    fn transpose_words(self, words: &mut [[i32; LANES]; LANES]) {
        transpose_words(self, words);
    }

    #[inline(always)]
    fn sum_each(self, v: &[Ints; LANES]) -> Ints {
        let mut sums = self.splat_int(0);
        for i in 0..4 {
            // SAFETY: a value of this type proves the instruction set.
            unsafe {
                let four = |k: usize| {
                    let x = v[4 * i + k].0;
                    vaddq_s32(vaddq_s32(x[0], x[1]), vaddq_s32(x[2], x[3]))
                };
                sums.0[i] = vpaddq_s32(vpaddq_s32(four(0), four(1)), vpaddq_s32(four(2), four(3)));
            }
        }
        sums
    }

    #[inline(always)]
    fn sum_quarters_each(self, v: &[Ints; LANES]) -> [Ints; 4] {
        let mut sums = [self.splat_int(0); 4];
        for (quarter, sums) in sums.iter_mut().enumerate() {
            for i in 0..4 {
                // SAFETY: a value of this type proves the instruction set.
                unsafe {
                    let four = |k: usize| v[4 * i + k].0[quarter];
                    sums.0[i] = vpaddq_s32(vpaddq_s32(four(0), four(1)), vpaddq_s32(four(2), four(3)));
                }
            }
        }
        sums
    }

    #[inline(always)]
    fn sum_halves_each(self, v: &[Ints; LANES]) -> [Ints; 2] {
        let [a, b, c, d] = self.sum_quarters_each(v);
        [self.add_int(a, b), self.add_int(c, d)]
    }
}

/// [`Lanes::accumulate_bf16`] with the instructions that multiply the odd and the even numbers of pairs, each rounded
/// once. (`bfdot` and `bfmmla` round differently.)
///
/// # Safety
/// As there.
#[target_feature(enable = "neon,bf16")]
unsafe fn multiply_bf16<const DOTPROD: bool, const I8MM: bool, const R: usize, const T: usize>(
    l: Neon<DOTPROD, I8MM>,
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
                for i in 0..4 {
                    sums[t][r].0[i] = add_bf16_products(sums[t][r].0[i], weights[r].0[i], x.0[i]);
                }
            }
        }
    }
    store_sums(l, &sums, waiting);
}

/// [`Lanes::dot_bf16`] of four lanes.
#[inline]
#[target_feature(enable = "neon,bf16")]
fn add_bf16_products(mut sum: float32x4_t, a: int32x4_t, b: int32x4_t) -> float32x4_t {
    // SAFETY: the instructions read and write registers alone.
    unsafe {
        asm!(
            "bfmlalt {sum:v}.4s, {a:v}.8h, {b:v}.8h",
            "bfmlalb {sum:v}.4s, {a:v}.8h, {b:v}.8h",
            sum = inout(vreg) sum,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}
