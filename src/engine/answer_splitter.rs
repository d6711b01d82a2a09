//! Splits the stream of an answer into thinking, text and tool calls, for chats and servers.

use super::thinking::{ThinkingSplitter, ThinkingStyle};
use super::tools::{ToolCall, ToolPart, ToolSplitter};
use crate::tokenizer::Tokenizer;

/// A part of an answer.
pub(crate) enum AnswerPart {
    Thinking(String),
    Text(String),
    Call(ToolCall),
}

/// Splits one answer.
pub(crate) struct AnswerSplitter {
    thinking: Option<ThinkingSplitter>,
    tools: Option<ToolSplitter>,
}

impl AnswerSplitter {
    pub(crate) fn new(thinking: Option<ThinkingSplitter>, tools: Option<ToolSplitter>) -> Self {
        Self { thinking, tools }
    }

    /// The control tokens that generation has to return as text.
    pub(crate) fn shown(
        style: Option<&ThinkingStyle>,
        tools: Option<&ToolSplitter>,
        tokenizer: &Tokenizer,
    ) -> Vec<u32> {
        let mut shown = style.map(|style| style.control_tokens(tokenizer)).unwrap_or_default();
        shown.extend(tools.into_iter().flat_map(|tools| tools.syntax().control_tokens(tokenizer)));
        shown
    }

    /// Whether the next text is thinking.
    pub(crate) fn is_thinking(&self) -> bool {
        self.thinking.as_ref().is_some_and(ThinkingSplitter::is_thinking)
    }

    /// Calls so far.
    #[cfg(feature = "serve")]
    pub(crate) fn calls(&self) -> usize {
        self.tools.as_ref().map_or(0, ToolSplitter::calls)
    }

    /// Adds `text` and returns the parts that are complete; all remaining parts if it is the last text.
    pub(crate) fn push(&mut self, text: &str, is_last: bool) -> Vec<AnswerPart> {
        let mut parts = Vec::new();
        // If calls share marks with thinking, calls are looked for first.
        if let Some(tools) = self.tools.as_mut().filter(|tools| tools.syntax().before_thinking) {
            let mut found = tools.push(text);
            if is_last {
                found.extend(tools.finish());
            }
            for part in found {
                match part {
                    ToolPart::Call(call) => parts.push(AnswerPart::Call(call)),
                    ToolPart::Text(text) => think(&mut self.thinking, &text, false, &mut |part| parts.push(part)),
                }
            }
            if is_last {
                think(&mut self.thinking, "", true, &mut |part| parts.push(part));
            }
            return parts;
        }
        let mut without_calls = Vec::new();
        think(&mut self.thinking, text, is_last, &mut |part| without_calls.push(part));
        let Some(tools) = &mut self.tools else { return without_calls };
        for part in without_calls {
            match part {
                AnswerPart::Text(text) => parts.extend(tools.push(&text).into_iter().map(AnswerPart::from)),
                other => parts.push(other),
            }
        }
        if is_last {
            parts.extend(tools.finish().into_iter().map(AnswerPart::from));
        }
        parts
    }
}

impl From<ToolPart> for AnswerPart {
    fn from(part: ToolPart) -> Self {
        match part {
            ToolPart::Text(text) => Self::Text(text),
            ToolPart::Call(call) => Self::Call(call),
        }
    }
}

/// Splits thinking from text.
fn think(splitter: &mut Option<ThinkingSplitter>, text: &str, is_last: bool, give: &mut dyn FnMut(AnswerPart)) {
    let Some(splitter) = splitter else {
        if !text.is_empty() {
            give(AnswerPart::Text(text.to_owned()));
        }
        return;
    };
    let mut parts = splitter.push(text);
    if is_last {
        parts.extend(splitter.finish());
    }
    for part in parts {
        give(if part.thinking { AnswerPart::Thinking(part.text) } else { AnswerPart::Text(part.text) });
    }
}
