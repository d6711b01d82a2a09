//! Separates a model's thinking from its answer by the marks of its template.

use crate::tokenizer::{TokenKind, Tokenizer};

/// How thinking is marked. The first style whose marks a template has is the model's.
#[derive(Debug, PartialEq, Eq)]
pub struct ThinkingStyle {
    /// The mark before thinking.
    pub open: &'static str,
    /// The mark after thinking.
    pub close: &'static str,
    /// Marks that belong to neither: starts of answers, names of channels.
    hidden: &'static [&'static str],
    /// The mark before the answer; empty if there is none.
    pub(super) answer: &'static str,
    /// The end of a prompt after which these models open their thinking themselves, if an empty thought there keeps them from it;
    /// empty if none is known.
    skip_after: &'static str,
}

/// The known styles, the more specific first.
const STYLES: &[ThinkingStyle] = &[
    ThinkingStyle {
        open: "<|channel|>analysis<|message|>",
        close: "<|end|>",
        hidden: &[
            "<|start|>assistant",
            "<|channel|>final<|message|>",
            "<|channel|>commentary<|message|>",
            "<|start|>",
            "<|channel|>",
            "<|message|>",
        ],
        answer: "<|start|>assistant<|channel|>final<|message|>",
        skip_after: "",
    },
    ThinkingStyle { open: "<|channel>thought\n", close: "<channel|>", hidden: &[], answer: "", skip_after: "" },
    ThinkingStyle {
        open: "<|START_THINKING|>",
        close: "<|END_THINKING|>",
        hidden: &["<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>"],
        answer: "<|START_RESPONSE|>",
        skip_after: "<|CHATBOT_TOKEN|>",
    },
    ThinkingStyle { open: "[THINK]", close: "[/THINK]", hidden: &[], answer: "", skip_after: "" },
    ThinkingStyle { open: "<seed:think>", close: "</seed:think>", hidden: &[], answer: "", skip_after: "" },
    ThinkingStyle { open: "<mm:think>", close: "</mm:think>", hidden: &[], answer: "", skip_after: "" },
    ThinkingStyle { open: "<think>", close: "</think>", hidden: &[], answer: "", skip_after: "" },
];

