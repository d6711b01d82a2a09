//! Reads a Modelfile: instructions with their arguments, one a line, of which texts may be quoted and span lines.

use super::{Additions, Error, parse_parameter};

/// A recipe of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Modelfile {
    /// What it is made from: a name, or a path; further ones are projectors.
    pub from: Vec<String>,
    /// Files of adapters.
    pub adapters: Vec<String>,
    /// What it adds to that: texts, messages, settings.
    pub additions: Additions,
    /// Instructions that were left out, with the reason.
    pub left_out: Vec<String>,
}

/// Instructions whose values the configuration of a model keeps for Ollama.
const FOR_OLLAMA: [&str; 3] = ["renderer", "parser", "requires"];

impl Modelfile {
    /// Parses a recipe.
    ///
    /// # Errors
    /// When a line makes no sense, or nothing says what the model is made from.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut recipe = Self::default();
        let mut lines = Lines::new(text.strip_prefix('\u{feff}').unwrap_or(text));
        while let Some((line, number)) = lines.next() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let at = |error: Error| match error {
                error @ Error::Line { .. } => error,
                error => Error::Line { line: number, problem: error.to_string() },
            };
            recipe.instruction(line, number, &mut lines).map_err(at)?;
        }
        if recipe.from.is_empty() { Err(Error::NoBase) } else { Ok(recipe) }
    }

    fn instruction(&mut self, line: &str, number: usize, lines: &mut Lines<'_>) -> Result<(), Error> {
        let failed = |problem: String| Error::Line { line: number, problem };
        let (word, rest) = first_word(line);
        let mut value = |rest: &str| lines.value(rest, number);
        match word.to_ascii_lowercase().as_str() {
            "from" => self.from.push(value(rest)?),
            "adapter" => self.adapters.push(value(rest)?),
            "template" => self.additions.template = Some(value(rest)?),
            "system" => self.additions.system = Some(value(rest)?),
            "license" => self.additions.licenses.push(value(rest)?),
            "parameter" => {
                let (name, rest) = first_word(rest);
                let value = value(rest)?;
                if !parse_parameter(&mut self.additions.parameters, name, &value)? {
                    self.left_out.push(format!("PARAMETER {name} (Ollama has it no more)"));
                }
            }
            "message" => {
                let (role, rest) = first_word(rest);
                if !matches!(role, "system" | "user" | "assistant") {
                    return Err(failed(format!("MESSAGE {role}: a role is system, user or assistant")));
                }
                let text = value(rest)?;
                self.additions.messages.push((role.to_owned(), text));
            }
            "draft" => {
                value(rest)?;
                self.left_out.push("DRAFT (--draft names a draft model)".to_owned());
            }
            other => match FOR_OLLAMA.iter().find(|known| **known == other) {
                Some(known) => {
                    let value = value(rest)?;
                    self.additions.for_ollama.retain(|(name, _)| name != known);
                    self.additions.for_ollama.push((known, value));
                }
                None => {
                    let known = "FROM, PARAMETER, TEMPLATE, SYSTEM, ADAPTER, LICENSE, MESSAGE";
                    return Err(failed(format!("{word} is no instruction: there are {known}")));
                }
            },
        }
        Ok(())
    }
}

/// The first word of a text, and the rest.
fn first_word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// The lines of a text with their numbers.
struct Lines<'t> {
    lines: std::str::Split<'t, char>,
    number: usize,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Self {
        Self { lines: text.split('\n'), number: 0 }
    }

    fn next(&mut self) -> Option<(&'t str, usize)> {
        let line = self.lines.next()?;
        self.number += 1;
        Some((line.strip_suffix('\r').unwrap_or(line), self.number))
    }

    /// A value, which begins with the rest of a line. In quotes (one, or three) it goes on until a line ends with them.
    fn value(&mut self, rest: &str, number: usize) -> Result<String, Error> {
        let failed = |problem: &str| Error::Line { line: number, problem: problem.to_owned() };
        let quotes = ["\"\"\"", "\""].into_iter().find(|quotes| rest.starts_with(quotes));
        let Some(quotes) = quotes else {
            let value = rest.trim();
            return if value.is_empty() { Err(failed("a value is missing")) } else { Ok(value.to_owned()) };
        };
        let mut text = rest.to_owned();
        while !(text.trim_end().len() >= 2 * quotes.len() && text.trim_end().ends_with(quotes)) {
            let (line, _) = self.next().ok_or_else(|| failed("quotes are opened, and not closed"))?;
            text.push('\n');
            text.push_str(line);
        }
        let text = text.trim_end();
        Ok(text[quotes.len()..text.len() - quotes.len()].to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::Modelfile;

    #[test]
    fn values_are_bare_or_quoted() {
        let text = "\u{feff}FROM  a b.gguf \r\n  system \"one\ntwo\"\r\n# FROM c\nTEMPLATE \"\"\"a \"b\"\n\"\"\"\n\
                    PARAMETER stop \"x \"\nPARAMETER STOP y\nmessage user hi there\nREQUIRES 0.14.0\nrequires 0.15.0\nDRAFT d";
        let recipe = Modelfile::parse(text).expect("a recipe");
        assert_eq!(recipe.from, ["a b.gguf"]);
        assert_eq!(
            (recipe.additions.system.as_deref(), recipe.additions.template.as_deref()),
            (Some("one\ntwo"), Some("a \"b\"\n"))
        );
        assert_eq!(recipe.additions.parameters["stop"], serde_json::json!(["x ", "y"]));
        assert_eq!(recipe.additions.messages, [("user".to_owned(), "hi there".to_owned())]);
        assert_eq!(recipe.additions.for_ollama, [("requires", "0.15.0".to_owned())]);
        assert_eq!(recipe.left_out.len(), 1);
    }
}
