//! A small backtracking matcher for the patterns of pre-tokenizers.
//!
//! It supports what they use: alternatives, groups, classes, greedy and possessive repeats, look-ahead, `$`, `\b` and
//! `(?i:...)`. Its matches are those of a regular expression, in time proportional to the length of the text: a repeat that has
//! failed is not tried again within the same run of characters, and long repeats of groups are memoized. A repeated group does
//! not backtrack; patterns in which that could make a difference are refused. Recursion is no deeper than the pattern.

use super::pattern_parser::parse;
use super::pattern_tree::{Node, Repeat, Set};

/// A compiled pattern.
#[derive(Debug)]
pub(super) struct Pattern {
    alternatives: Vec<Vec<Node>>,
    /// Number of its repeats.
    repeats: usize,
}

/// Results are memoized for runs of at least this many characters, or groups with this many repetitions.
const LONG: usize = 16;

/// Memoized results for one text.
#[derive(Default)]
pub(super) struct Memo {
    repeats: Vec<RepeatMemo>,
    /// Whether there are any results; texts without long runs have none.
    any: bool,
    /// Number of characters and nodes visited.
    #[cfg(test)]
    pub(super) steps: usize,
}

/// Memoized results of one repeat.
#[derive(Clone, Default)]
struct RepeatMemo {
    /// For a class: the range of offsets from which it fails, all in the same run of characters.
    failed: (usize, usize),
    /// For a group: its end by the offset of its start; 0 if not known.
    ends: Vec<u32>,
}

impl Memo {
    /// Clears all results for the next text.
    fn next_text(&mut self, repeats: usize) {
        if self.any {
            self.repeats.clear();
            self.any = false;
        }
        if self.repeats.len() < repeats {
            self.repeats.resize(repeats, RepeatMemo::default());
        }
    }

    /// The results of a repeat, for adding to them.
    fn learn(&mut self, repeat: &Repeat) -> &mut RepeatMemo {
        self.any = true;
        &mut self.repeats[repeat.id]
    }

    #[cfg(test)]
    fn count(&mut self, steps: usize) {
        self.steps += steps;
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self, reason = "counts in tests alone")]
    fn count(&mut self, _: usize) {}
}

impl Pattern {
    /// Compiles `source`. `None` if it uses unsupported features, or if this matcher would not give the matches of a regular
    /// expression.
    pub(super) fn new(source: &str) -> Option<Self> {
        let (alternatives, repeats) = parse(source)?;
        Some(Self { alternatives, repeats })
    }

    /// Calls `piece` with each match and each text between matches.
    pub(super) fn split<'t>(&self, text: &'t str, memo: &mut Memo, piece: impl FnMut(&'t str)) {
        self.split_with(text, memo, |_| None, piece);
    }

    /// As [`Self::split`]; `quick` may return the length of the match at an offset.
    pub(super) fn split_with<'t>(
        &self,
        text: &'t str,
        memo: &mut Memo,
        quick: impl Fn(usize) -> Option<usize>,
        mut piece: impl FnMut(&'t str),
    ) {
        memo.next_text(self.repeats);
        let mut matcher = Matcher { text, memo, ahead: 0 };
        let (mut done, mut at) = (0, 0);
        while at < text.len() {
            let found = quick(at).or_else(|| Some(matcher.first(&self.alternatives, at)? - at));
            if let Some(len) = found {
                // An empty match (a look-ahead alone) splits before the next character.
                if done < at {
                    piece(&text[done..at]);
                }
                done = at + len;
                if len > 0 {
                    piece(&text[at..done]);
                    at = done;
                    continue;
                }
            }
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
        if done < text.len() {
            piece(&text[done..]);
        }
    }
}

/// The matcher for a text. The match at an offset depends on nothing but the offset, so it can be memoized.
struct Matcher<'t, 'm> {
    text: &'t str,
    memo: &'m mut Memo,
    /// Number of look-aheads that are being matched, whose characters will be visited again.
    ahead: usize,
}

impl Matcher<'_, '_> {
    /// The end of the first alternative that matches at `at`.
    fn first(&mut self, alternatives: &[Vec<Node>], at: usize) -> Option<usize> {
        alternatives.iter().find_map(|nodes| self.sequence(nodes, at))
    }

