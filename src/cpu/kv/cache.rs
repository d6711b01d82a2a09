//! Keys and values of one layer of one sequence, in pages of 64 positions.
//!
//! A clone of a cache holds the same pages, and a shared page is copied before a write. So sequences grow without moving, share
//! a prefix, and can go back to any position that is still held.

use super::KvSpec;
use super::page::{Layout, POSITIONS, TileBuffer};
use super::pool::{Limit, OutOfPages, PagePool, Pages};
use crate::kernels::attention::Numbers;
use crate::kernels::{Isa, Pool};

/// Appends with at least this many elements are divided among all threads.
const MANY: usize = 1 << 15;
/// Tokens of a forward pass that [`KvCache::bytes_at`] assumes.
const BATCH: usize = 512;

/// Keys and values of one layer of one sequence.
#[derive(Clone)]
pub struct KvCache {
    spec: KvSpec,
    layout: Layout,
    /// Page `i` holds the positions from `POSITIONS * i` on. Pages before a sliding window are dropped.
    pages: Pages,
    len: usize,
}

impl KvCache {
    /// An empty cache with memory of its own.
    #[must_use]
    pub fn new(spec: KvSpec) -> Self {
        Self::within(&PagePool::unlimited(), spec)
    }

    /// An empty cache whose pages come from `pool`.
    #[must_use]
    pub fn within(pool: &PagePool, spec: KvSpec) -> Self {
        let layout = Layout::new(&spec);
        Self { spec, layout, pages: Pages::new(pool, layout.page_bytes()), len: 0 }
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

    /// Bytes of the pages held, including shared ones.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.pages.bytes()
    }

    /// Bytes of the pages that are held once `len` positions have been appended and unseen pages dropped.
    pub(in crate::cpu) fn bytes_after(&self, len: usize) -> usize {
        (len.div_ceil(POSITIONS) - self.first_seen(len).min(len.div_ceil(POSITIONS))) * self.pages.page_bytes()
    }

    /// The first page that a query at position `len` sees.
    pub(in crate::cpu) fn first_seen(&self, len: usize) -> usize {
        self.spec.window.map_or(0, |window| (len + 1).saturating_sub(window) / POSITIONS)
    }

    /// Peak bytes of pages while the cache grows to `len` positions, up to 512 at a time.
    pub(in crate::cpu) fn bytes_at(&self, len: usize) -> usize {
        // A window may begin and end in the middle of a page.
        let seen = self.spec.window.map_or(len, |window| len.min(window.saturating_add(BATCH + 2 * POSITIONS)));
        seen.div_ceil(POSITIONS).saturating_mul(self.pages.page_bytes())
    }

    /// Bytes of the page that the next position is written to, if others hold it, too, so that it will be copied.
    pub(in crate::cpu) fn bytes_to_copy(&self) -> usize {
        let partial = !self.len.is_multiple_of(POSITIONS) && self.pages.is_shared(self.len / POSITIONS);
        if partial { self.pages.page_bytes() } else { 0 }
    }

