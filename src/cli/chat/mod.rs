//! `gguf chat`: a conversation with a model, or one answer.

mod commands;
mod conversation;

use std::io::{IsTerminal, Read as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::bail;
use gguf::engine::{Answer, SamplerOptions, SessionOptions, Stop};
use gguf::gguf::{Metadata, Value};
use gguf::model::Model;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, DefaultEditor};

use crate::interrupt::Catching;
use crate::model_args::{self, RunArgs, short_name};
use commands::Next;
use conversation::Conversation;

/// Chats with a model in the terminal. /help lists what can be typed besides messages.
///
/// With -p, or with text on standard input, answers once and ends: standard output holds the answer alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf chat                                          # the embedded model
  gguf chat model.gguf --system \"Answer in one sentence.\"
  gguf chat model.gguf -p \"Why is the sky blue?\"
  cat letter.txt | gguf chat model.gguf -p \"Summarize:\"")]
pub(crate) struct Args {
    /// GGUF file (default: the embedded model)
    #[arg(value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Answer this message and end
    #[arg(long, short, value_name = "TEXT")]
    prompt: Option<String>,
    /// System prompt
    #[arg(long, short, value_name = "TEXT")]
    system: Option<String>,
    /// Most tokens of an answer
    #[arg(long, short = 'n', value_name = "N")]
    max_tokens: Option<usize>,
    /// Most tokens of the conversation (default: what the model was trained on)
    #[arg(long, short, value_name = "N")]
    context: Option<usize>,
    #[command(flatten)]
    run: RunArgs,
    /// Show tokens and speed after each answer
    #[arg(long, short)]
    verbose: bool,
    // Last: its heading stands over all that follows.
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// How tokens are chosen. What is not given is what the model recommends, or else the usual.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Sampling")]
struct SamplingArgs {
    /// Divisor of the logits; 0 takes the likeliest token [usual: 0.8]
    #[arg(long, short = 't', value_name = "X")]
    temperature: Option<f32>,
    /// Only the K likeliest tokens; 0 for all [usual: 40]
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Only the likeliest tokens that together reach P [usual: 0.95]
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Only tokens at least P times as likely as the likeliest [usual: 0.05]
    #[arg(long, value_name = "P")]
    min_p: Option<f32>,
    /// Divisor of the logits of recent tokens [usual: 1]
    #[arg(long, value_name = "X")]
    repeat_penalty: Option<f32>,
    /// How many tokens are recent [usual: 64]
    #[arg(long, value_name = "N")]
    repeat_last_n: Option<usize>,
    /// The same seed gives the same text
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl SamplingArgs {
    fn options(&self, metadata: &Metadata) -> SamplerOptions {
        let usual = SamplerOptions::default();
        #[allow(clippy::cast_possible_truncation, reason = "settings are single precision")]
        let own =
            |name: &str| metadata.get(&format!("general.sampling.{name}")).and_then(Value::as_f64).map(|x| x as f32);
        let own_count = |name: &str| {
            let value = metadata.get(&format!("general.sampling.{name}")).and_then(Value::as_i64);
            value.and_then(|n| usize::try_from(n).ok())
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        SamplerOptions {
            temperature: self.temperature.or_else(|| own("temp")).unwrap_or(usual.temperature),
            top_k: self.top_k.or_else(|| own_count("top_k")).unwrap_or(usual.top_k),
            top_p: self.top_p.or_else(|| own("top_p")).unwrap_or(usual.top_p),
            min_p: self.min_p.or_else(|| own("min_p")).unwrap_or(usual.min_p),
            repeat_penalty: self.repeat_penalty.or_else(|| own("penalty_repeat")).unwrap_or(usual.repeat_penalty),
            repeat_last_n: self.repeat_last_n.or_else(|| own_count("penalty_last_n")).unwrap_or(usual.repeat_last_n),
            seed: self.seed.unwrap_or_else(|| now.map_or(0, |d| u64::from(d.subsec_nanos()) ^ d.as_secs())),
        }
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let model = model_args::load(args.model.as_deref(), &args.run)?;
    let mut conversation = start(args, model)?;
    let piped = !std::io::stdin().is_terminal();
    if args.prompt.is_some() || piped {
        return once(args, &mut conversation, piped);
    }
    interactive(args, &mut conversation)
}

fn start(args: &Args, model: Arc<Model>) -> anyhow::Result<Conversation> {
    let options =
        SessionOptions { context_length: args.context, kv_type: args.run.kv_type, ..SessionOptions::default() };
    let sampling = args.sampling.options(model.metadata());
    let mut conversation = Conversation::new(model, args.run.pool()?, options, sampling)?;
    conversation.max_tokens = args.max_tokens;
    conversation.system.clone_from(&args.system);
    Ok(conversation)
}

/// One answer, alone on standard output.
fn once(args: &Args, conversation: &mut Conversation, piped: bool) -> anyhow::Result<ExitCode> {
    let mut message = args.prompt.clone().unwrap_or_default();
    if piped {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text)?;
        if !text.trim().is_empty() {
            message = if message.is_empty() {
                text.trim_end().to_owned()
            } else {
                format!("{message}\n\n{}", text.trim_end())
            };
        }
    }
    if message.is_empty() {
        bail!("no message: give one with -p, or on standard input");
    }
    let catching = Catching::new();
    let mut closed = Ok(());
    let answer = conversation.say(&message, &mut |text| {
        closed = model_args::print(text);
        closed.is_ok() && !catching.interrupted()
    })?;
    closed?;
    model_args::print("\n")?;
    tell(args, conversation, &answer);
    Ok(if catching.interrupted() { ExitCode::from(130) } else { ExitCode::SUCCESS })
}

fn interactive(args: &Args, conversation: &mut Conversation) -> anyhow::Result<ExitCode> {
    eprintln!("{} - /help for commands, Ctrl-C stops an answer, Ctrl-D ends", short_name(args.model.as_ref()));
    let mut history = FileHistory::new();
    loop {
        let message = match read_message(&mut history) {
            Ok(message) if message.trim().is_empty() => continue,
            Ok(message) => message,
            Err(ReadlineError::Interrupted) => {
                eprintln!("(Ctrl-D or /quit ends)");
                continue;
            }
            Err(ReadlineError::Eof) => return Ok(ExitCode::SUCCESS),
            Err(error) => return Err(error.into()),
        };
        let message = match commands::run(&message, conversation) {
            Next::Quit => return Ok(ExitCode::SUCCESS),
            Next::Ask => continue,
            Next::Say(message) => message,
        };
        let catching = Catching::new();
        let mut closed = Ok(());
        let answer = conversation.say(&message, &mut |text| {
            closed = model_args::print(text);
            closed.is_ok() && !catching.interrupted()
        });
        drop(catching);
        closed?;
        match answer {
            Ok(answer) => {
                model_args::print(if answer.stop == Stop::Caller { " [stopped]\n" } else { "\n" })?;
                tell(args, conversation, &answer);
            }
            Err(error) => eprintln!("{error}"),
        }
    }
}

/// A message, which is added to `history`. The editor lives no longer than that: while it does, it takes Ctrl-C away
/// from everybody else.
fn read_message(history: &mut FileHistory) -> Result<String, ReadlineError> {
    let mut editor = DefaultEditor::with_history(Config::default(), std::mem::take(history))?;
    let message = edit_message(&mut editor);
    if let Ok(message) = &message {
        let _ = editor.add_history_entry(message);
    }
    *history = std::mem::take(editor.history_mut());
    message
}

/// One line, several that end in a backslash, or all between two lines of `"""`.
fn edit_message(editor: &mut DefaultEditor) -> Result<String, ReadlineError> {
    let first = editor.readline("> ")?;
    if let Some(rest) = first.trim_start().strip_prefix("\"\"\"") {
        let mut lines = vec![rest.to_owned()];
        loop {
            let line = editor.readline("... ")?;
            if let Some(last) = line.trim_end().strip_suffix("\"\"\"") {
                lines.push(last.to_owned());
                return Ok(lines.join("\n").trim_matches('\n').to_owned());
            }
            lines.push(line);
        }
    }
    let mut message = first;
    while let Some(line) = message.strip_suffix('\\') {
        let next = editor.readline("... ")?;
        message = format!("{line}\n{next}");
    }
    Ok(message)
}

fn tell(args: &Args, conversation: &Conversation, answer: &Answer) {
    match answer.stop {
        Stop::Context => eprintln!("(the context of {} tokens is full)", conversation.context_length()),
        Stop::Length => eprintln!("(the most tokens of an answer are reached)"),
        Stop::End | Stop::Caller => {}
    }
    if args.verbose {
        eprintln!("{}", conversation.speed(answer));
    }
}

/// A chat with the model at `path`: one answer to `prompt`, or a conversation.
pub(crate) fn with(path: &std::path::Path, run: &RunArgs, prompt: Option<&str>) -> anyhow::Result<ExitCode> {
    let args = Args {
        model: Some(path.to_owned()),
        prompt: prompt.map(str::to_owned),
        system: None,
        max_tokens: None,
        context: None,
        sampling: SamplingArgs {
            temperature: None,
            top_k: None,
            top_p: None,
            min_p: None,
            repeat_penalty: None,
            repeat_last_n: None,
            seed: None,
        },
        run: run.clone(),
        verbose: true,
    };
    let mut conversation = start(&args, model_args::load(Some(path), &args.run)?)?;
    if prompt.is_some() { once(&args, &mut conversation, false) } else { interactive(&args, &mut conversation) }
}
