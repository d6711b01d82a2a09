//! Splits the stream of an answer into text and calls. Text that may be the start of a mark is held back.

use std::sync::Arc;

use super::reader::{Reader, Stop};
use super::{ToolCall, ToolSyntax, Tools};

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolPart {
    /// Text.
    Text(String),
    /// A call.
    Call(ToolCall),
}

/// Splits one answer.
pub struct ToolSplitter {
    syntax: &'static ToolSyntax,
    tools: Arc<Tools>,
    held: String,
    /// Bytes of it that are the end of the prompt.
    begun: usize,
    /// Whether the text held back begins with a mark; `space` is the white space before it.
    in_call: bool,
    space: String,
    /// Whether there has been text other than white space.
    has_text: bool,
    calls: usize,
}

impl ToolSplitter {
    /// A splitter at the beginning of an answer.
    #[must_use]
    pub fn new(syntax: &'static ToolSyntax, tools: Arc<Tools>) -> Self {
        let held = if syntax.begun { syntax.mark().to_owned() } else { String::new() };
        let begun = held.len();
        Self { syntax, tools, held, begun, in_call: false, space: String::new(), has_text: false, calls: 0 }
    }

    /// How calls are written.
    #[must_use]
    pub fn syntax(&self) -> &'static ToolSyntax {
        self.syntax
    }

    /// Calls so far.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls
    }

    /// Adds `text` and returns the parts that are complete.
    pub fn push(&mut self, text: &str) -> Vec<ToolPart> {
        self.held.push_str(text);
        // Every call ends with one of these characters; without one, parsing again is useless.
        if self.in_call && self.begun == 0 && !text.contains(['}', ']', '>', ')', '`']) {
            return Vec::new();
        }
        self.split(false)
    }

    /// The rest at the end of the answer.
    pub fn finish(&mut self) -> Vec<ToolPart> {
        let mut parts = self.split(true);
        let mut rest = std::mem::take(&mut self.held);
        rest.drain(..self.begun);
        // White space between and after calls is not part of the answer.
        if !rest.trim().is_empty() || self.calls == 0 && !rest.is_empty() {
            parts.push(ToolPart::Text(rest));
        }
        parts
    }

    fn split(&mut self, ended: bool) -> Vec<ToolPart> {
        let mut parts = Vec::new();
        loop {
            if !self.in_call {
                let (at, whole) = self.next_mark();
                // White space before a call belongs to it.
                let text = self.held[..at].trim_end().len();
                let text = if whole || at == self.held.len() || !ended { text } else { at };
                if text > 0 {
                    self.has_text = true;
                    parts.push(ToolPart::Text(self.held.drain(..text).collect()));
                }
                if !whole {
                    return parts;
                }
                self.space = self.held.drain(..at - text).collect();
                self.in_call = true;
            }
            let mut reader = Reader::new(&self.held, ended);
            match (self.syntax.read)(&mut reader, &self.tools) {
                Ok(calls) => {
                    let used = reader.at();
                    self.calls += calls.len();
                    parts.extend(calls.into_iter().map(ToolPart::Call));
                    self.held.drain(..used);
                    (self.in_call, self.begun) = (false, 0);
                }
                Err(Stop::More) => return parts,
                Err(Stop::Not) => {
                    self.in_call = false;
                    if self.begun > 0 {
                        self.held.drain(..std::mem::take(&mut self.begun));
                        continue;
                    }
                    // Not a call: its first character is text.
                    let len = self.held.chars().next().map_or(0, char::len_utf8);
                    let mut text = std::mem::take(&mut self.space);
                    text.extend(self.held.drain(..len));
                    parts.push(ToolPart::Text(text));
                    self.has_text = true;
                }
            }
        }
    }

    /// The offset at which the next mark is or may begin, and whether it is complete; the end of the text held back if there is none.
    fn next_mark(&self) -> (usize, bool) {
        for (at, _) in self.held.char_indices() {
            let rest = &self.held[at..];
            let first = !self.has_text && self.calls == 0 && self.held[..at].trim().is_empty();
            let mut begins = false;
            for (mark, at_start) in self.syntax.opens {
                if *at_start && !first {
                    continue;
                }
                if rest.starts_with(mark) {
                    return (at, true);
                }
                begins |= mark.starts_with(rest);
            }
            if begins {
                return (at, false);
            }
        }
        (self.held.len(), false)
    }
}
