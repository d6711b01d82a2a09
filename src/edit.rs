//! Changes to a model's metadata and to the names of its tensors. The file is written again with unchanged weights (in either byte
//! order, as [`RunOptions`](crate::quantize::RunOptions) says). Used by
//! `gguf edit`.

use std::path::Path;

use serde_json::Value as Json;

use crate::files::FileId;
use crate::gguf::{Array, Metadata, Reader, TensorSpec, Value, ValueType, keys};
use crate::printable::printable;
use crate::quantize::{self, FileType, GgufSource, Options, Plan, Source};

/// Changes to make.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    /// Keys to rename, from and to.
    pub rename: Vec<(String, String)>,
    /// Keys to delete.
    pub delete: Vec<String>,
    /// Keys to set, after renaming and deleting.
    pub set: Vec<(String, Value)>,
    /// Tensors to rename, from and to.
    pub rename_tensors: Vec<(String, String)>,
}

/// Errors of editing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No such key.
    #[error("there is no key {}", printable(key).limit(80))]
    NoKey {
        /// The key.
        key: String,
    },
    /// No such tensor.
    #[error("there is no tensor {}", printable(name).limit(80))]
    NoTensor {
        /// Its name.
        name: String,
    },
    /// The new name exists already.
    #[error("{} exists already", printable(name).limit(80))]
    Taken {
        /// The name.
        name: String,
    },
    /// A key about the split of the file, which is always written with the files.
    #[error("key {} cannot be edited: it is written with the files", printable(key))]
    Reserved {
        /// The key.
        key: String,
    },
    /// A text that is not a key with a value.
    #[error("{}: {problem}", printable(text).limit(120))]
    Value {
        /// The text.
        text: String,
        /// What is wrong.
        problem: String,
    },
}

/// A model with changed metadata, as a source of the pipeline that writes models.
pub struct Edited<'a> {
    source: GgufSource<'a>,
    metadata: Metadata,
    tensors: Vec<TensorSpec>,
    replaces: bool,
}

impl<'a> Edited<'a> {
    /// The model of `reader` with these changes. With `replaces`, its own file may be replaced.
    ///
    /// # Errors
    /// When a key or tensor does not exist, or its new name does.
    pub fn new(reader: &'a Reader, edits: &Edits, replaces: bool) -> Result<Self, Error> {
        let source = GgufSource::new(reader);
        let mut tensors = source.tensors().to_vec();
        for (from, to) in &edits.rename_tensors {
            if tensors.iter().any(|tensor| tensor.name == *to) {
                return Err(Error::Taken { name: to.clone() });
            }
            let tensor = tensors.iter_mut().find(|tensor| tensor.name == *from);
            tensor.ok_or_else(|| Error::NoTensor { name: from.clone() })?.name.clone_from(to);
        }
        Ok(Self { metadata: changed(reader.metadata(), edits)?, source, tensors, replaces })
    }

    /// The plan of the output, which has as many files as the model.
    ///
    /// # Errors
    /// When the metadata cannot be stored in a file.
    pub fn plan(&self) -> Result<Plan, quantize::Error> {
        Plan::new(self, &Options { copy: true, keep_split: true, ..Options::new(FileType::F16) })
    }
}

/// The changed metadata, with every key at its old position.
fn changed(metadata: &Metadata, edits: &Edits) -> Result<Metadata, Error> {
    let reserved = [keys::SPLIT_NO, keys::SPLIT_COUNT, keys::SPLIT_TENSORS_COUNT];
    let named = edits.set.iter().map(|(key, _)| key).chain(&edits.delete);
    let named = named.chain(edits.rename.iter().flat_map(|(from, to)| [from, to]));
    if let Some(key) = named.into_iter().find(|key| reserved.contains(&key.as_str())) {
        return Err(Error::Reserved { key: key.clone() });
    }
    for key in edits.delete.iter().chain(edits.rename.iter().map(|(from, _)| from)) {
        if metadata.get(key).is_none() {
            return Err(Error::NoKey { key: key.clone() });
        }
    }
    let mut out = Metadata::new();
    for (key, value) in metadata.iter().filter(|(key, _)| !edits.delete.iter().any(|deleted| deleted == key)) {
        let renamed = edits.rename.iter().find(|(from, _)| from == key);
        let name = renamed.map_or(key, |(_, to)| to);
        if renamed.is_some() && metadata.get(name).is_some() || out.get(name).is_some() {
            return Err(Error::Taken { name: name.to_owned() });
        }
        out.set(name, value.clone());
    }
    for (key, value) in &edits.set {
        out.set(key.clone(), value.clone());
    }
    Ok(out)
}

