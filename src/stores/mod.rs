//! Finds models on this machine by name: a path, a folder, the cache of Hugging Face, the store of Ollama, the folders of LM
//! Studio and llama.cpp, and the user's own folders. Finding models only reads; [`Removal`] removes them.
//!
//! [`Places`] has the folders, [`Places::resolve`] finds one model by name, [`Places::list`] lists all. A further store is a
//! file here and a line in both functions.

mod blobs;
mod digest;
mod fetched;
mod folders;
mod hugging_face;
mod model_name;
mod ollama;
mod quant_name;
mod removal;
mod unfinished;

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::files::{self, FileId};
use crate::printable::{printable, printable_path};

pub use blobs::{Blob, BlobStore, Origin, StoreError};
pub use digest::Digest;
pub use fetched::Fetched;
pub use model_name::ModelName;
pub use ollama::Layers;
pub(crate) use ollama::{GIVEN as TEMPLATE_GIVEN, layer_kind as ollama_layer_kind};
#[cfg(feature = "net")]
pub(crate) use ollama::{
    HOST as OLLAMA_HOST, NAMESPACE as OLLAMA_NAMESPACE, TAG as OLLAMA_TAG, blob_path as ollama_blob,
    manifest_path as ollama_manifest, short_name as ollama_name,
};
#[cfg(feature = "net")]
pub(crate) use quant_name::{choose, quant_of, split_tag};
pub use removal::Removal;
pub use unfinished::PART_SUFFIX;

/// Maximum files that are examined in a folder, since a folder may be any folder of the disk.
const MAX_ENTRIES: usize = 20_000;

/// Folders that are searched for models.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Caches of Hugging Face (`models--ORG--NAME`).
    pub hugging_face: Vec<PathBuf>,
    /// Stores of Ollama (`manifests`, `blobs`).
    pub ollama: Vec<PathBuf>,
    /// Folders of LM Studio (`PUBLISHER/REPOSITORY/*.gguf`).
    pub lm_studio: Vec<PathBuf>,
    /// llama.cpp's cache of plain files.
    pub llama_cpp: Vec<PathBuf>,
    /// The user's own folders (`GGUF_MODELS`).
    pub own: Vec<PathBuf>,
}

/// Folders for fetched models, whether they exist or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roots {
    /// The cache of Hugging Face.
    pub hugging_face: Option<PathBuf>,
    /// Ollama's store.
    pub ollama: Option<PathBuf>,
    /// The folder of Hugging Face's programs for other files (the token).
    pub hugging_face_home: Option<PathBuf>,
}

impl Roots {
    /// The folders that the variables name, or the default folders of the programs.
    #[must_use]
    pub fn from_variables(get: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let path = |name: &str| get(name).map(PathBuf::from);
        let at_home = |name: &str| path(files::HOME).map(|home| home.join(name));
        let cache = path("XDG_CACHE_HOME").or_else(|| at_home(".cache"));
        let home = path("HF_HOME").or_else(|| cache.map(|cache| cache.join("huggingface")));
        let hub = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        Self {
            hugging_face: hub.or_else(|| home.as_ref().map(|home| home.join("hub"))),
            ollama: path("OLLAMA_MODELS").or_else(|| at_home(".ollama/models")),
            hugging_face_home: home,
        }
    }
}

/// A kind of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Store {
    /// A path given by the user.
    Path,
    /// The cache of Hugging Face.
    HuggingFace,
    /// Ollama's store.
    Ollama,
    /// LM Studio's folders.
    LmStudio,
    /// llama.cpp's cache of plain files.
    LlamaCpp,
    /// A folder of `GGUF_MODELS`.
    Own,
}

impl Store {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::HuggingFace => "Hugging Face",
            Self::Ollama => "Ollama",
            Self::LmStudio => "LM Studio",
            Self::LlamaCpp => "llama.cpp",
            Self::Own => "GGUF_MODELS",
        }
    }
}