impl ThinkingStyle {
    /// The style of a template, if it has one.
    #[must_use]
    pub fn of_template(source: &str) -> Option<&'static Self> {
        // A line break may be written as `\n` in templates.
        let has = |mark: &str| source.contains(mark.trim_end());
        STYLES.iter().find(|style| match style.close {
            // It ends any message.
            "<|end|>" => source.contains("<|channel|>analysis"),
            close => has(style.open) || has(close),
        })
    }

    /// Its marks.
    fn marks(&self) -> impl Iterator<Item = (&'static str, Mark)> + '_ {
        let hidden = self.hidden.iter().map(|text| (*text, Mark::Hidden));
        [(self.open, Mark::Open), (self.close, Mark::Close)].into_iter().chain(hidden)
    }

    /// The control tokens of `tokenizer` in its marks, which generation has to return as text.
    #[must_use]
    pub fn control_tokens(&self, tokenizer: &Tokenizer) -> Vec<u32> {
        let vocab = tokenizer.vocab();
        let is_part = |text: &[u8]| {
            std::str::from_utf8(text)
                .is_ok_and(|text| text.len() > 2 && self.marks().any(|(mark, _)| mark.contains(text)))
        };
        (0..)
            .zip(vocab.tokens.iter().zip(&vocab.kinds))
            .filter(|(_, (text, kind))| **kind == TokenKind::Control && is_part(text))
            .map(|(id, _)| id)
            .collect()
    }

    /// Whether an answer to `prompt` begins inside of thinking, because the template has opened it.
    #[must_use]
    pub fn begins_inside(&self, prompt: &str) -> bool {
        prompt.trim_end().ends_with(self.open.trim_end())
    }

    /// What a prompt that ends with the start of an answer lacks for an answer without thinking: the end of the thought that the
    /// template has opened, or an empty thought. Empty where the template has a switch of its own and has used it.
    #[must_use]
    pub fn without_thinking(&self, prompt: &str) -> String {
        if self.begins_inside(prompt) {
            self.close.to_owned()
        } else if !self.skip_after.is_empty() && prompt.ends_with(self.skip_after) {
            format!("{}{}", self.open, self.close)
        } else {
            String::new()
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    Open,
    Close,
    Hidden,
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Whether it is thinking.
    pub thinking: bool,
    /// Text.
    pub text: String,
}

/// Splits a stream of text into thinking and answer.
pub struct ThinkingSplitter {
    style: &'static ThinkingStyle,
    thinking: bool,
    /// Whether white space is skipped, which follows a mark.
    skip_space: bool,
    held: String,
}

impl ThinkingSplitter {
    /// A splitter at the start of an answer, which may start `inside` of thinking.
    #[must_use]
    pub fn new(style: &'static ThinkingStyle, inside: bool) -> Self {
        Self { style, thinking: inside, skip_space: true, held: String::new() }
    }

    /// Whether the next text is thinking.
    #[must_use]
    pub fn is_thinking(&self) -> bool {
        self.thinking
    }

    /// Adds `text` and returns the parts that are complete.
    pub fn push(&mut self, text: &str) -> Vec<Part> {
        self.held.push_str(text);
        let mut parts = Vec::new();
        loop {
            match self.next_mark() {
                TagMatch::Mark(at, len, mark) => {
                    self.emit(at, &mut parts);
                    self.held.drain(..len);
                    match mark {
                        Mark::Open => self.thinking = true,
                        Mark::Close => self.thinking = false,
                        Mark::Hidden => {}
                    }
                    self.skip_space = true;
                }
                TagMatch::Beginning(at) => {
                    self.emit(at, &mut parts);
                    return parts;
                }
                TagMatch::Nothing => {
                    self.emit(self.held.len(), &mut parts);
                    return parts;
                }
            }
        }
    }

    /// The rest at the end of an answer.
    pub fn finish(&mut self) -> Vec<Part> {
        let mut parts = Vec::new();
        self.emit(self.held.len(), &mut parts);
        parts
    }

    fn emit(&mut self, end: usize, parts: &mut Vec<Part>) {
        let text: String = self.held.drain(..end).collect();
        let shown = if self.skip_space { text.trim_start() } else { &text };
        if shown.is_empty() {
            return;
        }
        self.skip_space = false;
        parts.push(Part { thinking: self.thinking, text: shown.to_owned() });
    }

    /// The first mark (the longest at its offset), or the first offset at which a mark may begin.
    fn next_mark(&self) -> TagMatch {
        for (at, _) in self.held.char_indices() {
            let rest = &self.held[at..];
            let mut longest: Option<(usize, Mark)> = None;
            for (text, mark) in self.style.marks() {
                if text.len() > rest.len() && text.starts_with(rest) {
                    return TagMatch::Beginning(at);
                }
                if rest.starts_with(text) && longest.is_none_or(|(len, _)| text.len() > len) {
                    longest = Some((text.len(), mark));
                }
            }
            if let Some((len, mark)) = longest {
                return TagMatch::Mark(at, len, mark);
            }
        }
        TagMatch::Nothing
    }
}

enum TagMatch {
    /// Its offset, its length, and which mark it is.
    Mark(usize, usize, Mark),
    Beginning(usize),
    Nothing,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits `text` in pieces of `n` characters.
    fn split(template: &str, inside: bool, text: &str, n: usize) -> (String, String) {
        let style = ThinkingStyle::of_template(template).expect("a style");
        let mut splitter = ThinkingSplitter::new(style, inside);
        let chars: Vec<char> = text.chars().collect();
        let mut parts = Vec::new();
        for piece in chars.chunks(n) {
            parts.extend(splitter.push(&piece.iter().collect::<String>()));
        }
        parts.extend(splitter.finish());
        let all = |thinking: bool| parts.iter().filter(|p| p.thinking == thinking).map(|p| p.text.as_str()).collect();
        (all(true), all(false))
    }

    #[test]
    fn thinking_is_told_from_the_answer_in_pieces_of_any_size() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        for n in [1, 2, 3, 7, 1000] {
            let found = split("{{ '<think>' }}", false, "<think>\nHm, <b>?\n</think>\n\nYes <th.", n);
            assert_eq!(found, pair("Hm, <b>?\n", "Yes <th."), "{n}");
            assert_eq!(split("</think>", true, "a</think>b", n), pair("a", "b"), "{n}");
            assert_eq!(split("[THINK]", false, "no thought", n), pair("", "no thought"), "{n}");
            let harmony = "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b";
            assert_eq!(split("<|channel|>analysis", false, harmony, n), pair("a", "b"), "{n}");
            assert_eq!(split("<|channel>thought\\n", false, "<|channel>thought\na<channel|>b", n), pair("a", "b"));
        }
    }

    #[test]
    fn templates_without_thinking_have_no_style() {
        assert!(ThinkingStyle::of_template("<|im_start|>{{ x }}<|end|>").is_none());
        let style = ThinkingStyle::of_template("<think>").expect("a style");
        assert!(style.begins_inside("<|Assistant|><think>\n") && !style.begins_inside("<think>\n\n</think>\n\n"));
    }

    #[test]
    fn a_thought_that_is_not_wanted_is_ended_at_once() {
        let added = |template: &str, prompt: &str| {
            ThinkingStyle::of_template(template).expect("a style").without_thinking(prompt)
        };
        assert_eq!(added("<think>", "<|im_start|>assistant\n<think>\n"), "</think>");
        assert_eq!(added("<think>", "<|im_start|>assistant\n<think>\n\n</think>\n\n"), "");
        assert_eq!(added("<think>", "<|im_start|>assistant\n"), "");
        let command_r = "<|START_THINKING|>";
        assert_eq!(added(command_r, "<|CHATBOT_TOKEN|>"), "<|START_THINKING|><|END_THINKING|>");
        assert_eq!(added(command_r, "<|CHATBOT_TOKEN|><|START_THINKING|><|END_THINKING|>"), "");
        assert_eq!(added(command_r, "<|CHATBOT_TOKEN|><|START_THINKING|>"), "<|END_THINKING|>");
        assert_eq!(added("<|channel|>analysis", "<|start|>assistant"), "");
    }
}
