//! What Windows is asked about files. [`super::unix`] has the same functions for other systems.

#![allow(unsafe_code, reason = "the standard library has no calls for identities and room on the disk")]

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::mem::size_of;
use std::os::windows::ffi::{OsStrExt, OsStringExt};
use std::os::windows::fs::{FileExt, OpenOptionsExt};
use std::os::windows::io::AsRawHandle;
use std::path::{Path, PathBuf};
use std::ptr;

use windows_sys::Win32::Foundation::GENERIC_WRITE;
use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, DELETE, FILE_ALLOCATION_INFO, FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_DELETE_ON_CLOSE,
    FILE_STANDARD_INFO, FileAllocationInfo, FileStandardInfo, GetDiskFreeSpaceExW, GetFileInformationByHandle,
    GetFileInformationByHandleEx, GetFinalPathNameByHandleW, SetFileInformationByHandle,
};

/// The environment variable that names the user's folder.
pub const HOME: &str = "USERPROFILE";

/// A listening socket that the program was started with: other systems have these.
///
/// # Errors
/// Always.
pub fn inherited_listener(_descriptor: i32) -> io::Result<std::net::TcpListener> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Opens what may be a file for reading. Folders open too, so that they can be distinguished from what may not be read.
pub(super) fn open_input(path: &Path) -> io::Result<File> {
    open_folder(path)
}

/// What it is that is no regular file.
pub(super) fn kind_of(metadata: &Metadata) -> &'static str {
    if metadata.is_dir() { "directory" } else { "device" }
}

