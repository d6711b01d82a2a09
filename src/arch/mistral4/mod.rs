//! Mistral 4: DeepSeek's latent attention, whose queries grow with the position, and experts chosen by a softmax beside a
//! part that all tokens share; the text part of multimodal checkpoints.

use super::deepseek2;
use super::family::Family;
use super::graph::{factor, original_context_length};
use super::{BlockRules, Config, Error, Hparams, Keys, TensorRule, keys};
use crate::network::{Experts, FeedForward, LengthScale, Mixer, ModelSpec, Tensors};

/// The family.
pub(super) static MISTRAL4: Family =
    Family { keys: config_keys, ..Family::new("mistral4", &["Mistral4ForCausalLM"], rules, spec) };

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    deepseek2::keys(config, keys)?;
    let count = |name: &str| config.required_count(&[name]);
    let (plain, rope) = (count("qk_nope_head_dim")?, count("qk_rope_head_dim")?);
    let name = "partial_rotary_factor";
    #[allow(clippy::cast_precision_loss, reason = "lengths below 2^32")]
    if config.rope_number(name).is_some_and(|share| share != rope as f64 / (plain + rope) as f64) {
        return Err(config.bad(name, "the share of qk_rope_head_dim in a head"));
    }
    if let Some(beta) = config.rope_number("llama_4_scaling_beta") {
        keys.float(keys::TEMPERATURE_SCALE, beta);
        let length = config.rope_number("original_max_position_embeddings");
        let length = length.filter(|&n| n >= 1.0 && n.fract() == 0.0 && n < 2.0_f64.powi(32));
        let length = length.ok_or_else(|| config.bad("original_max_position_embeddings", "a count of positions"))?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count below 2^32")]
        keys.count(keys::TEMPERATURE_LENGTH, length as usize);
    }
    Ok(())
}

fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let d = h.embedding_length;
    let (count, length) = (h.positive(keys::EXPERT_COUNT)?, h.positive(keys::EXPERT_FEED_FORWARD_LENGTH)?);
    let shared = length * h.count(keys::EXPERT_SHARED_COUNT)?;
    let experts = |block: &mut BlockRules<'_>| {
        block.weight("ffn_gate_inp", &[d, count], "mlp.gate");
        block.joint_experts(d, length, count, "mlp.experts.gate_up_proj", "mlp.experts.down_proj");
        if shared > 0 {
            block.shared_expert(d, shared, "mlp.shared_experts");
        }
        Ok(())
    };
    deepseek2::rules_with(h, |_, _| {}, experts)
}

fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let length_scale = match factor(h, keys::TEMPERATURE_SCALE)? {
        Some(beta) => {
            let length = h.count_or(keys::TEMPERATURE_LENGTH, 0)?;
            let length = if length > 0 { length } else { original_context_length(h)? };
            Some(LengthScale { beta, length, offset: 0 })
        }
        None => None,
    };
    let mut model = deepseek2::spec(h, weights)?;
    for layer in &mut model.layers {
        if let Mixer::Latent(mixer) = &mut layer.mixer {
            mixer.length_scale = length_scale;
        }
        if let FeedForward::Experts(Experts { groups: Some(groups), .. }) = &mut layer.feed_forward {
            groups.best = 2;
        }
    }
    // No model of this family has such a layer.
    model.prediction = None;
    Ok(model)
}
