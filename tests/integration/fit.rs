//! What `gguf inspect --fit` says of memory, against what the engine holds; and what it prints.

use std::fs;

use gguf_toolkit::cpu::{KvType, Part, Rows, Run, SequenceOptions};
use gguf_toolkit::gguf::Reader;
use gguf_toolkit::inspect::{Fit, Needs, Verdict};
use gguf_toolkit::kernels::Pool;
use gguf_toolkit::model::Model;
use serde_json::Value as Json;

use super::folder::Folder;
use super::logits;
use super::quantize_command::{gguf, storyteller, text};
use super::shared::testdata;

/// Tokens of a sequence: more than a page of the cache, and than a window.
const TOKENS: usize = 1100;
/// Tokens of a forward pass of a decoder.
const STEP: usize = 300;

/// Bytes that a sequence holds once it has taken `tokens` tokens.
fn held(model: &Model, pool: &Pool, tokens: usize, kv_type: KvType) -> usize {
    let decoder = model.decoder();
    let mut sequence = decoder.sequence(SequenceOptions { kv_type, context_length: tokens });
    let tokens = vec![1; tokens];
    let step = if decoder.is_causal() { STEP } else { tokens.len() };
    for tokens in tokens.chunks(step) {
        let mut parts = [Part { sequence: &mut sequence, tokens, logits: Rows::None }];
        decoder.hidden(Run::new(pool), &mut parts);
    }
    sequence.bytes()
}

#[test]
fn the_cache_of_every_family_is_what_the_header_tells() {
    let folder = Folder::new("fit-families");
    let pool = Pool::new(2);
    let mut names: Vec<String> = fs::read_dir(testdata("arch"))
        .expect("a folder")
        .filter_map(|entry| entry.expect("an entry").file_name().into_string().ok())
        .collect();
    names.sort();
    for name in &names {
        let model = logits::load(&folder, name);
        let fit = Fit::of(&Reader::open(&folder.path(&format!("{name}.gguf"))).expect("opens")).expect("runs");
        let tokens = model.decoder().learned_positions().map_or(TOKENS, |limit| limit.min(TOKENS));
        for kv_type in [KvType::F16, KvType::Q8_0] {
            let needs = fit.needs(tokens, kv_type, 2);
            let found = held(&model, &pool, tokens, kv_type);
            assert_eq!(needs.cache, found as u64, "{name} with {kv_type:?}");
            assert_eq!(
                needs.weights,
                model.tensors().iter().map(|(_, m)| m.bytes().len() as u64).sum::<u64>(),
                "{name}"
            );
        }
    }
    assert!(names.len() > 40, "{} families", names.len());
}

#[test]
fn long_contexts_take_what_they_take() {
    let folder = Folder::new("fit-contexts");
    let fit = Fit::of(&Reader::open(&storyteller(&folder)).expect("opens")).expect("runs");
    let cache = |context, kv_type| fit.needs(context, kv_type, 1).cache;
    assert_eq!(cache(8192, KvType::F16), 2 * cache(4096, KvType::F16));
    assert_eq!(cache(4096, KvType::F32), 2 * cache(4096, KvType::F16));
    assert!(cache(4096, KvType::Q8_0) < cache(4096, KvType::F16) * 6 / 10);
    let needs = Needs { weights: 50, cache: 30, buffers: 8, program: 4 };
    assert_eq!([100, 92, 91].map(|available| needs.verdict(available).name()), ["tight", "tight", "won't fit"]);
    assert_eq!(needs.verdict(200), Verdict::Fits);
}

#[test]
fn the_command_tells_memory_and_speed() {
    let folder = Folder::new("fit-command");
    let path = storyteller(&folder);
    let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
    let run = |more: &[&str]| gguf(&[&["inspect", name, "--fit"], more].concat(), folder.root());
    let output = run(&["--ctx", "512,4096", "--kv-type", "f16,q8_0"]);
    let screen = text(&output.stdout);
    let lines: Vec<&str> = screen.lines().collect();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert!(lines[1].starts_with("  memory        ") && lines[1].ends_with(" GB/s"), "{screen}");
    assert!(lines[2].starts_with("  speed         ") && lines[2].contains(" tokens/s of a prompt of 512"), "{screen}");
    let rows: Vec<Vec<&str>> = lines[5..9].iter().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        rows.iter().map(|row| (row[0], row[1])).collect::<Vec<_>>(),
        [("512", "f16"), ("512", "q8_0"), ("4096", "f16"), ("4096", "q8_0")]
    );
    assert_eq!(lines.last(), Some(&"The model was trained on 1024 tokens."));
    let json: Json = serde_json::from_slice(&run(&["--json", "--ctx", "1024"]).stdout).expect("JSON");
    let fit = &json[0]["fit"];
    let number = |value: &Json| value.as_f64().expect("a number");
    assert!(number(&fit["bytes_read_per_second"]) > 0.0 && number(&fit["answer_tokens_per_second"]) > 0.0, "{fit}");
    let row = &fit["contexts"][0];
    let parts = ["weight_bytes", "cache_bytes", "buffer_bytes", "program_bytes"].map(|name| number(&row[name]));
    assert_eq!(parts.iter().sum::<f64>(), number(&row["total_bytes"]));
    assert_eq!((&row["context"], &row["kv_type"], &row["verdict"]), (&1024.into(), &"f16".into(), &"fits".into()));
    let refused = |args: &[&str]| text(&gguf(args, folder.root()).stderr).to_owned();
    assert!(refused(&["inspect", name, "--ctx", "5"]).contains("--fit"));
    assert!(refused(&["inspect", name, "--fit", "--ctx", "0"]).contains("a number of tokens from 1 to 134217728"));
}
