//! Files of any format: inputs that are checked for changes, outputs that appear whole or not at all, mapped files, and
//! free space on the disk.

mod disk;
mod input;
mod map;
mod output;

pub use input::{FileError, FileId, Input, InputFile, ReadAt, note_opened, opened};
pub(crate) use map::MappedFile;
pub use map::mapped_file_at;
pub(crate) use output::reserve;
#[cfg(feature = "net")]
pub(crate) use output::sync_folder;
pub(crate) use output::{CompleteFile, check_target};
pub use output::{
    OutputError, OutputFile, OutputFolder, Overwrite, check_room, free_room, remove_temporaries, try_remove_temporaries,
};
