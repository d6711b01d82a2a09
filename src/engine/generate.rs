//! Text from a session, token by token.

use std::time::{Duration, Instant};

use super::{Error, Sampler, Session};
use crate::tokenizer::StreamDecoder;

/// Limits of one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Most tokens; as many as the context holds when `None`.
    pub max_tokens: Option<usize>,
    /// Go on after the token that ends a turn.
    pub ignore_end: bool,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The model ended its turn.
    End,
    /// The most tokens are reached.
    Length,
    /// The context is full.
    Context,
    /// The caller stopped it.
    Caller,
}

/// An answer and what it took.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its text.
    pub text: String,
    /// Its tokens, without the one that ends the turn.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub stop: Stop,
    /// Tokens of the prompt that had to be evaluated.
    pub prompt_tokens: usize,
    /// Time for them.
    pub prompt_time: Duration,
    /// Time for the answer's tokens.
    pub answer_time: Duration,
}

impl Session {
    /// Brings the session to `prompt` and lets the model go on. `show` gets the text as it comes, and stops the
    /// answer by returning false; it is also asked, with an empty text, while the prompt is evaluated.
    ///
    /// # Errors
    /// When the prompt is empty or does not fit the context.
    pub fn generate(
        &mut self,
        prompt: &[u32],
        sampler: &mut Sampler,
        limits: Generation,
        show: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Answer, Error> {
        let start = Instant::now();
        let mut answer = Answer {
            text: String::new(),
            tokens: Vec::new(),
            stop: Stop::Caller,
            prompt_tokens: 0,
            prompt_time: Duration::ZERO,
            answer_time: Duration::ZERO,
        };
        let advanced = self.advance_to(prompt, &mut |_| show(""))?;
        answer.prompt_time = start.elapsed();
        let Some((mut logits, evaluated)) = advanced else { return Ok(answer) };
        answer.prompt_tokens = evaluated;
        prompt.iter().for_each(|&token| sampler.accept(token));
        let start = Instant::now();
        let model = self.model().clone();
        let mut decoder = StreamDecoder::new(false);
        answer.stop = loop {
            if limits.max_tokens.is_some_and(|max| answer.tokens.len() >= max) {
                break Stop::Length;
            }
            let token = sampler.sample(&mut logits);
            if model.tokenizer().ends_turn(token) && !limits.ignore_end {
                break Stop::End;
            }
            sampler.accept(token);
            answer.tokens.push(token);
            let text = decoder.push(model.tokenizer(), token);
            answer.text.push_str(&text);
            if !show(&text) {
                break Stop::Caller;
            }
            if self.tokens().len() >= self.context_length() {
                break Stop::Context;
            }
            match self.evaluate(&[token], &mut |_| true)? {
                Some(next) => logits = next,
                None => break Stop::Caller,
            }
        };
        let rest = decoder.finish();
        show(&rest);
        answer.text.push_str(&rest);
        answer.answer_time = start.elapsed();
        Ok(answer)
    }
}
