//! Answers while they are generated, for all dialects: the choices of one request, with thinking separated from text.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::constraint;
use super::failure::Failure;
use super::models::ServedModel;
use super::settings::Settings;
use crate::engine::answer_splitter::{AnswerPart, AnswerSplitter};
use crate::engine::{
    GenerationOptions, Logprobs, Request, Stop, ThinkingSplitter, ToolCall, ToolSplitter, Update, Updates, Usage,
};

/// A request to a model.
pub(super) struct Question {
    /// One or more prompts, each of which gets its choices.
    pub(super) prompts: Vec<Vec<u32>>,
    /// Number of choices for each prompt.
    pub(super) choices: usize,
    /// Whether thinking is separated, and if so, whether answers start inside of it.
    pub(super) thinking: Option<bool>,
    pub(super) logprobs: Option<usize>,
    pub(super) settings: Settings,
}

/// Tokens and their probabilities.
pub(super) type Tokens = Vec<(u32, Option<Logprobs>)>;

/// An event of a choice (an answer to the request).
pub(super) enum ChoiceEvent {
    /// Progress of its prompt: tokens evaluated, tokens taken from the cache, and all tokens.
    Reading { done: usize, cached: usize, total: usize },
    /// Text of its thinking and of its answer, and the tokens of both.
    Text { thinking: String, text: String, tokens: Tokens },
    /// A tool call.
    Call(ToolCall),
    /// The end of the choice.
    End(ChoiceEnd),
}

/// How a choice ended.
#[derive(Clone)]
pub(super) struct ChoiceEnd {
    pub(super) reason: Stop,
    pub(super) stop_text: Option<String>,
    pub(super) usage: Usage,
    /// Tokens of thinking.
    pub(super) thinking_tokens: usize,
    /// Number of tool calls.
    pub(super) calls: usize,
    /// The slot that computed it.
    pub(super) slot: usize,
}

impl ChoiceEnd {
    /// The reason in OpenAI's terms.
    pub(super) fn finish_reason(&self) -> &'static str {
        match self.reason {
            Stop::Length | Stop::Context => "length",
            _ if self.calls > 0 => "tool_calls",
            _ => "stop",
        }
    }
}

/// A complete choice.
pub(super) struct CompleteChoice {
    pub(super) thinking: String,
    pub(super) text: String,
    pub(super) calls: Vec<ToolCall>,
    pub(super) tokens: Tokens,
    pub(super) ending: ChoiceEnd,
}

struct Choice {
    updates: Updates,
    splitter: AnswerSplitter,
    thinking_tokens: usize,
    /// Tokens whose text is held back.
    held: Tokens,
    ready: VecDeque<ChoiceEvent>,
    ended: bool,
    /// The slot that computes it.
    slot: usize,
}

/// The choices of one request. Dropping them cancels it.
pub(super) struct Answers {
    choices: Vec<Choice>,
    /// The choice that is polled first, which rotates so that no choice is always preferred.
    turn: usize,
}

impl Answers {
    /// Submits the request.
    pub(super) async fn ask(model: &Arc<ServedModel>, question: Question) -> Result<Self, Failure> {
        let style = model.prompter.thinking.filter(|_| question.thinking.is_some());
        let settings = question.settings;
        let constraint = constraint::compile(model, settings.wanted, settings.tools.clone()).await?;
        let tools = || settings.tools.clone().map(|tools| ToolSplitter::new(model.prompter.tool_syntax, tools));
        let inside = question.thinking == Some(true);
        let tokenizer = model.batcher().model().tokenizer();
        let generation = GenerationOptions {
            max_tokens: settings.max_tokens,
            ignore_end: settings.ignore_end,
            stop: settings.stop,
            shown: AnswerSplitter::shown(style, tools().as_ref(), tokenizer),
            constraint: constraint.map(|constraint| constraint.after_thinking(style, inside)),
            ..GenerationOptions::default()
        };
        let mut choices = Vec::new();
        for prompt in question.prompts {
            for i in 0..question.choices {
                let mut sampler = settings.sampler.clone();
                sampler.seed = sampler.seed.wrapping_add(i as u64);
                let request = Request {
                    prompt: prompt.clone(),
                    sampler,
                    generation: generation.clone(),
                    logprobs: question.logprobs,
                    after_samplers: settings.after_samplers,
                    salt: settings.salt,
                    no_cache: settings.no_cache,
                    draft_limit: settings.draft_limit,
                    slot: settings.slot.filter(|_| i == 0),
                };
                choices.push(Choice {
                    updates: model.batcher().submit(request)?,
                    splitter: AnswerSplitter::new(style.map(|style| ThinkingSplitter::new(style, inside)), tools()),
                    thinking_tokens: 0,
                    held: Vec::new(),
                    ready: VecDeque::new(),
                    ended: false,
                    slot: 0,
                });
            }
        }
        Ok(Self { choices, turn: 0 })
    }

