//! What can be typed in a chat besides messages. Each command is a row of [`COMMANDS`], and says what it did.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use gguf_toolkit::engine::{Chat, SETTINGS, Setting, WhenFull};
use gguf_toolkit::printable::printable_path;
use serde_json::Value as Json;

use super::conversation;
use super::sampling;
use super::tools::Toolbox;
use crate::units;

/// What comes after a line.
pub(super) enum Next {
    /// Show this, and ask for the next line.
    Tell(String),
    /// Say this.
    Say(String),
    /// End.
    Quit,
}

/// The state of a chat, which commands read and change.
pub(super) struct ChatState {
    pub(super) chat: Chat,
    /// Tokens and speed are shown after each answer.
    pub(super) verbose: bool,
    /// Text that goes before the next message.
    pub(super) attached: Vec<String>,
    /// The model's name.
    pub(super) name: String,
    /// What the model may call.
    pub(super) toolbox: Toolbox,
    /// The file that the session is kept in.
    pub(super) session: Option<PathBuf>,
}

/// A command.
pub(super) struct Command {
    pub(super) name: &'static str,
    aliases: &'static [&'static str],
    args: &'static str,
    about: &'static str,
    run: fn(&mut ChatState, &str) -> anyhow::Result<Next>,
}

impl Command {
    /// The command of this name or alias.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        COMMANDS.iter().find(|command| command.name == name || command.aliases.contains(&name))
    }

    /// Its line in the list of commands.
    pub(super) fn line(&self) -> String {
        help_line(self.name, self.args, self.about)
    }
}

/// A line in the list of commands.
pub(super) fn help_line(name: &str, args: &str, about: &str) -> String {
    let usage = format!("/{name} {args}");
    format!("{usage:<34}  {about}\n")
}

const fn row(
    name: &'static str,
    aliases: &'static [&'static str],
    args: &'static str,
    about: &'static str,
    run: fn(&mut ChatState, &str) -> anyhow::Result<Next>,
) -> Command {
    Command { name, aliases, args, about, run }
}

/// All commands, in the order of `/help`.
pub(super) const COMMANDS: &[Command] = &[
    row("help", &["?"], "", "this list", |_, _| help()),
    row("retry", &["again", "regenerate"], "", "answer the last message once more", retry),
    row("undo", &[], "", "take back the last message and its answer", undo),
    row("clear", &["new"], "", "forget the conversation", clear),
    row("system", &[], "[TEXT]", "show or set the system prompt; `none` removes it", system),
    row("set", &[], "[NAME VALUE]", "show or change a setting: a sampler's, seed, max-tokens, when-full, verbose", set),
    row("think", &["set-think"], "[on|off|low|medium|high]", "whether, or how hard, the model thinks first", think),
    row("attach", &["read"], "FILE", "put a file's text before the next message", attach),
    row("tools", &[], "", "the tools that the model may call", tools),
    row("tokens", &["stats", "context"], "", "tokens and memory of the conversation", tokens),
    row("show", &["history"], "", "the conversation so far", show),
    row("template", &[], "", "the chat template", template),
    row("save", &[], "FILE [--force]", "write the conversation to a file", save),
    row("load", &[], "FILE", "go on with a conversation from a file", load),
    row("exit", &["quit", "bye"], "", "end (also Ctrl-D)", |_, _| Ok(Next::Quit)),
];

/// Runs a command, or passes a message on. What only looks like a command is a message.
pub(super) fn run(line: &str, state: &mut ChatState) -> Next {
    let said = |text: &str| Next::Say(text.to_owned());
    let Some(command) = line.trim().strip_prefix('/') else { return said(line) };
    if command.starts_with('/') {
        return said(command);
    }
    let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let Some(command) = Command::named(name) else { return said(line) };
    (command.run)(state, rest.trim()).unwrap_or_else(|error| Next::Tell(format!("{error:#}")))
}

/// What `/help` adds to the commands.
const LINES: &str =
    "A line that ends in \\ goes on; \"\"\" begins and ends a message of several lines. // begins a message with /.";

#[allow(clippy::unnecessary_wraps, reason = "as all commands")]
fn help() -> anyhow::Result<Next> {
    let list: String = COMMANDS.iter().map(Command::line).collect();
    Ok(Next::Tell(list + LINES))
}

#[allow(clippy::unnecessary_wraps, reason = "as all commands")]
fn retry(state: &mut ChatState, _: &str) -> anyhow::Result<Next> {
    Ok(state.chat.take_back().map_or_else(|| Next::Tell("nothing has been said".to_owned()), Next::Say))
}

fn undo(state: &mut ChatState, _: &str) -> anyhow::Result<Next> {
    match state.chat.take_back() {
        Some(message) => confirm(&format!("taken back: {}", start_of(&message))),
        None => confirm("nothing has been said"),
    }
}

