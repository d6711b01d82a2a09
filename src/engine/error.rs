//! What can go wrong while a model runs.

/// Why a session cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing to evaluate.
    #[error("no tokens to evaluate")]
    NoTokens,
    /// An encoder, asked for what comes next.
    #[error("the model makes embeddings and does not predict tokens")]
    NoLogits,
    /// A model whose pooling is a classifier's scores, asked for an embedding.
    #[error("the model gives scores (pooling_type rank), and these are not computed")]
    NoRankHead,
    /// More tokens than the context holds.
    #[error("{needed} tokens do not fit the context of {context_length}")]
    ContextFull {
        /// Tokens that would be held.
        needed: usize,
        /// Tokens that may be held.
        context_length: usize,
    },
    /// The model's logits are no numbers: weights that are broken, or too large for its arithmetic.
    #[error("the model computes NaN or infinity")]
    NotANumber,
    /// A text that the tokenizer cannot encode.
    #[error(transparent)]
    Tokenizer(#[from] crate::tokenizer::Error),
    /// A token outside the vocabulary.
    #[error("token {token} is outside the vocabulary of {vocab_size}")]
    UnknownToken {
        /// Its id.
        token: u32,
        /// Number of tokens.
        vocab_size: usize,
    },
    /// As many requests wait as may.
    #[error("the queue is full: {waiting} requests wait")]
    QueueFull {
        /// How many.
        waiting: usize,
    },
    /// Nobody waits for the result any more.
    #[error("cancelled")]
    Cancelled,
    /// The thread that computes has ended.
    #[error("the engine has stopped")]
    Stopped,
    /// A setting that is out of range.
    #[error("{name} {value}: must be {range}")]
    Setting {
        /// The setting, or the file's key.
        name: String,
        /// What was given.
        value: String,
        /// What it may be.
        range: String,
    },
    /// A chat template that is not valid Jinja, or that refuses the conversation.
    #[error("chat template{}: {message}", line.map(|line| format!(" line {line}")).unwrap_or_default())]
    Template {
        /// Line of the template.
        line: Option<usize>,
        /// What the template engine says.
        message: String,
    },
    /// A rule for answers that is not valid, or cannot be kept to.
    #[error("{message}")]
    Constraint {
        /// What is wrong.
        message: String,
    },
    /// A grammar of llama.cpp's that is not valid.
    #[error("grammar: line {line}, column {column}: {message}")]
    Grammar {
        /// Line, from 1.
        line: usize,
        /// Character of the line, from 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// A tool whose definition is not valid.
    #[error("tools[{tool}].{message}")]
    Tool {
        /// Which of them, from 0.
        tool: usize,
        /// What is wrong.
        message: String,
    },
}
