//! Warnings about a model's file that do not prevent running it.

use crate::printable::printable;

/// A warning about a model's file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Warning {
    #[error(
        "{count} tensors are left out, {} and others: images, sound and prediction of further tokens are not computed",
        printable(first)
    )]
    LeftOutTensors { count: usize, first: String },
    #[error("{tokens} tokens, but only {rows} rows of token_embd.weight: the tokens beyond these are left out")]
    TokensWithoutRow { tokens: usize, rows: usize },
    #[error("no {key}: texts are split as {guess} does, perhaps not as in training")]
    NoPreTokenizer { key: &'static str, guess: &'static str },
    #[error("key {key}: there is no token {token}: left out")]
    NoSuchToken { key: &'static str, token: u64 },
}
