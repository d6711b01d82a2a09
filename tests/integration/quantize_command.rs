//! `gguf quantize`, as users and programs call it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use gguf_toolkit::TensorType;
use gguf_toolkit::convert::{Conversion, Folder as Checkpoint, Options, OutputType};
use gguf_toolkit::gguf::{Metadata, TensorSpec, Writer, file_size};
use gguf_toolkit::quantize::{FileType, RunOptions};
use serde_json::Value as Json;

use super::folder::{Folder, Sparse};
use super::goldens::checkpoint;
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
    check_every_type(&folder, &expected, &[]);
}

#[test]
fn every_type_with_a_matrix_gives_the_file_of_llama_quantize() {
    let folder = Folder::new("quantize-types-imatrix");
    storyteller(&folder);
    // Its name goes into the file.
    let matrix = "storyteller.imatrix.gguf";
    fs::copy(testdata("imatrix").join(matrix), folder.path(matrix)).expect("copied");
    let expected = json(&testdata("imatrix/storyteller-quantized.json"));
    check_every_type(&folder, &expected, &["--imatrix", matrix]);
}

/// Quantizes to every type that can be written, and compares the files with those of llama-quantize.
fn check_every_type(folder: &Folder, expected: &Json, options: &[&str]) {
    let mut compared = 0;
    for ty in FileType::ALL.iter().filter(|ty| ty.is_writable()) {
        let golden = expected.get(ty.name());
        let golden = golden.unwrap_or_else(|| panic!("{ty}: nothing to compare with"));
        let out = format!("{ty}.gguf");
        let command = ["quantize", "storyteller-F16.gguf", "-t", ty.name(), "-o", &out];
        let output = gguf(&[&command, options].concat(), folder.root());
        compared += 1;
        if golden.get("refused").is_some() {
            assert_eq!(output.status.code(), Some(2), "{ty}");
            assert!(text(&output.stderr).contains("needs an importance matrix"), "{ty}: {}", text(&output.stderr));
            continue;
        }
        assert!(output.status.success(), "{ty}: {}", text(&output.stderr));
        let written = fs::read(folder.path(&out)).expect("there");
        assert_eq!(Some(written.len() as u64), golden["bytes"].as_u64(), "{ty}");
        assert_eq!(Some(&*sha256(&written)), golden["sha256"].as_str(), "{ty}");
        fs::remove_file(folder.path(&out)).expect("removed");
    }
    assert!(compared > 20, "{compared} types");
}

