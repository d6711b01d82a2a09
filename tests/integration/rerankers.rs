//! Rerankers: tiny encoders and a decoder with a classification head, whose scores `tests/judges/rerankers.py` computes.

use std::path::PathBuf;
use std::sync::Arc;

use gguf_toolkit::cpu::KvType;
use gguf_toolkit::engine::{Embedder, EmbeddingOptions, Pair, Reranker};
use gguf_toolkit::gguf::{Reader, Value};
use gguf_toolkit::kernels::Pool;
use gguf_toolkit::model::Model;
use gguf_toolkit::network::Pooling;
use serde_json::{Map, Value as Json, json};

use super::convert::convert;
use super::folder::Folder;
use super::goldens::{copy, safetensors};
use super::quantize_command::{gguf, text};
#[cfg(feature = "serve")]
use super::served::Served;
use super::shared::{json as read_json, testdata};

/// Largest difference of a score: weights in half precision are multiplied with rounded inputs in some products.
const TOLERANCE: f64 = 0.005;

fn golden() -> Json {
    read_json(&testdata("rerankers.json"))
}

fn texts(list: &Json) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|text| text.as_str().expect("a text")).collect()
}

fn floats(list: &Json) -> Vec<f64> {
    list.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect()
}

/// The checkpoint of a reranker: an encoder's with other settings, a head, and tokens of other names.
fn checkpoint(folder: &Folder, name: &str, model: &Json) -> PathBuf {
    let from = testdata("encoders").join(model["encoder"].as_str().expect("an encoder"));
    let to = folder.path(name);
    copy(&from, &to);
    for file in ["modules.json", "texts.json", "expected.safetensors", "reference.json"] {
        std::fs::remove_file(to.join(file)).expect("removed");
    }
    let mut config = read_json(&from.join("config.json"));
    let own = model["config"].as_object().expect("settings").clone();
    config.as_object_mut().expect("an object").extend(own);
    std::fs::write(to.join("config.json"), config.to_string()).expect("written");
    let prefix = model["prefix"].as_str().expect("a prefix");
    let shapes = read_json(&from.join("tensors.json"));
    let shapes = shapes.as_object().expect("shapes").iter().map(|(name, shape)| (format!("{prefix}{name}"), shape));
    let mut tensors: Map<String, Json> = shapes.map(|(name, shape)| (name, shape.clone())).collect();
    tensors.extend(model["tensors"].as_object().expect("shapes").clone());
    std::fs::write(to.join("model.safetensors"), safetensors(&tensors, false)).expect("written");
    let path = to.join("tokenizer.json");
    let mut tokenizer = std::fs::read_to_string(&path).expect("a tokenizer");
    for (old, new) in model["tokens"].as_object().expect("tokens") {
        tokenizer = tokenizer.replace(&format!("\"{old}\":"), &format!("{new}:"));
    }
    std::fs::write(path, tokenizer).expect("written");
    to
}

/// The reranker `name` as a file, `NAME.gguf`.
pub(crate) fn converted(folder: &Folder, name: &str) -> Reader {
    let from = checkpoint(folder, name, &golden()["models"][name]);
    convert(&from, &folder.path(&format!("{name}.gguf")))
}

fn worst(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
}

#[test]
fn every_reranker_scores_as_expected_alone_and_together() {
    let folder = Folder::new("rerankers");
    let golden = golden();
    let query = golden["query"].as_str().expect("a query");
    let documents = texts(&golden["documents"]);
    for (name, expected) in golden["models"].as_object().expect("models") {
        let reader = converted(&folder, name);
        let model = Arc::new(Model::from_reader(&reader).unwrap_or_else(|e| panic!("{name}: {e}")));
        let pool = Arc::new(Pool::new(2));
        let reranker = Reranker::new(model.clone(), pool.clone(), KvType::F32).expect("a reranker");
        let pairs: Vec<Pair> = documents.iter().map(|text| reranker.pair(query, text).expect("a pair")).collect();
        for (pair, ids) in pairs.iter().zip(expected["ids"].as_array().expect("ids")) {
            assert_eq!(&json!(pair.tokens), ids, "{name}: tokens");
        }
        let scores = reranker.scores(&pairs, &|| false).expect("scores");
        let difference = worst(&scores, &floats(&expected["scores"]));
        println!("{name}: {scores:?}, {difference} from the expected");
        assert!(difference < TOLERANCE, "{name}: {scores:?}, {difference} from the expected");
        for (pair, score) in pairs.iter().zip(&scores) {
            let alone = reranker.scores(std::slice::from_ref(pair), &|| false).expect("a score");
            assert_eq!(alone[0].to_bits(), score.to_bits(), "{name}: alone");
        }
    }
}

