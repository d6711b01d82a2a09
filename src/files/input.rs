//! Inputs: regular files, read by position and watched for changes, or bytes in memory.
//!
//! Used by every reader of the crate. Nothing is mapped here, so a file that is truncated while it is read gives an error.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::system;
use crate::bytes::Bytes;
use crate::printable::printable_path;

/// What goes wrong with an input file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file cannot be opened.
    #[error("{}: cannot open: {source}", printable_path(path))]
    Open {
        /// The file.
        path: PathBuf,
        /// The OS error.
        source: io::Error,
    },
    /// The path is not that of a regular file.
    #[error("{}: not a regular file but a {kind}", printable_path(path))]
    NotRegular {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        kind: &'static str,
    },
    /// Reading fails.
    #[error("{}: cannot read {len} bytes at offset {offset}: {source}", printable_path(path))]
    Read {
        /// The file.
        path: PathBuf,
        /// Where, from the start of the file.
        offset: u64,
        /// How many bytes were asked for.
        len: usize,
        /// The OS error.
        source: io::Error,
    },
    /// The file has changed since it was opened.
    #[error("{}: changed while it was read", printable_path(path))]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The file is larger than any valid file of its kind.
    #[error("{}: {size} bytes, more than the limit of {limit}", printable_path(path))]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The largest size in bytes.
        limit: u64,
    },
}

/// Identity of a file on this machine: equal for every path, symbolic and hard link that leads to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    volume: u64,
    file: u64,
}

impl FileId {
    /// The identity of an open file.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn of(file: &File) -> io::Result<Self> {
        system::identity(file).map(|[volume, file]| Self { volume, file })
    }

    /// The identity of what `path` leads to.
    ///
    /// # Errors
    /// When there is nothing, or the system does not tell.
    pub fn at(path: &Path) -> io::Result<Self> {
        system::identity_at(path).map(|[volume, file]| Self { volume, file })
    }
}

/// Every file that this process has opened for reading.
static OPENED: Mutex<Vec<FileId>> = Mutex::new(Vec::new());

/// Identities of all files that this process has read: a program compares its outputs with them, so that it never
/// overwrites an input.
#[must_use]
pub fn opened() -> Vec<FileId> {
    OPENED.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Adds a file to those that this process has read, for files that are opened in other ways.
///
/// # Errors
/// When the system does not tell which file it is.
pub fn note_opened(file: &File) -> io::Result<()> {
    note(FileId::of(file)?);
    Ok(())
}

fn note(id: FileId) {
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    if !opened.contains(&id) {
        opened.push(id);
    }
}

/// A regular file, open for reading.
#[derive(Debug)]
pub struct InputFile {
    file: File,
    path: PathBuf,
    id: FileId,
    stamp: Stamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self { size: metadata.len(), modified: metadata.modified().ok() }
    }
}

impl InputFile {
    /// Opens `path`, which may be a symbolic link, for reading. Never blocks (on a pipe, say).
    ///
    /// # Errors
    /// When it cannot be opened, or is not a regular file.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let cannot_open = |source| FileError::Open { path: path.into(), source };
        let file = system::open_input(path).map_err(cannot_open)?;
        let metadata = file.metadata().map_err(cannot_open)?;
        if !metadata.is_file() {
            return Err(FileError::NotRegular { path: path.into(), kind: system::kind_of(&metadata) });
        }
        let id = FileId::of(&file).map_err(cannot_open)?;
        note(id);
        Ok(Self { file, path: path.into(), id, stamp: Stamp::of(&metadata) })
    }

    /// Path it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size in bytes when it was opened.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.stamp.size
    }

    /// Identity of the file.
    #[must_use]
    pub const fn id(&self) -> FileId {
        self.id
    }

    /// The open file, for mapping.
    pub(crate) const fn file(&self) -> &File {
        &self.file
    }

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// When the system cannot read them, or the file has become shorter.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), FileError> {
        system::read_exact_at(&self.file, buffer, offset).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => FileError::Changed { path: self.path.clone() },
            _ => FileError::Read { path: self.path.clone(), offset, len: buffer.len(), source },
        })
    }

    /// Reads the whole file.
    ///
    /// # Errors
    /// When it is larger than `limit` bytes, cannot be read, or has become shorter.
    pub fn read_all(&self, limit: u64) -> Result<Vec<u8>, FileError> {
        let too_large = || FileError::TooLarge { path: self.path.clone(), size: self.size(), limit };
        if self.size() > limit {
            return Err(too_large());
        }
        let mut bytes = vec![0; usize::try_from(self.size()).map_err(|_| too_large())?];
        self.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Checks that the file still has the size and time of modification it was opened with.
    ///
    /// # Errors
    /// When it has changed.
    pub fn check_unchanged(&self) -> Result<(), FileError> {
        match self.file.metadata() {
            Ok(metadata) if Stamp::of(&metadata) == self.stamp => Ok(()),
            _ => Err(FileError::Changed { path: self.path.clone() }),
        }
    }
}

