//! Splits text into words, within which byte-pair merges are applied.

use std::ops::Range;

use super::ascii_words::AsciiWords;
use super::bytes_as_text;
use super::pattern::{Memo, Pattern};

#[path = "pre_tokenizer_table.rs"]
mod table;

/// A pre-tokenizer, with the tokenizer settings for its name.
pub(super) struct PreTokenizer {
    /// Names in files; this crate writes the first.
    pub(super) names: &'static [&'static str],
    /// The patterns; each splits the pieces of the one before.
    pub(super) patterns: &'static [&'static str],
    /// Other patterns of models with this name, which differ only for tokens that their vocabularies do not have.
    spellings: &'static [&'static [&'static str]],
    pub(super) flags: Flags,
}

/// Settings that go with a pre-tokenizer's name.
#[derive(Clone, Copy, Debug)]
pub struct Flags {
    /// Whether a word that is a token is taken as it is, without merging.
    pub whole_words: bool,
    /// Whether texts begin with BOS, if the file does not say it.
    pub add_bos: Option<bool>,
    /// Whether texts begin with BOS whatever the file says: the files of some of these models wrongly say that they do not.
    pub always_bos: bool,
    /// Whether the separator is put between two texts, if the file does not say it.
    pub add_separator: bool,
    /// Whether merges start from characters instead of bytes.
    pub characters: bool,
    /// Whether spaces are replaced by `▁` first.
    pub escape_spaces: bool,
}

/// The pre-tokenizer called `name`.
pub(super) fn named(name: &str) -> Option<&'static PreTokenizer> {
    table::TABLE.iter().find(|pre| pre.names.contains(&name))
}

/// Every name.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    table::TABLE.iter().flat_map(|pre| pre.names).copied()
}

/// The result of recognizing patterns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recognized {
    /// They split every probe like the pre-tokenizer of this name.
    Known(&'static str),
    /// None does; this one is nearest.
    Nearest {
        /// Its name.
        name: &'static str,
        /// A text that it splits differently.
        text: &'static str,
        /// The first differing word, as split by the patterns.
        found: String,
        /// The word in its place, as split by the known one.
        known: String,
    },
    /// A pattern uses features that this crate's matcher does not support.
    Unreadable {
        /// The pattern.
        pattern: String,
    },
}

/// Texts that distinguish pre-tokenizers: each has something that some of them treat differently.
const PROBES: &[&str] = &[
    "Hello, world! It's 2024; I'll say WE'RE fine, DON'T you?",
    "one 12 123 1234 12345 123456 1234567 3.14 1,000,000 x86_64 ½ ² ५६७",
    "camelCase HTTPServer iPhone ABCdef Größe ÉCOLE naïve cafe\u{301}",
    "a  b   c\td\t\te \n f\n\ng \r\n\r\n  h   \n   i    ",
    "((x+y)*[z]) == {a: \"b\"}; // --> != <= >= && || :: ... ~~ `code` $5 #tag @me %d ^2",
    "path/to/file.rs\n///doc\n=====\n-----/\n\n",
    "中文字符和日本語のテキスト、한국어 텍스트。ไทย हिन्दी العربية עברית",
    "🙂🙂 👩‍👩‍👧 🇩🇪 … — “quoted” ‘single’ «guillemets»",
    "<|im_start|>user\nHi<|im_end|> !important ?query .dot ,comma 'S 's' ''",
    "    indented\n        more\n\n\n\n  end  ",
    "a  1  2b  34.  5678\n9\n\n10\r\n11\t12\t\t13  ½  ५  x1  y",
    "a  中  文b  あ  カ  한  글.  。  ，  ไ  א  …",
    "a  !b  !!  -c  _d  (e  \"f  🙂g  <h  $i  `j  ^k",
    "1a 1A 1é 1中 1! 1_ ½1 1½ ²3 a1b ⅷ9 ①2 1\u{301}2 12,34",
    "ßC Éd ñE ʰf ªg ǅh ⅷi ②j Ωk жЖл ქᲥ \u{301}m n\u{301}N o\u{94d}p",
    "x\u{a0}y \u{a0}z\u{3000}1\u{2028}2\u{85}3\u{200b}4\u{feff}5\u{a0}\u{a0}!",
    "l'sair it'still o'revoir don'tcha D'MELLO '70s 'quoted' rock'n'roll",
    "x's X'S 1's é's 中's !'s 's's 'll'Ll'LL 'ſ 'rex 'vee 'd1 'm!",
    "!a !A !1 !é !中 ?!b /a //b /\n//\n\n./ ==\n\n== !\r\n\r\n!",
    "\n\n\n  a\r\n\r\n\tb \r c\x0b\x0cd\n \n\t\n e\n\n中\n\n1\n\n! \n\n",
];

