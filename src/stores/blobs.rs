//! Puts blobs and manifests into a store with Ollama's layout, so that this program and Ollama find the models.

use std::fs;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use super::Fetched;
use super::digest::Digest;
use super::model_name::ModelName;
use super::ollama::{self, blob_path, manifest_path};
use crate::files::{OutputError, OutputFile, Overwrite, Sharing, share, write_whole};
use crate::printable::{printable, printable_path};

/// A store with Ollama's layout.
#[derive(Clone, Debug)]
pub struct BlobStore {
    root: PathBuf,
    /// The manifests that may be replaced; `None` for all.
    ours: Option<Fetched>,
}

/// A blob of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Its SHA-256.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
    /// How it came there.
    pub origin: Origin,
}

/// How a blob came to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was there.
    Existing,
    /// It was written.
    Written,
    /// It has the content of a file outside of the store.
    Shared(Sharing),
}

impl Origin {
    /// Whether its bytes take room on the disk that nothing took before.
    #[must_use]
    pub fn takes_room(self) -> bool {
        matches!(self, Self::Written | Self::Shared(Sharing::Copy))
    }

    /// What was done.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Existing => "a blob that is there already",
            Self::Written => "a new blob",
            Self::Shared(Sharing::Reflink) => "shares the blocks of the file (reflink)",
            Self::Shared(Sharing::HardLink) => {
                "a second name of the file (hard link): changes in place change the model"
            }
            Self::Shared(Sharing::Copy) => "a copy, since the disk cannot share it",
        }
    }
}

/// Errors of putting something into a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A folder cannot be made.
    #[error("{}: cannot make the folder: {source}", printable_path(path))]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The OS error.
        source: io::Error,
    },
    /// What shall become a blob cannot be read.
    #[error("{}: cannot be read: {source}", printable_path(path))]
    Read {
        /// The file.
        path: PathBuf,
        /// The OS error.
        source: io::Error,
    },
    /// The name is that of a model which another program has put into its store.
    #[error("{}: another program's model has this name", printable(name))]
    Foreign {
        /// The name.
        name: String,
    },
    /// Bytes have another checksum than they should.
    #[error("the bytes are those of {found}, not of {expected}")]
    OtherBytes {
        /// The checksum that was named.
        expected: Digest,
        /// That of the bytes.
        found: Digest,
    },
}

impl StoreError {
    /// Whether the store may not be written to.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        let source = match self {
            Self::Output(OutputError::Create { source, .. } | OutputError::Write { source, .. }) => source,
            Self::Folder { source, .. } => source,
            _ => return false,
        };
        matches!(source.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
    }
}

impl BlobStore {
    /// The store in a folder, which need not exist.
    #[must_use]
    pub fn at(root: PathBuf) -> Self {
        Self { root, ours: None }
    }

    /// The same store, in which no name is given to another model that is not one of `ours`.
    #[must_use]
    pub fn protecting(self, ours: Fetched) -> Self {
        Self { ours: Some(ours), ..self }
    }

    /// The store that a manifest belongs to, with the same protection.
    #[must_use]
    pub fn of_manifest(&self, manifest: &Path) -> Option<Self> {
        ollama::root_of(manifest).map(|root| Self { root: root.to_owned(), ours: self.ours.clone() })
    }

