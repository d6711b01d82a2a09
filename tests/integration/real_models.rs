//! Two small published models, as llama.cpp runs them. `tests/judges/real_models.py` fetches them into the folder that
//! `GGUF_REAL_MODELS` names, and has made `testdata/real_models.json`; the text is in the folder that `GGUF_SHARED` names.

use std::path::PathBuf;
use std::sync::Arc;

use gguf_toolkit::cpu::KvType;
use gguf_toolkit::engine::{Session, SessionOptions};
use gguf_toolkit::gguf::Reader;
use gguf_toolkit::kernels::Pool;
use gguf_toolkit::model::Model;
use gguf_toolkit::perplexity::{Options, perplexity};
use gguf_toolkit::quantize::{self, FileType, GgufSource, Plan, RunOptions, run};
use gguf_toolkit::tokenizer::EncodeOptions;

use super::folder::Folder;
use super::shared::{json, shared, testdata};

const SMOLLM2: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
const GEMMA3: &str = "gemma-3-270m-q4_k_m.gguf";

fn path(name: &str) -> PathBuf {
    let folder = std::env::var_os("GGUF_REAL_MODELS").expect("GGUF_REAL_MODELS names no folder");
    PathBuf::from(folder).join(name)
}

/// The first bytes of a published text.
fn text() -> String {
    let text = std::fs::read_to_string(shared("text/wikitext-2-test.txt")).expect("a text");
    let end = (0..=60_000).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    text[..end].to_owned()
}

#[test]
#[ignore = "needs GGUF_REAL_MODELS and GGUF_SHARED"]
fn perplexities_are_those_of_llama_perplexity() {
    let (text, pool) = (text(), Pool::new(2));
    // llama-perplexity -c 512 --chunks 8.
    for (name, expected) in [(SMOLLM2, 21.632), (GEMMA3, 15.192)] {
        let model = Model::load(&path(name)).expect("loaded");
        let options = Options { context: 512, chunks: Some(8), ..Options::default() };
        let outcome =
            perplexity(&model, &pool, &text, &options, &mut |_| true).expect("measured").expect("not stopped");
        println!("{name}: {:.4}, expected {expected}", outcome.perplexity);
        assert!((outcome.perplexity / expected - 1.0).abs() <= 0.003, "{name}: {}", outcome.perplexity);
    }
}

/// The model with its weights decoded to F32, so that nothing is rounded to eight bits on the way.
fn decoded(name: &str, folder: &Folder) -> Arc<Model> {
    let reader = Reader::open(&path(name)).expect("a file");
    let source = GgufSource::new(&reader);
    let options = quantize::Options { allow_requantize: true, ..quantize::Options::new(FileType::F32) };
    let to = folder.path(name);
    run(&source, &Plan::new(&source, &options).expect("a plan"), &to, &RunOptions::default(), &|_| true)
        .expect("written");
    Arc::new(Model::load(&to).expect("loaded"))
}

/// How far rounding the input of products to eight bits may move two logits apart.
const ROUNDING: f32 = 0.3;

/// Both programs round the input of products to eight bits, each in its own way. Tokens may differ only where products
/// without rounding have the two next to each other.
#[test]
#[ignore = "needs GGUF_REAL_MODELS"]
fn greedy_tokens_are_those_of_llama_cpp() {
    let judged = json(&testdata("real_models.json"));
    let ids = |value: &serde_json::Value| -> Vec<u32> {
        value
            .as_array()
            .expect("tokens")
            .iter()
            .map(|id| u32::try_from(id.as_u64().expect("an id")).expect("an id"))
            .collect()
    };
    let folder = Folder::new("real-models-exact");
    let logits = |model: &Arc<Model>, tokens: &[u32]| {
        let options = SessionOptions { context_length: Some(256), kv_type: KvType::F32, ..SessionOptions::default() };
        Session::new(model.clone(), Arc::new(Pool::new(2)), options).evaluate_all(tokens).expect("fits")
    };
    let mut failures = Vec::new();
    for name in [SMOLLM2, GEMMA3] {
        let model = Arc::new(Model::load(&path(name)).expect("loaded"));
        let exact = decoded(name, &folder);
        let vocab = model.tokenizer().vocab_size();
        for case in judged[name].as_array().expect("cases") {
            let prompt = case["prompt"].as_str().expect("a prompt");
            let tokens = ids(&case["tokens"]);
            let found = model.tokenizer().encode(prompt, EncodeOptions { add_special: true, parse_special: false });
            assert_eq!(found.expect("encodes"), tokens, "{name}: {prompt}");
            let greedy = ids(&case["greedy"]);
            let all: Vec<u32> = tokens.iter().chain(&greedy).copied().collect();
            let (found, exact) = (logits(&model, &all), logits(&exact, &all));
            let rows = found.chunks_exact(vocab).zip(exact.chunks_exact(vocab)).skip(tokens.len() - 1);
            let squares = found.iter().zip(&exact).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
            println!("{name}: {prompt:?}: logits {:.3} from exact ones (RMS)", (squares / found.len() as f64).sqrt());
            let margins = case["margins"].as_array().expect("margins");
            for (i, (((row, exact), &expected), margin)) in rows.zip(&greedy).zip(margins).enumerate() {
                let best = (0..vocab).max_by(|&a, &b| row[a].total_cmp(&row[b])).expect("logits");
                let expected = expected as usize;
                if margin.as_f64().expect("a margin") > 0.1 && best != expected {
                    let by = exact[expected] - exact[best];
                    println!("{name}: {prompt:?}, step {i}: {best}, not {expected} ({margin} ahead; exactly {by})");
                    if by > ROUNDING {
                        failures.push(format!("{name}: {prompt:?}: step {i}: {best}, not {expected}"));
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
#[ignore = "needs GGUF_REAL_MODELS and GGUF_SHARED"]
fn texts_lead_back_from_their_tokens() {
    let text = text();
    for name in [SMOLLM2, GEMMA3] {
        let reader = Reader::open(&path(name)).expect("a file");
        let tokenizer = gguf_toolkit::tokenizer::Tokenizer::from_gguf(&reader).expect("a tokenizer");
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let line = line.trim();
            let ids =
                tokenizer.encode(line, EncodeOptions { add_special: false, parse_special: false }).expect("encodes");
            assert_eq!(tokenizer.decode(&ids, false).trim_start(), line, "{name}");
        }
    }
}

#[test]
#[ignore = "needs GGUF_REAL_MODELS; takes minutes"]
fn every_type_can_be_made_of_them_and_runs() {
    let folder = Folder::new("real-models");
    let reader = Reader::open(&path(SMOLLM2)).expect("a file");
    let source = GgufSource::new(&reader);
    for &file_type in FileType::ALL.iter().filter(|ty| ty.is_writable()) {
        let to = folder.path(file_type.name());
        let options = quantize::Options { allow_requantize: true, ..quantize::Options::new(file_type) };
        let plan = Plan::new(&source, &options).expect("a plan");
        if plan.check_importance(&source).is_err() {
            continue;
        }
        run(&source, &plan, &to, &RunOptions::default(), &|_| true).expect("written");
        let model = Arc::new(Model::load(&to).expect("loaded"));
        let mut session = Session::new(model, Arc::new(Pool::new(2)), SessionOptions::default());
        let logits = session.evaluate_all(&[504, 3575, 282, 4649, 314]).expect("fits");
        assert!(logits.iter().all(|logit| logit.is_finite()), "{file_type}");
    }
}
