//! The eight pairs of six-bit scales and mins that Q4_K and Q5_K keep in twelve bytes.

use super::super_block::Codes;
use super::{f16_at, nearest, put_f16};

/// Sub-blocks of a super-block.
const SUB_BLOCKS: usize = 8;
/// Elements of a sub-block.
pub(super) const SUB_BLOCK: usize = 32;
/// Offset of the twelve bytes in a block; `d` and `dmin` are before them.
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

/// Writes `d`, `dmin` and the first eight scales and mins, and returns each sub-block's step and min as stored.
pub(super) fn put(scales: &[f32; 16], mins: &[f32; 16], block: &mut [u8]) -> [(f32, f32); 16] {
    put_codes(&six_bits(scales), &six_bits(mins), block)
}

/// Writes the first eight scales and mins as codes, with the steps between them as `d` and `dmin`; returns each
/// sub-block's step and min as stored.
pub(super) fn put_codes(scales: &Codes, mins: &Codes, block: &mut [u8]) -> [(f32, f32); 16] {
    put_f16(block, 0, scales.step);
    put_f16(block, 2, mins.step);
    pack(first(scales), first(mins), &mut block[OFFSET..OFFSET + 12]);
    let mut stored = [(0.0, 0.0); 16];
    stored[..SUB_BLOCKS].copy_from_slice(&grids(block));
    stored
}

fn first(scales: &Codes) -> [u8; SUB_BLOCKS] {
    std::array::from_fn(|j| scales.codes[j])
}

/// A six-bit code for each value, and the step between codes.
fn six_bits(values: &[f32; 16]) -> Codes {
    let mut max = 0.0f32;
    for &v in &values[..SUB_BLOCKS] {
        if v > max {
            max = v;
        }
    }
    let inverse = if max > 0.0 { 63.0 / max } else { 0.0 };
    let mut codes = [0; 16];
    for (code, &v) in codes.iter_mut().zip(&values[..SUB_BLOCKS]) {
        *code = (nearest(inverse * v) as u8).min(63);
    }
    Codes { codes, step: max / 63.0 }
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
