//! Sixteen 32-bit lanes of integers: bytes and words of quantized weights, and their exact products.
//!
//! A vector is also 64 bytes in two halves of 32, or 32 words. Implementations live beside their instruction set;
//! that of [`super::scalar::Scalar`] is the reference.

#![allow(unsafe_code, reason = "vector loads and stores go through raw pointers")]

use super::LANES;

/// Which of 16 scales belongs to each word of a vector of 64 codes, with [`NO_HIGH_BYTE`].
pub(crate) type Spread = [u16; 32];
/// Of a word of a [`Spread`] as two indices of bytes: the high one is zero, whatever there is.
pub(crate) const NO_HIGH_BYTE: u16 = 0x8000;

/// An instruction set's way to work on sixteen `i32`. As with [`super::lanes::Lanes`], a value proves that the CPU has it,
/// and every method is meant to be inlined into a function that enables it.
pub(crate) trait Integers: Copy {
    /// Sixteen `i32`.
    type Int: Copy;
    /// Whether [`Self::dot_pairs`] is one instruction.
    const ADDS_PAIRS: bool = false;
    /// Whether [`Self::dot_vectors`] takes 128 from codes of eight bits, which are signed bytes then.
    const CENTERS_BYTES: bool = false;

    fn splat_int(self, x: i32) -> Self::Int;
    /// The word at `from` in all lanes, spread while it is loaded.
    ///
    /// # Safety
    /// `from` points to a word.
    #[inline(always)]
    unsafe fn splat_at(self, from: *const i32) -> Self::Int {
        // SAFETY: the caller vouches for the word.
        self.splat_int(unsafe { *from })
    }
    /// # Safety
    /// `from` points to 64 readable bytes.
    unsafe fn load_int(self, from: *const i32) -> Self::Int;
    /// # Safety
    /// `to` points to 64 writable bytes.
    unsafe fn store_int(self, to: *mut i32, x: Self::Int);
    /// 32 bytes and 32 others.
    ///
    /// # Safety
    /// Both point to as many readable bytes.
    unsafe fn join(self, low: *const u8, high: *const u8) -> Self::Int;
    /// 16 bytes from each place.
    ///
    /// # Safety
    /// All point to as many readable bytes.
    unsafe fn join_four(self, places: [*const u8; 4]) -> Self::Int;
    /// The low and the high nibbles of 16 bytes, and those of 16 others.
    ///
    /// # Safety
    /// Both point to as many readable bytes.
    unsafe fn nibbles(self, low: *const u8, high: *const u8) -> Self::Int;

    /// Of each eight of 32 bytes, the low nibbles and then the high ones.
    ///
    /// # Safety
    /// `from` points to as many readable bytes.
    #[inline(always)]
    unsafe fn nibbles_of_eights(self, from: *const u8) -> Self::Int {
        // SAFETY: the caller vouches for 32 bytes.
        let eights = unsafe { from.cast::<[[u8; 8]; 4]>().read() };
        let mut nibbles = [[[0_u8; 8]; 2]; 4];
        for (to, eight) in nibbles.iter_mut().zip(eights) {
            *to = [eight.map(|byte| byte & 15), eight.map(|byte| byte >> 4)];
        }
        // SAFETY: the array holds 64 bytes.
        unsafe { self.load_int(nibbles.as_ptr().cast()) }
    }

    /// Sixteen bytes, one to a lane.
    ///
    /// # Safety
    /// `from` points to as many readable bytes.
    #[inline(always)]
    unsafe fn lanes_of_bytes(self, from: *const u8) -> Self::Int {
        // SAFETY: the caller vouches for 16 bytes.
        let lanes = unsafe { from.cast::<[u8; LANES]>().read() }.map(i32::from);
        // SAFETY: the array holds 16 integers.
        unsafe { self.load_int(lanes.as_ptr()) }
    }

    /// Four bytes from each place.
    ///
    /// # Safety
    /// Each must have as many readable bytes.
    #[inline(always)]
    unsafe fn words_at(self, places: &[*const u8; LANES]) -> Self::Int {
        let mut words = [0; LANES];
        for (word, place) in words.iter_mut().zip(places) {
            // SAFETY: the caller vouches for it.
            *word = unsafe { place.cast::<i32>().read_unaligned() };
        }
        // SAFETY: the array holds 16 integers.
        unsafe { self.load_int(words.as_ptr()) }
    }

