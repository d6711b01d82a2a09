//! What can be told of a model's file without running it: [`Summary`], a glance at its header; [`usable`], whether this
//! program can run it; [`Fit`], what memory it would need here and how fast it would be; [`values`], what
//! its numbers look like; [`Difference`], how two files differ; [`hash`], checksums. Used by `gguf inspect`, `gguf list`,
//! `gguf diff` and `gguf hash`.

mod decoded;
mod difference;
mod fit;
pub mod hash;
mod summary;
mod template;
mod usable;
mod values;

pub use decoded::DecodeError;
pub(crate) use decoded::{Decoder, PIECE};
pub use difference::{DataDifference, Difference, KeyDifference, TensorChange, TensorDifference, tensor_difference};
pub use fit::{Fit, Machine, Needs, Verdict};
pub use summary::{Role, Summary, Vocabulary};
pub use template::TemplateFeatures;
pub use usable::{Ability, NotUsable, usable};
pub use values::{Histogram, Outlier, Values, values};
