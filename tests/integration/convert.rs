//! Conversions against what llama.cpp's converter wrote: keys, tensors, bytes.

use std::path::Path;

use gguf_toolkit::convert::{Conversion, Folder as Checkpoint, Options, OutputType};
use gguf_toolkit::gguf::{Array, Reader, Value};
use gguf_toolkit::quantize::RunOptions;
use serde_json::Value as Json;

use super::folder::Folder;
use super::goldens::{checkpoint, golden};
use super::shared::{json, sha256, testdata};

/// Keys that this program writes and the reference drops, though they change the numbers (docs/settings.md).
pub(crate) const MORE_KEYS: &[(&str, &str)] = &[
    ("falconmamba", "mamba.ssm.dt_b_c_rms_epsilon"),
    ("gemma4", "gemma4.final_logit_softcapping"),
    // llama.cpp knows the rank 64 alone.
    ("gemma3n", "gemma3n.laurel_rank"),
    // llama.cpp refuses files without it.
    ("qwen", "qwen.attention.layer_norm_rms_epsilon"),
    // Queries grow with the position; llama.cpp reads both.
    ("mistral4", "mistral4.attention.temperature_length"),
    ("mistral4", "mistral4.attention.temperature_scale"),
];

/// Keys of another value than the reference's.
pub(crate) const OTHER_VALUES: &[(&str, &str)] = &[
    // The reference takes the pieces of `sentencepiece.bpe.model`, which lacks `<mask>`, and has a token `[PAD382]` that
    // nothing makes in its place. (From a folder with `tokenizer.json` alone it takes `<mask>`, too.)
    ("xlmroberta", "tokenizer.ggml.tokens"),
    ("xlmroberta", "tokenizer.ggml.scores"),
    ("xlmroberta", "tokenizer.ggml.token_type"),
    // The reference was made with another pre-tokenizer's name than the one of its `tokenizer.json`.
    ("commandrplus", "tokenizer.ggml.pre"),
    // The reference takes these from settings of an older class.
    ("glm", "chatglm.attention.layer_norm_rms_epsilon"),
    ("glm", "chatglm.context_length"),
];

pub(crate) fn convert(from: &Path, to: &Path) -> Reader {
    let options = Options { output_type: OutputType::F16, ..Options::default() };
    let conversion =
        Conversion::new(Checkpoint::open(from).expect("a folder"), &options).unwrap_or_else(|e| panic!("{e}"));
    let plan = conversion.plan(&[]).expect("a plan");
    let outcome = conversion.write(&plan, to, &RunOptions::default(), &|_| true).expect("written");
    assert_eq!(outcome.file_bytes, plan.file_bytes);
    Reader::open(to).expect("opens")
}

/// Fails unless `found` has the keys and tensors of `reference`, in its order.
pub(crate) fn assert_as_reference(found: &Reader, reference: &Json, name: &str) {
    let expected = reference["kv"].as_object().expect("keys");
    // The hub's names and those of folders differ in their capitals alone.
    let skip = |key: &str| key == "general.name";
    let more = |key: &str| MORE_KEYS.contains(&(name, key));
    let found_keys: Vec<&str> = found.metadata().iter().map(|(key, _)| key).filter(|key| !more(key)).collect();
    let expected_keys: Vec<&str> = expected.keys().map(String::as_str).collect();
    assert_eq!(found_keys, expected_keys, "{name}: keys");
    for (key, value) in found.metadata().iter().filter(|(key, _)| !skip(key) && !more(key)) {
        let other = OTHER_VALUES.contains(&(name, key));
        assert_eq!(describe(value) == expected[key], !other, "{name}: {key}: {value:?}");
    }
    let tensors = reference["tensors"].as_array().expect("tensors");
    for (found_tensor, expected) in found.tensors().iter().zip(tensors) {
        let data = found.data(found_tensor).expect("data");
        let described = serde_json::json!({
            "name": found_tensor.name, "shape": found_tensor.shape, "type": found_tensor.ty.name(), "sha256": sha256(&data)
        });
        assert_eq!(&described, expected, "{name}");
    }
    assert_eq!(found.tensors().len(), tensors.len(), "{name}: tensors");
}

/// A value as the references write it.
fn describe(value: &Value) -> Json {
    let (ty, value) = match value {
        Value::String(s) => ("STRING", Json::from(s.as_str())),
        Value::Bool(b) => ("BOOL", Json::from(*b)),
        Value::U32(n) => ("UINT32", Json::from(*n)),
        Value::I32(n) => ("INT32", Json::from(*n)),
        Value::F32(x) => ("FLOAT32", Json::from(f64::from(*x))),
        Value::Array(array) => return describe_array(array),
        other => panic!("a value of another type: {other:?}"),
    };
    serde_json::json!({ "type": ty, "value": value })
}

fn describe_array(array: &Array) -> Json {
    let items: Vec<Json> = array
        .iter()
        .map(|item| match item {
            Value::String(s) => Json::from(s),
            Value::Bool(b) => Json::from(b),
            Value::I32(n) => Json::from(n),
            Value::U32(n) => Json::from(n),
            Value::U8(n) => Json::from(n),
            Value::F32(x) => Json::from(f64::from(x)),
            other => panic!("an element of another type: {other:?}"),
        })
        .collect();
    let ty = format!("ARRAY/{}", array.element_type().name().to_uppercase());
    let value = if items.len() > 64 {
        // As Python's `json.dumps(items, ensure_ascii=False)` writes it.
        let text: Vec<String> = items.iter().map(Json::to_string).collect();
        let sha256 = sha256(format!("[{}]", text.join(", ")).as_bytes());
        serde_json::json!({ "count": items.len(), "first": items[..8], "sha256_of_json": sha256 })
    } else {
        // Read as the references are: reading may round a number's last digit.
        serde_json::from_str(&Json::from(items).to_string()).expect("JSON")
    };
    serde_json::json!({ "type": ty, "value": value })
}

/// Every golden that the reference converter could write.
fn goldens() -> Vec<String> {
    let entries = std::fs::read_dir(testdata("arch")).expect("goldens");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .filter(|name| golden(name).join("reference.json").exists())
        .collect();
    names.sort();
    names
}

#[test]
fn storyteller_converts_as_with_the_reference() {
    let folder = Folder::new("convert-storyteller");
    let found = convert(&testdata("storyteller"), &folder.path("storyteller.gguf"));
    assert_as_reference(&found, &json(&testdata("storyteller-f16.json")), "storyteller");
}

#[test]
fn every_family_converts_as_with_the_reference() {
    let folder = Folder::new("convert-families");
    let mut failures = Vec::new();
    for name in goldens() {
        let from = checkpoint(&folder, &name);
        let to = folder.path(&format!("{name}.gguf"));
        let result = std::panic::catch_unwind(|| {
            assert_as_reference(&convert(&from, &to), &json(&golden(&name).join("reference.json")), &name);
        });
        if result.is_err() {
            failures.push(name);
        }
    }
    assert!(failures.is_empty(), "{} families differ: {failures:?}", failures.len());
}
