//! A GGUF file, through loading and one forward pass.

#![no_main]

use gguf_toolkit::cpu::{KvType, Part, Rows, Run, SequenceOptions};
use gguf_toolkit::gguf::Reader;
use gguf_toolkit::kernels::Pool;
use gguf_toolkit::model::Model;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(reader) = Reader::from_bytes("fuzz", bytes.to_vec().into()) else { return };
    for tensor in reader.tensors() {
        reader.data(tensor).expect("inside");
    }
    let Ok(model) = Model::from_reader(&reader) else { return };
    let positions = model.decoder().learned_positions().unwrap_or(2);
    if model.decoder().vocab_size() < 2 || positions < 2 {
        return;
    }
    let mut sequence = model.decoder().sequence(SequenceOptions { kv_type: KvType::F16, context_length: 4 });
    let part = Part { sequence: &mut sequence, tokens: &[0, 1], logits: Rows::Last };
    model.decoder().forward(Run::new(&Pool::new(1)), &mut [part]);
});
