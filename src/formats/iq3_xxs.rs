//! IQ3_XXS: 256 elements in 98 bytes: d; for each four elements an entry of a codebook (a byte); for each 32 elements
//! their signs (four times seven bits) and a four-bit scale.
//!
//! `x = d * (scale + 1/2) / 2 * v`.

use std::sync::LazyLock;

use super::codebook::{even_signs, fours, levels_of_fours, put_signed, signed_evenly};
use super::encode::grid;
use super::grid_search::{self, Grid, GridSearch, Kind, OnGrid, SearchResult, four_bits};
use super::view::{ONES, SuperBlockFormat, ViewVisitor, WideCentered, doubled, vectors, word32, word64};
use super::{Format, InLanes, Written, f16_at, put_f16, u32_at};
use crate::TensorType;
use crate::simd::lanes::Lanes;

const CODES: usize = 2;
const SIGNS: usize = 66;

pub(crate) struct Iq3Xxs;

impl Format for Iq3Xxs {
    const TY: TensorType = TensorType::IQ3_XXS;

    fn decode_block(block: &[u8], out: &mut [f32]) {
        let d = f16_at(block, 0);
        for (j, out) in out.chunks_exact_mut(32).enumerate() {
            let signs = u32_at(block, SIGNS + 4 * j);
            let scale = d * (0.5 + (signs >> 28) as f32) * 0.5;
            for (k, out) in out.chunks_exact_mut(4).enumerate() {
                let eight = even_signs((signs >> (k / 2 * 7)) as u8);
                let entry = CODEBOOK[usize::from(block[CODES + 8 * j + k])];
                put_signed(&entry.to_le_bytes(), eight >> (k % 2 * 4), scale, out);
            }
        }
    }

    #[inline(always)]
    fn view<V: ViewVisitor>(visitor: V) -> V::Output {
        visitor.super_blocks::<Self>()
    }
}

static GRID: LazyLock<Grid<4>> = LazyLock::new(|| Grid::new(levels_of_fours(&PACKED), 8, 2));

impl Written for Iq3Xxs {
    fn encode_block(x: &[f32], importance: Option<&[f32]>, block: &mut [u8]) {
        grid_search::encode_block::<Self, 4>(x, importance, block);
    }
}

impl OnGrid<4> for Iq3Xxs {
    const SEARCH: GridSearch = GridSearch {
        sub_block: 32,
        top: 7,
        trials: 15,
        step: 0.2,
        least: 1e-8,
        spread: 2.0,
        even_signs: true,
        kind: Kind::Between,
    };

    fn grid() -> &'static Grid<4> {
        &GRID
    }

    #[inline(always)]
    fn weight(_: f32, x: f32) -> f32 {
        x * x
    }

    fn put_block(found: &SearchResult, _: &[f32], block: &mut [u8]) {
        block.fill(0);
        if found.greatest == 0.0 {
            return;
        }
        let (scales, d) = four_bits(&found.scales, found.greatest);
        put_f16(block, 0, d * 1.0125);
        for (code, &entry) in block[CODES..SIGNS].iter_mut().zip(&found.entries) {
            *code = entry as u8;
        }
        for (j, word) in block[SIGNS..].chunks_exact_mut(4).enumerate() {
            let scale = u32::from(scales[j]) << 28;
            let signs = (0..4).fold(scale, |bits, k| bits | u32::from(found.signs[4 * j + k]) << (7 * k));
            word.copy_from_slice(&signs.to_le_bytes());
        }
    }
}

impl InLanes for Iq3Xxs {
    #[inline(always)]
    fn encode_lanes<L: Lanes>(l: L, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        grid::encode::<L, Self, 4>(l, x, importance, out);
    }
}

impl SuperBlockFormat for Iq3Xxs {
    type Shape = WideCentered<64>;
    const SCALE_BIAS: i16 = 0;
    const FACTORS: usize = 0;
    const UNIT: f32 = 0.25;
    #[inline(always)]
    fn codes<L: Lanes>(l: L, block: &[u8]) -> [L::Int; 4] {
        let mut codes = [0; 32];
        for (j, codes) in codes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let entries =
                word64(block, CODES + 8 * j).to_le_bytes().map(|entry| u64::from(CODEBOOK[usize::from(entry)]));
            let signs = word32(block, SIGNS + 4 * j);
            for (k, code) in codes.iter_mut().enumerate() {
                *code = signed_evenly(entries[2 * k] | entries[2 * k + 1] << 32, signs >> (7 * k), 64 * ONES);
            }
        }
        vectors(l, &codes)
    }

    #[inline(always)]
    fn scale_bytes<L: Lanes>(_: L, block: &[u8]) -> [u64; 2] {
        let mut scales = 0;
        for j in 0..8 {
            scales |= u64::from(block[SIGNS + 4 * j + 3] >> 4) << (8 * j);
        }
        doubled(scales << 1 | ONES)
    }
}

