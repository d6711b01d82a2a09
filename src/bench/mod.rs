//! How fast a model runs here, beside how fast it could at most; and made models of any shape to measure with.

mod made;
mod measure;
mod shape;

pub use made::MadeModel;
pub use measure::{Kind, Measured, Options, Report, Test, measure, prompt};
pub use shape::Shape;
