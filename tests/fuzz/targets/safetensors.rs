#![no_main]

libfuzzer_sys::fuzz_target!(
    init: gguf_toolkit_fuzz::write_seeds(false),
    |bytes: &[u8]| gguf_toolkit_fuzz::safetensors(bytes)
);
