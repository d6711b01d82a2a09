//! `gguf export`: what is exported and converted again is the file that it was.

use std::collections::BTreeMap;
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
use super::goldens::{checkpoint, checkpoint_of};
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
    assert_same_data(found, expected, name);
    let (mut found, mut expected) = (keys(found), keys(expected));
    found.sort_by(|a, b| a.0.cmp(&b.0));
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(found, expected, "{name}: keys");
}

fn assert_same_data(found: &Reader, expected: &Reader, name: &str) {
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
}

/// Whether a setting says the same, where a missing one is what the class gives.
fn assert_same_setting(found: &Json, expected: &Json, setting: &str, name: &str) {
    let (a, b) = (&found[setting], &expected[setting]);
    if !b.is_null() {
        assert!(a == b || a.is_null() && *b == false, "{name}: {setting}: {a} for {b}");
    }
}

/// Checkpoints of images and text, of whose text parts alone files are made: they are exported as the class of these, of another
/// architecture.
const TEXT_PARTS: &[&str] = &["qwen25vl", "qwen2vl", "qwen3vl", "qwen3vlmoe"];

/// Checkpoints with layers that predict further tokens (MTP), which are left out.
const PREDICTING: &[&str] = &["glm4moemtp", "qwen35moemtp", "qwen35mtp", "qwen3nextmtp"];

/// That the tensors of a file are those of another without its last layer.
fn assert_same_but_last_layer(found: &Reader, expected: &Reader, name: &str) {
    let last = |tensor: &str| tensor.split('.').nth(1).and_then(|layer| layer.parse::<usize>().ok());
    let layer = expected.tensors().iter().filter_map(|tensor| last(&tensor.name)).max().expect("layers");
    let kept = expected.tensors().iter().filter(|tensor| last(&tensor.name) != Some(layer));
    let kept: Vec<_> = kept.collect();
    assert_eq!(found.tensors().len(), kept.len(), "{name}: tensors");
    for tensor in kept {
        let other = found.tensor(&tensor.name).unwrap_or_else(|| panic!("{name}: {} is missing", tensor.name));
        assert_eq!((other.ty, &other.shape), (tensor.ty, &tensor.shape), "{name}: {}", tensor.name);
        let (a, b) = (found.data(other).expect("data"), expected.data(tensor).expect("data"));
        assert!(*a == *b, "{name}: {}: other numbers", tensor.name);
    }
}

/// Checkpoints whose files cannot be exported, and why.
const REFUSED: &[(&str, &str)] = &[];

/// Parts of names of tensors that no file has: those for images, a pooler that bare encoders do not use.
const NOT_IN_FILES: &[&str] = &["visual", "vision", "projector", "pooler."];

/// A name in a checkpoint of text alone.
fn text_name(name: &str) -> String {
    name.replace("model.language_model.", "model.").replace("language_model.", "")
}

/// That an exported checkpoint has the tensors of the original, with their shapes.
fn assert_same_tensors(found: &Path, original: &Path, name: &str) {
    let shapes = |folder: &Path| -> BTreeMap<String, Vec<u64>> {
        let checkpoint = safetensors::Checkpoint::open(folder).expect("a checkpoint");
        checkpoint.tensors().iter().map(|tensor| (text_name(&tensor.name), tensor.shape.clone())).collect()
    };
    let (found, mut expected) = (shapes(found), shapes(original));
    expected.retain(|name, _| found.contains_key(name) || !NOT_IN_FILES.iter().any(|part| name.contains(part)));
    // A tied matrix need not be there twice, and embeddings of tokens without text may be there besides.
    if !found.contains_key("lm_head.weight") {
        expected.remove("lm_head.weight");
    }
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{name}: names");
    for (tensor, shape) in &found {
        let padded = tensor.contains("embed_tokens_per_layer");
        assert!(padded || *shape == expected[tensor], "{name}: {tensor}: {shape:?} for {:?}", expected[tensor]);
    }
}

