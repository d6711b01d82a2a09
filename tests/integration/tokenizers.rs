//! Tokenizers against llama.cpp's own test texts for ten published vocabularies.

use gguf_toolkit::convert::Folder;
use gguf_toolkit::gguf::Reader;
use gguf_toolkit::tokenizer::{EncodeOptions, Tokenizer};

use super::shared::{json, shared};

/// The texts of a `.inp` file and the ids of its `.out` file.
fn cases(vocabulary: &str) -> Vec<(String, Vec<u32>)> {
    let read = |suffix: &str| {
        std::fs::read_to_string(shared(&format!("vocab/ggml-vocab-{vocabulary}.gguf.{suffix}"))).expect("readable")
    };
    let (texts, ids) = (read("inp"), read("out"));
    let texts = texts.split("\n__ggml_vocab_test__\n").map(str::to_owned);
    let ids = ids.lines().map(|line| line.split_whitespace().map(|id| id.parse().expect("an id")).collect());
    texts.zip(ids).collect()
}

#[test]
#[ignore = "needs GGUF_SHARED"]
fn published_vocabularies_encode_as_llama_cpp_does() {
    let mut failures = Vec::new();
    for vocabulary in [
        "llama-spm",
        "llama-bpe",
        "phi-3",
        "bert-bge",
        "deepseek-llm",
        "falcon",
        "gemma-4",
        "gpt-2",
        "qwen2",
        "starcoder",
    ] {
        let reader = Reader::open(&shared(&format!("vocab/ggml-vocab-{vocabulary}.gguf"))).expect("opens");
        let tokenizer = Tokenizer::from_gguf(&reader).unwrap_or_else(|e| panic!("{vocabulary}: {e}"));
        let cases = cases(vocabulary);
        assert!(cases.len() > 40, "{vocabulary}: {} cases", cases.len());
        for (text, expected) in cases {
            let found = tokenizer.encode(&text, EncodeOptions::default()).expect("encodes");
            if found != expected {
                failures.push(format!("{vocabulary}: {text:?}: {found:?}, not {expected:?}"));
            }
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

/// Wherever llama.cpp's converter names a pre-tokenizer, this one finds the same by what it does.
#[test]
#[ignore = "needs GGUF_SHARED"]
fn pre_tokenizers_are_recognized_as_llama_cpp_names_them() {
    let mut compared = 0;
    for entry in std::fs::read_dir(shared("goldens/arch")).expect("goldens") {
        let path = entry.expect("an entry").path();
        if !path.join("tokenizer.json").exists() {
            continue;
        }
        let folder = Folder::open(&path).expect("a folder");
        let tokenizer = gguf_toolkit::convert::tokenizer(&folder, None).unwrap_or_else(|e| panic!("{e}"));
        let reference = path.join("reference.json");
        if reference.exists() {
            let expected = json(&reference)["kv"]["tokenizer.ggml.pre"]["value"].clone();
            assert_eq!(expected, tokenizer.vocab().pre.as_str(), "{}", path.display());
            compared += 1;
        }
    }
    assert!(compared > 25, "{compared} compared");
}
