//! Whether a model's file is sound: its structure, what its architecture asks for, its tokenizer, its chat template, its
//! numbers. Each thing that is found is a line with a severity and an id that stays the same. Used by `gguf check`.

mod architecture;
mod checkpoint;
mod data;
mod structure;
mod template;
mod tokenizer;

use std::path::Path;

use crate::gguf::Reader;
use crate::model::Model;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The model cannot be used, or computes nonsense.
    Error,
    /// It can be used, and may not do what its owner thinks.
    Warning,
    /// Nothing is wrong: something to know.
    Note,
}

impl Severity {
    /// `error`, `warning` or `note`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// Something about a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of thing it is: `structure.overlap`. Ids do not change.
    pub id: &'static str,
    /// The place and what is found there, in a line.
    pub text: String,
}

/// What is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Also the numbers of all tensors, which takes as long as reading them.
    pub data: bool,
}

/// All findings, in the order in which they are made.
#[derive(Clone, Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, severity: Severity, id: &'static str, text: impl Into<String>) {
        self.0.push(Finding { severity, id, text: text.into() });
    }

    fn error(&mut self, id: &'static str, text: impl Into<String>) {
        self.add(Severity::Error, id, text);
    }

    fn warning(&mut self, id: &'static str, text: impl Into<String>) {
        self.add(Severity::Warning, id, text);
    }
}

/// Looks at the model at `path`: a GGUF file, the first of a split one, or the folder of a checkpoint. Nothing that is
/// wrong with it is an error here. `progress` is told of bytes of tensors that have been looked at, from several threads.
#[must_use]
pub fn check(path: &Path, options: Options, progress: &(dyn Fn(u64) + Sync)) -> Vec<Finding> {
    let mut findings = Findings::default();
    if path.is_dir() {
        checkpoint::check(path, &mut findings);
        return findings.0;
    }
    match Reader::open_any(path) {
        Err(error) => structure::refused(&error, &mut findings),
        Ok(reader) => opened(&reader, options, progress, &mut findings),
    }
    findings.0
}

/// As [`check`], for an opened file.
#[must_use]
pub fn check_reader(reader: &Reader, options: Options, progress: &(dyn Fn(u64) + Sync)) -> Vec<Finding> {
    let mut findings = Findings::default();
    opened(reader, options, progress, &mut findings);
    findings.0
}

fn opened(reader: &Reader, options: Options, progress: &(dyn Fn(u64) + Sync), findings: &mut Findings) {
    structure::check(reader, findings);
    let model = architecture::check(reader, findings);
    // Where the model cannot be run, its tokenizer may still be sound.
    let own = if model.is_some() { None } else { tokenizer::made(reader, findings) };
    let tokenizer = model.as_ref().map(Model::tokenizer).or(own.as_ref());
    if let Some(tokenizer) = tokenizer {
        tokenizer::check(tokenizer, findings);
    }
    template::check(reader.metadata(), tokenizer, findings);
    if options.data {
        data::check(reader, progress, findings);
    }
}
