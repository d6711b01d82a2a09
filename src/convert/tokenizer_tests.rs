//! Tokenizers of small made folders as metadata.

use serde_json::{Value as Json, json};

use super::*;
use crate::model::tokenizer::from_metadata;
use crate::tokenizer::EncodeOptions;

/// The metadata of a folder in memory with these files.
fn metadata(files: &[(&'static str, Json)], changes: &[TokenKey], pre: Option<&str>) -> Result<Metadata, Error> {
    let files: Vec<(&'static str, &'static [u8])> =
        files.iter().map(|(name, json)| (*name, &*json.to_string().into_bytes().leak())).collect();
    let folder = Folder::Memory { name: "made".into(), files: files.leak() };
    let config = folder.json("config.json")?.unwrap_or_else(|| json!({ "architectures": ["Made"] }));
    let config = Config::new(config).expect("a configuration");
    let mut metadata = Metadata::new();
    write(&folder, &config, changes, pre, &mut metadata)?;
    Ok(metadata)
}

fn id(metadata: &Metadata, name: &str) -> Option<u64> {
    metadata.get(&format!("tokenizer.ggml.{name}_token_id")).and_then(Value::as_u64)
}

fn flag(metadata: &Metadata, key: &str) -> Option<bool> {
    metadata.get(key).and_then(Value::as_bool)
}

/// A byte-level tokenizer with these added tokens from id 2 on.
fn byte_level(added: &[&str], post_processor: &Json) -> Json {
    let added: Vec<Json> =
        (2..).zip(added).map(|(id, text)| json!({ "id": id, "content": text, "special": true })).collect();
    json!({
        "added_tokens": added, "post_processor": post_processor, "pre_tokenizer": { "type": "ByteLevel" },
        "model": { "type": "BPE", "vocab": { "a": 0, "b": 1 }, "merges": [] },
    })
}

fn template(single: &[&str], pair: &[&str]) -> Json {
    let parts = |ids: &[&str]| -> Vec<Json> {
        let part = |id: &&str| match *id {
            "A" | "B" => json!({ "Sequence": { "id": id, "type_id": 0 } }),
            _ => json!({ "SpecialToken": { "id": id, "type_id": 0 } }),
        };
        ids.iter().map(part).collect()
    };
    json!({ "type": "TemplateProcessing", "single": parts(single), "pair": parts(pair) })
}

#[test]
fn templates_say_what_is_added() {
    let find = |post_processor: &Json, settings: Json| {
        let json = byte_level(&["<s>", "</s>", "<sep>"], post_processor);
        let found =
            metadata(&[("tokenizer.json", json), ("tokenizer_config.json", settings)], &[], None).expect("writes");
        let adds = ["bos", "eos", "sep"].map(|kind| flag(&found, &format!("tokenizer.ggml.add_{kind}_token")));
        (adds, ["bos", "eos", "seperator"].map(|kind| id(&found, kind)))
    };
    let named = json!({ "bos_token": "<s>", "eos_token": { "content": "</s>" } });
    let both = template(&["<s>", "A", "</s>"], &["<s>", "A", "</s>", "B", "</s>"]);
    assert_eq!(find(&both, named.clone()), ([Some(true), Some(true), Some(false)], [Some(2), Some(3), None]));
    let twice = template(&["<s>", "A", "</s>"], &["<s>", "A", "</s>", "</s>", "B", "</s>"]);
    assert_eq!(find(&twice, named.clone()), ([Some(true), Some(true), Some(true)], [Some(2), Some(3), Some(3)]));
    let divided = template(&["<s>", "A"], &["<s>", "A", "<sep>", "B"]);
    let with_sep = json!({ "bos_token": "<s>", "sep_token": "<sep>", "eos_token": "</s>" });
    assert_eq!(find(&divided, with_sep), ([Some(true), None, Some(true)], [Some(2), Some(3), Some(4)]));
    let roberta = json!({ "type": "RobertaProcessing", "cls": ["<s>", 2], "sep": ["</s>", 3] });
    assert_eq!(find(&roberta, named.clone()), ([Some(true); 3], [Some(2), Some(3), Some(3)]));
    let bert = json!({ "cls_token": "<s>", "sep_token": "</s>" });
    assert_eq!(find(&both, bert), ([Some(true), Some(true), Some(false)], [Some(2), Some(3), Some(3)]));
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false });
    assert_eq!(find(&byte_level, named).0, [Some(false), Some(false), None]);
}

#[test]
fn pairs_are_divided_as_the_file_says() {
    let twice = template(&["<s>", "A", "</s>"], &["<s>", "A", "</s>", "</s>", "B", "</s>"]);
    let json = byte_level(&["<s>", "</s>"], &twice);
    let settings = json!({ "bos_token": "<s>", "eos_token": "</s>" });
    let mut found =
        metadata(&[("tokenizer.json", json), ("tokenizer_config.json", settings)], &[], Some("gpt-2")).expect("writes");
    found.set(keys::TOKENIZER_MERGES, Value::Array(Array::strings(["x y"])));
    let options = EncodeOptions { add_special: true, ..EncodeOptions::default() };
    let pair = |metadata: &Metadata| {
        from_metadata(metadata).expect("a tokenizer").encode_pair("a", "b", options).expect("encodes")
    };
    assert_eq!(pair(&found), [2, 0, 3, 3, 1, 3]);
    found.set(keys::TOKENIZER_ADD_SEPARATOR, false);
    assert_eq!(pair(&found), [2, 0, 3, 1, 3]);
    let single = from_metadata(&found).expect("a tokenizer").encode("ab", options).expect("encodes");
    assert_eq!(single, [2, 0, 1, 3]);
}

