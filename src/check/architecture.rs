//! Checks the model: whether everything that its architecture needs exists, whether it can be run, and whether its metadata are
//! plausible.

use super::Findings;
use crate::arch;
use crate::gguf::{Reader, Value, keys};
use crate::inspect::{NotUsable, Summary, usable};
use crate::model::{self, Model};
use crate::printable::printable;

/// Checks an opened file.
pub(super) fn check(reader: &Reader, findings: &mut Findings) {
    let kind = reader.metadata().get(keys::GENERAL_TYPE).and_then(Value::as_str);
    if reader.tensors().is_empty() && reader.unknown_tensors().is_empty() {
        return if reader.metadata().get(keys::TOKENIZER_TOKENS).is_none() {
            findings.error("model.empty", "the file has neither tensors nor tokens");
        };
    }
    match usable(reader) {
        Ok(_) => run(reader, findings),
        Err(NotUsable::Kind(_)) => {
            let kind = kind.unwrap_or_default();
            findings.add(super::Severity::Note, "model.kind", format!("no model: general.type is {}", printable(kind)));
            return;
        }
        // Reported by the checks of structure and tokenizer.
        Err(NotUsable::UnknownType { .. } | NotUsable::NoTokenizer | NotUsable::PreTokenizer(_)) => {}
        Err(NotUsable::Architecture(error)) => findings.error(architecture_id(&error), error.to_string()),
        Err(error) => findings.error("model.type", error.to_string()),
    }
    let summary = Summary::new(reader);
    if let (Some(claimed), Some(found)) = (summary.file_type_name(), summary.contradiction()) {
        let text = format!("general.file_type says {claimed}, but most weights are {found}");
        findings.warning("model.file-type", text);
    }
    if let (Some(id), None) = (summary.file_type, summary.file_type_name()) {
        findings.warning("model.file-type", format!("general.file_type is {id}, which is not known"));
    }
}

fn architecture_id(error: &arch::Error) -> &'static str {
    match error {
        arch::Error::MissingTensor { .. } => "model.missing-tensor",
        arch::Error::UnexpectedTensor { .. } => "model.unexpected-tensor",
        arch::Error::BadShape { .. } => "model.shape",
        arch::Error::MissingKey { .. } | arch::Error::NoArchitecture => "model.missing-key",
        _ => "model.settings",
    }
}

/// Checks that are possible only when the network is built.
fn run(reader: &Reader, findings: &mut Findings) {
    match Model::from_reader(reader) {
        // Reported by the check of the tokenizer.
        Err(model::Error::Tokenizer { .. }) => {}
        Err(error) => findings.error("model.load", error.to_string()),
        Ok(model) => {
            for warning in model.warnings() {
                let id = match warning {
                    model::Warning::LeftOutTensors { .. } => "model.left-out",
                    model::Warning::TokensWithoutRow { .. } => "tokenizer.no-row",
                    model::Warning::NoPreTokenizer { .. } => "tokenizer.pre-missing",
                    model::Warning::NoSuchToken { .. } => "tokenizer.special-range",
                };
                findings.warning(id, warning.to_string());
            }
            for key in model.unread_keys() {
                let text = format!("key {}: nothing here is computed with it; llama.cpp may", printable(key));
                findings.warning("model.unread-key", text);
            }
        }
    }
}
