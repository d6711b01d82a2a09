//! A model's own chat template, rendered as transformers renders it.
//!
//! Known differences from Python: `%` formats no strings, and dates are told in UTC. Of Markup (`x | safe`): slices and the
//! filters `trim`, `upper`, `lower`, `capitalize`, `center` and `indent` make plain text of it here, and `~` makes Markup of
//! two of them.
//!
//! Templates are written for Python's Jinja: methods of strings, lists and dictionaries, `tojson` as `json.dumps`
//! writes it, `raise_exception`, `strftime_now`, whitespace trimmed around blocks.

use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, State, Value};
use serde_json::{Value as Json, json};

use super::{Error, python_json, python_markup, python_methods, python_source};
use crate::gguf::{Metadata, keys};

/// A message of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// Its text.
    pub content: String,
}

impl Message {
    /// A message.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// What a template is rendered with besides the messages.
#[derive(Clone, Debug, Default)]
pub struct TemplateOptions {
    /// End with the beginning of an answer.
    pub add_generation_prompt: bool,
    /// Further variables (`tools`, `enable_thinking` ...).
    pub variables: serde_json::Map<String, Json>,
    /// The time that templates tell; the present one when there is none. They tell it in UTC.
    pub now: Option<SystemTime>,
}

/// A compiled template.
///
/// ```
/// use gguf::engine::{ChatTemplate, Message, TemplateOptions};
///
/// let source = "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}\n{% endfor %}\
///               {% if add_generation_prompt %}<|assistant|>{% endif %}";
/// let template = ChatTemplate::new(source, "<s>", "</s>")?;
/// let options = TemplateOptions { add_generation_prompt: true, ..TemplateOptions::default() };
/// let prompt = template.render(&[Message::new("user", " Hi ")], &options)?;
/// assert_eq!(prompt, "<|user|>Hi\n<|assistant|>");
/// # Ok::<(), gguf::engine::Error>(())
/// ```
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

/// What models without a template of their own are spoken to in.
const PLAIN: &str = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}\
                     {% if add_generation_prompt %}assistant:{% endif %}";

const NAME: &str = "chat";
/// The variable that holds the time, in seconds since 1970; no template can name it.
const NOW: &str = "now in seconds";

impl ChatTemplate {
    /// The template of a model's metadata; a plain one where it has none.
    ///
    /// # Errors
    /// When it is no valid Jinja.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, Error> {
        let text = |key: &str| metadata.get(key).and_then(crate::gguf::Value::as_str);
        let token = |key: &str| {
            let id = usize::try_from(metadata.get(key)?.as_u64()?).ok()?;
            let tokens = metadata.get(keys::TOKENIZER_TOKENS)?.as_array()?;
            tokens.strs()?.nth(id).map(|text| text.into_owned())
        };
        let template = text(keys::TOKENIZER_CHAT_TEMPLATE).unwrap_or(PLAIN);
        let (bos, eos) = (token(keys::TOKENIZER_BOS_ID), token(keys::TOKENIZER_EOS_ID));
        Self::new(template, &bos.unwrap_or_default(), &eos.unwrap_or_default())
    }

    /// Compiles `template`, in which `bos_token` and `eos_token` stand for these texts.
    ///
    /// # Errors
    /// When it is no valid Jinja.
    pub fn new(template: &str, bos: &str, eos: &str) -> Result<Self, Error> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(|e| failed(&e))?;
        environment.set_syntax(syntax);
        environment.set_unknown_method_callback(python_methods::call);
        environment.set_recursion_limit(200);
        environment.set_fuel(Some(50_000_000));
        environment.add_filter("tojson", python_json::tojson);
        python_markup::add_to(&mut environment);
        environment.add_function("raise_exception", |message: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", strftime_now);
        environment.add_template_owned(NAME, python_source::for_minijinja(template)?).map_err(|e| failed(&e))?;
        Ok(Self { environment, bos: bos.to_owned(), eos: eos.to_owned() })
    }

    /// The conversation as the model reads it.
    ///
    /// # Errors
    /// When the template refuses the conversation, or asks for what this engine does not have.
    pub fn render(&self, messages: &[Message], options: &TemplateOptions) -> Result<String, Error> {
        let messages: Vec<Json> = messages.iter().map(|m| json!({ "role": m.role, "content": m.content })).collect();
        self.render_json(&Json::from(messages), options)
    }

    /// As [`Self::render`], for messages with parts, tool calls and whatever else a template knows.
    ///
    /// # Errors
    /// As [`Self::render`].
    pub fn render_json(&self, messages: &Json, options: &TemplateOptions) -> Result<String, Error> {
        let mut context = options.variables.clone();
        context.insert("messages".into(), messages.clone());
        context.insert("add_generation_prompt".into(), options.add_generation_prompt.into());
        context.insert("bos_token".into(), self.bos.as_str().into());
        context.insert("eos_token".into(), self.eos.as_str().into());
        let now = options.now.unwrap_or_else(SystemTime::now).duration_since(UNIX_EPOCH);
        context.insert(NOW.into(), now.map_or(0, |d| d.as_secs()).into());
        let template = self.environment.get_template(NAME).map_err(|e| failed(&e))?;
        template.render(Value::from(Serde(&context))).map_err(|e| failed(&e))
    }
}

