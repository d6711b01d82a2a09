//! Speculation changes no text: with a draft model, with a lookup, in sessions and in batches, for any sampler, constraint and limit.

use std::sync::Arc;

use gguf::cpu::{Part, Rows, Run, SequenceOptions};
use gguf::engine::{
    Answer, Batcher, BatcherOptions, DraftModel, GenerationOptions, Request, Sampler, SamplerOptions, Session,
    SessionOptions, SpeculationOptions, Stop, Update,
};
use gguf::gguf::Array;
use gguf::kernels::Pool;
use gguf::model::Model;
use gguf::tokenizer::EncodeOptions;

use super::folder::Folder;
use super::logits::load;
use super::quantize_command::{gguf, text};
use super::storyteller;

/// Full attention, windows, several kinds of recurrence, positions learned one by one.
const FAMILIES: [&str; 8] = ["llama3", "gemma3", "qwen35", "granitehybrid", "lfm2", "mamba2", "gpt2", "deepseek2"];

fn storyteller() -> Arc<Model> {
    Arc::new(Model::from_reader(&storyteller::f16()).expect("loads"))
}

/// The storyteller, whose every logit has the other sign: what it finds likeliest is what the model finds least likely.
fn contrary() -> Arc<Model> {
    let negate = |name: &str, bytes: &mut Vec<u8>| {
        if name == "output_norm.weight" {
            // The sign is in the last byte of a number.
            bytes.chunks_exact_mut(4).for_each(|number| number[3] ^= 0x80);
        }
    };
    Arc::new(Model::from_reader(&storyteller::changed(&storyteller::f16(), |_| {}, negate)).expect("loads"))
}

fn tokens(model: &Model, text: &str) -> Vec<u32> {
    model.tokenizer().encode(text, EncodeOptions::default()).expect("encodes")
}

fn lookup() -> SpeculationOptions {
    SpeculationOptions { lookup: true, ..SpeculationOptions::default() }
}

/// Drafts of `draft`, as long as they may be, so that tests do not depend on how long passes take.
fn drafted_by(draft: &Arc<Model>, model: &Model, len: usize) -> SpeculationOptions {
    let draft = DraftModel::new(draft.clone(), model).expect("the same vocabulary");
    SpeculationOptions { lookup: false, model: Some(draft), max_tokens: len, min_tokens: len }
}

fn session(model: &Arc<Model>, options: &SessionOptions, speculation: &SpeculationOptions) -> Session {
    let mut session = Session::new(model.clone(), Arc::new(Pool::new(2)), options.clone());
    session.speculate(speculation);
    session
}

fn answer(session: &mut Session, prompt: &[u32], sampler: &SamplerOptions, limits: &GenerationOptions) -> Answer {
    let mut sampler = Sampler::for_model(sampler.clone(), session.model().tokenizer());
    session.generate(prompt, &mut sampler, limits.clone(), &mut |_| true).expect("answers")
}

fn limit(max_tokens: usize) -> GenerationOptions {
    GenerationOptions { max_tokens: Some(max_tokens), ignore_end: true, ..GenerationOptions::default() }
}

/// Greedy, and several seeds, temperatures and chains with a memory of their own.
fn samplers() -> Vec<SamplerOptions> {
    let mut all = vec![SamplerOptions::greedy()];
    for (seed, temperature) in [(1, 0.3), (2, 0.8), (3, 1.5)] {
        all.push(SamplerOptions { seed, temperature, ..SamplerOptions::default() });
    }
    all.push(SamplerOptions { seed: 4, mirostat: 2, ..SamplerOptions::default() });
    all.push(SamplerOptions { seed: 5, repeat_penalty: 1.2, dry_multiplier: 0.8, ..SamplerOptions::default() });
    all
}

