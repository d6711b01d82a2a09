//! Files of the reference programs, read and written again: the same bytes.

use std::path::Path;

use gguf_toolkit::gguf::{Reader, TensorSpec, Value, Writer, file_size};

use super::shared::shared;

fn assert_written_as_it_was(path: &Path) {
    let reader = Reader::open(path).unwrap_or_else(|error| panic!("{error}"));
    let specs: Vec<TensorSpec> = reader.tensors().iter().map(TensorSpec::from).collect();
    let mut writer = Writer::to_sink(Vec::new(), "copy", reader.metadata(), &specs).expect("valid");
    for tensor in reader.tensors() {
        writer.write_tensor(&reader.data(tensor).expect("mapped")).expect("written");
    }
    let copy = writer.into_sink().expect("complete");
    assert!(copy == std::fs::read(path).expect("readable"), "{}: other bytes", path.display());
    assert_eq!(file_size(reader.metadata(), &specs).expect("valid"), copy.len() as u64);
}

#[test]
fn a_file_of_the_python_package() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/gguf/all_types.gguf");
    assert_written_as_it_was(&path);
    let reader = Reader::open(&path).expect("valid");
    assert_eq!((reader.alignment(), reader.parameters()), (64, 233));
    let value = |key| reader.metadata().get(key).cloned();
    assert_eq!(value("a.u64"), Some(Value::U64(u64::MAX)));
    assert_eq!(value("a.f32"), Some(Value::F32(0.1)));
    assert_eq!(value("a.text"), Some(Value::String("häl\nlo".into())));
    let half = reader.tensor("half").expect("there");
    assert_eq!(&*reader.data(half).expect("mapped"), [0, 0, 0, 0x3c, 0, 0x40, 0, 0x42, 0, 0x44]);
}

#[test]
#[ignore = "needs GGUF_SHARED"]
fn files_of_llama_cpp() {
    assert_written_as_it_was(&shared("goldens/hard/hard-f16.gguf"));
    for name in ["llama-bpe", "llama-spm", "gemma-4", "bert-bge", "qwen2"] {
        assert_written_as_it_was(&shared(&format!("vocab/ggml-vocab-{name}.gguf")));
    }
}
