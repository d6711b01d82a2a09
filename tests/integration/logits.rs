//! Logits of the tiny checkpoints against transformers' numbers, from prefill, from decode and from splits between.

use gguf::convert::{Conversion, Folder as Checkpoint, Options, OutputType};
use gguf::kernels::Pool;
use gguf::model::Model;
use gguf::nn::{KvType, Part, Rows, SequenceOptions};

use super::folder::Folder;
use super::goldens::{checkpoint, expected, golden};
use super::shared::testdata;

/// Largest difference from the expected logits.
const TOLERANCE: f32 = 2e-3;

fn load(folder: &Folder, name: &str) -> Model {
    let from = checkpoint(folder, name);
    let to = folder.path(&format!("{name}.gguf"));
    // As F16, but for norms stored as an offset: these are exact here, and rounded in the files of `convert.rs`.
    let options = Options { output_type: OutputType::Auto, ..Options::default() };
    let conversion =
        Conversion::new(Checkpoint::open(&from).expect("a folder"), &options).unwrap_or_else(|e| panic!("{e}"));
    conversion.write(&conversion.plan().expect("a plan"), &to, false, &|_| true).expect("written");
    Model::load(&to).unwrap_or_else(|e| panic!("{e}"))
}

/// Logits of all positions when tokens come in these steps.
fn logits(model: &Model, pool: &Pool, tokens: &[u32], steps: &[usize]) -> Vec<f32> {
    let mut sequence = model.decoder().sequence(SequenceOptions { kv_type: KvType::F32 });
    let mut logits = Vec::new();
    let mut rest = tokens;
    for &step in steps {
        let (now, later) = rest.split_at(step.min(rest.len()));
        rest = later;
        if !now.is_empty() {
            let part = Part { sequence: &mut sequence, tokens: now, logits: Rows::From(0) };
            logits.extend(model.decoder().forward(pool, &mut [part]));
        }
    }
    logits
}

fn check(folder: &Folder, pool: &Pool, name: &str) {
    let model = load(folder, name);
    let (tokens, expected) = expected(name);
    let n = tokens.len();
    let prefill = logits(&model, pool, &tokens, &[n]);
    assert_eq!(prefill.len(), expected.len(), "{name}: shape");
    let worst = prefill.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("{name}: {worst}");
    assert!(worst <= TOLERANCE, "{name}: {worst} from the expected logits");
    for steps in [vec![1; n], vec![n / 2, n], vec![3, 1, 5, 2, n]] {
        assert!(logits(&model, pool, &tokens, &steps) == prefill, "{name}: steps {:?}", &steps[..2]);
    }
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
