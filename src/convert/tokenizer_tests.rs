//! Tests of converting tokenizers of small folders in memory.

use serde_json::{Value as Json, json};

use super::*;
use crate::gguf::Array;
use crate::model::tokenizer::from_metadata;
use crate::tokenizer::EncodeOptions;

/// The metadata of a folder in memory with these files.
fn metadata(files: &[(&'static str, Json)], changes: &[TokenKey], pre: Option<&str>) -> Result<Metadata, Error> {
    Ok(written(files, changes, pre)?.0)
}

fn written(
    files: &[(&'static str, Json)],
    changes: &[TokenKey],
    pre: Option<&str>,
) -> Result<(Metadata, Written), Error> {
    let files: Vec<(&'static str, &'static [u8])> =
        files.iter().map(|(name, json)| (*name, &*bytes(name, json).leak())).collect();
    let folder = Folder::Memory { name: "made".into(), files: files.leak() };
    let config = folder.json("config.json")?.unwrap_or_else(|| json!({ "architectures": ["Made"] }));
    let config = Config::new(config).expect("a configuration");
    let mut metadata = Metadata::new();
    let written = write(&folder, &config, changes, pre, &mut metadata)?;
    written.write_flags("", &mut metadata);
    Ok((metadata, written))
}

/// A file's contents: JSON, or the text itself.
fn bytes(name: &str, json: &Json) -> Vec<u8> {
    match json.as_str() {
        Some(text) if !name.ends_with(".json") => text.as_bytes().to_vec(),
        _ => json.to_string().into_bytes(),
    }
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

/// Every end token of the checkpoint's settings is an end token by the file's keys, as long as there are keys.
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
    assert!(refused(&incomplete, Some("qwen2")).contains("--pre qwen2: is for byte-level BPE"));
    let mixed = characters(&[["a", "bc"], ["b", "c"], ["a", "b"], ["ab", "c"]], true);
    assert!(refused(&mixed, None).contains("those that make `abc` stand between others"));
    let complete = characters(&[["b", "c"], ["a", "b"], ["ab", "c"], ["a", "bc"]], true);
    assert!(metadata(&[("tokenizer.json", complete)], &[], None).is_ok());
    assert!(
        refused(&characters(&[], false), None)
            .contains("256 byte tokens: a GGUF file needs all 256, and byte_fallback")
    );
    let mut suffix = incomplete;
    suffix["model"]["end_of_word_suffix"] = "</w>".into();
    assert!(refused(&suffix, None).contains("model.end_of_word_suffix: expected none"));
}

/// A byte-level tokenizer of single letters with one merge, in the form of GPT-2's class.
fn letters(added: &[Json]) -> Json {
    let mut vocab: serde_json::Map<String, Json> =
        ('a'..='z').chain(['Ġ']).zip(0..).map(|(c, id)| (c.to_string(), id.into())).collect();
    vocab.insert("ab".into(), 27.into());
    json!({
        "added_tokens": added, "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false },
        "model": { "type": "BPE", "vocab": vocab, "merges": ["a b"] },
    })
}

fn token(id: u64, content: &str, flags: &[&str]) -> Json {
    let mut token = json!({ "id": id, "content": content, "special": true, "normalized": false });
    for flag in flags {
        token[flag] = true.into();
    }
    token
}

fn encode(metadata: &Metadata, text: &str) -> Vec<u32> {
    let options = EncodeOptions { add_special: false, parse_special: true };
    from_metadata(metadata).expect("a tokenizer").encode(text, options).expect("encodes")
}

#[test]
fn flags_of_added_tokens_are_kept() {
    let with = |flags: &[&str]| {
        let json = letters(&[token(28, "<e>", flags), token(29, "<f>", &[])]);
        metadata(&[("tokenizer.json", json)], &[], Some("gpt-2")).expect("writes")
    };
    let space = 26;
    let plain = with(&[]);
    assert!(plain.iter().all(|(key, _)| !key.starts_with("gguf.")));
    assert_eq!(encode(&plain, "a <e> b<e>c"), [0, space, 28, space, 1, 28, 2]);
    assert_eq!(encode(&with(&["rstrip"]), "a <e> \u{a0}\nb <f> c"), [0, space, 28, 1, space, 29, space, 2]);
    assert_eq!(encode(&with(&["lstrip"]), "a \n<e> b <f> c"), [0, 28, space, 1, space, 29, space, 2]);
    assert_eq!(encode(&with(&["lstrip", "rstrip"]), " <e>  <e> "), [28, 28]);
    let single = with(&["single_word"]);
    assert_eq!(encode(&single, "a <e> b"), [0, space, 28, space, 1]);
    assert_eq!(encode(&single, "<e>"), [28]);
    assert!(!encode(&single, "<f><e>").is_empty() && encode(&single, "<f><e>") == [29, 28]);
}

/// The list of `tokenizer_config.json` overrides that of `tokenizer.json`; other lists only add tokens.
#[test]
fn added_tokens_are_found_wherever_transformers_looks() {
    let flagged = |flag: &str| token(28, "<e>", &[flag]);
    let json = |tokens: &[Json]| ("tokenizer.json", letters(tokens));
    let find =
        |files: &[(&'static str, Json)]| encode(&metadata(files, &[], Some("gpt-2")).expect("writes"), "a <e> b");
    let (space, config) = (26, "tokenizer_config.json");
    let (rstrip, lstrip, neither) = ([0, space, 28, 1], [0, 28, space, 1], [0, space, 28, space, 1]);
    let decoder = |flags: &[&str]| json!({ "added_tokens_decoder": { "28": token(28, "<e>", flags) } });
    assert_eq!(find(&[json(&[flagged("rstrip")])]), rstrip);
    assert_eq!(find(&[json(&[flagged("rstrip")]), (config, decoder(&[]))]), neither);
    assert_eq!(find(&[json(&[]), (config, decoder(&["lstrip"]))]), lstrip);
    let map = json!({ "eos_token": { "content": "<e>", "lstrip": true } });
    assert_eq!(find(&[json(&[flagged("rstrip")]), ("special_tokens_map.json", map.clone())]), rstrip);
    let added = ("added_tokens.json", json!({ "<e>": 28 }));
    assert_eq!(find(&[json(&[]), added.clone()]), neither);
    let (both, _) = written(&[json(&[]), added, ("special_tokens_map.json", map)], &[], Some("gpt-2")).expect("writes");
    assert_eq!(from_metadata(&both).expect("a tokenizer").kind(28), TokenKind::Control);
}

/// Tokens that are matched in normalized texts are normalized as well, including the space before them.
#[test]
fn normalized_tokens_are_looked_for_last() {
    let mut vocab: serde_json::Map<String, Json> = (0..256).map(|b| (format!("<0x{b:02X}>"), b.into())).collect();
    for (id, token) in (256..).zip(["▁", "a", "b", "<", "x", ">"]) {
        vocab.insert(token.into(), id.into());
    }
    let prepend = json!({ "type": "Prepend", "prepend": "▁" });
    let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" });
    let tokens = |normalized: bool| {
        let json = json!({
            "added_tokens": [{ "id": 262, "content": "<x>", "special": false, "normalized": normalized }],
            "normalizer": { "type": "Sequence", "normalizers": [prepend, replace] },
            "model": { "type": "BPE", "byte_fallback": true, "vocab": vocab, "merges": [] },
        });
        encode(&metadata(&[("tokenizer.json", json)], &[], None).expect("writes"), "<x>a <x>b<x>")
    };
    assert_eq!(tokens(false), [262, 256, 257, 256, 262, 256, 258, 262]);
    assert_eq!(tokens(true), [262, 257, 262, 258, 259, 260, 261]);
}

#[test]
fn an_added_token_without_a_row_is_left_out_unless_it_is_needed() {
    let config = ("config.json", json!({ "architectures": ["Made"], "vocab_size": 28 }));
    let with = |settings: Json| {
        let json = letters(&[token(28, "<image>", &[])]);
        written(&[config.clone(), ("tokenizer.json", json), ("tokenizer_config.json", settings)], &[], Some("gpt-2"))
    };
    let (found, written) = with(json!({ "chat_template": "x" })).expect("writes");
    assert_eq!(from_metadata(&found).expect("a tokenizer").vocab_size(), 28);
    assert_eq!(written.left_out, [(28, "<image>".to_owned())]);
    let refused = |settings| with(settings).err().expect("refused").to_string();
    let message = refused(json!({ "chat_template": "<image>{{ x }}" }));
    assert!(message.contains("token 28 (`<image>`)") && message.contains("chat template uses it"), "{message}");
    assert!(refused(json!({ "eos_token": "<image>" })).contains("ends a generation"));
    let mut past = letters(&[]);
    past["model"]["vocab"]["zz"] = 28.into();
    let message = metadata(&[config.clone(), ("tokenizer.json", past)], &[], Some("gpt-2")).expect_err("refused");
    assert!(message.to_string().contains("token 28 is outside the vocabulary of 28"), "{message}");
}

/// No memory is allocated for more tokens than the sizes of the files justify.
#[test]
fn numbers_of_tokens_are_bounded_by_what_the_files_hold() {
    let refused = |vocab_size: Json, id: u64| {
        let config = json!({ "architectures": ["Made"], "vocab_size": vocab_size });
        let mut json = letters(&[]);
        json["model"]["vocab"]["a"] = id.into();
        let files = [("config.json", config), ("tokenizer.json", json)];
        metadata(&files, &[], Some("gpt-2")).expect_err("refused").to_string()
    };
    for (vocab_size, id) in
        [(json!(20_000_000), 0), (json!(1 << 24), 0), (json!(1u64 << 31), (1 << 31) - 1), (Json::Null, (1 << 31) - 1)]
    {
        let message = refused(vocab_size, id);
        assert!(message.contains("tokens, but the tokenizer's files have 28"), "{message}");
    }
    assert!(refused(json!(28), (1 << 31) - 1).contains("is outside the vocabulary of 28"));
}

#[test]
fn end_tokens_are_looked_up_once_however_often_they_are_listed() {
    let ids: Vec<u64> = (0..200_000).map(|i| 2 + i % 4).collect();
    let json = byte_level(&["<|stop|>", "<|halt|>", "<|more|>", "<|end_of_all|>"], &Json::Null);
    let config = json!({ "architectures": ["Made"], "vocab_size": 60_000, "eos_token_id": ids });
    let (found, written) = written(&[("config.json", config), ("tokenizer.json", json)], &[], None).expect("writes");
    assert_eq!(["eos", "eot", "eom"].map(|kind| id(&found, kind)), [Some(2), Some(3), Some(4)]);
    assert_eq!(written.unnamed_ends, ["<|end_of_all|>"]);
}

#[test]
fn chat_templates_with_names_have_keys_of_their_own() {
    let find = |files: &[(&'static str, Json)]| -> Vec<(String, String)> {
        let mut files = files.to_vec();
        files.push(("tokenizer.json", letters(&[])));
        let found = metadata(&files, &[], Some("gpt-2")).expect("writes");
        let templates = found.iter().filter(|(key, _)| key.starts_with("tokenizer.chat_template"));
        let text = |value: &Value| match value.as_array().and_then(Array::string_bytes) {
            Some(items) => items.map(String::from_utf8_lossy).collect::<Vec<_>>().join(" "),
            None => value.as_str().unwrap_or_default().to_owned(),
        };
        templates.map(|(key, value)| (key["tokenizer.chat_template".len()..].to_owned(), text(value))).collect()
    };
    let named = |name: &str, template: &str| json!({ "name": name, "template": template });
    let list = json!({ "chat_template": [named("default", "D"), named("tool_use", "T"), named("r-g", "R")] });
    let expected = [(".tool_use", "T"), (".r_g", "R"), ("s", "tool_use r_g"), ("", "D")];
    let expected = expected.map(|(key, text)| (key.to_owned(), text.to_owned()));
    assert_eq!(find(&[("tokenizer_config.json", list)]), expected);
    let files = [("chat_template.jinja", json!("J")), ("additional_chat_templates/tool_use.jinja", json!("T"))];
    let expected = [(".tool_use", "T"), ("s", "tool_use"), ("", "J")];
    assert_eq!(find(&files), expected.map(|(key, text)| (key.to_owned(), text.to_owned())));
    let expected = [(String::new(), "A".to_owned())];
    assert_eq!(find(&[("tokenizer_config.json", json!({ "chat_template": "A" }))]), expected);
}

/// The same tokenizer as `tokenizer.json` and as the files of the older class.
#[test]
fn vocab_and_merges_say_what_their_class_does() {
    let decoder = json!({ "28": token(28, "<e>", &["lstrip"]) });
    let settings = json!({
        "tokenizer_class": "GPT2TokenizerFast", "eos_token": "<e>", "added_tokens_decoder": decoder,
        "bos_token": null, "unk_token": null,
    });
    let vocab = letters(&[])["model"]["vocab"].clone();
    let class = ("tokenizer_config.json", settings);
    let apart = [("vocab.json", vocab), ("merges.txt", json!("#version: 0.2\na b\n")), class.clone()];
    let whole = [("tokenizer.json", letters(&[token(28, "<e>", &["lstrip"])])), class];
    let [apart_keys, whole_keys] = [&apart, &whole[..]].map(|files| metadata(files, &[], None).expect("writes"));
    let keys = |metadata: &Metadata| -> Vec<String> {
        metadata.iter().map(|(key, value)| format!("{key} {value:?}")).collect()
    };
    assert_eq!(keys(&apart_keys), keys(&whole_keys));
    assert_eq!(encode(&apart_keys, "ab <e>c"), [27, 28, 2]);
    let mut unknown = apart.to_vec();
    unknown[2].1["tokenizer_class"] = "OtherTokenizer".into();
    let message = metadata(&unknown, &[], None).expect_err("refused").to_string();
    assert!(message.contains("vocab.json and merges.txt of a OtherTokenizer"), "{message}");
    assert!(message.contains("GPT2Tokenizer") && message.contains("save_pretrained(FOLDER)"), "{message}");
    unknown[1].1 = json!("a b c\n");
    assert!(metadata(&unknown, &[], None).expect_err("refused").to_string().contains("merges.txt: expected two texts"));
    let message = metadata(&[], &[], None).expect_err("refused").to_string();
    assert!(message.contains("no tokenizer in this folder"), "{message}");
}

/// A `tekken.json` of all bytes and three merged tokens, and one token more than the model has.
#[test]
fn tekken_has_its_special_tokens_first_and_merges_from_its_ranks() {
    fn base64(bytes: &[u8]) -> String {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let word = bytes.iter().chain([&0; 3]).take(3).fold(0u32, |word, &byte| word << 8 | u32::from(byte));
        let digit = |i: usize| char::from(DIGITS[(word >> (18 - 6 * i) & 63) as usize]);
        (0..4).map(|i| if i <= bytes.len() { digit(i) } else { '=' }).collect()
    }
    let bytes: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    let pieces = bytes.into_iter().chain([b"ab".to_vec(), b"bc".to_vec(), b"abc".to_vec(), b"zz".to_vec()]);
    let vocab: Vec<Json> =
        pieces.enumerate().map(|(rank, bytes)| json!({ "rank": rank, "token_bytes": base64(&bytes) })).collect();
    let special = |rank: usize, text: &str| json!({ "rank": rank, "token_str": text, "is_control": true });
    let pattern = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let tekken = json!({
        "config": { "pattern": pattern, "default_vocab_size": 264, "default_num_special_tokens": 5, "version": "v11" },
        "vocab": vocab, "special_tokens": [special(1, "<s>"), special(0, "<unk>"), special(2, "</s>"), special(3, "[INST]")],
    });
    let found = metadata(&[("tekken.json", tekken.clone())], &[], None).expect("writes");
    let order: Vec<&str> = found.iter().map(|(key, _)| key.trim_start_matches("tokenizer.ggml.")).collect();
    let expected = [
        "model",
        "pre",
        "merges",
        "bos_token_id",
        "eos_token_id",
        "unknown_token_id",
        "padding_token_id",
        "tokens",
        "scores",
        "token_type",
        "add_bos_token",
        "add_eos_token",
    ];
    assert_eq!(order, expected);
    assert_eq!(found.get(keys::TOKENIZER_PRE).and_then(Value::as_str), Some("tekken"));
    let merges = found.get(keys::TOKENIZER_MERGES).and_then(Value::as_array).and_then(Array::string_bytes);
    let merges: Vec<_> = merges.expect("merges").map(String::from_utf8_lossy).collect();
    assert_eq!(merges, ["a b", "b c", "a bc", "ab c"]);
    assert_eq!(["bos", "eos", "unknown", "padding"].map(|kind| id(&found, kind)), [1, 2, 0, 2].map(Some));
    let a = 5 + u32::from(b'a');
    assert_eq!(encode(&found, "abc<SPECIAL_4>abca"), [263, 4, 263, a]);
    let count = from_metadata(&found).expect("a tokenizer").vocab_size();
    assert_eq!(count, 264);
    let mut gap = tekken;
    gap["special_tokens"][0]["rank"] = 7.into();
    let message = metadata(&[("tekken.json", gap)], &[], None).expect_err("refused").to_string();
    assert!(message.contains("tekken.json: special_tokens: expected ranks from 0 on"), "{message}");
}
