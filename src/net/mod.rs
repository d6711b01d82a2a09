//! Models from servers: Hugging Face and registries that speak Ollama's protocol. What comes lies in the stores of the
//! programs that keep models there, so that these find it too, and nothing is there twice.
//!
//! [`Settings`] say which servers and folders, a [`Plan`] is what a name means there, [`Plan::fetch`] brings it. A file
//! gets its name when all of its bytes are on the disk and come to the checksum that the server has named; what is
//! interrupted goes on from where it was.

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

pub use browse::{Offered, Offers, SearchHit, offers, search};
pub use client::ClientOptions;
pub use download::{Observer, Phase, Progress};
pub use error::Error;
pub use plan::{Plan, PlannedFile, PullOptions, Wanted};
pub use remote::{RemoteError, open_remote};
pub use selection::Choice;
pub use settings::Settings;
