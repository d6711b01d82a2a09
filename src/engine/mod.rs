//! Running models: sessions, samplers, generation, chat templates, chats.

pub(crate) mod answer_splitter;
mod batcher;
mod chat;
mod constraint;
mod embedding;
mod error;
mod generation;
mod infill;
mod logprobs;
mod prefix_cache;
pub(crate) mod prompter;
mod reranker;
mod sampler;
mod schema;
mod session;
mod session_file;
mod slot_files;
mod slots;
mod speculation;
pub(crate) mod template;
mod thinking;
pub(crate) mod tools;
mod updates;

pub use batcher::{Batcher, BatcherOptions, BatcherStatus, Request, SlotStatus};
pub use chat::{Chat, ChatEvent, ChatOptions, Note, WhenFull};
pub use constraint::{Constraint, Grammar, TokenTrie};
pub use embedding::{Embedder, EmbeddingOptions, to_unit_length};
pub use error::Error;
pub use generation::{Answer, Event, Generation, GenerationOptions, Progress, Stop};
pub use infill::InfillTokens;
pub use logprobs::Logprobs;
pub use reranker::{Pair, Reranker};
pub use sampler::{SETTINGS, Sampler, SamplerOptions, Setting, likeliest};
pub use session::{Session, SessionOptions};
pub use session_file::SessionFileError;
pub use slot_files::{SlotError, SlotFile};
pub use speculation::{DraftModel, OwnLayer, SpeculationOptions};
pub use template::{
    ChatTemplate, GoTemplateError, Message, Rendered, TemplateOptions, builtin_template, builtin_template_names,
    jinja_of_go,
};
pub use thinking::{Part as ThinkingPart, ThinkingSplitter, ThinkingStyle};
pub use tools::{ToolCall, ToolChoice, ToolPart, ToolSplitter, ToolSyntax, Tools};
pub use updates::{Update, Updates, Usage};