    /// Sixteen bytes from each place: the first four, and so on.
    ///
    /// # Safety
    /// Each must have as many readable bytes.
    #[inline(always)]
    unsafe fn four_words_at(self, places: &[*const u8; LANES]) -> [Self::Int; 4] {
        let mut words = [[0; LANES]; 4];
        for (i, place) in places.iter().enumerate() {
            // SAFETY: the caller vouches for it.
            let four = unsafe { place.cast::<[i32; 4]>().read_unaligned() };
            for (words, word) in words.iter_mut().zip(four) {
                words[i] = word;
            }
        }
        let mut all = [self.splat_int(0); 4];
        for (all, words) in all.iter_mut().zip(&words) {
            // SAFETY: the array holds 16 integers.
            *all = unsafe { self.load_int(words.as_ptr()) };
        }
        all
    }

    /// Lane after lane of both.
    #[inline(always)]
    fn zip_lanes(self, a: Self::Int, b: Self::Int) -> [[i32; 2]; LANES] {
        let (mut pairs, mut lanes) = ([[0; 2]; LANES], [[0; LANES]; 2]);
        // SAFETY: the arrays hold 16 integers each.
        unsafe {
            self.store_int(lanes[0].as_mut_ptr(), a);
            self.store_int(lanes[1].as_mut_ptr(), b);
        }
        for (i, pair) in pairs.iter_mut().enumerate() {
            *pair = [lanes[0][i], lanes[1][i]];
        }
        pairs
    }

