//! Writing models in several files, in the layout of llama.cpp's `gguf-split` and `llama-quantize --keep-split`: the first
//! shard has the metadata, and every shard its number.

use std::path::{Path, PathBuf};

use super::byte_order::ByteOrder;
use super::error::{Error, ShardProblem};
use super::reader::Reader;
use super::value::Metadata;
use super::writer::{TensorSpec, Writer, file_size};
use super::{keys, limits, shards};
use crate::files::{CompleteFile, OutputError, Overwrite, check_target};

/// The shards of a model under construction. They appear together, when all are complete.
#[derive(Debug)]
pub struct SplitWriter {
    shards: Vec<Writer>,
    paths: Vec<PathBuf>,
    current: usize,
}

impl SplitWriter {
    /// Begins a model whose shards hold the tensors of `shards`. For `out.gguf` and two shards it is written to
    /// `out-00001-of-00002.gguf` and `out-00002-of-00002.gguf`; one shard makes a plain file, `out.gguf`.
    ///
    /// # Errors
    /// When metadata or tensors cannot be stored in a file, when an output may not be replaced, or there is no room.
    pub fn create(
        path: &Path,
        overwrite: Overwrite<'_>,
        metadata: &Metadata,
        shards: &[Vec<TensorSpec>],
    ) -> Result<Self, Error> {
        Self::create_in_order(path, overwrite, ByteOrder::Little, metadata, shards)
    }

    /// As [`create`](Self::create), in any byte order. Metadata and data to write are little-endian all the same.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_in_order(
        path: &Path,
        overwrite: Overwrite<'_>,
        order: ByteOrder,
        metadata: &Metadata,
        shards: &[Vec<TensorSpec>],
    ) -> Result<Self, Error> {
        let headers = headers(path, metadata, shards)?;
        let mut writers = Vec::with_capacity(shards.len());
        for ((path, metadata), tensors) in headers.iter().zip(shards) {
            writers.push(Writer::create_in_order(path, overwrite, order, metadata, tensors)?);
        }
        let paths = headers.into_iter().map(|(path, _)| path).collect();
        let mut writer = Self { shards: writers, paths, current: 0 };
        writer.skip_complete();
        Ok(writer)
    }

    /// Writes data of the next tensor that is not complete: all of it, or a piece.
    ///
    /// # Errors
    /// When there are more bytes than the tensor has room for, or they cannot be written.
    pub fn write_tensor(&mut self, bytes: &[u8]) -> Result<(), Error> {
        // After the last shard, its writer returns the error that there is no room.
        let last = self.shards.len() - 1;
        self.shards[self.current.min(last)].write_tensor(bytes)?;
        self.skip_complete();
        Ok(())
    }

    fn skip_complete(&mut self) {
        while self.shards.get(self.current).is_some_and(Writer::is_complete) {
            self.current += 1;
        }
    }

    /// Renames all files to their final names, the first shard last. Returns the bytes of all files.
    ///
    /// # Errors
    /// When data are missing, or the system cannot write them. Nothing is left behind then.
    pub fn finish(self) -> Result<u64, Error> {
        self.complete()?.place()
    }

    /// Syncs all bytes to the disk: the first half of [`finish`](Self::finish).
    ///
    /// # Errors
    /// When data are missing, or the system cannot write them. Nothing is left behind then.
    pub fn complete(self) -> Result<CompleteModel, Error> {
        let mut shards = Vec::with_capacity(self.shards.len());
        for shard in self.shards {
            shards.push(shard.into_sink()?.complete()?);
        }
        Ok(CompleteModel { shards, paths: self.paths })
    }
}

/// A model whose bytes are all on the disk under temporary names. Dropping it removes the files.
#[derive(Debug)]
pub struct CompleteModel {
    shards: Vec<CompleteFile>,
    paths: Vec<PathBuf>,
}

impl CompleteModel {
    /// Opens the written files one by one, to check what is on the disk.
    ///
    /// # Errors
    /// When a file cannot be read, or is not a valid GGUF file.
    pub fn read_back(&self) -> Result<Vec<Reader>, Error> {
        self.shards.iter().map(|shard| Reader::open_alone(shard.temporary_path())).collect()
    }

    /// Final paths of the files.
    #[must_use]
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Renames all files to their final names, the first shard last. Returns the bytes of all files.
    ///
    /// # Errors
    /// When the system cannot do so. Nothing is left behind then.
    pub fn place(self) -> Result<u64, Error> {
        let mut bytes = 0;
        let mut placed = Vec::with_capacity(self.shards.len());
        for shard in self.shards.into_iter().rev() {
            let path = shard.path().to_owned();
            match shard.place() {
                Ok(shard_bytes) => bytes += shard_bytes,
                Err(error) => {
                    remove(&placed);
                    return Err(error.into());
                }
            }
            placed.push(path);
        }
        Ok(bytes)
    }
}