#[test]
fn texts_are_the_same_for_every_sampler_and_draft() {
    let (model, contrary) = (storyteller(), contrary());
    let prompt = tokens(&model, "The dog ran to the park. The cat ran to the park. The dog");
    let least = SpeculationOptions { min_tokens: 4, ..lookup() };
    let both = SpeculationOptions { lookup: true, ..drafted_by(&model, &model, 5) };
    let ways = [
        ("lookup", lookup()),
        ("lookup at least 4", least),
        ("the model itself", drafted_by(&model, &model, 5)),
        (
            "the model itself, as long as is worth it",
            SpeculationOptions { min_tokens: 0, ..drafted_by(&model, &model, 5) },
        ),
        ("always wrong", drafted_by(&contrary, &model, 3)),
        ("both", both),
    ];
    for sampler in samplers() {
        let options = SessionOptions::default();
        let expected =
            answer(&mut session(&model, &options, &SpeculationOptions::default()), &prompt, &sampler, &limit(60));
        assert_eq!((expected.tokens.len(), expected.drafted), (60, 0));
        for (name, way) in &ways {
            let mut session = session(&model, &options, way);
            let found = answer(&mut session, &prompt, &sampler, &limit(60));
            let seed = sampler.seed;
            assert_eq!(
                (&found.text, &found.tokens, found.stop),
                (&expected.text, &expected.tokens, expected.stop),
                "{name}, seed {seed}"
            );
            assert!(found.accepted <= found.drafted && found.accepted < 60, "{name}, seed {seed}");
            // All that the session holds has been said.
            let whole = [&prompt[..], &expected.tokens].concat();
            assert_eq!(session.tokens(), whole, "{name}, seed {seed}");
        }
    }
}

#[test]
fn a_perfect_draft_is_right_and_a_contrary_one_never() {
    let (model, contrary) = (storyteller(), contrary());
    let prompt = tokens(&model, "Once upon a time");
    let greedy = SamplerOptions::greedy();
    let run = |way: SpeculationOptions| {
        answer(&mut session(&model, &SessionOptions::default(), &way), &prompt, &greedy, &limit(49))
    };
    // The first token comes from the prompt; then each pass brings four of a draft and one more.
    let perfect = run(drafted_by(&model, &model, 4));
    assert!(
        perfect.accepted >= 37 && perfect.drafted - perfect.accepted < 4,
        "{} of {}",
        perfect.accepted,
        perfect.drafted
    );
    let never = run(drafted_by(&contrary, &model, 4));
    assert!(never.accepted == 0 && never.drafted > 100, "{} of {}", never.accepted, never.drafted);
    // Nor is that draft made for long where nothing says that it must be.
    let given_up = run(SpeculationOptions { min_tokens: 0, ..drafted_by(&contrary, &model, 4) });
    assert!(given_up.drafted < never.drafted, "{} of {}", given_up.drafted, never.drafted);
    assert_eq!((&perfect.text, &given_up.text), (&never.text, &perfect.text));
}

/// Recurrent layers know no state between two passes, windows forget: both go back to before the draft.
#[test]
fn every_kind_of_memory_goes_back() {
    let folder = Folder::new("speculation-families");
    for name in FAMILIES {
        let model = Arc::new(load(&folder, name));
        let vocab = u32::try_from(model.decoder().vocab_size()).expect("small");
        let prompt: Vec<u32> = (0..70).map(|i| 3 + i * 7 % 50).collect();
        for sampler in
            [SamplerOptions::greedy(), SamplerOptions { seed: 9, temperature: 0.7, ..SamplerOptions::default() }]
        {
            let options = SessionOptions::default();
            let mut plain = session(&model, &options, &SpeculationOptions::default());
            let expected = answer(&mut plain, &prompt, &sampler, &limit(100));
            let ways = [
                SpeculationOptions { min_tokens: 3, ..lookup() },
                drafted_by(&model, &model, 3),
                SpeculationOptions { lookup: true, ..drafted_by(&model, &model, 7) },
            ];
            for way in &ways {
                let mut session = session(&model, &options, way);
                let found = answer(&mut session, &prompt, &sampler, &limit(100));
                assert_eq!(found.tokens, expected.tokens, "{name}, seed {}", sampler.seed);
                assert!(found.drafted > 0, "{name}, seed {}", sampler.seed);
                // The next turn goes on from there.
                let turn = [&prompt[..], &found.tokens, &[5, 6, 7 % vocab]].concat();
                let next = answer(&mut session, &turn, &sampler, &limit(10));
                assert_eq!(next.tokens, answer(&mut plain, &turn, &sampler, &limit(10)).tokens, "{name}");
            }
        }
    }
}

