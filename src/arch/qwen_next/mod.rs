//! Qwen 3 Next and Qwen 3.5: gated delta nets, with gated attention in every fourth block.

mod config;
mod graph;
mod tensors;

use super::family::Family;
use super::settings::Setting;
use super::{Error, Hparams, TensorRule, keys};
use crate::network::{ModelSpec, Tensors};

/// The families.
#[derive(Clone, Copy, PartialEq, Eq)]
enum QwenNext {
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

const SETTINGS: &[Setting] = &[
    ("attn_output_gate", "[true]"),
    ("layer_types", r#"["full_attention", "linear_attention"]"#),
    ("norm_topk_prob", "[true]"),
];

/// What the three have in common.
const fn family(
    name: &'static str,
    classes: &'static [&'static str],
    tensors: fn(&Hparams) -> Result<Vec<TensorRule>, Error>,
    spec: fn(&Hparams, &dyn Tensors) -> Result<ModelSpec, Error>,
) -> Family {
    Family {
        settings: SETTINGS,
        mlx_adds_to_norms: true,
        predicting_blocks: |_, has| {
            Ok((0..).take_while(|i| has(&format!("mtp.layers.{i}.input_layernorm.weight"))).count())
        },
        ..Family::new(name, classes, tensors, spec)
    }
}

/// Qwen 3 Next.
pub(super) static QWEN3_NEXT: Family = Family {
    keys: |config, keys| config::keys(QwenNext::Qwen3Next, config, keys),
    ..family(
        "qwen3next",
        &["Qwen3NextForCausalLM"],
        |h| tensors::rules(QwenNext::Qwen3Next, h),
        |h, weights| graph::spec(QwenNext::Qwen3Next, h, weights),
    )
};

/// Qwen 3.5, dense.
pub(super) static QWEN35: Family = Family {
    keys: |config, keys| config::keys(QwenNext::Qwen35, config, keys),
    ..family(
        "qwen35",
        &["Qwen3_5ForCausalLM", "Qwen3_5ForConditionalGeneration"],
        |h| tensors::rules(QwenNext::Qwen35, h),
        |h, weights| graph::spec(QwenNext::Qwen35, h, weights),
    )
};

/// Qwen 3.5 with experts.
pub(super) static QWEN35_MOE: Family = Family {
    keys: |config, keys| config::keys(QwenNext::Qwen35Moe, config, keys),
    ..family(
        "qwen35moe",
        &["Qwen3_5MoeForCausalLM", "Qwen3_5MoeForConditionalGeneration"],
        |h| tensors::rules(QwenNext::Qwen35Moe, h),
        |h, weights| graph::spec(QwenNext::Qwen35Moe, h, weights),
    )
};
