//! Embedding models: bytes against llama.cpp's converter, tokens, hidden states and embeddings against transformers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gguf_toolkit::cpu::{KvType, Part, Rows, Run, SequenceOptions};
use gguf_toolkit::engine::{Batcher, BatcherOptions, Embedder, EmbeddingOptions, Request, Session, SessionOptions};
use gguf_toolkit::gguf::Reader;
use gguf_toolkit::imatrix::{self, Collector, ImportanceMatrix};
use gguf_toolkit::kernels::Pool;
use gguf_toolkit::model::Model;
use gguf_toolkit::network::Pooling;
use gguf_toolkit::perplexity::{self, perplexity};
use gguf_toolkit::tokenizer::EncodeOptions;
use serde_json::Value as Json;

use super::convert::{assert_as_reference, convert};
use super::folder::Folder;
use super::goldens::{checkpoint_of, expected_floats, safetensors};
use super::shared::{json, testdata};

/// Largest difference of a hidden state.
const TOLERANCE: f32 = 0.01;

fn goldens() -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(testdata("encoders")).expect("goldens");
    let entries = entries.map(|entry| entry.expect("an entry"));
    let mut all: Vec<_> =
        entries.map(|entry| (entry.file_name().into_string().expect("a name"), entry.path())).collect();
    all.sort();
    assert!(!all.is_empty());
    all
}

fn worst(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn check(folder: &Folder, name: &str, golden: &Path) {
    let from = checkpoint_of(folder, golden, name);
    let reader = convert(&from, &folder.path(&format!("{name}.gguf")));
    assert_as_reference(&reader, &json(&golden.join("reference.json")), name);
    let texts = json(&golden.join("texts.json"));
    let list = texts["texts"].as_array().expect("texts");
    let ids = |text: &Json| -> Vec<u32> {
        text["ids"]
            .as_array()
            .expect("ids")
            .iter()
            .map(|id| u32::try_from(id.as_u64().expect("id")).expect("an id"))
            .collect()
    };
    let tokens: Vec<Vec<u32>> = list.iter().map(ids).collect();
    let model = Arc::new(Model::from_reader(&reader).unwrap_or_else(|e| panic!("{name}: {e}")));
    check_tokens(name, &model, list, &tokens);
    let hidden = expected_floats(golden, "hidden");
    let pool = Arc::new(Pool::new(2));
    // Alone, and all texts in one pass.
    let alone: Vec<f32> = tokens.iter().flat_map(|text| states(&model, &pool, &[text])).collect();
    let difference = worst(&alone, &hidden);
    println!("{name}: hidden {difference}");
    assert!(difference <= TOLERANCE, "{name}: {difference} from the expected hidden states");
    let all: Vec<&Vec<u32>> = tokens.iter().collect();
    assert!(states(&model, &pool, &all) == alone, "{name}: texts in one pass");
    for threads in [1, 3] {
        assert!(states(&model, &Pool::new(threads), &all) == alone, "{name}: {threads} threads");
    }
    check_embeddings(name, &model, &pool, &tokens, &texts, &expected_floats(golden, "embeddings"));
}

/// Hidden states of texts in one pass.
fn states(model: &Model, pool: &Pool, texts: &[&Vec<u32>]) -> Vec<f32> {
    let sequence = |text: &&Vec<u32>| {
        model.decoder().sequence(SequenceOptions { kv_type: KvType::F32, context_length: text.len() })
    };
    let mut sequences: Vec<_> = texts.iter().map(sequence).collect();
    let parts = sequences.iter_mut().zip(texts);
    let mut parts: Vec<_> = parts.map(|(sequence, tokens)| Part { sequence, tokens, logits: Rows::From(0) }).collect();
    model.decoder().normed(Run::new(pool), &mut parts)
}

fn check_tokens(name: &str, model: &Model, texts: &[Json], tokens: &[Vec<u32>]) {
    for (text, expected) in texts.iter().zip(tokens) {
        let options = EncodeOptions { add_special: true, parse_special: false };
        let mut found = model.tokenizer().encode(text["text"].as_str().expect("a text"), options).expect("tokens");
        // A decoder's file that does not say how texts end.
        if name == "qwen3embed" {
            let end = model.metadata().get("tokenizer.ggml.eos_token_id").and_then(|id| id.as_u64());
            found.extend(end.map(|id| u32::try_from(id).expect("an id")));
        }
        // The golden's sentencepiece model puts a space before texts. Gemma's own do not, and no file of theirs says so.
        if name == "embeddinggemma" {
            assert_eq!(model.tokenizer().piece(expected[1]), b" ", "{name}");
            found.insert(1, expected[1]);
        }
        assert_eq!(&found, expected, "{name}: {text}");
    }
}

fn check_embeddings(
    name: &str,
    model: &Arc<Model>,
    pool: &Arc<Pool>,
    tokens: &[Vec<u32>],
    texts: &Json,
    expected: &[f32],
) {
    let embedder = Embedder::new(model.clone(), pool.clone(), EmbeddingOptions::default()).expect("an embedder");
    let pooling = match texts["pooling"].as_str() {
        Some("mean") => Pooling::Mean,
        Some("cls") => Pooling::Cls,
        Some("last") => Pooling::Last,
        other => panic!("{other:?}"),
    };
    assert_eq!(embedder.pooling(), pooling, "{name}");
    let found = embedder.embed(tokens).expect("embeddings");
    let difference = worst(&found.concat(), expected);
    println!("{name}: embeddings {difference}");
    assert!(difference <= 0.001, "{name}: {difference} from the expected embeddings");
    let plain = EmbeddingOptions { pooling: Some(Pooling::None), normalize: false, ..EmbeddingOptions::default() };
    let each = Embedder::new(model.clone(), pool.clone(), plain).expect("an embedder").embed(tokens).expect("states");
    for (each, tokens) in each.iter().zip(tokens) {
        assert_eq!(each.len(), tokens.len() * embedder.length(), "{name}: a state for each token");
    }
}

#[test]
fn every_encoder_converts_as_with_the_reference_and_computes_the_expected_states() {
    let folder = Folder::new("encoders");
    let mut failures = Vec::new();
    for (name, golden) in goldens() {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&folder, &name, &golden)));
        if result.is_err() {
            failures.push(name);
        }
    }
    assert!(failures.is_empty(), "{} encoders differ: {failures:?}", failures.len());
}

