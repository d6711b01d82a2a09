//! How the hidden states of a text become its embedding.

/// How the hidden states of a text become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// No pooling: one vector for each token.
    None,
    /// Their mean.
    Mean,
    /// The first token's, which BERT calls `[CLS]`.
    Cls,
    /// The last token's.
    Last,
    /// The first token's through a classification head: scores, such as how well a document answers a query.
    Rank,
}
