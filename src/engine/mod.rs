//! Running a model: sessions, samplers, generation, chat templates, chats.

mod chat;
mod error;
mod generation;
mod sampler;
mod session;
mod template;
mod thinking;

pub use chat::{Chat, ChatEvent, ChatOptions, Note, WhenFull};
pub use error::Error;
pub use generation::{Answer, Event, Generation, GenerationOptions, Progress, Stop};
pub use sampler::{SETTINGS, Sampler, SamplerOptions, Setting, likeliest};
pub use session::{Session, SessionOptions};
pub use template::{ChatTemplate, Message, Rendered, TemplateOptions, builtin_template, builtin_template_names};
pub use thinking::{Part as ThinkingPart, ThinkingSplitter, ThinkingStyle};
