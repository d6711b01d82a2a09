//! When a rule holds: from the first token on, or after what the model thinks before it answers.

use super::Constraint;
use super::machine::State;
use crate::engine::{Error, ThinkingStyle};
use crate::tokenizer::{EncodeOptions, TokenKind, Tokenizer};

/// Keeps an answer to a [`Constraint`].
pub(in crate::engine) struct Guide {
    state: State,
    stage: Stage,
    thinking: Option<Thinking>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// Nothing has been said: the model may think first.
    Start,
    /// The model thinks, or says what stands between its thinking and the answer.
    Free,
    /// The thinking has ended: white space may come before the answer.
    Ready,
    /// The rule holds.
    Bound,
}

/// The marks around thinking, as tokens and as text.
struct Thinking {
    style: &'static ThinkingStyle,
    open: Vec<u32>,
    close: Vec<u32>,
    /// What has to come before the answer.
    header: Vec<u32>,
    /// White space, each a token.
    spaces: Vec<u32>,
    /// The end of the text so far, as long as a mark.
    tail: Vec<u8>,
    closed: bool,
}

impl Guide {
    /// The guide of an answer that begins now.
    ///
    /// # Errors
    /// When the tokenizer cannot say the marks of thinking.
    pub(in crate::engine) fn new(constraint: &Constraint, tokenizer: &Tokenizer) -> Result<Self, Error> {
        let thinking = constraint.thinking.map(|(style, _)| Thinking::new(style, tokenizer)).transpose()?;
        let stage = match (constraint.thinking, &thinking) {
            (Some((_, true)), _) => Stage::Free,
            (Some((_, false)), Some(thinking)) if thinking.may_begin(tokenizer) => Stage::Start,
            _ => Stage::Bound,
        };
        Ok(Self { state: constraint.compiled.start(), stage, thinking })
    }

    /// Takes the tokens away that may not come next.
    pub(in crate::engine) fn mask(&mut self, logits: &mut [f32]) -> Result<(), Error> {
        match (self.stage, &self.thinking) {
            (Stage::Free, _) => Ok(()),
            (Stage::Start, Some(thinking)) if !thinking.header.is_empty() => {
                // The answer has a beginning of its own, after which the rule holds.
                let begins = [thinking.open.first(), thinking.header_begins()];
                for (token, logit) in (0..).zip(logits) {
                    if !begins.contains(&Some(&token)) {
                        *logit = f32::NAN;
                    }
                }
                Ok(())
            }
            (Stage::Start, Some(thinking)) => self.state.mask(logits, &thinking.open[..1]),
            (Stage::Ready, Some(thinking)) => self.state.mask(logits, &thinking.spaces),
            _ => self.state.mask(logits, &[]),
        }
    }

    /// Whether nothing more may come.
    pub(in crate::engine) fn is_over(&self) -> bool {
        self.stage == Stage::Bound && self.state.is_over()
    }

    /// What comes instead of the end of an answer that has not begun: the end of the thinking.
    pub(in crate::engine) fn instead_of_end(&self) -> Option<&[u32]> {
        let thinking = self.thinking.as_ref().filter(|_| self.stage == Stage::Free)?;
        Some(if thinking.closed { &thinking.header } else { &thinking.close }).filter(|tokens| !tokens.is_empty()).map(Vec::as_slice)
    }

    /// Goes on by a token. Returns those that have to come next.
    pub(in crate::engine) fn accept(&mut self, token: u32, tokenizer: &Tokenizer) -> Result<Vec<u32>, Error> {
        match (self.stage, &mut self.thinking) {
            (Stage::Start, Some(thinking)) => {
                let bare = thinking.header.is_empty();
                if bare && self.state.allows(token)? {
                    self.stage = Stage::Bound;
                    return self.state.accept(token).map(|()| Vec::new());
                }
                self.stage = Stage::Free;
                thinking.heard(tokenizer.piece(token));
                // The rest of a mark of several tokens.
                let opened = bare && thinking.open.first() == Some(&token);
                Ok(if opened { thinking.open[1..].to_vec() } else { Vec::new() })
            }
            (Stage::Free, Some(thinking)) => {
                let heard = thinking.heard(tokenizer.piece(token));
                self.stage = match heard {
                    Heard::Answer => Stage::Bound,
                    Heard::Close if thinking.header.is_empty() => Stage::Ready,
                    Heard::Close => return Ok(thinking.header.clone()),
                    Heard::Nothing => Stage::Free,
                };
                Ok(Vec::new())
            }
            (Stage::Ready, Some(thinking)) if thinking.spaces.contains(&token) && !self.state.allows(token)? => {
                self.stage = Stage::Bound;
                Ok(Vec::new())
            }
            _ => {
                self.stage = Stage::Bound;
                self.state.accept(token).map(|()| Vec::new())
            }
        }
    }
}

/// What a token has completed.
enum Heard {
    /// The end of the thinking.
    Close,
    /// What has to come before the answer.
    Answer,
    Nothing,
}

impl Thinking {
    fn new(style: &'static ThinkingStyle, tokenizer: &Tokenizer) -> Result<Self, Error> {
        let encode = |text: &str| tokenizer.encode(text, EncodeOptions { add_special: false, parse_special: true });
        let space = |text: &str| encode(text).ok().filter(|tokens| tokens.len() == 1).map(|tokens| tokens[0]);
        // A beginning that the vocabulary does not know is not the model's.
        let header = Some(encode(style.answer)?).filter(|header| is_mark(tokenizer, header.first())).unwrap_or_default();
        Ok(Self {
            style,
            open: encode(style.open)?,
            close: encode(style.close)?,
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

    /// The part of the header that has to come when the turn is the model's already.
    fn answer_mark(&self) -> &'static str {
        self.style.answer.strip_prefix("<|start|>assistant").unwrap_or(self.style.answer)
    }

    /// The token with which the answer begins there.
    fn header_begins(&self) -> Option<&u32> {
        let skipped = if self.answer_mark().len() == self.style.answer.len() { 0 } else { 2 };
        self.header.get(skipped)
    }

    /// Adds text, and says which mark ends it.
    fn heard(&mut self, piece: &[u8]) -> Heard {
        let longest = self.style.close.len().max(self.style.answer.len()) + piece.len();
        self.tail.extend_from_slice(piece);
        self.tail.drain(..self.tail.len().saturating_sub(longest));
        let contains = |mark: &str| !mark.is_empty() && self.tail.windows(mark.len()).any(|text| text == mark.as_bytes());
        let heard = if contains(self.answer_mark()) {
            Heard::Answer
        } else if contains(self.style.close) {
            self.closed = true;
            Heard::Close
        } else {
            return Heard::Nothing;
        };
        self.tail.clear();
        heard
    }
}

/// Whether a token is a mark, not text.
fn is_mark(tokenizer: &Tokenizer, token: Option<&u32>) -> bool {
    token.is_some_and(|&token| matches!(tokenizer.kind(token), TokenKind::Control | TokenKind::UserDefined))
}
