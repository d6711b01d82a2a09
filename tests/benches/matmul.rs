//! Products with every weight type, for one token (bound by memory) and for many (bound by arithmetic).
//!
//! `cargo bench --bench matmul [-- TYPE...]`; `THREADS` and `GGUF_CPU` choose threads and instruction set. Prints
//! bytes of weights and multiply-adds a second, beside what a plain read of the same memory gives.

use std::hint::black_box;
use std::time::{Duration, Instant};

use gguf::TensorType;
use gguf::bytes::Bytes;
use gguf::kernels::{Activations, Matrix, Pool, Product, Store, matmul};

/// The types that models are stored in.
const TYPES: [TensorType; 14] = [
    TensorType::F32,
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
    TensorType::MXFP4,
];
/// Of one matrix: the feed-forward part of a model of a billion weights.
const ROWS: usize = 8192;
const COLS: usize = 2048;
/// Weights that one token passes, so that no cache holds them.
const WEIGHTS: usize = 512 << 20;
const BUDGET: Duration = Duration::from_millis(600);

fn main() {
    let threads = std::env::var("THREADS").ok().and_then(|n| n.parse().ok()).unwrap_or(2);
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let pool = Pool::new(threads);
    println!("{} threads, {}", pool.threads(), pool.isa());
    println!(
        "{:6} {:>12} {:>12} {:>8} {:>14} {:>14}",
        "type", "1 token GB/s", "read GB/s", "share", "16: GMAC/s", "512: GMAC/s"
    );
    for ty in TYPES.into_iter().filter(|ty| wanted.is_empty() || wanted.iter().any(|w| ty.to_string() == *w)) {
        let matrices = matrices(ty);
        let bytes: usize = matrices.iter().map(|m| m.bytes().len()).sum();
        let read = bytes as f64 / 1e9 / seconds(|| read(&pool, &matrices));
        let one = bytes as f64 / 1e9 / products(&pool, &matrices, 1);
        let macs = |tokens: usize| (ROWS * COLS * tokens) as f64 / 1e9 / products(&pool, &matrices[..1], tokens);
        println!(
            "{:6} {one:12.1} {read:12.1} {:7.0}% {:14.0} {:14.0}",
            ty.to_string(),
            100.0 * one / read,
            macs(16),
            macs(512)
        );
    }
}

/// Matrices of arbitrary weights, of about [`WEIGHTS`] in all.
fn matrices(ty: TensorType) -> Vec<Matrix> {
    let mut row = vec![0; ty.row_bytes(COLS)];
    let values: Vec<f32> =
        (0_u32..).take(COLS).map(|i| (i.wrapping_mul(2_654_435_761) >> 16) as f32 / 65536.0 - 0.5).collect();
    (gguf::quant::codec(ty).expect("a type with a codec").encode)(&values, &mut row);
    let one = row.repeat(ROWS);
    let count = WEIGHTS / (ROWS * COLS);
    let matrix = || Matrix::new(ty, ROWS, COLS, Bytes::new(one.clone())).expect("whole rows");
    (0..count).map(|_| matrix()).collect()
}

/// Seconds that products with all matrices take.
fn products(pool: &Pool, matrices: &[Matrix], tokens: usize) -> f64 {
    let x: Vec<f32> = (0..tokens * COLS).map(|i| ((i * 37) % 101) as f32 * 0.01 - 0.5).collect();
    let mut out = vec![0.0; tokens * ROWS];
    seconds(|| {
        for weights in matrices {
            let x = Activations::new(&x, COLS);
            matmul(pool, &x, &mut [Product { weights, bias: None, tokens: None, store: Store::Set, out: &mut out }]);
        }
        black_box(&out);
    })
}

/// Reads all weights, and does nothing with them.
fn read(pool: &Pool, matrices: &[Matrix]) {
    const PART: usize = 1 << 20;
    let parts: Vec<&[u8]> = matrices.iter().flat_map(|m| m.bytes().chunks(PART)).collect();
    pool.run(parts.len(), &|i| {
        let words = parts[i].as_chunks::<64>().0;
        let mut sums = [0u64; 8];
        for word in words {
            for (sum, bytes) in sums.iter_mut().zip(word.as_chunks::<8>().0) {
                *sum ^= u64::from_le_bytes(*bytes);
            }
        }
        black_box(sums);
    });
}

/// The shortest time of a call.
fn seconds(mut call: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut best = f64::INFINITY;
    let mut calls = 0;
    while calls < 2 || start.elapsed() < BUDGET {
        let start = Instant::now();
        call();
        best = best.min(start.elapsed().as_secs_f64());
        calls += 1;
    }
    best
}
