//! Models for programs.

use gguf_toolkit::TensorType;
use gguf_toolkit::gguf::{Array, ByteOrder, Reader, Value};
use gguf_toolkit::inspect::{Role, Summary};
use serde_json::{Map, Value as Json, json};

use super::Sections;
use super::text::tensor_bytes;
use crate::totals::bits_per_weight;

/// Version of the objects: a higher one where a name changes its meaning or goes (docs/commands.md lists them).
const SCHEMA_VERSION: u32 = 1;

/// Elements of an array that are given, unless all of them are.
const MAX_ELEMENTS: usize = 16;

/// The object of one model.
pub(super) fn model(reader: &Reader, sections: &Sections) -> Json {
    let mut object = Map::new();
    object.insert("schema_version".into(), SCHEMA_VERSION.into());
    object.insert("path".into(), reader.path().to_string_lossy().into());
    object.insert("version".into(), reader.version().into());
    object.insert("byte_order".into(), if reader.byte_order() == ByteOrder::Big { "big" } else { "little" }.into());
    object.insert("alignment".into(), reader.alignment().into());
    object.insert("file_bytes".into(), reader.file_bytes().into());
    object.insert("parameters".into(), reader.parameters().into());
    object.insert("tensor_bytes".into(), tensor_bytes(reader).into());
    object.insert("bits_per_weight".into(), bits_per_weight(tensor_bytes(reader), reader.parameters()).into());
    let shard = |shard: &gguf_toolkit::gguf::Shard| json!({ "path": shard.path().to_string_lossy(), "bytes": shard.file_bytes(), "data_start": shard.data_start() });
    object.insert("files".into(), reader.shards().iter().map(shard).collect());
    object.insert("summary".into(), summary(&Summary::new(reader)));
    if sections.metadata {
        let entries = reader.metadata().iter();
        let entries: Map<_, _> =
            entries.map(|(key, value)| (key.to_owned(), value_json(value, sections.full))).collect();
        object.insert("metadata".into(), entries.into());
    }
    if sections.tensors {
        let tensor = |tensor: &gguf_toolkit::gguf::TensorInfo| {
            json!({
                "name": tensor.name,
                "shape": tensor.shape,
                "type": tensor.ty.name(),
                "bytes": tensor.bytes(),
                "file": tensor.shard(),
                "offset": reader.offset_in_file(tensor),
            })
        };
        let unknown = |tensor: &gguf_toolkit::gguf::UnknownTensor| {
            let start = reader.shards().get(tensor.shard()).map_or(0, gguf_toolkit::gguf::Shard::data_start);
            json!({
                "name": tensor.name,
                "shape": tensor.shape,
                "type": format!("type {}", tensor.type_id),
                "bytes": tensor.bytes(),
                "file": tensor.shard(),
                "offset": start.saturating_add(tensor.offset()),
            })
        };
        let known = reader.tensors().iter().filter(|tensor| sections.pattern.is_match(&tensor.name)).map(tensor);
        let others =
            reader.unknown_tensors().iter().filter(|tensor| sections.pattern.is_match(&tensor.name)).map(unknown);
        object.insert("tensors".into(), known.chain(others).collect());
    }
    object.into()
}

/// What the first screen shows.
fn summary(summary: &Summary) -> Json {
    let range = |range: Option<(u64, u64)>| range.map(|(least, most)| json!([least, most]));
    let vocabulary = summary.vocabulary.as_ref();
    let role = |role: &Role| {
        let types: Map<String, Json> = role.types.iter().map(|(ty, n)| (ty.name().to_owned(), (*n).into())).collect();
        (role.name.clone(), Json::from(types))
    };
    json!({
        "name": summary.name,
        "architecture": summary.architecture,
        "active_parameters": summary.active_parameters,
        "experts": summary.experts.map(|(all, used)| json!({ "total": all, "used": used })),
        "context_length": summary.context_length,
        "layers": summary.layers,
        "embedding_length": summary.embedding_length,
        "feed_forward_length": range(summary.feed_forward_length),
        "heads": range(summary.heads),
        "kv_heads": range(summary.kv_heads),
        "head_length": summary.head_length,
        "sliding_window": summary.sliding_window,
        "vocabulary": vocabulary.map(|v| json!({ "tokens": v.tokens, "model": v.model, "pre": v.pre })),
        "template": summary.template.map(|t| json!({ "system": t.system, "tools": t.tools, "thinking": t.thinking })),
        "license": summary.license,
        "file_type": summary.file_type,
        "file_type_name": summary.file_type_name(),
        "mostly": summary.contradiction().map(TensorType::name),
        "matrices": summary.mix.iter().map(role).collect::<Map<String, Json>>(),
        "runs": summary.usable.is_ok(),
        "cannot_run": summary.usable.as_ref().err(),
    })
}

/// Type and value; of an array also the length, and whether elements are missing.
pub(crate) fn value_json(value: &Value, full: bool) -> Json {
    let Value::Array(array) = value else {
        return json!({ "type": value.value_type().name(), "value": scalar(value) });
    };
    let shown = if full { array.len() } else { MAX_ELEMENTS };
    json!({
        "type": value.value_type().name(),
        "element_type": array.element_type().name(),
        "length": array.len(),
        "cut": array.len() > shown,
        "value": elements(array, shown),
    })
}

fn elements(array: &Array, limit: usize) -> Json {
    array.iter().take(limit).map(|value| scalar(&value)).collect()
}

fn scalar(value: &Value) -> Json {
    match value {
        Value::Bool(v) => (*v).into(),
        Value::String(v) => v.as_str().into(),
        Value::Array(v) => elements(v, v.len()),
        // Through text: an f32 keeps its short form (0.1, not 0.10000000149011612).
        Value::F32(v) => float(f64::from(*v), &format!("{v:?}")),
        Value::F64(v) => float(*v, &format!("{v:?}")),
        other => other.as_u64().map_or_else(|| other.as_i64().into(), Json::from),
    }
}

/// A number as JSON; what JSON has no number for (NaN, infinities), as text.
fn float(value: f64, shortest: &str) -> Json {
    if !value.is_finite() {
        return shortest.into();
    }
    shortest.parse().map_or(Json::Null, |value: f64| value.into())
}
