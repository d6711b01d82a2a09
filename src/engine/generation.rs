//! Generation as a state machine: logits in, events out. Who evaluates the tokens, one session or a batch of many sequences, is not
//! its business.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::constraint::Guide;
use super::logprobs::Logprobs;
use super::session::Pass;
use super::{Constraint, Error, Sampler, Session};
use crate::model::Model;
use crate::tokenizer::{StreamDecoder, TokenKind};

/// Limits of one answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GenerationOptions {
    /// Most tokens; as many as the context holds when `None`.
    pub max_tokens: Option<usize>,
    /// Go on after a token that ends a turn.
    pub ignore_end: bool,
    /// Texts that end the answer. They are not part of it.
    pub stop: Vec<String>,
    /// Further tokens that end the answer.
    pub stop_tokens: Vec<u32>,
    /// Control tokens whose names are shown; the others are not part of the text.
    pub shown: Vec<u32>,
    /// What the answer has to be.
    pub constraint: Option<Constraint>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// The model ended its turn.
    End,
    /// A text that ends the answer has come.
    Text,
    /// The most tokens are reached.
    Length,
    /// The context is full.
    Context,
    /// The caller stopped it.
    Caller,
}

/// What follows from a token's logits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A token, which is to be evaluated next.
    Token {
        /// Its id.
        token: u32,
        /// Text that is certain now. Empty while a character or what may be a stop text is not complete.
        text: String,
    },
    /// The answer has ended.
    Stop {
        /// Why.
        reason: Stop,
        /// The last of its text, which was held back.
        text: String,
    },
}

/// An unfinished answer.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use gguf_toolkit::engine::{Event, Generation, GenerationOptions, Sampler, SamplerOptions, Session};
/// # fn run(session: &mut Session, prompt: &[u32]) -> Result<(), gguf_toolkit::engine::Error> {
/// let sampler = Sampler::new(SamplerOptions::default());
/// let mut generation = Generation::new(session.model().clone(), sampler, GenerationOptions::default());
/// generation.accept_prompt(prompt);
/// let mut logits = session.evaluate(prompt, &mut |_| true)?.expect("not stopped");
/// loop {
///     match generation.next(&mut logits)? {
///         Event::Token { token, text } => {
///             print!("{text}");
///             logits = session.evaluate(&[token], &mut |_| true)?.expect("not stopped");
///         }
///         Event::Stop { text, .. } => {
///             println!("{text}");
///             return Ok(());
///         }
///     }
/// }
/// # }
/// ```
pub struct Generation {
    model: Arc<Model>,
    sampler: Sampler,
    options: GenerationOptions,
    decoder: StreamDecoder,
    /// Text that may be the beginning of a stop text.
    held: String,
    tokens: Vec<u32>,
    /// Tokens that come next without being sampled.
    forced: VecDeque<u32>,
    ended: Option<Stop>,
    /// The stop text that has come.
    stop_text: Option<String>,
    /// Keeps the answer to its constraint, from its first token on.
    guide: Option<Guide>,
    /// Whether the sampler has chosen the last token, which is forced otherwise.
    was_sampled: bool,
}

impl Generation {
    /// The beginning of an answer.
    #[must_use]
    pub fn new(model: Arc<Model>, sampler: Sampler, mut options: GenerationOptions) -> Self {
        options.stop.retain(|text| !text.is_empty());
        let (decoder, held) = (StreamDecoder::new(false), String::new());
        Self {
            model,
            sampler,
            options,
            decoder,
            held,
            tokens: Vec::new(),
            forced: VecDeque::new(),
            ended: None,
            stop_text: None,
            guide: None,
            was_sampled: false,
        }
    }

    /// Shows the prompt's tokens to the sampler, whose penalties look back on them.
    pub fn accept_prompt(&mut self, prompt: &[u32]) {
        self.sampler.forget();
        prompt.iter().for_each(|&token| self.sampler.accept(token));
    }

    /// The tokens so far, without the one that ended the answer.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The stop text that ended the answer.
    #[must_use]
    pub fn stop_text(&self) -> Option<&str> {
        self.stop_text.as_deref()
    }

    /// Lets these tokens come next, whatever the model says.
    pub fn force(&mut self, tokens: &[u32]) {
        self.forced.extend(tokens);
    }

    /// How many more tokens may come; `None` if only the context limits them.
    #[must_use]
    pub fn tokens_left(&self) -> Option<usize> {
        self.options.max_tokens.map(|max| max.saturating_sub(self.tokens.len()))
    }

    /// The probability of `token`, the last one, after all samplers, and those of the `top` likeliest that it was drawn from. A token
    /// that was taken without a draw is certain.
    #[must_use]
    pub fn probabilities(&self, token: u32, top: usize) -> Logprobs {
        let all = if self.was_sampled { self.sampler.drawn_from(usize::MAX) } else { Vec::new() };
        let taken = all.iter().find(|(other, _)| *other == token).map_or(0.0, |(_, p)| p.ln());
        let mut likeliest: Vec<_> = all.iter().take(top).map(|(token, p)| (*token, p.ln())).collect();
        if all.is_empty() && top > 0 {
            likeliest.push((token, 0.0));
        }
        Logprobs { taken, top: likeliest }
    }

