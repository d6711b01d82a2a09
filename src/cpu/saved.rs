//! The state of a sequence as bytes: its pages as they are in memory, layer after layer.
//!
//! The bytes are valid for one model, one pair of cache types and one version of the layout. Who stores them has to store these,
//! too: see `engine/session_file.rs`. Numbers are little-endian.

use std::io::{self, Read, Write};

use super::kv::{Limit, OutOfPages, Pages};
use super::sequence::Sequence;

/// The reason why the state of a sequence cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SavedError {
    /// The bytes cannot be read, or end too early.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// There is no memory for the pages.
    #[error(transparent)]
    OutOfPages(#[from] OutOfPages),
    /// A layer does not have the pages that it needs.
    #[error("layer {layer}: {found} pages from page {first} on for {len} positions")]
    Layer {
        /// The layer, from 0.
        layer: usize,
        /// The first page.
        first: u64,
        /// Number of pages.
        found: u64,
        /// Positions of the sequence.
        len: usize,
    },
}

impl Sequence {
    /// Writes the state of the sequence.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn save(&self, out: &mut dyn Write) -> io::Result<()> {
        for layer in &self.layers {
            if let Some(cache) = &layer.cache {
                write_pages(cache.pages(), cache.pages_of(self.len), out)?;
            }
            if let Some(recurrent) = &layer.recurrent {
                write_pages(recurrent.pages(), usize::from(self.len > 0), out)?;
            }
        }
        Ok(())
    }

    /// Reads the state of a sequence of `len` tokens, which [`Self::save`] has written for the same model and types, in place of
    /// this one. After an error the sequence is empty.
    ///
    /// # Errors
    /// When the bytes end too early or are not such a state, or the pool's budget is used up.
    pub fn restore(&mut self, len: usize, from: &mut dyn Read) -> Result<(), SavedError> {
        self.truncate(0);
        self.unreserve();
        let restored = self.read_layers(len, from);
        self.len = len;
        if restored.is_err() {
            self.truncate(0);
        }
        restored
    }

    fn read_layers(&mut self, len: usize, from: &mut dyn Read) -> Result<(), SavedError> {
        for (i, layer) in self.layers.iter_mut().enumerate() {
            let misfit = |[first, found]: [u64; 2]| SavedError::Layer { layer: i, first, found, len };
            if let Some(cache) = &mut layer.cache {
                let (expected, most_first) = (cache.pages_of(len), cache.first_seen(len));
                read_pages(cache.pages_for(len), expected, most_first, from)?.map_err(misfit)?;
            }
            if let Some(recurrent) = &mut layer.recurrent {
                read_pages(recurrent.pages_mut(), usize::from(len > 0), 0, from)?.map_err(misfit)?;
            }
        }
        Ok(())
    }
}

/// Writes the first page that is there of `len` pages, the number of pages from it on, and these pages.
fn write_pages(pages: &Pages, len: usize, out: &mut dyn Write) -> io::Result<()> {
    let first = (0..len).find(|&i| pages.get(i).is_some()).unwrap_or(len);
    out.write_all(&(first as u64).to_le_bytes())?;
    out.write_all(&((len - first) as u64).to_le_bytes())?;
    for page in (first..len).filter_map(|i| pages.get(i)) {
        out.write_all(page.bytes())?;
    }
    Ok(())
}

/// Reads what [`write_pages`] wrote, into `pages`, which has none yet. If these are not `expected` pages, of which the first
/// `most_first` may be missing, returns the first page and the number of pages found.
fn read_pages(
    pages: &mut Pages,
    expected: usize,
    most_first: usize,
    from: &mut dyn Read,
) -> Result<Result<(), [u64; 2]>, SavedError> {
    let [first, found] = [read_number(from)?, read_number(from)?];
    if first.checked_add(found) != Some(expected as u64) || first > most_first.min(expected) as u64 {
        return Ok(Err([first, found]));
    }
    for page in 0..expected {
        if (page as u64) < first {
            pages.push_none();
            continue;
        }
        pages.push(Limit::Budget)?;
        if let Some(bytes) = pages.own(page) {
            from.read_exact(bytes)?;
        }
    }
    Ok(Ok(()))
}

fn read_number(from: &mut dyn Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}