    fn add_int(self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// The low halves of the products.
    fn mul_int(self, a: Self::Int, b: Self::Int) -> Self::Int;
    fn or_int(self, a: Self::Int, b: Self::Int) -> Self::Int;
    fn and_int(self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// The low words of `a`, and those of `b` in the place of the high ones.
    fn low_words(self, a: Self::Int, b: Self::Int) -> Self::Int;
    fn and_bytes(self, x: Self::Int, mask: u8) -> Self::Int;
    fn xor_bytes(self, x: Self::Int, mask: u8) -> Self::Int;
    /// Lanes shifted left by `N` bits.
    fn shl_int<const N: u32>(self, x: Self::Int) -> Self::Int;
    /// Lanes of the low half shifted left by `LOW` bits, those of the high half by `HIGH`.
    fn shl_halves<const LOW: u32, const HIGH: u32>(self, x: Self::Int) -> Self::Int;
    /// Lanes of the low half shifted right by `LOW` bits, those of the high half by `HIGH`.
    fn shr_halves<const LOW: u32, const HIGH: u32>(self, x: Self::Int) -> Self::Int;
    /// `value` in the bytes whose bit is set.
    fn bytes_of_bits(self, bits: [u32; 2], value: u8) -> Self::Int;
    /// Codes up to 15 looked up in a table.
    fn lookup(self, table: &[u8; 16], codes: Self::Int) -> Self::Int;

    /// Sixteen bytes as words.
    #[inline(always)]
    fn widen(self, bytes: [u64; 2]) -> [i16; 16] {
        std::array::from_fn(|i| i16::from(bytes[i / 8].to_le_bytes()[i % 8]))
    }

    /// `sum` plus the products of the four bytes of each lane of `codes`, unsigned, with those of `x`, signed and at
    /// least -127. Codes have six bits, or all eight if so marked.
    fn dot_bytes<const EIGHT_BITS: bool>(self, sum: Self::Int, codes: Self::Int, x: Self::Int) -> Self::Int;
    /// `sums` plus the products of `codes` with each of `N` words of `x`, spread over all lanes, see [`Self::dot_bytes`].
    ///
    /// # Safety
    /// `x` must have so many words.
    #[inline(always)]
    unsafe fn dot_bytes_each<const EIGHT_BITS: bool, const N: usize>(
        self,
        sums: &mut [Self::Int; N],
        codes: Self::Int,
        x: *const i32,
    ) {
        // SAFETY: the same contract.
        unsafe { dot_bytes_each::<Self, EIGHT_BITS, N>(self, sums, codes, x) };
    }
    /// `sums` plus the products of `VECTORS` vectors of codes with as many rows of `x`, `stride` words from one another, whose
    /// first `N` words are spread over all lanes each, see [`Self::dot_bytes`]. No code exceeds `greatest`, a constant. If that is
    /// more than 127, see [`Self::CENTERS_BYTES`].
    ///
    /// # Safety
    /// There must be so many vectors, and so many rows of so many words.
    #[inline(always)]
    unsafe fn dot_vectors<const VECTORS: usize, const N: usize>(
        self,
        greatest: usize,
        sums: &mut [Self::Int; N],
        codes: *const [i32; LANES],
        x: *const i32,
        stride: usize,
    ) {
        // SAFETY: the same contract.
        unsafe { dot_vectors::<Self, VECTORS, N>(self, greatest, sums, codes, x, stride) };
    }
    /// `sum` plus the products of the two signed words of each lane.
    fn dot_pairs(self, sum: Self::Int, a: Self::Int, b: Self::Int) -> Self::Int;
    /// `sum` plus the products of `a`, whose lanes fit into signed words, with the low signed words of `b`, whose high words
    /// are zeros.
    #[inline(always)]
    fn add_low_product(self, sum: Self::Int, a: Self::Int, b: Self::Int) -> Self::Int {
        self.dot_pairs(sum, a, b)
    }
    /// As [`Self::dot_bytes_each`], with pairs of words.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn dot_pairs_each<const N: usize>(self, sums: &mut [Self::Int; N], pairs: Self::Int, x: *const i32) {
        // SAFETY: the same contract.
        unsafe { dot_pairs_each::<Self, N>(self, sums, pairs, x) };
    }
    /// The sums of each sixteen bytes, signed and at least -127.
    #[inline(always)]
    fn sums_of_16(self, bytes: &[i8; 256]) -> [i16; 16] {
        let mut sums = [0; 16];
        for (sum, bytes) in sums.iter_mut().zip(bytes.as_chunks::<16>().0) {
            *sum = sum_of_16(bytes);
        }
        sums
    }
    /// Lanes that add up to those of `sum` plus all `scale * code * x`; codes have six bits.
    fn dot_scaled(
        self,
        sum: Self::Int,
        codes: Self::Int,
        x: Self::Int,
        scales: &[i16; 16],
        spread: &Spread,
    ) -> Self::Int;
    /// As [`Self::dot_scaled`], with eight scales, a byte each.
    fn dot_scaled_by_eight(
        self,
        sum: Self::Int,
        codes: Self::Int,
        x: Self::Int,
        scales: [i32; 2],
        spread: &Spread,
    ) -> Self::Int;
    /// Lanes that add up to the products of words.
    fn dot_words(self, a: &[i16; 16], b: &[i16; 16]) -> Self::Int;

    /// Eight scales and eight mins of six bits each from the last three words of four, four bytes a word: the first has
    /// scales 0 to 3, the second mins 0 to 3, the third the low bits of scales 4 to 7 below those of the mins; their high
    /// bits lie above those of the first and of the second.
    #[inline(always)]
    fn six_bits(self, words: &[u8; 16]) -> [u64; 2] {
        let [a, b, c] = [4, 8, 12].map(|at| u32::from_le_bytes([0, 1, 2, 3].map(|i| words[at + i])));
        let both = |first: u32, low: u32| {
            let high = low & 0x0f0f_0f0f | (first >> 6 & 0x0303_0303) << 4;
            u64::from(first & 0x3f3f_3f3f) | u64::from(high) << 32
        };
        [both(a, c), both(b, c >> 4)]
    }

    /// Puts the columns of sixteen rows where the rows were.
    #[inline(always)]
    fn transpose_words(self, words: &mut [[i32; LANES]; LANES]) {
        for row in 1..LANES {
            for column in 0..row {
                (words[row][column], words[column][row]) = (words[column][row], words[row][column]);
            }
        }
    }

    /// The sum of each vector's lanes.
    #[inline(always)]
    fn sum_each(self, vectors: &[Self::Int; LANES]) -> Self::Int {
        let [low, high] = self.sum_halves_each(vectors);
        self.add_int(low, high)
    }

    /// The sums of each vector's first four lanes, of its next four, and so on.
    #[inline(always)]
    fn sum_quarters_each(self, vectors: &[Self::Int; LANES]) -> [Self::Int; 4] {
        let (mut quarters, mut lanes) = ([self.splat_int(0); 4], [[0; LANES]; LANES]);
        for (lanes, vector) in lanes.iter_mut().zip(vectors) {
            // SAFETY: the array holds 16 integers.
            unsafe { self.store_int(lanes.as_mut_ptr(), *vector) };
        }
        for (q, quarter) in quarters.iter_mut().enumerate() {
            let sums: [i32; LANES] = std::array::from_fn(|i| lanes[i][4 * q..4 * q + 4].iter().sum());
            // SAFETY: the array holds 16 integers.
            *quarter = unsafe { self.load_int(sums.as_ptr()) };
        }
        quarters
    }

    /// The sums of each vector's low eight lanes, and of the high ones.
    #[inline(always)]
    fn sum_halves_each(self, vectors: &[Self::Int; LANES]) -> [Self::Int; 2] {
        let mut sums = [[0; LANES]; 2];
        for (i, vector) in vectors.iter().enumerate() {
            let mut lanes = [0; LANES];
            // SAFETY: the array holds 16 integers.
            unsafe { self.store_int(lanes.as_mut_ptr(), *vector) };
            (sums[0][i], sums[1][i]) = (lanes[..8].iter().sum(), lanes[8..].iter().sum());
        }
        // SAFETY: the arrays hold 16 integers each.
        unsafe { [self.load_int(sums[0].as_ptr()), self.load_int(sums[1].as_ptr())] }
    }
}

/// The sum of signed bytes.
#[inline(always)]
pub(crate) fn sum_of_16(bytes: &[i8; 16]) -> i16 {
    bytes.iter().map(|&byte| i16::from(byte)).sum()
}

/// [`Integers::dot_bytes_each`] for any instruction set.
///
/// # Safety
/// As there.
#[inline(always)]
pub(crate) unsafe fn dot_bytes_each<I: Integers, const EIGHT_BITS: bool, const N: usize>(
    l: I,
    sums: &mut [I::Int; N],
    codes: I::Int,
    x: *const i32,
) {
    for i in 0..N {
        // SAFETY: the caller vouches for the words.
        let x = l.splat_int(unsafe { *x.add(i) });
        sums[i] = l.dot_bytes::<EIGHT_BITS>(sums[i], codes, x);
    }
}

/// [`Integers::dot_vectors`] for any instruction set that does not center bytes.
///
/// # Safety
/// As there.
#[inline(always)]
pub(crate) unsafe fn dot_vectors<I: Integers, const VECTORS: usize, const N: usize>(
    l: I,
    greatest: usize,
    sums: &mut [I::Int; N],
    codes: *const [i32; LANES],
    x: *const i32,
    stride: usize,
) {
    for k in 0..VECTORS {
        // SAFETY: the caller vouches for so many vectors and rows.
        unsafe {
            let codes = l.load_int(codes.add(k).cast());
            if greatest > 127 {
                l.dot_bytes_each::<true, N>(sums, codes, x.add(k * stride));
            } else {
                l.dot_bytes_each::<false, N>(sums, codes, x.add(k * stride));
            }
        }
    }
}

/// [`Integers::dot_pairs_each`] for any instruction set.
///
/// # Safety
/// As there.
#[inline(always)]
pub(crate) unsafe fn dot_pairs_each<I: Integers, const N: usize>(
    l: I,
    sums: &mut [I::Int; N],
    pairs: I::Int,
    x: *const i32,
) {
    for i in 0..N {
        // SAFETY: the caller vouches for the words.
        sums[i] = l.dot_pairs(sums[i], pairs, l.splat_int(unsafe { *x.add(i) }));
    }
}
