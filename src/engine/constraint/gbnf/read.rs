//! The parser of GBNF, following llama.cpp's `llama-grammar.cpp` and `grammars/README.md`.

use std::collections::HashMap;

use super::chars::Chars;
use super::expr::{Expr, Grammar, Kind};
use crate::engine::Error;

/// Maximum nesting of parentheses.
const DEEPEST: usize = 100;
/// Maximum repetitions; a higher limit counts as no limit, as in llama.cpp.
const MOST_REPEATS: u32 = 2000;

/// Parses a grammar.
///
/// # Errors
/// [`Error::Grammar`].
pub(super) fn read(text: &str, token: &dyn Fn(&str) -> Option<u32>) -> Result<Grammar, Error> {
    let mut reader = Reader {
        text,
        at: 0,
        token,
        ids: 0,
        depth: 0,
        numbers: HashMap::new(),
        rules: Vec::new(),
        first_uses: Vec::new(),
    };
    reader.space(true);
    while reader.at < text.len() {
        reader.rule()?;
    }
    reader.finish()
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    token: &'t dyn Fn(&str) -> Option<u32>,
    /// Number of expressions so far.
    ids: usize,
    depth: usize,
    /// Rules by their names.
    numbers: HashMap<&'t str, usize>,
    rules: Vec<Option<Expr>>,
    /// Offset of the first use of each rule.
    first_uses: Vec<usize>,
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

impl<'t> Reader<'t> {
    fn error<T>(&self, at: usize, message: impl Into<String>) -> Result<T, Error> {
        let before = &self.text[..at];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Err(Error::Grammar {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: message.into(),
        })
    }

    /// The error that something else is expected here.
    fn expected<T>(&self, what: &str) -> Result<T, Error> {
        let found = self.peek().map_or_else(|| "the end".to_owned(), |c| format!("{c:?}"));
        self.error(self.at, format!("expected {what}, found {found}"))
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn take(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    fn expect(&mut self, c: char) -> Result<(), Error> {
        if self.take(c) { Ok(()) } else { self.expected(&format!("{c:?}")) }
    }

    /// Skips white space and comments.
    fn space(&mut self, newlines: bool) {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' => self.at += 1,
                '\r' | '\n' if newlines => self.at += 1,
                '#' => {
                    let rest = &self.text[self.at..];
                    self.at += rest.find(['\r', '\n']).unwrap_or(rest.len());
                }
                _ => return,
            }
        }
    }

    fn name(&mut self) -> Result<&'t str, Error> {
        let rest = &self.text[self.at..];
        let len = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        if len == 0 {
            return self.expected("the name of a rule");
        }
        self.at += len;
        Ok(&rest[..len])
    }

    /// The number of the rule `name`, used at byte `at`.
    fn number(&mut self, name: &'t str, at: usize) -> usize {
        let next = self.rules.len();
        let number = *self.numbers.entry(name).or_insert(next);
        if number == next {
            self.rules.push(None);
            self.first_uses.push(at);
        }
        number
    }

    fn expr(&mut self, kind: Kind) -> Expr {
        self.ids += 1;
        Expr { id: self.ids - 1, kind }
    }

    fn rule(&mut self) -> Result<(), Error> {
        let start = self.at;
        let name = self.name()?;
        self.space(false);
        if !self.text[self.at..].starts_with("::=") {
            return self.expected("::=");
        }
        self.at += 3;
        self.space(true);
        let number = self.number(name, start);
        let body = self.alternatives(false)?;
        // A later rule of the same name replaces the first, as in llama.cpp.
        self.rules[number] = Some(body);
        if !matches!(self.peek(), None | Some('\r' | '\n')) {
            return self.expected("the end of the rule");
        }
        self.space(true);
        Ok(())
    }

    fn alternatives(&mut self, nested: bool) -> Result<Expr, Error> {
        let mut all = vec![self.sequence(nested)?];
        while self.take('|') {
            self.space(true);
            all.push(self.sequence(nested)?);
        }
        let kind = if all.len() == 1 { all.remove(0).kind } else { Kind::Alt(all) };
        Ok(self.expr(kind))
    }

    fn sequence(&mut self, nested: bool) -> Result<Expr, Error> {
        let mut items: Vec<Expr> = Vec::new();
        while let Some(c) = self.peek() {
            let start = self.at;
            let item = match c {
                '"' => self.literal()?,
                '[' => self.class()?,
                '<' | '!' => self.token()?,
                '(' => self.group()?,
                '.' => {
                    self.at += 1;
                    self.expr(Kind::Chars(Chars::any()))
                }
                '*' | '+' | '?' | '{' => {
                    let (min, max) = self.repeats(nested)?;
                    let Some(item) = items.pop() else {
                        return self.error(start, format!("{c:?} has nothing before it to repeat"));
                    };
                    self.expr(Kind::Repeat(Box::new(item), min, max))
                }
                c if is_word(c) => {
                    let name = self.name()?;
                    let number = self.number(name, start);
                    self.expr(Kind::Rule(number))
                }
                _ => break,
            };
            items.push(item);
            self.space(nested);
        }
        let kind = if items.len() == 1 { items.remove(0).kind } else { Kind::Seq(items) };
        Ok(self.expr(kind))
    }

    fn group(&mut self) -> Result<Expr, Error> {
        self.expect('(')?;
        self.depth += 1;
        if self.depth > DEEPEST {
            return self.error(self.at, format!("more than {DEEPEST} parentheses within each other"));
        }
        self.space(true);
        let inner = self.alternatives(true)?;
        self.expect(')')?;
        self.depth -= 1;
        Ok(inner)
    }

    fn literal(&mut self) -> Result<Expr, Error> {
        self.expect('"')?;
        let mut items = Vec::new();
        while !self.take('"') {
            let c = self.character()?;
            items.push(self.expr(Kind::Chars(Chars::of([(c, c)]))));
        }
        let kind = if items.len() == 1 { items.remove(0).kind } else { Kind::Seq(items) };
        Ok(self.expr(kind))
    }

    fn class(&mut self) -> Result<Expr, Error> {
        let start = self.at;
        self.expect('[')?;
        let negated = self.take('^');
        let mut ranges = Vec::new();
        while !self.take(']') {
            let at = self.at;
            let first = self.character()?;
            let is_range = self.peek() == Some('-') && !self.text[self.at..].starts_with("-]");
            let last = if is_range {
                self.at += 1;
                self.character()?
            } else {
                first
            };
            if last < first {
                return self.error(at, format!("{first:?}-{last:?} is no range"));
            }
            ranges.push((first, last));
        }
        let chars = Chars::of(ranges);
        let chars = if negated { chars.negated() } else { chars };
        if chars.is_empty() {
            return self.error(start, "no character is in this class");
        }
        Ok(self.expr(Kind::Chars(chars)))
    }

    /// A character of a literal or a class, which may be escaped.
    fn character(&mut self) -> Result<char, Error> {
        let start = self.at;
        let Some(c) = self.peek() else { return self.error(start, "the grammar ends within a text or a class") };
        self.at += c.len_utf8();
        if c != '\\' {
            return Ok(c);
        }
        let escaped = self.peek();
        self.at += escaped.map_or(0, char::len_utf8);
        let digits = match escaped {
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            Some('t') => return Ok('\t'),
            Some('r') => return Ok('\r'),
            Some('n') => return Ok('\n'),
            Some(c @ ('\\' | '"' | '[' | ']' | '-')) => return Ok(c),
            _ => return self.error(start, "unknown escape: \\x \\u \\U \\t \\r \\n \\\\ \\\" \\[ \\] \\- are known"),
        };
        let code = self.text.get(self.at..self.at + digits).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(code) = code.and_then(|hex| u32::from_str_radix(hex, 16).ok()) else {
            return self.error(start, format!("{digits} hexadecimal digits have to follow"));
        };
        self.at += digits;
        match char::from_u32(code) {
            Some(c) => Ok(c),
            None => self.error(start, "not a character of Unicode"),
        }
    }

    /// A token: `<[id]>` or `<text>`; after `!`, all others.
    fn token(&mut self) -> Result<Expr, Error> {
        let negated = self.take('!');
        let start = self.at;
        self.expect('<')?;
        let rest = &self.text[self.at..];
        let Some(len) = rest.find('>') else { return self.error(start, "no > ends this token") };
        self.at += len + 1;
        let id = match rest[..len].strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(id) => id.parse().ok(),
            None => (self.token)(&self.text[start..self.at]),
        };
        let Some(id) = id else {
            return self.error(start, format!("{} is no token of the model", &self.text[start..self.at]));
        };
        Ok(self.expr(Kind::Token { id, negated }))
    }

    fn repeats(&mut self, nested: bool) -> Result<(u32, Option<u32>), Error> {
        let start = self.at;
        match self.peek() {
            Some('*') => return self.expect('*').map(|()| (0, None)),
            Some('+') => return self.expect('+').map(|()| (1, None)),
            Some('?') => return self.expect('?').map(|()| (0, Some(1))),
            _ => self.expect('{')?,
        }
        self.space(nested);
        let Some(min) = self.count()? else { return self.expected("a number") };
        self.space(nested);
        let max = if self.take(',') {
            self.space(nested);
            let max = self.count()?;
            self.space(nested);
            max
        } else {
            Some(min)
        };
        self.expect('}')?;
        if min > MOST_REPEATS {
            return self.error(start, format!("more than {MOST_REPEATS} repetitions"));
        }
        if max.is_some_and(|max| max < min) {
            return self.error(start, "at most fewer than at least");
        }
        Ok((min, max.filter(|max| *max <= MOST_REPEATS)))
    }

    fn count(&mut self) -> Result<Option<u32>, Error> {
        let rest = &self.text[self.at..];
        let len = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        if len == 0 {
            return Ok(None);
        }
        let Ok(count) = rest[..len].parse() else { return self.error(self.at, "too large a number") };
        self.at += len;
        Ok(Some(count))
    }

    fn finish(self) -> Result<Grammar, Error> {
        let Some(&root) = self.numbers.get("root") else { return self.error(0, "no rule is called root") };
        let mut rules = Vec::new();
        for (number, rule) in self.rules.iter().enumerate() {
            let Some(rule) = rule else {
                let name = self.numbers.iter().find(|(_, other)| **other == number).map_or("", |(name, _)| name);
                return self.error(self.first_uses[number], format!("no rule is called {name}"));
            };
            rules.push(rule.clone());
        }
        Ok(Grammar { rules, root, exprs: self.ids })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        read(text, &|name| (name == "<think>").then_some(7)).err().map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, expected) in [
            ("", "line 1, column 1: no rule is called root"),
            ("root = \"a\"", "line 1, column 6: expected ::=, found '='"),
            ("root ::= a\n\nb ::= \"c\"", "line 1, column 10: no rule is called a"),
            ("# é\nroot ::= \"é\" [", "line 2, column 15: the grammar ends within a text or a class"),
            (
                "root ::= \"\\q\"",
                "line 1, column 11: unknown escape: \\x \\u \\U \\t \\r \\n \\\\ \\\" \\[ \\] \\- are known",
            ),
            ("root ::= \"\\u00\"", "line 1, column 11: 4 hexadecimal digits have to follow"),
            ("root ::= \"\\ud800\"", "line 1, column 11: not a character of Unicode"),
            ("root ::= * \"a\"", "line 1, column 10: '*' has nothing before it to repeat"),
            ("root ::= (\"a\"", "line 1, column 14: expected ')', found the end"),
            ("root ::= \"a\" )", "line 1, column 14: expected the end of the rule, found ')'"),
            ("root ::= \"a\"{3,2}", "line 1, column 13: at most fewer than at least"),
            ("root ::= \"a\"{9999}", "line 1, column 13: more than 2000 repetitions"),
            ("root ::= \"a\"{x}", "line 1, column 14: expected a number, found 'x'"),
            ("root ::= [b-a]", "line 1, column 11: 'b'-'a' is no range"),
            ("root ::= []", "line 1, column 10: no character is in this class"),
            ("root ::= <other>", "line 1, column 10: <other> is no token of the model"),
        ] {
            assert_eq!(error(text), format!("grammar: {expected}"), "{text}");
        }
        assert!(error(&format!("root ::= {}", "(".repeat(200))).contains("within each other"));
        for text in [
            "root ::= <think> !<[3]>* \"a\"?\n",
            "root ::= a | # or\n  b\r\na ::= (\n\"x\" # why\n | \"y\"\n)\nb ::= [^\\]a-z\\-]{ 2 , } .",
            "root ::= \"a\" |",
        ] {
            assert_eq!(error(text), "", "{text}");
        }
    }
}
