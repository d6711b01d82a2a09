//! Checks the model: whether everything that its architecture needs exists, whether it can be run, and whether its metadata are
//! plausible.

use super::Findings;
use crate::arch;
use crate::engine::SamplerOptions;
use crate::gguf::{Reader, Value, keys};
use crate::inspect::{NotUsable, Summary, usable};
use crate::model::{self, Model};
use crate::printable::printable;

/// Looks at an opened file, and returns its model where it can be run.
pub(super) fn check(reader: &Reader, findings: &mut Findings) -> Option<Model> {
    let kind = reader.metadata().get(keys::GENERAL_TYPE).and_then(Value::as_str);
    if reader.tensors().is_empty() && reader.unknown_tensors().is_empty() {
        if reader.metadata().get(keys::TOKENIZER_TOKENS).is_none() {
            findings.error("model.empty", "the file has neither tensors nor tokens");
        }
        return None;
    }
    let mut model = None;
    match usable(reader) {
        Ok(_) => model = run(reader, findings),
        Err(NotUsable::Kind(_)) => {
            let kind = kind.unwrap_or_default();
            findings.add(super::Severity::Note, "model.kind", format!("no model: general.type is {}", printable(kind)));
            return None;
        }
        // Reported by the checks of structure and tokenizer.
        Err(
            NotUsable::UnknownType { .. } | NotUsable::BigEndian | NotUsable::NoTokenizer | NotUsable::PreTokenizer(_),
        ) => {}
        Err(NotUsable::Architecture(error)) => findings.error(architecture_id(&error), error.to_string()),
        Err(error) => findings.error("model.type", error.to_string()),
    }
    // A chat would refuse it.
    if let Err(error) = SamplerOptions::from_metadata(reader.metadata(), &[]) {
        findings.error("model.sampling", error.to_string());
    }
    let summary = Summary::new(reader);
    if let (Some(claimed), Some(found)) = (summary.file_type_name(), summary.contradiction()) {
        let text = format!("general.file_type says {claimed}, but most weights are {found}");
        findings.warning("model.file-type", text);
    }
    if let (Some(id), None) = (summary.file_type, summary.file_type_name()) {
        findings.warning("model.file-type", format!("general.file_type is {id}, which is not known"));
    }
    model
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

/// What only shows when the network is put together.
fn run(reader: &Reader, findings: &mut Findings) -> Option<Model> {
    match Model::from_reader(reader) {
        // Reported where the tokenizer is looked at.
        Err(model::Error::Tokenizer { .. }) => None,
        Err(error) => {
            findings.error("model.load", error.to_string());
            None
        }
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
            Some(model)
        }
    }
}