    /// The sampler, for the next answer.
    #[must_use]
    pub fn into_sampler(self) -> Sampler {
        self.sampler
    }

    /// What comes next by the `logits`, `[vocab]`, of the last token. After the end, the end again.
    ///
    /// # Errors
    /// [`Error::NotANumber`] when no logit is a number, [`Error::Constraint`] when a constraint takes more than its share of time.
    pub fn next(&mut self, logits: &mut [f32]) -> Result<Event, Error> {
        if let Some(reason) = self.ended {
            return Ok(Event::Stop { reason, text: String::new() });
        }
        if self.options.max_tokens.is_some_and(|max| self.tokens.len() >= max) {
            return Ok(self.end(Stop::Length));
        }
        let Some(token) = self.choose(logits)? else { return Ok(self.end(Stop::End)) };
        self.sampler.accept(token);
        self.tokens.push(token);
        let tokenizer = self.model.tokenizer();
        let text = self.decoder.push(tokenizer, token);
        self.held.push_str(&text);
        if self.options.shown.contains(&token) && tokenizer.kind(token) == TokenKind::Control {
            self.held.push_str(&String::from_utf8_lossy(tokenizer.piece(token)));
        }
        let found = self.options.stop.iter().filter_map(|stop| Some((self.held.find(stop.as_str())?, stop)));
        if let Some((at, stop)) = found.min_by_key(|(at, _)| *at) {
            self.stop_text = Some(stop.clone());
            self.held.truncate(at);
            self.ended = Some(Stop::Text);
            return Ok(Event::Stop { reason: Stop::Text, text: std::mem::take(&mut self.held) });
        }
        let certain = self.held.len() - held_back(&self.held, &self.options.stop);
        Ok(Event::Token { token, text: self.held.drain(..certain).collect() })
    }

    /// The next token, or `None` at the end: one that is forced, or the sampler's choice of those that the constraint allows.
    fn choose(&mut self, logits: &mut [f32]) -> Result<Option<u32>, Error> {
        let model = self.model.clone();
        let tokenizer = model.tokenizer();
        if let (None, Some(constraint)) = (&self.guide, &self.options.constraint) {
            self.guide = Some(Guide::new(constraint, tokenizer)?);
        }
        let forced = self.forced.pop_front();
        self.was_sampled = forced.is_none();
        let mut token = match forced {
            Some(token) => token,
            None => {
                if let Some(guide) = &mut self.guide {
                    if guide.is_over() {
                        return Ok(None);
                    }
                    guide.mask(logits)?;
                }
                let token = self.sampler.sample(logits);
                if logits.get(token as usize).is_none_or(|logit| logit.is_nan() || *logit == f32::NEG_INFINITY) {
                    return Err(Error::NotANumber);
                }
                token
            }
        };
        let ends = tokenizer.ends_turn(token) && !self.options.ignore_end && forced.is_none();
        if ends || self.options.stop_tokens.contains(&token) {
            // An answer that has to come ends the thinking instead.
            let Some(instead) = self.guide.as_ref().and_then(Guide::instead_of_end) else { return Ok(None) };
            self.forced.extend(instead);
            token = self.forced.pop_front().unwrap_or(token);
            self.was_sampled = false;
        }
        if let Some(guide) = &mut self.guide {
            self.forced.extend(guide.accept(token, tokenizer)?);
        }
        Ok(Some(token))
    }

    /// Ends the answer, and gives the text that was held back.
    pub fn end(&mut self, reason: Stop) -> Event {
        let reason = *self.ended.get_or_insert(reason);
        let decoder = std::mem::replace(&mut self.decoder, StreamDecoder::new(false));
        let mut text = std::mem::take(&mut self.held);
        text.push_str(&decoder.finish());
        Event::Stop { reason, text }
    }
}

/// Bytes at the end of `text` with which one of `stops` may begin.
fn held_back(text: &str, stops: &[String]) -> usize {
    let begins = |stop: &String| {
        let longest = stop.len().saturating_sub(1).min(text.len());
        (1..=longest).rev().find(|&n| stop.is_char_boundary(n) && text.ends_with(&stop[..n]))
    };
    stops.iter().filter_map(begins).max().unwrap_or(0)
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
    /// Tokens of the prompt that were evaluated.
    pub prompt_tokens: usize,
    /// Time for them.
    pub prompt_time: Duration,
    /// Time for the answer's tokens.
    pub answer_time: Duration,
    /// Number of tokens that were drafted, if the session [speculates](Session::speculate).
    pub drafted: usize,
    /// Number of drafted tokens that were accepted.
    pub accepted: usize,
}

/// How far an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<'t> {
    /// This many tokens of the prompt have been evaluated, of so many that have to be.
    Prompt {
        /// Evaluated.
        done: usize,
        /// To be evaluated, those included.
        total: usize,
    },
    /// Text of the answer.
    Text(&'t str),
}

