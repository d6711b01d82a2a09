//! Buffers that a thread keeps from task to task, so that the system need not clear new pages for each.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

thread_local! {
    static SPARE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Floats that go back to their thread's store when dropped.
pub(super) struct Scratch(Vec<f32>);

impl Scratch {
    /// `len` floats of any value.
    pub(super) fn new(len: usize) -> Self {
        let mut buffer = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        buffer.resize(len, 0.0);
        Self(buffer)
    }

    /// `len` zeros.
    pub(super) fn zeros(len: usize) -> Self {
        let mut scratch = Self::new(len);
        scratch.fill(0.0);
        scratch
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        // A thread that ends has no store any more, and the buffer goes to the allocator.
        let _ = SPARE.try_with(|spare| spare.borrow_mut().push(buffer));
    }
}

impl Deref for Scratch {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::Scratch;

    #[test]
    fn buffers_come_back() {
        let mut first = Scratch::zeros(100);
        first[99] = 1.0;
        let place = first.as_ptr();
        let second = Scratch::zeros(10);
        assert_ne!(second.as_ptr(), place);
        drop(first);
        let again = Scratch::zeros(100);
        assert_eq!((again.as_ptr(), again[99]), (place, 0.0));
    }
}
