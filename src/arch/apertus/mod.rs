//! Apertus: llama's model with normed query and key heads, and xIELU in place of a gate. Each layer's xIELU has numbers of
//! its own, which are tensors in checkpoints and keys in files.

use super::family::{Family, LayerNumber};
use super::graph::plain;
use super::{Config, Error, Hparams, Keys, Rules, TensorRule, keys, usual};
use crate::network::{Activation, ModelSpec, NormKind, RopeStyle, Tensors};

const ALPHA_N: &str = "xielu.alpha_n";
const ALPHA_P: &str = "xielu.alpha_p";
const BETA: &str = "xielu.beta";
const EPS: &str = "xielu.eps";

/// The family.
pub(super) static APERTUS: Family = Family {
    keys: config_keys,
    settings: &[("hidden_act", r#"["xielu"]"#), ("post_norm", "[false]"), ("qk_norm", "[true]")],
    layer_numbers: &[
        LayerNumber { key: ALPHA_N, tensor: "mlp.act_fn.alpha_n", shape: &[1] },
        LayerNumber { key: ALPHA_P, tensor: "mlp.act_fn.alpha_p", shape: &[1] },
        LayerNumber { key: BETA, tensor: "mlp.act_fn.beta", shape: &[] },
        LayerNumber { key: EPS, tensor: "mlp.act_fn.eps", shape: &[] },
    ],
    ..Family::new("apertus", &["ApertusForCausalLM"], rules, spec)
};

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    keys.these(config, &[keys::VOCAB_SIZE, keys::ROPE_DIMENSION_COUNT])
}

fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let d = h.embedding_length;
    let mut rules = Rules::new(h);
    rules.add_rope_factors("rope_freqs.weight", h.count_or(keys::ROPE_DIMENSION_COUNT, h.key_length)? / 2);
    for i in 0..h.block_count {
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "attention_layernorm");
        block.attention(h, i, false);
        block.head_norms(h, "self_attn.q_norm", "self_attn.k_norm");
        block.weight("ffn_norm", &[d], "feedforward_layernorm");
        block.plain_ffn(d, h.feed_forward_length[i], "mlp.up_proj", "mlp.down_proj");
    }
    Ok(rules.finish())
}

fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let (negative, positive) = (h.layer_numbers(ALPHA_N)?, h.layer_numbers(ALPHA_P)?);
    let (beta, eps) = (h.layer_numbers(BETA)?, h.layer_numbers(EPS)?);
    let part = |i: usize| {
        let (positive, negative) = (softplus(positive[i]), beta[i] + softplus(negative[i]));
        plain(Activation::Xielu { positive, negative, beta: beta[i], eps: eps[i] })
    };
    usual::spec_of(h, weights, NormKind::Rms, RopeStyle::Halves, part, |_, _| {})
}

/// `ln(1 + e^x)`, by which both factors are kept above 0.
fn softplus(x: f32) -> f32 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}
