//! Settings of `config.json`: each is computed with, or refused by name, or known to change nothing; none is passed over.

use std::collections::BTreeSet;
use std::path::Path;

use gguf_toolkit::convert::{Conversion, Folder as Checkpoint, Options};
use gguf_toolkit::quantize::Source;
use serde_json::{Value as Json, json};

use super::folder::Folder;
use super::goldens::checkpoint;
use super::shared::{json as read_json, sha256, testdata};

/// Settings that may have any value: of training, of generation, of names, and spellings that a later one replaces.
const IDLE: &[&str] = &[
    "_sliding_window_pattern",
    "altup_coef_clip",
    "attention_dropout",
    "attn_pdrop",
    "bos_token_id",
    "chunk_size",
    "classifier_dropout",
    "dtype",
    "emb_pdrop",
    "embd_pdrop",
    "embedding_dropout",
    "enable_moe_fp32_combine",
    "eos_token_id",
    "hidden_dropout",
    "image_token_id",
    "image_token_index",
    "initializer_range",
    "input_jitter_noise",
    "is_decoder",
    "mamba_chunk_size",
    "mamba_ssm_cache_dtype",
    "max_window_layers",
    "model_type",
    "mtp_layers_block_type",
    "moe_jitter_eps",
    "moe_loss_weight",
    "mtp_num_hidden_layers",
    "multimodal_projector_bias",
    "num_logits_to_keep",
    "num_nextn_predict_layers",
    "output_router_logits",
    "pad_token_id",
    "pretraining_tp",
    "projector_hidden_act",
    "reorder_and_upcast_attn",
    "rescale_prenorm_residual",
    "resid_pdrop",
    "residual_in_fp32",
    "residual_dropout",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "slow_but_exact",
    "spatial_merge_size",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "time_step_floor",
    "time_step_init_scheme",
    "time_step_max",
    "time_step_min",
    "time_step_rank",
    "time_step_scale",
    "transformers_version",
    "use_associative_scan",
    "use_cache",
    "use_mamba_kernels",
    "use_mambapy",
    "video_token_id",
    "vision_config",
    "vision_end_token_id",
    "vision_feature_layer",
    "vision_start_token_id",
    "z_loss_coefficient",
];

/// What transformers writes into objects within, of the class that all configurations are of.
const IDLE_WITHIN: &[&str] = &[
    "_name_or_path",
    "architectures",
    "chunk_size_feed_forward",
    "id2label",
    "is_encoder_decoder",
    "label2id",
    "output_attentions",
    "output_hidden_states",
    "problem_type",
    "return_dict",
];

/// Settings that the tensors of a checkpoint answer for.
const SHOWN_BY_TENSORS: &[&str] = &[
    "add_full_attention_sink_bias",
    "add_swa_attention_sink_bias",
    "attention_bias",
    "attention_k_eq_v",
    "attention_out_bias",
    "bias",
    "conv_bias",
    "expansion_ratio",
    "expert_layer_offset",
    "expert_layer_period",
    "lm_head_bias",
    "mamba_conv_bias",
    "mamba_d_head",
    "mamba_proj_bias",
    "mamba_rms_norm",
    "mlp_bias",
    "no_bias",
    "num_ln_in_parallel_attn",
    "projectors_bias",
    "qk_head_dim",
    "qk_layernorm",
    "qkv_bias",
    "use_bias",
    "use_conv_bias",
    "use_qk_norm",
    "use_qkv_bias",
    "vocab_size_per_layer_input",
    "tie_word_embeddings",
];