    pub(super) fn len(&self) -> usize {
        self.choices.len()
    }

    /// The slot that computes a choice; 0 while it waits.
    pub(super) fn slot(&self, choice: usize) -> usize {
        self.choices[choice].slot
    }

    /// The next event, with the index of its choice; `None` when all have ended.
    pub(super) async fn next(&mut self) -> Option<Result<(usize, ChoiceEvent), Failure>> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<(usize, ChoiceEvent), Failure>>> {
        let count = self.choices.len();
        for i in (self.turn..count).chain(0..self.turn) {
            match self.choices[i].poll(context) {
                Poll::Ready(Some(news)) => {
                    self.turn = (i + 1) % count;
                    return Poll::Ready(Some(news.map(|news| (i, news))));
                }
                Poll::Ready(None) | Poll::Pending => {}
            }
        }
        if self.choices.iter().all(|choice| choice.ended) { Poll::Ready(None) } else { Poll::Pending }
    }

    /// Waits for all choices to end.
    pub(super) async fn whole(mut self) -> Result<Vec<CompleteChoice>, Failure> {
        let mut parts: Vec<(String, String, Vec<ToolCall>, Tokens)> =
            self.choices.iter().map(|_| Default::default()).collect();
        let mut endings: Vec<Option<ChoiceEnd>> = vec![None; parts.len()];
        while let Some(news) = self.next().await {
            match news? {
                (i, ChoiceEvent::Text { thinking, text, tokens }) => {
                    parts[i].0.push_str(&thinking);
                    parts[i].1.push_str(&text);
                    parts[i].3.extend(tokens);
                }
                (i, ChoiceEvent::Call(call)) => parts[i].2.push(call),
                (i, ChoiceEvent::End(ending)) => endings[i] = Some(ending),
                (_, ChoiceEvent::Reading { .. }) => {}
            }
        }
        let whole = parts.into_iter().zip(endings).map(|((thinking, text, calls, tokens), ending)| {
            ending.map(|ending| CompleteChoice { thinking, text, calls, tokens, ending })
        });
        whole.collect::<Option<_>>().ok_or_else(stopped)
    }
}

fn stopped() -> Failure {
    crate::engine::Error::Stopped.into()
}

impl Choice {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<ChoiceEvent, Failure>>> {
        loop {
            if let Some(news) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(news)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match self.updates.poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Update::Failed(error))) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error.into())));
                }
                Poll::Ready(None) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(stopped())));
                }
                Poll::Ready(Some(update)) => self.take(update),
            }
        }
    }

    fn take(&mut self, update: Update) {
        match update {
            Update::Reading { done, cached, total, slot } => {
                self.slot = slot;
                self.ready.push_back(ChoiceEvent::Reading { done, cached, total })
            }
            Update::Token { token, text, logprobs } => {
                self.held.push((token, logprobs));
                self.add(&text, false);
                if self.splitter.is_thinking() {
                    self.thinking_tokens += 1;
                }
            }
            Update::End { reason, text, stop_text, usage } => {
                self.add(&text, true);
                self.ended = true;
                let (thinking_tokens, calls, slot) = (self.thinking_tokens, self.splitter.calls(), self.slot);
                let end = ChoiceEnd { reason, stop_text, usage, thinking_tokens, calls, slot };
                self.ready.push_back(ChoiceEvent::End(end));
            }
            Update::Failed(_) => {}
        }
    }

    /// Adds text; tokens are held back until their text is complete.
    fn add(&mut self, piece: &str, is_last: bool) {
        let (mut thinking, mut text, mut calls) = (String::new(), String::new(), Vec::new());
        for part in self.splitter.push(piece, is_last) {
            match part {
                AnswerPart::Thinking(part) => thinking.push_str(&part),
                // Text after a call must be sent after the call.
                AnswerPart::Text(part) if calls.is_empty() => text.push_str(&part),
                AnswerPart::Text(part) => {
                    self.push_text(std::mem::take(&mut thinking), std::mem::take(&mut text), false);
                    self.ready.extend(calls.drain(..).map(ChoiceEvent::Call));
                    text = part;
                }
                AnswerPart::Call(call) => calls.push(call),
            }
        }
        self.push_text(thinking, text, is_last);
        self.ready.extend(calls.into_iter().map(ChoiceEvent::Call));
    }

    fn push_text(&mut self, thinking: String, text: String, is_last: bool) {
        if !thinking.is_empty() || !text.is_empty() || is_last && !self.held.is_empty() {
            let tokens = std::mem::take(&mut self.held);
            self.ready.push_back(ChoiceEvent::Text { thinking, text, tokens });
        }
    }
}
