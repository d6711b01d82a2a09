//! Ollama's store: a manifest for each name (`manifests/HOST/NAMESPACE/MODEL/TAG`), which lists blobs by their
//! checksums (`blobs/sha256-...`). How a model is fetched to it is in `net/ollama_registry.rs`.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::digest::Digest;
use super::{Error, Located, Store, files_below, folders_in};
use crate::files::read_whole;

/// Largest manifest or text layer, in bytes.
const MAX_BYTES: u64 = 4 << 20;
pub(crate) const HOST: &str = "registry.ollama.ai";
pub(crate) const NAMESPACE: &str = "library";
pub(crate) const TAG: &str = "latest";

/// What media types of a model's layers begin with.
pub(super) const LAYER: &str = "application/vnd.ollama.image.";
/// The annotation of a template that a user has given: it holds in place of the file's own. Ollama does not read annotations.
pub(crate) const GIVEN: &str = "gguf.template.given";

/// The manifest of the model `[host, namespace, model, tag]`.
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
    layer["mediaType"].as_str()?.strip_prefix(LAYER)
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
    /// Whether a user has given the template: then it holds in place of the file's own.
    pub is_template_given: bool,
    /// The system prompt.
    pub system: Option<String>,
    /// Settings, a JSON object (`temperature`, `stop` ...).
    pub parameters: Option<Json>,
    /// Messages with which conversations begin: their roles and texts.
    pub messages: Vec<(String, String)>,
    /// Files of adapters (LoRA).
    pub adapters: Vec<PathBuf>,
}

/// The model `[HOST/][NAMESPACE/]MODEL[:TAG]`.
pub(super) fn find(root: &Path, name: &str) -> Result<Option<Located>, Error> {
    let (rest, tag) = match name.rsplit_once(':') {
        Some((rest, tag)) if !tag.contains('/') => (rest, tag),
        _ => (name, TAG),
    };
    let parts: Vec<&str> = rest.split('/').collect();
    let parts = match parts[..] {
        [model] => [HOST, NAMESPACE, model, tag],
        [namespace, model] => [HOST, namespace, model, tag],
        [host, namespace, model] => [host, namespace, model, tag],
        _ => return Ok(None),
    };
    existing_manifest(root, parts).map(|manifest| located(root, &manifest)).transpose()
}

/// The manifest of a model whose name differs from `[host, namespace, model, tag]` in nothing but case.
pub(super) fn existing_manifest(root: &Path, parts: [&str; 4]) -> Option<PathBuf> {
    // Matched against existing names, so that user input never becomes a path.
    let manifest = parts.iter().try_fold(manifests(root), |folder, part| named(&folder, part))?;
    manifest.is_file().then_some(manifest)
}

/// The store's folder that a manifest is in.
pub(super) fn root_of(manifest: &Path) -> Option<&Path> {
    manifest.ancestors().find(|folder| folder.ends_with("manifests")).and_then(Path::parent)
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
    let of_kind = |kind: &'static str| layers.iter().filter(move |layer| layer_kind(layer) == Some(kind));
    let layers = Layers {
        template: text("template").or_else(|| text("prompt")),
        is_template_given: of_kind("template").any(|layer| !layer["annotations"][GIVEN].is_null()),
        system: text("system"),
        parameters: text("params").and_then(|text| serde_json::from_str(&text).ok()),
        messages: text("messages").map(|text| messages(&text)).unwrap_or_default(),
        adapters: of_kind("adapter").filter_map(|layer| digest_path(root, layer["digest"].as_str()?)).collect(),
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

/// The blobs that any manifest of the store names.
pub(super) fn all_blobs(root: &Path) -> HashSet<PathBuf> {
    files_below(&manifests(root)).iter().flat_map(|manifest| blobs(root, manifest)).collect()
}

/// The blob of a digest.
fn digest_path(root: &Path, digest: &str) -> Option<PathBuf> {
    Digest::parse(digest).map(|digest| blob_path(root, digest.digits()))
}

/// The roles and texts of a list of messages.
fn messages(text: &str) -> Vec<(String, String)> {
    let list: Vec<Json> = serde_json::from_str(text).unwrap_or_default();
    let text = |message: &Json, name: &str| message[name].as_str().map(str::to_owned);
    list.iter().filter_map(|message| Some((text(message, "role")?, text(message, "content")?))).collect()
}

impl Located {
    /// The manifest of a model of Ollama's store, as it was read now.
    #[must_use]
    pub fn read_manifest(&self) -> Option<Json> {
        let bytes = read_whole(self.manifest.as_deref()?, MAX_BYTES).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// The texts of all layers of a kind (`license`) of a model of Ollama's store.
    #[must_use]
    pub fn layer_texts(&self, kind: &str) -> Vec<String> {
        let (Some(manifest), Some(root)) = (self.read_manifest(), self.manifest.as_deref().and_then(root_of)) else {
            return Vec::new();
        };
        let layers = manifest["layers"].as_array().into_iter().flatten();
        let text = |layer: &Json| {
            let path = digest_path(root, layer["digest"].as_str()?)?;
            String::from_utf8(read_whole(&path, MAX_BYTES).ok()?).ok()
        };
        layers.filter(|layer| layer_kind(layer) == Some(kind)).filter_map(text).collect()
    }

    /// What tells it from other models of the same name: the SHA-256 of its manifest, or of its file where the name of the file
    /// in the cache of Hugging Face says it; nothing is computed for others.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        if let Some(manifest) = &self.manifest {
            return Some(Digest::of(&read_whole(manifest, MAX_BYTES).ok()?));
        }
        let real = fs::canonicalize(&self.path).ok().filter(|_| self.store == Store::HuggingFace)?;
        Digest::parse(&format!("sha256:{}", real.file_name()?.to_str()?))
    }
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
