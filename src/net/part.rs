//! A partial file: its bytes, followed by a record of the received pieces. If the program is killed, the file remains and the
//! next run continues. While one program writes it, others wait.
//!
//! `NAME.gguf-part` = the file's bytes, then a header (the magic, the file's length, the length of a piece), then a byte
//! for each piece. A file without that record is complete but has not been checked yet.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::error::Error;
use crate::files::{FileId, bytes_on_disk, read_exact_at, reserve, sync_folder, write_all_at};
use crate::stores::PART_SUFFIX;

const MAGIC: &[u8; 8] = b"ggufpart";
const HEADER_BYTES: usize = 24;
/// Bytes of a piece.
pub(super) const PIECE_BYTES: u64 = 1 << 20;

/// A partial file. It remains when this value is dropped.
#[derive(Debug)]
pub(super) struct Part {
    file: File,
    path: PathBuf,
    bytes: u64,
    /// Pieces that had been received when it was opened.
    pub(super) came: Vec<bool>,
}

/// The path of the partial file of `target`.
pub(super) fn part_path(target: &Path) -> PathBuf {
    let mut path = target.as_os_str().to_owned();
    path.push(PART_SUFFIX);
    path.into()
}

/// Bytes of disk space still needed for `target`.
pub(super) fn bytes_to_come(target: &Path, bytes: u64) -> u64 {
    let taken = bytes_on_disk(&part_path(target)).unwrap_or(0);
    bytes.saturating_sub(taken)
}

/// Whether the complete file exists; a file gets its name when it has been checked.
pub(super) fn is_there(target: &Path, bytes: u64) -> bool {
    fs::metadata(target).is_ok_and(|found| found.is_file() && found.len() == bytes)
}

impl Part {
    /// Opens or creates the partial file of `target`. `waiting` is called once if another program is writing it. Returns `None` if
    /// that program has completed the file.
    pub(super) fn open(target: &Path, bytes: u64, waiting: &dyn Fn()) -> Result<Option<Self>, Error> {
        let path = part_path(target);
        let failed = |source| Error::Disk { path: path.clone(), source };
        loop {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
            let file = file.map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    waiting();
                    file.lock().map_err(failed)?;
                }
                // The file system has no locks, so other programs cannot be detected.
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            let mine = FileId::of(&file).map_err(failed)?;
            let is_mine = FileId::at(&path).is_ok_and(|found| found == mine);
            if is_there(target, bytes) {
                if is_mine {
                    fs::remove_file(&path).map_err(failed)?;
                }
                return Ok(None);
            }
            if is_mine {
                let mut part = Self { file, path, bytes, came: Vec::new() };
                match part.read_pieces() {
                    Some(came) => part.came = came,
                    None => part.begin()?,
                }
                return Ok(Some(part));
            }
            // It has been completed or removed while this program waited.
        }
    }

    fn pieces(&self) -> usize {
        usize::try_from(self.bytes.div_ceil(PIECE_BYTES)).unwrap_or(usize::MAX)
    }

    fn header(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(MAGIC);
        header[8..16].copy_from_slice(&self.bytes.to_le_bytes());
        header[16..].copy_from_slice(&PIECE_BYTES.to_le_bytes());
        header
    }

    /// The received pieces; `None` if the file has no valid record.
    fn read_pieces(&self) -> Option<Vec<bool>> {
        let found = self.file.metadata().ok()?.len();
        if found == self.bytes && self.bytes > 0 {
            return Some(vec![true; self.pieces()]);
        }
        let whole = self.bytes.checked_add((HEADER_BYTES + self.pieces()) as u64)?;
        let mut header = [0; HEADER_BYTES];
        let is_ours =
            found == whole && read_exact_at(&self.file, &mut header, self.bytes).is_ok() && header == self.header();
        let mut pieces = vec![0; self.pieces()];
        if !is_ours || read_exact_at(&self.file, &mut pieces, self.bytes + HEADER_BYTES as u64).is_err() {
            return None;
        }
        Some(pieces.into_iter().map(|piece| piece == 1).collect())
    }

    /// Starts over: reserves disk space, with no pieces.
    pub(super) fn begin(&mut self) -> Result<(), Error> {
        let mut behind = self.header().to_vec();
        behind.resize(HEADER_BYTES + self.pieces(), 0);
        self.file.set_len(0).map_err(|source| self.failed(source))?;
        if let Err(error) = reserve(&self.file, &self.path, self.bytes) {
            // Frees the space that was reserved.
            let _ = fs::remove_file(&self.path);
            return Err(error.into());
        }
        write_all_at(&self.file, &behind, self.bytes).map_err(|source| self.failed(source))?;
        self.came = vec![false; self.pieces()];
        Ok(())
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Disk { path: self.path.clone(), source }
    }

    /// The bytes of a piece in the file.
    pub(super) fn range(&self, piece: usize) -> std::ops::Range<u64> {
        let start = piece as u64 * PIECE_BYTES;
        start..(start + PIECE_BYTES).min(self.bytes)
    }

    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        write_all_at(&self.file, bytes, offset).map_err(|source| self.failed(source))
    }

    /// Records received pieces, once their bytes are on the disk.
    pub(super) fn note(&self, pieces: std::ops::Range<usize>) -> Result<(), Error> {
        if pieces.is_empty() {
            return Ok(());
        }
        self.file.sync_data().map_err(|source| self.failed(source))?;
        let offset = self.bytes + (HEADER_BYTES + pieces.start) as u64;
        self.write(&vec![1; pieces.len()], offset)
    }

    /// Opens the file for reading from the start.
    pub(super) fn reopened(&self) -> Result<File, Error> {
        File::open(&self.path).map_err(|source| self.failed(source))
    }

    /// Removes the record after the bytes.
    pub(super) fn cut(&self) -> Result<(), Error> {
        self.file.set_len(self.bytes).and_then(|()| self.file.sync_all()).map_err(|source| self.failed(source))
    }

    /// Renames the file to its final name.
    pub(super) fn place(self, target: &Path) -> Result<(), Error> {
        let placed = fs::rename(&self.path, target).and_then(|()| sync_folder(target));
        placed.map_err(|source| Error::Disk { path: target.to_owned(), source })
    }

    /// Removes the file, because its bytes are wrong.
    pub(super) fn remove(self) {
        // If it cannot be removed, it is overwritten the next time.
        let _ = self.file.set_len(0);
        let _ = fs::remove_file(&self.path);
    }
}
