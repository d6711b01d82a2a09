//! `gguf chat`: a conversation with a model, or one answer. What a conversation is stands in the library's `engine::Chat`.

mod commands;
mod conversation;
mod editor;
mod foreign;
mod format;
mod layers;
mod sampling;
mod scores;
mod screen;
mod several;
mod tools;
mod wrapping;

use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use gguf_toolkit::engine::{
    Answer, Chat, ChatEvent, ChatOptions, Error, Message, SessionOptions, Stop, WhenFull, builtin_template,
    builtin_template_names,
};
use gguf_toolkit::gguf::Reader;
use gguf_toolkit::kernels::Pool;
use gguf_toolkit::model::Model;
use gguf_toolkit::printable::{printable, printable_path};
use rustyline::error::ReadlineError;
use serde_json::Value as Json;

use crate::interrupt::Catching;
use crate::model_args::{self, RunArgs, short_name};
use crate::speculation::SpeculationArgs;
use commands::{ChatState, Next};
use editor::Messages;
pub(crate) use foreign::foreign_option;
use format::FormatArgs;
pub(crate) use sampling::SamplingArgs;
use screen::{Screen, notice, remark};
use several::SeveralArgs;
use tools::Toolbox;

/// Chats with a model in the terminal. /help lists what can be typed besides messages.
///
/// With a message, or with text on standard input, answers once and ends: standard output holds the answer alone.
///
/// Several models answer the same messages side by side. After the first model, a file or a name that gguf list shows
/// is another model; anything else is the message. -p TEXT is the message for sure.
#[derive(Debug, clap::Args)]
#[command(after_help = "Commands in a conversation:
  /help /retry /undo /clear /system /set /think /attach /tools /tokens /show /template /save /load /exit
With several models:
  /help /vote /retry /undo /clear /system /set /think /tokens /exit

Examples:
  gguf chat                                          # the embedded model
  gguf chat model.gguf \"Why is the sky blue?\"
  gguf chat f16.gguf q4_k_m.gguf                     # side by side
  gguf chat f16.gguf q4_k_m.gguf --blind             # vote before their names are shown
  gguf chat --scores                                 # who has won
  gguf chat model.gguf --system \"Answer in one sentence.\"
  gguf chat model.gguf -p \"Why is the sky blue?\" --temperature 0
  gguf chat model.gguf --session talk.session        # goes on with the last conversation
  gguf chat model.gguf \"How many legs has a cat?\" --json-schema '{\"type\":\"integer\"}'
  cat letter.txt | gguf chat model.gguf -p \"Summarize:\"")]
pub(crate) struct Command {
    #[command(flatten)]
    pub(crate) args: Args,
}

// What `gguf chat` and `gguf run` take. No documentation: the help of both would show it.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// GGUF file (default: the embedded model)
    #[arg(value_name = "MODEL")]
    model: Option<PathBuf>,
    /// More models, which answer the same messages; answer this message and end
    #[arg(value_name = "MODEL|MESSAGE")]
    rest: Vec<OsString>,
    /// Answer this message and end
    #[arg(long, short, value_name = "TEXT")]
    prompt: Option<String>,
    /// Answer the text of this file and end; - for standard input
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// System prompt
    #[arg(long, short, value_name = "TEXT", alias = "system-prompt")]
    system: Option<String>,
    /// Most tokens of an answer; -1 for as many as fit
    #[arg(long, short = 'n', value_name = "N", value_parser = parse_limit, allow_negative_numbers = true,
          aliases = ["n-predict", "predict"])]
    max_tokens: Option<Limit>,
    /// Most tokens of the conversation (default: what the model was trained on)
    #[arg(long, short, value_name = "N", alias = "ctx-size", allow_negative_numbers = true,
          value_parser = model_args::parse_context)]
    context: Option<usize>,
    /// What happens when the context is full: stop, drop-oldest or summarize
    #[arg(long, value_name = "WHAT", value_parser = commands::parse_when_full, default_value = "drop-oldest")]
    when_full: WhenFull,
    /// Text that ends an answer; several times for several
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Let the model think before it answers, where its template can say so
    #[arg(long, conflicts_with = "no_think")]
    think: bool,
    /// Let the model answer at once
    #[arg(long)]
    no_think: bool,
    /// Most tokens of thinking
    #[arg(long, value_name = "N", alias = "reasoning-budget")]
    think_budget: Option<usize>,
    /// In place of the model's own chat template: a Jinja file, or the name of one of llama.cpp's (chatml, llama3, gemma ...)
    #[arg(long, value_name = "NAME|FILE", alias = "chat-template-file")]
    chat_template: Option<PathBuf>,
    /// Variables of the template, as a JSON object
    #[arg(long, value_name = "JSON", value_parser = parse_variables)]
    chat_template_kwargs: Option<Variables>,
    /// Control tokens that messages spell out are control tokens
    #[arg(long)]
    special: bool,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    several: SeveralArgs,
    /// Tools that the model may call: JSON definitions, each with a "command"; every call is shown, and run when you say so
    #[arg(long, value_name = "FILE|DIR")]
    tools: Option<PathBuf>,
    /// Keep the conversation with its tokens and KV cache in FILE: the next chat with FILE goes on without evaluating it again
    #[arg(long, value_name = "FILE")]
    session: Option<PathBuf>,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    speculation: SpeculationArgs,
    /// Show tokens and speed after each answer
    #[arg(long, short)]
    verbose: bool,
    /// The template that the model was made with.
    #[arg(skip)]
    own_template: Option<String>,
    /// The messages that it was made with.
    #[arg(skip)]
    first_messages: Vec<Message>,
    // Last: its heading stands over all that follows.
    #[command(flatten)]
    sampling: SamplingArgs,
}

