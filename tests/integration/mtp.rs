//! Layers that predict further tokens (MTP): their logits are those of the definition, and drafts by them change no text.

use std::sync::Arc;

use gguf_toolkit::bytes::Bytes;
use gguf_toolkit::cpu::{DraftText, KvType, PagePool, Part, Rows, Run, Sequence, SequenceOptions};
use gguf_toolkit::engine::{
    Answer, Batcher, BatcherOptions, GenerationOptions, OwnLayer, Request, Sampler, SamplerOptions, Session,
    SessionOptions, SpeculationOptions, Update,
};
use gguf_toolkit::gguf::{Reader, TensorSpec, Writer};
use gguf_toolkit::kernels::Pool;
use gguf_toolkit::model::Model;
use gguf_toolkit::safetensors::Checkpoint;

use super::folder::Folder;
use super::goldens::{expected, golden};
use super::logits::load;
use super::quantize_command::{gguf, text};
use super::storyteller::changed;

const FAMILIES: [&str; 4] = ["glm4moemtp", "qwen35moemtp", "qwen35mtp", "qwen3nextmtp"];
/// How far logits may be from those that were computed in double precision.
const TOLERANCE: f32 = 2e-3;

/// The logits `[drafts, vocab]` and tokens of `tests/draft_logits.py`.
fn definition(name: &str) -> (Vec<f32>, Vec<u32>) {
    let file = Checkpoint::open(&golden(name).join("drafts.safetensors")).expect("drafts");
    let read = |name: &str| {
        let tensor = file.tensor(name).expect("a tensor");
        let mut bytes = vec![0; usize::try_from(tensor.bytes()).expect("small")];
        file.read_at(tensor, 0, &mut bytes).expect("readable");
        bytes
    };
    let ids = read("tokens");
    let tokens = ids.chunks_exact(8).map(|b| u32::try_from(i64::from_le_bytes(b.try_into().expect("8"))));
    let logits = read("logits").chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("4"))).collect();
    (logits, tokens.collect::<Result<_, _>>().expect("ids"))
}

/// An empty sequence that predicts further tokens.
fn predicting(model: &Model) -> Sequence {
    let options = SequenceOptions { kv_type: KvType::F32, context_length: 512 };
    let mut sequence = model.decoder().sequence(options);
    let layer = model.prediction().expect("a layer");
    sequence.predict_with(layer, options, &PagePool::unlimited());
    sequence
}

/// The logits of `drafted` tokens after `tokens`, of a sequence that has all of these but the last; each of the drafted ones
/// follows the one before.
fn drafts(model: &Model, pool: &Pool, sequence: &mut Sequence, tokens: &[u32], drafted: &[u32]) -> Vec<f32> {
    let layer = model.prediction().expect("a layer");
    assert!(sequence.can_predict(tokens));
    let mut tokens = tokens.to_vec();
    let mut logits = Vec::new();
    for &token in drafted {
        logits.extend(layer.draft(Run::new(pool), &mut [DraftText { sequence, tokens: &tokens }]));
        tokens.push(token);
    }
    sequence.end_draft();
    logits
}

/// Evaluates tokens in steps of these lengths. Returns the logits after the last.
fn evaluate(model: &Model, pool: &Pool, sequence: &mut Sequence, tokens: &[u32], step: usize) -> Vec<f32> {
    let mut logits = Vec::new();
    for tokens in tokens.chunks(step) {
        let part = Part { sequence: &mut *sequence, tokens, logits: Rows::Last };
        logits = model.decoder().forward(Run::new(pool), &mut [part]);
    }
    logits
}

#[test]
fn draft_logits_are_those_of_the_definition() {
    let folder = Folder::new("mtp-logits");
    let pool = Pool::new(2);
    for name in FAMILIES {
        let model = load(&folder, name);
        let (tokens, _) = expected(name);
        let (expected, drafted) = definition(name);
        let mut sequence = predicting(&model);
        evaluate(&model, &pool, &mut sequence, &tokens[..tokens.len() - 1], 512);
        let found = drafts(&model, &pool, &mut sequence, &tokens, &drafted);
        assert_eq!(found.len(), expected.len(), "{name}");
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= TOLERANCE, "{name}: {worst} from the expected logits");
    }
}

