//! Keys and values of one layer of one sequence, in blocks of 64 positions.
//!
//! Blocks are shared: a clone of a cache holds the same blocks, and whoever writes to a shared one first takes a copy
//! of it. So sequences grow without moving, share a prefix, and go back to any position that is still held.

use std::sync::Arc;

use half::f16;

use crate::TensorType;
use crate::kernels::LANES;
use crate::kernels::attention::{Numbers, TILE};
use crate::quant;

/// Type of cached keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvType {
    /// Four bytes a number.
    F32,
    /// Two bytes a number: the usual choice.
    F16,
    /// Thirty-four bytes for 32 numbers.
    Q8_0,
}

/// What a cache holds for each position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvSpec {
    /// Key-value heads.
    pub heads: usize,
    /// Length of a key head.
    pub k_dim: usize,
    /// Length of a value head.
    pub v_dim: usize,
    /// Type of the numbers.
    pub ty: KvType,
    /// Positions that a query sees, itself included; older blocks are dropped.
    pub window: Option<usize>,
}

/// Keys and values of one layer of one sequence.
#[derive(Clone)]
pub struct KvCache {
    spec: KvSpec,
    /// Block `i` holds the positions from `64 i` on; `None` when a window has left it behind.
    blocks: Vec<Option<Arc<Block>>>,
    len: usize,
}

/// 64 positions of all heads: keys as `[head][4][k_dim][16]`, values as `[head][64][v_dim up to a multiple of 16]`.
#[derive(Clone)]
enum Block {
    F32 {
        keys: Vec<f32>,
        values: Vec<f32>,
    },
    F16 {
        keys: Vec<u16>,
        values: Vec<u16>,
    },
    /// Rows as Q8_0 blocks: keys `[head][64][k_dim]`, values `[head][64][v_dim]`, each row filled up to 32.
    Q8 {
        keys: Vec<u8>,
        values: Vec<u8>,
    },
}

/// Space for a tile's numbers as floats, where the cache's type is not computed with directly.
#[derive(Default)]
pub(super) struct TileBuffer {
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl KvSpec {
    fn v_width(&self) -> usize {
        self.v_dim.next_multiple_of(LANES)
    }

    fn new_block(&self) -> Block {
        let (keys, values) = (self.heads * TILE * self.k_dim, self.heads * TILE * self.v_width());
        match self.ty {
            KvType::F32 => Block::F32 { keys: vec![0.0; keys], values: vec![0.0; values] },
            KvType::F16 => Block::F16 { keys: vec![0; keys], values: vec![0; values] },
            KvType::Q8_0 => Block::Q8 {
                keys: vec![0; self.heads * TILE * q8_row_bytes(self.k_dim)],
                values: vec![0; self.heads * TILE * q8_row_bytes(self.v_dim)],
            },
        }
    }
}

/// Bytes of a row of `len` numbers as Q8_0 blocks.
fn q8_row_bytes(len: usize) -> usize {
    TensorType::Q8_0.row_bytes(len.next_multiple_of(TensorType::Q8_0.block_len()))
}

impl KvCache {
    /// An empty cache.
    #[must_use]
    pub fn new(spec: KvSpec) -> Self {
        Self { spec, blocks: Vec::new(), len: 0 }
    }

    /// Positions appended so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing has been appended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What it holds for each position.
    #[must_use]
    pub fn spec(&self) -> &KvSpec {
        &self.spec
    }

    /// Bytes of the blocks held, shared ones included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.blocks.iter().flatten().map(|block| block.bytes()).sum()
    }

    /// Appends `n` positions: keys `[n, heads * k_dim]`, values `[n, heads * v_dim]`.
    ///
    /// # Panics
    /// If these are not the same number of whole positions.
    pub fn append(&mut self, keys: &[f32], values: &[f32]) {
        let (k, v) = (self.spec.heads * self.spec.k_dim, self.spec.heads * self.spec.v_dim);
        assert!(keys.len().is_multiple_of(k) && keys.len() / k * v == values.len(), "keys and values do not agree");
        for (key, value) in keys.chunks_exact(k).zip(values.chunks_exact(v)) {
            let (block, slot) = (self.len / TILE, self.len % TILE);
            if block == self.blocks.len() {
                self.blocks.push(Some(Arc::new(self.spec.new_block())));
            }
            if let Some(block) = &mut self.blocks[block] {
                Arc::make_mut(block).put(&self.spec, slot, key, value);
            }
            self.len += 1;
        }
    }