/// The states themselves: after going back, the next logits have the bits that they have without the tokens in between.
#[test]
fn a_sequence_goes_back_to_the_bits_that_it_had() {
    let folder = Folder::new("speculation-states");
    let pool = Pool::new(2);
    for name in FAMILIES {
        let model = load(&folder, name);
        let decoder = model.decoder();
        let mut sequence = decoder.sequence(SequenceOptions { kv_type: gguf::cpu::KvType::F16, context_length: 400 });
        let forward = |sequence: &mut _, tokens: &[u32]| {
            decoder.forward(Run::new(&pool), &mut [Part { sequence, tokens, logits: Rows::Last }])
        };
        let prompt: Vec<u32> = (0..200).map(|i| 3 + i * 7 % 50).collect();
        forward(&mut sequence, &prompt);
        let expected = forward(&mut sequence.clone(), &[5, 6, 7]);
        for (right, len) in [(0, 200), (2, if sequence.goes_back() || name == "gemma3" { 202 } else { 200 })] {
            let mut tried = sequence.clone();
            let held = tried.rollback_point();
            assert_eq!(held.len(), 200);
            forward(&mut tried, &[5, 6, 9, 9, 9, 9, 9, 9]);
            assert_eq!(tried.roll_back(held, 200 + right), len, "{name}");
            assert_eq!(forward(&mut tried, &[5, 6, 7][len - 200..]), expected, "{name}, {right} right");
        }
        // Where all was right, nothing is forgotten.
        let held = sequence.rollback_point();
        forward(&mut sequence, &[5, 6]);
        assert_eq!(sequence.roll_back(held, 202), 202);
        assert_eq!(forward(&mut sequence, &[7]), expected, "{name}");
    }
}

#[test]
fn answers_end_where_they_would() {
    let model = storyteller();
    let prompt = tokens(&model, "Once upon a time");
    let ways = [SpeculationOptions { min_tokens: 6, ..lookup() }, drafted_by(&model, &model, 6)];
    let greedy = SamplerOptions::greedy();
    let plain = |options: &SessionOptions, limits: &GenerationOptions| {
        let mut session = session(&model, options, &SpeculationOptions::default());
        let answer = answer(&mut session, &prompt, &greedy, limits);
        (answer.text, answer.tokens, answer.stop, session.tokens().to_vec())
    };
    let check = |options: &SessionOptions, limits: &GenerationOptions, stop: Stop| {
        let expected = plain(options, limits);
        assert_eq!(expected.2, stop);
        for way in &ways {
            let mut session = session(&model, options, way);
            let found = answer(&mut session, &prompt, &greedy, limits);
            assert_eq!((found.text, found.tokens, found.stop, session.tokens().to_vec()), expected, "{way:?}");
        }
    };
    let usual = SessionOptions::default();
    let whole = plain(&usual, &limit(40)).0;
    // A text in the middle, which may begin within a token; the model's own end; every length; a full context.
    for at in [20, 33, 50] {
        let stop = vec![whole.chars().skip(at).take(9).collect::<String>()];
        check(&usual, &GenerationOptions { stop, ..limit(200) }, Stop::Text);
    }
    check(&usual, &GenerationOptions { max_tokens: Some(900), ..GenerationOptions::default() }, Stop::End);
    for max in 0..10 {
        check(&usual, &limit(max), Stop::Length);
    }
    for room in 0..10 {
        let context_length = Some(prompt.len() + room);
        let limits = GenerationOptions { max_tokens: None, ..limit(0) };
        check(&SessionOptions { context_length, ..usual.clone() }, &limits, Stop::Context);
    }
    // Whoever listens may stop at any token.
    for heard in 1..12 {
        let run = |way: &SpeculationOptions| {
            let mut session = session(&model, &usual, way);
            let (mut sampler, mut left) = (Sampler::new(greedy.clone()), heard + 1);
            let mut show = |_: &str| {
                left -= 1;
                left > 0
            };
            let answer = session.generate(&prompt, &mut sampler, limit(40), &mut show).expect("answers");
            (answer.text, answer.tokens, answer.stop, session.tokens().to_vec())
        };
        let expected = run(&SpeculationOptions::default());
        assert_eq!(expected.2, Stop::Caller);
        ways.iter().for_each(|way| assert_eq!(run(way), expected, "after {heard}"));
    }
}

