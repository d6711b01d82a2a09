//! What the families' computations share: hyper-parameters to the parts of a [`ModelSpec`].

use super::config::{GELU, GELU_TANH};
use super::{Error, Hparams, keys};
use crate::network::{
    Activation, AttentionMixer, Dense, Experts, FeedForward, Gate, Gating, Groups, LayerNorms, LayerSpec, Mixer,
    ModelSpec, NormKind, NormSpec, RopeSpec, RopeStyle, Tensors, Wiring, Yarn, YarnEdges, frequencies,
};

/// A model of the given layers, without any scale or cap.
pub(super) fn model(h: &Hparams, norm: NormKind, layers: Vec<LayerSpec>) -> ModelSpec {
    ModelSpec {
        embedding_length: h.embedding_length,
        vocab_size: h.vocab_size,
        norm: NormSpec { kind: norm, epsilon: h.norm_epsilon },
        embedding_scale: 1.0,
        logit_scale: 1.0,
        logit_softcap: None,
        output_norm: "output_norm",
        layer_inputs: None,
        layers,
    }
}

/// A block with a norm before each part, one after the other.
pub(super) fn layer(mixer: Mixer, feed_forward: FeedForward) -> LayerSpec {
    LayerSpec { mixer, feed_forward, wiring: Wiring::Sequential, norms: LayerNorms::PRE, residual_scale: 1.0 }
}

/// `down(act(gate(x)) * up(x))` of separate matrices.
pub(super) fn gated(activation: Activation) -> FeedForward {
    FeedForward::Dense(Dense { activation, gate: Gate::Separate })
}

/// `down(act(up(x)))`.
pub(super) fn plain(activation: Activation) -> FeedForward {
    FeedForward::Dense(Dense { activation, gate: Gate::None })
}

/// Experts as the keys describe them; `gating`, and whether weights are normalized, where no key says it.
///
/// # Errors
/// When a key is missing or impossible.
pub(super) fn experts(
    h: &Hparams,
    activation: Activation,
    gating: Gating,
    normalize: bool,
) -> Result<FeedForward, Error> {
    routed(h, activation, gating, normalize).map(FeedForward::Experts)
}

/// As [`experts`], for a feed-forward part that is not of experts alone.
///
/// # Errors
/// When a key is missing or impossible.
pub(super) fn routed(h: &Hparams, activation: Activation, gating: Gating, normalize: bool) -> Result<Experts, Error> {
    let count = h.positive(keys::EXPERT_COUNT)?;
    let used = h.positive(keys::EXPERT_USED_COUNT)?;
    if used > count {
        return Err(h.bad_key(keys::EXPERT_USED_COUNT, "at most expert_count"));
    }
    let gating = match h.count_or(keys::EXPERT_GATING_FUNC, 0)? {
        0 => gating,
        1 => Gating::Softmax,
        2 => Gating::Sigmoid,
        3 => Gating::SoftmaxOfChosen,
        _ => return Err(h.bad_key(keys::EXPERT_GATING_FUNC, "1 to 3")),
    };
    let weight_scale = match h.f32_or(keys::EXPERT_WEIGHTS_SCALE, 1.0)? {
        0.0 => 1.0,
        scale => scale,
    };
    let normalize = h.bool_or(keys::EXPERT_WEIGHTS_NORM, normalize)?;
    let groups = groups(h, count, used, gating)?;
    Ok(Experts { count, used, activation, gating, normalize, weight_scale, groups })
}

/// The choice by groups that the keys describe. A group is as good as its best expert where a softmax weighs them, as
/// its two best together where sigmoids do.
fn groups(h: &Hparams, experts: usize, used: usize, gating: Gating) -> Result<Option<Groups>, Error> {
    let count = h.count_or(keys::EXPERT_GROUP_COUNT, 1)?;
    if count <= 1 {
        return Ok(None);
    }
    if !experts.is_multiple_of(count) {
        return Err(h.bad_key(keys::EXPERT_GROUP_COUNT, "a divisor of expert_count"));
    }
    let used_groups = h.positive(keys::EXPERT_GROUP_USED_COUNT)?;
    if used_groups > count || used_groups * (experts / count) < used {
        return Err(h.bad_key(keys::EXPERT_GROUP_USED_COUNT, "up to expert_group_count, with experts enough"));
    }
    let best = if gating == Gating::Sigmoid { 2 } else { 1 };
    Ok(Some(Groups { count, used: used_groups, best }))
}

