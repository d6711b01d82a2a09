//! The protocol of Ollama's registry: a manifest lists layers by their checksums (`/v2/NAMESPACE/MODEL/manifests/TAG`,
//! `/v2/NAMESPACE/MODEL/blobs/sha256:...`). Where they lie in Ollama's store is known by `stores`; the manifest is written last.

use std::collections::HashSet;
use std::path::PathBuf;

use serde_json::Value as Json;

use super::checksum::Checksum;
use super::error::Error;
use super::folders::make_folder;
use super::names::RegistryName;
use super::settings::Settings;
use super::url::host;
use crate::files::{Overwrite, write_whole};
use crate::stores::{OLLAMA_HOST, ollama_blob, ollama_layer_kind, ollama_manifest, ollama_name};

const ACCEPT: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Largest manifest, in bytes.
const MOST_MANIFEST: u64 = 4 << 20;
/// Maximum layers of a manifest.
const MOST_LAYERS: usize = 1000;
/// Largest layer, in bytes.
const MOST_BYTES: u64 = 1 << 50;

/// A model of a registry.
#[derive(Clone, Debug)]
pub(super) struct Manifest {
    /// Its shortest name.
    pub(super) name: String,
    pub(super) layers: Vec<Layer>,
    /// Its URL, without a trailing slash.
    server: String,
    /// `NAMESPACE/MODEL`.
    repository: String,
    /// Where it lies in the store.
    path: PathBuf,
    root: PathBuf,
    weights: Checksum,
    /// The manifest as received; its checksum identifies the model.
    bytes: Vec<u8>,
}

/// A file of a model.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// Its name for display.
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) checksum: Checksum,
}

impl Manifest {
    /// Requests the manifest of a model.
    pub(super) fn ask(settings: &Settings, name: &RegistryName) -> Result<Self, Error> {
        let root = settings.roots.ollama.clone().ok_or(Error::NoFolder { variable: "OLLAMA_MODELS" })?;
        let RegistryName { server, namespace, model, tag } = name;
        // A mirror of Ollama's registry uses the same folder.
        let folder = server.as_deref().map_or_else(|| OLLAMA_HOST.to_owned(), host);
        let server = server.clone().unwrap_or_else(|| settings.registry.clone());
        let parts = [folder.as_str(), namespace, model, tag];
        let short = ollama_name(parts);
        let repository = format!("{namespace}/{model}");
        let url = format!("{server}/v2/{repository}/manifests/{tag}");
        let asked = settings.client.small(&url, MOST_MANIFEST, Some(ACCEPT));
        let (bytes, _) = asked.map_err(|error| explain(&short, &server, error))?;
        let nonsense = |problem: &str| Error::Answer { url: url.clone(), problem: problem.to_owned() };
        let json: Json = serde_json::from_slice(&bytes).map_err(|_| nonsense("no manifest: the text is no JSON"))?;
        let listed = json["layers"].as_array().filter(|layers| layers.len() <= MOST_LAYERS);
        let listed = listed.ok_or_else(|| nonsense("no manifest: it lists no layers"))?;
        let config = json.get("config").filter(|config| config.is_object());
        let layers: Option<Vec<Layer>> = listed.iter().chain(config).map(layer).collect();
        let mut layers = layers.ok_or_else(|| nonsense("a layer has no checksum or no size"))?;
        let weights = layers.iter().find(|layer| layer.name == "model").map(|layer| layer.checksum.clone());
        let weights = weights.ok_or_else(|| Error::NoModel { name: short.clone(), hint: " are among its layers" })?;
        let mut seen = HashSet::new();
        layers.retain(|layer| seen.insert(layer.checksum.digits().to_owned()));
        let path = ollama_manifest(&root, parts);
        Ok(Self { name: short, layers, server, repository, path, root, weights, bytes })
    }

    /// The blob of a layer.
    pub(super) fn blob(&self, checksum: &Checksum) -> PathBuf {
        ollama_blob(&self.root, checksum.digits())
    }

    /// The URL of a layer.
    pub(super) fn blob_url(&self, checksum: &Checksum) -> String {
        format!("{}/v2/{}/blobs/sha256:{}", self.server, self.repository, checksum.digits())
    }

    /// The path of the manifest.
    pub(super) fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// Writes the manifest. Returns the path of the model's blob.
    pub(super) fn write(&self) -> Result<PathBuf, Error> {
        let path = self.path();
        make_folder(&path)?;
        write_whole(&path, Overwrite::Replace { inputs: &[] }, &self.bytes)?;
        Ok(self.blob(&self.weights))
    }

    /// Interprets an error of the registry.
    pub(super) fn explain(&self, error: Error) -> Error {
        explain(&self.name, &self.server, error)
    }
}

fn layer(json: &Json) -> Option<Layer> {
    let checksum = Checksum::sha256(json["digest"].as_str()?.strip_prefix("sha256:")?)?;
    let bytes = json["size"].as_u64().filter(|&bytes| bytes <= MOST_BYTES)?;
    let name = ollama_layer_kind(json).unwrap_or("configuration").to_owned();
    Some(Layer { name, bytes, checksum })
}

fn explain(name: &str, server: &str, error: Error) -> Error {
    let Error::Status { status, .. } = error else { return error };
    let (name, host) = (name.to_owned(), host(server));
    match status {
        404 => Error::Missing { name, what: "model", host, hint: "" },
        401 => Error::Denied { name, host, status, hint: ": the model is private, or there is none of this name" },
        403 => Error::Denied { name, host, status, hint: "" },
        429 => Error::Denied { name, host, status, hint: ": too many requests; later they are taken again" },
        _ => error,
    }
}
