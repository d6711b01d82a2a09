//! Files of the other byte order: what `gguf edit --byte-order` writes, and what is made of such files.

use std::fs;
use std::path::Path;

use gguf_toolkit::TensorType;
use gguf_toolkit::gguf::{Array, ByteOrder, Metadata, Reader, SplitWriter, TensorSpec, Value, Writer};
use sha2::{Digest as _, Sha256};

use super::folder::Folder;
use super::quantize_command::{gguf, storyteller, text};
use gguf_toolkit::files::Overwrite;

/// A file whose tensors have all types that gguf-py's `gguf_convert_endian` turns, made by `gguf quantize` with these options...
const ALL_OF_GGUF_PY: &str = "quantize storyteller-F16.gguf -t Q8_0 --tensor-type attn_q=Q4_K --tensor-type attn_k=Q6_K \
    --tensor-type attn_v=Q4_0 --tensor-type attn_output=BF16 --tensor-type ffn_down=MXFP4 --tensor-type ffn_gate=NVFP4 \
    --tensor-type ffn_up=F16 -o mix.gguf";
/// ... and the SHA-256 of what gguf-py 0.19.0 made of it with `gguf_convert_endian mix.gguf big`.
const BY_GGUF_PY: &str = "549a11ae9e83d2fe8e922f7acb60bbfec71afaf629a794817c1b6ccc7953a8dd";

