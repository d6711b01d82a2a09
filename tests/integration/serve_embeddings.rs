//! Embeddings over HTTP: an encoder, and a decoder that makes them too.

use serde_json::{Value as Json, json};

use super::convert::convert;
use super::folder::Folder;
use super::goldens::{checkpoint_of, expected_floats};
use super::served::Served;
use super::shared::{json as read_json, testdata};

fn floats(vector: &Json) -> Vec<f64> {
    #[allow(clippy::cast_possible_truncation, reason = "numbers of single precision, with as many digits as they have")]
    let number = |x: &Json| f64::from(x.as_f64().expect("a number") as f32);
    vector.as_array().expect("a vector").iter().map(number).collect()
}

/// The numbers of a vector in base64, read without the server's help.
fn of_base64(text: &str) -> Vec<f64> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let value = |letter: u8| LETTERS.iter().position(|l| *l == letter).expect("a letter");
    let bits = text.trim_end_matches('=').bytes().flat_map(|letter| (0..6).rev().map(move |i| value(letter) >> i & 1));
    let bits: Vec<usize> = bits.collect();
    let byte = |bits: &[usize]| u8::try_from(bits.iter().fold(0, |byte, bit| byte << 1 | bit)).expect("a byte");
    let bytes: Vec<u8> = bits.chunks_exact(8).map(byte).collect();
    bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().expect("four")))).collect()
}

fn length(vector: &[f64]) -> f64 {
    vector.iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[test]
fn an_encoder_gives_the_expected_vectors_in_every_dialect() {
    let folder = Folder::new("serve-embeddings");
    let golden = testdata("encoders").join("bert");
    convert(&checkpoint_of(&folder, &golden, "bert"), &folder.path("bert.gguf"));
    let served = Served::start(folder.path("bert.gguf").to_str().expect("UTF-8"));
    let texts = read_json(&golden.join("texts.json"));
    let texts: Vec<&Json> = texts["texts"].as_array().expect("texts").iter().map(|text| &text["text"]).collect();
    let expected: Vec<f64> = expected_floats(&golden, "embeddings").into_iter().map(f64::from).collect();
    let cols = expected.len() / texts.len();

    let answer = served.ask("/v1/embeddings", &json!({ "input": texts, "model": "bert" }));
    let data = answer["data"].as_array().expect("vectors");
    assert_eq!((data.len(), &answer["object"]), (texts.len(), &json!("list")));
    let mut all = Vec::new();
    for (i, item) in data.iter().enumerate() {
        assert_eq!((&item["index"], &item["object"]), (&json!(i), &json!("embedding")));
        all.push(floats(&item["embedding"]));
    }
    let worst = all.concat().iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst < 0.001, "{worst}");
    let usage = &answer["usage"];
    assert!(
        usage["prompt_tokens"].as_u64() > Some(2 * texts.len() as u64)
            && usage["total_tokens"] == usage["prompt_tokens"]
    );

    // The same numbers, however they are asked for.
    let base64 = served.ask("/v1/embeddings", &json!({ "input": texts[0], "encoding_format": "base64" }));
    assert_eq!(of_base64(base64["data"][0]["embedding"].as_str().expect("text")), all[0]);
    let ids = served.ask("/tokenize", &json!({ "content": texts[0], "add_special": true }));
    let by_ids = served.ask("/v1/embeddings", &json!({ "input": [ids["tokens"]] }));
    assert_eq!(floats(&by_ids["data"][0]["embedding"]), all[0]);
    let llama = served.ask("/embedding", &json!({ "content": texts[1] }));
    assert_eq!(floats(&llama[0]["embedding"][0]), all[1]);
    let ollama = served.ask("/api/embed", &json!({ "model": "bert", "input": texts }));
    let found: Vec<Vec<f64>> = ollama["embeddings"].as_array().expect("vectors").iter().map(floats).collect();
    assert_eq!(found, all);
    let old = served.ask("/api/embeddings", &json!({ "model": "bert:latest", "prompt": texts[0] }));
    assert_eq!(floats(&old["embedding"]), all[0]);

    let cut = served.ask("/v1/embeddings", &json!({ "input": texts[0], "dimensions": 4 }));
    let cut = floats(&cut["data"][0]["embedding"]);
    assert!(cut.len() == 4 && (length(&cut) - 1.0).abs() < 1e-6, "{cut:?}");
    assert!((cut[1] / cut[0] - all[0][1] / all[0][0]).abs() < 1e-4);
    let plain = served.ask("/embedding", &json!({ "content": texts[0], "embd_normalize": -1 }));
    assert!((length(&floats(&plain[0]["embedding"][0])) - 1.0).abs() > 1e-3);
    refusals(&served, cols);
}

