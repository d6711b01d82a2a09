//! Speculation changes no text: with a draft model, with the lookup, in sessions and in batches, for any sampler, constraint and limit.

use std::sync::Arc;

use gguf_toolkit::cpu::{KvType, Part, Rows, Run, SequenceOptions};
use gguf_toolkit::engine::{
    Answer, Batcher, BatcherOptions, DraftModel, GenerationOptions, Request, Sampler, SamplerOptions, Session,
    SessionOptions, SpeculationOptions, Stop, Update, Updates,
};
use gguf_toolkit::gguf::{Array, Metadata, Reader};
use gguf_toolkit::kernels::Pool;
use gguf_toolkit::model::Model;

use super::folder::Folder;
use super::logits::load;
use super::quantize_command::{gguf, text};
use super::storyteller;

/// Every kind of state: full attention, sliding windows, latent attention, each recurrence, attention beside a recurrence, and
/// learned positions.
const FAMILIES: [&str; 13] = [
    "llama3",
    "gemma3",
    "deepseek2",
    "deepseek32",
    "gpt2",
    "qwen35",
    "kimilinear",
    "mamba",
    "mamba2",
    "granitehybrid",
    "falconh1",
    "lfm2",
    "jamba",
];

/// A tiny model with random weights, whose tokenizer knows each byte.
fn tiny(folder: &Folder) -> Arc<Model> {
    Arc::new(load(folder, "llama2"))
}

/// The tiny model with other keys or weights. [`tiny`] has written its file.
fn tiny_with(folder: &Folder, keys: impl FnOnce(&mut Metadata), weights: impl Fn(&str, &mut Vec<u8>)) -> Arc<Model> {
    let reader = Reader::open(&folder.path("llama2.gguf")).expect("written");
    Arc::new(Model::from_reader(&storyteller::changed(&reader, keys, weights)).expect("loads"))
}

/// The tiny model with the sign of every logit changed: its likeliest token is the unlikeliest one of the tiny model.
fn contrary(folder: &Folder) -> Arc<Model> {
    let negate = |name: &str, bytes: &mut Vec<u8>| {
        if name == "output_norm.weight" {
            // The sign is in the last byte of a number.
            bytes.chunks_exact_mut(4).for_each(|number| number[3] ^= 0x80);
        }
    };
    tiny_with(folder, |_| {}, negate)
}

/// A prompt in which the same tokens follow each other several times.
fn prompt(len: u32) -> Vec<u32> {
    (0..len).map(|i| 3 + i * 7 % 11).collect()
}

fn lookup() -> SpeculationOptions {
    SpeculationOptions { lookup: true, ..SpeculationOptions::default() }
}

/// Drafts of exactly `len` tokens, so that tests do not depend on measured times.
fn drafted_by(draft: &Arc<Model>, model: &Model, len: usize) -> SpeculationOptions {
    let draft = DraftModel::new(draft.clone(), model).expect("the same vocabulary");
    SpeculationOptions {
        lookup: false,
        model: Some(draft),
        max_tokens: len,
        min_tokens: len,
        ..SpeculationOptions::default()
    }
}

/// The lookup and, where it finds nothing, the model itself.
fn both(model: &Arc<Model>, len: usize) -> SpeculationOptions {
    SpeculationOptions { lookup: true, ..drafted_by(model, model, len) }
}

