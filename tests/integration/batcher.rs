//! Many requests at once: the same text for each whoever else is served, with warm caches and with little memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use gguf_toolkit::cpu::KvType;
use gguf_toolkit::engine::{
    Batcher, BatcherOptions, Error, GenerationOptions, Request, Sampler, SamplerOptions, Session, SessionOptions,
    SlotError, Stop, Update, Updates, Usage,
};
use gguf_toolkit::kernels::Pool;
use gguf_toolkit::model::Model;
use gguf_toolkit::tokenizer::EncodeOptions;

use super::folder::Folder;
use super::logits::load;
use super::storyteller;

const PROMPTS: [&str; 8] = [
    "Once upon a time",
    "Once upon a time there was a dog who",
    "The little girl wanted to",
    "One day, a bird",
    "Tom and Sue",
    "In the forest there lived",
    "Once upon a time",
    "It was raining and the cat was sad, because",
];

fn storyteller() -> Arc<Model> {
    Arc::new(Model::from_reader(&storyteller::f16()).expect("loads"))
}

fn batcher(model: &Arc<Model>, options: BatcherOptions) -> Batcher {
    Batcher::new(model.clone(), Arc::new(Pool::new(2)), options)
}

fn tokens(model: &Model, text: &str) -> Vec<u32> {
    model.tokenizer().encode(text, EncodeOptions::default()).expect("encodes")
}

/// A request, greedy or with a seed.
fn request(prompt: Vec<u32>, seed: Option<u64>, max_tokens: usize) -> Request {
    let sampler = match seed {
        Some(seed) => SamplerOptions { seed, ..SamplerOptions::default() },
        None => SamplerOptions::greedy(),
    };
    let generation = GenerationOptions { max_tokens: Some(max_tokens), ignore_end: true, ..Default::default() };
    Request { prompt, sampler, generation, ..Request::default() }
}

