//! Running a model: sessions, samplers, chat templates, generation.

mod chat_template;
mod error;
mod generate;
mod python_json;
mod python_markup;
mod python_methods;
mod python_source;
mod sampler;
mod session;

pub use chat_template::{ChatTemplate, Message, TemplateOptions};
pub use error::Error;
pub use generate::{Answer, Generation, Stop};
pub use sampler::{Sampler, SamplerOptions, likeliest};
pub use session::{Session, SessionOptions};
