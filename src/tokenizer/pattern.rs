//! A small backtracking matcher for the patterns that pre-tokenizers are written as.
//!
//! It knows what they use: alternatives, groups, classes with categories, greedy repeats, look-ahead, `$`, `\b` and
//! `(?i:...)`. Repeats of a single class give back what they took; a repeated group keeps it. No input makes it
//! recurse deeper than the pattern, and each match looks at a character a fixed number of times.

use super::unicode::{CategorySet, category, named};

/// A compiled pattern.
#[derive(Debug)]
pub(super) struct Pattern {
    alternatives: Vec<Vec<Node>>,
}

#[derive(Debug)]
enum Node {
    Class { set: Class, min: usize, max: usize },
    Group { alternatives: Vec<Vec<Node>>, min: usize, max: usize },
    Look { alternatives: Vec<Vec<Node>>, wanted: bool },
    End,
    WordBoundary,
}

/// A set of characters.
#[derive(Clone, Debug, Default)]
struct Class {
    ascii: u128,
    categories: CategorySet,
    space: bool,
    not_space: bool,
    ranges: Vec<(char, char)>,
    negated: bool,
    /// Classes within this one.
    inner: Vec<Class>,
    /// What a character must be in as well (`&&`), before the negation.
    also: Option<Box<Class>>,
}

impl Class {
    fn add(&mut self, from: char, to: char) {
        self.ranges.push((from, to));
    }

    /// Fixes the answers for ASCII.
    fn finish(mut self) -> Self {
        let ascii = (0u8..128).filter(|&b| self.look_up(char::from(b))).fold(0, |set, b| set | 1 << b);
        self.ascii = ascii;
        self
    }

    fn look_up(&self, c: char) -> bool {
        let found = category(c) & self.categories != 0
            || self.space && c.is_whitespace()
            || self.not_space && !c.is_whitespace()
            || self.ranges.iter().any(|&(from, to)| (from..=to).contains(&c))
            || self.inner.iter().any(|class| class.look_up(c));
        let found = found && self.also.as_ref().is_none_or(|class| class.look_up(c));
        found != self.negated
    }

    /// Bytes of up to `max` characters of the set at the start of `text`, and their number.
    fn run(&self, text: &str, max: usize) -> (usize, usize) {
        let (mut len, mut count) = (0, 0);
        let bytes = text.as_bytes();
        while count < max {
            match bytes.get(len) {
                Some(b) if b.is_ascii() => {
                    if self.ascii >> b & 1 == 0 {
                        break;
                    }
                    len += 1;
                }
                Some(_) => match text[len..].chars().next() {
                    Some(c) if self.look_up(c) => len += c.len_utf8(),
                    _ => break,
                },
                None => break,
            }
            count += 1;
        }
        (len, count)
    }
}

impl Pattern {
    /// Compiles `source`, unless it uses what this matcher does not know.
    pub(super) fn new(source: &str) -> Option<Self> {
        let mut parser = Parser { chars: source.chars().collect(), at: 0, ignore_case: false, depth: 0 };
        let alternatives = parser.alternatives()?;
        (parser.at == parser.chars.len()).then_some(Self { alternatives })
    }

    /// Bytes of the match at `start` of `text`, if there is one.
    pub(super) fn match_at(&self, text: &str, start: usize) -> Option<usize> {
        first_match(&self.alternatives, text, start).map(|end| end - start)
    }

    /// Calls `piece` with each match and each stretch between matches.
    pub(super) fn split<'t>(&self, text: &'t str, piece: impl FnMut(&'t str)) {
        self.split_with(text, |_| None, piece);
    }

