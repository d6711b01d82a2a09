//! A page of cached positions: how keys and values lie in it, in each type.
//!
//! A head's positions lie side by side in long runs: one token's attention reads them as fast as memory gives them.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::{KvSpec, KvType};
use crate::TensorType;
use crate::formats::encode;
use crate::kernels::attention::{Numbers, TILE};
use crate::kernels::q8_tile::{Q8_BLOCK, Q8Tile};
use crate::kernels::{Isa, LANES};

/// Positions of a page, a multiple of a tile's.
pub(super) const POSITIONS: usize = TILES * TILE;
/// Tiles of a page.
const TILES: usize = 8;

/// Positions of all heads: keys as `[head, POSITIONS / 16, k_dim, 16]`, values as `[head, POSITIONS, width]`.
#[derive(Clone)]
pub(super) enum Page {
    F32 {
        keys: Vec<f32>,
        values: Vec<f32>,
    },
    F16 {
        keys: Vec<u16>,
        values: Vec<u16>,
    },
    /// Bytes with a scale (half precision) for each 32 elements of a position: keys' as
    /// `[head, POSITIONS / 16, ceil(k_dim / 32), 16]`, values' as `[head, POSITIONS, ceil(width / 32)]`.
    Q8 {
        keys: Vec<i8>,
        key_scales: Vec<u16>,
        values: Vec<i8>,
        value_scales: Vec<u16>,
    },
}

/// Space for a tile's numbers as floats, where the cache's type is not computed with directly.
#[derive(Default)]
pub(in crate::cpu) struct TileBuffer {
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// Sizes that follow from a [`KvSpec`].
#[derive(Clone, Copy)]
struct Layout {
    k_dim: usize,
    v_dim: usize,
    /// Elements of a row of values.
    width: usize,
    /// Scales of a key.
    k_scales: usize,
    /// Scales of a row of values.
    v_scales: usize,
}

impl Layout {
    fn new(spec: &KvSpec) -> Self {
        let width = spec.v_dim.next_multiple_of(LANES);
        let (k_scales, v_scales) = (spec.k_dim.div_ceil(Q8_BLOCK), width.div_ceil(Q8_BLOCK));
        Self { k_dim: spec.k_dim, v_dim: spec.v_dim, width, k_scales, v_scales }
    }

    /// Where the key at `slot` of `head` begins, among rows of `len` elements; the next ones follow at steps of 16.
    fn key_at(head: usize, slot: usize, len: usize) -> usize {
        (head * POSITIONS + slot / LANES * LANES) * len + slot % LANES
    }

    /// Where the row at `slot` of `head` begins, among rows of `len` elements.
    fn row_at(head: usize, slot: usize, len: usize) -> usize {
        (head * POSITIONS + slot) * len
    }
}

impl Page {
    /// A page of zeros.
    pub(super) fn new(spec: &KvSpec) -> Self {
        let layout = Layout::new(spec);
        let positions = spec.heads * POSITIONS;
        let (keys, values) = (positions * layout.k_dim, positions * layout.width);
        match spec.ty {
            KvType::F32 => Self::F32 { keys: vec![0.0; keys], values: vec![0.0; values] },
            KvType::F16 => Self::F16 { keys: vec![0; keys], values: vec![0; values] },
            KvType::Q8_0 => Self::Q8 {
                keys: vec![0; keys],
                key_scales: vec![0; positions * layout.k_scales],
                values: vec![0; values],
                value_scales: vec![0; positions * layout.v_scales],
            },
        }
    }