fn session(model: &Arc<Model>, options: &SessionOptions, speculation: &SpeculationOptions) -> Session {
    let mut session = Session::new(model.clone(), Arc::new(Pool::new(1)), options.clone());
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

/// Greedy, several seeds and temperatures, a logit bias, and samplers that remember earlier tokens.
fn samplers() -> Vec<SamplerOptions> {
    let with = |seed, temperature| SamplerOptions { seed, temperature, ..SamplerOptions::default() };
    vec![
        SamplerOptions::greedy(),
        with(1, 0.05),
        with(2, 1.0),
        SamplerOptions { mirostat: 2, ..with(3, 0.8) },
        SamplerOptions { repeat_penalty: 1.2, frequency_penalty: 0.3, dry_multiplier: 0.8, ..with(4, 0.1) },
        SamplerOptions { logit_bias: vec![(7, 3.0), (11, f32::NEG_INFINITY)], ..with(5, 0.2) },
    ]
}

#[test]
fn texts_are_the_same_for_every_sampler_and_draft() {
    const LIMIT: usize = 14;
    let folder = Folder::new("speculation-samplers");
    let model = tiny(&folder);
    let contrary = contrary(&folder);
    let prompt = prompt(22);
    let ways = [
        ("lookup", lookup()),
        ("lookup, at least 4", SpeculationOptions { min_tokens: 4, ..lookup() }),
        ("the model itself", drafted_by(&model, &model, 5)),
        ("the model itself, a measured length", SpeculationOptions { min_tokens: 0, ..drafted_by(&model, &model, 5) }),
        ("always wrong", drafted_by(&contrary, &model, 3)),
        ("both", both(&model, 4)),
    ];
    let (mut drafted, mut accepted) = (0, 0);
    for sampler in samplers() {
        let options = SessionOptions::default();
        let plain = SpeculationOptions::default();
        let expected = answer(&mut session(&model, &options, &plain), &prompt, &sampler, &limit(LIMIT));
        assert_eq!((expected.tokens.len(), expected.drafted), (LIMIT, 0));
        for (name, way) in &ways {
            let mut session = session(&model, &options, way);
            let found = answer(&mut session, &prompt, &sampler, &limit(LIMIT));
            let what = format!("{name}, seed {}", sampler.seed);
            assert_eq!((&found.text, &found.tokens), (&expected.text, &expected.tokens), "{what}");
            assert_eq!(found.stop, expected.stop, "{what}");
            assert!(found.accepted <= found.drafted && found.accepted < LIMIT, "{what}");
            // The session has the tokens of the text and no others.
            assert_eq!(session.tokens(), [&prompt[..], &expected.tokens].concat(), "{what}");
            assert_eq!(session.drafted(), (found.drafted, found.accepted), "{what}");
            drafted += found.drafted;
            accepted += found.accepted;
        }
    }
    assert!(accepted > 40 && drafted - accepted > 80, "{accepted} of {drafted}");
}

#[test]
fn a_perfect_draft_is_accepted_and_a_contrary_one_never() {
    let folder = Folder::new("speculation-perfect");
    let model = tiny(&folder);
    let contrary = contrary(&folder);
    let run = |way: SpeculationOptions| {
        let mut session = session(&model, &SessionOptions::default(), &way);
        answer(&mut session, &prompt(10), &SamplerOptions::greedy(), &limit(41))
    };
    // The first token comes from the prompt. Then each pass brings four tokens of a draft and one more; it is not known before
    // the first pass what passes cost, so that it has no draft.
    let perfect = run(drafted_by(&model, &model, 4));
    let (drafted, accepted) = (perfect.drafted, perfect.accepted);
    assert!(accepted >= 30 && drafted - accepted < 4, "{accepted} of {drafted}");
    let never = run(drafted_by(&contrary, &model, 4));
    assert!(never.accepted == 0 && never.drafted > 100, "{} of {}", never.accepted, never.drafted);
    // Without a minimum, such drafts are soon given up.
    let given_up = run(SpeculationOptions { min_tokens: 0, ..drafted_by(&contrary, &model, 4) });
    assert!(given_up.drafted < never.drafted, "{} of {}", given_up.drafted, never.drafted);
    assert_eq!((&perfect.text, &given_up.text), (&never.text, &perfect.text));
}

/// After a rejected token, a recurrent state and a sliding window are those from before the draft.
#[test]
fn every_kind_of_state_is_rolled_back() {
    let folder = Folder::new("speculation-families");
    let options = SessionOptions::default();
    let samplers =
        [SamplerOptions::greedy(), SamplerOptions { seed: 9, temperature: 0.1, ..SamplerOptions::default() }];
    for (name, sampler) in FAMILIES.into_iter().zip(samplers.iter().cycle()) {
        let model = Arc::new(load(&folder, name));
        let prompt = prompt(20);
        let mut plain = session(&model, &options, &SpeculationOptions::default());
        let expected = answer(&mut plain, &prompt, sampler, &limit(12));
        let turn = [&prompt[..], &expected.tokens, &[5, 6, 7]].concat();
        let next = answer(&mut plain, &turn, sampler, &limit(4));
        for way in [SpeculationOptions { min_tokens: 3, ..lookup() }, both(&model, 5)] {
            let mut session = session(&model, &options, &way);
            let found = answer(&mut session, &prompt, sampler, &limit(12));
            assert_eq!(found.tokens, expected.tokens, "{name}");
            assert!(found.drafted > 0 || way.model.is_none(), "{name}");
            // The next turn continues from there.
            assert_eq!(answer(&mut session, &turn, sampler, &limit(4)).tokens, next.tokens, "{name}");
        }
    }
}

/// The states themselves: after a rollback, the next logits have the same bits as without the tokens in between.
#[test]
fn a_sequence_is_rolled_back_to_the_same_bits() {
    let folder = Folder::new("speculation-states");
    let pool = Pool::new(1);
    for name in FAMILIES {
        let model = load(&folder, name);
        let decoder = model.decoder();
        let mut sequence = decoder.sequence(SequenceOptions { kv_type: KvType::F16, context_length: 400 });
        let forward = |sequence: &mut _, tokens: &[u32]| {
            decoder.forward(Run::new(&pool), &mut [Part { sequence, tokens, logits: Rows::Last }])
        };
        // More than one page of 64 positions, of which a window has dropped the first.
        forward(&mut sequence, &prompt(130));
        let expected = forward(&mut sequence.clone(), &[5, 6, 7]);
        for (accepted, len) in [(0, 130), (2, if sequence.goes_back() || name == "gemma3" { 132 } else { 130 })] {
            let mut tried = sequence.clone();
            let point = tried.rollback_point();
            assert_eq!(point.len(), 130);
            // Enough for a window to move on to the next page.
            forward(&mut tried, &[&[5, 6], &[9; 70][..]].concat());
            assert_eq!(tried.roll_back(point, 130 + accepted), len, "{name}");
            assert_eq!(forward(&mut tried, &[5, 6, 7][len - 130..]), expected, "{name}, {accepted} accepted");
        }
        // Where all tokens are accepted, none are removed.
        let point = sequence.rollback_point();
        forward(&mut sequence, &[5, 6]);
        assert_eq!(sequence.roll_back(point, 132), 132);
        assert_eq!(forward(&mut sequence, &[7]), expected, "{name}");
    }
}

/// A model, two ways of drafting for it, and the first tokens of its answer to [`prompt`].
struct Ends {
    model: Arc<Model>,
    ways: [SpeculationOptions; 2],
}

impl Ends {
    fn new(model: Arc<Model>) -> Self {
        let ways = [SpeculationOptions { min_tokens: 4, ..lookup() }, drafted_by(&model, &model, 4)];
        Self { model, ways }
    }

    /// Checks that an answer ends for the same reason with the same text, tokens and session, with and without drafts.
    fn check(&self, options: &SessionOptions, limits: &GenerationOptions, pieces: usize, stop: Stop) -> Answer {
        let run = |way: &SpeculationOptions| {
            let mut session = session(&self.model, options, way);
            let (mut sampler, mut left) = (Sampler::new(SamplerOptions::greedy()), pieces);
            let mut show = |_: &str| {
                left = left.saturating_sub(1);
                left > 0
            };
            let answer = session.generate(&prompt(12), &mut sampler, limits.clone(), &mut show).expect("answers");
            (answer, session.tokens().to_vec())
        };
        let (expected, tokens) = run(&SpeculationOptions::default());
        assert_eq!(expected.stop, stop);
        for way in &self.ways {
            let (found, found_tokens) = run(way);
            assert_eq!((&found.text, &found.tokens, found.stop), (&expected.text, &expected.tokens, stop), "{way:?}");
            assert_eq!(found_tokens, tokens, "{way:?}");
        }
        expected
    }
}

#[test]
fn answers_end_where_they_would() {
    let folder = Folder::new("speculation-ends");
    let (usual, all) = (SessionOptions::default(), usize::MAX);
    let ends = Ends::new(tiny(&folder));
    for max in [0, 1, 4, 5, 8] {
        ends.check(&usual, &limit(max), all, Stop::Length);
    }
    let whole = ends.check(&usual, &limit(24), all, Stop::Length);
    // A text in the middle, which may begin within a token.
    for at in [3, 6] {
        let stop = vec![whole.text.chars().skip(at).take(5).collect::<String>()];
        ends.check(&usual, &GenerationOptions { stop, ..limit(24) }, all, Stop::Text);
    }
    for room in [0, 1, 4, 7] {
        let context_length = Some(prompt(12).len() + room);
        let limits = GenerationOptions { max_tokens: None, ..limit(0) };
        ends.check(&SessionOptions { context_length, ..usual.clone() }, &limits, all, Stop::Context);
    }
    // The caller stops it, perhaps in the middle of a draft.
    for pieces in [2, 4, 7, 8] {
        ends.check(&usual, &limit(24), pieces, Stop::Caller);
    }
    // The end token of the model: one that comes in this answer.
    let at = (3..24).find(|&at| !whole.tokens[..at].contains(&whole.tokens[at])).expect("another token");
    let end = tiny_with(&folder, |keys| keys.set("tokenizer.ggml.eos_token_id", whole.tokens[at]), |_, _| {});
    let limits = GenerationOptions { ignore_end: false, ..limit(24) };
    assert_eq!(Ends::new(end).check(&usual, &limits, all, Stop::End).tokens, whole.tokens[..at]);
}

#[cfg(feature = "constrain")]
#[test]
fn constraints_hold_and_change_nothing_else() {
    use gguf_toolkit::engine::{Grammar, TokenTrie};
    let folder = Folder::new("speculation-constraints");
    let model = tiny(&folder);
    let trie = TokenTrie::new(model.tokenizer()).expect("a trie");
    let schema = serde_json::json!({
        "type": "object", "required": ["name", "age"], "additionalProperties": false,
        "properties": { "name": { "type": "string", "maxLength": 4 }, "age": { "type": "integer", "maximum": 99 } },
    });
    for grammar in [Grammar::JsonSchema(schema), Grammar::Regex("(the (cat|dog) ran\\. ){2}".to_owned())] {
        let constraint = Some(trie.compile(&grammar).expect("valid"));
        let limits = GenerationOptions { constraint, max_tokens: Some(60), ..GenerationOptions::default() };
        let all = samplers();
        for sampler in [&all[0], &all[4]] {
            let run = |way: &SpeculationOptions| {
                let mut session = session(&model, &SessionOptions::default(), way);
                let answer = answer(&mut session, &prompt(12), sampler, &limits);
                assert_eq!(session.drafted().0 > 0, way.model.is_some());
                (answer.text, answer.tokens, answer.stop)
            };
            let expected = run(&SpeculationOptions::default());
            assert_eq!(expected.2, Stop::End, "{}", expected.0);
            assert_eq!(run(&both(&model, 4)), expected, "{grammar:?}, seed {}", sampler.seed);
        }
    }
}

/// The answer of a batcher, and what was drafted for it.
#[derive(Debug)]
struct Batched {
    tokens: Vec<u32>,
    text: String,
    stop: Stop,
    drafted: usize,
    accepted: usize,
}

fn batched(batcher: &Batcher, requests: &[Request]) -> Vec<Batched> {
    let running: Vec<Updates> = requests.iter().map(|r| batcher.submit(r.clone()).expect("taken")).collect();
    let read = |updates: Updates| {
        let (mut tokens, mut whole) = (Vec::new(), String::new());
        for update in updates {
            match update {
                Update::Token { token, text, .. } => {
                    tokens.push(token);
                    whole.push_str(&text);
                }
                Update::End { reason, text, usage, .. } => {
                    let (text, drafted, accepted) = (whole + &text, usage.drafted_tokens, usage.accepted_tokens);
                    return Batched { tokens, text, stop: reason, drafted, accepted };
                }
                Update::Failed(error) => panic!("{error}"),
                _ => {}
            }
        }
        panic!("no end");
    };
    running.into_iter().map(read).collect()
}

#[test]
fn batches_of_requests_get_the_texts_that_they_would_get() {
    let folder = Folder::new("speculation-batches");
    for name in ["llama2", "gemma3", "qwen35", "falconh1"] {
        let model = Arc::new(load(&folder, name));
        let request = |seed: u32| Request {
            prompt: prompt(8 + 11 * seed),
            sampler: match seed {
                0 => SamplerOptions::greedy(),
                _ => SamplerOptions { seed: seed.into(), temperature: 0.2, ..SamplerOptions::default() },
            },
            generation: limit(7),
            // The last one wants no drafts.
            draft_limit: (seed == 4).then_some(0),
            ..Request::default()
        };
        let requests: Vec<Request> = (0..5).map(request).collect();
        let batcher = |speculation: SpeculationOptions, cache_bytes: usize| {
            let session = SessionOptions { context_length: Some(100), ..SessionOptions::default() };
            let options = BatcherOptions { session, speculation, cache_bytes, ..BatcherOptions::default() };
            Batcher::new(model.clone(), Arc::new(Pool::new(1)), options)
        };
        let expected = batched(&batcher(SpeculationOptions::default(), 1 << 30), &requests);
        // With much memory, and with that of one request and its draft model.
        for (way, cache_bytes) in [(both(&model, 4), 1 << 30), (drafted_by(&model, &model, 5), 0)] {
            let batcher = batcher(way, cache_bytes);
            let mut sums = (0, 0);
            // The second time, the prompts are in the prefix cache, also in that of the draft model.
            for round in 0..2 {
                let found = batched(&batcher, &requests);
                for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    let what = format!("{name}, request {i}, round {round}, {cache_bytes} bytes: {found:?}");
                    assert_eq!((&found.tokens, &found.text), (&expected.tokens, &expected.text), "{what}");
                    assert_eq!(found.stop, expected.stop, "{what}");
                    assert!(found.accepted <= found.drafted && (i < 4 || found.drafted == 0), "{what}");
                    assert!(found.drafted > 0 || i == 4 || cache_bytes == 0, "{what}");
                    sums = (sums.0 + found.drafted as u64, sums.1 + found.accepted as u64);
                }
            }
            let status = batcher.status();
            assert_eq!(status.answer_tokens, 70);
            assert_eq!(status.accepted_tokens, sums.1, "{status:?}");
            assert_eq!(status.drafted_tokens, sums.0, "{status:?}");
            assert!(status.cache_bytes <= status.cache_budget, "{status:?}");
            // Stored prefixes make room for the draft model.
            let alone = Request { prompt: prompt(70).into_iter().rev().collect(), ..requests[0].clone() };
            assert!(batched(&batcher, &[alone])[0].drafted > 0, "{name}, {cache_bytes} bytes");
        }
    }
}

