//! Products with many tokens on AMX: tiles of 16 weight rows, 16 tokens and 64 (or 32) elements.
//!
//! Super-blocks: `scale * (code - zero)` is an integer of at most 13 bits, which is split into two digits of eight bits, so
//! that the products of a super-block are summed exactly in a tile before any float arithmetic. Mins are products of small
//! integers, which bf16 products with `f32` sums compute exactly as well. Blocks of 32 have a float scale each: one tile step
//! per block.

#![allow(unsafe_code, reason = "tile registers and vector intrinsics")]

use std::arch::asm;
use std::arch::x86_64::*;
use std::cell::RefCell;

use super::{DIGITS, PAIR, TileProduct, bf16};
use crate::formats::view::{
    BlockFormat, BlockShape, FloatFormat, LongBlockFormat, SUBS, SuperBlockFormat, SuperBlockShape, ViewVisitor,
};
use crate::formats::{self, Format};
use crate::kernels::scratch::Scratch;
use crate::simd::LANES;
use crate::simd::integers::Integers;
use crate::simd::lanes::Lanes;
use crate::simd::x86_64::amx::{Amx, Configured};
use crate::simd::x86_64::avx512::{Avx512, transpose};

/// Runs a product.
pub(crate) fn run(amx: Amx, product: TileProduct<'_>) {
    formats::view(product.weights.ty(), Run { amx, product });
}

struct Run<'a> {
    amx: Amx,
    product: TileProduct<'a>,
}

thread_local! {
    static PANELS: RefCell<Panels> = RefCell::new(Panels::default());
}

impl ViewVisitor for Run<'_> {
    type Output = ();

    fn super_blocks<F: SuperBlockFormat>(mut self) {
        // SAFETY: the proof is for the features that are enabled.
        PANELS.with_borrow_mut(|panels| unsafe { super_blocks::<F>(self.amx, &mut self.product, panels) });
    }

    fn blocks<F: BlockFormat>(mut self) {
        // SAFETY: as above.
        PANELS.with_borrow_mut(|panels| unsafe { all_blocks::<F>(self.amx, &mut self.product, panels) });
    }

    fn long_blocks<F: LongBlockFormat>(self) {
        unreachable!("{} has no tiles", F::TY)
    }

    fn floats<F: FloatFormat>(self) {
        unreachable!("{} is multiplied as floats", F::TY)
    }

    fn decoded<F: Format>(self) {
        unreachable!("{} is multiplied as floats", F::TY)
    }
}

/// A thread's decoded weights; the buffer is used again by the next product.
#[derive(Default)]
struct Panels {
    rows: Vec<SuperRow>,
    steps: Vec<Step>,
}

/// A super-block of one row: weights as two digits, `low + 128 * high`.
#[derive(Clone)]
#[repr(C, align(64))]
struct SuperRow {
    low: [i8; 256],
    high: [i8; 256],
    /// The factors of the low and high digits of the input's sums: mins, and 64 times mins.
    mins: [u16; DIGITS],
    d: f32,
    minus_dmin: f32,
}

/// One block of each of 16 rows.
#[derive(Clone)]
#[repr(C, align(64))]
struct Step {
    codes: [[i8; 32]; LANES],
    d: [f32; LANES],
    m: [f32; LANES],
}

