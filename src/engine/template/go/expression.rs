//! Values of a template in Go's language, as expressions of Jinja.

use super::GoTemplateError;
use super::lexer::{Word, Words};

/// Deepest nesting of brackets.
const MOST_BRACKETS: usize = 32;

/// The value of the dot.
#[derive(Clone, Debug)]
pub(super) struct Dot {
    pub(super) code: String,
    /// Whether it is printed as JSON.
    pub(super) is_object: bool,
}

/// An expression.
#[derive(Clone, Debug)]
pub(super) struct Expression {
    pub(super) code: String,
    /// Whether it is printed as JSON.
    pub(super) is_object: bool,
    /// Whether it has keys, not numbers.
    pub(super) is_map: bool,
}

/// Fields with objects: tools, calls, arguments.
const OBJECTS: [&str; 6] = ["Tools", "ToolCalls", "Function", "Arguments", "Parameters", "Properties"];
const MAPS: [&str; 2] = ["Arguments", "Properties"];

/// A text as Jinja writes it.
pub(super) fn literal(text: &str) -> String {
    let mut code = String::with_capacity(text.len() + 2);
    code.push('\'');
    for c in text.chars() {
        match c {
            '\'' => code.push_str("\\'"),
            '\\' => code.push_str("\\\\"),
            '\n' => code.push_str("\\n"),
            '\r' => code.push_str("\\r"),
            c => code.push(c),
        }
    }
    code.push('\'');
    code
}

fn plain(code: impl Into<String>) -> Expression {
    Expression { code: code.into(), is_object: false, is_map: false }
}

/// The state of a translation.
#[derive(Default)]
pub(super) struct Context {
    /// The values of the dot, the innermost last; none for the conversation.
    pub(super) dots: Vec<Dot>,
    names: usize,
}

impl Context {
    /// A name that nothing has yet.
    pub(super) fn new_name(&mut self) -> String {
        self.names += 1;
        format!("go_{}", self.names)
    }

    /// An action that is no block: it sets a variable, or prints a value.
    pub(super) fn action(&self, words: &Words) -> Result<String, GoTemplateError> {
        let (variables, words) = words.declared();
        let value = self.pipe(&words)?;
        match variables.as_slice() {
            [] => Ok(format!("{{{{ {} }}}}", printed(&value))),
            [name] if !name.is_empty() => Ok(format!("{{%- set go.v_{name} = {} -%}}", value.code)),
            _ => Err(GoTemplateError::new("several variables for one value")),
        }
    }

    /// A value: commands, of which each gets the last one's result as its last argument.
    pub(super) fn pipe(&self, words: &Words) -> Result<Expression, GoTemplateError> {
        let mut parser = Parser { context: self, words: &words.0, at: 0, depth: 0 };
        let value = parser.pipe()?;
        match parser.words.get(parser.at) {
            None => Ok(value),
            Some(_) => Err(GoTemplateError::new("an action that goes on after its value")),
        }
    }
}

struct Parser<'w> {
    context: &'w Context,
    words: &'w [Word],
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn takes(&mut self, sign: &str) -> bool {
        let is_it = matches!(self.words.get(self.at), Some(Word::Sign(found)) if *found == sign);
        self.at += usize::from(is_it);
        is_it
    }

    fn pipe(&mut self) -> Result<Expression, GoTemplateError> {
        self.depth += 1;
        if self.depth > MOST_BRACKETS {
            return Err(GoTemplateError::new(format!("more than {MOST_BRACKETS} brackets in each other")));
        }
        let mut value = self.command(None)?;
        while self.takes("|") {
            value = self.command(Some(value))?;
        }
        self.depth -= 1;
        Ok(value)
    }

    /// A function with its arguments, or a value.
    fn command(&mut self, piped: Option<Expression>) -> Result<Expression, GoTemplateError> {
        let name = match self.words.get(self.at) {
            Some(Word::Name(name)) if !matches!(name.as_str(), "true" | "false" | "nil") => name.clone(),
            _ if piped.is_some() => return Err(GoTemplateError::new("a value after |, where a function belongs")),
            _ => return self.operand()?.ok_or_else(|| GoTemplateError::new("an action without a value")),
        };
        self.at += 1;
        let mut arguments = Vec::new();
        while let Some(argument) = self.operand()? {
            arguments.push(argument);
        }
        arguments.extend(piped);
        call(&name, &arguments)
    }

    /// A value; `None` where there is none.
    fn operand(&mut self) -> Result<Option<Expression>, GoTemplateError> {
        let Some(word) = self.words.get(self.at) else { return Ok(None) };
        let value = match word {
            Word::Sign("(") => {
                self.at += 1;
                let mut inner = self.pipe()?;
                if !self.takes(")") {
                    return Err(GoTemplateError::new("a bracket without an end"));
                }
                if let Some(Word::After(fields)) = self.words.get(self.at) {
                    self.at += 1;
                    inner = with_fields(&inner.code, inner.is_object, fields);
                }
                return Ok(Some(inner));
            }
            Word::Sign(_) | Word::After(_) => return Ok(None),
            Word::Text(text) => plain(literal(text)),
            Word::Number(number) => plain(number.clone()),
            Word::Name(name) => plain(match name.as_str() {
                "true" | "false" => name.as_str(),
                "nil" => "none",
                // A function without arguments.
                _ => {
                    self.at += 1;
                    return call(name, &[]).map(Some);
                }
            }),
            Word::Variable(name, fields) if name.is_empty() => conversation(fields)?,
            Word::Variable(name, fields) => {
                let is_object = fields.is_empty() && name.to_ascii_lowercase().contains("tool");
                with_fields(&format!("go.v_{name}"), is_object, fields)
            }
            Word::Fields(fields) => match self.context.dots.last() {
                Some(dot) => with_fields(&dot.code, dot.is_object, fields),
                None => conversation(fields)?,
            },
        };
        self.at += 1;
        Ok(Some(value))
    }
}

