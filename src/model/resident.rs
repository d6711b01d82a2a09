//! Weights in memory of this process: read once, on all cores, into large pages if the system has them.

use memmap2::MmapMut;
use rayon::prelude::*;

use super::Error;
use crate::bytes::Bytes;
use crate::gguf::{Reader, TensorInfo};

/// Bytes of a large page.
const LARGE_PAGE: usize = 2 << 20;
/// Alignment of tensors: a cache line.
const ALIGNMENT: usize = 64;
/// Bytes read by one task.
const PART: usize = 8 << 20;

/// Anonymous memory, from its first large page on.
struct Memory {
    map: MmapMut,
    start: usize,
    len: usize,
}

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        &self.map[self.start..self.start + self.len]
    }
}

/// The bytes of `tensors` of `reader`, in their order.
pub(super) fn copy(reader: &Reader, tensors: &[&TensorInfo]) -> Result<Vec<Bytes>, Error> {
    let sizes = tensors.iter().map(|t| usize::try_from(t.bytes()).unwrap_or(usize::MAX));
    let mut len = 0_usize;
    let mut ranges = Vec::new();
    for size in sizes {
        ranges.push(len..len.saturating_add(size));
        len = len.saturating_add(size).saturating_add(ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    let failed = |source| Error::Memory { path: reader.path().to_owned(), needed: len as u64, source };
    let mut map = MmapMut::map_anon(len.saturating_add(LARGE_PAGE)).map_err(failed)?;
    // Best effort: systems without large pages use small ones.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    let start = map.as_ptr().align_offset(LARGE_PAGE).min(LARGE_PAGE);
    let mut rest = &mut map[start..start + len];
    let mut parts = Vec::new();
    for (&tensor, range) in tensors.iter().zip(&ranges) {
        let padded = range.len().next_multiple_of(ALIGNMENT).min(rest.len());
        let (bytes, later) = std::mem::take(&mut rest).split_at_mut(padded);
        rest = later;
        let pieces = bytes[..range.len()].chunks_mut(PART).enumerate();
        parts.extend(pieces.map(|(i, piece)| (tensor, (i * PART) as u64, piece)));
    }
    parts.into_par_iter().try_for_each(|(tensor, offset, piece)| reader.read_at(tensor, offset, piece))?;
    let all = Bytes::new(Memory { map, start, len });
    Ok(ranges.into_iter().map(|range| all.get(range).unwrap_or_default()).collect())
}
