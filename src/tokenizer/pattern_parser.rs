//! Parses the patterns of pre-tokenizers, and checks that they match like regular expressions.

use regex_syntax::hir::ClassUnicode;

use super::pattern_tree::{Node, Repeat, Set};
use super::unicode::{is_disjoint, is_subset, property, range, white_space, word_of_patterns};

/// Maximum nesting of groups.
const MAX_DEPTH: usize = 32;

/// The alternatives of the pattern `source`, and the number of its repeats; `None` if it uses unsupported features.
pub(super) fn parse(source: &str) -> Option<(Vec<Vec<Node>>, usize)> {
    let chars = source.chars().collect();
    let mut parser = Parser { chars, at: 0, ignore_case: false, depth: 0, repeats: 0 };
    let alternatives = parser.alternatives()?;
    let whole = parser.at == parser.chars.len() && alternatives.iter().all(|nodes| is_exact(nodes));
    whole.then_some((alternatives, parser.repeats))
}

struct Parser {
    chars: Vec<char>,
    at: usize,
    ignore_case: bool,
    depth: usize,
    repeats: usize,
}

/// A part of a class.
enum Atom {
    Char(char),
    Named,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.chars[self.at..].iter().copied().take(text.chars().count()).eq(text.chars());
        if found {
            self.at += text.chars().count();
        }
        found
    }

    fn expect(&mut self, text: &str) -> Option<()> {
        self.eat(text).then_some(())
    }

    fn alternatives(&mut self) -> Option<Vec<Vec<Node>>> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let mut all = vec![Vec::new()];
        while let Some(c) = self.peek().filter(|&c| c != ')') {
            if c == '|' {
                self.at += 1;
                all.push(Vec::new());
            } else {
                let node = self.node()?;
                all.last_mut()?.push(node);
            }
        }
        self.depth -= 1;
        Some(all)
    }

    fn node(&mut self) -> Option<Node> {
        for (start, wanted) in [("(?=", true), ("(?!", false)] {
            if self.eat(start) {
                let alternatives = self.alternatives()?;
                self.expect(")")?;
                return Some(Node::Look { alternatives, wanted });
            }
        }
        if self.eat("(") {
            let outer = self.ignore_case;
            if self.eat("?i:") {
                self.ignore_case = true;
            } else if !self.eat("?:") && self.peek() == Some('?') {
                return None;
            }
            let alternatives = self.alternatives()?;
            self.expect(")")?;
            self.ignore_case = outer;
            return Some(Node::Group(self.repeat()?, alternatives));
        }
        if self.eat("$") {
            return Some(Node::End);
        }
        if self.eat("\\b") {
            return Some(Node::WordBoundary(Set::new(word_of_patterns())));
        }
        let mut set = ClassUnicode::empty();
        if self.eat("[") {
            self.class_items(&mut set)?;
        } else if matches!(self.peek(), Some('.' | '^' | '*' | '+' | '?')) {
            return None;
        } else {
            self.class_atom(&mut set)?;
        }
        Some(Node::Class(self.repeat()?, Set::new(set)))
    }

    /// The content of a class up to the closing bracket.
    fn class_items(&mut self, set: &mut ClassUnicode) -> Option<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let negated = self.eat("^");
        while !self.eat("]") {
            if self.eat("[") {
                let mut inner = ClassUnicode::empty();
                self.class_items(&mut inner)?;
                set.union(&inner);
            } else if self.eat("&&") {
                // A `^` after `&&` is a character of its own in some dialects.
                if self.peek() == Some('^') {
                    return None;
                }
                let mut also = ClassUnicode::empty();
                self.class_items(&mut also)?;
                set.intersect(&also);
                break;
            } else {
                self.class_item(set)?;
            }
        }
        if negated {
            set.negate();
        }
        self.depth -= 1;
        Some(())
    }

    fn class_item(&mut self, set: &mut ClassUnicode) -> Option<()> {
        let Atom::Char(from) = self.class_atom(set)? else { return Some(()) };
        let ends_range = self.chars.get(self.at + 1).is_some_and(|&c| c != ']');
        if self.peek() == Some('-') && ends_range {
            self.at += 1;
            let Atom::Char(to) = self.class_atom(&mut ClassUnicode::empty())? else { return None };
            if from > to {
                return None;
            }
            self.add(range(from, to), set)?;
        }
        Some(())
    }

    /// Adds characters to a class; in upper and lower case if case is ignored.
    fn add(&self, mut chars: ClassUnicode, set: &mut ClassUnicode) -> Option<()> {
        if self.ignore_case {
            chars.try_case_fold_simple().ok()?;
        }
        set.union(&chars);
        Some(())
    }

    /// Adds one character or named class.
    fn class_atom(&mut self, set: &mut ClassUnicode) -> Option<Atom> {
        let mut c = self.next()?;
        if c == '\\' {
            let named = match self.next()? {
                'p' => {
                    self.expect("{")?;
                    let mut name = String::new();
                    while !self.eat("}") {
                        name.push(self.next()?);
                    }
                    property(&name)?
                }
                's' => white_space(),
                'S' => {
                    let mut class = white_space();
                    class.negate();
                    class
                }
                'd' => property("Nd")?,
                escaped => {
                    c = match escaped {
                        'r' => '\r',
                        'n' => '\n',
                        't' => '\t',
                        letter if letter.is_ascii_alphanumeric() => return None,
                        other => other,
                    };
                    self.add(range(c, c), set)?;
                    return Some(Atom::Char(c));
                }
            };
            set.union(&named);
            return Some(Atom::Named);
        }
        self.add(range(c, c), set)?;
        Some(Atom::Char(c))
    }

    fn repeat(&mut self) -> Option<Repeat> {
        let (min, max, repeated) = if self.eat("?") {
            (0, 1, true)
        } else if self.eat("*") {
            (0, usize::MAX, true)
        } else if self.eat("+") {
            (1, usize::MAX, true)
        } else if self.eat("{") {
            let min = self.number()?;
            let max = if self.eat(",") { self.number().unwrap_or(usize::MAX) } else { min };
            self.expect("}")?;
            (min, max, true)
        } else {
            (1, 1, false)
        };
        let possessive = repeated && self.eat("+");
        // Lazy repeats are not supported.
        if repeated && self.peek() == Some('?') || min > max {
            return None;
        }
        self.repeats += 1;
        Some(Repeat { min, max, possessive, id: self.repeats - 1 })
    }

    fn number(&mut self) -> Option<usize> {
        let mut n = None;
        while let Some(digit) = self.peek().and_then(|c| c.to_digit(10)) {
            n = Some(n.unwrap_or(0usize).checked_mul(10)?.checked_add(digit as usize)?);
            self.at += 1;
        }
        n
    }
}

