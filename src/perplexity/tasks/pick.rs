//! Which tasks are taken, and in which order: random numbers as the C++ library has them, so that a subset is llama-perplexity's.

/// The generator MT19937 (Matsumoto and Nishimura, 1998), `std::mt19937` of C++.
pub(super) struct MersenneTwister {
    state: [u32; Self::LEN],
    next: usize,
}

impl MersenneTwister {
    const LEN: usize = 624;
    const SHIFT: usize = 397;

    pub(super) fn new(seed: u32) -> Self {
        let mut state = [seed; Self::LEN];
        for i in 1..Self::LEN {
            let last = state[i - 1];
            #[allow(clippy::cast_possible_truncation, reason = "below 624")]
            let index = i as u32;
            state[i] = (last ^ (last >> 30)).wrapping_mul(1_812_433_253).wrapping_add(index);
        }
        Self { state, next: Self::LEN }
    }

    pub(super) fn next(&mut self) -> u32 {
        if self.next == Self::LEN {
            for i in 0..Self::LEN {
                let joined = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % Self::LEN] & 0x7fff_ffff);
                let odd = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + Self::SHIFT) % Self::LEN] ^ (joined >> 1) ^ odd;
            }
            self.next = 0;
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// An equally likely number below `range`, as `std::uniform_int_distribution` of GCC's library (11 and later) draws it: the high
    /// half of a product with the range, drawn again where that would favour some (Lemire, 2019).
    #[allow(clippy::cast_possible_truncation, reason = "halves of a product")]
    fn below(&mut self, range: u32) -> u32 {
        let mut product = u64::from(self.next()) * u64::from(range);
        if (product as u32) < range {
            let threshold = range.wrapping_neg() % range;
            while (product as u32) < threshold {
                product = u64::from(self.next()) * u64::from(range);
            }
        }
        (product >> 32) as u32
    }
}

fn as_range(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// `count` of `len` tasks (or all), each drawn from those that are left. Also all of them come in random order.
pub(super) fn drawn(len: usize, count: Option<usize>, seed: u32) -> Vec<usize> {
    let mut random = MersenneTwister::new(seed);
    let mut left: Vec<usize> = (0..len).collect();
    (0..count.unwrap_or(len).min(len)).map(|_| left.remove(random.below(as_range(left.len())) as usize)).collect()
}

/// `count` of `len` tasks in random order, or all in their own. A drawn task's place is taken by the last one that is left. The place is
/// computed in single precision, as in llama-perplexity.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the rounding is a part of the procedure"
)]
pub(super) fn scaled(len: usize, count: Option<usize>, seed: u32) -> Vec<usize> {
    let Some(count) = count.filter(|&count| count < len) else { return (0..len).collect() };
    let mut random = MersenneTwister::new(seed);
    let mut left: Vec<usize> = (0..len).collect();
    let scale = 1.0 / (u32::MAX as f32 + 1.0);
    let mut pick = || {
        let place = (scale * random.next() as f32 * left.len() as f32) as usize;
        // The greatest numbers are rounded up to the range's end.
        left.swap_remove(place.min(left.len() - 1))
    };
    (0..count).map(|_| pick()).collect()
}

#[cfg(test)]
mod tests {
    use super::{MersenneTwister, drawn, scaled};

    #[test]
    fn the_generator_is_the_standard_one() {
        // The C++ standard states the 10,000th number for the default seed.
        let mut random = MersenneTwister::new(5489);
        let numbers: Vec<u32> = (0..10_000).map(|_| random.next()).collect();
        assert_eq!((numbers[0], numbers[9999]), (3_499_211_612, 4_123_659_995));
        let mut random = MersenneTwister::new(1);
        assert_eq!([random.next(), random.next()], [1_791_095_845, 4_282_876_139]);
    }

    #[test]
    fn every_task_is_taken_once() {
        for order in [drawn, scaled] {
            let mut all = order(100, None, 1);
            all.sort_unstable();
            assert_eq!(all, (0..100).collect::<Vec<_>>());
            let some = order(100, Some(10), 1);
            assert_eq!(some.len(), 10);
            assert_ne!(some, order(100, Some(10), 2));
            assert_eq!(some[..4], order(100, Some(4), 1), "fewer are the first of more");
            assert_eq!(order(1, Some(9), 1), [0]);
            assert!(order(0, None, 1).is_empty() && order(5, Some(0), 1).is_empty());
        }
        assert_eq!(scaled(5, Some(5), 1), [0, 1, 2, 3, 4]);
    }
}
