//! Converts a Hugging Face folder to a GGUF file.
//!
//! [`Conversion::new`] checks everything that can be checked before a weight is read: configuration, tokenizer, and
//! every tensor's name, shape and type. The result is a [`Source`], which is written as it is, or quantized in the same
//! pass.

mod adapter;
mod added_tokens;
pub(crate) mod base64;
mod chat_templates;
mod error;
mod folder;
mod general;
mod layer_numbers;
pub(crate) mod layout;
mod metaspace;
mod mistral;
mod model_card;
mod model_name;
mod names;
mod part;
mod planned;
mod pooling;
mod pre_tokenizer;
mod sentencepiece;
mod special_tokens;
mod stored;
mod tekken;
mod tensors;
mod tiktoken;
mod tokenizer;
mod tokenizer_file;
mod tokenizer_json;
mod vocab_files;
mod vocabulary;

use std::cell::OnceCell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

pub use adapter::AdapterConversion;
pub use error::{AdapterProblem, Error, TokenizerProblem};
pub use folder::Folder;

use crate::arch::{self, Config, Hparams, Keys};
use crate::files::FileId;
use crate::gguf::{Metadata, TensorSpec, Value, keys};
use crate::model::tokenizer::from_metadata;
use crate::network::ModelSpec;
use crate::quantize::{self, FileType, Outcome, Plan, Progress, RunOptions, Source};
use crate::safetensors::{Checkpoint, Dtype};
use crate::tokenizer::Tokenizer;
use planned::Planned;
use tensors::{OutputTensor, Target};

/// The type that weights are converted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OutputType {
    /// Single precision.
    F32,
    /// Half precision: byte for byte the file of the reference, which also adds to half-precision weights in half precision.
    F16,
    /// bfloat16.
    BF16,
    /// Half precision for a checkpoint whose first tensor has it, else bfloat16; sums are not rounded to it.
    #[default]
    Auto,
    /// The smallest type that represents all weights exactly: for a file that is quantized in the same pass.
    Exact,
}

/// The setting with the number of tokens.
const VOCAB_SIZE: &str = "vocab_size";

/// The value of `format` in the headers of MLX's files.
const MLX: &str = "mlx";

/// Options of a conversion.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Type of the weights.
    pub output_type: OutputType,
    /// Name of the model, in place of the one from the folder.
    pub name: Option<String>,
    /// Whether MTP layers are left out where the reference converter keeps them.
    pub no_mtp: bool,
    /// Name of the pre-tokenizer, in place of the recognized one.
    pub pre: Option<String>,
}

/// The tokenizer of the checkpoint in `folder`, as a converted file would have it; the weights need not exist. `pre` names a
/// pre-tokenizer, which is otherwise recognized.
///
/// ```
/// use gguf_toolkit::convert::{Folder, tokenizer};
/// use gguf_toolkit::tokenizer::EncodeOptions;
///
/// let tokenizer = tokenizer(&Folder::open("testdata/storyteller".as_ref())?, None)?;
/// let tokens = tokenizer.encode("Once upon a time", EncodeOptions { add_special: true, parse_special: false })?;
/// assert_eq!(tokenizer.decode(&tokens, false), "Once upon a time");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// When a file is missing or not valid, or the tokenizer cannot be converted.
pub fn tokenizer(folder: &Folder, pre: Option<&str>) -> Result<Tokenizer, Error> {
    let json = folder.config()?;
    let config = Config::new(json).map_err(|source| Error::Architecture { path: folder.path(""), source })?;
    // The tokenizer of a model that cannot be converted may well be a usual one.
    let family = arch::by_config(&config).ok();
    let changes = family.map(|family| family.token_keys(&config)).unwrap_or_default();
    let mut metadata = Metadata::new();
    tokenizer::write(folder, &config, &changes, pre, &mut metadata)?.write_flags("", &mut metadata);
    from_metadata(&metadata).map_err(|source| Error::Vocabulary { path: folder.path(""), source })
}

/// A checked checkpoint, ready to be read as the tensors of a GGUF file.
pub struct Conversion {
    folder: Folder,
    path: PathBuf,
    checkpoint: Checkpoint,
    metadata: Metadata,
    specs: Vec<TensorSpec>,
    outputs: Vec<OutputTensor>,
    class: String,
    skipped: usize,
    predicting: usize,
    predicting_blocks: usize,
    read: Vec<String>,
    not_read: Vec<String>,
    unnamed_ends: Vec<String>,
    tokens_left_out: Vec<String>,
    text_part: bool,
    spec: ModelSpec,
}