fn clear(state: &mut ChatState, _: &str) -> anyhow::Result<Next> {
    state.chat.clear();
    state.attached.clear();
    confirm("the conversation is forgotten")
}

fn system(state: &mut ChatState, rest: &str) -> anyhow::Result<Next> {
    match rest {
        "" => confirm(state.chat.options().system.as_deref().unwrap_or("no system prompt")),
        "none" | "\"\"" | "''" => {
            state.chat.change(|options| options.system = None);
            confirm("no system prompt from here on")
        }
        text => {
            state.chat.change(|options| options.system = Some(text.to_owned()));
            confirm("the system prompt is set")
        }
    }
}

fn set(state: &mut ChatState, rest: &str) -> anyhow::Result<Next> {
    let rest = rest.strip_prefix("parameter ").unwrap_or(rest).trim();
    if rest.is_empty() {
        return list_settings(state);
    }
    let (name, value) = rest.split_once([' ', '=']).unwrap_or((rest, ""));
    let value = value.trim().trim_start_matches('=').trim();
    let name = name.to_ascii_lowercase().replace('_', "-");
    match name.as_str() {
        "system" => return system(state, value),
        "think" => return think(state, "on"),
        "nothink" | "no-think" => return think(state, "off"),
        "verbose" | "quiet" => {
            state.verbose = name == "verbose" && !matches!(value, "off" | "false" | "0");
            return confirm(&format!("verbose {}", if state.verbose { "on" } else { "off" }));
        }
        _ => {}
    }
    if value.is_empty() {
        let shown = settings(state).into_iter().find(|(other, _)| *other == name);
        return match shown {
            Some((name, value)) => confirm(&format!("{name} {value}")),
            None => bail!("no setting is called {name}: /set lists them"),
        };
    }
    match name.as_str() {
        "seed" => {
            let seed = sampling::seed(value).map_err(|e| anyhow::anyhow!("seed {value}: must be {e}"))?;
            state.chat.change(|options| options.sampler.seed = seed.unwrap_or_else(sampling::random_seed));
        }
        "max-tokens" | "num-predict" | "n-predict" => {
            let max = super::parse_limit(value).map_err(|e| anyhow::anyhow!("{name} {value}: must be {e}"))?;
            state.chat.change(|options| options.max_tokens = max.0);
        }
        "when-full" => {
            let when = parse_when_full(value).map_err(|e| anyhow::anyhow!("when-full {value}: must be {e}"))?;
            state.chat.change(|options| options.when_full = when);
        }
        "stop" => state.chat.change(|options| options.stop = vec![value.to_owned()]),
        _ => {
            let setting =
                Setting::named(&name).with_context(|| format!("no setting is called {name}: /set lists them"))?;
            let value = setting.parse(value)?;
            let mut sampler = state.chat.options().sampler.clone();
            setting.set(&mut sampler, value)?;
            state.chat.change(|options| options.sampler = sampler);
        }
    }
    confirm(&format!("{name} is {value}"))
}

/// Names and values of all settings.
fn settings(state: &ChatState) -> Vec<(&'static str, String)> {
    let options = state.chat.options();
    let mut all: Vec<_> = SETTINGS.iter().map(|row| (row.name, row.text(&options.sampler))).collect();
    all.push(("seed", options.sampler.seed.to_string()));
    all.push(("max-tokens", options.max_tokens.map_or_else(|| "-1".to_owned(), |n| n.to_string())));
    all.push(("when-full", when_full_name(options.when_full).to_owned()));
    all.push(("stop", options.stop.join(" ")));
    all
}

fn list_settings(state: &ChatState) -> anyhow::Result<Next> {
    let all = settings(state).into_iter().map(|(name, value)| format!("{name} {value}"));
    confirm(&all.collect::<Vec<_>>().join("; "))
}

pub(super) fn parse_when_full(text: &str) -> Result<WhenFull, String> {
    match text {
        "stop" => Ok(WhenFull::Stop),
        "drop-oldest" | "drop" => Ok(WhenFull::DropOldest),
        "summarize" => Ok(WhenFull::Summarize),
        _ => Err("stop, drop-oldest or summarize".to_owned()),
    }
}

fn when_full_name(when: WhenFull) -> &'static str {
    match when {
        WhenFull::Stop => "stop",
        WhenFull::DropOldest => "drop-oldest",
        WhenFull::Summarize => "summarize",
    }
}

