//! A run over tasks: as many as fit share forward passes. What the texts of a task begin with is evaluated once, and each text goes on
//! from a clone of its state.

use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::prepared::{Prepared, Target};
use super::{Answer, TaskError, TaskKind, TaskScore, TaskSet};
use crate::cpu::{KvType, Part, Rows, Sequence, SequenceOptions};
use crate::kernels::{Pool, vector::log_sum_exp};
use crate::model::Model;
use crate::perplexity::MAX_LOGITS_BYTES;

/// Options of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskOptions {
    /// Tokens of a forward pass, but for a text that has more; the scores do not depend on it.
    pub batch: usize,
    /// Type of cached keys and values.
    pub kv_type: KvType,
}

impl Default for TaskOptions {
    fn default() -> Self {
        Self { batch: 2048, kv_type: KvType::F16 }
    }
}

/// The progress of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TaskProgress {
    /// Tasks done.
    pub done: usize,
    /// All tasks.
    pub total: usize,
    /// The share of right answers so far.
    pub accuracy: f64,
}

/// A run over tasks.
pub struct TaskRun<'a> {
    model: &'a Model,
    pool: &'a Pool,
    options: TaskOptions,
    kind: TaskKind,
    tasks: Vec<Prepared>,
    answers: Vec<Answer>,
    time: Duration,
}

impl<'a> TaskRun<'a> {
    /// Begins with `set`, after its first tasks if these have their scores already.
    ///
    /// # Errors
    /// When the model does not predict tokens, a text cannot be encoded, is too long or has nothing that could be scored, or `scores` are
    /// not of these tasks.
    pub fn new(
        model: &'a Model,
        pool: &'a Pool,
        set: &TaskSet,
        options: &TaskOptions,
        scores: &[Vec<f64>],
    ) -> Result<Self, TaskError> {
        if !model.decoder().has_logits() {
            return Err(TaskError::NoLogits);
        }
        let targets = set.kind.format().targets;
        let prepare = |task| Prepared::new(task, model.tokenizer(), targets);
        let tasks: Vec<Prepared> = set.tasks.par_iter().map(prepare).collect::<Result<_, _>>()?;
        if let Some(limit) = model.decoder().learned_positions()
            && let Some(task) = tasks.iter().find(|task| task.longest() > limit)
        {
            return Err(TaskError::TooLong { task: task.place, tokens: task.longest(), limit });
        }
        let fits = |(task, scores): (&Prepared, &Vec<f64>)| task.texts.len() == scores.len();
        if scores.len() > tasks.len() || !tasks.iter().zip(scores).all(fits) {
            return Err(TaskError::OtherTasks { found: scores.len(), expected: tasks.len() });
        }
        let mut run = Self {
            model,
            pool,
            options: options.clone(),
            kind: set.kind,
            tasks,
            answers: Vec::new(),
            time: Duration::ZERO,
        };
        scores.iter().for_each(|scores| run.answer(scores.clone()));
        Ok(run)
    }

    /// Evaluates the next tasks, as many as fit a forward pass. Returns whether there were any.
    ///
    /// # Errors
    /// When the model computes NaN or infinity.
    pub fn advance(&mut self) -> Result<bool, TaskError> {
        let start = Instant::now();
        let left = &self.tasks[self.answers.len()..];
        let mut tokens = 0;
        let fits = |task: &&Prepared| {
            tokens += task.own_tokens();
            tokens <= self.options.batch
        };
        let count = left.iter().take_while(fits).count().max(1).min(left.len());
        if count == 0 {
            return Ok(false);
        }
        for (place, scores) in self.scores(&left[..count]) {
            if scores.iter().any(|score| !score.is_finite()) {
                return Err(TaskError::NotFinite { task: place });
            }
            self.answer(scores);
        }
        self.time += start.elapsed();
        Ok(true)
    }

    /// Adds the answer to the next task.
    fn answer(&mut self, scores: Vec<f64>) {
        let Some(task) = self.tasks.get(self.answers.len()) else { return };
        let chosen = (self.kind.format().choose)(&scores);
        let correct = task.correct.get(chosen).copied().unwrap_or(false);
        self.answers.push(Answer { place: task.place, scores, chosen, correct });
    }

    /// The place of each task, and the mean log-probability of each of its choices.
    fn scores(&self, tasks: &[Prepared]) -> Vec<(usize, Vec<f64>)> {
        let (rows, of_tasks) = self.hidden(tasks);
        // Which tokens are asked for after each row.
        let cols = self.model.decoder().embedding_length();
        let mut wanted: Vec<Vec<(u32, usize)>> = vec![Vec::new(); rows.len() / cols];
        let mut slots = 0;
        for (task, of_task) in tasks.iter().zip(&of_tasks) {
            for target in task.targets.iter().flatten() {
                wanted[of_task.row(task, target)].push((target.token, slots));
                slots += 1;
            }
        }
        let mut log_probs = self.log_probabilities(&rows, &wanted, slots).into_iter();
        let mut mean = |targets: &Vec<Target>| {
            let sum: f64 = log_probs.by_ref().take(targets.len()).sum();
            #[allow(clippy::cast_precision_loss, reason = "a few tokens")]
            let count = targets.len() as f64;
            sum / count
        };
        tasks.iter().map(|task| (task.place, task.targets.iter().map(&mut mean).collect())).collect()
    }

