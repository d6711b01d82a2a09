//! Products with many tokens: weights are decoded once into a panel in which sixteen rows lie side by side, and every
//! token's words are spread over them. No sum runs across lanes, and a panel stays in the cache of its core while all
//! tokens pass it.

#![allow(unsafe_code, reason = "vector loads in the innermost loop")]

use std::cell::RefCell;
use std::ops::Range;
use std::thread::LocalKey;

use super::activations::Input;
use super::blocks::{self, BlockFormat, SuperBlockFormat};
use super::groups::{GROUP, Group, Groups, pair};
use super::lanes::{Kernel, LANES, Lanes};
use super::matrix::Matrix;
use super::scratch::Scratch;
use crate::TensorType;

/// Products with fewer tokens read the weights row by row.
pub(super) const MIN_TOKENS: usize = 4;
/// Columns that are decoded together: the codes of a group of tokens in them stay in the first-level cache.
const SLAB: usize = 1024;

/// Sixteen super-blocks, one a lane.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct SuperPanel {
    /// Four codes of each row a word.
    codes: [[i32; LANES]; 64],
    /// Of each sub-block.
    scales: [[i32; LANES]; blocks::SUBS],
    /// Zeros or mins, those of two sub-blocks a word.
    offsets: [[i32; LANES]; blocks::SUBS / 2],
    d: [f32; LANES],
    /// What the offsets are multiplied by, where they are mins.
    dmin: [f32; LANES],
}

/// Sixteen blocks, one a lane.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct BlockPanel {
    codes: [[i32; LANES]; 8],
    d: [f32; LANES],
    m: [f32; LANES],
}

impl Default for SuperPanel {
    fn default() -> Self {
        let zeros = [0; LANES];
        Self {
            codes: [zeros; 64],
            scales: [zeros; blocks::SUBS],
            offsets: [zeros; blocks::SUBS / 2],
            d: [0.0; LANES],
            dmin: [0.0; LANES],
        }
    }
}

impl Default for BlockPanel {
    fn default() -> Self {
        Self { codes: [[0; LANES]; 8], d: [0.0; LANES], m: [0.0; LANES] }
    }
}

/// `out[token][row] = weights[row] . x[token]` for a range of rows: `out` is `[tokens, rows.len()]`.
pub(super) struct PanelProduct<'a> {
    pub(super) weights: &'a Matrix,
    pub(super) rows: Range<usize>,
    pub(super) x: &'a Groups,
    pub(super) out: &'a mut [f32],
}

impl Kernel for PanelProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        use TensorType as T;
        match self.weights.ty() {
            T::Q2_K => self.slabs::<L, SuperBlocks<blocks::Q2K>>(l),
            T::Q3_K => self.slabs::<L, SuperBlocks<blocks::Q3K>>(l),
            T::Q4_K => self.slabs::<L, SuperBlocks<blocks::Q4K>>(l),
            T::Q5_K => self.slabs::<L, SuperBlocks<blocks::Q5K>>(l),
            T::Q6_K => self.slabs::<L, SuperBlocks<blocks::Q6K>>(l),
            T::Q4_0 => self.slabs::<L, Blocks<blocks::Q40>>(l),
            T::Q4_1 => self.slabs::<L, Blocks<blocks::Q41>>(l),
            T::Q5_0 => self.slabs::<L, Blocks<blocks::Q50>>(l),
            T::Q5_1 => self.slabs::<L, Blocks<blocks::Q51>>(l),
            T::Q8_0 => self.slabs::<L, Blocks<blocks::Q80>>(l),
            T::MXFP4 => self.slabs::<L, Blocks<blocks::Mxfp4>>(l),
            ty => unreachable!("{ty} is multiplied as floats"),
        }
    }
}

/// How the panels of a format are made and multiplied.
trait Panels {
    /// Sixteen blocks.
    type Panel: Copy + Default + 'static;
    /// How the format wants its input.
    const INPUT: Input;
    /// Bytes of a block.
    const BYTES: usize;

    /// Where a thread keeps its panels from task to task.
    fn kept() -> &'static LocalKey<RefCell<Vec<Self::Panel>>>;

    /// Decodes sixteen blocks; rows that are missing are zeros.
    fn decode<L: Lanes>(l: L, rows: [Option<&[u8]>; LANES], to: &mut Self::Panel);

