//! `gguf perplexity`: how well models predict a text, and what share of tasks they get right.

mod kept;
mod tasks;
mod text;

pub(crate) use text::{default_text, measure, table};

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gguf_toolkit::gguf::Reader;
use gguf_toolkit::model::Model;
use gguf_toolkit::perplexity::tasks::TaskKind;

use crate::model_args::{self, RunArgs};

/// Measures the perplexity of models on a text, as llama-perplexity does: lower is better. Or their scores on tasks: higher is better.
///
/// Several models give one table, each compared with the first. Ctrl-C ends the work after the forward pass under way.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf perplexity                                   # the embedded model on its held-out text
  gguf perplexity f16.gguf q4_k_m.gguf -f wiki.test.raw
  gguf perplexity *.gguf -f text.txt --chunks 20 --json
  gguf perplexity f16.gguf -f text.txt -c 256 --stride 64      # every token with many before it
  gguf perplexity f16.gguf -f text.txt --per-token tokens.tsv  # which tokens are unexpected
  gguf perplexity *.gguf -f text.txt --resume part.json        # can be stopped; the same line goes on
  gguf perplexity f16.gguf q4_k_m.gguf --hellaswag hellaswag.txt --tasks 400
  gguf perplexity f16.gguf --winogrande winogrande.csv --per-task answers.tsv
  gguf perplexity f16.gguf --multiple-choice mmlu.bin --json")]
pub(crate) struct Args {
    /// Files, folders or names (default: the embedded model)
    #[arg(value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// Text to measure on, - for standard input (default: the embedded text)
    #[arg(long, short, value_name = "FILE", conflicts_with = "tasks_of")]
    file: Option<PathBuf>,
    /// Tokens of a chunk
    #[arg(long, short, alias = "ctx-size", value_name = "N", default_value_t = 512, conflicts_with = "tasks_of",
          allow_negative_numbers = true, value_parser = model_args::parse_context)]
    context: usize,
    /// Most chunks (default: all)
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = parse_chunks, conflicts_with = "tasks_of")]
    chunks: Option<Chunks>,
    /// Tokens of a forward pass
    #[arg(long, short, value_name = "N", default_value_t = 2048, allow_negative_numbers = true, value_parser = model_args::parse_context)]
    batch: usize,
    /// Let chunks begin N tokens after each other, and score the last N tokens of each alone: more work, a fairer figure
    #[arg(long, alias = "ppl-stride", value_name = "N", conflicts_with = "tasks_of", allow_negative_numbers = true, value_parser = model_args::parse_length)]
    stride: Option<usize>,
    /// Write a line for each scored token: place in the text, number, negative log-likelihood, text (tab-separated)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tasks_of", "resume"])]
    per_token: Option<PathBuf>,
    /// Keep in FILE what is known (each minute and at Ctrl-C), and go on from it where it exists; the figures are those of a
    /// run that was never stopped
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Score HellaSwag's tasks: six lines a task
    #[arg(long, value_name = "FILE", group = "tasks_of", help_heading = TASKS)]
    hellaswag: Option<PathBuf>,
    /// Score WinoGrande's tasks: a CSV file
    #[arg(long, value_name = "FILE", group = "tasks_of", help_heading = TASKS)]
    winogrande: Option<PathBuf>,
    /// Score questions with several answers (TruthfulQA, MMLU, ARC): llama.cpp's binary files
    #[arg(long, value_name = "FILE", group = "tasks_of", help_heading = TASKS)]
    multiple_choice: Option<PathBuf>,
    /// Most tasks, picked at random as llama-perplexity picks them; 0: all (default: 400 of HellaSwag, else all)
    #[arg(
        long, value_name = "N", requires = "tasks_of", help_heading = TASKS,
        aliases = ["hellaswag-tasks", "winogrande-tasks", "multiple-choice-tasks"]
    )]
    tasks: Option<usize>,
    /// Seed of the picks
    #[arg(long, value_name = "N", default_value_t = 1, requires = "tasks_of", help_heading = TASKS)]
    seed: u32,
    /// Write a line for each task: place in the file, right or not, choice, scores of all choices (tab-separated)
    #[arg(long, value_name = "FILE", requires = "tasks_of", help_heading = TASKS)]
    per_task: Option<PathBuf>,
    /// Replace an existing file of --per-token or --per-task
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    run: RunArgs,
    /// Print a JSON array with an object for each model
    #[arg(long)]
    json: bool,
}

/// The heading of options for tasks.
const TASKS: &str = "Tasks";

/// Most chunks; none for all.
type Chunks = Option<usize>;

/// A count of chunks, or -1 for all, as llama-perplexity has it.
fn parse_chunks(text: &str) -> Result<Chunks, String> {
    match text.parse::<i64>() {
        Ok(-1) => Ok(None),
        Ok(chunks @ 1..) => usize::try_from(chunks).map(Some).map_err(|error| error.to_string()),
        _ => Err("at least 1, or -1 for all".into()),
    }
}

impl Args {
    /// The models, the embedded one where none is named.
    fn models(&self) -> Vec<Option<&PathBuf>> {
        if self.models.is_empty() { vec![None] } else { self.models.iter().map(Some).collect() }
    }

    /// The tasks that are asked for.
    fn task_file(&self) -> Option<(TaskKind, &Path)> {
        let files = [
            (TaskKind::HellaSwag, &self.hellaswag),
            (TaskKind::WinoGrande, &self.winogrande),
            (TaskKind::MultipleChoice, &self.multiple_choice),
        ];
        files.into_iter().find_map(|(kind, file)| Some((kind, file.as_deref()?)))
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        !args.force || args.per_token.is_some() || args.per_task.is_some(),
        "--force without --per-token or --per-task"
    );
    match args.task_file() {
        Some((kind, path)) => tasks::run(args, kind, path),
        None => text::run(args),
    }
}

/// Opens a model, the embedded one where none is named.
fn open(path: Option<&PathBuf>) -> anyhow::Result<Reader> {
    path.map_or_else(model_args::embedded, |path| model_args::open(path))
}

#[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
fn bits_per_weight(model: &Model) -> f64 {
    model.weight_bytes() as f64 * 8.0 / model.parameters() as f64
}
