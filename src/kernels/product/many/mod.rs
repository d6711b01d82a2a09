//! Products with many tokens. Weights are decoded once into panels of sixteen rows side by side, and each word of a token's
//! input is broadcast and multiplied with a vector of the panel. No sum runs across lanes, and a panel stays in the core's
//! cache while it is multiplied with all tokens.

#![allow(unsafe_code, reason = "vector loads in the innermost loop")]

mod long_blocks;

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;
use std::thread::LocalKey;

use long_blocks::LongBlocks;

use super::input::Input;
use super::input::groups::{GROUP, Group, Groups, pair};
use super::matrix::{Matrix, ReadAhead};
use super::powers;
use crate::formats::view::{
    BlockFormat, BlockShape, FloatFormat, Heads, LongBlockFormat, SUBS, SuperBlockFormat, SuperBlockShape, ViewVisitor,
};
use crate::formats::{self, Format};
use crate::simd::lanes::{Kernel, Lanes};
use crate::simd::{Isa, LANES};

/// Products with fewer tokens read the weights row by row.
pub(super) const MIN_TOKENS: usize = 4;
/// Columns that are decoded together. The codes of a group of tokens for these columns fit the first-level cache.
const SLAB: usize = 1024;

/// Super-blocks of sixteen rows, one row in each lane.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct SuperPanel {
    /// Codes, four of each row in a word, in the order of the format's vectors.
    codes: [[i32; LANES]; 64],
    /// Scales of sub-blocks, one to a word; two to a word where sums fit 16 bits and
    /// [`crate::simd::integers::Integers::ADDS_PAIRS`] holds.
    scales: [[i32; LANES]; SUBS],
    /// Mins, those of two sub-blocks to a word.
    mins: [[i32; LANES]; SUBS / 2],
    d: [f32; LANES],
    minus_dmin: [f32; LANES],
}

/// Two blocks of each of sixteen rows, one row in each lane.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
struct BlockPanel {
    codes: [[i32; LANES]; 16],
    d: [[f32; LANES]; 2],
    /// The min of each block, negated.
    minus_m: [[f32; LANES]; 2],
}

impl SuperPanel {
    /// Sets eight scales and eight mins from bytes, four to a word.
    #[inline(always)]
    fn set_eight<L: Lanes>(&mut self, l: L, scales: [L::Int; 2], mins: [L::Int; 2]) {
        put_pairs(l, &mut self.scales, scales);
        put_pairs(l, &mut self.mins, mins);
    }

    /// Spreads the scales of pairs to one in each word of 32 bits, with zero in the high half.
    #[inline(always)]
    fn split_scales<L: Lanes>(&mut self, l: L) {
        for two in (0..SUBS / 2).rev() {
            // SAFETY: arrays of 16 integers.
            unsafe {
                let pair = l.load_int(self.scales[two].as_ptr());
                l.store_int(self.scales[2 * two].as_mut_ptr(), l.low_words(pair, l.splat_int(0)));
                l.store_int(self.scales[2 * two + 1].as_mut_ptr(), l.shr_halves::<16, 16>(pair));
            }
        }
    }
}

/// Widens eight bytes of each lane (four to a word) to pairs of 16-bit words.
#[inline(always)]
fn put_pairs<L: Lanes>(l: L, to: &mut [[i32; LANES]], bytes: [L::Int; 2]) {
    let mut words = [[0; LANES]; 2];
    for (words, vector) in words.iter_mut().zip(bytes) {
        // SAFETY: an array of 16 integers.
        unsafe { l.store_int(words.as_mut_ptr(), vector) };
    }
    for (two, pairs) in to[..4].iter_mut().enumerate() {
        for (pair, word) in pairs.iter_mut().zip(words[two / 2]) {
            let bytes = word >> (16 * (two % 2));
            *pair = bytes & 0xff | (bytes & 0xff00) << 8;
        }
    }
}

