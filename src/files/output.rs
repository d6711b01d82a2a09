//! Output files that appear whole or not at all: a temporary file beside the target, renamed when it is complete.
//!
//! The binary's signal handler calls [`remove_temporaries`]; then an interrupted program leaves nothing behind.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{FileId, left_over, system};
use crate::printable::printable_path;

/// Why an output file cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// The output exists.
    #[error("{}: exists already (--force replaces it)", printable_path(path))]
    Exists {
        /// The output.
        path: PathBuf,
    },
    /// The output is one of the inputs, by this or another name.
    #[error("{}: is an input, and would be overwritten", printable_path(path))]
    IsInput {
        /// The output.
        path: PathBuf,
    },
    /// The output is a directory, a device or the like.
    #[error("{}: not a regular file", printable_path(path))]
    NotRegular {
        /// The output.
        path: PathBuf,
    },
    /// The output should be a folder but is something else.
    #[error("{}: not a folder", printable_path(path))]
    NotFolder {
        /// The output.
        path: PathBuf,
    },
    /// The output folder is not empty.
    #[error("{}: the folder is not empty (--force replaces the files of these names in it)", printable_path(path))]
    NotEmpty {
        /// The output.
        path: PathBuf,
    },
    /// No file can be made in the output's folder.
    #[error("{}: cannot create: {source}", printable_path(path))]
    Create {
        /// The output, or the temporary beside it.
        path: PathBuf,
        /// The OS error.
        source: io::Error,
    },
    /// The disk has no room for the whole file.
    #[error("{}: no room: needs {bytes} bytes, the disk has {free} free ({source})", printable_path(path))]
    NoRoom {
        /// The output.
        path: PathBuf,
        /// Size of the file to be written.
        bytes: u64,
        /// Free bytes on its disk.
        free: u64,
        /// The OS error.
        source: io::Error,
    },
    /// Writing fails.
    #[error("{}: cannot write: {source}", printable_path(path))]
    Write {
        /// The output.
        path: PathBuf,
        /// The OS error.
        source: io::Error,
    },
}

/// What to do about an existing output.
#[derive(Clone, Copy, Debug)]
pub enum Overwrite<'a> {
    /// Refuse to go on.
    Refuse,
    /// Replace a regular file, unless it is one of the inputs.
    Replace {
        /// The inputs.
        inputs: &'a [FileId],
    },
}

/// A file under construction. If it is dropped before [`commit`](Self::commit), it is removed, and an older file is unchanged.
#[derive(Debug)]
pub struct OutputFile {
    file: BufWriter<File>,
    temporary: Temporary,
    target: PathBuf,
    replace: bool,
    written: u64,
    reserved: u64,
}

/// Bytes that may still be written to the folder of `path`.
///
/// # Errors
/// [`OutputError::Create`] when that cannot be opened.
pub fn free_room(path: &Path) -> Result<u64, OutputError> {
    let failed = |source| OutputError::Create { path: path.into(), source };
    system::free_bytes(&system::open_folder(folder_of(path)).map_err(failed)?).map_err(failed)
}

/// Checks, without leaving anything, that a file of `bytes` bytes can be made at `path`.
///
/// # Errors
/// [`OutputError::NoRoom`] when the disk has less space; [`OutputError::Create`] when the folder cannot be opened or
/// written to.
pub fn check_room(path: &Path, bytes: u64) -> Result<(), OutputError> {
    let free = free_room(path)?;
    system::check_folder(folder_of(path)).map_err(|source| OutputError::Create { path: path.into(), source })?;
    if bytes <= free {
        return Ok(());
    }
    Err(OutputError::NoRoom { path: path.into(), bytes, free, source: io::ErrorKind::StorageFull.into() })
}

/// Reserves room on the disk for the first `bytes` bytes of a new file, where the file system can do so.
pub(crate) fn reserve(file: &File, path: &Path, bytes: u64) -> Result<(), OutputError> {
    if bytes == 0 {
        return Ok(());
    }
    system::reserve(file, bytes).map_err(|source| {
        let free = system::free_bytes(file).unwrap_or(0);
        OutputError::NoRoom { path: path.into(), bytes, free, source }
    })
}

