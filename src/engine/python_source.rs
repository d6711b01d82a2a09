//! A template's source, written so that it means to minijinja what it means to Python's Jinja.
//!
//! - transformers' `{% generation %}` marks what is trained on. It renders as what it holds: it becomes a condition that
//!   holds, which keeps the block's trimming of white space.
//! - Where a side of `+` is Markup, Python escapes the other side. minijinja's operators do not, and cannot be changed:
//!   in templates that make Markup, `a + b` becomes `(a)|__add__(b)`, a filter that does what Python does.
//!
//! All else stays byte for byte, and no line moves. What is no Jinja stays too, to be refused by minijinja in its own words.

use super::Error;

/// The filters whose texts are Markup.
const MARKUP_FILTERS: [&str; 4] = ["safe", "escape", "e", "forceescape"];

/// minijinja reads operators and `elif`s by recursion, as deep as there are of them, and a stack that is too small ends the
/// process: 2 MiB bear some 4,700 operators, or 1,600 `elif`s. Published templates have 60 in a tag, and 20.
const MAX_TOKENS: usize = 1000;
const MAX_ELIFS: usize = 250;

/// `template` for minijinja.
///
/// # Errors
/// When it nests too deeply.
pub(super) fn for_minijinja(template: &str) -> Result<String, Error> {
    let mut scanner = Scanner { source: template, ..Scanner::default() };
    while scanner.tag().is_some() {}
    if let Some(what) = scanner.refused {
        let line = template[..scanner.at].matches('\n').count() + 1;
        return Err(Error::Template { line: Some(line), message: format!("more than {what}") });
    }
    let mut edits = scanner.tags;
    if scanner.makes_markup {
        edits.append(&mut scanner.sums);
    }
    // Stable: edits at one place stay in the order in which they were found.
    edits.sort_by_key(|edit| edit.at);
    let (mut out, mut done) = (String::with_capacity(template.len()), 0);
    for edit in edits {
        out.push_str(&template[done..edit.at]);
        out.push_str(edit.text);
        done = edit.at + edit.removed;
    }
    Ok(out + &template[done..])
}

/// `text` in place of `removed` bytes.
struct Edit {
    at: usize,
    removed: usize,
    text: &'static str,
}

/// The parts of an expression, as far as sums have to know them.
#[derive(Clone, Copy, PartialEq)]
enum Token {
    Word,
    /// A number or a string.
    Literal,
    Open,
    Close,
    Plus,
    Minus,
    /// An operator that binds tighter than a sum.
    Tight,
    Dot,
    Pipe,
    /// An operator that binds looser, or punctuation.
    Loose,
}

/// What stands before the next token.
#[derive(Clone, Copy, Default, PartialEq)]
enum Before {
    /// Nothing that can be added to: an operand begins.
    #[default]
    Nothing,
    Value,
    Dot,
    Pipe,
    Is,
    /// The name of a test, which may have an argument without brackets.
    Test,
}

/// A sum, or what may become one: operands with `+` and `-` between them.
#[derive(Clone, Copy, Default)]
struct Sum {
    /// Where the first operand begins.
    start: Option<usize>,
    /// Where the last token ended.
    end: usize,
    before: Before,
    /// The brackets of `__add__(` are open.
    adding: bool,
}

