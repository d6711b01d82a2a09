//! `WinoGrande` as llama-perplexity reads it: a row of a CSV file a task: number, sentence with `_`, two choices, and the number of the
//! right one. What follows the choice is scored, but for the last token; where next to nothing follows, the choice is scored as well.

use super::prepared::{Target, Tokens, common_prefix};
use super::{Format, Task, TaskError, TaskKind, TaskSet, lines_text, pick};

pub(super) const FORMAT: Format = Format { name: "WinoGrande", read, order: pick::scaled, targets, choose };

/// Where both texts have more than so many tokens after their common beginning, what follows the choice is scored alone.
const MIN_TRAILING: usize = 3;

fn read(bytes: &[u8]) -> Result<TaskSet, TaskError> {
    let text = lines_text(bytes)?;
    // llama-perplexity takes a newline from the end of the file, and then leaves out what no newline follows.
    let text = text.strip_suffix('\n').unwrap_or(text);
    let (rows, last) = text.rsplit_once('\n').unwrap_or(("", text));
    let mut tasks = Vec::new();
    for (i, row) in rows.split('\n').enumerate().filter(|(_, row)| !row.trim().is_empty()) {
        let task = task(row).map_err(|problem| TaskError::Line { line: i + 1, problem })?;
        tasks.push(Task { place: tasks.len() + 1, ..task });
    }
    let mut set = TaskSet::new(TaskKind::WinoGrande, tasks);
    if !last.trim().is_empty() {
        set.warnings.push(
            "the last row is left out, as llama-perplexity does: with an empty line at the end of the file it counts"
                .into(),
        );
    }
    Ok(set)
}

/// The task of a row; its place is not known here.
fn task(row: &str) -> Result<Task, String> {
    let mut quoted = false;
    let commas = row.bytes().enumerate().filter_map(|(i, byte)| {
        quoted ^= byte == b'"';
        (byte == b',' && !quoted).then_some(i)
    });
    let commas: Vec<usize> = commas.take(4).collect();
    let [first, second, third, fourth] = commas[..] else {
        return Err("not five fields: number, sentence, two choices, number of the right one".into());
    };
    // Quotes within a quoted sentence stay as they are.
    let sentence = &row[first + 1..second];
    let sentence = sentence.strip_prefix('"').map_or(sentence, |rest| rest.strip_suffix('"').unwrap_or(rest));
    let choices = [&row[second + 1..third], &row[third + 1..fourth]];
    let answer = row[fourth + 1..].trim();
    let (before, after) = sentence.split_once('_').ok_or("no _ in the sentence")?;
    let correct = match answer {
        "1" => vec![true, false],
        "2" => vec![false, true],
        _ => return Err(format!("{answer} is no number of a choice (1 or 2)")),
    };
    Ok(Task {
        place: 0,
        texts: choices.map(|choice| format!("{before}{choice}{after}")).into(),
        until_choice: choices.map(|choice| format!("{before}{choice}")).into(),
        correct,
    })
}

fn targets(tokens: &Tokens<'_>) -> Vec<Vec<Target>> {
    let common = common_prefix(tokens.texts);
    let skips = tokens.texts.iter().all(|text| text.len() - common > MIN_TRAILING);
    let scored = |(i, text): (usize, &Vec<u32>)| -> Vec<Target> {
        let first = if skips { tokens.until_choice[i] } else { common }.clamp(1, text.len().max(2) - 1);
        let end = text.len() - usize::from(text.len() - first > 1);
        let mut targets: Vec<Target> = (first..end).map(|at| Target::of(i, text, at)).collect();
        // Where the choice is scored, llama-perplexity takes the distribution after the whole first text for the first token of the
        // second. Published scores have it so.
        if let (false, true, Some(target)) = (skips, i > 0 && common > 0, targets.first_mut()) {
            (target.text, target.position) = (0, tokens.texts[0].len() - 1);
        }
        targets
    };
    tokens.texts.iter().enumerate().map(scored).collect()
}

/// The second where both are as likely.
fn choose(scores: &[f64]) -> usize {
    usize::from(scores.first() <= scores.get(1))
}

#[cfg(test)]
mod tests {
    use super::super::prepared::{Target, Tokens};
    use super::{choose, targets};
    use crate::perplexity::tasks::{TaskError, TaskKind, TaskSet};

    fn read(text: &str) -> Result<TaskSet, TaskError> {
        TaskSet::read(TaskKind::WinoGrande, text.as_bytes())
    }

    #[test]
    fn a_row_is_a_task_and_the_last_one_needs_a_line_after_it() {
        let rows = "0,The cat saw _ run.,Tom,Ann,2\n1,\"Ann, said _, is here.\",Tom,Ann,1\r\n";
        let set = read(&format!("{rows}\n")).expect("valid");
        assert_eq!(set.tasks.len(), 2);
        assert!(set.warnings.is_empty());
        assert_eq!(set.tasks[0].texts, ["The cat saw Tom run.", "The cat saw Ann run."]);
        assert_eq!(set.tasks[0].until_choice, ["The cat saw Tom", "The cat saw Ann"]);
        assert_eq!(set.tasks[1].texts[0], "Ann, said Tom, is here.");
        assert_eq!(set.tasks[1].correct, [true, false]);
        let set = read(rows).expect("valid");
        assert_eq!((set.tasks.len(), set.warnings.len()), (1, 1));
        assert_eq!(read(rows.lines().next().expect("a row")).expect_err("none"), TaskError::NoTasks);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let told = |text: &str| read(&format!("0,_ ran.,a,b,1\n{text}\n\n")).expect_err("refused").to_string();
        assert!(told("1,_ ran.,a,b").starts_with("line 2: not five fields"));
        assert!(told("1,\"_ ran.,a,b,1").starts_with("line 2: not five fields"));
        assert_eq!(told("1,She ran.,a,b,1"), "line 2: no _ in the sentence");
        assert_eq!(told("1,_ ran.,a,b,3"), "line 2: 3 is no number of a choice (1 or 2)");
        assert!(read("0,\",a,b,1\n\n").is_err());
    }

    #[test]
    fn what_follows_the_choice_is_scored() {
        // `the X ran far away .` and `the Y Z ran far away .`
        let texts = [vec![1, 2, 30, 4, 5, 6, 7], vec![1, 2, 31, 32, 4, 5, 6, 7]];
        let found = targets(&Tokens { texts: &texts, until_choice: &[3, 4] });
        let target = |text, position, token| Target { text, position, token };
        assert_eq!(found[0], [target(0, 2, 4), target(0, 3, 5), target(0, 4, 6)]);
        assert_eq!(found[1], [target(1, 3, 4), target(1, 4, 5), target(1, 5, 6)]);
        // `he saw X .`: little follows.
        let texts = [vec![1, 2, 30, 7], vec![1, 2, 31, 32, 7]];
        let found = targets(&Tokens { texts: &texts, until_choice: &[3, 4] });
        assert_eq!(found[0], [target(0, 1, 30)]);
        assert_eq!(found[1], [target(0, 3, 31), target(1, 2, 32)]);
        // Nothing in common, as with models without a begin-of-text token.
        let texts = [vec![30, 4], vec![31]];
        let found = targets(&Tokens { texts: &texts, until_choice: &[1, 1] });
        assert_eq!(found, [vec![target(0, 0, 4)], vec![]]);
    }

    #[test]
    fn the_second_is_chosen_of_two_that_are_as_likely() {
        assert_eq!([choose(&[-1.0, -1.0]), choose(&[-1.0, -2.0]), choose(&[-2.0, -1.0])], [1, 0, 1]);
    }
}