#[test]
fn types_of_tokens_tell_the_two_texts_apart() {
    let folder = Folder::new("rerankers-types");
    let model = Arc::new(Model::from_reader(&converted(&folder, "bert")).expect("a model"));
    let reranker = Reranker::new(model, Arc::new(Pool::new(1)), KvType::F32).expect("a reranker");
    let pair = reranker.pair("who", "the sea").expect("a pair");
    let start = pair.tokens.iter().position(|token| *token == 3).expect("a separator");
    assert_eq!(pair.second, start + 1);
    let one = Pair { second: usize::MAX, ..pair.clone() };
    let scores = reranker.scores(&[pair, one], &|| false).expect("scores");
    assert!((scores[0] - scores[1]).abs() > 0.01, "{scores:?}");
}

#[test]
fn a_head_has_its_names_and_labels_and_a_bare_model_has_none() {
    let folder = Folder::new("rerankers-names");
    let names = |reader: &Reader| -> Vec<String> {
        let heads = reader.tensors().iter().map(|tensor| tensor.name.clone()).filter(|name| name.starts_with("cls"));
        let mut heads: Vec<String> = heads.collect();
        heads.sort();
        heads
    };
    let all = ["cls.bias", "cls.output.bias", "cls.output.weight", "cls.weight"];
    for name in ["bert", "xlmroberta"] {
        let reader = converted(&folder, name);
        assert_eq!(names(&reader), all, "{name}");
        let labels = reader.metadata().get("bert.classifier.output_labels").expect("labels");
        assert!(matches!(labels, Value::Array(labels) if labels.len() == 1), "{name}: {labels:?}");
    }
    let qwen = converted(&folder, "qwen3-reranker");
    assert_eq!(names(&qwen), ["cls.output.weight"]);
    let key = |name: &str| qwen.metadata().get(name).unwrap_or_else(|| panic!("{name}")).clone();
    assert_eq!(key("qwen3.pooling_type").as_u64(), Some(4));
    let template = key("tokenizer.chat_template.rerank");
    assert!(template.as_str().is_some_and(|text| text.contains("<Query>: {query}\n<Document>: {document}<|im_end|>")));
    let model = Arc::new(Model::from_reader(&qwen).expect("a model"));
    assert!(!model.decoder().has_logits(), "it answers nothing else");
    let pool = Arc::new(Pool::new(1));
    let error = Embedder::new(model.clone(), pool.clone(), EmbeddingOptions::default()).map(drop);
    assert!(error.is_err_and(|e| e.to_string().contains("scores documents")));
    let options = EmbeddingOptions { pooling: Some(Pooling::Mean), ..EmbeddingOptions::default() };
    assert!(Embedder::new(model, pool.clone(), options).is_ok());
    let bare = super::goldens::checkpoint_of(&folder, &testdata("encoders").join("bert"), "bare");
    let bare = Arc::new(Model::from_reader(&convert(&bare, &folder.path("bare.gguf"))).expect("a model"));
    let error = Reranker::new(bare, pool, KvType::F32).map(drop).map_err(|e| e.to_string());
    assert!(error.is_err_and(|e| e.contains("no classification head (cls.output.weight)")));
}

