//! Checks of a model's file: structure, architecture, tokenizer, chat template, numbers. Each finding is a line with a severity
//! and a stable id. Used by `gguf check`.

mod architecture;
mod checkpoint;
mod data;
mod structure;
mod template;
mod tokenizer;

use std::path::Path;

use crate::gguf::Reader;
use crate::model::Model;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The model cannot be used, or its results are wrong.
    Error,
    /// The model can be used, but may not behave as expected.
    Warning,
    /// Information; nothing is wrong.
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

/// A finding about a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its severity.
    pub severity: Severity,
    /// The kind of finding, such as `structure.overlap`. Ids do not change.
    pub id: &'static str,
    /// The place and the finding, in one line.
    pub text: String,
}

/// Options of a check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether the numbers of all tensors are checked too, which takes as long as reading them.
    pub data: bool,
}

/// All findings, in order.
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

/// Checks the model at `path`: a GGUF file, the first file of a split model, or the folder of a checkpoint. Problems of the model
/// are findings, not errors. `progress` is called with the number of bytes checked, from several threads.
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
