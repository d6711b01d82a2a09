//! Temporary files that killed runs have left beside an output. A run locks its temporary for as long as it lives, on whichever
//! machine: one that can be locked is nobody's any more.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::time::Duration;

use super::system;

/// The age of a temporary, since it was last written, below which its owner may not have come to lock it.
const GRACE: Duration = Duration::from_secs(60);

/// Removes from `folder` what killed runs have left of outputs called `name`. What cannot be removed stays.
pub(super) fn sweep(folder: &Path, name: &OsStr) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let names = entries.filter_map(Result::ok).map(|entry| entry.file_name());
    for temporary in names.filter(|other| is_temporary_of(other, name)) {
        remove_if_nobodys(&folder.join(temporary));
    }
}

/// Whether `other` is `.NAME.tmp-PID` or `.NAME.tmp-PID-NUMBER`.
fn is_temporary_of(other: &OsStr, name: &OsStr) -> bool {
    let other = other.as_encoded_bytes();
    let rest = other.strip_prefix(b".").and_then(|rest| rest.strip_prefix(name.as_encoded_bytes()));
    let Some(numbers) = rest.and_then(|rest| rest.strip_prefix(b".tmp-")) else { return false };
    let mut parts = numbers.split(|&byte| byte == b'-');
    let is_number = |part: Option<&[u8]>| part.is_some_and(|p| !p.is_empty() && p.iter().all(u8::is_ascii_digit));
    is_number(parts.next()) && parts.next().is_none_or(|part| is_number(Some(part))) && parts.next().is_none()
}

fn remove_if_nobodys(path: &Path) {
    let is_old = |metadata: &fs::Metadata| {
        metadata.is_file()
            && metadata.modified().ok().and_then(|time| time.elapsed().ok()).is_some_and(|age| age > GRACE)
    };
    if !fs::symlink_metadata(path).is_ok_and(|metadata| is_old(&metadata)) {
        return;
    }
    let Ok(file) = OpenOptions::new().write(true).open(path) else { return };
    if system::is_nobodys(&file) {
        // Another run may have been faster.
        let _ = fs::remove_file(path);
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs::{self, File};
    use std::time::{Duration, SystemTime};

    use super::{is_temporary_of, sweep, system};

    #[test]
    fn names_of_temporaries_are_told_from_others() {
        let is = |other: &str| is_temporary_of(other.as_ref(), "a.gguf".as_ref());
        assert!(is(".a.gguf.tmp-123") && is(".a.gguf.tmp-123-4"));
        for other in
            ["a.gguf.tmp-1", ".a.gguf.tmp-", ".a.gguf.tmp-x", ".a.gguf.tmp-1-", ".a.gguf.tmp-1-2-3", ".b.gguf.tmp-1"]
        {
            assert!(!is(other), "{other}");
        }
    }

    #[test]
    fn what_killed_runs_have_left_is_removed_and_nothing_else() {
        let folder = std::env::temp_dir().join(format!("gguf-left-over-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("folder");
        let make = |name: &str, age: u64| {
            let file = File::create(folder.join(name)).expect("created");
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).expect("a time");
            file
        };
        let (lives, _other) = (make(".out.tmp-1", 3600), make(".other.tmp-1", 3600));
        system::hold(&lives);
        make(".out.tmp-2", 3600);
        make(".out.tmp-3-1", 3600);
        make(".out.tmp-4", 5);
        make("out", 3600);
        sweep(&folder, "out".as_ref());
        let names = || {
            let entries = fs::read_dir(&folder).expect("folder");
            let mut names: Vec<_> =
                entries.map(|e| e.expect("entry").file_name().into_string().expect("UTF-8")).collect();
            names.sort();
            names
        };
        assert_eq!(names(), [".other.tmp-1", ".out.tmp-1", ".out.tmp-4", "out"]);
        drop(lives);
        sweep(&folder, "out".as_ref());
        assert_eq!(names(), [".other.tmp-1", ".out.tmp-4", "out"]);
        fs::remove_dir_all(&folder).expect("removed");
    }
}
