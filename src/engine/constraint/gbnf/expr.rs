//! The expressions of a grammar, and the analysis of its regular parts.

use std::collections::HashSet;

use super::chars::Chars;

/// Maximum characters of a regular expression, with repetitions.
const MOST_CHARACTERS: usize = 4000;
/// Maximum character positions in a regular expression, and maximum transitions.
const MOST_PLACES: usize = 500;
const MOST_STEPS: usize = 20_000;
/// Maximum pairs of positions that are examined.
const MOST_PAIRS: usize = 200_000;

/// An expression. Each expression of a grammar has its own number.
#[derive(Clone, Debug)]
pub(super) struct Expr {
    pub(super) id: usize,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// One of these characters.
    Chars(Chars),
    /// A token, or any token but this.
    Token {
        id: u32,
        negated: bool,
    },
    /// A rule, by its number.
    Rule(usize),
    Seq(Vec<Expr>),
    Alt(Vec<Expr>),
    /// Repetition with minimum and maximum.
    Repeat(Box<Expr>, u32, Option<u32>),
}

/// A grammar, with a body for each rule.
pub(super) struct Grammar {
    pub(super) rules: Vec<Expr>,
    pub(super) root: usize,
    /// Number of expressions.
    pub(super) exprs: usize,
}

impl Expr {
    /// Calls `visit` for this and all expressions in it.
    pub(super) fn each<'e>(&'e self, visit: &mut dyn FnMut(&'e Self)) {
        visit(self);
        match &self.kind {
            Kind::Seq(items) | Kind::Alt(items) => items.iter().for_each(|item| item.each(visit)),
            Kind::Repeat(item, ..) => item.each(visit),
            Kind::Chars(_) | Kind::Token { .. } | Kind::Rule(_) => {}
        }
    }
}

/// A regular expression, as text and as an automaton with a position for each character class in it (once per repetition
/// operator).
#[derive(Clone)]
pub(super) struct Regular {
    /// The text of the regular expression.
    pub(super) text: String,
    pub(super) nullable: bool,
    /// Characters with which it begins.
    pub(super) first: Chars,
    places: Vec<Chars>,
    /// Start positions and end positions.
    begins: Vec<usize>,
    ends: Vec<usize>,
    /// Positions that may follow each position.
    next: Vec<Vec<usize>>,
    steps: usize,
    /// Number of characters, with repetitions.
    characters: usize,
}

impl Regular {
    fn empty() -> Self {
        Self {
            text: String::new(),
            nullable: true,
            first: Chars::none(),
            places: Vec::new(),
            begins: Vec::new(),
            ends: Vec::new(),
            next: Vec::new(),
            steps: 0,
            characters: 1,
        }
    }

    pub(super) fn chars(chars: &Chars) -> Self {
        let mut text = String::new();
        chars.write(&mut text);
        let (first, places) = (chars.clone(), vec![chars.clone()]);
        Self {
            text,
            nullable: false,
            first,
            places,
            begins: vec![0],
            ends: vec![0],
            next: vec![Vec::new()],
            ..Self::empty()
        }
    }

    /// Whether it is one character.
    pub(super) fn is_single(&self) -> bool {
        self.characters == 1
    }

    fn within_limits(self) -> Option<Self> {
        let fits = self.characters <= MOST_CHARACTERS && self.places.len() <= MOST_PLACES && self.steps <= MOST_STEPS;
        fits.then_some(self)
    }

    /// Adds the positions of another. Returns the new numbers of its start and end positions.
    fn add(&mut self, other: &Self) -> (Vec<usize>, Vec<usize>) {
        let offset = self.places.len();
        let moved = |places: &[usize]| places.iter().map(|place| place + offset).collect::<Vec<_>>();
        self.places.extend(other.places.iter().cloned());
        self.next.extend(other.next.iter().map(|next| moved(next)));
        self.steps += other.steps;
        (moved(&other.begins), moved(&other.ends))
    }

    /// Lets `to` follow each of `from`.
    fn link(&mut self, from: &[usize], to: &[usize]) {
        for &place in from {
            for &next in to {
                if !self.next[place].contains(&next) {
                    self.next[place].push(next);
                    self.steps += 1;
                }
            }
        }
    }

    fn then(mut self, next: &Self) -> Option<Self> {
        if (self.ends.len() + 1) * (next.begins.len() + 1) > MOST_STEPS {
            return None;
        }
        let (begins, ends) = self.add(next);
        self.link(&self.ends.clone(), &begins);
        if self.nullable {
            self.begins.extend(&begins);
            self.first.add(&next.first);
        }
        if next.nullable {
            self.ends.extend(ends);
        } else {
            self.ends = ends;
        }
        self.nullable &= next.nullable;
        self.characters += next.characters;
        self.text.push_str(&next.text);
        self.within_limits()
    }

    fn either(all: &[Self]) -> Option<Self> {
        let mut sum = Self { nullable: false, characters: 0, ..Self::empty() };
        for one in all {
            let (begins, ends) = sum.add(one);
            sum.begins.extend(begins);
            sum.ends.extend(ends);
            sum.nullable |= one.nullable;
            sum.first.add(&one.first);
            sum.characters += one.characters;
        }
        // It is not a single character, even if all alternatives are.
        sum.characters = sum.characters.max(2);
        let texts: Vec<&str> = all.iter().map(|one| one.text.as_str()).collect();
        sum.text = format!("(?:{})", texts.join("|"));
        sum.within_limits()
    }

