//! How answers appear: wrapped at words on a terminal, thinking dimmed, nothing that steers the terminal; as they are in a pipe.

use std::io::{self, IsTerminal, Write};

use unicode_width::UnicodeWidthChar;

use super::wrapping::Wrapping;
use crate::terminal;

/// Standard output, for one answer.
pub(super) struct Screen {
    dims: bool,
    is_terminal: bool,
    wrapping: Wrapping,
    thinking: bool,
    progress: bool,
}

/// Fewer columns are not worth wrapping for.
const LEAST_WIDTH: usize = 20;
/// Tokens of a prompt that take long enough to say so.
const LONG_PROMPT: usize = 256;
const DIM: &str = "\x1b[2m";
const NORMAL: &str = "\x1b[0m";

impl Screen {
    pub(super) fn new() -> Self {
        Self {
            dims: terminal::is_rich(),
            is_terminal: io::stdout().is_terminal(),
            wrapping: Wrapping::new(terminal::width().filter(|&width| width >= LEAST_WIDTH)),
            thinking: false,
            progress: false,
        }
    }

    /// Shows text of the answer.
    pub(super) fn answer(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        if self.thinking {
            self.end_thinking()?;
        }
        self.text(text)
    }

    /// Shows text of what the model thinks.
    pub(super) fn thought(&mut self, text: &str) -> io::Result<()> {
        if !self.thinking {
            self.thinking = true;
            self.write(if self.dims { DIM } else { "[thinking]\n" })?;
        }
        self.text(text)
    }

    fn end_thinking(&mut self) -> io::Result<()> {
        self.end_word()?;
        self.thinking = false;
        let normal = if self.dims { NORMAL } else { "" };
        let newline = if self.wrapping.begin_line() { "\n" } else { "" };
        let mark = if self.dims { "\n" } else { "[answer]\n" };
        self.write(&format!("{normal}{newline}{mark}"))
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        self.clear_progress();
        if !self.is_terminal {
            return self.write(text);
        }
        let mut out = String::new();
        self.wrapping.push(text, &mut out);
        self.write(&out)?;
        io::stdout().lock().flush()
    }

    /// Shows the word that has not ended.
    fn end_word(&mut self) -> io::Result<()> {
        let mut out = String::new();
        self.wrapping.end_word(&mut out);
        if out.is_empty() { Ok(()) } else { self.write(&out) }
    }

    /// Shows what is held back, and makes sure that thinking has ended.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.clear_progress();
        self.end_word()?;
        if self.thinking && self.dims {
            self.write(NORMAL)?;
        }
        self.thinking = false;
        io::stdout().lock().flush()
    }

    /// Tells on a terminal how much of a long prompt has been read.
    pub(super) fn reading(&mut self, done: usize, total: usize) {
        if io::stderr().is_terminal() && done < total && total >= LONG_PROMPT {
            let _ = write!(io::stderr().lock(), "\r\x1b[Kreading {done} of {total} tokens");
            self.progress = true;
        }
    }

    /// A line on standard error, apart from the answer.
    pub(super) fn remark(&mut self, text: &str) -> io::Result<()> {
        self.clear_progress();
        self.end_word()?;
        if self.is_terminal && self.wrapping.begin_line() {
            self.write("\n")?;
        }
        remark(text);
        Ok(())
    }

    fn clear_progress(&mut self) {
        if std::mem::take(&mut self.progress) {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        if self.is_terminal { Ok(()) } else { out.flush() }
    }
}

/// A line in brackets on standard error, wrapped at words.
pub(super) fn remark(text: &str) {
    notice(&format!("({text})"));
}

/// Lines on standard error, wrapped at words.
pub(super) fn notice(text: &str) {
    let width = terminal::width().filter(|_| io::stderr().is_terminal());
    let mut out = io::stderr().lock();
    for line in text.lines() {
        let _ = writeln!(out, "{}", wrapped(line, width));
    }
}

/// A line wrapped at spaces; what goes on is indented as the last column of a list is.
fn wrapped(line: &str, width: Option<usize>) -> String {
    let columns = |text: &str| text.chars().map(|c| c.width().unwrap_or(0)).sum::<usize>();
    let Some(width) = width.filter(|&width| width >= LEAST_WIDTH && columns(line) > width) else {
        return line.to_owned();
    };
    let indent = line.rfind("  ").map_or(0, |at| columns(&line[..at + 2]));
    let indent = if indent * 2 > width { 2 } else { indent };
    let (mut out, mut column) = (String::new(), 0);
    for word in line.split_inclusive(' ') {
        let needed = columns(word.trim_end());
        if column > indent && column + needed > width {
            out.truncate(out.trim_end().len());
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            column = indent;
        }
        out.push_str(word);
        column += columns(word);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::wrapped;

    #[test]
    fn lines_break_at_words() {
        assert_eq!(wrapped("aaaa bbbb cccc dddd eeee", Some(20)), "aaaa bbbb cccc dddd\neeee");
        assert_eq!(
            wrapped("/set X  show or change it now", Some(20)),
            "/set X  show or\n        change it\n        now"
        );
        assert_eq!(wrapped("aaaa bbbb cccc dddd eeee", None), "aaaa bbbb cccc dddd eeee");
        assert_eq!(wrapped("aaaa", Some(3)), "aaaa");
    }
}
