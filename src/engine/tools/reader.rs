//! Parses calls in a stream of text.

use serde_json::Value as Json;

/// Why parsing stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// More text is needed.
    More,
    /// The text is not a call.
    Not,
}

pub(super) type Read<T> = Result<T, Stop>;

/// A position in a text.
pub(super) struct Reader<'t> {
    text: &'t str,
    at: usize,
    /// Whether the text is complete.
    ended: bool,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str, ended: bool) -> Self {
        Self { text, at: 0, ended }
    }

    /// Bytes that have been read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Goes back to what has been read.
    pub(super) fn back(&mut self, bytes: usize) {
        self.at -= bytes;
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// The result when the text is too short.
    fn short<T>(&self) -> Read<T> {
        Err(if self.ended { Stop::Not } else { Stop::More })
    }

    /// Reads this text.
    pub(super) fn mark(&mut self, mark: &str) -> Read<()> {
        let rest = self.rest();
        if rest.starts_with(mark) {
            self.at += mark.len();
            Ok(())
        } else if mark.starts_with(rest) {
            self.short()
        } else {
            Err(Stop::Not)
        }
    }

    /// Reads this text, if it is next.
    pub(super) fn optional(&mut self, mark: &str) -> Read<bool> {
        match self.mark(mark) {
            Ok(()) => Ok(true),
            Err(Stop::More) => Err(Stop::More),
            Err(Stop::Not) => Ok(false),
        }
    }

    /// Reads the mark that closes a call; the end of the answer closes it too.
    pub(super) fn close(&mut self, mark: &str) -> Read<()> {
        self.space();
        if self.ended && mark.starts_with(self.rest()) {
            self.at = self.text.len();
            return Ok(());
        }
        self.mark(mark)
    }

    /// Reads white space.
    pub(super) fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    /// Reads up to `mark`, and the mark itself.
    pub(super) fn until(&mut self, mark: &str) -> Read<&'t str> {
        match self.rest().find(mark) {
            Some(len) => {
                let text = &self.rest()[..len];
                self.at += len + mark.len();
                Ok(text)
            }
            None => self.short(),
        }
    }

    /// Reads a name: letters, digits, `_`, `-`, `.`.
    pub(super) fn name(&mut self) -> Read<&'t str> {
        let rest = self.rest();
        let is_other = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
        match rest.find(is_other) {
            Some(0) => Err(Stop::Not),
            Some(len) => {
                self.at += len;
                Ok(&rest[..len])
            }
            None => self.short(),
        }
    }

    /// Reads a JSON value.
    pub(super) fn json(&mut self) -> Read<Json> {
        self.space();
        let mut values = serde_json::Deserializer::from_str(self.rest()).into_iter::<Json>();
        match values.next() {
            Some(Ok(value)) => {
                self.at += values.byte_offset();
                Ok(value)
            }
            Some(Err(error)) if error.is_eof() => self.short(),
            Some(Err(_)) => Err(Stop::Not),
            None => self.short(),
        }
    }

    /// Reads the calls of a section up to its `end`, at least one; the end of the answer ends it too. `call` reads one.
    pub(super) fn section<T>(&mut self, end: &str, mut call: impl FnMut(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let mut calls = Vec::new();
        loop {
            self.space();
            if !calls.is_empty() && (self.is_at_end() || self.optional(end)?) {
                return Ok(calls);
            }
            calls.push(call(self)?);
        }
    }

    /// Reads items with commas between them, up to `close`, and it; a comma may stand before that. What opens the list has been
    /// read; `item` reads one.
    pub(super) fn list(&mut self, close: &str, mut item: impl FnMut(&mut Self) -> Read<()>) -> Read<()> {
        loop {
            self.space();
            if self.optional(close)? {
                return Ok(());
            }
            item(self)?;
            self.space();
            if !self.optional(",")? {
                return self.mark(close);
            }
        }
    }

    /// Reads a character.
    pub(super) fn take(&mut self) -> Read<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Ok(c)
    }

    /// Reads a number, or a word such as `true`.
    pub(super) fn number_or_word(&mut self) -> Read<&'t str> {
        let rest = self.rest();
        match rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))) {
            Some(0) => Err(Stop::Not),
            Some(len) => {
                self.at += len;
                Ok(&rest[..len])
            }
            None => self.short(),
        }
    }

    /// The next character.
    pub(super) fn peek(&self) -> Read<char> {
        self.rest().chars().next().map_or_else(|| self.short(), Ok)
    }

    /// Whether the text ends here.
    pub(super) fn is_at_end(&self) -> bool {
        self.ended && self.rest().trim().is_empty()
    }
}
