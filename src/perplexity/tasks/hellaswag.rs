//! `HellaSwag` as llama-perplexity reads it: six lines a task, namely the context, the number of the right ending (from 0), and four
//! endings. Every ending is scored from the first token on in which the endings differ.

use super::prepared::after_common_prefix;
use super::score::first_greatest;
use super::{Format, Task, TaskError, TaskKind, TaskSet, lines_text, pick};

pub(super) const FORMAT: Format =
    Format { name: "HellaSwag", read, order: pick::drawn, targets: after_common_prefix, choose: first_greatest };

/// Lines of a task.
const LINES: usize = 6;

fn read(bytes: &[u8]) -> Result<TaskSet, TaskError> {
    let text = lines_text(bytes)?;
    // As in llama-perplexity: one newline at the end is taken away, and another one ends the last line.
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\n').unwrap_or(text);
    let lines: Vec<&str> = text.split('\n').collect();
    let lines = if text.is_empty() { &[][..] } else { &lines };
    if !lines.len().is_multiple_of(LINES) {
        let what = "the context, the number of the right ending from 0, four endings";
        return Err(TaskError::Lines { found: lines.len(), each: LINES, what });
    }
    let task = |(i, lines): (usize, &[&str])| {
        let (context, gold, endings) = (lines[0], lines[1], &lines[2..]);
        let gold: Option<usize> = gold.trim().parse().ok().filter(|&gold| gold < endings.len());
        let gold = gold.ok_or_else(|| TaskError::Line {
            line: i * LINES + 2,
            problem: format!("{} is no number of an ending (0 to 3)", lines[1].trim()),
        })?;
        let texts = endings.iter().map(|ending| format!("{context} {ending}")).collect();
        let correct = (0..endings.len()).map(|ending| ending == gold).collect();
        Ok(Task { place: i + 1, texts, until_choice: Vec::new(), correct })
    };
    let tasks = lines.chunks_exact(LINES).enumerate().map(task).collect::<Result<_, _>>()?;
    Ok(TaskSet::new(TaskKind::HellaSwag, tasks))
}

#[cfg(test)]
mod tests {
    use crate::perplexity::tasks::{TaskError, TaskKind, TaskSet};

    fn read(text: &str) -> Result<TaskSet, TaskError> {
        TaskSet::read(TaskKind::HellaSwag, text.as_bytes())
    }

    #[test]
    fn six_lines_are_a_task() {
        let two = "A cat:\n2\nsleeps.\nflies.\neats.\nsings.\nA dog:\n 0\r\na\nb\nc\nd";
        for text in [two.to_owned(), format!("{two}\n"), format!("{two}\n\n")] {
            let set = read(&text).expect("valid");
            assert_eq!(set.tasks.len(), 2);
            assert_eq!(set.tasks[0].texts[2], "A cat: eats.");
            assert_eq!(set.tasks[0].correct, [false, false, true, false]);
            assert_eq!((set.tasks[1].place, &set.tasks[1].correct[..1]), (2, &[true][..]));
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let told = |text: &str| read(text).expect_err("refused").to_string();
        assert_eq!(told(""), "no tasks");
        assert!(told("a\n0\nb\nc\nd").starts_with("5 lines; a task has 6"));
        for gold in ["4", "-1", "b", ""] {
            assert_eq!(
                told(&format!("a\n0\nb\nc\nd\ne\na\n{gold}\nb\nc\nd\ne\n")),
                format!("line 8: {gold} is no number of an ending (0 to 3)")
            );
        }
        let bytes = b"a\n0\nb\nc\xff\nd\ne\n";
        let error = TaskSet::read(TaskKind::HellaSwag, bytes).expect_err("refused");
        assert_eq!(error.to_string(), "line 4: byte 2 is no UTF-8");
    }
}
