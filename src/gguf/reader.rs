//! Opening models: one file, a set of shards, or bytes in memory.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::io::ErrorKind;
use std::path::Path;
use std::sync::OnceLock;

use super::byte_order::ByteOrder;
use super::cursor::Cursor;
use super::error::{Error, ShardProblem};
use super::header::{self, Accept, Header};
use super::shards;
use super::tensor_info::{TensorInfo, UnknownTensor};
use super::value::Metadata;
use super::warning::Warning;
use crate::bytes::Bytes;
use crate::files::MappedFile;
use crate::files::{FileError, FileId, Input, InputFile};

/// An opened model whose header has been checked: the data of every tensor are inside their file, and no two overlap.
///
/// Opening reads the headers alone. Tensor data are mapped when [`data`](Self::data) is first called, and not at all
/// by [`read_at`](Self::read_at).
#[derive(Debug)]
pub struct Reader {
    shards: Vec<Shard>,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    unknown: Vec<UnknownTensor>,
    /// Indices into `tensors`, sorted by name.
    by_name: Vec<usize>,
    warnings: Vec<Warning>,
}

/// One file of a model.
#[derive(Debug)]
pub struct Shard {
    input: Input,
    map: OnceLock<Bytes>,
    version: u32,
    order: ByteOrder,
    alignment: u32,
    data_start: u64,
}

