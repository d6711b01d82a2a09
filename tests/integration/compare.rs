//! `gguf compare`: the figures of llama-perplexity, its files of logits, models made on the way, and what is written.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value as Json;

use super::folder::Folder;
use super::quantize_command::{gguf, names, storyteller, text};
use super::shared::{json, testdata};

fn report(output: &Output) -> Json {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// A figure of a model, by its place in the object.
fn figure(model: &Json, path: &str) -> f64 {
    model.pointer(path).and_then(Json::as_f64).unwrap_or_else(|| panic!("{path} in {model}"))
}

fn refused(output: &Output, what: &str) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains(what), "{stderr}");
}

/// Compares with a folder for temporary files, in which nothing is left.
fn compare_in(folder: &Folder, args: &[&str]) -> Output {
    let scratch = folder.path("scratch");
    fs::create_dir_all(&scratch).expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_gguf"));
    command.arg("compare").args(args).current_dir(folder.root()).env("TMPDIR", &scratch);
    let output = command.output().expect("runs");
    assert_eq!(fs::read_dir(&scratch).expect("a folder").count(), 0, "{args:?}");
    output
}

/// The figures of a model against those of llama-perplexity: by so much of the figure, or by so much.
fn assert_close(name: &str, model: &Json, expected: &Json, relative: f64, absolute: f64) {
    let figures = [
        ("/perplexity/value", "perplexity"),
        ("/perplexity/error", "perplexity_error"),
        ("/ln_perplexity_ratio/value", "ln_ratio"),
        ("/ln_perplexity_ratio/error", "ln_ratio_error"),
        ("/kl_divergence/mean", "kl_mean"),
        ("/kl_divergence/error", "kl_mean_error"),
        ("/kl_divergence/median", "kl_median"),
        ("/kl_divergence/p99", "kl_99"),
        ("/kl_divergence/p99_9", "kl_99_9"),
        ("/kl_divergence/max", "kl_max"),
        ("/probability_change/mean", "p_change_mean"),
        ("/probability_change/error", "p_change_mean_error"),
        ("/probability_change_rms/value", "p_change_rms"),
        ("/probability_change_rms/error", "p_change_rms_error"),
        ("/same_top/value", "same_top"),
        ("/same_top/error", "same_top_error"),
    ];
    for (path, key) in figures {
        let (found, expected) = (figure(model, path), expected[key].as_f64().expect(key));
        let allowed = (expected.abs() * relative).max(absolute);
        assert!((found - expected).abs() <= allowed, "{name} {key}: {found}, expected {expected}");
    }
}

#[test]
fn exact_figures_are_those_of_decoded_weights() {
    let folder = Folder::new("compare-exact");
    storyteller(&folder);
    let held_out = fs::read_to_string(testdata("storyteller/heldout.txt")).expect("text");
    fs::write(folder.path("some.txt"), &held_out[..8_000]).expect("written");
    for (from, ty, to) in [("storyteller-F16.gguf", "Q8_0", "q8.gguf"), ("q8.gguf", "F32", "q8-f32.gguf")] {
        assert!(gguf(&["quantize", from, "-t", ty, "-o", to, "--allow-requantize"], folder.root()).status.success());
    }
    let mean = |more: &[&str]| {
        let args = ["storyteller-F16.gguf", "-f", "some.txt", "--chunks", "2", "-c", "256", "--json"];
        let report = report(&compare_in(&folder, &[&args[..1], more, &args[1..]].concat()));
        figure(&report["models"][0], "/kl_divergence/mean")
    };
    let (rounded, exact) = (mean(&["q8.gguf"]), mean(&["q8.gguf", "--exact"]));
    assert_eq!(exact, mean(&["q8-f32.gguf"]));
    assert!(exact < rounded / 1.5, "{exact} and {rounded}: rounded input adds to the loss of Q8_0");
}

