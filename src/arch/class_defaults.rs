//! What transformers' configuration classes give for the settings that a `config.json` leaves out. The reference
//! converter reads its settings through these classes, so that its files have their values too.
//!
//! Plain values are data: `class_defaults.json`, which `tests/class_defaults.py` writes from transformers. What follows
//! from other settings is computed here, as the classes' `__post_init__` computes it.

use std::sync::LazyLock;

use serde_json::{Map, Value as Json, json};

/// Settings by name.
type Settings = Map<String, Json>;

static TABLE: LazyLock<Settings> =
    LazyLock::new(|| serde_json::from_str(include_str!("class_defaults.json")).unwrap_or_default());

/// Names that frameworks have for one setting. Where one of them is given, the others have no default.
const SYNONYMS: &[&[&str]] = &[
    &["max_position_embeddings", "n_ctx", "n_positions", "max_length", "model_max_length"],
    &["hidden_size", "n_embd", "dim", "n_embed"],
    &["intermediate_size", "dense_intermediate_size", "n_inner", "hidden_dim", "block_ff_dim"],
    &["num_hidden_layers", "n_layers", "n_layer", "num_layers"],
    &["num_attention_heads", "n_head", "n_heads"],
    &["num_key_value_heads", "n_kv_heads"],
    &["num_kv_heads", "n_head_kv"],
    &["rms_norm_eps", "norm_eps"],
    &["layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"],
    &["num_local_experts", "num_experts", "n_routed_experts"],
    &["num_experts_per_tok", "num_experts_per_token", "top_k_experts"],
    &["moe_intermediate_size", "expert_intermediate_size"],
    &["hidden_act", "hidden_activation", "activation_function"],
    &["num_nextn_predict_layers", "num_mtp_layers"],
    &["layer_types", "layers_block_type", "full_attn_idxs"],
];

/// Configuration classes without a count of key-value heads of this name.
const NO_KV_HEADS: [&str; 11] = [
    "bert",
    "bloom",
    "distilbert",
    "falcon",
    "gpt2",
    "gpt_neox",
    "modernbert",
    "mpt",
    "nomic_bert",
    "roberta",
    "xlm-roberta",
];

/// The defaults of one configuration class.
#[derive(Clone, Copy)]
pub(super) struct ClassDefaults {
    model_type: &'static str,
    entry: &'static Json,
}

impl ClassDefaults {
    /// Those of the configuration class that transformers takes for `model_type`, or else for the model's `class`.
    pub(super) fn of(model_type: Option<&str>, class: &str) -> Option<Self> {
        let by_class = || TABLE.get("classes")?.get(class)?.as_str();
        let find =
            |model_type: &str| TABLE.get_key_value(model_type).filter(|(_, entry)| entry.get("settings").is_some());
        let (model_type, entry) = model_type.and_then(find).or_else(|| find(by_class()?))?;
        Some(Self { model_type, entry })
    }

    /// Adds what `settings` leave out. An explicit `null` stays, as the classes keep it.
    pub(super) fn complete(&self, settings: &mut Settings) {
        let given = settings.clone();
        let is_given = |name: &str| given.contains_key(name);
        let says = |name: &str| {
            let synonyms = SYNONYMS.iter().find(|names| names.contains(&name));
            is_given(name) || synonyms.is_some_and(|names| names.iter().any(|name| is_given(name)))
        };
        settings.entry("model_type").or_insert_with(|| self.model_type.into());
        for (name, value) in self.entry.get("settings").and_then(Json::as_object).into_iter().flatten() {
            if !says(name) {
                settings.insert(name.clone(), value.clone());
            }
        }
        self.derive(settings);
    }

