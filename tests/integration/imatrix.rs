//! `gguf imatrix`: values and files of llama-imatrix, merging, stopping and going on.

use std::fs;
use std::path::Path;

use gguf_toolkit::imatrix::{FileForm, ImportanceMatrix};
use serde_json::Value as Json;

use super::folder::Folder;
use super::quantize_command::{gguf, names, storyteller, text};
use super::shared::{shared, testdata};

/// Values may differ by a thousandth: the cache is in half precision, and sums are rounded.
fn assert_close(found: &ImportanceMatrix, expected: &ImportanceMatrix) {
    assert_eq!((found.chunks, found.chunk_size), (expected.chunks, expected.chunk_size));
    assert_eq!(found.datasets, expected.datasets);
    let names = |matrix: &ImportanceMatrix| matrix.entries.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected));
    let mut worst = 0.0f32;
    for (name, entry) in &found.entries {
        let expected = &expected.entries[name];
        assert_eq!(entry.counts, expected.counts, "{name}");
        assert_eq!(entry.sums.len(), expected.sums.len(), "{name}");
        for (a, b) in entry.sums.iter().zip(&expected.sums) {
            worst = worst.max((a / b - 1.0).abs());
            assert!((a / b - 1.0).abs() < 1e-3, "{name}: {a}, expected {b}");
        }
    }
    println!("worst difference {worst}");
}

fn open(path: &Path) -> ImportanceMatrix {
    ImportanceMatrix::open(path).expect("a matrix")
}

/// The first 60,000 bytes of the text that the reference has read.
fn wikitext(folder: &Folder) {
    let bytes = fs::read(shared("text/wikitext-2-test.txt")).expect("text");
    fs::write(folder.path("wt60.txt"), &bytes[..60_000]).expect("written");
}

