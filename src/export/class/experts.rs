//! Decoders with attention in all layers and experts in some or all.

use serde_json::{Value as Json, json};

use super::Origin::{
    Absent, DenseLayers, Each, FeedForward, Flag, Gating, Has, Json as Value, Key, KeyOr, Latent, Made, Mixers,
    RopeOfKinds, Rotating, Tensor,
};
use super::dense::BASES;
use super::{
    ATTENTION_BIAS, Class, FACTORS, INPUT_BIAS, LAYERS, NORMED, NOT_NORMED, QKVO, Rename, SHARE, Setting, WEIGHT_SCALE,
    WINDOW, When, class,
};
use crate::arch::keys;
use crate::export::source::{Source, float, share};
use crate::network::{Mixer, Selection};

/// Transformers 4's name; 5 has another.
const EXPERTS: Setting = ("num_experts", Key(keys::EXPERT_COUNT));
const ALL_SPARSE: Setting = ("mlp_only_layers", Value("[]"));
const USED: Setting = ("num_experts_per_tok", Key(keys::EXPERT_USED_COUNT));
const SHARED_LENGTH: Setting = ("shared_intermediate_size", KeyOr(keys::EXPERT_SHARED_FEED_FORWARD_LENGTH, "0"));
const SHARED_COUNT: Setting = ("n_shared_experts", KeyOr(keys::EXPERT_SHARED_COUNT, "0"));
const SHARED_EXPERTS: Setting = ("num_shared_experts", KeyOr(keys::EXPERT_SHARED_COUNT, "0"));
const DENSE_FIRST: Setting = ("first_k_dense_replace", DenseLayers);
const KINDS: Setting = ("mlp_layer_types", FeedForward(["dense", "sparse"]));
const SIGMOID: Setting = ("scoring_func", Value(r#""sigmoid""#));
const CORRECTED: Setting = ("topk_method", Value(r#""noaux_tc""#));
const PREDICTING: Setting = ("num_nextn_predict_layers", KeyOr(keys::NEXTN_PREDICT_LAYERS, "0"));
const GROUPS: &[Setting] =
    &[("n_group", KeyOr(keys::EXPERT_GROUP_COUNT, "1")), ("topk_group", KeyOr(keys::EXPERT_GROUP_USED_COUNT, "1"))];

/// Latent attention, for whose cache files count one key-value head.
const LATENT: &[Setting] = &[
    ("num_key_value_heads", Key(keys::HEAD_COUNT)),
    ("q_lora_rank", KeyOr(keys::Q_LORA_RANK, "null")),
    ("kv_lora_rank", Key(keys::KV_LORA_RANK)),
    ("qk_nope_head_dim", Latent(|latent| latent.plain_dim)),
    ("qk_rope_head_dim", Latent(|latent| latent.rope_dim)),
    ("v_head_dim", Latent(|latent| latent.v_dim)),
    ("head_dim", Latent(|latent| latent.rope_dim)),
    ("attention_bias", super::Origin::Any(&["attn_q_a.bias", "attn_kv_a_mqa.bias", "attn_output.bias"])),
];
/// YaRN's factor, which `DeepSeek` gives to the scores.
const MAGNITUDES: &[Setting] = &[("mscale", Made(magnitude)), ("mscale_all_dim", Made(magnitude))];

fn magnitude(source: &Source<'_>) -> Option<Json> {
    let slope = source.header.hparams.get(keys::ROPE_SCALING_YARN_LOG_MULTIPLIER)?.as_f64()?;
    // A tenth of it is in the file, in single precision.
    Some(((slope * 1e7).round() / 1e6).into())
}

/// What the classes with an indexer have besides.
const INDEXED: &[Setting] = &[
    ("layer_types", Mixers(["indexed_attention", "", ""])),
    ("index_n_heads", Key(keys::INDEXER_HEAD_COUNT)),
    ("index_head_dim", Key(keys::INDEXER_KEY_LENGTH)),
    ("index_topk", Key(keys::INDEXER_TOP_K)),
];

/// Whether each layer has an indexer of its own.
fn indexers(source: &Source<'_>) -> Option<Json> {
    let kind = |mixer: &Mixer| match mixer {
        Mixer::Latent(latent) => Some(match latent.selection {
            Some(Selection::OfEarlierLayer) => "shared",
            _ => "full",
        }),
        _ => None,
    };
    source.spec.layers.iter().map(|layer| kind(&layer.mixer).map(Json::from)).collect()
}

/// The numbers of the layers with experts.
fn sparse_layers(source: &Source<'_>) -> Option<Json> {
    let layers = source.spec.layers.iter().enumerate();
    Some(layers.filter(|(_, layer)| layer.feed_forward.experts().is_some()).map(|(i, _)| i).collect())
}

/// 1 for each layer with experts, 0 for each other.
fn sparse(source: &Source<'_>) -> Option<Json> {
    Some(source.spec.layers.iter().map(|layer| u8::from(layer.feed_forward.experts().is_some())).collect())
}

/// 1 for each layer with a window, 0 for each other.
fn windows(source: &Source<'_>) -> Option<Json> {
    Some(source.attention().map(|mixer| u8::from(mixer.window.is_some())).collect())
}

/// Key-value heads of `MiMo`'s layers with windows, or of the others.
fn kv_heads(source: &Source<'_>, windows: bool) -> Option<Json> {
    let of_kind = source.attention().find(|mixer| mixer.window.is_some() == windows);
    Some(of_kind.or_else(|| source.attention().next())?.kv_heads.into())
}

/// Whether a layer with a window, or one without, has sinks.
fn sinks(source: &Source<'_>, windows: bool) -> Option<Json> {
    let layers = source.spec.layers.iter().enumerate();
    let mut of_kind =
        layers.filter(|(_, layer)| matches!(&layer.mixer, Mixer::Attention(m) if m.window.is_some() == windows));
    Some(of_kind.any(|(i, _)| source.has(&format!("blk.{i}.attn_sinks.weight"))).into())
}

/// How many experts all tokens share, if one has this length.
fn shared_count(source: &Source<'_>) -> Option<Json> {
    let h = &source.header.hparams;
    let (shared, own) =
        (h.count(keys::EXPERT_SHARED_FEED_FORWARD_LENGTH).ok()?, h.count(keys::EXPERT_FEED_FORWARD_LENGTH).ok()?);
    (own > 0 && shared.is_multiple_of(own)).then(|| (shared / own).into())
}

/// Their classes.
pub(super) static CLASSES: &[Class] = &[
    class(
        "qwen2moe",
        "Qwen2MoeForCausalLM",
        &[&[
            EXPERTS,
            NOT_NORMED,
            ("shared_expert_intermediate_size", Key(keys::EXPERT_SHARED_FEED_FORWARD_LENGTH)),
            ALL_SPARSE,
        ]],
    ),
    class("qwen3moe", "Qwen3MoeForCausalLM", &[&[ATTENTION_BIAS, EXPERTS, NORMED, ALL_SPARSE]]),
    // The text part of a model of images: positions of texts have one part.
    class("qwen3vlmoe", "Qwen3MoeForCausalLM", &[&[ATTENTION_BIAS, EXPERTS, NORMED, ALL_SPARSE]]),
    class("olmoe", "OlmoeForCausalLM", &[&[ATTENTION_BIAS, NOT_NORMED]]),
    Class {
        when: &[When::Has("ffn_gate_shexp.weight")],
        ..class("granitemoe", "GraniteMoeSharedForCausalLM", &[FACTORS, &[ATTENTION_BIAS, SHARED_LENGTH]])
    },
    class("granitemoe", "GraniteMoeForCausalLM", &[FACTORS, &[ATTENTION_BIAS]]),
    Class {
        when: &[When::Has("ffn_gate_inp.weight")],
        ..class(
            "granite_swa",
            "GraniteMoeSWAForCausalLM",
            &[FACTORS, &[ATTENTION_BIAS, SHARED_LENGTH, WINDOW, LAYERS, BASES]],
        )
    },
    Class {
        when: &[When::Number(keys::EXPERT_GATING_FUNC, 2), When::Tokenizer("glm4")],
        ..class(
            "deepseek2",
            "Glm4MoeLiteForCausalLM",
            &[
                LATENT,
                GROUPS,
                &[SHARED_COUNT, KINDS, DENSE_FIRST, NOT_NORMED, WEIGHT_SCALE, SIGMOID, CORRECTED, PREDICTING],
            ],
        )
    },
    Class {
        when: &[When::Number(keys::EXPERT_GATING_FUNC, 2)],
        rope: MAGNITUDES,
        ..class(
            "deepseek2",
            "DeepseekV3ForCausalLM",
            &[LATENT, GROUPS, &[SHARED_COUNT, DENSE_FIRST, NOT_NORMED, WEIGHT_SCALE, SIGMOID, CORRECTED, PREDICTING]],
        )
    },
    Class {
        rope: MAGNITUDES,
        ..class(
            "deepseek2",
            "DeepseekV2ForCausalLM",
            &[
                LATENT,
                GROUPS,
                &[
                    USED,
                    SHARED_COUNT,
                    DENSE_FIRST,
                    NOT_NORMED,
                    WEIGHT_SCALE,
                    ("scoring_func", Value(r#""softmax""#)),
                    (
                        "topk_method",
                        Made(|source| {
                            let groups = source.header.hparams.count_or(keys::EXPERT_GROUP_COUNT, 1).ok()?;
                            Some(if groups > 1 { "group_limited_greedy" } else { "greedy" }.into())
                        }),
                    ),
                ],
            ],
        )
    },
    Class {
        rope: MAGNITUDES,
        ..class(
            "deepseek32",
            "DeepseekV32ForCausalLM",
            &[
                LATENT,
                INDEXED,
                GROUPS,
                &[
                    KINDS,
                    SHARED_COUNT,
                    DENSE_FIRST,
                    NOT_NORMED,
                    WEIGHT_SCALE,
                    SIGMOID,
                    CORRECTED,
                    ("num_nextn_predict_layers", Key(keys::NEXTN_PREDICT_LAYERS)),
                    ("rope_interleave", Value("true")),
                ],
            ],
        )
    },
    Class {
        rope: MAGNITUDES,
        ..class(
            "glm-dsa",
            "GlmMoeDsaForCausalLM",
            &[
                LATENT,
                INDEXED,
                GROUPS,
                &[
                    ("indexer_types", Made(indexers)),
                    KINDS,
                    SHARED_COUNT,
                    DENSE_FIRST,
                    NOT_NORMED,
                    WEIGHT_SCALE,
                    SIGMOID,
                    CORRECTED,
                    PREDICTING,
                ],
            ],
        )
    },
    Class {
        rope: &[
            ("llama_4_scaling_beta", Key(keys::TEMPERATURE_SCALE)),
            (
                "partial_rotary_factor",
                Made(|source| {
                    let latent = source.latent()?;
                    Some(share(latent.rope_dim, latent.plain_dim + latent.rope_dim))
                }),
            ),
            MAGNITUDES[0],
            MAGNITUDES[1],
        ],
        ..class(
            "mistral4",
            "Mistral4ForCausalLM",
            &[LATENT, GROUPS, &[("head_dim", Absent), SHARED_COUNT, DENSE_FIRST, NOT_NORMED, WEIGHT_SCALE]],
        )
    },
    Class {
        rope: &[("truncate", Value("false"))],
        ..class(
            "gpt-oss",
            "GptOssForCausalLM",
            &[&[ATTENTION_BIAS, ("intermediate_size", Key(keys::EXPERT_FEED_FORWARD_LENGTH)), WINDOW, LAYERS]],
        )
    },
    Class {
        when: &[When::WholeHeads],
        ..class(
            "glm4moe",
            "SolarOpenForCausalLM",
            &[
                GROUPS,
                &[
                    ATTENTION_BIAS,
                    SHARE,
                    SHARED_COUNT,
                    ("first_k_dense_replace", Key(keys::LEADING_DENSE_BLOCK_COUNT)),
                    NORMED,
                    WEIGHT_SCALE,
                    ("intermediate_size", Key(keys::FEED_FORWARD_LENGTH)),
                ],
            ],
        )
    },
    class(
        "glm4moe",
        "Glm4MoeForCausalLM",
        &[
            GROUPS,
            &[
                INPUT_BIAS,
                SHARE,
                ("use_qk_norm", Has(&["attn_q_norm.weight", "attn_k_norm.weight"])),
                SHARED_COUNT,
                DENSE_FIRST,
                NORMED,
                WEIGHT_SCALE,
                PREDICTING,
            ],
        ],
    ),
    class(
        "dots1",
        "Dots1ForCausalLM",
        &[
            GROUPS,
            &[
                ATTENTION_BIAS,
                EXPERT_COUNT,
                USED,
                SHARED_COUNT,
                DENSE_FIRST,
                NORMED,
                WEIGHT_SCALE,
                SIGMOID,
                LAYERS,
                ("sliding_window", Value("null")),
            ],
        ],
    ),
    class(
        "minimax-m2",
        "MiniMaxM2ForCausalLM",
        &[&[
            ("intermediate_size", Key(keys::EXPERT_FEED_FORWARD_LENGTH)),
            ("rotary_dim", Key(keys::ROPE_DIMENSION_COUNT)),
            SHARE,
            ("use_routing_bias", Value("true")),
            ("use_qk_norm", Value("true")),
            SIGMOID,
        ]],
    ),
    class(
        "ernie4_5-moe",
        "Ernie4_5_MoeForCausalLM",
        &[&[
            ("use_bias", Has(QKVO)),
            ("moe_num_experts", Key(keys::EXPERT_COUNT)),
            ("moe_k", Key(keys::EXPERT_USED_COUNT)),
            ("moe_layer_interval", Key(keys::INTERLEAVE_MOE_LAYER_STEP)),
            ("moe_layer_start_index", Key(keys::LEADING_DENSE_BLOCK_COUNT)),
            ("moe_layer_end_index", Made(|source| Some((source.header.hparams.block_count - 1).into()))),
            ("moe_num_shared_experts", KeyOr(keys::EXPERT_SHARED_COUNT, "0")),
        ]],
    ),
    class(
        "exaone-moe",
        "ExaoneMoeForCausalLM",
        &[
            GROUPS,
            &[
                WINDOW,
                LAYERS,
                ("sliding_window_pattern", Value("null")),
                KINDS,
                DENSE_FIRST,
                SHARED_EXPERTS,
                NORMED,
                WEIGHT_SCALE,
                SIGMOID,
                ("num_nextn_predict_layers", Value("0")),
            ],
        ],
    ),
    class(
        "mellum",
        "MellumForCausalLM",
        &[&[ATTENTION_BIAS, EXPERTS, NORMED, WINDOW, LAYERS, KINDS, ("rope_parameters", RopeOfKinds)]],
    ),
    class(
        "afmoe",
        "AfmoeForCausalLM",
        &[&[
            ATTENTION_BIAS,
            ("n_group", Key(keys::EXPERT_GROUP_COUNT)),
            ("topk_group", Key(keys::EXPERT_GROUP_USED_COUNT)),
            WINDOW,
            LAYERS,
            ("mup_enabled", Value("true")),
            ("num_dense_layers", DenseLayers),
            SHARED_EXPERTS,
            ("route_norm", Value("true")),
            ("route_scale", Key(keys::EXPERT_WEIGHTS_SCALE)),
            ("score_func", Value(r#""sigmoid""#)),
        ]],
    ),
    class(
        "cohere2moe",
        "Cohere2MoeForCausalLM",
        &[&[
            ATTENTION_BIAS,
            WINDOW,
            LAYERS,
            KINDS,
            ("logit_scale", Key(keys::LOGIT_SCALE)),
            ("intermediate_size", Key(keys::EXPERT_FEED_FORWARD_LENGTH)),
            SHARED_EXPERTS,
            NORMED,
            ("expert_selection_fn", Gating),
        ]],
    ),
    class(
        "hunyuan-moe",
        "HunYuanMoEV1ForCausalLM",
        &[&[
            ATTENTION_BIAS,
            ("intermediate_size", Key(keys::EXPERT_SHARED_FEED_FORWARD_LENGTH)),
            ("moe_intermediate_size", Made(|source| each(source, keys::EXPERT_FEED_FORWARD_LENGTH))),
            ("moe_topk", Made(|source| each(source, keys::EXPERT_USED_COUNT))),
            ("num_shared_expert", Made(|source| each(source, keys::EXPERT_SHARED_COUNT))),
            ("use_qk_norm", Value("true")),
        ]],
    ),
    Class {
        rope: &[
            ("short_mscale", Key(keys::ROPE_SCALING_ATTN_FACTOR)),
            ("long_mscale", Key(keys::ROPE_SCALING_ATTN_FACTOR)),
        ],
        ..class(
            "phimoe",
            "PhiMoEForCausalLM",
            &[&[
                ("attention_bias", Has(QKVO)),
                ("lm_head_bias", Tensor("output.bias")),
                WINDOW,
                ("router_jitter_noise", KeyOr(keys::ROUTER_JITTER_NOISE, "0.01")),
                ("original_max_position_embeddings", Key(keys::ROPE_SCALING_ORIGINAL_CONTEXT_LENGTH)),
            ]],
        )
    },
    Class {
        rename: Rename::TRANSFORMER,
        ..class(
            "dbrx",
            "DbrxForCausalLM",
            &[&[
                ("d_model", Key(keys::EMBEDDING_LENGTH)),
                ("max_seq_len", Key(keys::CONTEXT_LENGTH)),
                ("attn_config.kv_n_heads", Key(keys::HEAD_COUNT_KV)),
                ("attn_config.rope_theta", super::Origin::RotaryBase),
                (
                    "attn_config.clip_qkv",
                    Made(|source| Some(source.attention().next()?.clamp.map_or(Json::Null, float))),
                ),
                ("ffn_config.ffn_hidden_size", Key(keys::FEED_FORWARD_LENGTH)),
                ("ffn_config.hidden_size", Key(keys::EMBEDDING_LENGTH)),
                ("ffn_config.moe_num_experts", Key(keys::EXPERT_COUNT)),
                ("ffn_config.moe_top_k", Key(keys::EXPERT_USED_COUNT)),
                super::NO_KV_HEADS,
            ]],
        )
    },
    class(
        "llama4",
        "Llama4ForCausalLM",
        &[&[
            ATTENTION_BIAS,
            ("intermediate_size", Key(keys::EXPERT_FEED_FORWARD_LENGTH)),
            ("intermediate_size_mlp", Key(keys::FEED_FORWARD_LENGTH)),
            ("interleave_moe_layer_step", Key(keys::INTERLEAVE_MOE_LAYER_STEP)),
            ("moe_layers", Made(sparse_layers)),
            ("no_rope_layers", Rotating),
            ("layer_types", Mixers(["full_attention", "chunked_attention", ""])),
            ("use_qk_norm", Made(|source| Some(source.attention().any(|mixer| mixer.plain_qk_norm).into()))),
        ]],
    ),
    class(
        "mimo2",
        "MiMoV2FlashForCausalLM",
        &[
            GROUPS,
            &[
                ATTENTION_BIAS,
                WINDOW,
                LAYERS,
                ("hybrid_layer_pattern", Made(windows)),
                KINDS,
                ("moe_layer_freq", Made(sparse)),
                ("num_key_value_heads", Made(|source| kv_heads(source, false))),
                ("swa_num_key_value_heads", Made(|source| kv_heads(source, true))),
                ("swa_num_attention_heads", Key(keys::HEAD_COUNT)),
                ("swa_head_dim", Key(keys::KEY_LENGTH)),
                ("v_head_dim", Key(keys::VALUE_LENGTH)),
                ("swa_v_head_dim", Key(keys::VALUE_LENGTH)),
                ("attention_value_scale", KeyOr(keys::VALUE_SCALE, "1.0")),
                ("rope_parameters", RopeOfKinds),
                ("rope_theta", super::Origin::RotaryBase),
                ("swa_rope_theta", super::Origin::SlidingBase),
                SHARE,
                NORMED,
                WEIGHT_SCALE,
                SIGMOID,
                CORRECTED,
                ("layernorm_epsilon", Key(keys::LAYER_NORM_RMS_EPSILON)),
                ("add_swa_attention_sink_bias", Made(|source| sinks(source, true))),
                ("add_full_attention_sink_bias", Made(|source| sinks(source, false))),
            ],
        ],
    ),
    class(
        "laguna",
        "LagunaForCausalLM",
        &[&[
            ATTENTION_BIAS,
            WINDOW,
            LAYERS,
            KINDS,
            ("rope_parameters", RopeOfKinds),
            ("num_attention_heads", Made(|source| Some(source.attention().next()?.heads.into()))),
            ("num_attention_heads_per_layer", Each(keys::HEAD_COUNT)),
            ("moe_routed_scaling_factor", KeyOr(keys::EXPERT_WEIGHTS_SCALE, "1.0")),
            (
                "shared_expert_intermediate_size",
                Made(|source| {
                    let h = &source.header.hparams;
                    let shared =
                        h.count_or(keys::EXPERT_SHARED_FEED_FORWARD_LENGTH, 0).ok().filter(|&length| length > 0);
                    shared.or_else(|| h.count(keys::EXPERT_FEED_FORWARD_LENGTH).ok()).map(Json::from)
                }),
            ),
        ]],
    ),
    class(
        "hy_v3",
        "HYV3ForCausalLM",
        &[&[
            ATTENTION_BIAS,
            KINDS,
            ("num_shared_experts", Made(shared_count)),
            ("route_norm", Flag(keys::EXPERT_WEIGHTS_NORM, true)),
            ("router_scaling_factor", KeyOr(keys::EXPERT_WEIGHTS_SCALE, "1.0")),
            PREDICTING,
        ]],
    ),
];

const EXPERT_COUNT: Setting = ("n_routed_experts", Key(keys::EXPERT_COUNT));

/// A list that has one count for each layer.
fn each(source: &Source<'_>, key: &str) -> Option<Json> {
    let count = source.header.hparams.count(key).ok()?;
    Some(json!(vec![count; source.header.hparams.block_count]))
}
