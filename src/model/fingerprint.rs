//! What tells models apart: hashes, for files that are valid for one model (sessions, measurements that go on).

use std::hash::Hasher as _;
use std::io::{self, Write};

use rayon::prelude::*;
use sha2::{Digest as _, Sha256};
use twox_hash::XxHash64;

use super::Model;
use crate::gguf::{Error, TensorSpec, Writer};

/// A sink that only hashes.
struct Digesting(Sha256);

impl Write for Digesting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Model {
    /// The SHA-256 of the metadata, of the names, types and shapes of all tensors, and of the adapters. Weights are not read.
    ///
    /// # Errors
    /// When the metadata cannot be written.
    pub(crate) fn fingerprint(&self) -> Result<[u8; 32], Error> {
        self.digest().map(|digest| digest.finalize().into())
    }

    /// The SHA-256, in hexadecimal digits, of the metadata, of the adapters, and of all tensors with their bytes, which are read for it.
    ///
    /// # Errors
    /// When the metadata cannot be written.
    pub fn fingerprint_with_weights(&self) -> Result<String, Error> {
        let hash = |(_, matrix): &(String, crate::kernels::Matrix)| {
            let mut hash = XxHash64::with_seed(0);
            hash.write(matrix.bytes());
            hash.finish()
        };
        let hashes: Vec<u64> = self.tensors().par_iter().map(hash).collect();
        let mut digest = self.digest()?;
        hashes.iter().for_each(|hash| digest.update(hash.to_le_bytes()));
        Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn digest(&self) -> Result<Sha256, Error> {
        let tensors = self.tensors().iter().map(|(name, matrix)| {
            let shape = vec![matrix.cols() as u64, matrix.rows() as u64];
            TensorSpec { name: name.clone(), shape, ty: matrix.ty() }
        });
        let tensors: Vec<TensorSpec> = tensors.collect();
        let mut digest = Digesting(Sha256::new());
        drop(Writer::to_sink(&mut digest, "model", self.metadata(), &tensors)?);
        self.visit_adapters(&mut |bytes| digest.0.update(bytes));
        Ok(digest.0)
    }
}