impl Args {
    /// The model that is named.
    #[cfg(feature = "net")]
    pub(crate) const fn model(&self) -> Option<&PathBuf> {
        self.model.as_ref()
    }

    /// The arguments after it: further models, and a message.
    #[cfg(feature = "net")]
    pub(crate) fn rest_mut(&mut self) -> &mut [OsString] {
        &mut self.rest
    }

    /// The same with another model.
    #[cfg(feature = "net")]
    pub(crate) fn with_model(mut self, model: PathBuf) -> Self {
        self.model = Some(model);
        self
    }

    /// Refuses what makes no sense with several models.
    fn check_several(&self, count: usize) -> anyhow::Result<()> {
        if count > several::MOST {
            bail!("{count} models: at most {} fit beside each other", several::MOST);
        }
        for (given, option, reason) in [
            (self.tools.is_some(), "--tools", "nobody could tell whose call it is that is asked about"),
            (self.session.is_some(), "--session", "a file holds the conversation of one model"),
            (self.speculation.has_draft(), "--draft", "it drafts for one model (--lookup is for all)"),
            (self.run.has_adapters(), "--lora", "an adapter changes one model"),
        ] {
            if given {
                bail!("{option} is for one model: {reason}");
            }
        }
        Ok(())
    }
}

/// A number of tokens; `None` for no limit.
#[derive(Clone, Copy, Debug)]
struct Limit(Option<usize>);

fn parse_limit(text: &str) -> Result<Limit, String> {
    if text == "-1" || text == "none" {
        return Ok(Limit(None));
    }
    text.parse().map(|n| Limit(Some(n))).map_err(|_| "a whole number from 0, or -1 for no limit".to_owned())
}

/// Variables of a template.
#[derive(Clone, Debug, Default)]
struct Variables(serde_json::Map<String, Json>);

