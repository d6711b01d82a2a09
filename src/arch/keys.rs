//! Names of the metadata keys that describe an architecture, without their `<architecture>.` prefix.
//!
//! The families' `config.rs` writes them, [`super::Hparams`] reads them. Names from llama.cpp's
//! `gguf-py/gguf/constants.py`.

#![allow(missing_docs, reason = "each constant is the name it holds")]

use crate::gguf::Value;

pub const BLOCK_COUNT: &str = "block_count";
pub const CONTEXT_LENGTH: &str = "context_length";
pub const EMBEDDING_LENGTH: &str = "embedding_length";
pub const FEED_FORWARD_LENGTH: &str = "feed_forward_length";
pub const VOCAB_SIZE: &str = "vocab_size";
pub const USE_PARALLEL_RESIDUAL: &str = "use_parallel_residual";
pub const TENSOR_DATA_LAYOUT: &str = "tensor_data_layout";

pub const HEAD_COUNT: &str = "attention.head_count";
pub const HEAD_COUNT_KV: &str = "attention.head_count_kv";
pub const KEY_LENGTH: &str = "attention.key_length";
pub const VALUE_LENGTH: &str = "attention.value_length";
pub const KEY_LENGTH_SWA: &str = "attention.key_length_swa";
pub const VALUE_LENGTH_SWA: &str = "attention.value_length_swa";
pub const KEY_LENGTH_MLA: &str = "attention.key_length_mla";
pub const VALUE_LENGTH_MLA: &str = "attention.value_length_mla";
pub const Q_LORA_RANK: &str = "attention.q_lora_rank";
pub const KV_LORA_RANK: &str = "attention.kv_lora_rank";
pub const LAYER_NORM_EPSILON: &str = "attention.layer_norm_epsilon";
pub const LAYER_NORM_RMS_EPSILON: &str = "attention.layer_norm_rms_epsilon";
pub const SLIDING_WINDOW: &str = "attention.sliding_window";
pub const SLIDING_WINDOW_PATTERN: &str = "attention.sliding_window_pattern";
pub const SHARED_KV_LAYERS: &str = "attention.shared_kv_layers";
pub const RECURRENT_LAYERS: &str = "attention.recurrent_layers";
pub const MAX_ALIBI_BIAS: &str = "attention.max_alibi_bias";
pub const CLAMP_KQV: &str = "attention.clamp_kqv";
pub const ATTENTION_SCALE: &str = "attention.scale";
pub const ROPE_PATTERN: &str = "attention.rope_pattern";
pub const VALUE_SCALE: &str = "attention.value_scale";
pub const TEMPERATURE_SCALE: &str = "attention.temperature_scale";
pub const TEMPERATURE_LENGTH: &str = "attention.temperature_length";
pub const FULL_ATTENTION_INTERVAL: &str = "full_attention_interval";

pub const ROPE_DIMENSION_COUNT: &str = "rope.dimension_count";
pub const ROPE_DIMENSION_COUNT_SWA: &str = "rope.dimension_count_swa";
pub const ROPE_DIMENSION_SECTIONS: &str = "rope.dimension_sections";
pub const ROPE_FREQ_BASE: &str = "rope.freq_base";
pub const ROPE_FREQ_BASE_SWA: &str = "rope.freq_base_swa";
pub const ROPE_SCALE_LINEAR: &str = "rope.scale_linear";
pub const ROPE_SCALING_TYPE: &str = "rope.scaling.type";
pub const ROPE_SCALING_FACTOR: &str = "rope.scaling.factor";
pub const ROPE_SCALING_FINETUNED: &str = "rope.scaling.finetuned";
pub const ROPE_SCALING_ATTN_FACTOR: &str = "rope.scaling.attn_factor";
pub const ROPE_SCALING_ORIGINAL_CONTEXT_LENGTH: &str = "rope.scaling.original_context_length";
pub const ROPE_SCALING_YARN_LOG_MULTIPLIER: &str = "rope.scaling.yarn_log_multiplier";
pub const ROPE_SCALING_YARN_EXT_FACTOR: &str = "rope.scaling.yarn_ext_factor";
pub const ROPE_SCALING_YARN_ATTN_FACTOR: &str = "rope.scaling.yarn_attn_factor";
pub const ROPE_SCALING_YARN_BETA_FAST: &str = "rope.scaling.yarn_beta_fast";
pub const ROPE_SCALING_YARN_BETA_SLOW: &str = "rope.scaling.yarn_beta_slow";

