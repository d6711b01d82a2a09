//! The embedded model from checkpoint to answer: tokens, greedy answers, and perplexity type by type, against what the
//! reference programs give.

use std::sync::Arc;

use gguf_toolkit::bytes::Bytes;
use gguf_toolkit::convert::{Conversion, Folder as Checkpoint, Options, OutputType};
use gguf_toolkit::cpu::KvType;
use gguf_toolkit::engine::{
    ChatTemplate, GenerationOptions, Message, Sampler, SamplerOptions, Session, SessionOptions, Stop, TemplateOptions,
};
use gguf_toolkit::gguf::{Metadata, Reader, TensorInfo, TensorSpec, Writer};
use gguf_toolkit::kernels::Pool;
use gguf_toolkit::model::Model;
use gguf_toolkit::perplexity::{self, perplexity};
use gguf_toolkit::quantize::{self, FileType, GgufSource, Plan, run_in_memory};
use gguf_toolkit::tokenizer::EncodeOptions;
use serde_json::Value as Json;

use super::shared::{json, testdata};

/// Perplexities may differ from the reference's by this fraction.
const TOLERANCE: f64 = 0.003;

pub(crate) fn f16() -> Reader {
    let options = Options { output_type: OutputType::F16, ..Options::default() };
    let folder = Checkpoint::open(&testdata("storyteller")).expect("a folder");
    let conversion = Conversion::new(folder, &options).expect("a checkpoint");
    let bytes = run_in_memory(&conversion, &conversion.plan(&[]).expect("a plan")).expect("converted");
    Reader::from_bytes("storyteller", Bytes::from(bytes)).expect("opens")
}

/// The same model with other keys or weights.
pub(crate) fn changed(
    reader: &Reader,
    keys: impl FnOnce(&mut Metadata),
    weights: impl Fn(&str, &mut Vec<u8>),
) -> Reader {
    let mut metadata = reader.metadata().clone();
    keys(&mut metadata);
    let spec = |info: &TensorInfo| TensorSpec { name: info.name.clone(), shape: info.shape.clone(), ty: info.ty };
    let specs: Vec<TensorSpec> = reader.tensors().iter().map(spec).collect();
    let mut writer = Writer::to_sink(Vec::new(), "changed", &metadata, &specs).expect("a layout");
    for info in reader.tensors() {
        let mut bytes = reader.data(info).expect("readable").to_vec();
        weights(&info.name, &mut bytes);
        writer.write_tensor(&bytes).expect("written");
    }
    Reader::from_bytes("changed", Bytes::from(writer.into_sink().expect("complete"))).expect("opens")
}

fn quantized(source: &Reader, file_type: FileType) -> Model {
    let source = GgufSource::new(source);
    let plan = Plan::new(&source, &quantize::Options::new(file_type)).expect("a plan");
    let bytes = run_in_memory(&source, &plan).expect("quantized");
    let reader = Reader::from_bytes(file_type.name(), Bytes::from(bytes)).expect("opens");
    Model::from_reader(&reader).expect("loads")
}

fn ids(json: &Json) -> Vec<u32> {
    json.as_array().expect("ids").iter().map(|id| id.as_u64().and_then(|id| id.try_into().ok()).expect("id")).collect()
}

#[test]
fn texts_become_the_expected_tokens() {
    let model = Model::from_reader(&f16()).expect("loads");
    let cases = json(&testdata("storyteller-tokens.json"));
    for case in cases.as_array().expect("cases") {
        let text = case["text"].as_str().expect("text");
        let found = model.tokenizer().encode(text, EncodeOptions::default()).expect("encodes");
        assert_eq!(found, ids(&case["ids"]), "{text:?}");
    }
}

#[test]
fn greedy_answers_are_the_expected_ones() {
    let model = Arc::new(Model::from_reader(&f16()).expect("loads"));
    let template = ChatTemplate::from_metadata(model.metadata()).expect("a template");
    let mut sampler = Sampler::new(SamplerOptions::greedy());
    let options = SessionOptions { kv_type: KvType::F32, ..SessionOptions::default() };
    // One session for all: what a prompt shares with the one before is not evaluated again.
    let mut session = Session::new(model.clone(), Arc::new(Pool::new(2)), options);
    for case in json(&testdata("storyteller-greedy.json")).as_array().expect("cases") {
        // A question is put through the chat template; a prompt is text to go on with.
        let (question, text) = match case["question"].as_str() {
            Some(question) => {
                let options = TemplateOptions { add_generation_prompt: true, ..TemplateOptions::default() };
                (question, template.render(&[Message::new("user", question)], &options).expect("renders"))
            }
            None => {
                let prompt = case["prompt"].as_str().expect("text");
                (prompt, prompt.to_owned())
            }
        };
        let encode = EncodeOptions { add_special: true, parse_special: true };
        let prompt = model.tokenizer().encode(&text, encode).expect("encodes");
        assert_eq!(prompt, ids(&case["prompt_ids"]), "{question}");
        let expected = ids(&case["new_ids"]);
        let limits = GenerationOptions { max_tokens: Some(expected.len()), ..GenerationOptions::default() };
        let answer = session.generate(&prompt, &mut sampler, limits, &mut |_| true).expect("answers");
        let without_end = expected.strip_suffix(&[2]).unwrap_or(&expected);
        assert_eq!(answer.tokens, without_end, "{question}");
        assert_eq!(answer.text, case["text"].as_str().expect("text"), "{question}");
        assert_eq!(answer.stop == Stop::End, expected.ends_with(&[2]), "{question}");
    }
}

/// Measures `file_types` on the held-out text and compares with llama-perplexity's figures.
fn check_perplexity(file_types: &[FileType]) {
    let reference = json(&testdata("storyteller-perplexity.json"));
    let text = std::fs::read_to_string(testdata("storyteller/heldout.txt")).expect("text");
    let pool = Pool::new(2);
    let source = f16();
    let mut measured: Vec<(FileType, f64, f64)> = Vec::new();
    for &file_type in file_types {
        let model = quantized(&source, file_type);
        let outcome = perplexity(&model, &pool, &text, &perplexity::Options::default(), &mut |_| true);
        let outcome = outcome.expect("measured").expect("not stopped");
        let expected = &reference["types"][file_type.name()];
        assert_eq!(Some(outcome.chunks as u64), expected["chunks"].as_u64(), "{file_type}");
        let expected = expected["perplexity"].as_f64().expect("a figure");
        println!("{file_type}: {:.4} ± {:.4}, expected {expected}", outcome.perplexity, outcome.stderr);
        assert!((outcome.perplexity / expected - 1.0).abs() <= TOLERANCE, "{file_type}: {}", outcome.perplexity);
        measured.push((file_type, outcome.perplexity, expected));
    }
    for (a, found_a, expected_a) in &measured {
        for (b, found_b, expected_b) in &measured {
            if *expected_a > expected_b * (1.0 + TOLERANCE) {
                assert!(found_a > found_b, "{a} and {b} change places");
            }
        }
    }
}

#[test]
fn perplexities_are_those_of_llama_perplexity() {
    check_perplexity(&[FileType::F16, FileType::Q8_0, FileType::Q4_K_M, FileType::Q2_K]);
}

#[test]
#[ignore = "takes a minute: every type"]
fn perplexities_of_all_types_are_those_of_llama_perplexity() {
    let expected = json(&testdata("storyteller-perplexity.json"));
    let known = |ty: &FileType| expected["types"].get(ty.name()).is_some();
    let all: Vec<FileType> = FileType::ALL.iter().copied().filter(known).collect();
    check_perplexity(&all);
}
