//! A second name or copy of a file that takes as little of the disk as the file system allows.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use super::{InputFile, OutputError, OutputFile, Overwrite, sync_folder};

/// Bytes of a step of copying.
const STEP: usize = 1 << 20;

/// How a file came to its second place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// A copy that shares the blocks of the disk until one of the two is changed (a reflink).
    Reflink,
    /// A second name of the same file.
    HardLink,
    /// A copy: the file system can do neither, or the two are on different disks.
    Copy,
}

/// Makes `to` a file with the content of `from`: a reflink, else a hard link, else a copy.
///
/// # Errors
/// When `to` exists, or cannot be made, or `from` cannot be read.
pub fn share(from: &Path, to: &Path) -> Result<Sharing, OutputError> {
    let failed = |source| OutputError::Write { path: to.into(), source };
    let real = fs::canonicalize(from).map_err(failed)?;
    let source = File::open(&real).map_err(failed)?;
    let bytes = source.metadata().map_err(failed)?.len();
    let mut output = OutputFile::create(to, Overwrite::Refuse, 0)?;
    if output.reflink(&source, bytes).is_ok() {
        output.commit()?;
        return Ok(Sharing::Reflink);
    }
    drop(output);
    if fs::hard_link(&real, to).is_ok() {
        sync_folder(to).map_err(failed)?;
        return Ok(Sharing::HardLink);
    }
    let mut output = OutputFile::create(to, Overwrite::Refuse, bytes)?;
    let input = InputFile::open(&real).map_err(|error| failed(io::Error::other(error.to_string())))?;
    let mut buffer = vec![0; STEP];
    let mut done = 0;
    while done < bytes {
        let len = usize::try_from(bytes - done).unwrap_or(STEP).min(STEP);
        let step = &mut buffer[..len];
        input.read_exact_at(step, done).map_err(|error| failed(io::Error::other(error.to_string())))?;
        output.write_all(step).map_err(failed)?;
        done += len as u64;
    }
    output.commit()?;
    Ok(Sharing::Copy)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Sharing, share};
    use crate::files::FileId;

    #[test]
    fn a_file_gets_a_second_place() {
        let folder = std::env::temp_dir().join(format!("gguf-share-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let (from, to) = (folder.join("from"), folder.join("to"));
        let bytes: Vec<u8> = (0..3_000_001_u32).map(|n| n.to_le_bytes()[1]).collect();
        fs::write(&from, &bytes).expect("written");
        let how = share(&from, &to).expect("shared");
        assert_eq!(fs::read(&to).expect("read"), bytes);
        let same = FileId::at(&from).expect("there") == FileId::at(&to).expect("there");
        assert_eq!(same, how == Sharing::HardLink, "{how:?}");
        // What is there stays as it is, and nothing else is left in the folder.
        fs::write(folder.join("other"), "other").expect("written");
        assert!(share(&from, &folder.join("other")).is_err());
        assert_eq!(fs::read(folder.join("other")).expect("read"), b"other");
        assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 3);
        fs::remove_dir_all(&folder).expect("removed");
    }
}
