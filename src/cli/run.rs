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
  gguf run model.gguf llama3.2:1b                            # side by side, as gguf chat shows several
  gguf run llama3.2:1b --system \"Answer in one sentence.\"    # from Ollama's registry
  gguf run model.gguf                                        # the same as gguf chat")]
pub(crate) struct Args {
    #[command(flatten)]
    chat: chat::Args,
    #[command(flatten, next_help_heading = "Fetching")]
    net: NetArgs,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut chat = args.chat.clone();
    for argument in chat.rest_mut() {
        // A further model, not a message, if a server could know its name.
        if let Some(name) = argument.to_str().filter(|name| is_address(name) && is_missing(name)) {
            *argument = pull::pull_model(name, &args.net)?.into();
        }
    }
    let name = chat.model().and_then(|model| model.to_str());
    // What else is wrong with a name is said where the model is opened.
    if let Some(name) = name.filter(|name| !name.to_lowercase().ends_with(".gguf") && is_missing(name)) {
        let fetched = pull::pull_model(name, &args.net)?;
        chat = chat.with_model(PathBuf::from(fetched));
    }
    chat::run(&chat)
}

/// Whether no model of this name is on this machine.
fn is_missing(name: &str) -> bool {
    matches!(Places::from_environment().resolve(name), Err(Error::NotFound { .. }))
}

/// Whether an argument has the form of a name that servers know, and no character that such names do not have.
fn is_address(argument: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | ':' | '.' | '_' | '-');
    crate::model_args::could_be_fetched(argument) && argument.chars().all(is_part)
}
