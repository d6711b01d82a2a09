//! Panels of long blocks.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::thread::LocalKey;

use super::{Decode, Panels, Sums, multiply_words};
use crate::formats::view::{LongBlockFormat, LongBlockShape, PANEL_PARTS};
use crate::kernels::product::few::add_two;
use crate::kernels::product::input::Input;
use crate::kernels::product::input::groups::{GROUP, Group, SUMS_OF_32};
use crate::simd::LANES;
use crate::simd::lanes::Lanes;

/// Two parts of 64 elements of each of sixteen rows, one row in each lane.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
pub(super) struct LongPanel {
    codes: [[[i32; LANES]; LANES]; PANEL_PARTS],
    /// For each part, the factors of each 16 elements.
    factors: [[[f32; LANES]; 4]; PANEL_PARTS],
}

thread_local! {
    static LONG_PANELS: RefCell<Vec<LongPanel>> = const { RefCell::new(Vec::new()) };
}

/// The long blocks of format `F`.
pub(super) struct LongBlocks<F>(PhantomData<F>);

/// The long blocks of shape `S`.
pub(super) struct LongPanels<S>(PhantomData<S>);

impl<F: LongBlockFormat> Decode for LongBlocks<F> {
    type Panels = LongPanels<F::Shape>;
    const BYTES: usize = PANEL_PARTS / F::PARTS * F::BYTES;

    #[inline(always)]
    fn decode<L: Lanes>(l: L, rows: [Option<&[u8]>; LANES], to: &mut LongPanel, _: bool) -> bool {
        let len = rows[0].map_or(0, <[u8]>::len);
        let parts = len / F::BYTES * F::PARTS;
        for part in 0..parts {
            let at = part / F::PARTS * F::BYTES;
            let mut blocks = [rows[0].map_or(std::ptr::null(), |row| row[at..].as_ptr()); LANES];
            for (lane, row) in rows.into_iter().enumerate() {
                let Some(row) = row else { continue };
                let block = &row[at..at + F::BYTES];
                blocks[lane] = block.as_ptr();
                let codes = F::codes(l, block, part % F::PARTS);
                // SAFETY: an array of 16 integers.
                unsafe { l.store_int(to.codes[part][lane].as_mut_ptr(), codes) };
            }
            l.transpose_words(&mut to.codes[part]);
            // SAFETY: every block has four bytes, and missing ones are the first.
            to.factors[part] = F::factors(l, unsafe { l.words_at(&blocks) }).map(|factors| l.to_array(factors));
        }
        false
    }
}

impl<S: LongBlockShape> Panels for LongPanels<S> {
    type Panel = LongPanel;
    const BLOCKS: usize = 2 * PANEL_PARTS;
    const INPUT: Input = Input::LongBlocks;
    const POWERS: bool = false;

    fn kept() -> &'static LocalKey<RefCell<Vec<LongPanel>>> {
        &LONG_PANELS
    }

    #[inline(always)]
    unsafe fn multiply<L: Lanes, const POWERS: bool, const TOKENS: usize>(
        l: L,
        panels: &[LongPanel],
        x: Group<'_>,
        token: usize,
        sums: Sums,
    ) {
        let mut totals = [l.splat(0.0); TOKENS];
        for t in 0..TOKENS {
            // SAFETY: the caller vouches for the sums.
            totals[t] = unsafe { sums.load(l, t) };
        }
        let range = (S::ZERO, S::GREATEST);
        for (b, scales) in x.scales.iter().enumerate() {
            let (panel, part, half) = (&panels[b / 4], b / 2 % 2, b % 2);
            let w = panel.codes[part][8 * half..].as_ptr();
            let factors = [&panel.factors[part][2 * half], &panel.factors[part][2 * half + 1]].map(|d| l.array(d));
            // SAFETY: `x` has 8 words and three sums for each of the group's tokens in a block, the panel 8 words.
            unsafe {
                let codes = x.codes.as_ptr().add(b * 8 * GROUP + token);
                let code_sums = x.sums.as_ptr().add(b * SUMS_OF_32 * GROUP + token);
                if S::SCALES_OF_16 {
                    let first = multiply_words::<L, 4, TOKENS>(l, range, w, codes, code_sums);
                    let (w, codes, code_sums) = (w.add(4), codes.add(4 * GROUP), code_sums.add(GROUP));
                    let second = multiply_words::<L, 4, TOKENS>(l, range, w, codes, code_sums);
                    for t in 0..TOKENS {
                        let scale = l.splat(scales[token + t]);
                        totals[t] = add_two(l, totals[t], [first[t], second[t]], factors, scale);
                    }
                } else {
                    let products = multiply_words::<L, 8, TOKENS>(l, range, w, codes, code_sums.add(2 * GROUP));
                    for t in 0..TOKENS {
                        let factor = l.mul(factors[0], l.splat(scales[token + t]));
                        totals[t] = l.mul_add(factor, l.int_to_float(products[t]), totals[t]);
                    }
                }
            }
        }
        for t in 0..TOKENS {
            // SAFETY: as above.
            unsafe { sums.store(l, t, totals[t]) };
        }
    }
}
