//! How answers appear: wrapped at words on a terminal, thinking dimmed, nothing that steers the terminal; as they are in a pipe.

use std::io::{self, IsTerminal, Write};

use unicode_width::UnicodeWidthChar;

use crate::terminal;

/// Standard output, for one answer.
pub(super) struct Screen {
    /// Columns of the terminal; `None` in a pipe.
    width: Option<usize>,
    dims: bool,
    is_terminal: bool,
    column: usize,
    /// A word that has not ended, and its columns.
    word: String,
    word_columns: usize,
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
            width: terminal::width().filter(|&width| width >= LEAST_WIDTH),
            dims: terminal::is_rich(),
            is_terminal: io::stdout().is_terminal(),
            column: 0,
            word: String::new(),
            word_columns: 0,
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
        let newline = if self.column > 0 { "\n" } else { "" };
        let mark = if self.dims { "\n" } else { "[answer]\n" };
        self.column = 0;
        self.write(&format!("{normal}{newline}{mark}"))
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        self.clear_progress();
        if !self.is_terminal {
            return self.write(text);
        }
        for c in text.chars() {
            match c {
                '\n' => {
                    self.end_word()?;
                    self.column = 0;
                    self.write("\n")?;
                }
                ' ' | '\t' => {
                    self.end_word()?;
                    self.space(if c == '\t' { "    " } else { " " })?;
                }
                // The program's own escapes are the only ones.
                c if c.is_control() => {}
                c => {
                    self.word.push(c);
                    self.word_columns += c.width().unwrap_or(0);
                    // Scripts without spaces may break anywhere.
                    if c.width() == Some(2) || self.width.is_some_and(|width| self.word_columns >= width) {
                        self.end_word()?;
                    }
                }
            }
        }
        io::stdout().lock().flush()
    }

    /// Shows the word, on a line of its own where it does not fit this one.
    fn end_word(&mut self) -> io::Result<()> {
        if self.word.is_empty() {
            return Ok(());
        }
        if self.width.is_some_and(|width| self.column > 0 && self.column + self.word_columns > width) {
            self.column = 0;
            self.write("\n")?;
        }
        self.column += self.word_columns;
        self.word_columns = 0;
        let word = std::mem::take(&mut self.word);
        self.write(&word)
    }

    /// Shows a space, unless the line is full: the next word begins another.
    fn space(&mut self, space: &str) -> io::Result<()> {
        if self.width.is_some_and(|width| self.column + space.len() >= width) {
            return Ok(());
        }
        self.column += space.len();
        self.write(space)
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
        if self.column > 0 && self.is_terminal {
            self.column = 0;
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
