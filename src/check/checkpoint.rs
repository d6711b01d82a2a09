//! Checks a checkpoint's folder: everything that a conversion checks before it reads a weight.

use std::path::Path;

use super::{Findings, Severity};
use crate::convert::{Conversion, Error, Folder, Options};
use crate::printable::printable;

/// Checks the checkpoint in `folder`.
pub(super) fn check(folder: &Path, findings: &mut Findings) {
    let opened = Folder::open(folder).and_then(|folder| Conversion::new(folder, &Options::default()));
    let conversion = match opened {
        Ok(conversion) => conversion,
        Err(error) => return findings.error(error_id(&error), error.to_string()),
    };
    let listed = |texts: &[String]| {
        let texts: Vec<String> = texts.iter().map(|text| printable(text).limit(60).to_string()).collect();
        texts.join(", ")
    };
    if !conversion.settings_not_read().is_empty() {
        let text = format!("config.json: not known, and not looked at: {}", listed(conversion.settings_not_read()));
        findings.warning("checkpoint.settings", text);
    }
    if !conversion.unnamed_ends().is_empty() {
        let text = format!("end tokens for which a GGUF file has no key: {}", listed(conversion.unnamed_ends()));
        findings.warning("checkpoint.ends", text);
    }
    if !conversion.tokens_left_out().is_empty() {
        let text = format!("{} tokens have no row in the embedding", conversion.tokens_left_out().len());
        findings.warning("checkpoint.tokens", text);
    }
    if conversion.skipped() > 0 {
        let text = format!("{} tensors are no part of the text model", conversion.skipped());
        findings.add(Severity::Note, "checkpoint.other-parts", text);
    }
    super::template::check(crate::quantize::Source::metadata(&conversion), None, findings);
}

fn error_id(error: &Error) -> &'static str {
    match error {
        Error::Assumed { source, .. } => error_id(source),
        Error::MissingTensor { .. } => "checkpoint.missing-tensor",
        Error::LeftOver { .. } => "checkpoint.unexpected-tensor",
        Error::BadShape { .. } => "checkpoint.shape",
        Error::BadType { .. } => "checkpoint.type",
        Error::Architecture { .. } => "checkpoint.settings",
        Error::Tokenizer { .. } | Error::Vocabulary { .. } => "checkpoint.tokenizer",
        _ => "checkpoint.invalid",
    }
}