/// Settings that mean nothing beside another one of the golden.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("cohere2moe", "rope_theta"),
    ("cohere2moe", "sliding_window_pattern"),
    ("dbrx", "ffn_config/hidden_size"),
    ("dbrx", "num_key_value_heads"),
    ("deepseek2", "head_dim"),
    ("deepseek32", "first_k_dense_replace"),
    ("deepseek32", "head_dim"),
    ("deepseekv2lite", "head_dim"),
    ("dots1", "layer_types"),
    ("dots1", "sliding_window"),
    ("ernie45moe", "moe_layer_end_index"),
    ("exaone4", "sliding_window_pattern"),
    ("exaonemoe", "first_k_dense_replace"),
    ("exaonemoe", "sliding_window_pattern"),
    ("falcon", "multi_query"),
    ("falcon", "parallel_attn"),
    ("falconh1", "mamba_expand"),
    ("falconh1", "mamba_norm_before_gate"),
    ("glm4moelite", "first_k_dense_replace"),
    ("glmdsa", "first_k_dense_replace"),
    ("glmdsa", "head_dim"),
    ("gptneox", "rotary_emb_base"),
    ("gptneox", "rotary_pct"),
    ("gptneoxseq", "rotary_emb_base"),
    ("gptneoxseq", "rotary_pct"),
    ("gpt2", "n_positions"),
    ("granitehybrid", "intermediate_size"),
    ("granitehybrid", "max_position_embeddings"),
    ("granitehybridmoe", "max_position_embeddings"),
    ("granitemoeswa", "rope_parameters/rope_theta"),
    ("graniteswa", "rope_parameters/rope_theta"),
    ("hunyuanmoe", "eod_token_id"),
    ("kimilinear", "first_k_dense_replace"),
    ("kimilinear", "use_grouped_topk"),
    ("laguna", "num_attention_heads"),
    ("lfm2", "block_ffn_dim_multiplier"),
    ("lfm2", "block_multiple_of"),
    ("lfm2", "full_attn_idxs"),
    ("llama4", "no_rope_layer_interval"),
    ("mellum", "mtp_layer_types"),
    ("mellum", "mtp_mlp_layer_types"),
    ("mimo2", "partial_rotary_factor"),
    ("mimo2", "rope_theta"),
    ("mimo2", "swa_rope_theta"),
    ("minicpm3", "head_dim"),
    ("ministral3", "rope_parameters/max_position_embeddings"),
    ("ministral3", "rope_parameters/type"),
    ("mpt", "attn_config/attn_impl"),
    ("mpt", "attn_config/attn_uses_sequence_id"),
    ("mpt", "embedding_fraction"),
    ("mpt", "init_device"),
    ("mpt", "learned_pos_emb"),
    ("nemotronh", "expand"),
    ("nemotronh", "max_position_embeddings"),
    ("nemotronhmoe", "expand"),
    ("nemotronhmoe", "intermediate_size"),
    ("nemotronhmoe", "max_position_embeddings"),
    ("nemotronhmoe", "moe_shared_expert_overlap"),
    ("mistral4", "head_dim"),
    ("mistral4", "rope_parameters/max_position_embeddings"),
    ("mistral4", "rope_parameters/type"),
    ("qwen2", "layer_types"),
    ("qwen2", "sliding_window"),
    ("qwen2", "use_sliding_window"),
    ("qwen25vl", "layer_types"),
    ("qwen25vl", "rope_parameters/mrope_section"),
    ("qwen25vl", "sliding_window"),
    ("qwen25vl", "use_sliding_window"),
    ("qwen2moe", "layer_types"),
    ("qwen2moe", "sliding_window"),
    ("qwen2vl", "layer_types"),
    ("qwen2vl", "rope_parameters/mrope_section"),
    ("qwen2vl", "sliding_window"),
    ("qwen2vl", "use_sliding_window"),
    ("qwen3", "layer_types"),
    ("qwen3", "sliding_window"),
    ("qwen3", "use_sliding_window"),
    ("qwen3moe", "sliding_window"),
    ("qwen3vl", "rope_parameters/mrope_interleaved"),
    ("qwen3vl", "rope_parameters/mrope_section"),
    ("qwen3vlmoe", "rope_parameters/mrope_interleaved"),
    ("qwen3vlmoe", "rope_parameters/mrope_section"),
    ("smollm3", "layer_types"),
    ("smollm3", "no_rope_layer_interval"),
    ("smollm3", "sliding_window"),
    ("starcoder", "attention_softmax_in_fp32"),
    ("starcoder", "num_key_value_heads"),
    ("starcoder", "scale_attention_softmax_in_fp32"),
];

