//! GPT-2's byte-level alphabet: bytes that are printable in Latin-1 are themselves, the others are the characters from U+0100
//! on.

/// The character for `byte` in the tokens of byte-level vocabularies.
#[must_use]
pub fn character(byte: u8) -> char {
    let shifted = match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => return char::from(byte),
        0..=0x20 => u32::from(byte),
        0x7f..=0xa0 => u32::from(byte) - 0x7f + 33,
        0xad => 67,
    };
    char::from_u32(0x100 + shifted).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte for the character `c`.
fn byte(c: char) -> Option<u8> {
    match c as u32 {
        n @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => u8::try_from(n).ok(),
        n @ 0x100..=0x120 => u8::try_from(n - 0x100).ok(),
        n @ 0x121..=0x142 => u8::try_from(n - 0x121 + 0x7f).ok(),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// The bytes for `text`, or `None` if it has other characters.
pub(super) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    std::str::from_utf8(text).ok()?.chars().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back() {
        for b in 0..=255 {
            assert_eq!(byte(character(b)), Some(b), "{b}");
        }
        assert_eq!((character(b' '), character(b'\n'), character(0x7f)), ('Ġ', 'Ċ', 'ġ'));
    }
}
