//! The messages of a chat and the session that holds them.

use std::sync::Arc;

use gguf::engine::{
    Answer, ChatTemplate, Generation, Message, Sampler, SamplerOptions, Session, SessionOptions, TemplateOptions,
};
use gguf::kernels::Pool;
use gguf::model::Model;
use gguf::tokenizer::EncodeOptions;

/// Tokens that an answer should have room for before older messages are forgotten.
const ROOM: usize = 128;

/// A chat.
pub(crate) struct Conversation {
    session: Session,
    template: ChatTemplate,
    sampler: Sampler,
    pub(super) sampling: SamplerOptions,
    pub(super) messages: Vec<Message>,
    pub(super) system: Option<String>,
    pub(super) max_tokens: Option<usize>,
}

impl Conversation {
    /// A chat without messages.
    pub(crate) fn new(
        model: Arc<Model>,
        pool: Arc<Pool>,
        options: SessionOptions,
        sampling: SamplerOptions,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            template: ChatTemplate::from_metadata(model.metadata())?,
            session: Session::new(model, pool, options),
            sampler: Sampler::new(sampling.clone()),
            sampling,
            messages: Vec::new(),
            system: None,
            max_tokens: None,
        })
    }

    /// Says `message` and gives the answer, piece by piece, to `show`, which stops it by returning false.
    pub(crate) fn say(&mut self, message: &str, show: &mut dyn FnMut(&str) -> bool) -> anyhow::Result<Answer> {
        self.messages.push(Message::new("user", message));
        let answer = self.answer(show);
        match &answer {
            Ok(answer) => self.messages.push(Message::new("assistant", answer.text.trim())),
            Err(_) => drop(self.messages.pop()),
        }
        answer
    }

    fn answer(&mut self, show: &mut dyn FnMut(&str) -> bool) -> anyhow::Result<Answer> {
        let prompt = self.prompt()?;
        let limits = Generation { max_tokens: self.max_tokens, ignore_end: false };
        Ok(self.session.generate(&prompt, &mut self.sampler, limits, show)?)
    }

    /// The conversation as tokens. The oldest messages are left out where the context has no room for all.
    fn prompt(&mut self) -> anyhow::Result<Vec<u32>> {
        loop {
            let system = self.system.iter().map(|text| Message::new("system", text.clone()));
            let messages: Vec<Message> = system.chain(self.messages.iter().cloned()).collect();
            let options = TemplateOptions { add_generation_prompt: true, ..TemplateOptions::default() };
            let text = self.template.render(&messages, &options)?;
            let tokenizer = self.session.model().tokenizer();
            let mut tokens = tokenizer.encode(&text, EncodeOptions { add_special: true, parse_special: true })?;
            // Templates that write the begin-of-text token themselves must not have it twice.
            let bos = tokenizer.vocab().special.bos;
            if tokens.len() > 1 && bos == Some(tokens[0]) && bos == Some(tokens[1]) {
                tokens.remove(0);
            }
            if tokens.len() + ROOM.min(self.context_length() / 4) <= self.context_length() || self.messages.len() < 3 {
                return Ok(tokens);
            }
            self.messages.drain(..2);
        }
    }

    /// Most tokens that the conversation may hold.
    pub(crate) fn context_length(&self) -> usize {
        self.session.context_length()
    }

    /// Forgets all messages.
    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.session.clear();
    }

    /// Takes back the last message and its answer, and returns the message.
    pub(super) fn take_back(&mut self) -> Option<String> {
        let last = self.messages.iter().rposition(|message| message.role == "user")?;
        let message = self.messages[last].content.clone();
        self.messages.truncate(last);
        Some(message)
    }

    /// Starts the sampler anew with changed settings.
    pub(super) fn set_sampling(&mut self, sampling: SamplerOptions) {
        self.sampler = Sampler::new(sampling.clone());
        self.sampling = sampling;
    }

    /// Tokens held, and bytes of the cache.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.session.tokens().len(), self.session.cache_bytes())
    }

    /// Tokens and speed of an answer, in a line.
    #[allow(clippy::cast_precision_loss, reason = "rates for people")]
    pub(crate) fn speed(&self, answer: &Answer) -> String {
        let rate = |tokens: usize, time: std::time::Duration| tokens as f64 / time.as_secs_f64().max(1e-9);
        format!(
            "prompt {} tokens, {:.1} tokens/s; answer {} tokens, {:.1} tokens/s; context {} of {}; seed {}",
            answer.prompt_tokens,
            rate(answer.prompt_tokens, answer.prompt_time),
            answer.tokens.len(),
            rate(answer.tokens.len(), answer.answer_time),
            self.session.tokens().len(),
            self.context_length(),
            self.sampling.seed,
        )
    }
}
