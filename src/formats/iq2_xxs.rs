//! IQ2_XXS: 256 elements in 66 bytes: d; for each 32 elements four entries of a codebook (a byte each), signs of their
//! eight elements (seven bits each) and a four-bit scale.
//!
//! `x = d * (scale + 1/2) / 4 * v`.

use std::sync::LazyLock;

use super::codebook::{MAGNITUDES, eights, even_signs, levels_of_eights, put_signed, signed_evenly};
use super::encode::grid;
use super::grid_search::{self, Grid, GridSearch, Kind, OnGrid, SearchResult, four_bits};
use super::super_block::spread;
use super::view::{ONES, SuperBlockFormat, ViewVisitor, WideCentered, doubled, vectors, word32};
use super::{Format, InLanes, TINY, Written, f16_at, put_f16, u32_at};
use crate::TensorType;
use crate::simd::lanes::Lanes;

const CODES: usize = 2;

pub(crate) struct Iq2Xxs;

impl Format for Iq2Xxs {
    const TY: TensorType = TensorType::IQ2_XXS;

    fn decode_block(block: &[u8], out: &mut [f32]) {
        let d = f16_at(block, 0);
        for (words, out) in block[CODES..].chunks_exact(8).zip(out.chunks_exact_mut(32)) {
            let signs = u32_at(words, 4);
            let scale = d * (0.5 + (signs >> 28) as f32) * 0.25;
            for (k, out) in out.chunks_exact_mut(8).enumerate() {
                put_signed(
                    &CODEBOOK[usize::from(words[k])].to_le_bytes(),
                    even_signs((signs >> (7 * k)) as u8),
                    scale,
                    out,
                );
            }
        }
    }

    #[inline(always)]
    fn view<V: ViewVisitor>(visitor: V) -> V::Output {
        visitor.super_blocks::<Self>()
    }
}

static GRID: LazyLock<Grid<8>> = LazyLock::new(|| Grid::new(levels_of_eights(&PACKED), 3, 2));

impl Written for Iq2Xxs {
    fn encode_block(x: &[f32], importance: Option<&[f32]>, block: &mut [u8]) {
        grid_search::encode_block::<Self, 8>(x, importance, block);
    }
}

impl OnGrid<8> for Iq2Xxs {
    const SEARCH: GridSearch = GridSearch {
        sub_block: 32,
        top: 2,
        trials: 6,
        step: 0.1,
        least: TINY,
        spread: 1.0,
        even_signs: true,
        kind: Kind::All,
    };

    fn grid() -> &'static Grid<8> {
        &GRID
    }

    #[inline(always)]
    fn weight(mean_square: f32, x: f32) -> f32 {
        spread(1.0, mean_square, x)
    }

    fn put_block(found: &SearchResult, _: &[f32], block: &mut [u8]) {
        block.fill(0);
        if found.greatest == 0.0 {
            return;
        }
        let (scales, d) = four_bits(&found.scales, found.greatest);
        put_f16(block, 0, d);
        for (j, words) in block[CODES..].chunks_exact_mut(8).enumerate() {
            let mut signs = u32::from(scales[j]) << 28;
            for k in 0..4 {
                words[k] = found.entries[4 * j + k] as u8;
                signs |= u32::from(found.signs[4 * j + k]) << (7 * k);
            }
            words[4..].copy_from_slice(&signs.to_le_bytes());
        }
    }
}

impl InLanes for Iq2Xxs {
    #[inline(always)]
    fn encode_lanes<L: Lanes>(l: L, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        grid::encode::<L, Self, 8>(l, x, importance, out);
    }
}

impl SuperBlockFormat for Iq2Xxs {
    type Shape = WideCentered<64>;
    const SCALE_BIAS: i16 = 0;
    const FACTORS: usize = 0;
    const UNIT: f32 = 0.125;
    #[inline(always)]
    fn codes<L: Lanes>(l: L, block: &[u8]) -> [L::Int; 4] {
        let mut codes = [0; 32];
        for (words, codes) in block[CODES..].as_chunks::<8>().0.iter().zip(codes.as_chunks_mut::<4>().0) {
            let signs = word32(words, 4);
            for (k, code) in codes.iter_mut().enumerate() {
                *code = signed_evenly(CODEBOOK[usize::from(words[k])], signs >> (7 * k), 64 * ONES);
            }
        }
        vectors(l, &codes)
    }

