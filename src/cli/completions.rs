//! `gguf completions`: scripts that teach a shell the commands and options.

use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

/// Prints a completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf completions bash > ~/.local/share/bash-completion/completions/gguf
  gguf completions fish > ~/.config/fish/completions/gguf.fish")]
pub(crate) struct Args {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::Cli::command(), "gguf", &mut script);
    crate::model_args::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