/// A name and a value.
type Foreign = (&'static str, fn() -> Json);

/// A value of each setting that a family may not know, in which it would compute something else.
const FOREIGN: &[Foreign] = &[
    ("alibi", || json!(true)),
    ("attention_multiplier", || json!(0.5)),
    ("attn_logit_softcapping", || json!(20.0)),
    ("attn_output_gate", || json!("other")),
    ("clip_qkv", || json!(8.0)),
    ("compression_ratio", || json!(2.0)),
    ("decoder_sparse_step", || json!(2)),
    ("embedding_multiplier", || json!(11.5)),
    ("enable_moe_block", || json!(true)),
    ("final_logit_softcapping", || json!(20.0)),
    ("layer_types", || json!(["chunked_attention", "full_attention", "recurrent"])),
    ("logit_scale", || json!(0.35)),
    ("logits_scaling", || json!(7.5)),
    ("mlp_only_layers", || json!([0])),
    ("moe_layer_freq", || json!(2)),
    ("no_rope_layers", || json!([1, 0, 0, 1])),
    ("position_embedding_type", || json!("alibi")),
    ("query_pre_attn_scalar", || json!(77)),
    ("residual_multiplier", || json!(0.33)),
    ("routed_scaling_factor", || json!(2.5)),
    ("scale_attn_by_inverse_layer_idx", || json!(true)),
    ("sliding_window", || json!(5)),
    ("use_bidirectional_attention", || json!("all")),
    ("use_parallel_residual", || json!("other")),
    ("use_rmsnorm", || json!(false)),
];

/// The same of rotary settings.
const FOREIGN_ROTARY: &[Foreign] = &[
    ("attention_factor", || json!(3.5)),
    ("partial_rotary_factor", || json!(0.75)),
    ("rope_type", || json!("dynamic-ntk")),
    ("short_mscale", || json!(1.1)),
    ("truncate", || json!("other")),
];

/// What a checkpoint converts to, but for most weights; or why it does not.
pub(crate) fn outcome(folder: &Path, settings: &Json) -> Result<String, String> {
    std::fs::write(folder.join("config.json"), settings.to_string()).expect("written");
    let conversion = Conversion::new(Checkpoint::open(folder).expect("a folder"), &Options::default());
    let conversion = conversion.map_err(|e| e.to_string())?;
    let mut text = format!("{:?} {:?}", conversion.metadata(), conversion.tensors());
    for (i, tensor) in conversion.tensors().iter().enumerate().filter(|(_, tensor)| tensor.name.starts_with("rope")) {
        let mut factors = vec![0; tensor.shape.iter().product::<u64>().try_into().map(|n: usize| 4 * n).expect("few")];
        conversion.read(i, 0, &mut factors).expect("readable");
        text += &format!("{factors:?}");
    }
    // Some settings change nothing but the weights.
    let multiplies = text.contains("falcon-h1.");
    for (i, tensor) in
        conversion.tensors().iter().enumerate().filter(|(_, tensor)| multiplies && tensor.shape.len() > 1)
    {
        let elements: u64 = tensor.shape.iter().product();
        let mut data = vec![0; tensor.ty.bytes_for(elements).and_then(|n| n.try_into().ok()).expect("few")];
        conversion.read(i, 0, &mut data).expect("readable");
        text += &sha256(&data);
    }
    Ok(text)
}

/// All goldens, with their settings.
pub(crate) fn goldens(folder: &Folder) -> impl Iterator<Item = (String, std::path::PathBuf, Json)> + '_ {
    let entries = std::fs::read_dir(testdata("arch")).expect("goldens");
    entries.map(|entry| {
        let name = entry.expect("an entry").file_name().into_string().expect("a name");
        let from = checkpoint(folder, &name);
        let settings = read_json(&from.join("config.json"));
        (name, from, settings)
    })
}

/// Other values than this one, some of another kind.
fn others(value: &Json) -> Vec<Json> {
    let mut others = match value {
        Json::Null => vec![json!(3), json!(true), json!("other")],
        Json::Bool(value) => vec![json!(!value)],
        Json::Number(n) if n.is_f64() => vec![json!(n.as_f64().expect("a float") * 2.0 + 1.0), json!("other")],
        Json::Number(n) => vec![json!(n.as_i64().expect("an integer") + 1), json!("other")],
        Json::String(_) => vec![json!("other"), json!(3)],
        Json::Array(items) => vec![json!(items.iter().skip(1).collect::<Vec<_>>()), json!("other")],
        Json::Object(_) => vec![json!("other")],
    };
    others.retain(|other| other != value);
    others
}

/// The settings of the text part.
fn text_part(settings: &mut Json) -> &mut Json {
    if settings.get("text_config").is_some() { &mut settings["text_config"] } else { settings }
}

