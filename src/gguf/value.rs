//! Metadata values of a GGUF file, and the ordered map that holds them.
//!
//! Arrays are kept in their encoded form (little-endian, as in the file), so that a vocabulary of 128 k tokens costs nothing
//! until it is iterated.

use std::borrow::Cow;

use crate::bytes::Bytes;

/// Type tag of a metadata value, with the ids of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the variants are the format's own names")]
#[repr(u32)]
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    /// The type with this id, if there is one.
    #[must_use]
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(id).ok()?).copied()
    }

    /// The id written to a file.
    #[must_use]
    pub const fn id(self) -> u32 {
        self as u32
    }

    /// Bytes of one value, or `None` for strings and arrays, whose length is in the data.
    #[must_use]
    pub const fn fixed_bytes(self) -> Option<usize> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String | Self::Array => None,
        }
    }

    /// Name as the reference tools print it (`UINT32`).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::U8 => "UINT8",
            Self::I8 => "INT8",
            Self::U16 => "UINT16",
            Self::I16 => "INT16",
            Self::U32 => "UINT32",
            Self::I32 => "INT32",
            Self::F32 => "FLOAT32",
            Self::Bool => "BOOL",
            Self::String => "STRING",
            Self::Array => "ARRAY",
            Self::U64 => "UINT64",
            Self::I64 => "INT64",
            Self::F64 => "FLOAT64",
        }
    }
}

/// One metadata value.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the variants are the format's own names")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl Value {
    /// The type tag of this value.
    #[must_use]
    pub const fn value_type(&self) -> ValueType {
        match self {
            Self::U8(_) => ValueType::U8,
            Self::I8(_) => ValueType::I8,
            Self::U16(_) => ValueType::U16,
            Self::I16(_) => ValueType::I16,
            Self::U32(_) => ValueType::U32,
            Self::I32(_) => ValueType::I32,
            Self::F32(_) => ValueType::F32,
            Self::Bool(_) => ValueType::Bool,
            Self::String(_) => ValueType::String,
            Self::Array(_) => ValueType::Array,
            Self::U64(_) => ValueType::U64,
            Self::I64(_) => ValueType::I64,
            Self::F64(_) => ValueType::F64,
        }
    }

    /// Any integer type, when it fits.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::U8(v) => Some(v.into()),
            Self::U16(v) => Some(v.into()),
            Self::U32(v) => Some(v.into()),
            Self::U64(v) => Some(v),
            Self::I8(v) => v.try_into().ok(),
            Self::I16(v) => v.try_into().ok(),
            Self::I32(v) => v.try_into().ok(),
            Self::I64(v) => v.try_into().ok(),
            _ => None,
        }
    }

    /// Any integer type, when it fits.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::I8(v) => Some(v.into()),
            Self::I16(v) => Some(v.into()),
            Self::I32(v) => Some(v.into()),
            Self::I64(v) => Some(v),
            _ => self.as_u64()?.try_into().ok(),
        }
    }

    /// A 32- or 64-bit float.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::F32(v) => Some(v.into()),
            Self::F64(v) => Some(v),
            _ => None,
        }
    }

    /// A boolean.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Self::Bool(v) => Some(v),
            _ => None,
        }
    }

    /// A string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(v) => Some(v),
            _ => None,
        }
    }

    /// An array.
    #[must_use]
    pub fn as_array(&self) -> Option<&Array> {
        match self {
            Self::Array(v) => Some(v),
            _ => None,
        }
    }
}

macro_rules! value_from {
    ($($ty:ty => $variant:ident),* $(,)?) => {
        $(impl From<$ty> for Value {
            fn from(value: $ty) -> Self {
                Self::$variant(value.into())
            }
        })*
    };
}
value_from! {
    u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, u64 => U64, i64 => I64,
    f32 => F32, f64 => F64, bool => Bool, &str => String, String => String, Array => Array,
}

/// An array of one element type, in its encoded form.
///
/// The bytes are checked before an `Array` is made (by the reader, or by construction): every element is whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    element: ValueType,
    len: usize,
    bytes: Bytes,
}

impl Array {
    /// An array of encoded elements that the caller has checked: `bytes` are exactly `len` elements of type `element`.
    pub(crate) fn from_encoded(element: ValueType, len: usize, bytes: Bytes) -> Self {
        Self { element, len, bytes }
    }

    /// An array of strings.
    pub fn strings<S: AsRef<[u8]>>(items: impl IntoIterator<Item = S>) -> Self {
        let mut bytes = Vec::new();
        let mut len = 0;
        for item in items {
            let item = item.as_ref();
            bytes.extend_from_slice(&(item.len() as u64).to_le_bytes());
            bytes.extend_from_slice(item);
            len += 1;
        }
        Self::from_encoded(ValueType::String, len, bytes.into())
    }

