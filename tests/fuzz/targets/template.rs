#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gguf_toolkit_fuzz::template(bytes));