impl Default for SuperPanel {
    fn default() -> Self {
        let (zeros, floats) = ([0; LANES], [0.0; LANES]);
        Self { codes: [zeros; 64], scales: [zeros; SUBS], mins: [zeros; SUBS / 2], d: floats, minus_dmin: floats }
    }
}

/// `out[token][row] = weights[row] . x[token]` for a range of rows: `out` is `[tokens, stride]`, with room for whole
/// groups of tokens, and for whole vectors of rows in each of its rows.
pub(super) struct PanelProduct<'a> {
    pub(super) weights: &'a Matrix,
    pub(super) rows: Range<usize>,
    pub(super) x: &'a Groups,
    pub(super) out: &'a mut [f32],
    pub(super) stride: usize,
    pub(super) ahead: ReadAhead<'a>,
}

impl PanelProduct<'_> {
    /// Computes it, on an instruction set with vectors.
    pub(super) fn run(self, isa: Isa) {
        formats::view(self.weights.ty(), OnIsa { isa, product: self });
    }
}

/// A product on an instruction set.
struct OnIsa<'a> {
    isa: Isa,
    product: PanelProduct<'a>,
}

impl ViewVisitor for OnIsa<'_> {
    type Output = ();

    fn super_blocks<F: SuperBlockFormat>(self) {
        self.product.slabs::<SuperBlocks<F>>(self.isa);
    }

    fn blocks<F: BlockFormat>(self) {
        self.product.slabs::<Blocks<F>>(self.isa);
    }

    fn long_blocks<F: LongBlockFormat>(self) {
        self.product.slabs::<LongBlocks<F>>(self.isa);
    }

    fn floats<F: FloatFormat>(self) {
        unreachable!("{} is multiplied as floats", F::TY)
    }

    fn decoded<F: Format>(self) {
        unreachable!("{} is multiplied as floats", F::TY)
    }
}

/// How the blocks of a format are decoded to panels.
trait Decode {
    /// What they are decoded to.
    type Panels: Panels;
    /// Bytes of a row that a panel takes; the last of a row may take fewer.
    const BYTES: usize;

    /// Decodes a panel's blocks of sixteen rows. Missing rows are left uninitialized. With `split_scales`, scales that fit
    /// 16 bits are one to a word, otherwise two.
    /// Returns whether every factor is in range for [`powers`].
    fn decode<L: Lanes>(l: L, rows: [Option<&[u8]>; LANES], to: &mut Panel<Self>, split_scales: bool) -> bool;
}

/// The panels of a format.
type Panel<D> = <<D as Decode>::Panels as Panels>::Panel;

/// How the panels of formats with one shape are multiplied.
trait Panels {
    /// Some blocks of sixteen rows.
    type Panel: Copy + Default + 'static;
    /// Blocks of input that a panel is multiplied with; the last of a row may have fewer.
    const BLOCKS: usize;
    /// The form of input that the formats need.
    const INPUT: Input;
    /// Whether scales of the input may be applied as powers of two, see [`powers`].
    const POWERS: bool;

    /// The panels of this thread, which are used again by the next task.
    fn kept() -> &'static LocalKey<RefCell<Vec<Self::Panel>>>;

    /// Adds the products of `panels` with `TOKENS` tokens of `x` from `token` on to `sums`. With `POWERS`, scales are applied as
    /// powers of two, otherwise by multiplication.
    ///
    /// # Safety
    /// `x` must have as many blocks as the panels, `token + TOKENS` must be at most [`GROUP`], and `sums` must
    /// have a vector for each token.
    unsafe fn multiply<L: Lanes, const POWERS: bool, const TOKENS: usize>(
        l: L,
        panels: &[Self::Panel],
        x: Group<'_>,
        token: usize,
        sums: Sums,
    );
}

