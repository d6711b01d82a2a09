//! Outputs that cannot be written: nothing stays behind, and what was there is left alone.

use std::fs;
use std::path::Path;
use std::process::Command;

use gguf_toolkit::TensorType;
use gguf_toolkit::files::Overwrite;
use gguf_toolkit::gguf::{Metadata, SplitWriter, TensorSpec};

use super::folder::Folder;

/// Names the output to the copy of this test that runs in a process of its own, with a limit.
const CHILD: &str = "GGUF_TEST_NO_ROOM";

#[test]
fn without_room_nothing_is_begun() {
    if let Some(path) = std::env::var_os(CHILD) {
        write_two_shards(Path::new(&path));
    }
    let folder = Folder::new("outputs-no-room");
    fs::write(folder.path("m-00001-of-00002.gguf"), "old").expect("written");
    let output = Command::new("sh")
        // Files of 64 KiB at most: the first shard fits, the second does not.
        .args(["-c", "ulimit -f 128 && exec \"$0\" --exact outputs::without_room_nothing_is_begun --nocapture"])
        .arg(std::env::current_exe().expect("this program"))
        .env(CHILD, folder.path("m.gguf"))
        .output()
        .expect("runs");
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    let expected = "m-00002-of-00002.gguf: no room: needs 1048736 bytes, the disk has ";
    assert!(stderr.contains(expected) && stderr.contains("free (File too large"), "{stderr}");
    let names: Vec<_> = fs::read_dir(folder.root()).expect("folder").map(|e| e.expect("entry").file_name()).collect();
    assert_eq!(names, ["m-00001-of-00002.gguf"]);
    assert_eq!(fs::read(folder.path("m-00001-of-00002.gguf")).expect("readable"), b"old");
}

fn write_two_shards(path: &Path) -> ! {
    super::faults::install_handlers();
    let tensor = |n| vec![TensorSpec { name: format!("w{n}"), shape: vec![n], ty: TensorType::I8 }];
    let shards = [tensor(64), tensor(1 << 20)];
    let result = SplitWriter::create(path, Overwrite::Replace { inputs: &[] }, &Metadata::new(), &shards);
    eprintln!("{}", result.map_or_else(|error| error.to_string(), |_| "created".to_owned()));
    std::process::exit(0);
}

#[test]
fn a_disk_without_room_is_told_before_anything_is_made() {
    let folder = Folder::new("outputs-room");
    let path = folder.path("out.gguf");
    assert!(gguf_toolkit::files::check_room(&path, 1).is_ok());
    let error = gguf_toolkit::files::check_room(&path, u64::MAX).expect_err("no disk is so large").to_string();
    assert!(error.contains("out.gguf: no room: needs 18446744073709551615 bytes, the disk has "), "{error}");
    assert!(!path.exists());
}