    /// Adds what follows from other settings.
    fn derive(&self, settings: &mut Settings) {
        alias(settings, "layers_block_type", "layer_types");
        alias(settings, "num_mtp_layers", "num_nextn_predict_layers");
        if !NO_KV_HEADS.contains(&self.model_type) {
            fill(settings, "num_key_value_heads", |of| of.count("num_attention_heads"));
        }
        match self.model_type {
            "arcee" | "cohere2" | "ernie4_5" | "gpt_oss" | "jais2" | "llama" | "ministral3" | "mistral"
            | "nemotron" | "seed_oss" => {
                fill(settings, "head_dim", |of| of.count("hidden_size")?.checked_div(of.count("num_attention_heads")?));
            }
            "deepseek_v2" | "deepseek_v3" | "deepseek_v32" | "glm_moe_dsa" => {
                fill(settings, "head_dim", |of| of.count("qk_rope_head_dim"))
            }
            "falcon" => {
                fill(settings, "num_kv_heads", |of| of.count("num_attention_heads"));
                fill(settings, "ffn_hidden_size", |of| of.count("hidden_size")?.checked_mul(4));
            }
            "gemma3n_text" => {
                let early = settings.count("num_hidden_layers").filter(|&layers| layers > 10).map_or(0, |_| 10);
                fill_layers(settings, "activation_sparsity_pattern", |i| if i < early { 0.95 } else { 0.0 }.into());
            }
            "hy_v3" | "laguna" | "mimo_v2_flash" => {
                let kind = |i: u64| if i == 0 { "dense" } else { "sparse" };
                fill_layers(settings, "mlp_layer_types", |i| kind(i).into());
                if let Some(heads) = settings.count("num_attention_heads").filter(|_| self.model_type == "laguna") {
                    fill_layers(settings, "num_attention_heads_per_layer", |_| heads.into());
                }
            }
            "mistral4" => fill(settings, "head_dim", |of| {
                of.count("qk_nope_head_dim")?.checked_add(of.count("qk_rope_head_dim")?)
            }),
            "glm4_moe_lite" => fill(settings, "first_k_dense_replace", |_| Some(1)),
            "gpt2" => fill(settings, "n_inner", |of| of.count("n_embd")?.checked_mul(4)),
            "smollm3" => {
                let interval = settings.count("no_rope_layer_interval").filter(|&n| n > 0);
                let rotates = |i: u64| Json::from(u64::from(interval.is_none_or(|n| !(i + 1).is_multiple_of(n))));
                fill_layers(settings, "no_rope_layers", rotates);
            }
            _ => {}
        }
        self.layer_types(settings);
        let own = ["per_layer_config", "global_head_dim"];
        if self.model_type == "gemma4_text" && !own.iter().any(|name| settings.contains_key(*name)) {
            let types = settings.get("layer_types").and_then(Json::as_array).into_iter().flatten();
            let full = types.enumerate().filter(|(_, ty)| *ty == "full_attention");
            let layers: Settings = full.map(|(i, _)| (i.to_string(), json!({ "head_dim": 512 }))).collect();
            settings.insert("per_layer_config".into(), layers.into());
        }
    }

    /// Adds the kind of each layer.
    fn layer_types(&self, settings: &mut Settings) {
        let period = |name: &str, usual: u64| match settings.get(name) {
            None => Some(usual),
            Some(found) => found.as_u64().filter(|&n| n > 0),
        };
        let (period, most) = match self.model_type {
            "afmoe" => (period("global_attn_every_n_layers", 4), "sliding_attention"),
            "cohere2" | "cohere2_moe" => (period("sliding_window_pattern", 4), "sliding_attention"),
            "exaone4" if settings.get("sliding_window").is_none_or(Json::is_null) => return,
            "exaone_moe" | "exaone4" | "olmo3" => (period("sliding_window_pattern", 4), "sliding_attention"),
            "gemma2" | "gpt_oss" => (Some(2), "sliding_attention"),
            "gemma3_text" => (period("sliding_window_pattern", 6), "sliding_attention"),
            "gemma3n_text" => (Some(5), "sliding_attention"),
            "gemma4_text" => (Some(6), "sliding_attention"),
            "qwen3_next" | "qwen3_5_text" | "qwen3_5_moe_text" => {
                (period("full_attention_interval", 4), "linear_attention")
            }
            "granitemoehybrid" => (Some(u64::MAX), "linear_attention"),
            "mellum" => (Some(1), "sliding_attention"),
            "laguna" => (Some(1), "full_attention"),
            "granite_swa" | "granitemoe_swa" | "mimo_v2_flash" => {
                let period = if self.model_type == "mimo_v2_flash" { 6 } else { 4 };
                let first =
                    |i: u64| if period == 6 { i == 0 || (i + 1).is_multiple_of(6) } else { i.is_multiple_of(4) };
                let kind = |i: u64| if first(i) { "full_attention" } else { "sliding_attention" };
                fill_layers(settings, "layer_types", |i| kind(i).into());
                return;
            }
            "dots1" => {
                let first = settings.count("max_window_layers").filter(|_| settings.get("sliding_window").is_some());
                let slides = |i: u64| first.is_some_and(|first| i >= first);
                fill_layers(settings, "layer_types", |i| {
                    if slides(i) { "sliding_attention" } else { "full_attention" }.into()
                });
                return;
            }
            "lfm2" => {
                let attends = settings.get("full_attn_idxs").filter(|list| !list.is_null()).cloned();
                let attends =
                    |i: u64| attends.as_ref().and_then(Json::as_array).is_none_or(|list| list.contains(&Json::from(i)));
                fill_layers(settings, "layer_types", |i| if attends(i) { "full_attention" } else { "conv" }.into());
                return;
            }
            _ => return,
        };
        let Some(period) = period else { return };
        let last = settings.count("num_hidden_layers").filter(|_| self.model_type == "gemma4_text");
        let full = |i: u64| (i + 1).is_multiple_of(period) || last == Some(i + 1);
        fill_layers(settings, "layer_types", |i| if full(i) { "full_attention" } else { most }.into());
    }

