//! The input of a product with many tokens, in groups of eight tokens whose words are interleaved. One pointer walks all
//! tokens of a group, and each word is broadcast to the lanes of a vector of weight rows.

use super::{Input, Quantized, Row};
use crate::kernels::Pool;
use crate::kernels::lines::Number;
use crate::kernels::product::powers;
use crate::kernels::scratch::{List, Scratch};
use crate::simd::Isa;
use crate::simd::lanes::{Kernel, Lanes};

/// Tokens of a group.
pub(in crate::kernels::product) const GROUP: usize = 8;

/// Words of sums of 32 elements for long blocks.
pub(in crate::kernels::product) const SUMS_OF_32: usize = 3;

/// Quantized rows of tokens in groups; the last group is padded with zeros.
///
/// Each array is `[group, block, words of a block, GROUP]`.
pub(in crate::kernels::product) struct Groups {
    /// Tokens without padding.
    tokens: usize,
    blocks: usize,
    /// Codes, four to a word.
    codes: Words<i32>,
    /// Scales, one for each block.
    scales: Words<f32>,
    /// Scales of blocks as powers of two: two words for each block, see [`powers`]. Only for instruction sets with `ADDS_BITS`.
    powers: Words<i32>,
    /// For each group, whether all its scales are in range for powers (1) or not (0).
    in_powers: Scratch<u8>,
    /// Negative sums of the codes of each block, or of each 16 codes of a super-block. For long blocks three words: the sums of
    /// the first and the second 16 codes, and of all 32.
    sums: Words<i32>,
    /// For super-blocks: sums of 16 codes, two to a word.
    pairs_of_16: Words<i32>,
    /// For super-blocks: sums of 32 codes, two to a word.
    pairs_of_32: Words<i32>,
}

/// A number of words of each block, for all tokens.
struct Words<T: Number> {
    a_block: usize,
    words: Scratch<T>,
}

impl<T: Number> Words<T> {
    fn new(a_block: usize, blocks: usize) -> Self {
        Self { a_block, words: Scratch::new(a_block * blocks * GROUP) }
    }

    /// The words of each group, for rows of `blocks` blocks.
    fn groups(&mut self, blocks: usize) -> impl Iterator<Item = &mut [T]> {
        self.words.chunks_mut((self.a_block * blocks * GROUP).max(1))
    }

    /// `count` blocks from block `first` on.
    fn blocks(&self, first: usize, count: usize) -> &[T] {
        &self.words[first * self.a_block * GROUP..][..count * self.a_block * GROUP]
    }
}

/// The input of one group for some consecutive blocks.
#[derive(Clone, Copy)]
pub(in crate::kernels::product) struct Group<'a> {
    pub(in crate::kernels::product) codes: &'a [i32],
    pub(in crate::kernels::product) scales: &'a [[f32; GROUP]],
    pub(in crate::kernels::product) powers: &'a [[[i32; GROUP]; 2]],
    pub(in crate::kernels::product) in_powers: bool,
    pub(in crate::kernels::product) sums: &'a [i32],
    pub(in crate::kernels::product) pairs_of_16: &'a [i32],
    pub(in crate::kernels::product) pairs_of_32: &'a [i32],
}

/// The rows from which groups are made.
#[derive(Clone, Copy)]
pub(in crate::kernels::product) enum Source<'a> {
    /// Rows of floats, which are quantized first.
    Floats(&'a [f32]),
    /// The listed rows of an input that is quantized already.
    Codes(&'a Quantized, &'a [u32]),
}

impl<'a> Source<'a> {
    /// Number of rows of `cols` elements.
    fn len(self, cols: usize) -> usize {
        match self {
            Self::Floats(x) => x.len() / cols,
            Self::Codes(_, rows) => rows.len(),
        }
    }

    /// Row `i` of `cols` elements, quantized into `place` if necessary.
    fn row<'b>(self, i: usize, cols: usize, input: Input, isa: Isa, place: &'b mut Quantized) -> Row<'b>
    where
        'a: 'b,
    {
        match self {
            Self::Floats(x) => {
                place.quantize(isa, &x[i * cols..][..cols], input);
                place.row(0, cols)
            }
            Self::Codes(x, rows) => x.row(rows[i] as usize, cols),
        }
    }
}