#[test]
fn a_draft_model_of_another_vocabulary_is_refused() {
    let folder = Folder::new("speculation-vocabulary");
    let (model, other) = (tiny(&folder), Arc::new(load(&folder, "llama3")));
    let error = DraftModel::new(other, &model).expect_err("refused").to_string();
    assert_eq!(error, "the draft model has another vocabulary: a tokenizer of the kind Bpe, not Spm");
    let mut tokens = model.tokenizer().vocab().tokens.clone();
    tokens[300] = b"another".to_vec();
    let renamed = tiny_with(&folder, |keys| keys.set("tokenizer.ggml.tokens", Array::strings(tokens)), |_, _| {});
    let error = DraftModel::new(renamed, &model).expect_err("refused").to_string();
    assert!(error.starts_with("the draft model has another vocabulary: token 300 is \"another\", not "), "{error}");
}

#[test]
fn the_program_drafts_and_says_so() {
    let folder = Folder::new("speculation-program");
    let run = |line: &str| gguf(&line.split_whitespace().collect::<Vec<_>>(), folder.root());
    let source = super::shared::testdata("storyteller");
    assert!(run(&format!("convert {} -t q8_0 -o draft.gguf", source.display())).status.success());
    let chat = |options: &str| {
        let output = run(&format!("chat -p Once --temperature 0.9 --seed 3 -n 20 --verbose {options}"));
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
    for (options, expected) in [
        ("--draft absent.gguf", "draft model absent.gguf"),
        ("--draft-max 3", "<--draft <MODEL>|--lookup|--mtp>"),
        ("--lookup --draft-max 3 --draft-min 4", "--draft-min 4 is more than --draft-max 3"),
    ] {
        let refused = run(&format!("chat -p Once {options}"));
        assert_eq!(refused.status.code(), Some(2), "{options}");
        assert!(text(&refused.stderr).contains(expected), "{options}: {}", text(&refused.stderr));
    }
}

#[cfg(feature = "serve")]
#[test]
fn servers_tell_what_was_drafted() {
    use serde_json::json;
    let server = super::served::Served::start("--lookup --draft-min 2");
    let prompt = "The dog ran to the park. The cat ran to the park. The dog ran";
    let ask = |limit: Option<usize>| {
        let mut body = json!({ "prompt": prompt, "n_predict": 25, "seed": 4, "cache_prompt": false });
        if let Some(limit) = limit {
            body["speculative.n_max"] = limit.into();
        }
        server.post("/completion", &body).json()
    };
    let (with, without) = (ask(None), ask(Some(0)));
    assert_eq!(with["content"], without["content"]);
    let (drafted, accepted) = (with["timings"]["draft_n"].as_u64(), with["timings"]["draft_n_accepted"].as_u64());
    assert!(drafted > Some(0) && accepted <= drafted, "{with}");
    assert!(without["timings"].get("draft_n").is_none(), "{without}");
    assert_eq!(
        server.metric("llamacpp:spec_decode_num_draft_tokens_total").to_string(),
        drafted.unwrap_or(0).to_string()
    );
}
