//! `gguf tokenize` and `gguf detokenize`, as users and programs call them.

use std::io::{Read as _, Write as _};
use std::process::{Command, Output, Stdio};

use serde_json::{Value as Json, json};

use super::folder::Folder;
use super::goldens::golden;
use super::shared::testdata;

/// Runs the program with `input` on its standard input.
fn gguf(args: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gguf"));
    let piped = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("runs");
    // A program that refuses its arguments has gone before it reads.
    let _ = child.stdin.take().expect("piped").write_all(input);
    child.wait_with_output().expect("ends")
}

fn out(args: &[&str], input: &[u8]) -> String {
    let output = gguf(args, input);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn people_see_a_line_for_each_token() {
    let output = gguf(&["tokenize", "Hi 🙂\x1b!"], b"");
    let expected = "   1  '<s>'\n2014  'H'\n1991  'i'\n1983  ' '\n 244  '\\xf0'\n 163  '\\x9f'\n 157  '\\x99'\n 134  '\\x82'\n  31  '\\u{1b}'\n2022  '!'\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "storyteller (embedded): 10 tokens, 9 bytes\n");
}

#[test]
fn a_text_comes_from_the_command_line_a_file_or_standard_input() {
    let folder = Folder::new("tokenize-text");
    let file = folder.path("text.txt");
    std::fs::write(&file, "Once upon\n").expect("written");
    let (file, checkpoint) = (file.to_str().expect("UTF-8"), testdata("storyteller"));
    let model = checkpoint.to_str().expect("UTF-8");
    let expected = out(&["tokenize", model, "Once upon\n", "--ids"], b"");
    assert!(expected.starts_with("1 ") && expected.ends_with('\n'), "{expected}");
    assert_eq!(out(&["tokenize", "--ids", "-f", file], b""), expected);
    assert_eq!(out(&["tokenize", "--ids", "-f", "-"], b"Once upon\n"), expected);
    assert_eq!(out(&["tokenize", model, "--ids"], b"Once upon\n"), expected);
    let count = expected.split_whitespace().count();
    assert_eq!(out(&["tokenize", model, "--count"], b"Once upon\n"), format!("{count}\n"));
    assert_eq!(out(&["tokenize", model, "--count", "--no-bos"], b"Once upon\n"), format!("{}\n", count - 1));
    assert_eq!(gguf(&["tokenize", model, "a", "-f", file], b"").status.code(), Some(2));
    assert_eq!(gguf(&["tokenize", model], b"\xff").status.code(), Some(2));
}

#[test]
fn programs_get_json_and_control_tokens_on_demand() {
    let model = golden("llama3");
    let model = model.to_str().expect("UTF-8");
    let parse = |text: &str| serde_json::from_str::<Json>(text).expect("JSON");
    let special = parse(&out(&["tokenize", model, "--special", "--json", "<|end_of_text|>é"], b""));
    let kinds: Vec<_> = special["tokens"].as_array().expect("tokens").iter().map(|t| t["kind"].clone()).collect();
    assert_eq!(kinds[..2], ["control", "control"], "{special}");
    assert_eq!(special["tokens"][1]["text"], "<|end_of_text|>");
    assert_eq!(special["count"], json!(kinds.len()));
    let plain = parse(&out(&["tokenize", model, "--no-bos", "--json", "<|end_of_text|>\u{1f642}"], b""));
    let tokens = plain["tokens"].as_array().expect("tokens");
    assert!(tokens.len() > 3 && tokens.iter().all(|token| token["kind"] == "normal"), "{plain}");
    assert_eq!(tokens.last().expect("tokens")["bytes"].as_array().expect("bytes").last(), Some(&json!(0x82)));
}

#[test]
fn tokens_become_the_text_that_they_came_from() {
    let text = "Ein «Text», 中文 \u{1f642}\u{1f642} and\t\ttabs\r\n\n  end ";
    for model in [testdata("storyteller"), golden("llama3"), golden("llama2")] {
        let model = model.to_str().expect("UTF-8");
        let ids = out(&["tokenize", model, "--ids"], text.as_bytes());
        assert_eq!(out(&["detokenize", model], ids.as_bytes()), text, "{model}");
        let list = format!("[{}]", ids.trim().replace(' ', ",\n"));
        assert_eq!(out(&["detokenize", model, &list], b""), text, "{model}");
        let words: Vec<&str> = ["detokenize", model].into_iter().chain(ids.split_whitespace()).collect();
        assert_eq!(out(&words, b""), text, "{model}");
    }
}

#[test]
fn control_tokens_are_shown_on_demand_and_unknown_ids_refused() {
    assert_eq!(out(&["detokenize", "1,2014,1991"], b""), "Hi");
    assert_eq!(out(&["detokenize", "1 2014", "1991", "--special"], b""), "<s>Hi");
    let json: Json = serde_json::from_str(&out(&["detokenize", "--json", "1,2014,1991"], b"")).expect("JSON");
    assert_eq!(json, json!({ "count": 3, "text": "Hi" }));
    for (ids, message) in [("1,99999999999", "token 99999999999 is outside"), ("2 x", "x is no token id")] {
        let output = gguf(&["detokenize", testdata("storyteller").to_str().expect("UTF-8"), ids], b"");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && stderr.contains(message) && output.stdout.is_empty(), "{stderr}");
    }
}

