//! TQ1_0 and TQ2_0: the codes of a super-block.

use crate::formats::SUPER_BLOCK;
use crate::simd::LANES;
use crate::simd::lanes::Lanes;

/// The codes 0, 1 and 2 of the numbers nearest to `-d`, 0 and `d`, and `d`, which is the greatest magnitude.
#[inline(always)]
pub(in crate::formats) fn codes<L: Lanes>(l: L, x: &[f32; SUPER_BLOCK]) -> ([u8; SUPER_BLOCK], f32) {
    let chunks = x.as_chunks::<LANES>().0;
    let mut greatest = l.splat(0.0);
    for x in chunks {
        let magnitude = l.abs(l.array(x));
        // Not `max`, which may return what is no number.
        greatest = l.select_lt(greatest, magnitude, magnitude, greatest);
    }
    let d = l.max_lane(greatest);
    // Where the inverse overflows, all codes are those of zero.
    let inverse = if d > 0.0 && (1.0 / d).is_finite() { 1.0 / d } else { 0.0 };
    // One half is rounded away from zero: this is the greatest number below.
    let (inverse, below_half) = (l.splat(inverse), 0.5f32.next_down());
    let mut codes = [0; SUPER_BLOCK];
    for (x, codes) in chunks.iter().zip(codes.as_chunks_mut().0) {
        let scaled = l.mul(l.array(x), inverse);
        let low = l.select_lt(scaled, l.splat(-below_half), l.splat(0.0), l.splat(1.0));
        l.put_bytes(l.select_lt(l.splat(below_half), scaled, l.splat(2.0), low), codes);
    }
    (codes, d)
}
