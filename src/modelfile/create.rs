//! Makes models: a manifest in a store with Ollama's layout, and the blobs that it names and that are not there yet.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json, json};

use super::{Additions, Error};
use crate::convert::{self, Conversion, Folder};
use crate::engine::jinja_of_go;
use crate::gguf::{Reader, Value};
use crate::inspect::Summary;
use crate::quantize::{self, FileType, GgufSource, Options, Plan, Progress, RunOptions, Source};
use crate::stores::{
    Blob, BlobStore, Digest, Located, ModelName, Origin, TEMPLATE_GIVEN, ollama_layer_kind as layer_kind, shards,
};

/// Media type of the configuration, and of the manifest itself.
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Texts of a manifest that replace those of the model it is made from.
const TEXTS: [&str; 5] = ["template", "system", "params", "messages", "license"];

/// What a model is made from.
#[derive(Clone, Debug)]
pub enum Base {
    /// A model that was found by its name.
    Model(Box<Located>),
    /// A GGUF file.
    File(PathBuf),
    /// A checkpoint's folder, which is converted.
    Checkpoint(PathBuf),
    /// A blob of the store.
    Blob(Digest),
}

/// What shall be made.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its name.
    pub name: ModelName,
    /// What it is made from.
    pub base: Base,
    /// Adapters: files or blobs.
    pub adapters: Vec<Base>,
    /// What it adds to that.
    pub additions: Additions,
    /// The mix that the model is quantized to.
    pub quantize: Option<FileType>,
}

/// What is being done.
#[derive(Clone, Debug, PartialEq)]
pub enum Status<'s> {
    /// The header of the model is read.
    Reading,
    /// The model is converted or quantized.
    Quantizing {
        /// The type that it has.
        from: &'s str,
        /// The type that it gets.
        to: &'s str,
        /// Bytes done, and all bytes.
        progress: Progress,
    },
    /// A layer is in the store.
    Layer(&'s MadeLayer),
    /// The manifest is written.
    Writing,
}

/// A layer of a made model.
#[derive(Clone, Debug, PartialEq)]
pub struct MadeLayer {
    /// What it is: `model`, `system` ...
    pub kind: String,
    /// Its blob.
    pub blob: Blob,
}

/// A made model.
#[derive(Clone, Debug)]
pub struct Created {
    /// Its name.
    pub name: String,
    /// Its manifest.
    pub manifest: PathBuf,
    /// The SHA-256 of that, by which Ollama tells models apart.
    pub digest: Digest,
    /// All layers, the model first.
    pub layers: Vec<MadeLayer>,
}

impl Created {
    /// Bytes of the disk that it takes and that were free before.
    #[must_use]
    pub fn new_bytes(&self) -> u64 {
        self.layers.iter().filter(|layer| layer.blob.origin.takes_room()).map(|layer| layer.blob.bytes).sum()
    }

    /// Bytes of all its blobs.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.blob.bytes).sum()
    }

    /// What was not there before: the manifest, and blobs of `store`.
    #[must_use]
    pub fn new_files(&self, store: &BlobStore) -> Vec<PathBuf> {
        let new = self.layers.iter().filter(|layer| layer.blob.origin != Origin::Existing);
        new.map(|layer| store.path(&layer.blob.digest)).chain([self.manifest.clone()]).collect()
    }
}

/// Is called with what is being done, and stops the work by returning false.
pub type Observer<'o> = dyn Fn(Status<'_>) -> bool + 'o;

/// Makes a model in `store`.
///
/// # Errors
/// When the model that it is made from cannot be read, quantized or put into the store, or a text makes no sense. Nothing is left
/// of it then.
pub fn create(store: &BlobStore, request: &Request, observer: &Observer<'_>) -> Result<Created, Error> {
    if let Some(template) = &request.additions.template {
        jinja_of_go(template)?;
    }
    store.check_name(&request.name)?;
    tell(observer, Status::Reading)?;
    let mut work = Work { store, observer, layers: Vec::new(), listed: Vec::new() };
    match work.manifest(request) {
        Ok((manifest, digest)) => Ok(Created { name: request.name.short(), manifest, digest, layers: work.layers }),
        Err(error) => {
            let new = work.layers.iter().filter(|layer| layer.blob.origin != Origin::Existing);
            new.for_each(|layer| drop(fs::remove_file(store.path(&layer.blob.digest))));
            Err(error)
        }
    }
}