/// Some columns of all rows of a product.
#[derive(Clone, Copy)]
struct Slab {
    /// Stripes of sixteen rows.
    stripes: usize,
    /// Panels of a stripe for which there is room.
    most: usize,
    /// The first block of input, and the number of these blocks.
    first: usize,
    blocks: usize,
}

/// Decodes a slab. Returns a bit for each stripe that has a factor out of range for powers.
struct DecodeSlab<'a, 'b, D: Decode> {
    product: &'a PanelProduct<'b>,
    slab: Slab,
    split_scales: bool,
    /// The bytes to prefetch.
    next: *const u8,
    to: &'a mut [Panel<D>],
}

impl<D: Decode> Kernel for DecodeSlab<'_, '_, D> {
    type Output = u32;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> u32 {
        let (Slab { stripes, most, first, blocks }, mut next) = (self.slab, self.next);
        let row_bytes = self.product.weights.row_bytes();
        let mut out_of_range = 0u32;
        assert!(stripes <= u32::BITS as usize);
        for (stripe, panels) in self.to.chunks_exact_mut(most).enumerate().take(stripes) {
            let count = blocks.div_ceil(D::Panels::BLOCKS);
            for (nth, panel) in (first / D::Panels::BLOCKS..).zip(&mut panels[..count]) {
                let at = nth * D::BYTES;
                let len = D::BYTES.min(row_bytes - at);
                l.fetch(next, LANES * len);
                next = next.wrapping_add(LANES * len);
                let rows = self.product.rows_at(stripe, at, len);
                let in_range = D::decode(l, rows, panel, self.split_scales);
                out_of_range |= u32::from(!in_range) << stripe;
            }
        }
        out_of_range
    }
}

/// Multiplies a slab with all tokens.
struct MultiplySlab<'a, P: Panels> {
    slab: Slab,
    panels: &'a [P::Panel],
    x: &'a Groups,
    out_of_range: u32,
    out: &'a mut [f32],
    stride: usize,
}

impl<P: Panels> Kernel for MultiplySlab<'_, P> {
    type Output = ();
    const DOT_PRODUCTS: bool = true;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Slab { stripes, most, first, blocks } = self.slab;
        let (count, groups) = (blocks.div_ceil(P::BLOCKS), self.x.count());
        assert!(stripes * LANES <= self.stride && groups * GROUP * self.stride <= self.out.len());
        for (group, sums) in self.out.chunks_exact_mut(GROUP * self.stride).enumerate().take(groups) {
            let x = self.x.blocks(group, first, blocks);
            for (stripe, panels) in self.panels.chunks_exact(most).enumerate().take(stripes) {
                let mut sums = Sums::new(&mut sums[stripe * LANES..], self.stride, first == 0);
                if L::ADDS_BITS && P::POWERS && x.in_powers && self.out_of_range >> stripe & 1 == 0 {
                    // SAFETY: `x` has the panels' blocks, and these are all tokens of a group, with room for each.
                    unsafe { P::multiply::<L, true, GROUP>(l, &panels[..count], x, 0, sums) };
                } else if L::WIDE {
                    // SAFETY: as above.
                    unsafe { P::multiply::<L, false, GROUP>(l, &panels[..count], x, 0, sums) };
                } else {
                    for token in (0..GROUP).step_by(2) {
                        // SAFETY: `x` has the panels' blocks, and these are two tokens of a group, with room for each.
                        unsafe { P::multiply::<L, false, 2>(l, &panels[..count], x, token, sums) };
                        sums = sums.after(2);
                    }
                }
            }
        }
    }
}

/// Prefetches bytes.
struct Fetch<'a>(&'a [u8]);

impl Kernel for Fetch<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        l.fetch(self.0.as_ptr(), self.0.len());
    }
}

