//! Renders a model's chat template like transformers: Python's Jinja with methods of strings, lists and dictionaries, `tojson` like
//! `json.dumps`, `raise_exception`, `strftime_now`, and white space trimmed around blocks.
//!
//! The interpreter is our own, for two reasons. A template is an untrusted program: every operation is deducted from a budget
//! before it is done, so that no template exceeds its time, memory or stack. And texts track which of their parts are from
//! messages, tools and documents (untrusted): these never become control tokens.
//!
//! Known differences from Python: dates are in UTC; `recursive` loops, `include`, `import` and `extends` are refused; integers
//! have 64 bits.

mod builtin;
pub(crate) mod dates;
mod eval;
mod filters;
mod go;
mod json;
mod lexer;
mod method_names;
mod methods;
mod ops;
mod parser;
mod text;
mod value;

use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value as Json, json};

use super::{Error, ToolCall};
use crate::gguf::{Metadata, keys};
use crate::tokenizer::Tokenizer;
pub use builtin::{builtin_template, builtin_template_names};
pub use go::{GoTemplateError, jinja_of_go};
use value::Value;

/// A message of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// Its text.
    pub content: String,
    /// The thinking of an assistant before it.
    pub reasoning: Option<String>,
    /// The calls of an assistant, each with its id.
    pub calls: Vec<(String, ToolCall)>,
    /// For the result of a tool: the id of the call, and the tool's name.
    pub result_of: Option<(String, String)>,
}

impl Message {
    /// A message.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into(), reasoning: None, calls: Vec::new(), result_of: None }
    }

    pub(super) fn to_json(&self) -> Json {
        let mut message = json!({ "role": self.role, "content": self.content });
        if let Some(reasoning) = &self.reasoning {
            message["reasoning_content"] = reasoning.as_str().into();
        }
        if !self.calls.is_empty() {
            let call = |(id, call): &(String, ToolCall)| {
                // Templates expect objects; other arguments remain text.
                let arguments: Json =
                    serde_json::from_str(&call.arguments).unwrap_or_else(|_| call.arguments.as_str().into());
                json!({ "id": id, "type": "function", "function": { "name": call.name, "arguments": arguments } })
            };
            message["tool_calls"] = self.calls.iter().map(call).collect();
        }
        if let Some((id, name)) = &self.result_of {
            message["tool_call_id"] = id.as_str().into();
            message["name"] = name.as_str().into();
        }
        message
    }
}

/// Messages as template values. All their texts are untrusted, except for roles that are plain words, from which templates build
/// markers (`<|user|>`).
fn spoken(messages: &Json) -> Result<Value, value::TooDeep> {
    let Json::Array(messages) = messages else { return Value::from_json(messages, true) };
    let is_word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    let entry = |(key, item): (&String, &Json)| match item {
        Json::String(role) if key == "role" && is_word(role) => {
            Ok((Value::str(key.as_str()), Value::str(role.as_str())))
        }
        _ => Ok((Value::str(key.as_str()), Value::from_json(item, true)?)),
    };
    let message = |message: &Json| match message {
        Json::Object(map) => Value::dict(map.iter().map(entry).collect::<Result<_, _>>()?),
        other => Value::from_json(other, true),
    };
    Value::list(messages.iter().map(message).collect::<Result<_, _>>()?)
}

/// Options of rendering.
#[derive(Clone, Debug, Default)]
pub struct TemplateOptions {
    /// Whether the prompt ends with the start of an answer.
    pub add_generation_prompt: bool,
    /// Further variables (`tools`, `enable_thinking` ...).
    pub variables: serde_json::Map<String, Json>,
    /// The time for templates, which is shown in UTC; the current time when `None`.
    pub now: Option<SystemTime>,
}

/// A rendered conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The prompt.
    pub text: String,
    /// Byte ranges of it that are from messages, tools and documents, sorted and disjoint: no control tokens are recognized there.
    pub untrusted: Vec<Range<usize>>,
}