fn sha256(path: &Path) -> String {
    let digest = Sha256::digest(fs::read(path).expect("there"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn files_are_turned_as_gguf_py_turns_them_and_back() {
    let folder = Folder::new("byte-order");
    storyteller(&folder);
    let run = |line: &str| gguf(&line.split_whitespace().collect::<Vec<_>>(), folder.root());
    let done = |line: &str| {
        let output = run(line);
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
        text(&output.stdout).to_owned()
    };
    done(ALL_OF_GGUF_PY);
    assert!(done("edit mix.gguf --byte-order big --dry-run").contains("byte order"));
    let told = done("edit mix.gguf --byte-order big -o big.gguf");
    assert!(told.contains("little-endian") && told.contains("big-endian"), "{told}");
    assert_eq!(sha256(&folder.path("big.gguf")), BY_GGUF_PY);
    // Shown, checked, and not run.
    let shown = done("inspect big.gguf");
    assert!(shown.contains("big-endian") && shown.contains("cannot run"), "{shown}");
    assert!(done("inspect big.gguf --key general.name").contains("Storyteller"));
    let values = |file: &str| done(&format!("inspect {file} --values blk.0.attn_[qkv]"));
    assert_eq!(values("big.gguf"), values("mix.gguf"));
    let checked = run("check big.gguf");
    assert_eq!(checked.status.code(), Some(1));
    assert!(text(&checked.stdout).starts_with("error   structure.endian "), "{}", text(&checked.stdout));
    let refused = run("tokenize big.gguf hi");
    assert_eq!(refused.status.code(), Some(2));
    let told = text(&refused.stderr);
    assert!(
        told.contains("big.gguf: version at offset 4: big-endian file: `gguf edit FILE --byte-order little"),
        "{told}"
    );
    // Other edits leave the order as it is.
    done("edit big.gguf --set general.name=X -o named.gguf");
    assert_eq!(Reader::open_in_either_order(&folder.path("named.gguf")).expect("opens").byte_order(), ByteOrder::Big);
    done("edit big.gguf --byte-order little --in-place");
    assert!(fs::read(folder.path("big.gguf")).expect("there") == fs::read(folder.path("mix.gguf")).expect("there"));
    let already = run("edit mix.gguf --byte-order little -o again.gguf");
    assert_eq!(already.status.code(), Some(2));
    assert!(text(&already.stderr).contains("mix.gguf: is little-endian already"), "{}", text(&already.stderr));
}

fn everything() -> (Metadata, Vec<TensorSpec>) {
    let mut metadata = Metadata::new();
    metadata.set("general.name", "all");
    metadata.set("a.u8", 200_u8);
    metadata.set("a.i16", -300_i16);
    metadata.set("a.u32", 70_000_u32);
    metadata.set("a.i64", i64::MIN + 7);
    metadata.set("a.f32", 0.1_f32);
    metadata.set("a.f64", 0.1_f64);
    metadata.set("a.bool", true);
    metadata.set("a.texts", Value::Array(Array::strings([&b"\xff"[..], b"", b"three"])));
    metadata.set("a.numbers", Value::Array(Array::from(&[1_i32, -2, i32::MAX][..])));
    metadata.set("a.shorts", Value::Array(Array::from(&[1_u16, 0x1234][..])));
    metadata.set("a.flags", Value::Array(Array::bools([true, false])));
    let spec = |ty: &TensorType| {
        let cols = ty.block_len().max(3) as u64;
        TensorSpec { name: format!("t.{ty}"), shape: vec![2 * cols, 3], ty: *ty }
    };
    (metadata, TensorType::ALL.iter().map(spec).collect())
}

fn data(spec: &TensorSpec) -> Vec<u8> {
    let bytes = spec.ty.bytes_for(spec.shape.iter().product()).expect("whole blocks");
    // No NaN in any type: what has one is not written again.
    (0..59).cycle().step_by(37).take(usize::try_from(bytes).expect("small")).collect()
}

#[test]
fn every_type_of_key_and_tensor_comes_back() {
    let folder = Folder::new("byte-order-types");
    let (metadata, specs) = everything();
    let path = folder.path("all.gguf");
    let mut writer =
        Writer::create_in_order(&path, Overwrite::Refuse, ByteOrder::Big, &metadata, &specs).expect("created");
    for spec in &specs {
        // In pieces that are no whole blocks.
        data(spec).chunks(13).for_each(|piece| writer.write_tensor(piece).expect("written"));
    }
    writer.finish().expect("finished");
    let bytes = fs::read(&path).expect("there");
    assert_eq!(bytes[4..8], 3_u32.to_be_bytes());
    assert_eq!(bytes[8..16], (specs.len() as u64).to_be_bytes());
    let reader = Reader::open_any(&path).expect("opens");
    assert_eq!((reader.byte_order(), reader.version()), (ByteOrder::Big, 3));
    assert_eq!(reader.metadata(), &metadata);
    let mut changed = 0;
    for (spec, info) in specs.iter().zip(reader.tensors()) {
        assert_eq!(&TensorSpec::from(info), spec);
        let expected = data(spec);
        assert_eq!(*reader.data(info).expect("data"), expected[..], "{}", spec.name);
        // Any bytes of a tensor, not only whole blocks.
        for (first, len) in [(0, expected.len()), (1, 5), (expected.len() - 3, 3), (7, expected.len() / 2)] {
            let len = len.min(expected.len() - first);
            let mut some = vec![0; len];
            reader.read_at(info, first as u64, &mut some).expect("inside");
            assert_eq!(some, expected[first..first + len], "{}: {len} bytes from {first} on", spec.name);
        }
        let start = usize::try_from(reader.offset_in_file(info)).expect("small");
        changed += usize::from(bytes[start..start + expected.len()] != expected[..]);
    }
    assert_eq!(changed, TensorType::ALL.len() - 3, "I8, MXFP4 and NVFP4 have bytes alone");
    assert!(Reader::open(&path).expect_err("refused").to_string().contains("big-endian"));
}

#[test]
fn damaged_files_are_refused_or_bear_being_looked_at() {
    let folder = Folder::new("byte-order-damaged");
    let (metadata, specs) = everything();
    let path = folder.path("all.gguf");
    let mut writer =
        Writer::create_in_order(&path, Overwrite::Refuse, ByteOrder::Big, &metadata, &specs).expect("created");
    specs.iter().for_each(|spec| writer.write_tensor(&data(spec)).expect("written"));
    writer.finish().expect("finished");
    let whole = fs::read(&path).expect("there");
    let header = usize::try_from(Reader::open_any(&path).expect("opens").shards()[0].data_start()).expect("small");
    let (mut seed, mut opened) = (0x2545_f491_4f6c_dd1d_u64, 0);
    for _ in 0..2000 {
        let mut bytes = whole.clone();
        for _ in 0..2 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let at = usize::try_from(seed % header as u64).expect("small");
            bytes[at] ^= 1 << (seed >> 60 & 7);
        }
        fs::write(&path, bytes).expect("written");
        let Ok(reader) = Reader::open_any(&path) else { continue };
        opened += 1;
        for (_, value) in reader.metadata().iter() {
            if let Value::Array(array) = value {
                assert_eq!(array.iter().count(), array.len());
            }
        }
        reader.tensors().iter().for_each(|tensor| drop(reader.data(tensor).expect("inside")));
    }
    assert!(opened > 50, "{opened}");
}

#[test]
fn split_models_are_turned_whole() {
    let folder = Folder::new("byte-order-split");
    let (metadata, specs) = everything();
    let shards = [specs[..10].to_vec(), specs[10..].to_vec()];
    let mut writer =
        SplitWriter::create(&folder.path("m.gguf"), Overwrite::Refuse, &metadata, &shards).expect("created");
    specs.iter().for_each(|spec| writer.write_tensor(&data(spec)).expect("written"));
    writer.finish().expect("finished");
    let output = gguf(&["edit", "m-00001-of-00002.gguf", "--byte-order", "be", "-o", "big.gguf"], folder.root());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let reader = Reader::open_in_either_order(&folder.path("big-00002-of-00002.gguf")).expect("opens");
    assert_eq!((reader.shards().len(), reader.byte_order()), (2, ByteOrder::Big));
    for (spec, info) in specs.iter().zip(reader.tensors()) {
        assert_eq!(*reader.data(info).expect("data"), data(spec)[..], "{}", spec.name);
    }
}