#[cfg(feature = "constrain")]
#[test]
fn constraints_hold_and_change_nothing_else() {
    use gguf::engine::{Grammar, TokenTrie};
    let model = storyteller();
    let prompt = tokens(&model, "Once upon a time");
    let trie = TokenTrie::new(model.tokenizer()).expect("a trie");
    let schema = serde_json::json!({
        "type": "object", "required": ["name", "age"], "additionalProperties": false,
        "properties": { "name": { "type": "string", "maxLength": 12 }, "age": { "type": "integer", "maximum": 99 } },
    });
    for grammar in [Grammar::JsonSchema(schema), Grammar::Regex("(the (cat|dog|bird) ran\\. ){4}".to_owned())] {
        let constraint = Some(trie.compile(&grammar).expect("valid"));
        let limits = GenerationOptions { constraint, max_tokens: Some(80), ..GenerationOptions::default() };
        for sampler in samplers() {
            let run = |way: &SpeculationOptions| {
                let answer = answer(&mut session(&model, &SessionOptions::default(), way), &prompt, &sampler, &limits);
                (answer.text, answer.tokens, answer.stop)
            };
            let expected = run(&SpeculationOptions::default());
            for way in [SpeculationOptions { min_tokens: 4, ..lookup() }, drafted_by(&model, &model, 4)] {
                assert_eq!(run(&way), expected, "{grammar:?}, seed {}", sampler.seed);
            }
        }
    }
}

/// Tokens, text and end of an answer of a batcher, and what was drafted for it.
fn batched(batcher: &Batcher, requests: &[Request]) -> Vec<(Vec<u32>, String, Stop, usize, usize)> {
    let running: Vec<_> = requests.iter().map(|r| batcher.submit(r.clone()).expect("taken")).collect();
    let whole = |updates: gguf::engine::Updates| {
        let (mut tokens, mut whole) = (Vec::new(), String::new());
        for update in updates {
            match update {
                Update::Token { token, text, .. } => {
                    tokens.push(token);
                    whole.push_str(&text);
                }
                Update::End { reason, text, usage, .. } => {
                    whole.push_str(&text);
                    return (tokens, whole, reason, usage.drafted_tokens, usage.accepted_tokens);
                }
                Update::Failed(error) => panic!("{error}"),
                _ => {}
            }
        }
        panic!("no end");
    };
    running.into_iter().map(whole).collect()
}

#[test]
fn batches_of_requests_get_the_texts_that_they_would_get() {
    let folder = Folder::new("speculation-batches");
    let mut models: Vec<(&str, Arc<Model>)> = vec![("storyteller", storyteller())];
    models.extend(["gemma3", "qwen35", "lfm2"].map(|name| (name, Arc::new(load(&folder, name)))));
    for (name, model) in models {
        let request = |seed: u32| Request {
            prompt: (0..30 + 40 * seed).map(|i| 3 + i * 7 % (40 + seed)).collect(),
            sampler: match seed {
                0 => SamplerOptions::greedy(),
                _ => SamplerOptions { seed: seed.into(), ..SamplerOptions::default() },
            },
            generation: limit(50),
            // The last one wants none.
            draft_limit: (seed == 4).then_some(0),
            ..Request::default()
        };
        let requests: Vec<Request> = (0..5).map(request).collect();
        let batcher = |speculation: SpeculationOptions, cache_bytes: usize| {
            let options = BatcherOptions { speculation, cache_bytes, ..BatcherOptions::default() };
            Batcher::new(model.clone(), Arc::new(Pool::new(2)), options)
        };
        let expected = batched(&batcher(SpeculationOptions::default(), 1 << 30), &requests);
        for way in [
            SpeculationOptions { min_tokens: 3, ..lookup() },
            drafted_by(&model, &model, 4),
            SpeculationOptions { lookup: true, ..drafted_by(&model, &model, 6) },
        ] {
            for cache_bytes in [1 << 30, 0] {
                let batcher = batcher(way.clone(), cache_bytes);
                // The second time, prompts are known, to the draft model as well.
                for round in 0..2 {
                    let found = batched(&batcher, &requests);
                    for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                        let what = format!("{name}, request {i}, round {round}, {cache_bytes} bytes, {way:?}");
                        assert_eq!((&found.0, &found.1, found.2), (&expected.0, &expected.1, expected.2), "{what}");
                        assert!((found.3 > 0) == (i < 4) && found.4 <= found.3, "{what}: {found:?}");
                    }
                }
                let status = batcher.status();
                assert!(status.accepted_tokens <= status.drafted_tokens && status.drafted_tokens > 0);
                assert_eq!(status.answer_tokens, 500);
            }
        }
    }
}