impl PanelProduct<'_> {
    fn slabs<D: Decode>(mut self, isa: Isa) {
        let (blocks_of_panel, len) = (D::Panels::BLOCKS, D::Panels::INPUT.block_len());
        // Blocks of a row of input, and panels of a slab.
        let (all, most) = (self.weights.cols() / len, SLAB / (len * blocks_of_panel));
        let stripes = self.rows.len().div_ceil(LANES);
        let mut kept = D::Panels::kept().take();
        if kept.len() < stripes * most {
            kept.resize(stripes * most, Default::default());
        }
        if self.ahead.cold {
            let own = self.weights.bytes_from(self.rows.start);
            isa.run(Fetch(&own[..self.rows.len() * self.weights.row_bytes()]));
        }
        let split_scales = !isa.adds_pairs();
        let mut next = self.ahead.then.as_ptr();
        let out = std::mem::take(&mut self.out);
        for first in (0..all).step_by(most * blocks_of_panel) {
            let blocks = (most * blocks_of_panel).min(all - first);
            let slab = Slab { stripes, most, first, blocks };
            let decode = DecodeSlab::<D> { product: &self, slab, split_scales, next, to: &mut kept };
            let out_of_range = isa.run_or(decode, |_| unreachable!("{isa} has no panels"));
            next = next.wrapping_add(stripes * LANES * blocks.div_ceil(blocks_of_panel) * D::BYTES);
            let (panels, x, out, stride) = (&*kept, self.x, &mut *out, self.stride);
            let multiply = MultiplySlab::<D::Panels> { slab, panels, x, out_of_range, out, stride };
            isa.run_or(multiply, |_| unreachable!("{isa} has no panels"));
        }
        D::Panels::kept().set(kept);
    }

    /// `len` bytes from byte `at` on of each of sixteen rows.
    #[inline(always)]
    fn rows_at(&self, stripe: usize, at: usize, len: usize) -> [Option<&[u8]>; LANES] {
        let (bytes, row_bytes) = (self.weights.bytes(), self.weights.row_bytes());
        let mut rows = [None; LANES];
        for (row, to) in (self.rows.start + stripe * LANES..self.rows.end).zip(&mut rows) {
            *to = Some(&bytes[row * row_bytes + at..][..len]);
        }
        rows
    }
}

/// The sums of tokens in memory, one vector for each token: where they are read from and written to.
#[derive(Clone, Copy)]
struct Sums {
    /// The sums so far.
    from: *const f32,
    /// Distance from one token to the next, in floats.
    from_stride: usize,
    to: *mut f32,
    stride: usize,
}

impl Sums {
    /// Sums in `sums`, which are read from there or start at zero.
    #[inline(always)]
    fn new(sums: &mut [f32], stride: usize, zero: bool) -> Self {
        static ZEROS: [f32; LANES] = [0.0; LANES];
        let to = sums.as_mut_ptr();
        let (from, from_stride) = if zero { (ZEROS.as_ptr(), 0) } else { (to.cast_const(), stride) };
        Self { from, from_stride, to, stride }
    }

    /// The sums of the tokens from `tokens` on.
    #[inline(always)]
    fn after(self, tokens: usize) -> Self {
        let (from, to) =
            (self.from.wrapping_add(tokens * self.from_stride), self.to.wrapping_add(tokens * self.stride));
        Self { from, to, ..self }
    }

    /// The same sums after they have been stored: they are read from where they were written.
    #[inline(always)]
    fn stored(self) -> Self {
        Self { from: self.to, from_stride: self.stride, ..self }
    }

    /// # Safety
    /// There must be a vector for token `t`.
    #[inline(always)]
    unsafe fn load<L: Lanes>(self, l: L, t: usize) -> L::Float {
        // SAFETY: the caller vouches for it.
        unsafe { l.load(self.from.add(t * self.from_stride)) }
    }

    /// # Safety
    /// As [`Self::load`].
    #[inline(always)]
    unsafe fn store<L: Lanes>(self, l: L, t: usize, sum: L::Float) {
        // SAFETY: the caller vouches for it.
        unsafe { l.store(self.to.add(t * self.stride), sum) }
    }
}