/// Where both programs compute with floats, their figures differ by roundings alone.
#[test]
fn figures_are_those_of_llama_perplexity() {
    let folder = Folder::new("compare-figures");
    storyteller(&folder);
    let heldout = testdata("storyteller/heldout.txt").display().to_string();
    let golden = json(&testdata("storyteller-compare.json"));
    let expected = golden["floats"]["types"].as_object().expect("types");
    let quantize = |from: &str, ty: &str, to: &str| {
        let output = gguf(&["quantize", from, "-t", ty, "-o", to, "--allow-requantize"], folder.root());
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    quantize("storyteller-F16.gguf", "F32", "base.gguf");
    let files: Vec<String> = expected.keys().map(|ty| format!("{ty}-F32.gguf")).collect();
    for (ty, file) in expected.keys().zip(&files) {
        quantize("storyteller-F16.gguf", ty, "quantized.gguf");
        quantize("quantized.gguf", "F32", file);
        fs::remove_file(folder.path("quantized.gguf")).expect("removed");
    }
    let mut args = vec!["base.gguf"];
    args.extend(files.iter().map(String::as_str));
    args.extend(["-f", &heldout, "--chunks", "4", "--json"]);
    let report = report(&compare_in(&folder, &args));
    assert_eq!(
        (&report["schema_version"], &report["chunks"], &report["positions"]),
        (&1.into(), &4.into(), &1020.into())
    );
    let models = report["models"].as_array().expect("models");
    for (model, (name, expected)) in models.iter().zip(expected) {
        assert_close(name, model, expected, 0.01, 0.00005);
        let base = figure(&report, "/base/perplexity/value");
        assert!((base / expected["base_perplexity"].as_f64().expect("a figure") - 1.0).abs() < 1e-4);
    }
}

/// Quantized weights are multiplied with rounded input, which each program rounds in its own way: that is seen beside small losses.
#[test]
fn figures_of_quantized_models_are_close_to_those_of_llama_perplexity() {
    let folder = Folder::new("compare-quantized");
    storyteller(&folder);
    let heldout = testdata("storyteller/heldout.txt").display().to_string();
    let golden = json(&testdata("storyteller-compare.json"));
    let expected = golden["quantized"]["types"].as_object().expect("types");
    let types: Vec<&str> = expected.keys().map(String::as_str).collect();
    let args = ["storyteller-F16.gguf", "--types", &types.join(","), "-f", &heldout, "--chunks", "8", "--json"];
    let report = report(&compare_in(&folder, &args));
    let models = report["models"].as_array().expect("models");
    assert_eq!(models.len(), types.len());
    for (model, (name, expected)) in models.iter().zip(expected) {
        assert_eq!(model["file_type"], name.as_str());
        let close = |path: &str, key: &str, relative: f64, absolute: f64| {
            let (found, expected) = (figure(model, path), expected[key].as_f64().expect(key));
            let allowed = expected.abs() * relative + absolute;
            assert!((found - expected).abs() <= allowed, "{name} {key}: {found}, expected {expected}");
        };
        close("/perplexity/value", "perplexity", 0.003, 0.0);
        close("/kl_divergence/mean", "kl_mean", 0.015, 0.0001);
        close("/probability_change_rms/value", "p_change_rms", 0.03, 0.001);
        close("/same_top/value", "same_top", 0.0, 0.01);
    }
    let verdicts: Vec<&str> = models.iter().filter_map(|model| model["verdict"].as_str()).collect();
    assert_eq!(verdicts, ["none", "small", "small", "clear"]);
}

/// The same file of logits is written once and read then; figures are those of a run without it.
#[test]
fn logits_of_the_base_are_written_and_read() {
    let folder = Folder::new("compare-logits");
    storyteller(&folder);
    fs::write(folder.path("text.txt"), heldout(8000)).expect("written");
    fs::write(folder.path("other.txt"), &heldout(20_000)[9000..]).expect("written");
    let args =
        ["storyteller-F16.gguf", "--types", "Q4_0", "-f", "text.txt", "-c", "128", "--json", "--kl-base", "logits.bin"];
    let first = report(&compare_in(&folder, &args));
    let bytes = fs::metadata(folder.path("logits.bin")).expect("written").len();
    let chunks = first["chunks"].as_u64().expect("chunks");
    assert_eq!(bytes, 20 + chunks * 128 * 4 + chunks * 63 * (8 + 2048 * 2));
    let again = compare_in(&folder, &args);
    assert!(text(&again.stderr).contains("storyteller-F16 is not run"), "{}", text(&again.stderr));
    let again = report(&again);
    // Without a text and a context, those of the file.
    let short = ["storyteller-F16.gguf", "--types", "Q4_0", "--json", "--kl-base", "logits.bin"];
    let short = report(&compare_in(&folder, &short));
    for other in [&again, &short] {
        for path in ["/models/0/perplexity/value", "/models/0/kl_divergence/mean", "/base/perplexity/value"] {
            let (a, b) = (figure(&first, path), figure(other, path));
            assert!((a / b - 1.0).abs() < 2e-3, "{path}: {a} and {b}");
        }
        assert_eq!(other["base"]["prompt_tokens_per_second"], Json::Null);
    }
    let with = |text: &str, context: &str| {
        let args = ["--types", "Q4_0", "-f", text, "-c", context, "--kl-base", "logits.bin"];
        compare_in(&folder, &[&["storyteller-F16.gguf"], &args[..]].concat())
    };
    refused(&with("other.txt", "128"), "logits.bin: is of another text than other.txt");
    refused(&with("text.txt", "64"), "logits.bin: has chunks of 128 tokens, and not 64");
    fs::write(folder.path("logits.bin"), "_logits_").expect("written");
    refused(&with("text.txt", "128"), "logits.bin: no file of logits");
}

/// The first bytes of the text that the storyteller has not seen.
fn heldout(bytes: usize) -> String {
    let text = fs::read_to_string(testdata("storyteller/heldout.txt")).expect("text");
    let end = (0..=bytes).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    text[..end].to_owned()
}

#[test]
fn what_is_made_is_removed_or_kept() {
    let folder = Folder::new("compare-made");
    fs::write(folder.path("text.txt"), heldout(3000)).expect("written");
    let checkpoint = testdata("storyteller").display().to_string();
    let args = [checkpoint.as_str(), "--types", "Q8_0,Q4_0", "-f", "text.txt", "-c", "64", "--chunks", "2"];
    let output = compare_in(&folder, &args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(names(&folder), ["scratch", "text.txt"]);
    let output = compare_in(&folder, &[&args[..], &["--keep", "made"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mut kept: Vec<_> =
        fs::read_dir(folder.path("made")).expect("kept").map(|e| e.expect("entry").file_name()).collect();
    kept.sort();
    assert_eq!(kept, ["storyteller-Q4_0.gguf", "storyteller-Q8_0.gguf", "storyteller.gguf"]);
    // What stands there is not replaced.
    refused(&compare_in(&folder, &[&args[..], &["--keep", "made"]].concat()), "exists already");
    // Without a base, the embedded model.
    let output = compare_in(&folder, &["--types", "Q4_0", "-f", "text.txt", "-c", "64", "--json"]);
    assert_eq!(report(&output)["models"][0]["model"], "storyteller-Q4_0");
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let folder = Folder::new("compare-refused");
    storyteller(&folder);
    fs::write(folder.path("text.txt"), heldout(3000)).expect("written");
    let made = gguf(&["bench", "--shape", "llama-tiny", "--save", "tiny.gguf"], folder.root());
    assert!(made.status.success(), "{}", text(&made.stderr));
    let base = ["storyteller-F16.gguf", "-f", "text.txt", "-c", "64"];
    let with = |args: &[&str]| compare_in(&folder, &[&base, args].concat());
    let other = compare_in(&folder, &["storyteller-F16.gguf", "tiny.gguf", "-f", "text.txt", "-c", "64"]);
    refused(&other, "models of other vocabularies cannot be compared");
    refused(&with(&[]), "nothing to compare the base with");
    refused(&with(&["--types", "Q9_0"]), "--list-types");
    refused(&with(&["--types", "IQ2_XXS"]), "--imatrix");
    refused(&with(&["--types", "Q4_0", "--chunks", "0"]), "--chunks");
    refused(&with(&["--imatrix", "x.gguf"]), "--types");
    refused(&with(&["--types", "Q4_0", "--csv", "text.txt"]), "exists already");
    refused(&with(&["--types", "Q4_0", "--html", "storyteller-F16.gguf", "--force"]), "is an input");
    let short = ["storyteller-F16.gguf", "--types", "Q4_0", "-f", "text.txt", "-c", "1024"];
    refused(&compare_in(&folder, &short), "are needed (twice the context");
    assert_eq!(names(&folder), ["scratch", "storyteller-F16.gguf", "text.txt", "tiny.gguf"]);
}

#[test]
fn reports_are_complete_and_need_nothing_else() {
    let folder = Folder::new("compare-reports");
    storyteller(&folder);
    fs::write(folder.path("text.txt"), heldout(8000)).expect("written");
    let files = ["--html", "report.html", "--svg", "front.svg", "--csv", "figures.csv"];
    let base = ["storyteller-F16.gguf", "storyteller-F16.gguf", "--types", "Q8_0,Q2_K", "-f", "text.txt", "-c", "128"];
    let output = compare_in(&folder, &[&base[..], &files].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let stdout = text(&output.stdout);
    assert!(stdout.contains("Smallest without visible loss: storyteller-Q8_0"), "{stdout}");

    let csv = read(&folder, "figures.csv");
    let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 5, "a header, the base and three models");
    assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{csv}");
    let column = lines[0].iter().position(|name| *name == "kl_mean").expect("a column");
    let same: f64 = lines[2][column].parse().expect("a number");
    let coarse: f64 = lines[4][column].parse().expect("a number");
    assert!(same.abs() < 1e-6 && coarse > 0.05, "{csv}");

    let html = read(&folder, "report.html");
    for part in
        ["<details open>", "Q2_K", "ffn_down", "class=\"wide\"", "class=\"narrow\"", "prefers-color-scheme:dark"]
    {
        assert!(html.contains(part), "{part}");
    }
    // Nothing is loaded, and no script runs; names of namespaces are no addresses.
    let plain = html.replace("http://www.w3.org/2000/svg", "");
    for foreign in ["http:", "https:", "<script", "src=", "@import", "url("] {
        assert!(!plain.contains(foreign), "{foreign}");
    }
    balanced(&html);
    let svg = read(&folder, "front.svg");
    assert!(svg.starts_with("<svg") && svg.contains("<style>") && svg.contains("Q2_K"));
    balanced(&svg);
}

fn read(folder: &Folder, name: &str) -> String {
    fs::read_to_string(Path::new(&folder.path(name))).expect("written")
}

/// Every element that is opened is closed, in order.
fn balanced(markup: &str) {
    let mut open: Vec<&str> = Vec::new();
    for tag in markup.split('<').skip(1).filter_map(|part| part.split_once('>')).map(|(tag, _)| tag) {
        let name = tag.trim_start_matches('/').split([' ', '\n', '/']).next().unwrap_or_default();
        let empty = tag.ends_with('/') || matches!(name, "meta" | "!doctype" | "br" | "!--");
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed.trim()), "{tag}");
        } else if !empty {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}