#[test]
fn two_texts_are_one_for_models_that_compare() {
    let model = golden("llama3");
    let model = model.to_str().expect("UTF-8");
    let pair = out(&["tokenize", model, "--ids", "a", "--pair", "b"], b"");
    let single = |text| out(&["tokenize", model, "--ids", "--no-bos", text], b"");
    assert!(pair.trim_end().ends_with(&format!("{} {}", single("a").trim_end(), single("b").trim_end())), "{pair}");
}

/// Numbers are texts; what begins like ids is not taken for a file.
#[test]
fn numbers_are_no_options_and_no_files() {
    assert!(out(&["tokenize", "-5", "--count"], b"").trim_end().parse::<usize>().is_ok_and(|count| count > 1));
    for (ids, message) in [("1,2,x", "x is no token id"), ("-1", "-1 is no token id"), ("[1, -2]", "-2 is no token id")]
    {
        let output = gguf(&["detokenize", ids], b"");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && stderr.contains(message), "{stderr}");
    }
    let output = gguf(&["tokenize", testdata("storyteller").to_str().expect("UTF-8")], b"a\xff");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "error: standard input: byte 1 is no UTF-8\n");
}

/// A tokenizer that is like none can be looked at all the same.
#[test]
fn a_pre_tokenizer_can_be_chosen() {
    let folder = Folder::new("tokenize-pre");
    for file in ["config.json", "tokenizer_config.json"] {
        std::fs::copy(golden("llama3").join(file), folder.path(file)).expect("copied");
    }
    let json = std::fs::read_to_string(golden("llama3").join("tokenizer.json")).expect("readable");
    std::fs::write(folder.path("tokenizer.json"), json.replace("{1,3}", "{1,2}")).expect("written");
    let model = folder.root().to_str().expect("UTF-8");
    let output = gguf(&["tokenize", model, "1234"], b"");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && stderr.contains("nearest is llama-bpe"), "{stderr}");
    let expected = out(&["tokenize", golden("llama3").to_str().expect("UTF-8"), "--ids", "1234"], b"");
    assert_eq!(out(&["tokenize", model, "--pre", "llama-bpe", "--ids", "1234"], b""), expected);
    let output = gguf(&["tokenize", "--pre", "llama-bpe", "1234"], b"");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--pre is for a checkpoint's folder"), "{output:?}");
}

#[test]
fn a_reader_may_stop_early() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gguf"));
    let mut child = command
        .args(["tokenize"])
        .arg(testdata("storyteller"))
        .args(["-f"])
        .arg(testdata("storyteller/heldout.txt"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    let mut stdout = child.stdout.take().expect("piped");
    stdout.read_exact(&mut [0; 16]).expect("a line");
    drop(stdout);
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
