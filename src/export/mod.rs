//! Exports a GGUF file as a Hugging Face folder, the inverse of [`crate::convert`], for servers that read such folders.
//!
//! [`Export::new`] finds the class, the settings, the tokenizer and the tensors. [`Export::write`] writes the folder without
//! numbers, converts it back and compares the result with the file (`verify.rs`); only then are weights read and written. A model
//! that does not convert back is refused with the name of the key, tensor or token.

mod class;
mod config;
mod error;
mod modules;
mod rope;
mod setting;
mod source;
mod tensors;
mod tokenizer;
mod verify;

use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::Path;

use serde_json::{Map, Value as Json, json};

pub use error::{Error, TensorProblem, TokenizerProblem};

use crate::files::{self, OutputFolder, Overwrite};
use crate::gguf::{Reader, Value};
use crate::safetensors::{Dtype, header_bytes};
use crate::tensor_type::TensorType;
use source::Source;
use tensors::Tensor;

/// The classes that models of this architecture are exported to; none, if they cannot be exported.
#[must_use]
pub fn classes_of(architecture: &str) -> Vec<&'static str> {
    let mut names: Vec<&str> =
        class::classes().filter(|class| class.architecture == architecture).map(|class| class.name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The type of exported weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightType {
    /// Half precision.
    F16,
    /// bfloat16.
    BF16,
    /// Single precision.
    F32,
}

impl WeightType {
    const fn tensor_type(self) -> TensorType {
        match self {
            Self::F16 => TensorType::F16,
            Self::BF16 => TensorType::BF16,
            Self::F32 => TensorType::F32,
        }
    }

    const fn dtype(self) -> Dtype {
        match self {
            Self::F16 => Dtype::F16,
            Self::BF16 => Dtype::BF16,
            Self::F32 => Dtype::F32,
        }
    }
}

/// Bytes of tensors that a file of a checkpoint holds at most, as transformers splits them.
const USUAL_FILE_BYTES: u64 = 5_000_000_000;

/// Options of an export.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Type of the weights; `None` for that of the file's matrices, or half precision if they are quantized.
    pub weight_type: Option<WeightType>,
    /// Maximum bytes of tensors in a file, unless a single tensor is larger.
    pub max_file_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { weight_type: None, max_file_bytes: USUAL_FILE_BYTES }
    }
}

/// A model that is ready to be written as a Hugging Face folder.
pub struct Export<'a> {
    source: Source<'a>,
    class: &'static str,
    weight_type: WeightType,
    /// The files without weights: paths and contents.
    files: Vec<(String, Vec<u8>)>,
    tensors: Vec<Tensor<'a>>,
    /// Names of the files with weights, and their tensors.
    shards: Vec<(String, Range<usize>)>,
}

impl<'a> Export<'a> {
    /// Prepares the folder for an opened model. Weights are not read.
    ///
    /// # Errors
    /// When the model cannot be run, its architecture cannot be exported, or something in it cannot be expressed in a checkpoint.
    pub fn new(reader: &'a Reader, options: &Options) -> Result<Self, Error> {
        let source = Source::new(reader)?;
        let class = config::class(&source)?;
        let weight_type = options.weight_type.unwrap_or_else(|| usual_type(&source));
        let config = config::config(&source, class, weight_type.tensor_type())?;
        let tensors = tensors::plan(&source, class)?;
        let shards = shards(&tensors, weight_type, options.max_file_bytes);
        let tokenizer =
            tokenizer::tokenizer_json(&source).map_err(|problem| Error::Tokenizer { path: source.path(), problem })?;
        let mut files = vec![
            ("config.json".to_owned(), pretty(&config.into())),
            ("tokenizer.json".to_owned(), tokenizer.to_string().into_bytes()),
            ("tokenizer_config.json".to_owned(), pretty(&tokenizer::tokenizer_config(&source))),
        ];
        if source.spec.logits {
            files.push(("generation_config.json".to_owned(), pretty(&generation_config(&source))));
        }
        let of_modules = modules::files(&source).into_iter().map(|(path, json)| (path, pretty(&json)));
        files.extend(of_modules);
        if shards.iter().filter(|(name, _)| modules::folder(name).is_none()).count() > 1 {
            files.push(("model.safetensors.index.json".to_owned(), pretty(&index(&tensors, &shards, weight_type))));
        }
        Ok(Self { source, class: class.name, weight_type, files, tensors, shards })
    }

