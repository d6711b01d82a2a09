//! Memory that a thread keeps and uses again, so that a forward pass does not ask the allocator for it, and the system does not
//! have to clear new pages each time.

#![allow(unsafe_code, reason = "memory as numbers and as items")]

use std::cell::RefCell;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};

use super::lines::{LINE, Line, Number};

/// Lines of a small buffer. All small buffers have this size, so that any of them will do.
const SMALL: usize = 32;
/// The maximum number of small buffers that a thread keeps.
const SMALL_SPARES: usize = 128;
/// The maximum number of large buffers that a thread keeps: those that were in use last.
const LARGE_SPARES: usize = 48;
/// A large buffer is not taken for less than a quarter of its size.
const MOST_EXCESS: usize = 4;

thread_local! {
    /// The memory of [`Scratch`].
    static NUMBERS: RefCell<Store<Line>> = const { RefCell::new(Store::new()) };
    /// The memory of [`List`]. Items may have padding, which has no value: numbers must not be read from it.
    static ITEMS: RefCell<Store<MaybeUninit<Line>>> = const { RefCell::new(Store::new()) };
}

/// The buffers that a thread keeps.
struct Store<L> {
    /// Buffers of [`SMALL`] lines.
    small: Vec<Vec<L>>,
    /// Longer buffers, the one that was in use last at the end.
    large: Vec<Vec<L>>,
}

impl<L: Copy> Store<L> {
    const fn new() -> Self {
        Self { small: Vec::new(), large: Vec::new() }
    }

    /// A buffer of at least `count` lines with arbitrary values; lines that are new are `line`.
    fn take(&mut self, count: usize, line: L) -> Vec<L> {
        if count == 0 {
            return Vec::new();
        }
        if count <= SMALL {
            return self.small.pop().unwrap_or_else(|| vec![line; SMALL]);
        }
        // The shortest buffer that is long enough.
        let fits = |i: &usize| (count..=MOST_EXCESS * count).contains(&self.large[*i].len());
        let best = (0..self.large.len()).filter(fits).min_by_key(|&i| self.large[i].len());
        best.map_or_else(|| vec![line; count], |i| self.large.remove(i))
    }

    /// Keeps a buffer for the next use.
    fn give_back(&mut self, lines: Vec<L>) {
        if lines.is_empty() {
            return;
        }
        let (spare, most) =
            if lines.len() == SMALL { (&mut self.small, SMALL_SPARES) } else { (&mut self.large, LARGE_SPARES) };
        if spare.len() == most {
            // The buffer that has not been used for longest.
            spare.remove(0);
        }
        spare.push(lines);
    }
}

/// A buffer aligned to cache lines that goes back to its thread's store when dropped.
pub(crate) struct Scratch<T: Number = f32> {
    lines: Vec<Line>,
    len: usize,
    numbers: PhantomData<T>,
}

impl<T: Number> Scratch<T> {
    /// A buffer of `len` numbers with arbitrary values.
    pub(crate) fn new(len: usize) -> Self {
        let count = (len * size_of::<T>()).div_ceil(LINE);
        let lines = NUMBERS.with_borrow_mut(|store| store.take(count, Line::ZERO));
        Self { lines, len, numbers: PhantomData }
    }

    /// Shortens the buffer to `len` numbers.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        let mut scratch = Self::new(len);
        scratch.fill(T::default());
        scratch
    }

    /// A copy of `numbers`.
    pub(crate) fn copy_of(numbers: &[T]) -> Self {
        let mut scratch = Self::new(numbers.len());
        scratch.copy_from_slice(numbers);
        scratch
    }
}

impl<T: Number> Default for Scratch<T> {
    fn default() -> Self {
        Self::new(0)
    }
}

impl<T: Number> Drop for Scratch<T> {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        // A thread that is ending has no store any more; then the memory goes to the allocator.
        let _ = NUMBERS.try_with(|store| store.borrow_mut().give_back(lines));
    }
}

impl<T: Number> Deref for Scratch<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the lines have room for `len` numbers, and every pattern of bits is a number.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Number> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

/// A growing list in memory of its thread's store. It takes the place of a [`Vec`] where one would be allocated for every layer.
pub(crate) struct List<T> {
    lines: Vec<MaybeUninit<Line>>,
    len: usize,
    items: PhantomData<T>,
}

/// At least `count` lines for items.
fn item_lines(count: usize) -> Vec<MaybeUninit<Line>> {
    ITEMS.with_borrow_mut(|store| store.take(count, MaybeUninit::new(Line::ZERO)))
}

fn give_back_items(lines: Vec<MaybeUninit<Line>>) {
    // As for numbers, when the thread is ending.
    let _ = ITEMS.try_with(|store| store.borrow_mut().give_back(lines));
}

impl<T> List<T> {
    /// An empty list, which takes no memory.
    pub(crate) fn new() -> Self {
        const { assert!(align_of::<T>() <= LINE && size_of::<T>() > 0) };
        Self { lines: Vec::new(), len: 0, items: PhantomData }
    }

    /// An empty list with room for `n` items.
    pub(crate) fn with_capacity(n: usize) -> Self {
        Self { lines: item_lines((n * size_of::<T>()).div_ceil(LINE)), ..Self::new() }
    }

    fn capacity(&self) -> usize {
        self.lines.len() * LINE / size_of::<T>()
    }

