//! Decoders with a recurrence in some or all layers: Mamba, delta nets, short convolutions.

use serde_json::{Value as Json, json};

use super::Origin::{Absent, Any, DenseLayers, FeedForward, Key, KeyOr, KvHeads, Latent, Made, Mixers, Quotient};
use super::{Class, FACTORS, MLP_BIAS, NO_KV_HEADS, NORMED, Origin, SHARE, SOME_BIAS, Setting, When, class};
use crate::arch::keys;
use crate::export::source::{Source, float};
use crate::network::{FeedForward as Part, Mixer};

const KV_HEADS: Setting = ("num_key_value_heads", KvHeads);
const CONV_BIAS: &[&str] = &["ssm_conv1d.bias"];
const PROJECTION_BIAS: &[&str] = &["ssm_in.bias", "ssm_out.bias"];
const KINDS: Setting = ("layer_types", Mixers(["full_attention", "", "linear_attention"]));
const PREDICTING: Setting = ("num_nextn_predict_layers", KeyOr(keys::NEXTN_PREDICT_LAYERS, "0"));
const EXPANSION: Origin = Quotient(keys::SSM_INNER_SIZE, keys::EMBEDDING_LENGTH);
const HEAD: Origin = Quotient(keys::SSM_INNER_SIZE, keys::SSM_TIME_STEP_RANK);

/// Mamba 1.
const MAMBA: &[Setting] = &[
    ("expand", EXPANSION),
    ("intermediate_size", Key(keys::SSM_INNER_SIZE)),
    ("conv_kernel", Key(keys::SSM_CONV_KERNEL)),
    ("state_size", Key(keys::SSM_STATE_SIZE)),
    ("time_step_rank", Key(keys::SSM_TIME_STEP_RANK)),
    ("layer_norm_epsilon", Key(keys::LAYER_NORM_RMS_EPSILON)),
    ("use_conv_bias", Any(CONV_BIAS)),
    ("use_bias", Any(PROJECTION_BIAS)),
    NO_KV_HEADS,
];

/// Mamba 2 within other models.
const MAMBA2: &[Setting] = &[
    ("mamba_d_conv", Key(keys::SSM_CONV_KERNEL)),
    ("mamba_d_state", Key(keys::SSM_STATE_SIZE)),
    ("mamba_n_groups", Key(keys::SSM_GROUP_COUNT)),
    ("mamba_n_heads", Key(keys::SSM_TIME_STEP_RANK)),
    ("mamba_d_head", HEAD),
    ("mamba_conv_bias", Any(CONV_BIAS)),
    ("mamba_proj_bias", Any(PROJECTION_BIAS)),
];

/// Gated delta nets.
const DELTA_NETS: &[Setting] = &[
    KV_HEADS,
    KINDS,
    SHARE,
    SOME_BIAS,
    ("linear_conv_kernel_dim", Key(keys::SSM_CONV_KERNEL)),
    ("linear_key_head_dim", Key(keys::SSM_STATE_SIZE)),
    ("linear_num_key_heads", Key(keys::SSM_GROUP_COUNT)),
    ("linear_num_value_heads", Key(keys::SSM_TIME_STEP_RANK)),
    ("linear_value_head_dim", HEAD),
    ("full_attention_interval", Key(keys::FULL_ATTENTION_INTERVAL)),
];
const PREDICTING_LAYERS: Setting = ("mtp_num_hidden_layers", KeyOr(keys::NEXTN_PREDICT_LAYERS, "0"));
const SHARED: Setting = ("shared_expert_intermediate_size", Key(keys::EXPERT_SHARED_FEED_FORWARD_LENGTH));

const ONE: Origin = Origin::Json("1.0");
/// Factors that are in the weights of files.
const IN_WEIGHTS: &[Setting] = &[
    ("attention_in_multiplier", ONE),
    ("attention_out_multiplier", ONE),
    ("embedding_multiplier", ONE),
    ("key_multiplier", ONE),
    ("mlp_multipliers", Origin::Json("[1.0, 1.0]")),
    ("ssm_in_multiplier", ONE),
    ("ssm_multipliers", Origin::Json("[1.0, 1.0, 1.0, 1.0, 1.0]")),
    ("ssm_out_multiplier", ONE),
];

