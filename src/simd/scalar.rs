//! The reference for every instruction set, and what runs where there is none: plain Rust on arrays.
//!
//! On x86-64, where this is little more than the reference, methods are calls: inlined into every kernel they take a
//! quarter of the build.

#![allow(unsafe_code, reason = "loads and stores go through raw pointers, as in every instruction set")]

use std::ops::Range;

use half::f16;

use super::LANES;
use super::integers::{Integers, Spread};
use super::lanes::{Columns, Lanes, Product, ROUND, Rows, multiply};

/// Plain Rust on arrays.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

/// One lane-wise method of [`Scalar`].
macro_rules! lane_wise {
    ($($name:ident($($argument:ident),+) = $result:expr;)*) => {$(
        #[cfg_attr(target_arch = "x86_64", inline(never))]
        #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
        fn $name(self, $($argument: Self::Float),+) -> Self::Float {
            std::array::from_fn(|lane| { $(let $argument = $argument[lane];)+ $result })
        }
    )*};
}

/// `a * b + c`, rounded once.
#[cfg(not(all(windows, target_env = "gnu")))]
#[inline(always)]
fn fused(a: f32, b: f32, c: f32) -> f32 {
    a.mul_add(b, c)
}

/// `a * b + c`, rounded once: what mingw's C library has for it rounds twice.
#[cfg(all(windows, target_env = "gnu"))]
#[inline(always)]
fn fused(a: f32, b: f32, c: f32) -> f32 {
    fused_by_sums(a, b, c)
}

/// `a * b + c` rounded to odd in double precision, where the product is exact, and then to nearest: as if rounded once.
#[cfg(any(all(windows, target_env = "gnu"), test))]
fn fused_by_sums(a: f32, b: f32, c: f32) -> f32 {
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c;
    let of_c = sum - product;
    let lost = (product - (sum - of_c)) + (c - of_c);
    let bits = sum.to_bits();
    let to_odd = lost != 0.0 && sum.is_finite() && bits & 1 == 0;
    let away = (lost > 0.0) == (sum > 0.0);
    let bits = if to_odd { if away { bits + 1 } else { bits - 1 } } else { bits };
    f64::from_bits(bits) as f32
}

impl Lanes for Scalar {
    type Float = [f32; LANES];
    type Mask = [bool; LANES];
    const WIDE: bool = false;
    const TILES: bool = false;

