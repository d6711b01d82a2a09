//! The classes of transformers that models are exported to: a row for each, with its settings beyond those that all classes
//! have.
//!
//! An incomplete row is safe: the exported folder is converted back before it is kept, and the resulting network must be that of
//! the file.

use crate::arch::keys;

/// A class of transformers.
pub(super) struct Class {
    /// `general.architecture`.
    pub(super) architecture: &'static str,
    /// Its name.
    pub(super) name: &'static str,
    /// The condition for models of the architecture to be of this class; the first matching row is used.
    pub(super) when: When,
    /// Settings of its own.
    pub(super) settings: &'static [(&'static str, Origin)],
}

/// A condition for models of an architecture to be of a class.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Always,
    /// Layers have this tensor.
    Has(&'static str),
    /// Some layers have a sliding window.
    Windows,
}

/// The source of a setting's value.
#[derive(Clone, Copy)]
pub(super) enum Origin {
    /// What a key holds, where the file has the key.
    Key(&'static str),
    /// A boolean that a key holds, or this.
    Flag(&'static str, bool),
    /// Whether each layer has all of these tensors.
    Has(&'static [&'static str]),
    /// A value, as JSON.
    Json(&'static str),
    /// The form of GELU, if it is not the default of the class.
    Gelu,
    /// The length of the sliding window, `null` if no layer has one.
    Window,
    /// The list of which layers have a sliding window.
    LayerTypes,
    /// The share of a head that is rotated.
    RotaryShare,
    /// The base of the rotary embedding.
    RotaryBase,
    /// The base of layers with sliding windows.
    SlidingBase,
    /// One over the square of the factor of attention scores.
    ScoreScalar,
    /// The softcap of attention scores, `null` if there is none.
    ScoreCap,
    /// The softcap of logits, `null` if there is none.
    LogitCap,
}

use Origin::{
    Flag, Gelu, Has, Json, Key, LayerTypes, LogitCap, RotaryBase, RotaryShare, ScoreCap, ScoreScalar, SlidingBase,
    Window,
};

const QKV: &[&str] = &["attn_q.bias", "attn_k.bias", "attn_v.bias"];
const QKVO: &[&str] = &["attn_q.bias", "attn_k.bias", "attn_v.bias", "attn_output.bias"];
const GATED: &[&str] = &["ffn_gate.bias", "ffn_up.bias", "ffn_down.bias"];
const PLAIN: &[&str] = &["ffn_up.bias", "ffn_down.bias"];

const ATTENTION_BIAS: (&str, Origin) = ("attention_bias", Has(QKVO));
const INPUT_BIAS: (&str, Origin) = ("attention_bias", Has(QKV));
const MLP_BIAS: (&str, Origin) = ("mlp_bias", Has(GATED));
const SHARE: (&str, Origin) = ("partial_rotary_factor", RotaryShare);
const WINDOW: (&str, Origin) = ("sliding_window", Window);
const LAYERS: (&str, Origin) = ("layer_types", LayerTypes);
const NORMED: (&str, Origin) = ("norm_topk_prob", Flag(keys::EXPERT_WEIGHTS_NORM, true));
const NOT_NORMED: (&str, Origin) = ("norm_topk_prob", Flag(keys::EXPERT_WEIGHTS_NORM, false));
/// Transformers 4's name; 5 has another.
const EXPERTS: (&str, Origin) = ("num_experts", Key(keys::EXPERT_COUNT));
const FACTORS: [(&str, Origin); 4] = [
    ("attention_multiplier", Key(keys::ATTENTION_SCALE)),
    ("embedding_multiplier", Key(keys::EMBEDDING_SCALE)),
    ("residual_multiplier", Key(keys::RESIDUAL_SCALE)),
    ("logits_scaling", Key(keys::LOGIT_SCALE)),
];

const fn class(architecture: &'static str, name: &'static str, settings: &'static [(&'static str, Origin)]) -> Class {
    Class { architecture, name, when: When::Always, settings }
}