impl Rendered {
    /// Its tokens. Untrusted text is never a control token, even if it spells one out.
    ///
    /// # Errors
    /// When the vocabulary has no token for one of its bytes.
    pub fn tokens(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>, Error> {
        let mut tokens = tokenizer.encode_marked(&self.text, &self.untrusted, true)?;
        // If the template writes BOS itself, it must not be added again.
        let bos = tokenizer.vocab().special.bos;
        if tokens.len() > 1 && bos == Some(tokens[0]) && bos == Some(tokens[1]) {
            tokens.remove(0);
        }
        Ok(tokens)
    }
}

/// A compiled template.
///
/// ```
/// use gguf_toolkit::engine::{ChatTemplate, Message, TemplateOptions};
///
/// let source = "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}\n{% endfor %}\
///               {% if add_generation_prompt %}<|assistant|>{% endif %}";
/// let template = ChatTemplate::new(source, "<s>", "</s>")?;
/// let options = TemplateOptions { add_generation_prompt: true, ..TemplateOptions::default() };
/// let prompt = template.render(&[Message::new("user", " Hi ")], &options)?;
/// assert_eq!(prompt, "<|user|>Hi\n<|assistant|>");
/// # Ok::<(), gguf_toolkit::engine::Error>(())
/// ```
pub struct ChatTemplate {
    source: String,
    nodes: Vec<parser::Node>,
    bos: String,
    eos: String,
}

/// The template for models without one, whose texts are continued.
const PLAIN: &str =
    "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'system' %}{{ '\\n' }}{% endif %}{% endfor %}";

/// The fixed part of the budget: steps, and bytes of texts and lists.
const STEPS: u64 = 5_000_000;
const BYTES: u64 = 32 << 20;
/// Stack size for rendering: more than the deepest nesting needs, even without optimization.
const STACK: usize = 32 << 20;
/// The part of the budget for each byte of the conversation.
const STEPS_PER_BYTE: u64 = 16;
const BYTES_PER_BYTE: u64 = 64;

/// An error in a template.
#[derive(Debug)]
struct Fault {
    line: usize,
    message: String,
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Template { line: Some(fault.line), message: fault.message }
    }
}

