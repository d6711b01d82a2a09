//! Integers of a few bits, several in a 32-bit word, with a scale and a zero for each output and group of inputs: GPTQ
//! packs along the inputs, AWQ along the outputs. Both store the transposed matrix, so that rows of the weight are
//! columns of the file: they are read as pieces of all its rows.

use super::{index, number_type, write_numbers};
use crate::safetensors::{Checkpoint, Dtype, Error, TensorInfo};

/// Bits of a word.
const WORD: u64 = 32;
/// The position in a word of each of eight outputs in AWQ.
const AWQ_PLACES: [usize; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

/// A weight of packed integers.
pub(in super::super) struct Packed {
    pub(super) words: TensorInfo,
    pub(super) zeros: TensorInfo,
    /// `[groups, outputs]`.
    pub(super) scales: TensorInfo,
    /// Group of each input, if the inputs of a group are not contiguous.
    pub(super) groups: Option<TensorInfo>,
    pub(super) packing: Packing,
}

/// The layout of integers in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Packing {
    /// Bits of an integer: 2, 4 or 8.
    pub(super) bits: u32,
    /// The dimension along which they are packed, and their order.
    pub(super) order: Order,
    /// Inputs of a group; `None` for a single group.
    pub(super) group: Option<u64>,
    /// What is added to stored zeros.
    pub(super) zero_offset: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Order {
    Gptq,
    Awq,
}

impl Packed {
    /// Whether shapes and types agree.
    pub(super) fn fits(&self) -> bool {
        let Self { words, zeros, scales, groups, packing } = self;
        let integers = [words, zeros].iter().all(|tensor| matches!(tensor.dtype, Dtype::I32 | Dtype::U32));
        let two = [words, zeros, scales].iter().all(|tensor| tensor.shape.len() == 2);
        if !integers || !two || number_type(scales.dtype).is_none() {
            return false;
        }
        let (inputs, outputs) = (self.inputs(), self.outputs());
        let group = packing.group.unwrap_or(inputs).max(1);
        scales.shape == [inputs.div_ceil(group), outputs]
            && zeros.shape == [inputs.div_ceil(group), outputs.div_ceil(self.per_word())]
            && groups.as_ref().is_none_or(|g| g.elements() == inputs && matches!(g.dtype, Dtype::I32 | Dtype::U32))
            && inputs > 0
            && outputs > 0
    }

    fn per_word(&self) -> u64 {
        WORD / u64::from(self.packing.bits)
    }

    fn inputs(&self) -> u64 {
        let packed = if self.packing.order == Order::Gptq { self.per_word() } else { 1 };
        self.words.shape.first().copied().unwrap_or(0).saturating_mul(packed)
    }

    fn outputs(&self) -> u64 {
        let packed = if self.packing.order == Order::Awq { self.per_word() } else { 1 };
        self.words.shape.get(1).copied().unwrap_or(0).saturating_mul(packed)
    }

    pub(super) fn shape(&self) -> Vec<u64> {
        vec![self.outputs(), self.inputs()]
    }

    pub(super) fn tensor(&self) -> &TensorInfo {
        &self.words
    }

    /// The mask of an integer's bits.
    fn mask(&self) -> u32 {
        u32::MAX >> (32 - self.packing.bits)
    }

    /// The integer `at` (of `per_word`) of a word.
    fn integer(&self, word: u32, at: usize) -> u32 {
        let place = if self.packing.order == Order::Awq { AWQ_PLACES[at % AWQ_PLACES.len()] } else { at };
        word >> (self.packing.bits as usize * place) & self.mask()
    }

    pub(super) fn read(&self, checkpoint: &Checkpoint, first: u64, cols: usize, out: &mut [u8]) -> Result<(), Error> {
        let rows = out.len() / 4 / cols;
        let per_word = index(self.per_word());
        // The words with these outputs, if outputs are packed.
        let first_word = first / self.per_word();
        let word_count = index((first + rows as u64).div_ceil(self.per_word()) - first_word);
        let skip = index(first % self.per_word());
        let group_count = index(self.scales.shape[0]);
        let group_of = self.group_of(checkpoint, cols)?;
        let (mut scales, mut zeros) = (Vec::new(), Vec::new());
        for group in 0..group_count as u64 {
            scales.extend(super::numbers(checkpoint, &self.scales, group * self.outputs() + first, rows)?);
            let words = integers(checkpoint, &self.zeros, group * self.zeros.shape[1] + first_word, word_count)?;
            zeros.extend((skip..skip + rows).map(|i| {
                let stored = self.integer(words[i / per_word], i % per_word);
                ((stored + self.packing.zero_offset) & self.mask()).cast_signed()
            }));
        }
        let mut numbers = vec![0.0; rows * cols];
        let mut set = |row: usize, input: usize, value: u32| {
            let at = group_of[input] * rows + row;
            numbers[row * cols + input] = scales[at] * (value.cast_signed() - zeros[at]) as f32;
        };
        for line in 0..index(self.words.shape[0]) {
            let start = line as u64 * self.words.shape[1];
            if self.packing.order == Order::Gptq {
                let words = integers(checkpoint, &self.words, start + first, rows)?;
                for (row, &word) in words.iter().enumerate() {
                    (0..per_word).for_each(|i| set(row, line * per_word + i, self.integer(word, i)));
                }
            } else {
                let words = integers(checkpoint, &self.words, start + first_word, word_count)?;
                (0..rows).for_each(|row| {
                    let i = skip + row;
                    set(row, line, self.integer(words[i / per_word], i % per_word));
                });
            }
        }
        write_numbers(numbers, out);
        Ok(())
    }

    /// The group of each of `inputs`; groups that the file does not have count as the last one.
    fn group_of(&self, checkpoint: &Checkpoint, inputs: usize) -> Result<Vec<usize>, Error> {
        let last = index(self.scales.shape[0]).saturating_sub(1);
        let groups: Vec<usize> = match &self.groups {
            Some(groups) => integers(checkpoint, groups, 0, inputs)?.into_iter().map(|g| g as usize).collect(),
            None => {
                let group = index(self.packing.group.unwrap_or(u64::MAX)).max(1);
                (0..inputs).map(|input| input / group).collect()
            }
        };
        Ok(groups.into_iter().map(|group| group.min(last)).collect())
    }
}

/// `count` words of a tensor, from element `first` on.
fn integers(checkpoint: &Checkpoint, tensor: &TensorInfo, first: u64, count: usize) -> Result<Vec<u32>, Error> {
    let mut bytes = vec![0; 4 * count];
    checkpoint.read_at(tensor, 4 * first, &mut bytes)?;
    Ok(bytes.as_chunks::<4>().0.iter().map(|&word| u32::from_le_bytes(word)).collect())
}
