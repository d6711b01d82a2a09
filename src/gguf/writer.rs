//! Writing models. All sizes are known before the first byte, so the header is written first and is final.
//!
//! Offsets and padding are those of llama.cpp: each tensor, including the last one, is padded to the alignment with zeros.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::byte_order::{ByteOrder, reverse_elements};
use super::error::{Error, Place, Problem};
use super::header::{DEFAULT_ALIGNMENT, elements_of};
use super::tensor_info::TensorInfo;
use super::value::{Metadata, Value};
use super::{keys, limits};
use crate::files::{OutputError, OutputFile, Overwrite};
use crate::tensor_type::TensorType;

/// The version of the format that is written.
const VERSION: u32 = 3;

/// A tensor to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name, unique in the file.
    pub name: String,
    /// Dimensions in the format's order: the fastest-running one (columns) first; 0 to 4 of them.
    pub shape: Vec<u64>,
    /// How the elements are stored.
    pub ty: TensorType,
}

impl From<&TensorInfo> for TensorSpec {
    fn from(info: &TensorInfo) -> Self {
        Self { name: info.name.clone(), shape: info.shape.clone(), ty: info.ty }
    }
}

/// A GGUF file under construction: to a file that appears when it is complete, or to any other sink.
#[derive(Debug)]
pub struct Writer<W: Write = OutputFile> {
    sink: W,
    path: PathBuf,
    tensors: Vec<Pending>,
    current: usize,
    /// Bytes of the current tensor that have been written.
    filled: u64,
    alignment: u64,
    order: ByteOrder,
    /// The beginning of a block, where data are big-endian and have come in pieces.
    begun: Vec<u8>,
}

#[derive(Debug)]
struct Pending {
    name: String,
    bytes: u64,
    ty: TensorType,
}

impl Writer {
    /// Begins the file `path` and writes its header.
    ///
    /// # Errors
    /// When metadata or tensors cannot be stored in a file, when the output may not be replaced, or there is no room.
    pub fn create(
        path: &Path,
        overwrite: Overwrite<'_>,
        metadata: &Metadata,
        tensors: &[TensorSpec],
    ) -> Result<Self, Error> {
        Self::create_in_order(path, overwrite, ByteOrder::Little, metadata, tensors)
    }

    /// As [`create`](Self::create), in any byte order. Metadata and data to write are little-endian all the same.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_in_order(
        path: &Path,
        overwrite: Overwrite<'_>,
        order: ByteOrder,
        metadata: &Metadata,
        tensors: &[TensorSpec],
    ) -> Result<Self, Error> {
        let layout = Layout::new(path, order, metadata, tensors)?;
        let output = OutputFile::create(path, overwrite, layout.file_bytes)?;
        Self::begin(output, path, layout)
    }

    /// Renames the complete file to its final name. Returns its size in bytes.
    ///
    /// # Errors
    /// When data are missing, or the system cannot write them. Nothing is left behind then.
    pub fn finish(self) -> Result<u64, Error> {
        Ok(self.into_sink()?.commit()?)
    }
}

impl<W: Write> Writer<W> {
    /// Writes the header to `sink`. `name` is used for it in messages.
    ///
    /// # Errors
    /// When metadata or tensors cannot be stored in a file, or the sink fails.
    pub fn to_sink(sink: W, name: &str, metadata: &Metadata, tensors: &[TensorSpec]) -> Result<Self, Error> {
        let path = Path::new(name);
        Self::begin(sink, path, Layout::new(path, ByteOrder::Little, metadata, tensors)?)
    }

    fn begin(sink: W, path: &Path, layout: Layout) -> Result<Self, Error> {
        let Layout { header, tensors, alignment, order, .. } = layout;
        let begun = Vec::new();
        let mut writer = Self { sink, path: path.into(), tensors, current: 0, filled: 0, alignment, order, begun };
        writer.put(&header)?;
        writer.close_filled()?;
        Ok(writer)
    }

    /// Writes data of the next tensor that is not complete: all of it, or a piece. Padding is added automatically.
    ///
    /// # Errors
    /// When there are more bytes than the tensor has room for, or they cannot be written.
    pub fn write_tensor(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        let (name, room, ty) = match self.tensors.get(self.current) {
            Some(tensor) => (tensor.name.as_str(), tensor.bytes - self.filled, tensor.ty),
            None => ("", 0, TensorType::I8),
        };
        if bytes.len() as u64 > room {
            return Err(Error::TooMuchData { name: name.to_owned(), room, bytes: bytes.len() as u64 });
        }
        match self.order {
            ByteOrder::Little => self.put(bytes)?,
            ByteOrder::Big => self.put_reversed(ty, bytes)?,
        }
        self.filled += bytes.len() as u64;
        self.close_filled()
    }

