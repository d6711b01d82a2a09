//! Removes a model: its names, and the blobs that nothing else refers to.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Fetched, Located, Store, files_below, is_model, ollama, shards};
use crate::files::has_other_names;

/// The files that will be removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// The names under which the model is found: files, links, a manifest.
    pub names: Vec<PathBuf>,
    /// Blobs that nothing refers to then.
    pub blobs: Vec<PathBuf>,
    /// Whether this program has fetched all of it.
    pub is_ours: bool,
    /// Folders that become empty are removed up to this one.
    root: PathBuf,
}

impl Removal {
    /// The files to remove for a model that has been found.
    #[must_use]
    pub fn of(located: &Located, fetched: &Fetched) -> Self {
        let mut removal = match located.store {
            Store::HuggingFace => repository(&located.path).unwrap_or_else(|| files(&located.path)),
            Store::Ollama => located.manifest.as_deref().map_or_else(Self::default, manifest),
            Store::Path | Store::LmStudio | Store::LlamaCpp | Store::Own => files(&located.path),
        };
        let found_by = located.manifest.clone().map_or_else(|| shards(&located.path), |manifest| vec![manifest]);
        removal.is_ours = found_by.iter().all(|name| fetched.has(name));
        removal
    }

    /// Bytes that are freed: not those of files that have other names besides (hard links).
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let is_file = |metadata: &fs::Metadata| metadata.is_file();
        let size =
            |path: &PathBuf| fs::symlink_metadata(path).ok().filter(is_file).map_or(0, |metadata| metadata.len());
        self.names.iter().chain(&self.blobs).filter(|path| !has_other_names(path)).map(size).sum()
    }

    /// Removes names first, then blobs, so that an interruption leaves no broken model behind.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn run(&self) -> io::Result<()> {
        for path in self.names.iter().chain(&self.blobs) {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        for path in self.names.iter().chain(&self.blobs) {
            // Only empty folders can be removed this way.
            let below = path.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.root));
            let _ = below.map_while(|folder| fs::remove_dir(folder).ok()).count();
        }
        Ok(())
    }
}

/// A model in a plain folder.
fn files(path: &Path) -> Removal {
    Removal { names: shards(path), root: path.to_owned(), ..Removal::default() }
}

/// A model of Hugging Face's cache, by the link in a snapshot.
fn repository(path: &Path) -> Option<Removal> {
    let snapshots = path.ancestors().find(|folder| folder.ends_with("snapshots"))?;
    let folder = snapshots.parent()?;
    // The same file of other commits is the same model; another file with the same blob is not.
    let in_commit =
        |link: &Path| -> Option<PathBuf> { Some(link.strip_prefix(snapshots).ok()?.components().skip(1).collect()) };
    let gone: HashSet<PathBuf> = shards(path).iter().filter_map(|name| in_commit(name)).collect();
    let is_gone = |link: &PathBuf| in_commit(link).is_some_and(|name| gone.contains(&name));
    let (mut names, stays): (Vec<PathBuf>, Vec<PathBuf>) = files_below(snapshots).into_iter().partition(is_gone);
    // If no model remains in the repository, its other files are removed too.
    let serves_models = |link: &PathBuf| {
        link.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")) && !is_model(link)
    };
    if !stays.iter().any(|link| is_model(link)) {
        names.extend(stays.iter().filter(|link| serves_models(link)).cloned());
    }
    let stays: Vec<PathBuf> = stays.into_iter().filter(|link| !names.contains(link)).collect();
    let blob_of = |link: &PathBuf| fs::canonicalize(link).ok();
    let needed: HashSet<PathBuf> = stays.iter().filter_map(blob_of).collect();
    let mut blobs: Vec<PathBuf> = names.iter().filter_map(blob_of).filter(|blob| !needed.contains(blob)).collect();
    blobs.sort();
    blobs.dedup();
    let is_last = stays.is_empty();
    if is_last {
        names.extend(files_below(&folder.join("refs")));
    }
    let folder = if is_last { folder } else { snapshots };
    Some(Removal { names, blobs, root: folder.to_owned(), is_ours: false })
}

/// A model of Ollama's store, by its manifest.
fn manifest(manifest: &Path) -> Removal {
    let Some(root) = ollama::root_of(manifest) else { return Removal::default() };
    let others = files_below(&root.join("manifests")).into_iter().filter(|other| other != manifest);
    let named: HashSet<PathBuf> = others.flat_map(|other| ollama::blobs(root, &other)).collect();
    let mut blobs: Vec<PathBuf> = ollama::blobs(root, manifest);
    blobs.retain(|blob| !named.contains(blob) && blob.is_file());
    blobs.sort();
    blobs.dedup();
    Removal { names: vec![manifest.to_owned()], blobs, root: root.join("manifests"), is_ours: false }
}