impl Reader {
    /// Opens a model by the path of its file, or of any of its shards (`NAME-00001-of-00003.gguf`).
    ///
    /// # Errors
    /// When a file cannot be read, is not a valid GGUF file, or is not the shard it should be.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_with(path, Accept::USABLE, &file)
    }

    /// As [`open`](Self::open), but files of either byte order are accepted. What a reader gives is little-endian always: metadata,
    /// and tensor data, which are copies where the file is big-endian.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_in_either_order(path: &Path) -> Result<Self, Error> {
        Self::open_with(path, Accept::EITHER_ORDER, &file)
    }

    /// As [`open_in_either_order`](Self::open_in_either_order), and tensors of unknown types are accepted too: they are in
    /// [`unknown_tensors`](Self::unknown_tensors).
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_any(path: &Path) -> Result<Self, Error> {
        Self::open_with(path, Accept::ANY, &file)
    }

    /// As [`open_any`](Self::open_any), for files that are not on this machine: `open` opens the file of a path.
    ///
    /// # Errors
    /// As [`open`](Self::open), and the errors of `open`.
    pub fn open_elsewhere(path: &Path, open: &Open<'_>) -> Result<Self, Error> {
        Self::open_with(path, Accept::ANY, open)
    }

    fn open_with(path: &Path, accept: Accept, open: &Open<'_>) -> Result<Self, Error> {
        let first = Opened::input(path, accept, open)?;
        match shards::set_of(path, &first.header.metadata)? {
            None => Self::assemble(vec![first]),
            Some(set) => {
                let mut opened = Vec::new();
                for (no, shard_path) in set.paths.iter().enumerate() {
                    let shard = Opened::input(shard_path, accept, open).map_err(|error| missing(error, path))?;
                    set.check(no, shard_path, &shard.header.metadata)?;
                    opened.push(shard);
                }
                let found = opened.iter().map(|shard| shard.header.tensor_count()).sum();
                set.check_total(path, found)?;
                Self::assemble(opened)
            }
        }
    }

    /// Opens a single file, which may be a shard under any name.
    pub(super) fn open_alone(path: &Path) -> Result<Self, Error> {
        Self::assemble(vec![Opened::input(path, Accept::EITHER_ORDER, &file)?])
    }

    /// Opens a model in memory. `name` is used for it in messages.
    ///
    /// # Errors
    /// When the bytes are not a valid GGUF file, or only one shard of a model.
    pub fn from_bytes(name: &str, bytes: Bytes) -> Result<Self, Error> {
        let path = Path::new(name);
        let header = header::parse(Cursor::in_memory(bytes.clone()), path, Accept::USABLE)?;
        shards::refuse_shard(path, &header.metadata)?;
        Self::assemble(vec![Opened { input: Input::Memory { name: path.into(), bytes }, header }])
    }

    fn assemble(opened: Vec<Opened>) -> Result<Self, Error> {
        let mut reader = Self {
            shards: Vec::new(),
            metadata: Metadata::new(),
            tensors: Vec::new(),
            unknown: Vec::new(),
            by_name: Vec::new(),
            warnings: Vec::new(),
        };
        for (no, Opened { input, header }) in opened.into_iter().enumerate() {
            let Header { version, order, metadata, alignment, tensors, unknown, data_start, warnings } = header;
            if no == 0 {
                reader.metadata = metadata;
            }
            reader.tensors.extend(tensors.into_iter().map(|info| TensorInfo { shard: no, ..info }));
            reader.unknown.extend(unknown.into_iter().map(|tensor| UnknownTensor { shard: no, ..tensor }));
            reader.warnings.extend(warnings);
            reader.shards.push(Shard { input, map: OnceLock::new(), version, order, alignment, data_start });
        }
        reader.by_name = reader.sort_names()?;
        Ok(reader)
    }

    fn sort_names(&self) -> Result<Vec<usize>, Error> {
        let mut named: Vec<(&str, usize)> = self.tensors.iter().enumerate().map(|(i, t)| (&*t.name, i)).collect();
        named.sort_unstable();
        let twice = named.iter().zip(named.iter().skip(1)).find(|((a, _), (b, _))| a == b);
        if let Some((_, &(name, index))) = twice {
            let shard = self.tensors.get(index).and_then(|info| self.shards.get(info.shard));
            let path = shard.map(|shard| shard.path().to_owned()).unwrap_or_default();
            return Err(Error::Shard { path, problem: ShardProblem::Duplicate { name: name.to_owned() } });
        }
        Ok(named.into_iter().map(|(_, index)| index).collect())
    }

    /// Keys and values; for a split model, those of its first shard.
    #[must_use]
    pub const fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// All tensors, in the order of the file (and of the shards).
    #[must_use]
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Tensors of unknown types, in the order of the file; none for a reader from [`open`](Self::open).
    #[must_use]
    pub fn unknown_tensors(&self) -> &[UnknownTensor] {
        &self.unknown
    }

    /// The tensor called `name`.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let info = |index: &usize| self.tensors.get(*index);
        let place = self.by_name.binary_search_by(|index| info(index).map(|t| &*t.name).cmp(&Some(name))).ok()?;
        self.by_name.get(place).and_then(info)
    }

    /// The data of a tensor of this reader. The first call maps the shard.
    ///
    /// # Errors
    /// When the shard cannot be mapped, or has become shorter since it was opened.
    ///
    /// # Panics
    /// When `tensor` is from another reader and does not fit this one.
    pub fn data(&self, tensor: &TensorInfo) -> Result<Bytes, Error> {
        let shard = self.shard_of(tensor);
        let start = usize::try_from(shard.data_start.saturating_add(tensor.offset)).unwrap_or(usize::MAX);
        let len = usize::try_from(tensor.bytes).unwrap_or(usize::MAX);
        let data = shard.mapped()?.get(start..start.saturating_add(len));
        let data = data.expect("a tensor of this reader lies inside its shard");
        if shard.order == ByteOrder::Little {
            return Ok(data);
        }
        let mut blocks = data.to_vec();
        tensor.ty.reverse_bytes(&mut blocks);
        Ok(blocks.into())
    }

    /// Fills `buffer` with the bytes of a tensor from `offset_bytes` on, without mapping the file.
    ///
    /// # Errors
    /// When the bytes are not inside the tensor, cannot be read, or the file has become shorter.
    ///
    /// # Panics
    /// When `tensor` is from another reader and does not fit this one.
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
        let shard = self.shard_of(tensor);
        let start = shard.data_start.saturating_add(tensor.offset);
        if shard.order == ByteOrder::Little {
            return Ok(shard.input.read_exact_at(buffer, start.saturating_add(offset_bytes))?);
        }
        // Whole blocks around the bytes that were asked for.
        let block = tensor.ty.block_bytes() as u64;
        let before = offset_bytes.checked_rem(block).unwrap_or(0);
        let len = before.saturating_add(buffer.len() as u64).next_multiple_of(block);
        let mut blocks = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        let first = start.saturating_add(offset_bytes).saturating_sub(before);
        shard.input.read_exact_at(&mut blocks, first)?;
        tensor.ty.reverse_bytes(&mut blocks);
        let skipped = blocks.iter().skip(usize::try_from(before).unwrap_or(usize::MAX));
        buffer.iter_mut().zip(skipped).for_each(|(to, from)| *to = *from);
        Ok(())
    }

    fn shard_of(&self, tensor: &TensorInfo) -> &Shard {
        self.shards.get(tensor.shard).expect("a tensor of this reader has one of its shards")
    }

    /// Where the data of a tensor begin, in bytes from the start of its shard's file.
    ///
    /// # Panics
    /// When `tensor` is from another reader and does not fit this one.
    #[must_use]
    pub fn offset_in_file(&self, tensor: &TensorInfo) -> u64 {
        self.shard_of(tensor).data_start.saturating_add(tensor.offset)
    }

    /// The files of the model: one, or its shards in order.
    #[must_use]
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// Path of the (first) file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.shards.first().map_or(Path::new(""), Shard::path)
    }

    /// Version of the format (of the first file).
    #[must_use]
    pub fn version(&self) -> u32 {
        self.shards.first().map_or(0, |shard| shard.version)
    }

    /// Byte order of the (first) file.
    #[must_use]
    pub fn byte_order(&self) -> ByteOrder {
        self.shards.first().map_or(ByteOrder::Little, |shard| shard.order)
    }

    /// Alignment of tensor data (in the first file), in bytes.
    #[must_use]
    pub fn alignment(&self) -> u32 {
        self.shards.first().map_or(header::DEFAULT_ALIGNMENT, |shard| shard.alignment)
    }

    /// Size of all files together, in bytes.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.shards.iter().map(Shard::file_bytes).fold(0, u64::saturating_add)
    }

    /// Elements of all tensors together.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.tensors.iter().map(TensorInfo::elements).fold(0, u64::saturating_add)
    }

    /// Identities of the files, for [`Overwrite::Replace`](crate::files::Overwrite::Replace).
    #[must_use]
    pub fn file_ids(&self) -> Vec<FileId> {
        self.shards.iter().filter_map(|shard| shard.input.file_id()).collect()
    }

    /// Oddities of the files that are allowed.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Checks that no file has changed since it was opened. To be called after everything has been read.
    ///
    /// # Errors
    /// When the size or the time of modification of a file is not what it was.
    pub fn check_unchanged(&self) -> Result<(), Error> {
        for shard in &self.shards {
            shard.input.check_unchanged()?;
        }
        Ok(())
    }
}

