//! From a Hugging Face folder to a GGUF file.
//!
//! [`Conversion::new`] checks everything that can be checked before a weight is read: configuration, tokenizer, and
//! every tensor's name, shape and type. What comes out of it is a [`Source`]: it is written as it is, or quantized
//! on its way.

mod error;
mod folder;
mod general;
mod layout;
mod model_card;
mod model_name;
mod part;
mod pre_tokenizer;
mod sentencepiece;
mod stored;
mod tensors;
mod tokenizer;

use std::path::{Path, PathBuf};

pub use error::{Error, TokenizerProblem};
pub use folder::Folder;

use crate::arch::{self, Config, Hparams, Keys};
use crate::gguf::{Metadata, TensorSpec, Value, keys};
use crate::input_file::FileId;
use crate::quantize::{self, FileType, Plan, Progress, Source};
use crate::safetensors::{Checkpoint, Dtype};
use tensors::{Making, Target};

/// The type that weights are converted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OutputType {
    /// Single precision.
    F32,
    /// Half precision: byte for byte the reference's file, which also adds to half-precision weights in half precision.
    F16,
    /// bfloat16.
    BF16,
    /// Half precision for a checkpoint that begins with it, else bfloat16; sums are not rounded to it.
    #[default]
    Auto,
}

/// Wishes for a conversion.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Type of the weights.
    pub output_type: OutputType,
    /// Name of the model, in place of what the folder tells.
    pub name: Option<String>,
    /// Name of the pre-tokenizer, in place of the recognized one.
    pub pre: Option<String>,
}

/// A checked checkpoint, ready to be read as the tensors of a GGUF file.
pub struct Conversion {
    folder: Folder,
    path: PathBuf,
    checkpoint: Checkpoint,
    metadata: Metadata,
    specs: Vec<TensorSpec>,
    making: Vec<Making>,
    class: String,
    skipped: usize,
}

impl Conversion {
    /// Checks the checkpoint in `folder` and plans its conversion. No weight is read.
    ///
    /// # Errors
    /// When a file is missing or not valid, the model's class is not known, or its tensors are not the ones that its
    /// configuration asks for.
    pub fn new(folder: Folder, options: &Options) -> Result<Self, Error> {
        let config_path = folder.path("config.json");
        let json = folder.json("config.json")?.ok_or_else(|| Error::MissingFile { path: config_path.clone() })?;
        let failed = |source| Error::Architecture { path: folder.path(""), source };
        let config = Config::new(json).map_err(failed)?;
        let family = arch::by_class(config.class()).map_err(failed)?;
        let checkpoint = folder.checkpoint()?;
        let file_type = match options.output_type {
            OutputType::F32 => FileType::F32,
            OutputType::F16 => FileType::F16,
            OutputType::BF16 => FileType::BF16,
            OutputType::Auto => match checkpoint.tensors().first().map(|tensor| tensor.dtype) {
                Some(Dtype::F16) => FileType::F16,
                _ => FileType::BF16,
            },
        };
        let mut own = Metadata::new();
        own.set(keys::GENERAL_ARCHITECTURE, family.name());
        let mut own = Keys::new(family.name(), own, file_type.id());
        family.keys(&config, &mut own).map_err(failed)?;
        let own = own.finish();
        let mut tokens = Metadata::new();
        tokenizer::write(&folder, &config, &family.token_keys(&config), options.pre.as_deref(), &mut tokens)?;
        let described: Metadata =
            own.iter().chain(tokens.iter()).map(|(key, value)| (key.to_owned(), value.clone())).collect();
        let hparams = Hparams::from_metadata(&described).map_err(failed)?;
        let rules = family.tensors(&hparams).map_err(failed)?;
        let target = Target { file_type, half_sums: options.output_type == OutputType::F16 };
        let made = tensors::plan(&folder.path(""), &config, &hparams, &checkpoint, &rules, target)?;
        let specs: Vec<TensorSpec> = made.making.iter().map(|making| making.spec.clone()).collect();
        let mut metadata = Metadata::new();
        general::write(&folder, family.name(), options.name.as_deref(), &specs, &mut metadata)?;
        for (key, value) in own.iter().filter(|(key, _)| *key != keys::GENERAL_ARCHITECTURE) {
            metadata.set(key, value.clone());
        }
        metadata.set(keys::GENERAL_QUANTIZATION_VERSION, Value::U32(2));
        for (key, value) in tokens.iter() {
            metadata.set(key, value.clone());
        }
        let path = folder.path("");
        let class = config.class().to_owned();
        Ok(Self { folder, path, checkpoint, metadata, specs, making: made.making, class, skipped: made.skipped })
    }

    /// The checkpoint's class.
    #[must_use]
    pub fn class(&self) -> &str {
        &self.class
    }

    /// Tensors of the checkpoint that are no part of the text model and are left out.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// Bytes of the checkpoint's tensors.
    #[must_use]
    pub fn checkpoint_bytes(&self) -> u64 {
        self.checkpoint.bytes()
    }

    /// The plan to write it as it is.
    ///
    /// # Errors
    /// When metadata or tensors cannot stand in a file.
    pub fn plan(&self) -> Result<Plan, Error> {
        let options = quantize::Options { copy: true, ..quantize::Options::new(FileType::F16) };
        Ok(Plan::new(self, &options)?)
    }

    /// Writes `plan` to `path`, and returns the bytes of the file. `progress` is told of every few slabs, and stops the
    /// work by returning false.
    ///
    /// # Errors
    /// When the checkpoint cannot be read or has changed, or the output cannot be written.
    pub fn write(
        &self,
        plan: &Plan,
        path: &Path,
        force: bool,
        progress: &(dyn Fn(Progress) -> bool + Sync),
    ) -> Result<u64, Error> {
        Ok(quantize::run(self, plan, path, force, progress)?)
    }
}

impl Source for Conversion {
    fn path(&self) -> &Path {
        &self.path
    }

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn tensors(&self) -> &[TensorSpec] {
        &self.specs
    }

    fn read(&self, tensor: usize, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), quantize::Error> {
        self.making[tensor]
            .read(&self.checkpoint, offset_bytes, buffer)
            .map_err(|source| quantize::Error::Source(Box::new(source)))
    }

    fn check_unchanged(&self) -> Result<(), quantize::Error> {
        self.checkpoint.check_unchanged().map_err(|source| quantize::Error::Source(Box::new(source)))
    }

    fn file_ids(&self) -> Vec<FileId> {
        let others = ["config.json", "tokenizer.model", "tokenizer.json", "tokenizer_config.json"];
        let others = others.iter().filter_map(|name| self.folder.file_id(name));
        self.checkpoint.file_ids().into_iter().chain(others).collect()
    }
}
