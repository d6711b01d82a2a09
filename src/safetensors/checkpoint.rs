//! Opened checkpoints: the tensors of one file, or of all shards that an index names.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::dtype::Dtype;
use super::error::{Error, FormatError, IndexProblem};
use super::header::{self, Entry, Header, LENGTH_BYTES};
use super::index::{Index, MAX_INDEX_BYTES};
use crate::bytes::Bytes;
use crate::files::{FileError, FileId, Input, InputFile};

/// Prefixes of the names of a checkpoint's file and its index; the first that exists is used.
const STEMS: [&str; 2] = ["model", "consolidated"];

/// What a header says about one tensor, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name, unique in the checkpoint.
    pub name: String,
    /// How the elements are stored.
    pub dtype: Dtype,
    /// Dimensions in the checkpoint's order: the slowest-running one (rows) first.
    pub shape: Vec<u64>,
    bytes: u64,
    start: u64,
    file: usize,
}

impl TensorInfo {
    /// Number of elements.
    #[must_use]
    pub fn elements(&self) -> u64 {
        self.bytes.checked_div(self.dtype.bytes()).unwrap_or(0)
    }

    /// Bytes of the data.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// An opened checkpoint whose headers have been checked. Data are read by position; nothing is mapped.
#[derive(Debug)]
pub struct Checkpoint {
    files: Vec<Input>,
    /// Sorted by name.
    tensors: Vec<TensorInfo>,
    /// The framework that wrote the first file.
    format: Option<String>,
    /// Identity of the index.
    index: Option<FileId>,
}

impl Checkpoint {
    /// Opens the checkpoint in `folder`: `model.safetensors`, or else the shards of `model.safetensors.index.json`; without
    /// these Mistral's own form, `consolidated.safetensors` or the shards of `consolidated.safetensors.index.json`. Other
    /// files are ignored (adapters). `folder` may also be the path of one `.safetensors` file.
    ///
    /// # Errors
    /// When there is no checkpoint, a file cannot be read or is not valid, or index and shards do not match.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        if !folder.is_dir() {
            return Self::assemble(vec![open_input(folder)?]);
        }
        for stem in STEMS {
            let single = folder.join(format!("{stem}.safetensors"));
            if fs::symlink_metadata(&single).is_ok() {
                return Self::assemble(vec![open_input(&single)?]);
            }
            let index = folder.join(format!("{stem}.safetensors.index.json"));
            if fs::symlink_metadata(&index).is_ok() {
                return Self::open_index(folder, &index);
            }
        }
        Err(Error::NoCheckpoint { folder: folder.into(), hint: instead(folder) })
    }

    /// Opens a checkpoint of one file in memory. `name` is used for it in messages.
    ///
    /// # Errors
    /// When the bytes are not a valid safetensors file.
    pub fn from_bytes(name: &str, bytes: Bytes) -> Result<Self, Error> {
        Self::assemble(vec![Input::Memory { name: name.into(), bytes }])
    }

    /// With the tensors of `other`, which have `prefix` before their names; its files come behind these.
    #[must_use]
    pub fn join(mut self, prefix: &str, other: Self) -> Self {
        let first = self.files.len();
        self.tensors.extend(other.tensors.into_iter().map(|tensor| TensorInfo {
            name: format!("{prefix}{}", tensor.name),
            file: tensor.file.saturating_add(first),
            ..tensor
        }));
        self.files.extend(other.files);
        self.tensors.sort_by(|a, b| (&a.name, a.file).cmp(&(&b.name, b.file)));
        self
    }

    fn open_index(folder: &Path, path: &Path) -> Result<Self, Error> {
        let fail = |problem| Error::Index { path: path.into(), problem };
        let file = InputFile::open(path)?;
        let id = file.id();
        let json = file.read_all(MAX_INDEX_BYTES)?;
        let index = Index::parse(&json).map_err(fail)?;
        let names = index.shards();
        let mut files = Vec::with_capacity(names.len());
        for &name in &names {
            let file = open_input(&folder.join(name)).map_err(|error| match error {
                FileError::Open { source, .. } if source.kind() == ErrorKind::NotFound => {
                    fail(IndexProblem::ShardMissing(name.to_owned()))
                }
                other => other.into(),
            })?;
            files.push(file);
        }
        let checkpoint = Self { index: Some(id), ..Self::assemble(files)? };
        let names: Vec<&str> = names.into_iter().collect();
        let shard = |tensor: &TensorInfo| names.get(tensor.file).copied().unwrap_or_default();
        let found: Vec<(&str, &str)> =
            checkpoint.tensors.iter().map(|tensor| (tensor.name.as_str(), shard(tensor))).collect();
        index.check(path, &found)?;
        Ok(checkpoint)
    }

    fn assemble(files: Vec<Input>) -> Result<Self, Error> {
        let (mut tensors, mut format) = (Vec::new(), None);
        for (file, opened) in files.iter().enumerate() {
            let header = header_of(opened)?;
            format = format.or(header.format);
            tensors.extend(header.tensors.into_iter().map(|entry| {
                let Entry { name, dtype, shape, start, bytes } = entry;
                TensorInfo { name, dtype, shape, bytes, start, file }
            }));
        }
        tensors.sort_by(|a: &TensorInfo, b| (&a.name, a.file).cmp(&(&b.name, b.file)));
        Ok(Self { files, tensors, format, index: None })
    }

    /// All tensors, sorted by name.
    #[must_use]
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor called `name`.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let place = self.tensors.binary_search_by(|tensor| tensor.name.as_str().cmp(name)).ok()?;
        self.tensors.get(place)
    }

    /// The number of the file with a tensor. Files are counted from 0 in the order of their names.
    #[must_use]
    pub const fn file_number(&self, tensor: &TensorInfo) -> usize {
        tensor.file
    }

    /// The framework that wrote the files, if they say so (`pt`, `mlx`).
    #[must_use]
    pub fn format(&self) -> Option<&str> {
        self.format.as_deref()
    }

    /// The files' paths, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(Input::path)
    }

    /// Bytes of all tensors together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.tensors.iter().map(TensorInfo::bytes).fold(0, u64::saturating_add)
    }

    /// Identities of the files and of the index, so that an output does not overwrite them.
    #[must_use]
    pub fn file_ids(&self) -> Vec<FileId> {
        self.files.iter().filter_map(Input::file_id).chain(self.index).collect()
    }

    /// Fills `buffer` with the bytes of a tensor from `offset_bytes` on.
    ///
    /// # Errors
    /// When the bytes are not inside the tensor, cannot be read, or the file has become shorter.
    ///
    /// # Panics
    /// When `tensor` is from another checkpoint and does not fit this one.
    pub fn read_at(&self, tensor: &TensorInfo, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let end = offset_bytes.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > tensor.bytes) {
            return Err(Error::OutOfTensor {
                name: tensor.name.clone(),
                offset: offset_bytes,
                len: buffer.len(),
                bytes: tensor.bytes,
            });
        }
        let file = self.files.get(tensor.file).expect("a tensor of this checkpoint has one of its files");
        Ok(file.read_exact_at(buffer, tensor.start.saturating_add(offset_bytes))?)
    }

    /// Checks that no file has changed since it was opened. To be called after everything has been read.
    ///
    /// # Errors
    /// When the size or the time of modification of a file is not what it was.
    pub fn check_unchanged(&self) -> Result<(), Error> {
        for file in &self.files {
            file.check_unchanged()?;
        }
        Ok(())
    }
}

