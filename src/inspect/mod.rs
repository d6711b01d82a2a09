//! What can be told of a model's file without running it: [`Summary`], a glance at its header; [`usable`], whether this
//! program can run it; [`values`], what its numbers look like; [`Difference`], how two files differ. Used by
//! `gguf inspect`, `gguf list` and `gguf diff`.

mod decoded;
mod difference;
mod summary;
mod template;
mod usable;
mod values;

pub use decoded::DecodeError;
pub use difference::{DataDifference, Difference, KeyDifference, TensorChange, TensorDifference, tensor_difference};
pub use summary::{Role, Summary, Vocabulary};
pub use template::TemplateFeatures;
pub use usable::{Ability, NotUsable, usable};
pub use values::{Histogram, Outlier, Values, values};
