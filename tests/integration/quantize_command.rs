//! `gguf quantize`, as users and programs call it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use gguf::TensorType;
use gguf::convert::{Conversion, Folder as Checkpoint, Options, OutputType};
use gguf::gguf::{Metadata, TensorSpec, Writer, file_size};
use gguf::quantize::{FileType, RunOptions};

use super::folder::{Folder, Sparse};
use super::shared::{json, sha256, testdata};

pub(crate) fn gguf(args: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gguf")).args(args).current_dir(folder).output().expect("runs")
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).expect("UTF-8")
}

/// The storyteller as a file in half precision, `storyteller-F16.gguf`.
pub(crate) fn storyteller(folder: &Folder) -> PathBuf {
    let path = folder.path("storyteller-F16.gguf");
    let options = Options { output_type: OutputType::F16, ..Options::default() };
    let checkpoint = Checkpoint::open(&testdata("storyteller")).expect("a folder");
    let conversion = Conversion::new(checkpoint, &options).expect("a checkpoint");
    conversion
        .write(&conversion.plan(&[]).expect("a plan"), &path, &RunOptions::default(), &|_| true)
        .expect("written");
    path
}

pub(crate) fn names(folder: &Folder) -> Vec<String> {
    let entries = fs::read_dir(folder.root()).expect("folder");
    let mut names: Vec<_> = entries.map(|e| e.expect("entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

#[test]
fn every_type_gives_the_file_of_llama_quantize() {
    let folder = Folder::new("quantize-types");
    storyteller(&folder);
    let expected = json(&testdata("storyteller-quantized.json"));
    for &ty in FileType::ALL {
        let out = format!("{ty}.gguf");
        let output = gguf(&["quantize", "storyteller-F16.gguf", "-t", ty.name(), "-o", &out], folder.root());
        assert!(output.status.success(), "{ty}: {}", text(&output.stderr));
        let written = fs::read(folder.path(&out)).expect("there");
        let golden = &expected[ty.name()];
        assert_eq!(Some(written.len() as u64), golden["bytes"].as_u64(), "{ty}");
        assert_eq!(Some(&*sha256(&written)), golden["sha256"].as_str(), "{ty}");
    }
}

#[test]
fn types_have_names_and_numbers_and_outputs_a_name() {
    let folder = Folder::new("quantize-names");
    storyteller(&folder);
    let run = |args: &[&str]| gguf(&[&["quantize", "storyteller-F16.gguf", "-t"], args].concat(), folder.root());
    let output = run(&["q4_k_m"]);
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    let line = text(&output.stderr);
    assert!(line.starts_with("storyteller-Q4_K_M.gguf: 7.05 MiB -> 2.26 MiB, 5.07"), "{line}");
    assert!(line.contains(" bits per weight, ") && line.ends_with(" M weights/s\n"), "{line}");
    let written = fs::read(folder.path("storyteller-Q4_K_M.gguf")).expect("there");
    // 15 is Q4_K_M.
    let again = run(&["15"]);
    assert_eq!(again.status.code(), Some(2));
    assert_eq!(text(&again.stderr), "error: storyteller-Q4_K_M.gguf: exists already (--force replaces it)\n");
    assert!(run(&["15", "--force", "--threads", "3"]).status.success());
    assert_eq!(fs::read(folder.path("storyteller-Q4_K_M.gguf")).expect("there"), written);
    let unknown = run(&["Q9_X"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("Q4_K_M"), "{unknown:?}");
    assert_eq!(names(&folder), ["storyteller-F16.gguf", "storyteller-Q4_K_M.gguf"]);
}

#[test]
fn inputs_are_never_overwritten() {
    let folder = Folder::new("quantize-inputs");
    let path = storyteller(&folder);
    let before = fs::read(&path).expect("there");
    fs::hard_link(&path, folder.path("hard.gguf")).expect("linked");
    std::os::unix::fs::symlink("storyteller-F16.gguf", folder.path("soft.gguf")).expect("linked");
    for out in ["storyteller-F16.gguf", "./storyteller-F16.gguf", "hard.gguf", "soft.gguf"] {
        for model in ["storyteller-F16.gguf", "soft.gguf"] {
            let output = gguf(&["quantize", model, "-t", "Q8_0", "-o", out, "--force"], folder.root());
            assert_eq!(output.status.code(), Some(2), "{out}");
            assert!(text(&output.stderr).ends_with("is an input, and would be overwritten\n"), "{output:?}");
        }
    }
    assert_eq!(fs::read(&path).expect("there"), before);
    assert_eq!(names(&folder), ["hard.gguf", "soft.gguf", "storyteller-F16.gguf"]);
}

/// A model of half a billion zeros, which take no room on the disk.
fn large(folder: &Folder, name: &str) {
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", "llama");
    metadata.set("llama.block_count", 1u32);
    let tensors = [TensorSpec { name: "blk.0.ffn_up.weight".into(), shape: vec![4096, 131_072], ty: TensorType::F16 }];
    let file = fs::File::create(folder.path(name)).expect("created");
    let mut writer = Writer::to_sink(Sparse(file), "large", &metadata, &tensors).expect("valid");
    let zeros = vec![0; 1 << 20];
    for _ in 0..1024 {
        writer.write_tensor(&zeros).expect("written");
    }
    let file = writer.into_sink().expect("complete").0;
    file.set_len(file_size(&metadata, &tensors).expect("valid")).expect("sized");
}

#[test]
fn signals_leave_nothing_behind() {
    let folder = Folder::new("quantize-signals");
    large(&folder, "large.gguf");
    fs::write(folder.path("out.gguf"), "old").expect("written");
    for signal in ["INT", "TERM"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gguf"));
        command.args(["quantize", "large.gguf", "-t", "Q3_K_S", "-o", "out.gguf", "--force"]);
        let mut child = command.current_dir(folder.root()).spawn().expect("runs");
        let start = Instant::now();
        while names(&folder).len() < 3 {
            assert!(start.elapsed() < Duration::from_secs(60), "no temporary");
            std::thread::sleep(Duration::from_millis(2));
        }
        let id = child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().expect("runs").success());
        assert_eq!(child.wait().expect("ends").code(), Some(130), "{signal}");
        assert_eq!(names(&folder), ["large.gguf", "out.gguf"], "{signal}");
        assert_eq!(fs::read(folder.path("out.gguf")).expect("there"), b"old");
    }
}
