//! Tokens from text: megabytes a second of plain text, and texts that are one character over and over.
//!
//! `cargo bench --bench tokenize [-- MODEL...]`: GGUF files or checkpoint folders. Without any, the vocabularies in the
//! folder `GGUF_SHARED`, or the embedded storyteller's. The text is `GGUF_TEXT`, or
//! `GGUF_SHARED/text/wikitext-2-test.txt`, or the storyteller's own.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gguf::convert::{Folder, tokenizer};
use gguf::gguf::Reader;
use gguf::tokenizer::{EncodeOptions, Tokenizer};

const RUNS: u32 = 5;
/// Bytes of a text of one character.
const LONG: usize = 1_000_000;

fn main() {
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
