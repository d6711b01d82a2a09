//! The cache of Hugging Face, which llama.cpp uses too: `models--ORG--NAME/snapshots/COMMIT/FILE` is a link to a blob, and
//! `refs/main` has the commit.

use std::fs;
use std::path::{Path, PathBuf};

use super::quant_name::{choose, quant_of, split_tag};
use super::{Error, Layers, Located, Store, all_models_in, folders_in};
use crate::files::read_whole;

/// Bytes of the name of a commit that are read.
const MOST_REFERENCE: u64 = 4096;

/// The model `ORG/NAME[:TYPE]`, or `ORG/NAME/FILE`; `None` where this type or file of the repository is not here.
pub(super) fn find(root: &Path, name: &str) -> Result<Option<Located>, Error> {
    let (name, tag) = split_tag(name);
    let parts: Vec<&str> = name.split('/').collect();
    let [organization, repository, file @ ..] = parts.as_slice() else { return Ok(None) };
    let wanted = format!("models--{organization}--{repository}");
    let is_it = |folder: &PathBuf| folder.file_name().is_some_and(|name| name.eq_ignore_ascii_case(&wanted));
    let Some(snapshot) = folders_in(root).iter().find(|folder| is_it(folder)).and_then(|folder| snapshot(folder))
    else {
        return Ok(None);
    };
    let files = all_models_in(&snapshot, 3);
    let path = if file.is_empty() {
        choose(&files, tag)
    } else {
        files
            .iter()
            .find(|path| path.strip_prefix(&snapshot).is_ok_and(|rest| rest == Path::new(&file.join("/"))))
            .cloned()
    };
    match path {
        Some(path) => {
            let name = tag.map_or_else(|| name.to_owned(), |tag| format!("{name}:{tag}"));
            Ok(Some(Located { name, path, store: Store::HuggingFace, layers: Layers::default(), manifest: None }))
        }
        None if files.is_empty() && snapshot.join("config.json").exists() => Err(Error::Checkpoint { path: snapshot }),
        // Another type or file of the repository may be in another store, or be fetched.
        None => Ok(None),
    }
}

/// The newest snapshot of a repository: that of `refs/main`, or else the most recently changed one.
pub(super) fn snapshot(repository: &Path) -> Option<PathBuf> {
    let snapshots = repository.join("snapshots");
    let commit = read_whole(&repository.join("refs/main"), MOST_REFERENCE).unwrap_or_default();
    let commit = str::from_utf8(&commit).unwrap_or_default().trim();
    // A name, never a path.
    let main =
        (!commit.is_empty() && commit.bytes().all(|b| b.is_ascii_alphanumeric())).then(|| snapshots.join(commit));
    main.filter(|path| path.is_dir()).or_else(|| {
        let modified = |path: &PathBuf| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        folders_in(&snapshots).into_iter().max_by_key(modified)
    })
}

/// All models of the cache.
pub(super) fn list(root: &Path) -> Vec<Located> {
    let mut found = Vec::new();
    for folder in folders_in(root) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some((organization, repository)) = name.strip_prefix("models--").and_then(|name| name.split_once("--"))
        else {
            continue;
        };
        let files = snapshot(&folder).map(|snapshot| all_models_in(&snapshot, 3)).unwrap_or_default();
        let names = names(&format!("{organization}/{repository}"), &files);
        found.extend(files.into_iter().zip(names).map(|(path, name)| Located {
            name,
            path,
            store: Store::HuggingFace,
            layers: Layers::default(),
            manifest: None,
        }));
    }
    found
}

/// Names that lead to each of a repository's files.
pub(super) fn names(repository: &str, files: &[PathBuf]) -> Vec<String> {
    let name = |file: &PathBuf| match quant_of(file) {
        Some(quant) if choose(files, Some(&quant)).as_ref() == Some(file) => format!("{repository}:{quant}"),
        _ if choose(files, None).as_ref() == Some(file) => repository.to_owned(),
        _ => format!("{repository}:{}", file.file_name().unwrap_or_default().to_string_lossy()),
    };
    files.iter().map(name).collect()
}