impl Session {
    /// Brings the session to `prompt` and lets the model go on. `show` gets the text as it comes, and stops the
    /// answer by returning false; it is also asked, with an empty text, while the prompt is evaluated.
    ///
    /// # Errors
    /// When the prompt is empty or does not fit the context, or the model computes NaN or infinity.
    pub fn generate(
        &mut self,
        prompt: &[u32],
        sampler: &mut Sampler,
        options: GenerationOptions,
        show: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Answer, Error> {
        self.generate_with(prompt, sampler, options, &mut |progress, _| match progress {
            Progress::Prompt { .. } => show(""),
            Progress::Text(text) => show(text),
        })
    }

    /// As [`Self::generate`]; `show` is called with the prompt's progress too, and may force tokens.
    ///
    /// # Errors
    /// As [`Self::generate`].
    pub fn generate_with(
        &mut self,
        prompt: &[u32],
        sampler: &mut Sampler,
        options: GenerationOptions,
        show: &mut dyn FnMut(Progress<'_>, &mut Generation) -> bool,
    ) -> Result<Answer, Error> {
        let mut generation = Generation::new(self.model().clone(), std::mem::take(sampler), options);
        let answer = self.run(prompt, &mut generation, show);
        *sampler = generation.into_sampler();
        answer
    }

    fn run(
        &mut self,
        prompt: &[u32],
        generation: &mut Generation,
        show: &mut dyn FnMut(Progress<'_>, &mut Generation) -> bool,
    ) -> Result<Answer, Error> {
        let start = Instant::now();
        let mut answer = Answer {
            text: String::new(),
            tokens: Vec::new(),
            stop: Stop::Caller,
            prompt_tokens: 0,
            prompt_time: Duration::ZERO,
            answer_time: Duration::ZERO,
            drafted: 0,
            accepted: 0,
        };
        let total = self.missing(prompt);
        let mut evaluated = 0;
        if !show(Progress::Prompt { done: 0, total }, generation) {
            return Ok(answer);
        }
        let advanced = self.advance_to(prompt, &mut |done| {
            evaluated = done;
            show(Progress::Prompt { done, total }, generation)
        })?;
        answer.prompt_time = start.elapsed();
        answer.prompt_tokens = evaluated;
        let Some((logits, evaluated)) = advanced else { return Ok(answer) };
        answer.prompt_tokens = evaluated;
        generation.accept_prompt(prompt);
        let start = Instant::now();
        let (reason, mut text) = self.answer(prompt, logits, generation, &mut answer, show)?;
        if let Event::Stop { text: held, .. } = generation.end(reason) {
            text.push_str(&held);
        }
        show(Progress::Text(&text), generation);
        answer.text.push_str(&text);
        answer.stop = reason;
        answer.tokens = generation.tokens().to_vec();
        answer.answer_time = start.elapsed();
        Ok(answer)
    }

    /// Generates an answer from the logits after the prompt until it ends. Returns the reason and the rest of the text.
    fn answer(
        &mut self,
        prompt: &[u32],
        logits: Vec<f32>,
        generation: &mut Generation,
        answer: &mut Answer,
        show: &mut dyn FnMut(Progress<'_>, &mut Generation) -> bool,
    ) -> Result<(Stop, String), Error> {
        let mut text = prompt.to_vec();
        let mut pass = Pass::without_draft(logits, text.len());
        let vocab = self.model().decoder().vocab_size();
        loop {
            let mut logits = std::mem::take(&mut pass.logits);
            let (mut accepted, mut rejected, mut end) = (0, false, None);
            for row in logits.chunks_exact_mut(vocab) {
                let token = match generation.next(row) {
                    Ok(Event::Token { token, text: piece }) => {
                        answer.text.push_str(&piece);
                        if !show(Progress::Text(&piece), generation) {
                            end = Some(Ok((Stop::Caller, String::new())));
                        } else if text.len() >= self.context_length() {
                            end = Some(Ok((Stop::Context, String::new())));
                        }
                        token
                    }
                    Ok(Event::Stop { reason, text }) => {
                        end = Some(Ok((reason, text)));
                        break;
                    }
                    Err(error) => {
                        end = Some(Err(error));
                        break;
                    }
                };
                if end.is_some() {
                    break;
                }
                text.push(token);
                if let Some(&drafted) = pass.draft.tokens.get(accepted) {
                    // The rows after a rejected token belong to another text.
                    rejected = drafted != token;
                    if rejected {
                        break;
                    }
                    accepted += 1;
                }
            }
            answer.drafted += pass.draft.tokens.len();
            answer.accepted += accepted;
            self.finish_pass(pass, accepted, rejected);
            if let Some(end) = end {
                return end;
            }
            pass = self.start_pass(&text, generation.tokens_left().unwrap_or(usize::MAX))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_become_a_stop_text_is_held_back() {
        let stops = ["END".to_owned(), "\n\nQ:".to_owned(), "é!".to_owned()];
        let held = |text: &str| held_back(text, &stops);
        assert_eq!(["", "a", "aE", "aEN", "a\n", "a\n\nQ", "E\n", "EE", "ENE"].map(held), [0, 0, 1, 2, 1, 3, 1, 1, 1]);
        assert_eq!(held("caf\u{e9}"), 2);
    }
}