/// The result of tile products, `[16 rows, 16 tokens]`.
#[repr(C, align(64))]
struct Tile<T>([[T; LANES]; LANES]);

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn super_blocks<F: SuperBlockFormat>(amx: Amx, p: &mut TileProduct<'_>, panels: &mut Panels) {
    let x = p.x;
    let rows = p.rows.len().next_multiple_of(LANES);
    let pairs = x.groups / PAIR;
    panels.rows.resize(rows, SuperRow { low: [0; 256], high: [0; 256], mins: [0; DIGITS], d: 0.0, minus_dmin: 0.0 });
    // `[pairs of groups, rows, 32 tokens]`.
    let mut all_sums = Scratch::zeros(pairs * rows * PAIR * LANES);
    let mut products: [Tile<i32>; 2 * PAIR] = std::array::from_fn(|_| Tile([[0; LANES]; LANES]));
    let mut mins: [Tile<f32>; PAIR] = std::array::from_fn(|_| Tile([[0.0; LANES]; LANES]));
    let mut unpacked = SuperBlock::default();
    let bytes = p.weights.bytes();
    let configured = Configured::new(amx, 64);
    for b in 0..x.blocks {
        for (row, to) in p.rows.clone().zip(&mut panels.rows) {
            unpacked.fill::<F>(amx.0, &bytes[(row * x.blocks + b) * F::BYTES..][..F::BYTES]);
            to.set(&unpacked);
        }
        let sums = all_sums.chunks_exact_mut(rows * PAIR * LANES);
        for (pair, sums) in sums.enumerate() {
            let tile = x.at(b, pair * PAIR);
            let scales = [x.scales(tile), x.scales(tile + 1)];
            let strips = panels.rows.chunks_exact(LANES).zip(sums.chunks_exact_mut(LANES * PAIR * LANES));
            for (rows, sums) in strips {
                multiply_digits(&configured, rows, x.codes(tile), &mut products);
                if F::Shape::MINS {
                    multiply_mins(&configured, rows, x.sums(tile), &mut mins);
                }
                add_super_block::<F>(rows, &products, &mins, scales, sums);
            }
        }
    }
    drop(configured);
    for (pair, sums) in all_sums.chunks_exact(rows * PAIR * LANES).enumerate() {
        for (strip, sums) in sums.chunks_exact(LANES * PAIR * LANES).enumerate() {
            for half in 0..PAIR {
                let mut vectors = [_mm512_setzero_ps(); LANES];
                for (row, vector) in vectors.iter_mut().enumerate() {
                    let from = &sums[(row * PAIR + half) * LANES..][..LANES];
                    // SAFETY: sixteen floats are there.
                    *vector = unsafe { _mm512_loadu_ps(from.as_ptr()) };
                }
                p.put(vectors, (pair * PAIR + half) * LANES, strip * LANES);
            }
        }
    }
}

/// A super-block of one row with its codes in element order.
#[derive(Default)]
struct SuperBlock {
    codes: Codes<256>,
    scales: [i16; SUBS],
    zeros: [i16; SUBS],
    mins: [i16; SUBS],
    d: f32,
    dmin: f32,
}

/// A block of one row.
#[derive(Default)]
struct Block {
    codes: [u8; 32],
    d: f32,
    m: f32,
}

#[repr(align(64))]
struct Codes<const N: usize>([u8; N]);

impl<const N: usize> Default for Codes<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

/// The bytes of a vector.
#[inline]
#[target_feature(enable = "avx512f")]
fn bytes_of(vector: __m512i) -> [u8; 64] {
    let mut bytes = [0; 64];
    // SAFETY: the array has 64 bytes.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), vector) };
    bytes
}

impl SuperBlock {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    fn fill<F: SuperBlockFormat>(&mut self, l: Avx512<true>, block: &[u8]) {
        for (codes, halves) in F::codes(l, block).into_iter().zip(F::Shape::HALVES) {
            for (codes, half) in bytes_of(codes).chunks_exact(32).zip(halves) {
                self.codes.0[32 * half..][..32].copy_from_slice(codes);
            }
        }
        let sub = F::scales(l, block);
        let offsets = if F::Shape::ZERO != 0 { &mut self.zeros } else { &mut self.mins };
        for sixteen in 0..SUBS {
            let j = sixteen * 16 / F::Shape::SUB_LEN;
            (self.scales[sixteen], offsets[sixteen]) = (sub.scales[j], sub.offsets[j]);
        }
        // SAFETY: the block is whole.
        let factors = unsafe { F::factors(l, &[block.as_ptr(); LANES]) };
        [self.d, self.dmin] = factors.map(|factor| l.to_array(factor)[0]);
    }
}

impl Block {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    fn fill<F: BlockFormat>(&mut self, l: Avx512<true>, block: &[u8]) {
        self.codes.copy_from_slice(&bytes_of(F::codes(l, [block, block]))[..32]);
        // SAFETY: the block has four bytes.
        let factors = F::factors(l, unsafe { l.words_at(&[block.as_ptr(); LANES]) });
        [self.d, self.m] = factors.map(|factor| l.to_array(factor)[0]);
    }
}