impl ChatTemplate {
    /// The template of a model's metadata; a plain one if it has none.
    ///
    /// # Errors
    /// When it is not valid Jinja.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, Error> {
        let own = metadata.get(keys::TOKENIZER_CHAT_TEMPLATE).and_then(crate::gguf::Value::as_str);
        Self::with_tokens_of(own.unwrap_or(PLAIN), metadata)
    }

    /// Compiles `template` with BOS and EOS of the model of `metadata`.
    ///
    /// # Errors
    /// When it is not valid Jinja.
    pub fn with_tokens_of(template: &str, metadata: &Metadata) -> Result<Self, Error> {
        let token = |key: &str| {
            let id = usize::try_from(metadata.get(key)?.as_u64()?).ok()?;
            let tokens = metadata.get(keys::TOKENIZER_TOKENS)?.as_array()?;
            tokens.strs()?.nth(id).map(|text| text.into_owned())
        };
        let (bos, eos) = (token(keys::TOKENIZER_BOS_ID), token(keys::TOKENIZER_EOS_ID));
        Self::new(template, &bos.unwrap_or_default(), &eos.unwrap_or_default())
    }

    /// Compiles `template` with these texts for `bos_token` and `eos_token`.
    ///
    /// # Errors
    /// When it is not valid Jinja, or nests too deeply.
    pub fn new(template: &str, bos: &str, eos: &str) -> Result<Self, Error> {
        let nodes = parser::parse(template)?;
        Ok(Self { source: template.to_owned(), nodes, bos: bos.to_owned(), eos: eos.to_owned() })
    }

    /// Its source.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders a conversation.
    ///
    /// # Errors
    /// When the template refuses the conversation, uses unsupported features, or exceeds its budget of time or memory.
    pub fn render(&self, messages: &[Message], options: &TemplateOptions) -> Result<String, Error> {
        Ok(self.render_marked(messages, options)?.text)
    }

    /// As [`Self::render`], with the untrusted ranges.
    ///
    /// # Errors
    /// As [`Self::render`].
    pub fn render_marked(&self, messages: &[Message], options: &TemplateOptions) -> Result<Rendered, Error> {
        self.render_json(&messages.iter().map(Message::to_json).collect(), options)
    }

    /// As [`Self::render_marked`], for messages in JSON with parts, tool calls and other fields.
    ///
    /// # Errors
    /// As [`Self::render`].
    pub fn render_json(&self, messages: &Json, options: &TemplateOptions) -> Result<Rendered, Error> {
        // The limits of nesting are for this stack, not for that of the caller.
        let failed = |message: String| Error::Template { line: None, message };
        std::thread::scope(|scope| {
            let run = || self.run(messages, options);
            let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, run);
            let thread = thread.map_err(|error| failed(format!("no thread to render it: {error}")))?;
            thread.join().unwrap_or_else(|_| Err(failed("the interpreter panicked".to_owned())))
        })
    }

    fn run(&self, messages: &Json, options: &TemplateOptions) -> Result<Rendered, Error> {
        let size = text_bytes(messages) + options.variables.values().map(text_bytes).sum::<u64>();
        let budget = ops::Budget { steps: STEPS + STEPS_PER_BYTE * size, bytes: BYTES + BYTES_PER_BYTE * size };
        let deep = |value::TooDeep| Error::Template { line: None, message: "messages that nest too deeply".to_owned() };
        let mut variables = Vec::new();
        for (name, json) in &options.variables {
            let untrusted = matches!(name.as_str(), "tools" | "documents" | "functions");
            variables.push((name.clone(), Value::from_json(json, untrusted).map_err(deep)?));
        }
        let own = [
            ("messages", spoken(messages).map_err(deep)?),
            ("add_generation_prompt", Value::Bool(options.add_generation_prompt)),
            ("bos_token", Value::str(self.bos.as_str())),
            ("eos_token", Value::str(self.eos.as_str())),
        ];
        variables.extend(own.map(|(name, value)| (name.to_owned(), value)));
        let now = options.now.unwrap_or_else(SystemTime::now).duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        let (text, untrusted) = eval::Vm::new(variables, &budget, now).run(&self.nodes)?;
        Ok(Rendered { text, untrusted: untrusted.into_iter().map(|(start, end)| start..end).collect() })
    }
}

