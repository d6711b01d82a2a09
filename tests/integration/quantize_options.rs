//! Options of `gguf quantize` and `gguf convert -t TYPE`: files against llama-quantize's, plans, measures, refusals.

use std::fs;
use std::path::Path;

use gguf_toolkit::TensorType;
use gguf_toolkit::files::Overwrite;
use gguf_toolkit::formats;
use gguf_toolkit::gguf::{Array, Metadata, Reader, SplitWriter, TensorSpec, Value, Writer};
use gguf_toolkit::quantize::{FileType, GgufSource, Options, Plan, TensorPattern};
use serde_json::Value as Json;

use super::folder::Folder;
use super::quantize_command::{gguf, names, storyteller, text};
use super::shared::{json, sha256, testdata};

/// The file in shards of 15 tensors, `split-00001-of-00003.gguf` and so on.
fn split(folder: &Folder, model: &Path) {
    let reader = Reader::open(model).expect("opens");
    let specs: Vec<TensorSpec> = reader.tensors().iter().map(TensorSpec::from).collect();
    let shards: Vec<Vec<TensorSpec>> = specs.chunks(15).map(<[TensorSpec]>::to_vec).collect();
    let mut writer =
        SplitWriter::create(&folder.path("split.gguf"), Overwrite::Refuse, reader.metadata(), &shards).expect("begun");
    for tensor in reader.tensors() {
        writer.write_tensor(&reader.data(tensor).expect("data")).expect("written");
    }
    writer.finish().expect("finished");
}

#[test]
fn options_give_the_files_of_llama_quantize() {
    let folder = Folder::new("quantize-options");
    split(&folder, &storyteller(&folder));
    let goldens = json(&testdata("storyteller-options.json"));
    for (name, golden) in goldens.as_object().expect("cases") {
        let source = match golden["source"].as_str().expect("source") {
            "f16" => "storyteller-F16.gguf",
            "kv" => "out-kv.gguf",
            _ => "split-00002-of-00003.gguf",
        };
        let out = format!("out-{name}.gguf");
        let options: Vec<&str> = golden["args"].as_str().expect("args").split(' ').collect();
        let output = gguf(&[&["quantize", source, "-o", &out], &options[..]].concat(), folder.root());
        assert!(output.status.success(), "{name}: {}", text(&output.stderr));
        let files = golden["files"].as_array().expect("files");
        for (number, golden) in files.iter().enumerate() {
            let path = match files.len() {
                1 => out.clone(),
                count => format!("out-{name}-{:05}-of-{count:05}.gguf", number + 1),
            };
            let written = fs::read(folder.path(&path)).expect("there");
            assert_eq!(Some(written.len() as u64), golden["bytes"].as_u64(), "{path}");
            assert_eq!(Some(&*sha256(&written)), golden["sha256"].as_str(), "{path}");
        }
    }
}

#[test]
fn converting_to_a_type_is_both_steps_in_one() {
    let folder = Folder::new("quantize-convert");
    storyteller(&folder);
    fs::write(folder.path("types.txt"), "attn_v=q8_0\n  blk\\.1\\.ffn_up=F16 ").expect("written");
    let checkpoint = testdata("storyteller");
    let checkpoint = checkpoint.to_str().expect("UTF-8");
    for options in [
        &["-t", "Q4_K_M"][..],
        &["-t", "Q3_K_M", "--tensor-type-file", "types.txt", "--override-kv", "a.b=str:c"],
        &["-t", "Q8_0", "--pure", "--prune-layers", "1"],
    ] {
        let run = |command: &[&str]| {
            let output = gguf(&[command, options, &["--force"]].concat(), folder.root());
            assert!(output.status.success(), "{}", text(&output.stderr));
        };
        run(&["convert", checkpoint, "-o", "one.gguf"]);
        run(&["quantize", "storyteller-F16.gguf", "-o", "two.gguf"]);
        assert!(fs::read(folder.path("one.gguf")).expect("one") == fs::read(folder.path("two.gguf")).expect("two"));
    }
    let plain = gguf(&["convert", checkpoint, "-t", "f16", "--pure"], folder.root());
    assert_eq!(text(&plain.stderr), "error: --pure needs a quantized type (-t Q4_K_M, say)\n");
}

