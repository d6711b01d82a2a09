//! Checkpoints and indices cut at every byte, and damaged thousands of times.

use std::fs;

use gguf_toolkit::safetensors::{Checkpoint, Error};

use super::super::folder::Folder;
use super::super::mutants::Choices;
use super::check_line;

fn checkpoint() -> Vec<u8> {
    let json = r#"{"__metadata__":{"format":"pt"},"a.weight":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},
        "b":{"dtype":"BF16","shape":[4],"data_offsets":[12,20]},"é":{"dtype":"U8","shape":[],"data_offsets":[20,21]}}"#;
    [&(json.len() as u64).to_le_bytes(), json.as_bytes(), &[9; 21]].concat()
}

fn open(bytes: Vec<u8>) -> Result<(), String> {
    let checkpoint = Checkpoint::from_bytes("m.safetensors", bytes.into()).map_err(|error| {
        assert!(matches!(error, Error::Format(_)), "{error:?}");
        error.to_string()
    })?;
    for tensor in checkpoint.tensors() {
        let mut data = vec![0; usize::try_from(tensor.bytes()).expect("small")];
        checkpoint.read_at(tensor, 0, &mut data).expect("inside");
    }
    Ok(())
}

#[test]
fn a_checkpoint_cut_anywhere_is_refused() {
    let whole = checkpoint();
    assert_eq!(open(whole.clone()), Ok(()));
    for len in 0..whole.len() {
        let message = open(whole[..len].to_vec()).expect_err("opens");
        check_line(&message, "m.safetensors");
        assert!(message.contains(" at offset ") && message.contains("truncated"), "{message}");
    }
    let longer = [&whole[..], b"PK"].concat();
    let message = open(longer).expect_err("opens");
    assert!(message.ends_with("2 bytes after the last tensor belong to no tensor"), "{message}");
}

#[test]
fn damaged_checkpoints_are_refused_or_can_be_read() {
    let whole = checkpoint();
    let mut random = Choices::seeded(0x9e37_79b9_7f4a_7c15);
    let mut refused = 0;
    for _ in 0..30_000 {
        let mut bytes = whole.clone();
        random.damage(&mut bytes);
        if let Err(message) = open(bytes) {
            check_line(&message, "m.safetensors");
            refused += 1;
        }
    }
    assert!(refused > 10_000, "{refused}");
}

#[test]
fn damaged_indices_are_refused() {
    let folder = Folder::new("hostile-index");
    fs::write(folder.path("x-1.safetensors"), checkpoint()).expect("written");
    let index = folder.path("model.safetensors.index.json");
    let entry = |name: &str| format!("{name:?}:\"x-1.safetensors\"");
    let whole = format!("{{\"weight_map\":{{{},{},{}}}}}", entry("a.weight"), entry("b"), entry("é"));
    fs::write(&index, &whole).expect("written");
    assert_eq!(Checkpoint::open(folder.root()).expect("valid").tensors().len(), 3);
    let prefix = format!("{}/", folder.root().display());
    let open = |bytes: &[u8]| {
        fs::write(&index, bytes).expect("written");
        Checkpoint::open(folder.root()).map(drop).map_err(|error| error.to_string().replace(&prefix, ""))
    };
    for len in 0..whole.len() {
        let message = open(&whole.as_bytes()[..len]).expect_err("opens");
        check_line(&message, "model.safetensors.index.json");
    }
    let mut random = Choices::seeded(0x1234_5678_9abc_def1);
    for _ in 0..3000 {
        let mut bytes = whole.clone().into_bytes();
        random.damage(&mut bytes);
        if let Err(message) = open(&bytes) {
            check_line(&message, "model.safetensors.index.json");
        }
    }
}

#[test]
fn shards_outside_the_folder_are_not_touched() {
    let folder = Folder::new("hostile-outside");
    let inside = folder.path("inside");
    fs::create_dir(&inside).expect("folder");
    fs::write(folder.path("x.safetensors"), checkpoint()).expect("written");
    let absolute = folder.path("x.safetensors");
    for shard in ["../x.safetensors", absolute.to_str().expect("UTF-8"), "../x.safetensors\\u0000.safetensors"] {
        let index = format!("{{\"weight_map\":{{\"b\":\"{shard}\"}}}}");
        fs::write(inside.join("model.safetensors.index.json"), index).expect("written");
        let message = Checkpoint::open(&inside).expect_err("opens").to_string();
        assert!(message.ends_with("is no plain name of a .safetensors file"), "{message}");
    }
}