#[test]
fn an_encoder_predicts_no_tokens() {
    let folder = Folder::new("encoders-logits");
    let from = checkpoint_of(&folder, &testdata("encoders").join("bert"), "bert");
    let reader: Reader = convert(&from, &folder.path("bert.gguf"));
    let model = Arc::new(Model::from_reader(&reader).expect("a model"));
    assert!(!model.decoder().has_logits() && !model.decoder().is_causal());
    let pool = Arc::new(Pool::new(1));
    let mut session = Session::new(model.clone(), pool.clone(), SessionOptions::default());
    let batcher = Batcher::new(model.clone(), pool.clone(), BatcherOptions::default());
    let text = "a text ".repeat(100);
    let perplexity = perplexity(&model, &pool, &text, &perplexity::Options::default(), &mut |_| true).map(drop);
    let (base, options) = (ImportanceMatrix::new(512), imatrix::Options::default());
    let collector = Collector::new(&model, &pool, reader.tensors(), (&text, None), &base, options);
    for error in [
        session.evaluate(&[2, 3], &mut |_| true).expect_err("no logits").to_string(),
        batcher.submit(Request { prompt: vec![2, 3], ..Request::default() }).err().expect("no logits").to_string(),
        perplexity.expect_err("no logits").to_string(),
        collector.err().expect("no logits").to_string(),
    ] {
        assert_eq!(error, "the model makes embeddings and does not predict tokens");
    }
}