    /// The hidden states of all tokens that are evaluated (of what is shared: of the last), `[rows, embedding]`, and which rows are
    /// whose.
    fn hidden(&self, tasks: &[Prepared]) -> (Vec<f32>, Vec<RowsOf>) {
        let decoder = self.model.decoder();
        let fresh = |task: &Prepared| {
            decoder.sequence(SequenceOptions { kv_type: self.options.kv_type, context_length: task.longest() })
        };
        let mut sequences: Vec<Sequence> = tasks.iter().map(fresh).collect();
        let pieces = sequences.iter_mut().zip(tasks);
        let pieces =
            pieces.map(|(sequence, task)| Piece { sequence, tokens: &task.texts[0][..task.shared], rows: Rows::Last });
        let mut rows = self.passes(pieces.collect());
        let mut row = 0;
        let mut of_tasks: Vec<RowsOf> = Vec::new();
        for task in tasks {
            of_tasks.push(RowsOf { shared: row, texts: Vec::new() });
            row += usize::from(task.shared > 0);
        }
        let mut clones = Vec::new();
        for ((task, of_task), sequence) in tasks.iter().zip(&mut of_tasks).zip(&sequences) {
            for (text, &end) in task.texts.iter().zip(&task.ends) {
                of_task.texts.push(row);
                row += end - task.shared;
                clones.push((sequence.clone(), &text[task.shared..end]));
            }
        }
        drop(sequences);
        let pieces = clones.iter_mut().map(|(sequence, tokens)| Piece { sequence, tokens, rows: Rows::From(0) });
        rows.extend(self.passes(pieces.collect()));
        (rows, of_tasks)
    }

    /// Runs pieces of different sequences, with at most as many tokens in a pass as the options say.
    fn passes(&self, pieces: Vec<Piece<'_>>) -> Vec<f32> {
        let (run, batch) = (self.model.run(self.pool), self.options.batch.max(1));
        let mut rows = Vec::new();
        let mut parts: Vec<Part<'_>> = Vec::new();
        let mut together = 0;
        for Piece { sequence, tokens, rows: wanted } in pieces.into_iter().filter(|piece| !piece.tokens.is_empty()) {
            if together + tokens.len() > batch && !parts.is_empty() {
                rows.extend(self.model.decoder().hidden(run, &mut parts));
                parts.clear();
                together = 0;
            }
            together += tokens.len();
            parts.push(Part { sequence, tokens, logits: wanted });
        }
        if !parts.is_empty() {
            rows.extend(self.model.decoder().hidden(run, &mut parts));
        }
        rows
    }

    /// The log-probabilities of the tokens that are wanted after each row, each at its number of `slots`.
    fn log_probabilities(&self, rows: &[f32], wanted: &[Vec<(u32, usize)>], slots: usize) -> Vec<f64> {
        let decoder = self.model.decoder();
        let (cols, vocab) = (decoder.embedding_length(), decoder.vocab_size());
        let used: Vec<usize> = (0..wanted.len()).filter(|&row| !wanted[row].is_empty()).collect();
        let together = (MAX_LOGITS_BYTES / (vocab * size_of::<f32>())).clamp(1, used.len().max(1));
        let mut logits = vec![0.0; together * vocab];
        let mut found = vec![f64::NAN; slots];
        for used in used.chunks(together) {
            let mut input: Vec<f32> =
                used.iter().flat_map(|&row| &rows[row * cols..(row + 1) * cols]).copied().collect();
            let logits = &mut logits[..used.len() * vocab];
            decoder.logits(self.model.run(self.pool), &mut input, logits);
            let mut sums = vec![0.0; used.len()];
            let each = logits.chunks_exact(vocab).zip(&mut sums).collect();
            self.pool.run_each(each, &|(logits, sum): (&[f32], &mut f64)| *sum = log_sum_exp(logits));
            for ((&row, logits), sum) in used.iter().zip(logits.chunks_exact(vocab)).zip(sums) {
                for &(token, slot) in &wanted[row] {
                    let own = logits.get(token as usize).copied().unwrap_or(f32::NAN);
                    found[slot] = f64::from(own) - sum;
                }
            }
        }
        found
    }

    /// The progress so far.
    #[must_use]
    pub fn progress(&self) -> TaskProgress {
        TaskProgress { done: self.answers.len(), total: self.tasks.len(), accuracy: self.score().accuracy }
    }

    /// The answers so far, in the order of the run.
    #[must_use]
    pub fn answers(&self) -> &[Answer] {
        &self.answers
    }

    /// The score so far.
    #[must_use]
    pub fn score(&self) -> TaskScore {
        TaskScore::of(&self.answers)
    }

    /// Time for the evaluation, of this run alone.
    #[must_use]
    pub fn time(&self) -> Duration {
        self.time
    }

    /// Tokens of the longest text.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.tasks.iter().map(Prepared::longest).max().unwrap_or(0)
    }
}

/// Tokens by which a sequence goes on.
struct Piece<'a> {
    sequence: &'a mut Sequence,
    tokens: &'a [u32],
    rows: Rows,
}

/// Where the rows of a task are.
struct RowsOf {
    /// That of the last shared token.
    shared: usize,
    /// Those of each text after the shared tokens begin here.
    texts: Vec<usize>,
}

impl RowsOf {
    fn row(&self, task: &Prepared, target: &Target) -> usize {
        match target.position.checked_sub(task.shared) {
            Some(after) => self.texts[target.text] + after,
            None => self.shared,
        }
    }
}