/// However a text is split into passes, whether drafts come in between or not, and after a step back, the model's logits and those
/// of drafts have the same bits.
#[test]
fn splits_and_drafts_change_no_bit() {
    let folder = Folder::new("mtp-splits");
    let pool = Pool::new(1);
    let tokens: Vec<u32> = (0..150).map(|i| 3 + i * 7 % 11).collect();
    let (known, drafted) = (tokens.len() - 1, [5, 6, 7]);
    for name in FAMILIES {
        let model = load(&folder, name);
        let plain = evaluate(&model, &pool, &mut model.decoder().sequence(options()), &tokens[..known], 512);
        let mut whole = predicting(&model);
        assert_eq!(evaluate(&model, &pool, &mut whole, &tokens[..known], 512), plain, "{name}");
        let expected = drafts(&model, &pool, &mut whole.clone(), &tokens, &drafted);
        for step in [1, 40, 70] {
            let mut split = predicting(&model);
            evaluate(&model, &pool, &mut split, &tokens[..90], step);
            drafts(&model, &pool, &mut split, &tokens[..91], &[9, 9]);
            // Rejected tokens, then those of the text.
            let point = split.rollback_point();
            evaluate(&model, &pool, &mut split, &[tokens[90], 9, 9], 512);
            let len = split.roll_back(point, 91);
            assert_eq!(evaluate(&model, &pool, &mut split, &tokens[len..known], step), plain, "{name} {step}");
            assert_eq!(drafts(&model, &pool, &mut split, &tokens, &drafted), expected, "{name} {step}");
        }
        // A clone goes on by itself.
        let mut clone = whole.clone();
        evaluate(&model, &pool, &mut clone, &[tokens[known], 8], 512);
        assert_eq!(drafts(&model, &pool, &mut whole, &tokens, &drafted), expected, "{name}");
        // Hidden states that were never seen: a text that begins elsewhere is predicted from what is known of it.
        assert!(!model.decoder().sequence(options()).can_predict(&tokens));
        assert!(!predicting(&model).can_predict(&tokens));
    }
}

fn options() -> SequenceOptions {
    SequenceOptions { kv_type: KvType::F32, context_length: 512 }
}

/// Drafts of exactly `len` tokens by the model's own layer.
fn own(model: &Model, len: usize) -> SpeculationOptions {
    let own = Some(OwnLayer::of(model).expect("a layer"));
    SpeculationOptions { own, max_tokens: len, min_tokens: len, ..SpeculationOptions::default() }
}

fn session(model: &Arc<Model>, speculation: &SpeculationOptions) -> Session {
    let mut session = Session::new(model.clone(), Arc::new(Pool::new(1)), SessionOptions::default());
    session.speculate(speculation);
    session
}

fn limit(max_tokens: usize) -> GenerationOptions {
    GenerationOptions { max_tokens: Some(max_tokens), ignore_end: true, ..GenerationOptions::default() }
}

fn answer(session: &mut Session, prompt: &[u32], sampler: &SamplerOptions, max_tokens: usize) -> Answer {
    let mut sampler = Sampler::for_model(sampler.clone(), session.model().tokenizer());
    session.generate(prompt, &mut sampler, limit(max_tokens), &mut |_| true).expect("answers")
}

/// The model of a golden, all of whose logits are equal, so that its layer and itself both find token 0 the likeliest.
fn indifferent(folder: &Folder, name: &str) -> Arc<Model> {
    let path = folder.path(&format!("{name}.gguf"));
    if !path.exists() {
        load(folder, name);
    }
    let reader = Reader::open(&path).expect("written");
    let silence = |tensor: &str, bytes: &mut Vec<u8>| {
        if tensor == "output.weight" || tensor.ends_with("shared_head_head.weight") {
            bytes.fill(0);
        }
    };
    Arc::new(Model::from_reader(&changed(&reader, |_| {}, silence)).expect("loads"))
}

