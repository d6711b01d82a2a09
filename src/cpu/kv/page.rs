//! A page of cached positions: the layout of keys and values of each type.
//!
//! A page is one tile of attention. Heads follow one another, each with its keys and then its values, so that attention reads
//! long runs of memory.

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

use super::{CacheType, KvSpec};
use crate::formats::encode;
use crate::kernels::attention::{Numbers, TILE};
use crate::kernels::code_tile::{BLOCK, CodeTile, Codes, DecodeKeys, DecodeValues};
use crate::kernels::lines::{Number, numbers, numbers_mut};
use crate::kernels::{Isa, LANES, Scratch};

/// Positions of a page.
pub(super) const POSITIONS: usize = TILE;

/// Buffers for decoding a tile to floats, for types that attention does not compute with directly.
#[derive(Default)]
pub(in crate::cpu) struct TileBuffer {
    keys: Scratch,
    values: Scratch,
    codes: Scratch<i8>,
}

/// The layout of a page.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    heads: usize,
    keys: Part,
    values: Part,
    /// Elements of a value head. Rows of values are padded to a multiple of 16.
    v_dim: usize,
}

/// The layout of a head's keys, `[POSITIONS / 16, len, 16]`, or its values, `[POSITIONS, len]`. For encoded types see [`CodeTile`].
#[derive(Clone, Copy)]
struct Part {
    ty: CacheType,
    len: usize,
    /// Positions that are interleaved.
    beside: usize,
    /// Bytes of all positions.
    bytes: usize,
}

/// Decodes a tile to floats. Its arguments are the tile, room for its codes, and the floats.
type Decode<'d> = &'d dyn Fn(CodeTile<'_>, &mut [i8], &mut [f32]);

/// The bytes of a part of an encoded type.
struct Coded<'a> {
    bytes: &'a mut [u8],
    bits: &'a mut [u32],
    scales: &'a mut [u16],
    minima: &'a mut [u16],
}

impl CacheType {
    /// How its numbers are encoded; `None` for floats.
    fn codes(self) -> Option<Codes> {
        match self {
            Self::F32 | Self::F16 => None,
            Self::Q8_0 => Some(Codes::Bytes),
            Self::Q5_1 => Some(Codes::Fives),
            Self::Q4_0 => Some(Codes::Q4_0),
            Self::IQ4_NL => Some(Codes::IQ4_NL),
        }
    }
}

impl Layout {
    pub(super) fn new(spec: &KvSpec) -> Self {
        let width = spec.v_dim.next_multiple_of(LANES);
        let keys = Part::new(spec.ty.keys, spec.k_dim, LANES);
        let values = Part::new(spec.ty.values, width, 1);
        Self { heads: spec.heads, keys, values, v_dim: spec.v_dim }
    }

    /// Bytes of a page.
    pub(super) fn page_bytes(&self) -> usize {
        self.heads * self.head_bytes()
    }

    fn head_bytes(&self) -> usize {
        self.keys.bytes + self.values.bytes
    }

    /// Keys and values of a head.
    fn head<'a>(&self, page: &'a [u8], head: usize) -> (&'a [u8], &'a [u8]) {
        let len = self.head_bytes();
        page[head * len..(head + 1) * len].split_at(self.keys.bytes)
    }

    /// The bytes of each head in `page`.
    pub(super) fn heads<'a>(&self, page: &'a mut [u8]) -> impl Iterator<Item = &'a mut [u8]> {
        page.chunks_exact_mut(self.head_bytes())
    }

    /// Writes one position of head `head`, whose bytes are `place`, from a key `[heads * k_dim]` and a value `[heads * v_dim]`.
    pub(super) fn put(&self, place: &mut [u8], head: usize, slot: usize, (key, value): (&[f32], &[f32])) {
        let (keys, values) = place.split_at_mut(self.keys.bytes);
        self.keys.put(keys, slot, &key[head * self.keys.len..(head + 1) * self.keys.len]);
        self.values.put(values, slot, &value[head * self.v_dim..(head + 1) * self.v_dim]);
    }

    /// Keys and values of a head of `page`, if neither needs decoding.
    pub(super) fn numbers<'a>(&self, page: &'a [u8], head: usize) -> Option<(Numbers<'a>, Numbers<'a>)> {
        let (keys, values) = self.head(page, head);
        Some((self.keys.numbers(keys)?, self.values.numbers(values)?))
    }

    /// Keys and values of a head of `page`, as they are stored, or decoded to floats in `buffer`.
    pub(super) fn tile<'a>(
        &self,
        isa: Isa,
        page: &'a [u8],
        head: usize,
        buffer: &'a mut TileBuffer,
    ) -> (Numbers<'a>, Numbers<'a>) {
        let (keys, values) = self.head(page, head);
        let TileBuffer { keys: key_buffer, values: value_buffer, codes: space } = buffer;
        let as_keys = |tile: CodeTile<'_>, space: &mut [i8], to: &mut [f32]| {
            isa.run(DecodeKeys { tile, k_dim: self.keys.len, space, to });
        };
        let as_values = |tile: CodeTile<'_>, space: &mut [i8], to: &mut [f32]| {
            isa.run(DecodeValues { tile, width: self.values.len, space, to });
        };
        let keys = self.keys.tile(keys, key_buffer, space, &as_keys);
        (keys, self.values.tile(values, value_buffer, space, &as_values))
    }
}

impl Part {
    fn new(ty: CacheType, len: usize, beside: usize) -> Self {
        let row = if ty.codes().is_some() { len.next_multiple_of(BLOCK) } else { len };
        Self { ty, len, beside, bytes: POSITIONS * ty.tensor_type().row_bytes(row) }
    }

    /// Blocks of a row, for encoded types.
    fn blocks(&self) -> usize {
        self.len.div_ceil(BLOCK)
    }