    /// Drops the blocks that no later query sees.
    pub(super) fn drop_unseen(&mut self) {
        let Some(window) = self.spec.window else { return };
        // The next query stands at `len` and sees `window` positions.
        let first = (self.len + 1).saturating_sub(window) / TILE;
        for block in self.blocks.iter_mut().take(first).rev() {
            if block.take().is_none() {
                break;
            }
        }
    }

    /// Forgets the positions from `len` on. Returns false, and changes nothing, when a window has already dropped
    /// what the position `len` would see.
    pub fn truncate(&mut self, len: usize) -> bool {
        if len >= self.len {
            return true;
        }
        let first = self.spec.window.map_or(0, |window| (len + 1).saturating_sub(window) / TILE);
        let blocks = len.div_ceil(TILE);
        if self.blocks[first..blocks.max(first)].iter().any(Option::is_none) {
            return false;
        }
        self.blocks.truncate(blocks);
        self.len = len;
        true
    }

    /// Keys and values of head `head` in tile `tile`, where its numbers can be computed with as they lie.
    pub(super) fn tile_as_it_lies(&self, tile: usize, head: usize) -> Option<(Numbers<'_>, Numbers<'_>)> {
        let (k, v) = (TILE * self.spec.k_dim, TILE * self.spec.v_width());
        match self.blocks[tile].as_deref()? {
            Block::F32 { keys, values } => {
                Some((Numbers::F32(&keys[head * k..(head + 1) * k]), Numbers::F32(&values[head * v..(head + 1) * v])))
            }
            Block::F16 { keys, values } => {
                Some((Numbers::F16(&keys[head * k..(head + 1) * k]), Numbers::F16(&values[head * v..(head + 1) * v])))
            }
            Block::Q8 { .. } => None,
        }
    }

    /// Keys and values of head `head` in tile `tile`, as floats in `buffer` or as they lie.
    ///
    /// # Panics
    /// If the tile has been dropped or does not exist.
    pub(super) fn tile<'a>(
        &'a self,
        tile: usize,
        head: usize,
        buffer: &'a mut TileBuffer,
    ) -> (Numbers<'a>, Numbers<'a>) {
        if let Some(numbers) = self.tile_as_it_lies(tile, head) {
            return numbers;
        }
        let Some(Block::Q8 { keys, values }) = self.blocks[tile].as_deref() else {
            panic!("tile {tile} has left the window")
        };
        let used = (self.len - tile * TILE).min(TILE);
        buffer.decode(&self.spec, keys, values, head, used);
        (Numbers::F32(&buffer.keys), Numbers::F32(&buffer.values))
    }
}

impl Block {
    fn bytes(&self) -> usize {
        match self {
            Self::F32 { keys, values } => 4 * (keys.len() + values.len()),
            Self::F16 { keys, values } => 2 * (keys.len() + values.len()),
            Self::Q8 { keys, values } => keys.len() + values.len(),
        }
    }

    /// Writes one position: key `[heads * k_dim]`, value `[heads * v_dim]`.
    fn put(&mut self, spec: &KvSpec, slot: usize, key: &[f32], value: &[f32]) {
        let (k_dim, v_dim, width) = (spec.k_dim, spec.v_dim, spec.v_width());
        // Where element 0 of this position's key stands; the next ones follow at steps of 16.
        let first_key = |head: usize| head * TILE * k_dim + slot / LANES * k_dim * LANES + slot % LANES;
        let first_value = |head: usize| (head * TILE + slot) * width;
        for (head, (key, value)) in key.chunks_exact(k_dim).zip(value.chunks_exact(v_dim)).enumerate() {
            match self {
                Self::F32 { keys, values } => {
                    keys[first_key(head)..].iter_mut().step_by(LANES).zip(key).for_each(|(to, x)| *to = *x);
                    values[first_value(head)..][..v_dim].copy_from_slice(value);
                }
                Self::F16 { keys, values } => {
                    let to_bits = |x: &f32| f16::from_f32(*x).to_bits();
                    keys[first_key(head)..].iter_mut().step_by(LANES).zip(key).for_each(|(to, x)| *to = to_bits(x));
                    values[first_value(head)..].iter_mut().zip(value).for_each(|(to, x)| *to = to_bits(x));
                }
                Self::Q8 { keys, values } => {
                    for (bytes, x) in [(keys, key), (values, value)] {
                        let row = q8_row_bytes(x.len());
                        let start = (head * TILE + slot) * row;
                        encode_q8(x, &mut bytes[start..start + row]);
                    }
                }
            }
        }
    }
}