/// Removes shards of a set that cannot be completed.
fn remove(paths: &[PathBuf]) {
    for path in paths {
        // The error that led here is more useful than one about this.
        let _ = std::fs::remove_file(path);
    }
}

/// Sizes in bytes of the files that [`SplitWriter::create`] would make.
///
/// # Errors
/// When metadata or tensors cannot be stored in a file.
pub fn split_file_sizes(metadata: &Metadata, shards: &[Vec<TensorSpec>]) -> Result<Vec<u64>, Error> {
    let headers = headers(Path::new("output"), metadata, shards)?;
    headers.iter().zip(shards).map(|((_, metadata), tensors)| file_size(metadata, tensors)).collect()
}

/// Path and metadata of every shard.
fn headers(path: &Path, metadata: &Metadata, shards: &[Vec<TensorSpec>]) -> Result<Vec<(PathBuf, Metadata)>, Error> {
    let count = shards.len();
    let (Ok(small_count), true) = (u16::try_from(count), (1..=limits::MAX_SHARDS).contains(&(count as u64))) else {
        return Err(Error::Shard { path: path.into(), problem: ShardProblem::TooMany { count: count as u64 } });
    };
    let paths = output_paths(path, count);
    if count == 1 {
        return Ok(paths.into_iter().map(|path| (path, metadata.clone())).collect());
    }
    let tensors: usize = shards.iter().map(Vec::len).sum();
    let tensors = i32::try_from(tensors).unwrap_or(i32::MAX);
    let shard = |(no, path): (u16, PathBuf)| {
        let mut metadata = if no == 0 { metadata.clone() } else { Metadata::new() };
        metadata.set_last(keys::SPLIT_NO, no);
        metadata.set_last(keys::SPLIT_COUNT, small_count);
        metadata.set_last(keys::SPLIT_TENSORS_COUNT, tensors);
        (path, metadata)
    };
    Ok((0..small_count).zip(paths).map(shard).collect())
}

/// Paths of the `count` files of the model `path`.
fn output_paths(path: &Path, count: usize) -> Vec<PathBuf> {
    if count == 1 {
        return vec![path.into()];
    }
    let prefix = path.with_extension("");
    let prefix = if path.extension().is_some_and(|extension| extension == "gguf") { &*prefix } else { path };
    let shard = |no| {
        let mut name = prefix.file_name().unwrap_or_default().to_owned();
        name.push(shards::shard_file_name("", no, count as u64));
        prefix.with_file_name(name)
    };
    (0..count as u64).map(shard).collect()
}

/// Checks, without creating anything, that the `count` files of the model `path` may be created.
///
/// # Errors
/// When one exists and may not be replaced, or is not a regular file.
pub fn check_outputs(path: &Path, count: usize, overwrite: Overwrite<'_>) -> Result<(), OutputError> {
    output_paths(path, count).iter().try_for_each(|path| check_target(path, overwrite))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{SplitWriter, split_file_sizes};
    use crate::files::Overwrite;
    use crate::gguf::{Metadata, Reader, TensorSpec};
    use crate::tensor_type::TensorType;

    #[test]
    fn shards_are_read_as_one() {
        let folder = std::env::temp_dir().join(format!("gguf-split-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("folder");
        let tensor = |name: &str, n| TensorSpec { name: name.into(), shape: vec![n], ty: TensorType::I8 };
        let shards = [vec![tensor("a", 3), tensor("b", 40)], vec![], vec![tensor("c", 5)]];
        let mut metadata = Metadata::new();
        metadata.set("general.name", "split");
        let path = folder.join("m.gguf");
        let write = |overwrite| {
            let mut writer = SplitWriter::create(&path, overwrite, &metadata, &shards)?;
            writer.write_tensor(&[1; 3])?;
            writer.write_tensor(&[2; 40])?;
            writer.write_tensor(&[3; 4])?;
            assert!(writer.write_tensor(&[3; 2]).is_err());
            writer.write_tensor(&[4])?;
            assert!(writer.write_tensor(&[4]).is_err());
            writer.finish()
        };
        let bytes = write(Overwrite::Refuse).expect("written");
        assert_eq!(bytes, split_file_sizes(&metadata, &shards).expect("valid").iter().sum::<u64>());
        assert!(write(Overwrite::Refuse).is_err());
        write(Overwrite::Replace { inputs: &[] }).expect("replaced");
        let reader = Reader::open(&folder.join("m-00002-of-00003.gguf")).expect("valid");
        assert_eq!((reader.shards().len(), reader.file_bytes()), (3, bytes));
        assert_eq!(reader.metadata().get("general.name").and_then(|v| v.as_str()), Some("split"));
        let c = reader.tensor("c").expect("there");
        assert_eq!((c.shard(), &*reader.data(c).expect("data")), (2, &[3, 3, 3, 3, 4][..]));
        assert_eq!(fs::read_dir(&folder).expect("folder").count(), 3);
        fs::remove_dir_all(&folder).expect("remove");
    }
}