fn failed(error: &minijinja::Error) -> Error {
    let message = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    Error::Template { line: error.line(), message }
}

#[allow(clippy::needless_pass_by_value, reason = "functions take their arguments by value")]
fn strftime_now(state: &State<'_, '_>, format: String) -> String {
    let seconds = state.lookup(NOW).and_then(|seconds| i64::try_from(seconds).ok());
    strftime(&format, seconds.unwrap_or(0))
}

/// The parts of C's `strftime` that templates use, in UTC.
fn strftime(format: &str, seconds: i64) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let weekday = DAYS[usize::try_from(days.rem_euclid(7)).unwrap_or(0)];
    let name = MONTHS[usize::try_from(month - 1).unwrap_or(0)];
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut kind = chars.next();
        let plain = kind == Some('-');
        if plain {
            kind = chars.next();
        }
        let number = |n: i64| if plain { n.to_string() } else { format!("{n:02}") };
        match kind {
            Some('Y') => out.push_str(&year.to_string()),
            Some('y') => out.push_str(&number(year.rem_euclid(100))),
            Some('m') => out.push_str(&number(month)),
            Some('d') => out.push_str(&number(day)),
            Some('H') => out.push_str(&number(second / 3600)),
            Some('I') => out.push_str(&number((second / 3600 + 11) % 12 + 1)),
            Some('p') => out.push_str(if second < 43_200 { "AM" } else { "PM" }),
            Some('j') => out.push_str(&format!("{:03}", days - days_before(year) + 1)),
            Some('M') => out.push_str(&number(second / 60 % 60)),
            Some('S') => out.push_str(&number(second % 60)),
            Some('B') => out.push_str(name),
            Some('b') => out.push_str(&name[..3]),
            Some('A') => out.push_str(weekday),
            Some('a') => out.push_str(&weekday[..3]),
            Some('F') => out.push_str(&format!("{year}-{month:02}-{day:02}")),
            Some(other) => out.extend((other != '%').then_some('%').into_iter().chain([other])),
            None => out.push('%'),
        }
    }
    out
}

/// Days from 1970-01-01 to the first of January of `year`.
fn days_before(year: i64) -> i64 {
    let last = year - 1;
    last * 365 + last.div_euclid(4) - last.div_euclid(100) + last.div_euclid(400) - 719_162
}

/// Year, month and day of a number of days since 1970-01-01 (Howard Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str, options: &TemplateOptions) -> Result<String, Error> {
        let messages = [Message::new("system", "Be brief."), Message::new("user", "Hi\n")];
        ChatTemplate::new(template, "<s>", "</s>").and_then(|t| t.render(&messages, options))
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
        let error = render("\n{{ raise_exception('only users') }}", &TemplateOptions::default()).expect_err("refuses");
        assert_eq!(error.to_string(), "chat template line 2: only users");
        assert!(render("{% if %}", &TemplateOptions::default()).is_err());
        let error = render("{{ 'a' | safe }}\n{{ 'a' + 1 }}", &TemplateOptions::default()).expect_err("not in Python");
        assert!(error.to_string().starts_with("chat template line 2: tried to use + operator"), "{error}");
        assert!(render("{{ 'a'.ljust(10 ** 15) }}", &TemplateOptions::default()).is_err());
    }

    #[test]
    fn dates() {
        assert_eq!(strftime("%d %b %Y, %A %H:%M:%S %-m", 1_732_380_645), "23 Nov 2024, Saturday 16:50:45 11");
        assert_eq!(strftime("%I:%M %p %j", 1_732_380_645), "04:50 PM 328");
        assert_eq!(strftime("%I %p %j", 0), "12 AM 001");
        assert_eq!(civil(-1), (1969, 12, 31));
    }
}
