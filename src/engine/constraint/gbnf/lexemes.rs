//! Chooses the lexemes of a grammar. llguidance takes the longest lexeme at each position.
//!
//! At first every regular part is a lexeme. A lexeme is split into its parts if the longest match might be wrong: if another lexeme
//! with a common prefix may be at the same position, or if it could continue with what may follow it. In the end, single
//! characters remain, which are always right.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::expr::{Expr, Grammar, Kind, Regular, Rules};

/// After this many steps, everything is split into characters; only machine-generated grammars are so large.
const MOST_STEPS: usize = 4_000_000;
/// Maximum expressions of a grammar that is analysed.
const MOST_EXPRS: usize = 50_000;

/// A lexeme.
pub(super) struct Lexeme {
    pub(super) regular: Regular,
    /// Whether the empty text is allowed too.
    pub(super) optional: bool,
}

/// The lexemes of a grammar, by the numbers of their expressions.
pub(super) type Lexemes = HashMap<usize, Lexeme>;

/// Chooses the lexemes.
pub(super) fn choose(grammar: &Grammar) -> Lexemes {
    if grammar.exprs <= MOST_EXPRS {
        let mut chooser = Chooser { grammar, rules: Rules::new(grammar), cut: HashSet::new(), steps: 0 };
        while let Some(lexemes) = chooser.lexemes() {
            match chooser.wrong(&lexemes) {
                Some(wrong) if wrong.is_empty() => return lexemes,
                Some(wrong) => chooser.cut.extend(wrong),
                None => break,
            }
        }
    }
    let mut characters = Lexemes::new();
    for rule in &grammar.rules {
        rule.each(&mut |expr| {
            if let Kind::Chars(chars) = &expr.kind {
                characters.insert(expr.id, Lexeme { regular: Regular::chars(chars), optional: false });
            }
        });
    }
    characters
}

type Set = BTreeSet<usize>;

/// Which lexemes may be where, by the numbers of their expressions.
#[derive(Default)]
struct Places {
    /// The first lexemes of each rule, whether it may be empty, and what follows it.
    first: HashMap<usize, (Set, bool)>,
    follow: HashMap<usize, Set>,
    /// The lexemes after each lexeme or token.
    after: HashMap<usize, Set>,
}

struct Chooser<'g> {
    grammar: &'g Grammar,
    rules: Rules,
    /// Expressions that have been split.
    cut: HashSet<usize>,
    steps: usize,
}