/// Approximate size of a value in bytes of JSON.
fn text_bytes(json: &Json) -> u64 {
    match json {
        Json::String(text) => text.len() as u64,
        Json::Array(items) => items.iter().map(|item| 8 + text_bytes(item)).sum(),
        Json::Object(map) => map.iter().map(|(key, item)| 8 + key.len() as u64 + text_bytes(item)).sum(),
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str, options: &TemplateOptions) -> Result<String, Error> {
        let messages = [Message::new("system", "Be brief."), Message::new("user", "Hi\n")];
        ChatTemplate::new(template, "<s>", "</s>").and_then(|t| t.render(&messages, options))
    }

    fn refused(template: &str) -> String {
        render(template, &TemplateOptions::default()).expect_err("refused").to_string()
    }

    #[test]
    fn templates_render_as_in_python() {
        let prompt = TemplateOptions { add_generation_prompt: true, ..TemplateOptions::default() };
        let template = "{{ bos_token }}{% for m in messages %}\n  {% if m.role == 'user' %}\n[{{ m['content'].strip() }}]\n  \
                        {% endif %}\n{% endfor %}{% if add_generation_prompt %}>{% endif %}";
        assert_eq!(render(template, &prompt).expect("renders"), "<s>[Hi]\n>");
        let template = "{% generation %}a{% endgeneration %}{{ messages[-1].content.split('i')[0].upper() }}";
        assert_eq!(render(template, &prompt).expect("renders"), "aH");
    }

    #[test]
    fn json_is_written_as_python_writes_it() {
        let mut options = TemplateOptions::default();
        options.variables.insert("tools".into(), json!([{ "b": 1, "a": "é\"" }, []]));
        assert_eq!(render("{{ tools | tojson }}", &options).expect("renders"), r#"[{"b": 1, "a": "é\""}, []]"#);
        let indented = render("{{ tools[0] | tojson(indent=2) }}", &options).expect("renders");
        assert_eq!(indented, "{\n  \"b\": 1,\n  \"a\": \"é\\\"\"\n}");
    }

    #[test]
    fn a_template_can_refuse() {
        assert_eq!(refused("\n{{ raise_exception('only users') }}"), "chat template line 2: only users");
        assert!(refused("{% if %}").starts_with("chat template line 1: "));
        let error = refused("{{ 'a' | safe }}\n{{ 'a' + 1 }}");
        assert!(error.starts_with("chat template line 2: tried to use + operator"), "{error}");
    }

    #[test]
    fn what_was_said_is_known_wherever_it_goes() {
        let options = TemplateOptions { add_generation_prompt: true, ..TemplateOptions::default() };
        let untrusted = |template: &str| {
            let messages = [Message::new("user", " <a>b<c> ")];
            let rendered = ChatTemplate::new(template, "<s>", "</s>")
                .and_then(|t| t.render_marked(&messages, &options))
                .expect("renders");
            rendered.untrusted.iter().map(|range| rendered.text[range.clone()].to_owned()).collect::<Vec<_>>()
        };
        for (template, expected) in [
            ("<s>{{ messages[0].content }}</s>", " <a>b<c> "),
            ("{{ '<s>' + messages[0]['content'] | trim + '</s>' }}", "<a>b<c>"),
            ("{% set x = '<s>' ~ messages[0].content[1:4] %}{{ x ~ '</s>' }}", "<a>"),
            ("{{ messages[0].content.split('b')[-1].strip() }}<s>", "<c>"),
            ("{% macro f(x) %}<s>{{ x }}{% endmacro %}{{ f(messages[0].content.upper()) }}", " <A>B<C> "),
            ("{{ ['<s>', messages[0].content.replace('b', '<s>')] | join('-') }}", " <a>"),
            ("<s>{{ (' ' ~ messages[0].content.strip()) | indent }}", "<a>b<c>"),
        ] {
            assert_eq!(untrusted(template).first().map(String::as_str), Some(expected), "{template}");
        }
        assert_eq!(untrusted("{{ messages[0].content | trim | tojson }}"), ["\"<a>b<c>\""]);
        assert_eq!(untrusted("{{ messages | length }}<s>{{ bos_token }}"), [""; 0]);
        // Templates build markers from roles.
        assert_eq!(untrusted("{{ '<|' + messages[0].role + '|>' }}"), [""; 0]);
    }

    /// Each of these would take minutes, gigabytes, or the whole stack.
    #[test]
    fn no_template_takes_more_than_it_is_given() {
        let grow = |step: &str, end: &str| {
            let step = format!("{{% for i in range(100000) %}}{step}{{% endfor %}}");
            format!("{{% set ns = namespace(x=[1], y=[1], s='aaaaaaaaaa') %}}{step}{{{{ {end} }}}}")
        };
        let nest = "{% set ns.x = [ns.x] %}{% set ns.y = [ns.y] %}";
        let twice = "{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}";
        let mut templates = vec![
            grow("{% set ns.s = ns.s ~ ns.s %}", "ns.s | length"),
            grow("{% set ns.x = ns.x + ns.x %}", "ns.x | length"),
            grow("{% set ns.x = ns.x + [i] %}", "ns.x | length"),
            grow("{% set ns.x = {'a': ns.x} %}", "ns.x | tojson"),
            grow("{{ 'a' * 10000 }}", "1"),
            grow("{% set y = range(1000) | list | tojson %}", "1"),
            "{{ (['a'] * 3000) | join('b' * 1000000) | length }}".to_owned(),
            "{{ '%1000000000d' | format(1) }}".to_owned(),
            "{{ '%.1000000000f' | format(1) }}".to_owned(),
            "{{ '{:1000000000}'.format(1) }}".to_owned(),
            "{{ [1] | tojson(indent=3000000000) }}".to_owned(),
            "{{ 'a'.ljust(10 ** 15) }}{{ 'a'.center(3000000000) }}".to_owned(),
            "{{ 'a' | indent(1000000000) | length }}".to_owned(),
            "{{ [1] | batch(1000000000, 0) | list }}".to_owned(),
            "{{ ('a' * 1000000) | list | length }}{{ ('a' * 9000000).split('a') | length }}".to_owned(),
            "{{ 10 ** 1000 }}".to_owned(),
            "{{ range(1000000000) }}".to_owned(),
            "{% set ns = namespace(x=1) %}{% set ns.x = ns %}{{ ns }}".to_owned(),
            "{% set ns = namespace(x=1) %}{% set ns.x = [[ns]] %}{{ ns | tojson }}".to_owned(),
            "{% set a = namespace() %}{% set b = namespace(a=a) %}{% set a.b = b %}{{ a == b }}{{ a }}".to_owned(),
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".to_owned(),
            "{% macro f() %}{% if true %}{{ (((f()))) + 'a' }}{% endif %}{% endmacro %}{{ f() }}".to_owned(),
        ];
        for end in ["ns.x", "ns.x | tojson", "ns.x == ns.y", "[ns.x, ns.y] | sort", "{(ns.x,): 1}", "ns.x | string"] {
            templates.push(grow(nest, end));
            templates.push(grow(twice, end));
        }
        for template in templates {
            let error = refused(&template);
            assert!(error.starts_with("chat template line 1: "), "{template}: {error}");
        }
        let doubled =
            "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(60) %}".to_owned() + twice + "{% endfor %}";
        for end in [
            "{{ ns.x == ns.y }}",
            "{{ ns.x | string | length }}",
            "{{ ns.x | tojson }}",
            "{{ [ns.x] | unique }}{{ ns.x }}",
        ] {
            assert!(
                refused(&(doubled.clone() + end)).contains("takes too many steps")
                    || refused(&(doubled.clone() + end)).contains("too long")
            );
        }
    }

    #[test]
    fn what_nests_too_deeply_is_refused() {
        let many = |text: &str| text.repeat(300_000);
        let deep = [
            format!("\n{{{{ a{} }}}}", many("+a")),
            format!("\n{{{{ a{} }}}}", many("|f")),
            format!("\n{{{{ a{} }}}}", many(".a")),
            format!("\n{{{{ {}a{} }}}}", many("("), many(")")),
            format!("\n{{{{ {}a }}}}", many("- ")),
            format!("\n{{{{ {}a }}}}", many("not ")),
            format!("\n{{{{ {}1{} }}}}", many("["), many("]")),
            format!("\n{}", many("{% if a %}")),
            format!("\n{}", many("{% for a in b %}")),
        ];
        for template in deep {
            let message = refused(&template);
            assert!(message.starts_with("chat template line 2: "), "{message}");
        }
        // Long, but not nested.
        let flat = format!("{{{{ [{}] | length }}}}{}", "'a', ".repeat(3000), "{{ 'a'+'b' }}".repeat(3000));
        assert!(render(&flat, &TemplateOptions::default()).is_ok());
        let elifs = format!("{{% if false %}}{}{{% endif %}}", "{% elif false %}".repeat(3000));
        assert_eq!(render(&elifs, &TemplateOptions::default()).expect("flat"), "");
        // The maximum nesting, on the stack of a thread.
        let sum = format!("{{{{ 'a'{} }}}}", "+'a'".repeat(480));
        assert_eq!(render(&sum, &TemplateOptions::default()).expect("renders").len(), 481);
        let blocks = format!("{}x{}", "{% if true %}".repeat(90), "{% endif %}".repeat(90));
        assert_eq!(render(&blocks, &TemplateOptions::default()).expect("renders"), "x");
    }
}