    /// As [`Self::split`]; `quick` may know the length of the match at a place.
    pub(super) fn split_with<'t>(
        &self,
        text: &'t str,
        quick: impl Fn(usize) -> Option<usize>,
        mut piece: impl FnMut(&'t str),
    ) {
        let (mut done, mut at) = (0, 0);
        while at < text.len() {
            if let Some(len) = quick(at).or_else(|| self.match_at(text, at)) {
                // An empty match (a look-ahead alone) cuts before the next character.
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

fn first_match(alternatives: &[Vec<Node>], text: &str, at: usize) -> Option<usize> {
    alternatives.iter().find_map(|nodes| match_nodes(nodes, text, at))
}

fn match_nodes(nodes: &[Node], text: &str, at: usize) -> Option<usize> {
    let Some((node, rest)) = nodes.split_first() else { return Some(at) };
    match node {
        Node::Class { set, min, max } => {
            let (mut len, mut count) = set.run(&text[at..], *max);
            if count < *min {
                return None;
            }
            loop {
                if let Some(end) = match_nodes(rest, text, at + len) {
                    return Some(end);
                }
                if count == *min {
                    return None;
                }
                count -= 1;
                len -= text[at..at + len].chars().next_back().map_or(1, char::len_utf8);
            }
        }
        Node::Group { alternatives, min, max } if (*min, *max) == (1, 1) => {
            alternatives.iter().find_map(|nodes| match_nodes(rest, text, match_nodes(nodes, text, at)?))
        }
        Node::Group { alternatives, min, max } => {
            let (mut end, mut count) = (at, 0);
            while count < *max {
                match first_match(alternatives, text, end) {
                    Some(next) if next > end => end = next,
                    _ => break,
                }
                count += 1;
            }
            let taken = (count >= *min).then(|| match_nodes(rest, text, end)).flatten();
            // An optional group is given back as a whole.
            taken.or_else(|| if *min == 0 { match_nodes(rest, text, at) } else { None })
        }
        Node::Look { alternatives, wanted } => {
            let found = first_match(alternatives, text, at).is_some();
            if found == *wanted { match_nodes(rest, text, at) } else { None }
        }
        Node::End => (at == text.len()).then_some(at).and_then(|at| match_nodes(rest, text, at)),
        Node::WordBoundary => {
            // Oniguruma's word characters, which are those that published tokenizers run with.
            let word = named("L") | named("M") | named("N") | named("Pc");
            let is_word = |c: Option<char>| c.is_some_and(|c| category(c) & word != 0 || c.is_alphabetic());
            let boundary = is_word(text[..at].chars().next_back()) != is_word(text[at..].chars().next());
            if boundary { match_nodes(rest, text, at) } else { None }
        }
    }
}

struct Parser {
    chars: Vec<char>,
    at: usize,
    ignore_case: bool,
    depth: usize,
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
            let (min, max) = self.repeat()?;
            return Some(Node::Group { alternatives, min, max });
        }
        if self.eat("$") {
            return Some(Node::End);
        }
        if self.eat("\\b") {
            return Some(Node::WordBoundary);
        }
        let mut set = Class::default();
        if self.eat("[") {
            self.class_items(&mut set)?;
        } else if matches!(self.peek(), Some('.' | '^' | '*' | '+' | '?')) {
            return None;
        } else {
            self.class_atom(&mut set)?;
        }
        let set = set.finish();
        let (min, max) = self.repeat()?;
        Some(Node::Class { set, min, max })
    }

    /// What stands between the brackets of a class, and the closing one.
    fn class_items(&mut self, set: &mut Class) -> Option<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        set.negated = self.eat("^");
        while !self.eat("]") {
            if self.eat("[") {
                let mut inner = Class::default();
                self.class_items(&mut inner)?;
                set.inner.push(inner);
            } else if self.eat("&&") {
                let mut also = Class::default();
                self.class_items(&mut also)?;
                // A `^` after `&&` is a character of its own in some dialects.
                set.also = (!also.negated).then(|| Box::new(also));
                set.also.as_ref()?;
                break;
            } else {
                self.class_item(set)?;
            }
        }
        self.depth -= 1;
        Some(())
    }

    fn class_item(&mut self, set: &mut Class) -> Option<()> {
        let Atom::Char(from) = self.class_atom(set)? else { return Some(()) };
        let ends_range = self.chars.get(self.at + 1).is_some_and(|&c| c != ']');
        if self.peek() == Some('-') && ends_range {
            self.at += 1;
            let Atom::Char(to) = self.class_atom(&mut Class::default())? else { return None };
            set.add(from, to);
        }
        Some(())
    }

    /// Adds one character or named class.
    fn class_atom(&mut self, set: &mut Class) -> Option<Atom> {
        let mut c = self.next()?;
        if c == '\\' {
            c = match self.next()? {
                'p' => {
                    self.expect("{")?;
                    let mut name = String::new();
                    while !self.eat("}") {
                        name.push(self.next()?);
                    }
                    if name == "Han" {
                        HAN.iter().for_each(|&(from, to)| set.add(from, to));
                    } else {
                        let categories = named(&name);
                        if categories == 0 {
                            return None;
                        }
                        set.categories |= categories;
                    }
                    return Some(Atom::Named);
                }
                's' => {
                    set.space = true;
                    return Some(Atom::Named);
                }
                'S' => {
                    set.not_space = true;
                    return Some(Atom::Named);
                }
                'd' => {
                    set.categories |= named("Nd");
                    return Some(Atom::Named);
                }
                'r' => '\r',
                'n' => '\n',
                't' => '\t',
                letter if letter.is_ascii_alphanumeric() => return None,
                other => other,
            };
        }
        set.add(c, c);
        if self.ignore_case {
            for other in [c.to_ascii_lowercase(), c.to_ascii_uppercase()] {
                set.add(other, other);
            }
            // The only letter of contractions that folds to something else besides its case.
            if c == 's' {
                set.add('ſ', 'ſ');
            }
        }
        Some(Atom::Char(c))
    }

    fn repeat(&mut self) -> Option<(usize, usize)> {
        let bounds = if self.eat("?") {
            (0, 1)
        } else if self.eat("*") {
            (0, usize::MAX)
        } else if self.eat("+") {
            (1, usize::MAX)
        } else if self.eat("{") {
            let min = self.number()?;
            let max = if self.eat(",") { self.number().unwrap_or(usize::MAX) } else { min };
            self.expect("}")?;
            (min, max)
        } else {
            return Some((1, 1));
        };
        // Possessive repeats differ from greedy ones in none of the patterns that use them; lazy ones are not known.
        self.eat("+");
        (self.peek() != Some('?')).then_some(bounds)
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

/// A part of a class.
enum Atom {
    Char(char),
    Named,
}

/// Groups within groups.
const MAX_DEPTH: usize = 32;

/// The script Han (Unicode 15).
const HAN: &[(char, char)] = &[
    ('\u{2e80}', '\u{2e99}'),
    ('\u{2e9b}', '\u{2ef3}'),
    ('\u{2f00}', '\u{2fd5}'),
    ('\u{3005}', '\u{3005}'),
    ('\u{3007}', '\u{3007}'),
    ('\u{3021}', '\u{3029}'),
    ('\u{3038}', '\u{303b}'),
    ('\u{3400}', '\u{4dbf}'),
    ('\u{4e00}', '\u{9fff}'),
    ('\u{f900}', '\u{fa6d}'),
    ('\u{fa70}', '\u{fad9}'),
    ('\u{16fe2}', '\u{16fe3}'),
    ('\u{16ff0}', '\u{16ff1}'),
    ('\u{20000}', '\u{2a6df}'),
    ('\u{2a700}', '\u{2b739}'),
    ('\u{2b740}', '\u{2b81d}'),
    ('\u{2b820}', '\u{2cea1}'),
    ('\u{2ceb0}', '\u{2ebe0}'),
    ('\u{2f800}', '\u{2fa1d}'),
    ('\u{30000}', '\u{3134a}'),
    ('\u{31350}', '\u{323af}'),
];

#[cfg(test)]
mod tests {
    use super::Pattern;

    fn pieces<'t>(pattern: &str, text: &'t str) -> Vec<&'t str> {
        let mut pieces = Vec::new();
        Pattern::new(pattern).expect("a valid pattern").split(text, |piece| pieces.push(piece));
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
    }

    #[test]
    fn classes_hold_classes() {
        assert_eq!(pieces(r" ?[^(\s|[.,!?])]+", "a b, c|d"), ["a", " b", ",", " c", "|", "d"]);
        assert_eq!(pieces(r"[\p{L}&&[^\p{Han}]]+", "ab中c"), ["ab", "中", "c"]);
        assert_eq!(pieces(r"[^a-z&&[^x]]+", "ABxyz"), ["ABx", "yz"]);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for source in ["a.b", "(a", "a)", "[a&&^b]", "[a[b]", "(?<=a)b", r"\w+", "a*?", r"\p{Greek}", "a{2,1x}"] {
            assert!(Pattern::new(source).is_none(), "{source}");
        }
    }

    #[test]
    fn long_runs_do_not_recurse() {
        let text = "a".repeat(1 << 20);
        assert_eq!(pieces(r"\s?\p{L}+", &text).len(), 1);
        let text = " ".repeat(1 << 20);
        assert_eq!(pieces(r"\s*[\r\n]+|\s+(?!\S)|\s+", &text).len(), 1);
    }
}
