//! Paths that lead to no plain file, shards that do not fit together, files that change while they are read.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use gguf_toolkit::TensorType;
use gguf_toolkit::files::Overwrite;
use gguf_toolkit::gguf::{Error, Metadata, Reader, SplitWriter, TensorSpec};

use super::super::folder::Folder;
use super::{F32, Raw, check_line};

fn message(path: &Path) -> String {
    let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
    match Reader::open(path) {
        Ok(_) => "opens".to_owned(),
        Err(error) => {
            let message = error.to_string();
            let folder = path.parent().expect("a folder");
            assert!(message.starts_with(folder.to_str().expect("UTF-8")), "{name}: {message}");
            let message = message.replace(&format!("{}/", folder.display()), "");
            check_line(&message, message.split(": ").next().expect("a name"));
            message
        }
    }
}

#[test]
fn only_plain_files_are_opened() {
    let folder = Folder::new("hostile-kinds");
    assert!(Command::new("mkfifo").arg(folder.path("pipe")).status().expect("runs").success());
    symlink("loop", folder.path("loop")).expect("link");
    symlink("/dev/zero", folder.path("device")).expect("link");
    fs::create_dir(folder.path("folder")).expect("folder");
    let open = |name: &str| message(&folder.path(name));
    assert_eq!(open("pipe"), "pipe: not a regular file but a pipe");
    assert_eq!(open("device"), "device: not a regular file but a device");
    assert_eq!(open("folder"), "folder: not a regular file but a directory");
    assert!(open("loop").starts_with("loop: cannot open: "));
    assert!(open("none").starts_with("none: cannot open: No such file"));
}

#[test]
fn a_file_of_holes_opens_at_once() {
    let folder = Folder::new("hostile-sparse");
    let path = folder.path("m.gguf");
    let header = Raw::new(1, 0).tensor("w", &[1 << 34], F32, 0).data(0);
    fs::write(&path, &header).expect("written");
    File::options().write(true).open(&path).expect("opens").set_len(header.len() as u64 + (1 << 36)).expect("sized");
    assert_eq!(Reader::open(&path).expect("valid").parameters(), 1 << 34);
}

#[test]
fn a_file_cut_short_after_opening_gives_an_error() {
    let folder = Folder::new("hostile-cut");
    let path = folder.path("m.gguf");
    fs::write(&path, Raw::new(1, 0).tensor("w", &[16], F32, 0).data(64)).expect("written");
    let reader = Reader::open(&path).expect("valid");
    let tensor = &reader.tensors()[0];
    let mut data = [0; 64];
    reader.read_at(tensor, 0, &mut data).expect("whole");
    File::options().write(true).open(&path).expect("opens").set_len(100).expect("cut");
    for error in [reader.read_at(tensor, 0, &mut data).err(), reader.data(tensor).err(), reader.check_unchanged().err()]
    {
        let message = error.as_ref().map(Error::to_string).expect("an error");
        assert!(message.ends_with("m.gguf: changed while it was read"), "{message}");
    }
}

/// Names the file to the copy of this test that runs in a process of its own.
const CHILD: &str = "GGUF_TEST_CUT_WHILE_MAPPED";

/// The process that reads a mapped file ends when the file is cut, but not without a word.
#[test]
fn a_file_cut_short_while_mapped_ends_with_one_line() {
    if let Some(path) = std::env::var_os(CHILD) {
        read_mapped_and_cut(Path::new(&path));
    }
    let folder = Folder::new("hostile-mapped");
    let path = folder.path("m.gguf");
    fs::write(&path, Raw::new(1, 0).tensor("w", &[1 << 16], F32, 0).data(4 << 16)).expect("written");
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "hostile::files::a_file_cut_short_while_mapped_ends_with_one_line", "--nocapture"])
        .env(CHILD, &path)
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(stderr.trim_start(), format!("error: {}: cut short while it was in use\n", path.display()));
}

fn read_mapped_and_cut(path: &Path) -> ! {
    crate::faults::install_handlers();
    let reader = Reader::open(path).expect("valid");
    let data = reader.data(&reader.tensors()[0]).expect("mapped");
    File::options().write(true).open(path).expect("opens").set_len(1).expect("cut");
    let sum: u64 = data.iter().map(|&byte| u64::from(byte)).sum();
    panic!("the file is cut, but can be read: {sum}");
}

/// Three shards of a tensor each.
fn split(folder: &Folder) {
    let tensor = |name: &str| vec![TensorSpec { name: name.into(), shape: vec![4], ty: TensorType::I8 }];
    let shards = [tensor("a"), tensor("b"), tensor("c")];
    let replace = Overwrite::Replace { inputs: &[] };
    let mut writer = SplitWriter::create(&folder.path("m.gguf"), replace, &Metadata::new(), &shards).expect("created");
    for _ in 0..3 {
        writer.write_tensor(&[1; 4]).expect("written");
    }
    writer.finish().expect("finished");
}

#[test]
fn shards_that_do_not_fit_are_named() {
    let folder = Folder::new("hostile-shards");
    let [first, second, third] = [1, 2, 3].map(|no| folder.path(&format!("m-0000{no}-of-00003.gguf")));
    split(&folder);
    assert_eq!(message(&second), "opens");

    fs::rename(&third, folder.path("away")).expect("renamed");
    let problem = "m-00003-of-00003.gguf: shard missing (opened by m-00001-of-00003.gguf)";
    assert_eq!(message(&first), problem);

    fs::copy(&second, &third).expect("copied");
    assert_eq!(message(&first), "m-00003-of-00003.gguf: key split.no is 1, expected 2");

    let renamed = folder.path("renamed.gguf");
    fs::copy(&first, &renamed).expect("copied");
    assert!(message(&renamed).starts_with("renamed.gguf: is shard 1 of 3, and must be named NAME-00001-of-00003.gguf"));

    split(&folder);
    let bytes = fs::read(&third).expect("read");
    fs::write(&third, &bytes[..bytes.len() - 32]).expect("written");
    assert!(message(&first).starts_with("m-00003-of-00003.gguf: tensor c at offset "), "{}", message(&first));

    // The name of the third shard's tensor becomes that of the first's.
    let at = bytes.windows(9).position(|window| window == b"\x01\0\0\0\0\0\0\0c").expect("there") + 8;
    let mut twice = bytes.clone();
    twice[at] = b'a';
    fs::write(&third, &twice).expect("written");
    assert_eq!(message(&first), "m-00003-of-00003.gguf: tensor a is also in another shard");

    for (value, problem) in
        [(u16::MAX, "65535 shards, the limit is 4096"), (2, "must be named NAME-00001-of-00002.gguf")]
    {
        let mut bytes = fs::read(&first).expect("read");
        let at = bytes.windows(11).position(|window| window == b"split.count").expect("there") + 11 + 4;
        bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
        fs::write(&first, &bytes).expect("written");
        assert!(message(&first).contains(problem), "{}", message(&first));
    }
}