impl Conversion {
    /// Checks the checkpoint in `folder` and plans its conversion. No weight is read, but for the few that become keys.
    ///
    /// # Errors
    /// When a file is missing or not valid, the model's class is not known, or its tensors do not match its configuration.
    pub fn new(folder: Folder, options: &Options) -> Result<Self, Error> {
        let json = folder.config()?;
        let mut config = Config::new(json).map_err(|source| Error::Architecture { path: folder.path(""), source })?;
        Self::of(folder, options, &mut config).map_err(|error| error.assuming(&config))
    }

    /// The conversion of a checkpoint with these settings.
    fn of(folder: Folder, options: &Options, config: &mut Config) -> Result<Self, Error> {
        let failed = |source| Error::Architecture { path: folder.path(""), source: arch::by_setting(source) };
        let family = arch::by_config(config).map_err(failed)?;
        let dense = pooling::dense(&folder)?;
        let mut checkpoint = folder.checkpoint()?;
        for (path, _) in &dense {
            checkpoint = checkpoint.join(&format!("{path}."), folder.checkpoint_of(path)?);
        }
        // Before a text is made for each token.
        let rows = checkpoint.tensors().iter().filter_map(|tensor| tensor.shape.first()).max().copied().unwrap_or(0);
        if config.count(&[VOCAB_SIZE]).map_err(failed)?.is_some_and(|tokens| tokens as u64 > rows) {
            return Err(failed(config.bad(VOCAB_SIZE, "no more than the rows of the largest tensor")));
        }
        // Few families need them.
        let names: OnceCell<HashSet<String>> = OnceCell::new();
        let all = || checkpoint.tensors().iter().filter_map(|tensor| names::text_name(&tensor.name)).collect();
        let has = |name: &str| names.get_or_init(all).contains(name);
        let predicting = family.predicting_blocks(config, &has).map_err(failed)?;
        config.set_pooling(pooling::pooling(&folder, config.class())?);
        config.set_dense(dense.iter().map(|(_, module)| *module).collect());
        config.set_predicting_blocks((!options.no_mtp).then_some(predicting));
        let file_type = match options.output_type {
            OutputType::F32 => FileType::F32,
            OutputType::F16 => FileType::F16,
            OutputType::BF16 => FileType::BF16,
            OutputType::Exact => tensors::exact_type(&checkpoint),
            OutputType::Auto => match checkpoint.tensors().first().map(|tensor| tensor.dtype) {
                Some(Dtype::F16) => FileType::F16,
                _ => FileType::BF16,
            },
        };
        let mut own = Metadata::new();
        own.set(keys::GENERAL_ARCHITECTURE, family.name());
        let mut own = Keys::new(family.name(), own, file_type.id());
        family.keys(config, &mut own).map_err(failed)?;
        let mut ahead = own.ahead().clone();
        layer_numbers::read(&folder.path(""), family, config, &checkpoint, &mut ahead)?;
        let own = own.finish();
        let mut tokens = Metadata::new();
        let changes = family.token_keys(config);
        let written = tokenizer::write(&folder, config, &changes, options.pre.as_deref(), &mut tokens)?;
        let described: Metadata = own
            .iter()
            .chain(ahead.iter())
            .chain(tokens.iter())
            .map(|(key, value)| (key.to_owned(), value.clone()))
            .collect();
        let hparams = Hparams::from_metadata(&described).map_err(failed)?;
        let rules = family.tensors(&hparams).map_err(failed)?;
        if let Some((path, _)) = dense.first().filter(|_| !config.has_read_dense()) {
            let expected = "none: this family's files have no place for it";
            let (name, found) = ("modules.json".to_owned(), path.clone());
            return Err(failed(arch::Error::BadSetting { name, found, expected }));
        }
        let not_read = arch::check_settings(config, family.settings(), &rules).map_err(failed)?;
        let norms_added = family.mlx_adds_to_norms() && checkpoint.format() == Some(MLX);
        let half_sums = options.output_type != OutputType::Auto && file_type == FileType::F16;
        let target = Target { file_type, half_sums, norms_added, pairs: false };
        let planned = tensors::plan(&folder.path(""), config, &hparams, &checkpoint, &rules, target)?;
        config.check_kinds().map_err(failed)?;
        let specs: Vec<TensorSpec> = planned.tensors.iter().map(|tensor| tensor.spec.clone()).collect();
        let mut metadata = Metadata::new();
        metadata.set(keys::GENERAL_ARCHITECTURE, family.name());
        for (key, value) in ahead.iter() {
            metadata.set(key, value.clone());
        }
        general::write(&folder, options.name.as_deref(), &specs, &mut metadata)?;
        for (key, value) in own.iter().filter(|(key, _)| *key != keys::GENERAL_ARCHITECTURE) {
            metadata.set(key, value.clone());
        }
        metadata.set(keys::GENERAL_QUANTIZATION_VERSION, Value::U32(2));
        for (key, value) in tokens.iter() {
            metadata.set(key, value.clone());
        }
        let name = metadata.get(keys::GENERAL_NAME).and_then(Value::as_str).unwrap_or_default().to_owned();
        written.write_flags(&name, &mut metadata);
        // A model that can be converted can be run.
        let known: Vec<(&str, &[f32])> =
            planned.tensors.iter().filter_map(|tensor| Some((tensor.spec.name.as_str(), tensor.values()?))).collect();
        let spec = family.spec(&hparams, &Planned { specs: &specs, known: &known }).map_err(failed)?;
        from_metadata(&metadata).map_err(|source| Error::Vocabulary { path: folder.path(""), source })?;
        let path = folder.path("");
        let class = config.class().to_owned();
        Ok(Self {
            folder,
            path,
            checkpoint,
            metadata,
            specs,
            outputs: planned.tensors,
            class,
            skipped: planned.skipped,
            predicting: planned.predicting,
            predicting_blocks: hparams.next_n,
            read: config.names_read(),
            not_read,
            unnamed_ends: written.unnamed_ends,
            tokens_left_out: written.left_out.into_iter().map(|(_, text)| text).collect(),
            text_part: config.has_other_parts(),
            spec,
        })
    }

