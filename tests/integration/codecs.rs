//! The scalar codecs: what they decode against PyPI's `gguf`, what they encode against llama-quantize.

use std::path::Path;

use gguf_toolkit::TensorType;
use gguf_toolkit::formats::{codec, codecs};
use gguf_toolkit::gguf::Reader;

use super::shared::{json, sha256, shared};

/// Arbitrary bytes, as `testdata/formats/make.py` makes them.
fn block_bytes(ty: TensorType, count: usize) -> Vec<u8> {
    let byte = |i: u64| {
        let z = ((u64::from(ty.id()) << 32) + i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (z ^ (z >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9).to_be_bytes()[0]
    };
    (0..count as u64).map(byte).collect()
}

#[test]
fn arbitrary_blocks_are_decoded_as_the_reference_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/formats/dequantized.json");
    let expected = json(&path);
    let blocks = usize::try_from(expected["blocks"].as_u64().expect("blocks")).expect("few");
    for codec in codecs() {
        let ty = codec.ty;
        let expected = &expected["types"][ty.name()];
        assert!(expected.is_object(), "{ty} has no golden: add it to testdata/formats/make.py");
        let mut values = vec![0.0; blocks * ty.block_len()];
        (codec.decode)(&block_bytes(ty, blocks * ty.block_bytes()), &mut values);
        let bits: Vec<u32> = values.iter().map(|v| if v.is_nan() { 0x7fc0_0000 } else { v.to_bits() }).collect();
        let first: Vec<String> = bits[..8].iter().map(|bits| format!("{bits:08x}")).collect();
        assert_eq!(serde_json::json!(first), expected["first"], "{ty}");
        let bytes: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        assert_eq!(sha256(&bytes), expected["sha256"].as_str().expect("sha256"), "{ty}");
    }
}

/// The numbers of `testdata/formats/quantize.py`.
struct Rows {
    cols: usize,
}

impl Rows {
    /// Element `i` of a row of numbers that look normal, a few units at most.
    fn normal(&self, row: usize, i: usize) -> f32 {
        let number = |seed: u64| {
            let z = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 40) as i32
        };
        let first = 4 * (row * self.cols + i) as u64;
        let sum = (first..first + 4).map(number).sum::<i32>() - 2 * 0x00ff_ffff;
        sum as f32 * 2f32.powi(-26)
    }

    fn row(&self, row: usize) -> Vec<f32> {
        let element = |i: usize| {
            let x = self.normal(row, i);
            let power = |exponent: usize| 2f32.powi(-(i32::try_from(exponent).expect("small")));
            match row % 14 {
                0 => x,
                1 => x * if i % 61 == 7 { 64.0 } else { 1.0 },
                2 => x * power(40),
                3 => 0.3125,
                4 => x * if i / 32 % 2 == 1 { 0.0 } else { 1.0 },
                5 => x * power(3 * (i / 32 % 16)),
                6 => (x * 16.0).round_ties_even() * 0.125,
                7 => x.abs(),
                8 => -x.abs() - 0.5,
                9 => 0.0,
                10 => x * if i % 256 == 77 { 1.0 } else { 0.0 },
                11 => x * power(12 + i / 8 % 24),
                12 => x * x * x,
                _ => x * 4096.0,
            }
        };
        // A product with zero may be a negative zero, which the script does not write.
        (0..self.cols).map(element).map(|x| if x == 0.0 && row % 14 != 6 { 0.0 } else { x }).collect()
    }

    fn importance(&self, kind: usize, row: usize) -> Option<Vec<f32>> {
        let element = |i: usize| {
            let x = self.normal(row + 1_000_000, i);
            match kind {
                2 if i / 16 % 3 == 1 => 0.0,
                3 => 0.75,
                _ => x * x + 2f32.powi(-12),
            }
        };
        (kind > 0).then(|| (0..self.cols).map(element).collect())
    }
}

#[test]
fn rows_are_encoded_as_ggml_does_with_and_without_importance() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/formats/quantized.json");
    let expected = json(&path);
    let number = |key: &str| usize::try_from(expected[key].as_u64().expect("a number")).expect("small");
    let (rows, count) = (Rows { cols: number("columns") }, number("rows"));
    let mut wrong = Vec::new();
    for codec in codecs() {
        let (ty, Some(encode)) = (codec.ty, codec.encode) else { continue };
        if !ty.is_quantized() {
            continue;
        }
        let kinds = expected["types"][ty.name()].as_object();
        let kinds = kinds.unwrap_or_else(|| panic!("{ty} has no golden: add it to testdata/formats/quantize.py"));
        for (kind, hashes) in kinds {
            let (kind, hashes) = (kind.parse().expect("a number"), hashes.as_str().expect("hashes"));
            for row in 0..count {
                let mut bytes = vec![0xaa; ty.row_bytes(rows.cols)];
                encode(&rows.row(row), rows.importance(kind, row).as_deref(), &mut bytes);
                if sha256(&bytes)[..8] != hashes[8 * row..][..8] {
                    wrong.push(format!("{ty} importance {kind} row {row} (kind {})", row % 14));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} rows: {wrong:#?}", wrong.len());
}

#[test]
#[ignore = "needs GGUF_SHARED"]
fn hard_weights_are_encoded_as_llama_quantize_does() {
    let expected = json(&shared("goldens/hard/quantized.json"));
    let reader = Reader::open(&shared("goldens/hard/hard-f16.gguf")).expect("the model opens");
    let mut checked = 0;
    for (file_type, file) in expected["types"].as_object().expect("types") {
        for tensor in file["tensors"].as_array().map_or(&[][..], Vec::as_slice) {
            let name = tensor["name"].as_str().expect("name");
            let ty = TensorType::from_name(tensor["type"].as_str().expect("type")).expect("known type");
            let Some(encode) = codec(ty).and_then(|codec| codec.encode) else { continue };
            let info = reader.tensor(name).expect("tensor");
            let source = reader.data(info).expect("data");
            let mut numbers = vec![0.0; usize::try_from(info.elements()).expect("small")];
            (codec(info.ty).expect("source codec").decode)(&source, &mut numbers);
            let mut bytes = vec![0; ty.row_bytes(numbers.len())];
            encode(&numbers, None, &mut bytes);
            assert_eq!(sha256(&bytes), tensor["sha256"].as_str().expect("sha256"), "{file_type} {name} {ty}");
            checked += 1;
        }
    }
    assert!(checked > 500, "only {checked} tensors compared");
}
