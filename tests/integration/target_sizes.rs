//! `gguf quantize --target-size` and `--target-bpw`.

use std::fs;

use gguf_toolkit::gguf::Reader;

use super::folder::Folder;
use super::quantize_command::{gguf, storyteller, text};
use super::shared::testdata;

#[test]
fn the_file_keeps_to_the_size_and_its_plan_makes_it_again() {
    let folder = Folder::new("target-size");
    storyteller(&folder);
    let matrix = "storyteller.imatrix.gguf";
    fs::copy(testdata("imatrix").join(matrix), folder.path(matrix)).expect("copied");
    let target = 2_400_000;
    let choose = |threads: &str, out: &str, plan: &str| {
        let args = ["quantize", "storyteller-F16.gguf", "--target-size", "2.4MB", "--imatrix", matrix, "-j", threads];
        let output = gguf(&[&args[..], &["-o", out, "--plan", plan]].concat(), folder.root());
        assert!(output.status.success(), "{}", text(&output.stderr));
        fs::read(folder.path(out)).expect("there")
    };
    let one = choose("1", "one.gguf", "one.recipe");
    assert!(one.len() <= target && one.len() > target / 100 * 95, "{} bytes", one.len());
    assert!(one == choose("3", "three.gguf", "three.recipe"), "threads");
    let plan = fs::read_to_string(folder.path("one.recipe")).expect("there");
    assert_eq!(plan, fs::read_to_string(folder.path("three.recipe")).expect("there"));
    assert!(plan.contains("token_embd.weight") && plan.contains(" bytes, error "), "{plan}");
    let again = ["quantize", "storyteller-F16.gguf", "--recipe", "one.recipe", "--imatrix", matrix, "-o", "again.gguf"];
    assert!(gguf(&again, folder.root()).status.success());
    assert!(one == fs::read(folder.path("again.gguf")).expect("there"), "the recipe");
    let types = |name: &str| -> Vec<_> {
        let reader = Reader::open(&folder.path(name)).expect("opens");
        reader.tensors().iter().map(|tensor| tensor.ty).collect()
    };
    let mut different = types("one.gguf");
    different.sort();
    different.dedup();
    assert!(different.len() > 3, "{different:?}");
}

#[test]
fn measured_costs_are_the_same_in_every_run() {
    let folder = Folder::new("target-measured");
    storyteller(&folder);
    let held_out = fs::read_to_string(testdata("storyteller/heldout.txt")).expect("text");
    fs::write(folder.path("some.txt"), &held_out[..6_000]).expect("written");
    let args = ["quantize", "storyteller-F16.gguf", "--target-bpw", "4.5", "--measure-text", "some.txt"];
    let choose = |budget: &str, threads: &str, name: &str| {
        let more = ["--measure", budget, "-j", threads, "-o", &format!("{name}.gguf"), "--plan", name];
        let output = gguf(&[&args[..], &more].concat(), folder.root());
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("divergences measured, which the choice uses"));
        fs::read_to_string(folder.path(name)).expect("there")
    };
    let plan = choose("2", "1", "one.recipe");
    assert!(plan.contains("# 2 divergences measured") && plan.contains(", loss "), "{plan}");
    assert_eq!(plan, choose("2", "3", "three.recipe"));
    let again = ["quantize", "storyteller-F16.gguf", "--recipe", "one.recipe", "-o", "again.gguf"];
    assert!(gguf(&again, folder.root()).status.success());
    let read = |name: &str| fs::read(folder.path(name)).expect("there");
    assert!(read("again.gguf") == read("one.recipe.gguf"), "the recipe alone makes it");
    assert!(choose("1s", "2", "time.recipe").contains(" divergences measured"));
}

#[test]
fn sizes_that_cannot_be_are_told() {
    let folder = Folder::new("target-wrong");
    storyteller(&folder);
    for (args, problem) in [
        (&["--target-size", "100KB"][..], "cannot be made as small as 100000 bytes: the minimum is "),
        (&["--target-size", "4XB"], "a size such as 4.2GB"),
        (&["--target-bpw", "0"], "bits of a weight"),
        (&["--target-bpw", "4", "--target-size", "4MB"], "cannot be used with"),
        (&["--target-bpw", "4", "--recipe", "XL"], "cannot be used with"),
        (&["-t", "Q4_K_M", "--plan", "x.recipe"], "--plan needs --target-size or --target-bpw"),
        (&["-t", "Q4_K_M", "--measure", "5m"], "--measure needs --target-size or --target-bpw"),
        (
            &["--target-bpw", "4", "--measure", "5 minutes"],
            "a time such as 90s, 10m or 2h, or a number of measurements",
        ),
        (&["--target-bpw", "4", "--measure-text", "x"], "--measure <TIME>"),
        (&["--target-size", "20MB", "--plan", "storyteller-F16.gguf"], "exists"),
    ] {
        let output = gguf(&[&["quantize", "storyteller-F16.gguf", "-n"], args].concat(), folder.root());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains(problem), "{}", text(&output.stderr));
    }
}
