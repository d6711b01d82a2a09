//! Sets of characters by Unicode's properties.
//!
//! The properties are from the regex-syntax crate (Unicode 16.0), so that they agree with the `regex` and `fancy-regex` crates.

use std::sync::LazyLock;

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};

/// Number of pages of 256 characters in Unicode.
const PAGES: usize = 0x11_0000 / 256;

/// The characters with the property `name` of `\p{...}` in regular expressions: a general category (`L`, `Lu`) or a script
/// (`Han`).
pub(super) fn property(name: &str) -> Option<ClassUnicode> {
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return None;
    }
    class(&format!("\\p{{{name}}}"))
}

/// The characters of the class `source` of a regular expression.
fn class(source: &str) -> Option<ClassUnicode> {
    match regex_syntax::parse(source).ok()?.into_kind() {
        HirKind::Class(Class::Unicode(class)) => Some(class),
        _ => None,
    }
}

/// White space.
pub(super) fn white_space() -> ClassUnicode {
    class(r"\s").unwrap_or_else(ClassUnicode::empty)
}

/// Word characters as defined by Oniguruma, which runs the patterns of published tokenizers.
pub(super) fn word_of_patterns() -> ClassUnicode {
    class(r"[\p{N}[\w--[\u{200c}\u{200d}]]]").unwrap_or_else(ClassUnicode::empty)
}

/// The characters from `from` to `to`.
pub(super) fn range(from: char, to: char) -> ClassUnicode {
    ClassUnicode::new([ClassUnicodeRange::new(from, to)])
}

/// Whether all characters of `inner` are in `outer`.
pub(super) fn is_subset(inner: &ClassUnicode, outer: &ClassUnicode) -> bool {
    let mut rest = inner.clone();
    rest.difference(outer);
    rest.ranges().is_empty()
}

/// Whether no character is in both.
pub(super) fn is_disjoint(a: &ClassUnicode, b: &ClassUnicode) -> bool {
    let mut both = a.clone();
    both.intersect(b);
    both.ranges().is_empty()
}

/// A set of characters for fast look-ups: a table of pages, most of which are entirely inside or outside.
#[derive(Clone, Debug)]
pub(super) struct CharSet {
    ascii: [u64; 2],
    /// Number of each page's bits in `bits`.
    pages: Box<[u16]>,
    bits: Vec<[u64; 4]>,
}

/// Number of the page without a character.
const NONE: u16 = 0;
/// Number of the page with all characters.
const ALL: u16 = 1;

impl CharSet {
    pub(super) fn new(class: &ClassUnicode) -> Self {
        let mut set = Self { ascii: [0; 2], pages: vec![NONE; PAGES].into(), bits: vec![[0; 4], [u64::MAX; 4]] };
        for range in class.ranges() {
            let (start, end) = (range.start() as usize, range.end() as usize);
            for page in start / 256..=end / 256 {
                let (first, last) = (start.max(page * 256) % 256, end.min(page * 256 + 255) % 256);
                if (first, last) == (0, 255) {
                    set.pages[page] = ALL;
                    continue;
                }
                if set.pages[page] == NONE {
                    set.pages[page] = u16::try_from(set.bits.len()).unwrap_or(ALL);
                    set.bits.push([0; 4]);
                }
                let bits = &mut set.bits[usize::from(set.pages[page])];
                (first..=last).for_each(|i| bits[i / 64] |= 1 << (i % 64));
            }
        }
        let ascii = set.bits[usize::from(set.pages[0])];
        set.ascii = [ascii[0], ascii[1]];
        set
    }

    pub(super) fn contains(&self, c: char) -> bool {
        let c = c as usize;
        let page = usize::from(self.pages[c >> 8]);
        self.bits[page][c >> 6 & 3] >> (c & 63) & 1 != 0
    }

    pub(super) fn contains_ascii(&self, byte: u8) -> bool {
        self.ascii[usize::from(byte >> 6 & 1)] >> (byte & 63) & 1 != 0
    }
}

/// The characters with one of these properties, made once.
macro_rules! sets {
    ($($(#[$doc:meta])* $name:ident = $source:literal;)*) => {
        $($(#[$doc])*
        pub(super) static $name: LazyLock<CharSet> =
            LazyLock::new(|| CharSet::new(&class($source).unwrap_or_else(ClassUnicode::empty)));)*
    };
}

sets! {
    /// Punctuation.
    PUNCTUATION = r"\p{P}";
    /// Non-spacing marks (accents).
    ACCENTS = r"\p{Mn}";
    /// Control, format and private-use characters; not unassigned ones.
    CONTROLS = r"[\p{Cc}\p{Cf}\p{Co}]";
    /// Word characters as defined by Unicode.
    WORD = r"\w";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_those_of_unicode() {
        for (c, name) in [
            ('A', "Lu"),
            ('ß', "Ll"),
            ('中', "Lo"),
            ('ʰ', "Lm"),
            ('५', "Nd"),
            ('½', "No"),
            ('$', "Sc"),
            ('\u{301}', "M"),
            ('中', "Han"),
            ('\u{31350}', "Lo"),
            ('\u{31350}', "Han"),
            ('\u{2ebf0}', "Han"),
        ] {
            let set = CharSet::new(&property(name).unwrap_or_else(|| panic!("{name}")));
            assert!(set.contains(c), "{c} {name}");
        }
        assert!(property("NoSuch").is_none() && property("L}|\\p{N").is_none());
        assert!(WORD.contains('_') && !WORD.contains('½') && !CONTROLS.contains('\u{378}'));
    }

    #[test]
    fn sets_hold_what_their_ranges_do() {
        for class in
            [property("L"), property("Sm"), Some(range('\0', char::MAX)), Some(range('a', 'ÿ')), Some(white_space())]
        {
            let class = class.expect("a class");
            let set = CharSet::new(&class);
            let within = |c: char| class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&c));
            for c in ('\0'..='\u{3000}').step_by(7).chain(['\u{10ffff}', '\u{2028}', '\u{e0100}', '\u{a0}']) {
                assert_eq!(set.contains(c), within(c), "{c:?}");
                assert!(!c.is_ascii() || set.contains_ascii(c as u8) == within(c));
            }
        }
        assert!(white_space().ranges().iter().flat_map(|r| r.start()..=r.end()).all(char::is_whitespace));
    }
}
