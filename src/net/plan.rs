//! The plan of a fetch: every file with its size, checksum and destination. Nothing is written before [`Plan::fetch`].

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;

use super::checksum::Checksum;
use super::download::{Job, Meter, Observer, download};
use super::error::Error;
use super::folders::make_folder;
use super::hub::{self, Repository};
use super::hub_cache::Cache;
use super::names::{HubName, Source};
use super::ollama_registry::Manifest;
use super::part::{bytes_to_come, is_there};
use super::selection::{self, Choice};
use super::settings::Settings;
use crate::files::check_room;
use crate::stores::Store;

/// What to fetch of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A GGUF model.
    Model {
        /// Whether the projector of a multimodal model is fetched too.
        projector: bool,
    },
    /// A checkpoint to convert: safetensors, configuration, tokenizer.
    Checkpoint,
}

/// Options of a fetch.
#[derive(Clone, Debug)]
pub struct PullOptions {
    /// What to fetch of a repository.
    pub wanted: Wanted,
    /// A branch, a tag or a commit in place of `main`.
    pub revision: Option<String>,
    /// Bytes of memory that a model may need, if its name has no type.
    pub room: Option<u64>,
}

/// A file of the plan.
#[derive(Clone, Debug)]
pub struct PlannedFile {
    /// Its name for display.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Whether it is on this machine already.
    pub is_here: bool,
    url: String,
    checksum: Checksum,
    target: PathBuf,
}

impl PlannedFile {
    /// Its SHA-256, if the server names it by that.
    #[must_use]
    pub fn sha256(&self) -> Option<&str> {
        match &self.checksum {
            Checksum::Sha256(digits) => Some(digits),
            Checksum::Git(_) => None,
        }
    }
}

/// The files to fetch.
#[derive(Debug)]
pub struct Plan {
    /// The name by which commands find the model.
    pub name: String,
    /// The store in which it is put.
    pub store: Store,
    /// Its files.
    pub files: Vec<PlannedFile>,
    /// Why this model of the repository was chosen.
    pub choice: Choice,
    /// The types of the repository's models.
    pub types: Vec<String>,
    finish: Finish,
}

/// The final steps when all files exist.
#[derive(Debug)]
enum Finish {
    /// Links and a reference in the cache of Hugging Face.
    Hub { cache: Cache, commit: String, reference: Option<String>, links: Vec<(String, String)>, model: Option<String> },
    /// A manifest in Ollama's store.
    Registry(Manifest),
}

impl Plan {
    /// Asks the server for the files of `name`.
    ///
    /// # Errors
    /// When there is no such model, the server refuses, or the program is offline.
    pub fn new(settings: &Settings, name: &str, options: &PullOptions) -> Result<Self, Error> {
        let source = Source::parse(name, &settings.endpoint)?;
        if settings.is_offline {
            return Err(Error::Offline { name: name.to_owned() });
        }
        match source {
            Source::Hub(hub) => Self::of_repository(settings, &hub, options),
            Source::Registry(model) => {
                if options.wanted == Wanted::Checkpoint || options.revision.is_some() {
                    let problem = "checkpoints and revisions are those of repositories (ORG/NAME)";
                    return Err(Error::Name { name: name.to_owned(), problem });
                }
                Ok(Self::of_registry(Manifest::ask(settings, &model)?))
            }
        }
    }

    fn of_repository(settings: &Settings, name: &HubName, options: &PullOptions) -> Result<Self, Error> {
        let root = settings.roots.hugging_face.as_ref().ok_or(Error::NoFolder { variable: "HF_HOME" })?;
        let revision = options.revision.as_deref().or(name.revision.as_deref()).unwrap_or("main");
        let repository = Repository::ask(settings, &name.repository, revision)?;
        let cache = Cache::new(root, &repository.name);
        let mut plan = Self {
            name: repository.name.clone(),
            store: Store::HuggingFace,
            files: Vec::new(),
            choice: Choice::Named,
            types: Vec::new(),
            finish: Finish::Hub {
                cache: cache.clone(),
                commit: repository.commit.clone(),
                reference: (revision != repository.commit).then(|| revision.to_owned()),
                links: Vec::new(),
                model: None,
            },
        };
        let (mut wanted, mut first) = (Vec::new(), None);
        match options.wanted {
            Wanted::Checkpoint => wanted = selection::checkpoint(&repository)?,
            Wanted::Model { projector } => {
                let (model, choice) = selection::model(&repository, name, options.room)?;
                let models = selection::models(&repository);
                plan.types = models.iter().map(|model| model.tag().to_owned()).collect();
                plan.choice = choice;
                plan.name = format!("{}:{}", repository.name, model.tag());
                first = Some(model.path().to_owned());
                wanted.extend(&model.files);
                wanted.extend(selection::projector(&repository, &model).filter(|_| projector));
            }
        }
        for file in &wanted {
            let target = cache.blob(&file.checksum);
            plan.files.push(PlannedFile {
                name: file.path.clone(),
                bytes: file.bytes,
                is_here: is_there(&target, file.bytes),
                url: repository.url(settings, &file.path),
                checksum: file.checksum.clone(),
                target,
            });
        }
        // Files of an earlier commit that are unchanged keep their links.
        let kept =
            |file: &&hub::HubFile| is_there(&cache.blob(&file.checksum), file.bytes) && file.path.ends_with(".gguf");
        let kept = repository.files.iter().filter(kept).filter(|file| !wanted.contains(file));
        let all = wanted.iter().copied().chain(kept);
        if let Finish::Hub { links, model, .. } = &mut plan.finish {
            links.extend(all.map(|file| (file.path.clone(), file.checksum.digits().to_owned())));
            *model = first;
        }
        Ok(plan)
    }

