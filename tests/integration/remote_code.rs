//! Families whose checkpoints bring their own code: files of them, made here, compute what llama.cpp computes
//! (`testdata/remote_code.json`, by `tests/judges/left_out_keys.py --files`). Their checkpoints (`testdata/remote_code`) convert to
//! the bytes that llama.cpp's converter writes, and compute what llama.cpp computes with its converter's files.

use std::path::Path;

use gguf_toolkit::TensorType;
use gguf_toolkit::arch::{Hparams, by_name};
use gguf_toolkit::convert::OutputType;
use gguf_toolkit::gguf::{Metadata, Value};
use serde_json::Value as Json;

use super::convert::{assert_as_reference, convert};
use super::folder::Folder;
use super::foreign_files::{File, Tensor};
use super::goldens::{checkpoint_of, weights};
use super::shared::{json, testdata};

/// A file's name, its architecture, and what it has other than a small Llama 3.
pub(crate) type Case = (&'static str, &'static str, &'static [(&'static str, Number)]);

#[derive(Clone, Copy)]
pub(crate) enum Number {
    Count(u32),
    Float(f32),
}
use Number::{Count, Float};

const EXPERTS: &[(&str, Number)] = &[
    ("leading_dense_block_count", Count(1)),
    ("expert_count", Count(6)),
    ("expert_used_count", Count(2)),
    ("expert_feed_forward_length", Count(32)),
    ("expert_shared_count", Count(1)),
    ("expert_weights_scale", Float(1.5)),
];

pub(crate) const CASES: &[Case] = &[
    ("internlm2", "internlm2", &[]),
    ("xverse", "xverse", &[]),
    ("exaone", "exaone", &[]),
    ("baichuan7b", "baichuan", &[("block_count", Count(32)), ("attention.head_count_kv", Count(4))]),
    ("baichuan13b", "baichuan", &[("block_count", Count(40)), ("attention.head_count_kv", Count(4))]),
    (
        "minicpm",
        "minicpm",
        &[("embedding_scale", Float(3.0)), ("residual_scale", Float(0.7)), ("logit_scale", Float(2.5))],
    ),
    ("minicpm2024", "minicpm", &[]),
    ("orion", "orion", &[("attention.layer_norm_epsilon", Float(1e-5))]),
    ("qwen", "qwen", &[("attention.head_count_kv", Count(4))]),
    ("deepseek", "deepseek", EXPERTS),
    ("bailingmoe", "bailingmoe", EXPERTS),
    ("refact", "refact", &[("attention.head_count_kv", Count(1))]),
];

/// A file with the tokenizer of the golden `llama3`, and tensors as the family's table has them.
fn file((_, architecture, changes): &Case) -> File {
    let llama = File::golden("llama3", OutputType::F32);
    let renamed = llama.metadata.iter().map(|(key, value)| {
        let key = key.strip_prefix("llama.").map_or_else(|| key.to_owned(), |key| format!("{architecture}.{key}"));
        (key, value.clone())
    });
    let mut metadata: Metadata = renamed.collect();
    metadata.set("general.architecture", *architecture);
    for (key, number) in *changes {
        let value = match number {
            Count(n) => Value::U32(*n),
            Float(x) => Value::F32(*x),
        };
        metadata.set(format!("{architecture}.{key}"), value);
    }
    let hparams = Hparams::from_metadata(&metadata).expect("hyper-parameters");
    let rules = by_name(architecture).expect("a family").tensors(&hparams).expect("rules");
    let optional = |name: &str| name == "output.weight" || name.ends_with("attn_qkv.bias");
    let there = rules.iter().filter(|rule| rule.required || optional(&rule.name));
    let tensors = there.map(|rule| {
        let dims: Vec<usize> = rule.shape.iter().rev().copied().collect();
        let numbers = weights(&rule.name, &dims, false).map(f32::from);
        Tensor {
            name: rule.name.clone(),
            shape: rule.shape.iter().map(|&n| n as u64).collect(),
            ty: TensorType::F32,
            data: numbers.flat_map(f32::to_le_bytes).collect(),
        }
    });
    File { metadata, tensors: tensors.collect() }
}

#[test]
#[ignore = "writes to the folder that GGUF_CHECKPOINTS names"]
fn remote_code_files_are_written_for_judges() {
    let to = std::env::var_os("GGUF_CHECKPOINTS").expect("GGUF_CHECKPOINTS names no folder");
    for case in CASES {
        std::fs::write(Path::new(&to).join(format!("{}.gguf", case.0)), file(case).bytes()).expect("written");
    }
}

#[test]
fn files_compute_what_llama_cpp_computes() {
    let cases: Vec<(String, File)> = CASES.iter().map(|case| (case.0.to_owned(), file(case))).collect();
    assert_logits("files", &cases);
}

/// Fails unless these files have the logits that llama.cpp computes with those of the same names in the list `of`.
fn assert_logits(of: &str, cases: &[(String, File)]) {
    let judged = json(&testdata("remote_code.json"));
    let numbers = |value: &Json| -> Vec<f64> {
        value.as_array().expect("a list").iter().map(|n| n.as_f64().expect("a number")).collect()
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small counts")]
    let counts = |name: &str| -> Vec<u32> { numbers(&judged[name]).into_iter().map(|n| n as u32).collect() };
    let (tokens, positions, chosen) = (counts("tokens"), counts("positions"), counts("chosen"));
    let mut failures = Vec::new();
    assert_eq!(judged[of].as_object().expect("files").len(), cases.len(), "{of}");
    for (name, file) in cases {
        let logits = file.logits(&tokens).unwrap_or_else(|e| panic!("{name}: {e}"));
        let vocab = logits.len() / tokens.len();
        let found = positions.iter().flat_map(|p| chosen.iter().map(move |c| *p as usize * vocab + *c as usize));
        let expected = numbers(&judged[of][name]);
        let distance = found.zip(&expected).map(|(i, expected)| (f64::from(logits[i]) - expected).abs());
        let distance = distance.fold(0.0, f64::max);
        if expected.len() != positions.len() * chosen.len() || distance > 2e-3 {
            failures.push(format!("{name}: {distance} from llama.cpp"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The checkpoints of `testdata/remote_code`.
pub(crate) fn checkpoints() -> Vec<String> {
    let entries = std::fs::read_dir(testdata("remote_code")).expect("goldens");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect();
    names.sort();
    names
}

#[test]
fn checkpoints_convert_as_with_the_reference() {
    let folder = Folder::new("remote-code");
    let mut failures = Vec::new();
    for name in checkpoints() {
        let from = testdata("remote_code").join(&name);
        let (made, to) = (checkpoint_of(&folder, &from, &name), folder.path(&format!("{name}.gguf")));
        let result = std::panic::catch_unwind(|| {
            assert_as_reference(&convert(&made, &to), &json(&from.join("reference.json")), &name);
        });
        if result.is_err() {
            failures.push(name);
        }
    }
    assert!(failures.is_empty(), "{} checkpoints differ: {failures:?}", failures.len());
}

#[test]
fn checkpoints_compute_what_llama_cpp_computes() {
    let folder = Folder::new("remote-code-logits");
    let cases = checkpoints().into_iter().map(|name| {
        let made = checkpoint_of(&folder, &testdata("remote_code").join(&name), &name);
        (name, File::of(&made, OutputType::F32))
    });
    assert_logits("checkpoints", &cases.collect::<Vec<_>>());
}
