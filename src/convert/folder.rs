//! A checkpoint's folder: on disk, or in memory.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::{Error, mistral};
use crate::bytes::Bytes;
use crate::files::{FileId, InputFile};
use crate::safetensors::Checkpoint;

/// Largest file of settings or tokens, in bytes.
const MAX_FILE: u64 = 256 << 20;

/// The location of a checkpoint's files.
#[derive(Clone, Debug)]
pub enum Folder {
    /// In a directory.
    Directory {
        /// Its path.
        path: PathBuf,
        /// The files that have been read, which no output may replace.
        opened: Arc<Mutex<Vec<FileId>>>,
    },
    /// In memory: names and contents.
    Memory {
        /// A name in place of that of a directory.
        name: String,
        /// File names and contents.
        files: &'static [(&'static str, &'static [u8])],
    },
}

impl Folder {
    /// The directory `path`.
    ///
    /// # Errors
    /// When it is not a directory, or has no `config.json`.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if !path.is_dir() {
            return Err(Error::NoFolder { path: path.to_owned() });
        }
        Ok(Self::Directory { path: path.to_owned(), opened: Arc::default() })
    }

    /// Path of the file `name`, for messages.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        match self {
            Self::Directory { path, .. } => path.join(name),
            Self::Memory { name: folder, .. } => Path::new(folder).join(name),
        }
    }

    /// The folder's name.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Memory { name, .. } => name.clone(),
            Self::Directory { path, .. } => {
                let full = path.canonicalize().unwrap_or_else(|_| path.clone());
                full.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
            }
        }
    }

    /// The file `name`, or `None` if it does not exist.
    ///
    /// # Errors
    /// When it cannot be read, or is too large.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        match self {
            Self::Memory { files, .. } => {
                Ok(files.iter().find(|(file, _)| *file == name).map(|(_, bytes)| bytes.to_vec()))
            }
            Self::Directory { path, opened } => {
                let path = path.join(name);
                if !path.exists() {
                    return Ok(None);
                }
                let file = InputFile::open(&path)?;
                opened.lock().unwrap_or_else(PoisonError::into_inner).push(file.id());
                Ok(Some(file.read_all(MAX_FILE)?))
            }
        }
    }

    /// The JSON file `name`, or `None` if it does not exist.
    ///
    /// # Errors
    /// When it cannot be read or is not valid JSON.
    pub fn json(&self, name: &str) -> Result<Option<Json>, Error> {
        self.parse(name)
    }

    /// The model's settings: `config.json`, or Mistral's `params.json` converted to its form.
    ///
    /// # Errors
    /// When neither exists, or it cannot be read or is not valid JSON.
    pub fn config(&self) -> Result<Json, Error> {
        if let Some(config) = self.json("config.json")? {
            return Ok(config);
        }
        let missing = || Error::MissingFile { path: self.path("config.json") };
        let params = self.json(mistral::PARAMS)?.ok_or_else(missing)?;
        mistral::config(params).map_err(|source| Error::Architecture { path: self.path(mistral::PARAMS), source })
    }

    /// The JSON file `name` as a `T`, or `None` if it does not exist.
    pub(super) fn parse<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        let Some(bytes) = self.read(name)? else { return Ok(None) };
        let json = serde_json::from_slice(&bytes).or_else(|e| match quote_numbers(&bytes) {
            Some(quoted) => serde_json::from_slice(&quoted).map_err(|_| e),
            None => Err(e),
        });
        json.map(Some).map_err(|e| Error::Json {
            path: self.path(name),
            line: e.line(),
            column: e.column(),
            message: e.to_string(),
        })
    }

    /// The text file `name`, or `None` if it does not exist.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn text(&self, name: &str) -> Result<Option<String>, Error> {
        Ok(self.read(name)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Names of the files in the folder `within` that end in `ending`, in alphabetical order, without that ending.
    pub(super) fn names(&self, within: &str, ending: &str) -> Vec<String> {
        let stem = |name: &str| name.strip_suffix(ending).map(str::to_owned);
        let mut names: Vec<String> = match self {
            Self::Memory { files, .. } => {
                let inside = |name: &str| name.strip_prefix(within)?.strip_prefix('/').and_then(stem);
                files.iter().filter_map(|(name, _)| inside(name)).collect()
            }
            Self::Directory { path, .. } => {
                let entries = std::fs::read_dir(path.join(within)).into_iter().flatten().flatten();
                entries.filter_map(|entry| stem(entry.file_name().to_str()?)).collect()
            }
        };
        names.sort();
        names
    }

    /// The checkpoint's tensors.
    ///
    /// # Errors
    /// When a file is missing or not valid.
    pub fn checkpoint(&self) -> Result<Checkpoint, Error> {
        match self {
            Self::Directory { path, .. } => Ok(Checkpoint::open(path)?),
            Self::Memory { name, files } => {
                let file = files.iter().find(|(file, _)| *file == "model.safetensors");
                let (file, bytes) = file.ok_or_else(|| Error::NoFolder { path: name.into() })?;
                Ok(Checkpoint::from_bytes(file, Bytes::new(*bytes))?)
            }
        }
    }

    /// The tensors of a part that has a folder of its own.
    ///
    /// # Errors
    /// When a file is missing or not valid.
    pub(super) fn checkpoint_of(&self, part: &str) -> Result<Checkpoint, Error> {
        match self {
            Self::Directory { .. } => Ok(Checkpoint::open(&self.path(part))?),
            Self::Memory { .. } => Err(Error::NoFolder { path: self.path(part) }),
        }
    }

    /// Identities of the files on disk that no output may replace: those that have been read, and all others that belong to a
    /// checkpoint, by the forms that these have.
    pub(super) fn file_ids(&self) -> Vec<FileId> {
        let Self::Directory { path, opened } = self else { return Vec::new() };
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        let of_checkpoint = entries.filter(|path| belongs_to_checkpoint(path));
        let opened = opened.lock().unwrap_or_else(PoisonError::into_inner).clone();
        opened.into_iter().chain(of_checkpoint.filter_map(|path| FileId::at(&path).ok())).collect()
    }
}