impl OutputFile {
    /// Begins the file `path`. Room on the disk is reserved for `bytes` bytes where the file system can do so.
    ///
    /// # Errors
    /// When the output exists and may not be replaced, is not a regular file, cannot be created, or has no room.
    pub fn create(path: &Path, overwrite: Overwrite<'_>, bytes: u64) -> Result<Self, OutputError> {
        check_target(path, overwrite)?;
        // If the path is a symbolic link, the file behind it is replaced, not the link.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.into());
        let (file, temporary) =
            Temporary::beside(&target).map_err(|source| OutputError::Create { path: path.into(), source })?;
        reserve(&file, path, bytes)?;
        let replace = matches!(overwrite, Overwrite::Replace { .. });
        let file = BufWriter::with_capacity(256 << 10, file);
        Ok(Self { file, temporary, target, replace, written: 0, reserved: bytes })
    }

    /// Final path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.target
    }

    /// Makes the content that of `from`, `bytes` bytes that share its blocks of the disk.
    ///
    /// # Errors
    /// When the file system does not support this.
    pub(super) fn reflink(&mut self, from: &File, bytes: u64) -> io::Result<()> {
        system::reflink(from, self.file.get_ref())?;
        self.written = bytes;
        Ok(())
    }

    /// Syncs all bytes to the disk and renames the file to its final name. Returns its size in bytes.
    ///
    /// # Errors
    /// When something cannot be written, or another program has created a file of this name in the meantime. The temporary file
    /// is removed then.
    pub fn commit(self) -> Result<u64, OutputError> {
        self.complete()?.place()
    }

    /// Syncs all bytes to the disk: the first half of [`commit`](Self::commit).
    pub(crate) fn complete(self) -> Result<CompleteFile, OutputError> {
        let Self { file, temporary, target, replace, written, reserved } = self;
        let cannot_write = |source| OutputError::Write { path: target.clone(), source };
        let file = file.into_inner().map_err(|error| cannot_write(error.into_error()))?;
        if written < reserved {
            file.set_len(written).map_err(cannot_write)?;
        }
        file.sync_all().map_err(cannot_write)?;
        Ok(CompleteFile { temporary, target, replace, bytes: written })
    }
}

/// Writes a file of these bytes. Returns its size in bytes.
///
/// # Errors
/// When it exists and may not be replaced, is no regular file, or cannot be made or written.
pub fn write_whole(path: &Path, overwrite: Overwrite<'_>, bytes: &[u8]) -> Result<u64, OutputError> {
    let mut output = OutputFile::create(path, overwrite, bytes.len() as u64)?;
    output.write_all(bytes).map_err(|source| OutputError::Write { path: path.into(), source })?;
    output.commit()
}

/// A file whose bytes are all on the disk, not yet at its place. Dropped, it vanishes.
#[derive(Debug)]
pub(crate) struct CompleteFile {
    temporary: Temporary,
    target: PathBuf,
    replace: bool,
    bytes: u64,
}

impl CompleteFile {
    /// Final path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.target
    }

    /// Path of the bytes until the file is complete. They are dropped from the page cache first, so that reading them
    /// shows what is on the disk.
    pub(crate) fn temporary_path(&self) -> &Path {
        // Reading through the page cache is a weaker check, but still one.
        let _ = File::open(&self.temporary.path).map(|file| system::forget_pages(&file));
        &self.temporary.path
    }

    /// Renames the file to its final name. Returns its size in bytes.
    pub(crate) fn place(self) -> Result<u64, OutputError> {
        let Self { temporary, target, replace, bytes } = self;
        let cannot_write = |source| OutputError::Write { path: target.clone(), source };
        temporary.rename(&target, replace).map_err(|source| match source.kind() {
            ErrorKind::AlreadyExists => OutputError::Exists { path: target.clone() },
            _ => cannot_write(source),
        })?;
        sync_folder(&target).map_err(cannot_write)?;
        Ok(bytes)
    }
}

/// A folder under construction: a temporary folder beside the target, or in it if the target exists. If it is dropped before
/// [`commit`](Self::commit), it is removed.
#[derive(Debug)]
pub struct OutputFolder {
    temporary: Temporary,
    target: PathBuf,
    /// Whether the target exists, so that the temporary folder is inside it.
    is_inside: bool,
    inputs: Option<Vec<FileId>>,
}

