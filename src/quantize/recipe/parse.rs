//! The parser of recipes. Errors have a line and a column, counted from 1.

use std::path::Path;

use super::{Recipe, Rule, RuleType, Selector, Span};
use crate::TensorType;
use crate::formats;
use crate::quantize::{Error, FileType};

/// Words for several tensors, and the patterns that they stand for.
const ROLES: &[(&str, &[&str])] = &[
    ("all", &["*"]),
    ("attention", &["attn_*"]),
    ("embedding", &["token_embd", "per_layer_token_embd"]),
    ("experts", &["*_exps"]),
    ("ffn", &["ffn_*"]),
    ("output", &["output"]),
    ("shared_experts", &["*_shexp"]),
];

/// Maximum steps up or down.
const MAX_STEPS: isize = 20;

/// A word and its column.
#[derive(Clone, Copy)]
struct Word<'a> {
    text: &'a str,
    column: usize,
}

/// What is wrong, and in which column.
struct Problem(usize, String);

impl Word<'_> {
    fn problem(&self, problem: impl Into<String>) -> Problem {
        Problem(self.column, problem.into())
    }
}

/// The recipe from the lines read so far.
#[derive(Default)]
struct Draft {
    name: Option<String>,
    about: Option<String>,
    base: Option<(FileType, bool)>,
    rules: Vec<Rule>,
}

pub(super) fn parse(path: &Path, text: &str) -> Result<Recipe, Error> {
    let mut draft = Draft::default();
    let error = |line, Problem(column, problem)| Error::Recipe { path: path.to_owned(), line, column, problem };
    let mut last = 1;
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        last = number + 1;
        let line = line.split_once('#').map_or(line, |(before, _)| before);
        draft.read(line, last).map_err(|problem| error(last, problem))?;
    }
    let (base, pure) =
        draft.base.ok_or_else(|| error(last, Problem(1, "no base (a line such as `base: Q4_K_M`)".into())))?;
    let stem = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let name = draft.name.unwrap_or_else(stem);
    Ok(Recipe { name, about: draft.about.unwrap_or_default(), base, pure, rules: draft.rules })
}

/// The words of a line; commas and equals signs are words of their own.
fn words(line: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut begin: Option<(usize, usize)> = None;
    for (number, (at, c)) in line.char_indices().chain([(line.len(), ' ')]).enumerate() {
        let is_sign = matches!(c, ',' | '=');
        if is_sign || c.is_whitespace() {
            if let Some((from, column)) = begin.take() {
                words.push(Word { text: &line[from..at], column });
            }
            if is_sign {
                words.push(Word { text: &line[at..=at], column: number + 1 });
            }
        } else if begin.is_none() {
            begin = Some((at, number + 1));
        }
    }
    words
}

impl Draft {
    fn read(&mut self, line: &str, number: usize) -> Result<(), Problem> {
        let words = words(line);
        let Some(first) = words.first() else { return Ok(()) };
        if let Some(key) = first.text.strip_suffix(':') {
            let value = line.split_once(':').map_or("", |(_, value)| value).trim();
            return self.header(key, value, &words);
        }
        self.rules.push(rule(&words, number)?);
        Ok(())
    }