/// `EmbeddingGemma` has two linear maps behind the pooling, in folders of their own.
#[test]
fn linear_maps_behind_the_pooling_are_applied() {
    let folder = Folder::new("encoders-dense");
    let golden = testdata("encoders").join("embeddinggemma");
    let from = checkpoint_of(&folder, &golden, "embeddinggemma");
    let mut modules = json(&golden.join("modules.json"));
    let mut maps = Vec::new();
    for (name, rows, cols) in [("2_Dense", 96usize, 64usize), ("3_Dense", 64, 96)] {
        let config = serde_json::json!({ "in_features": cols, "out_features": rows, "bias": false,
            "activation_function": "torch.nn.modules.linear.Identity" });
        std::fs::create_dir(from.join(name)).expect("a folder");
        std::fs::write(from.join(name).join("config.json"), config.to_string()).expect("written");
        let shapes = serde_json::json!({ "linear.weight": [rows, cols] });
        let bytes = safetensors(shapes.as_object().expect("shapes"), false);
        let numbers = bytes[bytes.len() - 2 * rows * cols..].chunks_exact(2);
        let numbers: Vec<f64> = numbers.map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f64()).collect();
        maps.push((cols, numbers));
        std::fs::write(from.join(name).join("model.safetensors"), bytes).expect("written");
        let module =
            serde_json::json!({ "idx": 9, "name": "9", "path": name, "type": "sentence_transformers.models.Dense" });
        modules.as_array_mut().expect("a list").push(module);
    }
    std::fs::write(from.join("modules.json"), modules.to_string()).expect("written");
    let reader = convert(&from, &folder.path("dense.gguf"));
    for (key, expected) in [("dense_2_feat_in", 64), ("dense_2_feat_out", 96), ("dense_3_feat_in", 96)] {
        let found = reader.metadata().get(&format!("gemma-embedding.{key}")).and_then(|n| n.as_u64());
        assert_eq!(found, Some(expected), "{key}");
    }
    let model = Arc::new(Model::from_reader(&reader).expect("a model"));
    let embedder = Embedder::new(model, Arc::new(Pool::new(1)), EmbeddingOptions::default()).expect("an embedder");
    let hidden = expected_floats(&golden, "hidden");
    let texts = json(&golden.join("texts.json"));
    let mut rest = &hidden[..];
    for text in texts["texts"].as_array().expect("texts") {
        let ids: Vec<u32> = serde_json::from_value(text["ids"].clone()).expect("ids");
        let (own, others) = rest.split_at(64 * ids.len());
        rest = others;
        let mean: Vec<f64> = (0..64)
            .map(|i| own.iter().skip(i).step_by(64).map(|x| f64::from(*x)).sum::<f64>() / ids.len() as f64)
            .collect();
        let out = maps.iter().fold(mean, |x, (cols, map)| {
            map.chunks_exact(*cols).map(|row| row.iter().zip(&x).map(|(a, b)| a * b).sum()).collect()
        });
        let length = out.iter().map(|x| x * x).sum::<f64>().sqrt();
        #[allow(clippy::cast_possible_truncation, reason = "what is compared with is in single precision")]
        let expected: Vec<f32> = out.iter().map(|x| (x / length) as f32).collect();
        let difference = worst(&embedder.embed(&[&ids]).expect("a vector")[0], &expected);
        assert!(difference < 0.001, "{difference}");
    }
    // Other families have no place for them.
    let bert = checkpoint_of(&folder, &testdata("encoders").join("bert"), "bert");
    super::goldens::copy(&from.join("2_Dense"), &bert.join("2_Dense"));
    std::fs::copy(from.join("modules.json"), bert.join("modules.json")).expect("copied");
    super::goldens::copy(&from.join("3_Dense"), &bert.join("3_Dense"));
    let checkpoint = gguf_toolkit::convert::Folder::open(&bert).expect("a folder");
    let error =
        gguf_toolkit::convert::Conversion::new(checkpoint, &gguf_toolkit::convert::Options::default()).map(drop);
    let error = error.expect_err("refused").to_string();
    assert!(error.contains("modules.json") && error.contains("2_Dense"), "{error}");
}
