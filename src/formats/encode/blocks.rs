//! Formats with blocks of 32 elements: the scales of sixteen blocks are computed in lanes, then the codes block by block.

use super::encode_scalar;
use crate::TensorType;
use crate::formats::{BLOCK, put_block};
use crate::simd::LANES;
use crate::simd::lanes::Lanes;

/// Blocks of a group.
type Group = [[f32; BLOCK]; LANES];

/// Sixteen blocks; missing ones are zeros.
#[inline(always)]
fn group<'a>(x: &'a [[f32; BLOCK]], padded: &'a mut Group) -> &'a Group {
    match x.first_chunk() {
        Some(whole) => whole,
        None => {
            padded[..x.len()].copy_from_slice(x);
            padded
        }
    }
}

/// Steps of sixteen blocks.
struct Steps {
    /// As stored.
    halves: [u16; LANES],
    /// One over the step, zero for a step of zero.
    inverse: [f32; LANES],
    /// Blocks whose inverse may overflow: the scalar encoder writes them.
    needs_scalar: u16,
}

#[inline(always)]
fn steps<L: Lanes>(l: L, step: L::Float) -> Steps {
    let size = l.abs(step);
    let some = l.lt(l.splat(0.0), size);
    let usual = l.both(l.lt(l.splat(f32::MIN_POSITIVE), size), l.lt(size, l.splat(f32::MAX)));
    let inverse = l.select(some, l.div(l.splat(1.0), step), l.splat(0.0));
    Steps {
        halves: l.to_halves(step),
        inverse: l.to_array(inverse),
        needs_scalar: l.mask_bits(some) & !l.mask_bits(usual),
    }
}

/// The two halves of a block.
#[inline(always)]
fn halves<L: Lanes>(l: L, x: &[f32; BLOCK]) -> [L::Float; 2] {
    let chunks = x.as_chunks::<LANES>().0;
    [l.array(&chunks[0]), l.array(&chunks[1])]
}

/// The greatest magnitude of each block.
#[inline(always)]
fn magnitudes<L: Lanes>(l: L, x: &Group) -> L::Float {
    let mut rows = [l.splat(0.0); LANES];
    for b in 0..LANES {
        let [low, high] = halves(l, &x[b]);
        rows[b] = l.max(l.abs(low), l.abs(high));
    }
    let columns = l.transpose(rows);
    let mut all = columns[0];
    for i in 1..LANES {
        all = l.max(all, columns[i]);
    }
    all
}

/// The smallest and the greatest element of each block; either of 0.0 and -0.0 where both are present.
#[inline(always)]
fn extremes<L: Lanes>(l: L, x: &Group) -> (L::Float, L::Float) {
    let (mut mins, mut maxs) = ([l.splat(0.0); LANES], [l.splat(0.0); LANES]);
    for b in 0..LANES {
        let [low, high] = halves(l, &x[b]);
        (mins[b], maxs[b]) = (l.min(low, high), l.max(low, high));
    }
    (mins, maxs) = (l.transpose(mins), l.transpose(maxs));
    let (mut min, mut max) = (mins[0], maxs[0]);
    for i in 1..LANES {
        (min, max) = (l.min(min, mins[i]), l.max(max, maxs[i]));
    }
    (min, max)
}

/// Q8_0.
#[inline(always)]
pub(in crate::formats) fn whole_bytes<L: Lanes>(l: L, x: &[f32], out: &mut [u8]) {
    const BYTES: usize = TensorType::Q8_0.block_bytes();
    // The greatest number below one half: adding it and truncating rounds halves away from zero.
    let below_half = 0.5f32.next_down();
    let (up, down, zero) = (l.splat(below_half), l.splat(-below_half), l.splat(0.0));
    let mut padded = [[0.0; BLOCK]; LANES];
    for (x, out) in x.as_chunks().0.chunks(LANES).zip(out.chunks_mut(LANES * BYTES)) {
        let steps = steps(l, l.div(magnitudes(l, group(x, &mut padded)), l.splat(127.0)));
        for (b, (x, block)) in x.iter().zip(out.as_chunks_mut::<BYTES>().0).enumerate() {
            if steps.needs_scalar >> b & 1 != 0 {
                encode_scalar(TensorType::Q8_0, x, None, block);
                continue;
            }
            block[..2].copy_from_slice(&steps.halves[b].to_le_bytes());
            let inverse = l.splat(steps.inverse[b]);
            let codes = block[2..].as_chunks_mut::<LANES>().0;
            for (v, codes) in halves(l, x).into_iter().zip(codes) {
                let scaled = l.mul(v, inverse);
                let offset = l.select(l.lt(scaled, zero), down, up);
                l.put_bytes(l.truncate(l.add(scaled, offset)), codes);
            }
        }
    }
}

