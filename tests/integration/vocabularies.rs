//! The published vocabularies open, and open fast.

use std::path::PathBuf;
use std::time::Instant;

use gguf::gguf::Reader;

/// The folder that `GGUF_SHARED` names, with files that are not ours to ship.
fn shared() -> PathBuf {
    let folder = PathBuf::from(std::env::var_os("GGUF_SHARED").expect("GGUF_SHARED names the shared folder"));
    assert!(folder.is_dir(), "GGUF_SHARED names no folder: {}", folder.display());
    folder
}

#[test]
#[ignore = "needs GGUF_SHARED"]
fn every_vocabulary_opens_in_under_50_ms() {
    let mut count = 0;
    for entry in std::fs::read_dir(shared().join("vocab")).expect("vocab") {
        let path = entry.expect("entry").path();
        if path.extension().is_none_or(|extension| extension != "gguf") {
            continue;
        }
        let start = Instant::now();
        let reader = Reader::open(&path).unwrap_or_else(|error| panic!("{error}"));
        let took = start.elapsed();
        assert!(reader.metadata().get("tokenizer.ggml.tokens").is_some(), "{}", path.display());
        println!("{}: {took:?}", path.display());
        assert!(took.as_millis() < 50, "{}: {took:?}", path.display());
        count += 1;
    }
    assert!(count >= 10, "{count} vocabularies");
}
