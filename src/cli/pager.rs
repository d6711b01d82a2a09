//! What a command shows goes through a pager where it is longer than the terminal, as with git and man; never to a file or a pipe.

use std::io::{self, BufWriter, IsTerminal as _, StdoutLock, Write};
use std::process::{Command, Stdio};

use terminal_size::{Height, Width, terminal_size_of};
use unicode_width::UnicodeWidthStr as _;

use crate::interrupt;

/// The pager where nobody has named one.
const USUAL: &str = "less";

/// Exit codes of a shell that cannot run a command.
const NOT_RUN: [i32; 2] = [126, 127];

/// Standard output of a command that may show much. [`finish`](Self::finish) must be called at its end.
pub(crate) enum Output {
    /// What is written goes there at once.
    Direct(BufWriter<StdoutLock<'static>>),
    /// What is written waits for its length to be known.
    Paged { pager: String, text: Vec<u8> },
}

impl Output {
    pub(crate) fn new() -> Self {
        match pager() {
            Some(pager) => Self::Paged { pager, text: Vec::new() },
            None => Self::Direct(BufWriter::new(io::stdout().lock())),
        }
    }

    /// Shows what is not shown yet.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub(crate) fn finish(self) -> io::Result<()> {
        match self {
            Self::Direct(mut out) => out.flush(),
            Self::Paged { pager, text } => {
                if is_long(&text) && page(&pager, &text) {
                    return Ok(());
                }
                let mut out = io::stdout().lock();
                out.write_all(&text)?;
                out.flush()
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Direct(out) => out.write(bytes),
            Self::Paged { text, .. } => text.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Direct(out) => out.flush(),
            Self::Paged { .. } => Ok(()),
        }
    }
}

/// Shows a text.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) fn show(text: &str) -> io::Result<()> {
    let mut out = Output::new();
    out.write_all(text.as_bytes())?;
    out.finish()
}

/// The pager's command line, if standard output is a terminal that can be paged: `GGUF_PAGER`, else `PAGER`, else `less`. An empty
/// one, `cat`, and `NO_PAGER` say that none is wanted.
fn pager() -> Option<String> {
    let set = |name: &str| std::env::var(name).ok();
    let is_dumb = set("TERM").is_none_or(|term| term == "dumb") && cfg!(unix);
    if !io::stdout().is_terminal() || is_dumb || set("NO_PAGER").is_some_and(|value| !value.is_empty()) {
        return None;
    }
    // Windows has no pager that shows UTF-8.
    let usual = cfg!(unix).then(|| USUAL.to_owned());
    let pager = set("GGUF_PAGER").or_else(|| set("PAGER")).or(usual)?;
    Some(pager).filter(|pager| !matches!(pager.trim(), "" | "cat"))
}

/// Whether a text takes more lines than the terminal has.
fn is_long(text: &[u8]) -> bool {
    let Some((Width(columns), Height(rows))) = terminal_size_of(io::stdout()) else { return false };
    let (columns, rows) = (usize::from(columns), usize::from(rows));
    if columns == 0 || rows == 0 {
        return false;
    }
    let text = String::from_utf8_lossy(text);
    // The last line of the terminal is the shell's.
    text.lines().map(|line| line.width().div_ceil(columns).max(1)).sum::<usize>() >= rows
}

/// Runs the pager with the text. Returns whether it could be run.
fn page(pager: &str, text: &[u8]) -> bool {
    // Ctrl-C in a pager is the pager's.
    let _until_it_ends = interrupt::Ignoring::new();
    let (shell, flag) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
    let mut command = Command::new(shell);
    command.args([flag, pager]).stdin(Stdio::piped());
    // As git has it: colours are shown, a text that fits is printed, and stays on the screen.
    for (name, value) in [("LESS", "FRX"), ("LESSCHARSET", "utf-8"), ("LV", "-c")] {
        if std::env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
    let Ok(mut child) = command.spawn() else { return false };
    if let Some(mut stdin) = child.stdin.take() {
        // Somebody who has seen enough ends the pager, which is no error.
        let _ = stdin.write_all(text);
    }
    let status = child.wait().ok().and_then(|status| status.code());
    !status.is_some_and(|code| NOT_RUN.contains(&code))
}
