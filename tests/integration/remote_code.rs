//! Families whose checkpoints bring their own code: files of them, made here, compute what llama.cpp computes
//! (`testdata/remote_code.json`, by `tests/judges/left_out_keys.py --files`).

use std::path::Path;

use gguf_toolkit::TensorType;
use gguf_toolkit::arch::{Hparams, by_name};
use gguf_toolkit::convert::OutputType;
use gguf_toolkit::gguf::{Metadata, Value};
use serde_json::Value as Json;

use super::foreign_files::{File, Tensor};
use super::goldens::weights;
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
    ("codeshell", "codeshell", &[("attention.layer_norm_epsilon", Float(1e-5))]),
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
    let biases = if *architecture == "codeshell" { ".bias" } else { "attn_qkv.bias" };
    let optional = |name: &str| name == "output.weight" || name.ends_with(biases);
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
    let judged = json(&testdata("remote_code.json"));
    let numbers = |value: &Json| -> Vec<f64> {
        value.as_array().expect("a list").iter().map(|n| n.as_f64().expect("a number")).collect()
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small counts")]
    let counts = |name: &str| -> Vec<u32> { numbers(&judged[name]).into_iter().map(|n| n as u32).collect() };
    let (tokens, positions, chosen) = (counts("tokens"), counts("positions"), counts("chosen"));
    let mut failures = Vec::new();
    for case in CASES {
        let logits = file(case).logits(&tokens).unwrap_or_else(|e| panic!("{}: {e}", case.0));
        let vocab = logits.len() / tokens.len();
        let found = positions.iter().flat_map(|p| chosen.iter().map(move |c| *p as usize * vocab + *c as usize));
        let expected = numbers(&judged["files"][case.0]);
        let distance = found.zip(&expected).map(|(i, expected)| (f64::from(logits[i]) - expected).abs());
        let distance = distance.fold(0.0, f64::max);
        if expected.len() != positions.len() * chosen.len() || distance > 2e-3 {
            failures.push(format!("{}: {distance} from llama.cpp", case.0));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
