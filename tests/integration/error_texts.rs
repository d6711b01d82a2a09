//! Every error says what is wrong in one line: no text of an error is without a test that knows it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use gguf_toolkit::TensorType;
use gguf_toolkit::safetensors::Dtype;
use gguf_toolkit::{
    arch, bench, bytes::Bytes, compare, convert, engine, export, files, gguf, imatrix, kernels, model, modelfile,
    network, perplexity, quantize, safetensors, stores, tokenizer,
};

use super::folder::Folder;

/// All Rust files below a folder, with their texts.
fn sources(folder: &Path, into: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(fs::read_to_string(&path).expect("text"));
        }
    }
}

/// The words between the values of an error's text.
fn fixed_parts(text: &str) -> Vec<String> {
    let text = text.replace("\\\"", "\"");
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                parts.push(String::new());
            }
            c if depth == 0 => parts.last_mut().expect("one").push(c),
            _ => {}
        }
    }
    parts.iter().map(|part| part.trim_matches([' ', ':', ',', ';', '(', ')']).to_owned()).collect()
}

/// Runs of three words, or all of a shorter text.
fn windows(part: &str) -> Vec<String> {
    let words: Vec<&str> = part.split_whitespace().collect();
    words.windows(words.len().clamp(1, 3)).map(|words| words.join(" ")).filter(|text| text.len() > 6).collect()
}

#[test]
fn no_error_is_without_a_test_of_its_text() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut code, mut tests) = (Vec::new(), Vec::new());
    sources(&root.join("src"), &mut code);
    sources(&root.join("tests"), &mut tests);
    let of_modules = code.iter().filter_map(|source| source.split_once("#[cfg(test)]")).map(|(_, tests)| tests);
    let tests = tests.iter().map(String::as_str).chain(of_modules).collect::<Vec<_>>().join("\n");
    let (mut texts, mut untested) = (0, BTreeSet::new());
    for source in &code {
        for after in source.split("#[error(").skip(1) {
            let Some(after) = after.trim_start().strip_prefix('"') else { continue };
            let end = after.match_indices('"').map(|(at, _)| at).find(|at| !after[..*at].ends_with('\\'));
            let text = &after[..end.expect("the end of a text")];
            let windows: Vec<String> = fixed_parts(text).iter().flat_map(|part| windows(part)).collect();
            texts += 1;
            if !windows.is_empty() && !windows.iter().any(|words| tests.contains(words.as_str())) {
                untested.insert(text.to_owned());
            }
        }
    }
    assert!(texts > 300, "{texts}");
    assert!(untested.is_empty(), "{} of {texts}: {untested:#?}", untested.len());
}

fn path() -> PathBuf {
    "f".into()
}

fn name() -> String {
    "w\u{1b}".into()
}

fn io_error() -> io::Error {
    io::Error::other("broken")
}

/// Checks texts of errors.
macro_rules! say {
    ($($error:expr => $text:expr;)*) => {
        $(assert_eq!($error.to_string(), $text);)*
    };
}

#[test]
fn errors_of_files_and_formats() {
    say! {
        files::FileError::Read { path: path(), offset: 7, len: 3, source: io_error() } =>
            "f: cannot read 3 bytes at offset 7: broken";
        engine::Error::NoSlot { slot: 16, slots: 16 } => "slot 16: there are slots 0 to 15";
        quantize::Error::Judge { name: name(), problem: "broken".into() } =>
            "the cost of w\\u{1b} cannot be measured: broken";
        files::OutputError::Write { path: path(), source: io_error() } => "f: cannot write: broken";
        gguf::Error::Map { path: path(), source: io_error() } => "f: cannot map into memory: broken";
        gguf::Error::Unwritable { path: path(), place: gguf::Place::Key("k".into()), problem: gguf::Problem::Memory(9) } =>
            "f: cannot write key k: not enough memory for a header of 9 bytes";
        gguf::Error::TooMuchData { name: name(), room: 1, bytes: 2 } => "tensor w\\u{1b}: 2 bytes to write, room for 1";
        gguf::Error::MissingData { name: name(), expected: 2, found: 1 } => "tensor w\\u{1b}: 1 bytes written of 2";
        gguf::Error::OutOfTensor { name: name(), offset: 1, len: 2, bytes: 2 } =>
            "tensor w\\u{1b}: bytes 1 to 1+2 asked for, it has 2";
        safetensors::Error::OutOfTensor { name: name(), offset: 1, len: 2, bytes: 2 } =>
            "tensor w\\u{1b}: bytes 1 to 1+2 asked for, it has 2";
        stores::StoreError::Folder { path: path(), source: io_error() } => "f: cannot make the folder: broken";
        stores::StoreError::Read { path: path(), source: io_error() } => "f: cannot be read: broken";
        stores::Error::EmptyFolder { path: path() } => "f: a folder without GGUF files";
        modelfile::Error::Manifest { path: path() } => "f: the manifest cannot be read";
    }
    #[cfg(feature = "net")]
    say! {
        gguf_toolkit::net::Error::NoFolder { variable: "HF_HOME" } => "no folder for models: neither HOME nor HF_HOME is set";
    }
}

