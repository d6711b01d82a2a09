//! What a cache of keys and values holds.

use std::fmt;

use crate::TensorType;

/// Types of cached keys and of cached values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvType {
    /// Of the keys.
    pub keys: CacheType,
    /// Of the values.
    pub values: CacheType,
}

/// Type of cached numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheType {
    /// Four bytes a number.
    F32,
    /// Two bytes a number: the usual choice.
    F16,
    /// Thirty-four bytes for 32 numbers.
    Q8_0,
    /// Twenty-four bytes for 32 numbers: five bits each, a scale and a minimum.
    Q5_1,
    /// Eighteen bytes for 32 numbers: four bits each, evenly spaced.
    Q4_0,
    /// Eighteen bytes for 32 numbers: four bits each, close together near zero.
    #[allow(non_camel_case_types, reason = "the format's own name")]
    IQ4_NL,
}

impl CacheType {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::F32, Self::F16, Self::Q8_0, Self::Q5_1, Self::Q4_0, Self::IQ4_NL];

    /// The tensor type whose blocks say how numbers are rounded, and how many bytes they take.
    #[must_use]
    pub fn tensor_type(self) -> TensorType {
        match self {
            Self::F32 => TensorType::F32,
            Self::F16 => TensorType::F16,
            Self::Q8_0 => TensorType::Q8_0,
            Self::Q5_1 => TensorType::Q5_1,
            Self::Q4_0 => TensorType::Q4_0,
            Self::IQ4_NL => TensorType::IQ4_NL,
        }
    }

    /// Bytes of a number, scales included.
    #[must_use]
    pub fn number_bytes(self) -> f64 {
        f64::from(u8::try_from(self.tensor_type().row_bytes(32)).unwrap_or(u8::MAX)) / 32.0
    }
}

impl KvType {
    /// Both in single precision.
    pub const F32: Self = Self::both(CacheType::F32);
    /// Both in half precision: the usual choice.
    pub const F16: Self = Self::both(CacheType::F16);
    /// Both in bytes with a scale for 32.
    pub const Q8_0: Self = Self::both(CacheType::Q8_0);

    /// Keys and values of one type.
    #[must_use]
    pub const fn both(ty: CacheType) -> Self {
        Self { keys: ty, values: ty }
    }

    /// The types that `K` or `K,V` (also `K/V`) names, in upper or lower case; `None` if a name is not one of a [`CacheType`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (keys, values) = text.split_once([',', '/']).unwrap_or((text, text));
        let named = |name: &str| {
            CacheType::ALL.into_iter().find(|ty| ty.tensor_type().name().eq_ignore_ascii_case(name.trim()))
        };
        Some(Self { keys: named(keys)?, values: named(values)? })
    }
}

impl fmt::Display for CacheType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.tensor_type().name().to_ascii_lowercase())
    }
}

/// `f16`, or `q8_0,q4_0` where keys and values differ.
impl fmt::Display for KvType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, values } = self;
        if keys == values { keys.fmt(f) } else { f.pad(&format!("{keys},{values}")) }
    }
}

/// What a cache holds for each position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvSpec {
    /// Key-value heads.
    pub heads: usize,
    /// Length of a key head.
    pub k_dim: usize,
    /// Length of a value head.
    pub v_dim: usize,
    /// Types of the numbers.
    pub ty: KvType,
    /// Positions that a query sees, itself included; older pages are dropped.
    pub window: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::{CacheType, KvType};

    #[test]
    fn names_are_read_as_they_are_written() {
        for keys in CacheType::ALL {
            for values in CacheType::ALL {
                let ty = KvType { keys, values };
                assert_eq!(KvType::parse(&ty.to_string()), Some(ty));
            }
        }
        assert_eq!(KvType::parse("Q8_0/f16"), KvType::parse("q8_0,F16"));
        assert_eq!(KvType::parse("Q8_0, f16"), Some(KvType { keys: CacheType::Q8_0, values: CacheType::F16 }));
        assert_eq!([KvType::parse("q4_k"), KvType::parse("f16,"), KvType::parse("")], [None; 3]);
    }
}