/// A model that has been found.
#[derive(Clone, Debug, PartialEq)]
pub struct Located {
    /// A name that leads to it.
    pub name: String,
    /// Its file, the first of a split one.
    pub path: PathBuf,
    /// Its store.
    pub store: Store,
    /// Ollama's template, system prompt and parameters.
    pub layers: Layers,
    /// The manifest of a model of Ollama's store.
    pub manifest: Option<PathBuf>,
}

impl Located {
    /// All its files: those of a split model, or the one.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        shards(&self.path)
    }
}

/// A model of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The model.
    pub located: Located,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Time of its file's last change, if the system reports it.
    pub modified: Option<SystemTime>,
}

/// Errors of finding a model by name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No model of this name.
    #[error("{}: no such file, nor a model of this name{}{}", printable(name).limit(200), looked_in(looked), near(nearest))]
    NotFound {
        /// The name.
        name: String,
        /// Folders that exist and were searched.
        looked: Vec<PathBuf>,
        /// Similar names.
        nearest: Vec<String>,
    },
    /// The name is ambiguous.
    #[error("{}: several models: {}", printable(name).limit(200), listed(found))]
    Several {
        /// The name.
        name: String,
        /// Their names or paths.
        found: Vec<String>,
    },
    /// A folder without models.
    #[error("{}: a folder without GGUF files", printable_path(path))]
    EmptyFolder {
        /// The folder.
        path: PathBuf,
    },
    /// A checkpoint that is not converted.
    #[error("{}: a checkpoint in safetensors: gguf convert makes a GGUF file of it", printable_path(path))]
    Checkpoint {
        /// The folder.
        path: PathBuf,
    },
    /// A manifest of Ollama that cannot be used.
    #[error("{}: {problem}", printable_path(path))]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
}

fn looked_in(looked: &[PathBuf]) -> String {
    if looked.is_empty() {
        return String::new();
    }
    let paths: Vec<String> = looked.iter().map(|path| printable_path(path).to_string()).collect();
    format!(" in {}", paths.join(", "))
}

fn near(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(" (there is {})", listed(names)) }
}

fn listed(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| printable(name).limit(120).to_string()).collect();
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

