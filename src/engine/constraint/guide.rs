//! Decides when a constraint applies: from the first token on, after the model's thinking, or in tool calls alone.

use std::sync::Arc;

use super::machine::State;
use super::{Calls, Constraint, Rule};
use crate::engine::{Error, ThinkingStyle};
use crate::tokenizer::{EncodeOptions, TokenKind, Tokenizer};

/// Enforces a [`Constraint`] on an answer.
pub(in crate::engine) struct Guide {
    /// The state of the rule, if one applies from here on.
    state: Option<State>,
    stage: Stage,
    thinking: Option<Thinking>,
    calls: Option<Arc<Calls>>,
    /// The end of the text so far, for finding the mark of a call.
    tail: Vec<u8>,
    /// Whether there has been text other than white space.
    has_text: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// There is no text yet: the model may think first.
    Start,
    /// The model is thinking, or writes what comes between its thinking and the answer.
    Free,
    /// The thinking has ended: white space may come before the answer.
    Ready,
    /// The rule applies.
    Bound,
    /// Waiting for the mark of a call.
    Watch,
}

/// The marks around thinking, as tokens and as text.
struct Thinking {
    style: &'static ThinkingStyle,
    open: Vec<u32>,
    close: Vec<u32>,
    /// The header that must come before the answer, as text and as tokens.
    header_text: String,
    header: Vec<u32>,
    /// Tokens of white space.
    spaces: Vec<u32>,
    /// The end of the text so far, as long as a mark.
    tail: Vec<u8>,
    closed: bool,
}

/// The start of the model's turn in a header that follows another message.
const TURN: &str = "<|start|>assistant";

impl Guide {
    /// The guide of a new answer.
    ///
    /// # Errors
    /// When the tokenizer cannot encode the marks of thinking.
    pub(in crate::engine) fn new(constraint: &Constraint, tokenizer: &Tokenizer) -> Result<Self, Error> {
        let calls = match &constraint.rule {
            Rule::Whole(_) => None,
            Rule::Calls(calls) => Some(calls.clone()),
        };
        // If calls are channels, the template's own marks separate thinking.
        let style = constraint.thinking.filter(|_| calls.as_ref().is_none_or(|calls| !calls.channels || calls.must));
        let thinking = match style {
            Some((style, _)) => {
                let header = match &calls {
                    Some(calls) if calls.channels => format!("{TURN}{}", calls.mark),
                    Some(_) => String::new(),
                    None => style.answer.to_owned(),
                };
                Some(Thinking::new(style, header, tokenizer)?)
            }
            None => None,
        };
        let state = match &constraint.rule {
            Rule::Whole(compiled) => Some(compiled.start()),
            Rule::Calls(calls)
                if calls.must && thinking.as_ref().is_some_and(|thinking| !thinking.header.is_empty()) =>
            {
                Some(calls.rest.start())
            }
            Rule::Calls(calls) => calls.whole.as_ref().map(|whole| whole.start()),
        };
        let bound = if state.is_some() { Stage::Bound } else { Stage::Watch };
        let stage = match (style, &thinking) {
            (Some((_, true)), _) => Stage::Free,
            (Some((_, false)), Some(thinking)) if thinking.may_begin(tokenizer) => Stage::Start,
            _ => bound,
        };
        Ok(Self { state, stage, thinking, calls, tail: Vec::new(), has_text: false })
    }

    /// Excludes the tokens that are not allowed next.
    pub(in crate::engine) fn mask(&mut self, logits: &mut [f32]) -> Result<(), Error> {
        let Some(state) = &mut self.state else { return Ok(()) };
        match (self.stage, &self.thinking) {
            (Stage::Free | Stage::Watch, _) => Ok(()),
            (Stage::Start, Some(thinking)) if !thinking.header.is_empty() => {
                // The answer has a header of its own, after which the rule applies.
                let begins = [thinking.open.first(), thinking.header_begins()];
                for (token, logit) in (0..).zip(logits) {
                    if !begins.contains(&Some(&token)) {
                        *logit = f32::NAN;
                    }
                }
                Ok(())
            }
            (Stage::Start, Some(thinking)) => state.mask(logits, &thinking.open[..1]),
            (Stage::Ready, Some(thinking)) => state.mask(logits, &thinking.spaces),
            _ => state.mask(logits, &[]),
        }
    }

    /// Whether the answer must end.
    pub(in crate::engine) fn is_over(&self) -> bool {
        self.stage == Stage::Bound && self.state.as_ref().is_some_and(State::is_over)
    }

    /// The tokens to insert in place of the end of an answer that has not started yet: the end of the thinking.
    pub(in crate::engine) fn instead_of_end(&self) -> Option<&[u32]> {
        let thinking = self.thinking.as_ref().filter(|_| self.stage == Stage::Free && self.state.is_some())?;
        let tokens = if thinking.closed { &thinking.header } else { &thinking.close };
        (!tokens.is_empty()).then_some(tokens)
    }

