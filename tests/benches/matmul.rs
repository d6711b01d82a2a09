//! Products with every weight type, for one token (bound by memory) and for many (bound by arithmetic).
//!
//! `cargo bench --bench matmul [-- TYPE...]`; `THREADS` and `GGUF_CPU` choose threads and instruction set. Prints
//! bytes of weights and multiply-adds a second, and how much that is of the machine's limits in the same moments.

use std::hint::black_box;
use std::time::{Duration, Instant};

use gguf_toolkit::TensorType;
use gguf_toolkit::bytes::Bytes;
use gguf_toolkit::formats::codecs;
use gguf_toolkit::kernels::{Activations, Limits, Matrix, Pool, Product, Store, matmul};

/// Of one matrix: the feed-forward part of a model of a billion weights.
const ROWS: usize = 8192;
const COLS: usize = 2048;
/// Weights that one token passes, so that no cache holds them.
const WEIGHTS: usize = 512 << 20;
/// Bytes of weights of a thread that stay in its cache.
const CACHED: usize = 256 << 10;
/// Times that everything is measured, limits beside products: machines are fast one moment and slow the next.
const ROUNDS: usize = 5;
const BUDGET: Duration = Duration::from_millis(150);

fn main() {
    let threads = std::env::var("THREADS").ok().and_then(|n| n.parse().ok()).unwrap_or(2);
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let pool = Pool::new(threads);
    println!("{} threads, {}; medians, and shares of what the machine does at most", pool.threads(), pool.isa());
    println!(
        "{:7} {:>16} {:>18} {:>18} {:>18}",
        "type", "1 token: GB/s", "in cache: GB/s", "16: GMAC/s", "512: GMAC/s"
    );
    let types = codecs().iter().filter(|codec| codec.encode.is_some()).map(|codec| codec.ty);
    for ty in types.filter(|ty| wanted.is_empty() || wanted.iter().any(|w| ty.to_string() == *w)) {
        let memory = weights(ty);
        let matrix = |bytes: &Bytes| Matrix::new(ty, ROWS, COLS, bytes.clone()).expect("whole rows");
        let matrices: Vec<Matrix> = memory.iter().map(matrix).collect();
        let bytes: usize = memory.iter().map(|m| m.len()).sum();
        let few_rows = (threads * CACHED / ty.row_bytes(COLS)).next_multiple_of(64);
        let few = Bytes::new(memory[0][..few_rows * ty.row_bytes(COLS)].to_vec());
        let few = [Matrix::new(ty, few_rows, COLS, few).expect("whole rows")];
        let mut rounds = [const { Vec::new() }; 4];
        for _ in 0..ROUNDS {
            let limits = Limits::measure(&pool, &memory);
            let macs = limits.products(ty);
            let one = bytes as f64 / products(&pool, &matrices, 1);
            rounds[0].push([one, one / limits.bytes_read]);
            let cached = few[0].bytes().len() as f64 / products(&pool, &few, 1);
            rounds[1].push([cached, cached / limits.bytes_read]);
            for (round, tokens) in rounds[2..].iter_mut().zip([16, 512]) {
                let rate = (ROWS * COLS * tokens) as f64 / products(&pool, &matrices[..1], tokens);
                round.push([rate, rate / macs]);
            }
        }
        print!("{:7}", ty.to_string());
        for (mut round, width) in rounds.into_iter().zip([10, 12, 12, 12]) {
            round.sort_by(|a, b| a[1].total_cmp(&b[1]));
            let [rate, share] = round[ROUNDS / 2];
            print!(" {:width$.1} {:4.0}%", rate / 1e9, 100.0 * share);
        }
        println!();
    }
}

/// Arbitrary weights of matrices, about [`WEIGHTS`] in all.
fn weights(ty: TensorType) -> Vec<Bytes> {
    let mut row = vec![0; ty.row_bytes(COLS)];
    let values: Vec<f32> =
        (0_u32..).take(COLS).map(|i| (i.wrapping_mul(2_654_435_761) >> 16) as f32 / 65536.0 - 0.5).collect();
    (gguf_toolkit::formats::codec(ty).and_then(|codec| codec.encode).expect("a type with an encoder"))(
        &values, None, &mut row,
    );
    let one = row.repeat(ROWS);
    (0..WEIGHTS / (ROWS * COLS)).map(|_| Bytes::new(one.clone())).collect()
}

/// Seconds that products with all matrices take.
fn products(pool: &Pool, matrices: &[Matrix], tokens: usize) -> f64 {
    let x: Vec<f32> = (0..tokens * COLS).map(|i| ((i * 37) % 101) as f32 * 0.01 - 0.5).collect();
    let mut out = vec![0.0; tokens * matrices[0].rows()];
    seconds(|| {
        for weights in matrices {
            let x = Activations::new(&x, COLS);
            matmul(pool, &x, &mut [Product { weights, bias: None, tokens: None, store: Store::Set, out: &mut out }]);
        }
        black_box(&out);
    })
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
