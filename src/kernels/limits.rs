//! The limits of this machine: multiply-adds out of registers, and reading memory. `bench` compares speeds with them.

#![allow(unsafe_code, reason = "vector loads of a tile of products")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::Pool;
use crate::TensorType;
use crate::bytes::Bytes;
use crate::simd::LANES;
use crate::simd::lanes::{Kernel, Lanes};

/// How long each measurement takes.
const BUDGET: Duration = Duration::from_millis(150);
/// Tasks per thread in one region: many, so that no thread waits long for another at the end.
const TASKS: usize = 32;
/// Rounds of products of one task: some ten microseconds.
const ROUNDS: usize = 2000;
/// Bytes that one task reads.
const PART: usize = 1 << 20;

/// Rates of all threads of a pool together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Products of bytes, added up, a second.
    pub byte_products: f64,
    /// Products of bf16 numbers, added up, a second.
    pub bf16_products: f64,
    /// Fused multiply-adds of `f32` a second.
    pub float_products: f64,
    /// Bytes read a second.
    pub bytes_read: f64,
}

impl Limits {
    /// Measures all limits: products with the instruction set of the pool, and repeated reads of all of `memory` (the model's
    /// weights, so that the kind of pages is the same).
    #[must_use]
    pub fn measure(pool: &Pool, memory: &[Bytes]) -> Self {
        Self::measure_within(pool, memory, BUDGET)
    }

    /// As [`Self::measure`], with about `budget` for each of the four measurements.
    #[must_use]
    pub fn measure_within(pool: &Pool, memory: &[Bytes], budget: Duration) -> Self {
        let parts: Vec<&[u8]> = memory.iter().flat_map(|bytes| bytes.chunks(PART)).collect();
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let read = || {
            pool.run(parts.len(), &|i| pool.isa().run(Read(parts[i])));
            bytes
        };
        Self {
            byte_products: rate(budget, || products(pool, &|| pool.isa().byte_products(ROUNDS))),
            bf16_products: rate(budget, || products(pool, &|| pool.isa().run(Bf16Products))),
            float_products: rate(budget, || products(pool, &|| pool.isa().run(FloatProducts))),
            bytes_read: rate(budget, read),
        }
    }

    /// Products a second with weights of type `ty`.
    #[must_use]
    pub fn products(&self, ty: TensorType) -> f64 {
        match ty {
            TensorType::BF16 => self.bf16_products,
            _ if ty.is_quantized() => self.byte_products,
            _ => self.float_products,
        }
    }

    /// The better of two measurements, rate by rate.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            byte_products: self.byte_products.max(other.byte_products),
            bf16_products: self.bf16_products.max(other.bf16_products),
            float_products: self.float_products.max(other.float_products),
            bytes_read: self.bytes_read.max(other.bytes_read),
        }
    }
}

fn products(pool: &Pool, task: &(dyn Fn() -> usize + Sync)) -> usize {
    let tasks = pool.threads() * TASKS;
    let each = std::sync::atomic::AtomicUsize::new(0);
    pool.run(tasks, &|_| each.store(task(), std::sync::atomic::Ordering::Relaxed));
    each.into_inner() * tasks
}

/// The best rate of several calls; each returns the amount of work that it has done.
fn rate(budget: Duration, mut call: impl FnMut() -> usize) -> f64 {
    let start = Instant::now();
    let mut best = 0.0_f64;
    let mut calls = 0;
    while calls < 3 || start.elapsed() < budget {
        let one = Instant::now();
        let done = call();
        best = best.max(done as f64 / one.elapsed().as_secs_f64());
        calls += 1;
    }
    best
}

/// Products of a tile of bf16 numbers out of the first-level cache.
struct Bf16Products;

impl Kernel for Bf16Products {
    type Output = usize;
    const DOT_PRODUCTS: bool = true;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> usize {
        if L::WIDE { bf16_tile::<L, 4, 6>(l) } else { bf16_tile::<L, 2, 2>(l) }
    }
}

#[inline(always)]
fn bf16_tile<L: Lanes, const R: usize, const T: usize>(l: L) -> usize {
    const VECTORS: usize = 64;
    let numbers = black_box([[0x3f80_u16; 2 * LANES]; VECTORS]);
    let from = numbers.as_ptr().cast();
    let mut sums = [[[0.0; LANES]; R]; T];
    for _ in 0..ROUNDS / VECTORS {
        // SAFETY: there are as many vectors.
        unsafe { l.accumulate_bf16([from; R], [from; T], VECTORS, black_box(&mut sums)) };
    }
    black_box(sums);
    R * T * 2 * LANES * (ROUNDS / VECTORS * VECTORS)
}

/// Independent chains of fused multiply-adds.
struct FloatProducts;

impl Kernel for FloatProducts {
    type Output = usize;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> usize {
        if L::WIDE { chains::<L, 12>(l) } else { chains::<L, 6>(l) }
    }
}

#[inline(always)]
fn chains<L: Lanes, const N: usize>(l: L) -> usize {
    let (factor, addend) = (l.array(&black_box([0.5; LANES])), l.array(&black_box([1.0; LANES])));
    let mut sums = [addend; N];
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            *sum = l.mul_add(*sum, factor, addend);
        }
    }
    black_box(sums.map(|sum| l.to_array(sum)));
    N * LANES * ROUNDS
}

/// Reads all bytes with as little arithmetic as possible.
struct Read<'a>(&'a [u8]);

impl Kernel for Read<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let mut most = [l.splat(0.0); 4];
        for bytes in self.0.as_chunks::<{ 4 * 4 * LANES }>().0 {
            for (most, bytes) in most.iter_mut().zip(bytes.as_chunks::<{ 4 * LANES }>().0) {
                *most = l.max(*most, l.float_bytes(bytes));
            }
        }
        black_box(most.map(|most| l.to_array(most)));
    }
}

#[cfg(test)]
mod tests {
    use super::Limits;
    use crate::bytes::Bytes;
    use crate::kernels::{Isa, Pool};

    #[test]
    fn every_cpu_has_limits() {
        for &isa in Isa::ALL.iter().filter(|isa| isa.available()) {
            let limits = Limits::measure(&Pool::with_isa(2, isa), &[Bytes::from(vec![1; 1 << 20])]);
            let rates = [limits.byte_products, limits.bf16_products, limits.float_products, limits.bytes_read];
            for rate in rates {
                assert!(rate.is_finite() && rate > 1e5, "{isa}: {limits:?}");
            }
        }
    }
}
