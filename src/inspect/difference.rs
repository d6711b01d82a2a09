//! Differences between two models: in metadata, in names, shapes and types of tensors, and in numbers.

use super::decoded::{DecodeError, Decoder, PIECE};
use crate::TensorType;
use crate::gguf::{Reader, TensorInfo, Value};

/// The differences between two models.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Difference {
    /// Keys, in the order of the first model, then those that only the second has.
    pub keys: Vec<KeyDifference>,
    /// Tensors, in the same order.
    pub tensors: Vec<TensorDifference>,
}

/// A key whose value differs; `None` for a model that does not have it.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyDifference {
    /// The key.
    pub key: String,
    /// Its value in the first model.
    pub first: Option<Value>,
    /// Its value in the second model.
    pub second: Option<Value>,
}

/// A tensor that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorDifference {
    /// Its name.
    pub name: String,
    /// The difference.
    pub change: TensorChange,
}

/// A difference of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum TensorChange {
    /// The first model alone has it.
    OnlyFirst,
    /// The second model alone has it.
    OnlySecond,
    /// The shapes in the first and the second model; numbers are not compared then.
    Shape(Vec<u64>, Vec<u64>),
    /// The types or bytes.
    Data {
        /// Its types, in the first and the second model.
        types: (TensorType, TensorType),
        /// The difference of its numbers; `None` if they were not compared.
        numbers: Option<DataDifference>,
    },
}

/// The difference of the numbers of two tensors of the same shape.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DataDifference {
    /// Elements that differ.
    pub differing: u64,
    /// Elements.
    pub elements: u64,
    /// Root of the mean square of the differences.
    pub rmse: f64,
    /// The same, as a share of the root mean square of the first tensor; infinite where that is zero.
    pub relative_rmse: f64,
    /// Largest absolute difference.
    pub max: f64,
}

impl Difference {
    /// Compares two models; with `data`, their numbers too.
    ///
    /// # Errors
    /// When weights cannot be read. Types that cannot be decoded are compared byte by byte alone.
    pub fn between(first: &Reader, second: &Reader, data: bool) -> Result<Self, DecodeError> {
        let mut difference = Self { keys: keys(first, second), tensors: Vec::new() };
        for tensor in first.tensors() {
            let change = match second.tensor(&tensor.name) {
                None => Some(TensorChange::OnlyFirst),
                Some(other) if other.shape != tensor.shape => {
                    Some(TensorChange::Shape(tensor.shape.clone(), other.shape.clone()))
                }
                Some(other) => data_change((first, tensor), (second, other), data)?,
            };
            difference.tensors.extend(change.map(|change| TensorDifference { name: tensor.name.clone(), change }));
        }
        let new = second.tensors().iter().filter(|tensor| first.tensor(&tensor.name).is_none());
        difference
            .tensors
            .extend(new.map(|tensor| TensorDifference { name: tensor.name.clone(), change: TensorChange::OnlySecond }));
        Ok(difference)
    }

    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.tensors.is_empty()
    }
}

fn keys(first: &Reader, second: &Reader) -> Vec<KeyDifference> {
    let (a, b) = (first.metadata(), second.metadata());
    let changed = a.iter().filter(|(key, value)| !b.get(key).is_some_and(|other| same(value, other)));
    let changed = changed.map(|(key, value)| (key, Some(value.clone()), b.get(key).cloned()));
    let new = b.iter().filter(|(key, _)| a.get(key).is_none()).map(|(key, value)| (key, None, Some(value.clone())));
    changed.chain(new).map(|(key, first, second)| KeyDifference { key: key.to_owned(), first, second }).collect()
}

/// Whether two values are the same; NaN equals NaN.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::F32(a), Value::F32(b)) => a.to_bits() == b.to_bits(),
        (Value::F64(a), Value::F64(b)) => a.to_bits() == b.to_bits(),
        (Value::Array(a), Value::Array(b)) => a.element_type() == b.element_type() && a.encoded() == b.encoded(),
        _ => a == b,
    }
}

type TensorIn<'a> = (&'a Reader, &'a TensorInfo);

fn data_change(a: TensorIn<'_>, b: TensorIn<'_>, data: bool) -> Result<Option<TensorChange>, DecodeError> {
    let types = (a.1.ty, b.1.ty);
    if !data {
        return Ok((types.0 != types.1).then_some(TensorChange::Data { types, numbers: None }));
    }
    if types.0 == types.1 && same_bytes(a, b)? {
        return Ok(None);
    }
    let numbers = match numbers(a, b) {
        Err(DecodeError::Type { .. }) => None,
        result => Some(result?),
    };
    Ok(Some(TensorChange::Data { types, numbers }))
}