/// `N` vectors of zeros.
#[inline(always)]
fn nothing<L: Lanes, const N: usize>(l: L) -> [L::Int; N] {
    [l.splat_int(0); N]
}

/// The products of `VECTORS` vectors of codes, less the code `zero`, with words of columns; no code exceeds `greatest`.
///
/// # Safety
/// `codes` must have so many vectors, `x` the words of a group for each of them, and `minus_sums` a word for each token unless `zero` is
/// 0: all from this product's first token on.
#[inline(always)]
unsafe fn multiply_words<L: Lanes, const VECTORS: usize, const TOKENS: usize>(
    l: L,
    (zero, greatest): (i16, usize),
    codes: *const [i32; LANES],
    x: *const i32,
    minus_sums: *const i32,
) -> [L::Int; TOKENS] {
    let centered = greatest > 127 && L::CENTERS_BYTES;
    // SAFETY: the caller vouches for so many vectors and words.
    unsafe {
        let mut products = if centered { nothing(l) } else { zeros::<L, TOKENS>(l, zero, minus_sums) };
        l.dot_vectors::<VECTORS, TOKENS>(greatest, &mut products, codes, x, GROUP);
        products
    }
}

/// The contribution of the zero point `zero` to the products of tokens, computed from the negative sums of their codes.
///
/// # Safety
/// `sums` must have a word for each token unless `zero` is 0.
#[inline(always)]
unsafe fn zeros<L: Lanes, const TOKENS: usize>(l: L, zero: i16, sums: *const i32) -> [L::Int; TOKENS] {
    let mut products = nothing(l);
    if zero == 0 {
        return products;
    }
    for t in 0..TOKENS {
        // SAFETY: the caller vouches for the words.
        let sum = unsafe { l.splat_at(sums.add(t)) };
        products[t] = match zero {
            1 => sum,
            4 => l.shl_int::<2>(sum),
            8 => l.shl_int::<3>(sum),
            16 => l.shl_int::<4>(sum),
            32 => l.shl_int::<5>(sum),
            64 => l.shl_int::<6>(sum),
            128 => l.shl_int::<7>(sum),
            _ => l.mul_int(sum, l.splat_int(zero.into())),
        };
    }
    products
}

/// The position of word `word` of a super-block in the vectors of shape `S`.
#[inline(always)]
fn word_position<S: SuperBlockShape>(word: usize) -> usize {
    let places = const {
        let mut places = [0; 8];
        let mut at = 0;
        while at < 8 {
            places[S::HALVES[at / 2][at % 2]] = at;
            at += 1;
        }
        places
    };
    8 * places[word / 8] + word % 8
}

/// The super-blocks of format `F`.
struct SuperBlocks<F>(PhantomData<F>);

/// The super-blocks of shape `S`.
struct SuperPanels<S>(PhantomData<S>);

thread_local! {
    static SUPER_PANELS: RefCell<Vec<SuperPanel>> = const { RefCell::new(Vec::new()) };
    static BLOCK_PANELS: RefCell<Vec<BlockPanel>> = const { RefCell::new(Vec::new()) };
}

impl<F: SuperBlockFormat> Decode for SuperBlocks<F> {
    type Panels = SuperPanels<F::Shape>;
    const BYTES: usize = F::BYTES;

