//! Splits a template's source into texts and tags, removing white space around tags as Jinja does (with `trim_blocks` and
//! `lstrip_blocks`, as in transformers), and tags into tokens.

use super::Fault;

/// A piece of the source.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    /// Text to print.
    Text(String),
    /// `{{ ... }}`.
    Print(Vec<Token>),
    /// `{% ... %}`.
    Block(Vec<Token>),
}

/// A token of a tag, and the line it is on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) line: usize,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Name(String),
    Str(String),
    Int(i64),
    Float(f64),
    /// An operator or a bracket.
    Op(&'static str),
}

const OPERATORS: [&str; 28] = [
    "**", "//", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "<", ">", "=", "(", ")", "[", "]", "{", "}", ",",
    ":", ".", "|", "!", ";", "&",
];

/// The pieces of `source`, each with its line.
pub(super) fn pieces(source: &str) -> Result<Vec<(usize, Piece)>, Fault> {
    // Jinja normalizes line breaks and drops the last one.
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let source = source.strip_suffix('\n').unwrap_or(&source);
    Lexer { source, at: 0, line: 1, pieces: Vec::new(), trim: Trim::None }.run()
}

/// What is removed from the start of the next text.
#[derive(Clone, Copy, PartialEq)]
enum Trim {
    None,
    /// One line break.
    Newline,
    All,
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
    line: usize,
    pieces: Vec<(usize, Piece)>,
    trim: Trim,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn advance(&mut self, bytes: usize) {
        self.line += self.source[self.at..self.at + bytes].matches('\n').count();
        self.at += bytes;
    }

    fn fault(&self, message: impl Into<String>) -> Fault {
        Fault { line: self.line, message: message.into() }
    }

    fn run(mut self) -> Result<Vec<(usize, Piece)>, Fault> {
        while let Some(at) = self.next_tag(self.at) {
            let kind = self.source.as_bytes()[at + 1];
            let sign = self.source.as_bytes().get(at + 2).copied();
            self.text(at, kind, sign);
            let start = at + 2 + usize::from(matches!(sign, Some(b'-' | b'+')));
            self.advance(start - self.at);
            match kind {
                b'#' => self.comment()?,
                b'{' => {
                    let line = self.line;
                    let tokens = self.tokens("}}")?;
                    self.pieces.push((line, Piece::Print(tokens)));
                }
                _ => self.block()?,
            }
        }
        let end = self.source.len();
        self.text(end, b' ', None);
        Ok(self.pieces)
    }

    fn next_tag(&self, from: usize) -> Option<usize> {
        let found =
            |(at, _): &(usize, &str)| matches!(self.source.as_bytes().get(from + at + 1), Some(b'{' | b'%' | b'#'));
        self.source[from..].match_indices('{').find(found).map(|(at, _)| from + at)
    }

    /// Emits the text up to `end`, where a tag of this kind begins.
    fn text(&mut self, end: usize, kind: u8, sign: Option<u8>) {
        let whole = &self.source[self.at..end];
        let mut text = match self.trim {
            Trim::None => whole,
            Trim::Newline => whole.strip_prefix('\n').unwrap_or(whole),
            Trim::All => whole.trim_start(),
        };
        if sign == Some(b'-') {
            text = text.trim_end();
        } else if matches!(kind, b'%' | b'#') && sign != Some(b'+') {
            let line_start = whole.rfind('\n').map(|at| at + 1).or((self.at == 0).then_some(0));
            if let Some(blanks) =
                line_start.map(|start| &whole[start..]).filter(|s| s.trim_matches([' ', '\t']).is_empty())
            {
                text = &text[..text.len() - blanks.len().min(text.len())];
            }
        }
        if !text.is_empty() {
            self.pieces.push((self.line, Piece::Text(text.to_owned())));
        }
        self.advance(end - self.at);
        self.trim = Trim::None;
    }

    fn comment(&mut self) -> Result<(), Fault> {
        let end = self.rest().find("#}").ok_or_else(|| self.fault("a comment does not end"))?;
        let sign = self.rest().as_bytes()[..end].last().copied();
        self.advance(end + 2);
        self.after_block(sign);
        Ok(())
    }

    fn after_block(&mut self, sign: Option<u8>) {
        self.trim = match sign {
            Some(b'-') => Trim::All,
            Some(b'+') => Trim::None,
            _ => Trim::Newline,
        };
    }

    fn block(&mut self) -> Result<(), Fault> {
        if let Some(len) = lone_word(self.rest(), "raw") {
            let sign = self.source.as_bytes()[self.at + len - 3];
            self.advance(len);
            self.trim = if sign == b'-' { Trim::All } else { Trim::None };
            let tag = self.rest().match_indices("{%").find_map(|(at, _)| {
                let inside = &self.rest()[at + 2..];
                let sign = inside.starts_with(['-', '+']);
                lone_word(&inside[usize::from(sign)..], "endraw").map(|len| (at, 2 + usize::from(sign) + len))
            });
            let (at, len) = tag.ok_or_else(|| self.fault("a raw block does not end"))?;
            let end = self.at + at;
            let sign = self.source.as_bytes().get(end + 2).copied();
            self.text(end, b'%', sign);
            let sign = self.source.as_bytes()[end + len - 3];
            self.advance(len);
            self.after_block(Some(sign));
            return Ok(());
        }
        let line = self.line;
        let tokens = self.tokens("%}")?;
        self.pieces.push((line, Piece::Block(tokens)));
        Ok(())
    }