/// Every token that ends a generation by the checkpoint's settings ends it by the file's keys, as far as there are keys.
#[test]
fn all_end_tokens_are_named() {
    let json = byte_level(&["<|endoftext|>", "<|stop|>", "<|halt|>", "<|more|>", "<|im_end|>"], &Json::Null);
    let settings = json!({ "eos_token": "<|endoftext|>" });
    let generation = json!({ "eos_token_id": [2, 3, 6, 4, 99] });
    let files = [("tokenizer.json", json), ("tokenizer_config.json", settings), ("generation_config.json", generation)];
    let mut found = metadata(&files, &[], None).expect("writes");
    assert_eq!(["eos", "eot", "eom"].map(|kind| id(&found, kind)), [Some(2), Some(3), Some(4)]);
    found.set(keys::TOKENIZER_MERGES, Value::Array(Array::strings(["x y"])));
    let tokenizer = from_metadata(&found).expect("a tokenizer");
    let ends: Vec<u32> = (0..7).filter(|&token| tokenizer.ends_turn(token)).collect();
    assert_eq!(ends, [2, 3, 4, 6]);
}

#[test]
fn unigram_spells_unknown_characters_in_bytes_where_it_has_them() {
    let with = |byte_fallback: bool| {
        let bytes = (0..256).map(|byte| (format!("<0x{byte:02X}>"), -5.0));
        let pieces = [("<unk>", 0.0), ("▁", -1.0), ("a", -1.0)].map(|(text, score)| (text.to_owned(), score));
        let vocab: Vec<(String, f64)> = pieces.into_iter().chain(bytes).collect();
        let metaspace = json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always" });
        let model = json!({ "type": "Unigram", "unk_id": 0, "byte_fallback": byte_fallback, "vocab": vocab });
        let json = json!({ "pre_tokenizer": metaspace, "model": model });
        let found = metadata(&[("tokenizer.json", json)], &[], None).expect("writes");
        assert_eq!(id(&found, "unknown"), Some(0));
        from_metadata(&found).expect("a tokenizer").encode("aé a", EncodeOptions::default()).expect("encodes")
    };
    assert_eq!(with(true), [1, 2, 3 + 0xc3, 3 + 0xa9, 1, 2]);
    assert_eq!(with(false), [1, 2, 0, 1, 2]);
}

#[test]
fn what_cannot_be_expressed_is_refused_with_a_way_out() {
    let refused =
        |json: &Json, pre| metadata(&[("tokenizer.json", json.clone())], &[], pre).expect_err("refused").to_string();
    let word_level = json!({ "model": { "type": "WordLevel", "vocab": {} } });
    assert!(
        refused(&word_level, None).contains("a tokenizer WordLevel cannot be expressed"),
        "{}",
        refused(&word_level, None)
    );
    let mut vocab: serde_json::Map<String, Json> = (0..256).map(|b| (format!("<0x{b:02X}>"), b.into())).collect();
    for (id, token) in (256..).zip(["a", "b", "c", "ab", "bc", "abc"]) {
        vocab.insert(token.into(), id.into());
    }
    let characters = |merges: &[[&str; 2]], byte_fallback: bool| {
        json!({
            "normalizer": { "type": "Replace", "pattern": { "String": " " }, "content": "▁" },
            "model": { "type": "BPE", "byte_fallback": byte_fallback, "vocab": vocab, "merges": merges },
        })
    };
    let incomplete = characters(&[["b", "c"], ["a", "b"], ["ab", "c"]], true);
    let message = refused(&incomplete, None);
    assert!(message.contains("`abc` is not made of `a` and `bc`") && message.contains("--pre default"), "{message}");
    assert!(metadata(&[("tokenizer.json", incomplete.clone())], &[], Some("default")).is_ok());
    assert!(metadata(&[("tokenizer.json", incomplete.clone())], &[TokenKey::MergesOfCharacters], None).is_ok());
    assert!(refused(&incomplete, Some("qwen2")).contains("--pre qwen2: cuts for merges of bytes"));
    let mixed = characters(&[["a", "bc"], ["b", "c"], ["a", "b"], ["ab", "c"]], true);
    assert!(refused(&mixed, None).contains("those that make `abc` stand between others"));
    let complete = characters(&[["b", "c"], ["a", "b"], ["ab", "c"], ["a", "bc"]], true);
    assert!(metadata(&[("tokenizer.json", complete)], &[], None).is_ok());
    assert!(
        refused(&characters(&[], false), None)
            .contains("256 tokens for bytes: a GGUF file needs all 256, and byte_fallback")
    );
    let mut suffix = incomplete;
    suffix["model"]["end_of_word_suffix"] = "</w>".into();
    assert!(refused(&suffix, None).contains("model.end_of_word_suffix: expected none"));
}