    /// Name of the class in transformers.
    #[must_use]
    pub fn class(&self) -> &'static str {
        self.class
    }

    /// Number of the file's layers that predict further tokens (MTP), which are left out.
    #[must_use]
    pub fn predicting_layers(&self) -> usize {
        self.source.header.hparams.next_n
    }

    /// Type of the weights.
    #[must_use]
    pub fn weight_type(&self) -> WeightType {
        self.weight_type
    }

    /// Number of the checkpoint's tensors.
    #[must_use]
    pub fn tensor_count(&self) -> usize {
        self.tensors.len()
    }

    /// Number of the files with weights.
    #[must_use]
    pub fn file_count(&self) -> usize {
        self.shards.len()
    }

    /// Bytes of all tensors.
    #[must_use]
    pub fn tensor_bytes(&self) -> u64 {
        bytes(&self.tensors, self.weight_type)
    }

    /// Writes the folder. `progress` is called with the bytes of weights written, and stops the work by returning false. Then, and
    /// after an error, nothing is left.
    ///
    /// # Errors
    /// When the folder may not be written to or has no room, the export would not convert back to the file, or a file cannot be
    /// read or written.
    pub fn write(&self, folder: &Path, overwrite: Overwrite<'_>, progress: &dyn Fn(u64) -> bool) -> Result<(), Error> {
        self.check_folder(folder, overwrite)?;
        let output = OutputFolder::create(folder, overwrite)?;
        files::check_room(&output.path().join("config.json"), self.tensor_bytes())?;
        for (name, contents) in &self.files {
            let path = output.path().join(name);
            let folder = path.parent().unwrap_or_else(|| output.path());
            let written = fs::create_dir_all(folder).and_then(|()| File::create(&path)).and_then(|mut file| {
                file.write_all(contents)?;
                file.sync_all()
            });
            written.map_err(|source| Error::Write { path, source })?;
        }
        for (name, range) in &self.shards {
            self.begin(&output.path().join(name), &self.tensors[range.clone()])?;
        }
        verify::check(&self.source, self.class, output.path())?;
        let mut done = 0;
        for (name, range) in &self.shards {
            let mut report = |bytes: usize| {
                done += bytes as u64;
                progress(done)
            };
            self.fill(&output.path().join(name), &self.tensors[range.clone()], &mut report)?;
        }
        Ok(output.commit()?)
    }

    /// Checks the folder: it must not have files that may not be replaced, or other files that would be read as part of the
    /// checkpoint.
    fn check_folder(&self, folder: &Path, overwrite: Overwrite<'_>) -> Result<(), Error> {
        const OTHERS: [&str; 7] = [
            "tokenizer.model",
            "tekken.json",
            "added_tokens.json",
            "special_tokens_map.json",
            "chat_template.jinja",
            "chat_template.json",
            "params.json",
        ];
        let own = |name: &str| {
            self.files.iter().any(|(own, _)| own == name) || self.shards.iter().any(|(own, _)| own == name)
        };
        if let Overwrite::Refuse = overwrite {
            // A folder that is not empty is refused in any case.
            return Ok(());
        }
        let weights = |name: &str| name.contains(".safetensors") || name.ends_with(".bin");
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if own(&name) {
                files::check_target(&folder.join(&name), overwrite)?;
            } else if weights(&name) || OTHERS.contains(&name.as_str()) {
                return Err(Error::OtherCheckpoint { path: folder.to_owned(), name });
            }
        }
        Ok(())
    }

    /// Creates a file with its header and room for its tensors.
    fn begin(&self, path: &Path, tensors: &[Tensor<'_>]) -> Result<(), Error> {
        let failed = |source| Error::Write { path: path.to_owned(), source };
        let mut file = File::create(path).map_err(failed)?;
        let header = self.header(tensors);
        let size = header.len() as u64 + bytes(tensors, self.weight_type);
        files::reserve(&file, path, size)?;
        file.set_len(size).and_then(|()| file.write_all(&header)).map_err(failed)?;
        // What becomes a key again is read when the folder is converted back.
        let mut at = header.len() as u64;
        for tensor in tensors {
            if tensor.is_of_keys() {
                file.seek(SeekFrom::Start(at)).map_err(failed)?;
                let ty = self.weight_type.tensor_type();
                tensor.make(&self.source, ty, &mut |bytes| file.write_all(bytes).map_err(failed))?;
            }
            at += tensor.elements() * self.weight_type.dtype().bytes();
        }
        Ok(())
    }

    fn header(&self, tensors: &[Tensor<'_>]) -> Vec<u8> {
        header_bytes(
            tensors.iter().map(|tensor| (modules::name(&tensor.name), &tensor.shape[..])),
            self.weight_type.dtype(),
        )
    }

    /// Writes the numbers of a file's tensors.
    fn fill(&self, path: &Path, tensors: &[Tensor<'_>], report: &mut dyn FnMut(usize) -> bool) -> Result<(), Error> {
        let failed = |source| Error::Write { path: path.to_owned(), source };
        let mut file = OpenOptions::new().write(true).open(path).map_err(failed)?;
        file.seek(SeekFrom::Start(self.header(tensors).len() as u64)).map_err(failed)?;
        for tensor in tensors {
            tensor.make(&self.source, self.weight_type.tensor_type(), &mut |bytes| {
                file.write_all(bytes).map_err(failed)?;
                if report(bytes.len()) { Ok(()) } else { Err(Error::Stopped) }
            })?;
        }
        file.sync_all().map_err(failed)
    }
}

fn bytes(tensors: &[Tensor<'_>], ty: WeightType) -> u64 {
    tensors.iter().map(|tensor| tensor.elements() * ty.dtype().bytes()).sum()
}

/// The type of most numbers in the file's matrices, if that is a plain type.
fn usual_type(source: &Source<'_>) -> WeightType {
    let of = |ty| {
        let matrices = source.header.tensors.iter().filter(|(_, tensor)| tensor.ty == ty && tensor.shape.len() > 1);
        matrices.map(|(_, tensor)| tensor.elements()).sum::<u64>()
    };
    let all: u64 = source.header.tensors.iter().map(|(_, tensor)| tensor.elements()).sum();
    let most = |ty| of(ty) > all / 2;
    if most(TensorType::F32) {
        WeightType::F32
    } else if most(TensorType::BF16) {
        WeightType::BF16
    } else {
        WeightType::F16
    }
}

/// The tensors of each file: as many as fit, in their order; each module behind the model has a file of its own.
fn shards(tensors: &[Tensor<'_>], ty: WeightType, most: u64) -> Vec<(String, Range<usize>)> {
    let own = tensors.iter().position(|tensor| modules::folder(&tensor.name).is_some()).unwrap_or(tensors.len());
    let of_modules = (own..)
        .zip(&tensors[own..])
        .filter_map(|(i, tensor)| Some((format!("{}/model.safetensors", modules::folder(&tensor.name)?), i..i + 1)));
    let mut shards = shards_of_model(&tensors[..own], ty, most);
    shards.extend(of_modules);
    shards
}

fn shards_of_model(tensors: &[Tensor<'_>], ty: WeightType, most: u64) -> Vec<(String, Range<usize>)> {
    let mut starts = vec![0];
    let mut held = 0;
    for (i, tensor) in tensors.iter().enumerate() {
        let size = tensor.elements() * ty.dtype().bytes();
        if held > 0 && held + size > most {
            starts.push(i);
            held = 0;
        }
        held += size;
    }
    let ends = starts.iter().skip(1).copied().chain([tensors.len()]);
    let count = starts.len();
    let name = |i: usize| match count {
        1 => "model.safetensors".to_owned(),
        _ => format!("model-{:05}-of-{count:05}.safetensors", i + 1),
    };
    starts.iter().zip(ends).enumerate().map(|(i, (&start, end))| (name(i), start..end)).collect()
}

/// The index: which tensor is in which file.
fn index(tensors: &[Tensor<'_>], shards: &[(String, Range<usize>)], ty: WeightType) -> Json {
    let of_file = |(file, range): &(String, Range<usize>)| {
        let file = file.clone();
        tensors[range.clone()]
            .iter()
            .map(move |tensor| (tensor.name.clone(), Json::from(file.clone())))
            .collect::<Vec<_>>()
    };
    let of_model = shards.iter().filter(|(name, _)| modules::folder(name).is_none());
    let map: Map<String, Json> = of_model.flat_map(of_file).collect();
    json!({ "metadata": { "total_size": bytes(tensors, ty) }, "weight_map": map })
}

/// The settings of generation that the file recommends, and the tokens that end one.
fn generation_config(source: &Source<'_>) -> Json {
    let special = source.special();
    let ends = source.tokenizer.end_tokens();
    let mut config =
        json!({ "bos_token_id": special.bos, "eos_token_id": special.eos, "pad_token_id": special.padding });
    if ends.len() > 1 {
        // EOS comes first.
        let first = special.eos.filter(|id| ends.contains(id));
        let others = ends.iter().copied().filter(|id| Some(*id) != first);
        config["eos_token_id"] = first.into_iter().chain(others).collect();
    }
    for (name, key) in [
        ("temperature", "temp"),
        ("top_k", "top_k"),
        ("top_p", "top_p"),
        ("min_p", "min_p"),
        ("repetition_penalty", "penalty_repeat"),
    ] {
        let value = match source.header.metadata.get(&format!("general.sampling.{key}")) {
            Some(Value::F32(number)) => source::float(*number),
            Some(value) => value.as_i64().into(),
            None => continue,
        };
        config[name] = value;
        config["do_sample"] = true.into();
    }
    config
}

fn pretty(json: &Json) -> Vec<u8> {
    format!("{json:#}\n").into_bytes()
}