    /// An array of booleans.
    pub fn bools(items: impl IntoIterator<Item = bool>) -> Self {
        let bytes: Vec<u8> = items.into_iter().map(u8::from).collect();
        Self::from_encoded(ValueType::Bool, bytes.len(), bytes.into())
    }

    /// Type of the elements.
    #[must_use]
    pub const fn element_type(&self) -> ValueType {
        self.element
    }

    /// Number of elements.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no element.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The encoded elements: little-endian numbers, strings as u64 length and bytes, arrays as type, length, elements.
    #[must_use]
    pub fn encoded(&self) -> &[u8] {
        &self.bytes
    }

    /// The elements, decoded one at a time.
    pub fn iter(&self) -> impl Iterator<Item = Value> + '_ {
        let mut rest = &*self.bytes;
        (0..self.len).map_while(move |_| decode(self.element, &self.bytes, &mut rest))
    }

    /// The bytes of each string (not necessarily UTF-8), or `None` if the elements are not strings.
    #[must_use]
    pub fn string_bytes(&self) -> Option<impl Iterator<Item = &[u8]> + '_> {
        let mut rest = &*self.bytes;
        (self.element == ValueType::String).then(|| (0..self.len).map_while(move |_| take_string(&mut rest)))
    }

    /// Each string, with invalid UTF-8 replaced; `None` if the elements are not strings.
    #[must_use]
    pub fn strs(&self) -> Option<impl Iterator<Item = Cow<'_, str>> + '_> {
        Some(self.string_bytes()?.map(String::from_utf8_lossy))
    }

    /// The numbers or booleans at the indices that `keep` accepts, or `None` if the elements are strings or arrays.
    #[must_use]
    pub fn kept(&self, keep: impl Fn(usize) -> bool) -> Option<Self> {
        if matches!(self.element, ValueType::String | ValueType::Array) || self.len == 0 {
            return None;
        }
        let items = self.bytes.chunks_exact(self.bytes.len() / self.len).enumerate().filter(|(place, _)| keep(*place));
        let (mut len, mut bytes) = (0, Vec::new());
        for (_, item) in items {
            len += 1;
            bytes.extend_from_slice(item);
        }
        Some(Self::from_encoded(self.element, len, bytes.into()))
    }

    /// Each element as an integer, or `None` if the elements are not integers.
    #[must_use]
    pub fn to_i64s(&self) -> Option<Vec<i64>> {
        self.iter().map(|value| value.as_i64()).collect()
    }

    /// Each element as a float, or `None` if the elements are not floats.
    #[must_use]
    pub fn to_f32s(&self) -> Option<Vec<f32>> {
        #[allow(clippy::cast_possible_truncation, reason = "f64 metadata is rounded to the precision of the engine")]
        self.iter().map(|value| value.as_f64().map(|v| v as f32)).collect()
    }

    /// Each element as a boolean, or `None` if the elements are not booleans.
    #[must_use]
    pub fn to_bools(&self) -> Option<Vec<bool>> {
        self.iter().map(|value| value.as_bool()).collect()
    }
}

macro_rules! array_from {
    ($($ty:ty => $variant:ident),* $(,)?) => {
        $(impl From<&[$ty]> for Array {
            fn from(items: &[$ty]) -> Self {
                let bytes: Vec<u8> = items.iter().flat_map(|item| item.to_le_bytes()).collect();
                Self::from_encoded(ValueType::$variant, items.len(), bytes.into())
            }
        })*
    };
}
array_from! {
    u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, u64 => U64, i64 => I64, f32 => F32, f64 => F64,
}

fn take<'a>(rest: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(n)?;
    *rest = tail;
    Some(head)
}

fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(take(rest, 8)?.try_into().ok()?))
}

fn take_string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take_u64(rest)?).ok()?;
    take(rest, len)
}

