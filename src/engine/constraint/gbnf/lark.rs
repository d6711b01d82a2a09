//! The writer of llguidance's Lark.

use std::collections::HashSet;
use std::fmt::Write as _;

use super::expr::{Expr, Grammar, Kind};
use super::lexemes::Lexemes;

/// Writes a grammar in Lark. Rules keep their numbers. Nested expressions become rules of their own, because Lark limits the nesting
/// of parentheses.
pub(super) fn write(grammar: &Grammar, lexemes: &Lexemes) -> String {
    let mut writer = Writer {
        lexemes,
        out: format!("start: r{}\n", grammar.root),
        groups: 0,
        seen: HashSet::from([grammar.root]),
        waiting: vec![grammar.root],
    };
    while let Some(rule) = writer.waiting.pop() {
        let body = writer.body(&grammar.rules[rule]);
        let _ = writeln!(writer.out, "r{rule}: {body}");
    }
    writer.out
}

struct Writer<'l> {
    lexemes: &'l Lexemes,
    out: String,
    /// Number of rules for nested expressions so far.
    groups: usize,
    /// Rules that are written or queued.
    seen: HashSet<usize>,
    waiting: Vec<usize>,
}

impl Writer<'_> {
    /// The right side of a rule.
    fn body(&mut self, expr: &Expr) -> String {
        match &expr.kind {
            Kind::Alt(items) if !self.lexemes.contains_key(&expr.id) => {
                items.iter().map(|item| self.sequence(item)).collect::<Vec<_>>().join(" | ")
            }
            _ => self.sequence(expr),
        }
    }

    fn sequence(&mut self, expr: &Expr) -> String {
        match &expr.kind {
            Kind::Seq(items) if !items.is_empty() && !self.lexemes.contains_key(&expr.id) => {
                items.iter().map(|item| self.atom(item)).collect::<Vec<_>>().join(" ")
            }
            _ => self.atom(expr),
        }
    }

    /// An expression that can be used anywhere.
    fn atom(&mut self, expr: &Expr) -> String {
        if let Some(lexeme) = self.lexemes.get(&expr.id) {
            let text = format!("/{}/", lexeme.regular.text);
            return if lexeme.optional { self.group(&format!("{text} | \"\"")) } else { text };
        }
        match &expr.kind {
            Kind::Token { id, negated } => format!("<[{}{id}]>", if *negated { "^" } else { "" }),
            Kind::Rule(number) => {
                if self.seen.insert(*number) {
                    self.waiting.push(*number);
                }
                format!("r{number}")
            }
            Kind::Seq(items) if items.is_empty() => "\"\"".to_owned(),
            Kind::Repeat(item, min, max) => {
                let item = self.atom(item);
                let text = match (min, max) {
                    (_, Some(0)) => "\"\"".to_owned(),
                    (0, None) => format!("{item}*"),
                    (1, None) => format!("{item}+"),
                    (0, Some(1)) => format!("{item}?"),
                    (min, None) => format!("{item}{{{min},{min}}} {item}*"),
                    (min, Some(max)) => format!("{item}{{{min},{max}}}"),
                };
                self.group(&text)
            }
            // Every character is a lexeme.
            Kind::Chars(_) | Kind::Seq(_) | Kind::Alt(_) => {
                let body = self.body(expr);
                self.group(&body)
            }
        }
    }

    /// A rule of its own.
    fn group(&mut self, body: &str) -> String {
        let name = format!("g{}", self.groups);
        self.groups += 1;
        let _ = writeln!(self.out, "{name}: {body}");
        name
    }
}
