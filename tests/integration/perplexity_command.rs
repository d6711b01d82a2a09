//! `gguf perplexity`: overlapping chunks, what each token costs, standard input.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value as Json;

use super::folder::Folder;
use super::quantize_command::{gguf, names, storyteller, text};
use super::shared::testdata;

const TEXT_BYTES: usize = 6000;

fn lay_out(name: &str) -> Folder {
    let folder = Folder::new(name);
    storyteller(&folder);
    let held_out = fs::read(testdata("storyteller/heldout.txt")).expect("text");
    fs::write(folder.path("text.txt"), &held_out[..TEXT_BYTES]).expect("written");
    folder
}

fn measured(folder: &Folder, args: &[&str]) -> Json {
    let args = [&["perplexity", "storyteller-F16.gguf", "-f", "text.txt", "--json"], args].concat();
    let output = gguf(&args, folder.root());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let json: Json = serde_json::from_slice(&output.stdout).expect("JSON");
    json[0].clone()
}

/// Place, number, negative log-likelihood and text of each line.
fn tokens(folder: &Folder, name: &str) -> Vec<(usize, u32, f64, String)> {
    let lines = fs::read_to_string(folder.path(name)).expect("written");
    let mut lines = lines.lines();
    assert_eq!(lines.next(), Some("place\ttoken\tnll\ttext"));
    let parsed = lines.map(|line| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [place, token, nll, text] = fields[..] else { panic!("{line}") };
        let number = |text: &str| text.parse::<f64>().expect("a number");
        let text: String = serde_json::from_str(text).expect("a text");
        (place.parse().expect("a place"), token.parse().expect("a token"), number(nll), text)
    });
    parsed.collect()
}

#[test]
fn a_file_tells_what_each_token_costs() {
    let folder = lay_out("perplexity-tokens");
    let json = measured(&folder, &["-c", "128", "--per-token", "tokens.tsv"]);
    let tokens = tokens(&folder, "tokens.tsv");
    let chunks = json["chunks"].as_u64().expect("chunks");
    assert_eq!(tokens.len() as u64, chunks * 63);
    #[allow(clippy::cast_precision_loss, reason = "small")]
    let mean = tokens.iter().map(|token| token.2).sum::<f64>() / tokens.len() as f64;
    assert!((mean.exp() / json["perplexity"].as_f64().expect("a figure") - 1.0).abs() < 1e-5);
    assert_eq!((tokens[0].0, tokens[63].0), (65, 128 + 65), "the second half of each chunk");
    let pieces: String = tokens[..63].iter().map(|token| token.3.as_str()).collect();
    let whole = fs::read_to_string(folder.path("text.txt")).expect("text");
    assert!(whole.contains(pieces.trim()), "{pieces}");
    let again = ["perplexity", "storyteller-F16.gguf", "-f", "text.txt", "-c", "128", "--per-token", "tokens.tsv"];
    let output = gguf(&again, folder.root());
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("exists already"), "{}", text(&output.stderr));
}

#[test]
fn chunks_may_overlap() {
    let folder = lay_out("perplexity-stride");
    let whole = measured(&folder, &["-c", "128"]);
    let strided = measured(&folder, &["-c", "128", "--ppl-stride", "32", "--per-token", "tokens.tsv"]);
    let tokens = tokens(&folder, "tokens.tsv");
    // Every token from the first window's end on is scored once, but for those that fill no window.
    let places: Vec<usize> = tokens.iter().map(|token| token.0).collect();
    assert!(places.windows(2).all(|pair| pair[1] == pair[0] + 1), "{places:?}");
    assert_eq!(places[0], 128 - 32);
    // At least 96 tokens come before each, and not 64.
    let figure = |json: &Json| json["perplexity"].as_f64().expect("a figure");
    assert!(figure(&strided) < figure(&whole) * 1.05, "{strided} {whole}");
    for stride in ["0", "128"] {
        let args = ["perplexity", "storyteller-F16.gguf", "-f", "text.txt", "-c", "128", "--stride", stride];
        let output = gguf(&args, folder.root());
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("a stride of"), "{}", text(&output.stderr));
    }
}

#[test]
fn no_chunks_are_refused_and_a_text_may_be_piped() {
    let folder = lay_out("perplexity-piped");
    let output = gguf(&["perplexity", "storyteller-F16.gguf", "-f", "text.txt", "--chunks", "0"], folder.root());
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("at least 1, or -1 for all"), "{}", text(&output.stderr));
    let mut command = Command::new(env!("CARGO_BIN_EXE_gguf"));
    let args = ["perplexity", "storyteller-F16.gguf", "-f", "-", "-c", "128", "--json"];
    let input = fs::File::open(folder.path("text.txt")).expect("text");
    let output = command.args(args).current_dir(folder.root()).stdin(Stdio::from(input)).output().expect("runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let piped: Json = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(piped[0]["perplexity"], measured(&folder, &["-c", "128"])["perplexity"]);
    let two = ["perplexity", "storyteller-F16.gguf", "storyteller-F16.gguf", "-f", "text.txt", "--per-token", "x.tsv"];
    assert_eq!(gguf(&two, folder.root()).status.code(), Some(2));
    assert_eq!(names(&folder), ["storyteller-F16.gguf", "text.txt"]);
}
