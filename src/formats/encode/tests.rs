//! Compares every instruction set with the scalar codecs, byte for byte, on weights chosen to break the versions in lanes.

use half::f16;

use super::encode_with;
use crate::TensorType;
use crate::formats::{codec, codecs};
use crate::simd::Isa;

/// Every type that can be written in lanes.
fn types() -> impl Iterator<Item = TensorType> {
    codecs().iter().filter(|codec| codec.in_lanes).map(|codec| codec.ty)
}

/// Elements of a set: an odd number of super-blocks; fewer in debug builds, where the reference is slow.
const ELEMENTS: usize = 256 * if cfg!(debug_assertions) { 41 } else { 401 };

/// Whether a type has a codebook, so that its reference is slow.
fn has_codebook(ty: TensorType) -> bool {
    let name = ty.to_string();
    name.starts_with("IQ") && !name.starts_with("IQ4")
}

/// Elements of a set for a type.
fn elements(ty: TensorType) -> usize {
    if has_codebook(ty) { ELEMENTS.min(256 * if cfg!(debug_assertions) { 5 } else { 101 }) } else { ELEMENTS }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// In [0, 1).
    fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 24) as f32
    }

    fn below(&mut self, n: u64) -> u64 {
        self.bits() % n
    }

    fn normal(&mut self) -> f32 {
        let (a, b) = (self.unit().max(1e-7), self.unit());
        (-2.0 * a.ln()).sqrt() * (std::f32::consts::TAU * b).cos()
    }
}

fn rounded(x: f32) -> f32 {
    f16::from_f32(x).to_f32()
}