    fn repeat(mut self, min: u32, max: Option<u32>) -> Option<Self> {
        if max == Some(0) {
            return Some(Self::empty());
        }
        let counts = match (min, max) {
            (0, None) => "*".to_owned(),
            (1, None) => "+".to_owned(),
            (0, Some(1)) => "?".to_owned(),
            (min, None) => format!("{{{min},}}"),
            (min, Some(max)) => format!("{{{min},{max}}}"),
        };
        self.text = format!("(?:{}){counts}", self.text);
        self.nullable |= min == 0;
        if max != Some(1) {
            if self.ends.len() * self.begins.len() > MOST_STEPS {
                return None;
            }
            self.link(&self.ends.clone(), &self.begins.clone());
        }
        self.characters = (self.characters * max.unwrap_or(min).max(1) as usize).max(2);
        self.within_limits()
    }

    /// Characters with which a match may continue at a point where it could also end. Limits of repetitions are ignored.
    pub(super) fn goes_on_with(&self) -> Chars {
        // Pairs of positions that the same text can lead to.
        let mut waiting: Vec<(usize, usize)> =
            self.begins.iter().flat_map(|&a| self.begins.iter().map(move |&b| (a, b))).collect();
        let (mut seen, mut all) = (HashSet::new(), Chars::none());
        while let Some((a, b)) = waiting.pop() {
            if !self.places[a].intersects(&self.places[b]) || !seen.insert((a, b)) {
                continue;
            }
            if self.ends.contains(&b) {
                self.next[a].iter().for_each(|&next| all.add(&self.places[next]));
            }
            waiting.extend(self.next[a].iter().flat_map(|&a| self.next[b].iter().map(move |&b| (a, b))));
            if waiting.len() + seen.len() > MOST_PAIRS {
                return Chars::any();
            }
        }
        all
    }
}

/// The regular rules of a grammar.
pub(super) struct Rules {
    /// Each rule as it is, and without the empty text; `None` for rules that are not regular.
    known: Vec<Option<(Regular, Option<Regular>)>>,
}

impl Rules {
    /// Rules that are not recursive and do not contain tokens are regular.
    pub(super) fn new(grammar: &Grammar) -> Self {
        let count = grammar.rules.len();
        let mut users = vec![Vec::new(); count];
        let mut missing = vec![0; count];
        for (number, body) in grammar.rules.iter().enumerate() {
            body.each(&mut |expr| {
                if let Kind::Rule(used) = expr.kind {
                    users[used].push(number);
                    missing[number] += 1;
                }
            });
        }
        let mut rules = Self { known: vec![None; count] };
        let mut ready: Vec<usize> = (0..count).filter(|&number| missing[number] == 0).collect();
        while let Some(number) = ready.pop() {
            let body = &grammar.rules[number];
            rules.known[number] = rules.regular(body).map(|regular| (regular, rules.solid(body)));
            for &user in &users[number] {
                missing[user] -= 1;
                if missing[user] == 0 {
                    ready.push(user);
                }
            }
        }
        rules
    }

    /// An expression as a regular one.
    fn regular(&self, expr: &Expr) -> Option<Regular> {
        match &expr.kind {
            Kind::Chars(chars) => Some(Regular::chars(chars)),
            Kind::Token { .. } => None,
            Kind::Rule(number) => self.known[*number].as_ref().map(|(regular, _)| regular.clone()),
            Kind::Seq(items) => {
                let mut sum: Option<Regular> = None;
                for item in items {
                    let item = self.regular(item)?;
                    sum = Some(match sum {
                        Some(sum) => sum.then(&item)?,
                        None => item,
                    });
                }
                Some(sum.unwrap_or_else(Regular::empty))
            }
            Kind::Alt(items) => {
                Regular::either(&items.iter().map(|item| self.regular(item)).collect::<Option<Vec<_>>>()?)
            }
            Kind::Repeat(item, min, max) => self.regular(item)?.repeat(*min, *max),
        }
    }

    /// A regular expression without the empty text, if that is easy to exclude.
    fn solid(&self, expr: &Expr) -> Option<Regular> {
        match &expr.kind {
            Kind::Alt(items) => {
                let all: Vec<Regular> = items.iter().filter_map(|item| self.solid(item)).collect();
                let skipped =
                    items.iter().filter(|item| matches!(&item.kind, Kind::Seq(items) if items.is_empty())).count();
                (!all.is_empty() && all.len() + skipped == items.len()).then(|| Regular::either(&all))?
            }
            Kind::Repeat(item, min, max) if *max != Some(0) => {
                let nullable = self.regular(item)?.nullable;
                self.solid(item)?.repeat(if nullable { 1 } else { (*min).max(1) }, *max)
            }
            Kind::Rule(number) => self.known[*number].as_ref()?.1.clone(),
            _ => self.regular(expr).filter(|regular| !regular.nullable),
        }
    }

    /// An expression as a lexeme: without the empty text, and whether it also allows the empty text.
    pub(super) fn lexeme(&self, expr: &Expr) -> Option<(Regular, bool)> {
        let nullable = self.regular(expr)?.nullable;
        Some((self.solid(expr)?, nullable))
    }
}