/// Greedy, two seeds, and one that chooses token 0 four times in five.
fn samplers() -> Vec<SamplerOptions> {
    let with = |seed, temperature| SamplerOptions { seed, temperature, ..SamplerOptions::default() };
    let often = SamplerOptions { logit_bias: vec![(0, 7.3)], top_k: 0, top_p: 1.0, min_p: 0.0, ..with(4, 1.0) };
    vec![SamplerOptions::greedy(), with(2, 1.0), with(3, 0.1), often]
}

#[test]
fn texts_are_the_same() {
    let folder = Folder::new("mtp-texts");
    let prompt: Vec<u32> = (0..20).map(|i| 3 + i * 7 % 11).collect();
    let (mut drafted, mut accepted) = (0, 0);
    for name in FAMILIES {
        for model in [Arc::new(load(&folder, name)), indifferent(&folder, name)] {
            for sampler in samplers() {
                let mut plain = session(&model, &SpeculationOptions::default());
                let expected = answer(&mut plain, &prompt, &sampler, 20);
                let turn = [&prompt[..], &expected.tokens[..7], &[5, 6, 7]].concat();
                let next = answer(&mut plain, &turn, &sampler, 6);
                let measured = SpeculationOptions { min_tokens: 0, ..own(&model, 5) };
                let with_lookup = SpeculationOptions { lookup: true, ..own(&model, 2) };
                for way in [own(&model, 3), measured, with_lookup] {
                    let mut session = session(&model, &way);
                    let found = answer(&mut session, &prompt, &sampler, 20);
                    let what = format!("{name}, seed {}, {way:?}", sampler.seed);
                    assert_eq!((&found.text, &found.tokens), (&expected.text, &expected.tokens), "{what}");
                    assert!(found.drafted > 0 || way.min_tokens == 0, "{what}");
                    // The next turn continues from the middle of the answer.
                    assert_eq!(answer(&mut session, &turn, &sampler, 6).tokens, next.tokens, "{what}");
                    drafted += found.drafted;
                    accepted += found.accepted;
                }
            }
        }
    }
    assert!(accepted > 150 && drafted - accepted > 200, "{accepted} of {drafted}");
}

#[test]
fn a_right_draft_is_accepted() {
    let folder = Folder::new("mtp-accepted");
    for name in FAMILIES {
        let model = indifferent(&folder, name);
        let found = answer(&mut session(&model, &own(&model, 4)), &[5, 6, 7], &SamplerOptions::greedy(), 41);
        assert_eq!(found.tokens, [0; 41], "{name}");
        // One token comes from the prompt, then each pass brings four and one more.
        assert!(found.accepted >= 30, "{name}: {} of {}", found.accepted, found.drafted);
    }
}

#[test]
fn batches_have_the_same_texts() {
    let folder = Folder::new("mtp-batches");
    for name in ["glm4moemtp", "qwen35mtp"] {
        for model in [Arc::new(load(&folder, name)), indifferent(&folder, name)] {
            let request = |seed: u32| {
                let sampler = samplers()[seed as usize % 4].clone();
                // Texts that share a beginning, and one longer than a page of the cache.
                let prompt = (0..if seed == 2 { 90 } else { 20 + seed }).map(|i| 3 + i * 7 % 11).collect();
                Request { prompt, sampler, generation: limit(9), ..Request::default() }
            };
            let requests: Vec<Request> = (0..4).map(request).collect();
            let answers = |batcher: &Batcher| -> Vec<String> {
                let running: Vec<_> = requests.iter().map(|r| batcher.submit(r.clone()).expect("taken")).collect();
                let text = |update| match update {
                    Update::Token { text, .. } | Update::End { text, .. } => text,
                    Update::Failed(error) => panic!("{error}"),
                    _ => String::new(),
                };
                running.into_iter().map(|updates| updates.map(text).collect()).collect()
            };
            let batcher = |speculation: SpeculationOptions, cache_bytes: usize| {
                let session = SessionOptions { context_length: Some(120), ..SessionOptions::default() };
                let options = BatcherOptions { session, speculation, cache_bytes, ..BatcherOptions::default() };
                Batcher::new(model.clone(), Arc::new(Pool::new(1)), options)
            };
            let expected = answers(&batcher(SpeculationOptions::default(), 1 << 30));
            for cache_bytes in [1 << 30, 0] {
                let batcher = batcher(own(&model, 3), cache_bytes);
                for round in 0..2 {
                    assert_eq!(answers(&batcher), expected, "{name}, round {round}, {cache_bytes} bytes");
                }
                let status = batcher.status();
                assert!(status.drafted_tokens > 0 && status.cache_bytes <= status.cache_budget, "{status:?}");
            }
        }
    }
}

