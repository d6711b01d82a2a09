//! Lists of checksums, and recipes.

#![no_main]

use std::path::Path;

use gguf_toolkit::inspect::hash::Manifest;
use gguf_toolkit::quantize::Recipe;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = Manifest::parse(text, "m.gguf", &["token_embd.weight", "output.weight"]);
    let _ = Recipe::parse(Path::new("fuzz.recipe"), text);
});
