//! Facts about a model's file that are found without running it: [`Summary`], an overview of its header; [`usable`], whether this
//! program can run it; [`Fit`], its memory and speed on this machine; [`values`], statistics of its numbers; [`Difference`],
//! differences between two files; [`hash`], checksums. Used by `gguf inspect`, `gguf list`, `gguf diff` and `gguf hash`.

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