    /// Bytes that it holds.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::F32 { keys, values } => 4 * (keys.len() + values.len()),
            Self::F16 { keys, values } => 2 * (keys.len() + values.len()),
            Self::Q8 { keys, key_scales, values, value_scales } => {
                keys.len() + values.len() + 2 * (key_scales.len() + value_scales.len())
            }
        }
    }

    /// Writes one position: key `[heads * k_dim]`, value `[heads * v_dim]`.
    pub(super) fn put(&mut self, spec: &KvSpec, slot: usize, key: &[f32], value: &[f32]) {
        let layout = Layout::new(spec);
        let Layout { k_dim, v_dim, width, .. } = layout;
        match self {
            Self::F32 { keys, values } => {
                for (head, key) in key.chunks_exact(k_dim).enumerate() {
                    scatter(&mut keys[Layout::key_at(head, slot, k_dim)..], key);
                }
                for (head, value) in value.chunks_exact(v_dim).enumerate() {
                    values[Layout::row_at(head, slot, width)..][..v_dim].copy_from_slice(value);
                }
            }
            Self::F16 { keys, values } => {
                let mut halves = vec![f16::ZERO; key.len().max(value.len())];
                halves[..key.len()].convert_from_f32_slice(key);
                let bits: &[u16] = halves[..key.len()].reinterpret_cast();
                for (head, key) in bits.chunks_exact(k_dim).enumerate() {
                    scatter(&mut keys[Layout::key_at(head, slot, k_dim)..], key);
                }
                halves[..value.len()].convert_from_f32_slice(value);
                let bits: &[u16] = halves[..value.len()].reinterpret_cast();
                for (head, value) in bits.chunks_exact(v_dim).enumerate() {
                    values[Layout::row_at(head, slot, width)..][..v_dim].copy_from_slice(value);
                }
            }
            Self::Q8 { keys, key_scales, values, value_scales } => {
                for (head, key) in key.chunks_exact(k_dim).enumerate() {
                    let (codes, scales) = quantize(key);
                    scatter(&mut keys[Layout::key_at(head, slot, k_dim)..], &codes);
                    scatter(&mut key_scales[Layout::key_at(head, slot, layout.k_scales)..], &scales);
                }
                for (head, value) in value.chunks_exact(v_dim).enumerate() {
                    let (codes, scales) = quantize(value);
                    values[Layout::row_at(head, slot, width)..][..v_dim].copy_from_slice(&codes);
                    value_scales[Layout::row_at(head, slot, layout.v_scales)..][..scales.len()]
                        .copy_from_slice(&scales);
                }
            }
        }
    }

    /// Keys and values of head `head` in tile `tile`, counted from any page's first, where they can be computed with as they lie.
    pub(super) fn numbers(&self, spec: &KvSpec, tile: usize, head: usize) -> Option<(Numbers<'_>, Numbers<'_>)> {
        let Layout { k_dim, width, .. } = Layout::new(spec);
        let start = head * POSITIONS + tile % TILES * TILE;
        let of = |len: usize| start * len..(start + TILE) * len;
        match self {
            Self::F32 { keys, values } => Some((Numbers::F32(&keys[of(k_dim)]), Numbers::F32(&values[of(width)]))),
            Self::F16 { keys, values } => Some((Numbers::F16(&keys[of(k_dim)]), Numbers::F16(&values[of(width)]))),
            Self::Q8 { .. } => None,
        }
    }

    /// Keys and values of head `head` in tile `tile`, counted from any page's first, as floats in `buffer` or as they lie.
    pub(super) fn tile<'a>(
        &'a self,
        isa: Isa,
        spec: &KvSpec,
        tile: usize,
        head: usize,
        buffer: &'a mut TileBuffer,
    ) -> (Numbers<'a>, Numbers<'a>) {
        let Layout { k_dim, width, k_scales, v_scales, .. } = Layout::new(spec);
        let start = head * POSITIONS + tile % TILES * TILE;
        let of = |len: usize| start * len..(start + TILE) * len;
        match self {
            Self::F32 { keys, values } => (Numbers::F32(&keys[of(k_dim)]), Numbers::F32(&values[of(width)])),
            Self::F16 { keys, values } => (Numbers::F16(&keys[of(k_dim)]), Numbers::F16(&values[of(width)])),
            Self::Q8 { keys, key_scales, values, value_scales } => {
                buffer.keys.resize(TILE * k_dim, 0.0);
                buffer.values.resize(TILE * width, 0.0);
                isa.run(Q8Tile {
                    k_dim,
                    width,
                    keys: &keys[of(k_dim)],
                    key_scales: &key_scales[of(k_scales)],
                    values: &values[of(width)],
                    value_scales: &value_scales[of(v_scales)],
                    to_keys: &mut buffer.keys,
                    to_values: &mut buffer.values,
                });
                (Numbers::F32(&buffer.keys), Numbers::F32(&buffer.values))
            }
        }
    }
}

/// Writes a row to every sixteenth place.
fn scatter<T: Copy>(to: &mut [T], row: &[T]) {
    to.iter_mut().step_by(LANES).zip(row).for_each(|(to, x)| *to = *x);
}

/// The codes of a row and a scale for each 32 of them, as Q8_0 has them.
fn quantize(x: &[f32]) -> (Vec<i8>, Vec<u16>) {
    let mut padded = x.to_vec();
    padded.resize(x.len().next_multiple_of(Q8_BLOCK), 0.0);
    let mut bytes = vec![0; TensorType::Q8_0.row_bytes(padded.len())];
    encode(TensorType::Q8_0, &padded, None, &mut bytes);
    let pages = bytes.chunks_exact(TensorType::Q8_0.block_bytes());
    let scales = pages.clone().map(|page| u16::from_le_bytes([page[0], page[1]])).collect();
    let codes = pages.flat_map(|page| page[2..].iter().map(|code| code.cast_signed()));
    (codes.take(x.len()).collect(), scales)
}
