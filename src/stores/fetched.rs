//! The models that this program has fetched into other programs' stores, which it may remove without asking. The list is a file
//! with the path of a model in each line.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::files::{self, Overwrite, read_whole, write_whole};

/// Maximum bytes of the file.
const MOST_BYTES: u64 = 16 << 20;

/// The list of fetched models.
#[derive(Clone, Debug, Default)]
pub struct Fetched {
    /// The file; without one, nothing is recorded.
    file: Option<PathBuf>,
    paths: BTreeSet<PathBuf>,
}

impl Fetched {
    /// The list in the user's folder for data (`XDG_DATA_HOME`, or `~/.local/share`).
    #[must_use]
    pub fn from_environment() -> Self {
        Self::from_variables(&|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    /// As [`Self::from_environment`], with `get` in place of the environment.
    #[must_use]
    pub fn from_variables(get: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let path = |name: &str| get(name).map(PathBuf::from);
        let data = path("XDG_DATA_HOME").or_else(|| path(files::HOME).map(|home| home.join(".local/share")));
        let file = data.map(|data| data.join("gguf/fetched"));
        let bytes = file.as_ref().and_then(|file| read_whole(file, MOST_BYTES).ok());
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        Self { paths: text.unwrap_or_default().lines().map(PathBuf::from).collect(), file }
    }

    /// Whether `path` was fetched by this program.
    #[must_use]
    pub fn has(&self, path: &Path) -> bool {
        self.paths.contains(path)
    }

    /// Adds fetched models.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub fn add(&mut self, paths: &[PathBuf]) -> io::Result<()> {
        let before = self.paths.len();
        // A path with a line break cannot be recorded; it counts as another program's.
        self.paths.extend(paths.iter().filter(|path| !path.to_string_lossy().contains('\n')).cloned());
        if self.paths.len() == before { Ok(()) } else { self.write() }
    }

    /// Removes models from the list.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub fn remove(&mut self, paths: &[PathBuf]) -> io::Result<()> {
        let before = self.paths.len();
        self.paths.retain(|path| !paths.contains(path));
        if self.paths.len() == before { Ok(()) } else { self.write() }
    }

    fn write(&self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        let text: String = self.paths.iter().map(|path| format!("{}\n", path.display())).collect();
        let written = write_whole(file, Overwrite::Replace { inputs: &[] }, text.as_bytes());
        written.map_err(|error| io::Error::other(error.to_string()))?;
        Ok(())
    }
}
