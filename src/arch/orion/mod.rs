//! Orion: Llama's model with norms that have a mean and a bias.

use super::family::Family;
use super::graph::gated;
use super::{Config, Error, Hparams, Keys, Rules, TensorRule, keys, usual};
use crate::network::{Activation, NormKind, RopeStyle};

/// The family.
pub(super) static ORION: Family = Family {
    keys: config_keys,
    own_code: true,
    ..Family::new("orion", &["OrionForCausalLM"], rules, |h, weights| {
        let part = |_| gated(Activation::Silu);
        usual::spec_of(h, weights, NormKind::Layer, RopeStyle::Halves, part, |_, _| {})
    })
};

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.file_type();
    keys.text(keys::TENSOR_DATA_LAYOUT, "Meta AI original pth");
    let names = ["max_sequence_length", "max_position_embeddings", "model_max_length"];
    keys.count(keys::CONTEXT_LENGTH, config.required_count(&names)?);
    keys.these(config, &[keys::EMBEDDING_LENGTH, keys::BLOCK_COUNT, keys::FEED_FORWARD_LENGTH])?;
    keys.these(config, &[keys::HEAD_COUNT, keys::HEAD_COUNT_KV])?;
    // Checkpoints give the epsilon of their layer norms the name of that of RMS norms.
    keys.these(config, &[keys::LAYER_NORM_RMS_EPSILON])?;
    keys.rename(keys::LAYER_NORM_RMS_EPSILON, keys::LAYER_NORM_EPSILON);
    keys.unusual_rope_base(config);
    Ok(())
}

fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let mut rules = usual::tensors(h, false)?;
    let mut biases = Rules::with_blocks("model.layers.");
    for i in 0..h.block_count {
        let mut block = biases.block(i);
        for (name, source) in
            [("attn_norm.bias", "input_layernorm.bias"), ("ffn_norm.bias", "post_attention_layernorm.bias")]
        {
            block.tensor(name, &[h.embedding_length], source);
        }
    }
    biases.add("output_norm.bias", &[h.embedding_length], "model.norm.bias");
    rules.extend(biases.finish());
    Ok(rules)
}