    fn sequence(&mut self, nodes: &[Node], at: usize) -> Option<usize> {
        self.memo.count(1);
        let Some((node, rest)) = nodes.split_first() else { return Some(at) };
        match node {
            Node::Class(repeat, set) => self.class(repeat, set, rest, at),
            Node::Group(Repeat { min: 1, max: 1, possessive: false, .. }, alternatives) => {
                alternatives.iter().find_map(|nodes| {
                    let end = self.sequence(nodes, at)?;
                    self.sequence(rest, end)
                })
            }
            Node::Group(repeat, alternatives) => self.group(repeat, alternatives, rest, at),
            Node::Look { alternatives, wanted } => {
                self.ahead += 1;
                let found = self.first(alternatives, at).is_some();
                self.ahead -= 1;
                if found == *wanted { self.sequence(rest, at) } else { None }
            }
            Node::End => {
                if at == self.text.len() {
                    self.sequence(rest, at)
                } else {
                    None
                }
            }
            Node::WordBoundary(word) => {
                let is_word = |c: Option<char>| c.is_some_and(|c| word.chars.contains(c));
                let before = self.text[..at].chars().next_back();
                if is_word(before) != is_word(self.text[at..].chars().next()) { self.sequence(rest, at) } else { None }
            }
        }
    }

    fn class(&mut self, repeat: &Repeat, set: &Set, rest: &[Node], at: usize) -> Option<usize> {
        let unbounded = repeat.max == usize::MAX;
        if self.memo.any && unbounded {
            let (from, to) = self.memo.repeats[repeat.id].failed;
            if (from..to).contains(&at) {
                return None;
            }
        }
        let (mut len, mut count) = set.run(&self.text[at..], repeat.max);
        self.memo.count(count);
        let (end, long) = (at + len, count >= LONG);
        while count >= repeat.min {
            if let Some(end) = self.sequence(rest, at + len) {
                return Some(end);
            }
            if count == repeat.min || repeat.possessive {
                break;
            }
            count -= 1;
            len -= self.text[at..at + len].chars().next_back().map_or(1, char::len_utf8);
        }
        // Every later start in this run has the same or fewer possible ends, and the rest of the pattern fails at all of them.
        if unbounded && long {
            self.memo.learn(repeat).failed = (at, end);
        }
        None
    }

    fn group(&mut self, repeat: &Repeat, alternatives: &[Vec<Node>], rest: &[Node], at: usize) -> Option<usize> {
        let (end, count) = self.rounds(repeat, alternatives, at);
        let taken = if count >= repeat.min { self.sequence(rest, end) } else { None };
        let again = self.ahead > 0 || taken.is_none();
        if again && count >= LONG && repeat.max == usize::MAX && repeat.min <= 1 {
            self.memoize(repeat, alternatives, at, end);
        }
        // An optional group backtracks as a whole.
        match taken {
            None if repeat.min == 0 && count > 0 && !repeat.possessive => self.sequence(rest, at),
            taken => taken,
        }
    }

    /// The end of the repetitions of a group from `at` on, and their number; at least 1 if the result is memoized.
    fn rounds(&mut self, repeat: &Repeat, alternatives: &[Vec<Node>], at: usize) -> (usize, usize) {
        let unbounded = repeat.max == usize::MAX && repeat.min <= 1;
        let (mut end, mut count) = (at, 0);
        while count < repeat.max {
            if self.memo.any
                && unbounded
                && let Some(&known) = self.memo.repeats[repeat.id].ends.get(end)
                && known > 0
            {
                return (known as usize, count.max(1));
            }
            match self.first(alternatives, end) {
                Some(next) if next > end => end = next,
                _ => break,
            }
            count += 1;
        }
        (end, count)
    }

