//! Scales of input blocks that are sums or differences of two powers of two.
//!
//! A factor of weights times such a scale is the sum of two numbers that differ from the factor in their exponents
//! alone. Integer additions to exponents and float additions run on other execution ports than products, so this is faster where
//! the products of bytes keep the multiplication ports busy. It is exact: a factor in half precision has eleven significant
//! bits, such a scale at most five.

use crate::simd::lanes::Lanes;

/// The scales between one power of two and the next: the scale in 16ths, the exponents of its two powers, and whether it is
/// their difference (otherwise their sum).
const STEPS: [(u32, [i32; 2], bool); 8] = [
    (16, [-1, -1], false),
    (17, [0, -4], false),
    (18, [0, -3], false),
    (20, [0, -2], false),
    (24, [0, -1], false),
    (28, [1, -2], true),
    (30, [1, -3], true),
    (31, [1, -4], true),
];
/// Mantissa bits of a float, and those of them below a 16th.
const MANTISSA: u32 = 23;
const BELOW_16THS: u32 = MANTISSA - 4;
const BIAS: i32 = 127;
/// The largest magnitude of an exponent for which a scale is split into powers.
const MOST: u32 = 90;
/// Factors with a magnitude between these, and their products with such scales, are normal floats. All half-precision numbers
/// other than zero are in this range.
const FACTORS: [f32; 2] = [1.0 / (1 << 25) as f32, (1 << 17) as f32];

/// For each 16th between two powers of two: the next step at or above it, in 16ths.
const NEXT: [u32; 17] = {
    let (mut next, mut at, mut step) = ([32; 17], 0, 0);
    while step < STEPS.len() {
        while 16 + at <= STEPS[step].0 {
            next[at as usize] = STEPS[step].0;
            at += 1;
        }
        step += 1;
    }
    next
};

/// For each 16th that is a step: what has to be added to the bits of 1.0 to get its two powers.
const WORDS: [[i32; 2]; 16] = {
    let (mut words, mut step) = ([[0; 2]; 16], 0);
    while step < STEPS.len() {
        let (in_16ths, [a, b], minus) = STEPS[step];
        let sign = if minus { i32::MIN } else { 0 };
        words[in_16ths as usize - 16] = [a << MANTISSA, (b << MANTISSA) ^ sign];
        step += 1;
    }
    words
};

/// The bits of the inverse of each step.
const INVERSES: [u32; 16] = {
    let (mut inverses, mut step) = ([0; 16], 0);
    while step < STEPS.len() {
        let in_16ths = STEPS[step].0;
        inverses[in_16ths as usize - 16] = (16.0 / in_16ths as f32).to_bits();
        step += 1;
    }
    inverses
};

/// The smallest scale of two powers at or above `scale` (which must not be negative), and its inverse, which needs no division.
/// Scales whose exponent is too large or too small are returned as they are.
#[inline(always)]
pub(super) fn round_up(scale: f32) -> (f32, f32) {
    let bits = scale.to_bits();
    let at = (bits & ((1 << MANTISSA) - 1)).div_ceil(1 << BELOW_16THS);
    let rounded = (bits >> MANTISSA << MANTISSA) + ((NEXT[at as usize] - 16) << BELOW_16THS);
    let exponent = (rounded >> MANTISSA) as i32 - BIAS;
    if exponent.unsigned_abs() > MOST {
        return (scale, 1.0 / scale);
    }
    let inverse = INVERSES[(rounded >> BELOW_16THS) as usize % 16].wrapping_add_signed(-exponent << MANTISSA);
    (f32::from_bits(rounded), f32::from_bits(inverse))
}

/// For a `scale` that [`round_up`] returned: the two words that turn a factor into its products with the two powers when they are
/// added to its bits, and whether the exponent is in range. A zero scale needs no valid words: its codes are all zero.
#[inline(always)]
pub(super) fn words(scale: f32) -> ([i32; 2], bool) {
    let bits = scale.to_bits();
    let exponent = (bits >> MANTISSA) as i32 - BIAS;
    let [a, b] = WORDS[(bits >> BELOW_16THS) as usize % 16];
    let words = [a.wrapping_add(exponent << MANTISSA), b.wrapping_add(exponent << MANTISSA)];
    let inside = exponent.unsigned_abs() <= MOST;
    (if inside { words } else { [0; 2] }, inside | (bits == 0))
}

