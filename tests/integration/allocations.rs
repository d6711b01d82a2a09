//! Counts the allocations of a forward pass: a few for the pass, and none for each token and layer.

use std::fs;

use gguf_toolkit::bench::{Shape, SyntheticModel};
use gguf_toolkit::bytes::Bytes;
use gguf_toolkit::cpu::{CacheType, KvType, Part, Rows, Run, Sequence, SequenceOptions};
use gguf_toolkit::gguf::Reader;
use gguf_toolkit::kernels::Pool;
use gguf_toolkit::model::Model;
use gguf_toolkit::quantize::{FileType, Options, Plan, run_in_memory};

use super::folder::Folder;
use super::logits;
use super::mutants::{Counting, allocations};
use super::shared::testdata;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Maximum of the allocations of a pass: its positions, rows, rotary tables, hidden states and logits.
const MOST: usize = 24;

/// Allocations of this thread while the sequences take one token each.
fn step(model: &Model, pool: &Pool, sequences: &mut [Sequence]) -> usize {
    let mut parts: Vec<Part<'_>> =
        sequences.iter_mut().map(|sequence| Part { sequence, tokens: &[7], logits: Rows::Last }).collect();
    let before = allocations();
    let logits = model.decoder().forward(Run::new(pool), &mut parts);
    let count = allocations() - before;
    assert_eq!(logits.len(), parts.len() * model.decoder().vocab_size());
    count
}

/// Allocations of a step when all buffers exist: of a step that begins a page, and the maximum of the other steps.
fn steps(model: &Model, kv_type: KvType, sequences: usize) -> (usize, usize) {
    const LEN: usize = 56;
    let pool = Pool::new(1);
    let options = SequenceOptions { kv_type, context_length: 4 * LEN };
    let mut first = model.decoder().sequence(options);
    let part = Part { sequence: &mut first, tokens: &[5; LEN], logits: Rows::Last };
    model.decoder().forward(Run::new(&pool), &mut [part]);
    // Clones: the next step copies the pages of all but one.
    let mut all = vec![first; sequences];
    for _ in LEN..64 + 4 {
        step(model, &pool, &mut all);
    }
    // Freed pages are used again.
    if all[0].goes_back() {
        all.iter_mut().for_each(|sequence| assert!(sequence.truncate(62)));
    }
    let counts: Vec<usize> = (0..4).map(|_| step(model, &pool, &mut all)).collect();
    if all[0].len() == 66 {
        (counts[2], counts[0].max(counts[1]).max(counts[3]))
    } else {
        (0, *counts.iter().max().unwrap_or(&0))
    }
}

#[test]
fn a_token_of_any_family_takes_no_memory_for_its_layers() {
    let folder = Folder::new("allocations");
    let mut seen = 0;
    for entry in fs::read_dir(testdata("arch")).expect("a folder") {
        let name = entry.expect("an entry").file_name().into_string().expect("a name");
        let model = logits::load(&folder, &name);
        if !model.decoder().has_logits() || !model.decoder().is_causal() {
            continue;
        }
        seen += 1;
        let (first, others) = steps(&model, KvType::F16, 1);
        assert!(first.max(others) <= MOST, "{name}: {first} for a step that begins a page, {others} for others");
    }
    assert!(seen > 40, "{seen} families");
}

#[test]
fn more_layers_types_and_sequences_take_no_more() {
    let made = |shape: &str, file_type: FileType| {
        let made = SyntheticModel::new(Shape::from_name(shape).expect("in the table")).expect("made");
        let plan = Plan::new(&made, &Options::new(file_type)).expect("a plan");
        let bytes = run_in_memory(&made, &plan).expect("quantized");
        Model::from_reader(&Reader::from_bytes(shape, Bytes::from(bytes)).expect("valid")).expect("a model")
    };
    for file_type in [FileType::Q4_K_M, FileType::Q8_0, FileType::BF16, FileType::F16] {
        for shape in ["llama-tiny", "mixtral-tiny"] {
            let model = made(shape, file_type);
            for keys in CacheType::ALL {
                let (first, others) = steps(&model, KvType::both(keys), 1);
                assert!(first.max(others) <= MOST, "{shape} {file_type} {keys}: {first}, {others}");
            }
            // Different kernels compute few and many rows.
            for sequences in [2, 5, 9] {
                let (first, others) = steps(&model, KvType::F16, sequences);
                assert!(first.max(others) <= MOST, "{sequences} of {shape} {file_type}: {first}, {others}");
            }
        }
    }
}