impl OutputFolder {
    /// Begins the folder `path`.
    ///
    /// # Errors
    /// When it is a file, is not empty and may not be written to, or cannot be created.
    pub fn create(path: &Path, overwrite: Overwrite<'_>) -> Result<Self, OutputError> {
        let failed = |source| OutputError::Create { path: path.into(), source };
        let inputs = match overwrite {
            Overwrite::Refuse => None,
            Overwrite::Replace { inputs } => Some(inputs.to_vec()),
        };
        let is_inside = match fs::read_dir(path) {
            Ok(mut entries) => {
                if inputs.is_none() && entries.next().is_some() {
                    return Err(OutputError::NotEmpty { path: path.into() });
                }
                true
            }
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                return Err(OutputError::NotFolder { path: path.into() });
            }
            Err(source) => return Err(failed(source)),
        };
        // Without a trailing slash.
        let target: PathBuf = path.components().collect();
        // An existing folder may be the root of a disk, or a working directory, so it cannot be replaced as a whole.
        let like = if is_inside { target.join("folder") } else { target.clone() };
        let ((), temporary) = Temporary::make(&like, |path| fs::create_dir(path)).map_err(failed)?;
        Ok(Self { temporary, target, is_inside, inputs })
    }

    /// The temporary folder in which its files are created.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.temporary.path
    }

    /// Moves the folder to its final path: as a whole if the target did not exist, otherwise file by file. The content of the files
    /// must have been synced.
    ///
    /// # Errors
    /// When something exists there that may not be replaced, or a file cannot be moved.
    pub fn commit(self) -> Result<(), OutputError> {
        let Self { temporary, target, is_inside, inputs } = self;
        let cannot_write = |source| OutputError::Write { path: target.clone(), source };
        if !is_inside {
            temporary.rename(&target, true).map_err(cannot_write)?;
            return sync_folder(&target).map_err(cannot_write);
        }
        let overwrite = inputs.as_ref().map_or(Overwrite::Refuse, |inputs| Overwrite::Replace { inputs });
        let names = files_below(&temporary.path, Path::new("")).map_err(cannot_write)?;
        for name in &names {
            check_target(&target.join(name), overwrite)?;
        }
        for name in &names {
            let path = target.join(name);
            let moved = fs::create_dir_all(folder_of(&path)).and_then(|()| fs::rename(temporary.path.join(name), path));
            moved.map_err(cannot_write)?;
        }
        sync_folder(&target.join("folder")).map_err(cannot_write)
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Checks, without creating anything, that the file `path` may be created.
///
/// # Errors
/// When it exists and may not be replaced, or is not a regular file.
pub(crate) fn check_target(path: &Path, overwrite: Overwrite<'_>) -> Result<(), OutputError> {
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(OutputError::Create { path: path.into(), source }),
    };
    if !Metadata::is_file(&found) {
        return Err(OutputError::NotRegular { path: path.into() });
    }
    let Overwrite::Replace { inputs } = overwrite else { return Err(OutputError::Exists { path: path.into() }) };
    let id = FileId::at(path).map_err(|source| OutputError::Create { path: path.into(), source })?;
    if inputs.contains(&id) { Err(OutputError::IsInput { path: path.into() }) } else { Ok(()) }
}

/// The paths of all files in `folder` and the folders within, from `folder` on; `prefix` stands before each.
fn files_below(folder: &Path, prefix: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = prefix.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            paths.extend(files_below(&entry.path(), &path)?);
        } else {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Syncs the directory entry of `path` to the disk.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    system::sync_folder(folder_of(path))
}

/// The temporary files of this process. Locked while one is created, renamed or removed.
static TEMPORARIES: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn temporaries() -> MutexGuard<'static, Vec<PathBuf>> {
    TEMPORARIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes every unfinished output of this process. For signal handlers; the process must end afterwards.
pub fn remove_temporaries() {
    remove_all(&mut temporaries());
}

/// Like [`remove_temporaries`], but does nothing if the list is locked.
pub fn try_remove_temporaries() {
    if let Ok(mut list) = TEMPORARIES.try_lock() {
        remove_all(&mut list);
    }
}

fn remove_all(list: &mut Vec<PathBuf>) {
    list.drain(..).for_each(|path| remove(&path));
}

/// Removes a file, or a folder with its content.
fn remove(path: &Path) {
    // Nothing can be done about an error here.
    let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
}