/// Decodes one element from `rest`, the not yet read end of `all`.
fn decode(ty: ValueType, all: &Bytes, rest: &mut &[u8]) -> Option<Value> {
    macro_rules! number {
        ($variant:ident, $ty:ty) => {
            Value::$variant(<$ty>::from_le_bytes(take(rest, size_of::<$ty>())?.try_into().ok()?))
        };
    }
    Some(match ty {
        ValueType::U8 => number!(U8, u8),
        ValueType::I8 => number!(I8, i8),
        ValueType::U16 => number!(U16, u16),
        ValueType::I16 => number!(I16, i16),
        ValueType::U32 => number!(U32, u32),
        ValueType::I32 => number!(I32, i32),
        ValueType::F32 => number!(F32, f32),
        ValueType::U64 => number!(U64, u64),
        ValueType::I64 => number!(I64, i64),
        ValueType::F64 => number!(F64, f64),
        ValueType::Bool => Value::Bool(take(rest, 1)? != [0]),
        ValueType::String => Value::String(String::from_utf8_lossy(take_string(rest)?).into_owned()),
        ValueType::Array => {
            let element = ValueType::from_id(u32::from_le_bytes(take(rest, 4)?.try_into().ok()?))?;
            let len = usize::try_from(take_u64(rest)?).ok()?;
            let start = all.len().checked_sub(rest.len())?;
            for _ in 0..len {
                skip(element, rest)?;
            }
            let end = all.len().checked_sub(rest.len())?;
            Value::Array(Array::from_encoded(element, len, all.get(start..end)?))
        }
    })
}

fn skip(ty: ValueType, rest: &mut &[u8]) -> Option<()> {
    match (ty, ty.fixed_bytes()) {
        (_, Some(n)) => take(rest, n).map(drop),
        (ValueType::String, _) => take_string(rest).map(drop),
        _ => {
            let element = ValueType::from_id(u32::from_le_bytes(take(rest, 4)?.try_into().ok()?))?;
            for _ in 0..take_u64(rest)? {
                skip(element, rest)?;
            }
            Some(())
        }
    }
}

/// Keys and values in the order of the file. Keys are unique.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
}

impl Metadata {
    /// No entries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.iter().find(|(k, _)| k == key).map(|(_, value)| value)
    }

    /// Sets `key`. An existing key keeps its position, a new one is added at the end.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let (key, value) = (key.into(), value.into());
        match self.entries.iter_mut().find(|(k, _)| *k == key) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((key, value)),
        }
    }

    /// Sets `key` and moves it to the end, as llama.cpp's `gguf_set_*` does.
    pub fn set_last(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let key = key.into();
        self.remove(&key);
        self.entries.push((key, value.into()));
    }

    /// Removes `key` and returns its value.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let index = self.entries.iter().position(|(k, _)| k == key)?;
        Some(self.entries.remove(index).1)
    }
}

impl FromIterator<(String, Value)> for Metadata {
    /// Entries in order. The keys must be unique.
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(entries: I) -> Self {
        Self { entries: entries.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::{Array, Metadata, Value, ValueType};

    #[test]
    fn arrays_decode_what_they_encode() {
        let strings = Array::strings(["a", "", "bc"]);
        assert_eq!(strings.strs().expect("strings").collect::<Vec<_>>(), ["a", "", "bc"]);
        assert_eq!(Array::from(&[1.5f32, -2.0][..]).to_f32s(), Some(vec![1.5, -2.0]));
        assert_eq!(Array::from(&[-1i32, 7][..]).to_i64s(), Some(vec![-1, 7]));
        assert_eq!(Array::bools([true, false]).to_bools(), Some(vec![true, false]));
        assert_eq!(strings.to_i64s(), None);
    }

    #[test]
    fn nested_arrays_decode() {
        let mut bytes = Vec::new();
        for inner in [&[1u8, 2][..], &[3]] {
            bytes.extend(ValueType::U8.id().to_le_bytes());
            bytes.extend((inner.len() as u64).to_le_bytes());
            bytes.extend(inner);
        }
        let outer = Array::from_encoded(ValueType::Array, 2, bytes.into());
        let inner: Vec<_> = outer.iter().map(|v| v.as_array().and_then(Array::to_i64s)).collect();
        assert_eq!(inner, [Some(vec![1, 2]), Some(vec![3])]);
    }

    #[test]
    fn arrays_of_numbers_can_be_thinned() {
        let odd = |place: usize| place % 2 == 1;
        let numbers = Array::from(&[5i32, -6, 7, -8][..]);
        assert_eq!(numbers.kept(odd), Some(Array::from(&[-6i32, -8][..])));
        assert_eq!(Array::bools([true, false]).kept(odd), Some(Array::bools([false])));
        assert_eq!(Array::strings(["a", "b"]).kept(odd), None);
    }

    #[test]
    fn set_keeps_and_set_last_moves() {
        let mut metadata = Metadata::new();
        metadata.set("a", 1u32);
        metadata.set("b", 2u32);
        metadata.set("a", 3u32);
        assert_eq!(metadata.iter().map(|(k, _)| k).collect::<Vec<_>>(), ["a", "b"]);
        metadata.set_last("a", 4u32);
        assert_eq!(metadata.iter().map(|(k, _)| k).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(metadata.get("a"), Some(&Value::U32(4)));
    }
}