#[test]
#[ignore = "needs GGUF_SHARED"]
fn matrices_are_those_of_llama_imatrix() {
    let folder = Folder::new("imatrix-goldens");
    storyteller(&folder);
    wikitext(&folder);
    let run = |args: &[&str]| {
        let output = gguf(&[&["imatrix", "storyteller-F16.gguf", "-f", "wt60.txt"], args].concat(), folder.root());
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    run(&["-c", "256", "-o", "a.gguf"]);
    assert_close(&open(&folder.path("a.gguf")), &open(&shared("goldens/imatrix/storyteller.imatrix.gguf")));
    run(&["-c", "256", "-o", "a.dat"]);
    assert_close(&open(&folder.path("a.dat")), &open(&shared("goldens/imatrix/storyteller.imatrix.dat")));
    run(&["--process-output", "--parse-special", "--chunks", "5", "-o", "b.gguf"]);
    assert_close(&open(&folder.path("b.gguf")), &open(&shared("goldens/imatrix/storyteller-output.imatrix.gguf")));
}

/// Whatever is read is written with the same bytes.
#[test]
#[ignore = "needs GGUF_SHARED"]
fn files_of_llama_imatrix_are_written_again() {
    for name in ["storyteller.imatrix.gguf", "storyteller-output.imatrix.gguf"] {
        let bytes = fs::read(shared(&format!("goldens/imatrix/{name}"))).expect("there");
        let matrix = ImportanceMatrix::from_bytes(Path::new(name), bytes.clone()).expect("a matrix");
        assert!(matrix.to_bytes(FileForm::Gguf).expect("written") == bytes, "{name}");
    }
    let legacy = fs::read(shared("goldens/imatrix/storyteller.imatrix.dat")).expect("there");
    let matrix = open(&shared("goldens/imatrix/storyteller.imatrix.gguf"));
    assert!(matrix.to_bytes(FileForm::Legacy).expect("written") == legacy);
}

/// The held-out text, as the program reads it.
fn held_out(folder: &Folder) {
    fs::copy(testdata("storyteller/heldout.txt"), folder.path("text.txt")).expect("copied");
}

#[test]
fn threads_and_batches_change_nothing_and_parts_add_up() {
    let folder = Folder::new("imatrix-parts");
    storyteller(&folder);
    held_out(&folder);
    let run = |args: &[&str]| {
        let model = ["imatrix", "storyteller-F16.gguf", "-f", "text.txt", "-c", "64"];
        let output = gguf(&[&model, args].concat(), folder.root());
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    run(&["--chunks", "12", "-o", "whole.gguf", "-j", "1"]);
    run(&["--chunks", "12", "-o", "again.gguf", "-j", "3", "-b", "100", "--no-ppl"]);
    let bytes = |name: &str| fs::read(folder.path(name)).expect("there");
    assert!(bytes("whole.gguf") == bytes("again.gguf"), "threads and batches");
    run(&["--chunks", "5", "-o", "part.gguf"]);
    run(&["--chunks", "7", "--resume", "part.gguf", "-o", "resumed.gguf"]);
    run(&["--chunks", "7", "--chunk", "5", "-o", "rest.gguf"]);
    assert_close(&open(&folder.path("resumed.gguf")), &open(&folder.path("whole.gguf")));
    let merge = ["imatrix", "--in-file", "part.gguf", "--in-file", "rest.gguf", "-o", "sum.gguf"];
    assert!(gguf(&merge, folder.root()).status.success());
    let sum = open(&folder.path("sum.gguf"));
    assert_eq!(sum.datasets, ["text.txt", "text.txt"]);
    let whole = open(&folder.path("whole.gguf"));
    assert_close(&ImportanceMatrix { datasets: whole.datasets.clone(), ..sum }, &whole);
    // The two forms say the same.
    run(&["--chunks", "12", "-o", "whole.dat"]);
    let legacy = open(&folder.path("whole.dat"));
    for (name, entry) in &whole.entries {
        for (a, b) in entry.weights().iter().zip(&legacy.entries[name].weights()) {
            assert!((a / b - 1.0).abs() < 1e-5, "{name}: {a} {b}");
        }
    }
}

#[test]
fn statistics_are_shown() {
    let folder = Folder::new("imatrix-statistics");
    storyteller(&folder);
    held_out(&folder);
    let model = ["imatrix", "storyteller-F16.gguf", "-f", "text.txt", "-c", "64", "--chunks", "3"];
    assert!(gguf(&model, folder.root()).status.success());
    let show = ["imatrix", "--in-file", "imatrix.gguf", "--show-statistics"];
    let shown = gguf(&show, folder.root());
    let shown = text(&shown.stdout);
    assert!(
        shown.starts_with("28 tensors, 3 chunks of text.txt\n") && shown.contains("Means of each layer"),
        "{shown}"
    );
    let report = gguf(&[&show[..], &["--json"]].concat(), folder.root());
    let report: Json = serde_json::from_slice(&report.stdout).expect("JSON");
    assert_eq!(report["tensors"].as_array().map(Vec::len), Some(28));
    assert_eq!(report["layers"].as_array().map(Vec::len), Some(4));
}

#[test]
fn what_cannot_be_is_refused() {
    let folder = Folder::new("imatrix-refused");
    storyteller(&folder);
    held_out(&folder);
    fs::write(folder.path("short.txt"), "Once upon a time").expect("written");
    let cases = [
        (&["storyteller-F16.gguf", "-f", "short.txt"][..], "the text has 5 tokens, 1024 are needed"),
        (&["storyteller-F16.gguf", "-f", "text.txt", "--chunk", "100000"], "the text has"),
        (&["--in-file", "storyteller-F16.gguf"], "not an importance matrix"),
        (&["--in-file", "short.txt"], "not an importance matrix"),
        (&[], "no model and text"),
        (&["storyteller-F16.gguf", "-f", "text.txt", "-o", "short.txt"], "short.txt: exists already"),
        (&["--in-file", "text.txt", "-o", "storyteller-F16.gguf", "--force"], "not an importance matrix"),
    ];
    let before = names(&folder);
    for (args, message) in cases {
        let output = gguf(&[&["imatrix"], args].concat(), folder.root());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains(message), "{args:?}: {}", text(&output.stderr));
        assert_eq!(names(&folder), before);
    }
}
