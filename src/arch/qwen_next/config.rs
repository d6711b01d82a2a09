//! `config.json` to keys.

use super::QwenNext;
use crate::arch::{Config, Error, Keys, keys as key};

/// Sections of the rotary embedding of Qwen 3.5 where a checkpoint does not say them; text does not need them.
const SECTIONS: [i32; 4] = [11, 11, 10, 0];

pub(super) fn keys(family: QwenNext, config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    if family.has_experts() {
        keys.expert_lengths(config)?;
    }
    let predicting = config.predicting_blocks().unwrap_or(0);
    if predicting > 0 {
        keys.count(key::NEXTN_PREDICT_LAYERS, predicting);
    }
    let value_heads = config.required_count(&["linear_num_value_heads"])?;
    keys.count(key::SSM_CONV_KERNEL, config.required_count(&["linear_conv_kernel_dim"])?);
    keys.count(key::SSM_STATE_SIZE, config.required_count(&["linear_key_head_dim"])?);
    keys.count(key::SSM_GROUP_COUNT, config.required_count(&["linear_num_key_heads"])?);
    keys.count(key::SSM_TIME_STEP_RANK, value_heads);
    keys.count(key::SSM_INNER_SIZE, config.required_count(&["linear_value_head_dim"])?.saturating_mul(value_heads));
    if let Some(types) = config.layer_types() {
        let recurrent = types.into_iter().map(|ty| ty == "linear_attention");
        keys.flags(key::RECURRENT_LAYERS, recurrent.chain(std::iter::repeat_n(false, predicting)));
    }
    keys.count(key::FULL_ATTENTION_INTERVAL, config.count(&["full_attention_interval"])?.unwrap_or(4));
    keys.count(key::ROPE_DIMENSION_COUNT, config.rotary_length(0.25)?);
    if family != QwenNext::Qwen3Next && config.rotary("mrope_section").is_none() {
        keys.integers(key::ROPE_DIMENSION_SECTIONS, SECTIONS);
    }
    Ok(())
}
