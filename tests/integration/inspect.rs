//! `gguf inspect`, as users and programs call it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use gguf_toolkit::TensorType;
use gguf_toolkit::files::Overwrite;
use gguf_toolkit::gguf::{Array, Metadata, Reader, SplitWriter, TensorSpec, Writer};
use serde_json::{Value as Json, json};

use super::folder::{Folder, Sparse};
use super::shared::shared;

fn gguf(args: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gguf"));
    // No stores but those of the test.
    for name in ["HF_HOME", "HF_HUB_CACHE", "OLLAMA_MODELS", "LLAMA_CACHE", "XDG_CACHE_HOME", "GGUF_MODELS"] {
        command.env_remove(name);
    }
    command.env("HOME", folder).args(args).current_dir(folder).output().expect("runs")
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).expect("UTF-8")
}

fn spec(name: &str, shape: &[u64], ty: TensorType) -> TensorSpec {
    TensorSpec { name: name.into(), shape: shape.into(), ty }
}

fn metadata() -> Metadata {
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", "llama");
    metadata.set("general.name", "evil\x1b[2J\nerror: forged");
    metadata.set("llama.rope.freq_base", 5e5f32);
    metadata.set("a.nan", f32::NAN);
    metadata.set("a.numbers", Array::from(&(0..100).collect::<Vec<i32>>()[..]));
    metadata.set("a.tokens", Array::strings([&b"\xff"[..], b"\"", "▁x".as_bytes()]));
    metadata
}

fn small_model(folder: &Folder) -> PathBuf {
    let path = folder.path("small.gguf");
    let tensors = [spec("output.weight", &[64, 2], TensorType::Q8_0), spec("norm", &[4], TensorType::F32)];
    let mut writer = Writer::create(&path, Overwrite::Refuse, &metadata(), &tensors).expect("created");
    writer.write_tensor(&[0; 136]).expect("written");
    writer.write_tensor(&[0; 16]).expect("written");
    writer.finish().expect("finished");
    path
}

