//! Keys and values of one layer of one sequence, in pages of some hundred positions.
//!
//! Pages are shared: a clone of a cache holds the same pages, and whoever writes to a shared one first takes a copy
//! of it. So sequences grow without moving, share a prefix, and go back to any position that is still held.

use std::sync::Arc;

use super::KvSpec;
use super::page::{POSITIONS, Page, TileBuffer};
use crate::kernels::Isa;
use crate::kernels::attention::{Numbers, TILE};

/// Keys and values of one layer of one sequence.
#[derive(Clone)]
pub struct KvCache {
    spec: KvSpec,
    /// Page `i` holds the positions from `POSITIONS * i` on; `None` when a window has left it behind.
    pages: Vec<Option<Arc<Page>>>,
    len: usize,
}

impl KvCache {
    /// An empty cache.
    #[must_use]
    pub fn new(spec: KvSpec) -> Self {
        Self { spec, pages: Vec::new(), len: 0 }
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

    /// Bytes of the pages held, shared ones included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.pages.iter().flatten().map(|page| page.bytes()).sum()
    }

    /// Bytes of the pages that are held once `len` positions have been appended and those out of sight dropped.
    pub(in crate::cpu) fn bytes_after(&self, len: usize) -> usize {
        (len.div_ceil(POSITIONS) - self.first_seen(len).min(len.div_ceil(POSITIONS))) * Page::new(&self.spec).bytes()
    }

    /// The first page that a query at position `len` sees.
    fn first_seen(&self, len: usize) -> usize {
        self.spec.window.map_or(0, |window| (len + 1).saturating_sub(window) / POSITIONS)
    }

    /// Most bytes of pages on the way to `len` positions, as far as a later query can see them.
    pub(in crate::cpu) fn bytes_at(&self, len: usize) -> usize {
        // A window may begin and end in the middle of a page.
        let seen = self.spec.window.map_or(len, |window| len.min(window + 2 * POSITIONS));
        seen.div_ceil(POSITIONS) * Page::new(&self.spec).bytes()
    }

    /// Calls `visit` with the address and the bytes of each page.
    pub(in crate::cpu) fn visit_memory(&self, visit: &mut dyn FnMut(usize, usize)) {
        self.pages.iter().flatten().for_each(|page| visit(Arc::as_ptr(page).addr(), page.bytes()));
    }

    /// Appends `n` positions: keys `[n, heads * k_dim]`, values `[n, heads * v_dim]`.
    ///
    /// # Panics
    /// If these are not the same number of whole positions.
    pub fn append(&mut self, keys: &[f32], values: &[f32]) {
        let (k, v) = (self.spec.heads * self.spec.k_dim, self.spec.heads * self.spec.v_dim);
        assert!(keys.len().is_multiple_of(k) && keys.len() / k * v == values.len(), "keys and values do not agree");
        for (key, value) in keys.chunks_exact(k).zip(values.chunks_exact(v)) {
            let (page, slot) = (self.len / POSITIONS, self.len % POSITIONS);
            if page == self.pages.len() {
                self.pages.push(Some(Arc::new(Page::new(&self.spec))));
            }
            if let Some(page) = &mut self.pages[page] {
                Arc::make_mut(page).put(&self.spec, slot, key, value);
            }
            self.len += 1;
        }
    }

    /// Drops the pages that no query from position `from` on sees.
    pub(in crate::cpu) fn drop_unseen(&mut self, from: usize) {
        let first = self.first_seen(from);
        for page in self.pages.iter_mut().take(first).rev() {
            if page.take().is_none() {
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
        let first = self.first_seen(len);
        let pages = len.div_ceil(POSITIONS);
        if self.pages[first..pages.max(first)].iter().any(Option::is_none) {
            return false;
        }
        self.pages.truncate(pages);
        self.len = len;
        true
    }

    /// Keys and values of head `head` in tile `tile`, where there is one whose numbers can be computed with as they
    /// lie.
    pub(in crate::cpu) fn numbers(&self, tile: usize, head: usize) -> Option<(Numbers<'_>, Numbers<'_>)> {
        self.pages.get(tile * TILE / POSITIONS)?.as_deref()?.numbers(&self.spec, tile, head)
    }

    /// Keys and values of head `head` in tile `tile`, as floats in `buffer` or as they lie.
    ///
    /// # Panics
    /// If the tile has been dropped or does not exist.
    pub(in crate::cpu) fn tile<'a>(
        &'a self,
        isa: Isa,
        tile: usize,
        head: usize,
        buffer: &'a mut TileBuffer,
    ) -> (Numbers<'a>, Numbers<'a>) {
        let page =
            self.pages[tile * TILE / POSITIONS].as_deref().unwrap_or_else(|| panic!("tile {tile} has left the window"));
        page.tile(isa, &self.spec, tile, head, buffer)
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::cpu::KvType;
    use crate::kernels::LANES;

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
        match cache.tile(Isa::Scalar, position / TILE, head, &mut buffer).0 {
            Numbers::F32(keys) => keys[at],
            Numbers::F16(keys) => f16::from_bits(keys[at]).to_f32(),
        }
    }

    #[test]
    fn positions_come_back() {
        for ty in [KvType::F32, KvType::F16, KvType::Q8_0] {
            let mut cache = KvCache::new(spec(ty, None));
            fill(&mut cache, POSITIONS + 100);
            for position in [0, 15, 16, 63, 64, 99, POSITIONS - 1, POSITIONS, POSITIONS + 99] {
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
        fill(&mut cache, POSITIONS + 300);
        cache.drop_unseen(POSITIONS + 300);
        let whole = Page::new(&spec(KvType::F16, None)).bytes();
        assert_eq!(cache.bytes(), whole, "the positions that are seen lie in one page");
        assert!(!cache.truncate(100));
        assert_eq!(cache.len(), POSITIONS + 300);
        assert!(cache.truncate(POSITIONS + 299));
    }
}