impl Chooser<'_> {
    /// Counts steps; `None` if there are too many.
    fn step(&mut self, steps: usize) -> Option<()> {
        self.steps += steps + 1;
        (self.steps <= MOST_STEPS).then_some(())
    }

    /// The largest regular parts that are not split, of all rules in use.
    fn lexemes(&mut self) -> Option<Lexemes> {
        let (mut lexemes, mut seen, mut waiting) = (Lexemes::new(), HashSet::new(), vec![self.grammar.root]);
        while let Some(rule) = waiting.pop() {
            if !seen.insert(rule) {
                continue;
            }
            let mut exprs = vec![&self.grammar.rules[rule]];
            while let Some(expr) = exprs.pop() {
                self.step(expr_size(expr))?;
                if !self.cut.contains(&expr.id)
                    && let Some((regular, optional)) = self.rules.lexeme(expr)
                {
                    lexemes.insert(expr.id, Lexeme { regular, optional });
                    continue;
                }
                match &expr.kind {
                    Kind::Rule(number) => waiting.push(*number),
                    Kind::Seq(items) | Kind::Alt(items) => exprs.extend(items),
                    Kind::Repeat(item, ..) => exprs.push(item),
                    Kind::Chars(_) | Kind::Token { .. } => {}
                }
            }
        }
        Some(lexemes)
    }

    /// Lexemes whose longest match may be wrong.
    fn wrong(&mut self, lexemes: &Lexemes) -> Option<HashSet<usize>> {
        let places = self.places(lexemes)?;
        let mut wrong = HashSet::new();
        for (id, lexeme) in lexemes.iter().filter(|(_, lexeme)| !lexeme.regular.is_single()) {
            let more = lexeme.regular.goes_on_with();
            for next in places.after.get(id).into_iter().flatten() {
                self.step(0)?;
                if lexemes.get(next).is_some_and(|next| next.regular.first.intersects(&more)) {
                    wrong.insert(*id);
                }
            }
        }
        // Pairs that may be at the same position: those that start there, and those that follow two lexemes with the same text.
        let (mut seen, mut waiting) = (HashSet::new(), Vec::new());
        let root = places.first.get(&self.grammar.root).map(|(first, _)| first);
        for set in root.into_iter().chain(places.after.values()) {
            for (i, &a) in set.iter().enumerate() {
                self.step(set.len())?;
                waiting.extend(set.iter().skip(i + 1).map(|&b| (a, b)));
            }
        }
        while let Some((a, b)) = waiting.pop() {
            self.step(0)?;
            let (a, b) = (a.min(b), a.max(b));
            if a == b || !seen.insert((a, b)) {
                continue;
            }
            let (Some(first), Some(second)) = (lexemes.get(&a), lexemes.get(&b)) else { continue };
            let (first, second) = (&first.regular, &second.regular);
            if !first.first.intersects(&second.first) {
                continue;
            }
            if first.text != second.text && !(first.is_single() && second.is_single()) {
                wrong.extend(
                    [(a, first), (b, second)].iter().filter(|(_, regular)| !regular.is_single()).map(|(id, _)| *id),
                );
                continue;
            }
            if let (Some(after_a), Some(after_b)) = (places.after.get(&a), places.after.get(&b)) {
                self.step(after_a.len() * after_b.len())?;
                waiting.extend(after_a.iter().flat_map(|&a| after_b.iter().map(move |&b| (a, b))));
            }
        }
        Some(wrong)
    }

    /// Computes which lexemes may follow which.
    fn places(&mut self, lexemes: &Lexemes) -> Option<Places> {
        let mut places = Places::default();
        let rules: Vec<(usize, &Expr)> = self.grammar.rules.iter().enumerate().collect();
        loop {
            let mut changed = false;
            for &(number, body) in &rules {
                let found = self.first(body, lexemes, &places)?;
                if places.first.get(&number) != Some(&found) {
                    places.first.insert(number, found);
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
        loop {
            let before: usize = places.follow.values().chain(places.after.values()).map(Set::len).sum();
            for &(number, body) in &rules {
                let follow = places.follow.get(&number).cloned().unwrap_or_default();
                self.follow(body, &follow, lexemes, &mut places)?;
            }
            let after: usize = places.follow.values().chain(places.after.values()).map(Set::len).sum();
            if before == after {
                return Some(places);
            }
        }
    }

    /// The first lexemes of an expression, and whether it may be empty.
    fn first(&mut self, expr: &Expr, lexemes: &Lexemes, places: &Places) -> Option<(Set, bool)> {
        self.step(0)?;
        if let Some(lexeme) = lexemes.get(&expr.id) {
            return Some((Set::from([expr.id]), lexeme.optional));
        }
        Some(match &expr.kind {
            Kind::Chars(_) | Kind::Token { .. } => (Set::from([expr.id]), false),
            Kind::Rule(number) => places.first.get(number).cloned().unwrap_or_default(),
            Kind::Seq(items) => {
                let mut sum = Set::new();
                for item in items {
                    let (first, nullable) = self.first(item, lexemes, places)?;
                    self.step(first.len())?;
                    sum.extend(first);
                    if !nullable {
                        return Some((sum, false));
                    }
                }
                (sum, true)
            }
            Kind::Alt(items) => {
                let (mut sum, mut any) = (Set::new(), false);
                for item in items {
                    let (first, nullable) = self.first(item, lexemes, places)?;
                    self.step(first.len())?;
                    sum.extend(first);
                    any |= nullable;
                }
                (sum, any)
            }
            Kind::Repeat(item, min, _) => {
                let (first, nullable) = self.first(item, lexemes, places)?;
                (first, nullable || *min == 0)
            }
        })
    }

    /// Records that `follow` follows an expression.
    fn follow(&mut self, expr: &Expr, follow: &Set, lexemes: &Lexemes, places: &mut Places) -> Option<()> {
        self.step(follow.len())?;
        let is_leaf = lexemes.contains_key(&expr.id) || matches!(expr.kind, Kind::Chars(_) | Kind::Token { .. });
        if is_leaf {
            places.after.entry(expr.id).or_default().extend(follow);
            return Some(());
        }
        match &expr.kind {
            Kind::Rule(number) => places.follow.entry(*number).or_default().extend(follow),
            Kind::Alt(items) => {
                for item in items {
                    self.follow(item, follow, lexemes, places)?;
                }
            }
            Kind::Seq(items) => {
                let mut next = follow.clone();
                for item in items.iter().rev() {
                    self.follow(item, &next, lexemes, places)?;
                    let (first, nullable) = self.first(item, lexemes, places)?;
                    if !nullable {
                        next.clear();
                    }
                    next.extend(first);
                }
            }
            Kind::Repeat(item, _, max) => {
                let mut next = follow.clone();
                if *max != Some(1) {
                    next.extend(self.first(item, lexemes, places)?.0);
                }
                self.follow(item, &next, lexemes, places)?;
            }
            Kind::Chars(_) | Kind::Token { .. } => {}
        }
        Some(())
    }
}

/// Number of expressions in one.
fn expr_size(expr: &Expr) -> usize {
    let mut size = 0;
    expr.each(&mut |_| size += 1);
    size
}
