//! Measures the speed of a model relative to the limits of the machine; makes synthetic models of any shape; and measures
//! servers under load.

mod load;
mod measure;
mod shape;
mod synthetic;

pub use load::{Answered, Error as LoadError, Figures, LoadOptions, LoadReport, Server as LoadServer, load};
pub use measure::{Kind, Measured, Options, Report, Test, measure, prompt};
pub use shape::Shape;
pub use synthetic::SyntheticModel;