    #[inline(always)]
    fn decode<L: Lanes>(l: L, rows: [Option<&[u8]>; LANES], to: &mut SuperPanel, split_scales: bool) -> bool {
        let mut blocks = [rows[0].map_or(std::ptr::null(), <[u8]>::as_ptr); LANES];
        let mut subs = [[0; LANES]; LANES];
        let mut wide = [[0; SUBS]; LANES];
        for (lane, row) in rows.into_iter().enumerate() {
            let Some(row) = row else { continue };
            blocks[lane] = row.as_ptr();
            for (words, codes) in to.codes.as_chunks_mut::<LANES>().0.iter_mut().zip(F::codes(l, row)) {
                // SAFETY: an array of 16 integers.
                unsafe { l.store_int(words[lane].as_mut_ptr(), codes) };
            }
            if F::Shape::SUB_LEN == 32 {
                continue;
            }
            let sub = F::scales(l, row);
            if F::Shape::WIDE_SUMS {
                wide[lane] = sub.scales;
                continue;
            }
            let pairs = sub.scales.as_chunks::<2>().0.iter().chain(sub.offsets.as_chunks::<2>().0);
            for (to, [a, b]) in subs[lane].iter_mut().zip(pairs) {
                *to = pair(*a, *b);
            }
        }
        for words in to.codes.as_chunks_mut::<LANES>().0 {
            l.transpose_words(words);
        }
        if F::Shape::WIDE_SUMS {
            for (scales, lane) in wide.iter().zip(0..) {
                for (to, scale) in to.scales.iter_mut().zip(scales) {
                    to[lane] = i32::from(*scale);
                }
            }
        }
        // SAFETY: every row is a whole block, and missing ones are the first.
        let [d, dmin] = unsafe {
            if F::Shape::SUB_LEN == 32 {
                let Heads { factors, scales, mins } = Heads::of(l, &blocks);
                to.set_eight(l, scales, mins);
                factors
            } else {
                if !F::Shape::WIDE_SUMS {
                    l.transpose_words(&mut subs);
                    to.scales[..SUBS / 2].copy_from_slice(&subs[..SUBS / 2]);
                    to.mins.copy_from_slice(&subs[SUBS / 2..]);
                }
                F::factors(l, &blocks)
            }
        };
        if split_scales && !F::Shape::WIDE_SUMS {
            to.split_scales(l);
        }
        to.d = l.to_array(d);
        if F::Shape::MINS {
            to.minus_dmin = l.to_array(l.sub(l.splat(0.0), dmin));
        }
        false
    }
}

impl<S: SuperBlockShape> Panels for SuperPanels<S> {
    type Panel = SuperPanel;
    const BLOCKS: usize = 1;
    const INPUT: Input = Input::SuperBlocks;
    // With one scale for 256 products, powers gain nothing.
    const POWERS: bool = false;

