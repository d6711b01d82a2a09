//! DeepSeek V2, V3 and R1, and what is built like them (Kimi K2, Moonlight, GLM 4.7 Flash): latent attention, and experts after a
//! few dense blocks.

mod config;
mod graph;
mod tensors;

pub(super) use config::keys;
pub(super) use graph::{spec, spec_with};
pub(super) use tensors::{corrected_experts, rules_with};

use super::family::Family;
use super::{Error, Hparams, glm4_moe, keys as key};
use crate::network::{LatentMixer, Mixer, RopeSpec};

/// GLM 4.7 Flash.
const GLM_LITE: &str = "Glm4MoeLiteForCausalLM";

/// The family.
pub(super) static DEEPSEEK2: Family = Family {
    keys,
    token_keys: |config| if config.class() == GLM_LITE { glm4_moe::token_keys() } else { Vec::new() },
    ..Family::new("deepseek2", &["DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM", GLM_LITE], tensors::rules, spec)
};

/// Lengths of the latent attention.
pub(super) struct Latent {
    /// Of the compressed query, where there is one.
    pub(super) query_rank: Option<usize>,
    /// Of the compressed key and value.
    pub(super) rank: usize,
    /// Of a head's rotated part.
    pub(super) rope: usize,
    /// Of a head's part without position.
    pub(super) plain: usize,
    /// Of a value head.
    pub(super) value: usize,
    /// Whether keys and values of all heads are in one tensor, as in files from before April 2025.
    one_tensor: bool,
}

impl Latent {
    pub(super) fn new(h: &Hparams) -> Result<Self, Error> {
        let query_rank = h.count_or(key::Q_LORA_RANK, 0)?;
        // Files of both forms have `key_length`: since April 2025 the length of what is cached, earlier that of a head.
        let one_tensor = !h.has(key::KEY_LENGTH_MLA) && !h.has(key::VALUE_LENGTH_MLA);
        let (key, value) = if one_tensor {
            (h.key_length, h.value_length)
        } else {
            (h.positive(key::KEY_LENGTH_MLA)?, h.positive(key::VALUE_LENGTH_MLA)?)
        };
        let rope = h.positive(key::ROPE_DIMENSION_COUNT)?;
        let plain = key.checked_sub(rope).filter(|&n| n > 0);
        Ok(Self {
            query_rank: (query_rank > 0).then_some(query_rank),
            rank: h.positive(key::KV_LORA_RANK)?,
            rope,
            plain: plain.ok_or_else(|| h.bad_key(key::KEY_LENGTH_MLA, "more than rope.dimension_count"))?,
            value,
            one_tensor,
        })
    }

    /// What scores are multiplied by.
    #[allow(clippy::cast_precision_loss, reason = "lengths are far below 2^24")]
    pub(super) fn scale(&self) -> f32 {
        1.0 / ((self.plain + self.rope) as f32).sqrt()
    }

    /// The attention of `heads` heads.
    pub(super) fn mixer(&self, heads: usize, scale: f32, rope: Option<&RopeSpec>) -> Mixer {
        Mixer::Latent(LatentMixer {
            heads,
            kv_rank: self.rank,
            plain_dim: self.plain,
            rope_dim: self.rope,
            v_dim: self.value,
            scale,
            rope: rope.cloned(),
            length_scale: None,
            selection: None,
        })
    }
}