/// Whether the matcher gives the matches of a regular expression for `nodes`: groups do not backtrack, so that no match may
/// depend on that.
fn is_exact(nodes: &[Node]) -> bool {
    let Some((node, rest)) = nodes.split_first() else { return true };
    let inner_exact = |alternatives: &[Vec<Node>]| alternatives.iter().all(|nodes| is_exact(nodes));
    let exact = match node {
        Node::Class(..) | Node::End | Node::WordBoundary(_) => true,
        Node::Look { alternatives, .. } => inner_exact(alternatives),
        Node::Group(repeat, alternatives) => {
            let never_fails = succeeds(rest);
            let lengths: Vec<Option<usize>> = alternatives.iter().map(|nodes| length(nodes)).collect();
            let one_end = lengths.iter().all(|length| length.is_some() && *length == lengths[0]);
            let exact = match (repeat.min, repeat.max) {
                _ if repeat.possessive => repeat.min <= 1,
                (1, 1) => never_fails || lengths.iter().all(Option::is_some),
                (0, 1) => never_fails || one_end,
                (min, max) if min == max => one_end,
                (min, _) if min > 1 => false,
                _ => {
                    never_fails
                        || one_end
                            && first_and_last(alternatives)
                                .is_some_and(|chars| rest.first().is_some_and(|next| fails_between(next, &chars)))
                }
            };
            exact && inner_exact(alternatives)
        }
    };
    exact && is_exact(rest)
}

