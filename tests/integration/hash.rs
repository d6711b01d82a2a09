//! `gguf hash`.

use std::fs;

use gguf_toolkit::TensorType;
use gguf_toolkit::files::Overwrite;
use gguf_toolkit::gguf::{Metadata, TensorSpec, Writer};
use serde_json::Value as Json;

use super::folder::Folder;
use super::quantize_command::{gguf, storyteller, text};

fn run(line: &str, folder: &Folder) -> std::process::Output {
    gguf(&line.split_whitespace().collect::<Vec<_>>(), folder.root())
}

/// A model of two tensors, `name`, whose second one holds `last`.
fn small(folder: &Folder, name: &str, last: u8) {
    let spec = |name: &str, n| TensorSpec { name: name.into(), shape: vec![n], ty: TensorType::I8 };
    let specs = [spec("a", 3), spec("b.weight", 1)];
    let path = folder.path(name);
    let _ = fs::remove_file(&path);
    let mut writer = Writer::create(&path, Overwrite::Refuse, &Metadata::new(), &specs).expect("created");
    writer.write_tensor(b"abc").expect("written");
    writer.write_tensor(&[last]).expect("written");
    writer.finish().expect("finished");
}

#[test]
fn lines_are_those_of_gguf_hash() {
    let folder = Folder::new("hash-lines");
    small(&folder, "small.gguf", b'd');
    // The sums of "abc", "d" and "abcd", as sha256sum, sha1sum and xxh64sum print them.
    let expected = "\
xxh64     44bc2cf5ad770999  small.gguf:a
sha1      a9993e364706816aba3e25717850c26c9cd0d89d  small.gguf:a
sha256    ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  small.gguf:a
xxh64     5000d8f2907d14e4  small.gguf:b.weight
sha1      3c363836cf4e16666669a25da280a1865c2d2874  small.gguf:b.weight
sha256    18ac3e7343f016890c510e93f935261169d9e3f565436429830faf0934f4f8e4  small.gguf:b.weight
xxh64     de0327b0d25d92cc  small.gguf
sha1      81fe8bfe87576c3ecb22426f8e57847382917acf  small.gguf
sha256    88d4266fd4e6338d13b845fcf289579d209c897823b9217da3e161936f031589  small.gguf
";
    assert_eq!(text(&run("hash small.gguf --all", &folder).stdout), expected);
    let model = run("hash small.gguf --no-layer --uuid", &folder);
    assert_eq!(text(&model.stdout), "uuid      6d48d221-245b-5506-94c3-9dfa2bf2ae82  small.gguf\n");
    let json: Json = serde_json::from_slice(&run("hash small.gguf --json", &folder).stdout).expect("JSON");
    assert_eq!((&json["schema_version"], json["checksums"].as_array().map(Vec::len)), (&1.into(), Some(3)));
    assert_eq!((&json["checksums"][0]["tensor"], &json["checksums"][2]["tensor"]), (&"a".into(), &Json::Null));
}

#[test]
fn a_manifest_tells_what_has_changed() {
    let folder = Folder::new("hash-check");
    small(&folder, "small.gguf", b'd');
    fs::write(folder.path("sums.txt"), run("hash small.gguf --all", &folder).stdout).expect("written");
    let same = run("hash small.gguf --check sums.txt", &folder);
    assert_eq!(same.status.code(), Some(0), "{same:?}");
    let lines: Vec<&str> = text(&same.stdout).lines().collect();
    assert!(lines.len() == 3 && lines.iter().all(|line| line.starts_with("sha256 ") && line.ends_with("  -  Ok")));
    small(&folder, "small.gguf", b'e');
    let other = run("hash small.gguf --check sums.txt --xxh64", &folder);
    assert_eq!(other.status.code(), Some(1));
    let outcomes: Vec<&str> =
        text(&other.stdout).lines().map(|line| line.rsplit("  -  ").next().expect("one")).collect();
    assert_eq!(outcomes, ["Ok", "Mismatch", "Mismatch"]);
    let json = run("hash small.gguf --check sums.txt --json", &folder);
    let json: Json = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!((&json["agrees"], &json["checksums"][1]["outcome"]), (&false.into(), &"mismatch".into()));
    // A tensor that the manifest alone has, and one that it lacks.
    let sums = fs::read_to_string(folder.path("sums.txt")).expect("text").replace(":b.weight", ":gone");
    fs::write(folder.path("sums.txt"), sums).expect("written");
    let other = run("hash small.gguf --check sums.txt --sha1", &folder);
    assert_eq!(other.status.code(), Some(1));
    assert!(text(&other.stdout).contains("small.gguf:b.weight  -  Not Found\n"), "{other:?}");
    assert!(text(&other.stdout).ends_with("small.gguf:gone  -  in the manifest alone\n"), "{other:?}");
    fs::write(folder.path("empty.txt"), "nothing\n").expect("written");
    let none = run("hash small.gguf --check empty.txt", &folder);
    let expected = "error: empty.txt: no line has a checksum of a known kind (xxh64, sha1, sha256, uuid)\n";
    assert_eq!((none.status.code(), text(&none.stderr)), (Some(2), expected));
}

#[test]
fn files_of_a_split_model_have_the_sums_of_the_whole() {
    let folder = Folder::new("hash-split");
    storyteller(&folder);
    assert!(run("split storyteller-F16.gguf --max-tensors 10 -o parts", &folder).status.success());
    let sum = |name: &str| {
        let output = run(&format!("hash {name} --no-layer --xxh64"), &folder);
        text(&output.stdout).split_whitespace().nth(1).map(str::to_owned)
    };
    assert!(sum("storyteller-F16.gguf").is_some_and(|sum| sum.len() == 16));
    assert_eq!(sum("storyteller-F16.gguf"), sum("parts-00001-of-00004.gguf"));
}
