//! `gguf perplexity --resume`: what is stopped goes on with the bits of what never was.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use gguf_toolkit::kernels::Pool;
use gguf_toolkit::model::Model;
use gguf_toolkit::perplexity::{Kept, Measurement, Options, Partial, State, perplexity};
use serde_json::Value as Json;

use super::folder::Folder;
use super::quantize_command::{gguf, names, storyteller, text};
use super::shared::testdata;
use super::storyteller::f16;

fn lay_out(name: &str, bytes: usize) -> Folder {
    let folder = Folder::new(name);
    storyteller(&folder);
    let held_out = fs::read(testdata("storyteller/heldout.txt")).expect("text");
    fs::write(folder.path("text.txt"), &held_out[..bytes.min(held_out.len())]).expect("written");
    folder
}

/// The figures of all models, and what is said of them.
fn figures(folder: &Folder, line: &str) -> Vec<(Json, Json)> {
    let args: Vec<&str> = ["perplexity", "--json"].into_iter().chain(line.split_whitespace()).collect();
    let output = gguf(&args, folder.root());
    assert!(output.status.success(), "{line}: {}", text(&output.stderr));
    let json: Json = serde_json::from_slice(&output.stdout).expect("JSON");
    let figure = |model: &Json| {
        let names = ["perplexity", "accuracy"];
        let value = names.into_iter().find_map(|name| model.get(name)).expect("a figure");
        (value.clone(), model["stderr"].clone())
    };
    json.as_array().expect("models").iter().map(figure).collect()
}

#[test]
fn a_measurement_goes_on_from_any_chunk_with_the_same_bits() {
    let model = Model::from_reader(&f16()).expect("loads");
    let pool = Pool::new(2);
    let held_out = fs::read_to_string(testdata("storyteller/heldout.txt")).expect("text");
    for stride in [None, Some(16)] {
        let options = Options { context: 64, batch: 64, chunks: Some(4), stride, ..Options::default() };
        let whole =
            perplexity(&model, &pool, &held_out, &options, &mut |_| true).expect("measured").expect("not stopped");
        for stop in 0..=4 {
            let begin = |options, done| Measurement::new(&model, &pool, &held_out, options, done).expect("begun");
            let mut first = begin(&options, Partial::default());
            for _ in 0..stop {
                assert!(first.advance().expect("computed"));
            }
            let partial = first.partial();
            assert_eq!(partial.chunks, stop);
            // What goes on has other passes.
            let mut rest = begin(&Options { batch: 200, ..options.clone() }, partial);
            while rest.advance().expect("computed") {}
            let outcome = rest.outcome();
            assert_eq!(outcome.perplexity.to_bits(), whole.perplexity.to_bits(), "{stop}");
            assert_eq!(outcome.stderr.to_bits(), whole.stderr.to_bits(), "{stop}");
        }
        let done = Partial { chunks: 2, ..Partial::default() };
        assert!(Measurement::new(&model, &pool, &held_out, &options, done).is_err(), "sums of other chunks");
    }
}