#[test]
fn a_file_whose_layer_is_incomplete_runs_without_it() {
    let folder = Folder::new("mtp-incomplete");
    load(&folder, "qwen35mtp");
    let reader = Reader::open(&folder.path("qwen35mtp.gguf")).expect("written");
    let specs: Vec<TensorSpec> = reader.tensors().iter().map(TensorSpec::from).collect();
    let model_of = |specs: &[TensorSpec]| {
        let mut writer = Writer::to_sink(Vec::new(), "m.gguf", reader.metadata(), specs).expect("a layout");
        for spec in specs {
            let found = reader.tensors().iter().find(|info| info.name == spec.name).expect("there");
            let mut bytes = reader.data(found).expect("readable").to_vec();
            let len = spec.ty.bytes_for(spec.shape.iter().product()).expect("whole blocks");
            bytes.resize(usize::try_from(len).expect("small"), 0);
            writer.write_tensor(&bytes).expect("written");
        }
        let bytes = Bytes::from(writer.into_sink().expect("complete"));
        Arc::new(Model::from_reader(&Reader::from_bytes("m.gguf", bytes).expect("opens")).expect("loads"))
    };
    let mut checked = 0;
    for at in (0..specs.len()).filter(|&i| specs[i].name.starts_with("blk.3.")) {
        let name = specs[at].name.clone();
        let (mut missing, mut longer) = (specs.clone(), specs.clone());
        missing.remove(at);
        longer[at].shape[0] += 32;
        for (case, specs) in [("missing", missing), ("longer", longer)] {
            let model = model_of(&specs);
            // The model's own norm takes its place.
            let is_needed = case == "longer" || !name.contains("shared_head_norm");
            match OwnLayer::of(&model) {
                Ok(_) => assert!(!is_needed, "{name} {case}"),
                Err(error) => {
                    let error = error.to_string();
                    assert!(error.starts_with("the model cannot draft for itself: "), "{error}");
                    assert!(error.contains(name.trim_end_matches(".weight")), "{case}: {error}");
                    checked += 1;
                }
            }
            let mut session = session(&model, &SpeculationOptions::default());
            assert_eq!(answer(&mut session, &[5, 6], &SamplerOptions::greedy(), 2).tokens.len(), 2, "{name} {case}");
        }
    }
    assert!(checked > 20, "{checked}");
}

#[test]
fn the_program_drafts_with_the_layer_or_says_why_not() {
    let folder = Folder::new("mtp-program");
    load(&folder, "qwen35mtp");
    let run = |line: &str| gguf(&line.split_whitespace().collect::<Vec<_>>(), folder.root());
    let refused = run("chat -p Once --mtp -n 3");
    assert_eq!(refused.status.code(), Some(2));
    let expected = "--mtp: the model cannot draft for itself: the file has no layers that predict further tokens (MTP)";
    assert!(text(&refused.stderr).contains(expected), "{}", text(&refused.stderr));
    let chat = |options: &str| {
        let output = run(&format!("chat qwen35mtp.gguf -p Once --temperature 0 -n 12 --verbose {options}"));
        assert!(output.status.success(), "{options}: {}", text(&output.stderr));
        (output.stdout.clone(), text(&output.stderr).to_owned())
    };
    let (expected, _) = chat("");
    let (found, figures) = chat("--mtp --draft-min 3 --session kept");
    assert_eq!(found, expected);
    assert!(figures.contains(" drafted tokens accepted)"), "{figures}");
    // A session that goes on drafts with what it sees from then on.
    let (found, figures) = chat("--mtp --draft-min 3 --session kept");
    assert!(figures.contains(" drafted tokens accepted)"), "{figures}");
    assert_eq!(found.is_empty(), expected.is_empty());
}
