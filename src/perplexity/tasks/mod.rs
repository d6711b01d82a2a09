//! Tasks with several endings, by the procedure of llama-perplexity: the ending that the model finds the likeliest, token for token on
//! average, is its answer, and the score is the share of right answers.
//!
//! A kind of tasks is a file here and a row in `TaskKind::format`: it says how its files are read, in which order tasks are taken, what
//! is scored of each text, and which choice the scores make.

mod error;
mod hellaswag;
mod multiple_choice;
mod pick;
mod prepared;
mod run;
mod score;
mod winogrande;

pub use error::TaskError;
pub use run::{TaskOptions, TaskProgress, TaskRun};
pub use score::{Answer, TaskScore};

use prepared::Targets;

/// A kind of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskKind {
    /// `HellaSwag`: how a description goes on; four endings.
    HellaSwag,
    /// `WinoGrande`: which of two names fits into a sentence.
    WinoGrande,
    /// Questions with any number of answers: `TruthfulQA`, MMLU, ARC.
    MultipleChoice,
}

/// What is particular to a kind of tasks.
struct Format {
    /// As reports spell it.
    name: &'static str,
    /// Reads a file.
    read: fn(&[u8]) -> Result<TaskSet, TaskError>,
    /// Numbers of the tasks to take, in their order: of so many tasks, at most so many, by a seed.
    order: fn(usize, Option<usize>, u32) -> Vec<usize>,
    /// What is scored of the texts of a task, given their tokens.
    targets: Targets,
    /// The choice with these scores.
    choose: fn(&[f64]) -> usize,
}

impl TaskKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::HellaSwag, Self::WinoGrande, Self::MultipleChoice];

    fn format(self) -> &'static Format {
        match self {
            Self::HellaSwag => &hellaswag::FORMAT,
            Self::WinoGrande => &winogrande::FORMAT,
            Self::MultipleChoice => &multiple_choice::FORMAT,
        }
    }

    /// Its name, as reports spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.format().name
    }
}

/// A task: texts, one for each choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its place in the file, from 1.
    pub place: usize,
    /// The whole texts: what all begin with, and a choice.
    pub texts: Vec<String>,
    /// The beginning of each text that ends with the choice, where something follows it.
    pub until_choice: Vec<String>,
    /// Whether each choice is right.
    pub correct: Vec<bool>,
}

/// The tasks of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskSet {
    /// Their kind.
    pub kind: TaskKind,
    /// All of them, in the order of the file.
    pub tasks: Vec<Task>,
    /// What users should know of the file.
    pub warnings: Vec<String>,
    /// A task that does not lie where the file's table says it does: tasks cannot be picked from such a file.
    misplaced: Option<TaskError>,
}

impl TaskSet {
    /// Reads a file of this kind.
    ///
    /// # Errors
    /// When it is no such file, with the place of what is wrong.
    pub fn read(kind: TaskKind, bytes: &[u8]) -> Result<Self, TaskError> {
        let set = (kind.format().read)(bytes)?;
        if set.tasks.is_empty() {
            return Err(TaskError::NoTasks);
        }
        Ok(set)
    }

    fn new(kind: TaskKind, tasks: Vec<Task>) -> Self {
        Self { kind, tasks, warnings: Vec::new(), misplaced: None }
    }

    /// At most `count` of the tasks, in the order in which llama-perplexity takes them, with its generator of random numbers started from
    /// `seed` (llama-perplexity's is 1).
    ///
    /// # Errors
    /// When some are to be picked and a task does not lie where the file's table says.
    pub fn pick(mut self, count: Option<usize>, seed: u32) -> Result<Self, TaskError> {
        let order = (self.kind.format().order)(self.tasks.len(), count, seed);
        if order.len() < self.tasks.len()
            && let Some(error) = self.misplaced.take()
        {
            return Err(error);
        }
        let mut tasks: Vec<Option<Task>> = self.tasks.into_iter().map(Some).collect();
        self.tasks = order.into_iter().filter_map(|i| tasks.get_mut(i)?.take()).collect();
        Ok(self)
    }
}

/// The text of bytes of a file, or the first byte that is no UTF-8.
fn utf8(bytes: &[u8]) -> Result<&str, usize> {
    std::str::from_utf8(bytes).map_err(|error| error.valid_up_to())
}

/// The text of a file of lines.
fn lines_text(bytes: &[u8]) -> Result<&str, TaskError> {
    utf8(bytes).map_err(|valid| {
        let line = bytes[..valid].iter().filter(|&&byte| byte == b'\n').count() + 1;
        let start = bytes[..valid].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        TaskError::Line { line, problem: format!("byte {} is no UTF-8", valid - start + 1) }
    })
}