/// Their classes.
pub(super) static CLASSES: &[Class] = &[
    Class {
        when: &[When::True(keys::SSM_DT_B_C_RMS)],
        ..class("mamba", "FalconMambaForCausalLM", &[MAMBA, &[("mixer_rms_eps", Made(inner_epsilon))]])
    },
    class("mamba", "MambaForCausalLM", &[MAMBA]),
    class(
        "mamba2",
        "Mamba2ForCausalLM",
        &[
            MAMBA,
            &[
                ("intermediate_size", Absent),
                ("time_step_rank", Absent),
                ("num_heads", Key(keys::SSM_TIME_STEP_RANK)),
                ("head_dim", HEAD),
                ("n_groups", Key(keys::SSM_GROUP_COUNT)),
            ],
        ],
    ),
    Class {
        names: &["final_layernorm"],
        ..class(
            "jamba",
            "JambaForCausalLM",
            &[&[
                KV_HEADS,
                ("mamba_expand", EXPANSION),
                ("mamba_d_conv", Key(keys::SSM_CONV_KERNEL)),
                ("mamba_d_state", Key(keys::SSM_STATE_SIZE)),
                ("mamba_dt_rank", Key(keys::SSM_TIME_STEP_RANK)),
                ("mamba_conv_bias", Any(CONV_BIAS)),
                ("mamba_proj_bias", Any(PROJECTION_BIAS)),
                ("attn_layer_offset", Made(|source| attention_period(source).map(|(offset, _)| offset.into()))),
                ("attn_layer_period", Made(|source| attention_period(source).map(|(_, period)| period.into()))),
                ("expert_layer_offset", Made(|source| expert_period(source).map(|(offset, _)| offset.into()))),
                ("expert_layer_period", Made(|source| expert_period(source).map(|(_, period)| period.into()))),
                // A class with kernels of its own falls back to others without them.
                ("use_mamba_kernels", Origin::Json("false")),
            ]],
        )
    },
    Class {
        when: &[When::Lacks(keys::ATTENTION_SCALE)],
        names: &["final_layernorm", "pre_ff_layernorm", "feed_forward."],
        ..class(
            "granitehybrid",
            "BambaForCausalLM",
            &[
                MAMBA2,
                &[
                    KV_HEADS,
                    SOME_BIAS,
                    MLP_BIAS,
                    ("mamba_expand", EXPANSION),
                    ("attn_layer_indices", Made(attending)),
                    ("attn_rotary_emb", Key(keys::ROPE_DIMENSION_COUNT)),
                    ("rope_parameters", Made(whole_heads)),
                ],
            ],
        )
    },
    class(
        "granitehybrid",
        "GraniteMoeHybridForCausalLM",
        &[
            FACTORS,
            MAMBA2,
            &[
                KV_HEADS,
                SOME_BIAS,
                ("mamba_expand", EXPANSION),
                ("layer_types", Mixers(["attention", "", "mamba"])),
                ("num_local_experts", KeyOr(keys::EXPERT_COUNT, "0")),
                ("num_experts_per_tok", KeyOr(keys::EXPERT_USED_COUNT, "0")),
                (
                    "shared_intermediate_size",
                    Made(|source| {
                        let h = &source.header.hparams;
                        let key = if h.has(keys::EXPERT_COUNT) {
                            keys::EXPERT_SHARED_FEED_FORWARD_LENGTH
                        } else {
                            keys::FEED_FORWARD_LENGTH
                        };
                        h.count_or(key, 0).ok().map(Json::from)
                    }),
                ),
                (
                    "position_embedding_type",
                    Made(|source| {
                        let rotates = source.attention().any(|mixer| mixer.rope.is_some());
                        Some(if rotates { "rope" } else { "nope" }.into())
                    }),
                ),
            ],
        ],
    ),
    class("nemotron_h", "NemotronHForCausalLM", &[NEMOTRON_H, &[("intermediate_size", Made(longest))]]),
    class(
        "nemotron_h_moe",
        "NemotronHForCausalLM",
        &[
            NEMOTRON_H,
            &[
                ("intermediate_size", Made(longest)),
                ("n_group", KeyOr(keys::EXPERT_GROUP_COUNT, "1")),
                ("topk_group", KeyOr(keys::EXPERT_GROUP_USED_COUNT, "1")),
                ("n_shared_experts", KeyOr(keys::EXPERT_SHARED_COUNT, "1")),
                ("moe_shared_expert_intermediate_size", Key(keys::EXPERT_SHARED_FEED_FORWARD_LENGTH)),
                NORMED,
                ("routed_scaling_factor", KeyOr(keys::EXPERT_WEIGHTS_SCALE, "1.0")),
            ],
        ],
    ),
    Class {
        names: &["final_layernorm"],
        ..class(
            "falcon-h1",
            "FalconH1ForCausalLM",
            &[
                MAMBA2,
                IN_WEIGHTS,
                &[
                    SOME_BIAS,
                    MLP_BIAS,
                    ("projectors_bias", Any(&["ssm_out.bias"])),
                    ("mamba_d_ssm", Key(keys::SSM_INNER_SIZE)),
                    ("mamba_rms_norm", Any(&["ssm_norm.weight"])),
                    ("mamba_norm_before_gate", Origin::Json("false")),
                    ("lm_head_multiplier", KeyOr(keys::LOGIT_SCALE, "1.0")),
                ],
            ],
        )
    },
    class(
        "lfm2",
        "Lfm2ForCausalLM",
        &[&[
            KV_HEADS,
            ("conv_L_cache", Key(keys::SHORTCONV_L_CACHE)),
            ("conv_bias", Any(&["shortconv.conv.bias"])),
            ("block_auto_adjust_ff_dim", Origin::Json("false")),
            ("layer_types", Mixers(["full_attention", "", "conv"])),
        ]],
    ),
    class(
        "lfm2moe",
        "Lfm2MoeForCausalLM",
        &[&[
            KV_HEADS,
            ("conv_L_cache", Key(keys::SHORTCONV_L_CACHE)),
            ("conv_bias", Any(&["shortconv.conv.bias"])),
            ("layer_types", Mixers(["full_attention", "", "conv"])),
            ("num_dense_layers", DenseLayers),
            ("use_expert_bias", Origin::Json("true")),
            NORMED,
            ("routed_scaling_factor", KeyOr(keys::EXPERT_WEIGHTS_SCALE, "1.0")),
        ]],
    ),
    class(
        "qwen3next",
        "Qwen3NextForCausalLM",
        &[DELTA_NETS, &[SHARED, NORMED, ("mlp_only_layers", Origin::Json("[]")), PREDICTING]],
    ),
    class("qwen35", "Qwen3_5ForCausalLM", &[DELTA_NETS, &[PREDICTING_LAYERS]]),
    class(
        "qwen35moe",
        "Qwen3_5MoeForCausalLM",
        &[DELTA_NETS, &[SHARED, PREDICTING_LAYERS, ("intermediate_size", Key(keys::FEED_FORWARD_LENGTH))]],
    ),
    class(
        "kimi-linear",
        "KimiLinearForCausalLM",
        &[&[
            ("model_max_length", Key(keys::CONTEXT_LENGTH)),
            ("num_key_value_heads", Key(keys::HEAD_COUNT)),
            ("head_dim", Key(keys::VALUE_LENGTH)),
            ("q_lora_rank", KeyOr(keys::Q_LORA_RANK, "null")),
            ("kv_lora_rank", Key(keys::KV_LORA_RANK)),
            ("qk_nope_head_dim", Latent(|latent| latent.plain_dim)),
            ("qk_rope_head_dim", Latent(|latent| latent.rope_dim)),
            ("v_head_dim", Latent(|latent| latent.v_dim)),
            KINDS,
            ("mlp_layer_types", FeedForward(["dense", "sparse"])),
            ("linear_conv_kernel_dim", Key(keys::SSM_CONV_KERNEL)),
            ("linear_head_dim", Key(keys::KDA_HEAD_DIM)),
            ("linear_num_heads", Key(keys::HEAD_COUNT)),
            ("linear_attn_config", Made(linear)),
            ("mla_use_nope", Origin::Json("true")),
            ("num_experts_per_token", Key(keys::EXPERT_USED_COUNT)),
            ("num_shared_experts", Key(keys::EXPERT_SHARED_COUNT)),
            ("topk_group", KeyOr(keys::EXPERT_GROUP_USED_COUNT, "1")),
            ("first_k_dense_replace", DenseLayers),
            ("moe_layer_freq", Origin::Json("1")),
            ("moe_router_activation_func", Origin::Json(r#""sigmoid""#)),
            ("routed_scaling_factor", KeyOr(keys::EXPERT_WEIGHTS_SCALE, "1.0")),
        ]],
    ),
];

/// Layers of one part each.
const NEMOTRON_H: &[Setting] = &[
    KV_HEADS,
    SOME_BIAS,
    ("hybrid_override_pattern", Made(letters)),
    ("conv_kernel", Key(keys::SSM_CONV_KERNEL)),
    ("ssm_state_size", Key(keys::SSM_STATE_SIZE)),
    ("n_groups", Key(keys::SSM_GROUP_COUNT)),
    ("mamba_num_heads", Key(keys::SSM_TIME_STEP_RANK)),
    ("mamba_head_dim", HEAD),
    ("use_conv_bias", Any(CONV_BIAS)),
    ("use_bias", Any(PROJECTION_BIAS)),
    ("mamba_proj_bias", Any(PROJECTION_BIAS)),
    ("mlp_bias", Any(&["ffn_up.bias", "ffn_down.bias"])),
    // A class with kernels of its own falls back to others without them.
    ("use_mamba_kernels", Origin::Json("false")),
];

/// The epsilon of the norms of step widths, keys and queries.
fn inner_epsilon(source: &Source<'_>) -> Option<Json> {
    source.spec.layers.iter().find_map(|layer| match &layer.mixer {
        Mixer::Mamba1(mixer) => Some(float(mixer.plain_norms?)),
        _ => None,
    })
}

fn letters(source: &Source<'_>) -> Option<Json> {
    let letter = |layer: &crate::network::LayerSpec| match (&layer.mixer, &layer.feed_forward) {
        (Mixer::Mamba2(_), _) => 'M',
        (Mixer::Attention(_), _) => '*',
        (_, Part::Experts(_)) => 'E',
        _ => '-',
    };
    Some(source.spec.layers.iter().map(letter).collect::<String>().into())
}

/// The rotary embedding of whole heads, where the class would rotate half of each.
fn whole_heads(source: &Source<'_>) -> Option<Json> {
    let base = source.rotary_base();
    Some(json!({ "rope_type": "default", "rope_theta": base, "partial_rotary_factor": 1.0 }))
}

/// The longest of the feed-forward parts.
fn longest(source: &Source<'_>) -> Option<Json> {
    source.header.hparams.feed_forward_length.iter().max().map(|&length| length.into())
}

/// Whether each layer has attention.
fn attends(source: &Source<'_>) -> Vec<bool> {
    let attention = |mixer: &Mixer| matches!(mixer, Mixer::Attention(_) | Mixer::Latent(_));
    source.spec.layers.iter().map(|layer| attention(&layer.mixer)).collect()
}

/// The numbers of the layers with attention.
fn attending(source: &Source<'_>) -> Option<Json> {
    Some((0..).zip(attends(source)).filter(|(_, attends)| *attends).map(|(i, _): (usize, _)| i).collect())
}

/// Kimi's object of settings: layers are counted from 1 on.
fn linear(source: &Source<'_>) -> Option<Json> {
    let h = &source.header.hparams;
    let of = |kind: bool| -> Vec<usize> {
        (1..).zip(attends(source)).filter(|(_, attends)| *attends == kind).map(|(i, _)| i).collect()
    };
    Some(json!({
        "full_attn_layers": of(true), "kda_layers": of(false), "head_dim": h.count(keys::KDA_HEAD_DIM).ok()?,
        "num_heads": h.head_count.first()?, "short_conv_kernel_size": h.count(keys::SSM_CONV_KERNEL).ok()?,
    }))
}

fn attention_period(source: &Source<'_>) -> Option<(usize, usize)> {
    period(&attends(source))
}

fn expert_period(source: &Source<'_>) -> Option<(usize, usize)> {
    let experts: Vec<bool> = source.spec.layers.iter().map(|layer| layer.feed_forward.experts().is_some()).collect();
    period(&experts)
}

/// Where the first of a kind of layers is, and how far the next is from it; `None` if they are not so regular.
fn period(layers: &[bool]) -> Option<(usize, usize)> {
    let offset = layers.iter().position(|&of_kind| of_kind)?;
    let regular = |period: &usize| (0..).zip(layers).all(|(i, &of_kind): (usize, _)| (i % period == offset) == of_kind);
    (offset + 1..=layers.len()).find(regular).map(|period| (offset, period))
}
