//! The scores of models on tasks.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use gguf_toolkit::files::read_whole;
use gguf_toolkit::kernels::Pool;
use gguf_toolkit::model::Model;
use gguf_toolkit::perplexity::Kept;
use gguf_toolkit::perplexity::tasks::{Answer, TaskKind, TaskOptions, TaskRun, TaskScore, TaskSet};
use gguf_toolkit::printable::printable_path;
use serde_json::json;

use super::kept::{Keeper, sha256};
use super::{Args, bits_per_weight, open};
use crate::interrupt::Catching;
use crate::model_args::{self, short_name};
use crate::table::{Column, Table};
use crate::{outputs, progress, units};

/// Maximum bytes of a file of tasks; the largest published one has some 20 MB.
const MAX_BYTES: u64 = 1 << 30;
/// Tasks of `HellaSwag` unless others are wanted, as in llama-perplexity.
const HELLASWAG_TASKS: usize = 400;

/// A model whose answers are known.
struct Scored {
    name: String,
    bytes: u64,
    bits_per_weight: f64,
    answers: Vec<Answer>,
    score: TaskScore,
    time: Duration,
}

pub(super) fn run(args: &Args, kind: TaskKind, path: &Path) -> anyhow::Result<ExitCode> {
    let bytes = read_whole(path, MAX_BYTES)?;
    let set = TaskSet::read(kind, &bytes).with_context(|| printable_path(path).to_string())?;
    for warning in &set.warnings {
        eprintln!("warning: {}: {warning}", printable_path(path));
    }
    let default = if kind == TaskKind::HellaSwag { HELLASWAG_TASKS } else { 0 };
    let count = args.tasks.unwrap_or(default);
    let set = set.pick((count > 0).then_some(count), args.seed).with_context(|| printable_path(path).to_string())?;
    if let Some(path) = &args.per_task {
        anyhow::ensure!(args.models.len() < 2, "--per-task is for one model");
        outputs::check(path, 1, args.force)?;
    }
    let settings = vec![
        ("tasks".to_owned(), kind.name().to_owned()),
        ("file (SHA-256)".to_owned(), sha256(&bytes)),
        ("tasks wanted".to_owned(), count.to_string()),
        ("seed".to_owned(), args.seed.to_string()),
        ("cache".to_owned(), args.run.kv_type.to_string()),
    ];
    let mut keeper = Keeper::open(args.resume.as_deref(), settings, args.models().len())?;
    let options = TaskOptions { batch: args.batch, kv_type: args.run.kv_type };
    let pool = args.run.pool()?;
    let catching = Catching::new();
    let mut scored: Vec<Scored> = Vec::new();
    for (place, path) in args.models().into_iter().enumerate() {
        let reader = open(path)?;
        let model = args.run.model(&reader)?;
        let name = short_name(path);
        let mut work = Work { keeper: &mut keeper, catching: &catching, place };
        let Some((answers, time)) = work.score(&model, &name, &pool, &set, &options)? else { break };
        let score = TaskScore::of(&answers);
        let bits_per_weight = bits_per_weight(&model);
        scored.push(Scored { name, bytes: reader.file_bytes(), bits_per_weight, answers, score, time });
    }
    if let (Some(path), Some(one)) = (&args.per_task, scored.first()) {
        write_answers(path, args.force, &one.answers)?;
    }
    let interrupted = scored.len() < args.models().len();
    if args.json {
        let all: Vec<_> = scored.iter().map(|one| as_json(one, &scored[0], kind)).collect();
        model_args::print(&format!("{:#}\n", serde_json::Value::from(all)))?;
    } else if !scored.is_empty() {
        table(&scored, kind)?;
    }
    Ok(if interrupted { ExitCode::from(130) } else { ExitCode::SUCCESS })
}

/// The run of one model among those of a command.
struct Work<'a, 'b> {
    keeper: &'a mut Keeper<'b>,
    catching: &'a Catching,
    /// The model's place in the command, from 0.
    place: usize,
}