/// JSON pointers of all values of these settings, those of objects within included.
fn places(settings: &Json, at: &str) -> Vec<String> {
    let inner = settings.as_object().expect("an object").iter();
    inner
        .flat_map(|(name, value)| {
            let place = format!("{at}/{name}");
            let within = if value.is_object() { places(value, &place) } else { Vec::new() };
            std::iter::once(place).chain(within)
        })
        .collect()
}

#[test]
fn no_setting_of_a_golden_is_passed_over() {
    let folder = Folder::new("settings");
    let mut faults = Vec::new();
    let mut without_effect: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (name, from, settings) in goldens(&folder) {
        let conversion = Conversion::new(Checkpoint::open(&from).expect("a folder"), &Options::default());
        let conversion = conversion.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(conversion.settings_not_read(), [""; 0], "{name}");
        let plain = outcome(&from, &settings).expect("converts");
        for place in places(&settings, "") {
            let setting = place.trim_start_matches('/').trim_start_matches("text_config/").to_owned();
            // The image part's own.
            if setting.starts_with("vision_config/") {
                continue;
            }
            for other in others(settings.pointer(&place).expect("a value")) {
                let mut changed = settings.clone();
                *changed.pointer_mut(&place).expect("a value") = other.clone();
                if outcome(&from, &changed).is_ok_and(|found| found == plain) {
                    let mut within = setting.split('/').skip_while(|part| part.ends_with("_config"));
                    let known = within.clone().count() < setting.split('/').count()
                        && within.next().is_some_and(|part| IDLE.contains(&part) || IDLE_WITHIN.contains(&part));
                    let known = known || IDLE.contains(&&*setting) || SHOWN_BY_TENSORS.contains(&&*setting);
                    let beside = WITHOUT_EFFECT.iter().find(|(golden, known)| *golden == name && *known == setting);
                    without_effect.extend(beside);
                    if !known && beside.is_none() {
                        faults.push(format!("{name}: {setting} = {other} changes nothing"));
                    }
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(without_effect.len(), WITHOUT_EFFECT.len(), "{without_effect:?}");
}

#[test]
fn settings_that_a_family_does_not_know_are_refused_by_name() {
    let folder = Folder::new("settings-foreign");
    let mut faults = Vec::new();
    for (name, from, settings) in goldens(&folder) {
        let plain = outcome(&from, &settings).expect("converts");
        let mut check = |setting: &str, changed: &Json| match outcome(&from, changed) {
            Ok(found) if found == plain => faults.push(format!("{name}: {setting} is passed over")),
            Ok(_) => {}
            Err(error) if error.contains(setting) => {}
            // Of fewer pairs, there are too many factors.
            Err(error) if setting == "partial_rotary_factor" && error.contains("long_factor") => {}
            Err(error) => faults.push(format!("{name}: {setting}: {error}")),
        };
        for (setting, value) in FOREIGN.iter().filter(|(setting, value)| settings.get(*setting) != Some(&value())) {
            let mut changed = settings.clone();
            let text = text_part(&mut changed);
            text[setting] = value();
            // What is switched off means nothing.
            if *setting == "sliding_window" && text.get("use_sliding_window").is_some() {
                text["use_sliding_window"] = json!(true);
                text["max_window_layers"] = json!(0);
            }
            check(setting, &changed);
        }
        let mut text = settings.clone();
        let Some(rope) = text_part(&mut text).get("rope_parameters") else { continue };
        let kinds: Vec<&str> =
            if rope.get("full_attention").is_some() { vec!["full_attention", "sliding_attention"] } else { vec![""] };
        for kind in kinds {
            for (setting, value) in FOREIGN_ROTARY {
                let mut changed = settings.clone();
                let rope = &mut text_part(&mut changed)["rope_parameters"];
                let rope = if kind.is_empty() { rope } else { &mut rope[kind] };
                rope[setting] = value();
                check(setting, &changed);
            }
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// Settings that published checkpoints have beside those that transformers writes today.
const PUBLISHED: &[Foreign] = &[
    ("cohere2", || {
        json!({ "cache_implementation": "hybrid", "layer_switch": 4, "order_of_interleaved_layers": "local_attn_first",
            "position_embedding_type": "rope_gptj", "rotary_pct": 1.0, "use_embedding_sharing": true,
            "use_gated_activation": true, "use_parallel_block": true, "use_parallel_embedding": true })
    }),
    ("deepseek2", || json!({ "aux_loss_alpha": 0.001, "ep_size": 1, "moe_layer_freq": 1, "seq_aux": true })),
    ("ernie45", || json!({ "compression_ratio": 1.0, "use_cache": false })),
    (
        "exaone",
        || json!({ "activation_function": "silu", "auto_map": {}, "embed_dropout": 0.0, "layer_norm_epsilon": 1e-5 }),
    ),
    ("falcon", || json!({ "apply_residual_connection_post_layernorm": false, "alibi": false })),
    ("gemma2", || json!({ "hidden_act": "gelu_pytorch_tanh", "cache_implementation": "hybrid" })),
    ("gptneox", || json!({ "attention_probs_dropout_prob": 0, "hidden_dropout_prob": 0 })),
    ("gptoss", || json!({ "experts_per_token": 4, "initial_context_length": 4096 })),
    (
        "granitehybrid",
        || json!({ "normalization_function": "rmsnorm", "position_embedding_type": "nope", "init_method": "mup" }),
    ),
    ("hunyuan", || {
        json!({ "attention_head_dim": 16, "cla_share_factor": 1, "norm_type": "rms", "position_embedding_xdrope": false,
            "use_cla": false, "use_qk_norm": true, "use_rotary_pos_emb": true })
    }),
    ("lfm2", || {
        json!({ "block_dim": 64, "block_norm_eps": 1e-5, "block_use_swiglu": true, "conv_dim": 64, "theta": 1e6,
            "tie_embedding": true, "use_pos_enc": true })
    }),
    ("llama3", || json!({ "_name_or_path": "a/b", "pretraining_tp": 1, "torch_dtype": "bfloat16" })),
    ("qwen2", || json!({ "sliding_window": 131_072, "max_window_layers": 28, "use_sliding_window": false })),
    ("starcoder2", || {
        json!({ "activation_function": "gelu", "attention_softmax_in_fp32": true, "mlp_type": "default",
            "norm_type": "layer_norm", "scale_attention_softmax_in_fp32": true, "scale_attn_weights": true })
    }),
];

#[test]
fn published_settings_are_known() {
    let folder = Folder::new("settings-published");
    for (name, settings) in PUBLISHED {
        let from = checkpoint(&folder, name);
        let mut changed = read_json(&from.join("config.json"));
        changed.as_object_mut().expect("settings").extend(settings().as_object().expect("settings").clone());
        std::fs::write(from.join("config.json"), changed.to_string()).expect("written");
        let conversion = Conversion::new(Checkpoint::open(&from).expect("a folder"), &Options::default());
        let conversion = conversion.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(conversion.settings_not_read(), [""; 0], "{name}");
    }
}

/// `docs/settings.md` has a row for each golden, with the settings that are read of it.
#[test]
fn what_is_read_is_written_down() {
    let folder = Folder::new("settings-read");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/settings.md");
    let written = std::fs::read_to_string(path).expect("readable");
    let mut rows: Vec<String> = goldens(&folder)
        .map(|(name, from, _)| {
            let conversion = Conversion::new(Checkpoint::open(&from).expect("a folder"), &Options::default());
            let conversion = conversion.unwrap_or_else(|e| panic!("{name}: {e}"));
            let read = conversion.settings_read().iter().filter(|setting| !setting.ends_with("_token_id"));
            let read: Vec<String> = read.map(|setting| format!("`{setting}`")).collect();
            format!("| {name} | {} |", read.join(", "))
        })
        .collect();
    rows.sort();
    let found: Vec<&str> = written
        .lines()
        .filter(|line| ["`hidden_size`", "`n_embd`", "`d_model`"].iter().any(|name| line.contains(name)))
        .collect();
    assert!(found == rows, "docs/settings.md should say:\n{}", rows.join("\n"));
}

#[test]
fn what_nobody_knows_is_told() {
    let folder = Folder::new("settings-unknown");
    let from = checkpoint(&folder, "llama2");
    let mut settings = read_json(&from.join("config.json"));
    settings["attention_temperature"] = json!(0.5);
    settings["image_token_id"] = json!(7);
    std::fs::write(from.join("config.json"), settings.to_string()).expect("written");
    let conversion = Conversion::new(Checkpoint::open(&from).expect("a folder"), &Options::default());
    assert_eq!(conversion.expect("converts").settings_not_read(), ["attention_temperature"]);
}
