//! The scalar codecs: what they decode against PyPI's `gguf`, what they encode against llama-quantize.

use std::path::Path;

use gguf::TensorType;
use gguf::formats::{codec, codecs};
use gguf::gguf::Reader;

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
