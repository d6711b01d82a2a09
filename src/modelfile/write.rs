//! Writes the Modelfile of a model.

use std::fmt::Write as _;

use serde_json::Value as Json;

use super::parameters::pairs;
use crate::stores::Located;

/// The recipe that makes a model like this one. Without paths, it is made from the model's name, and adapters from names of blobs.
#[must_use]
pub fn modelfile_of(located: &Located, with_paths: bool) -> String {
    let mut text = format!(
        "# Modelfile of {0}, as `gguf show` writes it.\n# To make another one of it, let FROM name the model:\n# FROM {0}\n\n",
        located.name
    );
    let layers = &located.layers;
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name} {}", quoted(value));
    };
    let path = located.path.to_string_lossy();
    line("FROM", if with_paths { &path } else { &located.name });
    for adapter in &layers.adapters {
        let shown = if with_paths { adapter.as_os_str() } else { adapter.file_name().unwrap_or_default() };
        line("ADAPTER", &shown.to_string_lossy());
    }
    layers.template.iter().for_each(|template| line("TEMPLATE", template));
    layers.system.iter().for_each(|system| line("SYSTEM", system));
    let parameters = layers.parameters.as_ref().unwrap_or(&Json::Null);
    pairs(parameters).iter().for_each(|(name, value)| line(&format!("PARAMETER {name}"), value));
    layers.messages.iter().for_each(|(role, text)| line(&format!("MESSAGE {role}"), text));
    located.layer_texts("license").iter().for_each(|license| line("LICENSE", license));
    text
}

/// A value as it can be read again: in quotes where it has lines, or begins or ends with a space or with quotes.
fn quoted(value: &str) -> String {
    let is_plain = !value.contains('\n') && value.trim() == value && !value.starts_with('"') && !value.is_empty();
    match value {
        _ if is_plain => value.to_owned(),
        _ if value.contains('"') => format!("\"\"\"{value}\"\"\""),
        _ => format!("\"{value}\""),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::json;

    use super::super::Modelfile;
    use super::modelfile_of;
    use crate::stores::{Layers, Located, Store};

    #[test]
    fn what_is_written_is_read_again() {
        let layers = Layers {
            template: Some("{{ if .System }}<s>\n{{ .System }}{{ end }}{{ .Prompt }}".into()),
            system: Some(" say \"hi\"\nand go ".into()),
            parameters: Some(json!({ "stop": ["<end>", " ", "\"", "a b"], "temperature": 0.5, "num_ctx": 4096 })),
            messages: vec![("user".into(), "Hello".into()), ("assistant".into(), "Two\nlines".into())],
            adapters: vec![PathBuf::from("/a b/c.gguf")],
            ..Layers::default()
        };
        let located = Located {
            name: "mine:latest".into(),
            path: PathBuf::from("/blobs/sha256-1"),
            store: Store::Ollama,
            layers: layers.clone(),
            manifest: None,
        };
        let text = modelfile_of(&located, true);
        let read = Modelfile::parse(&text).expect("a recipe");
        assert_eq!((read.from, read.adapters), (vec!["/blobs/sha256-1".to_owned()], vec!["/a b/c.gguf".to_owned()]));
        assert_eq!((read.additions.template, read.additions.system), (layers.template, layers.system));
        assert_eq!(Some(serde_json::Value::Object(read.additions.parameters)), layers.parameters);
        assert_eq!(read.additions.messages, layers.messages);
    }
}