#[test]
fn people_see_one_line_a_key_and_a_tensor() {
    let folder = Folder::new("inspect-text");
    small_model(&folder);
    let output = gguf(&["inspect", "small.gguf", "--metadata", "--tensors"], folder.root());
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let expected = "\
small.gguf
GGUF version 3, llama, 132 parameters, 960 B (960 bytes), 9.21 bits per weight

Metadata: 6 keys
key                   type        value
general.architecture  STRING      llama
general.name          STRING      evil\\u{1b}[2J\\nerror: forged
llama.rope.freq_base  FLOAT32     500000.0
a.nan                 FLOAT32     NaN
a.numbers             INT32[100]  [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, ...]
a.tokens              STRING[3]   [\"\\xff\", \"\\\"\", \"▁x\"]

Tensors: 2
tensor         shape   type  bytes  offset
output.weight  [64,2]  Q8_0    136     768
norm           [4]     F32      16     928

Totals
type   tensors  parameters  bytes  bits per weight
F32          1           4     16            32.00
Q8_0         1         128    136             8.50
total        2         132    152             9.21
";
    assert_eq!(text(&output.stdout), expected);
}

#[test]
fn the_first_screen_tells_what_a_model_is() {
    let folder = Folder::new("inspect-screen");
    small_model(&folder);
    let output = gguf(&["inspect", "small.gguf"], folder.root());
    let expected = "\
evil\\u{1b}[2J\\nerror: forged
  file          small.gguf
  size          960 B, 9.21 bits per weight, GGUF version 3
  architecture  llama
  parameters    132
  chat template none
  matrices      Q8_0: output
  cannot run    key llama.block_count is missing
  more          --fit, --metadata, --tensors [REGEX], --template, --vocab
                [REGEX], --values TENSOR, --full, --json
";
    assert_eq!(text(&output.stdout), expected);
    let output = gguf(&["inspect"], folder.root());
    let screen = text(&output.stdout);
    assert!(screen.lines().count() <= 24 && screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
    for line in [
        "Storyteller\n",
        "  parameters    3.67 M\n",
        "  context       1024 tokens\n",
        "  type          F16\n",
        "  runs with     gguf chat, ",
        "  memory        ",
        " MiB with 1024 tokens (cache 2.00 MiB): fits in ",
    ] {
        assert!(screen.contains(line), "{line}: {screen}");
    }
}

#[test]
fn tensors_tokens_and_numbers_are_chosen_by_patterns() {
    let folder = Folder::new("inspect-patterns");
    small_model(&folder);
    let run = |args: &[&str]| {
        let output = gguf(&[&["inspect", "small.gguf"], args].concat(), folder.root());
        assert!(output.status.success(), "{args:?}: {output:?}");
        text(&output.stdout).to_owned()
    };
    let tensors = run(&["--tensors", "^out"]);
    assert!(tensors.contains("Tensors: 1 of 2\n") && !tensors.contains("norm"), "{tensors}");
    let values = run(&["--values", "norm"]);
    assert!(values.starts_with("norm  [4]  F32  4 elements\n  min 0.000000e0  max 0.000000e0  mean"), "{values}");
    let json: Json = serde_json::from_str(&run(&["--values", "norm|output", "--json"])).expect("JSON");
    assert_eq!((&json[0]["values"][1]["zeros"], &json[0]["values"][0]["nan"]), (&json!(4), &json!(0)));
    let none = gguf(&["inspect", "small.gguf", "--values", "nothing"], folder.root());
    assert_eq!(text(&none.stderr), "error: small.gguf: no tensor matches nothing\n");
    let bad = gguf(&["inspect", "small.gguf", "--tensors", "("], folder.root());
    assert_eq!(text(&bad.stderr), "error: pattern (: error: unclosed group\n");
    let of_embedded = |args: &[&str]| text(&gguf(&[&["inspect"], args].concat(), folder.root()).stdout).to_owned();
    assert_eq!(of_embedded(&["--vocab", "^<s>$"]), "      1  control                0  '<s>'\n");
    assert_eq!(of_embedded(&["--template"]), of_embedded(&["--key", "tokenizer.chat_template"]));
    // An option's pattern that is a file's name is the model.
    assert_eq!(text(&gguf(&["inspect", "--tensors", "small.gguf"], folder.root()).stdout), run(&["--tensors"]));
}

#[test]
fn programs_get_valid_json() {
    let folder = Folder::new("inspect-json");
    small_model(&folder);
    let run = |args: &[&str]| -> Json {
        let output = gguf(args, folder.root());
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let model = &run(&["inspect", "--json", "small.gguf"])[0];
    assert_eq!((&model["parameters"], &model["file_bytes"]), (&json!(132), &json!(960)));
    assert_eq!((&model["schema_version"], &model["summary"]["runs"]), (&json!(1), &json!(false)));
    let metadata = &model["metadata"];
    assert_eq!(metadata["general.name"]["value"], "evil\x1b[2J\nerror: forged");
    assert_eq!(metadata["a.nan"], json!({ "type": "FLOAT32", "value": "NaN" }));
    assert_eq!((&metadata["a.numbers"]["length"], &metadata["a.numbers"]["cut"]), (&json!(100), &json!(true)));
    assert_eq!(
        model["tensors"][0],
        json!({ "name": "output.weight", "shape": [64, 2], "type": "Q8_0", "bytes": 136, "file": 0, "offset": 768 })
    );
    let model = &run(&["inspect", "--json", "--full", "--metadata", "small.gguf"])[0];
    assert_eq!(model["metadata"]["a.numbers"]["value"].as_array().map(Vec::len), Some(100));
    assert!(model.get("tensors").is_none());
}

#[test]
fn one_value_is_given_as_it_is() {
    let folder = Folder::new("inspect-key");
    small_model(&folder);
    let value = |key| gguf(&["inspect", "small.gguf", "--key", key], folder.root());
    assert_eq!(value("general.name").stdout, b"evil\x1b[2J\nerror: forged\n");
    assert_eq!(value("a.tokens").stdout, b"\xff\n\"\n\xe2\x96\x81x\n");
    let missing = value("no.such\nkey");
    assert_eq!(missing.status.code(), Some(2));
    assert_eq!(text(&missing.stderr), "error: small.gguf: there is no key no.such\\nkey\n");
}

#[test]
fn shards_are_shown_once_and_as_one() {
    let folder = Folder::new("inspect-split");
    let shards = [vec![spec("a", &[8], TensorType::I8)], vec![spec("b", &[8], TensorType::I8)]];
    let mut writer =
        SplitWriter::create(&folder.path("m.gguf"), Overwrite::Refuse, &metadata(), &shards).expect("created");
    writer.write_tensor(&[1; 8]).expect("written");
    writer.write_tensor(&[2; 8]).expect("written");
    writer.finish().expect("finished");
    let output = gguf(&["inspect", "-t", "m-00001-of-00002.gguf", "m-00002-of-00002.gguf"], folder.root());
    let lines: Vec<_> = text(&output.stdout).lines().skip(2).collect();
    let expected = "
Tensors: 2
m-00001-of-00002.gguf: 832 bytes
tensor  shape  type  bytes  offset
a       [8]    I8        8     800
m-00002-of-00002.gguf: 192 bytes
tensor  shape  type  bytes  offset
b       [8]    I8        8     160

Totals
type   tensors  parameters  bytes  bits per weight
I8           2          16     16             8.00
total        2          16     16             8.00";
    assert_eq!(lines.join("\n"), expected);
}

#[test]
fn a_bad_file_does_not_hide_the_good_ones() {
    let folder = Folder::new("inspect-bad");
    small_model(&folder);
    std::fs::write(folder.path("bad.gguf"), b"GGUF\x03\0\0\0").expect("written");
    let output = gguf(&["inspect", "bad.gguf", "small.gguf", "none.gguf"], folder.root());
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stdout).contains("small.gguf"));
    assert_eq!(
        text(&output.stderr),
        "error: bad.gguf: tensor count at offset 8: 8 bytes needed, 0 left in the file (truncated download?)\n\
         error: none.gguf: no such file, nor a model of this name\n"
    );
}

#[test]
fn a_closed_pipe_is_no_error() {
    let folder = Folder::new("inspect-pipe");
    let path = folder.path("long.gguf");
    let tensors: Vec<_> = (0..20_000).map(|i| spec(&format!("tensor.{i}"), &[0], TensorType::F32)).collect();
    Writer::create(&path, Overwrite::Refuse, &metadata(), &tensors).expect("created").finish().expect("finished");
    for options in [&[][..], &["--json"], &["--full"], &["--tensors"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gguf"));
        command.arg("inspect").arg(&path).args(options).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("runs");
        drop(child.stdout.take());
        assert_eq!(child.wait().expect("ends").code(), Some(0), "{options:?}");
    }
}

/// Llama-3.2-1B in F16, all zero, with the vocabulary of Llama 3.
fn one_billion(path: &Path) {
    let vocabulary = Reader::open(&shared("vocab/ggml-vocab-llama-bpe.gguf")).expect("vocabulary");
    let mut tensors = vec![spec("token_embd.weight", &[2048, 128_256], TensorType::F16)];
    for block in 0..16 {
        let mut add = |name: &str, shape: &[u64]| {
            tensors.push(spec(&format!("blk.{block}.{name}.weight"), shape, TensorType::F16));
        };
        add("attn_q", &[2048, 2048]);
        add("attn_k", &[2048, 512]);
        add("attn_v", &[2048, 512]);
        add("attn_output", &[2048, 2048]);
        add("ffn_gate", &[2048, 8192]);
        add("ffn_up", &[2048, 8192]);
        add("ffn_down", &[8192, 2048]);
    }
    let file = File::create(path).expect("created");
    let mut writer = Writer::to_sink(Sparse(file), "1b", vocabulary.metadata(), &tensors).expect("valid");
    let zeros = vec![0; 2048 * 512 * 2];
    for tensor in &tensors {
        let bytes: u64 = 2 * tensor.shape.iter().product::<u64>();
        for _ in 0..bytes / zeros.len() as u64 {
            writer.write_tensor(&zeros).expect("written");
        }
        let rest = usize::try_from(bytes % zeros.len() as u64).expect("small");
        writer.write_tensor(&zeros[..rest]).expect("written");
    }
    let file = writer.into_sink().expect("complete").0;
    let size = gguf_toolkit::gguf::file_size(vocabulary.metadata(), &tensors).expect("valid");
    file.set_len(size).expect("sized");
}

#[test]
fn tensors_of_types_that_are_not_known_do_not_hide_a_file() {
    let folder = Folder::new("inspect-unknown");
    small_model(&folder);
    let path = folder.path("small.gguf");
    let mut bytes = std::fs::read(&path).expect("a file");
    // The type of the first tensor stands after its name and its two dimensions.
    let name = b"output.weight";
    let at = bytes.windows(name.len()).position(|window| window == name).expect("there") + name.len() + 4 + 16;
    assert_eq!(bytes[at..at + 4], 8u32.to_le_bytes());
    bytes[at..at + 4].copy_from_slice(&139u32.to_le_bytes());
    std::fs::write(&path, bytes).expect("written");
    let output = gguf(&["inspect", "--key", "general.architecture", "small.gguf"], folder.root());
    assert!(output.status.success() && output.stdout == b"llama\n", "{output:?}");
    let output = gguf(&["inspect", "--json", "small.gguf"], folder.root());
    let models: Json = serde_json::from_slice(&output.stdout).expect("JSON");
    let tensors = models[0]["tensors"].as_array().expect("tensors");
    let unknown = tensors.iter().find(|tensor| tensor["name"] == "output.weight").expect("there");
    // Up to the next tensor: 136 bytes and their padding.
    assert_eq!((&unknown["type"], &unknown["bytes"]), (&json!("type 139"), &json!(160)), "{unknown}");
    assert_eq!(tensors.len(), 2);
    let output = gguf(&["inspect", "small.gguf"], folder.root());
    assert!(output.status.success() && text(&output.stdout).contains("type 139"), "{output:?}");
    let output = gguf(&["inspect", "--verbose", "small.gguf"], folder.root());
    assert!(
        text(&output.stdout).contains("cannot be run: small.gguf: tensor output.weight: tensor type 139"),
        "{output:?}"
    );
    for command in [&["logits", "small.gguf", "--ids", "1"][..], &["quantize", "small.gguf", "-t", "q4_0"]] {
        let output = gguf(command, folder.root());
        let stderr = text(&output.stderr);
        assert!(output.status.code() == Some(2) && stderr.contains("output.weight"), "{stderr}");
        assert!(stderr.contains("tensor type 139 is not known"), "{stderr}");
    }
}

#[test]
#[ignore = "needs GGUF_SHARED"]
fn a_model_of_a_billion_weights_is_shown() {
    let folder = Folder::new("inspect-1b");
    let path = folder.path("1b.gguf");
    one_billion(&path);
    let times = (0..5).map(|_| {
        let start = Instant::now();
        let output = Command::new(env!("CARGO_BIN_EXE_gguf")).arg("inspect").arg(&path).output().expect("runs");
        assert!(output.status.success(), "{output:?}");
        assert!(text(&output.stdout).contains("  parameters    1.24 B\n"), "{}", text(&output.stdout));
        start.elapsed()
    });
    let best = times.min().expect("five");
    println!("gguf inspect of 1.24 B parameters and 128 k tokens: {best:?}");
}