/// Gives a model a further name. One of Ollama's store gets a second manifest there, which names the same blobs; others get
/// blobs in `store`.
///
/// # Errors
/// As [`create`].
pub fn copy(
    store: &BlobStore,
    model: &Located,
    name: &ModelName,
    observer: &Observer<'_>,
) -> Result<(BlobStore, Created), Error> {
    let request = || Request {
        name: name.clone(),
        base: Base::Model(Box::new(model.clone())),
        adapters: Vec::new(),
        additions: Additions::default(),
        quantize: None,
    };
    let Some(manifest) = &model.manifest else {
        return Ok((store.clone(), create(store, &request(), observer)?));
    };
    let unread = || Error::Manifest { path: manifest.clone() };
    let bytes = fs::read(manifest).map_err(|_| unread())?;
    let own = store.of_manifest(manifest).ok_or_else(unread)?;
    match own.write_manifest(name, &bytes) {
        Ok(path) => {
            let blobs = model.read_manifest().map(|manifest| blobs(&own, &manifest)).unwrap_or_default();
            Ok((own, Created { name: name.short(), manifest: path, digest: Digest::of(&bytes), layers: blobs }))
        }
        // The store of a service, say: then the blobs are shared with the user's own.
        Err(error) if error.is_read_only() && own.root() != store.root() => {
            Ok((store.clone(), create(store, &request(), observer)?))
        }
        Err(error) => Err(error.into()),
    }
}

/// The layers of a manifest that are in the store.
fn blobs(store: &BlobStore, manifest: &Json) -> Vec<MadeLayer> {
    let layers = manifest["layers"].as_array().into_iter().flatten();
    let made = |layer: &Json| {
        let kind = layer_kind(layer)?.to_owned();
        Some(MadeLayer { kind, blob: store.find(&Digest::parse(layer["digest"].as_str()?)?)? })
    };
    layers.filter_map(made).collect()
}

fn tell(observer: &Observer<'_>, status: Status<'_>) -> Result<(), Error> {
    if observer(status) { Ok(()) } else { Err(Error::Stopped) }
}

/// A layer of the model that another is made from.
struct Inherited {
    kind: String,
    file: PathBuf,
    listed: Json,
}

/// The layers of the model that another is made from, but its weights; and its configuration.
fn inherited(store: &BlobStore, base: &Base) -> Result<(Vec<Inherited>, Json), Error> {
    let Base::Model(located) = base else { return Ok((Vec::new(), Json::Null)) };
    let Some(path) = &located.manifest else { return Ok((Vec::new(), Json::Null)) };
    let unread = || Error::Manifest { path: path.clone() };
    let (manifest, store) = located.read_manifest().zip(store.of_manifest(path)).ok_or_else(unread)?;
    let file = |layer: &Json| Some(store.path(&Digest::parse(layer["digest"].as_str()?)?));
    let mut layers = Vec::new();
    for layer in manifest["layers"].as_array().into_iter().flatten() {
        let Some(kind) = layer_kind(layer).filter(|kind| *kind != "model") else { continue };
        layers.push(Inherited { kind: kind.to_owned(), file: file(layer).ok_or_else(unread)?, listed: layer.clone() });
    }
    let config = file(&manifest["config"]).and_then(|file| fs::read(file).ok());
    let config = config.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    Ok((layers, config))
}

struct Work<'w> {
    store: &'w BlobStore,
    observer: &'w Observer<'w>,
    layers: Vec<MadeLayer>,
    /// The layers as the manifest lists them.
    listed: Vec<Json>,
}