    /// Takes pages of its own for `n` more positions. After an error it has the pages that it had before.
    pub(in crate::cpu) fn reserve(&mut self, n: usize, limit: Limit) -> Result<(), OutOfPages> {
        if n == 0 {
            return Ok(());
        }
        // The page that is partly full, and pages that were reserved before the cache was cloned.
        for page in self.len / POSITIONS..self.pages.len() {
            self.pages.make_own(page, limit)?;
        }
        while self.pages.len() < (self.len + n).div_ceil(POSITIONS) {
            if let Err(error) = self.pages.push(limit) {
                self.unreserve();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Gives back the pages that hold no position yet.
    pub(in crate::cpu) fn unreserve(&mut self) {
        self.pages.truncate(self.len.div_ceil(POSITIONS));
    }

    /// Appends `n` positions: keys `[n, heads * k_dim]`, values `[n, heads * v_dim]`. Takes the pages that it needs,
    /// whatever the pool's budget; `reserve` takes them before within it.
    ///
    /// # Panics
    /// If these are not the same number of whole positions.
    pub fn append(&mut self, pool: &Pool, keys: &[f32], values: &[f32]) {
        let (k, v) = (self.spec.heads * self.spec.k_dim, self.spec.heads * self.spec.v_dim);
        assert!(keys.len().is_multiple_of(k) && keys.len() / k * v == values.len(), "keys and values do not agree");
        let (first, end, layout) = (self.len, self.len + keys.len() / k, self.layout);
        // There is no error without a limit.
        let _ = self.reserve(end - first, Limit::None);
        debug_assert_eq!(self.pages.own_from(first / POSITIONS).count(), self.pages.len() - first / POSITIONS);
        let pages = (first / POSITIONS..).zip(self.pages.own_from(first / POSITIONS));
        let places = pages.flat_map(|(page, bytes)| (0..).zip(layout.heads(bytes)).map(move |place| (page, place)));
        let put = |(page, (head, place)): (usize, (usize, &mut [u8]))| {
            for position in first.max(page * POSITIONS)..end.min((page + 1) * POSITIONS) {
                let row = position - first;
                let (key, value) = (&keys[row * k..(row + 1) * k], &values[row * v..(row + 1) * v]);
                layout.put(place, head, position % POSITIONS, (key, value));
            }
        };
        if keys.len() + values.len() < MANY {
            places.for_each(put);
        } else {
            pool.run_over(places, &put);
        }
        self.len = end;
    }

    /// Pages that `len` positions take.
    pub(in crate::cpu) fn pages_of(&self, len: usize) -> usize {
        len.div_ceil(POSITIONS)
    }

    pub(in crate::cpu) fn pages(&self) -> &Pages {
        &self.pages
    }

    /// Sets the length to `len` positions, whose pages the caller then appends.
    pub(in crate::cpu) fn pages_for(&mut self, len: usize) -> &mut Pages {
        self.len = len;
        &mut self.pages
    }

    /// Drops the pages that no query from position `from` on sees.
    pub(in crate::cpu) fn drop_unseen(&mut self, from: usize) {
        for page in (0..self.first_seen(from)).rev() {
            if page < self.pages.len() && !self.pages.let_go(page) {
                break;
            }
        }
    }

    /// Whether [`Self::truncate`] can remove the positions from `len` on: not when a sliding window has already dropped
    /// what the position `len` would see.
    #[must_use]
    pub fn can_truncate(&self, len: usize) -> bool {
        len >= self.len || (self.first_seen(len)..len.div_ceil(POSITIONS)).all(|page| self.pages.get(page).is_some())
    }

    /// Removes the positions from `len` on. Returns false, and changes nothing, when it [cannot](Self::can_truncate).
    pub fn truncate(&mut self, len: usize) -> bool {
        if len >= self.len {
            return true;
        }
        let fits = self.can_truncate(len);
        if fits {
            self.len = len;
            self.unreserve();
        }
        fits
    }

    /// Keys and values of head `head` in tile `tile`, if the tile exists and its numbers need no decoding.
    pub(in crate::cpu) fn numbers(&self, tile: usize, head: usize) -> Option<(Numbers<'_>, Numbers<'_>)> {
        self.layout.numbers(self.pages.get(tile)?.bytes(), head)
    }

    /// Keys and values of head `head` in tile `tile`, as they are stored, or decoded to floats in `buffer`.
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
        let page = self.pages.get(tile).unwrap_or_else(|| panic!("tile {tile} has left the window"));
        self.layout.tile(isa, page.bytes(), head, buffer)
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::cpu::{CacheType, KvType};
    use crate::kernels::LANES;
    use crate::kernels::attention::TILE;

    fn spec(ty: KvType, window: Option<usize>) -> KvSpec {
        KvSpec { heads: 2, k_dim: 3, v_dim: 5, ty, window }
    }

    fn fill(cache: &mut KvCache, n: usize) {
        for _ in 0..n {
            let x = cache.len() as f32;
            let keys: Vec<f32> = (0..6u8).map(|i| x + f32::from(i)).collect();
            let values: Vec<f32> = (0..10u8).map(|i| -x - f32::from(i)).collect();
            cache.append(&Pool::new(1), &keys, &values);
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
        for ty in CacheType::ALL {
            let mut cache = KvCache::new(spec(KvType::both(ty), None));
            fill(&mut cache, POSITIONS + 100);
            // Sixteenths, where four bits have to do.
            let bound = if ty.number_bytes() < 1.0 { 0.07 } else { 0.005 };
            for position in [0, 15, 16, 63, 64, 99, POSITIONS - 1, POSITIONS, POSITIONS + 99] {
                let expected = position as f32 + 3.0 + 2.0;
                assert!((key(&cache, position, 1, 2) - expected).abs() <= expected * bound, "{ty} {position}");
            }
        }
    }

    #[test]
    fn a_clone_shares_until_one_writes() {
        let mut cache = KvCache::new(spec(KvType::F32, None));
        fill(&mut cache, 70);
        let mut other = cache.clone();
        assert!(other.truncate(65));
        other.append(&Pool::new(1), &[9.0; 6], &[9.0; 10]);
        assert_eq!(key(&other, 65, 0, 0), 9.0);
        assert_eq!(key(&cache, 65, 0, 0), 65.0);
        assert_eq!((cache.len(), other.len()), (70, 66));
    }

    #[test]
    fn what_a_clone_has_taken_over_is_not_written_to() {
        let mut cache = KvCache::new(spec(KvType::F32, None));
        fill(&mut cache, 100);
        cache.reserve(100, Limit::Budget).expect("there is memory");
        let mut other = cache.clone();
        fill(&mut cache, 60);
        other.append(&Pool::new(1), &[9.0; 6 * 60], &[9.0; 10 * 60]);
        for position in [99, 100, 127, 128, 159] {
            let (own, others) = (key(&cache, position, 0, 0), key(&other, position, 0, 0));
            assert_eq!((own, others), (position as f32, if position < 100 { position as f32 } else { 9.0 }));
        }
    }

    #[test]
    fn a_window_drops_pages_and_refuses_to_go_back_to_them() {
        let mut cache = KvCache::new(spec(KvType::F16, Some(10)));
        fill(&mut cache, POSITIONS + 30);
        assert_eq!(cache.bytes(), cache.bytes_at(POSITIONS + 30));
        cache.drop_unseen(cache.len());
        assert_eq!(cache.bytes(), cache.pages.page_bytes(), "the positions that are seen lie in one page");
        assert_eq!(cache.bytes(), cache.bytes_after(POSITIONS + 30));
        assert!(!cache.truncate(50));
        assert_eq!(cache.len(), POSITIONS + 30);
        assert!(cache.truncate(POSITIONS + 29));
        assert!(cache.truncate(0) && cache.bytes() == 0);
    }

    #[test]
    fn pages_are_reserved_within_the_budget_or_not_at_all() {
        let page = KvCache::new(spec(KvType::F16, None)).pages.page_bytes();
        let pool = PagePool::new(3 * page);
        let mut cache = KvCache::within(&pool, spec(KvType::F16, None));
        fill(&mut cache, 100);
        let other = cache.clone();
        assert_eq!((pool.used(), cache.bytes_to_copy()), (2 * page, page));
        // The copy of the shared page is the last one within the budget.
        let error = cache.reserve(29, Limit::Budget).expect_err("a copy and one more");
        assert_eq!(error, OutOfPages { wanted: page, used: 3 * page, budget: 3 * page });
        assert_eq!((cache.len(), cache.bytes(), cache.bytes_to_copy()), (100, 2 * page, 0));
        cache.reserve(28, Limit::Budget).expect("they fit the page");
        drop(other);
        cache.reserve(29, Limit::Budget).expect("there is a page again");
        let held = cache.bytes();
        // A clone holds what has been reserved, too.
        drop(cache.clone());
        fill(&mut cache, 29);
        assert_eq!((held, pool.used()), (3 * page, 3 * page));
        assert_eq!(key(&cache, 99, 1, 0), 102.0);
    }
}