    /// Advances by a token. Returns the tokens that must come next.
    pub(in crate::engine) fn accept(&mut self, token: u32, tokenizer: &Tokenizer) -> Result<Vec<u32>, Error> {
        let piece = tokenizer.piece(token);
        match (self.stage, &mut self.thinking) {
            (Stage::Start, Some(thinking)) => {
                let bare = thinking.header.is_empty();
                let opens = thinking.open.first() == Some(&token);
                let allowed = match &mut self.state {
                    Some(state) => bare && state.allows(token)?,
                    None => !opens,
                };
                if allowed {
                    return self.answer(token, piece).map(|()| Vec::new());
                }
                self.stage = Stage::Free;
                thinking.push(piece);
                // The rest of a mark with several tokens.
                Ok(if bare && opens { thinking.open[1..].to_vec() } else { Vec::new() })
            }
            (Stage::Free, Some(thinking)) => {
                let mark = thinking.push(piece);
                self.stage = match mark {
                    Mark::Answer => Stage::Bound,
                    Mark::Close if self.state.is_none() => Stage::Watch,
                    Mark::Close if thinking.header.is_empty() => Stage::Ready,
                    Mark::Close => return Ok(thinking.header.clone()),
                    Mark::Nothing => Stage::Free,
                };
                Ok(Vec::new())
            }
            (Stage::Ready, Some(thinking)) => {
                let is_space = thinking.spaces.contains(&token);
                if is_space && !self.state.as_mut().map_or(Ok(false), |state| state.allows(token))? {
                    self.stage = Stage::Bound;
                    return Ok(Vec::new());
                }
                self.answer(token, piece).map(|()| Vec::new())
            }
            _ => self.answer(token, piece).map(|()| Vec::new()),
        }
    }

    /// A token of the answer itself.
    fn answer(&mut self, token: u32, piece: &[u8]) -> Result<(), Error> {
        let Some(state) = &mut self.state else { return self.watch(piece) };
        self.stage = Stage::Bound;
        state.accept(token)?;
        // After a call, text and further calls may come.
        if state.is_over() && self.calls.as_ref().is_some_and(|calls| calls.parallel) {
            (self.state, self.stage) = (None, Stage::Watch);
            self.tail.clear();
        }
        Ok(())
    }

    /// Looks for the mark of a call in new text.
    fn watch(&mut self, piece: &[u8]) -> Result<(), Error> {
        self.stage = Stage::Watch;
        let Some(calls) = &self.calls else { return Ok(()) };
        let mark = calls.mark.as_bytes();
        if calls.at_start && self.has_text {
            return Ok(());
        }
        let longest = mark.len() + piece.len();
        self.tail.extend_from_slice(piece);
        self.tail.drain(..self.tail.len().saturating_sub(longest));
        let at = self.tail.windows(mark.len()).position(|text| text == mark);
        let before = &self.tail[..at.unwrap_or(self.tail.len())];
        self.has_text |= !before.iter().all(u8::is_ascii_whitespace) && at.is_none();
        let Some(at) = at.filter(|_| !calls.at_start || before.iter().all(u8::is_ascii_whitespace)) else {
            return Ok(());
        };
        let mut state = calls.rest.start();
        self.has_text = true;
        // The text after the mark within the same token may not be allowed; such a call is not constrained.
        if state.accept_text(&self.tail[at + mark.len()..])? {
            (self.state, self.stage) = (Some(state), Stage::Bound);
        }
        self.tail.clear();
        Ok(())
    }
}

/// The mark that a token completes.
enum Mark {
    /// The end of the thinking.
    Close,
    /// The header before the answer.
    Answer,
    Nothing,
}

impl Thinking {
    fn new(style: &'static ThinkingStyle, header_text: String, tokenizer: &Tokenizer) -> Result<Self, Error> {
        let encode = |text: &str| tokenizer.encode(text, EncodeOptions { add_special: false, parse_special: true });
        let space = |text: &str| encode(text).ok().filter(|tokens| tokens.len() == 1).map(|tokens| tokens[0]);
        // A header that the vocabulary does not have as a token is not used by the model.
        let header =
            Some(encode(&header_text)?).filter(|header| is_mark(tokenizer, header.first())).unwrap_or_default();
        Ok(Self {
            style,
            open: encode(style.open)?,
            close: encode(style.close)?,
            header_text,
            header,
            spaces: ["\n\n", "\n", " "].into_iter().filter_map(space).collect(),
            tail: Vec::new(),
            closed: false,
        })
    }

    /// Whether an answer may begin with thinking: its mark is a token of its own.
    fn may_begin(&self, tokenizer: &Tokenizer) -> bool {
        is_mark(tokenizer, self.open.first())
    }

    /// The part of the header that is needed within the model's turn.
    fn answer_mark(&self) -> &str {
        self.header_text.strip_prefix(TURN).unwrap_or(&self.header_text)
    }

    /// The first token of that part.
    fn header_begins(&self) -> Option<&u32> {
        let skipped = if self.answer_mark().len() == self.header_text.len() { 0 } else { 2 };
        self.header.get(skipped)
    }

    /// Adds text, and returns the mark that it completes.
    fn push(&mut self, piece: &[u8]) -> Mark {
        let longest = self.style.close.len().max(self.header_text.len()) + piece.len();
        self.tail.extend_from_slice(piece);
        self.tail.drain(..self.tail.len().saturating_sub(longest));
        let contains =
            |mark: &str| !mark.is_empty() && self.tail.windows(mark.len()).any(|text| text == mark.as_bytes());
        let mark = if contains(self.answer_mark()) {
            Mark::Answer
        } else if contains(self.style.close) {
            self.closed = true;
            Mark::Close
        } else {
            return Mark::Nothing;
        };
        self.tail.clear();
        mark
    }
}

/// Whether a token is a mark, not text.
fn is_mark(tokenizer: &Tokenizer, token: Option<&u32>) -> bool {
    token.is_some_and(|&token| matches!(tokenizer.kind(token), TokenKind::Control | TokenKind::UserDefined))
}
