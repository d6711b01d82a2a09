//! The aarch64 instruction sets.

pub(crate) mod neon;