impl Shard {
    /// Path of the file, or the name given to bytes in memory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.input.path()
    }

    /// Size of the file in bytes.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.input.size()
    }

    /// Where the data section begins, in bytes from the start of the file.
    #[must_use]
    pub const fn data_start(&self) -> u64 {
        self.data_start
    }

    /// Alignment of this file's tensor data, in bytes.
    #[must_use]
    pub const fn alignment(&self) -> u32 {
        self.alignment
    }

    fn mapped(&self) -> Result<&Bytes, Error> {
        let file = match &self.input {
            Input::Memory { bytes, .. } => return Ok(bytes),
            Input::File(file) => file,
            Input::Elsewhere(file) => {
                let (path, size) = (file.path().to_owned(), usize::try_from(file.size()).unwrap_or(usize::MAX));
                let source = std::io::Error::new(ErrorKind::Unsupported, "it lies elsewhere");
                return Err(FileError::Read { path, offset: 0, len: size, source }.into());
            }
        };
        if let Some(bytes) = self.map.get() {
            return Ok(bytes);
        }
        file.check_unchanged()?;
        let mapped = MappedFile::new(file).map_err(|source| Error::Map { path: file.path().into(), source })?;
        Ok(self.map.get_or_init(|| Bytes::new(mapped)))
    }
}