fn parse_variables(text: &str) -> Result<Variables, String> {
    match serde_json::from_str(text) {
        Ok(Json::Object(map)) => Ok(Variables(map)),
        Ok(_) => Err("not an object".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.several.scores {
        return scores::print(args.format.json());
    }
    let (others, given) = models_and_message(&args.rest)?;
    if given.is_some() && args.prompt.is_some() {
        bail!("a message after the model and one with -p: give one of them");
    }
    let piped = !std::io::stdin().is_terminal();
    if let (Some(first), false) = (&args.model, others.is_empty()) {
        let paths: Vec<PathBuf> = std::iter::once(first.clone()).chain(others).collect();
        args.check_several(paths.len())?;
        let group = several::Group::load(args, &paths)?;
        return several::run(group, message(args, given, piped)?.as_deref());
    }
    args.several.check_one()?;
    let located = args.model.as_deref().map(model_args::locate).transpose()?;
    let message = message(args, given, piped)?;
    let reader = located.as_ref().map_or_else(model_args::embedded, |located| Ok(Reader::open(&located.path)?))?;
    let args = &match &located {
        Some(located) => args.with_setup(model_args::setup(located, &reader)),
        None => args.clone(),
    };
    let model = model_args::load_from(&reader, &args.run)?;
    let mut state = start(args, model, args.run.pool()?)?;
    let code = match message {
        Some(message) => once(&mut state, &message),
        None => interactive(&mut state),
    }?;
    conversation::keep(&state)?;
    Ok(code)
}

/// What the arguments after the first model are: further models, and after them a message.
fn models_and_message(rest: &[OsString]) -> anyhow::Result<(Vec<PathBuf>, Option<String>)> {
    let count = rest.iter().take_while(|argument| model_args::names_model(argument)).count();
    let models = rest[..count].iter().map(PathBuf::from).collect();
    match &rest[count..] {
        [] => Ok((models, None)),
        [message] => Ok((models, message.to_str().map(str::to_owned))),
        [first, ..] => bail!(
            "{}: no model of this name, and something follows it (a message of several words is put in quotes)",
            printable_path(Path::new(OsStr::new(first))).limit(200)
        ),
    }
}

/// The one message to answer: of the command line, of a file, of standard input, in this order and with empty lines between.
fn message(args: &Args, given: Option<String>, piped: bool) -> anyhow::Result<Option<String>> {
    let mut parts: Vec<String> = args.prompt.iter().cloned().chain(given).collect();
    let from_stdin = args.file.as_deref() == Some(Path::new("-"));
    if let Some(file) = args.file.as_deref().filter(|_| !from_stdin) {
        parts.push(model_args::read_text(file)?.trim_end().to_owned());
    }
    if piped || from_stdin {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).context("standard input")?;
        let text = String::from_utf8(bytes)
            .map_err(|e| anyhow::anyhow!("standard input: byte {} is no UTF-8", e.utf8_error().valid_up_to()))?;
        parts.push(text.trim_end().to_owned());
    }
    let given = !parts.is_empty();
    parts.retain(|part| !part.trim().is_empty());
    if given && parts.is_empty() {
        bail!("no message: give one after the model, with -p, or on standard input");
    }
    Ok(given.then(|| parts.join("\n\n")))
}

fn start(args: &Args, model: Arc<Model>, pool: Arc<Pool>) -> anyhow::Result<ChatState> {
    let session =
        SessionOptions { context_length: args.context, kv_type: args.run.kv_type, ..SessionOptions::default() };
    let mut variables = args.chat_template_kwargs.clone().unwrap_or_default().0;
    if args.think || args.no_think {
        let thinking = commands::thinking_variables(args.think, None);
        variables.extend(thinking.into_iter().map(|(name, value)| (name.to_owned(), value)));
    }
    let toolbox = args.tools.as_deref().map(Toolbox::load).transpose()?.unwrap_or_default();
    let draft = args.speculation.load(&args.run)?;
    let options = ChatOptions {
        session,
        speculation: args.speculation.options(draft.as_ref(), &model)?,
        sampler: args.sampling.options(model.metadata()).with_context(|| short_name(args.model.as_ref()))?,
        template: args.chat_template.as_deref().map(template).transpose()?.or_else(|| args.own_template.clone()),
        variables,
        system: args.system.clone(),
        max_tokens: args.max_tokens.and_then(|limit| limit.0),
        think_budget: args.think_budget,
        stop: args.stop.clone(),
        when_full: args.when_full,
        special: args.special,
        grammar: args.format.grammar()?,
        tools: toolbox.tools.clone(),
    };
    let mut chat = Chat::new(model, pool, options)?;
    if let Some(path) = &args.session {
        conversation::resume(&mut chat, path)?;
    }
    if chat.messages().is_empty() && !args.first_messages.is_empty() {
        chat.set_messages(args.first_messages.clone());
    }
    let name = short_name(args.model.as_ref());
    Ok(ChatState { chat, verbose: args.verbose, attached: Vec::new(), name, toolbox, session: args.session.clone() })
}

/// The source of a built-in template, or of one in a file.
pub(crate) fn template(name: &Path) -> anyhow::Result<String> {
    if let Some(source) = name.to_str().and_then(builtin_template) {
        return Ok(source);
    }
    let is_name = name.components().count() == 1 && name.extension().is_none();
    if is_name && !name.exists() {
        let names: Vec<&str> = builtin_template_names().collect();
        bail!("{}: neither a file nor one of {}", printable_path(name), names.join(", "));
    }
    model_args::read_text(name)
}

/// One answer, alone on standard output.
fn once(state: &mut ChatState, message: &str) -> anyhow::Result<ExitCode> {
    let catching = Catching::new();
    let mut screen = Screen::new();
    let mut answer = say(state, message, &mut screen, &|| catching.interrupted(), false);
    let can_ask = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    while can_ask && answer.is_ok() && !state.chat.open_calls().is_empty() && !catching.interrupted() {
        let results = results(state, &mut |question| {
            eprint!("{question}");
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).map(|_| line).ok()
        });
        answer = go_on(state, &mut screen, &|| catching.interrupted(), false, |chat, show| {
            chat.send_results(&results, show)
        });
    }
    let answer = match answer {
        Err(error) if matches!(error.downcast_ref(), Some(Error::ContextFull { .. })) => {
            bail!("{error} (--context N sets a larger one)")
        }
        other => other?,
    };
    model_args::print("\n")?;
    summarize(state, &answer);
    Ok(if catching.interrupted() { ExitCode::from(130) } else { ExitCode::SUCCESS })
}

