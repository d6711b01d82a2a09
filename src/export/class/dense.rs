//! Decoders with attention and dense feed-forward parts in all layers, and Gemma's.

use serde_json::json;

use super::Origin::{
    Absent, Any, Each, Flag, Gelu, Has, Json, Key, KeyOr, Latent, Made, Quotient, RopeOfKinds, RotaryBase, RotaryShare,
    SlidingBase,
};
use super::{
    ATTENTION_BIAS, CAPS, Class, FACTORS, INPUT_BIAS, LAYERS, LOGIT_CAP, MLP_BIAS, NO_KV_HEADS, PLAIN_BIAS, QKV, QKVO,
    Rename, SCALAR, SHARE, Setting, WINDOW, When, class,
};
use crate::arch::keys;
use crate::export::source::{Source, float};
use crate::network::Mixer;

const EMBEDDINGS: Setting = ("hidden_size_per_layer_input", KeyOr(keys::EMBEDDING_LENGTH_PER_LAYER_INPUT, "0"));
const SHARED_KV: Setting = ("num_kv_shared_layers", KeyOr(keys::SHARED_KV_LAYERS, "0"));
/// Every token has an embedding for each layer; files add those that checkpoints leave out.
const ALL_TOKENS: Setting =
    ("vocab_size_per_layer_input", Made(|source| Some(source.header.hparams.vocab_size.into())));
const HEAD_NORMS: &[&str] = &["attn_q_norm.weight", "attn_k_norm.weight"];
const FALCON: &[Setting] = &[
    ("activation", Gelu),
    ("alibi", Json("false")),
    ("bias", Any(&["attn_qkv.bias", "ffn_up.bias"])),
    ("ffn_hidden_size", Key(keys::FEED_FORWARD_LENGTH)),
    ("num_kv_heads", Key(keys::HEAD_COUNT_KV)),
    NO_KV_HEADS,
];