pub const EXPERT_COUNT: &str = "expert_count";
pub const EXPERT_USED_COUNT: &str = "expert_used_count";
pub const EXPERT_SHARED_COUNT: &str = "expert_shared_count";
pub const EXPERT_GROUP_COUNT: &str = "expert_group_count";
pub const EXPERT_GROUP_USED_COUNT: &str = "expert_group_used_count";
pub const EXPERT_FEED_FORWARD_LENGTH: &str = "expert_feed_forward_length";
pub const EXPERT_SHARED_FEED_FORWARD_LENGTH: &str = "expert_shared_feed_forward_length";
pub const EXPERT_WEIGHTS_SCALE: &str = "expert_weights_scale";
pub const EXPERT_WEIGHTS_NORM: &str = "expert_weights_norm";
pub const ROUTER_JITTER_NOISE: &str = "router_jitter_noise";
pub const EXPERT_GATING_FUNC: &str = "expert_gating_func";
pub const LEADING_DENSE_BLOCK_COUNT: &str = "leading_dense_block_count";
pub const MOE_EVERY_N_LAYERS: &str = "moe_every_n_layers";
pub const INTERLEAVE_MOE_LAYER_STEP: &str = "interleave_moe_layer_step";
pub const N_DEEPSTACK_LAYERS: &str = "n_deepstack_layers";
pub const INDEXER_HEAD_COUNT: &str = "attention.indexer.head_count";
pub const INDEXER_KEY_LENGTH: &str = "attention.indexer.key_length";
pub const INDEXER_TOP_K: &str = "attention.indexer.top_k";
pub const INDEXER_TYPES: &str = "attention.indexer.types";
pub const NEXTN_PREDICT_LAYERS: &str = "nextn_predict_layers";

pub const ATTN_LOGIT_SOFTCAPPING: &str = "attn_logit_softcapping";
pub const FINAL_LOGIT_SOFTCAPPING: &str = "final_logit_softcapping";
pub const LOGIT_SCALE: &str = "logit_scale";
pub const HIDDEN_ACTIVATION: &str = "hidden_activation";
pub const RESIDUAL_SCALE: &str = "residual_scale";
pub const EMBEDDING_SCALE: &str = "embedding_scale";
pub const EMBEDDING_LENGTH_PER_LAYER_INPUT: &str = "embedding_length_per_layer_input";

pub const ALTUP_ACTIVE_IDX: &str = "altup.active_idx";
pub const ALTUP_NUM_INPUTS: &str = "altup.num_inputs";
pub const ACTIVATION_SPARSITY_SCALE: &str = "activation_sparsity_scale";
/// Not of llama.cpp, which knows one rank; written where it is another.
pub const LAUREL_RANK: &str = "laurel_rank";

pub const SSM_CONV_KERNEL: &str = "ssm.conv_kernel";
pub const SSM_INNER_SIZE: &str = "ssm.inner_size";
pub const SSM_STATE_SIZE: &str = "ssm.state_size";
pub const SSM_TIME_STEP_RANK: &str = "ssm.time_step_rank";
pub const SSM_DT_B_C_RMS: &str = "ssm.dt_b_c_rms";
pub const SSM_DT_B_C_RMS_EPSILON: &str = "ssm.dt_b_c_rms_epsilon";
pub const SSM_GROUP_COUNT: &str = "ssm.group_count";
pub const KDA_HEAD_DIM: &str = "kda.head_dim";
pub const SHORTCONV_L_CACHE: &str = "shortconv.l_cache";

