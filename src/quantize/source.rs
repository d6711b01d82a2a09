//! Sources of weights: a GGUF file, or a checkpoint that is being converted.

use std::path::Path;

use super::Error;
use crate::files::FileId;
use crate::formats;
use crate::gguf::{Metadata, Reader, TensorSpec};

/// A model whose tensors can be read piece by piece.
pub trait Source: Sync {
    /// Its name in messages.
    fn path(&self) -> &Path;

    /// Its metadata.
    fn metadata(&self) -> &Metadata;

    /// Its tensors, in the order of the file.
    fn tensors(&self) -> &[TensorSpec];

    /// The number of the file that has a tensor, and its position there; used for ordering alone.
    fn place(&self, tensor: usize) -> (usize, u64) {
        (0, tensor as u64)
    }

    /// The unit of reads, in elements: reads begin at multiples of it, and end at one or at the end of the tensor. By default a
    /// row.
    fn granule(&self, tensor: usize) -> u64 {
        self.tensors()[tensor].shape.first().copied().unwrap_or(1)
    }

    /// Bytes of temporary memory for a read of `elements` elements, besides the buffer.
    fn scratch_bytes(&self, _tensor: usize, _elements: u64) -> u64 {
        0
    }

    /// Fills `buffer` with the bytes of a tensor from `offset_bytes` on, in whole granules.
    ///
    /// # Errors
    /// When they cannot be read.
    fn read(&self, tensor: usize, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), Error>;

    /// Checks that the source has not changed since it was opened.
    ///
    /// # Errors
    /// When the source has changed.
    fn check_unchanged(&self) -> Result<(), Error>;

    /// Identities of its files.
    fn file_ids(&self) -> Vec<FileId>;
}

/// An opened GGUF file as a source.
pub struct GgufSource<'a> {
    reader: &'a Reader,
    tensors: Vec<TensorSpec>,
}

impl<'a> GgufSource<'a> {
    /// The tensors of `reader`, in its order.
    #[must_use]
    pub fn new(reader: &'a Reader) -> Self {
        Self { reader, tensors: reader.tensors().iter().map(TensorSpec::from).collect() }
    }
}

impl Source for GgufSource<'_> {
    fn path(&self) -> &Path {
        self.reader.path()
    }

    fn metadata(&self) -> &Metadata {
        self.reader.metadata()
    }

    fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    fn place(&self, tensor: usize) -> (usize, u64) {
        let info = &self.reader.tensors()[tensor];
        (info.shard(), self.reader.offset_in_file(info))
    }

    fn granule(&self, _tensor: usize) -> u64 {
        // The longest block of any type: rows may be cut there.
        formats::SUPER_BLOCK as u64
    }

    fn read(&self, tensor: usize, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), Error> {
        Ok(self.reader.read_at(&self.reader.tensors()[tensor], offset_bytes, buffer)?)
    }

    fn check_unchanged(&self) -> Result<(), Error> {
        Ok(self.reader.check_unchanged()?)
    }

    fn file_ids(&self) -> Vec<FileId> {
        self.reader.file_ids()
    }
}