fn spec(name: &str, shape: &[u64], ty: TensorType) -> TensorSpec {
    TensorSpec { name: name.into(), shape: shape.into(), ty }
}

/// A small model of one block, with rows that do not fill blocks of 256; `change` is made to the numbers of a tensor.
fn small(folder: &Folder, name: &str, change: (&str, usize, f32)) {
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", "llama");
    metadata.set("llama.block_count", 1u32);
    metadata.set("llama.feed_forward_length", Array::from(&[96u32][..]));
    let tensors = [
        spec("token_embd.weight", &[256, 8], TensorType::F32),
        spec("blk.0.attn_norm.weight", &[256], TensorType::F32),
        spec("blk.0.ffn_down.weight", &[96, 256], TensorType::F32),
        spec("blk.0.ffn_up.weight", &[256, 96], TensorType::F32),
    ];
    let mut writer = Writer::create(&folder.path(name), Overwrite::Refuse, &metadata, &tensors).expect("begun");
    for tensor in &tensors {
        let count: u64 = tensor.shape.iter().product();
        let mut numbers: Vec<f32> = (0..count).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
        if tensor.name == change.0 {
            numbers[change.1] = change.2;
        }
        let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        writer.write_tensor(&bytes).expect("written");
    }
    writer.finish().expect("finished");
}

