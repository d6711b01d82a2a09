//! The header of one file: fields, metadata, tensor infos. Everything is checked before it is used.
//!
//! Layout: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Versions 2 and 3 have the same one.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

use super::byte_order::{ByteOrder, reverse_elements};
use super::cursor::{Cursor, Stop};
use super::error::{Error, FormatError, Place, Problem};
use super::tensor_info::{TensorInfo, UnknownTensor};
use super::value::{Array, Metadata, Value, ValueType};
use super::warning::Warning;
use super::{keys, limits};
use crate::bytes::Bytes;
use crate::tensor_type::TensorType;

/// Default alignment of tensor data.
pub const DEFAULT_ALIGNMENT: u32 = 32;

/// Bytes of the shortest metadata entry: key length, one byte of key, type, one byte of value.
const MIN_KEY_RECORD: u64 = 14;
/// Bytes of the shortest tensor info: name length, number of dimensions, type, offset.
const MIN_TENSOR_RECORD: u64 = 24;

/// A header that has been read and checked.
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) order: ByteOrder,
    pub(super) metadata: Metadata,
    pub(super) alignment: u32,
    /// In the order of the file. All belong to shard 0.
    pub(super) tensors: Vec<TensorInfo>,
    /// Tensors of unknown types, if these are accepted.
    pub(super) unknown: Vec<UnknownTensor>,
    /// Where the data section begins, in bytes from the start of the file.
    pub(super) data_start: u64,
    pub(super) warnings: Vec<Warning>,
}

impl Header {
    /// Tensors of known and of unknown types.
    pub(super) fn tensor_count(&self) -> u64 {
        (self.tensors.len() as u64).saturating_add(self.unknown.len() as u64)
    }
}

/// A value; an array is still a range of the header's bytes.
enum Parsed {
    Value(Value),
    Array { element: ValueType, len: usize, range: Range<usize> },
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    path: &'a Path,
    place: Place,
    warnings: Vec<Warning>,
    accept: Accept,
}

/// What a file may have that no model can be run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Accept {
    /// Tensors of unknown types.
    pub(super) unknown_types: bool,
    /// Numbers whose highest byte comes first.
    pub(super) big_endian: bool,
}

impl Accept {
    /// Nothing of that.
    pub(super) const USABLE: Self = Self { unknown_types: false, big_endian: false };
    /// Both byte orders.
    pub(super) const EITHER_ORDER: Self = Self { unknown_types: false, big_endian: true };
    /// Everything that can be shown.
    pub(super) const ANY: Self = Self { unknown_types: true, big_endian: true };
}

/// Reads and checks a header.
pub(super) fn parse(cursor: Cursor<'_>, path: &Path, accept: Accept) -> Result<Header, Error> {
    let mut parser = Parser { cursor, path, place: Place::Field("magic"), warnings: Vec::new(), accept };
    parser
        .header()
        .map_err(|stop| match stop {
            Stop::File(error) => Error::File(error),
            Stop::Problem(problem) => Error::Format(Box::new(FormatError {
                path: parser.path.into(),
                place: parser.place.clone(),
                offset: parser.cursor.last(),
                problem,
            })),
        })
        .map(|parts| parts.finish(parser.cursor, parser.warnings))
}

/// The checked elements of an array as little-endian ones.
fn little(element: ValueType, len: usize, order: ByteOrder, encoded: Bytes) -> Bytes {
    if order == ByteOrder::Little {
        return encoded;
    }
    let mut bytes = encoded.to_vec();
    reverse_elements(element, len, order, &mut bytes).expect("checked elements are whole");
    bytes.into()
}

/// The result of `Parser::header`, with arrays as ranges of the header's bytes.
struct Parts {
    version: u32,
    order: ByteOrder,
    entries: Vec<(String, Parsed)>,
    alignment: u32,
    tensors: Vec<TensorInfo>,
    unknown: Vec<UnknownTensor>,
    data_start: u64,
}

impl Parts {
    fn finish(self, cursor: Cursor<'_>, warnings: Vec<Warning>) -> Header {
        let bytes = cursor.into_bytes();
        let metadata = self
            .entries
            .into_iter()
            .map(|(key, parsed)| match parsed {
                Parsed::Value(value) => (key, value),
                Parsed::Array { element, len, range } => {
                    let encoded = bytes.get(range).unwrap_or_default();
                    (key, Value::Array(Array::from_encoded(element, len, little(element, len, self.order, encoded))))
                }
            })
            .collect();
        Header {
            version: self.version,
            order: self.order,
            metadata,
            alignment: self.alignment,
            tensors: self.tensors,
            unknown: self.unknown,
            data_start: self.data_start,
            warnings,
        }
    }
}