/// The difference of the numbers of two tensors of the same shape; `None` if their bytes are equal, or their type cannot be
/// decoded.
///
/// # Errors
/// When they cannot be read.
pub fn tensor_difference(
    (first, a): (&Reader, &TensorInfo),
    (second, b): (&Reader, &TensorInfo),
) -> Result<Option<DataDifference>, DecodeError> {
    match data_change((first, a), (second, b), true)? {
        Some(TensorChange::Data { numbers, .. }) => Ok(numbers),
        _ => Ok(None),
    }
}

fn same_bytes(a: TensorIn<'_>, b: TensorIn<'_>) -> Result<bool, DecodeError> {
    const STEP: u64 = 1 << 20;
    let (mut left, mut right) = (Vec::new(), Vec::new());
    let mut offset = 0;
    while offset < a.1.bytes() {
        let n = usize::try_from(STEP.min(a.1.bytes() - offset)).unwrap_or(0);
        left.resize(n, 0);
        right.resize(n, 0);
        a.0.read_at(a.1, offset, &mut left)?;
        b.0.read_at(b.1, offset, &mut right)?;
        if left != right {
            return Ok(false);
        }
        offset += n as u64;
    }
    Ok(true)
}

fn numbers(a: TensorIn<'_>, b: TensorIn<'_>) -> Result<DataDifference, DecodeError> {
    let (mut left, mut right) = (Decoder::new(a.0, a.1)?, Decoder::new(b.0, b.1)?);
    let (mut x, mut y) = (vec![0.0; PIECE], vec![0.0; PIECE]);
    let mut found = DataDifference { elements: a.1.elements(), ..DataDifference::default() };
    let (mut squares, mut size, mut first) = (0.0, 0.0, 0);
    while first < a.1.elements() {
        let (x, y) = (left.read(first, &mut x)?, right.read(first, &mut y)?);
        for (&x, &y) in x.iter().zip(y) {
            size += f64::from(x) * f64::from(x);
            if x.to_bits() != y.to_bits() && x != y {
                let apart = (f64::from(x) - f64::from(y)).abs();
                found.differing += 1;
                squares += apart * apart;
                // The difference to NaN is NaN, which counts as the largest.
                found.max = if apart.is_nan() { f64::NAN } else { found.max.max(apart) };
            }
        }
        first += x.len() as u64;
    }
    #[allow(clippy::cast_precision_loss, reason = "statistics")]
    let count = a.1.elements().max(1) as f64;
    found.rmse = (squares / count).sqrt();
    found.relative_rmse = if squares == 0.0 { 0.0 } else { (squares / size).sqrt() };
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{Difference, TensorChange};
    use crate::TensorType;
    use crate::gguf::{Metadata, Reader, TensorSpec, Value, Writer};

    /// A model of vectors of floats.
    fn model(name: &str, tensors: &[(&str, &[f32])]) -> Reader {
        let mut metadata = Metadata::new();
        metadata.set("general.name", name);
        metadata.set("a.nan", f32::NAN);
        let spec = |(name, values): &(&str, &[f32])| TensorSpec {
            name: (*name).into(),
            shape: vec![values.len() as u64],
            ty: TensorType::F32,
        };
        let specs: Vec<TensorSpec> = tensors.iter().map(spec).collect();
        let mut writer = Writer::to_sink(Vec::new(), "model", &metadata, &specs).expect("valid");
        for (_, values) in tensors {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            writer.write_tensor(&bytes).expect("written");
        }
        Reader::from_bytes("model", writer.into_sink().expect("complete").into()).expect("valid")
    }

    #[test]
    fn a_model_does_not_differ_from_itself() {
        let a = model("a", &[("w", &[1.0, f32::NAN])]);
        assert!(Difference::between(&a, &a, true).expect("read").is_empty());
    }

    #[test]
    fn keys_tensors_and_numbers_are_compared() {
        let a = model("a", &[("gone", &[1.0]), ("w", &[3.0, 4.0, 0.0, 0.0]), ("shape", &[1.0])]);
        let b = model("b", &[("w", &[3.0, 4.0, 0.0, 1.0]), ("shape", &[1.0, 2.0]), ("new", &[1.0])]);
        let found = Difference::between(&a, &b, true).expect("read");
        assert_eq!(found.keys.len(), 1);
        assert_eq!(found.keys[0].second, Some(Value::String("b".into())));
        let names: Vec<&str> = found.tensors.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["gone", "w", "shape", "new"]);
        assert_eq!(found.tensors[0].change, TensorChange::OnlyFirst);
        let TensorChange::Data { numbers: Some(numbers), .. } = &found.tensors[1].change else { panic!("{found:?}") };
        assert_eq!((numbers.differing, numbers.elements, numbers.max, numbers.rmse), (1, 4, 1.0, 0.5));
        assert!((numbers.relative_rmse - 0.2).abs() < 1e-12);
        assert_eq!(found.tensors[2].change, TensorChange::Shape(vec![1], vec![2]));
        assert_eq!(found.tensors[3].change, TensorChange::OnlySecond);
        assert_eq!(Difference::between(&a, &b, false).expect("read").tensors.len(), 3, "numbers are not read");
    }
}
