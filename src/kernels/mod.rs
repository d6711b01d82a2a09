//! The inner loops of the engine: matrix products, attention, vector functions, and the thread pool.
//!
//! Each kernel is written once over `simd::lanes::Lanes` and compiled for every instruction set; a few also have a version
//! for one instruction set. All versions give the same bits and differ in speed alone.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "kernels cast to smaller types on purpose, within ranges that their formats fix"
)]
#![allow(clippy::needless_range_loop, reason = "kernels walk several arrays side by side")]

mod activation;
pub(crate) mod attention;
pub(crate) mod code_tile;
mod error;
pub(crate) mod grid;
pub(crate) mod index_scores;
mod limits;
pub(crate) mod lines;
mod pool;
mod product;

pub(crate) mod recurrence;
mod scratch;
pub mod vector;

pub(crate) use crate::simd::LANES;
pub use crate::simd::{Isa, IsaError, OVERRIDE};
pub use error::Error;
pub use limits::Limits;
pub use pool::{Pool, Regions};
pub use product::{Activations, GatedProduct, Matrix, Product, Store, gated, matmul};
pub(crate) use scratch::{List, Scratch};