    /// Adds the products of `panels` and `TOKENS` tokens of `x` from `token` on to `sums`, one a token.
    ///
    /// # Safety
    /// `x` must have as many blocks as there are panels, and `token + TOKENS` must be at most [`GROUP`].
    unsafe fn multiply<L: Lanes, const TOKENS: usize>(
        l: L,
        panels: &[Self::Panel],
        x: Group<'_>,
        token: usize,
        sums: &mut [[f32; LANES]],
    );
}

impl PanelProduct<'_> {
    #[inline(always)]
    fn slabs<L: Lanes, P: Panels>(self, l: L) {
        let (cols, len) = (self.weights.cols(), P::INPUT.block_len());
        let (all, most) = (cols / len, SLAB / len);
        let (width, stripes, groups) = (self.rows.len(), self.rows.len().div_ceil(LANES), self.x.len());
        let mut sums = Scratch::zeros(groups * stripes * GROUP * LANES);
        let sums = sums.as_chunks_mut::<LANES>().0;
        let mut kept = P::kept().take();
        if kept.len() < stripes * most {
            kept.resize(stripes * most, P::Panel::default());
        }
        for first in (0..all).step_by(most) {
            let count = most.min(all - first);
            for (stripe, panels) in kept.chunks_exact_mut(most).enumerate().take(stripes) {
                for (b, panel) in panels[..count].iter_mut().enumerate() {
                    P::decode(l, self.blocks::<P>(stripe, first + b, all), panel);
                }
            }
            for (group, sums) in sums.chunks_exact_mut(stripes * GROUP).enumerate() {
                let x = self.x.blocks(group, first, count);
                for (panels, sums) in kept.chunks_exact(most).zip(sums.chunks_exact_mut(GROUP)) {
                    if L::WIDE {
                        // SAFETY: `x` has `count` blocks, and these are all tokens of a group.
                        unsafe { P::multiply::<L, GROUP>(l, &panels[..count], x, 0, sums) };
                    } else {
                        for token in (0..GROUP).step_by(2) {
                            // SAFETY: `x` has `count` blocks, and these are two tokens of a group.
                            unsafe { P::multiply::<L, 2>(l, &panels[..count], x, token, &mut sums[token..]) };
                        }
                    }
                }
            }
        }
        P::kept().set(kept);
        for (token, row) in self.out.chunks_exact_mut(width).enumerate() {
            let sums = &sums[token / GROUP * stripes * GROUP + token % GROUP..];
            for (to, sums) in row.chunks_mut(LANES).zip(sums.iter().step_by(GROUP)) {
                to.copy_from_slice(&sums[..to.len()]);
            }
        }
    }

    /// Block `block`, of `all` in a row, of sixteen rows.
    #[inline(always)]
    fn blocks<P: Panels>(&self, stripe: usize, block: usize, all: usize) -> [Option<&[u8]>; LANES] {
        let bytes = self.weights.bytes();
        let mut rows = [None; LANES];
        for (row, to) in (self.rows.start + stripe * LANES..self.rows.end).zip(&mut rows) {
            *to = Some(&bytes[(row * all + block) * P::BYTES..][..P::BYTES]);
        }
        rows
    }
}

/// Writes columns, as many as there is room for.
#[inline(always)]
fn put<L: Lanes>(l: L, columns: &[L::Int], to: &mut [[i32; LANES]]) {
    for (to, column) in to.iter_mut().zip(columns) {
        // SAFETY: the array holds 16 integers.
        unsafe { l.store_int(to.as_mut_ptr(), *column) };
    }
}

/// Vectors of zeros.
#[inline(always)]
fn nothing<L: Lanes, const N: usize>(l: L) -> [L::Int; N] {
    [l.splat_int(0); N]
}

/// `sums + codes * x` for some words of columns.
///
/// # Safety
/// `codes` must have `WORDS` vectors, and `x` a group's words for each, counted from its first token here.
#[inline(always)]
unsafe fn multiply_words<L: Lanes, const EIGHT_BITS: bool, const WORDS: usize, const TOKENS: usize>(
    l: L,
    codes: *const [i32; LANES],
    x: *const i32,
    mut sums: [L::Int; TOKENS],
) -> [L::Int; TOKENS] {
    for k in 0..WORDS {
        // SAFETY: the caller vouches for so many vectors and words.
        let w = unsafe { l.load_int(codes.add(k).cast()) };
        for t in 0..TOKENS {
            // SAFETY: as above.
            let x = unsafe { *x.add(k * GROUP + t) };
            sums[t] = l.dot_bytes::<EIGHT_BITS>(sums[t], w, l.splat_int(x));
        }
    }
    sums
}

