//! Checked reading of a header, from memory or from a file, of which no more than the header is read.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

use super::byte_order::ByteOrder;
use super::error::Problem;
use super::limits::MAX_HEADER_BYTES;
use crate::bytes::Bytes;
use crate::files::{FileError, Input};

/// Why a field could not be read.
pub(super) enum Stop {
    Problem(Problem),
    File(FileError),
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

enum Source<'a> {
    Memory(Bytes),
    File { file: &'a Input, read: Vec<u8> },
}

/// A position in a header. The only way forward is [`take`](Self::take), which checks.
pub(super) struct Cursor<'a> {
    source: Source<'a>,
    size: u64,
    position: usize,
    last: u64,
    order: ByteOrder,
}

const FIRST_READ: usize = 256 << 10;

impl<'a> Cursor<'a> {
    pub(super) fn in_memory(bytes: Bytes) -> Self {
        let size = bytes.len() as u64;
        Self { source: Source::Memory(bytes), size, position: 0, last: 0, order: ByteOrder::Little }
    }

    pub(super) fn in_file(file: &'a Input) -> Self {
        let source = Source::File { file, read: Vec::new() };
        Self { source, size: file.size(), position: 0, last: 0, order: ByteOrder::Little }
    }

    /// Sets the byte order of the numbers that follow.
    pub(super) const fn set_order(&mut self, order: ByteOrder) {
        self.order = order;
    }

    /// Bytes of the whole file.
    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// Bytes taken so far.
    pub(super) const fn position(&self) -> usize {
        self.position
    }

    /// Offset of the field that was read last.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// Sets the offset that an error will name.
    pub(super) const fn point_at(&mut self, offset: u64) {
        self.last = offset;
    }

    /// Bytes after the position.
    pub(super) const fn left(&self) -> u64 {
        self.size.saturating_sub(self.position as u64)
    }

    /// The next `n` bytes.
    #[inline]
    pub(super) fn take(&mut self, n: u64) -> Result<&[u8], Stop> {
        self.last = self.position as u64;
        let range = self.advance(n)?;
        self.bytes().get(range).ok_or(Stop::Problem(Problem::Truncated { needed: n, left: 0 }))
    }

    /// Skips the next `n` bytes and returns their range.
    #[inline]
    pub(super) fn advance(&mut self, n: u64) -> Result<Range<usize>, Stop> {
        let left = self.left();
        if n > left {
            return Err(Problem::Truncated { needed: n, left }.into());
        }
        let end = usize::try_from(n)
            .ok()
            .and_then(|n| self.position.checked_add(n))
            .filter(|&end| end as u64 <= MAX_HEADER_BYTES)
            .ok_or(Problem::HeaderTooLarge)?;
        if end > self.bytes().len() {
            self.read_to(end)?;
        }
        let range = self.position..end;
        self.position = end;
        Ok(range)
    }

    fn bytes(&self) -> &[u8] {
        match &self.source {
            Source::Memory(bytes) => bytes,
            Source::File { read, .. } => read,
        }
    }

    /// Reads the file up to byte `end` and some bytes beyond, so that few reads are needed.
    #[cold]
    fn read_to(&mut self, end: usize) -> Result<(), Stop> {
        let Source::File { file, read } = &mut self.source else {
            return Err(Problem::Truncated { needed: end as u64, left: 0 }.into());
        };
        let ahead = read.len().saturating_mul(2).max(FIRST_READ) as u64;
        let target = ahead.max(end as u64).min(self.size).min(MAX_HEADER_BYTES);
        let target = usize::try_from(target).map_err(|_| Problem::HeaderTooLarge)?;
        let start = read.len();
        let memory = |_| Problem::Memory(target as u64);
        read.try_reserve_exact(target.saturating_sub(start)).map_err(memory)?;
        read.resize(target, 0);
        let fresh = read.get_mut(start..).unwrap_or_default();
        file.read_exact_at(fresh, start as u64).map_err(Stop::File)
    }

    /// All bytes read so far; ranges returned by [`advance`](Self::advance) are inside.
    pub(super) fn into_bytes(self) -> Bytes {
        match self.source {
            Source::Memory(bytes) => bytes,
            Source::File { mut read, .. } => {
                read.truncate(self.position);
                read.shrink_to_fit();
                read.into()
            }
        }
    }

    pub(super) fn take_u8(&mut self) -> Result<u8, Stop> {
        Ok(u8::from_le_bytes(self.take_array()?))
    }

    pub(super) fn take_u32(&mut self) -> Result<u32, Stop> {
        Ok(u32::from_le_bytes(self.take_array()?))
    }

    pub(super) fn take_u64(&mut self) -> Result<u64, Stop> {
        Ok(u64::from_le_bytes(self.take_array()?))
    }

    /// The bytes of a number, as little-endian ones.
    #[inline]
    pub(super) fn take_array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let bytes = self.take(N as u64)?.first_chunk().copied();
        let bytes = bytes.ok_or(Stop::Problem(Problem::Truncated { needed: N as u64, left: 0 }))?;
        Ok(self.order.arrange(bytes))
    }
}
