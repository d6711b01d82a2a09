//! The `general.*` keys from a folder: recommended sampling, name, size, license.
//!
//! What is derived from a name follows llama.cpp's `gguf-py/gguf/metadata.py`.

use serde_json::Value as Json;

use super::model_card::{ModelCard, Yaml};
use super::{Error, Folder, model_name};
use crate::gguf::{Array, Metadata, TensorSpec, Value, keys};

/// Adds the keys that come before most of the architecture's own. `name` replaces the model's name.
pub(super) fn write(
    folder: &Folder,
    name: Option<&str>,
    tensors: &[TensorSpec],
    metadata: &mut Metadata,
) -> Result<(), Error> {
    metadata.set(keys::GENERAL_TYPE, "model");
    sampling(folder, metadata);
    let card = ModelCard::parse(&folder.text("README.md")?.unwrap_or_default());
    let config = folder.json("config.json")?.unwrap_or_default();
    let counts = Counts::of(tensors);
    let mut parts = card.parts();
    let hub = config.get("_name_or_path").and_then(Json::as_str).filter(|id| id.matches('/').count() <= 1);
    for id in hub.into_iter().chain([folder.name().as_str()]) {
        parts.fill_from(&model_name::parse(id, counts.total));
    }
    let text = |metadata: &mut Metadata, key: &str, value: Option<&str>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            metadata.set(format!("general.{key}"), value);
        }
    };
    let folder_name = folder.name();
    text(metadata, "name", name.or(parts.name.as_deref()).or(Some(&folder_name)));
    text(metadata, "author", parts.author.as_deref());
    text(metadata, "version", parts.version.as_deref());
    text(metadata, "organization", parts.organization.as_deref());
    text(metadata, "finetune", parts.finetune.as_deref());
    text(metadata, "basename", parts.basename.as_deref());
    text(metadata, "description", card.text(&["description", "model_description"]));
    let size = parts.size_label.clone().or_else(|| (counts.total > 0).then(|| counts.label()));
    text(metadata, "size_label", size.as_deref());
    text(metadata, "license", card.joined("license").as_deref());
    text(metadata, "license.name", card.text(&["license_name"]));
    text(metadata, "license.link", card.text(&["license_link"]));
    for key in ["url", "doi", "uuid", "repo_url"] {
        text(metadata, &format!("source.{key}"), card.text(&[key, &format!("model_{key}")]));
    }
    origins(card.list(&["base_model", "base_models", "base_model_sources"]), "base_model", counts.total, metadata);
    origins(card.list(&["datasets", "dataset", "dataset_sources"]), "dataset", counts.total, metadata);
    for (key, names) in [("tags", ["tags", "pipeline_tag"]), ("languages", ["languages", "language"])] {
        let values = card.texts(&names);
        if !values.is_empty() {
            metadata.set(format!("general.{key}"), Value::Array(Array::strings(values)));
        }
    }
    Ok(())
}

/// Adds the base models or datasets of a model card: names on the Hub, URLs, or entries with keys of their own. The model has
/// `parameters` parameters.
fn origins(listed: Option<Vec<&Yaml>>, kind: &str, parameters: u64, metadata: &mut Metadata) {
    const HUB: &str = "huggingface.co/";
    let Some(listed) = listed else { return };
    metadata.set(format!("general.{kind}.count"), Value::U32(u32::try_from(listed.len()).unwrap_or(u32::MAX)));
    for (i, origin) in listed.into_iter().enumerate() {
        let mut set = |key: &str, value: Option<&str>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                metadata.set(format!("general.{kind}.{i}.{key}"), value);
            }
        };
        let id = match origin {
            Yaml::Text(text) => text.as_str(),
            Yaml::Map(_) => {
                for key in
                    ["name", "author", "version", "organization", "description", "url", "doi", "uuid", "repo_url"]
                {
                    set(key, origin.text_of(key));
                }
                continue;
            }
            _ => continue,
        };
        let address = ["http://", "https://", "ssh://"].iter().any(|scheme| id.starts_with(scheme));
        let on_hub = ["http://", "https://"].iter().find_map(|scheme| id.strip_prefix(scheme)?.strip_prefix(HUB));
        let name = match (address, on_hub) {
            (false, _) => Some(id),
            (true, on_hub) => {
                on_hub.filter(|id| id.split('/').count() == 2 && id.split('/').all(|part| !part.is_empty()))
            }
        };
        let parts = name.map(|name| model_name::parse(name, parameters)).unwrap_or_default();
        set("name", parts.name.as_deref());
        set("version", parts.version.as_deref());
        set("organization", parts.organization.as_deref());
        let on_hub = (!address && parts.organization.is_some()).then(|| format!("https://{HUB}{id}"));
        set("repo_url", if address { Some(id) } else { on_hub.as_deref() });
    }
}

