//! Encoding of every format on one core, by every instruction set that this CPU has.
//!
//! `cargo bench --bench encode [-- TYPE...]`. The weights are normal, rounded to F16, and fit the core's second cache.
//! Sets take turns, and each keeps its shortest time: the ratios hold on a busy machine too.

use std::hint::black_box;
use std::time::{Duration, Instant};

use gguf_toolkit::TensorType;
use gguf_toolkit::formats::encode_with;
use gguf_toolkit::kernels::Isa;

const TYPES: [TensorType; 23] = [
    TensorType::F16,
    TensorType::BF16,
    TensorType::Q8_0,
    TensorType::Q6_K,
    TensorType::Q5_K,
    TensorType::Q4_K,
    TensorType::Q3_K,
    TensorType::Q2_K,
    TensorType::Q5_1,
    TensorType::Q5_0,
    TensorType::Q4_1,
    TensorType::Q4_0,
    TensorType::IQ4_NL,
    TensorType::IQ4_XS,
    TensorType::IQ3_S,
    TensorType::IQ3_XXS,
    TensorType::IQ2_S,
    TensorType::IQ2_XS,
    TensorType::IQ2_XXS,
    TensorType::IQ1_M,
    TensorType::IQ1_S,
    TensorType::TQ1_0,
    TensorType::TQ2_0,
];
const WEIGHTS: usize = 64 << 10;
const BUDGET: Duration = Duration::from_millis(1200);

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let sets: Vec<Isa> = Isa::ALL.iter().copied().filter(|isa| isa.available()).collect();
    let columns: String = sets.iter().map(|isa| format!("{:>10} {:>6}", isa.name(), "")).collect();
    println!("million weights a second on one core, and times the reference\n{:7}{columns}", "type");
    let x = normal(WEIGHTS);
    for ty in TYPES.into_iter().filter(|ty| wanted.is_empty() || wanted.iter().any(|w| ty.to_string() == *w)) {
        let seconds = shortest(&sets, ty, &x);
        let cells: String =
            seconds.iter().map(|s| format!("{:10.1} {:5.1}x", WEIGHTS as f64 / 1e6 / s, seconds[0] / s)).collect();
        println!("{:7}{cells}", ty.to_string());
    }
}

/// The shortest seconds of each instruction set.
fn shortest(sets: &[Isa], ty: TensorType, x: &[f32]) -> Vec<f64> {
    let mut out = vec![0; ty.row_bytes(x.len())];
    let mut best = vec![f64::INFINITY; sets.len()];
    let start = Instant::now();
    while start.elapsed() < BUDGET {
        for (isa, best) in sets.iter().zip(&mut best) {
            let one = Instant::now();
            encode_with(*isa, ty, black_box(x), None, &mut out);
            *best = best.min(one.elapsed().as_secs_f64());
            black_box(&out);
        }
    }
    best
}

/// Normal numbers as F16 holds them: sums of twelve uniform ones.
fn normal(n: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut unit = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..n).map(|_| half::f16::from_f32(((0..12).map(|_| unit()).sum::<f32>() - 6.0) * 0.02).to_f32()).collect()
}
