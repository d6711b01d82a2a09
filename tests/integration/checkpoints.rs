//! Checkpoints in folders: one file or an index with shards, as the `safetensors` crate writes them.

use std::fs;
use std::path::Path;

use gguf_toolkit::safetensors::{Checkpoint, Dtype};
use safetensors::tensor::{TensorView, serialize_to_file};

use super::folder::Folder;

/// A file of one-dimensional BF16 tensors.
fn write_tensors(folder: &Folder, file: &str, tensors: &[(&str, &[u8])]) {
    let view = |data| TensorView::new(safetensors::Dtype::BF16, vec![<[u8]>::len(data) / 2], data).expect("view");
    let views = tensors.iter().map(|&(name, data)| (name, view(data)));
    serialize_to_file(views, None, &folder.path(file)).expect("write");
}

fn write(folder: &Folder, name: &str, text: &str) {
    fs::write(folder.path(name), text).expect("write");
}

fn error(folder: &Folder) -> String {
    match Checkpoint::open(folder.root()) {
        Ok(_) => "opens".to_owned(),
        Err(error) => error.to_string().replace(&format!("{}/", folder.root().display()), ""),
    }
}

fn index(entries: &[(&str, &str)]) -> String {
    let entries: Vec<_> = entries.iter().map(|(name, shard)| format!("\"{name}\":\"{shard}.safetensors\"")).collect();
    format!("{{\"metadata\":{{\"total_size\":12}},\"weight_map\":{{{}}}}}", entries.join(","))
}

const INDEX: &str = "model.safetensors.index.json";

fn read(checkpoint: &Checkpoint, name: &str) -> Vec<u8> {
    let tensor = checkpoint.tensor(name).expect("there");
    let mut bytes = vec![0; tensor.bytes().try_into().expect("small")];
    checkpoint.read_at(tensor, 0, &mut bytes).expect("read");
    bytes
}

#[test]
fn one_file_opens_and_others_are_left_alone() {
    let folder = Folder::new("checkpoints-one");
    write_tensors(&folder, "model.safetensors", &[("b", &[1, 2, 3, 4]), ("a", &[5, 6])]);
    write(&folder, "consolidated.safetensors", "no checkpoint");
    let checkpoint = Checkpoint::open(folder.root()).expect("valid");
    let names: Vec<_> = checkpoint.tensors().iter().map(|t| (&*t.name, t.dtype, &t.shape[..])).collect();
    assert_eq!(names, [("a", Dtype::BF16, &[1][..]), ("b", Dtype::BF16, &[2])]);
    assert_eq!(read(&checkpoint, "b"), [1, 2, 3, 4]);
    let b = checkpoint.tensor("b").expect("there");
    assert!(checkpoint.read_at(b, 3, &mut [0; 2]).is_err());
    assert!(checkpoint.tensor("c").is_none());
}

#[test]
fn shards_open_as_one() {
    let folder = Folder::new("checkpoints-shards");
    write_tensors(&folder, "x-2.safetensors", &[("a", &[1, 2]), ("c", &[3, 4])]);
    write_tensors(&folder, "x-1.safetensors", &[("b", &[5, 6, 7, 8])]);
    write(&folder, INDEX, &index(&[("a", "x-2"), ("b", "x-1"), ("c", "x-2")]));
    let checkpoint = Checkpoint::open(folder.root()).expect("valid");
    let files: Vec<_> = checkpoint.tensors().iter().map(|t| checkpoint.file_number(t)).collect();
    assert_eq!(files, [1, 0, 1]);
    assert_eq!((read(&checkpoint, "a"), read(&checkpoint, "b")), (vec![1, 2], vec![5, 6, 7, 8]));
    assert_eq!(checkpoint.bytes(), 8);
    assert_eq!(checkpoint.file_ids().len(), 3, "the index is an input too");
}

#[test]
fn consolidated_weights_are_read_where_there_are_no_others() {
    let folder = Folder::new("checkpoints-consolidated");
    write_tensors(&folder, "consolidated-00001-of-00002.safetensors", &[("a", &[1, 2])]);
    write_tensors(&folder, "consolidated-00002-of-00002.safetensors", &[("b", &[3, 4])]);
    assert!(error(&folder).ends_with("(there are shards: the index is missing)"), "{}", error(&folder));
    let names = [("a", "consolidated-00001-of-00002"), ("b", "consolidated-00002-of-00002")];
    write(&folder, "consolidated.safetensors.index.json", &index(&names));
    let checkpoint = Checkpoint::open(folder.root()).expect("valid");
    assert_eq!((read(&checkpoint, "a"), read(&checkpoint, "b")), (vec![1, 2], vec![3, 4]));
    write_tensors(&folder, "model.safetensors", &[("c", &[5, 6])]);
    let checkpoint = Checkpoint::open(folder.root()).expect("valid");
    assert!(checkpoint.tensor("a").is_none() && checkpoint.tensor("c").is_some());
}

#[test]
fn shards_that_do_not_fit_are_named() {
    let folder = Folder::new("checkpoints-misfit");
    write_tensors(&folder, "x-1.safetensors", &[("a", &[1, 2]), ("b", &[3, 4])]);
    let misfit = |entries: &[(&str, &str)]| {
        write(&folder, INDEX, &index(entries));
        error(&folder)
    };
    let at = |text: &str| format!("{INDEX}: {text}");
    assert_eq!(misfit(&[("a", "x-1"), ("b", "x-2")]), at("shard x-2.safetensors is missing"));
    assert_eq!(misfit(&[("a", "x-1")]), at("tensor b of shard x-1.safetensors is not named in weight_map"));
    assert_eq!(misfit(&[("a", "x-1"), ("b", "x-1"), ("c", "x-1")]), at("tensor c is not in shard x-1.safetensors"));
    assert_eq!(misfit(&[("a", "x-1"), ("a", "x-1")]), at("weight_map names tensor a twice"));
    write_tensors(&folder, "x-2.safetensors", &[("b", &[3, 4]), ("c", &[5, 6])]);
    assert_eq!(
        misfit(&[("a", "x-1"), ("b", "x-1"), ("c", "x-2")]),
        at("tensor b is in shard x-1.safetensors, and in x-2.safetensors too")
    );
}

#[test]
fn folders_without_a_checkpoint_say_what_they_hold() {
    let folder = Folder::new("checkpoints-none");
    assert!(error(&folder).contains("no checkpoint: neither model.safetensors nor"), "{}", error(&folder));
    write(&folder, "pytorch_model.bin", "");
    let hint = error(&folder);
    assert!(hint.contains("(there are PyTorch weights, ") && hint.contains("python -c \"from transformers"), "{hint}");
    write(&folder, "model-00001-of-00002.safetensors", "");
    assert!(error(&folder).ends_with("(there are shards: the index is missing)"));
    fs::remove_file(folder.path("model-00001-of-00002.safetensors")).expect("removed");
    fs::remove_file(folder.path("pytorch_model.bin")).expect("removed");
    write(&folder, "consolidated.00.pth", "");
    assert!(error(&folder).contains("(there are PyTorch weights in Meta's form, "), "{}", error(&folder));
    assert!(
        matches!(Checkpoint::open(Path::new("/no/such/folder")), Err(error) if error.to_string().contains("cannot open"))
    );
}
