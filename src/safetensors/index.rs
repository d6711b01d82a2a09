//! The index of a checkpoint in several files (`model.safetensors.index.json`): which tensor is in which shard.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;

use super::error::{Error, IndexProblem};
use super::json::Entries;

/// Bytes of an index. That of a checkpoint with 100,000 tensors has about ten million.
pub(super) const MAX_INDEX_BYTES: u64 = 32 << 20;

/// Tensor names and the shards that the index gives for them, sorted by name.
pub(super) struct Index {
    weights: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct RawIndex {
    weight_map: Entries<String>,
}

impl Index {
    /// Reads and checks an index.
    pub(super) fn parse(json: &[u8]) -> Result<Self, IndexProblem> {
        let raw: RawIndex = serde_json::from_slice(json).map_err(|error| IndexProblem::Json(error.to_string()))?;
        let weights = raw.weight_map.sorted().map_err(IndexProblem::Duplicate)?;
        if weights.is_empty() {
            return Err(IndexProblem::Empty);
        }
        match weights.iter().find(|(_, shard)| !is_shard_name(shard)) {
            Some((tensor, shard)) => Err(IndexProblem::ShardName { tensor: tensor.clone(), shard: shard.clone() }),
            None => Ok(Self { weights }),
        }
    }

    /// The shards' names, sorted.
    pub(super) fn shards(&self) -> BTreeSet<&str> {
        self.weights.iter().map(|(_, shard)| shard.as_str()).collect()
    }

    /// Checks that exactly the tensors of the index are there, each in its shard alone. `found`: name and shard of every
    /// tensor, sorted.
    pub(super) fn check(&self, path: &Path, found: &[(&str, &str)]) -> Result<(), Error> {
        // Both are sorted, so that one pass compares them; the code below finds the first difference.
        if self.weights.iter().map(|(tensor, shard)| (tensor.as_str(), shard.as_str())).eq(found.iter().copied()) {
            return Ok(());
        }
        let fail = |problem| Err(Error::Index { path: path.into(), problem });
        for pair in found.windows(2) {
            if let [(tensor, shard), (next, other)] = *pair
                && tensor == next
            {
                let (tensor, shard, other) = (tensor.to_owned(), shard.to_owned(), other.to_owned());
                return fail(IndexProblem::InTwoShards { tensor, shard, other });
            }
        }
        for (tensor, shard) in &self.weights {
            if found.binary_search(&(tensor, shard)).is_err() {
                return fail(IndexProblem::TensorMissing { tensor: tensor.clone(), shard: shard.clone() });
            }
        }
        for &(tensor, shard) in found {
            if self.weights.binary_search_by(|(name, _)| name.as_str().cmp(tensor)).is_err() {
                return fail(IndexProblem::Unlisted { tensor: tensor.to_owned(), shard: shard.to_owned() });
            }
        }
        Ok(())
    }
}

/// Whether a name from an index is a plain file name, which may be appended to the folder's path.
fn is_shard_name(name: &str) -> bool {
    name.len() <= 255
        && name.strip_suffix(".safetensors").is_some_and(|stem| !stem.is_empty())
        && !name.starts_with('.')
        && !name.contains(['/', '\\', '\0'])
}

#[cfg(test)]
mod tests {
    use super::{Index, IndexProblem};

    #[test]
    fn shards_are_plain_file_names() {
        let parse = |shard: &str| Index::parse(format!(r#"{{"weight_map":{{"w":{shard}}}}}"#).as_bytes());
        assert_eq!(parse(r#""model-1.safetensors""#).expect("valid").shards().len(), 1);
        for bad in ["../x.safetensors", "/x.safetensors", "a/b.safetensors", "x.gguf", ".safetensors", "..", ""] {
            let problem = parse(&format!("\"{bad}\"")).err();
            assert!(matches!(problem, Some(IndexProblem::ShardName { .. })), "{bad}: {problem:?}");
        }
        assert!(matches!(parse("3"), Err(IndexProblem::Json(_))));
        assert!(matches!(parse(r#""a.safetensors","w":"b.safetensors""#), Err(IndexProblem::Duplicate(_))));
        assert!(matches!(Index::parse(b"{}"), Err(IndexProblem::Json(_))));
        assert!(matches!(Index::parse(br#"{"weight_map":{}}"#), Err(IndexProblem::Empty)));
    }
}
