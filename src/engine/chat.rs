//! A conversation with a model: its messages, the template that renders them, and what happens when the context is full.
//!
//! Independent of terminals: texts and notes are passed to the caller, piece by piece.

use std::path::Path;
use std::sync::Arc;

use super::answer_splitter::{AnswerPart, AnswerSplitter};
use super::prompter::{Prompter, prompt_options};
use super::thinking::{ThinkingSplitter, ThinkingStyle};
use super::{
    Answer, ChatTemplate, Constraint, Error, GenerationOptions, Grammar, Message, Progress, Rendered, Sampler,
    SamplerOptions, Session, SessionFileError, SessionOptions, SpeculationOptions, TokenTrie, ToolCall, ToolSplitter,
    Tools,
};
use crate::kernels::Pool;
use crate::model::Model;
use crate::tokenizer::EncodeOptions;

/// Minimum tokens of room for an answer.
const ROOM: usize = 128;
/// Maximum tokens of a summary of dropped messages (and at most an eighth of the context).
const SUMMARY: usize = 160;

/// What happens when the next message does not fit the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// The message is refused, and the conversation does not change.
    Stop,
    /// The oldest messages are dropped.
    #[default]
    DropOldest,
    /// The model summarizes the oldest messages, and they are dropped.
    Summarize,
}

/// Settings of a [`Chat`].
#[derive(Clone, Debug, Default)]
pub struct ChatOptions {
    /// Settings of the session.
    pub session: SessionOptions,
    /// Settings of speculation, which changes no text.
    pub speculation: SpeculationOptions,
    /// Settings of the samplers.
    pub sampler: SamplerOptions,
    /// A template in place of the file's own: its Jinja source.
    pub template: Option<String>,
    /// Further variables of the template (`tools`, `enable_thinking` ...).
    pub variables: serde_json::Map<String, serde_json::Value>,
    /// The system prompt.
    pub system: Option<String>,
    /// Maximum tokens of an answer.
    pub max_tokens: Option<usize>,
    /// Maximum tokens of thinking, after which it is ended.
    pub think_budget: Option<usize>,
    /// Texts that end an answer.
    pub stop: Vec<String>,
    /// What happens when the context is full.
    pub when_full: WhenFull,
    /// Whether control tokens that messages spell out are recognized.
    pub special: bool,
    /// A constraint for answers. Tools are not called then.
    pub grammar: Option<Grammar>,
    /// The tools that may be called.
    pub tools: Tools,
}

/// Information for the user, each shown once.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// The file has no chat template: texts are continued.
    NoTemplate,
    /// The template does not support system messages: the text is put before the first message.
    SystemInFirstMessage,
    /// The template requires alternating roles: messages of the same role are joined.
    RolesJoined,
    /// The context is longer than the model was trained on.
    BeyondTraining {
        /// The context.
        context_length: usize,
        /// The context that the model was trained on.
        trained: usize,
    },
    /// The context is nearly full.
    NearlyFull {
        /// Tokens of the conversation.
        tokens: usize,
        /// The context.
        context_length: usize,
    },
    /// The oldest messages have been dropped.
    Dropped {
        /// Number of messages.
        messages: usize,
        /// Whether the model has summarized them.
        summarized: bool,
    },
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoTemplate => f.write_str("no chat template: the text is continued"),
            Self::SystemInFirstMessage => {
                f.write_str("this model's template takes no system message: it goes before the first message")
            }
            Self::RolesJoined => {
                f.write_str("this model's template wants turns to alternate: messages of the same role are joined")
            }
            Self::BeyondTraining { context_length, trained } => {
                write!(f, "a context of {context_length} tokens: the model was trained on {trained}")
            }
            Self::NearlyFull { tokens, context_length } => {
                write!(f, "the context is nearly full: {tokens} of {context_length} tokens")
            }
            Self::Dropped { messages, summarized: false } => {
                write!(f, "the context is full: the oldest {messages} messages are forgotten")
            }
            Self::Dropped { messages, summarized: true } => {
                write!(f, "the context is full: the oldest {messages} messages are summed up")
            }
        }
    }
}

