//! Plain folders: the user's own, LM Studio's (`PUBLISHER/REPOSITORY/*.gguf`), and llama.cpp's older cache, which is a flat
//! folder of files.

use std::path::{Path, PathBuf};

use super::hugging_face::names;
use super::quant_name::{choose, quant_of, split_tag};
use super::{Layers, Located, Store, all_models_in, folders_in, models_in};

/// Depth of the search in the user's own folders.
const LEVELS: usize = 4;

fn located(name: String, path: PathBuf, store: Store) -> Located {
    Located { name, path, store, layers: Layers::default(), manifest: None }
}

/// The model of this name in LM Studio's folders: `PUBLISHER/REPOSITORY[:TYPE]`, or the repository alone.
pub(super) fn find_in_two(root: &Path, name: &str) -> Option<Located> {
    let (repository, tag) = split_tag(name);
    let all = repositories(root);
    let same = |(candidate, _): &&(String, PathBuf)| {
        let short = candidate.split_once('/').map_or("", |(_, short)| short);
        candidate.eq_ignore_ascii_case(repository) || short.eq_ignore_ascii_case(repository)
    };
    let (_, folder) = all.iter().find(same)?;
    choose(&models_in(folder), tag).map(|path| located(name.to_owned(), path, Store::LmStudio))
}

/// `PUBLISHER/REPOSITORY` and its folder.
fn repositories(root: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for publisher in folders_in(root) {
        for repository in folders_in(&publisher) {
            let last = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            found.push((format!("{}/{}", last(&publisher), last(&repository)), repository));
        }
    }
    found
}

/// All models of LM Studio's folders.
pub(super) fn list_in_two(root: &Path) -> Vec<Located> {
    let of = |(name, folder): (String, PathBuf)| {
        let files = models_in(&folder);
        let names = names(&name, &files);
        files.into_iter().zip(names).map(|(path, name)| located(name, path, Store::LmStudio)).collect::<Vec<_>>()
    };
    repositories(root).into_iter().flat_map(of).collect()
}

/// The model of this name in one of the user's own folders: a path below it or a file name (with or without `.gguf`), or a
/// folder with `[:TYPE]`.
pub(super) fn find(root: &Path, name: &str, store: Store) -> Option<Located> {
    let files = all_models_in(root, LEVELS);
    let same = |text: &str| {
        let stem = text.strip_suffix(".gguf").unwrap_or(text);
        text.eq_ignore_ascii_case(name) || stem.eq_ignore_ascii_case(name)
    };
    let below = |path: &Path| path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
    let file_name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let found =
        files.iter().find(|path| same(&below(path))).or_else(|| files.iter().find(|path| same(&file_name(path))));
    if let Some(path) = found {
        return Some(located(name.to_owned(), path.clone(), store));
    }
    let (folder, tag) = split_tag(name);
    let is_in = |path: &&PathBuf| {
        let parent = path.parent().unwrap_or(root);
        !folder.is_empty()
            && (below(parent).eq_ignore_ascii_case(folder) || file_name(parent).eq_ignore_ascii_case(folder))
    };
    let inside: Vec<PathBuf> = files.iter().filter(is_in).cloned().collect();
    choose(&inside, tag).map(|path| located(name.to_owned(), path, store))
}

/// All models of one of the user's own folders, by their paths below it.
pub(super) fn list(root: &Path, store: Store) -> Vec<Located> {
    let name = |path: &Path| path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
    all_models_in(root, LEVELS).into_iter().map(|path| located(name(&path), path, store)).collect()
}

/// The model of this name in llama.cpp's cache of plain files: `ORG_REPOSITORY_FILE.gguf`.
pub(super) fn find_flat(root: &Path, name: &str) -> Option<Located> {
    let (repository, tag) = split_tag(name);
    let prefix = format!("{}_", repository.replace('/', "_")).to_lowercase();
    let is_it = |path: &PathBuf| {
        let file = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        file.starts_with(&prefix) || file == name.to_lowercase() || file == format!("{}.gguf", name.to_lowercase())
    };
    let files: Vec<PathBuf> = models_in(root).into_iter().filter(is_it).collect();
    // One file whose name says no type is the model of any type.
    let tag = tag.filter(|_| files.iter().any(|file| quant_of(file).is_some()));
    choose(&files, tag).map(|path| located(name.to_owned(), path, Store::LlamaCpp))
}

/// All models of llama.cpp's cache of plain files.
pub(super) fn list_flat(root: &Path) -> Vec<Located> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    models_in(root).into_iter().map(|path| located(name(&path), path, Store::LlamaCpp)).collect()
}