/// Reads a regular file whole.
///
/// # Errors
/// When it cannot be opened or read, is no regular file, or is larger than `limit` bytes.
pub fn read_whole(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    InputFile::open(path)?.read_all(limit)
}

/// A file that is read by position and lies elsewhere, such as on a server.
pub trait ReadAt: std::fmt::Debug + Send + Sync {
    /// The name that messages use in place of a path.
    fn path(&self) -> &Path;

    /// Size in bytes.
    fn size(&self) -> u64;

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// When they cannot be read.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), FileError>;
}

/// The input that a model is read from.
#[derive(Debug)]
pub enum Input {
    /// A file.
    File(InputFile),
    /// A file that is not on this machine.
    Elsewhere(Box<dyn ReadAt>),
    /// Bytes in memory.
    Memory {
        /// The name that messages use in place of a path.
        name: PathBuf,
        /// All of the model.
        bytes: Bytes,
    },
}

impl Input {
    /// Path of the file, or the name of the bytes.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::File(file) => file.path(),
            Self::Elsewhere(file) => file.path(),
            Self::Memory { name, .. } => name,
        }
    }

    /// Size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::File(file) => file.size(),
            Self::Elsewhere(file) => file.size(),
            Self::Memory { bytes, .. } => bytes.len() as u64,
        }
    }

    /// Identity of the file, if it is one.
    #[must_use]
    pub const fn file_id(&self) -> Option<FileId> {
        match self {
            Self::File(file) => Some(file.id()),
            Self::Elsewhere(_) | Self::Memory { .. } => None,
        }
    }

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// When the system cannot read them, or the file has become shorter.
    ///
    /// # Panics
    /// When bytes in memory end before that.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), FileError> {
        match self {
            Self::File(file) => file.read_exact_at(buffer, offset),
            Self::Elsewhere(file) => file.read_exact_at(buffer, offset),
            Self::Memory { bytes, .. } => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let part = bytes.get(start..start.saturating_add(buffer.len()));
                buffer.copy_from_slice(&part.expect("what is read lies inside the bytes"));
                Ok(())
            }
        }
    }

    /// Checks that a file still has the size and time of modification it was opened with.
    ///
    /// # Errors
    /// When it has changed.
    pub fn check_unchanged(&self) -> Result<(), FileError> {
        match self {
            Self::File(file) => file.check_unchanged(),
            Self::Elsewhere(_) | Self::Memory { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FileError, InputFile};

    #[test]
    fn changes_are_seen() {
        let path = std::env::temp_dir().join(format!("gguf-input-file-{}", std::process::id()));
        std::fs::write(&path, "0123456789").expect("write");
        let file = InputFile::open(&path).expect("open");
        assert!(file.check_unchanged().is_ok());
        assert!(matches!(file.read_all(9), Err(FileError::TooLarge { size: 10, limit: 9, .. })));
        std::fs::write(&path, "0123").expect("write");
        let mut buffer = [0; 10];
        assert!(matches!(file.read_exact_at(&mut buffer, 0), Err(FileError::Changed { .. })));
        assert!(matches!(file.check_unchanged(), Err(FileError::Changed { .. })));
        std::fs::remove_file(&path).expect("remove");
    }
}