impl SuperRow {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn set(&mut self, w: &SuperBlock) {
        // SAFETY: every array is as long as what is read from it and written to it.
        unsafe {
            let scales = _mm512_castsi256_si512(_mm256_loadu_si256(w.scales.as_ptr().cast()));
            let zeros = _mm512_castsi256_si512(_mm256_loadu_si256(w.zeros.as_ptr().cast()));
            // Words 2i and 2i + 1, each for sixteen elements.
            let mut which = _mm512_inserti64x4::<1>(_mm512_setzero_si512(), _mm256_set1_epi16(1));
            for i in 0..8 {
                let codes = _mm512_cvtepu8_epi16(_mm256_loadu_si256(w.codes.0.as_ptr().add(32 * i).cast()));
                let scaled = _mm512_mullo_epi16(codes, _mm512_permutexvar_epi16(which, scales));
                let weights = _mm512_add_epi16(scaled, _mm512_permutexvar_epi16(which, zeros));
                let tops = _mm512_srai_epi16::<7>(_mm512_add_epi16(weights, _mm512_set1_epi16(64)));
                let lows = _mm512_sub_epi16(weights, _mm512_slli_epi16::<7>(tops));
                _mm256_storeu_si256(self.low.as_mut_ptr().add(32 * i).cast(), _mm512_cvtepi16_epi8(lows));
                _mm256_storeu_si256(self.high.as_mut_ptr().add(32 * i).cast(), _mm512_cvtepi16_epi8(tops));
                which = _mm512_add_epi16(which, _mm512_set1_epi16(2));
            }
        }
        for (j, &min) in w.mins.iter().enumerate() {
            (self.mins[j], self.mins[j + 16]) = (bf16(min), bf16(64 * min));
        }
        (self.d, self.minus_dmin) = (w.d, -w.dmin);
    }
}