/// The name of a temporary file. Dropping it removes the file.
#[derive(Debug)]
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    /// Creates the file `.NAME.tmp-PID` beside `target`, with a further number if that exists.
    fn beside(target: &Path) -> io::Result<(File, Self)> {
        if let Some(name) = target.file_name() {
            left_over::sweep(folder_of(target), name);
        }
        let (file, temporary) = Self::make(target, |path| OpenOptions::new().write(true).create_new(true).open(path))?;
        system::hold(&file);
        Ok((file, temporary))
    }

    /// As [`Self::beside`], with `create` in place of creating a file.
    fn make<T>(target: &Path, create: impl Fn(&Path) -> io::Result<T>) -> io::Result<(T, Self)> {
        let name = target.file_name().ok_or(ErrorKind::InvalidInput)?;
        // A long name must leave room for the suffix.
        let name = if name.len() > 200 { "output".as_ref() } else { name };
        let mut list = temporaries();
        for attempt in 0..100 {
            let mut temporary = OsString::from(".");
            temporary.push(name);
            temporary.push(format!(".tmp-{}", std::process::id()));
            if attempt > 0 {
                temporary.push(format!("-{attempt}"));
            }
            let path = folder_of(target).join(temporary);
            match create(&path) {
                Ok(made) => {
                    list.push(path.clone());
                    return Ok((made, Self { path }));
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }

    fn rename(self, target: &Path, replace: bool) -> io::Result<()> {
        let mut list = temporaries();
        let result = if replace { fs::rename(&self.path, target) } else { rename_to_new(&self.path, target) };
        if result.is_ok() {
            list.retain(|path| *path != self.path);
        }
        // Dropping `self` takes the lock again.
        drop(list);
        result
    }
}

/// Renames, and fails if the target exists, even if it was created just before.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(error),
        // No hard links on this file system.
        Err(_) if fs::symlink_metadata(to).is_ok() => Err(ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(from, to),
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let mut list = temporaries();
        if let Some(index) = list.iter().position(|path| *path == self.path) {
            remove(&list.swap_remove(index));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::path::PathBuf;

    use super::{OutputError, OutputFile, Overwrite};
    use crate::files::FileId;

    /// An empty folder, removed with the value.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("gguf-output-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).expect("folder");
            Self(path)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).expect("folder");
            entries.map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8")).collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).expect("remove");
        }
    }

    #[test]
    fn a_dropped_output_leaves_nothing() {
        let folder = Folder::new("drop");
        let path = folder.0.join("out");
        let mut output = OutputFile::create(&path, Overwrite::Refuse, 100).expect("create");
        output.write_all(b"half").expect("write");
        assert_eq!(folder.names(), [format!(".out.tmp-{}", std::process::id())]);
        drop(output);
        assert!(folder.names().is_empty());
    }

    #[test]
    fn a_committed_output_is_whole() {
        let folder = Folder::new("commit");
        let path = folder.0.join("out");
        let mut output = OutputFile::create(&path, Overwrite::Refuse, 100).expect("create");
        output.write_all(b"whole").expect("write");
        assert_eq!(output.commit().expect("commit"), 5);
        assert_eq!(fs::read(&path).expect("read"), b"whole");
        assert_eq!(folder.names(), ["out"]);
    }

    #[test]
    fn existing_files_and_inputs_are_safe() {
        let folder = Folder::new("exists");
        let (path, link) = (folder.0.join("out"), folder.0.join("link"));
        fs::write(&path, "old").expect("write");
        let create = |path: &PathBuf, overwrite| OutputFile::create(path, overwrite, 0).map(drop);
        assert!(matches!(create(&path, Overwrite::Refuse), Err(OutputError::Exists { .. })));
        let inputs = [FileId::at(&path).expect("identity")];
        fs::hard_link(&path, &link).expect("link");
        let replace = Overwrite::Replace { inputs: &inputs };
        assert!(matches!(create(&link, replace), Err(OutputError::IsInput { .. })));
        assert!(matches!(create(&folder.0, replace), Err(OutputError::NotRegular { .. })));
        assert!(matches!(create(&folder.0.join("no/out"), replace), Err(OutputError::Create { .. })));
        assert_eq!(fs::read(&path).expect("read"), b"old");
    }

    #[test]
    fn of_two_at_once_the_second_is_refused() {
        let folder = Folder::new("two");
        let path = folder.0.join("out");
        let first = OutputFile::create(&path, Overwrite::Refuse, 0).expect("create");
        let second = OutputFile::create(&path, Overwrite::Refuse, 0).expect("create");
        first.commit().expect("commit");
        assert!(matches!(second.commit(), Err(OutputError::Exists { .. })));
        assert_eq!(folder.names(), ["out"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_followed() {
        let folder = Folder::new("link");
        let (path, link) = (folder.0.join("out"), folder.0.join("link"));
        fs::write(&path, "old").expect("write");
        std::os::unix::fs::symlink("out", &link).expect("link");
        let mut output = OutputFile::create(&link, Overwrite::Replace { inputs: &[] }, 0).expect("create");
        output.write_all(b"new").expect("write");
        output.commit().expect("commit");
        assert!(fs::symlink_metadata(&link).expect("metadata").is_symlink());
        assert_eq!(fs::read(&path).expect("read"), b"new");
    }
}
