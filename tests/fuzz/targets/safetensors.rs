//! A safetensors file.

#![no_main]

use gguf_toolkit::safetensors::Checkpoint;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(checkpoint) = Checkpoint::from_bytes("fuzz", bytes.to_vec().into()) else { return };
    for tensor in checkpoint.tensors() {
        let mut data = vec![0; usize::try_from(tensor.bytes()).expect("inside the file")];
        checkpoint.read_at(tensor, 0, &mut data).expect("inside");
    }
});
