//! Folders for what comes.

use std::fs;
use std::path::Path;

use super::error::Error;

/// Makes the folder that `path` shall lie in.
pub(super) fn make_folder(path: &Path) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(|source| Error::Disk { path: folder.to_owned(), source })
}
