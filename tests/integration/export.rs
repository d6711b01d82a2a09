//! `gguf export`: what is exported and converted again is the file that it was.

use std::fs;
use std::path::Path;

use gguf_toolkit::convert::{Conversion, Folder as Checkpoint, Options as ConvertOptions, OutputType};
use gguf_toolkit::export::{Export, Options, WeightType};
use gguf_toolkit::files::Overwrite;
use gguf_toolkit::gguf::{Reader, Value};
use gguf_toolkit::safetensors;
use serde_json::Value as Json;

use super::convert::convert;
use super::folder::Folder;
use super::goldens::checkpoint;
use super::quantize_command::{gguf, storyteller, text};
use super::shared::{json, testdata};

/// Settings of a checkpoint that its tensors or its class tell and that must be there for transformers, if they are there
/// in the original.
const ALSO: &[&str] = &[
    "attention_bias",
    "attention_out_bias",
    "mlp_bias",
    "qk_layernorm",
    "tie_word_embeddings",
    "use_bias",
    "use_qk_norm",
    "use_qkv_bias",
    "vocab_size",
];

fn export(reader: &Reader, folder: &Path) -> Result<&'static str, gguf_toolkit::export::Error> {
    let export = Export::new(reader, &Options::default())?;
    export.write(folder, Overwrite::Refuse, &|_| true)?;
    Ok(export.class())
}

/// The architecture's keys.
fn keys(reader: &Reader) -> Vec<(String, Value)> {
    let architecture = reader.metadata().get("general.architecture").and_then(Value::as_str).expect("there");
    let own = reader.metadata().iter().filter(|(key, _)| key.starts_with(&format!("{architecture}.")));
    own.map(|(key, value)| (key.to_owned(), value.clone())).collect()
}

fn assert_same_model(found: &Reader, expected: &Reader, name: &str) {
    let mut names: Vec<&str> = expected.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
    let mut others: Vec<&str> = found.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
    names.sort_unstable();
    others.sort_unstable();
    assert_eq!(others, names, "{name}: tensors");
    for tensor in expected.tensors() {
        let other = found.tensor(&tensor.name).expect("there");
        assert_eq!((other.ty, &other.shape), (tensor.ty, &tensor.shape), "{name}: {}", tensor.name);
        let (a, b) = (found.data(other).expect("data"), expected.data(tensor).expect("data"));
        assert!(*a == *b, "{name}: {}: other numbers", tensor.name);
    }
    let (mut found, mut expected) = (keys(found), keys(expected));
    found.sort_by(|a, b| a.0.cmp(&b.0));
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(found, expected, "{name}: keys");
}

/// Whether a setting says the same, where a missing one is what the class gives.
fn assert_same_setting(found: &Json, expected: &Json, setting: &str, name: &str) {
    let (a, b) = (&found[setting], &expected[setting]);
    if !b.is_null() {
        assert!(a == b || a.is_null() && *b == false, "{name}: {setting}: {a} for {b}");
    }
}

#[test]
fn goldens_come_back() {
    let folder = Folder::new("export-goldens");
    let mut names: Vec<String> = fs::read_dir(testdata("arch"))
        .expect("goldens")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .collect();
    names.sort();
    let (mut exported, mut refused) = (0, Vec::new());
    for name in &names {
        let original = checkpoint(&folder, name);
        let first = convert(&original, &folder.path(&format!("{name}-1.gguf")));
        let to = folder.path(&format!("{name}-exported"));
        match export(&first, &to) {
            Err(error) => refused.push((name.clone(), error.to_string())),
            Ok(_) => {
                exported += 1;
                let back = convert(&to, &folder.path(&format!("{name}-2.gguf")));
                assert_same_model(&back, &first, name);
                let (found, expected) = (json(&to.join("config.json")), json(&original.join("config.json")));
                ALSO.iter().for_each(|setting| assert_same_setting(&found, &expected, setting, name));
            }
        }
    }
    // What is refused is an architecture without a row, by its name.
    for (name, message) in &refused {
        assert!(
            message.contains("models of the architecture ") && message.contains("cannot be exported yet"),
            "{name}: {message}"
        );
    }
    assert!(exported >= 39, "{exported} of {}: {refused:#?}", names.len());
}

#[test]
fn quantized_weights_are_decoded() {
    let folder = Folder::new("export-quantized");
    storyteller(&folder);
    let run = |line: &str| gguf(&line.split_whitespace().collect::<Vec<_>>(), folder.root());
    assert!(run("quantize storyteller-F16.gguf q.gguf Q4_K_M").status.success());
    let output = run("export q.gguf out -t f32 --max-size 1M");
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output.stdout).starts_with("out: LlamaForCausalLM, "), "{output:?}");
    assert!(folder.path("out/model.safetensors.index.json").exists());
    let options = ConvertOptions { output_type: OutputType::F32, ..ConvertOptions::default() };
    let back = Conversion::new(Checkpoint::open(&folder.path("out")).expect("a folder"), &options).expect("valid");
    let bytes = gguf_toolkit::quantize::run_in_memory(&back, &back.plan(&[]).expect("a plan")).expect("made");
    let back = Reader::from_bytes("back", bytes.into()).expect("valid");
    let quantized = Reader::open(&folder.path("q.gguf")).expect("valid");
    for tensor in quantized.tensors() {
        let mut numbers = vec![0.0; usize::try_from(tensor.elements()).expect("small")];
        gguf_toolkit::formats::decode(tensor.ty, &quantized.data(tensor).expect("data"), &mut numbers);
        let expected: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let found = back.data(back.tensor(&tensor.name).expect("there")).expect("data");
        assert!(*found == *expected, "{}", tensor.name);
    }
}

