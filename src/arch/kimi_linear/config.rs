//! `config.json` to keys.

use serde_json::{Map, Value as Json, json};

use crate::arch::{Config, Error, Keys, keys as key};

const LINEAR: &str = "linear_attn_config";
const GROUPS: [&str; 2] = ["num_expert_group", "n_group"];

pub(super) fn keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    let heads = config.required_count(&["num_attention_heads"])?;
    config.expect("num_key_value_heads", &json!(heads), "num_attention_heads")?;
    if config.count(&GROUPS)?.is_some_and(|groups| groups > 1) {
        return Err(config.bad(GROUPS[0], "1"));
    }
    let linear = Linear::new(config)?;
    if linear.count("num_heads", "linear_num_heads")? != heads {
        return Err(config.bad("linear_num_heads", "num_attention_heads, in linear_attn_config.num_heads too"));
    }
    let rank = config.required_count(&["kv_lora_rank"])?;
    let (plain, rope) = (config.required_count(&["qk_nope_head_dim"])?, config.required_count(&["qk_rope_head_dim"])?);
    let value = config.required_count(&["v_head_dim"])?;
    config.expect("qk_head_dim", &json!(plain + rope), "qk_nope_head_dim and qk_rope_head_dim together")?;
    keys.these(
        config,
        &[key::BLOCK_COUNT, key::CONTEXT_LENGTH, key::EMBEDDING_LENGTH, key::FEED_FORWARD_LENGTH, key::HEAD_COUNT],
    )?;
    let full = linear.full_attention(config)?;
    keys.integers(key::HEAD_COUNT_KV, full.into_iter().map(i32::from));
    keys.these(config, &[key::LAYER_NORM_RMS_EPSILON])?;
    keys.count(key::EXPERT_COUNT, config.required_count(&["num_experts", "num_local_experts"])?);
    let used = ["num_experts_per_token", "num_experts_per_tok"];
    keys.count(key::EXPERT_USED_COUNT, config.required_count(&used)?);
    keys.count(key::EXPERT_GROUP_USED_COUNT, config.count(&["topk_group"])?.unwrap_or(1));
    keys.count(key::EXPERT_GATING_FUNC, 2);
    keys.count(key::KEY_LENGTH, rank + rope);
    keys.count(key::VALUE_LENGTH, config.count(&["head_dim"])?.unwrap_or(rope));
    keys.file_type();
    keys.these(config, &[key::VOCAB_SIZE])?;
    keys.count(key::SSM_CONV_KERNEL, linear.count("short_conv_kernel_size", "linear_conv_kernel_dim")?);
    keys.count(key::KDA_HEAD_DIM, linear.count("head_dim", "linear_head_dim")?);
    if let Some(rank) = config.count(&["q_lora_rank"])? {
        keys.count(key::Q_LORA_RANK, rank);
    }
    keys.count(key::KV_LORA_RANK, rank);
    keys.count(key::ROPE_DIMENSION_COUNT, rope);
    keys.count(key::KEY_LENGTH_MLA, plain + rope);
    keys.count(key::VALUE_LENGTH_MLA, value);
    keys.count(key::EXPERT_FEED_FORWARD_LENGTH, config.required_count(&["moe_intermediate_size"])?);
    keys.count(key::EXPERT_SHARED_COUNT, config.required_count(&["num_shared_experts", "n_shared_experts"])?);
    keys.count(key::LEADING_DENSE_BLOCK_COUNT, config.leading_dense_blocks()?.unwrap_or(1));
    let scale = config.number(&["routed_scaling_factor"])?;
    keys.float(key::EXPERT_WEIGHTS_SCALE, scale.unwrap_or(1.0));
    Ok(())
}

/// Settings of delta attention, which published checkpoints have in an object of their own.
struct Linear<'a> {
    config: &'a Config,
    own: Option<&'a Map<String, Json>>,
}

impl<'a> Linear<'a> {
    fn new(config: &'a Config) -> Result<Self, Error> {
        let own = match config.get(LINEAR) {
            None => None,
            Some(value) => Some(value.as_object().ok_or_else(|| config.bad(LINEAR, "an object"))?),
        };
        Ok(Self { config, own })
    }

    /// A count that the object has as `name`, or else the settings as `flat`.
    fn count(&self, name: &'static str, flat: &'static str) -> Result<usize, Error> {
        let Some(value) = self.own.and_then(|own| own.get(name)) else { return self.config.required_count(&[flat]) };
        let count = value.as_u64().filter(|&n| n <= u64::from(u32::MAX)).and_then(|n| usize::try_from(n).ok());
        let count = count.ok_or_else(|| self.config.unfit(name, value, "a count"))?;
        if self.config.is_given(flat) {
            self.config.expect(flat, value, "what linear_attn_config says too")?;
        }
        Ok(count)
    }

    /// Whether each block has latent attention: by its type, which the object's lists of numbers from 1 on must not
    /// contradict, or by these lists.
    fn full_attention(&self, config: &Config) -> Result<Vec<bool>, Error> {
        let blocks = config.block_count()?;
        let list = |name: &'static str| match self.own.and_then(|own| own.get(name)).filter(|list| !list.is_null()) {
            None => Ok(None),
            Some(list) => {
                list.as_array().map(Some).ok_or_else(|| config.unfit(name, list, "a list of numbers of layers"))
            }
        };
        let by_lists = match (list("full_attn_layers")?, list("kda_layers")?) {
            (Some(full), Some(delta)) => {
                let holds = |list: &[Json], i: usize| list.iter().any(|n| n.as_u64() == Some(i as u64 + 1));
                if (0..blocks).any(|i| holds(full, i) == holds(delta, i)) {
                    return Err(config.bad(LINEAR, "each block in full_attn_layers or in kda_layers"));
                }
                Some((0..blocks).map(|i| holds(full, i)).collect::<Vec<_>>())
            }
            _ => None,
        };
        let Some(types) = config.layer_types() else {
            return Ok(by_lists.unwrap_or_else(|| (0..blocks).map(|i| i > 0 && i % 4 == 0).collect()));
        };
        let by_types: Vec<bool> = types.into_iter().map(|ty| ty == "full_attention").collect();
        if by_types.len() != blocks || by_lists.is_some_and(|lists| lists != by_types) {
            return Err(config.bad("layer_types", "one for each block, as linear_attn_config says too"));
        }
        Ok(by_types)
    }
}
