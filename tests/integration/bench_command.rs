//! `gguf bench`: tables, JSON, and synthetic models.

use std::process::{Command, Output};

use gguf_toolkit::gguf::Reader;

use super::folder::Folder;

fn gguf(args: &[&str], folder: &Folder) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gguf")).args(args).current_dir(folder.root()).output().expect("runs")
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn a_made_model_is_saved_and_measured_in_every_way_of_loading() {
    let folder = Folder::new("bench");
    let save = ["bench", "--shape", "llama-tiny", "-t", "Q4_K_M", "--save", "tiny.gguf"];
    assert!(gguf(&save, &folder).status.success());
    assert_eq!(gguf(&save, &folder).status.code(), Some(2), "an existing file stays");
    let first = std::fs::read(folder.path("tiny.gguf")).expect("written");
    assert!(gguf(&[&save[..], &["--force"]].concat(), &folder).status.success());
    assert!(first == std::fs::read(folder.path("tiny.gguf")).expect("written"), "the same in every run");
    Reader::open(&folder.path("tiny.gguf")).expect("valid");
    let small = ["-p", "16", "-n", "2", "-d", "0,8", "-r", "1"];
    for loading in ["mmap", "load"] {
        let output = gguf(&[&["bench", "tiny.gguf", "--json", "--load", loading], &small[..]].concat(), &folder);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let names: Vec<&str> =
            json["tests"].as_array().expect("tests").iter().filter_map(|test| test["test"].as_str()).collect();
        assert_eq!(names, ["pp16", "tg2", "pp16 @ 8", "tg2 @ 8"]);
        assert_eq!(json["loading"], loading);
        assert_eq!(json["weight_bytes"].as_u64().map(|n| n < first.len() as u64), Some(true));
    }
    let output = gguf(&[&["bench", "--shape", "llama-tiny", "-t", "q8_0"], &small[..]].concat(), &folder);
    assert!(text(&output.stdout).starts_with("| test     |"), "{}", text(&output.stdout));
    assert_eq!(gguf(&["bench", "--shape", "llama-9000b"], &folder).status.code(), Some(2));
}

#[test]
fn both_ways_of_loading_give_the_same_logits() {
    let folder = Folder::new("bench-load");
    let save = ["bench", "--shape", "llama-tiny", "-t", "Q6_K", "--save", "tiny.gguf"];
    assert!(gguf(&save, &folder).status.success());
    let logits = |loading| {
        let output = gguf(&["logits", "tiny.gguf", "the thing", "--json", "--load", loading], &folder);
        assert!(output.status.success(), "{}", text(&output.stderr));
        output.stdout
    };
    assert_eq!(logits("mmap"), logits("load"));
}
