//! Mistral's own checkpoints: `params.json` beside `consolidated.safetensors`, with other tensor names, and with the rotary pairs
//! of heads side by side, as in GGUF files.

use serde_json::{Map, Value as Json, json};

use crate::arch;

/// The file of settings.
pub(super) const PARAMS: &str = "params.json";
/// The name of the embedding, by which this form is recognized.
pub(super) const EMBEDDING: &str = "tok_embeddings.weight";

/// Settings and their names in `config.json`. Others keep their names; settings that no family reads are refused or
/// reported.
const SETTINGS: [(&str, &str); 8] = [
    ("dim", "hidden_size"),
    ("n_layers", "num_hidden_layers"),
    ("hidden_dim", "intermediate_size"),
    ("n_heads", "num_attention_heads"),
    ("n_kv_heads", "num_key_value_heads"),
    ("norm_eps", "rms_norm_eps"),
    ("tied_embeddings", "tie_word_embeddings"),
    ("max_seq_len", "max_position_embeddings"),
];

/// The default context length in the programs that run such checkpoints.
const POSITIONS: u64 = 128_000;

/// `params.json` as the `config.json` of the same model.
///
/// # Errors
/// When the rotary base is missing: programs that run such checkpoints have used different defaults.
pub(super) fn config(params: Json) -> Result<Json, arch::Error> {
    let Json::Object(mut settings) = params else { return Err(arch::Error::NoClass) };
    if settings.get("rope_theta").is_none_or(Json::is_null) {
        return Err(arch::Error::MissingSetting { name: "rope_theta".into() });
    }
    for (own, name) in SETTINGS {
        if let Some(value) = settings.remove(own) {
            settings.entry(name).or_insert(value);
        }
    }
    let mut usual = Map::new();
    usual.insert("architectures".into(), json!(["MistralForCausalLM"]));
    usual.insert("model_type".into(), json!("mistral"));
    usual.insert("max_position_embeddings".into(), json!(POSITIONS));
    usual.insert("sliding_window".into(), Json::Null);
    for (name, value) in usual {
        settings.entry(name).or_insert(value);
    }
    Ok(Json::Object(settings))
}

/// Parts of names, and their names in transformers.
const PARTS: [(&str, &str); 11] = [
    (".attention.wq.", ".self_attn.q_proj."),
    (".attention.wk.", ".self_attn.k_proj."),
    (".attention.wv.", ".self_attn.v_proj."),
    (".attention.wo.", ".self_attn.o_proj."),
    (".attention_norm.", ".input_layernorm."),
    (".ffn_norm.", ".post_attention_layernorm."),
    (".feed_forward.experts.", ".block_sparse_moe.experts."),
    (".feed_forward.gate.", ".block_sparse_moe.gate."),
    (".feed_forward.w1.", ".mlp.gate_proj."),
    (".feed_forward.w2.", ".mlp.down_proj."),
    (".feed_forward.w3.", ".mlp.up_proj."),
];

/// The name of a tensor in transformers.
pub(super) fn usual_name(name: &str) -> String {
    match name {
        EMBEDDING => return "model.embed_tokens.weight".into(),
        "norm.weight" => return "model.norm.weight".into(),
        "output.weight" => return "lm_head.weight".into(),
        _ => {}
    }
    let part = PARTS.iter().find(|(own, _)| name.contains(own));
    part.map_or_else(|| name.to_owned(), |(own, usual)| format!("model.{}", name.replacen(own, usual, 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_and_names_are_those_of_transformers() {
        let params = json!({ "dim": 64, "n_layers": 2, "moe": { "num_experts": 8 }, "sliding_window": 4096,
            "rope_theta": 1e6 });
        let expected = json!({ "rope_theta": 1e6, "architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_size": 64,
            "num_hidden_layers": 2, "moe": { "num_experts": 8 }, "sliding_window": 4096,
            "max_position_embeddings": 128_000 });
        assert_eq!(config(params).expect("settings"), expected);
        assert!(config(json!({ "dim": 64 })).is_err());
        assert_eq!(usual_name("layers.10.attention.wq.weight"), "model.layers.10.self_attn.q_proj.weight");
        assert_eq!(usual_name("layers.0.feed_forward.w2.weight"), "model.layers.0.mlp.down_proj.weight");
        assert_eq!(usual_name("output.weight"), "lm_head.weight");
    }
}
