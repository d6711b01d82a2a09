//! What people who know other tools type: taken where it can be, and answered with a tip where not.

use std::fs;
use std::process::Output;

use gguf_toolkit::quantize::{FileType, file_type_name};

use super::folder::Folder;
use super::goldens::checkpoint;
use super::quantize_command::{gguf, names, storyteller, text};

fn run(line: &str, folder: &Folder) -> Output {
    gguf(&line.split_whitespace().collect::<Vec<_>>(), folder.root())
}

/// Standard error of a command that is refused.
fn refused(line: &str, folder: &Folder) -> String {
    let output = run(line, folder);
    assert_eq!(output.status.code(), Some(2), "{line}: {output:?}");
    text(&output.stderr).to_owned()
}

#[test]
fn quantize_takes_arguments_in_the_order_of_llama_quantize() {
    let folder = Folder::new("spellings-quantize");
    storyteller(&folder);
    let made = |line: &str, file: &str| {
        let output = run(line, &folder);
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
        let bytes = fs::read(folder.path(file)).unwrap_or_else(|_| panic!("{line}: no {file}"));
        fs::remove_file(folder.path(file)).expect("removed");
        bytes
    };
    let expected = made("quantize storyteller-F16.gguf -t Q4_K_M -o a.gguf", "a.gguf");
    for (line, file) in [
        ("quantize storyteller-F16.gguf b.gguf Q4_K_M", "b.gguf"),
        ("quantize storyteller-F16.gguf b.gguf q4-k-m 3", "b.gguf"),
        ("quantize storyteller-F16.gguf b.gguf 15 1", "b.gguf"),
        ("quantize storyteller-F16.gguf q4km", "storyteller-Q4_K_M.gguf"),
        ("quantize storyteller-F16.gguf b.gguf -t 4km", "b.gguf"),
        ("quantize storyteller-F16.gguf --outfile b.gguf --type Q4KM", "b.gguf"),
    ] {
        if line.contains("-t 4km") {
            assert!(refused(line, &folder).contains("tip: Q4_K_M is the usual type of 4 bits"));
        } else {
            assert!(made(line, file) == expected, "{line}");
        }
    }
    assert!(refused("quantize storyteller-F16.gguf", &folder).contains("no type: -t Q4_K_M is the usual choice"));
    assert!(refused("quantize storyteller-F16.gguf out.gguf", &folder).contains("out.gguf: no such type"));
    assert!(refused("quantize storyteller-F16.gguf a.gguf b.gguf Q8_0", &folder).contains("a.gguf: one too many"));
    assert!(refused("quantize storyteller-F16.gguf -o a.gguf b.gguf Q8_0", &folder).contains("given twice"));
    // Types of llama.cpp that are not written here; once all are, there is nothing to tell.
    if let Some(name) = (0..64).filter_map(file_type_name).find(|name| FileType::from_name(name).is_none()) {
        let told = refused(&format!("quantize storyteller-F16.gguf -t {name}"), &folder);
        assert!(told.contains(&format!("{name} is a type of llama.cpp")), "{told}");
    }
    assert!(refused("quantize storyteller-F16.gguf -t Q8_0 -o -", &folder).contains("-: an output needs a name"));
    assert_eq!(names(&folder), ["storyteller-F16.gguf"]);
    let told = refused("quantize storyteller-F16.gguf -t Q8_0 --tensor-type attn_x=q8_0", &folder);
    assert_eq!(told, "error: storyteller-F16.gguf: no tensor matches attn_x\n");
}

#[test]
fn a_blob_is_named_by_what_it_holds() {
    let folder = Folder::new("spellings-blob");
    storyteller(&folder);
    let blob = format!("sha256-{}", "0f".repeat(32));
    fs::rename(folder.path("storyteller-F16.gguf"), folder.path(&blob)).expect("renamed");
    assert!(run(&format!("quantize {blob} -t Q8_0"), &folder).status.success());
    assert_eq!(names(&folder), ["Storyteller-Q8_0.gguf".to_owned(), blob]);
}

