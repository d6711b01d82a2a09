//! The `gguf` command: one module a subcommand, which parses, calls the library and prints.
//!
//! Exit codes: 0 done, 1 a negative finding, 2 failure or wrong usage, 70 a fault of the program, 130 interrupted.

#![deny(clippy::print_stdout, reason = "it panics where standard output is closed or full: write to it instead")]

/// A remark on standard error, unless `--quiet` is given. The standard macro of this name panics where it cannot be written (a full
/// disk, a closed terminal); the exit code is that of the work, whoever reads the remarks.
macro_rules! eprintln {
    ($($arg:tt)*) => {
        if !crate::progress::is_quiet() {
            crate::progress::tell(format_args!($($arg)*));
        }
    };
}

mod bench;
#[cfg(feature = "net")]
mod browse;
mod chat;
mod check;
mod compare;
mod completions;
mod convert;
mod create;
mod demo;
mod detokenize;
mod diff;
mod edit;
mod embed;
mod export;
mod faults;
mod hash;
mod imatrix;
mod inspect;
mod interrupt;
mod list;
mod logits;
mod man;
mod model_args;
mod outputs;
mod pager;
mod perplexity;
mod progress;
mod ps;
#[cfg(feature = "net")]
mod pull;
mod quantize;
#[cfg(feature = "net")]
mod remove;
mod rerank;
#[cfg(feature = "net")]
mod run;
#[cfg(feature = "serve")]
mod serve;
mod show;
mod speculation;
mod split;
mod table;
mod terminal;
mod tips;
mod tokenize;
mod totals;
mod units;

use std::io::{self, ErrorKind};
use std::panic::{self, PanicHookInfo};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::error::ErrorKind as Usage;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use gguf_toolkit::printable::printable;

const AFTER_HELP: &str = "\
From a checkpoint to a chat:
  gguf convert ./Llama-3.2-1B-Instruct -t f16 -o llama-f16.gguf
  gguf inspect llama-f16.gguf
  gguf quantize llama-f16.gguf -t Q4_K_M -o llama-q4_k_m.gguf
  gguf perplexity llama-*.gguf -f text.txt
  gguf chat llama-q4_k_m.gguf
A MODEL is a file, a folder with one, or a name that `gguf list` shows, such as
org/repo:Q4_K_M or llama3.1:8b. Without one, commands take the small model in
this program. `gguf COMMAND --help` tells more.
Exit codes: 0 done, 1 a negative finding, 2 failure or wrong usage, 130 interrupted.";
#[global_allocator]
static ALLOCATOR: faults::ExitWhenFull = faults::ExitWhenFull;

const FAILURE: u8 = 2;
const INTERNAL: u8 = 70;
const INTERRUPTED: i32 = 130;

/// The toolkit for GGUF model files: inspect, convert, quantize, measure and chat
#[derive(Debug, Parser)]
#[command(name = "gguf", version, arg_required_else_help = true, after_help = AFTER_HELP)]
struct Cli {
    /// What other programs print for -v.
    #[arg(short = 'v', hide = true, action = clap::ArgAction::Version)]
    #[allow(dead_code, reason = "the version is printed while arguments are parsed")]
    also_version: Option<bool>,
    /// No remarks and no progress on standard error: errors alone
    #[arg(long, short, global = true, display_order = 900)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(about = "Watch a checkpoint go all the way: convert, inspect, quantize, measure, chat")]
    Demo(demo::Args),
    #[command(about = "Convert a Hugging Face folder to a GGUF file")]
    Convert(convert::Args),
    #[command(about = "Show what is inside GGUF files: metadata, tensors, totals")]
    Inspect(inspect::Args),
    #[command(about = "Compare two models: metadata, tensors, numbers")]
    Diff(diff::Args),
    #[command(about = "Look for what is wrong with models: structure, tokenizer, template, numbers")]
    Check(check::Args),
    #[command(about = "Find the quantization that is good enough: quality, size and speed, side by side")]
    Compare(compare::Args),
    #[command(about = "Change metadata: keys, chat template, special tokens; names of tensors; byte order")]
    Edit(edit::Args),
    #[command(about = "Print checksums of a model and its tensors, or compare them with a manifest")]
    Hash(hash::Args),
    #[command(about = "List the models on this machine", alias = "ls")]
    List(list::Args),
    #[command(about = "Show what a model is by its name: its settings, system prompt, license, recipe")]
    Show(show::Args),
    #[command(about = "List the models that a running server has loaded")]
    Ps(ps::Args),
    #[command(about = "Make a model by a recipe (Modelfile): with its own template, system prompt, settings")]
    Create(create::Args),
    #[command(about = "Give a model a further name", alias = "copy")]
    Cp(create::CopyArgs),
    #[cfg(feature = "net")]
    #[command(about = "Search Hugging Face for models, or list those of a repository", alias = "search")]
    Browse(browse::Args),
    #[cfg(feature = "net")]
    #[command(about = "Fetch models from Hugging Face or Ollama's registry", aliases = ["download", "get"])]
    Pull(pull::Args),
    #[cfg(feature = "net")]
    #[command(about = "Remove models by their names", alias = "remove")]
    Rm(remove::Args),
    #[cfg(feature = "net")]
    #[command(about = "Remove what interrupted fetches have left")]
    Prune(remove::PruneArgs),
    #[command(about = "Split a model into several files")]
    Split(split::SplitArgs),
    #[command(about = "Join the files of a split model to one")]
    Merge(split::MergeArgs),
    #[command(about = "Export a GGUF file as a Hugging Face folder, for vLLM and the like")]
    Export(export::Args),
    #[command(about = "Make a model smaller: weights of fewer bits")]
    Quantize(quantize::Args),
    #[command(about = "Find out which weights matter: an importance matrix for quantize")]
    Imatrix(imatrix::Args),
    #[command(about = "Measure how well models predict a text")]
    Perplexity(perplexity::Args),
    #[command(about = "Measure how fast a model runs, beside what the machine can do")]
    Bench(bench::Args),
    #[cfg(feature = "net")]
    #[command(about = "Chat with a model, which is fetched first if it is not here")]
    Run(run::Args),
    #[command(about = "Chat with a model, or get one answer")]
    Chat(chat::Command),
    #[cfg(feature = "serve")]
    #[command(about = "Serve models over HTTP: OpenAI's, llama-server's and Ollama's API")]
    Serve(serve::Args),
    #[command(about = "Turn texts into vectors, to compare them by meaning")]
    Embed(embed::Args),
    #[command(about = "Order documents by how well they answer a query")]
    Rerank(rerank::Args),
    #[command(about = "Show the likeliest next tokens, or write logits for programs")]
    Logits(logits::Args),
    #[command(about = "Show how a text becomes tokens")]
    Tokenize(tokenize::Args),
    #[command(about = "Turn tokens back to text")]
    Detokenize(detokenize::Args),
    #[command(about = "Print a completion script for a shell")]
    Completions(completions::Args),
    #[command(about = "Print the manual page, or write those of all commands")]
    Man(man::Args),
    #[command(about = "Print the version", hide = true)]
    Version,
}

