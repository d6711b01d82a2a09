//! A fast checksum for comparing what was written with what is read back. It is not cryptographic.

const LANES: usize = 4;
/// Odd factors, so that each step is invertible and no change of a word is lost: the digits of the golden ratio, and three
/// primes as other hashes use them.
const FACTORS: [u64; LANES] =
    [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9, 0x27d4_eb2f_1656_67c5];

/// The sum of `bytes`.
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    let mut sums = FACTORS;
    let (chunks, tail) = bytes.as_chunks::<{ 8 * LANES }>();
    for chunk in chunks {
        add(&mut sums, chunk);
    }
    let mut last = [0; 8 * LANES];
    last[..tail.len()].copy_from_slice(tail);
    add(&mut sums, &last);
    let mut sum = bytes.len() as u64;
    for lane in sums {
        sum = (sum ^ lane).wrapping_mul(FACTORS[0]);
        sum ^= sum >> 29;
    }
    sum
}

fn add(sums: &mut [u64; LANES], chunk: &[u8; 8 * LANES]) {
    for ((sum, word), factor) in sums.iter_mut().zip(chunk.as_chunks::<8>().0).zip(FACTORS) {
        *sum = (*sum ^ u64::from_le_bytes(*word)).wrapping_mul(factor);
        *sum ^= *sum >> 32;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::checksum;

    #[test]
    fn every_bit_and_the_length_count() {
        let bytes: Vec<u8> = (0..100).map(|i| u8::try_from(i * 7 % 251).expect("a byte")).collect();
        let mut sums = HashSet::from([checksum(&bytes)]);
        for bit in 0..bytes.len() * 8 {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(sums.insert(checksum(&other)), "bit {bit}");
        }
        for len in 0..200 {
            assert!(sums.insert(checksum(&vec![0; len])), "{len} zeros");
        }
        let mut swapped = bytes.clone();
        swapped.swap(3, 67);
        assert!(sums.insert(checksum(&swapped)));
    }
}
