//! Vectors of sixteen lanes, and the instruction sets of CPUs that have them.
//!
//! A kernel is written once over [`lanes::Lanes`] and compiled for every instruction set; all of them give the same bits,
//! with [`scalar::Scalar`] as the reference. An instruction set is a file in the folder of its CPU and an entry in `isa.rs`.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "lanes cast to smaller types on purpose, within ranges that their callers fix"
)]
#![allow(clippy::needless_range_loop, reason = "lanes walk several arrays side by side")]

#[cfg(target_arch = "aarch64")]
pub(crate) mod aarch64;
pub(crate) mod integers;
mod isa;
pub(crate) mod lanes;
pub(crate) mod scalar;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86_64;

pub use isa::{Isa, IsaError, OVERRIDE};

/// Lanes of a vector.
pub(crate) const LANES: usize = 16;