/// The plan of `--dry-run` is exact for types that would be refused, and says so.
#[test]
fn low_types_need_a_matrix() {
    let folder = Folder::new("quantize-low");
    storyteller(&folder);
    let matrix = "storyteller.imatrix.gguf";
    fs::copy(testdata("imatrix").join(matrix), folder.path(matrix)).expect("copied");
    let run =
        |args: &[&str]| gguf(&[&["quantize", "storyteller-F16.gguf", "-t", "Q2_K_S"], args].concat(), folder.root());
    let dry = run(&["--dry-run", "--json"]);
    let warning = "warning: storyteller-F16.gguf: tensor blk.0.attn_k.weight: Q2_K needs an importance matrix";
    assert!(dry.status.success() && text(&dry.stderr).contains(warning), "{dry:?}");
    let plan: Json = serde_json::from_slice(&dry.stdout).expect("JSON");
    assert!(plan["file_bytes"].as_u64().is_some());
    assert_eq!(run(&[]).status.code(), Some(2));
    // One that does not know all of the tensors does not do.
    let without = run(&["--imatrix", matrix, "--exclude-weights", "blk.3"]);
    assert_eq!(without.status.code(), Some(2));
    assert!(text(&without.stderr).contains("blk.3."), "{without:?}");
    let unknown = run(&["--imatrix", matrix, "--include-weights", "attn_x"]);
    assert_eq!(text(&unknown.stderr), "error: storyteller.imatrix.gguf: no tensor's name contains attn_x\n");
    assert!(run(&["--imatrix", matrix]).status.success());
    // Weights of some tensors alone.
    let some = gguf(
        &["quantize", "storyteller-F16.gguf", "-t", "Q4_K_S", "--imatrix", matrix, "--include-weights", "attn_"],
        folder.root(),
    );
    let warning = "warning: the importance matrix knows nothing of 12 tensors: blk.0.ffn_down.weight, ";
    assert!(some.status.success() && text(&some.stderr).contains(warning), "{some:?}");
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

/// Dimensions of 1 at the end are left out, as ggml counts dimensions.
#[test]
fn shapes_that_end_in_one_are_those_of_llama_quantize() {
    const FILES: [(&str, &str); 4] = [
        ("Q2_K", "b3b8d46acd29ba86d87fb168a7c272c702e7eb7bbce0341fac6a058aa0af618a"),
        ("Q4_K_M", "2a27a4d91978c12abd8a7edfc1a775bbe7d327621600d17204ab806492297898"),
        ("Q8_0", "6eb62ec5b59fdc2f6e3b922ad00e9a5c5f9f01a17e1beade57e5595f87fdd756"),
        ("F32", "9a88814edde8845f6e35cf391169c6823333a74f1a5e3ac9f85b823cfd14e845"),
    ];
    let folder = Folder::new("quantize-trailing");
    checkpoint(&folder, "qwen2moe");
    let run = |args: &[&str]| {
        let output = gguf(args, folder.root());
        assert!(output.status.success(), "{output:?}");
        output
    };
    run(&["convert", "qwen2moe", "-t", "f16", "-o", "f16.gguf"]);
    for (ty, expected) in FILES {
        let dry = run(&["quantize", "f16.gguf", "-t", ty, "-o", "q.gguf", "--force", "--dry-run"]);
        run(&["quantize", "f16.gguf", "-t", ty, "-o", "q.gguf", "--force"]);
        let bytes = fs::read(folder.path("q.gguf")).expect("a file");
        assert!(text(&dry.stdout).contains(&format!("({} bytes)", bytes.len())), "{ty}: {}", text(&dry.stdout));
        assert_eq!(sha256(&bytes), expected, "{ty}");
        if ty != "F32" {
            run(&["convert", "qwen2moe", "-t", ty, "-o", "c.gguf", "--force"]);
            assert_eq!(sha256(&fs::read(folder.path("c.gguf")).expect("a file")), expected, "{ty} in one pass");
        }
    }
}

/// A model of one matrix, `[256, 2]`, in single precision.
fn one_matrix(folder: &Folder, name: &str, values: &[f32]) {
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", "llama");
    metadata.set("llama.block_count", 1u32);
    let spec = TensorSpec { name: "blk.0.attn_q.weight".into(), shape: vec![256, 2], ty: TensorType::F32 };
    let mut writer = Writer::to_sink(Vec::new(), name, &metadata, &[spec]).expect("a header");
    writer.write_tensor(&values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()).expect("written");
    fs::write(folder.path(name), writer.into_sink().expect("complete")).expect("written");
}

/// Steps of Q8_0 that are zero in half precision, or whose inverse is infinite, have llama-quantize's codes; an infinite
/// step is refused, as there.
#[test]
fn steps_beyond_half_precision_are_those_of_llama_quantize() {
    let folder = Folder::new("quantize-steps");
    let mut values: Vec<f32> = (0..512).map(|i| ((i * 37 % 256) as f32 - 128.0) / 128.0).collect();
    let scales = [1e-45f32, 1e-42, 1.2e-38, 3.7e-37, 1e-36, 1e-30, 1e-8, 1.0];
    for (i, x) in values.iter_mut().enumerate() {
        *x *= scales[i / 32 % 8];
    }
    one_matrix(&folder, "small.gguf", &values);
    let output = gguf(&["quantize", "small.gguf", "-t", "Q8_0", "-o", "q.gguf"], folder.root());
    assert!(output.status.success(), "{output:?}");
    let file = gguf_toolkit::gguf::Reader::open(&folder.path("q.gguf")).expect("opens");
    let data = file.data(&file.tensors()[0]).expect("data");
    assert_eq!(sha256(&data), "b64aafe3c7698a53a2c1137a2e34d89aacf72d0a77a0d70c3ed96872780bccf0");
    values[77] = 1e30;
    one_matrix(&folder, "large.gguf", &values);
    let output = gguf(&["quantize", "large.gguf", "-t", "Q8_0", "-o", "l.gguf"], folder.root());
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let expected = "error: large.gguf: tensor blk.0.attn_q.weight: 1000000000000000000000000000000 at element 64 is too \
                    large for a block of Q8_0\n";
    assert_eq!(text(&output.stderr), expected);
}

/// Quantizing in one pass rounds nothing on its way.
#[test]
fn checkpoints_in_bfloat16_are_quantized_from_it() {
    let folder = Folder::new("quantize-bf16");
    let from = checkpoint(&folder, "llama2").join("model.safetensors");
    let bytes = fs::read(&from).expect("a file");
    let len = 8 + usize::try_from(u64::from_le_bytes(*bytes.first_chunk().expect("a length"))).expect("small");
    // Large numbers are beyond half precision, small ones below it.
    let header = text(&bytes[8..len]).replace("\"F16\"", "\"BF16\"");
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    for (i, x) in bytes[len..].as_chunks::<2>().0.iter().enumerate() {
        let x = half::f16::from_le_bytes(*x).to_f32() * if i % 64 == 0 { 1e7 } else { 1e-6 };
        file.extend(half::bf16::from_f32(x).to_le_bytes());
    }
    fs::write(&from, file).expect("written");
    let run = |args: &[&str]| {
        let output = gguf(args, folder.root());
        assert!(output.status.success(), "{output:?}");
    };
    run(&["convert", "llama2", "-t", "bf16", "-o", "bf16.gguf"]);
    run(&["quantize", "bf16.gguf", "-t", "Q8_0", "-o", "two.gguf"]);
    run(&["convert", "llama2", "-t", "Q8_0", "-o", "one.gguf"]);
    assert!(fs::read(folder.path("one.gguf")).expect("a file") == fs::read(folder.path("two.gguf")).expect("a file"));
}

/// What a checkpoint's folder has been read of is no output.
#[test]
fn files_of_a_checkpoint_are_never_overwritten() {
    let folder = Folder::new("quantize-checkpoint");
    let from = checkpoint(&folder, "llama2");
    fs::write(from.join("added_tokens.json"), "{}").expect("written");
    fs::write(from.join("notes.txt"), "notes").expect("written");
    for name in ["config.json", "generation_config.json", "added_tokens.json", "tokenizer_config.json"] {
        let before = fs::read(from.join(name)).expect("a file");
        let output = gguf(&["convert", "llama2", "-o", &format!("llama2/{name}"), "--force"], folder.root());
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(text(&output.stderr).contains("is an input"), "{output:?}");
        assert!(fs::read(from.join(name)).expect("a file") == before, "{name}");
    }
    let output = gguf(&["convert", "llama2", "-o", "llama2/notes.txt", "--force"], folder.root());
    assert!(output.status.success(), "{output:?}");
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