fn encode_q8(x: &[f32], out: &mut [u8]) {
    let block = TensorType::Q8_0.block_len();
    for (x, out) in x.chunks(block).zip(out.chunks_exact_mut(TensorType::Q8_0.block_bytes())) {
        let mut padded = [0.0; 32];
        padded[..x.len()].copy_from_slice(x);
        if let Some(codec) = quant::codec(TensorType::Q8_0) {
            (codec.encode)(&padded, out);
        }
    }
}

impl TileBuffer {
    fn decode(&mut self, spec: &KvSpec, keys: &[u8], values: &[u8], head: usize, used: usize) {
        let (k_dim, width) = (spec.k_dim, spec.v_width());
        self.keys.resize(TILE * k_dim, 0.0);
        self.values.resize(TILE * width, 0.0);
        let mut row = vec![0.0; spec.k_dim.max(spec.v_dim).next_multiple_of(32)];
        for slot in 0..used {
            let at = |bytes: usize| (head * TILE + slot) * bytes..(head * TILE + slot + 1) * bytes;
            let (k, v) = (k_dim.next_multiple_of(32), spec.v_dim.next_multiple_of(32));
            quant::decode(TensorType::Q8_0, &keys[at(q8_row_bytes(k_dim))], &mut row[..k]);
            let first = slot / LANES * k_dim * LANES + slot % LANES;
            self.keys[first..].iter_mut().step_by(LANES).zip(&row[..k_dim]).for_each(|(to, x)| *to = *x);
            quant::decode(TensorType::Q8_0, &values[at(q8_row_bytes(spec.v_dim))], &mut row[..v]);
            self.values[slot * width..][..spec.v_dim].copy_from_slice(&row[..spec.v_dim]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(ty: KvType, window: Option<usize>) -> KvSpec {
        KvSpec { heads: 2, k_dim: 3, v_dim: 5, ty, window }
    }

    fn fill(cache: &mut KvCache, n: usize) {
        for _ in 0..n {
            let x = cache.len() as f32;
            let keys: Vec<f32> = (0..6u8).map(|i| x + f32::from(i)).collect();
            let values: Vec<f32> = (0..10u8).map(|i| -x - f32::from(i)).collect();
            cache.append(&keys, &values);
        }
    }

    fn key(cache: &KvCache, position: usize, head: usize, d: usize) -> f32 {
        let mut buffer = TileBuffer::default();
        let slot = position % TILE;
        let at = slot / LANES * 3 * LANES + d * LANES + slot % LANES;
        match cache.tile(position / TILE, head, &mut buffer).0 {
            Numbers::F32(keys) => keys[at],
            Numbers::F16(keys) => f16::from_bits(keys[at]).to_f32(),
        }
    }

    #[test]
    fn positions_come_back() {
        for ty in [KvType::F32, KvType::F16, KvType::Q8_0] {
            let mut cache = KvCache::new(spec(ty, None));
            fill(&mut cache, 100);
            for position in [0, 15, 16, 63, 64, 99] {
                let expected = position as f32 + 3.0 + 2.0;
                assert!((key(&cache, position, 1, 2) - expected).abs() <= expected * 0.005, "{ty:?} {position}");
            }
        }
    }

    #[test]
    fn a_clone_shares_until_one_writes() {
        let mut cache = KvCache::new(spec(KvType::F32, None));
        fill(&mut cache, 70);
        let mut other = cache.clone();
        assert!(other.truncate(65));
        other.append(&[9.0; 6], &[9.0; 10]);
        assert_eq!(key(&other, 65, 0, 0), 9.0);
        assert_eq!(key(&cache, 65, 0, 0), 65.0);
        assert_eq!((cache.len(), other.len()), (70, 66));
    }

    #[test]
    fn a_window_drops_blocks_and_refuses_to_go_back_to_them() {
        let mut cache = KvCache::new(spec(KvType::F16, Some(10)));
        fill(&mut cache, 300);
        cache.drop_unseen();
        let whole = KvCache::new(spec(KvType::F16, None)).spec.new_block().bytes();
        assert_eq!(cache.bytes(), whole, "positions 291 and later lie in one block");
        assert!(!cache.truncate(100));
        assert_eq!(cache.len(), 300);
        assert!(cache.truncate(299));
    }
}
