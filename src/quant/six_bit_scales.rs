//! The eight pairs of six-bit scales and mins that Q4_K and Q5_K keep in twelve bytes, and the search for them.

use super::scale_search::{Search, scale_and_min};
use super::{SUPER_BLOCK, f16_at, nearest, put_f16};

/// Sub-blocks of a super-block.
const SUB_BLOCKS: usize = 8;
/// Elements of a sub-block.
const SUB_BLOCK: usize = 32;
/// Where the twelve bytes stand in a block; `d` and `dmin` stand before.
const OFFSET: usize = 4;

/// Scales and mins from the twelve bytes of a Q4_K or Q5_K block.
fn unpack(packed: &[u8]) -> ([u8; SUB_BLOCKS], [u8; SUB_BLOCKS]) {
    let (mut scales, mut mins) = ([0; SUB_BLOCKS], [0; SUB_BLOCKS]);
    for j in 0..4 {
        scales[j] = packed[j] & 63;
        mins[j] = packed[j + 4] & 63;
        scales[j + 4] = packed[j + 8] & 15 | packed[j] >> 6 << 4;
        mins[j + 4] = packed[j + 8] >> 4 | packed[j + 4] >> 6 << 4;
    }
    (scales, mins)
}

fn pack(scales: [u8; SUB_BLOCKS], mins: [u8; SUB_BLOCKS], packed: &mut [u8]) {
    for j in 0..4 {
        packed[j] = scales[j] | scales[j + 4] >> 4 << 6;
        packed[j + 4] = mins[j] | mins[j + 4] >> 4 << 6;
        packed[j + 8] = scales[j + 4] & 15 | (mins[j + 4] & 15) << 4;
    }
}

/// Writes a super-block's `d`, `dmin` and scales, and returns the codes of its elements.
pub(super) fn encode(x: &[f32], search: &Search, block: &mut [u8]) -> [u8; SUPER_BLOCK] {
    let mut codes = [0; SUPER_BLOCK];
    let (mut scales, mut mins) = ([0.0; SUB_BLOCKS], [0.0; SUB_BLOCKS]);
    let (mut max_scale, mut max_min) = (0.0f32, 0.0f32);
    for (j, (x, codes)) in x.chunks_exact(SUB_BLOCK).zip(codes.chunks_exact_mut(SUB_BLOCK)).enumerate() {
        let mut squares = 0.0;
        for &v in x {
            squares += v * v;
        }
        let typical = (squares / SUB_BLOCK as f32).sqrt();
        let weights: [f32; SUB_BLOCK] = std::array::from_fn(|i| typical + x[i].abs());
        (scales[j], mins[j]) = scale_and_min(x, &weights, codes, search);
        if scales[j] > max_scale {
            max_scale = scales[j];
        }
        if mins[j] > max_min {
            max_min = mins[j];
        }
    }
    let six_bits = |max: f32, values: [f32; SUB_BLOCKS]| {
        let inverse = if max > 0.0 { 63.0 / max } else { 0.0 };
        values.map(|v| (nearest(inverse * v) as u8).min(63))
    };
    let (scales, mins) = (six_bits(max_scale, scales), six_bits(max_min, mins));
    let d = put_f16(block, 0, max_scale / 63.0);
    let dmin = put_f16(block, 2, max_min / 63.0);
    pack(scales, mins, &mut block[OFFSET..OFFSET + 12]);
    for (j, (x, codes)) in x.chunks_exact(SUB_BLOCK).zip(codes.chunks_exact_mut(SUB_BLOCK)).enumerate() {
        let d = d * f32::from(scales[j]);
        if d == 0.0 {
            continue;
        }
        let min = dmin * f32::from(mins[j]);
        for (code, &v) in codes.iter_mut().zip(x) {
            *code = nearest((v + min) / d).clamp(0, search.top) as u8;
        }
    }
    codes
}

/// Each sub-block's scale and min as floats.
pub(super) fn grids(block: &[u8]) -> [(f32, f32); SUB_BLOCKS] {
    let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
    let (scales, mins) = unpack(&block[OFFSET..OFFSET + 12]);
    std::array::from_fn(|j| (d * f32::from(scales[j]), dmin * f32::from(mins[j])))
}

#[cfg(test)]
mod tests {
    use super::{pack, unpack};

    #[test]
    fn packing_leads_back() {
        let scales = [0, 63, 17, 40, 5, 62, 33, 16];
        let mins = [63, 1, 32, 47, 60, 0, 15, 31];
        let mut packed = [0; 12];
        pack(scales, mins, &mut packed);
        assert_eq!(unpack(&packed), (scales, mins));
    }
}
