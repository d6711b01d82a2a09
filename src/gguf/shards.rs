//! Split models: `NAME-00001-of-00003.gguf` and so on, as llama.cpp's `gguf-split` writes them.

use std::path::{Path, PathBuf};

use super::error::{Error, ShardProblem};
use super::value::Metadata;
use super::{keys, limits};

/// The shards that the metadata announce.
pub(super) struct ShardSet {
    pub(super) paths: Vec<PathBuf>,
    tensor_count: u64,
}

/// The set that the file at `path` belongs to, or `None` if the file is a whole model.
pub(super) fn set_of(path: &Path, metadata: &Metadata) -> Result<Option<ShardSet>, Error> {
    let Some(count) = shard_count(metadata) else { return Ok(None) };
    let fail = |problem| Error::Shard { path: path.into(), problem };
    if count > limits::MAX_SHARDS {
        return Err(fail(ShardProblem::TooMany { count }));
    }
    let no = number(metadata, keys::SPLIT_NO).map_err(fail)?;
    let tensor_count = number(metadata, keys::SPLIT_TENSORS_COUNT).map_err(fail)?;
    let prefix = path
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| name.strip_suffix(&suffix(no, count)))
        .ok_or_else(|| fail(ShardProblem::FileName { no, count }))?;
    let paths = (0..count).map(|no| path.with_file_name(format!("{prefix}{}", suffix(no, count)))).collect();
    Ok(Some(ShardSet { paths, tensor_count }))
}

/// Returns an error if a header is that of one of several shards.
pub(super) fn refuse_shard(path: &Path, metadata: &Metadata) -> Result<(), Error> {
    match shard_count(metadata) {
        None => Ok(()),
        Some(count) => {
            let no = number(metadata, keys::SPLIT_NO).unwrap_or(0);
            Err(Error::Shard { path: path.into(), problem: ShardProblem::FileName { no, count } })
        }
    }
}

/// Name of a shard of the model `prefix`: `no` counts from 0.
#[must_use]
pub fn shard_file_name(prefix: &str, no: u64, count: u64) -> String {
    format!("{prefix}{}", suffix(no, count))
}

fn suffix(no: u64, count: u64) -> String {
    format!("-{:05}-of-{count:05}.gguf", no.saturating_add(1))
}

fn shard_count(metadata: &Metadata) -> Option<u64> {
    metadata.get(keys::SPLIT_COUNT)?.as_u64().filter(|&count| count > 1)
}

fn number(metadata: &Metadata, key: &'static str) -> Result<u64, ShardProblem> {
    metadata.get(key).and_then(|value| value.as_u64()).ok_or(ShardProblem::KeyMissing { key })
}

impl ShardSet {
    /// Checks that the metadata of shard `no` have its number and count.
    pub(super) fn check(&self, no: usize, path: &Path, metadata: &Metadata) -> Result<(), Error> {
        let expected = [
            (keys::SPLIT_NO, no as u64),
            (keys::SPLIT_COUNT, self.paths.len() as u64),
            (keys::SPLIT_TENSORS_COUNT, self.tensor_count),
        ];
        for (key, expected) in expected {
            let problem = match number(metadata, key) {
                Ok(found) if found == expected => continue,
                Ok(found) => ShardProblem::Key { key, found, expected },
                Err(problem) => problem,
            };
            return Err(Error::Shard { path: path.into(), problem });
        }
        Ok(())
    }

    /// Checks that all shards together hold as many tensors as announced.
    pub(super) fn check_total(&self, path: &Path, found: u64) -> Result<(), Error> {
        let expected = self.tensor_count;
        if found == expected {
            return Ok(());
        }
        Err(Error::Shard { path: path.into(), problem: ShardProblem::Tensors { found, expected } })
    }
}