impl Places {
    /// The folders that the environment names, and the default folders of the programs.
    #[must_use]
    pub fn from_environment() -> Self {
        Self::from_variables(&|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    /// As [`Self::from_environment`], for variables that `get` gives.
    #[must_use]
    pub fn from_variables(get: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let path = |name: &str| get(name).map(PathBuf::from);
        let at_home = |name: &str| path(files::HOME).map(|home| home.join(name));
        let cache = path("XDG_CACHE_HOME").or_else(|| at_home(".cache"));
        let in_cache = |name: &str| cache.as_ref().map(|cache| cache.join(name));
        let Roots { hugging_face, ollama, .. } = Roots::from_variables(get);
        let llama = path("LLAMA_CACHE").or_else(|| in_cache("llama.cpp"));
        let of_service = path("OLLAMA_MODELS").is_none().then(|| "/usr/share/ollama/.ollama/models".into());
        let ollama = ollama.into_iter().chain(of_service).collect();
        let own = get("GGUF_MODELS").map(|value| std::env::split_paths(&value).collect()).unwrap_or_default();
        let existing =
            |paths: Vec<PathBuf>| -> Vec<PathBuf> { paths.into_iter().filter(|path| path.is_dir()).collect() };
        Self {
            // llama.cpp stores downloads in the same layout.
            hugging_face: existing(hugging_face.into_iter().chain(llama.clone()).collect()),
            ollama: existing(ollama),
            lm_studio: existing(
                [at_home(".lmstudio/models"), in_cache("lm-studio/models")].into_iter().flatten().collect(),
            ),
            llama_cpp: existing(llama.into_iter().collect()),
            own: existing(own),
        }
    }

    /// The model called `name`.
    ///
    /// # Errors
    /// When there is no such model, there are several, or it is a checkpoint that is not converted.
    pub fn resolve(&self, name: &str) -> Result<Located, Error> {
        let path = Path::new(name);
        if path.is_dir() {
            return folder(path);
        }
        let is_path = path.exists() || name.starts_with('.') || path.has_root() || name.is_empty();
        if is_path { Ok(at_path(path)) } else { self.find(name) }
    }

    /// As [`resolve`](Self::resolve), but only the stores are searched: the name is never a path.
    ///
    /// # Errors
    /// When there is no such model, there are several, or it is a checkpoint that is not converted.
    pub fn find(&self, name: &str) -> Result<Located, Error> {
        let bare = without_hub(name).unwrap_or(name);
        let mut stores = self
            .hugging_face
            .iter()
            .map(|root| hugging_face::find(root, bare))
            .chain(self.lm_studio.iter().map(|root| Ok(folders::find_in_two(root, bare))))
            .chain(self.own.iter().map(|root| Ok(folders::find(root, name, Store::Own))))
            .chain(self.llama_cpp.iter().map(|root| Ok(folders::find_flat(root, bare))))
            .chain(self.ollama.iter().map(|root| ollama::find(root, name)));
        match stores.find_map(Result::transpose) {
            Some(found) => found,
            None => Err(self.not_found(name)),
        }
    }

    fn not_found(&self, name: &str) -> Error {
        let looked = [&self.hugging_face, &self.lm_studio, &self.own, &self.llama_cpp, &self.ollama];
        let mut looked: Vec<PathBuf> = looked.into_iter().flatten().cloned().collect();
        let mut seen = HashSet::new();
        looked.retain(|path| seen.insert(path.clone()));
        let here = models_in(folder_of(Path::new(name)));
        let names = self.list().into_iter().map(|entry| entry.located.name);
        let names = names.chain(here.iter().map(|path| path.to_string_lossy().into_owned()));
        Error::NotFound { name: name.to_owned(), looked, nearest: nearest(name, names) }
    }

    /// All models of all stores, by store and name. A file that is found under several names or in several stores is listed once;
    /// several models of Ollama's store may be made of one file, and are listed each.
    #[must_use]
    pub fn list(&self) -> Vec<Entry> {
        let mut all: Vec<Located> = Vec::new();
        self.hugging_face.iter().for_each(|root| all.extend(hugging_face::list(root)));
        self.lm_studio.iter().for_each(|root| all.extend(folders::list_in_two(root)));
        self.own.iter().for_each(|root| all.extend(folders::list(root, Store::Own)));
        self.llama_cpp.iter().for_each(|root| all.extend(folders::list_flat(root)));
        self.ollama.iter().for_each(|root| all.extend(ollama::list(root)));
        let mut seen = HashSet::new();
        let entry = |located: Located| {
            let metadata = fs::metadata(&located.path).ok().filter(fs::Metadata::is_file)?;
            let new = seen.insert(FileId::at(&located.path).ok()?) || located.manifest.is_some();
            let bytes = located.files().iter().filter_map(|path| fs::metadata(path).ok()).map(|m| m.len()).sum();
            new.then(|| Entry { bytes, modified: metadata.modified().ok(), located })
        };
        all.into_iter().filter_map(entry).collect()
    }
}

/// A name without the prefix of Hugging Face (`hf.co/` and the like); `None` if it has no such prefix.
pub(crate) fn without_hub(name: &str) -> Option<&str> {
    ["hf://", "https://huggingface.co/", "https://hf.co/", "huggingface.co/", "hf.co/"]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))
}

fn at_path(path: &Path) -> Located {
    let name = path.to_string_lossy().into_owned();
    Located { name, path: path.to_owned(), store: Store::Path, layers: Layers::default(), manifest: None }
}