    #[inline(always)]
    fn scale_bytes<L: Lanes>(_: L, block: &[u8]) -> [u64; 2] {
        let mut scales = 0;
        for (j, words) in block[CODES..].as_chunks::<8>().0.iter().enumerate() {
            scales |= u64::from(words[7] >> 4) << (8 * j);
        }
        doubled(scales << 1 | ONES)
    }
}

static CODEBOOK: [u64; 256] = eights(&PACKED, MAGNITUDES);

#[rustfmt::skip]
const PACKED: [u16; 256] = [
    0x0000, 0x0002, 0x0005, 0x0008, 0x000a, 0x0011, 0x0014, 0x0020, 0x0022, 0x0028, 0x002a, 0x0041, 0x0044, 0x0050,
    0x0058, 0x0061, 0x0064, 0x0080, 0x0082, 0x008a, 0x00a2, 0x0101, 0x0104, 0x0110, 0x0115, 0x0140, 0x0184, 0x0198,
    0x0200, 0x0202, 0x0222, 0x0282, 0x0401, 0x0404, 0x0410, 0x0421, 0x0424, 0x0440, 0x0442, 0x0448, 0x0460, 0x0481,
    0x0484, 0x0490, 0x04a4, 0x0500, 0x0502, 0x0508, 0x0520, 0x0546, 0x0569, 0x0580, 0x0591, 0x0609, 0x0610, 0x0640,
    0x0684, 0x06a4, 0x0800, 0x0805, 0x0808, 0x0814, 0x0828, 0x0841, 0x0844, 0x0850, 0x0852, 0x0888, 0x0904, 0x0940,
    0x0a02, 0x0a14, 0x1001, 0x1004, 0x1010, 0x1021, 0x1040, 0x1060, 0x1084, 0x1090, 0x1095, 0x1100, 0x1108, 0x1120,
    0x1150, 0x115a, 0x1180, 0x1224, 0x1245, 0x1400, 0x1408, 0x1420, 0x1425, 0x1449, 0x1480, 0x1518, 0x1562, 0x1600,
    0x1616, 0x1801, 0x1804, 0x1810, 0x1840, 0x1881, 0x1900, 0x1905, 0x19a0, 0x1a51, 0x2000, 0x2002, 0x200a, 0x2044,
    0x2061, 0x2080, 0x2082, 0x2129, 0x2148, 0x2200, 0x2202, 0x2401, 0x2404, 0x2410, 0x2440, 0x2456, 0x2500, 0x2541,
    0x2564, 0x2690, 0x2808, 0x2820, 0x2894, 0x2a44, 0x4001, 0x4004, 0x4010, 0x4018, 0x4021, 0x4024, 0x4040, 0x4048,
    0x4056, 0x4060, 0x4081, 0x4084, 0x4090, 0x4100, 0x4120, 0x4161, 0x4180, 0x4185, 0x4201, 0x4210, 0x4248, 0x4256,
    0x4268, 0x4400, 0x4408, 0x4420, 0x4480, 0x4499, 0x4512, 0x4524, 0x4600, 0x4801, 0x4804, 0x4810, 0x4840, 0x4845,
    0x4900, 0x4958, 0x4961, 0x4982, 0x4a45, 0x4a90, 0x5000, 0x5008, 0x5011, 0x5019, 0x5020, 0x5080, 0x5088, 0x5104,
    0x5142, 0x51a4, 0x5291, 0x5490, 0x5492, 0x550a, 0x5601, 0x5654, 0x5800, 0x5811, 0x5819, 0x5864, 0x5940, 0x5a08,
    0x6004, 0x6010, 0x6040, 0x6068, 0x6100, 0x6155, 0x6218, 0x6260, 0x6400, 0x6405, 0x6510, 0x6512, 0x6584, 0x6842,
    0x8000, 0x8002, 0x800a, 0x8041, 0x8082, 0x8104, 0x8118, 0x8140, 0x8211, 0x8401, 0x8404, 0x8410, 0x8415, 0x8440,
    0x8460, 0x8500, 0x8546, 0x8594, 0x8609, 0x8640, 0x8660, 0x8802, 0x8904, 0x8a11, 0x9004, 0x9010, 0x9024, 0x9040,
    0x90a1, 0x9116, 0x9180, 0x9245, 0x9400, 0x9422, 0x9444, 0x9551, 0x9881, 0x9920, 0xa002, 0xa050, 0xa085, 0xa109,
    0xa200, 0xa418, 0xa850, 0xa904,
];