/// The text with Python's numbers that JSON does not have (NaN, Infinity) in quotes; `None` if there are none.
fn quote_numbers(json: &[u8]) -> Option<Vec<u8>> {
    const NUMBERS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];
    let mut quoted = Vec::with_capacity(json.len() + 2);
    let (mut at, mut in_text) = (0, false);
    while let Some(&byte) = json.get(at) {
        let number = NUMBERS.into_iter().find(|number| !in_text && json[at..].starts_with(number));
        let len = match (number, in_text && byte == b'\\') {
            (Some(number), _) => number.len(),
            (None, escape) => 1 + usize::from(escape),
        };
        in_text ^= byte == b'"';
        let end = (at + len).min(json.len());
        let quote: &[u8] = if number.is_some() { b"\"" } else { b"" };
        quoted.extend([quote, &json[at..end], quote].concat());
        at = end;
    }
    (quoted.len() > json.len()).then_some(quoted)
}

/// Whether a file is one of a checkpoint's: weights, settings, vocabularies, templates, code and the card.
fn belongs_to_checkpoint(path: &Path) -> bool {
    const FORMS: [&str; 8] = ["json", "jsonl", "safetensors", "model", "tiktoken", "jinja", "py", "bin"];
    const NAMES: [&str; 3] = ["vocab.txt", "merges.txt", "README.md"];
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let form = path.extension().and_then(|form| form.to_str()).unwrap_or_default();
    NAMES.contains(&name) || FORMS.contains(&form)
}

#[cfg(test)]
mod tests {
    use super::quote_numbers;

    #[test]
    fn numbers_of_python_are_quoted_outside_of_texts() {
        let quoted = |text: &str| quote_numbers(text.as_bytes()).map(|text| String::from_utf8(text).expect("text"));
        let expected = r#"{"a\"NaN": [0.0, "Infinity", "-Infinity", "NaN"]}"#;
        assert_eq!(quoted(r#"{"a\"NaN": [0.0, Infinity, -Infinity, NaN]}"#).as_deref(), Some(expected));
        assert_eq!(quoted(r#"{"a": "NaN"}"#), None);
    }
}