/// The one model of a folder.
fn folder(path: &Path) -> Result<Located, Error> {
    let name = || path.to_string_lossy().into_owned();
    // A folder of Hugging Face's cache is a repository.
    if path.join("snapshots").is_dir() {
        let snapshot = hugging_face::snapshot(path).unwrap_or_else(|| path.to_owned());
        return one(name(), &snapshot, all_models_in(&snapshot, 3));
    }
    one(name(), path, models_in(path))
}

fn one(name: String, folder: &Path, mut files: Vec<PathBuf>) -> Result<Located, Error> {
    match files.len() {
        0 if folder.join("config.json").is_file() => Err(Error::Checkpoint { path: folder.to_owned() }),
        0 => Err(Error::EmptyFolder { path: folder.to_owned() }),
        1 => Ok(at_path(&files.remove(0))),
        _ => {
            let found =
                files.iter().filter_map(|file| file.file_name()).map(|file| file.to_string_lossy().into_owned());
            Err(Error::Several { name, found: found.collect() })
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The models in a folder, sorted, with the first file of split models; without projectors, importance matrices and drafts.
fn models_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().take(MAX_ENTRIES).filter_map(Result::ok);
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| is_model(path)).collect();
    files.sort();
    files
}

/// The models in a folder and its subfolders, up to `levels` deep.
fn all_models_in(folder: &Path, levels: usize) -> Vec<PathBuf> {
    let mut files = models_in(folder);
    if levels > 0 {
        for inner in folders_in(folder) {
            files.extend(all_models_in(&inner, levels - 1));
        }
    }
    files
}

/// The folders in a folder, sorted.
fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().take(MAX_ENTRIES).filter_map(Result::ok);
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

/// All files and links below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let mut found: Vec<PathBuf> = entries.filter(|path| !path.is_dir()).collect();
    found.sort();
    found
        .extend(folders_in(folder).iter().filter(|folder| !folder.is_symlink()).flat_map(|folder| files_below(folder)));
    found
}

/// Whether a file is a model, or the first file of a split model.
fn is_model(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(is_model_name) && path.is_file()
}

/// Whether a file is a model by its name, or the first file of a split model.
pub(crate) fn is_model_name(name: &str) -> bool {
    const OTHERS: [&str; 6] = ["mmproj", "imatrix", "mtp-", "eagle3-", "dflash-", "dspark-"];
    let name = name.to_lowercase();
    let further_shard = shard_number(&name).is_some_and(|(_, number, _)| number != 1);
    name.ends_with(".gguf") && !further_shard && !OTHERS.iter().any(|part| name.contains(part))
}

/// `NAME-00002-of-00003.gguf` as `NAME`, 2 and 3.
fn shard_number(name: &str) -> Option<(&str, u32, u32)> {
    let stem = name.strip_suffix(".gguf").or_else(|| name.strip_suffix(".GGUF"))?;
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (prefix, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    (digits(number) && digits(count)).then_some(())?;
    Some((prefix, number.parse().ok()?, count.parse().ok()?))
}

/// All files of the model whose first file is `path`.
pub(crate) fn shards(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().and_then(|name| name.to_str());
    match name.and_then(shard_number) {
        Some((prefix, _, count)) => (1..=count.min(10_000))
            .map(|n| path.with_file_name(format!("{prefix}-{n:05}-of-{count:05}.gguf")))
            .collect(),
        None => vec![path.to_owned()],
    }
}

/// Names similar to `name`, the most similar first.
fn nearest(name: &str, names: impl Iterator<Item = String>) -> Vec<String> {
    let words = |text: &str| -> HashSet<String> {
        let words = text.to_lowercase();
        words.split(|c: char| !c.is_alphanumeric()).filter(|word| word.len() > 1).map(str::to_owned).collect()
    };
    let wanted = words(name);
    let mut scored: Vec<(usize, String)> = names
        .map(|candidate| {
            (words(&candidate).iter().filter(|word| *word != "gguf" && wanted.contains(*word)).count(), candidate)
        })
        .filter(|(common, _)| *common > 0)
        .collect();
    scored.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    scored.dedup();
    scored.into_iter().take(4).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests;
