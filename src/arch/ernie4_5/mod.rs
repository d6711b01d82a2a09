//! ERNIE 4.5, dense: the usual model, whose checkpoints already have neighbours for pairs.

use super::family::Family;
use super::usual;
use crate::network::RopeStyle;

/// The family.
pub(super) static ERNIE4_5: Family = Family::new(
    "ernie4_5",
    &["Ernie4_5ForCausalLM", "Ernie4_5_ForCausalLM"],
    |h| usual::tensors(h, false),
    |h, weights| usual::spec(h, weights, RopeStyle::Pairs),
);
