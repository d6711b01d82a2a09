//! Sessions in files: they go on as if they had never been closed, and files of other models or settings are refused.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use gguf_toolkit::cpu::{CacheType, KvType};
use gguf_toolkit::engine::{Session, SessionOptions};
use gguf_toolkit::kernels::Pool;
use gguf_toolkit::model::Model;

use super::folder::Folder;
use super::logits;
use super::quantize_command::{gguf, text};

/// More than a page, and more than the sliding windows of the tiny models.
const TOKENS: u32 = 70;

fn session(model: &Arc<Model>, kv_type: KvType) -> Session {
    let options = SessionOptions { context_length: Some(100), kv_type, ..SessionOptions::default() };
    Session::new(model.clone(), Arc::new(Pool::new(1)), options)
}

fn evaluate(session: &mut Session, tokens: &[u32]) -> Vec<f32> {
    session.evaluate(tokens, &mut |_| true).expect("fits").expect("goes on")
}

fn tokens() -> Vec<u32> {
    (0..TOKENS).map(|i| 3 + i * 7 % 20).collect()
}

/// The error for a file that is refused.
fn refusal(session: &mut Session, path: &Path) -> String {
    let error = session.restore(path).map(drop).expect_err("refused").to_string();
    assert!(session.tokens().is_empty() && session.cache_bytes() == 0, "{error}");
    error
}

#[test]
fn a_session_goes_on_from_its_file_bit_for_bit() {
    let folder = Folder::new("sessions");
    let path = folder.path("a.session");
    let mixed = KvType { keys: CacheType::Q8_0, values: CacheType::Q4_0 };
    let models = [
        "llama3",
        "llama4",
        "gemma3",
        "gemma3n",
        "deepseek2",
        "qwen3next",
        "kimilinear",
        "lfm2",
        "mamba",
        "mamba2",
        "falconh1",
    ];
    for name in models {
        let model = Arc::new(logits::load(&folder, name));
        for kv_type in [KvType::F16, mixed] {
            goes_on(&model, name, kv_type, &path);
        }
    }
}

fn goes_on(model: &Arc<Model>, name: &str, kv_type: KvType, path: &Path) {
    let mut first = session(model, kv_type);
    evaluate(&mut first, &tokens());
    first.save(path, name.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    let held = first.cache_bytes();
    let expected = evaluate(&mut first, &[5]);
    let mut second = session(model, kv_type);
    evaluate(&mut second, &[9, 8, 7]);
    let note = second.restore(path).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!((note.as_slice(), second.tokens()), (name.as_bytes(), &*tokens()));
    assert_eq!((second.cache_bytes(), second.missing(&tokens())), (held, 1), "{name} with {kv_type}");
    assert!(evaluate(&mut second, &[5]) == expected, "{name} with {kv_type}");
}

#[test]
fn what_a_text_has_in_common_with_a_restored_session_is_not_evaluated_again() {
    let folder = Folder::new("sessions-common");
    let path = folder.path("a.session");
    let model = Arc::new(logits::load(&folder, "llama3"));
    let mut first = session(&model, KvType::F16);
    evaluate(&mut first, &tokens());
    first.save(&path, b"").expect("written");
    let mut changed = tokens();
    changed[66] ^= 1;
    let expected = evaluate(&mut session(&model, KvType::F16), &changed);
    let mut second = session(&model, KvType::F16);
    second.restore(&path).expect("restored");
    let (logits, evaluated) = second.advance_to(&changed, &mut |_| true).expect("fits").expect("goes on");
    assert_eq!(evaluated, 4);
    assert!(logits == expected);
    // What is taken back is no longer there, and what came before it still is.
    let shorter = &tokens()[..50];
    let (logits, evaluated) = second.advance_to(shorter, &mut |_| true).expect("fits").expect("goes on");
    assert_eq!(evaluated, 1);
    assert!(logits == evaluate(&mut session(&model, KvType::F16), shorter));
}

#[test]
fn sessions_of_others_and_damaged_ones_are_refused() {
    let folder = Folder::new("sessions-refused");
    let path = folder.path("a.session");
    let model = Arc::new(logits::load(&folder, "llama3"));
    let mut own = session(&model, KvType::F16);
    evaluate(&mut own, &tokens());
    own.save(&path, b"note").expect("written");

    let other = Arc::new(logits::load(&folder, "qwen3"));
    let error = refusal(&mut session(&other, KvType::F16), &path);
    assert!(error.contains("a.session: a session of ") && error.contains(", and this is "), "{error}");
    let error = refusal(&mut session(&model, KvType::Q8_0), &path);
    assert!(error.ends_with("a session with a cache of type f16, and this one has q8_0"), "{error}");
    let options = SessionOptions { context_length: Some(20), ..SessionOptions::default() };
    let error = refusal(&mut Session::new(model.clone(), Arc::new(Pool::new(1)), options), &path);
    assert!(error.ends_with("a session of 70 tokens, which a context of 20 does not hold"), "{error}");
    assert!(refusal(&mut own, &folder.path("none")).contains("none: "));

    let whole = fs::read(&path).expect("there");
    let damaged = folder.path("damaged.session");
    let mut refused = |bytes: &[u8]| {
        fs::write(&damaged, bytes).expect("written");
        refusal(&mut own, &damaged)
    };
    assert!(refused(b"GGUF").ends_with("no session"));
    // Every byte of the head and the tokens, some of the pages, all of the checksum.
    let places = (0..600).chain((600..whole.len()).step_by(997)).chain(whole.len() - 8..whole.len());
    for at in places {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x81;
        refused(&bytes);
    }
    for len in (0..600).step_by(7).chain((600..whole.len()).step_by(4999)) {
        refused(&whole[..len]);
    }
    assert!(refused(&[&whole[..], &[0]].concat()).ends_with("damaged: bytes follow its end"));
    own.restore(&path).expect("the whole one is as it was");
}

#[test]
fn a_chat_goes_on_in_the_next_program() {
    let folder = Folder::new("sessions-chat");
    let say = |message: &str| {
        let args = ["chat", "--session", "talk.session", "--temperature", "0", "-n", "6", "-v", "-p", message];
        let output = gguf(&args, folder.root());
        assert!(output.status.success(), "{}", text(&output.stderr));
        (text(&output.stdout).to_owned(), text(&output.stderr).to_owned())
    };
    let (_, first) = say("Hello!");
    let (_, second) = say("Tell me a story.");
    assert!(!first.contains("talk.session") && second.contains("talk.session: 2 messages, "), "{second}");
    let read = |told: &str| -> usize {
        let (_, rest) = told.split_once("prompt ").expect("speed");
        rest.split_whitespace().next().expect("a number").parse().expect("a number")
    };
    let whole = gguf(&["chat", "--temperature", "0", "-n", "6", "-v", "-p", "Tell me a story."], folder.root());
    assert!(read(&second) <= read(text(&whole.stderr)) + 8, "what was said before is not read again: {second}");
    // A file that is no session is an error, and stays.
    fs::write(folder.path("other"), "text").expect("written");
    let output = gguf(&["chat", "--session", "other", "-p", "Hello!"], folder.root());
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(2), "error: other: no session\n"));
    assert_eq!(fs::read(folder.path("other")).expect("there"), b"text");
}
