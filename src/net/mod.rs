//! Fetches models from Hugging Face and registries with Ollama's protocol. Models are put into the stores of the programs that
//! usually fetch them, so that these find them too and nothing is stored twice.
//!
//! [`Settings`] have the servers and folders, a [`Plan`] has the files for a name, and [`Plan::fetch`] fetches them. A file gets
//! its name when all its bytes are on the disk and match the server's checksum. Interrupted fetches can be continued.

mod badge;
mod browse;
mod checksum;
mod client;
mod download;
mod error;
mod folders;
mod hub;
mod hub_cache;
mod names;
mod ollama_registry;
mod part;
mod plan;
mod remote;
mod selection;
mod settings;
mod url;

pub use badge::{Badge, BadgeOptions, Basis, badges, bits_per_weight, loss, model_json};
pub use browse::{Offered, Offers, SearchHit, offers, search};
pub use client::ClientOptions;
pub use download::{Observer, Phase, Progress};
pub use error::Error;
pub use plan::{Plan, PlannedFile, PullOptions, Wanted};
pub use remote::{RemoteError, open_remote};
pub use selection::Choice;
pub use settings::Settings;