fn open_input(path: &Path) -> Result<Input, FileError> {
    Ok(Input::File(InputFile::open(path)?))
}

fn header_of(file: &Input) -> Result<Header, Error> {
    let fail = |(place, offset, problem)| {
        Error::Format(Box::new(FormatError { path: file.path().into(), place, offset, problem }))
    };
    let read = |offset, len| {
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, offset).map(|()| bytes)
    };
    let begins = read(0, file.size().min(LENGTH_BYTES))?;
    let len = header::length(&begins, file.size()).map_err(fail)?;
    header::parse(&read(LENGTH_BYTES, len)?, file.size()).map_err(fail)
}

/// What a folder without a checkpoint has instead, for the message.
fn instead(folder: &Path) -> &'static str {
    let names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    let has = |test: fn(&str) -> bool| names.iter().any(|name| test(name));
    let shards =
        |name: &str| STEMS.iter().any(|stem| name.strip_prefix(stem).is_some_and(|rest| rest.starts_with('-')));
    if names.iter().any(|name| shards(name) && name.ends_with(".safetensors")) {
        " (there are shards: the index is missing)"
    } else if has(|name| name.starts_with("pytorch_model") && name.ends_with(".bin")) {
        " (there are PyTorch weights, which may hold programs and are not read; transformers saves them as safetensors: \
         python -c \"from transformers import AutoModelForCausalLM as M; M.from_pretrained('DIR', dtype='auto')\
         .save_pretrained('DIR')\")"
    } else if has(|name| name.starts_with("adapter_model")) {
        " (there is an adapter: merge it into its base model first)"
    } else if has(|name| name.starts_with("consolidated") && name.ends_with(".pth")) {
        " (there are PyTorch weights in Meta's form, which may hold programs and are not read: take the folder that \
         transformers loads, with model.safetensors)"
    } else {
        ""
    }
}