impl Source for Edited<'_> {
    fn path(&self) -> &Path {
        self.source.path()
    }

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    fn place(&self, tensor: usize) -> (usize, u64) {
        self.source.place(tensor)
    }

    fn granule(&self, tensor: usize) -> u64 {
        self.source.granule(tensor)
    }

    fn read(&self, tensor: usize, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), quantize::Error> {
        self.source.read(tensor, offset_bytes, buffer)
    }

    fn check_unchanged(&self) -> Result<(), quantize::Error> {
        self.source.check_unchanged()
    }

    fn file_ids(&self) -> Vec<FileId> {
        if self.replaces { Vec::new() } else { self.source.file_ids() }
    }
}

/// Parses a key and its value, `KEY=TYPE:VALUE`: TYPE is a type of the format (`u32`, `f32`, `bool`, `str` ...), `int` or `float`
/// for `u32` and `f32`, or `[TYPE]` before a JSON list. Without TYPE, the type of the value in `metadata` is used.
///
/// # Errors
/// When it is not of that form, or the value is not of the type.
pub fn parse_value(text: &str, metadata: &Metadata) -> Result<(String, Value), Error> {
    let failed = |problem: &str| Error::Value { text: text.to_owned(), problem: problem.to_owned() };
    let (key, rest) = text.split_once('=').ok_or_else(|| failed("not of the form KEY=TYPE:VALUE"))?;
    if key.is_empty() {
        return Err(failed("no key before the ="));
    }
    let typed = rest.split_once(':').and_then(|(ty, value)| Some((kind(ty)?, value)));
    let own = || {
        let kind = match metadata.get(key)? {
            Value::Array(array) => Kind::Array(array.element_type()),
            value => Kind::One(value.value_type()),
        };
        Some((kind, rest))
    };
    let (kind, value) = typed.or_else(own).ok_or_else(|| {
        failed("no type: KEY=TYPE:VALUE, where TYPE is u8 to u64, i8 to i64, f32, f64, bool, str, or one in brackets")
    })?;
    let value = match kind {
        Kind::One(ValueType::String) => Value::String(value.to_owned()),
        Kind::One(ty) => {
            let json: Json = serde_json::from_str(value).map_err(|_| failed("no number, true or false"))?;
            one(ty, &json).ok_or_else(|| failed(&format!("not a value of the type {}", ty.name())))?
        }
        Kind::Array(ty) => {
            let json: Vec<Json> = serde_json::from_str(value).map_err(|_| failed("no JSON list"))?;
            list(ty, &json).ok_or_else(|| failed(&format!("not a list of the type {}", ty.name())))?
        }
    };
    Ok((key.to_owned(), value))
}

enum Kind {
    One(ValueType),
    Array(ValueType),
}

fn kind(text: &str) -> Option<Kind> {
    match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(element) => Some(Kind::Array(value_type(element)?)),
        None => Some(Kind::One(value_type(text)?)),
    }
}

fn value_type(name: &str) -> Option<ValueType> {
    Some(match name.to_ascii_lowercase().as_str() {
        "u8" | "uint8" => ValueType::U8,
        "i8" | "int8" => ValueType::I8,
        "u16" | "uint16" => ValueType::U16,
        "i16" | "int16" => ValueType::I16,
        "u32" | "uint32" | "int" => ValueType::U32,
        "i32" | "int32" => ValueType::I32,
        "u64" | "uint64" => ValueType::U64,
        "i64" | "int64" => ValueType::I64,
        "f32" | "float32" | "float" => ValueType::F32,
        "f64" | "float64" => ValueType::F64,
        "bool" => ValueType::Bool,
        "str" | "string" => ValueType::String,
        _ => return None,
    })
}

