//! The settings of `config.json` beyond those that a family reads: which of them change what a model computes, and with
//! which values they change nothing. A checkpoint with another value is refused by the setting's name.
//!
//! A family answers for what it reads ([`Config`] keeps account). For all else these tables do; what stands in none of
//! them is reported to the user as not looked at.

use serde_json::Value as Json;

use super::{Config, Error, TensorRule};

/// A setting, and the values with which it changes nothing (or is what the family computes), as a JSON list. A missing
/// setting and `null` always stand for that.
pub(super) type Setting = (&'static str, &'static str);

/// Settings that change what is computed, for the families that do not read them.
const COMPUTING: &[Setting] = &[
    ("activation", r#"["silu", "swish"]"#),
    ("activation_function", r#"["silu", "swish"]"#),
    ("add_cross_attention", "[false]"),
    ("alibi", "[false]"),
    ("apply_residual_connection_post_layernorm", "[false]"),
    ("attention_multiplier", "[1]"),
    ("attn_logit_softcapping", "[]"),
    ("attn_output_gate", "[false]"),
    ("block_use_swiglu", "[true]"),
    ("clip_qkv", "[]"),
    ("compression_ratio", "[1]"),
    ("decoder_sparse_step", "[1]"),
    ("embedding_multiplier", "[1]"),
    ("enable_moe_block", "[false]"),
    ("final_logit_softcapping", "[]"),
    ("hidden_act", r#"["silu", "swish"]"#),
    ("hidden_activation", r#"["silu", "swish"]"#),
    ("is_causal", "[true]"),
    ("layer_switch", "[4]"),
    ("layer_types", r#"["full_attention"]"#),
    ("llama_4_scaling", "[]"),
    ("logit_scale", "[1]"),
    ("logits_scaling", "[1]"),
    ("mamba_hidden_act", r#"["silu", "swish"]"#),
    ("mlp_only_layers", "[[]]"),
    ("mlp_type", r#"["default"]"#),
    ("moe", "[]"),
    ("moe_latent_size", "[]"),
    ("moe_layer_freq", "[1]"),
    ("multi_query", "[false]"),
    ("new_decoder_architecture", "[false]"),
    ("normalization_function", r#"["rmsnorm"]"#),
    ("no_rope_layer_interval", "[]"),
    ("no_rope_layers", "[]"),
    ("norm_topk_prob", "[true]"),
    ("norm_type", r#"["rms", "hf_rms", "rmsnorm"]"#),
    ("order_of_interleaved_layers", r#"["local_attn_first"]"#),
    ("parallel_attn", "[false]"),
    ("position_embedding_type", r#"["rope"]"#),
    ("position_embedding_xdrope", "[false]"),
    ("query_pre_attn_scalar", "[]"),
    ("residual_multiplier", "[1]"),
    ("rope_interleave", "[false]"),
    ("routed_scaling_factor", "[1]"),
    ("scale_attn_by_inverse_layer_idx", "[false]"),
    ("scale_attn_weights", "[true]"),
    ("scale_emb", "[1]"),
    ("sliding_window", "[0]"),
    ("swiglu_alpha", "[]"),
    ("swiglu_limit", "[]"),
    ("time_step_limit", r#"[[0, "Infinity"], [0, {"__float__": "Infinity"}]]"#),
    ("topk_method", "[]"),
    ("use_alibi", "[false]"),
    ("use_bidirectional_attention", "[false]"),
    ("use_cla", "[false]"),
    ("use_double_wide_mlp", "[false]"),
    ("use_gated_activation", "[true]"),
    ("use_mixed_mlp_moe", "[false]"),
    ("use_parallel_block", "[false]"),
    ("use_parallel_residual", "[false]"),
    ("use_pos_enc", "[true]"),
    ("use_rmsnorm", "[true]"),
    ("use_rotary_pos_emb", "[true]"),
    ("use_sliding_window", "[false]"),
    ("yarn", "[]"),
];

/// Settings of the rotary embedding, in the same way. Any other that a family does not read is refused.
const ROTARY: &[Setting] = &[
    ("attention_factor", "[1]"),
    ("beta_fast", "[32]"),
    ("beta_slow", "[1]"),
    ("extrapolation_factor", "[1]"),
    ("factor", "[1]"),
    ("partial_rotary_factor", "[1]"),
    ("truncate", "[true]"),
];

/// Rotary settings that change nothing: sections are those of images, and what a kind of scaling does not use.
const IDLE_ROTARY: &[&str] = &[
    "finetuned",
    "max_position_embeddings",
    "mrope_interleaved",
    "mrope_section",
    "original_max_position_embeddings",
    "rope_theta",
    "rope_type",
    "type",
];

/// Settings that the names and shapes of tensors answer for: a checkpoint that has others is refused by tensor.
const SHOWN_BY_TENSORS: &[&str] = &[
    "add_full_attention_sink_bias",
    "add_swa_attention_sink_bias",
    "attention_bias",
    "attention_head_dim",
    "attention_k_eq_v",
    "attention_out_bias",
    "bias",
    "block_dim",
    "classifier_bias",
    "conv_bias",
    "conv_dim",
    "conv_dim_out",
    "expansion_ratio",
    "expert_layer_offset",
    "expert_layer_period",
    "ffn_hidden_size",
    "head_dim",
    "lm_head_bias",
    "mamba_conv_bias",
    "mamba_d_head",
    "mamba_proj_bias",
    "mamba_rms_norm",
    "mlp_bias",
    "n_ctx",
    "n_positions",
    "no_bias",
    "num_experts",
    "num_heads",
    "num_kv_heads",
    "num_key_value_heads",
    "norm_bias",
    "num_ln_in_parallel_attn",
    "projectors_bias",
    "qk_head_dim",
    "qk_layernorm",
    "qkv_bias",
    "shared_expert_intermediate_size",
    "tie_embedding",
    "tie_word_embeddings",
    "use_bias",
    "use_conv_bias",
    "use_embedding_sharing",
    "use_qk_norm",
    "use_qkv_bias",
    "vocab_size",
    "vocab_size_per_layer_input",
];

/// Settings of training, of generation, of other frameworks and of names; or that mean nothing without another one.
const IDLE: &[&str] = &[
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_name_or_path",
    "_sliding_window_pattern",
    "add_bos_token",
    "add_classification_head",
    "altup_coef_clip",
    "architectures",
    "attn_impl",
    "attn_implementation",
    "attn_uses_sequence_id",
    "attention_softmax_in_fp32",
    "auto_map",
    "aux_loss_alpha",
    "bad_words_ids",
    "bias_dropout_fusion",
    "boi_token_index",
    "block_ffn_dim_multiplier",
    "block_mlp_init_scale",
    "block_multiple_of",
    "block_norm_eps",
    "block_out_init_scale",
    "cache_implementation",
    "chunk_size",
    "chunk_size_feed_forward",
    "cla_share_factor",
    "conv_use_xavier_init",
    "decoder_bias",
    "deterministic_flash_attn",
    "dtype",
    "embedding_fraction",
    "ep_size",
    "expand",
    "experts_per_token",
    "enable_moe_fp32_combine",
    "eoi_token_index",
    "first_k_dense_replace",
    "for_llm_compressor",
    "full_attn_idxs",
    "fuse_cross_entropy",
    "gradient_checkpointing",
    "id2label",
    "im_end_id",
    "init_device",
    "init_method",
    "initial_context_length",
    "initializer_cutoff_factor",
    "initializer_range",
    "input_jitter_noise",
    "is_decoder",
    "is_encoder_decoder",
    "is_llama_config",
    "label2id",
    "language_config",
    "learned_pos_emb",
    "llm_config",
    "local_rope_theta",
    "mamba_chunk_size",
    "mamba_ssm_cache_dtype",
    "mamba_ssm_dtype",
    "masked_softmax_fusion",
    "max_window_layers",
    "mm_tokens_per_image",
    "model_type",
    "moe_shared_expert_overlap",
    "mtp_hybrid_override_pattern",
    "mtp_layers_block_type",
    "moe_jitter_eps",
    "moe_loss_weight",
    "mtp_num_hidden_layers",
    "mtp_use_dedicated_embeddings",
    "mtp_layer_types",
    "mtp_mlp_layer_types",
    "multimodal_projector_bias",
    "n_inner",
    "num_logits_to_keep",
    "num_nextn_predict_layers",
    "offset_alibi",
    "original_max_position_embeddings",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "partial_rotary_factor",
    "per_layer_config",
    "pretraining_tp",
    "projector_hidden_act",
    "problem_type",
    "quantization_config",
    "reorder_and_upcast_attn",
    "rescale_prenorm_residual",
    "residual_in_fp32",
    "return_dict",
    "rope_local_base_freq",
    "rope_parameters",
    "rope_pct",
    "rope_scaling",
    "rope_theta",
    "rotary_emb_base",
    "rotary_pct",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "scale_attention_softmax_in_fp32",
    "seq_aux",
    "skip_bias_add",
    "skip_bias_add_qkv",
    "slow_but_exact",
    "sparse_pred_ignore_index",
    "sparse_prediction",
    "spatial_merge_size",
    "sliding_window_pattern",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "swa_rope_theta",
    "task_specific_params",
    "text_config",
    "theta",
    "time_step_floor",
    "time_step_init_scheme",
    "time_step_max",
    "time_step_min",
    "time_step_rank",
    "time_step_scale",
    "tokenizer_class",
    "torch_dtype",
    "transformers_version",
    "unsloth_fixed",
    "unsloth_version",
    "use_associative_scan",
    "use_cache",
    "use_falcon_mambapy",
    "use_flash_attn",
    "use_grouped_topk",
    "use_mamba_kernels",
    "use_mambapy",
    "use_mrope",
    "use_parallel_embedding",
    "verbose",
    "z_loss_coefficient",
];

/// Beginnings and ends of names of settings that belong to training, or to images and sound.
const IDLE_PREFIXES: &[&str] = &["audio_", "image_", "video_", "vision_"];
const IDLE_SUFFIXES: &[&str] =
    &["_dropout", "_dropout_prob", "_pdrop", "_token_id", "_token_index", "audio_config", "vision_config"];

/// Refuses a checkpoint whose settings the family cannot honour. `own` are those that it computes with in one way,
/// whether it reads them or not; `rules` its tensors. Returns the settings that nobody has looked at.
///
/// # Errors
/// [`Error::BadSetting`] with the first such setting.
pub fn check(config: &Config, own: &[Setting], rules: &[TensorRule]) -> Result<Vec<String>, Error> {
    for &(name, accepted) in own.iter().filter(|(name, _)| *name != ROPE_TYPE) {
        expect(config, name, config.peek(name), accepted)?;
    }
    let answered = |name: &str| config.has_read(name) || own.iter().any(|(known, _)| *known == name);
    for &(name, accepted) in COMPUTING.iter().filter(|(name, _)| !answered(name)) {
        // A window that is switched off is none.
        if name == "sliding_window" && config.peek("use_sliding_window") == Some(&Json::Bool(false)) {
            continue;
        }
        expect(config, name, config.peek(name), accepted)?;
    }
    rotary(config, own, rules)?;
    config.check_kinds()?;
    let known = |full: &str| {
        // Of an object within, for which the same holds.
        let name = full.rsplit_once('.').map_or(full, |(_, name)| name);
        answered(full)
            || COMPUTING.iter().any(|(known, _)| *known == name)
            || SHOWN_BY_TENSORS.contains(&name)
            || IDLE.contains(&name)
            || IDLE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            || IDLE_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
    };
    Ok(config.names().filter(|name| !known(name)).map(str::to_owned).collect())
}

const ROPE_TYPE: &str = "rope_type";

fn rotary(config: &Config, own: &[Setting], rules: &[TensorRule]) -> Result<(), Error> {
    for name in ["rope_parameters", "rope_scaling"] {
        if let Some(value) = config.peek(name).filter(|value| !value.is_object()) {
            return Err(config.unfit(name, value, "an object"));
        }
    }
    // Some checkpoints say it twice.
    let name = "original_max_position_embeddings";
    if let (Some(a), Some(b)) = (config.peek(name), config.rope().get(name))
        && !same(a, b)
    {
        return Err(config.unfit(name, a, "what the rotary settings say too"));
    }
    let from_config = rules.iter().any(|rule| rule.name == "rope_freqs.weight");
    let types = match own.iter().find(|(name, _)| *name == ROPE_TYPE) {
        Some((_, types)) => types,
        None if !config.has_read_rotary(ROPE_TYPE) => r#"["default"]"#,
        None if from_config => r#"["default", "linear", "yarn", "llama3"]"#,
        None => r#"["default", "linear", "yarn"]"#,
    };
    let ty = Json::from(config.rope_type());
    expect(config, ROPE_TYPE, Some(&ty), types)?;
    // Read later, when the factors are made.
    let of_type: &[&str] = match config.rope_type() {
        "llama3" => &["factor", "high_freq_factor", "low_freq_factor"],
        "proportional" => &["partial_rotary_factor"],
        _ => &[],
    };
    if let Some(missing) = of_type.iter().find(|name| !config.rope().contains_key(**name)) {
        return Err(Error::MissingSetting { name: (*missing).to_owned() });
    }
    let accepted = |name: &str| {
        let row = own.iter().chain(ROTARY).find(|(known, _)| *known == name);
        row.map_or("[]", |(_, accepted)| accepted)
    };
    for (name, value) in config.rope() {
        let later = of_type.contains(&name.as_str()) && value.is_number();
        if !later && !config.has_read_rotary(name) && !IDLE_ROTARY.contains(&name.as_str()) && !value.is_object() {
            expect(config, name, Some(value), accepted(name))?;
        }
    }
    // What slides is rotated by its own base, and not scaled.
    for (name, value) in config.sliding_rope().into_iter().flatten() {
        match name.as_str() {
            ROPE_TYPE | "type" => expect(config, name, Some(value), r#"["default"]"#)?,
            "rope_theta" if value.is_number() => {}
            _ if config.has_read_sliding(name) => {}
            _ => expect(config, name, Some(value), accepted(name))?,
        }
    }
    Ok(())
}

fn expect(config: &Config, name: &str, value: Option<&Json>, accepted: &'static str) -> Result<(), Error> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(()) };
    let list: Vec<Json> = serde_json::from_str(accepted).unwrap_or_default();
    let fits = |value: &Json| list.iter().any(|accepted| same(accepted, value));
    let all = |values: &Json| values.as_array().is_some_and(|values| !values.is_empty() && values.iter().all(fits));
    // A list is one of a value for each block.
    if fits(value) || all(value) {
        return Ok(());
    }
    Err(config.unfit(name, value, if list.is_empty() { "none: it is not known for this class" } else { accepted }))
}

/// Whether two values are the same, `1` and `1.0` taken for one.
fn same(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => a.as_f64() == b.as_f64(),
        (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_json_and_hold_each_name_once() {
        let mut names: Vec<&str> = COMPUTING.iter().map(|(name, _)| *name).collect();
        names.extend(SHOWN_BY_TENSORS.iter().chain(IDLE));
        for (name, accepted) in COMPUTING.iter().chain(ROTARY) {
            assert!(serde_json::from_str::<Vec<Json>>(accepted).is_ok(), "{name}");
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