/// Whether `nodes` match at every offset, possibly the empty text.
fn succeeds(nodes: &[Node]) -> bool {
    nodes.iter().all(|node| match node {
        Node::Class(repeat, _) | Node::Group(repeat, _) => repeat.min == 0,
        _ => false,
    })
}

/// Number of characters that `nodes` match, if it is always the same.
fn length(nodes: &[Node]) -> Option<usize> {
    nodes.iter().try_fold(0usize, |sum, node| {
        let (repeat, one) = match node {
            Node::Class(repeat, _) => (repeat, 1),
            Node::Group(repeat, alternatives) => {
                let mut lengths = alternatives.iter().map(|nodes| length(nodes));
                let first = lengths.next()??;
                (repeat, lengths.all(|length| length == Some(first)).then_some(first)?)
            }
            Node::Look { .. } | Node::End | Node::WordBoundary(_) => return Some(sum),
        };
        (repeat.min == repeat.max).then_some(())?;
        sum.checked_add(one.checked_mul(repeat.min)?)
    })
}

/// All characters with which one of these may begin or end, if they are only classes.
fn first_and_last(alternatives: &[Vec<Node>]) -> Option<ClassUnicode> {
    let mut chars = ClassUnicode::empty();
    for nodes in alternatives {
        for node in [nodes.first()?, nodes.last()?] {
            let Node::Class(repeat, set) = node else { return None };
            (repeat.min > 0).then_some(())?;
            chars.union(&set.class);
        }
    }
    Some(chars)
}

/// Whether `node` never matches between two of `chars`.
fn fails_between(node: &Node, chars: &ClassUnicode) -> bool {
    match node {
        Node::Class(repeat, set) => repeat.min > 0 && is_disjoint(&set.class, chars),
        Node::End => true,
        Node::WordBoundary(word) => is_subset(chars, &word.class) || is_disjoint(chars, &word.class),
        Node::Look { alternatives, wanted: false } => alternatives.iter().any(|nodes| match nodes.as_slice() {
            [Node::Class(repeat, set)] => repeat.min <= 1 && is_subset(chars, &set.class),
            _ => false,
        }),
        Node::Look { .. } | Node::Group(..) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn what_is_not_known_is_refused() {
        for source in [
            "a.b",
            "(a",
            "a)",
            "[a&&^b]",
            "[a[b]",
            "(?<=a)b",
            r"\w+",
            "a*?",
            r"\p{NoScript}",
            "a{2,1x}",
            "a{3,2}",
            "[b-a]",
            "^a",
        ] {
            assert!(parse(source).is_none(), "{source}");
        }
    }

    /// A repeated group does not backtrack, and only the first match of a group is tried.
    #[test]
    fn groups_are_refused_where_giving_back_could_matter() {
        for source in
            ["(a+)a", "(?:ab|a)*b", r"(\d{3})+\d", r"(?:\d{3})*[\d.]", r"(?=(a)*(?!b))", r"(a{1,2}){2}", "(?:a|bc)?b"]
        {
            assert!(parse(source).is_none(), "{source}");
        }
        for source in [
            "(a+)",
            "(?:a|ab)c",
            "(?:a|ab)(?:c|bcd)d*x",
            "(?:ab)*",
            r"(?:\d{3})+(?!\d)",
            r"(?:\d{3})*\b",
            r"(?:\d{3})*$",
            r"(?:ab|cd)+x",
            r"(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+",
            "(?:a|ab)?+c",
            r"x(?i:'s|'re)?",
        ] {
            assert!(parse(source).is_some(), "{source}");
        }
    }
}