#[test]
fn plans_are_shown_before_anything_is_written() {
    let folder = Folder::new("quantize-plan");
    small(&folder, "small.gguf", ("", 0, 0.0));
    let run = |args: &[&str]| gguf(&[&["quantize", "small.gguf", "-t", "Q4_K_M"], args].concat(), folder.root());
    let output = run(&["--dry-run", "--tensor-type", "ffn_up=q8_0"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let expected = "\
tensor                  shape     from  to    why                              bytes before  bytes
token_embd.weight       [256,8]   F32   Q6_K  mix: output                              8192   1680
blk.0.attn_norm.weight  [256]     F32   F32   not quantized                            1024   1024
blk.0.ffn_down.weight   [96,256]  F32   Q8_0  fallback: rows do not fill Q6_K         98304  26112
blk.0.ffn_up.weight     [256,96]  F32   Q8_0  override                                98304  26112

Totals
type   tensors  parameters  bytes  bits per weight
F32          1         256   1024            32.00
Q8_0         2       49152  52224             8.50
Q6_K         1        2048   1680             6.56
total        4       51456  54928             8.54

1 of 4 tensors falls back, their rows do not fill blocks: 1 from Q6_K to Q8_0

201 KiB -> 54.1 KiB (55424 bytes), 8.54 bits per weight
";
    // What follows depends on the machine.
    let plan = text(&output.stdout).strip_prefix(expected).expect("the plan");
    assert!(plan.starts_with("Needs 54.1 KiB (") && plan.lines().count() == 1, "{plan}");
    assert_eq!(names(&folder), ["small.gguf"]);
    let plan: Json = serde_json::from_slice(&run(&["-n", "--json"]).stdout).expect("JSON");
    assert_eq!(plan["tensors"][2]["reason"], "fallback");
    assert_eq!((&plan["fallbacks"], &plan["parameters"]), (&1.into(), &51456.into()));
    let real = run(&["-o", "out.gguf"]);
    assert!(real.status.success() && real.stdout.is_empty());
    let warning = "warning: 1 of 4 tensors falls back, their rows do not fill blocks: 1 from Q6_K to Q8_0";
    assert!(text(&real.stderr).contains(warning), "{}", text(&real.stderr));
    let size = fs::metadata(folder.path("out.gguf")).expect("there").len();
    assert_eq!(plan["file_bytes"].as_u64(), Some(size));
    let refused = run(&["--no-fallback", "-o", "no.gguf"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("blk.0.ffn_down.weight: rows of 96 elements do not fill blocks of Q6_K"));
    assert!(!run(&["--dry-run", "--stats"]).status.success());
    assert_eq!(names(&folder), ["out.gguf", "small.gguf"]);
}

#[test]
fn what_is_no_number_is_named() {
    let folder = Folder::new("quantize-nan");
    let cases = [
        ("blk.0.ffn_up.weight", 24_575, f32::NAN, "element 24575 is NaN"),
        ("blk.0.attn_norm.weight", 3, f32::NEG_INFINITY, "element 3 is -inf"),
    ];
    for (tensor, index, value, message) in cases {
        let name = format!("{tensor}.gguf");
        small(&folder, &name, (tensor, index, value));
        let output = gguf(&["quantize", &name, "-t", "Q8_0", "-o", "out.gguf"], folder.root());
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(text(&output.stderr), format!("error: {name}: tensor {tensor}: {message}\n"));
    }
    assert_eq!(names(&folder), ["blk.0.attn_norm.weight.gguf", "blk.0.ffn_up.weight.gguf"]);
}

#[test]
fn measures_are_those_of_the_files() {
    let folder = Folder::new("quantize-stats");
    let model = storyteller(&folder);
    let run = |threads: &str| -> Json {
        let args = ["quantize", "storyteller-F16.gguf", "-t", "Q4_K_M", "--stats", "--json", "--force", "-j", threads];
        let output = gguf(&args, folder.root());
        assert!(output.status.success(), "{output:?}");
        let mut report: Json = serde_json::from_slice(&output.stdout).expect("JSON");
        assert!(report["seconds"].take().as_f64().is_some());
        report
    };
    let report = run("1");
    assert_eq!(report, run("2"));
    assert_eq!(report, run("5"));
    let (source, written) = (Reader::open(&model).expect("source"), folder.path("storyteller-Q4_K_M.gguf"));
    let written = Reader::open(&written).expect("written");
    let numbers = |reader: &Reader, name: &str| -> Vec<f64> {
        let tensor = reader.tensor(name).expect("there");
        let mut numbers = vec![0.0; usize::try_from(tensor.elements()).expect("small")];
        formats::decode(tensor.ty, &reader.data(tensor).expect("data"), &mut numbers);
        numbers.into_iter().map(f64::from).collect()
    };
    let mut measured = 0;
    for tensor in report["tensors"].as_array().expect("tensors").iter().filter(|t| t.get("error").is_some()) {
        let name = tensor["name"].as_str().expect("name");
        let (x, y) = (numbers(&source, name), numbers(&written, name));
        let errors: Vec<f64> = x.iter().zip(&y).map(|(x, y)| (x - y).abs()).collect();
        let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let rmse = |errors: &[f64]| (sum(errors, errors) / errors.len() as f64).sqrt();
        let error = &tensor["error"];
        let assert_close = |key: &str, expected: f64| {
            let found = error[key].as_f64().expect("a number");
            assert!((found - expected).abs() <= expected * 1e-9, "{name} {key}: {found}, expected {expected}");
        };
        let block = if tensor["type"] == "Q8_0" { 32 } else { 256 };
        let blocks: Vec<f64> = errors.chunks(block).map(rmse).collect();
        assert_close("rmse", rmse(&errors));
        assert_close("relative_rmse", (sum(&errors, &errors) / sum(&x, &x)).sqrt());
        assert_close("cosine", sum(&x, &y) / (sum(&x, &x) * sum(&y, &y)).sqrt());
        assert_close("max_error", errors.iter().copied().fold(0.0, f64::max));
        assert_close("worst_block_rmse", blocks.iter().copied().fold(0.0, f64::max));
        let index = |key: &str| usize::try_from(error[key].as_u64().expect("a number")).expect("small");
        assert_close("max_error", errors[index("max_error_at")]);
        assert_close("worst_block_rmse", blocks[index("worst_block")]);
        measured += 1;
    }
    assert_eq!(measured, 29);
    let shown = gguf(&["quantize", "storyteller-F16.gguf", "-t", "Q2_K", "--stats"], folder.root());
    let shown = text(&shown.stdout);
    assert!(shown.contains("\nRelative RMSE by block\nother  ") && shown.is_ascii(), "{shown}");
    let bars = shown.lines().rev().take_while(|line| !line.starts_with("Relative")).count();
    assert!(bars == 5 && shown.contains(&"#".repeat(40)) && !shown.contains(&"#".repeat(41)), "{shown}");
}

#[test]
fn pruned_layers_take_their_elements_of_the_metadata_with_them() {
    let folder = Folder::new("quantize-prune");
    let model = storyteller(&folder);
    let reader = Reader::open(&model).expect("opens");
    let mut metadata = reader.metadata().clone();
    metadata.set("llama.feed_forward_length", Array::from(&[10u32, 11, 12, 13][..]));
    metadata.set("llama.rope.dimension_sections", Array::from(&[1u32, 2, 3, 4][..]));
    let specs: Vec<TensorSpec> = reader.tensors().iter().map(TensorSpec::from).collect();
    let mut writer = Writer::create(&folder.path("m.gguf"), Overwrite::Refuse, &metadata, &specs).expect("begun");
    for tensor in reader.tensors() {
        writer.write_tensor(&reader.data(tensor).expect("data")).expect("written");
    }
    writer.finish().expect("finished");
    let run = |layers: &str| gguf(&["quantize", "m.gguf", "-t", "Q8_0", "--prune-layers", layers], folder.root());
    assert!(run("0,2").status.success());
    let pruned = Reader::open(&folder.path("m-Q8_0.gguf")).expect("opens");
    let array = |key: &str| pruned.metadata().get(key).and_then(Value::as_array).and_then(Array::to_i64s);
    assert_eq!(array("llama.feed_forward_length"), Some(vec![11, 13]));
    assert_eq!(array("llama.rope.dimension_sections"), Some(vec![1, 2, 3, 4]));
    assert_eq!(pruned.metadata().iter().last(), Some(("llama.block_count", &Value::U32(2))));
    let old = reader.tensor("blk.3.attn_norm.weight").expect("there");
    let new = pruned.tensor("blk.1.attn_norm.weight").expect("there");
    assert_eq!(*reader.data(old).expect("data"), *pruned.data(new).expect("data"));
    assert_eq!(text(&run("1,4").stderr), "error: m.gguf: no layer 4 to leave out (the model has 4)\n");
    assert_eq!(text(&run("0,1,2,3").stderr), "error: m.gguf: no layer would be left\n");
}

#[test]
fn types_are_listed() {
    let folder = Folder::new("quantize-types-list");
    let list = gguf(&["quantize", "--list-types"], folder.root());
    let list = text(&list.stdout);
    let words = |line: &str| line.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
    assert!(list.lines().any(|line| words(line) == "Q4_K_M 15 Q4_K"), "{list}");
    let help = gguf(&["quantize", "--help"], folder.root());
    let help = text(&help.stdout);
    assert!(help.contains("Q4_K_M") && help.contains("4.50 bits, the usual choice"), "{help}");
    let bad = gguf(&["quantize", "x.gguf", "-t", "Q8_0", "--override-kv", "a=int:x"], folder.root());
    assert_eq!(bad.status.code(), Some(2));
    assert!(text(&bad.stderr).contains("a whole number from 0 to 4294967295"), "{}", text(&bad.stderr));
}

/// A model of one tensor of `ty`, two rows of 256 elements.
fn one_tensor(ty: TensorType) -> Reader {
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", "llama");
    metadata.set("llama.block_count", 1u32);
    let spec = TensorSpec { name: "blk.0.ffn_up.weight".into(), shape: vec![256, 2], ty };
    let mut writer = Writer::to_sink(Vec::new(), "model", &metadata, &[spec]).expect("valid");
    writer.write_tensor(&vec![0; 2 * ty.row_bytes(256)]).expect("written");
    Reader::from_bytes("model", writer.into_sink().expect("complete").into()).expect("valid")
}

#[test]
fn what_can_be_read_alone_is_requantized_and_never_written() {
    for codec in formats::codecs().iter().filter(|codec| codec.encode.is_none()) {
        let reader = one_tensor(codec.ty);
        let source = GgufSource::new(&reader);
        let to_f16 = Options { allow_requantize: true, ..Options::new(FileType::F16) };
        let plan = Plan::new(&source, &to_f16).expect("a plan");
        assert_eq!(plan.tensors[0].spec.ty, TensorType::F16, "from {}", codec.ty);

        let reader = one_tensor(TensorType::F32);
        let source = GgufSource::new(&reader);
        let pattern = TensorPattern::parse(&format!("ffn_up={}", codec.ty)).expect("a pattern");
        let options = Options { tensor_types: vec![pattern], ..Options::new(FileType::Q8_0) };
        let error = Plan::new(&source, &options).expect_err("no encoder").to_string();
        let expected = format!("model: tensor blk.0.ffn_up.weight: {} cannot be written yet", codec.ty);
        assert_eq!(error, expected);
    }
}
