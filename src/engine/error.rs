//! Errors of running a model.

/// An error of a session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There are no tokens to evaluate.
    #[error("no tokens to evaluate")]
    NoTokens,
    /// The model is an encoder, which does not predict tokens.
    #[error("the model makes embeddings and does not predict tokens")]
    NoLogits,
    /// A model whose pooling is a classifier's scores, asked for an embedding.
    #[error(
        "the model scores documents (pooling_type rank): it makes no embeddings unless another pooling is asked for"
    )]
    Ranks,
    /// A model without a classification head, asked for scores.
    #[error("the model has no classification head (cls.output.weight), so that it scores no documents")]
    NoRankHead,
    /// The tokens do not fit the context.
    #[error("{needed} tokens do not fit the context of {context_length}")]
    ContextFull {
        /// Tokens of the sequence.
        needed: usize,
        /// The context length.
        context_length: usize,
    },
    /// There is no memory for the keys and values of a sequence.
    #[error(transparent)]
    OutOfPages(#[from] crate::cpu::OutOfPages),
    /// The model's logits are NaN or infinite: its weights are broken, or too large for the arithmetic.
    #[error("the model computes NaN or infinity")]
    NotANumber,
    /// The tokenizer cannot encode a text.
    #[error(transparent)]
    Tokenizer(#[from] crate::tokenizer::Error),
    /// A token is outside the vocabulary.
    #[error("token {token} is outside the vocabulary of {vocab_size}")]
    UnknownToken {
        /// Its id.
        token: u32,
        /// Number of tokens.
        vocab_size: usize,
    },
    /// The draft model has other tokens than the model that it drafts for.
    #[error("the draft model has another vocabulary: {what}")]
    DraftVocabulary {
        /// The first difference.
        what: String,
    },
    /// The model has no layer of its own that drafts.
    #[error("the model cannot draft for itself: {why}")]
    NoPrediction {
        /// What is missing or wrong.
        why: String,
    },
    /// The queue of requests is full.
    #[error("the queue is full: {waiting} requests wait")]
    QueueFull {
        /// Number of waiting requests.
        waiting: usize,
    },
    /// A request wants a slot that there is not.
    #[error("slot {slot}: there are slots 0 to {}", slots - 1)]
    NoSlot {
        /// The slot that it wants.
        slot: usize,
        /// Number of slots.
        slots: usize,
    },
    /// The result is not needed any more.
    #[error("cancelled")]
    Cancelled,
    /// The computing thread has ended.
    #[error("the engine has stopped")]
    Stopped,
    /// A setting is out of range.
    #[error("{name} {value}: must be {range}")]
    Setting {
        /// The setting, or the file's key.
        name: String,
        /// The value.
        value: String,
        /// The range.
        range: String,
    },
    /// The chat template is not valid Jinja, or refuses the conversation.
    #[error("chat template{}: {message}", line.map(|line| format!(" line {line}")).unwrap_or_default())]
    Template {
        /// Line of the template.
        line: Option<usize>,
        /// The message of the template engine.
        message: String,
    },
    /// A constraint is not valid, or cannot be enforced.
    #[error("{message}")]
    Constraint {
        /// What is wrong.
        message: String,
    },
    /// A GBNF grammar is not valid.
    #[error("grammar: line {line}, column {column}: {message}")]
    Grammar {
        /// Line, from 1.
        line: usize,
        /// Character of the line, from 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// The definition of a tool is not valid.
    #[error("tools[{tool}].{message}")]
    Tool {
        /// Index of the tool, from 0.
        tool: usize,
        /// What is wrong.
        message: String,
    },
}
