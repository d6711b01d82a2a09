//! The memory of caches: pages from a pool with a byte budget. Freed pages are kept and used again.
//!
//! A page is shared by reference, and copied before a write when others hold it, too.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::kernels::lines::Lines;

/// Memory for the KV caches and recurrent states of sequences. Clones are the same pool.
#[derive(Clone)]
pub struct PagePool(Arc<Inner>);

struct Inner {
    budget: usize,
    /// Bytes of all pages that exist, including those that are kept for later use.
    existing: Arc<AtomicUsize>,
    spare: Mutex<Spare>,
}

/// Pages that no sequence holds.
#[derive(Default)]
struct Spare {
    by_bytes: BTreeMap<usize, Vec<Arc<Page>>>,
    bytes: usize,
}

/// The budget of a [`PagePool`] is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cache has no page of {wanted} bytes left: {used} of its {budget} bytes are used")]
pub struct OutOfPages {
    /// Bytes of the page that was asked for.
    pub wanted: usize,
    /// Bytes of the pages that are held.
    pub used: usize,
    /// Maximum of the bytes of all pages.
    pub budget: usize,
}

/// Whether pages beyond the budget are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cpu) enum Limit {
    /// They are refused with an error.
    Budget,
    /// They are given.
    None,
}

/// A piece of memory of one size for all pages of a cache.
pub(in crate::cpu) struct Page {
    memory: Lines,
    existing: Arc<AtomicUsize>,
}

impl Page {
    pub(in crate::cpu) fn bytes(&self) -> &[u8] {
        self.memory.bytes()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.existing.fetch_sub(self.memory.bytes().len(), Ordering::Relaxed);
    }
}

impl PagePool {
    /// A pool of at most `budget` bytes.
    #[must_use]
    pub fn new(budget: usize) -> Self {
        Self(Arc::new(Inner { budget, existing: Arc::default(), spare: Mutex::default() }))
    }

    /// A pool without a budget.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(usize::MAX)
    }

    /// Maximum of the bytes of all pages.
    #[must_use]
    pub fn budget(&self) -> usize {
        self.0.budget
    }

    /// Bytes of the pages that sequences hold; shared pages count once.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used_beside(&self.spare())
    }

    /// Bytes of all pages that exist: those that sequences hold, and those that are kept for later use.
    #[must_use]
    pub fn reserved(&self) -> usize {
        self.0.existing.load(Ordering::Relaxed)
    }

    fn used_beside(&self, spare: &Spare) -> usize {
        self.0.existing.load(Ordering::Relaxed).saturating_sub(spare.bytes)
    }

    fn spare(&self) -> MutexGuard<'_, Spare> {
        self.0.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A page of `bytes` bytes with arbitrary values, which nobody else holds.
    fn take(&self, bytes: usize, limit: Limit) -> Result<Arc<Page>, OutOfPages> {
        let bytes = Lines::size(bytes);
        let mut spare = self.spare();
        if let Some(page) = spare.by_bytes.get_mut(&bytes).and_then(Vec::pop) {
            spare.bytes -= bytes;
            return Ok(page);
        }
        let existing = || self.0.existing.load(Ordering::Relaxed);
        // Spare pages of other sizes are freed to make room.
        while limit == Limit::Budget && existing().saturating_add(bytes) > self.0.budget {
            let Some((size, pages)) = spare.by_bytes.iter_mut().find(|(_, pages)| !pages.is_empty()) else {
                let used = self.used_beside(&spare);
                return Err(OutOfPages { wanted: bytes, used, budget: self.0.budget });
            };
            let size = *size;
            drop(pages.pop());
            spare.bytes -= size;
        }
        self.0.existing.fetch_add(bytes, Ordering::Relaxed);
        Ok(Arc::new(Page { memory: Lines::zeros(bytes), existing: self.0.existing.clone() }))
    }

    /// Takes a page back, unless others still hold it.
    fn give_back(&self, mut page: Arc<Page>) {
        // If the last two holders give it back at the same moment, neither may be the only one; then the page is freed.
        if Arc::get_mut(&mut page).is_some() {
            let mut spare = self.spare();
            let bytes = page.memory.bytes().len();
            spare.bytes += bytes;
            spare.by_bytes.entry(bytes).or_default().push(page);
        }
    }
}

/// A list of pages of one size, some of which may have been dropped.
pub(in crate::cpu) struct Pages {
    pool: PagePool,
    /// Bytes of a page.
    bytes: usize,
    pages: Vec<Option<Arc<Page>>>,
    /// Number of pages that have not been dropped.
    held: usize,
}

impl Pages {
    pub(in crate::cpu) fn new(pool: &PagePool, bytes: usize) -> Self {
        Self { pool: pool.clone(), bytes: Lines::size(bytes), pages: Vec::new(), held: 0 }
    }

    /// Number of pages, including those that have been dropped.
    pub(in crate::cpu) fn len(&self) -> usize {
        self.pages.len()
    }

    /// Bytes of a page.
    pub(in crate::cpu) fn page_bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of the pages held, including shared ones.
    pub(in crate::cpu) fn bytes(&self) -> usize {
        self.bytes * self.held
    }

    /// Page `i`, unless it has been dropped or does not exist.
    pub(in crate::cpu) fn get(&self, i: usize) -> Option<&Page> {
        self.pages.get(i)?.as_deref()
    }

    /// Whether others hold page `i`, too.
    pub(in crate::cpu) fn is_shared(&self, i: usize) -> bool {
        self.pages.get(i).and_then(Option::as_ref).is_some_and(|page| Arc::strong_count(page) > 1)
    }

