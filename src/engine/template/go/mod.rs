//! Templates in Go's language (`text/template`), as Ollama's models have them, translated to Jinja, so that one interpreter with its
//! budget and its record of untrusted text renders both.
//!
//! A template with `.Messages` is rendered once for a conversation. One without is rendered once for each turn, with `.System`,
//! `.Prompt` and `.Response`; what follows `.Response` is left out of the last turn, which the model goes on with.

mod expression;
mod lexer;

use std::fmt::Write as _;

use expression::{Context, Dot};
use lexer::{Piece, pieces};

/// A template that cannot be translated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GoTemplateError(String);

impl GoTemplateError {
    fn new(problem: impl Into<String>) -> Self {
        Self(problem.into())
    }
}

/// Deepest nesting of blocks.
const MOST_BLOCKS: usize = 64;
/// Longest template, in bytes.
const MOST_BYTES: usize = 1 << 20;

/// A turn is rendered when a message begins the next one. Messages of the same role in a row are one.
fn turns(turn: &str, last: &str) -> String {
    let reset = "{%- set go.system = '' -%}{%- set go.prompt = '' -%}{%- set go.response = '' -%}";
    let add =
        |name: &str| format!("{{%- set go.{name} = go.{name} ~ ('\\n\\n' if go.{name} else '') ~ go_m['content'] -%}}");
    let (system, prompt, response) = (add("system"), add("prompt"), add("response"));
    format!(
        "{{%- for go_m in messages -%}}\
         {{%- if go_m['role'] == 'system' -%}}{{%- if go.prompt or go.response -%}}{turn}{reset}{{%- endif -%}}{system}\
         {{%- elif go_m['role'] == 'user' -%}}{{%- if go.response -%}}{turn}{reset}{{%- endif -%}}{prompt}\
         {{%- elif go_m['role'] == 'assistant' -%}}{response}{{%- endif -%}}{{%- endfor -%}}{last}"
    )
}

/// All system messages, of a template that is rendered once.
const SYSTEM: &str = "{%- for go_m in messages -%}{%- if go_m['role'] == 'system' -%}\
                      {%- set go.system = go.system ~ ('\\n\\n' if go.system else '') ~ go_m['content'] -%}\
                      {%- endif -%}{%- endfor -%}";

/// The Jinja source of a template in Go's language.
///
/// # Errors
/// When it uses what is not known here: other functions, other fields, templates in templates.
pub fn jinja_of_go(source: &str) -> Result<String, GoTemplateError> {
    if source.len() > MOST_BYTES {
        return Err(GoTemplateError::new(format!("it is longer than {MOST_BYTES} bytes")));
    }
    let mut found = pieces(source)?;
    let has = |found: &[Piece], field: &str| found.iter().any(|piece| piece.names(field));
    let start = "{%- set go = namespace(system='', prompt='', response='') -%}";
    if has(&found, "Messages") {
        let system = if has(&found, "System") { SYSTEM } else { "" };
        return Ok(format!("{start}{system}{}", body(&found, false)?));
    }
    if !has(&found, "Response") {
        found.extend(pieces("{{ .Response }}")?);
    }
    Ok(format!("{start}{}", turns(&body(&found, false)?, &body(&found, true)?)))
}

/// What a block is, as far as its end has to know.
#[derive(Clone, Copy, PartialEq)]
enum Block {
    If,
    With,
    Range,
}

/// A block that is open: how many `if`s its end closes.
struct Open {
    block: Block,
    ends: usize,
    dots: usize,
}