/// Attention of block `index` over all positions, scaled by the root of the head's length.
#[allow(clippy::cast_precision_loss, reason = "lengths are far below 2^24")]
pub(super) fn attention(h: &Hparams, index: usize, rope: Option<RopeSpec>) -> AttentionMixer {
    AttentionMixer {
        heads: h.head_count[index],
        kv_heads: h.head_count_kv[index],
        k_dim: h.key_length,
        v_dim: h.value_length,
        scale: 1.0 / (h.key_length as f32).sqrt(),
        softcap: None,
        window: None,
        rope,
        qk_norm: NormKind::Rms,
        norm_after_rope: false,
        value_norm: false,
        output_gate: false,
        length_scale: None,
        shares_kv_of: None,
    }
}

/// The rotary embedding that the keys and, where they are there, the factors of `rope_freqs.weight` describe.
///
/// # Errors
/// When a key or the tensor is unfit.
pub(super) fn rope(h: &Hparams, weights: &dyn Tensors, style: RopeStyle) -> Result<RopeSpec, Error> {
    rope_with_edges(h, weights, style, YarnEdges::Whole)
}

/// As [`rope`], where YaRN's edges are those of the family.
///
/// # Errors
/// As [`rope`].
pub(super) fn rope_with_edges(
    h: &Hparams,
    weights: &dyn Tensors,
    style: RopeStyle,
    edges: YarnEdges,
) -> Result<RopeSpec, Error> {
    let dims = rotary_length(h)?;
    let base = f64::from(h.positive_f32_or(keys::ROPE_FREQ_BASE, 10_000.0)?);
    let mut frequencies = frequencies(base, dims);
    if let Some(factors) = weights.vector("rope_freqs.weight", dims / 2).map_err(Error::from)? {
        frequencies.iter_mut().zip(factors).for_each(|(f, factor)| *f /= f64::from(factor));
    }
    let magnitude = scale(h, &mut frequencies, base, edges)?;
    Ok(RopeSpec::new(style, &frequencies, magnitude))
}

/// The rotary embedding of the layers whose attention slides: their own base and length, and never any scaling.
///
/// # Errors
/// When a key is unfit.
pub(super) fn sliding_rope(h: &Hparams, style: RopeStyle) -> Result<RopeSpec, Error> {
    let length = h.count_or(keys::KEY_LENGTH_SWA, h.key_length)?;
    let dims = h.count_or(keys::ROPE_DIMENSION_COUNT_SWA, rotary_length(h)?.min(length))?;
    if dims == 0 || dims > length || !dims.is_multiple_of(2) {
        return Err(h.bad_key(keys::ROPE_DIMENSION_COUNT_SWA, "an even number from 2 to attention.key_length_swa"));
    }
    let base = h.positive_f32_or(keys::ROPE_FREQ_BASE, 10_000.0)?;
    let base = f64::from(h.positive_f32_or(keys::ROPE_FREQ_BASE_SWA, base)?);
    Ok(RopeSpec::new(style, &frequencies(base, dims), 1.0))
}

/// The window of each block: of those that the file says, else of all but every `period`-th.
///
/// # Errors
/// When a key is unfit.
pub(super) fn windows(h: &Hparams, period: Option<usize>) -> Result<Vec<Option<usize>>, Error> {
    let window = Some(h.count_or(keys::SLIDING_WINDOW, 0)?).filter(|&n| n > 0);
    let usual = |i: usize| period.is_none_or(|period| !(i + 1).is_multiple_of(period));
    let slides = h.bools_per_block(keys::SLIDING_WINDOW_PATTERN)?;
    let slides = slides.unwrap_or_else(|| (0..h.block_count).map(usual).collect());
    Ok(slides.into_iter().map(|slides| window.filter(|_| slides)).collect())
}

fn rotary_length(h: &Hparams) -> Result<usize, Error> {
    let dims = h.count_or(keys::ROPE_DIMENSION_COUNT, h.key_length)?;
    if dims == 0 || dims > h.key_length || !dims.is_multiple_of(2) {
        return Err(h.bad_key(keys::ROPE_DIMENSION_COUNT, "an even number from 2 to attention.key_length"));
    }
    Ok(dims)
}