static CODEBOOK: [u32; 256] = fours(&PACKED, [4, 12, 20, 28, 36, 44, 52, 62]);

#[rustfmt::skip]
const PACKED: [u16; 256] = [
    0x0000, 0x0002, 0x0004, 0x0011, 0x0013, 0x0017, 0x0020, 0x0022, 0x0031, 0x0042, 0x0073, 0x0075, 0x0101, 0x0103,
    0x0110, 0x0112, 0x0121, 0x0125, 0x0130, 0x0132, 0x0141, 0x0154, 0x0170, 0x0200, 0x0202, 0x0204, 0x0211, 0x0220,
    0x0222, 0x0231, 0x0233, 0x0237, 0x0251, 0x0257, 0x0275, 0x0301, 0x0307, 0x0310, 0x0312, 0x0325, 0x0370, 0x0413,
    0x0437, 0x0444, 0x0457, 0x0473, 0x0475, 0x0501, 0x0507, 0x0532, 0x0552, 0x0635, 0x0664, 0x0710, 0x0714, 0x0716,
    0x0743, 0x0761, 0x1001, 0x1003, 0x1010, 0x1012, 0x1021, 0x1023, 0x1030, 0x1032, 0x1034, 0x1047, 0x1050, 0x1100,
    0x1102, 0x1111, 0x1120, 0x1122, 0x1201, 0x1203, 0x1210, 0x1212, 0x1221, 0x1230, 0x1272, 0x1300, 0x1302, 0x1320,
    0x1331, 0x1346, 0x1366, 0x1401, 0x1405, 0x1450, 0x1520, 0x1524, 0x1546, 0x1571, 0x1605, 0x1722, 0x1740, 0x2000,
    0x2002, 0x2011, 0x2013, 0x2020, 0x2022, 0x2026, 0x2031, 0x2042, 0x2101, 0x2103, 0x2105, 0x2110, 0x2112, 0x2121,
    0x2130, 0x2163, 0x2167, 0x2170, 0x2200, 0x2202, 0x2211, 0x2217, 0x2220, 0x2222, 0x2237, 0x2240, 0x2255, 0x2301,
    0x2310, 0x2314, 0x2370, 0x2374, 0x2435, 0x2453, 0x2503, 0x2527, 0x2541, 0x2574, 0x2701, 0x2703, 0x2716, 0x2745,
    0x3001, 0x3010, 0x3012, 0x3021, 0x3023, 0x3050, 0x3065, 0x3072, 0x3100, 0x3102, 0x3120, 0x3131, 0x3144, 0x3146,
    0x3201, 0x3203, 0x3210, 0x3225, 0x3252, 0x3272, 0x3311, 0x3333, 0x3430, 0x3447, 0x3472, 0x3500, 0x3506, 0x3522,
    0x3555, 0x3614, 0x3636, 0x3663, 0x3733, 0x3760, 0x4004, 0x4017, 0x4035, 0x4037, 0x4053, 0x4057, 0x4174, 0x4220,
    0x4237, 0x4240, 0x4260, 0x4266, 0x4307, 0x4345, 0x4404, 0x4451, 0x4464, 0x4525, 0x4543, 0x4570, 0x4705, 0x4710,
    0x4712, 0x4730, 0x5012, 0x5041, 0x5070, 0x5100, 0x5106, 0x5126, 0x5155, 0x5214, 0x5232, 0x5272, 0x5302, 0x5353,
    0x5410, 0x5423, 0x5427, 0x5472, 0x5502, 0x5531, 0x5650, 0x5724, 0x5742, 0x6024, 0x6044, 0x6046, 0x6064, 0x6121,
    0x6161, 0x6217, 0x6264, 0x6330, 0x6336, 0x6444, 0x6505, 0x6552, 0x6633, 0x6703, 0x6721, 0x7003, 0x7005, 0x7007,
    0x7010, 0x7032, 0x7052, 0x7126, 0x7140, 0x7212, 0x7245, 0x7252, 0x7300, 0x7315, 0x7333, 0x7360, 0x7421, 0x7441,
    0x7500, 0x7502, 0x7524, 0x7630,
];
