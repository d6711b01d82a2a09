//! The one door through which the commands write files: nothing is replaced without `--force`, and never a file that
//! this run has read, whatever command it is and whatever name the file goes by.

use std::path::Path;

use gguf_toolkit::files::{self, OutputError, OutputFile, Overwrite};
use gguf_toolkit::gguf::check_outputs;
use gguf_toolkit::printable::printable_path;

/// Checks, without making anything, that `path` may be written as so many files.
///
/// # Errors
/// When it is a folder, stands there already and `force` is not given, or is one of the inputs.
pub(crate) fn check(path: &Path, shards: usize, force: bool) -> anyhow::Result<()> {
    if path == Path::new("-") {
        anyhow::bail!("-: an output needs a name (./- is a file of this one)");
    }
    if path.is_dir() {
        anyhow::bail!("{}: is a folder (name the file)", printable_path(path));
    }
    Ok(with_inputs(force, |overwrite| check_outputs(path, shards, overwrite))?)
}

/// Begins a file of so many bytes.
///
/// # Errors
/// As [`check`], and when the file cannot be made.
pub(crate) fn create(path: &Path, force: bool, bytes: u64) -> anyhow::Result<OutputFile> {
    check(path, 1, force)?;
    Ok(with_inputs(force, |overwrite| OutputFile::create(path, overwrite, bytes))?)
}

/// Writes a file of these bytes.
///
/// # Errors
/// As [`check`], and when the file cannot be made or written.
pub(crate) fn write(path: &Path, force: bool, bytes: &[u8]) -> anyhow::Result<()> {
    check(path, 1, force)?;
    with_inputs(force, |overwrite| files::write_whole(path, overwrite, bytes))?;
    Ok(())
}

fn with_inputs<T>(force: bool, act: impl FnOnce(Overwrite<'_>) -> Result<T, OutputError>) -> Result<T, OutputError> {
    let inputs = files::opened();
    act(if force { Overwrite::Replace { inputs: &inputs } } else { Overwrite::Refuse })
}
