//! GGML tensor types: id, name, block length, block size, and which bytes of a block are numbers of several bytes. The only
//! such table in the crate.
//!
//! Ids and sizes are those of `ggml.h` (`enum ggml_type`) and `ggml-common.h` of llama.cpp.

use std::fmt;

/// Numbers of several bytes that follow each other in a block.
struct Words {
    /// Bytes of each.
    bytes: usize,
    /// Bytes of the block before the first.
    at: usize,
    /// How many there are.
    count: usize,
}

const fn word(bytes: usize, at: usize) -> Words {
    words(bytes, at, 1)
}

const fn words(bytes: usize, at: usize, count: usize) -> Words {
    Words { bytes, at, count }
}

/// Behind the scale, eight pairs of four indices of a byte each and a number with a scale and signs.
const IQ2_XXS_WORDS: &[Words] = &[
    word(2, 0),
    word(4, 6),
    word(4, 14),
    word(4, 22),
    word(4, 30),
    word(4, 38),
    word(4, 46),
    word(4, 54),
    word(4, 62),
];

macro_rules! tensor_types {
    ($($variant:ident = $id:literal, $name:literal, $block_len:literal, $block_bytes:literal, $words:expr;)*) => {
        /// How the elements of a tensor are stored.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(non_camel_case_types, missing_docs, reason = "the variants are the field's own names")]
        #[repr(u32)]
        #[non_exhaustive]
        pub enum TensorType { $($variant = $id,)* }

        impl TensorType {
            /// Every type, in the order of ids.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The type with this id in a GGUF file, or `None` when no such type exists (any more).
            #[must_use]
            pub const fn from_id(id: u32) -> Option<Self> {
                match id {
                    $($id => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Name as llama.cpp prints it, in upper case (`Q4_K`).
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Elements in one block (1 for plain numbers).
            #[must_use]
            pub const fn block_len(self) -> usize {
                match self { $(Self::$variant => $block_len,)* }
            }

            /// Bytes of one block.
            #[must_use]
            pub const fn block_bytes(self) -> usize {
                match self { $(Self::$variant => $block_bytes,)* }
            }

            /// The numbers of several bytes in a block; its other bytes are the same in both byte orders.
            const fn words(self) -> &'static [Words] {
                match self { $(Self::$variant => const { $words },)* }
            }
        }
    };
}

// The last column follows ggml's structures where these have numbers of two and four bytes, and the casts of its decoders where they
// read such numbers from fields of bytes (the fifth bits of Q5_0 and Q5_1; scales of the IQ types).
tensor_types! {
    F32 = 0, "F32", 1, 4, &[word(4, 0)];
    F16 = 1, "F16", 1, 2, &[word(2, 0)];
    Q4_0 = 2, "Q4_0", 32, 18, &[word(2, 0)];
    Q4_1 = 3, "Q4_1", 32, 20, &[words(2, 0, 2)];
    Q5_0 = 6, "Q5_0", 32, 22, &[word(2, 0), word(4, 2)];
    Q5_1 = 7, "Q5_1", 32, 24, &[words(2, 0, 2), word(4, 4)];
    Q8_0 = 8, "Q8_0", 32, 34, &[word(2, 0)];
    Q8_1 = 9, "Q8_1", 32, 36, &[words(2, 0, 2)];
    Q2_K = 10, "Q2_K", 256, 84, &[words(2, 80, 2)];
    Q3_K = 11, "Q3_K", 256, 110, &[word(2, 108)];
    Q4_K = 12, "Q4_K", 256, 144, &[words(2, 0, 2)];
    Q5_K = 13, "Q5_K", 256, 176, &[words(2, 0, 2)];
    Q6_K = 14, "Q6_K", 256, 210, &[word(2, 208)];
    Q8_K = 15, "Q8_K", 256, 292, &[word(4, 0), words(2, 260, 16)];
    IQ2_XXS = 16, "IQ2_XXS", 256, 66, IQ2_XXS_WORDS;
    IQ2_XS = 17, "IQ2_XS", 256, 74, &[words(2, 0, 33)];
    IQ3_XXS = 18, "IQ3_XXS", 256, 98, &[word(2, 0), words(4, 66, 8)];
    IQ1_S = 19, "IQ1_S", 256, 50, &[word(2, 0), words(2, 34, 8)];
    IQ4_NL = 20, "IQ4_NL", 32, 18, &[word(2, 0)];
    IQ3_S = 21, "IQ3_S", 256, 110, &[word(2, 0)];
    IQ2_S = 22, "IQ2_S", 256, 82, &[word(2, 0)];
    IQ4_XS = 23, "IQ4_XS", 256, 136, &[words(2, 0, 2)];
    I8 = 24, "I8", 1, 1, &[];
    I16 = 25, "I16", 1, 2, &[word(2, 0)];
    I32 = 26, "I32", 1, 4, &[word(4, 0)];
    I64 = 27, "I64", 1, 8, &[word(8, 0)];
    F64 = 28, "F64", 1, 8, &[word(8, 0)];
    IQ1_M = 29, "IQ1_M", 256, 56, &[words(2, 48, 4)];
    BF16 = 30, "BF16", 1, 2, &[word(2, 0)];
    TQ1_0 = 34, "TQ1_0", 256, 54, &[word(2, 52)];
    TQ2_0 = 35, "TQ2_0", 256, 66, &[word(2, 64)];
    MXFP4 = 39, "MXFP4", 32, 17, &[];
    NVFP4 = 40, "NVFP4", 64, 36, &[];
    Q1_0 = 41, "Q1_0", 128, 18, &[word(2, 0)];
    Q2_0 = 42, "Q2_0", 64, 18, &[word(2, 0)];
}

impl TensorType {
    /// The id written to a GGUF file.
    #[must_use]
    pub const fn id(self) -> u32 {
        self as u32
    }

    /// The type with this name, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|ty| ty.name().eq_ignore_ascii_case(name))
    }

    /// Whether a block holds more than one element.
    #[must_use]
    pub const fn is_quantized(self) -> bool {
        self.block_len() > 1
    }

    /// Bytes of `elements` elements: `None` unless they fill whole blocks and the size fits 64 bits.
    #[must_use]
    pub const fn bytes_for(self, elements: u64) -> Option<u64> {
        let block_len = self.block_len() as u64;
        if !elements.is_multiple_of(block_len) {
            return None;
        }
        (elements / block_len).checked_mul(self.block_bytes() as u64)
    }

    /// Bytes of a row of `cols` elements.
    ///
    /// # Panics
    /// If `cols` does not fill whole blocks.
    #[must_use]
    pub const fn row_bytes(self, cols: usize) -> usize {
        assert!(cols.is_multiple_of(self.block_len()), "row does not fill whole blocks");
        cols / self.block_len() * self.block_bytes()
    }
}

impl TensorType {
    /// Turns whole blocks from one byte order to the other: every number of several bytes is reversed.
    ///
    /// # Panics
    /// If `blocks` are not whole blocks.
    pub fn reverse_bytes(self, blocks: &mut [u8]) {
        assert!(blocks.len().is_multiple_of(self.block_bytes()), "not whole blocks of {self}");
        let words = self.words();
        if words.is_empty() {
            return;
        }
        for block in blocks.chunks_exact_mut(self.block_bytes()) {
            for &Words { bytes, at, count } in words {
                block[at..at + bytes * count].chunks_exact_mut(bytes).for_each(<[u8]>::reverse);
            }
        }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::TensorType;

    #[test]
    fn ids_and_names_lead_back() {
        for &ty in TensorType::ALL {
            assert_eq!(TensorType::from_id(ty.id()), Some(ty));
            assert_eq!(TensorType::from_name(&ty.name().to_lowercase()), Some(ty));
        }
        assert_eq!(TensorType::from_id(4), None, "Q4_2 was removed");
    }

    #[test]
    fn reversing_twice_changes_nothing() {
        for &ty in TensorType::ALL {
            let blocks: Vec<u8> = (1..=251).cycle().step_by(7).take(3 * ty.block_bytes()).collect();
            let mut reversed = blocks.clone();
            ty.reverse_bytes(&mut reversed);
            let is_bytes = matches!(ty, TensorType::I8 | TensorType::MXFP4 | TensorType::NVFP4);
            assert_eq!(reversed == blocks, is_bytes, "{ty}");
            ty.reverse_bytes(&mut reversed);
            assert_eq!(reversed, blocks, "{ty}");
        }
        let mut numbers = [1, 2, 3, 4, 5, 6, 7, 8];
        TensorType::F32.reverse_bytes(&mut numbers);
        assert_eq!(numbers, [4, 3, 2, 1, 8, 7, 6, 5]);
        TensorType::F64.reverse_bytes(&mut numbers);
        assert_eq!(numbers, [5, 6, 7, 8, 1, 2, 3, 4]);
    }

    #[test]
    fn sizes_never_wrap() {
        assert_eq!(TensorType::Q4_K.bytes_for(512), Some(288));
        assert_eq!(TensorType::Q4_K.bytes_for(100), None);
        assert_eq!(TensorType::F64.bytes_for(u64::MAX), None);
    }
}
