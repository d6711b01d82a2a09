//! Questions with any number of answers, in llama.cpp's binary format; the published files have `TruthfulQA`, MMLU, ARC and `HellaSwag`.
//!
//! Little-endian: the number of tasks, the offset of each, and the tasks: the question, a list of answers of which one is right, and a
//! list of answers of which several may be right (not used). A text is its length in bytes and the bytes; a list is the number of its
//! answers, their texts, and a 32-bit number for each: 1 where it is right.

use super::prepared::after_common_prefix;
use super::score::first_greatest;
use super::{Format, Task, TaskError, TaskKind, TaskSet, pick, utf8};

pub(super) const FORMAT: Format =
    Format { name: "multiple choice", read, order: pick::scaled, targets: after_common_prefix, choose: first_greatest };

/// Maximum answers of a question, as in llama.cpp.
const MAX_ANSWERS: usize = 100;

/// Reads a file from its beginning.
struct Cursor<'a> {
    bytes: &'a [u8],
    offset: usize,
    /// The task that is read, from 1.
    task: usize,
}

impl<'a> Cursor<'a> {
    fn error(&self, problem: impl Into<String>) -> TaskError {
        TaskError::Bytes { task: self.task, offset: self.offset, problem: problem.into() }
    }

    fn take(&mut self, len: usize, what: &str) -> Result<&'a [u8], TaskError> {
        let left = self.bytes.len() - self.offset;
        if len > left {
            return Err(self.error(format!("{what} has {len} bytes, and {left} are left")));
        }
        self.offset += len;
        Ok(&self.bytes[self.offset - len..self.offset])
    }

    fn number(&mut self, what: &str) -> Result<u32, TaskError> {
        let mut number = [0; 4];
        number.copy_from_slice(self.take(4, what)?);
        Ok(u32::from_le_bytes(number))
    }

    fn text(&mut self, what: &str) -> Result<&'a str, TaskError> {
        let len = self.number(&format!("the length of {what}"))?;
        let bytes = self.take(len as usize, what)?;
        utf8(bytes).map_err(|valid| {
            let start = self.offset - bytes.len();
            TaskError::Bytes { task: self.task, offset: start + valid, problem: format!("{what} is no UTF-8") }
        })
    }

    /// Answers, and which of them are right.
    fn answers(&mut self) -> Result<(Vec<&'a str>, Vec<bool>), TaskError> {
        let count = self.number("the number of answers")? as usize;
        if count > MAX_ANSWERS {
            self.offset -= 4;
            return Err(self.error(format!("{count} answers, {MAX_ANSWERS} at most")));
        }
        let texts = (1..=count).map(|i| self.text(&format!("answer {i}"))).collect::<Result<_, _>>()?;
        let right = (0..count).map(|_| Ok(self.number("a label")? == 1)).collect::<Result<_, _>>()?;
        Ok((texts, right))
    }

    fn task(&mut self) -> Result<Task, TaskError> {
        let question = self.text("the question")?;
        let start = self.offset;
        let (answers, correct) = self.answers()?;
        let refused = |problem: &str| TaskError::Bytes { task: self.task, offset: start, problem: problem.to_owned() };
        if question.is_empty() {
            return Err(refused("an empty question"));
        }
        if answers.len() < 2 {
            return Err(refused("fewer than two answers"));
        }
        if answers.iter().any(|answer| answer.is_empty()) {
            return Err(refused("an empty answer"));
        }
        self.answers()?;
        let texts = answers.iter().map(|answer| format!("{question} {answer}")).collect();
        Ok(Task { place: self.task, texts, until_choice: Vec::new(), correct })
    }
}

