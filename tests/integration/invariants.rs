//! What no engine setting changes: logits are the same bit for bit on any number of threads, in any split into
//! batches, beside any other sequence, and with every instruction set of this CPU. And what a token costs in regions.

use std::collections::BTreeMap;
use std::sync::Mutex;

use gguf_toolkit::bench::{Shape, SyntheticModel, prompt};
use gguf_toolkit::bytes::Bytes;
use gguf_toolkit::cpu::{CacheType, Inputs, KvType, Observer, Part, Rows, Run, Sequence, SequenceOptions};
use gguf_toolkit::gguf::Reader;
use gguf_toolkit::kernels::{Isa, Pool};
use gguf_toolkit::model::Model;
use gguf_toolkit::quantize::{FileType, Options, Plan, TensorPattern, run_in_memory};

/// A prompt longer than what a tile or a group of tokens holds.
const TOKENS: usize = 75;

fn model(shape: &str, file_type: FileType) -> Model {
    model_of(shape, &Options::new(file_type))
}

fn model_of(shape: &str, options: &Options) -> Model {
    let made = SyntheticModel::new(Shape::from_name(shape).expect("in the table")).expect("made");
    let plan = Plan::new(&made, options).expect("a plan");
    let bytes = run_in_memory(&made, &plan).expect("quantized");
    Model::from_reader(&Reader::from_bytes(shape, Bytes::from(bytes)).expect("valid")).expect("a model")
}

fn sequence(model: &Model, kv_type: KvType) -> Sequence {
    model.decoder().sequence(SequenceOptions { kv_type, context_length: TOKENS })
}

/// Bits of the logits of all positions, when tokens come in steps of this many.
fn logits(model: &Model, pool: &Pool, kv_type: KvType, tokens: &[u32], step: usize) -> Vec<u32> {
    let mut sequence = sequence(model, kv_type);
    let steps = tokens.chunks(step).flat_map(|tokens| {
        let part = Part { sequence: &mut sequence, tokens, logits: Rows::From(0) };
        model.decoder().forward(Run::new(pool), &mut [part])
    });
    steps.map(f32::to_bits).collect()
}

fn isas() -> impl Iterator<Item = Isa> {
    Isa::ALL.iter().copied().filter(|isa| isa.available())
}

#[test]
fn logits_do_not_depend_on_threads_splits_or_cpu() {
    let cases = [
        ("llama-tiny", FileType::Q4_K_M, KvType::F16),
        ("llama-tiny", FileType::Q5_K_M, KvType::Q8_0),
        ("llama-tiny", FileType::Q6_K, KvType { keys: CacheType::Q5_1, values: CacheType::IQ4_NL }),
        ("llama-tiny", FileType::Q8_0, KvType::F32),
        ("llama-tiny", FileType::F16, KvType::F16),
        ("llama-tiny", FileType::BF16, KvType::F16),
        ("mixtral-tiny", FileType::Q4_K_M, KvType::F16),
    ];
    let mut cases: Vec<_> = cases.map(|(shape, file_type, kv)| (shape, Options::new(file_type), kv)).into();
    // Types of tensors that no mix has, or that are alone in theirs.
    let long_blocks = ["attn=NVFP4", "ffn_up=Q1_0", "ffn=Q2_0"].map(|p| TensorPattern::parse(p).expect("a pattern"));
    cases.push((
        "llama-tiny",
        Options { tensor_types: long_blocks.into(), ..Options::new(FileType::Q8_0) },
        KvType::F16,
    ));
    for (shape, options, kv_type) in cases {
        let (model, file_type) = (model_of(shape, &options), options.file_type);
        let tokens = prompt(TOKENS, model.decoder().vocab_size());
        let expected = logits(&model, &Pool::with_isa(1, Isa::Scalar), kv_type, &tokens, TOKENS);
        assert!(expected.iter().all(|&bits| f32::from_bits(bits).is_finite()), "{shape} {file_type}");
        for isa in isas() {
            for (threads, step) in [(1, TOKENS), (2, 32), (3, 7), (2, 1)] {
                // Scalar code is slow, and its splits are those of the others.
                if isa == Isa::Scalar && step < 32 {
                    continue;
                }
                let found = logits(&model, &Pool::with_isa(threads, isa), kv_type, &tokens, step);
                assert!(found == expected, "{shape} {file_type}: {isa}, {threads} threads, steps of {step}");
            }
        }
    }
}

#[test]
fn sequences_in_one_batch_do_not_see_each_other() {
    let model = model("mixtral-tiny", FileType::Q4_K_M);
    let pool = Pool::new(2);
    let all = prompt(40, model.decoder().vocab_size());
    let (first, second) = (&all[..25], &all[15..]);
    let alone = [first, second].map(|tokens| logits(&model, &pool, KvType::F16, tokens, 40));
    let (mut a, mut b) = (sequence(&model, KvType::F16), sequence(&model, KvType::F16));
    let mut together = [Vec::new(), Vec::new()];
    // A prompt of one beside single tokens of the other, in turns.
    for (of_first, of_second) in [(0..20, 0..1), (20..21, 1..2), (21..25, 2..25)] {
        let rows = of_first.len();
        let mut parts = [
            Part { sequence: &mut a, tokens: &first[of_first], logits: Rows::From(0) },
            Part { sequence: &mut b, tokens: &second[of_second], logits: Rows::From(0) },
        ];
        let found = model.decoder().forward(Run::new(&pool), &mut parts);
        let (of_a, of_b) = found.split_at(rows * model.decoder().vocab_size());
        together[0].extend(of_a.iter().map(|x| x.to_bits()));
        together[1].extend(of_b.iter().map(|x| x.to_bits()));
    }
    assert!(together == alone);
}