    /// Its folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Path of a blob, whether it exists or not.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        blob_path(&self.root, digest.digits())
    }

    /// A blob that exists.
    #[must_use]
    pub fn find(&self, digest: &Digest) -> Option<Blob> {
        let found = fs::metadata(self.path(digest)).ok().filter(fs::Metadata::is_file)?;
        Some(Blob { digest: digest.clone(), bytes: found.len(), origin: Origin::Existing })
    }

    /// A text or the like as a blob.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&self, bytes: &[u8]) -> Result<Blob, StoreError> {
        let digest = Digest::of(bytes);
        if let Some(found) = self.find(&digest) {
            return Ok(found);
        }
        let path = self.path(&digest);
        make_folder(&path)?;
        write_whole(&path, Overwrite::Refuse, bytes)?;
        Ok(Blob { digest, bytes: bytes.len() as u64, origin: Origin::Written })
    }

    /// A file as a blob, without a copy where the file system allows it.
    ///
    /// # Errors
    /// When it cannot be read, or the blob cannot be made.
    pub fn add_file(&self, file: &Path) -> Result<Blob, StoreError> {
        let unread = |source| StoreError::Read { path: file.to_owned(), source };
        let digest = Digest::of_file(file).map_err(unread)?;
        if let Some(found) = self.find(&digest) {
            return Ok(found);
        }
        let path = self.path(&digest);
        make_folder(&path)?;
        let origin = Origin::Shared(share(file, &path)?);
        let bytes = fs::metadata(&path).map_err(unread)?.len();
        Ok(Blob { digest, bytes, origin })
    }

    /// The bytes that come from `reader` as the blob `digest`.
    ///
    /// # Errors
    /// When they do not come whole, have another checksum, or cannot be written.
    pub fn receive(&self, digest: &Digest, reader: &mut dyn Read) -> Result<Blob, StoreError> {
        if let Some(found) = self.find(digest) {
            return Ok(found);
        }
        let path = self.path(digest);
        make_folder(&path)?;
        let mut output = OutputFile::create(&path, Overwrite::Refuse, 0)?;
        let mut bytes = 0;
        let found = Digest::of_reader(reader, &mut |step| {
            bytes += step.len() as u64;
            output.write_all(step)
        });
        let found = found.map_err(|source| StoreError::Read { path: path.clone(), source })?;
        if found != *digest {
            return Err(StoreError::OtherBytes { expected: digest.clone(), found });
        }
        output.commit()?;
        Ok(Blob { digest: found, bytes, origin: Origin::Written })
    }

    /// A path beside the blobs for a file that [`add_made`](Self::add_made) makes a blob of.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn path_to_make(&self) -> Result<PathBuf, StoreError> {
        let path = self.root.join("blobs").join(format!("gguf-made-{}-{}", std::process::id(), number()));
        make_folder(&path)?;
        Ok(path)
    }

    /// Makes a file that was written beside the blobs one of them.
    ///
    /// # Errors
    /// When it cannot be read or renamed.
    pub fn add_made(&self, file: &Path) -> Result<Blob, StoreError> {
        let unread = |source| StoreError::Read { path: file.to_owned(), source };
        let digest = Digest::of_file(file).map_err(unread)?;
        if let Some(found) = self.find(&digest) {
            fs::remove_file(file).map_err(unread)?;
            return Ok(found);
        }
        let bytes = fs::metadata(file).map_err(unread)?.len();
        fs::rename(file, self.path(&digest)).map_err(unread)?;
        Ok(Blob { digest, bytes, origin: Origin::Written })
    }

    /// Path of the manifest of `name`: an existing one whose name differs in nothing but case, else a new one.
    #[must_use]
    pub fn manifest_path(&self, name: &ModelName) -> PathBuf {
        ollama::existing_manifest(&self.root, name.parts()).unwrap_or_else(|| manifest_path(&self.root, name.parts()))
    }

    /// Checks that a model may get this name.
    ///
    /// # Errors
    /// When another program's model has it, and those are protected.
    pub fn check_name(&self, name: &ModelName) -> Result<(), StoreError> {
        let path = self.manifest_path(name);
        let is_foreign = self.ours.as_ref().is_some_and(|ours| path.exists() && !ours.has(&path));
        if is_foreign { Err(StoreError::Foreign { name: name.short() }) } else { Ok(()) }
    }

    /// Writes a manifest, in place of an earlier one of this name.
    ///
    /// # Errors
    /// When it cannot be written, or as [`check_name`](Self::check_name).
    pub fn write_manifest(&self, name: &ModelName, bytes: &[u8]) -> Result<PathBuf, StoreError> {
        self.check_name(name)?;
        let path = self.manifest_path(name);
        make_folder(&path)?;
        write_whole(&path, Overwrite::Replace { inputs: &[] }, bytes)?;
        Ok(path)
    }
}

impl Blob {
    /// It as a layer of a manifest.
    #[must_use]
    pub fn layer(&self, kind: &str) -> Json {
        json!({
            "mediaType": format!("{}{kind}", ollama::LAYER), "digest": self.digest.to_string(), "size": self.bytes,
        })
    }
}

fn make_folder(path: &Path) -> Result<(), StoreError> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(|source| StoreError::Folder { path: folder.to_owned(), source })
}

/// A number that this process has not used yet.
fn number() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
