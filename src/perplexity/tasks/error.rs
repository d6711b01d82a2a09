//! Errors of task files and of runs over them.

use crate::printable::printable;
use crate::tokenizer;

/// Why tasks cannot be read or scored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// A file without tasks.
    #[error("no tasks")]
    NoTasks,
    /// A file of lines whose number is not right.
    #[error("{found} lines; a task has {each}: {what}")]
    Lines {
        /// Lines of the file.
        found: usize,
        /// Lines of a task.
        each: usize,
        /// What they are.
        what: &'static str,
    },
    /// A line of the file is not valid.
    #[error("line {line}: {}", printable(problem))]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// The bytes of a task are not valid.
    #[error("task {task}, byte {offset} of the file: {problem}")]
    Bytes {
        /// The task, from 1; 0 for what stands before the first one.
        task: usize,
        /// The offset in the file.
        offset: usize,
        /// What is wrong.
        problem: String,
    },
    /// A task does not lie where the file's table says, so that none can be picked by it.
    #[error("task {task} begins at byte {found}, and at {expected} by the table of the file: tasks cannot be picked")]
    Misplaced {
        /// The task, from 1.
        task: usize,
        /// Where it is.
        found: usize,
        /// Where the table says it is.
        expected: usize,
    },
    /// The model is an encoder, which has no logits.
    #[error("the model makes embeddings and does not predict tokens")]
    NoLogits,
    /// A text cannot be encoded.
    #[error("task {task}: tokenizer: {problem}")]
    Tokenizer {
        /// The task, from 1.
        task: usize,
        /// Why.
        problem: String,
    },
    /// A text is longer than the learned positions of the model.
    #[error("task {task} has {tokens} tokens, the model has learned {limit} positions")]
    TooLong {
        /// The task, from 1.
        task: usize,
        /// Tokens of its longest text.
        tokens: usize,
        /// Positions of the model.
        limit: usize,
    },
    /// A text has no token that could be scored.
    #[error("task {task}: nothing can be scored of choice {choice}")]
    NothingToScore {
        /// The task, from 1.
        task: usize,
        /// The choice, from 1.
        choice: usize,
    },
    /// What was scored before is not of these tasks.
    #[error("{found} tasks are scored already, not all of them of the {expected} tasks wanted")]
    OtherTasks {
        /// Tasks that are scored.
        found: usize,
        /// Tasks wanted.
        expected: usize,
    },
    /// A logit is NaN or infinite.
    #[error("the model computes NaN or infinity in task {task}")]
    NotFinite {
        /// The task, from 1.
        task: usize,
    },
}

impl TaskError {
    pub(super) fn tokenizer(task: usize, error: &tokenizer::Error) -> Self {
        Self::Tokenizer { task, problem: error.to_string() }
    }
}