    fn kept() -> &'static LocalKey<RefCell<Vec<SuperPanel>>> {
        &SUPER_PANELS
    }

    #[inline(always)]
    unsafe fn multiply<L: Lanes, const POWERS: bool, const TOKENS: usize>(
        l: L,
        panels: &[SuperPanel],
        x: Group<'_>,
        token: usize,
        mut sums: Sums,
    ) {
        for (b, panel) in panels.iter().enumerate() {
            // SAFETY: `x` has as many blocks as the panels, with 64 words and 16 sums for each of the group's tokens.
            let (codes, code_sums) = unsafe {
                (x.codes.as_ptr().add(b * 64 * GROUP + token), x.sums.as_ptr().add(b * SUBS * GROUP + token))
            };
            let scales = x.scales[b][token..].as_ptr();
            let mut products = nothing::<L, TOKENS>(l);
            // SAFETY: arrays of 16 integers; a super-block has the words and sums of its sub-blocks.
            unsafe {
                if S::WIDE_SUMS {
                    for (sub, scale) in panel.scales.iter().enumerate() {
                        let dots = dot_sub_block::<L, S, TOKENS>(l, panel, codes, code_sums, sub);
                        let scale = l.load_int(scale.as_ptr());
                        for t in 0..TOKENS {
                            products[t] = l.add_int(products[t], l.mul_int(dots[t], scale));
                        }
                    }
                } else if L::ADDS_PAIRS {
                    for (two, scales) in panel.scales[..128 / S::SUB_LEN].iter().enumerate() {
                        let first = dot_sub_block::<L, S, TOKENS>(l, panel, codes, code_sums, 2 * two);
                        let second = dot_sub_block::<L, S, TOKENS>(l, panel, codes, code_sums, 2 * two + 1);
                        let scales = l.load_int(scales.as_ptr());
                        for t in 0..TOKENS {
                            products[t] = l.dot_pairs(products[t], l.low_words(first[t], second[t]), scales);
                        }
                    }
                } else {
                    for (sub, scale) in panel.scales[..256 / S::SUB_LEN].iter().enumerate() {
                        let dots = dot_sub_block::<L, S, TOKENS>(l, panel, codes, code_sums, sub);
                        let scale = l.load_int(scale.as_ptr());
                        for t in 0..TOKENS {
                            products[t] = l.add_low_product(products[t], dots[t], scale);
                        }
                    }
                }
            }
            let d = l.array(&panel.d);
            if S::MINS {
                let mut terms = [l.splat(0.0); TOKENS];
                for t in 0..TOKENS {
                    terms[t] = l.mul(d, l.int_to_float(products[t]));
                }
                let pairs = if S::SUB_LEN == 32 { x.pairs_of_32 } else { x.pairs_of_16 };
                let count = 128 / S::SUB_LEN;
                let pairs = pairs[b * count * GROUP + token..].as_ptr();
                let mut products = nothing::<L, TOKENS>(l);
                for (j, mins) in panel.mins[..count].iter().enumerate() {
                    // SAFETY: an array of 16 integers; a group has a word for each of its tokens.
                    unsafe {
                        let mins = l.load_int(mins.as_ptr());
                        l.dot_pairs_each(&mut products, mins, pairs.add(j * GROUP));
                    }
                }
                let minus_dmin = l.array(&panel.minus_dmin);
                for t in 0..TOKENS {
                    let term = l.mul_add(minus_dmin, l.int_to_float(products[t]), terms[t]);
                    // SAFETY: the caller vouches for the tokens.
                    unsafe { sums.store(l, t, l.mul_add(term, l.splat(*scales.add(t)), sums.load(l, t))) };
                }
            } else {
                for t in 0..TOKENS {
                    // SAFETY: the caller vouches for the tokens.
                    unsafe {
                        let factor = l.mul(d, l.splat(*scales.add(t)));
                        sums.store(l, t, l.mul_add(factor, l.int_to_float(products[t]), sums.load(l, t)));
                    }
                }
            }
            sums = sums.stored();
        }
    }
}

/// The products of the codes of sub-block `sub` with tokens.
///
/// # Safety
/// `x` and `sums` must be the words and the negative sums of a group's super-block, from this product's first token on.
#[inline(always)]
unsafe fn dot_sub_block<L: Lanes, S: SuperBlockShape, const TOKENS: usize>(
    l: L,
    panel: &SuperPanel,
    x: *const i32,
    sums: *const i32,
    sub: usize,
) -> [L::Int; TOKENS] {
    let word = sub * S::SUB_LEN / 4;
    let (w, x) = (panel.codes[word_position::<S>(word)..].as_ptr(), x.wrapping_add(word * GROUP));
    // SAFETY: a sub-block has four or eight words, in the panel and in the group. Where there is a zero point, there are 16.
    unsafe {
        let sums = sums.wrapping_add(sub * GROUP);
        if S::SUB_LEN == 32 {
            multiply_words::<L, 8, TOKENS>(l, (S::ZERO, S::GREATEST), w, x, sums)
        } else {
            multiply_words::<L, 4, TOKENS>(l, (S::ZERO, S::GREATEST), w, x, sums)
        }
    }
}

/// The blocks of format `F`.
struct Blocks<F>(PhantomData<F>);

/// The blocks of shape `S`.
struct BlockPanels<S>(PhantomData<S>);

impl<F: BlockFormat> Decode for Blocks<F> {
    type Panels = BlockPanels<F::Shape>;
    const BYTES: usize = 2 * F::BYTES;