fn interactive(state: &mut ChatState) -> anyhow::Result<ExitCode> {
    notice(&format!("{} - /help for commands, Ctrl-C stops an answer, Ctrl-D ends", state.name));
    state.chat.take_notes().iter().for_each(|note| remark(&note.to_string()));
    let mut messages = Messages::new(commands::COMMANDS.iter().map(|command| command.name).collect())?;
    loop {
        let message = match messages.read(&prompt(state)) {
            Ok(message) if message.trim().is_empty() => continue,
            Ok(message) => message,
            Err(ReadlineError::Interrupted | ReadlineError::Signal(_)) => {
                remark("Ctrl-D or /exit ends");
                continue;
            }
            Err(ReadlineError::Eof) => return Ok(ExitCode::SUCCESS),
            Err(error) => return Err(error.into()),
        };
        let mut message = match commands::run(&message, state) {
            Next::Quit => return Ok(ExitCode::SUCCESS),
            Next::Tell(text) => {
                notice(&text);
                continue;
            }
            Next::Say(message) => message,
        };
        if !state.attached.is_empty() {
            let attached = state.attached.join("\n\n");
            message = format!("{}\n\n{message}", attached.trim_end());
        }
        let mut screen = Screen::new();
        let mut answer = say(state, &message, &mut screen, &|| messages.interrupted(), true);
        while answer.is_ok() && !state.chat.open_calls().is_empty() && !messages.interrupted() {
            let results = results(state, &mut |question| messages.read(question).ok());
            answer = go_on(state, &mut screen, &|| messages.interrupted(), true, |chat, show| {
                chat.send_results(&results, show)
            });
        }
        match answer {
            Ok(answer) => {
                state.attached.clear();
                model_args::print("\n")?;
                state.chat.take_notes().iter().for_each(|note| remark(&note.to_string()));
                summarize(state, &answer);
            }
            Err(error) if error.downcast_ref::<Error>().is_some() => notice(&format!("{error}{}", advice(&error))),
            Err(error) => return Err(error),
        }
    }
}

/// The prompt of the line editor, with how full the context is when that begins to matter.
fn prompt(state: &ChatState) -> String {
    let (tokens, most) = (state.chat.session().tokens().len(), state.chat.context_length().max(1));
    if tokens * 2 < most { "> ".to_owned() } else { format!("{}% full > ", tokens * 100 / most) }
}

/// The results of the open calls: each is run when the user says so to `ask`.
fn results(state: &ChatState, ask: &mut dyn FnMut(&str) -> Option<String>) -> Vec<String> {
    let mut results = Vec::new();
    for (_, call) in state.chat.open_calls() {
        let Some(command) = state.toolbox.command(call) else {
            results.push(state.toolbox.run(call));
            continue;
        };
        let shown: Vec<String> = command.iter().map(|part| printable(part).to_string()).collect();
        notice(&format!("{} wants to run: {}", printable(&call.name), shown.join(" ")));
        let allowed = ask("run it? [y/N] ").is_some_and(|answer| matches!(answer.trim(), "y" | "Y" | "yes"));
        results.push(if allowed { state.toolbox.run(call) } else { "the user does not allow this call".to_owned() });
    }
    results
}