    /// Whether all data have been written.
    pub(super) const fn is_complete(&self) -> bool {
        self.current == self.tensors.len()
    }

    /// Checks that all data have been written, and returns the sink.
    ///
    /// # Errors
    /// When data are missing.
    pub fn into_sink(self) -> Result<W, Error> {
        if let Some(tensor) = self.tensors.get(self.current) {
            let (name, expected, found) = (tensor.name.clone(), tensor.bytes, self.filled);
            return Err(Error::MissingData { name, expected, found });
        }
        Ok(self.sink)
    }

    /// Advances to the next tensor with data when the current one is complete.
    fn close_filled(&mut self) -> Result<(), Error> {
        while let Some(tensor) = self.tensors.get(self.current)
            && self.filled == tensor.bytes
        {
            let padding = padding(tensor.bytes, self.alignment);
            self.current += 1;
            self.filled = 0;
            self.put_zeros(padding)?;
        }
        Ok(())
    }

    /// Writes as many blocks as have come whole, and keeps what is left.
    fn put_reversed(&mut self, ty: TensorType, bytes: &[u8]) -> Result<(), Error> {
        let mut blocks = std::mem::take(&mut self.begun);
        blocks.extend_from_slice(bytes);
        self.begun = blocks.split_off(blocks.len() - blocks.len() % ty.block_bytes());
        ty.reverse_bytes(&mut blocks);
        self.put(&blocks)
    }