    lane_wise! {
        add(a, b) = a + b;
        sub(a, b) = a - b;
        mul(a, b) = a * b;
        div(a, b) = a / b;
        max(a, b) = if a > b { a } else { b };
        min(a, b) = if a < b { a } else { b };
        mul_add(a, b, c) = fused(a, b, c);
        abs(x) = x.abs();
        sqrt(x) = x.sqrt();
        truncate(x) = x.trunc();
        nearest(x) = ((x + ROUND).to_bits() & 0x007f_ffff) as i32 as f32 - 4_194_304.0;
        select_lt(a, b, yes, no) = if a < b { yes } else { no };
        add_exponent(x, n) = f32::from_bits(x.to_bits().wrapping_add(n.to_bits() << 23));
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    fn lt(self, a: Self::Float, b: Self::Float) -> Self::Mask {
        std::array::from_fn(|lane| a[lane] < b[lane])
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    fn both(self, a: Self::Mask, b: Self::Mask) -> Self::Mask {
        std::array::from_fn(|lane| a[lane] && b[lane])
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    fn select(self, mask: Self::Mask, yes: Self::Float, no: Self::Float) -> Self::Float {
        std::array::from_fn(|lane| if mask[lane] { yes[lane] } else { no[lane] })
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    fn mask_bits(self, mask: Self::Mask) -> u16 {
        mask.iter().enumerate().fold(0, |bits, (lane, &set)| bits | u16::from(set) << lane)
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    fn transpose(self, rows: [Self::Float; LANES]) -> [Self::Float; LANES] {
        std::array::from_fn(|i| std::array::from_fn(|j| rows[j][i]))
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    fn put_bytes(self, x: Self::Float, bytes: &mut [u8; LANES]) {
        *bytes = x.map(|lane| (lane + ROUND).to_bits() as u8);
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    fn to_halves(self, x: Self::Float) -> [u16; LANES] {
        x.map(|lane| f16::from_f32(lane).to_bits())
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    fn splat(self, x: f32) -> Self::Float {
        [x; LANES]
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    unsafe fn load(self, from: *const f32) -> Self::Float {
        // SAFETY: the caller vouches for 16 floats.
        unsafe { from.cast::<[f32; LANES]>().read_unaligned() }
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    unsafe fn load_half(self, from: *const u16) -> Self::Float {
        // SAFETY: the caller vouches for 16 numbers of two bytes.
        unsafe { from.cast::<[u16; LANES]>().read_unaligned() }.map(|bits| f16::from_bits(bits).to_f32())
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    unsafe fn store(self, to: *mut f32, x: Self::Float) {
        // SAFETY: the caller vouches for 16 floats.
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(x) }
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    fn max_lane(self, x: Self::Float) -> f32 {
        x.into_iter().fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a })
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    fn int_to_float(self, x: Self::Int) -> Self::Float {
        x.map(|x| x as f32)
    }

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

/// `f` of every lane, or pair of lanes.
macro_rules! lane_wise_integers {
    ($($name:ident($($argument:ident),+) = $result:expr;)*) => {$(
        #[cfg_attr(target_arch = "x86_64", inline(never))]
        #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
        fn $name(self, $($argument: Self::Int),+) -> Self::Int {
            std::array::from_fn(|lane| { $(let $argument = $argument[lane];)+ $result })
        }
    )*};
}

/// The bytes of a lane.
#[inline(always)]
fn bytes(lane: i32) -> [u8; 4] {
    lane.to_ne_bytes()
}

/// The signed words of a lane, the low one first.
#[inline(always)]
fn words(lane: i32) -> [i32; 2] {
    [i32::from(lane as i16), lane >> 16]
}

/// Lanes made of 64 bytes.
#[inline(always)]
fn from_bytes(byte: impl Fn(usize) -> u8) -> [i32; LANES] {
    std::array::from_fn(|lane| i32::from_ne_bytes(std::array::from_fn(|i| byte(4 * lane + i))))
}

impl Integers for Scalar {
    type Int = [i32; LANES];

    lane_wise_integers! {
        add_int(a, b) = a.wrapping_add(b);
        mul_int(a, b) = a.wrapping_mul(b);
        or_int(a, b) = a | b;
        and_int(a, b) = a & b;
        low_words(a, b) = a & 0xffff | b << 16;
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    fn splat_int(self, x: i32) -> Self::Int {
        [x; LANES]
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    unsafe fn load_int(self, from: *const i32) -> Self::Int {
        // SAFETY: the caller vouches for 64 bytes.
        unsafe { from.cast::<[i32; LANES]>().read_unaligned() }
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    unsafe fn store_int(self, to: *mut i32, x: Self::Int) {
        // SAFETY: the caller vouches for 64 bytes.
        unsafe { to.cast::<[i32; LANES]>().write_unaligned(x) }
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    unsafe fn join(self, low: *const u8, high: *const u8) -> Self::Int {
        // SAFETY: the caller vouches for 32 bytes each.
        let halves = unsafe { [low.cast::<[u8; 32]>().read(), high.cast::<[u8; 32]>().read()] };
        from_bytes(|i| halves[i / 32][i % 32])
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    unsafe fn join_four(self, places: [*const u8; 4]) -> Self::Int {
        // SAFETY: the caller vouches for 16 bytes each.
        let quarters = places.map(|place| unsafe { place.cast::<[u8; 16]>().read() });
        from_bytes(|i| quarters[i / 16][i % 16])
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    unsafe fn nibbles(self, low: *const u8, high: *const u8) -> Self::Int {
        // SAFETY: the caller vouches for 16 bytes each.
        let halves = unsafe { [low.cast::<[u8; 16]>().read(), high.cast::<[u8; 16]>().read()] };
        from_bytes(|i| halves[i / 32][i % 16] >> (i / 16 % 2 * 4) & 15)
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    fn and_bytes(self, x: Self::Int, mask: u8) -> Self::Int {
        x.map(|x| x & i32::from_ne_bytes([mask; 4]))
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    fn xor_bytes(self, x: Self::Int, mask: u8) -> Self::Int {
        x.map(|x| x ^ i32::from_ne_bytes([mask; 4]))
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    fn shl_int<const N: u32>(self, x: Self::Int) -> Self::Int {
        x.map(|x| x << N)
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    fn shl_halves<const LOW: u32, const HIGH: u32>(self, x: Self::Int) -> Self::Int {
        std::array::from_fn(|lane| x[lane] << if lane < 8 { LOW } else { HIGH })
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    fn shr_halves<const LOW: u32, const HIGH: u32>(self, x: Self::Int) -> Self::Int {
        std::array::from_fn(|lane| (x[lane] as u32 >> if lane < 8 { LOW } else { HIGH }) as i32)
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    fn bytes_of_bits(self, bits: [u32; 2], value: u8) -> Self::Int {
        from_bytes(|i| if bits[i / 32] >> (i % 32) & 1 == 1 { value } else { 0 })
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    fn lookup(self, table: &[u8; 16], codes: Self::Int) -> Self::Int {
        codes.map(|lane| i32::from_ne_bytes(bytes(lane).map(|code| table[usize::from(code & 15)])))
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    fn dot_bytes<const EIGHT_BITS: bool>(self, sum: Self::Int, codes: Self::Int, x: Self::Int) -> Self::Int {
        std::array::from_fn(|lane| {
            let products = bytes(codes[lane]).into_iter().zip(bytes(x[lane]));
            sum[lane] + products.map(|(code, x)| i32::from(code) * i32::from(x as i8)).sum::<i32>()
        })
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    fn dot_pairs(self, sum: Self::Int, a: Self::Int, b: Self::Int) -> Self::Int {
        std::array::from_fn(|lane| {
            let ([a, b], [c, d]) = (words(a[lane]), words(b[lane]));
            sum[lane] + a * c + b * d
        })
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    fn dot_scaled(
        self,
        sum: Self::Int,
        codes: Self::Int,
        x: Self::Int,
        scales: &[i16; 16],
        spread: &Spread,
    ) -> Self::Int {
        std::array::from_fn(|lane| {
            let (codes, x) = (bytes(codes[lane]), bytes(x[lane]));
            let product = |i: usize| {
                let scale = i32::from(scales[usize::from(spread[2 * lane + i / 2] & 15)]);
                scale * i32::from(codes[i]) * i32::from(x[i] as i8)
            };
            sum[lane] + product(0) + product(1) + product(2) + product(3)
        })
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    fn dot_scaled_by_eight(
        self,
        sum: Self::Int,
        codes: Self::Int,
        x: Self::Int,
        scales: [i32; 2],
        spread: &Spread,
    ) -> Self::Int {
        let mut words = [0; 16];
        for (i, word) in words[..8].iter_mut().enumerate() {
            *word = i16::from(bytes(scales[i / 4])[i % 4]);
        }
        self.dot_scaled(sum, codes, x, &words, spread)
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    fn dot_words(self, a: &[i16; 16], b: &[i16; 16]) -> Self::Int {
        std::array::from_fn(|lane| i32::from(a[lane]) * i32::from(b[lane]))
    }
}

#[cfg(test)]
mod tests {
    use super::fused_by_sums;

    #[cfg(not(all(windows, target_env = "gnu")))]
    #[test]
    fn sums_are_rounded_once() {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) as u32
        };
        // Magnitudes near one, so that bits of all three meet.
        let number = |bits: u32| f32::from_bits(bits & 0x807f_ffff | (115 + (bits >> 23) % 24) << 23);
        for i in 0..200_000 {
            let (a, b, mut c) = (number(next()), number(next()), number(next()));
            if i % 2 == 0 {
                // Almost nothing is left.
                c = -(a * b) * (1.0 + ((next() % 7) as f32 - 3.0) * f32::EPSILON);
            }
            assert_eq!(fused_by_sums(a, b, c).to_bits(), a.mul_add(b, c).to_bits(), "{a:e} * {b:e} + {c:e}");
        }
        for [a, b, c] in [[f32::INFINITY, 1.0, 2.0], [f32::MAX, 2.0, -1.0], [0.0, -1.0, -0.0], [1e-30, 1e-15, 1e-40]] {
            assert_eq!(fused_by_sums(a, b, c).to_bits(), a.mul_add(b, c).to_bits(), "{a:e} * {b:e} + {c:e}");
        }
        assert!(fused_by_sums(f32::NAN, 1.0, 1.0).is_nan());
    }

    #[test]
    fn what_lies_beyond_double_precision_counts() {
        // Half a step above a float, and a little more.
        let (a, c) = (1.0 + 2f32.powi(-12), 2f32.powi(-60));
        assert_eq!(fused_by_sums(a, a, c), 1.0 + 2f32.powi(-11) + 2f32.powi(-23));
        assert_eq!(fused_by_sums(a, a, -c), 1.0 + 2f32.powi(-11));
    }
}