    fn header(&mut self, key: &str, value: &str, words: &[Word<'_>]) -> Result<(), Problem> {
        let key_word = words[0];
        let twice = || key_word.problem(format!("`{key}:` is there twice"));
        let Some(first) = words.get(1) else { return Err(key_word.problem(format!("`{key}:` says nothing"))) };
        match key {
            "name" => {
                // The name becomes part of a file name.
                let is_odd = |c: char| c.is_control() || matches!(c, '/' | '\\');
                if value.len() > 100 || value.starts_with('.') || value.contains(is_odd) {
                    return Err(first.problem("a name has at most 100 bytes, no slash, and no dot at its beginning"));
                }
                self.name.replace(value.to_owned()).map_or(Ok(()), |_| Err(twice()))
            }
            "about" => self.about.replace(value.to_owned()).map_or(Ok(()), |_| Err(twice())),
            "base" => {
                let base = FileType::from_name(first.text)
                    .filter(|ty| ty.is_writable())
                    .ok_or_else(|| first.problem(format!("`{}` is no mix such as Q4_K_M", first.text)))?;
                let pure = match words.get(2) {
                    None => false,
                    Some(word) if word.text == "pure" && words.len() == 3 => true,
                    Some(word) => return Err(word.problem("only `pure` may follow the base")),
                };
                self.base.replace((base, pure)).map_or(Ok(()), |_| Err(twice()))
            }
            _ => Err(key_word.problem(format!("`{key}:` is not known (name, about and base are)"))),
        }
    }
}

/// `TENSORS [in LAYERS] = TYPE`.
fn rule(words: &[Word<'_>], line: usize) -> Result<Rule, Problem> {
    let end = |words: &[Word<'_>]| words.last().map_or(1, |word| word.column + word.text.chars().count());
    let Some(equals) = words.iter().position(|word| word.text == "=") else {
        return Err(Problem(end(words), "no `= TYPE` after the tensors".into()));
    };
    let (before, after) = (&words[..equals], &words[equals + 1..]);
    let ty = match after {
        [] => return Err(Problem(end(words), "no type after the `=`".into())),
        [word] => rule_type(word)?,
        [_, more, ..] => return Err(more.problem(format!("`{}` is one word too many", more.text))),
    };
    let at_in = before.iter().position(|word| word.text == "in");
    let (names, layers) = match at_in {
        None => (before, None),
        Some(at) => (&before[..at], Some(spans(&before[at], &before[at + 1..])?)),
    };
    let mut tensors = Vec::new();
    for word in names {
        if word.text == "," {
            return Err(word.problem("tensors are separated by spaces"));
        }
        let patterns = ROLES.iter().find(|(role, _)| *role == word.text).map(|(_, patterns)| *patterns);
        let is_output = word.text == "output";
        let selector = |pattern: &str| Selector { pattern: pattern.to_owned(), is_output };
        match patterns {
            Some(patterns) => tensors.extend(patterns.iter().map(|pattern| selector(pattern))),
            None => tensors.push(selector(word.text)),
        }
    }
    if tensors.is_empty() {
        return Err(words[0].problem("no tensor before this"));
    }
    Ok(Rule { line, tensors, layers, ty })
}

fn rule_type(word: &Word<'_>) -> Result<RuleType, Problem> {
    if word.text == "keep" {
        return Ok(RuleType::Keep);
    }
    if word.text.starts_with(['+', '-']) {
        let steps = word.text.parse().ok().filter(|steps: &isize| steps.abs() <= MAX_STEPS);
        return steps
            .map(RuleType::Steps)
            .ok_or_else(|| word.problem(format!("`{}` is no number of steps up to {MAX_STEPS}", word.text)));
    }
    let ty = TensorType::from_name(word.text).ok_or_else(|| {
        word.problem(format!("`{}` is no type such as Q6_K, no step such as +1, and not keep", word.text))
    })?;
    if formats::codec(ty).is_none_or(|codec| codec.encode.is_none()) {
        return Err(word.problem(format!("{ty} cannot be written")));
    }
    Ok(RuleType::Type(ty))
}

/// The layers after `in`: numbers, ranges, `first 1/8`, `last 1/8`, `every 3`, separated by commas.
fn spans(word: &Word<'_>, words: &[Word<'_>]) -> Result<Vec<Span>, Problem> {
    let mut spans = Vec::new();
    for part in words.split(|word| word.text == ",") {
        let span = match part {
            [one] => range(one)?,
            [kind, value] => match kind.text {
                "first" => fraction(value).map(|(part, of)| Span::First(part, of))?,
                "last" => fraction(value).map(|(part, of)| Span::Last(part, of))?,
                "every" => match value.text.parse() {
                    Ok(step) if step > 0 => Span::Every(step),
                    _ => return Err(value.problem(format!("`{}` is no number from 1 on", value.text))),
                },
                "layers" | "layer" => range(value)?,
                other => return Err(kind.problem(format!("`{other}` is none of layers, first, last and every"))),
            },
            [] => return Err(word.problem("layers are missing after `in` or beside a comma")),
            [_, _, more, ..] => return Err(more.problem(format!("a comma is missing before `{}`", more.text))),
        };
        spans.push(span);
    }
    Ok(spans)
}

/// `3` or `3-7`.
fn range(word: &Word<'_>) -> Result<Span, Problem> {
    let (from, to) = word.text.split_once('-').unwrap_or((word.text, word.text));
    match (from.parse(), to.parse()) {
        (Ok(from), Ok(to)) if from <= to => Ok(Span::Range(from, to)),
        _ => Err(word.problem(format!("`{}` is no layer such as 3 and no range such as 0-7", word.text))),
    }
}

/// `1/8`: numerator and denominator.
fn fraction(word: &Word<'_>) -> Result<(usize, usize), Problem> {
    let parts = word.text.split_once('/').and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)));
    match parts {
        Some((part, of)) if 0 < of && part <= of => Ok((part, of)),
        _ => Err(word.problem(format!("`{}` is no fraction such as 1/8", word.text))),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::parse;

    #[test]
    fn what_is_wrong_is_told_with_line_and_column() {
        for (text, line, column, problem) in [
            ("", 1, 1, "no base"),
            ("# nothing\n\n", 2, 1, "no base"),
            ("base: Q9_K_M", 1, 7, "`Q9_K_M` is no mix"),
            ("base: Q4_K_M clean", 1, 14, "only `pure`"),
            ("base: Q4_K_M\nbase: Q8_0", 2, 1, "twice"),
            ("base:", 1, 1, "says nothing"),
            ("colour: red", 1, 1, "not known"),
            ("name: a/b", 1, 7, "no slash"),
            ("base: Q8_0\n  attn_v", 2, 9, "no `= TYPE`"),
            ("base: Q8_0\nattn_v =", 2, 9, "no type"),
            ("base: Q8_0\nattn_v = Q6_Q", 2, 10, "`Q6_Q` is no type"),
            ("base: Q8_0\nattn_v = Q8_K", 2, 10, "Q8_K cannot be written"),
            ("base: Q8_0\nattn_v = +99", 2, 10, "no number of steps"),
            ("base: Q8_0\nattn_v = Q6_K Q5_K", 2, 15, "too many"),
            ("base: Q8_0\n= Q6_K", 2, 1, "no tensor"),
            ("base: Q8_0\nattn_v, attn_k = Q6_K", 2, 7, "separated by spaces"),
            ("base: Q8_0\nattn_v in = Q6_K", 2, 8, "layers are missing"),
            ("base: Q8_0\nattn_v in 1,,2 = Q6_K", 2, 8, "layers are missing"),
            ("base: Q8_0\nattn_v in 7-3 = Q6_K", 2, 11, "no range"),
            ("base: Q8_0\nattn_v in first 1/0 = Q6_K", 2, 17, "no fraction"),
            ("base: Q8_0\nattn_v in last 9/8 = Q6_K", 2, 16, "no fraction"),
            ("base: Q8_0\nattn_v in every 0 = Q6_K", 2, 17, "from 1 on"),
            ("base: Q8_0\nattn_v in some 1 = Q6_K", 2, 11, "none of"),
            ("base: Q8_0\nattn_v in first 1/8 3 = Q6_K", 2, 21, "comma is missing"),
            ("base: Q8_0\nä ö = Q6_Q", 2, 7, "no type"),
        ] {
            let error = parse(Path::new("my.recipe"), text).expect_err(text).to_string();
            assert!(error.starts_with(&format!("my.recipe:{line}:{column}: ")) && error.contains(problem), "{error}");
        }
    }
}
