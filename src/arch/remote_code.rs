//! Families whose checkpoints bring code of their own, which transformers does not have: their GGUF files run, their checkpoints
//! are not converted. What is computed is what llama.cpp computes.

use super::family::Family;
use super::usual;
use crate::network::RopeStyle;

/// XVERSE: Llama's model. Its tokenizer's scores are not in the reference's files.
pub(super) static XVERSE: Family =
    Family::new("xverse", &[], |h| usual::tensors(h, false), |h, weights| usual::spec(h, weights, RopeStyle::Pairs));