impl Work<'_, '_> {
    /// Scores all tasks with a progress bar. Returns nothing after Ctrl-C, which is reported.
    fn score(
        &mut self,
        model: &Model,
        name: &str,
        pool: &Pool,
        set: &TaskSet,
        options: &TaskOptions,
    ) -> anyhow::Result<Option<(Vec<Answer>, Duration)>> {
        let failed = |error| anyhow::anyhow!("{name}: {error}");
        let (known, before) = match self.keeper.begin(self.place, name, model)? {
            None => (Vec::new(), Duration::ZERO),
            Some(Kept::Tasks { scores, time }) => (scores, time),
            Some(Kept::Text(_)) => anyhow::bail!("{name}: a text was measured, and no tasks"),
        };
        let mut run = TaskRun::new(model, pool, set, options, &known).map_err(failed)?;
        let trained = model.hparams().context_length;
        if run.longest() > trained {
            eprintln!("warning: {name}: tasks of up to {} tokens, the model was trained on {trained}", run.longest());
        }
        let bar = progress::steps(run.progress().total as u64, name);
        bar.set_position(known.len() as u64);
        let mut last_said = Instant::now();
        let kept = |run: &TaskRun<'_>| Kept::Tasks {
            scores: run.answers().iter().map(|answer| answer.scores.clone()).collect(),
            time: before + run.time(),
        };
        while !self.catching.interrupted() && run.advance().map_err(failed)? {
            let now = run.progress();
            if bar.is_hidden() && last_said.elapsed() > Duration::from_secs(60) {
                eprintln!("{name}: task {} of {}, {:.2} % right", now.done, now.total, now.accuracy * 100.0);
                last_said = Instant::now();
            }
            bar.set_position(now.done as u64);
            bar.set_message(format!("{:.2} %", now.accuracy * 100.0));
            self.keeper.keep(self.place, kept(&run), now.done == now.total)?;
        }
        bar.finish_and_clear();
        let now = run.progress();
        if now.done == now.total {
            return Ok(Some((run.answers().to_vec(), before + run.time())));
        }
        self.keeper.keep(self.place, kept(&run), true)?;
        eprintln!("{name}: stopped after task {} of {}: {}", now.done, now.total, self.keeper.how_to_go_on());
        Ok(None)
    }
}

/// Writes a line for each task: place, whether the answer is right, its number (from 0), and the scores of all choices.
fn write_answers(path: &Path, force: bool, answers: &[Answer]) -> anyhow::Result<()> {
    let mut lines = String::from("task\tright\tchoice\tscores\n");
    for answer in answers {
        let scores: Vec<String> = answer.scores.iter().map(|score| format!("{score:.6}")).collect();
        let right = u8::from(answer.correct);
        lines.push_str(&format!("{}\t{right}\t{}\t{}\n", answer.place, answer.chosen, scores.join("\t")));
    }
    outputs::write(path, force, lines.as_bytes())
}

/// The number of tasks to which two models give other answers.
fn other_answers(one: &Scored, other: &Scored) -> usize {
    one.answers.iter().zip(&other.answers).filter(|(a, b)| a.chosen != b.chosen).count()
}

#[allow(clippy::cast_precision_loss, reason = "rates for people")]
fn tasks_per_second(scored: &Scored) -> f64 {
    scored.score.tasks as f64 / scored.time.as_secs_f64()
}

fn as_json(scored: &Scored, first: &Scored, kind: TaskKind) -> serde_json::Value {
    let score = &scored.score;
    json!({
        "model": scored.name,
        "kind": kind.name(),
        "tasks": score.tasks,
        "correct": score.correct,
        "accuracy": score.accuracy,
        "stderr": score.stderr,
        "interval": [score.interval.0, score.interval.1],
        "chance": score.chance,
        "other_answers": other_answers(scored, first),
        "seconds": scored.time.as_secs_f64(),
        "tasks_per_second": tasks_per_second(scored),
    })
}

/// One line a model: size, score, difference from the first, speed.
fn table(scored: &[Scored], kind: TaskKind) -> anyhow::Result<()> {
    let mut table = Table::new([
        Column::names("model"),
        Column::right("size").optional(2),
        Column::right("bits/weight").optional(5),
        Column::right("score"),
        Column::right("± error").optional(1),
        Column::right("95 % interval").optional(4),
        Column::right("change"),
        Column::right("other answers").optional(3),
        Column::right("tasks/s").optional(6),
    ]);
    let percent = |share: f64| format!("{:.2}", share * 100.0);
    for (i, one) in scored.iter().enumerate() {
        let score = &one.score;
        let beside_first = |text: String| if i == 0 { "-".to_owned() } else { text };
        table.row([
            one.name.clone(),
            units::bytes(one.bytes),
            format!("{:.2}", one.bits_per_weight),
            format!("{} %", percent(score.accuracy)),
            percent(score.stderr),
            format!("{} to {}", percent(score.interval.0), percent(score.interval.1)),
            beside_first(format!("{:+.2}", (score.accuracy - scored[0].score.accuracy) * 100.0)),
            beside_first(other_answers(one, &scored[0]).to_string()),
            format!("{:.1}", tasks_per_second(one)),
        ]);
    }
    table.write(&mut std::io::stdout().lock())?;
    let score = &scored[0].score;
    eprintln!("{}: {} tasks; at random {} % would be right", kind.name(), score.tasks, percent(score.chance));
    Ok(())
}