/// The sampling that `generation_config.json` recommends.
#[allow(clippy::cast_possible_truncation, reason = "the file holds single precision")]
fn sampling(folder: &Folder, metadata: &mut Metadata) {
    // Not every model has a valid file, and none needs it.
    let Ok(Some(config)) = folder.json("generation_config.json") else { return };
    let float = |name: &str| config.get(name).and_then(Json::as_f64).map(|v| Value::F32(v as f32));
    let integer =
        |name: &str| config.get(name).and_then(Json::as_i64).and_then(|v| i32::try_from(v).ok()).map(Value::I32);
    let text = |name: &str| config.get(name).and_then(Json::as_str).filter(|text| !text.is_empty()).map(Value::from);
    let all = [
        ("sequence", text("sequence")),
        ("top_k", integer("top_k")),
        ("top_p", float("top_p")),
        ("min_p", float("min_p")),
        ("xtc_probability", float("xtc_probability")),
        ("xtc_threshold", float("xtc_threshold")),
        ("temp", float("temperature")),
        ("penalty_last_n", integer("penalty_last_n")),
        ("penalty_repeat", float("penalty_repeat").or_else(|| float("repetition_penalty"))),
        ("mirostat", integer("mirostat")),
        ("mirostat_tau", float("mirostat_tau")),
        ("mirostat_eta", float("mirostat_eta")),
    ];
    for (name, value) in all {
        if let Some(value) = value {
            metadata.set(format!("general.sampling.{name}"), value);
        }
    }
}

/// Parameters of a model.
struct Counts {
    total: u64,
    shared: u64,
    /// Parameters of one expert.
    expert: u64,
    experts: u64,
}

impl Counts {
    fn of(tensors: &[TensorSpec]) -> Self {
        let mut counts = Self { total: 0, shared: 0, expert: 0, experts: 0 };
        let (mut sum, mut with_experts) = (0, 0);
        for spec in tensors {
            let size: u64 = spec.shape.iter().product();
            counts.total += size;
            if spec.name.contains("_exps.") && spec.shape.len() > 2 {
                let bias = usize::from(spec.name.contains(".bias"));
                let experts = spec.shape.get(2 - bias).copied().unwrap_or(1).max(1);
                counts.expert += size / experts;
                sum += experts;
                with_experts += 1;
            } else {
                counts.shared += size;
            }
        }
        counts.experts = sum.checked_div(with_experts).unwrap_or(0);
        counts
    }

    fn label(&self) -> String {
        if self.experts > 0 {
            format!("{}x{}", self.experts, rounded(self.shared + self.expert))
        } else {
            rounded(self.total)
        }
    }
}

/// A count with at least two digits: `3.7M`, `179K`, `1.2B`.
#[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
fn rounded(count: u64) -> String {
    let (scaled, suffix) = match count as f64 {
        n if n > 1e12 => (n * 1e-12, 'T'),
        n if n > 1e9 => (n * 1e-9, 'B'),
        n if n > 1e6 => (n * 1e-6, 'M'),
        n => (n * 1e-3, 'K'),
    };
    let whole = format!("{:.0}", scaled.round_ties_even());
    let digits = whole.trim_start_matches('0').len();
    format!("{scaled:.*}{suffix}", 2usize.saturating_sub(digits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor_type::TensorType;

    /// Every card of a list, as gguf-py reads it.
    #[test]
    fn cards_are_read_as_the_reference_reads_them() {
        let cases: Json = serde_json::from_str(include_str!("../../testdata/model_cards/expected.json")).expect("JSON");
        let cases = cases.as_array().expect("a list");
        let spec = TensorSpec { name: "a.weight".into(), shape: vec![1_200_000_000], ty: TensorType::F16 };
        for case in cases {
            let card = case["card"].as_str().expect("a card");
            let text: &'static [u8] = format!("---\n{card}---\n# Title\n").into_bytes().leak();
            let files: &'static [(&str, &[u8])] = vec![("README.md", text)].leak();
            let folder = Folder::Memory { name: case["folder"].as_str().expect("a name").to_owned(), files };
            let mut metadata = Metadata::new();
            write(&folder, None, std::slice::from_ref(&spec), &mut metadata).expect("writes");
            let expected: Vec<(&str, Json)> = case["keys"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|pair| (pair[0].as_str().expect("a key"), pair[1].clone()))
                .collect();
            let json = |value: &Value| match value.as_array().and_then(Array::string_bytes) {
                Some(texts) => texts.map(String::from_utf8_lossy).collect(),
                None => value.as_u64().map_or_else(|| value.as_str().into(), Json::from),
            };
            // The reference takes the size from the weights elsewhere, as the last resort.
            let counted = !expected.iter().any(|(key, _)| *key == keys::GENERAL_SIZE_LABEL);
            let found: Vec<(&str, Json)> = metadata
                .iter()
                .filter(|(key, _)| *key != keys::GENERAL_TYPE && !(counted && *key == keys::GENERAL_SIZE_LABEL))
                .map(|(key, value)| (key, json(value)))
                .collect();
            assert_eq!(found, expected, "{card}");
        }
        assert!(cases.len() > 40);
    }

    #[test]
    fn labels_have_two_digits() {
        for (count, label) in [(179_000, "179K"), (3_700_000, "3.7M"), (1_235_814_400, "1.2B"), (70_600_000_000, "71B")]
        {
            assert_eq!(rounded(count), label);
        }
    }
}