/// The pieces as Jinja. With `cut`, what follows the response is left out.
fn body(pieces: &[Piece], cut: bool) -> Result<String, GoTemplateError> {
    let mut out = String::new();
    let mut context = Context::default();
    let mut open: Vec<Open> = Vec::new();
    let mut is_cut = false;
    for piece in pieces {
        let words = match piece {
            Piece::Text(text) => {
                if !is_cut && !text.is_empty() {
                    let _ = write!(out, "{{{{ {} }}}}", expression::literal(text));
                }
                continue;
            }
            Piece::Action(words) => words,
        };
        match words.keyword() {
            Some("if") => {
                let _ = write!(out, "{{%- if {} -%}}", context.pipe(&words.rest())?.code);
                open.push(Open { block: Block::If, ends: 1, dots: 0 });
            }
            Some("with") => {
                out.push_str(&with(&mut context, &words.rest())?);
                open.push(Open { block: Block::With, ends: 1, dots: 1 });
            }
            Some("range") => {
                out.push_str(&range(&mut context, &words.rest())?);
                open.push(Open { block: Block::Range, ends: 0, dots: 1 });
            }
            Some("else") => {
                let rest = words.rest();
                let last = open.last_mut().ok_or_else(|| GoTemplateError::new("an else without an if"))?;
                out.push_str(&otherwise(&mut context, last, &rest)?);
            }
            Some("end") => {
                let closed = open.pop().ok_or_else(|| GoTemplateError::new("an end without a beginning"))?;
                context.dots.truncate(context.dots.len() - closed.dots);
                out.push_str(&"{%- endif -%}".repeat(closed.ends));
                out.push_str(if closed.block == Block::Range { "{%- endfor -%}" } else { "" });
            }
            Some(word @ ("break" | "continue")) => {
                let _ = write!(out, "{{%- {word} -%}}");
            }
            Some(word) => return Err(GoTemplateError::new(format!("{{{{ {word} }}}} is not supported"))),
            None => {
                let action = context.action(words)?;
                if !is_cut {
                    out.push_str(&action);
                }
                is_cut |= cut && piece.names("Response");
            }
        }
        if open.len() > MOST_BLOCKS {
            return Err(GoTemplateError::new(format!("more than {MOST_BLOCKS} blocks in each other")));
        }
    }
    if open.is_empty() { Ok(out) } else { Err(GoTemplateError::new("an if, with or range without an end")) }
}

fn with(context: &mut Context, words: &lexer::Words) -> Result<String, GoTemplateError> {
    let value = context.pipe(words)?;
    let name = context.new_name();
    context.dots.push(Dot { code: name.clone(), is_object: value.is_object });
    Ok(format!("{{%- set {name} = {} -%}}{{%- if {name} -%}}", value.code))
}

fn range(context: &mut Context, words: &lexer::Words) -> Result<String, GoTemplateError> {
    let (variables, words) = words.declared();
    let value = context.pipe(&words)?;
    let name = context.new_name();
    context.dots.push(Dot { code: name.clone(), is_object: value.is_object });
    let set = |variable: &str, to: &str| format!("{{%- set go.v_{variable} = {to} -%}}");
    if value.is_map {
        let key = format!("{name}_key");
        let sets = match variables.as_slice() {
            [] => String::new(),
            [item] => set(item, &name),
            [first, item, ..] => set(first, &key) + &set(item, &name),
        };
        return Ok(format!("{{%- for {key}, {name} in ({}).items() -%}}{sets}", value.code));
    }
    let sets = match variables.as_slice() {
        [] => String::new(),
        [item] => set(item, &name),
        [index, item, ..] => set(index, "loop.index0") + &set(item, &name),
    };
    Ok(format!("{{%- for {name} in ({} or []) -%}}{sets}", value.code))
}

/// `else`, `else if` and `else with`.
fn otherwise(context: &mut Context, open: &mut Open, rest: &lexer::Words) -> Result<String, GoTemplateError> {
    // In what follows, the dot is again that of outside.
    context.dots.truncate(context.dots.len() - open.dots);
    open.dots = 0;
    match rest.keyword() {
        None if rest.is_empty() => Ok("{%- else -%}".to_owned()),
        Some("if") => {
            open.ends += usize::from(open.block == Block::Range);
            let condition = context.pipe(&rest.rest())?.code;
            let word = if open.block == Block::Range { "else -%}{%- if" } else { "elif" };
            Ok(format!("{{%- {word} {condition} -%}}"))
        }
        Some("with") => {
            open.ends += 1;
            let inner = with(context, &rest.rest())?;
            open.dots = 1;
            Ok(format!("{{%- else -%}}{inner}"))
        }
        _ => Err(GoTemplateError::new("an else with something else than if or with")),
    }
}

#[cfg(test)]
mod tests;