#[derive(Default)]
struct Scanner<'a> {
    source: &'a str,
    at: usize,
    tags: Vec<Edit>,
    sums: Vec<Edit>,
    makes_markup: bool,
    /// The tag has sums that are none.
    odd: bool,
    elifs: usize,
    /// What there is too much of.
    refused: Option<String>,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    /// Passes the next tag. There is none at the end, nor from where on minijinja reads none either.
    fn tag(&mut self) -> Option<()> {
        let tag = self
            .rest()
            .match_indices('{')
            .find(|(at, _)| matches!(self.rest().as_bytes().get(at + 1), Some(b'{' | b'%' | b'#')));
        self.at += tag?.0 + 2;
        let kind = self.source.as_bytes()[self.at - 1];
        if kind == b'#' {
            self.at += self.rest().find("#}")? + 2;
            return Some(());
        }
        self.at += usize::from(self.rest().starts_with(['-', '+']));
        if kind == b'{' {
            return self.expressions("}}", false);
        }
        if lone_word(self.rest(), "raw").is_some() {
            return self.raw();
        }
        for (word, text) in [("generation", "if true"), ("endgeneration", "endif")] {
            if lone_word(self.rest(), word).is_some() {
                let at = self.at + self.rest().find(word)?;
                self.tags.push(Edit { at, removed: word.len(), text });
            }
        }
        self.expressions("%}", true)
    }

    /// Passes a raw block.
    fn raw(&mut self) -> Option<()> {
        loop {
            self.at += self.rest().find("{%")? + 2;
            let inside = self.rest();
            if let Some(len) = lone_word(inside.strip_prefix(['-', '+']).unwrap_or(inside), "endraw") {
                self.at = self.source.len() - len;
                return Some(());
            }
        }
    }

    /// Passes the inside of a tag, with its end; `statement`: the first word of it is no expression.
    fn expressions(&mut self, end: &str, statement: bool) -> Option<()> {
        let edits = self.sums.len();
        self.odd = false;
        let done = self.tokens(end, statement);
        if self.odd || done.is_none() {
            self.sums.truncate(edits);
        }
        done
    }

    fn tokens(&mut self, end: &str, mut statement: bool) -> Option<()> {
        let mut outer: Vec<Sum> = Vec::new();
        let (mut sum, mut tokens) = (Sum::default(), 0);
        loop {
            let inside = self.rest().trim_start_matches(|c: char| c.is_ascii_whitespace());
            self.at = self.source.len() - inside.len();
            let after = inside.strip_prefix(['-', '+']).unwrap_or(inside).strip_prefix(end);
            if let Some(after) = after.filter(|_| outer.is_empty()) {
                self.at = self.source.len() - after.len();
                self.finish(&mut sum);
                return Some(());
            }
            let (token, text) = token(inside)?;
            let at = self.at;
            self.at += text.len();
            let first = std::mem::take(&mut statement);
            self.count(&mut tokens, token, first && text == "elif")?;
            match token {
                Token::Word if first || ends_a_sum(text, sum.before) => self.finish(&mut sum),
                Token::Word => {
                    self.makes_markup |= sum.before == Before::Pipe && MARKUP_FILTERS.contains(&text);
                    sum.start.get_or_insert(at);
                    sum.before = match sum.before {
                        Before::Value | Before::Test if text == "is" => Before::Is,
                        Before::Is if text == "not" => Before::Is,
                        Before::Is => Before::Test,
                        _ => Before::Value,
                    };
                }
                Token::Literal => {
                    // A filter's name for `map`.
                    self.makes_markup |= MARKUP_FILTERS.contains(&text.trim_matches(['\'', '"']));
                    sum.start.get_or_insert(at);
                    sum.before = Before::Value;
                }
                Token::Open => {
                    sum.start.get_or_insert(at);
                    sum.before = Before::Value;
                    outer.push(sum);
                    sum = Sum::default();
                }
                Token::Close => {
                    self.finish(&mut sum);
                    sum = outer.pop()?;
                }
                Token::Plus | Token::Minus => self.add(&mut sum, at, token == Token::Plus),
                Token::Dot | Token::Pipe if sum.is_whole() => {
                    sum.before = if token == Token::Dot { Before::Dot } else { Before::Pipe };
                }
                // Without an operand before it: the stars of arguments.
                Token::Tight if sum.is_whole() || sum.start.is_none() => sum.before = Before::Nothing,
                Token::Dot | Token::Pipe | Token::Tight => self.odd = true,
                Token::Loose => self.finish(&mut sum),
            }
            sum.end = self.at;
        }
    }

    /// Counts a token of a tag; those that only stand beside others do not nest.
    fn count(&mut self, tokens: &mut usize, token: Token, elif: bool) -> Option<()> {
        *tokens += usize::from(!matches!(token, Token::Literal | Token::Loose | Token::Close));
        self.elifs += usize::from(elif);
        if *tokens > MAX_TOKENS {
            self.refused = Some(format!("{MAX_TOKENS} names and operators in one tag"));
        } else if self.elifs > MAX_ELIFS {
            self.refused = Some(format!("{MAX_ELIFS} times elif"));
        }
        self.refused.is_none().then_some(())
    }

    /// A `+` or `-` at `at`.
    fn add(&mut self, sum: &mut Sum, at: usize, plus: bool) {
        let start = sum.start.filter(|_| sum.is_whole());
        match (start, plus) {
            (Some(start), true) => {
                if !sum.adding {
                    self.sums.push(Edit { at: start, removed: 0, text: "(" });
                }
                self.sums.push(Edit { at, removed: 1, text: ")|__add__(" });
                sum.adding = true;
            }
            (Some(_), false) => self.close(sum),
            // A sign; minijinja knows one alone.
            (None, true) => self.odd = true,
            (None, false) => {
                sum.start.get_or_insert(at);
            }
        }
        sum.before = Before::Nothing;
    }

    /// Ends the brackets that the last `+` opened.
    fn close(&mut self, sum: &mut Sum) {
        if sum.adding {
            self.sums.push(Edit { at: sum.end, removed: 0, text: ")" });
            sum.adding = false;
        }
    }

    /// Ends a sum, for another to begin.
    fn finish(&mut self, sum: &mut Sum) {
        self.close(sum);
        self.odd |= sum.start.is_some() && !sum.is_whole();
        *sum = Sum::default();
    }
}