/// All classes.
pub(super) static CLASSES: &[Class] = &[
    Class { when: When::Has("ffn_gate_inp.weight"), ..class("llama", "MixtralForCausalLM", &[WINDOW]) },
    Class { when: When::Windows, ..class("llama", "MistralForCausalLM", &[WINDOW]) },
    class("llama", "LlamaForCausalLM", &[ATTENTION_BIAS, MLP_BIAS]),
    class("qwen2", "Qwen2ForCausalLM", &[]),
    class("qwen3", "Qwen3ForCausalLM", &[ATTENTION_BIAS]),
    class(
        "qwen2moe",
        "Qwen2MoeForCausalLM",
        &[
            EXPERTS,
            NOT_NORMED,
            ("shared_expert_intermediate_size", Key(keys::EXPERT_SHARED_FEED_FORWARD_LENGTH)),
            ("mlp_only_layers", Json("[]")),
        ],
    ),
    class("qwen3moe", "Qwen3MoeForCausalLM", &[ATTENTION_BIAS, EXPERTS, NORMED, ("mlp_only_layers", Json("[]"))]),
    class("gemma", "GemmaForCausalLM", &[ATTENTION_BIAS, ("hidden_activation", Json(r#""gelu_pytorch_tanh""#))]),
    class(
        "gemma2",
        "Gemma2ForCausalLM",
        &[
            ATTENTION_BIAS,
            WINDOW,
            LAYERS,
            ("query_pre_attn_scalar", ScoreScalar),
            ("attn_logit_softcapping", ScoreCap),
            ("final_logit_softcapping", LogitCap),
        ],
    ),
    class(
        "gemma3",
        "Gemma3ForCausalLM",
        &[
            ATTENTION_BIAS,
            WINDOW,
            LAYERS,
            ("rope_local_base_freq", SlidingBase),
            ("query_pre_attn_scalar", ScoreScalar),
            ("attn_logit_softcapping", ScoreCap),
            ("final_logit_softcapping", LogitCap),
        ],
    ),
    class(
        "phi3",
        "Phi3ForCausalLM",
        &[WINDOW, SHARE, ("original_max_position_embeddings", Key(keys::ROPE_SCALING_ORIGINAL_CONTEXT_LENGTH))],
    ),
    class("glm4", "Glm4ForCausalLM", &[INPUT_BIAS, SHARE]),
    Class { when: When::Windows, ..class("olmo2", "Olmo3ForCausalLM", &[ATTENTION_BIAS, WINDOW, LAYERS]) },
    class("olmo2", "Olmo2ForCausalLM", &[ATTENTION_BIAS]),
    class("granite", "GraniteForCausalLM", &[ATTENTION_BIAS, MLP_BIAS, FACTORS[0], FACTORS[1], FACTORS[2], FACTORS[3]]),
    Class {
        when: When::Has("ffn_gate_shexp.weight"),
        ..class(
            "granitemoe",
            "GraniteMoeSharedForCausalLM",
            &[
                ATTENTION_BIAS,
                ("shared_intermediate_size", Key(keys::EXPERT_SHARED_FEED_FORWARD_LENGTH)),
                FACTORS[0],
                FACTORS[1],
                FACTORS[2],
                FACTORS[3],
            ],
        )
    },
    class("granitemoe", "GraniteMoeForCausalLM", &[ATTENTION_BIAS, FACTORS[0], FACTORS[1], FACTORS[2], FACTORS[3]]),
    class("smollm3", "SmolLM3ForCausalLM", &[ATTENTION_BIAS, MLP_BIAS]),
    class("starcoder2", "Starcoder2ForCausalLM", &[("use_bias", Has(QKVO)), ("hidden_act", Gelu), WINDOW]),
    class("gpt2", "GPT2LMHeadModel", &[("n_inner", Key(keys::FEED_FORWARD_LENGTH)), ("activation_function", Gelu)]),
    class(
        "gptneox",
        "GPTNeoXForCausalLM",
        &[
            ("attention_bias", Has(&["attn_qkv.bias", "attn_output.bias"])),
            ("hidden_act", Gelu),
            ("use_parallel_residual", Flag(keys::USE_PARALLEL_RESIDUAL, true)),
            SHARE,
            ("rotary_pct", RotaryShare),
            ("rotary_emb_base", RotaryBase),
        ],
    ),
    class(
        "stablelm",
        "StableLmForCausalLM",
        &[
            ("use_qkv_bias", Has(QKV)),
            ("qk_layernorm", Has(&["attn_q_norm.weight", "attn_k_norm.weight"])),
            ("use_parallel_residual", Flag(keys::USE_PARALLEL_RESIDUAL, true)),
            SHARE,
        ],
    ),
    class("arcee", "ArceeForCausalLM", &[ATTENTION_BIAS, ("mlp_bias", Has(PLAIN))]),
    class("nemotron", "NemotronForCausalLM", &[ATTENTION_BIAS, ("mlp_bias", Has(PLAIN)), SHARE]),
    class("olmoe", "OlmoeForCausalLM", &[ATTENTION_BIAS, NOT_NORMED]),
    class("olmo", "OlmoForCausalLM", &[ATTENTION_BIAS, ("clip_qkv", Key(keys::CLAMP_KQV))]),
    class(
        "seed_oss",
        "SeedOssForCausalLM",
        &[INPUT_BIAS, ("attention_out_bias", Has(&["attn_output.bias"])), MLP_BIAS],
    ),
    class("ernie4_5", "Ernie4_5ForCausalLM", &[("use_bias", Has(QKVO))]),
    class("cohere2", "Cohere2ForCausalLM", &[ATTENTION_BIAS, WINDOW, LAYERS, ("logit_scale", Key(keys::LOGIT_SCALE))]),
    class(
        "command-r",
        "CohereForCausalLM",
        &[
            ATTENTION_BIAS,
            ("use_qk_norm", Has(&["attn_q_norm.weight", "attn_k_norm.weight"])),
            ("logit_scale", Key(keys::LOGIT_SCALE)),
        ],
    ),
    class("exaone4", "Exaone4ForCausalLM", &[WINDOW, LAYERS, ("sliding_window_pattern", Json("null"))]),
    class("phi2", "PhiForCausalLM", &[SHARE]),
    class("chatglm", "GlmForCausalLM", &[INPUT_BIAS, SHARE]),
];