fn read(bytes: &[u8]) -> Result<TaskSet, TaskError> {
    let mut cursor = Cursor { bytes, offset: 0, task: 0 };
    let count = cursor.number("the number of tasks")? as usize;
    let table = cursor.take(count.saturating_mul(4), "the table of tasks")?;
    let mut set = TaskSet::new(TaskKind::MultipleChoice, Vec::new());
    for place in table.as_chunks::<4>().0 {
        cursor.task += 1;
        let (found, expected) = (cursor.offset, u32::from_le_bytes(*place) as usize);
        if found != expected && set.misplaced.is_none() {
            set.misplaced = Some(TaskError::Misplaced { task: cursor.task, found, expected });
        }
        set.tasks.push(cursor.task()?);
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use crate::perplexity::tasks::{TaskError, TaskKind, TaskSet};

    fn text(text: &str) -> Vec<u8> {
        [&u32::try_from(text.len()).expect("small").to_le_bytes(), text.as_bytes()].concat()
    }

    fn answers(answers: &[(&str, i32)]) -> Vec<u8> {
        let count = u32::try_from(answers.len()).expect("small").to_le_bytes().to_vec();
        let texts = answers.iter().flat_map(|(answer, _)| text(answer));
        let labels = answers.iter().flat_map(|(_, label)| label.to_le_bytes());
        count.into_iter().chain(texts).chain(labels).collect()
    }

    fn file(tasks: &[Vec<u8>]) -> Vec<u8> {
        let mut file = u32::try_from(tasks.len()).expect("small").to_le_bytes().to_vec();
        let mut at = 4 + 4 * tasks.len();
        for task in tasks {
            file.extend(u32::try_from(at).expect("small").to_le_bytes());
            at += task.len();
        }
        [file, tasks.concat()].concat()
    }

    fn two() -> Vec<u8> {
        let one = [text("Who?"), answers(&[("he", 0), ("she", 1)]), answers(&[("it", 1)])].concat();
        file(&[one, [text("What?"), answers(&[("a", 1), ("b", 0), ("c", 0)]), answers(&[])].concat()])
    }

    fn read(bytes: &[u8]) -> Result<TaskSet, TaskError> {
        TaskSet::read(TaskKind::MultipleChoice, bytes)
    }

    #[test]
    fn questions_have_any_number_of_answers() {
        let set = read(&two()).expect("valid");
        assert_eq!(set.tasks[0].texts, ["Who? he", "Who? she"]);
        assert_eq!(set.tasks[1].correct, [true, false, false]);
        assert_eq!(set.pick(Some(1), 1).expect("picked").tasks.len(), 1);
    }

    #[test]
    fn every_shorter_file_is_refused() {
        let whole = two();
        for len in 0..whole.len() {
            assert!(read(&whole[..len]).is_err(), "{len}");
        }
        assert_eq!(read(&[0; 4]).expect_err("none"), TaskError::NoTasks);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let told = |task: Vec<u8>| read(&file(&[task])).expect_err("refused").to_string();
        assert!(read(&[255; 8]).expect_err("refused").to_string().contains("the table of tasks has 17179869180 bytes"));
        assert_eq!(
            told(vec![255; 4]),
            "task 1, byte 12 of the file: the question has 4294967295 bytes, and 0 are left"
        );
        let many = [text("Who?"), 101u32.to_le_bytes().to_vec()].concat();
        assert_eq!(told(many), "task 1, byte 16 of the file: 101 answers, 100 at most");
        let mut bytes = [text("Who?"), answers(&[("he", 0), ("she", 1)]), answers(&[])].concat();
        bytes[5] = 0xff;
        assert_eq!(told(bytes), "task 1, byte 13 of the file: the question is no UTF-8");
        for (question, list, problem) in [
            ("", &[("a", 1), ("b", 0)][..], "an empty question"),
            ("Who?", &[("a", 1)], "fewer than two answers"),
            ("Who?", &[("a", 1), ("", 0)], "an empty answer"),
        ] {
            assert!(told([text(question), answers(list), answers(&[])].concat()).ends_with(problem));
        }
    }

    #[test]
    fn tasks_are_not_picked_by_a_table_that_is_wrong() {
        let mut bytes = two();
        bytes[8] += 1;
        let set = read(&bytes).expect("all can be read");
        assert_eq!(set.clone().pick(Some(2), 1).expect("all").tasks.len(), 2);
        assert!(matches!(set.pick(Some(1), 1), Err(TaskError::Misplaced { task: 2, .. })));
    }
}