/// Finds the byte-level pre-tokenizer that splits texts like `patterns`, applied one after the other, or with no difference for
/// these `tokens`.
pub(super) fn recognize(patterns: &[String], tokens: &[&str]) -> Recognized {
    let foreign = match Splitter::foreign(patterns) {
        Ok(foreign) => foreign,
        Err(pattern) => return Recognized::Unreadable { pattern: pattern.to_owned() },
    };
    let expected: Vec<_> = PROBES.iter().map(|text| foreign.words(text)).collect();
    let mut nearest: Option<(usize, Recognized)> = None;
    for pre in table::TABLE.iter().filter(|pre| !pre.flags.characters) {
        for spelling in [pre.patterns].iter().chain(pre.spellings) {
            let splitter = Splitter::compiled(spelling);
            let different: Vec<usize> =
                (0..PROBES.len()).filter(|&i| splitter.words(PROBES[i]) != expected[i]).collect();
            let Some(&first) = different.first() else {
                let own = Splitter::compiled(pre.patterns);
                let told_apart = |token: &&str| {
                    let bytes = bytes_as_text::decode(token.as_bytes()).unwrap_or_default();
                    str::from_utf8(&bytes).is_ok_and(|text| splitter.words(text) != own.words(text))
                };
                if spelling == &pre.patterns || !tokens.iter().any(told_apart) {
                    return Recognized::Known(pre.names[0]);
                }
                continue;
            };
            let equal = PROBES.len() - different.len();
            if nearest.as_ref().is_none_or(|(most, _)| equal > *most) {
                let (known, found) = first_difference(&splitter.words(PROBES[first]), &expected[first]);
                nearest = Some((equal, Recognized::Nearest { name: pre.names[0], text: PROBES[first], found, known }));
            }
        }
    }
    nearest.map_or_else(|| Recognized::Unreadable { pattern: patterns.join("") }, |(_, nearest)| nearest)
}

/// The first words that differ.
fn first_difference(known: &[&str], found: &[&str]) -> (String, String) {
    let at = known.iter().zip(found).take_while(|(a, b)| a == b).count();
    let word = |words: &[&str]| words.get(at).map(|&word| word.to_owned()).unwrap_or_default();
    (word(known), word(found))
}

/// A pre-tokenizer's patterns, compiled.
#[derive(Debug)]
pub(super) struct Splitter {
    patterns: Vec<Pattern>,
    /// A fast path for the words of a single pattern.
    quick: Option<AsciiWords>,
}

impl Splitter {
    pub(super) fn new(pre: &PreTokenizer) -> Self {
        Self::compiled(pre.patterns)
    }

    /// A splitter with built-in patterns.
    fn compiled(patterns: &[&str]) -> Self {
        let compile = |source: &&str| Pattern::new(source).unwrap_or_else(|| panic!("pattern {source:?}"));
        Self { patterns: patterns.iter().map(compile).collect(), quick: table::quick(patterns) }
    }

    /// A splitter with other patterns, or the first pattern that is not supported.
    fn foreign(patterns: &[String]) -> Result<Self, &str> {
        let mut compiled = Vec::with_capacity(patterns.len());
        for source in patterns {
            compiled.push(Pattern::new(source).ok_or(source.as_str())?);
        }
        Ok(Self { patterns: compiled, quick: None })
    }