/// Q4_0, or with `FIVE` bits Q5_0.
#[inline(always)]
pub(in crate::formats) fn symmetric<L: Lanes, const FIVE: bool>(l: L, x: &[f32], out: &mut [u8]) {
    let (ty, half) = if FIVE { (TensorType::Q5_0, 16.0) } else { (TensorType::Q4_0, 8.0) };
    let (offset, top) = (l.splat(half + 0.5), l.splat(2.0 * half - 1.0));
    let mut padded = [[0.0; BLOCK]; LANES];
    for (x, out) in x.as_chunks().0.chunks(LANES).zip(out.chunks_mut(ty.block_bytes() * LANES)) {
        let magnitudes = l.to_array(magnitudes(l, group(x, &mut padded)));
        let mut greatest = [0.0; LANES];
        for (b, x) in x.iter().enumerate() {
            greatest[b] = first_of_magnitude(l, x, magnitudes[b]);
        }
        let steps = steps(l, l.div(l.array(&greatest), l.splat(-half)));
        for (b, (x, block)) in x.iter().zip(out.chunks_exact_mut(ty.block_bytes())).enumerate() {
            if steps.needs_scalar >> b & 1 != 0 {
                encode_scalar(ty, x, None, block);
                continue;
            }
            let inverse = l.splat(steps.inverse[b]);
            let mut codes = [0; BLOCK];
            for (v, codes) in halves(l, x).into_iter().zip(codes.as_chunks_mut().0) {
                l.put_bytes(l.min(l.truncate(l.add(l.mul(v, inverse), offset)), top), codes);
            }
            put_block::<FIVE>(steps.halves[b], None, &codes, block);
        }
    }
}

/// The first element of the given magnitude; zero for none.
#[inline(always)]
fn first_of_magnitude<L: Lanes>(l: L, x: &[f32; BLOCK], magnitude: f32) -> f32 {
    if magnitude == 0.0 {
        return 0.0;
    }
    let [low, high] = halves(l, x);
    let magnitude = l.splat(magnitude);
    let smaller = [l.mask_bits(l.lt(l.abs(low), magnitude)), l.mask_bits(l.lt(l.abs(high), magnitude))];
    let first = (u32::from(smaller[0]) | u32::from(smaller[1]) << 16).trailing_ones() as usize;
    x[first % BLOCK]
}

/// Q4_1, or with `FIVE` bits Q5_1.
#[inline(always)]
pub(in crate::formats) fn affine<L: Lanes, const FIVE: bool>(l: L, x: &[f32], out: &mut [u8]) {
    let (ty, top) = if FIVE { (TensorType::Q5_1, 31.0) } else { (TensorType::Q4_1, 15.0) };
    let (half, top) = (l.splat(0.5), l.splat(top));
    let mut padded = [[0.0; BLOCK]; LANES];
    for (x, out) in x.as_chunks().0.chunks(LANES).zip(out.chunks_mut(ty.block_bytes() * LANES)) {
        let (min, max) = extremes(l, group(x, &mut padded));
        let mut mins = l.to_array(min);
        for (min, x) in mins.iter_mut().zip(x) {
            // The sign of a zero min is that of the first zero in the block.
            if *min == 0.0 {
                *min = x.iter().copied().find(|&v| v == 0.0).unwrap_or(*min);
            }
        }
        let min = l.array(&mins);
        // Subtracting a positive zero from a negative one would give a zero of another sign than the reference's.
        let max = l.add(max, l.splat(0.0));
        let steps = steps(l, l.div(l.sub(max, min), top));
        let min_halves = l.to_halves(min);
        for (b, (x, block)) in x.iter().zip(out.chunks_exact_mut(ty.block_bytes())).enumerate() {
            if steps.needs_scalar >> b & 1 != 0 {
                encode_scalar(ty, x, None, block);
                continue;
            }
            let (min, inverse) = (l.splat(mins[b]), l.splat(steps.inverse[b]));
            let mut codes = [0; BLOCK];
            for (v, codes) in halves(l, x).into_iter().zip(codes.as_chunks_mut().0) {
                l.put_bytes(l.min(l.truncate(l.add(l.mul(l.sub(v, min), inverse), half)), top), codes);
            }
            put_block::<FIVE>(steps.halves[b], Some(min_halves[b]), &codes, block);
        }
    }
}