    #[inline(always)]
    fn decode<L: Lanes>(l: L, rows: [Option<&[u8]>; LANES], to: &mut BlockPanel, _: bool) -> bool {
        let mut blocks = [[rows[0].map_or(std::ptr::null(), <[u8]>::as_ptr); LANES]; 2];
        for (lane, row) in rows.into_iter().enumerate() {
            let Some(row) = row else { continue };
            // The last block of a row with an odd number of blocks is paired with itself.
            let two = [&row[..F::BYTES], &row[row.len() - F::BYTES..]];
            // SAFETY: an array of 16 integers.
            unsafe { l.store_int(to.codes[lane].as_mut_ptr(), F::codes(l, two)) };
            (blocks[0][lane], blocks[1][lane]) = (two[0].as_ptr(), two[1].as_ptr());
        }
        l.transpose_words(&mut to.codes);
        let mut powers = true;
        for (half, blocks) in blocks.iter().enumerate() {
            // SAFETY: every block has four bytes, and missing ones are the first.
            let [d, m] = F::factors(l, unsafe { l.words_at(blocks) });
            to.d[half] = l.to_array(d);
            powers &= powers::in_range(l, d);
            if F::Shape::OFFSET {
                to.minus_m[half] = l.to_array(l.sub(l.splat(0.0), m));
                powers &= powers::in_range(l, m);
            }
        }
        powers
    }
}

impl<S: BlockShape> Panels for BlockPanels<S> {
    type Panel = BlockPanel;
    const BLOCKS: usize = 2;
    const INPUT: Input = Input::Blocks;
    const POWERS: bool = true;

    fn kept() -> &'static LocalKey<RefCell<Vec<BlockPanel>>> {
        &BLOCK_PANELS
    }

    #[inline(always)]
    unsafe fn multiply<L: Lanes, const POWERS: bool, const TOKENS: usize>(
        l: L,
        panels: &[BlockPanel],
        x: Group<'_>,
        token: usize,
        sums: Sums,
    ) {
        let mut totals = [l.splat(0.0); TOKENS];
        for t in 0..TOKENS {
            // SAFETY: the caller vouches for the sums.
            totals[t] = unsafe { sums.load(l, t) };
        }
        for b in 0..x.scales.len() {
            let (panel, half) = (&panels[b / 2], b % 2);
            // SAFETY: `x` has 8 words and a sum for each of the group's tokens in a block.
            let (codes, code_sums, scales) = unsafe {
                let codes = x.codes.as_ptr().add(b * 8 * GROUP + token);
                (codes, x.sums.as_ptr().add(b * GROUP + token), x.scales.get_unchecked(b))
            };
            let powers = if POWERS { x.powers[b] } else { [[0; GROUP]; 2] };
            let w = panel.codes[8 * half..].as_ptr();
            // SAFETY: a block has eight words, in the panel and in the group.
            let products = unsafe { multiply_words::<L, 8, TOKENS>(l, (S::ZERO, S::GREATEST), w, codes, code_sums) };
            let (d, minus_m) = (l.array(&panel.d[half]), l.array(&panel.minus_m[half]));
            for t in 0..TOKENS {
                let words = [powers[0][token + t], powers[1][token + t]];
                let scale = scales[token + t];
                let factor = if POWERS { powers::multiply(l, d, words) } else { l.mul(d, l.splat(scale)) };
                totals[t] = l.mul_add(factor, l.int_to_float(products[t]), totals[t]);
                if S::OFFSET {
                    // SAFETY: as above.
                    let sum = l.int_to_float(l.splat_int(unsafe { *code_sums.add(t) }));
                    let factor =
                        if POWERS { powers::multiply(l, minus_m, words) } else { l.mul(minus_m, l.splat(scale)) };
                    totals[t] = l.mul_add(factor, sum, totals[t]);
                }
            }
        }
        for t in 0..TOKENS {
            // SAFETY: as above.
            unsafe { sums.store(l, t, totals[t]) };
        }
    }
}
