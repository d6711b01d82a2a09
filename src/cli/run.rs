//! `gguf run`: a chat with a model that is fetched first where it is not on this machine.

use std::path::PathBuf;
use std::process::ExitCode;

use gguf_toolkit::stores::{Error, Places};

use crate::chat;
use crate::pull::{self, NetArgs};

/// Chats with a model, as gguf chat does, and fetches it first if it is not on this machine.
///
/// With a message, or with text on standard input, answers once and ends: standard output holds the answer alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf run bartowski/Llama-3.2-1B-Instruct-GGUF
  gguf run bartowski/Llama-3.2-1B-Instruct-GGUF:Q8_0 \"Why is the sky blue?\"
  gguf run llama3.2:1b --system \"Answer in one sentence.\"    # from Ollama's registry
  gguf run model.gguf                                        # the same as gguf chat")]
pub(crate) struct Args {
    #[command(flatten)]
    chat: chat::Args,
    #[command(flatten, next_help_heading = "Fetching")]
    net: NetArgs,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Some(name) = args.chat.model().and_then(|model| model.to_str()) else { return chat::run(&args.chat) };
    match Places::from_environment().resolve(name) {
        Err(Error::NotFound { .. }) if !name.to_lowercase().ends_with(".gguf") => {
            let fetched = pull::pull_model(name, &args.net)?;
            chat::run(&args.chat.clone().with_model(PathBuf::from(fetched)))
        }
        // What else is wrong with a name is said where the model is opened.
        _ => chat::run(&args.chat),
    }
}
