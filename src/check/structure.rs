//! Checks the file itself: what the reader refuses, and what it accepts although other programs may not.

use super::Findings;
use crate::files::FileError;
use crate::gguf::{ByteOrder, Error, Place, Problem, Reader, Warning};
use crate::printable::printable;

/// The finding for a file that cannot be opened as a model.
pub(super) fn refused(error: &Error, findings: &mut Findings) {
    let id = match error {
        Error::File(FileError::Open { .. }) => "file.open",
        Error::File(_) => "file.read",
        Error::Format(format) => problem_id(&format.place, &format.problem),
        Error::Shard { .. } => "structure.shard",
        _ => "file.read",
    };
    findings.error(id, error.to_string());
}

fn problem_id(place: &Place, problem: &Problem) -> &'static str {
    match problem {
        Problem::TooLong { .. } if matches!(place, Place::KeyNumber(_) | Place::TensorNumber(_)) => "structure.name",
        Problem::Truncated { .. } => "structure.truncated",
        Problem::PastEnd { .. } => "structure.bounds",
        Problem::Magic { .. } => "structure.magic",
        Problem::BigEndian => "structure.endian",
        Problem::VersionOne | Problem::Version(_) => "structure.version",
        Problem::Count { .. } | Problem::TooMany { .. } => "structure.count",
        Problem::EmptyName | Problem::NotUtf8 | Problem::ZeroInName => "structure.name",
        Problem::Duplicate => "structure.duplicate",
        Problem::Alignment(_) | Problem::AlignmentType(_) | Problem::Unaligned { .. } => "structure.alignment",
        Problem::Dimensions(_) | Problem::Shape(_) | Problem::Row { .. } => "structure.shape",
        Problem::TensorType(_) => "structure.tensor-type",
        Problem::Overlap(_) => "structure.overlap",
        Problem::ValueType(_) | Problem::TooDeep | Problem::Bool(_) | Problem::TooLong { .. } => "structure.value",
        Problem::HeaderTooLarge | Problem::Memory(_) => "structure.size",
    }
}

/// Checks an opened file.
pub(super) fn check(reader: &Reader, findings: &mut Findings) {
    if reader.byte_order() == ByteOrder::Big {
        findings.error("structure.endian", Problem::BigEndian.to_string());
    }
    for warning in reader.warnings() {
        let id = match warning {
            Warning::NotUtf8 { .. } => "structure.utf8",
            Warning::NoElements { .. } => "structure.empty-tensor",
            Warning::Gaps { .. } => "structure.gap",
            Warning::TrailingBytes { .. } => "structure.trailing",
        };
        findings.warning(id, warning.to_string());
    }
    for tensor in reader.unknown_tensors() {
        let (name, id) = (printable(&tensor.name).limit(80), tensor.type_id);
        findings.error("structure.tensor-type", format!("tensor {name}: type {id} is not known"));
    }
    // llama.cpp needs data in the order of the header, without gaps.
    let in_order =
        |pair: &[&crate::gguf::TensorInfo]| pair[0].shard() != pair[1].shard() || pair[0].offset() <= pair[1].offset();
    let tensors: Vec<_> = reader.tensors().iter().collect();
    if let Some(pair) = tensors.windows(2).find(|pair| !in_order(pair)) {
        let names = [pair[0], pair[1]].map(|tensor| printable(&tensor.name).limit(80).to_string());
        let text = format!("tensor {}: its data lie before those of {}, which llama.cpp refuses", names[1], names[0]);
        findings.warning("structure.order", text);
    }
}
