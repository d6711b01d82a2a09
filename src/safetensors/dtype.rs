//! Element types of safetensors.

use std::fmt;

macro_rules! dtypes {
    ($($variant:ident = $name:literal, $bytes:literal;)*) => {
        /// How the elements of a tensor are stored: little-endian numbers of whole bytes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(non_camel_case_types, missing_docs, reason = "the variants are the format's own names")]
        #[non_exhaustive]
        pub enum Dtype { $($variant,)* }

        impl Dtype {
            /// The type with this name in a header.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Name in a header (`BF16`).
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Bytes of one element.
            #[must_use]
            pub const fn bytes(self) -> u64 {
                match self { $(Self::$variant => $bytes,)* }
            }
        }
    };
}

dtypes! {
    Bool = "BOOL", 1;
    U8 = "U8", 1;
    I8 = "I8", 1;
    F8_E4M3 = "F8_E4M3", 1;
    F8_E5M2 = "F8_E5M2", 1;
    F8_E8M0 = "F8_E8M0", 1;
    U16 = "U16", 2;
    I16 = "I16", 2;
    F16 = "F16", 2;
    BF16 = "BF16", 2;
    U32 = "U32", 4;
    I32 = "I32", 4;
    F32 = "F32", 4;
    U64 = "U64", 8;
    I64 = "I64", 8;
    F64 = "F64", 8;
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