/// An error where a call has failed, which then returns zero.
fn check(returned: i32) -> io::Result<()> {
    if returned == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Two numbers that no other file on this machine has: of its volume, and of the file on it.
pub(super) fn identity(file: &File) -> io::Result<[u64; 2]> {
    let mut found = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: the handle is open as long as `file` lives, and there is room for the answer.
    check(unsafe { GetFileInformationByHandle(file.as_raw_handle(), &raw mut found) })?;
    let number = u64::from(found.nFileIndexHigh) << 32 | u64::from(found.nFileIndexLow);
    Ok([found.dwVolumeSerialNumber.into(), number])
}

/// [`identity`] of what is at `path`.
pub(super) fn identity_at(path: &Path) -> io::Result<[u64; 2]> {
    identity(&OpenOptions::new().access_mode(0).custom_flags(FILE_FLAG_BACKUP_SEMANTICS).open(path)?)
}

/// Fills `buffer` with the bytes from `offset` on.
pub(crate) fn read_exact_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match file.seek_read(buffer, offset) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                buffer = &mut buffer[read..];
                offset += read as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes `bytes` from `offset` on.
#[cfg(any(feature = "net", test))]
pub(crate) fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.seek_write(bytes, offset) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// It is not asked: then what is said to be free may be too much.
pub(crate) const fn has_other_names(_: &Path) -> bool {
    false
}

/// ReFS has such a call; it is not used.
pub(super) fn reflink(_: &File, _: &File) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// Bytes of the disk that the file at `path` takes, which may have holes.
pub(crate) fn bytes_on_disk(path: &Path) -> io::Result<u64> {
    let file = OpenOptions::new().access_mode(0).open(path)?;
    let mut found = FILE_STANDARD_INFO::default();
    let len = size_of::<FILE_STANDARD_INFO>() as u32;
    // SAFETY: the handle is open as long as `file` lives, and there is room for the answer.
    check(unsafe {
        GetFileInformationByHandleEx(file.as_raw_handle(), FileStandardInfo, (&raw mut found).cast(), len)
    })?;
    Ok(found.AllocationSize.try_into().unwrap_or(0))
}

/// Makes `link` a symbolic link to the file `to`, which is relative to it. Users need a right to do that.
#[cfg(feature = "net")]
pub(crate) fn symlink(to: &Path, link: &Path) -> io::Result<()> {
    use windows_sys::Win32::Foundation::ERROR_PRIVILEGE_NOT_HELD;
    // Links with the other kind of slash lead nowhere.
    let to: PathBuf = to.components().collect();
    std::os::windows::fs::symlink_file(to, link).map_err(|error| match error.raw_os_error() {
        Some(code) if code == ERROR_PRIVILEGE_NOT_HELD.cast_signed() => ErrorKind::PermissionDenied.into(),
        _ => error,
    })
}

/// Opens a folder, to ask about its disk.
pub(super) fn open_folder(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(FILE_FLAG_BACKUP_SEMANTICS).open(path)
}

/// Nothing: the system has no such call, and its file systems write down what becomes of names by themselves.
#[allow(clippy::unnecessary_wraps, reason = "other systems can fail")]
pub(super) fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// Checks that files can be made in a folder: one that ends with its handle is made there.
pub(super) fn check_folder(path: &Path) -> io::Result<()> {
    let path = path.join(format!(".gguf.tmp-{}-room", std::process::id()));
    let made = OpenOptions::new()
        .create_new(true)
        .access_mode(GENERIC_WRITE | DELETE)
        .custom_flags(FILE_FLAG_DELETE_ON_CLOSE)
        .write(true)
        .open(path);
    match made {
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => Err(error),
        _ => Ok(()),
    }
}

/// Reserves room for the first `bytes` bytes of a new file. Where the file system cannot reserve, it is asked whether it
/// has as much.
pub(super) fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    let size = FILE_ALLOCATION_INFO { AllocationSize: bytes.try_into().map_err(|_| ErrorKind::FileTooLarge)? };
    let len = size_of::<FILE_ALLOCATION_INFO>() as u32;
    // SAFETY: the handle is open as long as `file` lives, and what is passed is of the size that is given.
    let reserved = check(unsafe {
        SetFileInformationByHandle(file.as_raw_handle(), FileAllocationInfo, (&raw const size).cast(), len)
    });
    match reserved {
        Ok(()) => return Ok(()),
        Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => return Err(error),
        Err(_) => {}
    }
    if free_bytes(file).is_ok_and(|free| free < bytes) { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
}

/// Nothing: the system keeps pages of files as it likes.
pub(super) fn forget_pages(_file: &File) {}

/// Bytes that this process may still write to the disk of an open file or folder.
pub(super) fn free_bytes(file: &File) -> io::Result<u64> {
    let path = path_of(file)?;
    let folder = if file.metadata()?.is_dir() { path.as_path() } else { path.parent().unwrap_or(&path) };
    let folder: Vec<u16> = folder.as_os_str().encode_wide().chain([0]).collect();
    let mut free = 0;
    // SAFETY: the path ends with zero, and there is room for the one answer that is asked for.
    check(unsafe { GetDiskFreeSpaceExW(folder.as_ptr(), &raw mut free, ptr::null_mut(), ptr::null_mut()) })?;
    Ok(free)
}

/// Where an open file is.
fn path_of(file: &File) -> io::Result<PathBuf> {
    let mut path = vec![0; 512];
    loop {
        let room = u32::try_from(path.len()).map_err(|_| ErrorKind::InvalidFilename)?;
        // SAFETY: the handle is open as long as `file` lives, and there is room for so many words.
        let len = unsafe { GetFinalPathNameByHandleW(file.as_raw_handle(), path.as_mut_ptr(), room, 0) };
        match len as usize {
            0 => return Err(io::Error::last_os_error()),
            len if len < path.len() => return Ok(OsString::from_wide(&path[..len]).into()),
            // With the zero at the end.
            len => path.resize(len + 1, 0),
        }
    }
}

/// Nothing: a lock would keep the file from being read back.
pub(super) fn hold(_temporary: &File) {}

/// Unknown, without locks.
pub(super) fn is_nobodys(_temporary: &File) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;

    use super::{bytes_on_disk, free_bytes, identity, identity_at, open_folder};
    use crate::files::{FileError, InputFile};

    #[test]
    fn folders_are_told_from_files() {
        let folder = std::env::temp_dir();
        let opened = InputFile::open(&folder);
        assert!(matches!(opened, Err(FileError::NotRegular { kind: "directory", .. })), "{opened:?}");
    }

    #[test]
    fn a_file_has_one_identity_and_takes_room() {
        let in_folder = |name| std::env::temp_dir().join(format!("gguf-identity-{name}-{}", std::process::id()));
        let (path, link) = (in_folder("a"), in_folder("b"));
        let mut file = File::create(&path).expect("create");
        file.write_all(&[1; 100_000]).and_then(|()| file.sync_all()).expect("written");
        fs::hard_link(&path, &link).expect("link");
        let id = identity(&file).expect("identity");
        assert_eq!(id, identity_at(&path).expect("identity"));
        assert_eq!(id, identity_at(&link).expect("identity"));
        assert_ne!(id, identity_at(&std::env::temp_dir()).expect("identity"));
        assert!(bytes_on_disk(&path).expect("known") >= 100_000);
        let free = free_bytes(&file).expect("known");
        assert!(free > 0 && free_bytes(&open_folder(&std::env::temp_dir()).expect("open")).expect("known") > 0);
        drop(file);
        fs::remove_file(&path).and_then(|()| fs::remove_file(&link)).expect("removed");
    }
}