    fn of_registry(manifest: Manifest) -> Self {
        let files = manifest.layers.iter().map(|layer| {
            let target = manifest.blob(&layer.checksum);
            PlannedFile {
                name: layer.name.clone(),
                bytes: layer.bytes,
                is_here: is_there(&target, layer.bytes),
                url: manifest.blob_url(&layer.checksum),
                checksum: layer.checksum.clone(),
                target,
            }
        });
        Self {
            name: manifest.name.clone(),
            store: Store::Ollama,
            files: files.collect(),
            choice: Choice::Named,
            types: Vec::new(),
            finish: Finish::Registry(manifest),
        }
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).fold(0, u64::saturating_add)
    }

    /// Bytes of the files that are not on this machine.
    #[must_use]
    pub fn bytes_to_fetch(&self) -> u64 {
        self.files.iter().filter(|file| !file.is_here).map(|file| file.bytes).fold(0, u64::saturating_add)
    }

    /// Fetches missing files and creates the names under which the model is found. Returns the path of the model, or the folder of
    /// the checkpoint. If it is interrupted, the next call continues.
    ///
    /// # Errors
    /// When the disk has no room, or the server fails or sends wrong bytes; complete files remain.
    pub fn fetch(&self, settings: &Settings, observer: &Observer<'_>) -> Result<PathBuf, Error> {
        self.check_room()?;
        let meter = Meter { done: AtomicU64::new(0), total: self.bytes(), observer };
        for file in &self.files {
            let job = Job {
                name: &file.name,
                url: &file.url,
                bytes: file.bytes,
                checksum: &file.checksum,
                target: &file.target,
            };
            download(&settings.client, &job, &meter).map_err(|error| self.explained(settings, error))?;
        }
        match &self.finish {
            Finish::Registry(manifest) => manifest.write(),
            Finish::Hub { cache, commit, reference, links, model } => {
                for (path, blob) in links {
                    cache.link(commit, path, blob)?;
                }
                if let Some(reference) = reference {
                    cache.write_reference(reference, commit)?;
                }
                let snapshot = cache.snapshot(commit);
                Ok(model.as_ref().map_or_else(|| snapshot.clone(), |model| snapshot.join(model)))
            }
        }
    }

    /// The paths under which the stores find the model, for `rm`.
    #[must_use]
    pub fn entries(&self) -> Vec<PathBuf> {
        match &self.finish {
            Finish::Registry(manifest) => vec![manifest.path()],
            Finish::Hub { cache, commit, .. } => {
                self.files.iter().map(|file| cache.snapshot(commit).join(&file.name)).collect()
            }
        }
    }

    fn explained(&self, settings: &Settings, error: Error) -> Error {
        match &self.finish {
            Finish::Hub { .. } => {
                let repository = self.name.split(':').next().unwrap_or_default();
                hub::explain(settings, repository, error)
            }
            Finish::Registry(manifest) => manifest.explain(error),
        }
    }

    /// Checks that the disk has room, before anything is fetched.
    fn check_room(&self) -> Result<(), Error> {
        let Some(first) = self.files.first() else { return Ok(()) };
        let mut missing: Vec<&PlannedFile> =
            self.files.iter().filter(|file| !is_there(&file.target, file.bytes)).collect();
        // Two names with the same blob are one file.
        missing.sort_by(|a, b| a.target.cmp(&b.target));
        missing.dedup_by(|a, b| a.target == b.target);
        let needed = missing.iter().map(|file| bytes_to_come(&file.target, file.bytes)).fold(0, u64::saturating_add);
        make_folder(&first.target)?;
        if needed > 0 {
            check_room(&first.target, needed)?;
        }
        Ok(())
    }
}