impl Work<'_> {
    /// Puts everything into the store, the manifest last. Returns its path and its SHA-256.
    fn manifest(&mut self, request: &Request) -> Result<(PathBuf, Digest), Error> {
        let (inherited, config) = inherited(self.store, &request.base)?;
        let model = self.model(request)?;
        let path = self.store.path(&model.digest);
        self.push("model", model, None)?;
        for layer in &inherited {
            self.inherit(layer, request)?;
        }
        self.texts(request, &inherited)?;
        let described = described(&Reader::open(&path)?, &config, request, &self.layers);
        let config = self.store.add(described.to_string().as_bytes())?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": { "mediaType": CONFIG, "digest": config.digest.to_string(), "size": config.bytes },
            "layers": self.listed,
        });
        self.layers.push(MadeLayer { kind: "config".to_owned(), blob: config });
        tell(self.observer, Status::Writing)?;
        let bytes = manifest.to_string().into_bytes();
        Ok((self.store.write_manifest(&request.name, &bytes)?, Digest::of(&bytes)))
    }

    fn push(&mut self, kind: &str, blob: Blob, annotation: Option<&str>) -> Result<(), Error> {
        let mut listed = blob.layer(kind);
        if let Some(annotation) = annotation {
            listed["annotations"] = json!({ annotation: "true" });
        }
        self.listed.push(listed);
        self.layers.push(MadeLayer { kind: kind.to_owned(), blob });
        self.tell_last()
    }

    fn tell_last(&self) -> Result<(), Error> {
        self.layers.last().map_or(Ok(()), |layer| tell(self.observer, Status::Layer(layer)))
    }

    /// The blob of the model's weights.
    fn model(&self, request: &Request) -> Result<Blob, Error> {
        let file = match &request.base {
            Base::Checkpoint(folder) => return self.converted(folder, request.quantize),
            Base::Model(located) => located.path.clone(),
            Base::File(path) => path.clone(),
            Base::Blob(digest) => {
                let found = self.store.find(digest);
                found.ok_or_else(|| Error::NoBlob { digest: digest.to_string() })?;
                self.store.path(digest)
            }
        };
        if shards(&file).len() > 1 {
            return Err(Error::Split { path: file });
        }
        // Before a byte is linked: what is no model shall not be in the store.
        let reader = Reader::open(&file)?;
        let Some(ty) = request.quantize else { return Ok(self.store.add_file(&file)?) };
        let mut options = Options::new(ty);
        options.allow_requantize = true;
        let source = GgufSource::new(&reader);
        let from = quantize::file_type_name_of(reader.metadata()).unwrap_or("the model");
        self.quantized(&source, &Plan::new(&source, &options)?, from, ty.name())
    }

    fn converted(&self, folder: &Path, quantize: Option<FileType>) -> Result<Blob, Error> {
        let options = convert::Options { output_type: convert::OutputType::Exact, ..convert::Options::default() };
        let options = if quantize.is_some() { options } else { convert::Options::default() };
        let conversion = Conversion::new(Folder::open(folder)?, &options)?;
        let plan = match quantize {
            Some(ty) => Plan::new(&conversion, &Options::new(ty))?,
            None => conversion.plan(&[])?,
        };
        let to = FileType::of(&plan.metadata).map_or("F16", FileType::name);
        self.quantized(&conversion, &plan, "checkpoint", to)
    }

    fn quantized(&self, source: &dyn Source, plan: &Plan, from: &str, to: &str) -> Result<Blob, Error> {
        let path = self.store.path_to_make()?;
        let observer = |progress| (self.observer)(Status::Quantizing { from, to, progress });
        let made = quantize::run(source, plan, &path, &RunOptions::default(), &observer);
        let made = made.map_err(Error::from).and_then(|_| Ok(self.store.add_made(&path)?));
        if made.is_err() {
            let _ = fs::remove_file(&path);
        }
        made
    }

    /// A layer of the model that another is made from, unless the request replaces it.
    fn inherit(&mut self, layer: &Inherited, request: &Request) -> Result<(), Error> {
        let is_replaced = match layer.kind.as_str() {
            "template" | "prompt" => request.additions.template.is_some(),
            "system" => request.additions.system.is_some(),
            "messages" => !request.additions.messages.is_empty(),
            "params" => !request.additions.parameters.is_empty(),
            "license" => !request.additions.licenses.is_empty(),
            "adapter" => !request.adapters.is_empty(),
            _ => false,
        };
        if is_replaced {
            return Ok(());
        }
        let blob = self.store.add_file(&layer.file)?;
        let mut listed = layer.listed.clone();
        listed["digest"] = blob.digest.to_string().into();
        self.listed.push(listed);
        self.layers.push(MadeLayer { kind: layer.kind.clone(), blob });
        self.tell_last()
    }

    /// The texts and adapters of the request.
    fn texts(&mut self, request: &Request, inherited: &[Inherited]) -> Result<(), Error> {
        for adapter in &request.adapters {
            let file = match adapter {
                Base::File(path) | Base::Checkpoint(path) => path.clone(),
                Base::Model(located) => located.path.clone(),
                Base::Blob(digest) => self.store.path(digest),
            };
            let is_adapter =
                Reader::open(&file)?.metadata().get("general.type").and_then(Value::as_str) == Some("adapter");
            if !is_adapter {
                return Err(Error::NoAdapter { path: file });
            }
            let blob = self.store.add_file(&file)?;
            self.push("adapter", blob, None)?;
        }
        let of_base = inherited.iter().find(|layer| layer.kind == "params");
        let of_base = of_base.and_then(|layer| fs::read(&layer.file).ok());
        let mut parameters: Map<String, Json> =
            of_base.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        parameters.extend(request.additions.parameters.clone());
        let message = |(role, text): &(String, String)| json!({ "role": role, "content": text });
        let messages: Vec<Json> = request.additions.messages.iter().map(message).collect();
        let json = |is_given: bool, value: Json| if is_given { vec![value.to_string()] } else { Vec::new() };
        let given = [
            request.additions.template.iter().cloned().collect(),
            request.additions.system.iter().cloned().collect(),
            json(!request.additions.parameters.is_empty(), parameters.into()),
            json(!messages.is_empty(), messages.into()),
            request.additions.licenses.clone(),
        ];
        for (kind, texts) in TEXTS.iter().zip(given) {
            let texts: Vec<String> = texts;
            for text in texts {
                let blob = self.store.add(text.as_bytes())?;
                self.push(kind, blob, (*kind == "template").then_some(TEMPLATE_GIVEN))?;
            }
        }
        Ok(())
    }
}

