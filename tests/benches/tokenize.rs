//! Tokens from text: megabytes a second of plain text, and texts that are one character over and over.
//!
//! `cargo bench --bench tokenize [-- MODEL...]`: GGUF files or checkpoint folders. Without any, the vocabularies in the
//! folder `GGUF_SHARED`, or the embedded storyteller's. The text is `GGUF_TEXT`, or
//! `GGUF_SHARED/text/wikitext-2-test.txt`, or the storyteller's own.
//!
//! `cargo bench --bench tokenize -- --runs`: every pre-tokenizer on runs of each class of characters, in nanoseconds a
//! byte; two lengths, so that what grows faster than the text shows.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gguf_toolkit::convert::{Folder, tokenizer};
use gguf_toolkit::gguf::Reader;
use gguf_toolkit::tokenizer::{
    AddedTokenFlags, EncodeOptions, Model, SpecialIds, Tokenizer, Vocab, byte_character, pre_tokenizer_names,
};

const RUNS: u32 = 5;
/// Bytes of a text of one character.
const LONG: usize = 1_000_000;

fn main() {
    if std::env::args().any(|arg| arg == "--runs") {
        return runs();
    }
    let shared = std::env::var_os("GGUF_SHARED").map(PathBuf::from);
    let mut models: Vec<PathBuf> =
        std::env::args().skip(1).filter(|a| !a.starts_with("--")).map(PathBuf::from).collect();
    if let (true, Some(shared)) = (models.is_empty(), &shared) {
        let entries = std::fs::read_dir(shared.join("vocab")).expect("vocab");
        models.extend(
            entries.map(|entry| entry.expect("an entry").path()).filter(|p| p.extension().is_some_and(|e| e == "gguf")),
        );
        models.sort();
    }
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/storyteller");
    if models.is_empty() {
        models.push(testdata.clone());
    }
    let file = std::env::var_os("GGUF_TEXT").map(PathBuf::from);
    let file = file.or_else(|| shared.map(|shared| shared.join("text/wikitext-2-test.txt")));
    let text = std::fs::read_to_string(file.unwrap_or_else(|| testdata.join("heldout.txt"))).expect("a text");
    println!(
        "{:32} {:>10} {:>9} {:>8}  seconds for 1 MB of a, spaces, newlines, 🙂",
        "vocabulary", "tokens", "ms", "MB/s"
    );
    for model in models {
        report(&model, &text);
    }
}

fn report(path: &Path, text: &str) {
    let tokenizer = if path.is_dir() {
        Folder::open(path).and_then(|folder| tokenizer(&folder, None)).expect("a tokenizer")
    } else {
        Tokenizer::from_gguf(&Reader::open(path).expect("a file")).expect("a tokenizer")
    };
    let encode = |text: &str| {
        let start = Instant::now();
        let tokens = tokenizer.encode(text, EncodeOptions::default()).expect("tokens");
        (start.elapsed(), tokens.len())
    };
    let runs = (0..RUNS).map(|_| encode(text)).min().unwrap_or((Duration::ZERO, 0));
    let seconds = runs.0.as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "rates for people")]
    let rate = text.len() as f64 / 1e6 / seconds;
    let long = ["a", " ", "\n", "🙂"].map(|c| format!("{:.3}", encode(&c.repeat(LONG / c.len())).0.as_secs_f64()));
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    println!("{name:32} {:>10} {:>9.1} {rate:>8.1}  {}", runs.1, seconds * 1e3, long.join(" "));
}

/// One character of each class that pre-tokenizers tell apart.
const CLASSES: [&str; 14] = ["a", "A", "é", "中", "\u{94d}", "ʰ", "1", "५", "½", " ", "\n", "!", "🙂", "_"];

/// Prints, for each pre-tokenizer, the class that takes longest.
fn runs() {
    const LENGTHS: [usize; 2] = [50_000, 400_000];
    println!("{:28} {:>8} {:>14} {:>14}", "pre-tokenizer", "class", "50 kB, ns/byte", "400 kB, ns/byte");
    for name in pre_tokenizer_names() {
        let tokenizer = made(name);
        let time = |class: &str, len: usize| {
            let text = format!("x{}x", class.repeat(len / class.len()));
            let start = Instant::now();
            tokenizer.encode(&text, EncodeOptions::default()).expect("tokens");
            #[allow(clippy::cast_precision_loss, reason = "rates for people")]
            let rate = start.elapsed().as_secs_f64() * 1e9 / text.len() as f64;
            rate
        };
        let times = CLASSES.map(|class| (class, LENGTHS.map(|len| time(class, len))));
        let slowest = times.into_iter().max_by(|a, b| a.1[1].total_cmp(&b.1[1]));
        let (class, [short, long]) = slowest.expect("some class");
        println!("{name:28} {:>8} {short:>14.0} {long:>14.0}", class.escape_default().to_string());
    }
}

/// A tokenizer of single bytes with this pre-tokenizer.
fn made(pre: &str) -> Tokenizer {
    let as_text = (0..=255u8).map(|byte| byte_character(byte).to_string().into_bytes());
    let as_number = (0..=255u8).map(|byte| format!("<0x{byte:02X}>").into_bytes());
    Tokenizer::new(Vocab {
        model: Model::Bpe,
        pre: pre.to_owned(),
        tokens: as_text.chain(as_number).collect(),
        scores: Vec::new(),
        kinds: Vec::new(),
        merges: vec![b"x x".to_vec()],
        special: SpecialIds::default(),
        added_tokens: AddedTokenFlags::default(),
        add_bos: false,
        add_eos: false,
        add_separator: false,
        add_space_prefix: false,
        remove_extra_spaces: false,
        character_map: Vec::new(),
        lowercase: false,
        strip_accents: false,
    })
    .expect("a tokenizer")
}