    fn put_zeros(&mut self, mut count: u64) -> Result<(), Error> {
        const ZEROS: [u8; 4096] = [0; 4096];
        while count > 0 {
            let n = count.min(ZEROS.len() as u64);
            self.put(&ZEROS[..usize::try_from(n).unwrap_or(ZEROS.len())])?;
            count -= n;
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.sink.write_all(bytes).map_err(|source| OutputError::Write { path: self.path.clone(), source }.into())
    }
}

/// Size in bytes of the file that [`Writer::create`] would make.
///
/// # Errors
/// When metadata or tensors cannot be stored in a file.
pub fn file_size(metadata: &Metadata, tensors: &[TensorSpec]) -> Result<u64, Error> {
    Ok(Layout::new(Path::new("output"), ByteOrder::Little, metadata, tensors)?.file_bytes)
}

/// The finished header and the layout of the data after it.
struct Layout {
    header: Vec<u8>,
    tensors: Vec<Pending>,
    alignment: u64,
    order: ByteOrder,
    file_bytes: u64,
}

impl Layout {
    fn new(path: &Path, order: ByteOrder, metadata: &Metadata, tensors: &[TensorSpec]) -> Result<Self, Error> {
        let refused = |place, problem| Error::Unwritable { path: path.into(), place, problem };
        let alignment = match metadata.get(keys::GENERAL_ALIGNMENT) {
            None => DEFAULT_ALIGNMENT,
            Some(value) => super::header::alignment_of(value)
                .map_err(|problem| refused(Place::Key(keys::GENERAL_ALIGNMENT.into()), problem))?,
        };
        let alignment = u64::from(alignment);
        let mut header = Fields { bytes: b"GGUF".to_vec(), order };
        header.number(VERSION.to_le_bytes());
        header.number((tensors.len() as u64).to_le_bytes());
        header.number((metadata.len() as u64).to_le_bytes());
        for (key, value) in metadata.iter() {
            let fits = check_name(key, limits::MAX_KEY_BYTES).and_then(|()| check_value(value));
            fits.map_err(|problem| refused(Place::Key(key.to_owned()), problem))?;
            header.string(key.as_bytes());
            header.number(value.value_type().id().to_le_bytes());
            header.value(value);
        }
        let mut pending = Vec::with_capacity(tensors.len());
        let mut seen = HashSet::new();
        let mut offset = 0u64;
        for spec in tensors {
            let refused = |problem| refused(Place::Tensor(spec.name.clone()), problem);
            check_name(&spec.name, limits::MAX_NAME_BYTES).map_err(refused)?;
            if !seen.insert(&spec.name) {
                return Err(refused(Problem::Duplicate));
            }
            let bytes = bytes_of(spec).map_err(refused)?;
            header.string(spec.name.as_bytes());
            // `bytes_of` has checked that there are 4 at most.
            header.number(u32::try_from(spec.shape.len()).unwrap_or(u32::MAX).to_le_bytes());
            spec.shape.iter().for_each(|dim| header.number(dim.to_le_bytes()));
            header.number(spec.ty.id().to_le_bytes());
            header.number(offset.to_le_bytes());
            offset = bytes
                .checked_next_multiple_of(alignment)
                .and_then(|padded| offset.checked_add(padded))
                .ok_or_else(|| refused(Problem::Shape(spec.shape.clone())))?;
            pending.push(Pending { name: spec.name.clone(), bytes, ty: spec.ty });
        }
        let mut header = header.bytes;
        if !tensors.is_empty() {
            let padding = padding(header.len() as u64, alignment);
            header.resize(header.len() + usize::try_from(padding).unwrap_or(0), 0);
        }
        let file_bytes = offset.saturating_add(header.len() as u64);
        Ok(Self { header, tensors: pending, alignment, order, file_bytes })
    }
}

fn padding(bytes: u64, alignment: u64) -> u64 {
    bytes.wrapping_neg() & (alignment - 1)
}

fn check_name(name: &str, limit: u64) -> Result<(), Problem> {
    let bytes = name.len() as u64;
    if name.is_empty() {
        return Err(Problem::EmptyName);
    }
    if bytes > limit {
        return Err(Problem::TooLong { bytes, limit });
    }
    if name.contains('\0') { Err(Problem::ZeroInName) } else { Ok(()) }
}

fn check_value(value: &Value) -> Result<(), Problem> {
    let bytes = value.as_str().map_or(0, |text| text.len() as u64);
    let limit = limits::MAX_STRING_BYTES;
    if bytes > limit { Err(Problem::TooLong { bytes, limit }) } else { Ok(()) }
}

fn bytes_of(spec: &TensorSpec) -> Result<u64, Problem> {
    let dims = u32::try_from(spec.shape.len()).unwrap_or(u32::MAX);
    if dims > limits::MAX_DIMS {
        return Err(Problem::Dimensions(dims));
    }
    let cols = spec.shape.first().copied().unwrap_or(1);
    if !cols.is_multiple_of(spec.ty.block_len() as u64) {
        return Err(Problem::Row { cols, ty: spec.ty });
    }
    let bytes = elements_of(&spec.shape).and_then(|elements| spec.ty.bytes_for(elements));
    bytes.ok_or_else(|| Problem::Shape(spec.shape.clone()))
}

/// Fields of an unfinished header.
struct Fields {
    bytes: Vec<u8>,
    order: ByteOrder,
}

impl Fields {
    /// A number of these little-endian bytes.
    fn number<const N: usize>(&mut self, bytes: [u8; N]) {
        self.bytes.extend(self.order.arrange(bytes));
    }