fn think(state: &mut ChatState, rest: &str) -> anyhow::Result<Next> {
    if state.chat.thinking().is_none() && !state.chat.template().source().contains("thinking") {
        return confirm("this model's template knows no thinking");
    }
    let effort = match rest {
        "" => {
            let variables = &state.chat.options().variables;
            let known = variables.get("reasoning_effort").or_else(|| variables.get("enable_thinking"));
            return confirm(&format!(
                "think {}",
                known.map_or_else(|| "as the model does".to_owned(), Json::to_string)
            ));
        }
        "on" | "off" => None,
        "low" | "medium" | "high" => Some(rest),
        other => bail!("think {other}: must be on, off, low, medium or high"),
    };
    state.chat.change(|options| {
        for (name, value) in thinking_variables(rest != "off", effort) {
            options.variables.insert(name.to_owned(), value);
        }
    });
    confirm(&format!("think {rest}"))
}

/// The variables by which templates switch thinking on and off.
pub(super) fn thinking_variables(on: bool, effort: Option<&str>) -> Vec<(&'static str, Json)> {
    let mut all = vec![("enable_thinking", on.into()), ("thinking", on.into())];
    all.extend(effort.map(|effort| ("reasoning_effort", effort.into())));
    all
}

fn attach(state: &mut ChatState, rest: &str) -> anyhow::Result<Next> {
    if rest.is_empty() {
        bail!("attach needs a file");
    }
    let text = crate::model_args::read_text(Path::new(rest))?;
    let lines = text.lines().count();
    state.attached.push(text);
    confirm(&format!("{lines} lines go before the next message"))
}

fn tools(state: &mut ChatState, _: &str) -> anyhow::Result<Next> {
    let list = state.toolbox.list();
    confirm(&if list.is_empty() { "no tools (--tools FILE)".to_owned() } else { list.join("\n") })
}

fn tokens(state: &mut ChatState, _: &str) -> anyhow::Result<Next> {
    let tokens = state.chat.tokens()?;
    let bytes = state.chat.session().cache_bytes();
    let drafted = match state.chat.session().drafted() {
        (0, _) => String::new(),
        (drafted, accepted) => format!("; {accepted} of {drafted} drafted tokens accepted"),
    };
    confirm(&format!(
        "{} messages, {tokens} of {} tokens, {} of cache{drafted}",
        state.chat.messages().len(),
        state.chat.context_length(),
        units::bytes(bytes as u64)
    ))
}

fn show(state: &mut ChatState, _: &str) -> anyhow::Result<Next> {
    let mut lines = Vec::new();
    if let Some(system) = &state.chat.options().system {
        lines.push(format!("system: {system}"));
    }
    lines.extend(state.chat.messages().iter().map(|message| format!("{}: {}", message.role, message.content)));
    lines.push(format!("{}, {} messages", state.name, state.chat.messages().len()));
    confirm(&lines.join("\n"))
}

fn template(state: &mut ChatState, _: &str) -> anyhow::Result<Next> {
    confirm(state.chat.template().source())
}

fn save(state: &mut ChatState, rest: &str) -> anyhow::Result<Next> {
    let (path, force) = rest.strip_suffix("--force").map_or((rest, false), |path| (path.trim(), true));
    if path.is_empty() {
        bail!("save needs a file");
    }
    let path = Path::new(path);
    let count = state.chat.messages().len();
    let conversation = conversation::to_json(&state.chat);
    let text = serde_json::to_string_pretty(&conversation)? + "\n";
    let name = printable_path(path);
    if force {
        // Complete or not at all.
        let mut beside = path.as_os_str().to_owned();
        beside.push(".part");
        let written = fs::write(&beside, text).and_then(|()| fs::rename(&beside, path));
        written.inspect_err(|_| drop(fs::remove_file(&beside))).with_context(|| name.to_string())?;
    } else {
        let file = fs::OpenOptions::new().write(true).create_new(true).open(path);
        let mut file = file.map_err(|error| {
            let exists = error.kind() == std::io::ErrorKind::AlreadyExists;
            let advice = if exists { " (/save FILE --force replaces it)" } else { "" };
            anyhow::anyhow!("{name}: {error}{advice}")
        })?;
        file.write_all(text.as_bytes()).with_context(|| name.to_string())?;
    }
    confirm(&format!("{count} messages written to {name}"))
}

fn load(state: &mut ChatState, rest: &str) -> anyhow::Result<Next> {
    if rest.is_empty() {
        bail!("load needs a file");
    }
    let path = Path::new(rest);
    let name = printable_path(path).to_string();
    let text = crate::model_args::read_text(path)?;
    let json: Json = serde_json::from_str(&text).with_context(|| name.clone())?;
    let count = conversation::set(&mut state.chat, &json).with_context(|| name.clone())?;
    confirm(&format!("{count} messages read from {name}"))
}

#[allow(clippy::unnecessary_wraps, reason = "the result of a command")]
fn confirm(text: &str) -> anyhow::Result<Next> {
    Ok(Next::Tell(text.to_owned()))
}

/// The first words of a text.
pub(super) fn start_of(text: &str) -> String {
    let line: String = text.lines().next().unwrap_or_default().chars().take(50).collect();
    if line.len() < text.len() { format!("{line}...") } else { line }
}