    /// Memoizes `end` for all offsets at which a repetition of the group starts, from `at` on.
    fn memoize(&mut self, repeat: &Repeat, alternatives: &[Vec<Node>], at: usize, end: usize) {
        // Offsets beyond four gigabytes are not memoized.
        let Ok(kept) = u32::try_from(end) else { return };
        let mut place = at;
        while place < end {
            let ends = &mut self.memo.learn(repeat).ends;
            ends.resize(ends.len().max(place + 1), 0);
            ends[place] = kept;
            match self.first(alternatives, place) {
                Some(next) if next > place => place = next,
                _ => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Memo, Pattern};

    fn pieces<'t>(pattern: &str, text: &'t str) -> Vec<&'t str> {
        let mut pieces = Vec::new();
        let pattern = Pattern::new(pattern).expect("a valid pattern");
        pattern.split(text, &mut Memo::default(), |piece| pieces.push(piece));
        pieces
    }

    #[test]
    fn gpt2_words() {
        let pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";
        let text = "It's  12 o'clock,\n\n ok é中  ";
        assert_eq!(
            pieces(pattern, text),
            ["It", "'s", " ", " 12", " o", "'", "clock", ",", "\n\n", " ok", " é中", "  "]
        );
    }

    #[test]
    fn repeats_give_back() {
        assert_eq!(pieces(r"[A-Z]*[a-z]+|[A-Z]+", "HTTPServer ABC"), ["HTTPServer", " ", "ABC"]);
        assert_eq!(pieces(r"\s*[\r\n]+|\s+", "  \n x"), ["  \n", " ", "x"]);
        assert_eq!(pieces(r"\p{N}{1,3}", "12345"), ["123", "45"]);
        assert_eq!(pieces(r"(?=(\d{3})+(?!\d))", "1234567"), ["1", "234", "567"]);
        assert_eq!(pieces("a+ab", "aaab"), ["aaab"]);
        assert_eq!(pieces("a++ab|b", "aaab"), ["aaa", "b"]);
    }

    #[test]
    fn classes_hold_classes() {
        assert_eq!(pieces(r" ?[^(\s|[.,!?])]+", "a b, c|d"), ["a", " b", ",", " c", "|", "d"]);
        assert_eq!(pieces(r"[\p{L}&&[^\p{Han}]]+", "ab中c"), ["ab", "中", "c"]);
        assert_eq!(pieces(r"[^a-z&&[^x]]+", "ABxyz"), ["ABx", "yz"]);
        assert_eq!(pieces("(?i:'s)", "'S's'ſ'"), ["'S", "'s", "'ſ", "'"]);
    }

    #[test]
    fn long_runs_do_not_recurse() {
        let text = "a".repeat(1 << 20);
        assert_eq!(pieces(r"\s?\p{L}+", &text).len(), 1);
        let text = " ".repeat(1 << 20);
        assert_eq!(pieces(r"\s*[\r\n]+|\s+(?!\S)|\s+", &text).len(), 1);
    }

    /// Results are memoized for one text and cleared for the next.
    #[test]
    fn memoized_results_are_right() {
        let pattern = Pattern::new(r"\d{1,3}(?=(?:\d{3})*(?!\d))|\s+$").expect("a valid pattern");
        let mut memo = Memo::default();
        for (text, first, last) in
            [("7".repeat(1001), "77", "777"), ("é7".repeat(100), "é", "7"), ("1".repeat(999), "111", "111")]
        {
            let mut pieces = Vec::new();
            pattern.split(&text, &mut memo, |piece| pieces.push(piece));
            assert_eq!((pieces[0], pieces[pieces.len() - 1]), (first, last));
        }
        let mut pieces = Vec::new();
        pattern.split("   x   ", &mut memo, |piece| pieces.push(piece));
        assert_eq!(pieces, ["   x", "   "]);
    }
}
