//! How fast a model runs here, beside how fast it could at most; synthetic models of any shape to measure with; and load on
//! servers.

mod load;
mod measure;
mod shape;
mod synthetic;

pub use load::{Answered, Error as LoadError, Figures, LoadOptions, LoadReport, Server as LoadServer, load};
pub use measure::{Kind, Measured, Options, Report, Test, measure, prompt};
pub use shape::Shape;
pub use synthetic::SyntheticModel;
