//! Buffers that a thread keeps and uses again, so that the system does not have to clear new pages each time.

#![allow(unsafe_code, reason = "memory as numbers")]

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use super::LANES;

/// The maximum number of buffers that a thread keeps.
const SPARES: usize = 16;

/// A line of the cache.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u32; LANES]);

thread_local! {
    static SPARE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// Numbers of four bytes: every pattern of bits is one.
pub(crate) trait Number: Copy + Default {}

impl Number for f32 {}
impl Number for i32 {}

/// A buffer aligned to cache lines that goes back to its thread's store when dropped.
pub(crate) struct Scratch<T: Number = f32> {
    lines: Vec<Line>,
    len: usize,
    numbers: PhantomData<T>,
}

impl<T: Number> Scratch<T> {
    /// A buffer of `len` numbers with arbitrary values.
    pub(crate) fn new(len: usize) -> Self {
        let count = len.div_ceil(LANES);
        let spare = SPARE.with_borrow_mut(|spare| {
            // The shortest buffer that is long enough. If none is, the longest is replaced, so that a thread never keeps more
            // buffers than were in use at the same time.
            let fit = |room: usize| if room >= count { room } else { usize::MAX - room };
            let best = (0..spare.len()).min_by_key(|&i| fit(spare[i].len()));
            best.map(|i| spare.swap_remove(i))
        });
        let lines = spare.filter(|lines| lines.len() >= count);
        Self { lines: lines.unwrap_or_else(|| vec![Line([0; LANES]); count]), len, numbers: PhantomData }
    }

    /// Shortens the buffer to `len` numbers.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// `len` zeros.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "asked for by the kernels of AMX alone"))]
    pub(crate) fn zeros(len: usize) -> Self {
        let mut scratch = Self::new(len);
        scratch.fill(T::default());
        scratch
    }
}

impl<T: Number> Drop for Scratch<T> {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        // A thread that is ending has no store any more; then the memory goes to the allocator.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARES {
                spare.push(lines);
            }
        });
    }
}

impl<T: Number> Deref for Scratch<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: there is room in the lines for as many numbers of four bytes, and any bits are one.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Number> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::{SPARE, Scratch};

    #[test]
    fn buffers_come_back() {
        let mut first = Scratch::<f32>::zeros(100);
        first[99] = 1.0;
        let place = first.as_ptr();
        assert!(place.addr().is_multiple_of(64));
        let second = Scratch::<i32>::zeros(10);
        assert_ne!(second.as_ptr().cast(), place);
        drop(first);
        let again = Scratch::<f32>::zeros(99);
        assert_eq!((again.as_ptr(), again.len(), again[98]), (place, 99, 0.0));
        drop((second, again));
        // The shortest that is long enough is used again; if none is, the longest is replaced.
        assert_eq!(Scratch::<f32>::new(90).as_ptr(), place);
        assert_ne!(Scratch::<f32>::new(10).as_ptr(), place);
        assert_eq!(Scratch::<f32>::new(1000).len(), 1000);
        assert_eq!(SPARE.with_borrow(Vec::len), 2);
    }
}