    /// The ends of codes, fifth bits, scales and minima, which follow one another.
    fn ends(&self, codes: Codes) -> [usize; 4] {
        let blocks = POSITIONS * self.blocks();
        let mut end = 0;
        [codes.code_bytes(), codes.bit_bytes(), size_of::<u16>(), codes.minima() * size_of::<u16>()].map(|len| {
            end += blocks * len;
            end
        })
    }

    fn numbers<'a>(&self, bytes: &'a [u8]) -> Option<Numbers<'a>> {
        match self.ty {
            CacheType::F32 => Some(Numbers::F32(numbers(bytes))),
            CacheType::F16 => Some(Numbers::F16(numbers(bytes))),
            _ => None,
        }
    }

    /// The numbers as they are stored, or decoded to floats in `buffer` by `decode`.
    fn tile<'a>(
        &self,
        bytes: &'a [u8],
        buffer: &'a mut Scratch,
        space: &mut Scratch<i8>,
        decode: Decode<'_>,
    ) -> Numbers<'a> {
        let Some(codes) = self.ty.codes() else {
            return if self.ty == CacheType::F32 { Numbers::F32(numbers(bytes)) } else { Numbers::F16(numbers(bytes)) };
        };
        let ends = self.ends(codes);
        let tile = CodeTile {
            codes,
            bytes: &bytes[..ends[0]],
            bits: numbers(&bytes[ends[0]..ends[1]]),
            scales: numbers(&bytes[ends[1]..ends[2]]),
            minima: numbers(&bytes[ends[2]..ends[3]]),
        };
        make_room(buffer, POSITIONS * self.len);
        make_room(space, if codes == Codes::Bytes { 0 } else { POSITIONS * self.blocks() * BLOCK });
        decode(tile, space, buffer);
        Numbers::F32(buffer)
    }

    /// Writes the row of position `slot`.
    fn put(&self, bytes: &mut [u8], slot: usize, row: &[f32]) {
        let Some(codes) = self.ty.codes() else { return self.put_plain(bytes, slot, row) };
        let ends = self.ends(codes);
        let (places, rest) = bytes.split_at_mut(ends[0]);
        let (bits, rest) = rest.split_at_mut(ends[1] - ends[0]);
        let (scales, minima) = rest.split_at_mut(ends[2] - ends[1]);
        let mut place =
            Coded { bytes: places, bits: numbers_mut(bits), scales: numbers_mut(scales), minima: numbers_mut(minima) };
        let ty = self.ty.tensor_type();
        let mut padded = Scratch::zeros(self.blocks() * BLOCK);
        padded[..row.len()].copy_from_slice(row);
        let mut encoded = Scratch::<u8>::new(ty.row_bytes(padded.len()));
        encode(ty, &padded, None, &mut encoded);
        for (i, block) in encoded.chunks_exact(ty.block_bytes()).enumerate() {
            // The first of the blocks that are interleaved with this one, and this block's lane.
            let (first, lane) =
                (slot / self.beside * self.beside * self.blocks() + i * self.beside, slot % self.beside);
            place.put(codes, block, first, (self.beside, lane));
        }
    }

    fn put_plain(&self, bytes: &mut [u8], slot: usize, row: &[f32]) {
        match self.ty {
            CacheType::F32 => self.scatter(numbers_mut(bytes), slot, row),
            _ => {
                let mut halves = Scratch::<u16>::new(row.len());
                halves.reinterpret_cast_mut::<f16>().convert_from_f32_slice(row);
                self.scatter(numbers_mut(bytes), slot, &halves);
            }
        }
    }

    fn scatter<T: Number>(&self, to: &mut [T], slot: usize, row: &[T]) {
        let start = slot / self.beside * self.beside * self.len + slot % self.beside;
        if self.beside == 1 {
            to[start..start + row.len()].copy_from_slice(row);
        } else {
            to[start..].iter_mut().step_by(self.beside).zip(row).for_each(|(to, x)| *to = *x);
        }
    }
}

impl Coded<'_> {
    /// Writes a block of the tensor type. It is lane `lane` of the `beside` blocks from block `first` on, which are interleaved.
    fn put(&mut self, codes: Codes, block: &[u8], first: usize, (beside, lane): (usize, usize)) {
        let half = |at: usize| u16::from_le_bytes([block[at], block[at + 1]]);
        self.scales[first + lane] = half(0);
        // The index of the block's element `i` among all codes.
        let at = |i: usize| first * BLOCK + i * beside + lane;
        if codes == Codes::Bytes {
            block[2..].iter().enumerate().for_each(|(i, code)| self.bytes[at(i)] = *code);
            return;
        }
        let (nibbles, fifths) = if codes == Codes::Fives {
            self.minima[first + lane] = half(2);
            (&block[8..], u32::from_le_bytes([block[4], block[5], block[6], block[7]]))
        } else {
            (&block[2..], 0)
        };
        for i in 0..BLOCK {
            let at = at(i);
            let code = nibbles[i % 16] >> (i / 16 * 4) & 15;
            let byte = &mut self.bytes[at / BLOCK * (BLOCK / 2) + at % 16];
            *byte = if at % BLOCK < 16 { *byte & 0xf0 | code } else { *byte & 0x0f | code << 4 };
            if let Some(word) = self.bits.get_mut(at / BLOCK) {
                *word = *word & !(1 << (at % BLOCK)) | (fifths >> i & 1) << (at % BLOCK);
            }
        }
    }
}

/// Makes `buffer` have `len` numbers, with arbitrary values.
fn make_room<T: Number>(buffer: &mut Scratch<T>, len: usize) {
    if buffer.len() != len {
        *buffer = Scratch::new(len);
    }
}
