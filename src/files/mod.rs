//! Files of any format: inputs that are watched for changes, outputs that appear whole or not at all, mapped files, and
//! room on the disk.
//!
//! What systems do differently is in `unix.rs` and `windows.rs`; nothing else here, or above, knows what system it is on.

mod input;
mod left_over;
mod map;
mod output;
mod share;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

pub use input::{FileError, FileId, Input, InputFile, ReadAt, note_opened, opened, read_whole};
pub(crate) use map::MappedFile;
pub use map::mapped_file_at;
pub(crate) use output::reserve;
pub(crate) use output::sync_folder;
pub(crate) use output::{CompleteFile, check_target};
pub use output::{
    OutputError, OutputFile, OutputFolder, Overwrite, check_room, free_room, remove_temporaries,
    try_remove_temporaries, write_whole,
};
pub use share::{Sharing, share};
#[cfg(feature = "net")]
pub(crate) use system::symlink;
pub use system::{HOME, inherited_listener};
pub(crate) use system::{bytes_on_disk, has_other_names};
#[cfg(any(feature = "net", test))]
pub(crate) use system::{read_exact_at, write_all_at};