/// As [`rope`], or with the factors of `rope_factors_short.weight` in sequences whose context is no longer than the one
/// that the model was first trained on, and with those of `rope_factors_long.weight` in all others.
///
/// # Errors
/// When a key or a tensor is unfit.
pub(super) fn long_rope(h: &Hparams, weights: &dyn Tensors, style: RopeStyle) -> Result<RopeSpec, Error> {
    let dims = rotary_length(h)?;
    let factors = |name: &str| weights.vector(name, dims / 2).map_err(Error::from);
    let (short, long) = (factors("rope_factors_short.weight")?, factors("rope_factors_long.weight")?);
    let (Some(short), Some(long)) = (short, long) else { return rope(h, weights, style) };
    let base = f64::from(h.positive_f32_or(keys::ROPE_FREQ_BASE, 10_000.0)?);
    let divided = |factors: Vec<f32>| -> Vec<f64> {
        frequencies(base, dims).into_iter().zip(factors).map(|(f, factor)| f / f64::from(factor)).collect()
    };
    let magnitude = f64::from(h.f32_or(keys::ROPE_SCALING_ATTN_FACTOR, 1.0)?);
    if !matches!(h.str(keys::ROPE_SCALING_TYPE)?, None | Some("none" | "longrope")) {
        return Err(h.bad_key(keys::ROPE_SCALING_TYPE, "none or longrope"));
    }
    let most = h.count_or(keys::ROPE_SCALING_ORIGINAL_CONTEXT_LENGTH, h.context_length)?;
    Ok(RopeSpec::new(style, &divided(short), magnitude).with_long(most, &divided(long)))
}

/// The factor of the architecture's `key`; none where it is missing or 0, which files have for none.
///
/// # Errors
/// When it is no number.
pub(super) fn factor(h: &Hparams, key: &str) -> Result<Option<f32>, Error> {
    Ok(Some(h.f32_or(key, 0.0)?).filter(|&factor| factor != 0.0))
}

/// The form of GELU that a file names; `own`, the family's, where it names none.
///
/// # Errors
/// When it names another function.
pub(super) fn gelu(h: &Hparams, own: Activation) -> Result<Activation, Error> {
    match h.str(keys::HIDDEN_ACTIVATION)? {
        None => Ok(own),
        Some(GELU) => Ok(Activation::GeluErf),
        Some(GELU_TANH) => Ok(Activation::GeluTanh),
        Some(_) => Err(h.bad_key(keys::HIDDEN_ACTIVATION, "gelu or gelu_pytorch_tanh")),
    }
}

/// Applies linear or YaRN scaling and returns the factor of the rotated elements.
fn scale(h: &Hparams, frequencies: &mut [f64], base: f64, edges: YarnEdges) -> Result<f64, Error> {
    let factor = f64::from(h.positive_f32_or(keys::ROPE_SCALING_FACTOR, 1.0)?);
    match h.str(keys::ROPE_SCALING_TYPE)? {
        Some("linear") => {
            frequencies.iter_mut().for_each(|f| *f /= factor);
            Ok(1.0)
        }
        Some("yarn") => {
            let yarn = Yarn {
                factor,
                original_context_length: match h
                    .count_or(keys::ROPE_SCALING_ORIGINAL_CONTEXT_LENGTH, h.context_length)?
                {
                    0 => return Err(h.bad_key(keys::ROPE_SCALING_ORIGINAL_CONTEXT_LENGTH, "more than 0")),
                    length => length,
                },
                beta_fast: f64::from(h.positive_f32_or(keys::ROPE_SCALING_YARN_BETA_FAST, 32.0)?),
                beta_slow: f64::from(h.positive_f32_or(keys::ROPE_SCALING_YARN_BETA_SLOW, 1.0)?),
                edges,
            };
            yarn.stretch(frequencies, base);
            let own = f64::from(h.f32_or(keys::ROPE_SCALING_YARN_ATTN_FACTOR, 0.0)?);
            Ok(if own > 0.0 { own } else { yarn.magnitude() })
        }
        None | Some("none") => Ok(1.0),
        Some(_) => Err(h.bad_key(keys::ROPE_SCALING_TYPE, "none, linear or yarn")),
    }
}