impl Parser<'_> {
    fn header(&mut self) -> Result<Parts, Stop> {
        let begins = self.cursor.take_array()?;
        if begins != *b"GGUF" {
            return Err(Problem::Magic { begins }.into());
        }
        self.place = Place::Field("version");
        let (mut version, mut order) = (self.cursor.take_u32()?, ByteOrder::Little);
        if version != 0 && version.trailing_zeros() >= 16 {
            if !self.accept.big_endian {
                return Err(Problem::BigEndian.into());
            }
            (version, order) = (version.swap_bytes(), ByteOrder::Big);
            self.cursor.set_order(order);
        }
        match version {
            2 | 3 => {}
            1 => return Err(Problem::VersionOne.into()),
            v => return Err(Problem::Version(v).into()),
        }
        self.place = Place::Field("tensor count");
        let tensor_count = self.count(MIN_TENSOR_RECORD, limits::MAX_TENSORS)?;
        self.place = Place::Field("key count");
        let key_count = self.count(MIN_KEY_RECORD, limits::MAX_KEYS)?;
        let (entries, alignment) = self.entries(key_count)?;
        let (tensors, mut unknown) = self.tensor_infos(tensor_count, alignment)?;
        let data_start = self.data_section(&tensors, &mut unknown, alignment)?;
        Ok(Parts { version, order, entries, alignment, tensors, unknown, data_start })
    }

    /// A count of records, checked against the room in the rest of the file.
    fn count(&mut self, min_record: u64, limit: u64) -> Result<u64, Stop> {
        let count = self.cursor.take_u64()?;
        let left = self.cursor.left();
        let room = left.checked_div(min_record).unwrap_or(0);
        if count > room {
            return Err(Problem::Count { count, room, left }.into());
        }
        if count > limit {
            return Err(Problem::TooMany { count, limit }.into());
        }
        Ok(count)
    }

    /// A string of at most `limit` bytes. The error points at its length.
    fn string(&mut self, limit: u64) -> Result<&[u8], Stop> {
        let bytes = self.cursor.take_u64()?;
        let left = self.cursor.left();
        if bytes > left {
            return Err(Problem::Truncated { needed: bytes, left }.into());
        }
        if bytes > limit {
            return Err(Problem::TooLong { bytes, limit }.into());
        }
        self.cursor.take(bytes)
    }

    /// All entries, and the alignment that they set.
    fn entries(&mut self, count: u64) -> Result<(Vec<(String, Parsed)>, u32), Stop> {
        let mut entries = Vec::new();
        let mut alignment = DEFAULT_ALIGNMENT;
        let mut seen = HashSet::new();
        for index in 0..count {
            self.place = Place::KeyNumber(index);
            let key = name(self.string(limits::MAX_KEY_BYTES)?)?;
            if !seen.insert(key.clone()) {
                self.place = Place::Key(key);
                return Err(Problem::Duplicate.into());
            }
            self.place = Place::Key(key.clone());
            let value = self.value()?;
            if key == keys::GENERAL_ALIGNMENT {
                alignment = match &value {
                    Parsed::Value(value) => alignment_of(value)?,
                    Parsed::Array { .. } => return Err(Problem::AlignmentType(ValueType::Array).into()),
                };
            }
            entries.push((key, value));
        }
        Ok((entries, alignment))
    }

    fn value_type(&mut self) -> Result<ValueType, Stop> {
        let id = self.cursor.take_u32()?;
        Ok(ValueType::from_id(id).ok_or(Problem::ValueType(id))?)
    }

    fn value(&mut self) -> Result<Parsed, Stop> {
        let cursor = &mut self.cursor;
        let id = cursor.take_u32()?;
        let value = match ValueType::from_id(id).ok_or(Problem::ValueType(id))? {
            ValueType::U8 => Value::U8(cursor.take_u8()?),
            ValueType::I8 => Value::I8(i8::from_le_bytes(cursor.take_array()?)),
            ValueType::U16 => Value::U16(u16::from_le_bytes(cursor.take_array()?)),
            ValueType::I16 => Value::I16(i16::from_le_bytes(cursor.take_array()?)),
            ValueType::U32 => Value::U32(cursor.take_u32()?),
            ValueType::I32 => Value::I32(i32::from_le_bytes(cursor.take_array()?)),
            ValueType::F32 => Value::F32(f32::from_le_bytes(cursor.take_array()?)),
            ValueType::U64 => Value::U64(cursor.take_u64()?),
            ValueType::I64 => Value::I64(i64::from_le_bytes(cursor.take_array()?)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(cursor.take_array()?)),
            ValueType::Bool => match cursor.take_u8()? {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                other => return Err(Problem::Bool(other).into()),
            },
            ValueType::String => self.string_value()?,
            ValueType::Array => {
                let (element, len, range) = self.array(1)?;
                return Ok(Parsed::Array { element, len, range });
            }
        };
        Ok(Parsed::Value(value))
    }

    fn string_value(&mut self) -> Result<Value, Stop> {
        let bytes = self.string(limits::MAX_STRING_BYTES)?;
        if let Ok(text) = str::from_utf8(bytes) {
            return Ok(Value::String(text.to_owned()));
        }
        let text = String::from_utf8_lossy(bytes).into_owned();
        if let Place::Key(key) = &self.place {
            self.warnings.push(Warning::NotUtf8 { key: key.clone() });
        }
        Ok(Value::String(text))
    }

    /// Element type, length and range of the elements, all of which have been checked.
    fn array(&mut self, depth: u32) -> Result<(ValueType, usize, Range<usize>), Stop> {
        if depth > limits::MAX_ARRAY_DEPTH {
            return Err(Problem::TooDeep.into());
        }
        let element = self.value_type()?;
        let count = self.cursor.take_u64()?;
        let left = self.cursor.left();
        let min_bytes: u64 = match element {
            ValueType::Array => 12,
            ValueType::String => 8,
            other => other.fixed_bytes().map_or(8, |n| n as u64),
        };
        let room = left.checked_div(min_bytes).unwrap_or(0);
        if count > room {
            return Err(Problem::Count { count, room, left }.into());
        }
        let len = usize::try_from(count).map_err(|_| Problem::HeaderTooLarge)?;
        let start = self.cursor.position();
        match element {
            ValueType::String => {
                for _ in 0..count {
                    let bytes = self.cursor.take_u64()?;
                    self.cursor.advance(bytes)?;
                }
            }
            ValueType::Array => {
                let inside = depth.saturating_add(1);
                for _ in 0..count {
                    self.array(inside)?;
                }
            }
            ValueType::Bool => {
                if let Some(&other) = self.cursor.take(count)?.iter().find(|&&byte| byte > 1) {
                    return Err(Problem::Bool(other).into());
                }
            }
            // `count` is at most `left / min_bytes`, so the product cannot wrap.
            _ => {
                self.cursor.advance(count.saturating_mul(min_bytes))?;
            }
        }
        Ok((element, len, start..self.cursor.position()))
    }

    /// The tensors of known types, and those of unknown types.
    fn tensor_infos(&mut self, count: u64, alignment: u32) -> Result<(Vec<TensorInfo>, Vec<UnknownTensor>), Stop> {
        let (mut tensors, mut unknown) = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        for index in 0..count {
            self.place = Place::TensorNumber(index);
            let name = name(self.string(limits::MAX_NAME_BYTES)?)?;
            self.place = Place::Tensor(name.clone());
            if !seen.insert(name.clone()) {
                return Err(Problem::Duplicate.into());
            }
            match self.tensor_info(name, alignment)? {
                Tensor::Known(tensor) => tensors.push(tensor),
                Tensor::Unknown(tensor) => unknown.push(tensor),
            }
        }
        Ok((tensors, unknown))
    }

    fn tensor_info(&mut self, name: String, alignment: u32) -> Result<Tensor, Stop> {
        let dims = self.cursor.take_u32()?;
        if dims > limits::MAX_DIMS {
            return Err(Problem::Dimensions(dims).into());
        }
        let mut shape = Vec::new();
        for _ in 0..dims {
            shape.push(self.cursor.take_u64()?);
        }
        let elements = elements_of(&shape).ok_or_else(|| Problem::Shape(shape.clone()))?;
        let id = self.cursor.take_u32()?;
        let Some(ty) = TensorType::from_id(id) else {
            if !self.accept.unknown_types {
                return Err(Problem::TensorType(id).into());
            }
            let offset = self.offset(alignment)?;
            return Ok(Tensor::Unknown(UnknownTensor { name, shape, type_id: id, bytes: 0, offset, shard: 0 }));
        };
        let cols = shape.first().copied().unwrap_or(1);
        if !cols.is_multiple_of(ty.block_len() as u64) {
            return Err(Problem::Row { cols, ty }.into());
        }
        let bytes = ty.bytes_for(elements).ok_or_else(|| Problem::Shape(shape.clone()))?;
        let offset = self.offset(alignment)?;
        if elements == 0 {
            self.warnings.push(Warning::NoElements { tensor: name.clone() });
        }
        Ok(Tensor::Known(TensorInfo { name, shape, ty, elements, bytes, offset, shard: 0 }))
    }

    fn offset(&mut self, alignment: u32) -> Result<u64, Stop> {
        let offset = self.cursor.take_u64()?;
        if offset.is_multiple_of(alignment.into()) {
            Ok(offset)
        } else {
            Err(Problem::Unaligned { offset, alignment: alignment.into() }.into())
        }
    }

    /// The start of the data section. Checks that all tensors are inside it and that none overlap.
    fn data_section(
        &mut self,
        tensors: &[TensorInfo],
        unknown: &mut [UnknownTensor],
        alignment: u32,
    ) -> Result<u64, Stop> {
        let header_end = self.cursor.position() as u64;
        let size = self.cursor.size();
        if tensors.is_empty() && unknown.is_empty() {
            return Ok(header_end);
        }
        let past_end = |end| Problem::PastEnd { end, size };
        let start = header_end.checked_next_multiple_of(alignment.into()).ok_or(past_end(u64::MAX))?;
        size_unknown(tensors, unknown, size.saturating_sub(start));
        let known = tensors.iter().map(|tensor| (tensor.offset, tensor.bytes, &tensor.name));
        let unknown = unknown.iter().map(|tensor| (tensor.offset, tensor.bytes, &tensor.name));
        let mut by_offset: Vec<_> = known.chain(unknown).collect();
        by_offset.sort_unstable_by_key(|(offset, bytes, _)| (*offset, *bytes));
        let mut free = 0;
        let mut gaps = 0u64;
        let mut before = "";
        for (offset, bytes, name) in by_offset {
            self.place = Place::Tensor(name.clone());
            self.cursor.point_at(start.saturating_add(offset));
            let end = offset.checked_add(bytes).ok_or(past_end(u64::MAX))?;
            let end_in_file = start.checked_add(end).ok_or(past_end(u64::MAX))?;
            if end_in_file > size {
                return Err(past_end(end_in_file).into());
            }
            if offset < free && bytes > 0 {
                return Err(Problem::Overlap(before.to_owned()).into());
            }
            let padding = offset.saturating_sub(free);
            if padding >= u64::from(alignment) {
                gaps = gaps.saturating_add(padding);
            }
            free = free.max(end);
            before = name;
        }
        if gaps > 0 {
            self.warnings.push(Warning::Gaps { bytes: gaps });
        }
        let trailing = size.saturating_sub(start).saturating_sub(free);
        if trailing >= u64::from(alignment) {
            self.warnings.push(Warning::TrailingBytes { bytes: trailing });
        }
        Ok(start)
    }
}

