//! Everything that is computed often, for one CPU: products of matrices, attention, vector functions, threads.
//!
//! Each kernel is written once over `lanes::Lanes` and compiled for every instruction set; a few have a version of
//! their own for one. All of them give the same bits: what differs is speed.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "kernels narrow on purpose, within ranges that their formats fix"
)]
#![allow(clippy::needless_range_loop, reason = "kernels walk several arrays side by side")]

mod activation;
mod activations;
pub(crate) mod attention;
mod blocks;
mod decode;
mod encode;
mod error;
mod floats;
mod groups;
mod integers;
mod isa;
mod lanes;
mod limits;
mod matmul;
mod matrix;
mod panels;
mod pool;
mod powers;
pub(crate) mod q8_tile;
pub(crate) mod recurrence;
mod rows;
mod scratch;
mod tiles;
pub mod vector;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub use activations::Activations;
pub use decode::decode;
pub use encode::{encode, encode_with};
pub use error::Error;
pub use isa::{Isa, OVERRIDE};
pub(crate) use lanes::LANES;
pub use limits::Limits;
pub use matmul::{GatedProduct, Product, Store, gated, matmul};
pub use matrix::Matrix;
pub use pool::{Pool, Regions};
pub(crate) use scratch::Scratch;