    /// Makes sure that nobody else holds page `i`: replaces it by a copy if others do.
    pub(in crate::cpu) fn make_own(&mut self, i: usize, limit: Limit) -> Result<(), OutOfPages> {
        let Some(Some(page)) = self.pages.get_mut(i) else { return Ok(()) };
        if Arc::get_mut(page).is_some() {
            return Ok(());
        }
        let mut own = self.pool.take(self.bytes, limit)?;
        if let Some(own) = Arc::get_mut(&mut own) {
            own.memory.bytes_mut().copy_from_slice(page.bytes());
        }
        let shared = std::mem::replace(page, own);
        self.pool.give_back(shared);
        Ok(())
    }

    /// Appends a page of zeros.
    pub(in crate::cpu) fn push(&mut self, limit: Limit) -> Result<(), OutOfPages> {
        let mut page = self.pool.take(self.bytes, limit)?;
        if let Some(page) = Arc::get_mut(&mut page) {
            page.memory.bytes_mut().fill(0);
        }
        self.pages.push(Some(page));
        self.held += 1;
        Ok(())
    }

    /// Appends a page as if it had been dropped.
    pub(in crate::cpu) fn push_none(&mut self) {
        self.pages.push(None);
    }

    /// The bytes of page `i` for writing; `None` if others hold it, too, which [`Self::make_own`] changes.
    pub(in crate::cpu) fn own(&mut self, i: usize) -> Option<&mut [u8]> {
        self.own_from(i).next()
    }

    /// The bytes of the pages from page `first` on for writing, up to the first page that others hold, too.
    pub(in crate::cpu) fn own_from(&mut self, first: usize) -> impl Iterator<Item = &mut [u8]> {
        let first = first.min(self.pages.len());
        self.pages[first..].iter_mut().map_while(|page| Some(Arc::get_mut(page.as_mut()?)?.memory.bytes_mut()))
    }

    /// Drops page `i`. Returns whether it was there.
    pub(in crate::cpu) fn let_go(&mut self, i: usize) -> bool {
        let page = self.pages.get_mut(i).and_then(Option::take);
        let Some(page) = page else { return false };
        self.pool.give_back(page);
        self.held -= 1;
        true
    }

    /// Removes all pages from page `len` on.
    pub(in crate::cpu) fn truncate(&mut self, len: usize) {
        for page in self.pages.drain(len.min(self.pages.len())..).flatten() {
            self.held -= 1;
            self.pool.give_back(page);
        }
    }
}

/// The clone holds the same pages.
impl Clone for Pages {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), bytes: self.bytes, pages: self.pages.clone(), held: self.held }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.truncate(0);
    }
}

#[cfg(test)]
mod tests {
    use super::{Limit, OutOfPages, PagePool, Pages};

    #[test]
    fn freed_pages_come_back_as_zeros() {
        let pool = PagePool::new(1024);
        let mut pages = Pages::new(&pool, 500);
        pages.push(Limit::Budget).expect("a page");
        pages.own(0).expect("own").fill(7);
        let place = pages.get(0).expect("there").bytes().as_ptr();
        assert_eq!((pool.used(), pages.bytes()), (512, 512));
        drop(pages);
        assert_eq!(pool.used(), 0);
        let mut pages = Pages::new(&pool, 512);
        pages.push(Limit::Budget).expect("a page");
        let page = pages.get(0).expect("there").bytes();
        assert_eq!((page.as_ptr(), page), (place, &[0; 512][..]));
    }

    #[test]
    fn the_budget_is_kept_and_spare_pages_make_room() {
        let pool = PagePool::new(1024);
        let mut small = Pages::new(&pool, 256);
        (0..4).for_each(|_| small.push(Limit::Budget).expect("within the budget"));
        assert_eq!(small.push(Limit::Budget), Err(OutOfPages { wanted: 256, used: 1024, budget: 1024 }));
        assert_eq!(small.len(), 4);
        small.push(Limit::None).expect("whatever the budget");
        assert_eq!(pool.used(), 1280);
        small.truncate(1);
        assert!(small.let_go(0) && !small.let_go(0));
        assert_eq!((pool.used(), small.len(), small.bytes()), (0, 1, 0));
        let mut large = Pages::new(&pool, 1024);
        large.push(Limit::Budget).expect("the spare pages make room");
        assert_eq!(pool.used(), 1024);
        assert!(small.push(Limit::Budget).is_err());
    }

    #[test]
    fn a_page_is_copied_when_one_of_two_holders_writes() {
        let pool = PagePool::new(1024);
        let mut first = Pages::new(&pool, 512);
        first.push(Limit::Budget).expect("a page");
        first.own(0).expect("own")[5] = 1;
        let mut second = first.clone();
        assert!(second.is_shared(0) && second.own(0).is_none() && pool.used() == 512);
        second.make_own(0, Limit::Budget).expect("room for a copy");
        second.own(0).expect("own")[6] = 2;
        let bytes = |pages: &Pages| pages.get(0).expect("there").bytes()[5..7].to_vec();
        assert_eq!((bytes(&first), bytes(&second), pool.used()), (vec![1, 0], vec![1, 2], 1024));
        let third = second.clone();
        assert!(second.make_own(0, Limit::Budget).is_err());
        drop(third);
        second.make_own(0, Limit::Budget).expect("its own again");
        assert_eq!(bytes(&second), [1, 2]);
    }
}
