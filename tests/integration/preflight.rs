//! What `--dry-run` says before anything is read or written, and what a conversion says it leaves out.

use std::fs;

use serde_json::{Value as Json, json};

use super::folder::Folder;
use super::goldens::checkpoint;
use super::quantize_command::{gguf, names, storyteller, text};
use super::shared::json as read_json;

#[test]
fn dry_runs_tell_what_a_run_needs() {
    let folder = Folder::new("preflight-needs");
    storyteller(&folder);
    let run = |more: &[&str]| {
        gguf(&[&["quantize", "storyteller-F16.gguf", "-t", "Q8_0", "--dry-run"], more].concat(), folder.root())
    };
    let output = run(&[]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let last = text(&output.stdout).lines().last().expect("a line");
    assert!(last.starts_with("Needs 3.77 MiB (") && last.contains(" free) on the disk, at most "), "{last}");
    let report: Json = serde_json::from_slice(&run(&["--json", "-j", "2"]).stdout).expect("JSON");
    assert_eq!(report["output"], "storyteller-Q8_0.gguf");
    assert_eq!(report["output_exists"], false);
    // The program, and no more slabs than the model has bytes for.
    let memory = report["memory_bytes"].as_u64().expect("bytes");
    assert!((16 << 20..100 << 20).contains(&memory), "{memory}");
    let more: Json = serde_json::from_slice(&run(&["--json", "-j", "64"]).stdout).expect("JSON");
    assert!(more["memory_bytes"].as_u64() > Some(memory));
    assert_eq!(names(&folder), ["storyteller-F16.gguf"]);
}

#[test]
fn dry_runs_tell_what_stands_in_the_way() {
    let folder = Folder::new("preflight-exists");
    storyteller(&folder);
    fs::write(folder.path("out.gguf"), "old").expect("written");
    fs::create_dir(folder.path("folder")).expect("a folder");
    let run = |more: &[&str]| {
        let output = gguf(
            &[&["quantize", "storyteller-F16.gguf", "-t", "Q8_0", "--dry-run", "-o"], more].concat(),
            folder.root(),
        );
        (output.status.code(), text(&output.stderr).to_owned(), !output.stdout.is_empty())
    };
    assert_eq!(run(&["out.gguf"]), (Some(0), "out.gguf: exists already; only --force replaces it\n".into(), true));
    assert_eq!(
        run(&["out.gguf", "--force"]),
        (Some(0), "out.gguf: exists already; it would be replaced\n".into(), true)
    );
    let (code, error, _) = run(&["storyteller-F16.gguf", "--force"]);
    assert_eq!((code, &*error), (Some(2), "error: storyteller-F16.gguf: is an input, and would be overwritten\n"));
    let (code, error, _) = run(&["folder"]);
    assert_eq!((code, &*error), (Some(2), "error: folder: is a folder (name the file)\n"));
    let (code, error, _) = run(&["no/out.gguf"]);
    assert!(code == Some(2) && error.starts_with("error: no/out.gguf: cannot create: "), "{error}");
    assert_eq!(fs::read(folder.path("out.gguf")).expect("there"), b"old");
}

/// What `convert` says of the golden `name`, whose `file` is changed first.
fn remarks(folder: &Folder, name: &str, file: &str, change: impl FnOnce(&mut Json)) -> String {
    let path = checkpoint(folder, name).join(file);
    let mut settings = read_json(&path);
    change(&mut settings);
    fs::write(&path, settings.to_string()).expect("written");
    let dry = gguf(&["convert", name, "--dry-run"], folder.root());
    assert!(dry.status.success(), "{dry:?}");
    let output = gguf(&["convert", name, "-o", "out.gguf", "--force"], folder.root());
    assert!(output.status.success(), "{output:?}");
    let (dry, told) = (text(&dry.stderr), text(&output.stderr));
    assert!(told.starts_with(dry), "a dry run tells the same: {dry} {told}");
    dry.to_owned()
}

#[test]
fn a_model_of_several_parts_is_told_to_be_one() {
    let folder = Folder::new("preflight-parts");
    assert_eq!(remarks(&folder, "qwen2", "config.json", |_| {}), "");
    let class = |class: &'static str| move |config: &mut Json| config["architectures"] = json!([class]);
    let told = remarks(&folder, "gemma3", "config.json", class("Gemma3ForConditionalGeneration"));
    let expected = "only its text part is converted; the folder has no tensors of images or sound\n";
    assert_eq!(told, format!("Gemma3ForConditionalGeneration: {expected}"));
    let told = remarks(&folder, "qwen35", "config.json", |config| config["vision_config"] = json!({ "depth": 1 }));
    assert_eq!(told, format!("Qwen3_5ForCausalLM: {expected}"));
}

#[test]
fn end_tokens_without_a_key_are_named() {
    let folder = Folder::new("preflight-ends");
    let told = remarks(&folder, "qwen2", "generation_config.json", |settings| {
        settings["eos_token_id"] = json!([381, 40, 41, 42, 43]);
    });
    let named: Vec<&str> = told.split('`').skip(1).step_by(2).collect();
    assert_eq!(named.len(), 2, "{told}");
    assert!(told.starts_with("end tokens: a file has keys for three; "), "{told}");
    assert_eq!(remarks(&folder, "llama2", "generation_config.json", |s| s["eos_token_id"] = json!([2, 40, 41])), "");
}
