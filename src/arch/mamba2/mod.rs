//! Mamba 2: nothing but its recurrence in every block.

use super::family::Family;
use super::graph::{layer, model};
use super::{Config, Error, Hparams, Keys, Rules, TensorRule, granite_hybrid, keys};
use crate::network::{FeedForward, LayerNorms, LayerSpec, Mixer, ModelSpec, NormKind, Tensors};

/// The context of models without position embedding.
const UNBOUNDED_CONTEXT: usize = 1 << 20;

/// The family.
pub(super) static MAMBA2: Family =
    Family { keys: config_keys, ..Family::new("mamba2", &["Mamba2ForCausalLM"], rules, spec) };

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    let (heads, head) = (config.required_count(&["num_heads"])?, config.required_count(&["head_dim"])?);
    let (width, expand) = (config.required_count(&["hidden_size"])?, config.required_count(&["expand"])?);
    if heads.checked_mul(head) != width.checked_mul(expand) {
        return Err(config.bad("head_dim", "expand times hidden_size over num_heads"));
    }
    keys.count(keys::CONTEXT_LENGTH, UNBOUNDED_CONTEXT);
    keys.these(config, &[keys::EMBEDDING_LENGTH])?;
    // llama.cpp wants these two.
    keys.count(keys::FEED_FORWARD_LENGTH, 0);
    keys.count(keys::HEAD_COUNT, 0);
    keys.these(config, &[keys::BLOCK_COUNT])?;
    keys.count(keys::SSM_CONV_KERNEL, config.required_count(&["conv_kernel"])?);
    keys.count(keys::SSM_INNER_SIZE, heads.saturating_mul(head));
    keys.count(keys::SSM_STATE_SIZE, config.required_count(&["state_size"])?);
    keys.count(keys::SSM_TIME_STEP_RANK, heads);
    keys.count(keys::SSM_GROUP_COUNT, config.required_count(&["n_groups"])?);
    let epsilon = config.number(&["layer_norm_epsilon"])?;
    keys.float(keys::LAYER_NORM_RMS_EPSILON, epsilon.ok_or_else(|| config.bad("layer_norm_epsilon", "a number"))?);
    keys.file_type();
    Ok(())
}

fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let d = h.embedding_length;
    let mut rules = Rules::with_blocks("backbone.layers.");
    rules.add("token_embd.weight", &[d, h.vocab_size], "backbone.embeddings.weight");
    rules.add("output_norm.weight", &[d], "backbone.norm_f.weight");
    rules.add("output.weight", &[d, h.vocab_size], "lm_head.weight").optional();
    for i in 0..h.block_count {
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "norm");
        granite_hybrid::mixer(&mut block, h, "mixer")?;
    }
    Ok(rules.finish())
}

fn spec(h: &Hparams, _weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let mixer = Mixer::Mamba2(granite_hybrid::mamba(h)?);
    let layer = layer(mixer, FeedForward::None);
    let layer = LayerSpec { norms: LayerNorms { feed_forward_in: None, ..LayerNorms::PRE }, ..layer };
    model(h, NormKind::Rms, vec![layer; h.block_count])
}
