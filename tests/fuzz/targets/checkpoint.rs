//! A file of a checkpoint's folder; the others are those of the folder that `GGUF_FUZZ_CHECKPOINT` names. The first byte says which.

#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use gguf_toolkit::convert::{Conversion, Folder, Options};
use libfuzzer_sys::fuzz_target;

const FILES: [&str; 6] = [
    "config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "generation_config.json",
    "README.md",
];

/// A copy of the folder, which is this process's own.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let from = std::env::var_os("GGUF_FUZZ_CHECKPOINT").expect("GGUF_FUZZ_CHECKPOINT names a checkpoint");
    let to = std::env::temp_dir().join(format!("gguf-fuzz-{}", std::process::id()));
    fs::create_dir_all(&to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("copied");
        }
    }
    to
});

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    let path = FOLDER.join(FILES[usize::from(*which) % FILES.len()]);
    let before = fs::read(&path).ok();
    fs::write(&path, bytes).expect("written");
    let _ = Folder::open(&FOLDER).and_then(|folder| Conversion::new(folder, &Options::default()));
    match before {
        Some(before) => fs::write(&path, before).expect("written"),
        None => fs::remove_file(&path).expect("removed"),
    }
});
