//! The syntax tree of a pre-tokenizer's pattern.

use regex_syntax::hir::ClassUnicode;

use super::unicode::CharSet;

#[derive(Debug)]
pub(super) enum Node {
    Class(Repeat, Set),
    Group(Repeat, Vec<Vec<Node>>),
    Look { alternatives: Vec<Vec<Node>>, wanted: bool },
    End,
    WordBoundary(Set),
}

/// A repetition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Repeat {
    pub(super) min: usize,
    pub(super) max: usize,
    /// Whether it never backtracks.
    pub(super) possessive: bool,
    /// Index of this repeat in its pattern.
    pub(super) id: usize,
}

/// A set of characters: as ranges, and as a table for look-ups.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) class: ClassUnicode,
    pub(super) chars: CharSet,
}

impl Set {
    pub(super) fn new(class: ClassUnicode) -> Self {
        Self { chars: CharSet::new(&class), class }
    }

    /// Bytes of up to `max` characters of the set at the start of `text`, and their number.
    pub(super) fn run(&self, text: &str, max: usize) -> (usize, usize) {
        let (mut len, mut count) = (0, 0);
        let bytes = text.as_bytes();
        while count < max {
            match bytes.get(len) {
                Some(&byte) if byte.is_ascii() => {
                    if !self.chars.contains_ascii(byte) {
                        break;
                    }
                    len += 1;
                }
                Some(_) => match text[len..].chars().next() {
                    Some(c) if self.chars.contains(c) => len += c.len_utf8(),
                    _ => break,
                },
                None => break,
            }
            count += 1;
        }
        (len, count)
    }
}
