//! Names in place of paths, in every command, and `gguf list`.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value as Json;

use super::folder::Folder;
use super::quantize_command::{storyteller, text};

/// Runs the program as a user whose home is `home`.
fn gguf(line: &str, home: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gguf"));
    for name in ["HF_HOME", "HF_HUB_CACHE", "OLLAMA_MODELS", "LLAMA_CACHE", "XDG_CACHE_HOME"] {
        command.env_remove(name);
    }
    command.env("HOME", home).env("GGUF_MODELS", home.join("models")).current_dir(home).stdin(Stdio::null());
    command.args(line.split_whitespace()).output().expect("runs")
}

/// A home with the storyteller in each store.
fn home(name: &str) -> Folder {
    let folder = Folder::new(name);
    let model = storyteller(&folder);
    let put = |path: &str| {
        let path = folder.path(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::copy(&model, path).expect("copied");
    };
    let blob = "0f".repeat(32);
    put(".cache/huggingface/hub/models--org--Tiny/blobs/1");
    put(".lmstudio/models/pub/repo-GGUF/tiny-F16.gguf");
    put("models/mine.gguf");
    put(&format!(".ollama/models/blobs/sha256-{blob}"));
    let snapshot = folder.path(".cache/huggingface/hub/models--org--Tiny/snapshots/abc");
    fs::create_dir_all(&snapshot).expect("a folder");
    std::os::unix::fs::symlink("../../blobs/1", snapshot.join("tiny-F16.gguf")).expect("linked");
    let manifest = folder.path(".ollama/models/manifests/registry.ollama.ai/library/tiny/1b");
    fs::create_dir_all(manifest.parent().expect("a folder")).expect("a folder");
    let layer = format!("{{\"mediaType\":\"application/vnd.ollama.image.model\",\"digest\":\"sha256:{blob}\"}}");
    fs::write(manifest, format!("{{\"layers\":[{layer}]}}")).expect("written");
    fs::remove_file(&model).expect("removed");
    folder
}

#[test]
fn every_command_takes_names() {
    let home = home("names-commands");
    fs::write(home.path("text.txt"), "Once upon a time there was a dog. ".repeat(20)).expect("written");
    for name in ["org/Tiny:F16", "hf.co/org/tiny", "pub/repo-gguf", "mine", "mine.gguf", "tiny:1b", "models"] {
        for command in [
            format!("inspect {name}"),
            format!("quantize {name} -t Q8_0 --dry-run"),
            format!("perplexity {name} -c 64 --chunks 1 -f text.txt"),
            format!("bench {name} -p 4 -n 1 -r 1"),
            format!("chat {name} -p hi -n 2"),
            format!("logits {name} hi"),
            format!("tokenize {name} hi"),
            format!("detokenize {name} 403"),
        ] {
            let output = gguf(&command, home.root());
            assert!(output.status.success(), "{command}: {}", text(&output.stderr));
        }
    }
    assert!(text(&gguf("tokenize tiny:1b --count -f text.txt", home.root()).stdout).trim().parse::<u32>().is_ok());
    let output = gguf("inspect tiny:70b", home.root());
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.starts_with("error: tiny:70b: no such file, nor a model of this name in "), "{stderr}");
    assert!(stderr.contains(".ollama/models") && stderr.contains("tiny:1b"), "{stderr}");
}

#[test]
fn lists_name_what_every_command_takes() {
    let home = home("names-list");
    let json: Json = serde_json::from_slice(&gguf("list --json", home.root()).stdout).expect("JSON");
    let names: Vec<&str> = json.as_array().expect("models").iter().filter_map(|model| model["name"].as_str()).collect();
    assert_eq!(names, ["org/Tiny:F16", "pub/repo-GGUF:F16", "mine.gguf", "tiny:1b"]);
    for model in json.as_array().expect("models") {
        assert_eq!((&model["runs"], &model["file_type_name"]), (&Json::from(true), &Json::from("F16")), "{model}");
    }
    let table = gguf("list tiny", home.root());
    let lines: Vec<&str> = text(&table.stdout).lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].starts_with("name") && lines[1].starts_with("org/Tiny:F16"), "{lines:?}");
    let none = gguf("list nothing-like-this", home.root());
    assert!(none.status.success() && none.stdout.is_empty() && text(&none.stderr).starts_with("no models found"));
}
