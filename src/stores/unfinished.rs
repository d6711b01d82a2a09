//! What nobody needs in stores: unfinished files, left by interrupted fetches, and blobs of models that were not made in the end.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::{Fetched, MAX_ENTRIES, Places, folders_in, ollama};
use crate::files::bytes_on_disk;

/// Suffix of file names while they are fetched.
pub const PART_SUFFIX: &str = ".gguf-part";

impl Places {
    /// Blobs of Ollama's stores that this program has put there and that no model needs, with their sizes in bytes.
    #[must_use]
    pub fn unused_blobs(&self, fetched: &Fetched) -> Vec<(PathBuf, u64)> {
        let unused = |root: &PathBuf| {
            let needed = ollama::all_blobs(root);
            let blobs = fs::read_dir(root.join("blobs")).into_iter().flatten().take(MAX_ENTRIES);
            let paths = blobs.filter_map(Result::ok).map(|entry| entry.path());
            let is_unused = |path: &PathBuf| fetched.has(path) && !needed.contains(path);
            paths
                .filter(is_unused)
                .filter_map(|path| Some((path.clone(), bytes_on_disk(&path).ok()?)))
                .collect::<Vec<_>>()
        };
        let mut found: Vec<(PathBuf, u64)> = self.ollama.iter().flat_map(unused).collect();
        found.sort();
        found
    }

    /// Unfinished files that no program is fetching, with their sizes in bytes.
    #[must_use]
    pub fn unfinished(&self) -> Vec<(PathBuf, u64)> {
        let of_hub = self.hugging_face.iter().flat_map(|root| folders_in(root));
        let folders = of_hub.chain(self.ollama.iter().cloned()).map(|folder| folder.join("blobs"));
        let mut found: Vec<(PathBuf, u64)> = folders.flat_map(|folder| parts(&folder)).collect();
        found.sort();
        found
    }
}

fn parts(folder: &Path) -> Vec<(PathBuf, u64)> {
    let entries = fs::read_dir(folder).into_iter().flatten().take(MAX_ENTRIES).filter_map(Result::ok);
    let is_part = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(PART_SUFFIX));
    let paths = entries.map(|entry| entry.path()).filter(is_part).filter(|path| !is_being_fetched(path));
    let with_bytes = |path: PathBuf| {
        let bytes = bytes_on_disk(&path).ok()?;
        Some((path, bytes))
    };
    paths.filter_map(with_bytes).collect()
}

/// Whether a program holds the lock of an unfinished file.
fn is_being_fetched(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}