#[test]
fn errors_of_checkpoints() {
    let opened = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        safetensors::Checkpoint::from_bytes("f", Bytes::from(bytes)).expect_err("refused").to_string()
    };
    let one = |start: u64, end: u64| format!(r#"{{"w":{{"dtype":"F16","shape":[2],"data_offsets":[{start},{end}]}}}}"#);
    assert!(opened(&one(4, 0), 4).contains("data end at byte 0 of the data section, before they begin at 4"));
    assert!(opened(&one(0, 6), 6).contains("6 bytes of data, but shape [2] of F16 takes 4"));
    let message = opened(&one(2, 6), 6);
    assert!(
        message.contains("data begin at byte 2 of the data section, where the data before them end at 0"),
        "{message}"
    );

    let folder = Folder::new("errors-checkpoint");
    fs::write(folder.path("model.safetensors.index.json"), r#"{"weight_map": {}}"#).expect("written");
    let message = safetensors::Checkpoint::open(folder.root()).expect_err("refused").to_string();
    assert!(message.contains("weight_map names no tensors"), "{message}");

    let source = || Box::new(convert::Error::NoFolder { path: path() });
    say! {
        convert::Error::Assumed { assumed: "a".into(), source: source() } =>
            format!("{} (config.json leaves out a)", source());
        convert::AdapterProblem::BadType { name: name(), dtype: Dtype::F16 } => "tensor w\\u{1b} has the type F16";
        convert::TokenizerProblem::PreOfBytes { name: "qwen2".into() } =>
            "--pre qwen2: is for byte-level BPE; this is BPE of characters (gemma4, default)";
        convert::TokenizerProblem::UnknownModel { name: "Runes".into() } =>
            "model: a tokenizer Runes cannot be expressed (BPE, Unigram and WordPiece can)";
        arch::Error::NoClass => "config.json: architectures names no class";
        arch::Error::NoArchitecture => "key general.architecture is missing";
        arch::Error::BadRopeFactor { name: name(), found: 0.0 } => "tensor w\\u{1b}: 0, expected factors greater than 0";
        export::Error::Key { path: path(), key: "k".into(), found: "1".into(), class: "C" } =>
            "f: k: 1: C has no setting for this";
        export::Error::Tensor { path: path(), name: name(), problem: export::TensorProblem::Foreign } =>
            "f: tensor w\\u{1b}: a layout of other programs; requantize or convert the model first";
        export::TensorProblem::Factors => "no settings of llama3's scaling give these factors";
        export::Error::NotConvertible { path: path(), source: source() } =>
            format!("f: the exported folder would not convert back: {}", source());
        export::Error::Write { path: path(), source: io_error() } => "f: cannot write: broken";
    }
}

#[test]
fn errors_of_models() {
    let size = || kernels::Error::PartialBlock { ty: TensorType::Q8_0, cols: 3 };
    say! {
        model::Error::Tensor { path: path(), name: "w".into(), source: size() } => format!("f: tensor w: {}", size());
        model::AdapterProblem::NoProduct { name: "w".into() } => "changes of w are not supported";
        network::Error::BadShape { name: "w".into(), found: [1, 2], expected: [3, 4] } =>
            "tensor w: 1x2 (rows x columns), expected 3x4";
        tokenizer::Error::BadLength { key: "k", found: 1, tokens: 2 } => "key k: 1 elements for 2 tokens";
        engine::Error::NotANumber => "the model computes NaN or infinity";
        engine::Error::Cancelled => "cancelled";
        engine::Error::Stopped => "the engine has stopped";
        engine::Error::Tool { tool: 1, message: ".name is missing".into() } => "tools[1]..name is missing";
        compare::Error::NoChunks => "no chunk to evaluate";
        perplexity::Error::OtherSums { chunks: 2, found: 3, expected: 4 } =>
            "3 tokens are scored in the 2 chunks measured already, and not 4";
        perplexity::tasks::TaskError::NothingToScore { task: 1, choice: 2 } => "task 1: nothing can be scored of choice 2";
        perplexity::tasks::TaskError::NotFinite { task: 1 } => "the model computes NaN or infinity in task 1";
    }
}

#[test]
fn errors_of_quantizing() {
    say! {
        quantize::Error::Requantize { path: path(), name: name(), ty: TensorType::Q8_0 } =>
            "f: tensor w\\u{1b} is Q8_0 already (quantizing it once more loses quality; --allow-requantize does it)";
        quantize::Error::NotReadable { path: path(), name: name(), ty: TensorType::I8 } =>
            "f: tensor w\\u{1b}: I8 cannot be converted to another type";
        quantize::Error::Pattern { pattern: "(".into(), problem: "is open".into() } => "tensor pattern (: is open";
        imatrix::Error::Entry { path: path(), name: name(), problem: "is odd".into() } => "f: tensor w\\u{1b}: is odd";
        imatrix::Error::Mismatch { name: name(), what: "sums", expected: 2, found: 1 } =>
            "tensor w\\u{1b}: 1 sums cannot be added to 2";
        imatrix::Error::NotFinite { name: name() } =>
            "tensor w\\u{1b}: the model computes NaN or infinity for its input";
    }
}

#[test]
fn errors_of_servers_that_are_measured() {
    say! {
        bench::LoadError::Status { path: "/v1".into(), status: 503, message: "busy".into() } => "/v1: status 503: busy";
        bench::LoadError::InStream("no room".into()) => "the server says: no room";
        bench::LoadError::Nothing => "the stream has no text";
        bench::LoadError::NoModel => "the server lists no model";
    }
}

#[test]
fn an_unknown_instruction_set_is_named() {
    let run = |name: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_gguf"))
            .args(["logits", "-j", "1", "--ids", "1"])
            .env("GGUF_CPU", name)
            .output()
            .expect("runs");
        (output.status.code(), String::from_utf8(output.stderr).expect("text"))
    };
    let (code, message) = run("z80");
    assert!(code == Some(2) && message.contains("GGUF_CPU=z80: no such instruction set (there are "), "{message}");
    // No machine has both.
    let message = ["neon", "avx512"].map(|name| run(name).1).concat();
    assert!(message.contains("this CPU cannot run it") || message.contains("no such instruction set"), "{message}");
}