/// What the header says about a tensor.
enum Tensor {
    Known(TensorInfo),
    Unknown(UnknownTensor),
}

/// Sets the size of each tensor of an unknown type: up to the next tensor's data, or to the end of the file.
fn size_unknown(tensors: &[TensorInfo], unknown: &mut [UnknownTensor], data_bytes: u64) {
    let mut starts: Vec<u64> = tensors.iter().map(|t| t.offset).chain(unknown.iter().map(|t| t.offset)).collect();
    starts.sort_unstable();
    for tensor in unknown {
        let next = starts.get(starts.partition_point(|&start| start <= tensor.offset));
        tensor.bytes = next.copied().unwrap_or(data_bytes).saturating_sub(tensor.offset);
    }
}

/// A key or a tensor's name.
fn name(bytes: &[u8]) -> Result<String, Problem> {
    if bytes.is_empty() {
        return Err(Problem::EmptyName);
    }
    let name = str::from_utf8(bytes).map_err(|_| Problem::NotUtf8)?;
    if name.contains('\0') { Err(Problem::ZeroInName) } else { Ok(name.to_owned()) }
}

/// The alignment that a value sets.
pub(super) fn alignment_of(value: &Value) -> Result<u32, Problem> {
    match *value {
        Value::U32(n) if n.is_power_of_two() && n <= limits::MAX_ALIGNMENT => Ok(n),
        Value::U32(n) => Err(Problem::Alignment(n)),
        _ => Err(Problem::AlignmentType(value.value_type())),
    }
}

/// Product of the dimensions: `None` when one of them, or the product of those that are not zero, reaches 2^63.
pub(super) fn elements_of(shape: &[u64]) -> Option<u64> {
    let product = shape
        .iter()
        .filter(|&&dim| dim != 0)
        .try_fold(1u64, |product, &dim| product.checked_mul(dim).filter(|&p| i64::try_from(p).is_ok()))?;
    Some(if shape.contains(&0) { 0 } else { product })
}