/// Whether all factors are in range for powers.
#[inline(always)]
pub(super) fn in_range<L: Lanes>(l: L, factors: L::Float) -> bool {
    let magnitudes = l.abs(factors);
    let inside = l.both(l.lt(l.splat(FACTORS[0]), magnitudes), l.lt(magnitudes, l.splat(FACTORS[1])));
    l.mask_bits(inside) == u16::MAX
}

/// `factors` times the scale that `words` stand for.
#[inline(always)]
pub(super) fn multiply<L: Lanes>(l: L, factors: L::Float, words: [i32; 2]) -> L::Float {
    l.add(l.add_bits(factors, l.splat_int(words[0])), l.add_bits(factors, l.splat_int(words[1])))
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::simd::Isa;
    use crate::simd::LANES;
    use crate::simd::lanes::Kernel;

    struct Multiply([f32; LANES], [i32; 2]);

    impl Kernel for Multiply {
        type Output = Option<[f32; LANES]>;

        #[inline(always)]
        fn run<L: Lanes>(self, l: L) -> Self::Output {
            let factors = l.array(&self.0);
            in_range(l, factors).then_some(l.to_array(multiply(l, factors, self.1)))
        }
    }

    #[test]
    fn scales_are_rounded_up_by_a_third_at_most() {
        for scale in (0x1280_0000..0x6c00_0000).step_by(10_007).map(f32::from_bits) {
            let (rounded, inverse) = round_up(scale);
            assert!(rounded >= scale && rounded <= scale * 1.334, "{scale}: {rounded}");
            assert!(round_up(rounded) == (rounded, 1.0 / rounded) && inverse == 1.0 / rounded, "{scale}: {inverse}");
        }
        for far in [0.0, 1e-40, 1e30, f32::INFINITY] {
            assert!(round_up(far) == (far, 1.0 / far), "{far}");
        }
        assert!(round_up(f32::NAN).0.is_nan());
    }

    #[test]
    fn sums_of_powers_are_the_products_on_every_cpu() {
        let scales = [1.0, 1.03, 1.1, 1.2, 1.4, 1.6, 1.8, 1.9, 1.99].map(|scale| round_up(scale).0);
        let distinct: std::collections::BTreeSet<u32> = scales.iter().map(|scale| scale.to_bits()).collect();
        assert_eq!(distinct.len(), STEPS.len() + 1);
        let factors =
            (0..=u16::MAX).map(f16::from_bits).filter(|f| f.is_finite() && *f != f16::ZERO && *f != -f16::ZERO);
        let factors: Vec<f32> = factors.map(f32::from).collect();
        for isa in Isa::ALL.iter().filter(|isa| isa.available()) {
            for (scale, exponent) in scales.iter().flat_map(|scale| [-90, -3, 89].map(|n| (scale, n))) {
                let scale = scale * 2f32.powi(exponent);
                let (words, inside) = words(scale);
                assert!(inside, "{scale}");
                for factors in factors.as_chunks().0 {
                    let products = isa.run(Multiply(*factors, words)).expect("factors of half precision");
                    assert_eq!(products, factors.map(|factor| factor * scale), "{isa}: {scale}");
                }
            }
            for odd in [0.0, -0.0, f32::NAN, f32::INFINITY, 2e5, 1e-8] {
                let mut factors = [1.0; LANES];
                factors[5] = odd;
                assert!(isa.run(Multiply(factors, [0; 2])).is_none(), "{isa}: {odd}");
            }
        }
        assert!([1e30, 1e-30, f32::INFINITY, f32::NAN].iter().all(|scale| !words(*scale).1));
        assert!(words(0.0).1);
    }
}
