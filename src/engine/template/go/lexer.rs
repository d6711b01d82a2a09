//! Texts and actions of a template in Go's language.

use super::GoTemplateError;

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    Text(String),
    Action(Words),
}

/// The words of an action.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Words(pub(super) Vec<Word>);

/// A word of an action.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Word {
    /// `$name` (or `$` alone, without a name), and the fields after it.
    Variable(String, Vec<String>),
    /// The fields after the dot; none for the dot alone.
    Fields(Vec<String>),
    /// A function or a keyword.
    Name(String),
    Text(String),
    /// A number as it is written.
    Number(String),
    /// `(`, `)`, `|`, `,`, `=` or `:=`.
    Sign(&'static str),
    /// The fields after a closing bracket.
    After(Vec<String>),
}

/// Words that begin or end blocks, and others that are no values.
const KEYWORDS: [&str; 10] = ["if", "with", "range", "else", "end", "break", "continue", "define", "template", "block"];

impl Words {
    /// The keyword that an action begins with.
    pub(super) fn keyword(&self) -> Option<&str> {
        match self.0.first() {
            Some(Word::Name(name)) if KEYWORDS.contains(&name.as_str()) => Some(name),
            _ => None,
        }
    }

    /// The words after the first.
    pub(super) fn rest(&self) -> Self {
        Self(self.0.iter().skip(1).cloned().collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The variables that stand before `:=`, and the words after it.
    pub(super) fn declared(&self) -> (Vec<String>, Self) {
        let at = self.0.iter().position(|word| matches!(word, Word::Sign(":=" | "=")));
        let Some(at) = at else { return (Vec::new(), self.clone()) };
        let name = |word: &Word| match word {
            Word::Variable(name, _) => Some(name.clone()),
            _ => None,
        };
        (self.0[..at].iter().filter_map(name).collect(), Self(self.0[at + 1..].to_vec()))
    }
}

impl Piece {
    /// Whether an action has this field, of the conversation or of what is in it.
    pub(super) fn names(&self, field: &str) -> bool {
        let Self::Action(words) = self else { return false };
        words.0.iter().any(|word| match word {
            Word::Variable(_, fields) | Word::Fields(fields) | Word::After(fields) => {
                fields.iter().any(|other| other == field)
            }
            _ => false,
        })
    }
}

/// All pieces of a template; comments are left out, and white space beside `{{-` and `-}}`.
pub(super) fn pieces(source: &str) -> Result<Vec<Piece>, GoTemplateError> {
    let mut found = Vec::new();
    let (mut rest, mut trims) = (source, false);
    loop {
        let (text, action) = match rest.find("{{") {
            Some(at) => (&rest[..at], Some(&rest[at + 2..])),
            None => (rest, None),
        };
        let text = if trims { text.trim_start() } else { text };
        let Some(action) = action else {
            found.push(Piece::Text(text.to_owned()));
            return Ok(found);
        };
        let trimmed = action.strip_prefix('-').filter(|after| after.starts_with(char::is_whitespace));
        found.push(Piece::Text(if trimmed.is_some() { text.trim_end() } else { text }.to_owned()));
        let mut reader = Reader(trimmed.unwrap_or(action).trim_start());
        if let Some(comment) = reader.0.strip_prefix("/*") {
            let end = comment.find("*/").ok_or_else(|| GoTemplateError::new("a comment without an end"))?;
            reader.0 = &comment[end + 2..];
        }
        let (words, after) = reader.words()?;
        if !words.is_empty() {
            found.push(Piece::Action(words));
        }
        (rest, trims) = after;
    }
}

struct Reader<'t>(&'t str);

impl<'t> Reader<'t> {
    /// The words up to `}}`; then what follows it, and whether that is trimmed.
    fn words(&mut self) -> Result<(Words, (&'t str, bool)), GoTemplateError> {
        let mut words = Vec::new();
        loop {
            let spaced = self.0.starts_with(char::is_whitespace);
            self.0 = self.0.trim_start();
            if let Some(after) = self.0.strip_prefix("}}") {
                return Ok((Words(words), (after, false)));
            }
            if let Some(after) = self.0.strip_prefix("-}}").filter(|_| spaced || words.is_empty()) {
                return Ok((Words(words), (after, true)));
            }
            let word = self.word(spaced, matches!(words.last(), Some(Word::Sign(")"))))?;
            words.push(word);
        }
    }

    fn word(&mut self, spaced: bool, after_bracket: bool) -> Result<Word, GoTemplateError> {
        for sign in ["(", ")", "|", ",", ":=", "="] {
            if let Some(rest) = self.0.strip_prefix(sign) {
                self.0 = rest;
                return Ok(Word::Sign(sign));
            }
        }
        let first = self.0.chars().next().ok_or_else(|| GoTemplateError::new("an action without }}"))?;
        match first {
            '.' if after_bracket && !spaced => Ok(Word::After(self.fields())),
            '.' => {
                let fields = self.fields();
                if fields.is_empty() {
                    self.0 = &self.0[1..];
                }
                Ok(Word::Fields(fields))
            }
            '$' => {
                self.0 = &self.0[1..];
                let name = self.name();
                Ok(Word::Variable(name, self.fields()))
            }
            '"' => self.text(),
            '`' => {
                let end = self.0[1..].find('`').ok_or_else(|| GoTemplateError::new("a text without an end"))?;
                let text = self.0[1..=end].to_owned();
                self.0 = &self.0[end + 2..];
                Ok(Word::Text(text))
            }
            c if c.is_ascii_digit() || matches!(c, '-' | '+') => {
                let is_part = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+');
                let end = self.0.find(|c: char| !is_part(c)).unwrap_or(self.0.len());
                let number = self.0[..end].to_owned();
                self.0 = &self.0[end..];
                match number.parse::<f64>() {
                    Ok(_) => Ok(Word::Number(number.trim_start_matches('+').to_owned())),
                    Err(_) => Err(GoTemplateError::new(format!("{number} is no number"))),
                }
            }
            // As `name` has it: a word has to be read from here.
            c if c.is_ascii_alphabetic() || c == '_' => Ok(Word::Name(self.name())),
            other => Err(GoTemplateError::new(format!("{other:?} in an action"))),
        }
    }

    fn name(&mut self) -> String {
        let end = self.0.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.0.len());
        let (name, rest) = self.0.split_at(end);
        self.0 = rest;
        name.to_owned()
    }

    /// `.A.B` as `A` and `B`.
    fn fields(&mut self) -> Vec<String> {
        let mut fields = Vec::new();
        while let Some(rest) =
            self.0.strip_prefix('.').filter(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic()))
        {
            self.0 = rest;
            fields.push(self.name());
        }
        fields
    }

    /// A text in quotes.
    fn text(&mut self) -> Result<Word, GoTemplateError> {
        let mut chars = self.0[1..].char_indices();
        let mut text = String::new();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.0 = &self.0[at + 2..];
                    return Ok(Word::Text(text));
                }
                '\\' => match chars.next().map(|(_, c)| c) {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some('r') => text.push('\r'),
                    Some(c @ ('"' | '\\' | '\'')) => text.push(c),
                    _ => return Err(GoTemplateError::new("an escape that is not known in a text")),
                },
                '\n' => break,
                c => text.push(c),
            }
        }
        Err(GoTemplateError::new("a text without an end"))
    }
}
