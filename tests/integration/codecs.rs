//! The scalar codecs against llama-quantize, on weights meant to break a quantizer.

use gguf::TensorType;
use gguf::gguf::Reader;
use gguf::quant::codec;

use super::shared::{json, sha256, shared};

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
            let Some(target) = codec(ty) else { continue };
            let info = reader.tensor(name).expect("tensor");
            let source = reader.data(info).expect("data");
            let mut numbers = vec![0.0; usize::try_from(info.elements()).expect("small")];
            (codec(info.ty).expect("source codec").decode)(&source, &mut numbers);
            let mut bytes = vec![0; ty.row_bytes(numbers.len())];
            (target.encode)(&numbers, &mut bytes);
            assert_eq!(sha256(&bytes), tensor["sha256"].as_str().expect("sha256"), "{file_type} {name} {ty}");
            checked += 1;
        }
    }
    assert!(checked > 500, "only {checked} tensors compared");
}