pub const ATTENTION_CAUSAL: &str = "attention.causal";
pub const POOLING_TYPE: &str = "pooling_type";
pub const DENSE_2_FEAT_IN: &str = "dense_2_feat_in";
pub const DENSE_2_FEAT_OUT: &str = "dense_2_feat_out";
pub const DENSE_3_FEAT_IN: &str = "dense_3_feat_in";
pub const DENSE_3_FEAT_OUT: &str = "dense_3_feat_out";
pub const CLASSIFIER_POOLING_TYPE: &str = "classifier.pooling_type";
pub const CLASSIFIER_OUTPUT_LABELS: &str = "classifier.output_labels";

/// Values under which a key changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neutral {
    /// 0 or false.
    Zero,
    /// 0, false or 1.
    ZeroOrOne,
    /// True.
    True,
    /// None.
    Never,
}

impl Neutral {
    /// Whether `value` changes nothing.
    #[must_use]
    pub fn holds(self, value: &Value) -> bool {
        if let Value::Array(array) = value {
            return array.iter().all(|element| self.holds(&element));
        }
        let is = |n: u8| {
            value.as_f64() == Some(f64::from(n)) || value.as_i64() == Some(n.into()) || value.as_bool() == Some(n == 1)
        };
        match self {
            Self::Zero => is(0),
            Self::ZeroOrOne => is(0) || is(1),
            Self::True => is(1),
            Self::Never => false,
        }
    }
}

/// Keys that change what a model computes without any tensor of their own. A file with one that its family does not read is
/// refused, unless its value changes nothing: else it would run with other numbers than its maker's, without a word.
pub const COMPUTED: &[(&str, Neutral)] = &[
    ("activation.situ_beta", Neutral::Never),
    (ATTENTION_CAUSAL, Neutral::True),
    (CLAMP_KQV, Neutral::Zero),
    ("attention.indexer.top_k", Neutral::Zero),
    (MAX_ALIBI_BIAS, Neutral::Zero),
    ("attention.output_scale", Neutral::ZeroOrOne),
    (ROPE_PATTERN, Neutral::Never),
    (ATTENTION_SCALE, Neutral::Zero),
    (SHARED_KV_LAYERS, Neutral::Zero),
    (SLIDING_WINDOW, Neutral::Zero),
    (TEMPERATURE_SCALE, Neutral::Zero),
    (VALUE_SCALE, Neutral::ZeroOrOne),
    (ATTN_LOGIT_SOFTCAPPING, Neutral::Zero),
    (EMBEDDING_SCALE, Neutral::ZeroOrOne),
    (EXPERT_GROUP_COUNT, Neutral::ZeroOrOne),
    ("expert_group_scale", Neutral::Never),
    ("experts_per_group", Neutral::ZeroOrOne),
    (EXPERT_WEIGHTS_SCALE, Neutral::ZeroOrOne),
    (FINAL_LOGIT_SOFTCAPPING, Neutral::Zero),
    (HIDDEN_ACTIVATION, Neutral::Never),
    (INTERLEAVE_MOE_LAYER_STEP, Neutral::ZeroOrOne),
    (LOGIT_SCALE, Neutral::ZeroOrOne),
    (MOE_EVERY_N_LAYERS, Neutral::ZeroOrOne),
    ("num_loops", Neutral::ZeroOrOne),
    (RESIDUAL_SCALE, Neutral::ZeroOrOne),
    ("rope.scaling.alpha", Neutral::Zero),
    (ROPE_SCALING_YARN_LOG_MULTIPLIER, Neutral::Zero),
    (ROUTER_JITTER_NOISE, Neutral::Never),
    ("router_logit_softcapping", Neutral::Zero),
    (SSM_DT_B_C_RMS, Neutral::Zero),
    ("swiglu_clamp_exp", Neutral::Zero),
    ("swiglu_clamp_shexp", Neutral::Zero),
    ("swin_norm", Neutral::Zero),
    (USE_PARALLEL_RESIDUAL, Neutral::Never),
];
