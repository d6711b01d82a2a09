//! Tests of pre-tokenizers as in published `tokenizer.json` files.

use serde_json::{Value as Json, json};

use super::recognize;
use crate::convert::TokenizerProblem;

/// A pattern followed by the byte-level alphabet.
fn split(pattern: &str) -> Json {
    sequence(&[json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false })])
}

fn sequence(parts: &[Json]) -> Json {
    let mut parts = parts.to_vec();
    parts.push(json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false }));
    json!({ "type": "Sequence", "pretokenizers": parts })
}

fn isolated(pattern: &str) -> Json {
    json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false })
}

fn name(pre: &Json) -> &'static str {
    name_with(pre, &Json::Null)
}

fn name_with(pre: &Json, normalizer: &Json) -> &'static str {
    let json = json!({ "normalizer": normalizer, "pre_tokenizer": pre });
    recognize(&json, &[], None).unwrap_or_else(|e| panic!("{pre}: {e}"))
}

#[test]
fn llama_3_in_its_spellings() {
    let rest = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    for start in [
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+",
        r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
        r"(?i:'(?:[sdmt]|ll|ve|re))|[^\p{N}\r\n\p{L}]?\p{L}{1,}|\p{N}{1,3}",
    ] {
        assert_eq!(name(&split(&format!("{start}{rest}"))), "llama-bpe", "{start}");
    }
    // As scripts that convert tiktoken's files write it: what the pattern does not match is removed.
    let removed = json!({
        "type": "Split",
        "pattern": { "Regex": format!(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}{rest}") },
        "behavior": "Removed",
        "invert": true,
    });
    assert_eq!(name(&sequence(&[removed])), "llama-bpe");
}

#[test]
fn qwen() {
    let qwen2 = split(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    );
    assert_eq!(name_with(&qwen2, &json!({ "type": "NFC" })), "qwen2");
    let qwen35 = split(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    );
    assert_eq!(name_with(&qwen35, &json!({ "type": "NFC" })), "qwen35");
}

#[test]
fn deepseek() {
    let v3 = [
        isolated(r"\p{N}{1,3}"),
        isolated("[一-龥\u{3040}-ゟ゠-ヿ]+"),
        isolated(
            r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
        ),
    ];
    assert_eq!(name(&sequence(&v3)), "deepseek-v3");
    let digits = json!({ "type": "Digits", "individual_digits": true });
    let coder = [
        isolated("[\r\n]"),
        isolated(r"\s?\p{L}+"),
        isolated(r"\s?\p{P}+"),
        isolated("[一-龥ࠀ-一가-\u{d7ff}]+"),
        digits.clone(),
    ];
    assert_eq!(name(&sequence(&coder)), "deepseek-coder");
    let llm = [
        isolated("[\r\n]"),
        isolated(
            r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+",
        ),
        isolated("\\s?[!-/:-~！-／：-～‘-‟\u{3000}-。]+"),
        isolated(r"\s+$"),
        isolated("[一-龥ࠀ-一가-\u{d7ff}]+"),
        digits,
    ];
    assert_eq!(name(&sequence(&llm)), "deepseek-llm");
}

#[test]
fn openai_and_those_who_took_it_over() {
    let o200k = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    assert_eq!(name(&split(o200k)), "gpt-4o");
    let tekken = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    assert_eq!(name(&split(tekken)), "tekken");
    let bailing =
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
    // `\s*` has already taken all line ends but the last, so that this is Qwen2's.
    assert_eq!(name(&split(bailing)), "qwen2");
    let kimi = r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    assert_eq!(name(&split(kimi)), "kimi-k2");
}

#[test]
fn gpt_2_and_its_relatives() {
    // GPT-2, GPT-NeoX, OLMo, Phi-2, MPT; older files have no `use_regex`.
    for pre in [
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true }),
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true }),
    ] {
        assert_eq!(name(&pre), "gpt-2");
        assert_eq!(name_with(&pre, &json!({ "type": "Sequence", "normalizers": [{ "type": "NFC" }] })), "gpt-2");
        // StarCoder, SmolLM, Command-R.
        let digits = json!({ "type": "Digits", "individual_digits": true });
        assert_eq!(name(&json!({ "type": "Sequence", "pretokenizers": [digits, pre] })), "starcoder");
        let falcon = json!({ "type": "Sequence", "pretokenizers": [
            { "type": "Punctuation", "behavior": "Contiguous" },
            pre,
            { "type": "Digits", "individual_digits": false },
            { "type": "Split", "pattern": { "Regex": "[0-9][0-9][0-9]" }, "behavior": "Isolated", "invert": false },
        ]});
        assert_eq!(name(&falcon), "falcon");
    }
    assert_eq!(name(&split(r" ?[^(\s|[.,!?…。，、।۔،])]+")), "poro-chat");
}

#[test]
fn other_cuts_count_where_no_token_tells_them_apart() {
    let digits = json!({ "type": "Digits", "individual_digits": true });
    let parts = published("deepseek-llm");
    let with = |token: &str| recognize(&json!({ "pre_tokenizer": parts }), &["1", token], None);
    assert!(parts["pretokenizers"].as_array().is_some_and(|parts| parts.contains(&digits)));
    assert_eq!(with("2").expect("known"), "deepseek-llm");
    let message = with("12").expect_err("refused").to_string();
    assert!(message.contains("nearest is deepseek-llm, which cuts `2024` where this one cuts `2`"), "{message}");
}

/// The pre-tokenizer of published models.
fn published(name: &str) -> Json {
    let list: Json = serde_json::from_str(include_str!("../../testdata/tokenizers/pre_tokenizers.json")).expect("JSON");
    let found = list.as_array().and_then(|list| list.iter().find(|entry| entry["name"] == name));
    found.unwrap_or_else(|| panic!("{name}"))["pre_tokenizer"].clone()
}

#[test]
fn what_fits_none_is_refused_with_a_reason() {
    let refused = |json: &Json| recognize(json, &[], None).expect_err("refused").to_string();
    let other = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let message = refused(&json!({ "pre_tokenizer": split(other) }));
    assert!(message.contains("nearest is llama-bpe") || message.contains("nearest is qwen2"), "{message}");
    assert!(message.contains("where this one cuts `20` (in `Hello, world!") && message.contains("--pre"), "{message}");
    let message = refused(&json!({ "pre_tokenizer": { "type": "WhitespaceSplit" } }));
    let expected = r#"pre_tokenizer: {"type":"WhitespaceSplit"} cannot be expressed (--pre NAME converts it anyway)"#;
    assert_eq!(message, expected);
    let message = refused(&json!({ "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": true } }));
    assert!(message.contains("cannot be expressed (--pre NAME"), "{message}");
    let message = refused(&json!({ "pre_tokenizer": split(r"(?<=a)\s+|\S+") }));
    assert!(
        message.contains(r"the pattern `(?<=a)\s+|\S+` uses features that cannot be compared (--pre NAME"),
        "{message}"
    );
    let lower = json!({ "normalizer": { "type": "Lowercase" }, "pre_tokenizer": { "type": "ByteLevel" } });
    assert!(matches!(recognize(&lower, &[], None), Err(TokenizerProblem::Normalizer { .. })));
}