/// Their classes.
pub(super) static CLASSES: &[Class] = &[
    Class { when: &[When::Has("ffn_gate_inp.weight")], ..class("llama", "MixtralForCausalLM", &[&[WINDOW]]) },
    Class { when: &[When::Windows], ..class("llama", "MistralForCausalLM", &[&[WINDOW]]) },
    class("llama", "LlamaForCausalLM", &[&[ATTENTION_BIAS, MLP_BIAS]]),
    class("qwen2", "Qwen2ForCausalLM", &[]),
    class("qwen3", "Qwen3ForCausalLM", &[&[ATTENTION_BIAS]]),
    // The text parts of models of images: positions of texts have one part.
    class("qwen2vl", "Qwen2ForCausalLM", &[]),
    class("qwen3vl", "Qwen3ForCausalLM", &[&[ATTENTION_BIAS]]),
    class("gemma", "GemmaForCausalLM", &[&[ATTENTION_BIAS, ("hidden_activation", Json(r#""gelu_pytorch_tanh""#))]]),
    class("gemma2", "Gemma2ForCausalLM", &[CAPS, &[ATTENTION_BIAS, WINDOW, LAYERS, SCALAR]]),
    class(
        "gemma3",
        "Gemma3ForCausalLM",
        &[CAPS, &[ATTENTION_BIAS, WINDOW, LAYERS, ("rope_local_base_freq", SlidingBase), SCALAR]],
    ),
    class(
        "gemma3n",
        "Gemma3nForCausalLM",
        &[&[
            ("intermediate_size", Each(keys::FEED_FORWARD_LENGTH)),
            WINDOW,
            LAYERS,
            ("rope_parameters", RopeOfKinds),
            LOGIT_CAP,
            ("altup_active_idx", Key(keys::ALTUP_ACTIVE_IDX)),
            ("altup_num_inputs", Key(keys::ALTUP_NUM_INPUTS)),
            ("laurel_rank", KeyOr(keys::LAUREL_RANK, "64")),
            EMBEDDINGS,
            SHARED_KV,
            ALL_TOKENS,
            ("activation_sparsity_pattern", Made(sparsity)),
        ]],
    ),
    class(
        "gemma4",
        "Gemma4ForCausalLM",
        &[&[
            (
                "intermediate_size",
                Made(|source| source.header.hparams.feed_forward_length.first().copied().map(Into::into)),
            ),
            ("use_double_wide_mlp", Made(double_wide)),
            WINDOW,
            LAYERS,
            ("rope_parameters", RopeOfKinds),
            LOGIT_CAP,
            EMBEDDINGS,
            SHARED_KV,
            ALL_TOKENS,
            ("head_dim", Key(keys::KEY_LENGTH_SWA)),
            ("num_key_value_heads", Made(|source| kv_heads(source, true))),
            ("global_head_dim", Key(keys::KEY_LENGTH)),
            ("num_global_key_value_heads", Made(|source| kv_heads(source, false))),
            ("attention_k_eq_v", Made(|source| Some(keys_are_values(source).into()))),
            ("enable_moe_block", Any(&["ffn_gate_inp.weight"])),
            ("num_experts", KeyOr(keys::EXPERT_COUNT, "null")),
            ("top_k_experts", KeyOr(keys::EXPERT_USED_COUNT, "null")),
            ("moe_intermediate_size", KeyOr(keys::EXPERT_FEED_FORWARD_LENGTH, "null")),
        ]],
    ),
    class(
        "phi3",
        "Phi3ForCausalLM",
        &[&[WINDOW, SHARE, ("original_max_position_embeddings", Key(keys::ROPE_SCALING_ORIGINAL_CONTEXT_LENGTH))]],
    ),
    class("exaone", "ExaoneForCausalLM", &[]),
    class("glm4", "Glm4ForCausalLM", &[&[INPUT_BIAS, SHARE]]),
    class("chatglm", "GlmForCausalLM", &[&[INPUT_BIAS, SHARE]]),
    Class { when: &[When::Windows], ..class("olmo2", "Olmo3ForCausalLM", &[&[ATTENTION_BIAS, WINDOW, LAYERS]]) },
    class("olmo2", "Olmo2ForCausalLM", &[&[ATTENTION_BIAS]]),
    class("olmo", "OlmoForCausalLM", &[&[ATTENTION_BIAS, ("clip_qkv", Key(keys::CLAMP_KQV))]]),
    class("granite", "GraniteForCausalLM", &[FACTORS, &[ATTENTION_BIAS, MLP_BIAS]]),
    class("smollm3", "SmolLM3ForCausalLM", &[&[ATTENTION_BIAS, MLP_BIAS]]),
    class("starcoder2", "Starcoder2ForCausalLM", &[&[("use_bias", Has(QKVO)), ("hidden_act", Gelu), WINDOW]]),
    Class {
        rename: Rename::TRANSFORMER,
        ..class(
            "gpt2",
            "GPT2LMHeadModel",
            &[&[("n_inner", Key(keys::FEED_FORWARD_LENGTH)), ("activation_function", Gelu), NO_KV_HEADS]],
        )
    },
    Class {
        rename: Rename::TRANSFORMER,
        ..class(
            "starcoder",
            "GPTBigCodeForCausalLM",
            &[&[("n_inner", Key(keys::FEED_FORWARD_LENGTH)), ("activation_function", Gelu), NO_KV_HEADS]],
        )
    },
    class(
        "gptneox",
        "GPTNeoXForCausalLM",
        &[&[
            ("attention_bias", Has(&["attn_qkv.bias", "attn_output.bias"])),
            ("hidden_act", Gelu),
            ("use_parallel_residual", Flag(keys::USE_PARALLEL_RESIDUAL, true)),
            SHARE,
            ("rotary_pct", RotaryShare),
            ("rotary_emb_base", RotaryBase),
            NO_KV_HEADS,
        ]],
    ),
    class(
        "stablelm",
        "StableLmForCausalLM",
        &[&[
            ("use_qkv_bias", Has(QKV)),
            ("qk_layernorm", Has(HEAD_NORMS)),
            ("use_parallel_residual", Flag(keys::USE_PARALLEL_RESIDUAL, true)),
            SHARE,
        ]],
    ),
    class("arcee", "ArceeForCausalLM", &[&[ATTENTION_BIAS, PLAIN_BIAS]]),
    class("nemotron", "NemotronForCausalLM", &[&[ATTENTION_BIAS, PLAIN_BIAS, SHARE]]),
    class("jais2", "Jais2ForCausalLM", &[&[ATTENTION_BIAS, PLAIN_BIAS]]),
    class("apertus", "ApertusForCausalLM", &[&[ATTENTION_BIAS]]),
    class("hunyuan-dense", "HunYuanDenseV1ForCausalLM", &[&[ATTENTION_BIAS]]),
    class(
        "seed_oss",
        "SeedOssForCausalLM",
        &[&[INPUT_BIAS, ("attention_out_bias", Has(&["attn_output.bias"])), MLP_BIAS]],
    ),
    class("ernie4_5", "Ernie4_5ForCausalLM", &[&[("use_bias", Has(QKVO))]]),
    class(
        "cohere2",
        "Cohere2ForCausalLM",
        &[&[ATTENTION_BIAS, WINDOW, LAYERS, ("logit_scale", Key(keys::LOGIT_SCALE))]],
    ),
    class(
        "command-r",
        "CohereForCausalLM",
        &[&[ATTENTION_BIAS, ("use_qk_norm", Has(HEAD_NORMS)), ("logit_scale", Key(keys::LOGIT_SCALE))]],
    ),
    class("exaone4", "Exaone4ForCausalLM", &[&[WINDOW, LAYERS, ("sliding_window_pattern", Json("null"))]]),
    class("phi2", "PhiForCausalLM", &[&[SHARE]]),
    Class {
        when: &[When::Key(keys::TEMPERATURE_SCALE)],
        rope: &[
            ("llama_4_scaling_beta", Key(keys::TEMPERATURE_SCALE)),
            ("mscale_all_dim", Key(keys::ROPE_SCALING_YARN_LOG_MULTIPLIER)),
            ("mscale", Json("1.0")),
        ],
        ..class("mistral3", "Ministral3ForCausalLM", &[&[WINDOW]])
    },
    class("mistral3", "MistralForCausalLM", &[&[WINDOW]]),
    // The models of 40 billion parameters and more, the first of which have two norms.
    Class {
        when: &[When::Has("attn_norm_2.weight")],
        rename: Rename::TRANSFORMER,
        names: &["ln_mlp"],
        ..class(
            "falcon",
            "FalconForCausalLM",
            &[FALCON, &[("new_decoder_architecture", Json("true")), ("num_ln_in_parallel_attn", Json("2"))]],
        )
    },
    Class {
        rename: Rename::TRANSFORMER,
        when: &[When::Number(keys::HEAD_COUNT_KV, 1)],
        ..class("falcon", "FalconForCausalLM", &[FALCON, &[("multi_query", Json("true")), ("num_kv_heads", Absent)]])
    },
    Class {
        rename: Rename::TRANSFORMER,
        ..class(
            "falcon",
            "FalconForCausalLM",
            &[FALCON, &[("new_decoder_architecture", Json("true")), ("num_ln_in_parallel_attn", Json("1"))]],
        )
    },
    Class {
        rename: Rename::TRANSFORMER,
        ..class("bloom", "BloomForCausalLM", &[&[("seq_length", Key(keys::CONTEXT_LENGTH)), NO_KV_HEADS]])
    },
    Class {
        rename: Rename::TRANSFORMER,
        ..class(
            "mpt",
            "MptForCausalLM",
            &[&[
                ("d_model", Key(keys::EMBEDDING_LENGTH)),
                ("max_seq_len", Key(keys::CONTEXT_LENGTH)),
                ("expansion_ratio", Quotient(keys::FEED_FORWARD_LENGTH, keys::EMBEDDING_LENGTH)),
                ("no_bias", Made(|source| Some((!source.has("blk.0.attn_norm.bias")).into()))),
                ("attn_config.alibi_bias_max", Made(max_alibi)),
                ("attn_config.clip_qkv", KeyOr(keys::CLAMP_KQV, "null")),
                NO_KV_HEADS,
            ]],
        )
    },
    class(
        "minicpm3",
        "MiniCPM3ForCausalLM",
        &[&[
            ATTENTION_BIAS,
            ("q_lora_rank", KeyOr(keys::Q_LORA_RANK, "null")),
            ("kv_lora_rank", Key(keys::KV_LORA_RANK)),
            ("qk_nope_head_dim", Latent(|latent| latent.plain_dim)),
            ("qk_rope_head_dim", Latent(|latent| latent.rope_dim)),
            ("v_head_dim", Latent(|latent| latent.v_dim)),
            ("head_dim", Absent),
        ]],
    ),
    Class {
        when: &[When::NoTensor("blk.0.ffn_gate_inp.weight")],
        ..class("granite_swa", "GraniteSWAForCausalLM", &[FACTORS, &[ATTENTION_BIAS, MLP_BIAS, WINDOW, LAYERS, BASES]])
    },
];

/// The greatest slope of scores, for which the class wants an integer where it is one.
#[allow(clippy::cast_possible_truncation, reason = "a whole number in the range of an integer")]
fn max_alibi(source: &Source<'_>) -> Option<serde_json::Value> {
    let max = source.attention().next()?.max_alibi?;
    Some(if max.fract() == 0.0 && max < 1e6 { (max as i32).into() } else { float(max) })
}

/// The rotary base of each layer, 0 if it does not rotate.
pub(super) const BASES: Setting = ("layer_rope_theta", Made(bases));

fn bases(source: &Source<'_>) -> Option<serde_json::Value> {
    let base = source.rotary_base();
    let of_layer = |mixer: &Mixer| match mixer {
        Mixer::Attention(mixer) if mixer.rope.is_some() => base.clone(),
        _ => 0.0.into(),
    };
    Some(source.spec.layers.iter().map(|layer| of_layer(&layer.mixer)).collect())
}

/// The share of gates that each layer keeps at zero: Gemma 3n cuts those below so many standard deviations above the mean.
fn sparsity(source: &Source<'_>) -> Option<serde_json::Value> {
    let share = |cut: Option<f32>| cut.map_or(0.0, below);
    Some(source.spec.layers.iter().map(|layer| json!(share(layer.gate_cut))).collect())
}

/// The share of normally distributed numbers that lie below `deviations` standard deviations above their mean, to as many
/// digits as published settings have.
fn below(deviations: f32) -> f64 {
    let z = f64::from(deviations);
    // The trapezoidal rule, whose error falls with the square of the step.
    let steps = 20_000u32;
    let density = |x: f64| (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
    let width = z / f64::from(steps);
    let inner: f64 = (1..steps).map(|i| density(f64::from(i) * width)).sum();
    let share = 0.5 + width * (inner + 0.5 * (density(0.0) + density(z)));
    (share * 1e6).round() / 1e6
}

/// Whether the layers that read the keys and values of others have feed-forward parts of twice the length.
fn double_wide(source: &Source<'_>) -> Option<serde_json::Value> {
    let lengths = &source.header.hparams.feed_forward_length;
    Some((lengths.first() != lengths.last()).into())
}

/// Key-value heads of Gemma 4's layers with windows; of the others, if they have another number.
fn kv_heads(source: &Source<'_>, windows: bool) -> Option<serde_json::Value> {
    let of_kind = |windows: bool| source.attention().find(|mixer| mixer.window.is_some() == windows);
    let usual = of_kind(true).or_else(|| source.attention().next())?.kv_heads;
    if windows {
        Some(usual.into())
    } else {
        Some(of_kind(false)?.kv_heads).filter(|own| *own != usual).map(Into::into)
    }
}

/// Whether Gemma 4's layers without windows have no values of their own.
fn keys_are_values(source: &Source<'_>) -> bool {
    let mixers = source.spec.layers.iter().enumerate();
    mixers
        .filter(|(_, layer)| matches!(&layer.mixer, Mixer::Attention(mixer) if mixer.window.is_none()))
        .any(|(i, _)| source.has(&format!("blk.{i}.attn_k.weight")) && !source.has(&format!("blk.{i}.attn_v.weight")))
}
