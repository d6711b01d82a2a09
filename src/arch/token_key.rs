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
    /// A pre-tokenizer that splits as the known one of this name is called so, though others split alike.
    Pre(&'static str),
    /// A byte-pair encoding of characters keeps its merges, as files with the tokenizer `gemma4` do.
    MergesOfCharacters,
    /// There are so many types of tokens.
    Types(usize),
    /// The control token with this text is shown where it is generated.
    Shown(&'static str),
    /// Whether texts get a space in front is what the SentencePiece model says, written behind the tokens.
    SpacePrefixOfModel,
    /// Tokens whose texts begin with this are unused ones, unless they were added.
    Unused(&'static str),
    /// The token with this text is a control token, whatever the tokenizer's settings say.
    Control(&'static str),
}