/// The tokens and the end of an answer.
fn answer(updates: Updates) -> (Vec<u32>, Stop, Usage) {
    let mut tokens = Vec::new();
    for update in updates {
        match update {
            Update::Token { token, .. } => tokens.push(token),
            Update::End { reason, usage, .. } => return (tokens, reason, usage),
            Update::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
    panic!("no end");
}

/// What a session gives, alone.
fn alone(model: &Arc<Model>, request: &Request) -> Vec<u32> {
    let mut session = Session::new(model.clone(), Arc::new(Pool::new(2)), SessionOptions::default());
    let mut sampler = Sampler::for_model(request.sampler.clone(), model.tokenizer());
    let answer = session.generate(&request.prompt, &mut sampler, request.generation.clone(), &mut |_| true);
    answer.expect("answers").tokens
}

/// Asks for all at once, and compares each with what a session gives.
fn check(batcher: &Batcher, requests: &[Request], expected: &[Vec<u32>], what: &str) -> Vec<Usage> {
    let running: Vec<_> = requests.iter().map(|r| batcher.submit(r.clone()).expect("taken")).collect();
    let found: Vec<_> = running.into_iter().map(answer).collect();
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(&found.0, expected, "{what}, request {i}");
    }
    found.into_iter().map(|(_, _, usage)| usage).collect()
}

#[test]
fn texts_are_the_same_alone_together_cold_and_warm() {
    let model = storyteller();
    for seed in [None, Some(1)] {
        let requests: Vec<Request> = PROMPTS.iter().map(|text| request(tokens(&model, text), seed, 24)).collect();
        let expected: Vec<_> = requests.iter().map(|request| alone(&model, request)).collect();
        let batcher = batcher(&model, BatcherOptions::default());
        check(&batcher, &requests, &expected, "cold");
        let usages = check(&batcher, &requests, &expected, "warm");
        for (usage, request) in usages.iter().zip(&requests) {
            assert_eq!(usage.cached_tokens, request.prompt.len() - 1);
            assert_eq!((usage.prompt_tokens, usage.answer_tokens), (request.prompt.len(), 24));
        }
        for (request, expected) in requests.iter().zip(&expected) {
            check(&batcher, std::slice::from_ref(request), std::slice::from_ref(expected), "alone and warm");
        }
        let status = batcher.status();
        assert_eq!((status.requests, status.waiting), (24, 0));
        assert_eq!(status.answer_tokens, 24 * 24);
    }
}

/// Full attention, windows, and several kinds of recurrence.
#[test]
fn conversations_go_on_from_what_earlier_ones_have_left() {
    let folder = Folder::new("batcher-families");
    for name in ["llama3", "gemma3", "qwen35", "granitehybrid", "lfm2"] {
        let model = Arc::new(load(&folder, name));
        let first: Vec<u32> = (0..40).map(|i| 3 + i * 7 % 50).collect();
        let first = request(first, None, 8);
        let mut second = first.clone();
        let batcher = batcher(&model, BatcherOptions::default());
        let answered = alone(&model, &first);
        check(&batcher, std::slice::from_ref(&first), std::slice::from_ref(&answered), name);
        // The same again, and the next turn.
        let usages = check(&batcher, std::slice::from_ref(&first), std::slice::from_ref(&answered), name);
        assert_eq!(usages[0].cached_tokens, 39, "{name}");
        second.prompt.extend(&answered);
        second.prompt.extend([5, 6, 7]);
        let usages = check(&batcher, &[second.clone()], &[alone(&model, &second)], name);
        assert!(usages[0].cached_tokens >= 47, "{name}: {usages:?}");
        // Another turn after the first question: only what comes before the answer is of use.
        let mut other = first.clone();
        other.prompt.extend([9, 8, 9, 8, 9]);
        let usages = check(&batcher, &[other.clone()], &[alone(&model, &other)], name);
        assert!(usages[0].cached_tokens >= 39, "{name}: {usages:?}");
    }
}

/// Full attention, windows, and several kinds of recurrence.
#[test]
fn states_of_slots_go_to_files_and_come_back() {
    let folder = Folder::new("batcher-slots");
    for name in ["llama3", "gemma3", "qwen35", "granitehybrid", "lfm2"] {
        let model = Arc::new(load(&folder, name));
        let file = folder.path(&format!("{name}.slot"));
        let first = Request { slot: Some(3), ..request((0..40).map(|i| 3 + i * 7 % 50).collect(), None, 8) };
        let answered = alone(&model, &first);
        let mut next = first.clone();
        next.prompt.extend(answered.iter().chain(&[5, 6, 7]));
        let expected = alone(&model, &next);
        let saved = {
            let batcher = batcher(&model, BatcherOptions::default());
            assert!(matches!(batcher.save_slot(3, 0, &file), Err(SlotError::Empty { slot: 3 })), "{name}");
            check(&batcher, std::slice::from_ref(&first), std::slice::from_ref(&answered), name);
            let saved = batcher.save_slot(3, 0, &file).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!((saved.tokens, saved.bytes), (48, std::fs::metadata(&file).expect("there").len()), "{name}");
            assert_eq!(batcher.erase_slot(3, 0).expect("a slot"), 48, "{name}");
            let usages = check(&batcher, std::slice::from_ref(&first), std::slice::from_ref(&answered), name);
            assert_eq!(usages[0].cached_tokens, 0, "{name}");
            saved
        };
        let batcher = batcher(&model, BatcherOptions::default());
        assert_eq!(batcher.restore_slot(0, 0, &file).unwrap_or_else(|error| panic!("{name}: {error}")), saved);
        let usages = check(&batcher, &[next], &[expected], name);
        assert_eq!(usages[0].cached_tokens, 48, "{name}");
        let no_slot = batcher.restore_slot(16, 0, &file).expect_err("no slot");
        assert!(matches!(no_slot, SlotError::Engine(Error::NoSlot { slot: 16, slots: 16 })), "{name}: {no_slot}");
    }
}

/// A state that comes from a file takes the place of stored prefixes.
#[test]
fn a_state_from_a_file_keeps_within_the_memory() {
    let folder = Folder::new("batcher-slots-memory");
    let (model, file) = (storyteller(), folder.path("a"));
    let session = SessionOptions { context_length: Some(512), ..SessionOptions::default() };
    // One context.
    let options = BatcherOptions { session, cache_bytes: 0, ..BatcherOptions::default() };
    let batcher = batcher(&model, options);
    let long =
        |start: u32| Request { slot: Some(0), ..request((0..300).map(|i| 300 + (start + i) % 900).collect(), None, 2) };
    answer(batcher.submit(long(0)).expect("taken"));
    batcher.save_slot(0, 0, &file).expect("saved");
    answer(batcher.submit(long(500)).expect("taken"));
    assert!(matches!(batcher.save_slot(1, 0, &file), Err(SlotError::Empty { .. })));
    batcher.restore_slot(1, 0, &file).expect("restored");
    let status = batcher.status();
    assert!(status.cache_bytes <= status.cache_budget, "{status:?}");
    let (_, _, usage) = answer(batcher.submit(long(0)).expect("taken"));
    assert_eq!(usage.cached_tokens, 299);
}

#[test]
fn equal_prompts_are_read_once() {
    let model = storyteller();
    let prompt: Vec<u32> = tokens(&model, &"The dog ran to the park. ".repeat(20));
    let requests: Vec<_> = (0..6).map(|seed| request(prompt.clone(), Some(seed), 8)).collect();
    let expected: Vec<_> = requests.iter().map(|request| alone(&model, request)).collect();
    let batcher = batcher(&model, BatcherOptions::default());
    let usages = check(&batcher, &requests, &expected, "at once");
    let cached = usages.iter().filter(|usage| usage.cached_tokens == prompt.len() - 1).count();
    assert_eq!(cached, 5, "{usages:?}");
    // Those of another salt see nothing of it.
    let salted = Request { salt: 1, ..requests[0].clone() };
    assert_eq!(check(&batcher, &[salted], &expected[..1], "salted")[0].cached_tokens, 0);
    let uncached = Request { no_cache: true, ..requests[0].clone() };
    assert_eq!(check(&batcher, &[uncached], &expected[..1], "uncached")[0].cached_tokens, 0);
}

#[test]
fn little_memory_changes_no_text() {
    let model = storyteller();
    let requests: Vec<_> = PROMPTS.iter().map(|text| request(tokens(&model, &text.repeat(90)), Some(3), 100)).collect();
    let expected: Vec<_> = requests.iter().map(|request| alone(&model, request)).collect();
    // One whole context and no more is held.
    let options = BatcherOptions { cache_bytes: 0, ..BatcherOptions::default() };
    let batcher = batcher(&model, options);
    for name in ["cold", "again"] {
        check(&batcher, &requests, &expected, name);
        let status = batcher.status();
        assert!(status.cache_bytes > 0 && status.cache_bytes <= status.cache_budget, "{name}: {status:?}");
    }
    // Prompts and answers of about 600 tokens, of which the context has room for one with its answer.
    assert!(batcher.status().prefixes <= 2);
}

#[test]
fn a_request_that_has_to_make_room_goes_on_later() {
    let model = storyteller();
    // Two of them fit at first, eight pages each, and one when both have come to their ninth.
    let long = |text: &str| tokens(&model, text).into_iter().cycle().take(480).collect::<Vec<u32>>();
    let requests: Vec<_> = PROMPTS[..3].iter().map(|text| request(long(text), Some(5), 80)).collect();
    let expected: Vec<_> = requests.iter().map(|request| alone(&model, request)).collect();
    let session = SessionOptions { kv_type: KvType::F16, ..SessionOptions::default() };
    let batcher = batcher(&model, BatcherOptions { session, cache_bytes: 0, ..BatcherOptions::default() });
    check(&batcher, &requests, &expected, "with room for sixteen pages a layer");
    assert!(batcher.status().preempted > 0, "{:?}", batcher.status());
}

/// Among many stored prefixes, the oldest make room for new ones, and no further memory is taken.
#[test]
fn memory_stays_what_it_was_when_many_prefixes_are_stored() {
    let model = storyteller();
    let batcher = batcher(&model, BatcherOptions::default());
    let ask = |first: u32, len: u32| {
        let prompt = (0..len).map(|i| 300 + (first + i * (first + 1)) % 500).collect();
        batcher.submit(request(prompt, None, 1)).expect("submitted")
    };
    let run = |firsts: std::ops::Range<u32>, len: u32| {
        for start in firsts.clone().step_by(8) {
            let some: Vec<Updates> = (start..firsts.end.min(start + 8)).map(|first| ask(first, len)).collect();
            some.into_iter().map(answer).for_each(drop);
        }
        batcher.status()
    };
    let full = run(0..280, 4);
    assert!(full.prefixes > 240 && full.cache_reserved >= full.cache_bytes, "{full:?}");
    // Each takes two pages, where those before have one.
    let later = run(300..316, 80);
    assert_eq!(later.cache_reserved, full.cache_reserved, "{later:?}");
    assert!(later.prefixes < full.prefixes && later.cache_bytes <= later.cache_reserved, "{later:?}");
}

#[test]
fn requests_that_nobody_waits_for_end() {
    let model = storyteller();
    let batcher = batcher(&model, BatcherOptions { parallel: 1, queue: 1, ..BatcherOptions::default() });
    let endless = request(tokens(&model, PROMPTS[0]), None, 1000);
    let mut running = batcher.submit(endless.clone()).expect("taken");
    assert!(running.any(|update| matches!(update, Update::Token { .. })));
    let waiting = batcher.submit(endless.clone()).expect("queued");
    let error = batcher.submit(endless.clone()).map(drop).expect_err("full").to_string();
    assert_eq!(error, "the queue is full: 1 requests wait");
    drop(waiting);
    drop(running);
    let last = request(tokens(&model, PROMPTS[2]), None, 4);
    // The place is free as soon as the thread has noticed.
    let updates = loop {
        match batcher.submit(last.clone()) {
            Ok(updates) => break updates,
            Err(Error::QueueFull { .. }) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    };
    let (found, reason, _) = answer(updates);
    assert_eq!((found, reason), (alone(&model, &last), Stop::Length));
    assert!(batcher.status().answer_tokens < 1000);
}

#[test]
fn prompts_that_cannot_be_evaluated_are_refused() {
    let model = storyteller();
    let session = SessionOptions { context_length: Some(20), ..SessionOptions::default() };
    let batcher = batcher(&model, BatcherOptions { session, ..BatcherOptions::default() });
    let error = |prompt: Vec<u32>| batcher.submit(request(prompt, None, 4)).map(drop).expect_err("refused").to_string();
    assert_eq!(error(vec![]), "no tokens to evaluate");
    assert_eq!(error(vec![1; 21]), "21 tokens do not fit the context of 20");
    assert_eq!(error(vec![1, 5000]), "token 5000 is outside the vocabulary of 2048");
    // The context ends an answer.
    let (found, reason, _) = answer(batcher.submit(request(vec![1; 15], None, 100)).expect("taken"));
    assert_eq!((found.len(), reason), (6, Stop::Context));
    let (found, reason, _) = answer(batcher.submit(request(vec![1; 20], None, 100)).expect("taken"));
    assert_eq!((found.len(), reason), (1, Stop::Context));
    let (found, reason, _) = answer(batcher.submit(request(vec![1; 5], None, 0)).expect("taken"));
    assert_eq!((found.len(), reason), (0, Stop::Length));
}

#[test]
fn probabilities_are_told_before_the_samplers_change_them() {
    let model = storyteller();
    let batcher = batcher(&model, BatcherOptions::default());
    let mut request = request(tokens(&model, PROMPTS[0]), None, 1);
    request.sampler.logit_bias = vec![(7, 1000.0)];
    request.logprobs = Some(2048);
    let update = batcher.submit(request).expect("taken").find(|update| matches!(update, Update::Token { .. }));
    let Some(Update::Token { token: 7, logprobs: Some(logprobs), .. }) = update else { panic!("{update:?}") };
    let by_token: BTreeMap<u32, f32> = logprobs.top.iter().copied().collect();
    assert_eq!(by_token.get(&7), Some(&logprobs.taken));
    assert!(logprobs.taken < logprobs.top[0].1 && logprobs.top.is_sorted_by(|a, b| a.1 >= b.1));
    let sum: f64 = logprobs.top.iter().map(|(_, x)| f64::from(*x).exp()).sum();
    assert!((sum - 1.0).abs() < 1e-5, "{sum}");
}
