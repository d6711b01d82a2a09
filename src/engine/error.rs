//! What can go wrong while a model runs.

/// Why a session cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing to evaluate.
    #[error("no tokens to evaluate")]
    NoTokens,
    /// More tokens than the context holds.
    #[error("{needed} tokens do not fit the context of {context_length} (a larger one: --context)")]
    ContextFull {
        /// Tokens that would be held.
        needed: usize,
        /// Tokens that may be held.
        context_length: usize,
    },
    /// A token outside the vocabulary.
    #[error("token {token} is outside the vocabulary of {vocab_size}")]
    UnknownToken {
        /// Its id.
        token: u32,
        /// Number of tokens.
        vocab_size: usize,
    },
    /// A chat template that is not valid Jinja, or that refuses the conversation.
    #[error("chat template{}: {message}", line.map(|line| format!(" line {line}")).unwrap_or_default())]
    Template {
        /// Line of the template.
        line: Option<usize>,
        /// What the template engine says.
        message: String,
    },
}