#[test]
fn a_draft_model_of_another_vocabulary_is_refused() {
    let folder = Folder::new("speculation-vocabulary");
    let (model, other) = (storyteller(), Arc::new(load(&folder, "llama3")));
    let error = DraftModel::new(other, &model).expect_err("refused").to_string();
    assert_eq!(error, "the draft model has another vocabulary: a tokenizer of the kind Bpe, not Spm");
    let renamed = storyteller::changed(
        &storyteller::f16(),
        |keys| {
            let mut tokens = model.tokenizer().vocab().tokens.clone();
            tokens[700] = b"another".to_vec();
            keys.set("tokenizer.ggml.tokens", Array::strings(tokens));
        },
        |_, _| {},
    );
    let renamed = Arc::new(Model::from_reader(&renamed).expect("loads"));
    let error = DraftModel::new(renamed, &model).expect_err("refused").to_string();
    assert!(error.starts_with("the draft model has another vocabulary: token 700 is \"another\", not "), "{error}");
}

#[test]
fn the_program_drafts_and_says_so() {
    let folder = Folder::new("speculation-program");
    let run = |line: &str| gguf(&line.split_whitespace().collect::<Vec<_>>(), folder.root());
    let source = super::shared::testdata("storyteller");
    assert!(run(&format!("convert {} -t q8_0 -o draft.gguf", source.display())).status.success());
    let chat = |options: &str| {
        let output = run(&format!("chat -p Once --temperature 0.9 --seed 3 -n 40 --verbose {options}"));
        assert!(output.status.success(), "{options}: {}", text(&output.stderr));
        (text(&output.stdout).to_owned(), text(&output.stderr).to_owned())
    };
    let (expected, figures) = chat("");
    assert!(!figures.contains("drafted"), "{figures}");
    for options in ["--draft draft.gguf --draft-min 4", "--lookup --draft draft.gguf --draft-min 2 --draft-max 3"] {
        let (found, figures) = chat(options);
        assert_eq!(found, expected, "{options}");
        assert!(figures.contains(" drafted tokens accepted)"), "{options}: {figures}");
    }
    assert_eq!(chat("--lookup").0, expected);
    let refused = run("chat -p Once --draft absent.gguf");
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("draft model absent.gguf"), "{}", text(&refused.stderr));
}

#[cfg(feature = "serve")]
#[test]
fn servers_tell_what_was_drafted() {
    use serde_json::json;
    let server = super::served::Served::start("--lookup --draft-min 2");
    let prompt = "The dog ran to the park. The cat ran to the park. The dog ran";
    let ask = |limit: Option<usize>| {
        let mut body = json!({ "prompt": prompt, "n_predict": 40, "seed": 4, "cache_prompt": false });
        if let Some(limit) = limit {
            body["speculative.n_max"] = limit.into();
        }
        server.post("/completion", &body).json()
    };
    let (with, without) = (ask(None), ask(Some(0)));
    assert_eq!(with["content"], without["content"]);
    let (drafted, right) = (with["timings"]["draft_n"].as_u64(), with["timings"]["draft_n_accepted"].as_u64());
    assert!(drafted > Some(0) && right <= drafted, "{with}");
    assert!(without["timings"].get("draft_n").is_none(), "{without}");
    assert_eq!(server.metric("gguf:draft_tokens_total").to_string(), drafted.unwrap_or(0).to_string());
}
