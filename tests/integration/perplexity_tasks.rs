//! `gguf perplexity` on tasks: the answers of llama-perplexity, the same bits in any batch, files that are none.

use std::fs;

use gguf_toolkit::kernels::Pool;
use gguf_toolkit::model::Model;
use gguf_toolkit::perplexity::tasks::{Answer, Task, TaskKind, TaskOptions, TaskRun, TaskScore, TaskSet};
use serde_json::Value as Json;

use super::folder::Folder;
use super::quantize_command::{gguf, storyteller, text};
use super::shared::{json, testdata};
use super::storyteller::f16;

/// Mean log-probabilities may differ from llama-perplexity's by so much; its own differ by 0.0001 from batch to batch.
const TOLERANCE: f64 = 0.01;

fn set(kind: TaskKind) -> TaskSet {
    let name = match kind {
        TaskKind::HellaSwag => "hellaswag.txt",
        TaskKind::WinoGrande => "winogrande.csv",
        TaskKind::MultipleChoice => "multiple-choice.bin",
    };
    TaskSet::read(kind, &fs::read(testdata("tasks").join(name)).expect("tasks")).expect("valid")
}

fn answers(model: &Model, set: &TaskSet, threads: usize, batch: usize) -> Vec<Answer> {
    let pool = Pool::new(threads);
    let options = TaskOptions { batch, ..TaskOptions::default() };
    let mut run = TaskRun::new(model, &pool, set, &options, &[]).expect("tasks of this model");
    while run.advance().expect("computed") {}
    assert_eq!(run.progress().done, set.tasks.len());
    run.answers().to_vec()
}

#[test]
fn answers_are_those_of_llama_perplexity() {
    let model = Model::from_reader(&f16()).expect("loads");
    let expected = json(&testdata("tasks/expected.json"));
    let numbers = |json: &Json| -> Vec<f64> {
        json.as_array().map_or_else(Vec::new, |all| all.iter().map(|n| n.as_f64().expect("a number")).collect())
    };
    let runs = expected["runs"].as_array().expect("runs");
    for run in runs {
        let kind = TaskKind::ALL.into_iter().find(|kind| kind.name() == run["kind"]).expect("a kind");
        let count = run["tasks"].as_u64().map(|n| usize::try_from(n).expect("small"));
        let set = set(kind).pick(count, 1).expect("picked");
        let answers = answers(&model, &set, 2, 2048);
        let right: Vec<f64> = answers.iter().map(|answer| f64::from(u8::from(answer.correct))).collect();
        assert_eq!(right, numbers(&run["right"]), "{kind:?}, {count:?}");
        for (i, scores) in run["scores"].as_array().into_iter().flatten().enumerate() {
            for (own, other) in answers[i].scores.iter().zip(numbers(scores)) {
                assert!((own - other).abs() < TOLERANCE, "{kind:?}, task {}: {own} and {other}", i + 1);
            }
        }
        let score = TaskScore::of(&answers);
        let close = |own: f64, other: f64, what: &str| {
            assert!((own * 100.0 - other).abs() < 1e-3, "{kind:?}, {what}: {own} and {other}");
        };
        if let [low, high] = numbers(&run["interval"])[..] {
            close(score.interval.0, low, "interval");
            close(score.interval.1, high, "interval");
        }
        if let [accuracy, stderr] = numbers(&run["final"])[..] {
            close(score.accuracy, accuracy, "score");
            close(score.stderr, stderr, "error");
            close(score.chance, run["chance"].as_f64().expect("a number"), "chance");
        }
    }
    assert_eq!(runs.len(), 6);
}

