//! Models made of others: what a Modelfile (Ollama's recipe) says, and the manifests that are made of it.
//!
//! [`Modelfile`] parses and writes the recipe, [`create`] makes a model and [`copy`] gives one a further name, both in a store that
//! Ollama reads too. [`Setup`] is what a made model adds to its file when it is run: `gguf chat`, `run` and `serve` use it.

mod additions;
mod create;
mod error;
mod parameters;
mod parse;
mod setup;
mod write;

pub use additions::Additions;
pub use create::{Base, Created, MadeLayer, Observer, Request, Status, copy, create, parameter_size};
pub use error::Error;
pub use parameters::{parameter_lines, parse_parameter};
pub use parse::Modelfile;
pub use setup::Setup;
pub use write::modelfile_of;