    /// The tokens of a tag up to `end`.
    fn tokens(&mut self, end: &str) -> Result<Vec<Token>, Fault> {
        let (mut tokens, mut open) = (Vec::new(), 0usize);
        loop {
            let inside = self.rest().trim_start();
            self.advance(self.rest().len() - inside.len());
            if inside.is_empty() {
                return Err(self.fault("a tag does not end"));
            }
            let signed = inside.strip_prefix(['-', '+']).unwrap_or(inside);
            if open == 0 && signed.starts_with(end) {
                let sign = (signed.len() < inside.len()).then(|| inside.as_bytes()[0]);
                self.advance(inside.len() - signed.len() + 2);
                if end == "%}" {
                    self.after_block(sign);
                } else if sign == Some(b'-') {
                    self.trim = Trim::All;
                }
                return Ok(tokens);
            }
            let (kind, len) = self.token(inside)?;
            match kind {
                Kind::Op("(" | "[" | "{") => open += 1,
                Kind::Op(")" | "]" | "}") => {
                    open = open.checked_sub(1).ok_or_else(|| self.fault("a bracket closes that was not opened"))?;
                }
                _ => {}
            }
            tokens.push(Token { kind, line: self.line });
            self.advance(len);
        }
    }

    fn token(&self, text: &str) -> Result<(Kind, usize), Fault> {
        let first = text.as_bytes()[0];
        if matches!(first, b'"' | b'\'') {
            return string(text).ok_or_else(|| self.fault("a string does not end"));
        }
        if first.is_ascii_digit() {
            return number(text).ok_or_else(|| self.fault("not a number that can be held"));
        }
        if let Some(op) = OPERATORS.iter().find(|op| text.starts_with(**op)) {
            return Ok((Kind::Op(op), op.len()));
        }
        let len = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
        if len == 0 {
            let c = text.chars().next().unwrap_or(' ');
            return Err(self.fault(format!("unexpected character {c:?}")));
        }
        Ok((Kind::Name(text[..len].to_owned()), len))
    }
}

/// If `inside` (the text after `{%`) is only `word`: the length up to the end of the tag.
fn lone_word(inside: &str, word: &str) -> Option<usize> {
    let end = inside.trim_start().strip_prefix(word)?.trim_start();
    let end = end.strip_prefix(['-', '+']).unwrap_or(end).strip_prefix("%}")?;
    Some(inside.len() - end.len())
}

fn string(text: &str) -> Option<(Kind, usize)> {
    let quote = text.chars().next()?;
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return Some((Kind::Str(out), at + 1));
        }
        if c != '\\' {
            out.push(c);
            continue;
        }
        let mut hex = |digits: usize| {
            let code: String = chars.by_ref().take(digits).map(|(_, c)| c).collect();
            u32::from_str_radix(&code, 16).ok().and_then(char::from_u32).unwrap_or('\u{fffd}')
        };
        match text[at + 1..].chars().next()? {
            'x' | 'u' | 'U' => {
                let digits = match text.as_bytes()[at + 1] {
                    b'x' => 2,
                    b'u' => 4,
                    _ => 8,
                };
                hex(1);
                let c = hex(digits);
                out.push(c);
            }
            other => {
                chars.next();
                match other {
                    'n' => out.push('\n'),
                    't' => out.push('\t'),
                    'r' => out.push('\r'),
                    'b' => out.push('\u{8}'),
                    'f' => out.push('\u{c}'),
                    'v' => out.push('\u{b}'),
                    'a' => out.push('\u{7}'),
                    '0' => out.push('\0'),
                    '\\' | '\'' | '"' => out.push(other),
                    '\n' => {}
                    other => out.extend(['\\', other]),
                }
            }
        }
    }
    None
}

/// A number, which ends where a word begins: `1if x else 2`.
fn number(text: &str) -> Option<(Kind, usize)> {
    let digits = |text: &str| text.bytes().take_while(|c| c.is_ascii_digit() || *c == b'_').count();
    let radix = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => 16,
        [b'0', b'o' | b'O', ..] => 8,
        [b'0', b'b' | b'B', ..] => 2,
        _ => 10,
    };
    if radix != 10 {
        let len = 2 + text[2..].bytes().take_while(|c| c.is_ascii_hexdigit() || *c == b'_').count();
        return Some((Kind::Int(i64::from_str_radix(&text[2..len].replace('_', ""), radix).ok()?), len));
    }
    let mut len = digits(text);
    let whole = len;
    if let Some(fraction) = text[len..].strip_prefix('.').map(digits).filter(|n| *n > 0) {
        len += 1 + fraction;
    }
    if let Some(exponent) = text[len..].strip_prefix(['e', 'E']) {
        let unsigned = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        if digits(unsigned) > 0 {
            len += 1 + exponent.len() - unsigned.len() + digits(unsigned);
        }
    }
    let plain = text[..len].replace('_', "");
    let kind = if len == whole { Kind::Int(plain.parse().ok()?) } else { Kind::Float(plain.parse().ok()?) };
    Some((kind, len))
}
