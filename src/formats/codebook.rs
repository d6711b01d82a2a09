//! Code shared by the formats with a codebook: runs of 4 or 8 elements whose values are an entry of a table, and signs.
//!
//! A table is stored as in llama.cpp's gguf-py: an entry is a word of 16 bits with two or four bits for each element, the
//! first element in the lowest. [`eights`] and [`fours`] unpack the entries to bytes at compile time.

/// The entries of a table of eight elements with two bits each, as values in bytes, the first element in the lowest byte.
pub(super) const fn eights<const N: usize>(packed: &[u16; N], values: [u8; 3]) -> [u64; N] {
    let mut entries = [0; N];
    let mut n = 0;
    while n < N {
        let mut i = 0;
        while i < 8 {
            entries[n] |= (values[(packed[n] >> (2 * i) & 3) as usize] as u64) << (8 * i);
            i += 1;
        }
        n += 1;
    }
    entries
}

/// The entries of a table of four elements with four bits each, as values in bytes, the first element in the lowest byte.
pub(super) const fn fours<const N: usize>(packed: &[u16; N], values: [u8; 8]) -> [u32; N] {
    let mut entries = [0; N];
    let mut n = 0;
    while n < N {
        let mut i = 0;
        while i < 4 {
            entries[n] |= (values[(packed[n] >> (4 * i) & 15) as usize] as u32) << (8 * i);
            i += 1;
        }
        n += 1;
    }
    entries
}

/// The entries of a table of eight elements as indices of values (levels), which encoders search.
pub(super) fn levels_of_eights(packed: &[u16]) -> Vec<[u8; 8]> {
    packed.iter().map(|entry| std::array::from_fn(|i| (entry >> (2 * i) & 3) as u8)).collect()
}

/// The same for a table of four elements.
pub(super) fn levels_of_fours(packed: &[u16]) -> Vec<[u8; 4]> {
    packed.iter().map(|entry| std::array::from_fn(|i| (entry >> (4 * i) & 15) as u8)).collect()
}

/// The magnitudes of the two-bit codebooks.
pub(super) const MAGNITUDES: [u8; 3] = [0x08, 0x19, 0x2b];

/// The signs of eight elements of which seven are stored (a set bit is a minus): the eighth makes the number of set bits even.
pub(super) const fn even_signs(seven: u8) -> u8 {
    let seven = seven & 127;
    seven | (seven.count_ones() as u8 & 1) << 7
}

/// For each byte of signs, a byte of ones where a bit is set.
static MASKS: [u64; 256] = {
    let (mut masks, mut signs) = ([0; 256], 0);
    while signs < 256 {
        let mut i = 0;
        while i < 8 {
            if signs >> i & 1 == 1 {
                masks[signs] |= 0xff << (8 * i);
            }
            i += 1;
        }
        signs += 1;
    }
    masks
};

/// [`MASKS`] for seven stored signs, see [`even_signs`].
static EVEN_MASKS: [u64; 128] = {
    let (mut masks, mut seven) = ([0; 128], 0);
    while seven < 128 {
        masks[seven] = MASKS[even_signs(seven as u8) as usize];
        seven += 1;
    }
    masks
};

/// Eight codes with the zero code `zero` (a multiple of [`ONES`](super::view::ONES)): `zero` plus the values, or minus them
/// where the bit of `signs` is set. No value exceeds the zero code.
#[inline(always)]
pub(super) fn signed(values: u64, signs: u8, zero: u64) -> u64 {
    zero + values - 2 * (values & MASKS[usize::from(signs)])
}

/// The same for the lowest seven bits of `signs`, completed by [`even_signs`].
#[inline(always)]
pub(super) fn signed_evenly(values: u64, signs: u32, zero: u64) -> u64 {
    zero + values - 2 * (values & EVEN_MASKS[signs as usize & 127])
}

/// Writes `scale` times the values, negated where the bit of `signs` is set, from bit 0 on.
pub(super) fn put_signed(values: &[u8], signs: u8, scale: f32, out: &mut [f32]) {
    for (i, (x, &value)) in out.iter_mut().zip(values).enumerate() {
        let x_abs = scale * f32::from(value);
        *x = if signs >> i & 1 == 1 { -x_abs } else { x_abs };
    }
}

#[cfg(test)]
mod tests {
    use super::even_signs;

    #[test]
    fn an_even_number_of_signs_is_set() {
        assert_eq!([0, 1, 2, 3, 127].map(even_signs), [0, 0x81, 0x82, 3, 0xff]);
    }
}
