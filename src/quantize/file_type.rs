//! The mixes that a file can be quantized to: llama.cpp's file types, by name and number.

use std::fmt;

use crate::TensorType;
use crate::formats;
use crate::gguf::{Metadata, Value, keys};

macro_rules! file_types {
    ($($name:ident = $id:literal, $ty:ident, $text:literal;)*) => {
        /// A mix of tensor types.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(non_camel_case_types, missing_docs, reason = "the variants are the field's own names")]
        #[non_exhaustive]
        pub enum FileType { $($name,)* }

        impl FileType {
            /// Every mix.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its number in `general.file_type`.
            #[must_use]
            pub const fn id(self) -> u32 {
                match self { $(Self::$name => $id,)* }
            }

            /// That number as text.
            #[must_use]
            pub const fn id_text(self) -> &'static str {
                match self { $(Self::$name => stringify!($id),)* }
            }

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// The type of all tensors for which the mix has no other rule.
            #[must_use]
            pub const fn default_type(self) -> TensorType {
                match self { $(Self::$name => TensorType::$ty,)* }
            }

            /// A short description.
            #[must_use]
            pub const fn description(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

file_types! {
    F32 = 0, F32, "single precision";
    F16 = 1, F16, "half precision";
    BF16 = 32, BF16, "bfloat16";
    Q8_0 = 7, Q8_0, "nearly indistinguishable from F16";
    Q6_K = 18, Q6_K, "very small loss";
    Q5_K_M = 17, Q5_K, "small loss: more bits where they matter";
    Q5_K_S = 16, Q5_K, "small loss";
    Q4_K_M = 15, Q4_K, "the usual choice: good balance of size and quality";
    Q4_K_S = 14, Q4_K, "smaller than Q4_K_M, a little worse";
    Q3_K_L = 13, Q3_K, "noticeable loss";
    Q3_K_M = 12, Q3_K, "noticeable loss, smaller";
    Q3_K_S = 11, Q3_K, "large loss";
    Q2_K = 10, Q2_K, "largest loss of the K types";
    Q2_K_S = 21, Q2_K, "smaller than Q2_K; needs an importance matrix";
    IQ4_NL = 25, IQ4_NL, "between Q4_K_S and IQ4_XS, blocks of 32";
    IQ4_XS = 30, IQ4_XS, "a little smaller than Q4_K_S, as good with an importance matrix";
    IQ3_M = 27, IQ3_S, "smaller than Q3_K_M, better with an importance matrix";
    IQ3_S = 26, IQ3_S, "size of Q3_K_S, better with an importance matrix";
    IQ3_XS = 22, IQ3_S, "smaller than Q3_K_S; needs an importance matrix";
    IQ3_XXS = 23, IQ3_XXS, "large loss; needs an importance matrix";
    IQ2_M = 29, IQ2_S, "very large loss; needs an importance matrix";
    IQ2_S = 28, IQ2_XS, "very large loss; needs an importance matrix";
    IQ2_XS = 20, IQ2_XS, "very large loss; needs an importance matrix";
    IQ2_XXS = 19, IQ2_XXS, "very large loss; needs an importance matrix";
    IQ1_M = 31, IQ1_M, "for the largest models alone; needs an importance matrix";
    IQ1_S = 24, IQ1_S, "smallest of all; needs an importance matrix";
    TQ2_0 = 37, TQ2_0, "for models trained with weights of -1, 0 and 1";
    TQ1_0 = 36, TQ1_0, "as TQ2_0, smaller and slower";
    MXFP4_MOE = 38, MXFP4, "experts in MXFP4, everything else in Q8_0";
    Q2_0 = 41, Q2_0, "for models trained for it";
    Q1_0 = 40, Q1_0, "for models trained with weights of -1 and 1";
    Q5_1 = 9, Q5_1, "older format: prefer Q5_K_M";
    Q5_0 = 8, Q5_0, "older format: prefer Q5_K_S";
    Q4_1 = 3, Q4_1, "older format: prefer Q4_K_M";
    Q4_0 = 2, Q4_0, "older format: prefer Q4_K_S";
}

impl FileType {
    /// The mix with this name (in any case; `Q4_K` is `Q4_K_M`) or number.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_uppercase();
        let name = match name.as_str() {
            "Q3_K" => "Q3_K_M",
            "Q4_K" => "Q4_K_M",
            "Q5_K" => "Q5_K_M",
            other => other,
        };
        let number = name.parse().ok();
        Self::ALL.iter().copied().find(|ty| ty.name() == name || number == Some(ty.id()))
    }
}

impl FileType {
    /// Bits of an element of the default type, the scales of its block included.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "blocks are small")]
    pub fn default_bits(self) -> f64 {
        let ty = self.default_type();
        ty.block_bytes() as f64 * 8.0 / ty.block_len() as f64
    }

    /// Whether the type of most of its tensors can be written.
    #[must_use]
    pub fn is_writable(self) -> bool {
        formats::codec(self.default_type()).is_some_and(|codec| codec.encode.is_some())
    }

    /// The mix that a file says it has.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Option<Self> {
        file_type_id(metadata).and_then(Self::from_id)
    }

    /// The mix with this number in `general.file_type`.
    #[must_use]
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|ty| ty.id() == id)
    }
}

/// Mixes of llama.cpp that llama-quantize does not write, with their numbers in `general.file_type`
/// (`enum llama_ftype`).
const OTHERS: &[(u32, &str)] = &[(39, "NVFP4")];

fn file_type_id(metadata: &Metadata) -> Option<u32> {
    metadata.get(keys::GENERAL_FILE_TYPE).and_then(Value::as_u64)?.try_into().ok()
}

/// What llama.cpp calls the mix that a file says it has, also one that cannot be written here.
#[must_use]
pub fn file_type_name_of(metadata: &Metadata) -> Option<&'static str> {
    file_type_id(metadata).and_then(file_type_name)
}

/// What llama.cpp calls the mix with this number in `general.file_type`, also one that cannot be written here.
#[must_use]
pub fn file_type_name(id: u32) -> Option<&'static str> {
    let other = || OTHERS.iter().find(|(other, _)| *other == id).map(|(_, name)| *name);
    FileType::from_id(id).map(FileType::name).or_else(other)
}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::{FileType, file_type_name};

    #[test]
    fn names_and_numbers_lead_back() {
        for &ty in FileType::ALL {
            assert_eq!(FileType::from_name(&ty.name().to_lowercase()), Some(ty));
            assert_eq!(FileType::from_name(&ty.id().to_string()), Some(ty));
        }
        assert_eq!(FileType::from_name("q4_k"), Some(FileType::Q4_K_M));
        assert_eq!(FileType::from_name("NVFP4"), None, "a type of tensors, and of no mix");
        assert_eq!([15, 30, 39, 4].map(file_type_name), [Some("Q4_K_M"), Some("IQ4_XS"), Some("NVFP4"), None]);
    }
}
