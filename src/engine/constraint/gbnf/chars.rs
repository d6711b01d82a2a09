//! Sets of characters.

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

/// A set of characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chars(ClassUnicode);

impl Chars {
    pub(super) fn none() -> Self {
        Self(ClassUnicode::empty())
    }

    pub(super) fn any() -> Self {
        Self::of([('\0', char::MAX)])
    }

    /// The characters of ranges, including both ends.
    pub(super) fn of(ranges: impl IntoIterator<Item = (char, char)>) -> Self {
        Self(ClassUnicode::new(ranges.into_iter().map(|(first, last)| ClassUnicodeRange::new(first, last))))
    }

    /// The complement.
    pub(super) fn negated(mut self) -> Self {
        self.0.negate();
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.ranges().is_empty()
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.union(&other.0);
    }

    pub(super) fn intersects(&self, other: &Self) -> bool {
        let mut both = self.0.clone();
        both.intersect(&other.0);
        !both.ranges().is_empty()
    }

    /// As a regular expression.
    pub(super) fn write(&self, out: &mut String) {
        let char = |c: char, out: &mut String| {
            if c.is_ascii_alphanumeric() {
                out.push(c);
            } else {
                out.push_str(&format!("\\x{{{:x}}}", u32::from(c)));
            }
        };
        match self.0.ranges() {
            [one] if one.start() == one.end() => char(one.start(), out),
            ranges => {
                out.push('[');
                for range in ranges {
                    char(range.start(), out);
                    if range.start() != range.end() {
                        out.push('-');
                        char(range.end(), out);
                    }
                }
                out.push(']');
            }
        }
    }
}
