//! A task as tokens: its texts, what is scored of each, and how much of them is shared.

use super::{Task, TaskError};
use crate::tokenizer::{EncodeOptions, Tokenizer};

/// What is scored of each text of a task.
pub(super) type Targets = fn(&Tokens<'_>) -> Vec<Vec<Target>>;

/// The tokens of a task.
pub(super) struct Tokens<'a> {
    /// Of each text.
    pub(super) texts: &'a [Vec<u32>],
    /// The number of tokens of each text until its choice ends, where the kind of task says where that is.
    pub(super) until_choice: &'a [usize],
}

/// A token whose log-probability counts: `token` after position `position` of text `text`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) text: usize,
    pub(super) position: usize,
    pub(super) token: u32,
}

impl Target {
    /// Token `at` of text number `text`, after the tokens before it.
    pub(super) fn of(text: usize, tokens: &[u32], at: usize) -> Self {
        Self { text, position: at - 1, token: tokens[at] }
    }
}

/// The number of tokens with which all texts begin, and which leave at least one of each.
pub(super) fn common_prefix(texts: &[Vec<u32>]) -> usize {
    let Some((first, others)) = texts.split_first() else { return 0 };
    let shortest = texts.iter().map(Vec::len).min().unwrap_or(0);
    let same = |at: &usize| others.iter().all(|other| other[*at] == first[*at]);
    (0..shortest.saturating_sub(1)).take_while(same).count()
}

/// Every text from the first token on in which they differ.
pub(super) fn after_common_prefix(tokens: &Tokens<'_>) -> Vec<Vec<Target>> {
    // The first token of a text follows nothing.
    let first = common_prefix(tokens.texts).max(1);
    let scored = |(i, text): (usize, &Vec<u32>)| (first..text.len()).map(|at| Target::of(i, text, at)).collect();
    tokens.texts.iter().enumerate().map(scored).collect()
}

/// A task that can be evaluated.
pub(super) struct Prepared {
    /// Its place in the file, from 1.
    pub(super) place: usize,
    pub(super) texts: Vec<Vec<u32>>,
    /// Of each text; none is empty.
    pub(super) targets: Vec<Vec<Target>>,
    /// Tokens that are evaluated once for all texts.
    pub(super) shared: usize,
    /// The number of tokens of each text that are evaluated, at least the shared ones.
    pub(super) ends: Vec<usize>,
    pub(super) correct: Vec<bool>,
}

impl Prepared {
    pub(super) fn new(task: &Task, tokenizer: &Tokenizer, targets: Targets) -> Result<Self, TaskError> {
        let place = task.place;
        let encode = |text: &String| {
            tokenizer
                .encode(text, EncodeOptions { add_special: true, parse_special: false })
                .map_err(|error| TaskError::tokenizer(place, &error))
        };
        let texts = task.texts.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
        let until_choice =
            task.until_choice.iter().map(|text| Ok(encode(text)?.len())).collect::<Result<Vec<_>, _>>()?;
        let nothing = |choice: usize| TaskError::NothingToScore { task: place, choice: choice + 1 };
        if let Some(choice) = texts.iter().position(Vec::is_empty) {
            return Err(nothing(choice));
        }
        let targets = targets(&Tokens { texts: &texts, until_choice: &until_choice });
        if let Some(choice) = targets.iter().position(Vec::is_empty) {
            return Err(nothing(choice));
        }
        let all = || targets.iter().flatten();
        // The logits of all but the last shared token are not computed.
        let shared = all().map(|target| target.position + 1).min().unwrap_or(0).min(common_prefix(&texts));
        let end = |text: usize| {
            all().filter(|target| target.text == text).map(|target| target.position + 1).max().unwrap_or(0).max(shared)
        };
        let ends = (0..texts.len()).map(end).collect();
        Ok(Self { place, texts, targets, shared, ends, correct: task.correct.clone() })
    }

    /// Tokens that are evaluated after the shared ones, of all texts.
    pub(super) fn own_tokens(&self) -> usize {
        self.ends.iter().map(|end| end - self.shared).sum()
    }

    /// Tokens of the longest text.
    pub(super) fn longest(&self) -> usize {
        self.texts.iter().map(Vec::len).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Target, Tokens, after_common_prefix, common_prefix};

    #[test]
    fn endings_are_scored_from_where_they_differ() {
        let texts = [vec![1, 2, 3, 4], vec![1, 2, 5], vec![1, 2, 3, 6, 7]];
        assert_eq!(common_prefix(&texts), 2);
        let found = after_common_prefix(&Tokens { texts: &texts, until_choice: &[] });
        let target = |text, position, token| Target { text, position, token };
        assert_eq!(found[0], [target(0, 1, 3), target(0, 2, 4)]);
        assert_eq!(found[1], [target(1, 1, 5)]);
        assert_eq!(found[2].len(), 3);
    }

    #[test]
    fn a_text_that_is_the_beginning_of_another_keeps_a_token() {
        let texts = [vec![1, 2, 3], vec![1, 2, 3, 4], vec![1, 2, 3]];
        assert_eq!(common_prefix(&texts), 2);
        assert!(after_common_prefix(&Tokens { texts: &texts, until_choice: &[] }).iter().all(|t| !t.is_empty()));
        assert_eq!(common_prefix(&[vec![5]]), 0);
        let alone = [vec![5], vec![6, 7]];
        assert_eq!(after_common_prefix(&Tokens { texts: &alone, until_choice: &[] })[0], []);
    }
}