#[test]
fn folders_are_not_overwritten() {
    let folder = Folder::new("export-folders");
    storyteller(&folder);
    let run = |line: &str| gguf(&line.split_whitespace().collect::<Vec<_>>(), folder.root());
    let fails = |line: &str, message: &str| {
        let output = run(line);
        assert_eq!(output.status.code(), Some(2), "{line}: {output:?}");
        assert!(text(&output.stderr).contains(message), "{line}: {output:?}");
    };
    let dry = run("export storyteller-F16.gguf out -n");
    assert!(dry.status.success() && !folder.path("out").exists(), "{dry:?}");
    fs::create_dir(folder.path("out")).expect("made");
    assert!(run("export storyteller-F16.gguf out").status.success(), "an empty folder is taken");
    fails("export storyteller-F16.gguf out", "out: the folder is not empty (--force");
    fails("export storyteller-F16.gguf storyteller-F16.gguf", "storyteller-F16.gguf: not a folder");
    fs::write(folder.path("out/README.md"), "mine").expect("written");
    assert!(run("export storyteller-F16.gguf out/ --force -t bf16").status.success());
    assert_eq!(fs::read(folder.path("out/README.md")).expect("there"), b"mine");
    assert_eq!(json(&folder.path("out/config.json"))["torch_dtype"], "bfloat16");
    fails("export storyteller-F16.gguf out --force --max-size 1M", "out: has model.safetensors, which is not part of");
    fs::write(folder.path("model.safetensors"), fs::read(folder.path("storyteller-F16.gguf")).expect("there"))
        .expect("written");
    fails("export ./model.safetensors . --force", "is an input, and would be overwritten");
    let left: Vec<_> =
        fs::read_dir(folder.root()).expect("a folder").flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains(".tmp-")), "{left:?}");
}

#[test]
fn work_that_is_stopped_leaves_nothing() {
    let folder = Folder::new("export-stopped");
    storyteller(&folder);
    let reader = Reader::open(&folder.path("storyteller-F16.gguf")).expect("valid");
    let options = Options { weight_type: Some(WeightType::F32), ..Options::default() };
    let export = Export::new(&reader, &options).expect("possible");
    let error = export.write(&folder.path("out"), Overwrite::Refuse, &|_| false).expect_err("stopped");
    assert_eq!(error.to_string(), "stopped");
    let names: Vec<_> =
        fs::read_dir(folder.root()).expect("a folder").flatten().map(|entry| entry.file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().contains("out")), "{names:?}");
}

/// The library `tokenizers` reads what is written.
#[test]
fn tokenizers_of_the_library_agree() {
    let folder = Folder::new("export-tokenizers");
    for name in ["llama3", "mistral", "qwen2", "gemma3", "gpt2", "starcoder2"] {
        let original = checkpoint(&folder, name);
        let reader = convert(&original, &folder.path(&format!("{name}.gguf")));
        let to = folder.path(&format!("{name}-exported"));
        export(&reader, &to).unwrap_or_else(|error| panic!("{name}: {error}"));
        let own = gguf_toolkit::tokenizer::Tokenizer::from_gguf(&reader).expect("a tokenizer");
        let library = tokenizers::Tokenizer::from_file(to.join("tokenizer.json"))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        for text in
            ["Once upon a time, there were 1234 cats.", "  two  spaces\n\n\tand más 中文 🙂", "don't!", "<s>x</s>"]
        {
            let options = gguf_toolkit::tokenizer::EncodeOptions { add_special: true, parse_special: true };
            let expected = own.encode(text, options).expect("encodes");
            let found = library.encode(text, true).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(found.get_ids(), expected, "{name}: {text:?}");
        }
    }
}

#[test]
fn a_number_that_half_precision_lacks_is_refused() {
    let folder = Folder::new("export-range");
    let original = checkpoint(&folder, "llama3");
    let options = ConvertOptions { output_type: OutputType::F32, ..ConvertOptions::default() };
    let conversion = Conversion::new(Checkpoint::open(&original).expect("a folder"), &options).expect("valid");
    let mut bytes =
        gguf_toolkit::quantize::run_in_memory(&conversion, &conversion.plan(&[]).expect("a plan")).expect("made");
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&1e6f32.to_le_bytes());
    let reader = Reader::from_bytes("large", bytes.into()).expect("valid");
    let half = Options { weight_type: Some(WeightType::F16), ..Options::default() };
    let write = |options: &Options| {
        Export::new(&reader, options).expect("possible").write(&folder.path("out"), Overwrite::Refuse, &|_| true)
    };
    let error = write(&half).expect_err("out of range").to_string();
    assert!(error.contains("1e6 is out of the range of F16"), "{error}");
    write(&Options { weight_type: Some(WeightType::BF16), ..Options::default() }).expect("in range");
    assert!(safetensors::Checkpoint::open(&folder.path("out")).is_ok());
}
