//! Memory aligned to cache lines, read and written as numbers of any type.

#![allow(unsafe_code, reason = "bytes as numbers")]

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;

/// A cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line([u64; LINE / 8]);

impl Line {
    pub(super) const ZERO: Self = Self([0; LINE / 8]);
}

/// A plain type of numbers.
///
/// # Safety
/// Every pattern of bits is a valid value, and there is no padding.
pub(crate) unsafe trait Number: Copy + Default + Send + Sync + 'static {}

// SAFETY: plain numbers.
unsafe impl Number for f32 {}
// SAFETY: as above.
unsafe impl Number for i32 {}
// SAFETY: as above.
unsafe impl Number for u32 {}
// SAFETY: as above.
unsafe impl Number for i16 {}
// SAFETY: as above.
unsafe impl Number for u16 {}
// SAFETY: as above.
unsafe impl Number for i8 {}
// SAFETY: as above.
unsafe impl Number for u8 {}

/// Whole lines of memory.
pub(crate) struct Lines(Vec<Line>);

impl Lines {
    /// `len` bytes rounded up to whole lines.
    pub(crate) fn size(len: usize) -> usize {
        len.next_multiple_of(LINE)
    }

    /// Zeroed memory of `len` bytes, rounded up to whole lines.
    pub(crate) fn zeros(len: usize) -> Self {
        Self(vec![Line::ZERO; len.div_ceil(LINE)])
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: lines are plain memory, and every byte is valid.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * LINE) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * LINE) }
    }
}

/// `bytes` as numbers.
///
/// # Panics
/// If they are not aligned for such numbers, or the last number is incomplete.
pub(crate) fn numbers<T: Number>(bytes: &[u8]) -> &[T] {
    check::<T>(bytes);
    // SAFETY: as just checked, and any bits are a number.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size_of::<T>()) }
}

/// As [`numbers`], for writing.
///
/// # Panics
/// As [`numbers`].
pub(crate) fn numbers_mut<T: Number>(bytes: &mut [u8]) -> &mut [T] {
    check::<T>(bytes);
    // SAFETY: as just checked, and any bits are a number.
    unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len() / size_of::<T>()) }
}

fn check<T>(bytes: &[u8]) {
    assert!(
        bytes.as_ptr().addr().is_multiple_of(align_of::<T>()) && bytes.len().is_multiple_of(size_of::<T>()),
        "{} bytes as numbers of {}",
        bytes.len(),
        size_of::<T>()
    );
}

#[cfg(test)]
mod tests {
    use super::{LINE, Lines, numbers, numbers_mut};

    #[test]
    fn bytes_are_numbers_and_begin_with_a_line() {
        let mut lines = Lines::zeros(65);
        assert_eq!((lines.bytes().len(), Lines::size(65)), (128, 128));
        assert!(lines.bytes().as_ptr().addr().is_multiple_of(LINE));
        numbers_mut::<f32>(&mut lines.bytes_mut()[4..12])[1] = 1.0;
        assert_eq!(numbers::<u16>(&lines.bytes()[8..12]), [0, 0x3f80]);
    }

    #[test]
    #[should_panic(expected = "3 bytes as numbers of 2")]
    fn parts_of_numbers_are_refused() {
        numbers::<u16>(&Lines::zeros(64).bytes()[..3]);
    }
}