    /// Adds what the rotary settings leave out; `said` where any were given in their place. Kinds of layers that have
    /// settings of their own stand under their names.
    pub(super) fn complete_rope(&self, said: bool, rope: &mut Settings, settings: &Settings) {
        let entry = self.entry.get(if said { "added" } else { "rope" }).and_then(Json::as_object);
        let Some(defaults) = entry else { return };
        let kinds = ["full_attention", "sliding_attention"];
        if kinds.iter().any(|kind| rope.contains_key(*kind)) && rope.get("rope_theta").is_none() {
            for kind in kinds {
                let own = defaults.get(kind).and_then(Json::as_object);
                if own.is_none() && !rope.contains_key(kind) {
                    continue;
                }
                let own = own.unwrap_or(defaults);
                let of_kind = rope.entry(kind).or_insert_with(|| json!({}));
                if let Json::Object(of_kind) = of_kind {
                    add(of_kind, own);
                    of_kind.entry("rope_type").or_insert_with(|| "default".into());
                    self.original_length(of_kind, settings);
                }
            }
            return;
        }
        let flat = defaults.get("full_attention").and_then(Json::as_object).unwrap_or(defaults);
        add(rope, flat);
        rope.entry("rope_type").or_insert_with(|| "default".into());
        self.original_length(rope, settings);
        if let Some(sliding) = defaults.get("sliding_attention") {
            let own = rope.entry("sliding_attention").or_insert_with(|| sliding.clone());
            if let (Json::Object(own), Some(sliding)) = (own, sliding.as_object()) {
                add(own, sliding);
            }
        }
    }

    /// Adds the length that a model was first trained on, for the kinds of scaling that need it.
    fn original_length(&self, rope: &mut Settings, settings: &Settings) {
        let ty = rope.get("rope_type").or_else(|| rope.get("type")).and_then(Json::as_str);
        if matches!(ty, Some("llama3" | "yarn" | "longrope" | "su"))
            && let Some(length) = settings.get("max_position_embeddings")
        {
            rope.entry("original_max_position_embeddings").or_insert_with(|| length.clone());
        }
    }
}

/// What transformers calls the configuration of `class` (`model_type`), and the settings that it gives.
pub(crate) fn class_settings(class: &str) -> Option<(&'static str, &'static Settings)> {
    let defaults = ClassDefaults::of(None, class)?;
    Some((defaults.model_type, defaults.entry.get("settings")?.as_object()?))
}

/// Counts of settings.
trait Counts {
    fn count(&self, name: &str) -> Option<u64>;
}

impl Counts for Settings {
    fn count(&self, name: &str) -> Option<u64> {
        self.get(name).and_then(Json::as_u64)
    }
}

/// Sets a setting that is missing or `null` to what others tell.
fn fill(settings: &mut Settings, name: &str, value: impl Fn(&Settings) -> Option<u64>) {
    if settings.get(name).is_none_or(Json::is_null)
        && let Some(value) = value(settings)
    {
        settings.insert(name.to_owned(), value.into());
    }
}

/// Sets a list of a value for each layer that is missing or `null`.
fn fill_layers(settings: &mut Settings, name: &str, value: impl Fn(u64) -> Json) {
    // More layers than these are refused elsewhere.
    let layers = settings.count("num_hidden_layers").filter(|&n| n <= 4096);
    if let (true, Some(layers)) = (settings.get(name).is_none_or(Json::is_null), layers) {
        settings.insert(name.to_owned(), (0..layers).map(value).collect());
    }
}

/// Gives a setting its usual name.
fn alias(settings: &mut Settings, other: &str, name: &str) {
    if let (false, Some(value)) = (settings.contains_key(name), settings.get(other).cloned()) {
        settings.insert(name.to_owned(), value);
    }
}

/// Adds entries that are not there.
fn add(to: &mut Settings, from: &Settings) {
    for (name, value) in from {
        to.entry(name).or_insert_with(|| value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_json_and_has_a_class_for_each_family() {
        assert!(TABLE.len() > 30);
        for family in crate::arch::FAMILIES {
            for class in family.classes() {
                assert_eq!(ClassDefaults::of(None, class).is_none(), family.own_code(), "{class}");
            }
        }
    }

    #[test]
    fn what_is_given_stays() {
        let complete = |model_type: &str, given: Json| {
            let mut settings = given.as_object().expect("an object").clone();
            ClassDefaults::of(Some(model_type), "").expect("known").complete(&mut settings);
            settings
        };
        let found = complete("mistral", json!({ "sliding_window": null, "num_key_value_heads": null, "n_heads": 4 }));
        assert!(found["sliding_window"].is_null() && !found.contains_key("num_attention_heads"));
        let found = complete("lfm2", json!({ "num_hidden_layers": 3, "full_attn_idxs": [1] }));
        assert_eq!(found["layer_types"], json!(["conv", "full_attention", "conv"]));
        let found = complete("gemma3_text", json!({ "num_hidden_layers": 3, "sliding_window_pattern": 2 }));
        assert_eq!(found["layer_types"], json!(["sliding_attention", "full_attention", "sliding_attention"]));
    }
}