#[test]
fn a_shared_prefix_is_computed_once_and_stays_as_it_was() {
    let model = model("llama-tiny", FileType::Q8_0);
    let pool = Pool::new(2);
    let tokens = prompt(60, model.decoder().vocab_size());
    let (prefix, ends) = (&tokens[..40], [&tokens[40..50], &tokens[50..]]);
    let mut shared = sequence(&model, KvType::F16);
    model.decoder().forward(Run::new(&pool), &mut [Part { sequence: &mut shared, tokens: prefix, logits: Rows::None }]);
    for end in ends {
        let mut branch = shared.clone();
        let part = Part { sequence: &mut branch, tokens: end, logits: Rows::From(0) };
        let found: Vec<u32> =
            model.decoder().forward(Run::new(&pool), &mut [part]).iter().map(|x| x.to_bits()).collect();
        let whole = logits(&model, &pool, KvType::F16, &[prefix, end].concat(), 100);
        assert!(found == whole[whole.len() - found.len()..]);
        assert_eq!(shared.len(), prefix.len());
    }
}

#[test]
fn a_token_takes_few_regions() {
    let model = model("llama-tiny", FileType::Q4_K_M);
    let pool = Pool::new(2);
    let tokens = prompt(9, model.decoder().vocab_size());
    let mut sequence = sequence(&model, KvType::F16);
    let mut run = |tokens: &[u32]| {
        let before = pool.regions().count;
        model.decoder().forward(Run::new(&pool), &mut [Part { sequence: &mut sequence, tokens, logits: Rows::Last }]);
        pool.regions().count - before
    };
    run(&tokens[..8]);
    let blocks = model.hparams().block_count as u64;
    let regions = run(&tokens[8..]);
    // Projections, attention, output, gate and up, down; then the output matrix.
    assert!(regions <= 5 * blocks + 1, "{regions} regions for {blocks} blocks");
}

/// Rows that each tensor (and matrix of a stack) has met, and what is wrong with them.
struct Rowcounts(Mutex<BTreeMap<(String, Option<usize>), usize>>);

impl Observer for Rowcounts {
    fn product(&self, name: &str, index: Option<usize>, input: &Inputs<'_>) {
        assert!(input.rows().all(|row| row.len() == input.cols() && row.iter().all(|v| v.is_finite())), "{name}");
        *self.0.lock().expect("alive").entry((name.to_owned(), index)).or_default() += input.rows().len();
    }
}

#[test]
fn an_observer_sees_the_input_of_each_matrix_and_changes_no_bit() {
    for shape in ["llama-tiny", "mixtral-tiny"] {
        let model = model(shape, FileType::F16);
        let pool = Pool::new(2);
        let tokens = prompt(20, model.decoder().vocab_size());
        let plain = logits(&model, &pool, KvType::F16, &tokens, 20);
        let seen = Rowcounts(Mutex::default());
        let mut sequence = sequence(&model, KvType::F16);
        let part = Part { sequence: &mut sequence, tokens: &tokens, logits: Rows::From(0) };
        let run = Run { observer: Some(&seen), ..Run::new(&pool) };
        let found: Vec<u32> = model.decoder().forward(run, &mut [part]).into_iter().map(f32::to_bits).collect();
        assert!(found == plain, "{shape}");
        let seen = seen.0.into_inner().expect("alive");
        let hparams = model.hparams();
        let dense = ["attn_q", "attn_k", "attn_v", "attn_output"];
        let (experts, output) = match shape {
            "llama-tiny" => (&["ffn_gate", "ffn_up", "ffn_down"][..], "token_embd.weight"),
            _ => (&["ffn_gate_inp"][..], "output.weight"),
        };
        let mut expected = vec![output.to_owned()];
        for layer in 0..hparams.block_count {
            expected.extend(dense.iter().chain(experts).map(|part| format!("blk.{layer}.{part}.weight")));
        }
        expected.sort();
        let whole: Vec<_> = seen.iter().filter(|((_, index), _)| index.is_none()).collect();
        assert!(whole.iter().all(|(_, rows)| **rows == 20), "{shape}: {whole:?}");
        assert_eq!(whole.iter().map(|((name, _), _)| name.clone()).collect::<Vec<_>>(), expected, "{shape}");
        // Each token meets as many experts as are used.
        let stacked: usize = seen.iter().filter(|((_, index), _)| index.is_some()).map(|(_, rows)| rows).sum();
        let used = if shape == "llama-tiny" { 0 } else { 2 };
        assert_eq!(stacked, 3 * used * 20 * hparams.block_count, "{shape}");
    }
}