#[test]
fn convert_knows_the_cache_of_hugging_face() {
    let folder = Folder::new("spellings-cache");
    let from = checkpoint(&folder, "qwen2");
    let cache = folder.path("models--org--Tiny-Model");
    fs::create_dir_all(cache.join("snapshots")).expect("a folder");
    fs::create_dir_all(cache.join("refs")).expect("a folder");
    fs::rename(&from, cache.join("snapshots/abcdef")).expect("moved");
    fs::write(cache.join("refs/main"), "abcdef").expect("written");
    assert!(run("convert models--org--Tiny-Model --outtype f16", &folder).status.success());
    assert!(
        run("convert models--org--Tiny-Model/snapshots/abcdef --outtype q8_0 --outfile x.gguf", &folder)
            .status
            .success()
    );
    assert_eq!(names(&folder), ["Tiny-Model-F16.gguf", "models--org--Tiny-Model", "x.gguf"].map(String::from));
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_gguf"));
    command.args(["convert", "org/Tiny-Model", "-o", "y.gguf"]).env("HF_HUB_CACHE", folder.root());
    assert!(command.current_dir(folder.root()).output().expect("runs").status.success());
}

#[test]
fn commands_and_options_of_other_tools_get_a_tip() {
    let folder = Folder::new("spellings-tips");
    for (line, tip) in [
        ("ask model.gguf", "'gguf chat MODEL' chats"),
        ("info model.gguf", "'gguf inspect MODEL' shows"),
        ("perplexity --hf-repo org/repo", "'gguf pull ORG/REPO[:TYPE]'"),
        ("ppl", "'gguf perplexity MODEL...'"),
        ("tokenise", "'tokenize'"),
        ("perplexity -m model.gguf", "the model is the first argument"),
        ("perplexity --n-gpu-layers 99", "everything runs on the CPU"),
        ("bench --no-mmap", "'--load load'"),
    ] {
        let told = refused(line, &folder);
        assert!(told.contains(tip) && told.matches("tip:").count() == 1, "{line}: {told}");
        assert!(!told.contains("-- -"), "{line}: {told}");
    }
    for line in ["help", "help chat", "version", "-v", "--version", "-V", "help quantize"] {
        let output = run(line, &folder);
        assert!(output.status.success() && !output.stdout.is_empty(), "{line}: {output:?}");
    }
}

#[test]
fn perplexity_says_what_it_measures() {
    let folder = Folder::new("spellings-perplexity");
    storyteller(&folder);
    let output = run("perplexity storyteller-F16.gguf --chunks 1", &folder);
    assert_eq!(text(&output.stderr), "measuring on the embedded text (-f FILE takes another, -f - standard input)\n");
    fs::write(folder.path("text.txt"), "Once upon a time there was a dog. ".repeat(40)).expect("written");
    let all = run("perplexity storyteller-F16.gguf -c 64 -f text.txt --json --chunks -1", &folder);
    let json: serde_json::Value = serde_json::from_slice(&all.stdout).expect("JSON");
    assert!(json[0]["chunks"].as_u64() > Some(2), "{json}");
    let from = checkpoint(&folder, "qwen2");
    let to_gguf = run(&format!("convert {} -o other.gguf", from.display()), &folder);
    assert!(to_gguf.status.success());
    let output = run("perplexity storyteller-F16.gguf other.gguf -c 64 --chunks 1 -f text.txt", &folder);
    assert!(text(&output.stdout).contains("other tokens") && !text(&output.stdout).contains('%'), "{output:?}");
    assert!(text(&output.stderr).contains("cannot be compared"), "{output:?}");
    let output = run("perplexity other.gguf -c 2048 --chunks 1 -f text.txt", &folder);
    assert!(text(&output.stderr).contains("warning: other: a context of 2048, the model was trained on"), "{output:?}");
}
