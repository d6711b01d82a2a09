//! Attention over a deep cache: a whole prompt's batch (bound by arithmetic) and one token (bound by memory).
//!
//! `cargo bench --bench attention [-- DEPTH...]`; `THREADS` and `GGUF_CPU` choose threads and instruction set. The
//! shape is that of one layer of a Llama of a billion weights. Prints multiply-adds a second beside the most that
//! the same number of threads does out of registers, and bytes of cache a second beside a plain read.

use std::hint::black_box;
use std::time::{Duration, Instant};

use gguf::cpu::{AttentionPart, AttentionSpec, KvCache, KvSpec, KvType, attention};
use gguf::kernels::Pool;

const SPEC: AttentionSpec<'static> = AttentionSpec {
    heads: 32,
    kv_heads: 8,
    k_dim: 64,
    v_dim: 64,
    scale: 0.125,
    softcap: None,
    slopes: None,
    causal: true,
    window: None,
    chunk: None,
    sinks: None,
};
/// Tokens of a prompt's batch.
const BATCH: usize = 512;
/// Layers that one token passes, so that no cache of the processor holds them all.
const LAYERS: usize = 16;
const BUDGET: Duration = Duration::from_millis(600);

fn main() {
    let threads = std::env::var("THREADS").ok().and_then(|n| n.parse().ok()).unwrap_or(2);
    let depths: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let depths = if depths.is_empty() { vec![0, 1024, 8192] } else { depths };
    let pool = Pool::new(threads);
    println!("{} threads, {}", pool.threads(), pool.isa());
    println!(
        "{:5} {:>6} {:>12} {:>9} {:>13} {:>10} {:>9} {:>6}",
        "type", "depth", "512: GMAC/s", "512: ms", "1 token: GB/s", "1 token: us", "read GB/s", "share"
    );
    for ty in [KvType::F32, KvType::F16, KvType::Q8_0] {
        for &depth in &depths {
            let batch = batch_seconds(&pool, ty, depth);
            let pairs = BATCH * depth + BATCH * (BATCH + 1) / 2;
            let macs = (pairs * SPEC.heads * (SPEC.k_dim + SPEC.v_dim)) as f64;
            let (token, bytes) = token_seconds(&pool, ty, depth + 1);
            let read = read_seconds(&pool, bytes);
            println!(
                "{:5} {depth:6} {:12.1} {:9.2} {:13.1} {:10.1} {:9.1} {:5.0}%",
                format!("{ty}"),
                macs / 1e9 / batch,
                batch * 1e3,
                bytes as f64 / 1e9 / token,
                token * 1e6,
                bytes as f64 / 1e9 / read,
                100.0 * read / token,
            );
        }
    }
}

/// A cache of `positions` arbitrary keys and values.
fn cache(ty: KvType, positions: usize) -> KvCache {
    let spec = KvSpec { heads: SPEC.kv_heads, k_dim: SPEC.k_dim, v_dim: SPEC.v_dim, ty, window: None };
    let mut cache = KvCache::new(spec);
    let rows = numbers(positions * SPEC.kv_heads * SPEC.k_dim);
    cache.append(&Pool::new(1), &rows, &rows);
    cache
}

fn numbers(n: usize) -> Vec<f32> {
    (0_u32..).take(n).map(|i| (i.wrapping_mul(2_654_435_761) >> 16) as f32 / 65536.0 - 0.5).collect()
}

/// Seconds that a batch takes after `depth` positions.
fn batch_seconds(pool: &Pool, ty: KvType, depth: usize) -> f64 {
    let cache = cache(ty, depth + BATCH);
    let queries = numbers(BATCH * SPEC.heads * SPEC.k_dim);
    let mut out = vec![0.0; BATCH * SPEC.heads * SPEC.v_dim];
    seconds(|| {
        let part =
            AttentionPart { queries: &queries, cache: &cache, first_position: depth, selected: None, out: &mut out };
        attention(pool, &SPEC, &mut [part]);
    })
}

/// Seconds that one token takes in each of several layers, and the bytes of a layer's cache.
fn token_seconds(pool: &Pool, ty: KvType, positions: usize) -> (f64, usize) {
    let caches: Vec<KvCache> = (0..LAYERS).map(|_| cache(ty, positions)).collect();
    let queries = numbers(SPEC.heads * SPEC.k_dim);
    let mut out = vec![0.0; SPEC.heads * SPEC.v_dim];
    let all = seconds(|| {
        for cache in &caches {
            let part = AttentionPart {
                queries: &queries,
                cache,
                first_position: positions - 1,
                selected: None,
                out: &mut out,
            };
            attention(pool, &SPEC, &mut [part]);
        }
    });
    (all / LAYERS as f64, caches[0].bytes())
}

/// Seconds that a plain read of as many bytes takes, in each of as many places.
fn read_seconds(pool: &Pool, bytes: usize) -> f64 {
    const PART: usize = 1 << 16;
    let layers: Vec<Vec<u64>> = vec![vec![1; bytes / 8]; LAYERS];
    let parts: Vec<&[u64]> = layers.iter().flat_map(|layer| layer.chunks(PART / 8)).collect();
    let all = seconds(|| {
        pool.run(parts.len(), &|i| {
            let mut sums = [0u64; 8];
            for words in parts[i].as_chunks::<8>().0 {
                sums.iter_mut().zip(words).for_each(|(sum, word)| *sum ^= word);
            }
            black_box(sums);
        });
    });
    all / LAYERS as f64
}

/// The shortest of several runs.
fn seconds(mut run: impl FnMut()) -> f64 {
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < BUDGET {
        let one = Instant::now();
        run();
        best = best.min(one.elapsed().as_secs_f64());
    }
    best
}
