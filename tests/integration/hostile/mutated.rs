//! A valid GGUF file cut at every byte, and damaged thousands of times.

use gguf_toolkit::gguf::{Array, Error, Metadata, Reader, TensorSpec, Value, Writer};
use gguf_toolkit::{TensorType, bytes::Bytes};

use super::super::mutants::Choices;
use super::check_line;

/// All value types, tensors of several types and shapes.
fn model() -> Vec<u8> {
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", "llama");
    metadata.set("general.alignment", 64u32);
    metadata.set("a.u8", 1u8);
    metadata.set("a.i16", -2i16);
    metadata.set("a.u64", u64::MAX);
    metadata.set("a.f64", 0.5f64);
    metadata.set("a.bool", true);
    metadata.set("a.bools", Array::bools([true, false, true]));
    metadata.set("a.numbers", Array::from(&[1i32, -1, 7][..]));
    metadata.set("tokenizer.ggml.tokens", Array::strings([&b"<s>"[..], "▁x".as_bytes(), b"\xff"]));
    let tensor = |name: &str, shape: &[u64], ty| TensorSpec { name: name.into(), shape: shape.into(), ty };
    let tensors = [
        tensor("token_embd.weight", &[32, 3], TensorType::Q8_0),
        tensor("blk.0.norm", &[5], TensorType::F32),
        tensor("blk.0.experts", &[32, 2, 2], TensorType::Q4_0),
        tensor("one", &[], TensorType::F16),
    ];
    rewrite(&metadata, &tensors, |_, bytes| vec![0x5a; bytes]).expect("valid")
}

/// A file of these metadata and tensors, with the data that `data` gives by tensor number and size.
fn rewrite(
    metadata: &Metadata,
    tensors: &[TensorSpec],
    data: impl Fn(usize, usize) -> Vec<u8>,
) -> Result<Vec<u8>, Error> {
    let mut writer = Writer::to_sink(Vec::new(), "m.gguf", metadata, tensors)?;
    for (number, tensor) in tensors.iter().enumerate() {
        let bytes = tensor.ty.bytes_for(tensor.shape.iter().product()).expect("whole blocks");
        writer.write_tensor(&data(number, usize::try_from(bytes).expect("small")))?;
    }
    writer.into_sink()
}

/// Opens a file. What opens must bear being looked at and written anew.
fn open(bytes: Vec<u8>) -> Result<(), String> {
    let reader = Reader::from_bytes("m.gguf", Bytes::from(bytes)).map_err(|error| {
        assert!(matches!(error, Error::Format(_) | Error::Shard { .. }), "{error:?}");
        error.to_string()
    })?;
    let tensors: Vec<TensorSpec> = reader.tensors().iter().map(TensorSpec::from).collect();
    let again = rewrite(reader.metadata(), &tensors, |number, bytes| {
        let tensor = &reader.tensors()[number];
        let data = reader.data(tensor).expect("in memory");
        assert_eq!((data.len(), data.len() as u64), (bytes, tensor.bytes()));
        data.to_vec()
    })
    .unwrap_or_else(|error| panic!("opens, but cannot be written: {error}"));
    let reader = Reader::from_bytes("again", again.into()).expect("what is written opens");
    for (_, value) in reader.metadata().iter() {
        if let Value::Array(array) = value {
            assert_eq!(array.iter().count(), array.len());
        }
    }
    Ok(())
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let whole = model();
    assert_eq!(open(whole.clone()), Ok(()));
    // The last tensor's padding may be missing.
    let needed = whole.len() - 62;
    for len in 0..needed {
        let message = open(whole[..len].to_vec()).expect_err(&format!("{len} bytes of {needed} open"));
        check_line(&message, "m.gguf");
        assert!(message.contains("truncated") || message.contains("room for"), "{len}: {message}");
    }
    assert_eq!(open(whole[..needed].to_vec()), Ok(()));
}

#[test]
fn damaged_files_are_refused_or_bear_being_looked_at() {
    let whole = model();
    let mut random = Choices::seeded(0x2545_f491_4f6c_dd1d);
    let (mut opened, mut refused) = (0, 0);
    for _ in 0..30_000 {
        let mut bytes = whole.clone();
        random.damage(&mut bytes);
        match open(bytes) {
            Ok(()) => opened += 1,
            Err(message) => {
                check_line(&message, "m.gguf");
                refused += 1;
            }
        }
    }
    // The damage reaches what lies behind the first fields: else this would test little.
    assert!(opened > 3000 && refused > 3000, "{opened} opened, {refused} refused");
}

#[test]
fn every_bit_flipped_alone() {
    let whole = model();
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Err(message) = open(bytes) {
            check_line(&message, "m.gguf");
        }
    }
}
