//! What the formats with a codebook share: runs of 4 or 8 elements whose values are an entry of a table, and signs.
//!
//! A table is stored as llama.cpp's gguf-py has it: an entry is a word of 16 bits, two or four of them an element, from
//! the first element up. [`eights`] and [`fours`] make bytes of them when this crate is compiled.

/// The entries of a table of eight elements with two bits each, as their values in bytes.
pub(super) const fn eights<const N: usize>(packed: &[u16; N], values: [i8; 3]) -> [[i8; 8]; N] {
    let mut entries = [[0; 8]; N];
    let mut n = 0;
    while n < N {
        let mut i = 0;
        while i < 8 {
            entries[n][i] = values[(packed[n] >> (2 * i) & 3) as usize];
            i += 1;
        }
        n += 1;
    }
    entries
}

/// The entries of a table of four elements with four bits each, as their values in bytes.
pub(super) const fn fours<const N: usize>(packed: &[u16; N], values: [i8; 8]) -> [[i8; 4]; N] {
    let mut entries = [[0; 4]; N];
    let mut n = 0;
    while n < N {
        let mut i = 0;
        while i < 4 {
            entries[n][i] = values[(packed[n] >> (4 * i) & 15) as usize];
            i += 1;
        }
        n += 1;
    }
    entries
}

/// The magnitudes of the two-bit codebooks.
pub(super) const MAGNITUDES: [i8; 3] = [0x08, 0x19, 0x2b];

/// The signs of eight elements of which seven are stored (a set bit is a minus): an even number of them is set.
pub(super) fn even_signs(seven: u8) -> u8 {
    let seven = seven & 127;
    seven | (seven.count_ones() as u8 & 1) << 7
}

/// Writes `scale` times the values, negated where the bit of `signs` is set, from bit 0 on.
pub(super) fn put_signed(values: &[i8], signs: u8, scale: f32, out: &mut [f32]) {
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
