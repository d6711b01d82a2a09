//! Names of models in Ollama's layout: `[HOST/][NAMESPACE/]MODEL[:TAG]`.

use super::ollama::{HOST, NAMESPACE, TAG, short_name};

/// Longest host, and longest of the other parts, in bytes.
const MOST_HOST: usize = 350;
const MOST_PART: usize = 80;

/// A name under which a model can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelName {
    host: String,
    namespace: String,
    model: String,
    tag: String,
}

impl ModelName {
    /// Parses a name; `None` if it is not one. The parts that are left out are `registry.ollama.ai`, `library` and `latest`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (rest, tag) = match name.rsplit_once(':') {
            Some((rest, tag)) if !tag.contains('/') => (rest, tag),
            _ => (name, TAG),
        };
        let parts: Vec<&str> = rest.split('/').collect();
        let (host, namespace, model) = match parts[..] {
            [model] => (HOST, NAMESPACE, model),
            [namespace, model] => (HOST, namespace, model),
            [host, namespace, model] => (host, namespace, model),
            _ => return None,
        };
        let sound = is_part(host, MOST_HOST, ".:")
            && is_part(namespace, MOST_PART, "")
            && is_part(model, MOST_PART, ".")
            && is_part(tag, MOST_PART, ".");
        let owned = |text: &str| text.to_owned();
        sound.then(|| Self { host: owned(host), namespace: owned(namespace), model: owned(model), tag: owned(tag) })
    }

    /// Host, namespace, model and tag.
    #[must_use]
    pub fn parts(&self) -> [&str; 4] {
        [&self.host, &self.namespace, &self.model, &self.tag]
    }

    /// The shortest name for it.
    #[must_use]
    pub fn short(&self) -> String {
        short_name(self.parts())
    }
}

/// Whether a text can be a part of a name: letters, digits, `_` and, after the first, `-` and the characters of `more`.
fn is_part(text: &str, most: usize, more: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= most
        && text.starts_with(is_word)
        && text.chars().all(|c| is_word(c) || c == '-' || more.contains(c))
        // A host may have a port, which must not be taken for a path of Windows.
        && !text.ends_with(['.', ':'])
}

#[cfg(test)]
mod tests {
    use super::ModelName;

    #[test]
    fn names_have_four_parts() {
        let of = |name: &str| ModelName::parse(name).map(|name| (name.parts().join("|"), name.short()));
        let expected = |parts: &str, short: &str| Some((parts.to_owned(), short.to_owned()));
        assert_eq!(of("mine"), expected("registry.ollama.ai|library|mine|latest", "mine:latest"));
        assert_eq!(of("me/mine:q8"), expected("registry.ollama.ai|me|mine|q8", "me/mine:q8"));
        assert_eq!(of("hf.co/org/re.po:Q4_K_M"), expected("hf.co|org|re.po|Q4_K_M", "hf.co/org/re.po:Q4_K_M"));
        assert_eq!(of("box:5000/a/b"), expected("box:5000|a|b|latest", "box:5000/a/b:latest"));
        for wrong in
            ["", "a/b/c/d", "..", "../x", "a/../b", ".a", "-a", "a b", "a:", ":a", "x.y/a", "/a", "a//b", "a.", "ä"]
        {
            assert_eq!(of(wrong), None, "{wrong}");
        }
        assert_eq!(of(&"a".repeat(81)), None);
    }
}