/// A file whose header has been read, not yet part of a model.
struct Opened {
    input: Input,
    header: Header,
}

/// Opens the file of a path.
type Open<'a> = dyn Fn(&Path) -> Result<Input, FileError> + 'a;

fn file(path: &Path) -> Result<Input, FileError> {
    InputFile::open(path).map(Input::File)
}

impl Opened {
    fn input(path: &Path, accept: Accept, open: &Open<'_>) -> Result<Self, Error> {
        let input = open(path)?;
        let header = header::parse(Cursor::in_file(&input), path, accept)?;
        Ok(Self { input, header })
    }
}

/// The error for a missing shard, with the file that led to it.
fn missing(error: Error, opened: &Path) -> Error {
    match error {
        Error::File(FileError::Open { path, source }) if source.kind() == ErrorKind::NotFound => {
            Error::Shard { path, problem: ShardProblem::Missing { opened: opened.into() } }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::Reader;
    use crate::bytes::Bytes;
    use crate::gguf::{Array, Value};
    use crate::tensor_type::TensorType;

    fn string(text: &str) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
    }

    /// One array of strings, one Q8_0 tensor of 32 x 2 elements, written byte by byte.
    fn file(version: u32) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(version.to_le_bytes());
        bytes.extend(1u64.to_le_bytes());
        bytes.extend(1u64.to_le_bytes());
        bytes.extend(string("tokenizer.ggml.tokens"));
        bytes.extend([9u32, 8].iter().flat_map(|n| n.to_le_bytes()));
        bytes.extend(2u64.to_le_bytes());
        bytes.extend(string("a"));
        bytes.extend(string("bc"));
        bytes.extend(string("w"));
        bytes.extend(2u32.to_le_bytes());
        bytes.extend([32u64, 2].iter().flat_map(|n| n.to_le_bytes()));
        bytes.extend(8u32.to_le_bytes());
        bytes.extend(0u64.to_le_bytes());
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend((0..68u8).chain([0; 28]));
        bytes
    }

    #[test]
    fn versions_two_and_three_open() {
        for version in [2, 3] {
            let reader = Reader::from_bytes("test", file(version).into()).expect("valid");
            let tokens = reader.metadata().get("tokenizer.ggml.tokens").and_then(Value::as_array);
            assert_eq!(tokens, Some(&Array::strings(["a", "bc"])));
            let tensor = reader.tensor("w").expect("there");
            assert_eq!((&tensor.shape[..], tensor.ty, tensor.rows()), (&[32, 2][..], TensorType::Q8_0, 2));
            assert_eq!(&*reader.data(tensor).expect("data"), &(0..68).collect::<Vec<u8>>()[..]);
            let mut row = [0; 34];
            reader.read_at(tensor, 34, &mut row).expect("inside");
            assert_eq!(row[0], 34);
            assert!(reader.read_at(tensor, 35, &mut row).is_err());
            assert!(reader.tensor("v").is_none());
        }
    }

    #[test]
    fn faults_name_file_place_and_cause() {
        let message = |bytes: Vec<u8>| match Reader::from_bytes("model.gguf", Bytes::from(bytes)) {
            Ok(_) => "opens".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(message(file(3)), "opens");
        let mut cut = file(3);
        cut.truncate(200);
        assert_eq!(
            message(cut),
            "model.gguf: tensor w at offset 160: data ends at byte 228, the file at 200 (truncated download?)"
        );
        let big = 3u32.to_be_bytes();
        assert!(message([b"GGUF", &big[..]].concat()).contains("big-endian"));
        assert!(message(file(1)).contains("version 1 is not supported"));
        assert!(message(b"PK\x03\x04".to_vec()).contains("\"PK\\u{3}\\u{4}\" instead of"));
    }
}