/// The super-blocks of format `F`.
struct SuperBlocks<F>(std::marker::PhantomData<F>);

thread_local! {
    static SUPER_PANELS: RefCell<Vec<SuperPanel>> = const { RefCell::new(Vec::new()) };
    static BLOCK_PANELS: RefCell<Vec<BlockPanel>> = const { RefCell::new(Vec::new()) };
}

impl<F: SuperBlockFormat> Panels for SuperBlocks<F> {
    type Panel = SuperPanel;
    const INPUT: Input = Input::SuperBlocks;
    const BYTES: usize = F::BYTES;

    fn kept() -> &'static LocalKey<RefCell<Vec<SuperPanel>>> {
        &SUPER_PANELS
    }

    #[inline(always)]
    fn decode<L: Lanes>(l: L, rows: [Option<&[u8]>; LANES], to: &mut SuperPanel) {
        let (mut words, mut scales, mut offsets) = ([[l.splat_int(0); LANES]; 4], nothing(l), nothing(l));
        let mut factors = [[0; LANES]; 2];
        for (lane, row) in rows.into_iter().enumerate() {
            let Some(row) = row else { continue };
            for (words, codes) in words.iter_mut().zip(F::codes(l, row)) {
                words[lane] = codes;
            }
            let sub = F::scales(l, row);
            let sixteen: [i32; LANES] = sub.scales.map(i32::from);
            let mut pairs = [0; LANES];
            for j in 0..blocks::SUBS / 2 {
                // Input is summed by sixteens.
                let [a, b] = [2 * j, 2 * j + 1].map(|sixteen| sub.offsets[sixteen * 16 / F::SUB_LEN]);
                pairs[j] = pair(a, b);
            }
            // SAFETY: arrays of 16 integers.
            unsafe {
                scales[lane] = l.load_int(sixteen.as_ptr());
                offsets[lane] = l.load_int(pairs.as_ptr());
            }
            let [d, dmin] = F::factors(row);
            (factors[0][lane], factors[1][lane]) = (d, dmin);
        }
        for (words, halves) in words.into_iter().zip(F::HALVES) {
            // A half has eight words of four codes.
            let columns = l.transpose_words(words);
            for (columns, half) in columns.as_chunks::<8>().0.iter().zip(halves) {
                put(l, columns, &mut to.codes[8 * half..]);
            }
        }
        put(l, &l.transpose_words(scales), &mut to.scales);
        put(l, &l.transpose_words(offsets), &mut to.offsets);
        to.d = l.to_array(l.halves(&factors[0]));
        to.dmin = l.to_array(l.sub(l.splat(0.0), l.halves(&factors[1])));
    }

    #[inline(always)]
    unsafe fn multiply<L: Lanes, const TOKENS: usize>(
        l: L,
        panels: &[SuperPanel],
        x: Group<'_>,
        token: usize,
        sums: &mut [[f32; LANES]],
    ) {
        let mut totals = [l.splat(0.0); TOKENS];
        for t in 0..TOKENS {
            totals[t] = l.array(&sums[t]);
        }
        for (b, panel) in panels.iter().enumerate() {
            // SAFETY: `x` has as many blocks as there are panels.
            let (codes, scales, offsets) = unsafe {
                let offsets = x.sums.as_ptr().add(b * panel.offsets.len()).cast::<i32>().add(token);
                (x.codes.as_ptr().add(b * 64 * GROUP + token), x.scales.get_unchecked(b), offsets)
            };
            let mut offset = nothing::<L, TOKENS>(l);
            if F::ZERO != 0 || F::MINS {
                for (j, pairs) in panel.offsets.iter().enumerate() {
                    // SAFETY: an array of 16 integers; the sums of a group have a word for each.
                    let pairs = unsafe { l.load_int(pairs.as_ptr()) };
                    for t in 0..TOKENS {
                        // SAFETY: as above.
                        let sums = unsafe { *offsets.add(j * GROUP + t) };
                        offset[t] = l.dot_pairs(offset[t], pairs, l.splat_int(sums));
                    }
                }
            }
            let mut products = if F::ZERO != 0 { offset } else { nothing(l) };
            for sub in 0..256 / F::SUB_LEN {
                let word = sub * F::SUB_LEN / 4;
                let (w, x) = (&panel.codes[word..], codes.wrapping_add(word * GROUP));
                // SAFETY: a sub-block has four or eight words, in the panel and in the group.
                let dots = unsafe {
                    if F::SUB_LEN == 32 {
                        multiply_words::<L, false, 8, TOKENS>(l, w.as_ptr(), x, nothing(l))
                    } else {
                        multiply_words::<L, false, 4, TOKENS>(l, w.as_ptr(), x, nothing(l))
                    }
                };
                // SAFETY: an array of 16 integers.
                let scale = unsafe { l.load_int(panel.scales[sub].as_ptr()) };
                for t in 0..TOKENS {
                    products[t] = l.add_int(products[t], l.mul_int(dots[t], scale));
                }
            }
            let (d, dmin) = (l.array(&panel.d), l.array(&panel.dmin));
            for t in 0..TOKENS {
                let scale = l.splat(scales[token + t]);
                totals[t] = l.mul_add(l.mul(d, scale), l.int_to_float(products[t]), totals[t]);
                if F::MINS {
                    totals[t] = l.mul_add(l.mul(dmin, scale), l.int_to_float(offset[t]), totals[t]);
                }
            }
        }
        for t in 0..TOKENS {
            sums[t] = l.to_array(totals[t]);
        }
    }
}

