//! The layout of Hugging Face's cache: `models--ORG--NAME/blobs/CHECKSUM`, `snapshots/COMMIT/FILE` as a relative link to
//! a blob, `refs/main` with the commit. `hf`, transformers and llama.cpp read and write the same.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::checksum::Checksum;
use super::error::Error;
use super::folders::make_folder;
use crate::files::{Overwrite, read_whole, symlink, write_whole};

/// The folder of a repository.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The folder of `ORG/NAME` in a cache.
    pub(super) fn new(root: &Path, repository: &str) -> Self {
        Self { folder: root.join(format!("models--{}", repository.replace('/', "--"))) }
    }

    /// The blob of a file.
    pub(super) fn blob(&self, checksum: &Checksum) -> PathBuf {
        self.folder.join("blobs").join(checksum.digits())
    }

    /// The folder of a commit's files.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// Links `path` of a commit to a blob.
    pub(super) fn link(&self, commit: &str, path: &str, blob: &str) -> Result<(), Error> {
        let link = self.snapshot(commit).join(path);
        let failed = |source| Error::Disk { path: link.clone(), source };
        make_folder(&link)?;
        let up = "../".repeat(path.split('/').count() + 1);
        let to = PathBuf::from(format!("{up}blobs/{blob}"));
        if fs::read_link(&link).is_ok_and(|found| found == to) {
            return Ok(());
        }
        // Created under a temporary name and renamed, so that the name always refers to a complete file.
        let temporary = link.with_file_name(format!(".gguf-link-{}", std::process::id()));
        let _ = fs::remove_file(&temporary);
        match symlink(&to, &temporary) {
            Ok(()) => fs::rename(&temporary, &link).map_err(failed),
            // The file system has no links.
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) => {
                fs::hard_link(self.folder.join("blobs").join(blob), &link).map_err(failed)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Writes the commit of a branch.
    pub(super) fn write_reference(&self, reference: &str, commit: &str) -> Result<(), Error> {
        let path = self.folder.join("refs").join(reference);
        if read_whole(&path, commit.len() as u64).is_ok_and(|found| found == commit.as_bytes()) {
            return Ok(());
        }
        make_folder(&path)?;
        write_whole(&path, Overwrite::Replace { inputs: &[] }, commit.as_bytes())?;
        Ok(())
    }
}
