//! llama.cpp's grammars (GBNF): parsed by `read.rs`, split into lexemes by `lexemes.rs`, written in llguidance's Lark by `lark.rs`.
//!
//! GBNF describes characters, while llguidance first reads lexemes (the longest at each position) and then a grammar of lexemes.
//! Making a lexeme of each regular part would read `[a-z]+ "b"` differently from llama.cpp: the first part would match every `b`.
//! So parts become lexemes only where no text can be split in two ways, and single characters elsewhere. The same texts are
//! allowed, and common parts (strings, numbers, white space) are cheap.

mod chars;
mod expr;
mod lark;
mod lexemes;
mod read;

use crate::engine::Error;

/// The grammar in llguidance's Lark; `token` finds tokens by their texts.
///
/// # Errors
/// [`Error::Grammar`] with the place that is not valid.
pub(super) fn to_lark(text: &str, token: &dyn Fn(&str) -> Option<u32>) -> Result<String, Error> {
    let grammar = read::read(text, token)?;
    let lexemes = lexemes::choose(&grammar);
    Ok(lark::write(&grammar, &lexemes))
}

#[cfg(all(test, feature = "constrain"))]
mod tests {
    use std::collections::BTreeSet;

    use super::expr::{Expr, Grammar as Parsed, Kind};
    use super::*;
    use crate::engine::constraint::machine::{Compiled, Machine};
    use crate::tokenizer::{Model, SpecialIds, TokenKind, Tokenizer, Vocab};

    /// A tokenizer of the ASCII characters, of some longer pieces, and of a control token that ends a turn.
    fn tokenizer() -> Tokenizer {
        let mut tokens: Vec<Vec<u8>> = (0..128).map(|byte| vec![byte]).collect();
        tokens.extend(["ab", "aab", "a\"", "b\"", "\":", "bb"].map(|text| text.as_bytes().to_vec()));
        let mut kinds = vec![TokenKind::Normal; tokens.len()];
        tokens.push(b"</s>".to_vec());
        kinds.push(TokenKind::Control);
        let special = SpecialIds { eos: u32::try_from(tokens.len() - 1).ok(), ..SpecialIds::default() };
        let scores = vec![0.0; tokens.len()];
        let vocab = Vocab {
            model: Model::Spm,
            pre: String::new(),
            tokens,
            scores,
            kinds,
            merges: Vec::new(),
            special,
            added_tokens: Default::default(),
            add_bos: false,
            add_eos: false,
            add_separator: false,
            add_space_prefix: false,
            remove_extra_spaces: false,
            character_map: Vec::new(),
            lowercase: false,
            strip_accents: false,
        };
        Tokenizer::new(vocab).expect("a tokenizer")
    }

    /// The offsets at which a match from `at` on may end, by the grammar itself, without lexemes.
    fn ends(grammar: &Parsed, expr: &Expr, text: &[char], at: usize) -> BTreeSet<usize> {
        match &expr.kind {
            Kind::Chars(chars) => {
                let is_in = |c: &&char| chars.intersects(&super::chars::Chars::of([(**c, **c)]));
                text.get(at).filter(is_in).map(|_| at + 1).into_iter().collect()
            }
            Kind::Token { .. } => BTreeSet::new(),
            Kind::Rule(number) => ends(grammar, &grammar.rules[*number], text, at),
            Kind::Alt(items) => items.iter().flat_map(|item| ends(grammar, item, text, at)).collect(),
            Kind::Seq(items) => items.iter().fold(BTreeSet::from([at]), |from, item| {
                from.into_iter().flat_map(|at| ends(grammar, item, text, at)).collect()
            }),
            Kind::Repeat(item, min, max) => {
                let (mut all, mut from) = (BTreeSet::new(), BTreeSet::from([at]));
                for n in 0..=max.unwrap_or(u32::MAX) {
                    if n >= *min {
                        let before = all.len();
                        all.extend(from.iter().copied());
                        if all.len() == before {
                            break;
                        }
                    }
                    from = from.into_iter().flat_map(|at| ends(grammar, item, text, at)).collect();
                }
                all
            }
        }
    }

    /// Whether the rule allows `text`, character by character.
    fn allows(compiled: &Compiled, tokenizer: &Tokenizer, text: &str) -> bool {
        let mut state = compiled.start();
        for byte in text.bytes() {
            if !state.allows(u32::from(byte)).expect("within limits") {
                return false;
            }
            state.accept(u32::from(byte)).expect("allowed");
        }
        let mut logits = vec![0.0; tokenizer.vocab_size()];
        state.mask(&mut logits, &[]).expect("within limits");
        assert!(logits.iter().any(|logit| !logit.is_nan()), "nothing is allowed after {text:?}");
        !logits[logits.len() - 1].is_nan()
    }

    /// All texts of these characters, up to a length.
    fn texts(characters: &str, longest: usize) -> Vec<String> {
        let mut all = vec![String::new()];
        let mut last = all.clone();
        for _ in 0..longest {
            last = last.iter().flat_map(|text| characters.chars().map(move |c| format!("{text}{c}"))).collect();
            all.extend(last.iter().cloned());
        }
        all
    }