#[test]
fn a_table_goes_on_where_it_was_stopped() {
    let folder = lay_out("resume-table", 6000);
    let made = gguf(&["quantize", "storyteller-F16.gguf", "-t", "Q4_0", "-o", "q4.gguf"], folder.root());
    assert!(made.status.success());
    let both = "storyteller-F16.gguf q4.gguf -f text.txt -c 64";
    let whole = figures(&folder, &format!("{both} --chunks 6"));
    // One model, then two, then more chunks of both.
    figures(&folder, "storyteller-F16.gguf -f text.txt -c 64 --chunks 3 --resume s.json");
    figures(&folder, &format!("{both} --chunks 4 --resume s.json -b 100"));
    assert_eq!(figures(&folder, &format!("{both} --chunks 6 --resume s.json -j 3")), whole);
    assert_eq!(figures(&folder, &format!("{both} --chunks 6 --resume s.json")), whole, "nothing is left to do");
    fs::write(folder.path("other.txt"), fs::read(folder.path("text.txt")).expect("text").to_ascii_uppercase())
        .expect("written");
    let state = fs::read(folder.path("s.json")).expect("written");
    for (line, told) in [
        ("storyteller-F16.gguf q4.gguf -f other.txt -c 64", "s.json: of a run with text (SHA-256) "),
        ("storyteller-F16.gguf q4.gguf -f text.txt -c 32", "s.json: of a run with context 64, and here it is 32"),
        ("storyteller-F16.gguf q4.gguf -f text.txt -c 64 --stride 8", "stride none, and here it is 8"),
        ("storyteller-F16.gguf q4.gguf -f text.txt -c 64 --kv-type f32", "cache f16, and here it is f32"),
        ("q4.gguf storyteller-F16.gguf -f text.txt -c 64", "s.json: its model 1 is storyteller-F16 ("),
        ("storyteller-F16.gguf -f text.txt -c 64", "s.json: of a run over 2 models, and here there are 1"),
        ("storyteller-F16.gguf q4.gguf -f text.txt -c 64 --chunks 2", "6 chunks are measured already, 2 are wanted"),
    ] {
        let args: Vec<&str> = ["perplexity", "--resume", "s.json"].into_iter().chain(line.split_whitespace()).collect();
        let output = gguf(&args, folder.root());
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(text(&output.stderr).contains(told), "{line}: {}", text(&output.stderr));
    }
    assert!(fs::read(folder.path("s.json")).expect("there") == state, "a refused run changes nothing");
    // Other files are not written over.
    let before = fs::read(folder.path("text.txt")).expect("text");
    let output = gguf(&["perplexity", "storyteller-F16.gguf", "-f", "text.txt", "--resume", "text.txt"], folder.root());
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("text.txt: not the state of a measurement"), "{}", text(&output.stderr));
    assert_eq!(fs::read(folder.path("text.txt")).expect("text"), before);
}

#[test]
fn tasks_go_on_where_they_were_stopped() {
    let folder = lay_out("resume-tasks", 0);
    fs::copy(testdata("tasks/hellaswag.txt"), folder.path("tasks.txt")).expect("copied");
    let line = "storyteller-F16.gguf --hellaswag tasks.txt --tasks 6";
    let whole = figures(&folder, &format!("{line} --resume s.json"));
    // As it would be after the second task.
    let path = folder.path("s.json");
    let mut state = State::load(&path).expect("a state").expect("there");
    let Kept::Tasks { scores, .. } = &mut state.models[0].kept else { panic!("tasks") };
    assert_eq!(scores.len(), 6);
    scores.truncate(2);
    state.save(&path).expect("written");
    assert_eq!(figures(&folder, &format!("{line} --resume s.json -b 1")), whole);
    let output =
        gguf(&["perplexity", "storyteller-F16.gguf", "--hellaswag", "tasks.txt", "--resume", "s.json"], folder.root());
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("tasks wanted 6, and here it is 400"), "{}", text(&output.stderr));
}

#[cfg(unix)]
#[test]
fn control_c_keeps_what_is_known() {
    let folder = lay_out("resume-interrupt", usize::MAX);
    let args = ["perplexity", "storyteller-F16.gguf", "-f", "text.txt", "-c", "128", "-b", "128", "--resume", "s.json"];
    let mut wait = Duration::from_millis(200);
    let chunks = loop {
        let _ = fs::remove_file(folder.path("s.json"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_gguf"));
        let child = command.args(args).current_dir(folder.root()).stderr(Stdio::piped()).stdout(Stdio::piped());
        let child = child.spawn().expect("runs");
        std::thread::sleep(wait);
        assert!(Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().expect("runs").success());
        let output = child.wait_with_output().expect("ends");
        assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
        // It may have been stopped before it began.
        if let Some(state) = State::load(&folder.path("s.json")).expect("a state")
            && let Kept::Text(partial) = &state.models[0].kept
            && partial.chunks > 0
        {
            let told = text(&output.stderr);
            assert!(told.contains(&format!("stopped after chunk {} of ", partial.chunks)), "{told}");
            assert!(told.contains("so far: the same command goes on from s.json"), "{told}");
            assert!(output.stdout.is_empty());
            break partial.chunks;
        }
        wait *= 2;
        assert!(wait < Duration::from_secs(60), "nothing is kept");
    };
    let line = format!("storyteller-F16.gguf -f text.txt -c 128 --chunks {}", chunks + 2);
    assert_eq!(figures(&folder, &format!("{line} --resume s.json")), figures(&folder, &line));
    assert_eq!(names(&folder), ["s.json", "storyteller-F16.gguf", "text.txt"]);
}
