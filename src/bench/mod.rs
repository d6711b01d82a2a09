//! How fast a model runs here, beside how fast it could at most; synthetic models of any shape to measure with; and load on
//! servers.

mod load;
mod synthetic;
mod measure;
mod shape;

pub use load::{Answered, Error as LoadError, Figures, LoadOptions, LoadReport, Server as LoadServer, load};
pub use synthetic::SyntheticModel;
pub use measure::{Kind, Measured, Options, Report, Test, measure, prompt};
pub use shape::Shape;