#[allow(clippy::cast_possible_truncation, reason = "a float in single precision was asked for")]
fn one(ty: ValueType, json: &Json) -> Option<Value> {
    let (unsigned, signed) = (json.as_u64(), json.as_i64());
    Some(match ty {
        ValueType::U8 => Value::U8(unsigned?.try_into().ok()?),
        ValueType::I8 => Value::I8(signed?.try_into().ok()?),
        ValueType::U16 => Value::U16(unsigned?.try_into().ok()?),
        ValueType::I16 => Value::I16(signed?.try_into().ok()?),
        ValueType::U32 => Value::U32(unsigned?.try_into().ok()?),
        ValueType::I32 => Value::I32(signed?.try_into().ok()?),
        ValueType::U64 => Value::U64(unsigned?),
        ValueType::I64 => Value::I64(signed?),
        ValueType::F32 => Value::F32(json.as_f64()? as f32),
        ValueType::F64 => Value::F64(json.as_f64()?),
        ValueType::Bool => Value::Bool(json.as_bool()?),
        ValueType::String => Value::String(json.as_str()?.to_owned()),
        ValueType::Array => return None,
    })
}

fn list(ty: ValueType, json: &[Json]) -> Option<Value> {
    let values: Vec<Value> = json.iter().map(|json| one(ty, json)).collect::<Option<_>>()?;
    macro_rules! numbers {
        ($variant:ident) => {{
            let numbers: Vec<_> =
                values.iter().filter_map(|v| if let Value::$variant(n) = v { Some(*n) } else { None }).collect();
            Array::from(&numbers[..])
        }};
    }
    Some(Value::Array(match ty {
        ValueType::U8 => numbers!(U8),
        ValueType::I8 => numbers!(I8),
        ValueType::U16 => numbers!(U16),
        ValueType::I16 => numbers!(I16),
        ValueType::U32 => numbers!(U32),
        ValueType::I32 => numbers!(I32),
        ValueType::U64 => numbers!(U64),
        ValueType::I64 => numbers!(I64),
        ValueType::F32 => numbers!(F32),
        ValueType::F64 => numbers!(F64),
        ValueType::Bool => Array::bools(values.iter().filter_map(Value::as_bool)),
        ValueType::String => Array::strings(values.iter().filter_map(Value::as_str)),
        ValueType::Array => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::{Edits, changed, parse_value};
    use crate::gguf::{Array, Metadata, Value};

    fn metadata() -> Metadata {
        let mut metadata = Metadata::new();
        metadata.set("a", 1u32);
        metadata.set("b", "text");
        metadata.set("c", Array::strings(["x"]));
        metadata
    }

    #[test]
    fn values_have_types() {
        let value = |text: &str| parse_value(text, &metadata()).map(|(_, value)| value).map_err(|e| e.to_string());
        assert_eq!(value("k=u32:7"), Ok(Value::U32(7)));
        assert_eq!(value("k=i8:-7"), Ok(Value::I8(-7)));
        assert_eq!(value("k=f32:0.5"), Ok(Value::F32(0.5)));
        assert_eq!(value("k=bool:true"), Ok(Value::Bool(true)));
        assert_eq!(value("k=str:a=b:c"), Ok(Value::String("a=b:c".into())));
        assert_eq!(value("k=[i32]:[1,-2]"), Ok(Value::Array(Array::from(&[1i32, -2][..]))));
        assert_eq!(value("k=[str]:[\"y\"]"), Ok(Value::Array(Array::strings(["y"]))));
        assert_eq!(value("a=9"), Ok(Value::U32(9)), "the type that it has");
        assert_eq!(value("b=u: v"), Ok(Value::String("u: v".into())));
        assert_eq!(value("c=[\"y\"]"), Ok(Value::Array(Array::strings(["y"]))));
        for bad in ["k", "=u32:1", "k=7", "k=u8:256", "k=u32:-1", "k=[u8]:1", "k=bool:1", "a=x", "k=[[u8]]:[]"] {
            assert!(value(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_stay_at_their_places() {
        let edits = Edits {
            rename: vec![("b".into(), "d".into())],
            delete: vec!["c".into()],
            set: vec![("a".into(), Value::U32(2)), ("e".into(), Value::Bool(true))],
            ..Edits::default()
        };
        let out = changed(&metadata(), &edits).expect("changed");
        assert_eq!(out.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["a", "d", "e"]);
        assert_eq!(out.get("a"), Some(&Value::U32(2)));
        let fails = |edits: Edits| changed(&metadata(), &edits).expect_err("refused").to_string();
        assert_eq!(fails(Edits { delete: vec!["x".into()], ..Edits::default() }), "there is no key x");
        assert_eq!(fails(Edits { rename: vec![("a".into(), "b".into())], ..Edits::default() }), "b exists already");
        let set = vec![("split.no".to_owned(), Value::U16(1))];
        assert_eq!(
            fails(Edits { set, ..Edits::default() }),
            "key split.no cannot be edited: it is written with the files"
        );
    }
}
