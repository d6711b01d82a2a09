//! The order of the bytes of numbers in a file. Metadata in memory and tensor data that readers give are little-endian always.

use std::fmt;

use super::value::ValueType;

/// The order of the bytes of numbers in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ByteOrder {
    /// The lowest byte first, as in nearly every file.
    #[default]
    Little,
    /// The highest byte first, for machines such as IBM's s390x.
    Big,
}

impl ByteOrder {
    /// Bytes of a number of this order as little-endian ones, or the other way round.
    pub(super) fn arrange<const N: usize>(self, mut number: [u8; N]) -> [u8; N] {
        if self == Self::Big {
            number.reverse();
        }
        number
    }
}

impl fmt::Display for ByteOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Little => "little-endian",
            Self::Big => "big-endian",
        })
    }
}

/// Turns the elements of an array, which are in the order `from`, to the other order. `None` where they are not whole.
pub(super) fn reverse_elements(element: ValueType, len: usize, from: ByteOrder, bytes: &mut [u8]) -> Option<()> {
    reverse_some(element, len as u64, from, bytes).map(drop)
}

/// As [`reverse_elements`]; returns what follows the elements.
fn reverse_some(element: ValueType, len: u64, from: ByteOrder, bytes: &mut [u8]) -> Option<&mut [u8]> {
    if let Some(width) = element.fixed_bytes() {
        let all = usize::try_from(len).ok()?.checked_mul(width)?;
        let (numbers, rest) = bytes.split_at_mut_checked(all)?;
        if width > 1 {
            numbers.chunks_exact_mut(width).for_each(<[u8]>::reverse);
        }
        return Some(rest);
    }
    let mut rest = bytes;
    for _ in 0..len {
        rest = if element == ValueType::Array {
            let (inner, after) = number::<4>(rest, from)?;
            let (inner_len, after) = number::<8>(after, from)?;
            let inner = ValueType::from_id(u32::from_le_bytes(inner))?;
            reverse_some(inner, u64::from_le_bytes(inner_len), from, after)?
        } else {
            let (text, after) = number::<8>(rest, from)?;
            after.split_at_mut_checked(usize::try_from(u64::from_le_bytes(text)).ok()?)?.1
        };
    }
    Some(rest)
}

/// The first number as little-endian bytes, which is reversed where it stands, and what follows.
fn number<const N: usize>(bytes: &mut [u8], from: ByteOrder) -> Option<([u8; N], &mut [u8])> {
    let (number, rest) = bytes.split_first_chunk_mut::<N>()?;
    let value = from.arrange(*number);
    number.reverse();
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::{ByteOrder, reverse_elements};
    use crate::gguf::ValueType;

    #[test]
    fn elements_of_every_kind_are_turned_and_back() {
        // Two arrays: of the text "ab", and of the number 1 in two bytes.
        let mut little = Vec::new();
        little.extend(8_u32.to_le_bytes());
        little.extend(1_u64.to_le_bytes());
        little.extend(2_u64.to_le_bytes());
        little.extend(b"ab");
        little.extend(2_u32.to_le_bytes());
        little.extend(1_u64.to_le_bytes());
        little.extend(1_u16.to_le_bytes());
        let mut bytes = little.clone();
        assert_eq!(reverse_elements(ValueType::Array, 2, ByteOrder::Little, &mut bytes), Some(()));
        assert_eq!(bytes[..4], 8_u32.to_be_bytes());
        assert_eq!(bytes[20..22], *b"ab");
        assert_eq!(bytes[34..], 1_u16.to_be_bytes());
        assert_eq!(reverse_elements(ValueType::Array, 2, ByteOrder::Big, &mut bytes), Some(()));
        assert_eq!(bytes, little);
        assert_eq!(reverse_elements(ValueType::Array, 2, ByteOrder::Little, &mut little[..30]), None);
        assert_eq!(reverse_elements(ValueType::U32, 2, ByteOrder::Little, &mut [0; 7]), None);
    }
}