    /// The network that the file will describe.
    pub(crate) fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Whether the checkpoint is a multimodal model, of which the text part is converted.
    #[must_use]
    pub fn is_text_part(&self) -> bool {
        self.text_part
    }

    /// Texts of end tokens in the checkpoint's settings for which the file has no key.
    #[must_use]
    pub fn unnamed_ends(&self) -> &[String] {
        &self.unnamed_ends
    }

    /// Texts of tokens that are left out because the model has no row for them.
    #[must_use]
    pub fn tokens_left_out(&self) -> &[String] {
        &self.tokens_left_out
    }

    /// The checkpoint's class.
    #[must_use]
    pub fn class(&self) -> &str {
        &self.class
    }

    /// Tensors of the checkpoint that are left out because they are not part of the text model.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// Tensors of MTP layers that are left out, as in the reference.
    #[must_use]
    pub fn predicting_left_out(&self) -> usize {
        self.predicting
    }

    /// Number of MTP layers in the file; the engine does not run them.
    #[must_use]
    pub fn predicting_blocks(&self) -> usize {
        self.predicting_blocks
    }

    /// Settings of `config.json` that were read; those of the rotary embedding are named `rope_parameters.NAME`.
    #[must_use]
    pub fn settings_read(&self) -> &[String] {
        &self.read
    }

    /// Settings of `config.json` that are neither read nor known to change nothing.
    #[must_use]
    pub fn settings_not_read(&self) -> &[String] {
        &self.not_read
    }

    /// Bytes of the checkpoint's tensors.
    #[must_use]
    pub fn checkpoint_bytes(&self) -> u64 {
        self.checkpoint.bytes()
    }

    /// The plan for writing it without quantizing, with some keys set.
    ///
    /// # Errors
    /// When metadata or tensors cannot be stored in a file.
    pub fn plan(&self, override_kv: &[(String, Value)]) -> Result<Plan, Error> {
        let override_kv = override_kv.to_vec();
        let options = quantize::Options { copy: true, override_kv, ..quantize::Options::new(FileType::F16) };
        Ok(Plan::new(self, &options)?)
    }

    /// Writes `plan` to `path`. `progress` is called after every slab, and stops the work by returning false.
    ///
    /// # Errors
    /// When the checkpoint cannot be read or has changed, or the output cannot be written.
    pub fn write(
        &self,
        plan: &Plan,
        path: &Path,
        options: &RunOptions,
        progress: &dyn Fn(Progress) -> bool,
    ) -> Result<Outcome, Error> {
        Ok(quantize::run(self, plan, path, options, progress)?)
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

    fn granule(&self, tensor: usize) -> u64 {
        self.outputs[tensor].granule()
    }

    fn scratch_bytes(&self, tensor: usize, elements: u64) -> u64 {
        self.outputs[tensor].scratch_bytes(elements)
    }

    fn read(&self, tensor: usize, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), quantize::Error> {
        self.outputs[tensor]
            .read(&self.checkpoint, offset_bytes, buffer)
            .map_err(|source| quantize::Error::Source(Box::new(source)))
    }

    fn check_unchanged(&self) -> Result<(), quantize::Error> {
        self.checkpoint.check_unchanged().map_err(|source| quantize::Error::Source(Box::new(source)))
    }

    fn file_ids(&self) -> Vec<FileId> {
        self.checkpoint.file_ids().into_iter().chain(self.folder.opened()).collect()
    }
}