/// Fields of a conversation.
fn conversation(fields: &[String]) -> Result<Expression, GoTemplateError> {
    let Some((first, rest)) = fields.split_first() else {
        return Err(GoTemplateError::new("the whole conversation as a value"));
    };
    let code = match first.as_str() {
        "System" => "go.system",
        "Prompt" => "go.prompt",
        "Response" => "go.response",
        "Messages" => "messages",
        "Tools" => "(tools or [])",
        "Think" => "enable_thinking",
        "ThinkLevel" => "reasoning_effort",
        "IsThinkSet" => "(enable_thinking is defined)",
        "Suffix" => "''",
        other => return Err(GoTemplateError::new(format!("a conversation has no field .{other}"))),
    };
    Ok(with_fields(code, first == "Tools", rest))
}

/// Fields of a value, by the names that they have here.
fn with_fields(code: &str, is_object: bool, fields: &[String]) -> Expression {
    let name = |field: &String| match field.as_str() {
        "Thinking" => "reasoning_content".to_owned(),
        "ToolName" => "name".to_owned(),
        other => snake_case(other),
    };
    let path: String = fields.iter().map(|field| format!("['{}']", name(field))).collect();
    let last = fields.last().map(String::as_str);
    let is = |list: &[&str]| last.is_some_and(|field| list.contains(&field));
    Expression {
        code: format!("{code}{path}"),
        is_object: if last.is_some() { is(&OBJECTS) } else { is_object },
        is_map: is(&MAPS),
    }
}

/// `ToolCallID` as `tool_call_id`.
fn snake_case(name: &str) -> String {
    let mut found = String::new();
    let mut before_is_lower = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && before_is_lower {
            found.push('_');
        }
        before_is_lower = !c.is_ascii_uppercase();
        found.push(c.to_ascii_lowercase());
    }
    found
}

/// A value as text: objects are JSON without spaces, as Go writes it.
fn printed(value: &Expression) -> String {
    if value.is_object { json(&value.code) } else { value.code.clone() }
}

fn json(code: &str) -> String {
    format!("({code}) | tojson(separators=(',', ':'))")
}

/// The result of a function.
fn call(name: &str, arguments: &[Expression]) -> Result<Expression, GoTemplateError> {
    let codes: Vec<&str> = arguments.iter().map(|argument| argument.code.as_str()).collect();
    let compared = |sign: &str| match codes.as_slice() {
        [a, b] => Ok(plain(format!("({a} {sign} {b})"))),
        _ => Err(GoTemplateError::new(format!("{name} compares two values"))),
    };
    let joined = |word: &str| plain(format!("({})", codes.join(&format!(" {word} "))));
    match (name, codes.as_slice()) {
        ("eq", [a, rest @ ..]) if !rest.is_empty() => {
            let each: Vec<String> = rest.iter().map(|b| format!("{a} == {b}")).collect();
            Ok(plain(format!("({})", each.join(" or "))))
        }
        ("ne", _) => compared("!="),
        ("lt", _) => compared("<"),
        ("le", _) => compared("<="),
        ("gt", _) => compared(">"),
        ("ge", _) => compared(">="),
        ("and" | "or", [_, ..]) => Ok(joined(name)),
        ("not", [a]) => Ok(plain(format!("(not {a})"))),
        ("len", [a]) => Ok(plain(format!("(({a} or []) | length)"))),
        ("index", [a, rest @ ..]) if !rest.is_empty() => {
            let path: String = rest.iter().map(|index| format!("[{index}]")).collect();
            Ok(Expression { code: format!("{a}{path}"), is_object: arguments[0].is_object, is_map: false })
        }
        ("slice", [a, from]) => {
            Ok(Expression { code: format!("{a}[{from}:]"), is_object: arguments[0].is_object, is_map: false })
        }
        ("slice", [a, from, to]) => {
            Ok(Expression { code: format!("{a}[{from}:{to}]"), is_object: arguments[0].is_object, is_map: false })
        }
        ("json", [a]) => Ok(plain(format!("({})", json(a)))),
        ("print", [_, ..]) => {
            let all: Vec<String> = arguments.iter().map(printed).collect();
            Ok(plain(format!("({})", all.join(" ~ "))))
        }
        ("printf", [_, ..]) => printf(arguments),
        ("currentDate", []) => Ok(plain("strftime_now('%Y-%m-%d')")),
        _ => Err(GoTemplateError::new(format!("the function {name} is not known with {} values", codes.len()))),
    }
}

/// `printf` with `%s`, `%v` and `%d`.
fn printf(arguments: &[Expression]) -> Result<Expression, GoTemplateError> {
    let failed = || GoTemplateError::new("printf knows %s, %v and %d, each with a value");
    let format = arguments[0].code.strip_prefix('\'').and_then(|code| code.strip_suffix('\'')).ok_or_else(failed)?;
    let mut values = arguments[1..].iter();
    let mut parts = Vec::new();
    let mut pieces = format.split('%');
    parts.push(format!("'{}'", pieces.next().unwrap_or_default()));
    for piece in pieces {
        let text = piece.strip_prefix(['s', 'v', 'd']).ok_or_else(failed)?;
        parts.push(format!("({})", printed(values.next().ok_or_else(failed)?)));
        parts.push(format!("'{text}'"));
    }
    if values.next().is_some() { Err(failed()) } else { Ok(plain(format!("({})", parts.join(" ~ ")))) }
}