impl Sum {
    /// Nothing is missing after the last token.
    fn is_whole(&self) -> bool {
        matches!(self.before, Before::Value | Before::Test)
    }
}

/// Whether a word is no part of an operand: an operator, or a word of a statement after an expression (`for x in xs
/// recursive`).
fn ends_a_sum(word: &str, before: Before) -> bool {
    let operator = matches!(word, "and" | "or" | "not" | "in" | "if" | "else");
    match before {
        Before::Value => word != "is",
        Before::Nothing | Before::Test => operator,
        Before::Dot | Before::Pipe | Before::Is => false,
    }
}

/// Where `inside`, what follows `{%`, is `word` alone: the bytes that are left after the tag.
fn lone_word(inside: &str, word: &str) -> Option<usize> {
    let space = |c: char| c.is_ascii_whitespace();
    let end = inside.trim_start_matches(space).strip_prefix(word)?.trim_start_matches(space);
    end.strip_prefix(['-', '+']).unwrap_or(end).strip_prefix("%}").map(str::len)
}

/// The token that `text` begins with.
fn token(text: &str) -> Option<(Token, &str)> {
    let (token, len) = match *text.as_bytes() {
        [b'=' | b'!' | b'<' | b'>', b'=', ..] => (Token::Loose, 2),
        [b'*', b'*', ..] | [b'/', b'/', ..] => (Token::Tight, 2),
        [b'*' | b'/' | b'%' | b'~', ..] => (Token::Tight, 1),
        [b'<' | b'>' | b'=' | b',' | b':', ..] => (Token::Loose, 1),
        [b'(' | b'[' | b'{', ..] => (Token::Open, 1),
        [b')' | b']' | b'}', ..] => (Token::Close, 1),
        [b'+', ..] => (Token::Plus, 1),
        [b'-', ..] => (Token::Minus, 1),
        [b'.', ..] => (Token::Dot, 1),
        [b'|', ..] => (Token::Pipe, 1),
        [b'"' | b'\'', ..] => (Token::Literal, string_len(text)?),
        [b'0'..=b'9', ..] => (Token::Literal, number_len(text)),
        _ => (Token::Word, text.find(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && c != '_')?),
    };
    (len > 0).then(|| (token, &text[..len]))
}

fn string_len(text: &str) -> Option<usize> {
    let quote = text.as_bytes()[0];
    let mut escaped = true;
    let end = text.bytes().position(|c| {
        let ends = c == quote && !escaped;
        escaped = !escaped && c == b'\\';
        ends
    });
    Some(end? + 1)
}

