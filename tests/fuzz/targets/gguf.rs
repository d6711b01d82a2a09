#![no_main]

libfuzzer_sys::fuzz_target!(
    init: gguf_toolkit_fuzz::write_seeds(true),
    |bytes: &[u8]| gguf_toolkit_fuzz::gguf(bytes)
);
