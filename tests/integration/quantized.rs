//! Whole quantized files against llama-quantize's, byte for byte.

use gguf_toolkit::gguf::Reader;
use gguf_toolkit::quantize::{FileType, GgufSource, Options, Plan, RunOptions, run};

use super::folder::Folder;
use super::shared::{json, sha256, shared};

#[test]
#[ignore = "needs GGUF_SHARED"]
fn hard_weights_give_the_files_of_llama_quantize() {
    let expected = json(&shared("goldens/hard/quantized.json"));
    let reader = Reader::open(&shared("goldens/hard/hard-f16.gguf")).expect("opens");
    let source = GgufSource::new(&reader);
    let folder = Folder::new("quantized-hard");
    for &file_type in FileType::ALL.iter().filter(|ty| ty.is_writable()) {
        let Some(golden) = expected["types"].get(file_type.name()) else { continue };
        let plan = Plan::new(&source, &Options::new(file_type)).expect("a plan");
        if golden.get("refused").is_some() {
            assert!(plan.check_importance(&source).is_err(), "{file_type}");
            continue;
        }
        let path = folder.path(file_type.name());
        let bytes = run(&source, &plan, &path, &RunOptions::default(), &|_| true).expect("written").file_bytes;
        let written = std::fs::read(&path).expect("there");
        assert_eq!(bytes, plan.file_bytes, "{file_type}: the plan's size");
        assert_eq!(bytes, golden["file_size"].as_u64().expect("size"), "{file_type}");
        assert_eq!(sha256(&written), golden["file_sha256"].as_str().expect("sha256"), "{file_type}");
    }
}