fn refusals(served: &Served, cols: usize) {
    let error = |path: &str, body: &Json| {
        let answer = served.post(path, body);
        (answer.status, answer.json()["error"].clone())
    };
    for (field, value) in [
        ("input", json!([])),
        ("input", json!([[1, 999_999]])),
        ("input", json!({ "text": "x" })),
        ("input", json!(null)),
        ("dimensions", json!(cols + 1)),
        ("encoding_format", json!("f16")),
    ] {
        let mut body = json!({ "input": "a" });
        body[field] = value.clone();
        let (status, error) = error("/v1/embeddings", &body);
        assert_eq!((status, &error["param"]), (400, &json!(field)), "{value}");
    }
    let long = "a ".repeat(2000);
    let (status, failure) = error("/v1/embeddings", &json!({ "input": long }));
    assert_eq!((status, &failure["code"]), (400, &json!("context_length_exceeded")));
    let cut = served.ask("/api/embed", &json!({ "model": "bert", "input": long }));
    let most = served.get("/v1/models").json()["data"][0]["meta"]["n_ctx"].clone();
    assert_eq!(cut["prompt_eval_count"], most);
    let (status, _) = error("/api/embed", &json!({ "model": "bert", "input": long, "truncate": false }));
    assert_eq!(status, 400);
    // It has no next tokens.
    let chat = json!({ "messages": [{ "role": "user", "content": "Hi" }] });
    let (status, failure) = error("/v1/chat/completions", &chat);
    assert_eq!(status, 400);
    assert_eq!(failure["message"], "the model makes embeddings and does not predict tokens");
    assert_eq!(served.get("/api/tags").json()["models"][0]["capabilities"], json!(["embedding"]));
}

#[test]
fn a_decoder_gives_the_state_of_the_last_token_or_of_each() {
    let served = Served::start("");
    let vector = |path: &str, input: Json| served.ask(path, &json!({ "input": input }));
    let one = floats(&vector("/v1/embeddings", json!("Once upon a time"))["data"][0]["embedding"]);
    assert!((length(&one) - 1.0).abs() < 1e-6);
    let both = vector("/v1/embeddings", json!(["One day", "Once upon a time"]));
    assert_eq!(floats(&both["data"][1]["embedding"]), one);
    assert_eq!(served.ask("/api/embed", &json!({ "model": "storyteller" }))["embeddings"], json!([]));

    let each = Served::start("--pooling none");
    let states = each.ask("/embedding", &json!({ "input": "Once upon a time" }));
    let tokens = each.ask("/tokenize", &json!({ "content": "Once upon a time", "add_special": true }));
    let rows = states[0]["embedding"].as_array().expect("vectors");
    assert_eq!(rows.len(), tokens["tokens"].as_array().map_or(0, Vec::len));
    let last = floats(rows.last().expect("a row"));
    let scaled: Vec<f64> = last.iter().map(|x| x / length(&last)).collect();
    assert!(scaled.iter().zip(&one).all(|(a, b)| (a - b).abs() < 1e-6));
    assert_eq!(each.post("/v1/embeddings", &json!({ "input": "a" })).status, 400);
}
