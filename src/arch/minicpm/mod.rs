//! MiniCPM 1, 2 and 4: Llama's model with factors for embeddings, residuals and logits.

use super::family::Family;
use super::graph::{factor_or, long_rope};
use super::{Config, Error, Hparams, Keys, TensorRule, keys, usual};
use crate::network::{ModelSpec, RopeStyle, Tensors};

const ORIGINAL: &str = "original_max_position_embeddings";

/// The family.
pub(super) static MINICPM: Family = Family {
    keys: config_keys,
    settings: &[("rope_type", r#"["default", "longrope", "su"]"#)],
    own_code: true,
    ..Family::new("minicpm", &["MiniCPMForCausalLM"], rules, spec)
};

#[allow(clippy::cast_precision_loss, reason = "lengths and layers are far below 2^52")]
fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    let number = |name: &str| {
        config.number(&[name])?.filter(|&n| n > 0.0).ok_or_else(|| config.bad(name, "a number greater than 0"))
    };
    if matches!(config.rope_type(), "longrope" | "su") {
        // Files have no key for another length than the context's, nor for the factor that would follow from it.
        let original = config.rotary(ORIGINAL);
        if original != config.get("max_position_embeddings") {
            return Err(config.bad(ORIGINAL, "the same as max_position_embeddings"));
        }
        let pairs = config.rotary_length(1.0)? / 2;
        for name in ["long_factor", "short_factor"] {
            let fits = |list: Vec<f32>| list.len() == pairs && list.iter().all(|&factor| factor > 0.0);
            if !config.rope_list(name).is_some_and(fits) {
                return Err(config.bad(name, "a positive factor for each pair of a head"));
            }
        }
    }
    keys.shared(config)?;
    keys.float(keys::EMBEDDING_SCALE, number("scale_emb")?);
    keys.float(keys::RESIDUAL_SCALE, number("scale_depth")? / (config.block_count()? as f64).sqrt());
    keys.float(keys::LOGIT_SCALE, config.required_count(&["hidden_size"])? as f64 / number("dim_model_base")?);
    Ok(())
}

fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let mut rules = usual::tensors(h, true)?;
    let mut factors = super::Rules::default();
    for name in ["rope_factors_long.weight", "rope_factors_short.weight"] {
        factors.add_rope_factors(name, h.count_or(keys::ROPE_DIMENSION_COUNT, h.key_length)? / 2);
    }
    rules.extend(factors.finish());
    Ok(rules)
}

/// Files of 2024 do not say the factors.
#[allow(clippy::cast_precision_loss, reason = "lengths and layers are far below 2^24")]
fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let rope = long_rope(h, weights, RopeStyle::Pairs)?;
    let mut model = usual::spec_rotated(h, &rope)?;
    let or_one = |key: &str, default: f32| Ok::<f32, Error>(factor_or(h, key, default)?.unwrap_or(1.0));
    model.embedding_scale = or_one(keys::EMBEDDING_SCALE, 12.0)?;
    model.logit_scale = 1.0 / or_one(keys::LOGIT_SCALE, 256.0 / h.embedding_length as f32)?;
    let residual = or_one(keys::RESIDUAL_SCALE, 1.4 / (h.block_count as f32).sqrt())?;
    model.layers.iter_mut().for_each(|layer| layer.residual_scale = residual);
    Ok(model)
}
