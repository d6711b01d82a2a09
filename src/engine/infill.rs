//! Fill-in-the-middle: prompts that ask a code model for the text between two others.

use crate::gguf::{Metadata, Value};
use crate::model::Model;
use crate::tokenizer::{EncodeOptions, TokenKind, Tokenizer};

/// The tokens that mark the parts of such a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InfillTokens {
    prefix: u32,
    suffix: u32,
    middle: u32,
    repository: Option<u32>,
    file: Option<u32>,
}

/// A mark: its keys in a file, and its names in the vocabularies of models whose files have no keys.
struct Mark {
    keys: &'static [&'static str],
    names: &'static [&'static str],
}

const PREFIX: Mark = Mark {
    keys: &["tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.prefix_token_id"],
    names: &[
        "<|fim_prefix|>",
        "<fim-prefix>",
        "<fim_prefix>",
        "<｜fim▁begin｜>",
        "<PRE>",
        "▁<PRE>",
        "<|code_prefix|>",
        "[PREFIX]",
    ],
};
const SUFFIX: Mark = Mark {
    keys: &["tokenizer.ggml.fim_suf_token_id", "tokenizer.ggml.suffix_token_id"],
    names: &[
        "<|fim_suffix|>",
        "<fim-suffix>",
        "<fim_suffix>",
        "<｜fim▁hole｜>",
        "<SUF>",
        "▁<SUF>",
        "<|code_suffix|>",
        "[SUFFIX]",
    ],
};
const MIDDLE: Mark = Mark {
    keys: &["tokenizer.ggml.fim_mid_token_id", "tokenizer.ggml.middle_token_id"],
    names: &[
        "<|fim_middle|>",
        "<fim-middle>",
        "<fim_middle>",
        "<｜fim▁end｜>",
        "<MID>",
        "▁<MID>",
        "<|code_middle|>",
        "[MIDDLE]",
    ],
};
const REPOSITORY: Mark = Mark {
    keys: &["tokenizer.ggml.fim_rep_token_id"],
    names: &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<repo_name>", "<reponame>"],
};
const FILE: Mark = Mark { keys: &["tokenizer.ggml.fim_sep_token_id"], names: &["<|file_sep|>", "<file_sep>"] };

impl Mark {
    fn find(&self, metadata: &Metadata, tokenizer: &Tokenizer) -> Option<u32> {
        let id = |key: &&str| metadata.get(key).and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
        let known = |id: &u32| (*id as usize) < tokenizer.vocab_size();
        let named = |name: &&str| {
            let options = EncodeOptions { add_special: false, parse_special: true };
            let tokens = tokenizer.encode(name, options).ok()?;
            let special = |id: &u32| matches!(tokenizer.kind(*id), TokenKind::Control | TokenKind::UserDefined);
            (tokens.len() == 1).then(|| tokens[0]).filter(special)
        };
        self.keys.iter().find_map(id).filter(known).or_else(|| self.names.iter().find_map(named))
    }
}

impl InfillTokens {
    /// Those of a model; `None` where it knows of no such prompts.
    #[must_use]
    pub fn of(model: &Model) -> Option<Self> {
        let find = |mark: &Mark| mark.find(model.metadata(), model.tokenizer());
        let (prefix, suffix, middle) = (find(&PREFIX)?, find(&SUFFIX)?, find(&MIDDLE)?);
        Some(Self { prefix, suffix, middle, repository: find(&REPOSITORY), file: find(&FILE) })
    }

    /// The prompt for what comes between `before` and `after`, with other files of the same repository, each its name and its text.
    /// Nothing that a text says is a control token.
    ///
    /// # Errors
    /// When the tokenizer cannot encode a text.
    pub fn prompt(
        &self,
        tokenizer: &Tokenizer,
        before: &str,
        after: &str,
        files: &[(String, String)],
    ) -> Result<Vec<u32>, crate::tokenizer::Error> {
        let text = |text: &str| tokenizer.encode(text, EncodeOptions { add_special: false, parse_special: false });
        let special = &tokenizer.vocab().special;
        let begins = tokenizer.encode("", EncodeOptions { add_special: true, parse_special: false })?;
        let mut tokens: Vec<u32> = begins.into_iter().filter(|id| Some(*id) == special.bos).collect();
        if let Some(repository) = self.repository.filter(|_| !files.is_empty()) {
            tokens.push(repository);
            tokens.extend(text("repository\n")?);
        }
        for (name, content) in files {
            match self.file {
                Some(file) => {
                    tokens.push(file);
                    tokens.extend(text(&format!("{name}\n{content}"))?);
                }
                None => tokens.extend(text(&format!("{name}\n{content}\n\n"))?),
            }
        }
        // The text that is asked for lies in a file as well.
        if let Some(file) = self.file.filter(|_| !files.is_empty()) {
            tokens.push(file);
            tokens.extend(text("\n")?);
        }
        for (mark, part) in [(self.prefix, before), (self.suffix, after)] {
            tokens.push(mark);
            tokens.extend(text(part)?);
        }
        tokens.push(self.middle);
        Ok(tokens)
    }
}
