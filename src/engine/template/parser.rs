//! Parses tokens to a tree of statements and expressions.

use super::Fault;
use super::lexer::{self, Kind, Piece, Token};

/// Maximum names and operators of a tag. Published templates have up to 60. Each may nest, which needs stack.
const MAX_IN_TAG: usize = 1000;
/// Maximum nesting of blocks and brackets.
const MAX_NESTING: usize = 100;

/// A statement, and the line it begins on.
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) stmt: Stmt,
}

pub(super) enum Stmt {
    Text(String),
    Print(Expr),
    If {
        branches: Vec<(Expr, Vec<Node>)>,
        otherwise: Vec<Node>,
    },
    For {
        target: Target,
        items: Expr,
        condition: Option<Expr>,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Set(Target, Expr),
    SetBlock {
        target: Target,
        filters: Vec<Filter>,
        body: Vec<Node>,
    },
    Macro(Macro),
    /// `{% call(args) f() %}`: the body is `caller`.
    Call {
        caller: Macro,
        call: Expr,
    },
    Filter {
        filters: Vec<Filter>,
        body: Vec<Node>,
    },
    With {
        values: Vec<(Target, Expr)>,
        body: Vec<Node>,
    },
    /// A body without a scope of its own.
    Body(Vec<Node>),
    Break,
    Continue,
}

pub(super) struct Macro {
    pub(super) name: String,
    pub(super) params: Vec<(String, Option<Expr>)>,
    pub(super) body: std::sync::Arc<Vec<Node>>,
}

/// The target of an assignment.
pub(super) enum Target {
    Name(String),
    /// An attribute of a namespace.
    Attribute(String, String),
    Many(Vec<Target>),
}

pub(super) struct Filter {
    pub(super) name: String,
    pub(super) args: Vec<Arg>,
}

pub(super) enum Arg {
    Plain(Expr),
    Named(String, Expr),
    /// `*xs`
    Spread(Expr),
    /// `**d`
    SpreadNamed(Expr),
}

pub(super) enum Expr {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    Name(String),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    Attribute(Box<Expr>, String),
    Item(Box<Expr>, Box<Expr>),
    Slice(Box<Expr>, [Option<Box<Expr>>; 3]),
    Call(Box<Expr>, Vec<Arg>),
    Filter(Box<Expr>, Filter),
    Test { value: Box<Expr>, name: String, args: Vec<Arg>, negated: bool },
    Unary(char, Box<Expr>),
    Binary(Box<Expr>, &'static str, Box<Expr>),
    Compare(Box<Expr>, Vec<(&'static str, Expr)>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    If { condition: Box<Expr>, then: Box<Expr>, otherwise: Option<Box<Expr>> },
}

/// The statements of a template.
pub(super) fn parse(source: &str) -> Result<Vec<Node>, Fault> {
    let pieces = lexer::pieces(source)?;
    let mut parser = Parser { pieces: pieces.into_iter(), depth: 0 };
    let (body, end) = parser.body(&[])?;
    debug_assert!(end.is_none(), "no word ends the template");
    Ok(body)
}

struct Parser {
    pieces: std::vec::IntoIter<(usize, Piece)>,
    depth: usize,
}

impl Parser {
    /// Statements up to a tag that begins with one of `ends`, and that tag.
    fn body(&mut self, ends: &[&str]) -> Result<(Vec<Node>, Option<Tag>), Fault> {
        self.depth += 1;
        let mut nodes = Vec::new();
        let mut last = 1;
        while let Some((line, piece)) = self.pieces.next() {
            last = line;
            if self.depth > MAX_NESTING {
                return Err(Fault { line, message: format!("more than {MAX_NESTING} blocks inside each other") });
            }
            let stmt = match piece {
                Piece::Text(text) => Stmt::Text(text),
                Piece::Print(tokens) => {
                    let mut tag = Tag::new(tokens, line)?;
                    let value = tag.tuple()?;
                    tag.end()?;
                    Stmt::Print(value)
                }
                Piece::Block(tokens) => {
                    let mut tag = Tag::new(tokens, line)?;
                    let word = tag.name()?;
                    if ends.contains(&word.as_str()) {
                        self.depth -= 1;
                        tag.word = word;
                        return Ok((nodes, Some(tag)));
                    }
                    self.statement(&word, tag)?
                }
            };
            nodes.push(Node { line, stmt });
        }
        if !ends.is_empty() {
            return Err(Fault { line: last, message: format!("{} is missing", ends[ends.len() - 1]) });
        }
        self.depth -= 1;
        Ok((nodes, None))
    }

    /// The statements up to `end`, after which the tag must end.
    fn block(&mut self, end: &str) -> Result<Vec<Node>, Fault> {
        let (body, tag) = self.body(&[end])?;
        // `endmacro name` may repeat the name.
        if let Some(mut tag) = tag.filter(|_| end != "endmacro") {
            tag.end()?;
        }
        Ok(body)
    }

    fn statement(&mut self, word: &str, mut tag: Tag) -> Result<Stmt, Fault> {
        Ok(match word {
            "if" => return self.condition(tag),
            "for" => return self.repetition(tag),
            "set" => {
                let target = tag.target(&["="])?;
                if tag.take("=") {
                    let value = tag.tuple()?;
                    tag.end()?;
                    return Ok(Stmt::Set(target, value));
                }
                let filters = tag.filters()?;
                tag.end()?;
                Stmt::SetBlock { target, filters, body: self.block("endset")? }
            }
            "macro" => {
                let name = tag.name()?;
                Stmt::Macro(self.definition(name, &mut tag, "endmacro")?)
            }
            "call" => {
                let params = if tag.peek("(") { tag.params()? } else { Vec::new() };
                let call = tag.expression()?;
                tag.end()?;
                let body = std::sync::Arc::new(self.block("endcall")?);
                Stmt::Call { caller: Macro { name: "caller".to_owned(), params, body }, call }
            }
            "filter" => {
                let mut filters = vec![tag.filter()?];
                filters.append(&mut tag.filters()?);
                tag.end()?;
                Stmt::Filter { filters, body: self.block("endfilter")? }
            }
            "with" => {
                let mut values = Vec::new();
                while !tag.is_done() {
                    let target = tag.target(&["="])?;
                    tag.expect("=")?;
                    values.push((target, tag.expression()?));
                    tag.take(",");
                }
                Stmt::With { values, body: self.block("endwith")? }
            }
            // transformers uses it to mark the text that is trained on.
            "generation" => {
                tag.end()?;
                Stmt::Body(self.block("endgeneration")?)
            }
            "break" | "continue" => {
                tag.end()?;
                if word == "break" { Stmt::Break } else { Stmt::Continue }
            }
            other => return Err(tag.fault(format!("unknown statement {other}"))),
        })
    }

    fn condition(&mut self, mut tag: Tag) -> Result<Stmt, Fault> {
        let (mut branches, mut otherwise) = (Vec::new(), Vec::new());
        let mut condition = Some(tag.tuple()?);
        tag.end()?;
        loop {
            let ends: &[&str] = if condition.is_some() { &["elif", "else", "endif"] } else { &["endif"] };
            let (body, end) = self.body(ends)?;
            match condition.take() {
                Some(condition) => branches.push((condition, body)),
                None => otherwise = body,
            }
            let Some(mut end) = end else { break };
            match end.word.as_str() {
                "elif" => condition = Some(end.tuple()?),
                "else" => {}
                _ => {
                    end.end()?;
                    break;
                }
            }
            end.end()?;
        }
        Ok(Stmt::If { branches, otherwise })
    }

    fn repetition(&mut self, mut tag: Tag) -> Result<Stmt, Fault> {
        let target = tag.target(&["in"])?;
        tag.expect_word("in")?;
        let items = tag.tuple_without_condition()?;
        let condition = if tag.take_word("if") { Some(tag.expression()?) } else { None };
        if tag.take_word("recursive") {
            return Err(tag.fault("recursive loops are not supported"));
        }
        tag.end()?;
        let (body, end) = self.body(&["else", "endfor"])?;
        let mut otherwise = Vec::new();
        if let Some(mut end) = end {
            end.end()?;
            if end.word == "else" {
                otherwise = self.block("endfor")?;
            }
        }
        Ok(Stmt::For { target, items, condition, body, otherwise })
    }

    fn definition(&mut self, name: String, tag: &mut Tag, end: &str) -> Result<Macro, Fault> {
        let params = tag.params()?;
        tag.end()?;
        Ok(Macro { name, params, body: std::sync::Arc::new(self.block(end)?) })
    }
}

/// The tokens of a tag.
struct Tag {
    tokens: Vec<Token>,
    at: usize,
    line: usize,
    /// Its first word.
    word: String,
    depth: usize,
}

impl Tag {
    fn new(tokens: Vec<Token>, line: usize) -> Result<Self, Fault> {
        let nest = |kind: &Kind| !matches!(kind, Kind::Str(_) | Kind::Int(_) | Kind::Op("," | ":" | ")" | "]" | "}"));
        let mut count = 0;
        for token in tokens.iter().filter(|token| nest(&token.kind)) {
            count += 1;
            if count > MAX_IN_TAG {
                let message = format!("more than {MAX_IN_TAG} names and operators in one tag");
                return Err(Fault { line: token.line, message });
            }
        }
        Ok(Self { tokens, at: 0, line, word: String::new(), depth: 0 })
    }

    fn fault(&self, message: impl Into<String>) -> Fault {
        let line = self.tokens.get(self.at).or(self.tokens.last()).map_or(self.line, |token| token.line);
        Fault { line, message: message.into() }
    }

    fn kind(&self) -> Option<&Kind> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    fn is_done(&self) -> bool {
        self.at >= self.tokens.len()
    }

    fn unexpected(&self) -> Fault {
        match self.kind() {
            None => self.fault("the tag ends too early"),
            Some(Kind::Name(name)) => self.fault(format!("unexpected {name}")),
            Some(Kind::Op(op)) => self.fault(format!("unexpected {op}")),
            Some(_) => self.fault("unexpected literal"),
        }
    }

    fn end(&mut self) -> Result<(), Fault> {
        if self.is_done() { Ok(()) } else { Err(self.unexpected()) }
    }

    fn peek(&self, op: &str) -> bool {
        matches!(self.kind(), Some(Kind::Op(found)) if *found == op)
    }

    fn take(&mut self, op: &str) -> bool {
        let found = self.peek(op);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, op: &str) -> Result<(), Fault> {
        if self.take(op) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn peek_word(&self, word: &str) -> bool {
        matches!(self.kind(), Some(Kind::Name(found)) if found == word)
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.peek_word(word);
        self.at += usize::from(found);
        found
    }

    fn expect_word(&mut self, word: &str) -> Result<(), Fault> {
        if self.take_word(word) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn name(&mut self) -> Result<String, Fault> {
        match self.kind() {
            Some(Kind::Name(name)) => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            _ => Err(self.unexpected()),
        }
    }

    /// One or several names to assign to, up to one of `ends`.
    fn target(&mut self, ends: &[&str]) -> Result<Target, Fault> {
        let first = self.one_target()?;
        if !self.peek(",") {
            return Ok(first);
        }
        let mut all = vec![first];
        while self.take(",") {
            if ends.iter().any(|end| self.peek(end) || self.peek_word(end)) {
                break;
            }
            all.push(self.one_target()?);
        }
        Ok(Target::Many(all))
    }

    fn one_target(&mut self) -> Result<Target, Fault> {
        self.nested(|tag| {
            if tag.take("(") {
                let target = tag.target(&[")"])?;
                tag.expect(")")?;
                return Ok(target);
            }
            let name = tag.name()?;
            Ok(if tag.take(".") { Target::Attribute(name, tag.name()?) } else { Target::Name(name) })
        })
    }

    fn nested<T>(&mut self, inside: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return Err(self.fault(format!("more than {MAX_NESTING} brackets inside each other")));
        }
        let result = inside(self);
        self.depth -= 1;
        result
    }

    fn params(&mut self) -> Result<Vec<(String, Option<Expr>)>, Fault> {
        let mut params = Vec::new();
        self.expect("(")?;
        while !self.take(")") {
            let name = self.name()?;
            let default = if self.take("=") { Some(self.expression()?) } else { None };
            params.push((name, default));
            if !self.peek(")") {
                self.expect(",")?;
            }
        }
        Ok(params)
    }

    fn filters(&mut self) -> Result<Vec<Filter>, Fault> {
        let mut filters = Vec::new();
        while self.take("|") {
            filters.push(self.filter()?);
        }
        Ok(filters)
    }

    fn filter(&mut self) -> Result<Filter, Fault> {
        let mut name = self.name()?;
        while self.take(".") {
            name = format!("{name}.{}", self.name()?);
        }
        let args = if self.take("(") { self.args()? } else { Vec::new() };
        Ok(Filter { name, args })
    }

    /// Arguments, after the opening bracket.
    fn args(&mut self) -> Result<Vec<Arg>, Fault> {
        let mut args = Vec::new();
        while !self.take(")") {
            let named = matches!(self.tokens.get(self.at + 1), Some(Token { kind: Kind::Op("="), .. }));
            args.push(if self.take("**") {
                Arg::SpreadNamed(self.expression()?)
            } else if self.take("*") {
                Arg::Spread(self.expression()?)
            } else if named && matches!(self.kind(), Some(Kind::Name(_))) {
                let name = self.name()?;
                self.at += 1;
                Arg::Named(name, self.expression()?)
            } else {
                Arg::Plain(self.expression()?)
            });
            if !self.peek(")") {
                self.expect(",")?;
            }
        }
        Ok(args)
    }

    /// An expression, or several with commas between them, which are a tuple.
    fn tuple(&mut self) -> Result<Expr, Fault> {
        self.tuple_of(Self::expression)
    }

    /// The iterable of a loop; an `if` after it belongs to the loop.
    fn tuple_without_condition(&mut self) -> Result<Expr, Fault> {
        self.tuple_of(Self::or)
    }

    fn tuple_of(&mut self, one: fn(&mut Self) -> Result<Expr, Fault>) -> Result<Expr, Fault> {
        let first = one(self)?;
        if !self.peek(",") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.take(",") {
            if self.is_done() || self.peek(")") {
                break;
            }
            items.push(one(self)?);
        }
        Ok(Expr::Tuple(items))
    }

    fn expression(&mut self) -> Result<Expr, Fault> {
        self.nested(|tag| {
            let mut value = tag.or()?;
            while tag.take_word("if") {
                let condition = Box::new(tag.or()?);
                let otherwise = if tag.take_word("else") { Some(Box::new(tag.expression()?)) } else { None };
                value = Expr::If { condition, then: Box::new(value), otherwise };
            }
            Ok(value)
        })
    }

    fn or(&mut self) -> Result<Expr, Fault> {
        let mut left = self.and()?;
        while self.take_word("or") {
            left = Expr::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expr, Fault> {
        let mut left = self.not()?;
        while self.take_word("and") {
            left = Expr::And(Box::new(left), Box::new(self.not()?));
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Expr, Fault> {
        if self.take_word("not") {
            return self.nested(|tag| Ok(Expr::Not(Box::new(tag.not()?))));
        }
        let left = self.sum()?;
        let mut comparisons = Vec::new();
        loop {
            let op = match self.kind() {
                Some(Kind::Op(op @ ("==" | "!=" | "<" | ">" | "<=" | ">="))) => op,
                Some(Kind::Name(name)) if name == "in" => "in",
                Some(Kind::Name(name)) if name == "not" => {
                    let next = self.tokens.get(self.at + 1).map(|token| &token.kind);
                    if !matches!(next, Some(Kind::Name(name)) if name == "in") {
                        break;
                    }
                    self.at += 1;
                    "not in"
                }
                _ => break,
            };
            self.at += 1;
            comparisons.push((op, self.sum()?));
        }
        Ok(if comparisons.is_empty() { left } else { Expr::Compare(Box::new(left), comparisons) })
    }

    /// Operators of one level, from left to right.
    fn level(&mut self, ops: &[&str], next: fn(&mut Self) -> Result<Expr, Fault>) -> Result<Expr, Fault> {
        let mut left = next(self)?;
        while let Some(Kind::Op(op)) = self.kind().filter(|kind| matches!(kind, Kind::Op(op) if ops.contains(op))) {
            let op = *op;
            self.at += 1;
            left = Expr::Binary(Box::new(left), op, Box::new(next(self)?));
        }
        Ok(left)
    }

    fn sum(&mut self) -> Result<Expr, Fault> {
        self.level(&["+", "-"], |tag| {
            tag.level(&["~"], |tag| tag.level(&["*", "/", "//", "%"], |tag| tag.level(&["**"], |tag| tag.unary(true))))
        })
    }

    fn unary(&mut self, filters: bool) -> Result<Expr, Fault> {
        let sign = ['-', '+'].into_iter().find(|sign| self.take(if *sign == '-' { "-" } else { "+" }));
        let mut value = match sign {
            Some(sign) => self.nested(|tag| Ok(Expr::Unary(sign, Box::new(tag.unary(false)?))))?,
            None => self.primary()?,
        };
        value = self.postfix(value)?;
        if filters {
            value = self.filters_and_tests(value)?;
        }
        Ok(value)
    }

    fn postfix(&mut self, mut value: Expr) -> Result<Expr, Fault> {
        loop {
            if self.take(".") {
                let name = match self.kind() {
                    Some(Kind::Int(index)) => {
                        let index = *index;
                        self.at += 1;
                        value = Expr::Item(Box::new(value), Box::new(Expr::Int(index)));
                        continue;
                    }
                    _ => self.name()?,
                };
                value = Expr::Attribute(Box::new(value), name);
            } else if self.take("[") {
                value = self.nested(|tag| tag.subscript(value))?;
            } else if self.take("(") {
                value = Expr::Call(Box::new(value), self.args()?);
            } else {
                return Ok(value);
            }
        }
    }

    fn subscript(&mut self, value: Expr) -> Result<Expr, Fault> {
        let mut parts: [Option<Box<Expr>>; 3] = [None, None, None];
        let mut part = 0;
        while !self.take("]") {
            if self.take(":") {
                part += 1;
                if part > 2 {
                    return Err(self.unexpected());
                }
            } else if parts[part].is_none() {
                parts[part] = Some(Box::new(self.tuple()?));
            } else {
                return Err(self.unexpected());
            }
        }
        match (part, parts) {
            (0, [Some(index), ..]) => Ok(Expr::Item(Box::new(value), index)),
            (0, _) => Err(self.unexpected()),
            (_, parts) => Ok(Expr::Slice(Box::new(value), parts)),
        }
    }

    fn filters_and_tests(&mut self, mut value: Expr) -> Result<Expr, Fault> {
        loop {
            if self.take("|") {
                value = Expr::Filter(Box::new(value), self.filter()?);
            } else if self.take_word("is") {
                let negated = self.take_word("not");
                let name = self.name()?;
                let args = if self.take("(") {
                    self.args()?
                } else {
                    let argument = match self.kind() {
                        Some(Kind::Name(name)) => {
                            !matches!(name.as_str(), "else" | "or" | "and" | "is" | "if" | "in" | "not" | "recursive")
                        }
                        Some(Kind::Op(op)) => matches!(*op, "[" | "{"),
                        Some(_) => true,
                        None => false,
                    };
                    if argument {
                        let argument = self.primary()?;
                        vec![Arg::Plain(self.postfix(argument)?)]
                    } else {
                        Vec::new()
                    }
                };
                value = Expr::Test { value: Box::new(value), name, args, negated };
            } else if self.take("(") {
                value = Expr::Call(Box::new(value), self.args()?);
            } else {
                return Ok(value);
            }
        }
    }

    fn primary(&mut self) -> Result<Expr, Fault> {
        let Some(kind) = self.kind().cloned() else { return Err(self.unexpected()) };
        let unexpected = self.unexpected();
        self.at += 1;
        Ok(match kind {
            Kind::Int(n) => Expr::Int(n),
            Kind::Float(x) => Expr::Float(x),
            Kind::Str(mut text) => {
                // Adjacent strings are concatenated.
                while let Some(Kind::Str(more)) = self.kind() {
                    text.push_str(more);
                    self.at += 1;
                }
                Expr::Str(text)
            }
            Kind::Name(name) => match name.as_str() {
                "true" | "True" => Expr::Bool(true),
                "false" | "False" => Expr::Bool(false),
                "none" | "None" => Expr::None,
                _ => Expr::Name(name),
            },
            Kind::Op("(") => {
                return self.nested(|tag| {
                    if tag.take(")") {
                        return Ok(Expr::Tuple(Vec::new()));
                    }
                    let value = tag.tuple()?;
                    tag.expect(")")?;
                    Ok(value)
                });
            }
            Kind::Op("[") => {
                let mut items = Vec::new();
                while !self.take("]") {
                    items.push(self.expression()?);
                    if !self.peek("]") {
                        self.expect(",")?;
                    }
                }
                Expr::List(items)
            }
            Kind::Op("{") => {
                let mut entries = Vec::new();
                while !self.take("}") {
                    let key = self.expression()?;
                    self.expect(":")?;
                    entries.push((key, self.expression()?));
                    if !self.peek("}") {
                        self.expect(",")?;
                    }
                }
                Expr::Dict(entries)
            }
            Kind::Op(_) => return Err(unexpected),
        })
    }
}
