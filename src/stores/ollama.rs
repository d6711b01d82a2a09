//! Ollama's store: a manifest for each name (`manifests/HOST/NAMESPACE/MODEL/TAG`), which lists blobs by their
//! checksums (`blobs/sha256-...`). How a model is fetched to it is in `net/ollama_registry.rs`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::{Error, Located, Store, folders_in};
use crate::files::read_whole;

/// Largest manifest or text layer, in bytes.
const MAX_BYTES: u64 = 4 << 20;
pub(crate) const HOST: &str = "registry.ollama.ai";
pub(crate) const NAMESPACE: &str = "library";
pub(crate) const TAG: &str = "latest";

/// The manifest of the model `[host, namespace, model, tag]`.
#[cfg(feature = "net")]
pub(crate) fn manifest_path(root: &Path, name: [&str; 4]) -> PathBuf {
    name.iter().fold(manifests(root), |path, part| path.join(part))
}

fn manifests(root: &Path) -> PathBuf {
    root.join("manifests")
}

/// The blob with this SHA-256, 64 hexadecimal digits.
pub(crate) fn blob_path(root: &Path, digits: &str) -> PathBuf {
    root.join("blobs").join(format!("sha256-{digits}"))
}

/// What a layer of a manifest is: `model`, `template`, `params` ...
pub(crate) fn layer_kind(layer: &Json) -> Option<&str> {
    layer["mediaType"].as_str()?.strip_prefix("application/vnd.ollama.image.")
}

/// The name of a model without what goes without saying.
pub(crate) fn short_name([host, namespace, model, tag]: [&str; 4]) -> String {
    match (host, namespace) {
        (HOST, NAMESPACE) => format!("{model}:{tag}"),
        (HOST, _) => format!("{namespace}/{model}:{tag}"),
        _ => format!("{host}/{namespace}/{model}:{tag}"),
    }
}

/// What Ollama keeps beside a model's weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layers {
    /// The template, in Go's template language.
    pub template: Option<String>,
    /// The system prompt.
    pub system: Option<String>,
    /// Settings, a JSON object (`temperature`, `stop` ...).
    pub parameters: Option<Json>,
}

/// The model `[HOST/][NAMESPACE/]MODEL[:TAG]`.
pub(super) fn find(root: &Path, name: &str) -> Result<Option<Located>, Error> {
    let (rest, tag) = match name.rsplit_once(':') {
        Some((rest, tag)) if !tag.contains('/') => (rest, tag),
        _ => (name, TAG),
    };
    let parts: Vec<&str> = rest.split('/').collect();
    let path = match parts[..] {
        [model] => [HOST, NAMESPACE, model, tag],
        [namespace, model] => [HOST, namespace, model, tag],
        [host, namespace, model] => [host, namespace, model, tag],
        _ => return Ok(None),
    };
    let mut manifest = manifests(root);
    for part in path {
        // Matched against existing names, ignoring case, so that user input never becomes a path.
        let Some(next) = named(&manifest, part) else { return Ok(None) };
        manifest = next;
    }
    if !manifest.is_file() {
        return Ok(None);
    }
    located(root, &manifest).map(Some)
}

/// The entry `name` of a folder, ignoring case.
fn named(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let mut same: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|n| n.eq_ignore_ascii_case(name)))
        .collect();
    same.sort();
    same.into_iter().next()
}

/// All models of the store; those whose manifests or blobs are broken are left out.
pub(super) fn list(root: &Path) -> Vec<Located> {
    let below =
        |folders: Vec<PathBuf>| -> Vec<PathBuf> { folders.iter().flat_map(|folder| folders_in(folder)).collect() };
    let models = below(below(folders_in(&manifests(root))));
    let mut found = Vec::new();
    for model in models {
        let entries = fs::read_dir(model).into_iter().flatten().filter_map(Result::ok);
        let mut manifests: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
        manifests.sort();
        found.extend(manifests.iter().filter_map(|manifest| located(root, manifest).ok()));
    }
    found
}

/// The model of a manifest.
fn located(root: &Path, manifest: &Path) -> Result<Located, Error> {
    let failed = |problem| Error::Manifest { path: manifest.to_owned(), problem };
    let bytes = read_whole(manifest, MAX_BYTES).map_err(|_| failed("cannot be read"))?;
    let json: Json = serde_json::from_slice(&bytes).map_err(|_| failed("no manifest: the text is no JSON"))?;
    let layers = json["layers"].as_array().ok_or_else(|| failed("no manifest: it lists no layers"))?;
    let blob = |kind: &str| {
        let layer = layers.iter().find(|layer| layer_kind(layer) == Some(kind))?;
        digest_path(root, layer["digest"].as_str()?)
    };
    let text = |kind: &str| {
        let bytes = read_whole(&blob(kind)?, MAX_BYTES).ok()?;
        String::from_utf8(bytes).ok()
    };
    let path = blob("model").ok_or_else(|| failed("the manifest names no GGUF file"))?;
    if !path.is_file() {
        return Err(failed("the model's blob is missing (an unfinished download?)"));
    }
    let layers = Layers {
        template: text("template").or_else(|| text("prompt")),
        system: text("system"),
        parameters: text("params").and_then(|text| serde_json::from_str(&text).ok()),
    };
    let name = manifest_name(root, manifest);
    Ok(Located { name, path, store: Store::Ollama, layers, manifest: Some(manifest.to_owned()) })
}

/// The blobs that a manifest names, including its configuration; none if it cannot be read.
pub(super) fn blobs(root: &Path, manifest: &Path) -> Vec<PathBuf> {
    let bytes = read_whole(manifest, MAX_BYTES).unwrap_or_default();
    let json: Json = serde_json::from_slice(&bytes).unwrap_or_default();
    let layers = json["layers"].as_array().into_iter().flatten().chain([&json["config"]]);
    layers.filter_map(|layer| digest_path(root, layer["digest"].as_str()?)).collect()
}

/// The blob of a digest, `sha256:` and 64 hexadecimal digits; anything else is no digest.
fn digest_path(root: &Path, digest: &str) -> Option<PathBuf> {
    let digits = digest.strip_prefix("sha256:").or_else(|| digest.strip_prefix("sha256-"))?;
    let is_digest = digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_digest.then(|| blob_path(root, digits))
}

/// The name of a manifest's model.
fn manifest_name(root: &Path, manifest: &Path) -> String {
    let below = manifest.strip_prefix(manifests(root)).unwrap_or(manifest);
    let parts: Vec<String> = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    match parts.as_slice() {
        [host, namespace, model, tag] => short_name([host, namespace, model, tag]),
        [rest @ .., tag] => format!("{}:{tag}", rest.join("/")),
        [] => String::new(),
    }
}
