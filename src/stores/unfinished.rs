//! Unfinished files in stores, left by interrupted fetches.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::{MAX_ENTRIES, Places, folders_in};
use crate::files::bytes_on_disk;

/// Suffix of file names while they are fetched.
pub const PART_SUFFIX: &str = ".gguf-part";

impl Places {
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