/// The configuration of a model, which Ollama shows.
fn described(reader: &Reader, of_base: &Json, request: &Request, layers: &[MadeLayer]) -> Json {
    let summary = Summary::new(reader);
    let family = summary.architecture.clone().unwrap_or_default();
    let digests: Vec<String> = layers.iter().map(|layer| layer.blob.digest.to_string()).collect();
    let mut config = json!({
        "model_format": "gguf",
        "model_family": family,
        "model_families": [family],
        "model_type": parameter_size(summary.parameters),
        "file_type": summary.file_type_name().unwrap_or("unknown"),
        "architecture": "amd64",
        "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": digests },
    });
    for name in ["renderer", "parser", "requires"] {
        if let Some(value) = of_base.get(name).filter(|value| !value.is_null()) {
            config[name] = value.clone();
        }
    }
    request.additions.for_ollama.iter().for_each(|(name, value)| config[*name] = value.as_str().into());
    config
}

/// A number of parameters as Ollama writes it: `8.0B`, `3.7M`.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
pub fn parameter_size(parameters: u64) -> String {
    match parameters as f64 {
        n if n >= 1e9 => format!("{:.1}B", n / 1e9),
        n if n >= 1e6 => format!("{:.1}M", n / 1e6),
        n => format!("{:.1}K", n / 1e3),
    }
}