#[test]
fn batches_and_threads_change_no_bit() {
    let model = Model::from_reader(&f16()).expect("loads");
    for kind in TaskKind::ALL {
        let set = set(kind).pick(Some(5), 3).expect("picked");
        let one = answers(&model, &set, 1, 2048);
        assert_eq!(one, answers(&model, &set, 3, 64), "{kind:?}");
        assert_eq!(one, answers(&model, &set, 2, 1), "{kind:?}");
        let alone = |task: &Task| {
            let mut one = set.clone();
            one.tasks = vec![task.clone()];
            answers(&model, &one, 2, 2048)
        };
        let alone: Vec<Answer> = set.tasks.iter().flat_map(alone).collect();
        assert_eq!(one, alone, "{kind:?}: each task alone");
    }
}

fn lay_out(name: &str) -> Folder {
    let folder = Folder::new(name);
    storyteller(&folder);
    for name in ["hellaswag.txt", "winogrande.csv", "multiple-choice.bin"] {
        fs::copy(testdata("tasks").join(name), folder.path(name)).expect("copied");
    }
    folder
}

#[test]
fn models_are_compared_in_one_table() {
    let folder = lay_out("tasks-table");
    let made = gguf(&["quantize", "storyteller-F16.gguf", "-t", "Q2_K", "-o", "small.gguf"], folder.root());
    assert!(made.status.success(), "{}", text(&made.stderr));
    let tasks = ["perplexity", "storyteller-F16.gguf", "small.gguf", "--winogrande", "winogrande.csv", "--tasks", "12"];
    let output = gguf(&[&tasks[..], &["--json"]].concat(), folder.root());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let json: Json = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((json[0]["kind"].as_str(), json[0]["tasks"].as_u64()), (Some("WinoGrande"), Some(12)));
    assert_eq!(json[0]["other_answers"], 0);
    assert_eq!(json[1]["model"], "small");
    assert_eq!(json[0]["chance"], 0.5);
    let table = gguf(&tasks, folder.root());
    let table = text(&table.stdout);
    for word in ["model", "score", "change", "small"] {
        assert!(table.contains(word), "{table}");
    }
    let one = ["perplexity", "storyteller-F16.gguf", "--multiple-choice", "multiple-choice.bin", "--per-task", "a.tsv"];
    assert!(gguf(&one, folder.root()).status.success());
    let lines = fs::read_to_string(folder.path("a.tsv")).expect("written");
    assert_eq!(lines.lines().next(), Some("task\tright\tchoice\tscores"));
    assert_eq!(lines.lines().count(), 21);
    let fields: Vec<&str> = lines.lines().nth(4).expect("a line").split('\t').collect();
    assert_eq!((fields[0], fields.len()), ("4", 3 + 5), "the fourth task has five answers");
    let again = gguf(&one, folder.root());
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("exists already"), "{}", text(&again.stderr));
}

#[test]
fn a_file_that_is_no_such_tasks_is_refused_with_the_place() {
    let folder = lay_out("tasks-refused");
    fs::write(folder.path("bad.txt"), "A cat:\n7\na\nb\nc\nd\n").expect("written");
    let cut = fs::read(folder.path("multiple-choice.bin")).expect("there");
    fs::write(folder.path("cut.bin"), &cut[..500]).expect("written");
    for (line, told) in [
        ("--hellaswag bad.txt", "bad.txt: line 2: 7 is no number of an ending (0 to 3)"),
        ("--hellaswag winogrande.csv", "winogrande.csv: line 2: 1,Countess"),
        ("--winogrande bad.txt", "bad.txt: line 1: not five fields"),
        ("--multiple-choice cut.bin", "cut.bin: task 2, byte"),
        ("--multiple-choice hellaswag.txt", "the table of tasks has"),
        ("--hellaswag none.txt", "none.txt"),
        ("--hellaswag hellaswag.txt -f bad.txt", "cannot be used with"),
        ("--hellaswag hellaswag.txt --winogrande winogrande.csv", "cannot be used with"),
        ("--tasks 4", "required"),
        ("--force", "--force without"),
    ] {
        let args: Vec<&str> = ["perplexity", "storyteller-F16.gguf"].into_iter().chain(line.split(' ')).collect();
        let output = gguf(&args, folder.root());
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(text(&output.stderr).contains(told), "{line}: {}", text(&output.stderr));
    }
}