impl Groups {
    /// The rows of `source`, of `cols` elements, in the form `input`.
    pub(in crate::kernels::product) fn new(pool: &Pool, source: Source<'_>, input: Input, cols: usize) -> Self {
        let tokens = source.len(cols);
        let len = input.block_len();
        let blocks = cols / len;
        let count = tokens.div_ceil(GROUP);
        let (sums, pairs_of_16, pairs_of_32) = match input {
            Input::SuperBlocks => (16, 8, 4),
            Input::LongBlocks => (SUMS_OF_32, 0, 0),
            _ => (1, 0, 0),
        };
        let powers = if input == Input::Blocks && pool.isa().run(AddsBits) { 2 } else { 0 };
        let all = count * blocks;
        let mut groups = Self {
            tokens,
            blocks,
            codes: Words::new(len / 4, all),
            scales: Words::new(1, all),
            powers: Words::new(powers, all),
            in_powers: Scratch::zeros(count),
            sums: Words::new(sums, all),
            pairs_of_16: Words::new(pairs_of_16, all),
            pairs_of_32: Words::new(pairs_of_32, all),
        };
        let mut parts: List<_> = groups
            .codes
            .groups(blocks)
            .zip(groups.scales.groups(blocks))
            .zip(groups.sums.groups(blocks))
            .map(|((codes, scales), sums)| Part { codes, scales, sums, ..Part::default() })
            .collect();
        let powers = groups.powers.groups(blocks).zip(groups.in_powers.chunks_mut(1));
        for (part, (powers, in_powers)) in parts.iter_mut().zip(powers) {
            (part.powers, part.in_powers) = (powers, in_powers);
        }
        let pairs = groups.pairs_of_16.groups(blocks).zip(groups.pairs_of_32.groups(blocks));
        for (part, (pairs_of_16, pairs_of_32)) in parts.iter_mut().zip(pairs) {
            (part.pairs_of_16, part.pairs_of_32) = (pairs_of_16, pairs_of_32);
        }
        let blank = Quantized::zeros(cols, len);
        pool.run_over(parts.into_iter().enumerate(), &|(group, mut part): (usize, Part<'_>)| {
            let mut places: [Quantized; GROUP] = Default::default();
            let mut rows = [blank.row(0, cols); GROUP];
            for ((token, row), place) in (group * GROUP..tokens).zip(&mut rows).zip(&mut places) {
                *row = source.row(token, cols, input, pool.isa(), place);
            }
            part.put(&rows, input);
        });
        groups
    }

    /// Number of groups.
    pub(in crate::kernels::product) fn count(&self) -> usize {
        self.tokens.div_ceil(GROUP)
    }

    /// `count` blocks of a group from block `first` on.
    pub(in crate::kernels::product) fn blocks(&self, group: usize, first: usize, count: usize) -> Group<'_> {
        let first = group * self.blocks + first;
        Group {
            codes: self.codes.blocks(first, count),
            scales: self.scales.blocks(first, count).as_chunks().0,
            powers: self.powers.blocks(first, count).as_chunks().0.as_chunks().0,
            in_powers: self.in_powers[group] != 0,
            sums: self.sums.blocks(first, count),
            pairs_of_16: self.pairs_of_16.blocks(first, count),
            pairs_of_32: self.pairs_of_32.blocks(first, count),
        }
    }
}

/// Whether the instruction set applies scales as powers.
struct AddsBits;

impl Kernel for AddsBits {
    type Output = bool;
    const DOT_PRODUCTS: bool = true;

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) -> bool {
        L::ADDS_BITS
    }
}

/// One group while it is filled.
#[derive(Default)]
struct Part<'a> {
    codes: &'a mut [i32],
    scales: &'a mut [f32],
    powers: &'a mut [i32],
    in_powers: &'a mut [u8],
    sums: &'a mut [i32],
    pairs_of_16: &'a mut [i32],
    pairs_of_32: &'a mut [i32],
}

impl Part<'_> {
    /// Writes eight rows to the group.
    fn put(&mut self, rows: &[Row<'_>; GROUP], input: Input) {
        let sums = rows.map(|row| row.sums);
        let (twos, fours) = (sums.map(|sums| sums.as_chunks::<2>().0), sums.map(|sums| sums.as_chunks::<4>().0));
        put(self.codes, rows.map(|row| row.codes.as_chunks::<4>().0), |word| {
            i32::from_ne_bytes(word.map(i8::cast_unsigned))
        });
        put(self.scales, rows.map(|row| row.scales), |scale| *scale);
        match input {
            Input::SuperBlocks => {
                put(self.sums, sums, |sum| -i32::from(*sum));
                put(self.pairs_of_16, twos, |[a, b]| pair(*a, *b));
                put(self.pairs_of_32, fours, |[a, b, c, d]| pair(a + b, c + d));
            }
            Input::LongBlocks => {
                let to = self.sums.as_chunks_mut::<GROUP>().0.as_chunks_mut::<SUMS_OF_32>().0;
                for (i, to) in to.iter_mut().enumerate() {
                    for (t, two) in twos.iter().enumerate() {
                        let [a, b] = two[i].map(|sum| -i32::from(sum));
                        [to[0][t], to[1][t], to[2][t]] = [a, b, a + b];
                    }
                }
            }
            _ => {
                self.put_powers();
                put(self.sums, twos, |[a, b]| -i32::from(a + b));
            }
        }
    }

    /// Writes scales as powers.
    fn put_powers(&mut self) {
        let mut all = true;
        let powers = self.powers.as_chunks_mut::<GROUP>().0.as_chunks_mut::<2>().0;
        for (scales, [first, second]) in self.scales.as_chunks::<GROUP>().0.iter().zip(powers) {
            for (t, scale) in scales.iter().enumerate() {
                let (words, inside) = powers::words(*scale);
                [first[t], second[t]] = words;
                all &= inside;
            }
        }
        self.in_powers.fill(all.into());
    }
}

/// Interleaves the words of eight rows.
fn put<T, U>(to: &mut [T], rows: [&[U]; GROUP], word: impl Fn(&U) -> T) {
    let to = to.as_chunks_mut::<GROUP>().0;
    let rows = rows.map(|row| &row[..to.len()]);
    for (i, to) in to.iter_mut().enumerate() {
        for (to, row) in to.iter_mut().zip(rows) {
            *to = word(&row[i]);
        }
    }
}

/// Two words of 16 bits as one of 32, the first in its low half.
pub(in crate::kernels::product) fn pair(a: i16, b: i16) -> i32 {
    i32::from(a as u16) | i32::from(b) << 16
}
