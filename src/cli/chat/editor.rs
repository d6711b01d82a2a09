//! Messages from the terminal: one line editor for the whole session, so that what is typed while an answer runs is kept.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{Behavior, Config, Context, Editor, Helper};

/// Lines that are kept across sessions.
pub(super) const HISTORY: usize = 1000;

/// A line editor.
pub(super) struct Messages {
    editor: Editor<Completion, FileHistory>,
    /// Where lines are kept; nowhere, where there is no place.
    history: Option<PathBuf>,
    interrupted: Arc<AtomicBool>,
}

/// Completes commands, and file names after them.
struct Completion {
    commands: Vec<&'static str>,
    files: FilenameCompleter,
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, context: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        if !line.starts_with('/') {
            return Ok((at, Vec::new()));
        }
        if line[..at].contains(' ') {
            return self.files.complete(line, at, context);
        }
        let names = self.commands.iter().map(|name| format!("/{name}"));
        let names = names.filter(|name| name.starts_with(&line[..at]));
        Ok((0, names.map(|name| Pair { display: name.clone(), replacement: name + " " }).collect()))
    }
}

impl Hinter for Completion {
    type Hint = String;
}

impl Highlighter for Completion {}
impl Validator for Completion {}
impl Helper for Completion {}

impl Messages {
    /// An editor that completes these commands.
    pub(super) fn new(commands: Vec<&'static str>) -> Result<Self, ReadlineError> {
        // The prompt goes to the terminal, whatever standard output is.
        let config = Config::builder().behavior(Behavior::PreferTerm).max_history_size(HISTORY)?.build();
        let mut editor = Editor::with_config(config)?;
        editor.set_helper(Some(Completion { commands, files: FilenameCompleter::new() }));
        let history = history_path();
        if let Some(path) = &history {
            let _ = editor.load_history(path);
        }
        let interrupted = catch_interrupts()?;
        Ok(Self { editor, history, interrupted })
    }

    /// Whether Ctrl-C has come since the last message was read.
    pub(super) fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst)
    }

    /// One message: a line, several that end in a backslash, or all between `"""` and `"""`.
    pub(super) fn read(&mut self, prompt: &str) -> Result<String, ReadlineError> {
        let message = self.edit(prompt)?;
        self.interrupted.store(false, Ordering::SeqCst);
        if !message.trim().is_empty() {
            let _ = self.editor.add_history_entry(&message);
            if let Some(path) = &self.history {
                // A history that cannot be kept is no reason to stop.
                let _ = path.parent().map(std::fs::create_dir_all);
                let _ = self.editor.append_history(path).or_else(|_| self.editor.save_history(path));
            }
        }
        Ok(message)
    }

    fn edit(&mut self, prompt: &str) -> Result<String, ReadlineError> {
        const QUOTES: &str = "\"\"\"";
        let first = self.editor.readline(prompt)?;
        if let Some(rest) = first.trim_start().strip_prefix(QUOTES) {
            let mut text = rest.to_owned();
            loop {
                if let Some(inside) = text.trim_end().strip_suffix(QUOTES) {
                    return Ok(inside.trim_matches('\n').to_owned());
                }
                let line = self.editor.readline("... ")?;
                text = format!("{text}\n{line}");
            }
        }
        let mut message = first;
        while let Some(line) = message.strip_suffix('\\') {
            let next = self.editor.readline("... ")?;
            message = format!("{line}\n{next}");
        }
        Ok(message)
    }
}

/// While the editor lives, it takes Ctrl-C away from the program's own handler. This one comes after it: it notes the first, and ends
/// the program at a second.
fn catch_interrupts() -> io::Result<Arc<AtomicBool>> {
    const SIGINT: i32 = signal_hook::consts::SIGINT;
    let interrupted = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register_conditional_shutdown(SIGINT, 130, interrupted.clone())?;
    signal_hook::flag::register(SIGINT, interrupted.clone())?;
    Ok(interrupted)
}

/// Where lines are kept.
pub(super) fn history_path() -> Option<PathBuf> {
    state_path("history")
}

/// A file that lasts across chats: `$XDG_STATE_HOME/gguf/NAME`, usually below `~/.local/state`.
pub(super) fn state_path(name: &str) -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = folder("XDG_STATE_HOME").or_else(|| Some(folder(gguf_toolkit::files::HOME)?.join(".local/state")))?;
    Some(state.join("gguf").join(name))
}