    fn string(&mut self, text: &[u8]) {
        self.number((text.len() as u64).to_le_bytes());
        self.bytes.extend(text);
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::U8(v) => self.number(v.to_le_bytes()),
            Value::I8(v) => self.number(v.to_le_bytes()),
            Value::U16(v) => self.number(v.to_le_bytes()),
            Value::I16(v) => self.number(v.to_le_bytes()),
            Value::U32(v) => self.number(v.to_le_bytes()),
            Value::I32(v) => self.number(v.to_le_bytes()),
            Value::F32(v) => self.number(v.to_le_bytes()),
            Value::U64(v) => self.number(v.to_le_bytes()),
            Value::I64(v) => self.number(v.to_le_bytes()),
            Value::F64(v) => self.number(v.to_le_bytes()),
            Value::Bool(v) => self.number([u8::from(*v)]),
            Value::String(v) => self.string(v.as_bytes()),
            Value::Array(v) => {
                self.number(v.element_type().id().to_le_bytes());
                self.number((v.len() as u64).to_le_bytes());
                let start = self.bytes.len();
                self.bytes.extend(v.encoded());
                if self.order == ByteOrder::Big {
                    let elements = &mut self.bytes[start..];
                    let whole = reverse_elements(v.element_type(), v.len(), ByteOrder::Little, elements);
                    whole.expect("an array's elements are whole");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{TensorSpec, Writer, file_size};
    use crate::gguf::{Array, Error, Metadata, Problem, Reader, Value};
    use crate::tensor_type::TensorType;

    fn spec(name: &str, shape: &[u64], ty: TensorType) -> TensorSpec {
        TensorSpec { name: name.into(), shape: shape.into(), ty }
    }

    fn write(metadata: &Metadata, tensors: &[(TensorSpec, Vec<u8>)]) -> Result<Vec<u8>, Error> {
        let specs: Vec<_> = tensors.iter().map(|(spec, _)| spec.clone()).collect();
        let mut writer = Writer::to_sink(Vec::new(), "test", metadata, &specs)?;
        for (_, data) in tensors {
            // In two pieces, to check that they are joined.
            let (head, tail) = data.split_at(data.len() / 3);
            writer.write_tensor(head)?;
            writer.write_tensor(tail)?;
        }
        let bytes = writer.into_sink()?;
        assert_eq!(bytes.len() as u64, file_size(metadata, &specs)?);
        Ok(bytes)
    }

    #[test]
    fn what_is_written_is_read() {
        let mut metadata = Metadata::new();
        metadata.set("general.alignment", 64u32);
        metadata.set("a.bool", true);
        metadata.set("a.text", "häl\nlo");
        metadata.set("a.i64", i64::MIN);
        metadata.set("a.f64", f64::MAX);
        metadata.set("a.tokens", Array::strings([&b"\xff"[..], b""]));
        metadata.set("a.flags", Array::bools([true, false]));
        metadata.set("a.empty", Array::from(&[0u16; 0][..]));
        let tensors = [
            (spec("scalar", &[], TensorType::F32), vec![1; 4]),
            (spec("none", &[0, 5], TensorType::F16), vec![]),
            (spec("blocks", &[64, 3], TensorType::Q4_0), (0..108).collect()),
            (spec("last", &[1], TensorType::I8), vec![9]),
        ];
        let bytes = write(&metadata, &tensors).expect("valid");
        let reader = Reader::from_bytes("test", bytes.clone().into()).expect("valid");
        assert_eq!(reader.metadata(), &metadata);
        assert_eq!(reader.alignment(), 64);
        assert_eq!(reader.tensors().len(), tensors.len());
        for (info, (spec, data)) in reader.tensors().iter().zip(&tensors) {
            assert_eq!(TensorSpec::from(info), *spec);
            assert_eq!(&*reader.data(info).expect("data"), &data[..]);
        }
        let again: Vec<_> =
            reader.tensors().iter().map(|t| (t.into(), reader.data(t).expect("data").to_vec())).collect();
        assert_eq!(write(reader.metadata(), &again).expect("valid"), bytes);
    }

    #[test]
    fn what_cannot_stand_in_a_file_is_refused() {
        let problem = |metadata: &Metadata, specs: &[TensorSpec]| match file_size(metadata, specs) {
            Err(Error::Unwritable { problem, .. }) => problem,
            other => panic!("{other:?}"),
        };
        let none = Metadata::new();
        let f32 = |name: &str, shape: &[u64]| spec(name, shape, TensorType::F32);
        assert_eq!(problem(&none, &[f32("", &[1])]), Problem::EmptyName);
        assert_eq!(problem(&none, &[f32("a", &[1]), f32("a", &[1])]), Problem::Duplicate);
        assert_eq!(problem(&none, &[f32(&"a".repeat(64), &[1])]), Problem::TooLong { bytes: 64, limit: 63 });
        assert_eq!(problem(&none, &[f32("a", &[1; 5])]), Problem::Dimensions(5));
        assert_eq!(problem(&none, &[f32("a", &[1 << 62])]), Problem::Shape(vec![1 << 62]));
        let row = spec("a", &[33, 32], TensorType::Q8_0);
        assert_eq!(problem(&none, &[row]), Problem::Row { cols: 33, ty: TensorType::Q8_0 });
        let alignment: Metadata = [("general.alignment".to_owned(), Value::U32(48))].into_iter().collect();
        assert_eq!(problem(&alignment, &[]), Problem::Alignment(48));
    }

    #[test]
    fn missing_and_surplus_data_are_refused() {
        let specs = [spec("a", &[4], TensorType::I8), spec("b", &[4], TensorType::I8)];
        let mut writer = Writer::to_sink(Vec::new(), "test", &Metadata::new(), &specs).expect("valid");
        assert!(matches!(writer.write_tensor(&[0; 5]), Err(Error::TooMuchData { room: 4, bytes: 5, .. })));
        writer.write_tensor(&[0; 4]).expect("fits");
        writer.write_tensor(&[0; 3]).expect("fits");
        assert!(matches!(writer.into_sink(), Err(Error::MissingData { expected: 4, found: 3, .. })));
    }
}
