//! Qwen 3 Next and Qwen 3.5: gated delta nets, with gated attention in every fourth block.

mod config;
mod graph;
mod tensors;

use super::settings::Setting;
use super::{Architecture, Config, Error, Hparams, Keys, TensorRule, keys};
use crate::network::{ModelSpec, Tensors};

/// The families.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum QwenNext {
    /// Qwen 3 Next: experts; one tensor of queries, keys, values and gates.
    Qwen3Next,
    /// Qwen 3.5: dense.
    Qwen35,
    /// Qwen 3.5 with experts.
    Qwen35Moe,
}

impl QwenNext {
    fn has_experts(self) -> bool {
        self != Self::Qwen35
    }
}

/// Shape of the delta nets, and where they are.
struct DeltaNets {
    key_heads: usize,
    heads: usize,
    k_dim: usize,
    v_dim: usize,
    taps: usize,
    /// For each block, whether it is one.
    recurrent: Vec<bool>,
}

impl DeltaNets {
    fn new(h: &Hparams) -> Result<Self, Error> {
        let (key_heads, heads) = (h.positive(keys::SSM_GROUP_COUNT)?, h.positive(keys::SSM_TIME_STEP_RANK)?);
        if !heads.is_multiple_of(key_heads) {
            return Err(h.bad_key(keys::SSM_GROUP_COUNT, "a divisor of ssm.time_step_rank"));
        }
        let inner = h.positive(keys::SSM_INNER_SIZE)?;
        if !inner.is_multiple_of(heads) {
            return Err(h.bad_key(keys::SSM_INNER_SIZE, "a multiple of ssm.time_step_rank"));
        }
        let interval = h.count_or(keys::FULL_ATTENTION_INTERVAL, 4)?.max(1);
        let by_interval = || (1..=h.block_count).map(|i| !i.is_multiple_of(interval)).collect();
        Ok(Self {
            key_heads,
            heads,
            k_dim: h.positive(keys::SSM_STATE_SIZE)?,
            v_dim: inner / heads,
            taps: h.positive(keys::SSM_CONV_KERNEL)?,
            recurrent: h.bools_per_block(keys::RECURRENT_LAYERS)?.unwrap_or_else(by_interval),
        })
    }
}

impl Architecture for QwenNext {
    fn name(&self) -> &'static str {
        match self {
            Self::Qwen3Next => "qwen3next",
            Self::Qwen35 => "qwen35",
            Self::Qwen35Moe => "qwen35moe",
        }
    }

    fn classes(&self) -> &'static [&'static str] {
        match self {
            Self::Qwen3Next => &["Qwen3NextForCausalLM"],
            Self::Qwen35 => &["Qwen3_5ForCausalLM", "Qwen3_5ForConditionalGeneration"],
            Self::Qwen35Moe => &["Qwen3_5MoeForCausalLM", "Qwen3_5MoeForConditionalGeneration"],
        }
    }

    fn settings(&self) -> &'static [Setting] {
        &[
            ("attn_output_gate", "[true]"),
            ("layer_types", r#"["full_attention", "linear_attention"]"#),
            ("norm_topk_prob", "[true]"),
        ]
    }

    fn mlx_adds_to_norms(&self) -> bool {
        true
    }

    fn predicting_blocks(&self, _config: &Config, has: &dyn Fn(&str) -> bool) -> Result<usize, Error> {
        Ok((0..).take_while(|i| has(&format!("mtp.layers.{i}.input_layernorm.weight"))).count())
    }

    fn keys(&self, config: &Config, keys: &mut Keys) -> Result<(), Error> {
        config::keys(*self, config, keys)
    }

    fn tensors(&self, hparams: &Hparams) -> Result<Vec<TensorRule>, Error> {
        tensors::rules(*self, hparams)
    }

    fn decoder(&self, hparams: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
        graph::spec(*self, hparams, weights)
    }
}