/// A kind of weights: its name, and element `i` of them.
type Kind = (&'static str, fn(&mut Random, usize) -> f32);

const KINDS: &[Kind] = &[
    ("normal", |r, _| rounded(r.normal() * 0.02)),
    ("normal f32", |r, _| r.normal() * 0.3),
    ("tiny", |r, _| rounded(r.normal() * 1e-6)),
    ("tiny f32", |r, _| r.normal() * 1e-36),
    ("tiny blocks", |r, i| r.normal() * 10f32.powi(-((i / 32 % 40) as i32))),
    ("skewed", |r, i| rounded(r.normal() * if i % 256 < 32 { 100.0 } else { 0.001 })),
    ("skewed by element", |r, _| rounded(r.unit().powi(40) * 1000.0)),
    ("positive", |r, _| rounded(r.unit() + 0.5)),
    ("negative", |r, _| rounded(-r.unit() - 0.5)),
    ("far from zero", |r, i| rounded(if i % 64 < 32 { 1000.0 } else { -1000.0 } + r.unit())),
    ("tied", |r, _| rounded((r.normal() * 2.0).round() * 0.125)),
    ("tied magnitudes", |r, _| if r.below(2) == 0 { 1.5 } else { -1.5 }),
    ("few values", |r, i| [0.0, 0.75, -0.0, -2.0, 3e-4][(r.below(2 + (i / 32 % 4) as u64)) as usize]),
    ("constant blocks", |_, i| rounded((i / 16 % 7) as f32 - 3.0)),
    ("zero", |_, _| 0.0),
    ("negative zero", |_, _| -0.0),
    ("both zeros", |r, _| if r.below(2) == 0 { 0.0 } else { -0.0 }),
    ("zero blocks", |r, i| if i / 32 % 3 == 0 { 0.0 } else { rounded(r.normal()) }),
    ("spikes", |r, i| if i % 256 == 77 { rounded(r.normal() * 100.0) } else { 0.0 }),
    ("spikes on noise", |r, i| rounded(if i % 61 == 7 { r.normal() * 1000.0 } else { r.normal() * 1e-3 })),
    ("denormal halves", |r, _| rounded(r.normal() * 1e-7)),
    ("denormals", |r, i| r.normal() * 1e-45 * 2f32.powi((i / 32 % 24) as i32)),
    ("denormals and larger", |r, i| r.normal() * if i / 16 % 5 == 0 { 1e-40 } else { 1e-30 }),
    ("largest halves", |r, _| if r.below(3) == 0 { 65504.0 } else { -65504.0 * r.unit().round() }),
    ("near the largest half", |r, _| rounded(65504.0 * (r.unit() * 2.0 - 1.0))),
    ("largest f32", |r, _| f32::MAX * (r.unit() * 2.0 - 1.0)),
    ("heavy tails", |r, _| rounded((0.01 / (r.unit() + 1e-4) * (r.unit() - 0.5)).clamp(-60000.0, 60000.0))),
    ("exponents", |r, _| f32::from_bits((r.bits() as u32 & 0x807f_ffff) | (r.below(255) as u32) << 23)),
    ("exponents of halves", |r, _| f16::from_bits((r.bits() as u16 & 0x83ff) | (r.below(31) as u16) << 10).to_f32()),
];

fn weights((_, element): Kind, n: usize, seed: u64) -> Vec<f32> {
    let mut random = Random(seed);
    (0..n).map(|i| element(&mut random, i)).collect()
}

/// Importance of a row of `n` elements: of many sizes, and with zeros.
fn importance(n: usize, seed: u64) -> [(&'static str, Vec<f32>); 2] {
    let mut random = Random(!seed);
    let many: Vec<f32> = (0..n).map(|_| random.normal().powi(2)).collect();
    let zeros = many.iter().enumerate().map(|(i, &w)| if i / 16 % 3 == 1 { 0.0 } else { w }).collect();
    [("of many sizes", many), ("with zeros", zeros)]
}

fn assert_same(x: &[f32], importance: Option<&[f32]>, ty: TensorType, what: &str) {
    let mut expected = vec![0xaa; ty.row_bytes(x.len())];
    (codec(ty).and_then(|codec| codec.encode).expect("an encoder"))(x, importance, &mut expected);
    for isa in Isa::ALL.iter().copied().filter(|isa| isa.available()) {
        let mut bytes = vec![0x55; expected.len()];
        encode_with(isa, ty, x, importance, &mut bytes);
        if let Some(at) = bytes.iter().zip(&expected).position(|(a, b)| a != b) {
            let block = at / ty.block_bytes();
            let numbers = &x[block * ty.block_len()..][..ty.block_len()];
            panic!("{ty} {what} {isa}: byte {} of block {block}, {numbers:?}", at % ty.block_bytes());
        }
    }
}

#[test]
fn no_numbers_become_what_the_scalar_codecs_make_of_them() {
    let x =
        [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::from_bits(0x7f80_0001), 65519.9, 65520.0, 3e38];
    for ty in [TensorType::F16, TensorType::BF16] {
        assert_same(&x, None, ty, "no numbers");
    }
}

#[test]
fn lanes_write_what_the_scalar_codecs_write() {
    for (seed, &kind) in (1..).zip(KINDS) {
        let x = weights(kind, ELEMENTS, seed);
        for ty in types() {
            let x = &x[..elements(ty)];
            assert_same(x, None, ty, kind.0);
            for (name, importance) in importance(x.len(), seed) {
                assert_same(x, Some(&importance), ty, &format!("{}, importance {name}", kind.0));
            }
        }
    }
}

#[test]
fn short_rows_leave_lanes_empty() {
    for (seed, &kind) in (100..).zip(KINDS) {
        for blocks in [1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33] {
            // Formats with a codebook are encoded super-block by super-block.
            for ty in types().filter(|&ty| blocks < 3 || !has_codebook(ty)) {
                let n = if cfg!(debug_assertions) { blocks.min(9) } else { blocks } * ty.block_len();
                let x = weights(kind, n, seed);
                assert_same(&x, None, ty, &format!("{}, {blocks} blocks", kind.0));
                for (name, importance) in importance(n, seed) {
                    assert_same(&x, Some(&importance), ty, &format!("{}, {blocks} blocks, importance {name}", kind.0));
                }
            }
        }
    }
}