#[test]
fn the_command_prints_the_best_first() {
    let folder = Folder::new("rerank-command");
    let golden = golden();
    converted(&folder, "bert");
    let documents = texts(&golden["documents"]);
    std::fs::write(folder.path("documents.txt"), format!("{}\n\n", documents.join("\n"))).expect("written");
    let query = golden["query"].as_str().expect("a query");
    let run = |args: &[&str]| {
        let output = gguf(&[&["rerank", "bert.gguf", query][..], args].concat(), folder.root());
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout).to_owned()
    };
    let expected = floats(&golden["models"]["bert"]["scores"]);
    let mut order: Vec<usize> = (0..documents.len()).collect();
    order.sort_by(|&a, &b| expected[b].total_cmp(&expected[a]));
    let printed = run(&documents);
    for (line, &i) in printed.lines().zip(&order) {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert!((words[0].parse::<f64>().expect("a score") - expected[i]).abs() < TOLERANCE, "{line}");
        assert_eq!(words[1], (i + 1).to_string(), "{line}");
        assert!(line.ends_with(documents[i]), "{line}");
    }
    assert_eq!(printed.lines().count(), documents.len());
    assert_eq!(run(&["-f", "documents.txt"]), printed);
    assert_eq!(
        run(&["-f", "documents.txt", "--top", "2"]),
        printed.lines().take(2).map(|l| format!("{l}\n")).collect::<String>()
    );
    let json: Json = serde_json::from_str(&run(&["--json", "-f", "documents.txt"])).expect("JSON");
    let results = json["results"].as_array().expect("results");
    let found: Vec<usize> =
        results.iter().map(|r| r["index"].as_u64().and_then(|i| usize::try_from(i).ok()).expect("an index")).collect();
    assert_eq!((found, &json["schema"]), (order, &json!(1)));
    let output = gguf(&["rerank", "bert.gguf", query, &"sea ".repeat(200)], folder.root());
    assert!(!output.status.success() && text(&output.stderr).contains("document 1"), "{}", text(&output.stderr));
}

#[cfg(feature = "serve")]
#[test]
fn the_server_scores_documents_in_both_shapes() {
    let folder = Folder::new("serve-rerank");
    let golden = golden();
    converted(&folder, "xlmroberta");
    let served = Served::start(folder.path("xlmroberta.gguf").to_str().expect("UTF-8"));
    let (query, documents) = (&golden["query"], &golden["documents"]);
    let expected = floats(&golden["models"]["xlmroberta"]["scores"]);
    let check = |results: &Json, name: &str| {
        let results = results.as_array().expect("results");
        assert_eq!(results.len(), expected.len());
        let scores: Vec<f64> = results.iter().map(|result| result[name].as_f64().expect("a score")).collect();
        assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
        for (result, score) in results.iter().zip(&scores) {
            let index = result["index"].as_u64().and_then(|i| usize::try_from(i).ok()).expect("an index");
            assert!((score - expected[index]).abs() < TOLERANCE, "{result}");
        }
    };
    for path in ["/v1/rerank", "/rerank", "/v1/reranking", "/reranking"] {
        let answer = served.ask(path, &json!({ "query": query, "documents": documents }));
        check(&answer["results"], "relevance_score");
        assert_eq!((&answer["object"], &answer["model"]), (&json!("list"), &json!("xlmroberta")), "{path}");
        let tokens: usize = golden["models"]["xlmroberta"]["ids"]
            .as_array()
            .expect("ids")
            .iter()
            .map(|ids| ids.as_array().expect("ids").len())
            .sum();
        assert_eq!(answer["usage"], json!({ "prompt_tokens": tokens, "total_tokens": tokens }), "{path}");
    }
    let bare = served.ask("/rerank", &json!({ "query": query, "texts": documents, "return_text": true }));
    check(&bare, "score");
    let first = bare[0]["index"].as_u64().and_then(|i| usize::try_from(i).ok()).expect("an index");
    assert_eq!(bare[0]["text"], documents[first]);
    let objects: Vec<Json> = texts(documents).iter().map(|text| json!({ "text": text })).collect();
    let body = json!({ "query": query, "documents": objects, "top_n": 1, "return_documents": true });
    let best = served.ask("/v1/rerank", &body);
    let results = best["results"].as_array().expect("results");
    assert_eq!((results.len(), &results[0]["document"]["text"]), (1, &documents[first]));
    for (body, field) in [
        (json!({ "documents": documents }), "query"),
        (json!({ "query": query }), "documents"),
        (json!({ "query": query, "documents": [] }), "documents"),
        (json!({ "query": query, "documents": [1] }), "documents"),
        (json!({ "query": query, "documents": documents, "top_n": 0 }), "top_n"),
    ] {
        let answer = served.post("/v1/rerank", &body);
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.json()["error"]["message"].as_str().is_some_and(|m| m.contains(field)), "{}", answer.json());
    }
    let long = json!({ "query": query, "documents": ["sea ".repeat(200)] });
    assert_eq!(served.post("/v1/rerank", &long).status, 400);
}