/// The keys of an architecture, without its name, and without those of positions in images.
fn keys_of_text(reader: &Reader) -> Vec<(String, Value)> {
    let mut keys: Vec<(String, Value)> = keys(reader)
        .into_iter()
        .filter_map(|(key, value)| Some((key.split_once('.')?.1.to_owned(), value)))
        .filter(|(key, _)| !matches!(key.as_str(), "rope.dimension_sections" | "n_deepstack_layers"))
        .collect();
    keys.sort_by(|a, b| a.0.cmp(&b.0));
    keys
}

/// Exports the file of a golden and converts it back: the file is the same, and the checkpoint has the original's tensors.
fn come_back(folder: &Folder, of: &str, name: &str) -> Result<(), String> {
    let original = checkpoint_of(folder, &testdata(of).join(name), name);
    let first = convert(&original, &folder.path(&format!("{name}-1.gguf")));
    let to = folder.path(&format!("{name}-exported"));
    export(&first, &to).map_err(|error| error.to_string())?;
    let back = convert(&to, &folder.path(&format!("{name}-2.gguf")));
    if TEXT_PARTS.contains(&name) {
        assert_same_data(&back, &first, name);
        assert_eq!(keys_of_text(&back), keys_of_text(&first), "{name}: keys");
    } else if PREDICTING.contains(&name) {
        assert_same_but_last_layer(&back, &first, name);
        return Ok(());
    } else {
        assert_same_model(&back, &first, name);
        assert_same_tensors(&to, &original, name);
    }
    let (found, expected) = (json(&to.join("config.json")), json(&original.join("config.json")));
    // Encoders have no output matrix.
    let there = |setting: &&&str| of == "arch" || **setting != "tie_word_embeddings";
    ALSO.iter().filter(there).for_each(|setting| assert_same_setting(&found, &expected, setting, name));
    Ok(())
}

#[test]
fn goldens_come_back() {
    let folder = Folder::new("export-goldens");
    let mut wrong = Vec::new();
    for of in ["arch", "encoders"] {
        let entries = fs::read_dir(testdata(of)).expect("goldens");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect();
        names.sort();
        for name in &names {
            let refused = REFUSED.iter().find(|(refused, _)| refused == name).map(|(_, reason)| *reason);
            match (come_back(&folder, of, name), refused) {
                (Ok(()), None) => {}
                (Err(message), Some(reason)) if message.contains(reason) => {}
                (result, _) => wrong.push(format!("{name}: {result:?}")),
            }
        }
    }
    assert_eq!(wrong, [""; 0], "{wrong:#?}");
}

#[test]
fn rerankers_come_back_if_the_file_has_their_whole_head() {
    let folder = Folder::new("export-rerankers");
    for (name, class) in [
        ("bert", "BertForSequenceClassification"),
        ("xlmroberta", "XLMRobertaForSequenceClassification"),
        ("modernbert", "ModernBertForSequenceClassification"),
    ] {
        let first = super::rerankers::converted(&folder, name);
        let to = folder.path(&format!("{name}-exported"));
        assert_eq!(export(&first, &to).unwrap_or_else(|error| panic!("{name}: {error}")), class);
        let back = convert(&to, &folder.path(&format!("{name}-2.gguf")));
        assert_same_model(&back, &first, name);
        assert_same_tensors(&to, &folder.path(name), name);
    }
    // Its file has two rows of the output matrix.
    let decoder = super::rerankers::converted(&folder, "qwen3-reranker");
    let error = export(&decoder, &folder.path("decoder-exported")).expect_err("refused").to_string();
    assert!(error.contains("cls.output.weight: the file has only some of the rows of lm_head.weight"), "{error}");
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
    let decoders = ["llama3", "mistral", "qwen2", "gemma3", "gpt2", "starcoder2"].map(|name| ("arch", name));
    let encoders = ["bert", "modernbert", "roberta"].map(|name| ("encoders", name));
    for (of, name) in decoders.into_iter().chain(encoders) {
        let original = checkpoint_of(&folder, &testdata(of).join(name), name);
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