/// A number ends where a word begins: `1if x else 2`.
fn number_len(text: &str) -> usize {
    let digits = |text: &str| text.bytes().take_while(|c| c.is_ascii_digit() || *c == b'_').count();
    if matches!(text.as_bytes(), [b'0', b'x' | b'X' | b'o' | b'O' | b'b' | b'B', ..]) {
        return 2 + text[2..].bytes().take_while(|c| c.is_ascii_hexdigit() || *c == b'_').count();
    }
    let mut len = digits(text);
    if let Some(fraction) = text[len..].strip_prefix('.').map(digits).filter(|n| *n > 0) {
        len += 1 + fraction;
    }
    if let Some(exponent) = text[len..].strip_prefix(['e', 'E']) {
        let unsigned = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        if digits(unsigned) > 0 {
            len += 1 + exponent.len() - unsigned.len() + digits(unsigned);
        }
    }
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(template: &str) -> String {
        for_minijinja(template).expect("not too deep")
    }

    /// The sums of a template that makes Markup.
    fn sums(template: &str) -> String {
        let written = written(&format!("{template}{{{{ x|e }}}}"));
        written.strip_suffix("{{ x|e }}").expect("the rest as it was").to_owned()
    }

    #[test]
    fn sums_become_filters() {
        assert_eq!(sums("{{a + b}}"), "{{(a )|__add__( b)}}");
        assert_eq!(sums("{{-a+b+c-}}"), "{{-(a)|__add__(b)|__add__(c)-}}");
        assert_eq!(sums("{{ a-b+c-d+-e }}"), "{{ ((a-b)|__add__(c)-d)|__add__(-e) }}");
        assert_eq!(
            sums("{{ a.b[1+2]|f(3+4) ~ 'x+y' + z }}"),
            "{{ (a.b[(1)|__add__(2)]|f((3)|__add__(4)) ~ 'x+y' )|__add__( z) }}"
        );
        assert_eq!(
            sums("{% if not a+1 is even and b+1 in c %}"),
            "{% if not (a)|__add__(1 is even) and (b)|__add__(1) in c %}"
        );
        assert_eq!(
            sums("{% for x in y+z if x+1 == 1if x else 2+3 recursive %}"),
            "{% for x in (y)|__add__(z) if (x)|__add__(1) == 1if x else (2)|__add__(3) recursive %}"
        );
        assert_eq!(
            sums("{% set a, b.c = 1e+5+x, {'}}': 1+2}%}"),
            "{% set a, b.c = (1e+5)|__add__(x), {'}}': (1)|__add__(2)}%}"
        );
        assert_eq!(sums("{{ f(*a, b=c+d, **e+f) }}"), "{{ f(*a, b=(c)|__add__(d), **(e)|__add__(f)) }}");
        assert_eq!(sums("{{ a\n+\nb\n}}"), "{{ (a\n)|__add__(\nb)\n}}");
        assert_eq!(sums("{{ x is divisibleby y + z }}"), "{{ (x is divisibleby y )|__add__( z) }}");
    }

    #[test]
    fn templates_without_markup_stay() {
        for same in
            ["{{ a + b }}", "{{ a + safe + e }}", "{% filter e %}{{ 'b' + c }}{% endfilter %}", "{{ a.e + b|trim }}"]
        {
            assert_eq!(written(same), same);
        }
    }

    #[test]
    fn what_is_no_expression_stays() {
        let same = [
            "a + b",
            "{# {{ a + b }} #}",
            "{%- raw -%}{{ a + b }}{%- endraw +%}",
            "{{ + a }}",
            "{{ a + }}",
            "{{ a + * b }}",
            "{{ a. + b + c }}",
            "{{ a | + b }}",
            "{{ (a + b }}",
            "{{ a + b) }}",
            "{{ a + 'b }}",
            "{{ a + $ }}",
            "{{ a + b",
            "{% if a + ",
            "{",
            "{{",
            "{%",
            "{#",
        ];
        for same in same {
            assert_eq!(written(&format!("{{{{ x|e }}}}{same}")), format!("{{{{ x|e }}}}{same}"));
        }
        assert_eq!(sums("{{ a + }}{{ a+b }}"), "{{ a + }}{{ (a)|__add__(b) }}");
    }

    #[test]
    fn generation_is_a_condition_that_holds() {
        let template = "{%- generation -%}\n{{ a }}{%endgeneration+%}{# {% generation %} #}{{ '{% generation %}' }}";
        let expected = "{%- if true -%}\n{{ a }}{%endif+%}{# {% generation %} #}{{ '{% generation %}' }}";
        assert_eq!(written(template), expected);
        assert_eq!(written("{% raw %}{% generation %}{% endraw %}"), "{% raw %}{% generation %}{% endraw %}");
    }

    /// minijinja alone would end the process.
    #[test]
    fn what_nests_too_deeply_is_refused() {
        let many = |text: &str| text.repeat(300_000);
        let deep = [
            format!("\n{{{{ a{} }}}}", many("+a")),
            format!("\n{{{{ a{} }}}}", many("|f")),
            format!("\n{{{{ a{} }}}}", many(".a")),
            format!("\n{{{{ {} }}}}", many("(")),
            format!("\n{{{{ {}a }}}}", many("- ")),
            format!("\n{{{{ {}a }}}}", many("not ")),
            format!("\n{{% for {}", many("(")),
            format!("\n{{% if a %}}{}", many("{% elif a %}")),
        ];
        for template in deep {
            let message = for_minijinja(&template).expect_err("too deep").to_string();
            assert!(message.starts_with("chat template line 2: more than "), "{message}");
        }
        // Long, but nothing is inside anything.
        let flat = format!("{{{{ [{}] }}}}{}", many("'a', "), many("{{ a+b }}"));
        assert_eq!(written(&flat), flat);
    }
}