/// What makes a chat answer.
type ShowEvent<'s> = &'s mut dyn FnMut(ChatEvent<'_>) -> bool;

/// Says a message and shows what comes. Thinking is shown in conversations alone.
fn say(
    state: &mut ChatState,
    message: &str,
    screen: &mut Screen,
    interrupted: &dyn Fn() -> bool,
    thinking: bool,
) -> anyhow::Result<Answer> {
    go_on(state, screen, interrupted, thinking, |chat, show| chat.say(message, show))
}

fn go_on(
    state: &mut ChatState,
    screen: &mut Screen,
    interrupted: &dyn Fn() -> bool,
    thinking: bool,
    speak: impl FnOnce(&mut Chat, ShowEvent<'_>) -> Result<Answer, Error>,
) -> anyhow::Result<Answer> {
    let mut written = Ok(());
    let answer = speak(&mut state.chat, &mut |event| {
        let result = match event {
            ChatEvent::Reading { done, total } => {
                screen.reading(done, total);
                Ok(())
            }
            ChatEvent::Text(text) => screen.answer(text),
            ChatEvent::Thinking(text) if thinking => screen.thought(text),
            ChatEvent::Thinking(_) => Ok(()),
            ChatEvent::Call(call) => {
                screen.remark(&format!("calls {} {}", printable(&call.name), printable(&call.arguments)))
            }
            ChatEvent::Note(note) => screen.remark(&note.to_string()),
        };
        if written.is_ok() {
            written = result;
        }
        written.is_ok() && !interrupted()
    });
    screen.finish()?;
    written?;
    Ok(answer?)
}

/// What can be done about an error; the library knows no options.
fn advice(error: &anyhow::Error) -> &'static str {
    match error.downcast_ref() {
        Some(Error::ContextFull { .. }) => " (--context N sets a larger one, /clear forgets the conversation)",
        _ => "",
    }
}

/// Why an answer ended early; with --verbose, tokens and speed.
fn summarize(state: &ChatState, answer: &Answer) {
    match answer.stop {
        Stop::Context => remark(&format!("the context of {} tokens is full", state.chat.context_length())),
        Stop::Length => remark("the most tokens of an answer are reached"),
        Stop::Caller => remark("stopped"),
        _ => {}
    }
    if state.verbose {
        notice(&speed(state, answer));
    }
}

/// Tokens and speed of an answer, in a line.
#[allow(clippy::cast_precision_loss, reason = "rates for people")]
fn speed(state: &ChatState, answer: &Answer) -> String {
    let rate = |tokens: usize, time: std::time::Duration| tokens as f64 / time.as_secs_f64().max(1e-9);
    let drafted = match answer.drafted {
        0 => String::new(),
        drafted => format!(" ({} of {drafted} drafted tokens accepted)", answer.accepted),
    };
    format!(
        "prompt {} tokens, {:.1} tokens/s; answer {} tokens, {:.1} tokens/s{drafted}; context {} of {}; seed {}",
        answer.prompt_tokens,
        rate(answer.prompt_tokens, answer.prompt_time),
        answer.tokens.len(),
        rate(answer.tokens.len(), answer.answer_time),
        state.chat.session().tokens().len(),
        state.chat.context_length(),
        state.chat.options().sampler.seed,
    )
}

/// A chat with the model at `path`: one answer to `prompt`, or a conversation.
pub(crate) fn with(path: &Path, run: &RunArgs, prompt: Option<&str>) -> anyhow::Result<ExitCode> {
    let args = Args {
        model: Some(path.to_owned()),
        rest: Vec::new(),
        prompt: prompt.map(str::to_owned),
        file: None,
        system: None,
        max_tokens: None,
        context: None,
        when_full: WhenFull::default(),
        stop: Vec::new(),
        think: false,
        no_think: false,
        think_budget: None,
        chat_template: None,
        chat_template_kwargs: None,
        special: false,
        format: FormatArgs::default(),
        several: SeveralArgs::default(),
        tools: None,
        session: None,
        sampling: SamplingArgs::default(),
        run: run.clone(),
        speculation: SpeculationArgs::default(),
        verbose: true,
        own_template: None,
        first_messages: Vec::new(),
    };
    let mut state = start(&args, model_args::load(Some(path), &args.run)?, args.run.pool()?)?;
    match prompt {
        Some(prompt) => once(&mut state, prompt),
        None => interactive(&mut state),
    }
}
