//! The model that most families are variations of: RMS norm before each part, separate projections, a gated SiLU
//! feed-forward part.

use super::graph::{attention, gated, layer, model, rope};
use super::tensor_rule::BlockRules;
use super::{Config, Error, Hparams, Rules, Step, TensorRule, keys};
use crate::network::{
    Activation, AttentionMixer, FeedForward, Mixer, ModelSpec, NormKind, RopeSpec, RopeStyle, Tensors,
};

/// The context of models without position embedding.
pub(super) const UNBOUNDED_CONTEXT: usize = 1 << 20;

/// Blocks behind the model's own that predict further tokens, as far as the checkpoint has them.
///
/// # Errors
/// When a setting is no count.
pub(super) fn predicting_blocks(config: &Config, has: &dyn Fn(&str) -> bool) -> Result<usize, Error> {
    let (count, first) = (config.count(&["num_nextn_predict_layers"])?.unwrap_or(0), config.block_count()?);
    Ok((first..).take(count).take_while(|i| has(&format!("model.layers.{i}.eh_proj.weight"))).count())
}

/// Its tensors. `interleave` where checkpoints have the halves of a head for pairs, and files neighbours.
///
/// # Errors
/// When a hyper-parameter is impossible.
pub(super) fn tensors(h: &Hparams, interleave: bool) -> Result<Vec<TensorRule>, Error> {
    tensors_and(h, interleave, |_| {})
}

/// As [`tensors`], and `more` in each block.
///
/// # Errors
/// When a hyper-parameter is impossible.
pub(super) fn tensors_and(
    h: &Hparams,
    interleave: bool,
    more: impl Fn(&mut BlockRules<'_>),
) -> Result<Vec<TensorRule>, Error> {
    tensors_of(h, interleave, |block, i| {
        block.gated_ffn(h.embedding_length, h.feed_forward_length[i], "mlp");
        more(block);
        Ok(())
    })
}

/// As [`tensors`], with another feed-forward part, and what else `rest` adds, in each block.
///
/// # Errors
/// When a hyper-parameter is impossible, or `rest` fails.
pub(super) fn tensors_of(
    h: &Hparams,
    interleave: bool,
    rest: impl Fn(&mut BlockRules<'_>, usize) -> Result<(), Error>,
) -> Result<Vec<TensorRule>, Error> {
    let d = h.embedding_length;
    let mut rules = Rules::new(h);
    rules.add_rope_factors("rope_freqs.weight", h.count_or(keys::ROPE_DIMENSION_COUNT, h.key_length)? / 2);
    for i in 0..h.block_count {
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "input_layernorm");
        block.attention(h, i, interleave);
        block.weight("ffn_norm", &[d], "post_attention_layernorm");
        rest(&mut block, i)?;
    }
    Ok(rules.finish())
}

/// Its tensors with biases of all norms, and a feed-forward part without gate; `steps` are those of the norms' weights.
///
/// # Errors
/// When a hyper-parameter is impossible.
pub(super) fn tensors_of_layer_norms(h: &Hparams, steps: &[Step]) -> Result<Vec<TensorRule>, Error> {
    let d = h.embedding_length;
    let mut rules = Rules::new(h);
    rules.steps_of("output_norm.weight", steps);
    rules.add("output_norm.bias", &[d], "model.norm.bias").optional();
    rules.add_rope_factors("rope_freqs.weight", h.count_or(keys::ROPE_DIMENSION_COUNT, h.key_length)? / 2);
    for i in 0..h.block_count {
        let mut block = rules.block(i);
        for (name, source) in [("attn_norm", "input_layernorm"), ("ffn_norm", "post_attention_layernorm")] {
            block.weight(name, &[d], source).steps(steps);
            block.tensor(&format!("{name}.bias"), &[d], &format!("{source}.bias")).optional();
        }
        block.attention(h, i, false);
        block.plain_ffn(d, h.feed_forward_length[i], "mlp.up_proj", "mlp.down_proj");
    }
    Ok(rules.finish())
}

/// Its graph.
///
/// # Errors
/// When a hyper-parameter is missing or impossible.
pub(super) fn spec(h: &Hparams, weights: &dyn Tensors, style: RopeStyle) -> Result<ModelSpec, Error> {
    spec_with(h, weights, style, |_, _| {})
}

/// As [`spec`], with this rotary embedding.
///
/// # Errors
/// When a hyper-parameter is missing or impossible.
pub(super) fn spec_rotated(h: &Hparams, rope: &RopeSpec) -> Result<ModelSpec, Error> {
    let mixer = |i| Mixer::Attention(attention(h, i, Some(rope.clone())));
    let layers = (0..h.block_count).map(|i| layer(mixer(i), gated(Activation::Silu)));
    model(h, NormKind::Rms, layers.collect())
}

/// As [`spec`], with `change` made to the attention of each block.
///
/// # Errors
/// When a hyper-parameter is missing or impossible.
pub(super) fn spec_with(
    h: &Hparams,
    weights: &dyn Tensors,
    style: RopeStyle,
    change: impl Fn(usize, &mut AttentionMixer),
) -> Result<ModelSpec, Error> {
    spec_of(h, weights, NormKind::Rms, style, |_| gated(Activation::Silu), change)
}

/// As [`spec_with`], with norms of another kind and a feed-forward part for each block.
///
/// # Errors
/// When a hyper-parameter is missing or impossible.
pub(super) fn spec_of(
    h: &Hparams,
    weights: &dyn Tensors,
    norm: NormKind,
    style: RopeStyle,
    feed_forward: impl Fn(usize) -> FeedForward,
    change: impl Fn(usize, &mut AttentionMixer),
) -> Result<ModelSpec, Error> {
    let rope = rope(h, weights, style)?;
    let layers = (0..h.block_count).map(|i| {
        let mut mixer = attention(h, i, Some(rope.clone()));
        change(i, &mut mixer);
        layer(Mixer::Attention(mixer), feed_forward(i))
    });
    model(h, norm, layers.collect())
}