    /// Appends an item.
    pub(crate) fn push(&mut self, item: T) {
        if self.len == self.capacity() {
            let count = ((self.len + 1) * size_of::<T>()).div_ceil(LINE).max(2 * self.lines.len());
            let mut lines = item_lines(count);
            lines[..self.lines.len()].copy_from_slice(&self.lines);
            give_back_items(std::mem::replace(&mut self.lines, lines));
        }
        // SAFETY: there is room for one more item.
        unsafe { self.lines.as_mut_ptr().cast::<T>().add(self.len).write(item) };
        self.len += 1;
    }

    /// Drops all items.
    pub(crate) fn clear(&mut self) {
        let len = std::mem::take(&mut self.len);
        // SAFETY: the first `len` items are initialized, and they are not used again.
        unsafe { std::ptr::slice_from_raw_parts_mut(self.lines.as_mut_ptr().cast::<T>(), len).drop_in_place() };
    }
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Extend<T> for List<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, items: I) {
        items.into_iter().for_each(|item| self.push(item));
    }
}

impl<T> FromIterator<T> for List<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let items = items.into_iter();
        let mut list = Self::with_capacity(items.size_hint().0);
        list.extend(items);
        list
    }
}

impl<T> Drop for List<T> {
    fn drop(&mut self) {
        self.clear();
        give_back_items(std::mem::take(&mut self.lines));
    }
}

impl<T> Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the first `len` items are initialized; the address of an empty list is aligned to a line, too.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T> DerefMut for List<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl<T> IntoIterator for List<T> {
    type Item = T;
    type IntoIter = Items<T>;

    fn into_iter(mut self) -> Items<T> {
        let end = std::mem::take(&mut self.len);
        Items { list: self, next: 0, end }
    }
}

/// The items of a [`List`], one after the other.
pub(crate) struct Items<T> {
    /// The memory. Its own length is 0, because the items are dropped or handed out here.
    list: List<T>,
    next: usize,
    end: usize,
}

impl<T> Iterator for Items<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        if self.next == self.end {
            return None;
        }
        self.next += 1;
        // SAFETY: the item is initialized, and it is handed out only here.
        Some(unsafe { self.list.lines.as_ptr().cast::<T>().add(self.next - 1).read() })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.end - self.next, Some(self.end - self.next))
    }
}

impl<T> Drop for Items<T> {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::{LARGE_SPARES, List, NUMBERS, SMALL, Scratch};

    #[test]
    fn buffers_come_back() {
        let mut first = Scratch::<f32>::zeros(1000);
        first[999] = 1.0;
        let place = first.as_ptr();
        assert!(place.addr().is_multiple_of(64));
        let second = Scratch::<i32>::zeros(900);
        assert_ne!(second.as_ptr().cast(), place);
        drop(first);
        let again = Scratch::<f32>::zeros(999);
        assert_eq!((again.as_ptr(), again.len(), again[998]), (place, 999, 0.0));
        drop((second, again));
        // The shortest that is long enough comes back, unless it is much too long.
        assert_eq!(Scratch::<f32>::new(990).as_ptr(), place);
        assert_ne!(Scratch::<f32>::new(700).as_ptr(), place);
        let kept = || NUMBERS.with_borrow(|store| store.large.len());
        assert_eq!(kept(), 2);
        assert_eq!(Scratch::<f32>::new(10_000).len(), 10_000);
        assert_eq!(kept(), 3);
        let long = Scratch::<f32>::new(9_000);
        drop(Scratch::<f32>::new(2_000));
        drop(long);
        assert_eq!(kept(), 4);
        // Those that were in use last are kept.
        let many: Vec<_> = (0..LARGE_SPARES).map(|_| Scratch::<f32>::new(100_000)).collect();
        drop(many);
        let long = NUMBERS.with_borrow(|store| store.large.iter().filter(|lines| lines.len() == 6250).count());
        assert_eq!(long, LARGE_SPARES);
    }

    #[test]
    fn small_buffers_are_of_one_size() {
        let first = Scratch::<u16>::new(3);
        let place = first.as_ptr().addr();
        drop(first);
        let second = Scratch::<f32>::zeros(16 * SMALL);
        assert_eq!(second.as_ptr().addr(), place);
        drop(second);
        assert_eq!(NUMBERS.with_borrow(|store| (store.small.len(), store.large.len())), (1, 0));
    }

    #[test]
    fn lists_hold_and_drop_their_items() {
        let item = Rc::new(());
        let mut list: List<Rc<()>> = (0..1000).map(|_| item.clone()).collect();
        assert_eq!((list.len(), Rc::strong_count(&item)), (1000, 1001));
        list.push(item.clone());
        let mut items = list.into_iter();
        assert!(items.by_ref().take(10).count() == 10 && Rc::strong_count(&item) == 992);
        drop(items);
        assert_eq!(Rc::strong_count(&item), 1);
        let mut numbers = List::new();
        numbers.extend(0..100usize);
        assert!(numbers.iter().copied().eq(0..100));
        numbers.clear();
        assert!(numbers.is_empty() && List::<u8>::default().is_empty());
        assert_eq!(List::from_iter([3u8, 1, 2]).into_iter().collect::<Vec<_>>(), [3, 1, 2]);
    }
}