/// An event while a chat answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChatEvent<'t> {
    /// Progress of evaluating the prompt.
    Reading {
        /// Evaluated tokens.
        done: usize,
        /// All tokens to evaluate.
        total: usize,
    },
    /// Text of the answer. Empty if there is nothing new.
    Text(&'t str),
    /// Text of thinking.
    Thinking(&'t str),
    /// A tool that the model calls.
    Call(&'t ToolCall),
    /// Information for the user.
    Note(Note),
}

/// A conversation.
pub struct Chat {
    session: Session,
    prompter: Prompter,
    sampler: Sampler,
    options: ChatOptions,
    messages: Vec<Message>,
    /// The summary of dropped messages.
    summary: Option<String>,
    shown_notes: Vec<Note>,
    pending: Vec<Note>,
    /// The tokens for constraints, from the first one on.
    trie: Option<TokenTrie>,
    /// Calls of all answers.
    calls: usize,
}

impl Chat {
    /// A chat without messages.
    ///
    /// # Errors
    /// When the template is not valid Jinja, or the grammar is not valid.
    pub fn new(model: Arc<Model>, pool: Arc<Pool>, options: ChatOptions) -> Result<Self, Error> {
        let metadata = model.metadata();
        let prompter = Prompter::new(metadata, options.template.as_deref(), &options.variables)?;
        let trained = model.hparams().context_length;
        let mut session = Session::new(model, pool, options.session.clone());
        session.speculate(&options.speculation);
        let mut chat = Self {
            prompter,
            sampler: Sampler::for_model(options.sampler.clone(), session.model().tokenizer()),
            session,
            options,
            messages: Vec::new(),
            summary: None,
            shown_notes: Vec::new(),
            pending: Vec::new(),
            trie: None,
            calls: 0,
        };
        chat.constraint()?;
        if !chat.prompter.has_template {
            chat.note(Note::NoTemplate);
        }
        let context_length = chat.context_length();
        if context_length > trained && trained > 0 {
            chat.note(Note::BeyondTraining { context_length, trained });
        }
        Ok(chat)
    }

    /// Adds a note, unless it has been shown.
    fn note(&mut self, note: Note) {
        if !self.shown_notes.contains(&note) {
            self.shown_notes.push(note.clone());
            self.pending.push(note);
        }
    }

    /// The messages, without the system prompt.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Replaces all messages.
    pub fn set_messages(&mut self, messages: Vec<Message>) {
        self.messages = messages;
        self.summary = None;
    }

    /// The summary of dropped messages.
    #[must_use]
    pub fn summary(&self) -> Option<&str> {
        self.summary.as_deref()
    }

    /// Sets the summary of messages that came before the first one.
    pub fn set_summary(&mut self, summary: Option<String>) {
        self.summary = summary;
    }

    /// Reads the state of the session from the file `path` ([`Session::save`]), and returns the note in it. The next message only
    /// evaluates what is not in this state.
    ///
    /// # Errors
    /// As [`Session::restore`].
    pub fn restore_session(&mut self, path: &Path) -> Result<Vec<u8>, SessionFileError> {
        self.session.restore(path)
    }

    /// The settings.
    #[must_use]
    pub fn options(&self) -> &ChatOptions {
        &self.options
    }

    /// Changes settings, except those of the session and of speculation. The samplers are reset if their settings have changed.
    pub fn change(&mut self, change: impl FnOnce(&mut ChatOptions)) {
        let before = self.options.sampler.clone();
        change(&mut self.options);
        if self.options.sampler != before {
            self.sampler = Sampler::for_model(self.options.sampler.clone(), self.session.model().tokenizer());
        }
    }

    /// The template.
    #[must_use]
    pub fn template(&self) -> &ChatTemplate {
        &self.prompter.template
    }

    /// How the model marks its thinking, if its template supports thinking.
    #[must_use]
    pub fn thinking(&self) -> Option<&'static ThinkingStyle> {
        self.prompter.thinking
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Maximum tokens of the conversation.
    #[must_use]
    pub fn context_length(&self) -> usize {
        self.session.context_length()
    }

    /// Notes that no answer has shown yet.
    pub fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.pending)
    }

    /// Removes all messages.
    pub fn clear(&mut self) {
        self.messages.clear();
        self.summary = None;
        self.session.clear();
    }

    /// Removes the last message and its answer, and returns the message.
    pub fn take_back(&mut self) -> Option<String> {
        let last = self.messages.iter().rposition(|message| message.role == "user")?;
        let message = self.messages[last].content.clone();
        self.messages.truncate(last);
        Some(message)
    }

    /// Number of tokens of the conversation, as a prompt without the start of an answer.
    ///
    /// # Errors
    /// When the template refuses the conversation.
    pub fn tokens(&mut self) -> Result<usize, Error> {
        if self.messages.is_empty() && self.options.system.is_none() {
            return Ok(0);
        }
        let messages = self.messages.clone();
        Ok(self.prompt(&messages)?.tokens.len())
    }

    /// Sends `message` and passes events to `show`, which stops the answer by returning false. The message and the answer are added
    /// to the conversation, which does not change on an error.
    ///
    /// # Errors
    /// [`Error::ContextFull`] when the message does not fit the context, alone or, with [`WhenFull::Stop`], after the others;
    /// otherwise when the template refuses the conversation.
    pub fn say(&mut self, message: &str, show: &mut dyn FnMut(ChatEvent<'_>) -> bool) -> Result<Answer, Error> {
        let mut messages = self.messages.clone();
        messages.push(Message::new("user", message));
        self.go_on(messages, show)
    }

    /// The calls of the last answer that have no results yet.
    #[must_use]
    pub fn open_calls(&self) -> &[(String, ToolCall)] {
        self.messages.last().map_or(&[], |message| &message.calls)
    }

    /// Sends the results of the open calls, in order, and continues as with [`Self::say`].
    ///
    /// # Errors
    /// As [`Self::say`].
    pub fn send_results(
        &mut self,
        results: &[String],
        show: &mut dyn FnMut(ChatEvent<'_>) -> bool,
    ) -> Result<Answer, Error> {
        let result = |((id, call), result): (&(String, ToolCall), &String)| Message {
            result_of: Some((id.clone(), call.name.clone())),
            ..Message::new("tool", result.as_str())
        };
        let results: Vec<Message> = self.open_calls().iter().zip(results).map(result).collect();
        let mut messages = self.messages.clone();
        messages.extend(results);
        self.go_on(messages, show)
    }

    fn go_on(
        &mut self,
        mut messages: Vec<Message>,
        show: &mut dyn FnMut(ChatEvent<'_>) -> bool,
    ) -> Result<Answer, Error> {
        let prompt = self.fit(&mut messages, show)?;
        for note in self.take_notes() {
            show(ChatEvent::Note(note));
        }
        let (answer, reasoning, calls) = self.answer(&prompt, show)?;
        let content = if self.prompter.has_template { answer.text.trim() } else { &answer.text };
        let named = |call: ToolCall| {
            self.calls += 1;
            // Nine letters and digits: some templates accept nothing else.
            (format!("call{:05}", self.calls % 100_000), call)
        };
        let calls = calls.into_iter().map(named).collect();
        messages.push(Message { reasoning, calls, ..Message::new("assistant", content) });
        self.messages = messages;
        let (tokens, context_length) = (self.session.tokens().len(), self.context_length());
        if tokens * 8 >= context_length * 7
            && !self.shown_notes.iter().any(|note| matches!(note, Note::NearlyFull { .. }))
        {
            self.note(Note::NearlyFull { tokens, context_length });
        }
        for note in self.take_notes() {
            show(ChatEvent::Note(note));
        }
        Ok(answer)
    }

    /// The constraint according to the settings.
    fn constraint(&mut self) -> Result<Option<Constraint>, Error> {
        let (grammar, tools) = (self.options.grammar.as_ref(), &self.options.tools);
        if grammar.is_none() && (tools.is_empty() || cfg!(not(feature = "constrain"))) {
            return Ok(None);
        }
        let tokenizer = self.session.model().tokenizer();
        let trie = match self.trie.take() {
            Some(trie) => trie,
            None => TokenTrie::new(tokenizer)?,
        };
        let trie = self.trie.insert(trie);
        match grammar {
            Some(grammar) => trie.compile(grammar).map(Some),
            None => trie.calls(self.prompter.tool_syntax, tools, tokenizer).map(Some),
        }
    }

    /// Whether the model may call tools.
    fn has_tools(&self) -> bool {
        self.options.grammar.is_none() && !self.options.tools.is_empty()
    }

    fn answer(
        &mut self,
        prompt: &Prompt,
        show: &mut dyn FnMut(ChatEvent<'_>) -> bool,
    ) -> Result<(Answer, Option<String>, Vec<ToolCall>), Error> {
        let tokenizer = self.session.model().clone();
        let tokenizer = tokenizer.tokenizer();
        let style = self.prompter.thinking;
        let inside = style.is_some_and(|style| style.begins_inside(&prompt.text));
        let tools = self
            .has_tools()
            .then(|| ToolSplitter::new(self.prompter.tool_syntax, Arc::new(self.options.tools.clone())));
        let shown = AnswerSplitter::shown(style, tools.as_ref(), tokenizer);
        let mut splitter = AnswerSplitter::new(style.map(|style| ThinkingSplitter::new(style, inside)), tools);
        let constraint = self.constraint()?;
        let options = GenerationOptions {
            max_tokens: self.options.max_tokens,
            stop: self.options.stop.clone(),
            shown,
            constraint: constraint.map(|constraint| constraint.after_thinking(style, inside)),
            ..GenerationOptions::default()
        };
        let close = match style {
            Some(style) if self.options.think_budget.is_some() => {
                tokenizer.encode(style.close, EncodeOptions { add_special: false, parse_special: true })?
            }
            _ => Vec::new(),
        };
        let budget = self.options.think_budget.unwrap_or(usize::MAX);
        let (mut thought_tokens, mut closed) = (0, false);
        let mut answered = PartialAnswer::default();
        let mut answer =
            self.session.generate_with(&prompt.tokens, &mut self.sampler, options, &mut |progress, running| {
                let piece = match progress {
                    Progress::Prompt { done, total } => return show(ChatEvent::Reading { done, total }),
                    Progress::Text(piece) => piece,
                };
                let parts = splitter.push(piece, false);
                if splitter.is_thinking() && !closed {
                    thought_tokens += 1;
                    if thought_tokens > budget {
                        running.force(&close);
                        closed = true;
                    }
                }
                answered.show(parts, show)
            })?;
        answered.show(splitter.push("", true), show);
        answer.text = answered.text;
        let reasoning = answered.reasoning.trim();
        Ok((answer, (!reasoning.is_empty()).then(|| reasoning.to_owned()), answered.calls))
    }

    /// The prompt for `messages`; the oldest are dropped if necessary and allowed.
    fn fit(
        &mut self,
        messages: &mut Vec<Message>,
        show: &mut dyn FnMut(ChatEvent<'_>) -> bool,
    ) -> Result<Prompt, Error> {
        let context_length = self.context_length();
        let most = context_length.saturating_sub(ROOM.min(context_length / 4));
        let whole = self.prompt(messages)?;
        if whole.tokens.len() <= most {
            return Ok(whole);
        }
        let full = |needed: usize| Error::ContextFull { needed, context_length };
        // A message that cannot fit is refused before anything is dropped.
        let alone = self.prompt(&messages[messages.len() - 1..])?;
        if self.options.when_full == WhenFull::Stop && whole.tokens.len() < context_length || messages.len() == 1 {
            // There is room for the message, but perhaps not for a long answer.
            return if whole.tokens.len() < context_length { Ok(whole) } else { Err(full(whole.tokens.len())) };
        }
        if alone.tokens.len() >= context_length || self.options.when_full == WhenFull::Stop {
            let needed = if self.options.when_full == WhenFull::Stop { &whole } else { &alone };
            return Err(full(needed.tokens.len()));
        }
        let mut kept = messages.clone();
        let summarize = self.options.when_full == WhenFull::Summarize;
        // A summary needs room as well.
        let most = if summarize { most.saturating_sub(self.summary_tokens()) } else { most };
        let mut prompt = whole;
        while prompt.tokens.len() > most && kept.len() > 1 {
            // An answer is dropped with its question.
            kept.remove(0);
            while kept.len() > 1 && kept[0].role != "user" {
                kept.remove(0);
            }
            prompt = self.prompt(&kept)?;
        }
        let dropped = messages.len() - kept.len();
        if summarize && dropped > 0 {
            let summary = self.summarize(&messages[..dropped], show)?;
            let before = self.summary.replace(summary);
            match self.prompt(&kept) {
                Ok(with) if with.tokens.len() < context_length => prompt = with,
                _ => self.summary = before,
            }
        }
        if prompt.tokens.len() >= context_length {
            return Err(full(prompt.tokens.len()));
        }
        *messages = kept;
        self.pending.push(Note::Dropped { messages: dropped, summarized: summarize });
        Ok(prompt)
    }

    fn summary_tokens(&self) -> usize {
        SUMMARY.min(self.context_length() / 8)
    }

    /// Lets the model summarize `messages`.
    fn summarize(
        &mut self,
        messages: &[Message],
        show: &mut dyn FnMut(ChatEvent<'_>) -> bool,
    ) -> Result<String, Error> {
        let mut asked = messages.to_vec();
        asked.push(Message::new("user", "Sum up our conversation so far in a few sentences."));
        let mut prompt = self.prompt(&asked)?;
        let most = self.summary_tokens();
        while prompt.tokens.len() + most > self.context_length() && asked.len() > 2 {
            asked.remove(0);
            prompt = self.prompt(&asked)?;
        }
        let options = GenerationOptions { max_tokens: Some(most), ..GenerationOptions::default() };
        let answer = self.session.generate_with(&prompt.tokens, &mut self.sampler, options, &mut |progress, _| {
            show(match progress {
                Progress::Prompt { done, total } => ChatEvent::Reading { done, total },
                Progress::Text(_) => ChatEvent::Text(""),
            })
        })?;
        Ok(answer.text.trim().to_owned())
    }

    /// The system prompt with the summary of dropped messages.
    fn system(&self) -> Option<String> {
        let summary = self.summary.as_ref().map(|text| format!("Summary of the conversation so far: {text}"));
        match (&self.options.system, summary) {
            (Some(system), Some(summary)) => Some(format!("{system}\n\n{summary}")),
            (system, summary) => system.clone().or(summary),
        }
    }

    /// The prompt for these messages.
    fn prompt(&mut self, messages: &[Message]) -> Result<Prompt, Error> {
        let system = self.system().map(|system| Message::new("system", system));
        let mut all: Vec<_> = system.iter().chain(messages).map(Message::to_json).collect();
        let mut variables = self.options.variables.clone();
        if self.has_tools() {
            variables.insert("tools".to_owned(), self.options.tools.definitions().into());
        }
        self.prompter.tell_tools(&mut all, &mut variables);
        if self.prompter.fold_system(&mut all) {
            self.note(Note::SystemInFirstMessage);
        }
        let (rendered, joined) = self.prompter.render(all, &prompt_options(variables))?;
        if joined {
            self.note(Note::RolesJoined);
        }
        let untrusted = if self.options.special { Vec::new() } else { rendered.untrusted };
        let rendered = Rendered { untrusted, ..rendered };
        let tokens = rendered.tokens(self.session.model().tokenizer())?;
        Ok(Prompt { text: rendered.text, tokens })
    }
}

/// A prompt as text and as tokens.
struct Prompt {
    text: String,
    tokens: Vec<u32>,
}

/// The parts of an answer received so far.
#[derive(Default)]
struct PartialAnswer {
    text: String,
    reasoning: String,
    calls: Vec<ToolCall>,
}

impl PartialAnswer {
    /// Adds parts, and shows them.
    fn show(&mut self, parts: Vec<AnswerPart>, show: &mut dyn FnMut(ChatEvent<'_>) -> bool) -> bool {
        let mut going = true;
        let is_empty = parts.is_empty();
        for part in parts {
            going &= match part {
                AnswerPart::Thinking(text) => {
                    self.reasoning.push_str(&text);
                    show(ChatEvent::Thinking(&text))
                }
                AnswerPart::Text(text) => {
                    self.text.push_str(&text);
                    show(ChatEvent::Text(&text))
                }
                AnswerPart::Call(call) => {
                    let going = show(ChatEvent::Call(&call));
                    self.calls.push(call);
                    going
                }
            };
        }
        if is_empty { show(ChatEvent::Text("")) } else { going }
    }
}
