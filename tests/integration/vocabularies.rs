//! The published vocabularies open.

use gguf_toolkit::gguf::Reader;

use super::shared::shared;

#[test]
#[ignore = "needs GGUF_SHARED"]
fn every_vocabulary_opens() {
    let mut count = 0;
    for entry in std::fs::read_dir(shared("vocab")).expect("vocab") {
        let path = entry.expect("entry").path();
        if path.extension().is_none_or(|extension| extension != "gguf") {
            continue;
        }
        let reader = Reader::open(&path).unwrap_or_else(|error| panic!("{error}"));
        assert!(reader.metadata().get("tokenizer.ggml.tokens").is_some(), "{}", path.display());
        count += 1;
    }
    assert!(count >= 10, "{count} vocabularies");
}
