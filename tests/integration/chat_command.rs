//! `gguf chat` with one answer: options and their ranges, files' own settings, messages from everywhere.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::folder::Folder;

fn gguf(args: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gguf"));
    let piped = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("runs");
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    child.wait_with_output().expect("ends")
}

/// Exit code, standard output, standard error.
fn chat(args: &[&str], input: &str) -> (Option<i32>, String, String) {
    let output = gguf(&[&["chat"], args].concat(), input);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn values_out_of_range_are_refused_with_the_range() {
    for (args, expected) in [
        (&["--repeat-penalty", "0"][..], "from 0.01 to 100"),
        (&["--repeat-penalty", "1e-45"], "from 0.01 to 100"),
        (&["--temperature", "nan"], "from 0 to 2"),
        (&["--temperature", "-1"], "from 0 to 2"),
        (&["-t", "8"], "threads are -j"),
        (&["--top-p", "-1"], "from 0 to 1"),
        (&["--top-p=2"], "from 0 to 1"),
        (&["--min-p", "2"], "from 0 to 1"),
        (&["--top-k", "1.5"], "a whole number from 0"),
        (&["-n", "-2"], "-1 for no limit"),
        (&["--seed", "-2"], "-1 for a random one"),
        (&["-c", "0"], "a number of tokens from 1 to 134217728"),
        (&["-c", "9223372036854775808"], "a number of tokens from 1 to 134217728"),
        (&["-j", "0"], "a number of threads from 1 to 1024"),
        (&["-j", "-1"], "a number of threads from 1 to 1024"),
        (&["--samplers", "top_k;magic"], "one of penalties, dry"),
        (&["--when-full", "explode"], "stop, drop-oldest or summarize"),
        (&["-st"], "-st is an option of llama.cpp: -p answers once and ends"),
        (&["-ngl", "0"], "models run on the CPU"),
        (&["-ctk", "q8_0"], "--kv-type"),
    ] {
        let (code, out, err) = chat(&[args, &["-p", "hi", "-n", "4"][..]].concat(), "");
        let found = err.contains(expected) && err.starts_with("error: ");
        // `-n` is given twice where that is what is tried.
        assert!(code == Some(2) && out.is_empty() && (found || args[0] == "-n"), "{args:?}: {code:?} {out} {err}");
    }
    let (code, out, err) = chat(&["-p", "Hello!", "-n", "-1", "--seed", "-1", "-t", "0"], "");
    assert_eq!((code, out.starts_with("Hello! I am a tiny storyteller.")), (Some(0), true), "{out}{err}");
}

/// A file of the embedded model with another key.
fn with_key(folder: &Folder, name: &str, key: &str) -> String {
    let base = folder.path("base.gguf");
    if !base.exists() {
        let source = super::shared::testdata("storyteller");
        let converted = gguf(&["convert", path(&source), "-t", "f16", "-o", path(&base)], "");
        assert!(converted.status.success(), "{converted:?}");
    }
    let file = folder.path(name);
    let made = gguf(&["quantize", path(&base), "-t", "F16", "-o", path(&file), "--override-kv", key], "");
    assert!(made.status.success(), "{made:?}");
    path(&file).to_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn settings_of_a_file_are_checked() {
    let folder = Folder::new("chat-file-settings");
    // The program writes no such file.
    let file = with_key(&folder, "penalty.gguf", "general.sampling.penalty_repeat=float:1.5");
    for command in [
        ["quantize", &file, "-t", "F16", "-o", "x.gguf", "--override-kv", "general.sampling.penalty_repeat=float:0"],
        ["edit", &file, "-o", "x.gguf", "--dry-run", "-q", "--set", "general.sampling.penalty_repeat=f32:0"],
    ] {
        let output = gguf(&command, "");
        let stderr = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(2), "{command:?}");
        assert!(stderr.contains("general.sampling.penalty_repeat 0: must be a number from 0.01 to 100"), "{stderr}");
    }
    let mut bytes = std::fs::read(&file).expect("there");
    let key = b"general.sampling.penalty_repeat";
    let value = bytes.windows(key.len()).position(|window| window == key).expect("the key") + key.len() + 4;
    assert_eq!(bytes[value..value + 4], 1.5_f32.to_le_bytes());
    bytes[value..value + 4].fill(0);
    std::fs::write(&file, bytes).expect("written");
    let (code, out, err) = chat(&[&file, "-p", "hi", "-n", "4"], "");
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert_eq!(err, "error: penalty: general.sampling.penalty_repeat 0: must be a number from 0.01 to 100\n");
    // Who gives the setting need not care.
    let (code, ..) = chat(&[&file, "-p", "hi", "-n", "4", "--repeat-penalty", "1"], "");
    assert_eq!(code, Some(0));
}

#[test]
fn templates_from_files_stay_within_their_means() {
    let folder = Folder::new("chat-hostile-template");
    let template = folder.path("template.jinja");
    for source in [
        "{% set ns = namespace(x=1) %}{% set ns.x = ns %}{{ ns }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(100000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x='aaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    ] {
        std::fs::write(&template, source).expect("written");
        let (code, out, err) = chat(&["--chat-template", path(&template), "-p", "hi", "-n", "2"], "");
        assert_eq!((code, out.as_str()), (Some(2), ""), "{source}: {err}");
        assert!(err.starts_with("error: chat template line 1: ") && err.lines().count() == 1, "{err}");
    }
}

#[test]
fn a_message_comes_from_an_argument_a_file_or_a_pipe() {
    let folder = Folder::new("chat-message");
    let file = folder.path("message.txt");
    std::fs::write(&file, "Hello!\n").expect("written");
    let model = with_key(&folder, "model.gguf", "general.name=str:A");
    let greedy = ["-t", "0"];
    let expected = "Hello! I am a tiny storyteller. Ask me for a story about an animal, a child or a place.\n";
    for (args, input) in [
        (&[model.as_str(), "Hello!"][..], ""),
        (&[model.as_str()], "Hello!\n"),
        (&["-p", "Hello!"], "\n"),
        (&["-f", path(&file)], ""),
        (&["-f", "-"], "Hello!"),
    ] {
        let (code, out, err) = chat(&[args, &greedy].concat(), input);
        assert_eq!((code, out.as_str(), err.as_str()), (Some(0), expected, ""), "{args:?}");
    }
    for (args, input, message) in [
        (&["-p", ""][..], "", "no message"),
        (&["-c", "64", "-p", &"word ".repeat(200)], "", "--context N sets a larger one"),
    ] {
        let (code, out, err) = chat(args, input);
        assert!(code == Some(2) && out.is_empty() && err.contains(message), "{args:?}: {code:?} {err}");
    }
    let stopped = chat(&["-p", "Hello!", "-t", "0", "--stop", "tiny"], "");
    assert_eq!(stopped.1, "Hello! I am a \n");
}

#[test]
fn templates_of_llama_cpp_have_names() {
    let with = |name: &str| chat(&["--chat-template", name, "-p", "Hello!", "-t", "0", "-n", "4"], "");
    // The model's own is this one.
    assert_eq!(with("chatml").1, chat(&["-p", "Hello!", "-t", "0", "-n", "4"], "").1);
    assert_eq!(with("llama3").0, Some(0));
    let (code, _, err) = with("llama9");
    assert!(code == Some(2) && err.contains("neither a file nor one of chatml, llama2"), "{err}");
}

#[test]
fn a_context_beyond_training_and_a_missing_template_are_said() {
    let (code, _, err) = chat(&["-c", "4096", "-p", "hi", "-n", "1"], "");
    assert_eq!(code, Some(0));
    assert!(err.contains("a context of 4096 tokens: the model was trained on 1024"), "{err}");
}
