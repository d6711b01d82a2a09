//! What a family changes in the tokenizer's keys of its checkpoints. Conversion alone reads this.

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenKey {
    /// The special token of this kind (`eos`, `eot` ...) is the added token with this text, whatever the tokenizer's
    /// settings say.
    Text(&'static str, &'static str),
    /// The special token of this kind has this id; written after all others.
    Id(&'static str, u32),
    /// Whether texts get the token of this kind (`bos`, `eos`, `sep`), where the tokenizer does not say it; the key stands
    /// ahead of the tokenizer's others.
    First(&'static str, bool),
    /// Whether texts get a space in front; written last.
    SpacePrefix(bool),
    /// A byte-pair encoding of characters keeps its merges, as files with the tokenizer `gemma4` do.
    MergesOfCharacters,
    /// There are so many types of tokens.
    Types(usize),
    /// The control token with this text is shown where it is generated.
    Shown(&'static str),
    /// The token with this text is a control token, whatever the tokenizer's settings say.
    Control(&'static str),
}