/// Products of the low and high digits of 16 rows with two groups of tokens.
#[inline]
fn multiply_digits(_: &Configured, rows: &[SuperRow], x: &[i8], out: &mut [Tile<i32>; 2 * PAIR]) {
    assert!(rows.len() == LANES && x.len() >= PAIR * LANES * 256);
    // SAFETY: registers are configured; 16 rows of 256 bytes of each digit lie a `SuperRow` apart, four tiles of
    // 1024 bytes one after the other for each group, and `out` has room for four tiles.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "tileloadd tmm4, [{w} + {row}]",
            "tileloadd tmm6, [{x} + {line}]",
            "tdpbssd tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{w} + {row} + 256]",
            "tdpbssd tmm1, tmm5, tmm6",
            "tileloadd tmm7, [{x} + {line} + 4096]",
            "tdpbssd tmm2, tmm4, tmm7",
            "tdpbssd tmm3, tmm5, tmm7",
            "tileloadd tmm4, [{w} + {row} + 64]",
            "tileloadd tmm6, [{x} + {line} + 1024]",
            "tdpbssd tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{w} + {row} + 320]",
            "tdpbssd tmm1, tmm5, tmm6",
            "tileloadd tmm7, [{x} + {line} + 5120]",
            "tdpbssd tmm2, tmm4, tmm7",
            "tdpbssd tmm3, tmm5, tmm7",
            "tileloadd tmm4, [{w} + {row} + 128]",
            "tileloadd tmm6, [{x} + {line} + 2048]",
            "tdpbssd tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{w} + {row} + 384]",
            "tdpbssd tmm1, tmm5, tmm6",
            "tileloadd tmm7, [{x} + {line} + 6144]",
            "tdpbssd tmm2, tmm4, tmm7",
            "tdpbssd tmm3, tmm5, tmm7",
            "tileloadd tmm4, [{w} + {row} + 192]",
            "tileloadd tmm6, [{x} + {line} + 3072]",
            "tdpbssd tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{w} + {row} + 448]",
            "tdpbssd tmm1, tmm5, tmm6",
            "tileloadd tmm7, [{x} + {line} + 7168]",
            "tdpbssd tmm2, tmm4, tmm7",
            "tdpbssd tmm3, tmm5, tmm7",
            "tilestored [{out} + {line}], tmm0",
            "tilestored [{out} + {line} + 1024], tmm1",
            "tilestored [{out} + {line} + 2048], tmm2",
            "tilestored [{out} + {line} + 3072], tmm3",
            w = in(reg) rows.as_ptr(),
            row = in(reg) size_of::<SuperRow>(),
            x = in(reg) x.as_ptr(),
            line = in(reg) 64_usize,
            out = in(reg) out.as_mut_ptr(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// Products of the mins of 16 rows with the sums of two groups of tokens.
#[inline]
fn multiply_mins(_: &Configured, rows: &[SuperRow], sums: &[u16], out: &mut [Tile<f32>; PAIR]) {
    assert!(rows.len() == LANES && sums.len() >= PAIR * LANES * DIGITS);
    // SAFETY: registers are configured; 16 rows of 64 bytes of mins lie a `SuperRow` apart, a tile of 1024 bytes of
    // sums for each group, and `out` has room for two tiles.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tileloadd tmm4, [{mins} + {row}]",
            "tileloadd tmm6, [{sums} + {line}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{sums} + {line} + 1024]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tilestored [{out} + {line}], tmm0",
            "tilestored [{out} + {line} + 1024], tmm1",
            mins = in(reg) rows[0].mins.as_ptr(),
            row = in(reg) size_of::<SuperRow>(),
            sums = in(reg) sums.as_ptr(),
            line = in(reg) 64_usize,
            out = in(reg) out.as_mut_ptr(),
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// Adds the products of one super-block to `sums`, `[16 rows, 2 groups, 16 tokens]`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
fn add_super_block<F: SuperBlockFormat>(
    rows: &[SuperRow],
    products: &[Tile<i32>; 2 * PAIR],
    mins: &[Tile<f32>; PAIR],
    scales: [&[f32; LANES]; PAIR],
    sums: &mut [f32],
) {
    for group in 0..PAIR {
        // SAFETY: all arrays have sixteen lanes.
        unsafe {
            let scale = _mm512_loadu_ps(scales[group].as_ptr());
            for (row, w) in rows.iter().enumerate() {
                let sum = &mut sums[(row * PAIR + group) * LANES..][..LANES];
                let low = _mm512_loadu_si512(products[2 * group].0[row].as_ptr().cast());
                let high = _mm512_loadu_si512(products[2 * group + 1].0[row].as_ptr().cast());
                let product = _mm512_cvtepi32_ps(_mm512_add_epi32(low, _mm512_slli_epi32::<7>(high)));
                let (d, to) = (_mm512_set1_ps(w.d), _mm512_loadu_ps(sum.as_ptr()));
                let to = if F::Shape::MINS {
                    let min = _mm512_loadu_ps(mins[group].0[row].as_ptr());
                    let term = _mm512_fmadd_ps(_mm512_set1_ps(w.minus_dmin), min, _mm512_mul_ps(d, product));
                    _mm512_fmadd_ps(term, scale, to)
                } else {
                    _mm512_fmadd_ps(_mm512_mul_ps(d, scale), product, to)
                };
                _mm512_storeu_ps(sum.as_mut_ptr(), to);
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn all_blocks<F: BlockFormat>(amx: Amx, p: &mut TileProduct<'_>, panels: &mut Panels) {
    let x = p.x;
    panels.steps.resize(x.blocks, Step { codes: [[0; 32]; LANES], d: [0.0; LANES], m: [0.0; LANES] });
    let mut products: [Tile<i32>; 4] = std::array::from_fn(|_| Tile([[0; LANES]; LANES]));
    let mut unpacked = Block::default();
    let bytes = p.weights.bytes();
    let configured = Configured::new(amx, 32);
    for first in p.rows.clone().step_by(LANES) {
        for (row, lane) in (first..p.rows.end).zip(0..LANES) {
            let row = bytes[row * x.blocks * F::BYTES..].chunks_exact(F::BYTES);
            for (block, step) in row.zip(&mut panels.steps) {
                unpacked.fill::<F>(amx.0, block);
                for (to, code) in step.codes[lane].iter_mut().zip(unpacked.codes) {
                    *to = code.wrapping_sub(F::Shape::ZERO as u8) as i8;
                }
                (step.d[lane], step.m[lane]) = (unpacked.d, unpacked.m);
            }
        }
        for group in 0..x.tokens.div_ceil(LANES) {
            let mut sums = [_mm512_setzero_ps(); LANES];
            for (chunk, steps) in panels.steps.chunks(4).enumerate() {
                let tile = x.at(4 * chunk, group);
                match steps.len() {
                    4 => multiply_four(&configured, steps, x.codes(tile), &mut products),
                    _ => {
                        for (i, step) in steps.iter().enumerate() {
                            multiply_one(&configured, step, x.codes(tile + i), &mut products[i]);
                        }
                    }
                }
                for (i, (step, products)) in steps.iter().zip(&products).enumerate() {
                    add_block::<F>(step, products, x.scales(tile + i), x.totals(tile + i), &mut sums);
                }
            }
            p.put(sums, group * LANES, first - p.rows.start);
        }
    }
    drop(configured);
}

/// Products of 16 rows with a group of tokens in four consecutive blocks.
#[inline]
fn multiply_four(_: &Configured, steps: &[Step], x: &[i8], out: &mut [Tile<i32>; 4]) {
    assert!(steps.len() == 4 && x.len() >= 4 * LANES * 32);
    // SAFETY: registers are configured; 16 rows of 32 bytes lie side by side in each step, a tile of 512 bytes for
    // each block, and `out` has room for four tiles.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "tileloadd tmm4, [{w} + {row}]",
            "tileloadd tmm6, [{x} + {line}]",
            "tdpbssd tmm0, tmm4, tmm6",
            "tilestored [{out} + {line}], tmm0",
            "tileloadd tmm5, [{w} + {row} + {step}]",
            "tileloadd tmm7, [{x} + {line} + 512]",
            "tdpbssd tmm1, tmm5, tmm7",
            "tilestored [{out} + {line} + 1024], tmm1",
            "tileloadd tmm4, [{w} + {row} + 2 * {step}]",
            "tileloadd tmm6, [{x} + {line} + 1024]",
            "tdpbssd tmm2, tmm4, tmm6",
            "tilestored [{out} + {line} + 2048], tmm2",
            "tileloadd tmm5, [{w} + {row} + 3 * {step}]",
            "tileloadd tmm7, [{x} + {line} + 1536]",
            "tdpbssd tmm3, tmm5, tmm7",
            "tilestored [{out} + {line} + 3072], tmm3",
            w = in(reg) steps.as_ptr(),
            row = in(reg) 32_usize,
            x = in(reg) x.as_ptr(),
            line = in(reg) 64_usize,
            out = in(reg) out.as_mut_ptr(),
            step = const size_of::<Step>(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// Products of 16 rows and a group of tokens in one block.
#[inline]
fn multiply_one(_: &Configured, step: &Step, x: &[i8], out: &mut Tile<i32>) {
    assert!(x.len() >= LANES * 32);
    // SAFETY: as for four.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tileloadd tmm4, [{w} + {row}]",
            "tileloadd tmm6, [{x} + {line}]",
            "tdpbssd tmm0, tmm4, tmm6",
            "tilestored [{out} + {line}], tmm0",
            w = in(reg) step,
            row = in(reg) 32_usize,
            x = in(reg) x.as_ptr(),
            line = in(reg) 64_usize,
            out = in(reg) out,
            out("tmm0") _, out("tmm4") _, out("tmm6") _,
            options(nostack),
        );
    }
}

/// Adds the products of one block: a vector of tokens for each row.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
fn add_block<F: BlockFormat>(
    step: &Step,
    products: &Tile<i32>,
    scales: &[f32; LANES],
    totals: &[f32; LANES],
    sums: &mut [__m512; LANES],
) {
    // SAFETY: all arrays have sixteen lanes.
    unsafe {
        let scale = _mm512_loadu_ps(scales.as_ptr());
        let total = _mm512_loadu_ps(totals.as_ptr());
        for row in 0..LANES {
            let product = _mm512_cvtepi32_ps(_mm512_loadu_si512(products.0[row].as_ptr().cast()));
            sums[row] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_set1_ps(step.d[row]), scale), product, sums[row]);
            if F::Shape::OFFSET {
                sums[row] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_set1_ps(step.m[row]), scale), total, sums[row]);
            }
        }
    }
}

impl TileProduct<'_> {
    /// Writes a vector of sixteen tokens from `token` on for each of sixteen rows from `row` on. Tokens and rows beyond the output
    /// are left out.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn put(&mut self, vectors: [__m512; LANES], token: usize, row: usize) {
        let count = LANES.min(self.rows.len() - row);
        for (i, vector) in transpose(vectors).into_iter().enumerate().take(self.x.tokens.saturating_sub(token)) {
            let to = &mut self.out[(token + i) * self.stride + row..][..count];
            // SAFETY: as many floats as the mask lets through.
            unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), u16::MAX >> (LANES - count), vector) };
        }
    }
}