/// The blocks of format `F`.
struct Blocks<F>(std::marker::PhantomData<F>);

impl<F: BlockFormat> Panels for Blocks<F> {
    type Panel = BlockPanel;
    const INPUT: Input = Input::Blocks;
    const BYTES: usize = F::BYTES;

    fn kept() -> &'static LocalKey<RefCell<Vec<BlockPanel>>> {
        &BLOCK_PANELS
    }

    #[inline(always)]
    fn decode<L: Lanes>(l: L, rows: [Option<&[u8]>; LANES], to: &mut BlockPanel) {
        let mut words = nothing(l);
        let mut factors = [[0; LANES]; 2];
        for (lane, row) in rows.into_iter().enumerate() {
            let Some(row) = row else { continue };
            words[lane] = F::codes(l, [row, row]);
            let [d, m] = F::factors(row);
            (factors[0][lane], factors[1][lane]) = (d, m);
        }
        put(l, &l.transpose_words(words), &mut to.codes);
        to.d = l.to_array(F::scales(l, &factors[0]));
        to.m = l.to_array(l.halves(&factors[1]));
    }

    #[inline(always)]
    unsafe fn multiply<L: Lanes, const TOKENS: usize>(
        l: L,
        panels: &[BlockPanel],
        x: Group<'_>,
        token: usize,
        sums: &mut [[f32; LANES]],
    ) {
        let mut totals = [l.splat(0.0); TOKENS];
        for t in 0..TOKENS {
            totals[t] = l.array(&sums[t]);
        }
        let zero = l.splat_int(pair(-F::ZERO, -F::ZERO));
        for (b, panel) in panels.iter().enumerate() {
            // SAFETY: `x` has as many blocks as there are panels.
            let (codes, scales, total) = unsafe {
                let codes = x.codes.as_ptr().add(b * 8 * GROUP + token);
                (codes, x.scales.get_unchecked(b), x.sums.get_unchecked(b))
            };
            let mut products = nothing::<L, TOKENS>(l);
            if F::ZERO != 0 {
                for t in 0..TOKENS {
                    products[t] = l.dot_pairs(products[t], zero, l.splat_int(total[token + t]));
                }
            }
            // SAFETY: a block has eight words, in the panel and in the group.
            let products = unsafe {
                if F::ZERO == 128 {
                    multiply_words::<L, true, 8, TOKENS>(l, panel.codes.as_ptr(), codes, products)
                } else {
                    multiply_words::<L, false, 8, TOKENS>(l, panel.codes.as_ptr(), codes, products)
                }
            };
            let (d, m) = (l.array(&panel.d), l.array(&panel.m));
            for t in 0..TOKENS {
                let scale = l.splat(scales[token + t]);
                totals[t] = l.mul_add(l.mul(d, scale), l.int_to_float(products[t]), totals[t]);
                if F::OFFSET {
                    let ones = l.splat_int(pair(1, 1));
                    let total = l.int_to_float(l.dot_pairs(l.splat_int(0), ones, l.splat_int(total[token + t])));
                    totals[t] = l.mul_add(l.mul(m, scale), total, totals[t]);
                }
            }
        }
        for t in 0..TOKENS {
            sums[t] = l.to_array(totals[t]);
        }
    }
}
