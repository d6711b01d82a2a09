//! The front matter of a model card (`README.md`): the few forms of YAML that cards use.

use super::model_name::Parts;

/// Keys with one or several values.
#[derive(Debug, Default)]
pub(super) struct ModelCard {
    entries: Vec<(String, Vec<String>)>,
}

impl ModelCard {
    /// Reads the lines between the first two `---`. What is nested deeper than a list is passed over.
    pub(super) fn parse(text: &str) -> Self {
        let mut lines = text.lines();
        if lines.next() != Some("---") {
            return Self::default();
        }
        let mut entries: Vec<(String, Vec<String>)> = Vec::new();
        for line in lines.take_while(|line| *line != "---") {
            let trimmed = line.trim();
            if let Some(item) = trimmed.strip_prefix("- ") {
                let indented_map = item.contains(": ") && !item.starts_with(['"', '\'']);
                if let (Some((_, values)), false) = (entries.last_mut(), indented_map) {
                    values.push(unquoted(item));
                }
            } else if !line.starts_with(char::is_whitespace) && !trimmed.starts_with('#') {
                let Some((key, value)) = trimmed.split_once(':') else { continue };
                let value = value.trim();
                let values = match value.strip_prefix('[').and_then(|list| list.strip_suffix(']')) {
                    Some(list) => list.split(',').map(unquoted).filter(|item| !item.is_empty()).collect(),
                    None if value.is_empty() => Vec::new(),
                    None => vec![unquoted(value)],
                };
                entries.push((key.to_owned(), values));
            }
        }
        Self { entries }
    }

    /// All values of `key`.
    pub(super) fn list(&self, key: &str) -> Vec<&str> {
        let values = self.entries.iter().filter(|(name, _)| name == key).flat_map(|(_, values)| values);
        values.map(String::as_str).collect()
    }

    /// The value of `key`; several are joined by commas.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.entries
            .iter()
            .find(|(name, values)| name == key && !values.is_empty())
            .map(|(_, values)| values[0].as_str())
    }

    /// The parts of the model's name that the card gives.
    pub(super) fn parts(&self) -> Parts {
        let either = |a: &str, b: &str| self.get(a).or_else(|| self.get(b)).map(str::to_owned);
        Parts {
            name: either("name", "model_name"),
            author: either("author", "model_author").or_else(|| either("model_creator", "model_creator")),
            version: either("version", "model_version"),
            organization: either("organization", "model_organization"),
            finetune: either("finetune", "model_finetune"),
            basename: either("basename", "model_basename").or_else(|| either("model_type", "model_type")),
            size_label: either("size_label", "model_size_label"),
        }
    }
}

fn unquoted(value: &str) -> String {
    let value = value.trim();
    let inner = ['"', '\''].iter().find_map(|&quote| value.strip_prefix(quote)?.strip_suffix(quote));
    inner.unwrap_or(value).to_owned()
}

#[cfg(test)]
mod tests {
    use super::ModelCard;

    #[test]
    fn cards_as_the_hub_has_them() {
        let card = ModelCard::parse(
            "---\nlicense: apache-2.0\nlanguage:\n- en\n- \"no\"\ntags: [text-generation, 'a b']\nbase_model:\n  - meta/X-1B\n\
             model-index:\n- name: y\n  results:\n  - task: 1\n---\nname: not here\n",
        );
        assert_eq!(card.get("license"), Some("apache-2.0"));
        assert_eq!(card.list("language"), ["en", "no"]);
        assert_eq!(card.list("tags"), ["text-generation", "a b"]);
        assert_eq!(card.list("base_model"), ["meta/X-1B"]);
        assert_eq!(card.get("name"), None);
        assert!(ModelCard::parse("# Title\n").list("a").is_empty());
    }
}
