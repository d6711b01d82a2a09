//! Where weights come from: a GGUF file, or a checkpoint on its way to one.

use std::path::Path;

use super::Error;
use crate::files::FileId;
use crate::formats;
use crate::gguf::{Metadata, Reader, TensorSpec};

/// A model whose tensors can be read piece by piece.
pub trait Source: Sync {
    /// Stands for it in messages.
    fn path(&self) -> &Path;

    /// Its metadata.
    fn metadata(&self) -> &Metadata;

    /// Its tensors, in the order of the file.
    fn tensors(&self) -> &[TensorSpec];

    /// The file that a tensor lies in, and where there: no more than an order.
    fn place(&self, tensor: usize) -> (usize, u64) {
        (0, tensor as u64)
    }

    /// Elements that are best read together: reads begin at multiples of them, and end there or with the tensor. A row,
    /// unless the source knows better.
    fn granule(&self, tensor: usize) -> u64 {
        self.tensors()[tensor].shape.first().copied().unwrap_or(1)
    }

    /// Bytes that a read of `elements` elements holds besides its buffer.
    fn scratch_bytes(&self, _tensor: usize, _elements: u64) -> u64 {
        0
    }

    /// Fills `buffer` with the bytes of a tensor from `offset_bytes` on, in whole granules.
    ///
    /// # Errors
    /// When they cannot be read.
    fn read(&self, tensor: usize, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), Error>;

    /// Checks that what has been read is still what there is.
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