    fn words<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let mut words = Vec::new();
        let mut at = 0;
        self.split(text, |word| {
            words.push(&text[at..at + word.len()]);
            at += word.len();
        });
        words
    }

    /// Calls `word` with each word of `text`.
    pub(super) fn split(&self, text: &str, word: impl FnMut(&str)) {
        self.split_with(text, &mut Memo::default(), word);
    }

    fn split_with(&self, text: &str, memo: &mut Memo, mut word: impl FnMut(&str)) {
        if let [pattern] = self.patterns.as_slice() {
            let quick = self.quick;
            return pattern.split_with(text, memo, |at| quick?.len_at(text.as_bytes(), at), word);
        }
        let mut pieces: Vec<Range<usize>> = Vec::new();
        pieces.push(0..text.len());
        let mut next = Vec::new();
        for pattern in &self.patterns {
            next.clear();
            for piece in &pieces {
                let mut at = piece.start;
                pattern.split(&text[piece.clone()], memo, |part| {
                    next.push(at..at + part.len());
                    at += part.len();
                });
            }
            std::mem::swap(&mut pieces, &mut next);
        }
        pieces.into_iter().for_each(|piece| word(&text[piece]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_named_with_what_differs() {
        let other = r"\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+".to_owned();
        let Recognized::Nearest { found, known, text, .. } = recognize(&[other], &[]) else { panic!("like none") };
        assert!(found != known && text.contains(&found) && text.contains(&known), "{found:?} {known:?}");
        let pattern = r"\w+".to_owned();
        assert_eq!(recognize(std::slice::from_ref(&pattern), &[]), Recognized::Unreadable { pattern });
    }

    #[test]
    fn quick_words_are_those_of_the_pattern() {
        const PARTS: [&str; 28] = [
            " ",
            "  ",
            "\n",
            "\r\n",
            "\t",
            "a",
            "Word",
            "'s",
            "'LL",
            "'",
            "'é",
            "1",
            "12345",
            "½",
            "é",
            "中文",
            "🙂",
            "!",
            "?!",
            "\u{a0}",
            "\u{301}",
            "\x1b",
            "\x0b",
            "ſ",
            "_",
            "-",
            " (",
            "x\u{2028}",
        ];
        let mut state = 1u64;
        let mut next = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).expect("31 bits") % n
        };
        let quick: Vec<Splitter> = table::TABLE.iter().map(Splitter::new).filter(|s| s.quick.is_some()).collect();
        assert!(quick.len() > 5, "{}", quick.len());
        for _ in 0..2000 {
            let text: String = (0..next(12)).map(|_| PARTS[next(PARTS.len())]).collect();
            for splitter in &quick {
                let mut expected = Vec::new();
                splitter.patterns[0].split(&text, &mut Memo::default(), |word| expected.push(word));
                assert_eq!(splitter.words(&text), expected, "{:?} {text:?}", splitter.quick);
            }
        }
    }

    #[test]
    fn every_pattern_compiles_and_loses_nothing() {
        let text = "Hello, wörld's\t12345 — 中文 かな \n\n  한국 x²  <a>\u{301}e 🙂🙂\r\n…";
        for pre in table::TABLE {
            let mut joined = String::new();
            Splitter::new(pre).split(text, |word| joined.push_str(word));
            assert_eq!(joined, text, "{:?}", pre.names);
        }
        assert!(named("llama-bpe").is_some_and(|pre| pre.flags.whole_words));
        let all: Vec<_> = names().collect();
        assert!(all.iter().enumerate().all(|(i, name)| !all[..i].contains(name)), "a name twice");
    }

    /// Texts of `len` characters with runs of each class, alone and between others.
    fn runs(len: usize) -> Vec<String> {
        const CLASSES: [&str; 15] =
            ["a", "A", "é", "中", "\u{94d}", "ʰ", "1", "५", "½", " ", "\n", "\r\n", "\u{a0}", "!", "🙂"];
        let mut texts = Vec::new();
        for class in CLASSES {
            let run = class.repeat(len / class.chars().count());
            texts.extend([format!("x{run}x"), format!("!{run}1"), format!(" {run} \n"), format!("A {run}\u{301}")]);
            for other in CLASSES {
                texts.push([class, other].concat().repeat(len / 2));
                texts.push([&class.repeat(len / 2), &*other.repeat(len / 2)].concat());
                texts.push([&*class.repeat(40), other].concat().repeat(len / 41));
            }
        }
        texts
    }

    /// The work is proportional to the length of a text, whatever it consists of.
    #[test]
    fn every_pre_tokenizer_takes_time_in_proportion_to_the_text() {
        const SHORT: usize = 200;
        const TIMES: usize = 4;
        let (short, long) = (runs(SHORT), runs(SHORT * TIMES));
        for pre in table::TABLE {
            for spelling in [pre.patterns].iter().chain(pre.spellings) {
                let splitter = Splitter::compiled(spelling);
                let steps = |text: &str| {
                    let mut memo = Memo::default();
                    splitter.split_with(text, &mut memo, |_| {});
                    memo.steps
                };
                for (short, long) in short.iter().zip(&long) {
                    let (few, many) = (steps(short), steps(long));
                    let start: String = short.chars().take(50).collect();
                    assert!(many <= TIMES * few * 5 / 4 + 2000, "{:?} {start:?}: {few}, {many} steps", pre.names);
                }
            }
        }
    }
}