impl Command {
    fn run(&self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Demo(args) => demo::run(args),
            Self::Convert(args) => convert::run(args),
            Self::Inspect(args) => inspect::run(args),
            Self::Diff(args) => diff::run(args),
            Self::Check(args) => check::run(args),
            Self::Compare(args) => compare::run(args),
            Self::Edit(args) => edit::run(args),
            Self::Hash(args) => hash::run(args),
            Self::List(args) => list::run(args),
            #[cfg(feature = "net")]
            Self::Browse(args) => browse::run(args),
            #[cfg(feature = "net")]
            Self::Pull(args) => pull::run(args),
            Self::Show(args) => show::run(args),
            Self::Ps(args) => ps::run(args),
            Self::Create(args) => create::run(args),
            Self::Cp(args) => create::copy(args),
            #[cfg(feature = "net")]
            Self::Rm(args) => remove::remove(args),
            #[cfg(feature = "net")]
            Self::Prune(args) => remove::prune(args),
            Self::Split(args) => split::split(args),
            Self::Merge(args) => split::merge(args),
            Self::Export(args) => export::run(args),
            Self::Quantize(args) => quantize::run(args),
            Self::Imatrix(args) => imatrix::run(args),
            Self::Perplexity(args) => perplexity::run(args),
            Self::Bench(args) => bench::run(args),
            #[cfg(feature = "net")]
            Self::Run(args) => run::run(args),
            Self::Chat(command) => chat::run(&command.args),
            #[cfg(feature = "serve")]
            Self::Serve(args) => serve::run(args),
            Self::Embed(args) => embed::run(args),
            Self::Rerank(args) => rerank::run(args),
            Self::Logits(args) => logits::run(args),
            Self::Tokenize(args) => tokenize::run(args),
            Self::Detokenize(args) => detokenize::run(args),
            Self::Completions(args) => completions::run(args),
            Self::Man(args) => man::run(args),
            Self::Version => {
                model_args::print(concat!("gguf ", env!("CARGO_PKG_VERSION"), "\n")).map(|()| ExitCode::SUCCESS)
            }
        }
    }
}

fn main() -> ExitCode {
    faults::install_handlers();
    panic::set_hook(Box::new(print_panic));
    if let Some(advice) = chat::foreign_option(std::env::args().skip(1)) {
        progress::tell(format_args!("error: {advice}"));
        return FAILURE.into();
    }
    let run = || {
        ctrlc::set_handler(interrupted).context("cannot handle Ctrl-C")?;
        match parsed() {
            Ok(Cli { command, quiet, .. }) => {
                progress::set_quiet(quiet);
                command.run()
            }
            Err(help) if matches!(help.kind(), Usage::DisplayHelp | Usage::DisplayVersion) => {
                let text = help.render();
                pager::show(&if terminal::is_rich() { text.ansi().to_string() } else { text.to_string() })?;
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => tips::with_tip(error).exit(),
        }
    };
    match panic::catch_unwind(panic::AssertUnwindSafe(run)) {
        Ok(Ok(code)) => code,
        Ok(Err(error)) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            print_error(&error);
            FAILURE.into()
        }
        // The hook has reported it.
        Err(_) => INTERNAL.into(),
    }
}

/// The arguments. Options of `serve` may also come from the environment: services are configured so.
fn parsed() -> Result<Cli, clap::Error> {
    let command = Cli::command();
    #[cfg(feature = "serve")]
    let command = command.mut_subcommand("serve", |command| command.mut_args(serve::from_environment));
    Cli::from_arg_matches(&command.try_get_matches()?)
}

/// Runs on a thread of its own.
fn interrupted() {
    if interrupt::note() {
        return;
    }
    gguf_toolkit::files::remove_temporaries();
    terminal::leave_full_screen();
    std::process::exit(INTERRUPTED);
}

fn print_panic(info: &PanicHookInfo<'_>) {
    terminal::leave_full_screen();
    progress::tell(format_args!("error: internal error, please report it: {}", printable(&info.to_string())));
}

/// Whether the reader of our output has gone: `gguf inspect model.gguf | head`.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// Prints an error with its causes in one line.
fn print_error(error: &anyhow::Error) {
    let mut line = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Most of our errors have their cause in their text.
        if !line.contains(&cause) {
            line.push_str(": ");
            line.push_str(&cause);
        }
    }
    progress::tell(format_args!("error: {}", printable(&line)));
}
