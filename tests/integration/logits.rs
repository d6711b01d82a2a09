//! Logits of the tiny checkpoints against transformers' numbers, from prefill, from decode and from splits between.

use std::sync::Arc;

use gguf_toolkit::convert::{Conversion, Folder as Checkpoint, Options, OutputType};
use gguf_toolkit::cpu::{KvType, Part, Rows, Run, SequenceOptions};
use gguf_toolkit::engine::{Session, SessionOptions};
use gguf_toolkit::kernels::Pool;
use gguf_toolkit::model::Model;
use gguf_toolkit::quantize::RunOptions;

use super::folder::Folder;
use super::goldens::{checkpoint, expected, expected_of, golden};
use super::shared::testdata;

/// Largest difference from the expected logits.
const TOLERANCE: f32 = 2e-3;

/// Families whose weights are multiplied on their way into a file: half precision would round them.
const MULTIPLIED: [&str; 1] = ["falconh1"];

pub(crate) fn load(folder: &Folder, name: &str) -> Model {
    let from = checkpoint(folder, name);
    let to = folder.path(&format!("{name}.gguf"));
    // As F16, but for norms stored as an offset: these are exact here, and rounded in the files of `convert.rs`.
    let output_type = if MULTIPLIED.contains(&name) { OutputType::F32 } else { OutputType::Auto };
    let options = Options { output_type, ..Options::default() };
    let conversion =
        Conversion::new(Checkpoint::open(&from).expect("a folder"), &options).unwrap_or_else(|e| panic!("{e}"));
    conversion.write(&conversion.plan(&[]).expect("a plan"), &to, &RunOptions::default(), &|_| true).expect("written");
    Model::load(&to).unwrap_or_else(|e| panic!("{e}"))
}

/// Logits of all positions when tokens come in these steps, in a context as long as they are.
fn logits(model: &Model, pool: &Pool, tokens: &[u32], steps: &[usize]) -> Vec<f32> {
    let mut sequence = model.decoder().sequence(SequenceOptions { kv_type: KvType::F32, context_length: tokens.len() });
    let mut logits = Vec::new();
    let mut rest = tokens;
    for &step in steps {
        let (now, later) = rest.split_at(step.min(rest.len()));
        rest = later;
        if !now.is_empty() {
            let part = Part { sequence: &mut sequence, tokens: now, logits: Rows::From(0) };
            logits.extend(model.decoder().forward(Run::new(pool), &mut [part]));
        }
    }
    logits
}

/// Runs two sequences of the same tokens side by side, with logits of few rows, and checks these against those of all
/// rows.
fn check_wanted_rows(model: &Model, pool: &Pool, tokens: &[u32], all: &[f32]) {
    let (n, vocab) = (tokens.len(), all.len() / tokens.len());
    let options = SequenceOptions { kv_type: KvType::F32, context_length: n };
    let mut sequences = [model.decoder().sequence(options), model.decoder().sequence(options)];
    let (third, end) = (n / 3, n - 1);
    // Tokens, and the rows wanted of each sequence.
    let steps = [
        (0..third, [Rows::None, Rows::None]),
        (third..2 * third, [Rows::None, Rows::From(1)]),
        (2 * third..end, [Rows::Last, Rows::None]),
        (end..n, [Rows::Last, Rows::From(0)]),
    ];
    for (range, rows) in steps {
        let first = rows.map(|rows| match rows {
            Rows::None => range.end,
            Rows::Last => range.end - 1,
            Rows::From(first) => range.start + first,
        });
        let expected: Vec<f32> =
            first.into_iter().flat_map(|first| &all[first * vocab..range.end * vocab]).copied().collect();
        let parts = sequences.iter_mut().zip(rows);
        let mut parts: Vec<_> =
            parts.map(|(sequence, logits)| Part { sequence, tokens: &tokens[range.clone()], logits }).collect();
        assert!(model.decoder().forward(Run::new(pool), &mut parts) == expected, "{rows:?} of {range:?}");
    }
}

fn check(folder: &Folder, pool: &Pool, name: &str) {
    compare(pool, name, &load(folder, name), expected(name));
}

fn compare(pool: &Pool, name: &str, model: &Model, (tokens, expected): (Vec<u32>, Vec<f32>)) {
    let n = tokens.len();
    let prefill = logits(model, pool, &tokens, &[n]);
    assert_eq!(prefill.len(), expected.len(), "{name}: shape");
    let worst = prefill.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("{name}: {worst}");
    assert!(worst <= TOLERANCE, "{name}: {worst} from the expected logits");
    for steps in [vec![1; n], vec![n / 2, n], vec![3, 1, 5, 2, n]] {
        assert!(logits(model, pool, &tokens, &steps) == prefill, "{name}: steps {:?}", &steps[..2]);
    }
    check_wanted_rows(model, pool, &tokens, &prefill);
}

#[test]
fn every_family_computes_the_expected_logits() {
    let folder = Folder::new("logits");
    let pool = Pool::new(2);
    let mut failures = Vec::new();
    for entry in std::fs::read_dir(testdata("arch")).expect("goldens") {
        let name = entry.expect("an entry").file_name().into_string().expect("a name");
        assert!(golden(&name).join("expected.safetensors").exists(), "{name}");
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&folder, &pool, &name)));
        if result.is_err() {
            failures.push(name);
        }
    }
    failures.sort();
    assert!(failures.is_empty(), "{} families differ: {failures:?}", failures.len());
}

#[test]
fn the_context_says_which_factors_rotate() {
    let folder = Folder::new("logits-long");
    let pool = Arc::new(Pool::new(2));
    let model = Arc::new(load(&folder, "phi3long"));
    // As many tokens as the model was first trained on: other numbers than the same tokens have in a longer context.
    let (tokens, expected) = expected_of("phi3long", "logits_short");
    compare(&pool, "phi3long, short", &model, (tokens.clone(), expected.clone()));
    let far = |context_length: Option<usize>| {
        let options = SessionOptions { context_length, kv_type: KvType::F32, ..SessionOptions::default() };
        let mut session = Session::new(model.clone(), pool.clone(), options);
        let worst = |session: &mut Session| {
            let found = session.evaluate_all(&tokens).expect("fits");
            found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        let first = worst(&mut session);
        session.clear();
        assert_eq!(worst(&mut session), first, "a session that begins anew is of the same kind");
        first
    };
    assert!(far(Some(tokens.len())) <= TOLERANCE);
    assert!(far(Some(tokens.len() + 1)) > 0.1);
    assert!(far(None) > 0.1, "the model's own context is a long one");
}