    /// Grammars for which it would be wrong to make every regular part a lexeme.
    #[test]
    fn exactly_the_texts_of_a_grammar_are_allowed() {
        let tokenizer = tokenizer();
        let machine = Machine::new(&tokenizer).expect("a machine");
        for (grammar, characters, longest) in [
            ("root ::= [ab]+ \"b\"", "ab", 6),
            ("root ::= x | \"(\" root \")\"\nx ::= [ab]+ \"b\"", "ab()", 5),
            ("root ::= \"(\" root \")\" | [ab] [ab] \"x\" | \"ab\" \"y\"", "abxy(", 5),
            ("root ::= (key | word) root \";\" | \"\"\nkey ::= \"ab\" \"b\"?\nword ::= [ab]+", "ab;", 6),
            ("root ::= \"a\"{2,3} root? \"b\"{0,2}", "ab", 7),
            (
                "root ::= ws value ws\nvalue ::= \"[\" ws (value (\",\" ws value)*)? \"]\" ws | [ab]+ ws\nws ::= | \" \" ws",
                "[], a",
                6,
            ),
            ("root ::= \"\\\"\" ([^\"\\\\] | [\\\\] [ab])* \"\\\"\" root?", "\"\\ab", 5),
            ("root ::= e\ne ::= t ([-+] t)*\nt ::= [ab] | \"(\" e \")\"", "a+()", 6),
            ("root ::= a b | b a\na ::= \"a\"*\nb ::= [ab]* \"b\" | r\nr ::= \"(\" r? \")\"", "ab()", 5),
            ("root ::= . root? | \"(\" root \")\"", "a(\n", 4),
            ("root ::= (\"a\" | )* \"b\"? (\"(\" root \")\")?", "ab()", 6),
        ] {
            let parsed = read::read(grammar, &|_| None).expect("valid");
            let lark = to_lark(grammar, &|_| None).expect("valid");
            let compiled = machine.lark(&lark).unwrap_or_else(|error| panic!("{grammar}\n{lark}\n{error}"));
            for text in texts(characters, longest) {
                let characters: Vec<char> = text.chars().collect();
                let expected = ends(&parsed, &parsed.rules[parsed.root], &characters, 0).contains(&text.len());
                assert_eq!(allows(&compiled, &tokenizer, &text), expected, "{grammar}\n{lark}\n{text:?}");
            }
        }
    }

    #[test]
    fn what_is_common_is_read_in_lexemes() {
        let json = "root ::= value\nvalue ::= object | string ws\nobject ::= \"{\" ws (string \":\" ws value)? \"}\" ws\n\
                    string ::= \"\\\"\" [^\"\\\\]* \"\\\"\"\nws ::= [ \\n]*";
        let lark = to_lark(json, &|_| None).expect("valid");
        let string = r"/\x{22}(?:[\x{0}-\x{21}\x{23}-\x{5b}\x{5d}-\x{10ffff}])*\x{22}/";
        assert!(lark.contains(string), "{lark}");
        // A grammar that is regular as a whole is one lexeme.
        assert_eq!(
            to_lark("root ::= a \"c\"\na ::= [ab]+", &|_| None).expect("valid"),
            "start: r0\nr0: /(?:[a-b])+c/\n"
        );
    }

    #[test]
    fn tokens_are_called_by_number_and_by_text() {
        let tokenizer = tokenizer();
        let machine = Machine::new(&tokenizer).expect("a machine");
        let lark = to_lark("root ::= <[97]> !<[97]> <[128]>", &|_| None).expect("valid");
        let compiled = machine.lark(&lark).expect("valid");
        let mut state = compiled.start();
        for (token, expected) in [(98, false), (97, true), (97, false), (130, true), (97, false), (128, true)] {
            assert_eq!(state.allows(token).expect("within limits"), expected, "{token}");
            if expected {
                state.accept(token).expect("allowed");
            }
        }
        assert!(state.is_over());
        assert_eq!(machine.token("</s>"), Some(134));
    }

    /// Excessively large grammars are handled in a bounded time.
    #[test]
    fn grammars_without_measure_are_cut_into_characters_or_refused() {
        let chain: String = (0..8000).map(|i| format!("r{i} ::= [ab] r{} | \"a\" r{}\n", i + 1, i + 1)).collect();
        assert!(to_lark(&format!("{chain}r8000 ::= \"b\"\nroot ::= r0 \"c\""), &|_| None).is_ok());
        let doubled: String = (0..40).map(|i| format!("r{i} ::= r{0} r{0}\n", i + 1)).collect();
        assert!(to_lark(&format!("{doubled}r40 ::= \"\" | \"b\"\nroot ::= r0"), &|_| None).is_ok());
        assert!(to_lark(&format!("root ::= {} \"a\"", "\"x\"{2000} ".repeat(50)), &|_| None).is_ok());
    }
}
