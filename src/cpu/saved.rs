//! A sequence's memory as bytes: pages as they are, layer after layer.
//!
//! Bytes belong to a model, types of cached numbers and a version of this program, all of which who stores them has to keep
//! beside them. Numbers are little-endian, as in memory.

use std::io::{self, Read, Write};

use super::kv::{Limit, OutOfPages};
use super::sequence::{LayerState, Sequence};

/// Why bytes are no state of a sequence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SavedError {
    /// They cannot be read, or end too early.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// No memory for them.
    #[error(transparent)]
    OutOfPages(#[from] OutOfPages),
    /// A layer holds what its kind cannot.
    #[error("layer {layer}: {found} pages from page {first} on for {len} positions")]
    Layer {
        /// Which, from 0.
        layer: usize,
        /// The first page.
        first: u64,
        /// Pages.
        found: u64,
        /// Positions of the sequence.
        len: usize,
    },
}

impl Sequence {
    /// Writes what the sequence remembers.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn save(&self, out: &mut dyn Write) -> io::Result<()> {
        for layer in &self.layers {
            let (pages, len) = match layer {
                LayerState::None => continue,
                LayerState::Cache(cache) => (cache.pages(), cache.pages_of(self.len)),
                LayerState::Recurrent(recurrent) => (recurrent.pages(), usize::from(self.len > 0)),
            };
            let first = (0..len).find(|&i| pages.get(i).is_some()).unwrap_or(len);
            out.write_all(&(first as u64).to_le_bytes())?;
            out.write_all(&((len - first) as u64).to_le_bytes())?;
            for page in (first..len).filter_map(|i| pages.get(i)) {
                out.write_all(page.bytes())?;
            }
        }
        Ok(())
    }

    /// Becomes the sequence of `len` tokens that [`Self::save`] has written, of the same model and types. After an error it is
    /// empty.
    ///
    /// # Errors
    /// When the bytes end too early or are none of such a sequence, or the pool's budget is used up.
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
            let (pages, expected, most_first) = match layer {
                LayerState::None => continue,
                LayerState::Cache(cache) => {
                    let (expected, most_first) = (cache.pages_of(len), cache.first_seen(len));
                    (cache.pages_for(len), expected, most_first)
                }
                LayerState::Recurrent(recurrent) => (recurrent.pages_mut(), usize::from(len > 0), 0),
            };
            let (first, found) = (read_number(from)?, read_number(from)?);
            let fits = first.checked_add(found) == Some(expected as u64) && first <= most_first.min(expected) as u64;
            if !fits {
                return Err(SavedError::Layer { layer: i, first, found, len });
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
        }
        Ok(())
    }
}

fn read_number(from: &mut dyn Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}
