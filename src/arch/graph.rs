//! What the families' computations share: hyper-parameters to the parts of a [`ModelSpec`].

use super::config::{GELU, GELU_TANH};
use super::{Error, Hparams, keys};
use crate::gguf::Value;
use crate::network::{
    Activation, AttentionMixer, Classifier, Dense, Experts, FeedForward, Gate, Gating, Groups, HeadFunction,
    LayerNorms, LayerSpec, Mixer, ModelSpec, NormKind, NormSpec, OutputGate, Pooling, RopeSpec, RopeStyle, Tensors,
    Wiring, Yarn, YarnEdges, frequencies,
};

/// The rotary base of files that do not say it.
const FREQ_BASE: f32 = 10_000.0;

/// A model of the given layers, without any scale or cap.
///
/// # Errors
/// When the epsilon of its norms is missing.
pub(super) fn model(h: &Hparams, norm: NormKind, layers: Vec<LayerSpec>) -> Result<ModelSpec, Error> {
    // Some files have the keys of both.
    let epsilon = match norm {
        NormKind::Rms => keys::LAYER_NORM_RMS_EPSILON,
        NormKind::Layer => keys::LAYER_NORM_EPSILON,
    };
    model_of(h, NormSpec { kind: norm, epsilon: h.f32(epsilon)?, plain: false }, layers)
}

/// As [`model`], with these norms.
///
/// # Errors
/// When a key is unfit.
pub(super) fn model_of(h: &Hparams, norm: NormSpec, layers: Vec<LayerSpec>) -> Result<ModelSpec, Error> {
    Ok(ModelSpec {
        embedding_length: h.embedding_length,
        vocab_size: h.vocab_size,
        norm,
        embedding_scale: 1.0,
        logit_scale: 1.0,
        logit_softcap: None,
        output_norm: Some("output_norm"),
        logits: true,
        pooling: pooling(h)?,
        classifier: None,
        layer_inputs: None,
        altup: None,
        layers,
        prediction: None,
    })
}

/// The model with a layer that predicts further tokens (MTP): `layer`, where the file has such layers at all. The first of
/// several is computed, as in llama.cpp.
pub(super) fn predicting(h: &Hparams, model: ModelSpec, layer: impl FnOnce() -> LayerSpec) -> ModelSpec {
    ModelSpec { prediction: (h.next_n > 0).then(layer), ..model }
}

/// How texts become embeddings, where the file says it.
///
/// # Errors
/// When it says it with a number that means nothing.
fn pooling(h: &Hparams) -> Result<Option<Pooling>, Error> {
    if !h.has(keys::POOLING_TYPE) {
        return Ok(None);
    }
    let known = [Pooling::None, Pooling::Mean, Pooling::Cls, Pooling::Last, Pooling::Rank];
    let found = known.get(h.count(keys::POOLING_TYPE)?);
    found.copied().map(Some).ok_or_else(|| h.bad_key(keys::POOLING_TYPE, "0 to 4"))
}

/// The head that scores texts, where the file has one, with the function behind its first map. `usual` is how hidden
/// states are pooled where the file does not say it.
///
/// # Errors
/// When a key is unfit.
pub(super) fn classifier(
    h: &Hparams,
    weights: &dyn Tensors,
    usual: Pooling,
    function: HeadFunction,
) -> Result<Option<Classifier>, Error> {
    let pooling = match h.count_or(keys::CLASSIFIER_POOLING_TYPE, 0)? {
        0 => usual,
        1 => Pooling::Mean,
        2 => Pooling::Cls,
        _ => return Err(h.bad_key(keys::CLASSIFIER_POOLING_TYPE, "1 (mean) or 2 (the first token)")),
    };
    let scores = scores(h)?;
    let there = weights.has("cls.output.weight");
    Ok(there.then_some(Classifier { pooling, scores, function, softmax: false }))
}

/// Number of scores that a file's classification head gives: one for each of its labels.
///
/// # Errors
/// When there is none.
pub(super) fn scores(h: &Hparams) -> Result<usize, Error> {
    match h.get(keys::CLASSIFIER_OUTPUT_LABELS) {
        None => Ok(1),
        Some(Value::Array(labels)) if !labels.is_empty() => Ok(labels.len()),
        Some(_) => Err(h.bad_key(keys::CLASSIFIER_OUTPUT_LABELS, "at least one label")),
    }
}

/// A layer with a norm before each part, one after the other.
pub(super) fn layer(mixer: Mixer, feed_forward: FeedForward) -> LayerSpec {
    LayerSpec {
        mixer,
        feed_forward,
        wiring: Wiring::Sequential,
        norms: LayerNorms::PRE,
        residual_scale: 1.0,
        gate_cut: None,
    }
}

/// Puts both parts of a layer side by side, behind one norm.
pub(super) fn in_parallel(layer: &mut LayerSpec) {
    layer.wiring = Wiring::Parallel;
    layer.norms = LayerNorms::ONE;
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

/// A gated dense part in each of the first layers, as many as the file says, and experts in those behind.
///
/// # Errors
/// When a key is missing or impossible.
pub(super) fn dense_then_experts(
    h: &Hparams,
    activation: Activation,
    gating: Gating,
    normalize: bool,
) -> Result<Vec<FeedForward>, Error> {
    let dense = h.count_or(keys::LEADING_DENSE_BLOCK_COUNT, 0)?;
    let routed = if dense < h.block_count { experts(h, activation, gating, normalize)? } else { FeedForward::None };
    Ok((0..h.block_count).map(|i| if i < dense { gated(activation) } else { routed.clone() }).collect())
}

/// `experts` in the layers that have tensors of a router, and a gated dense part in all others.
///
/// # Errors
/// When a layer has the tensors of neither.
pub(super) fn dense_or_experts(
    h: &Hparams,
    weights: &dyn Tensors,
    activation: Activation,
    experts: &FeedForward,
) -> Result<Vec<FeedForward>, Error> {
    let of_layer = |i: usize| {
        let name = |part: &str| format!("blk.{i}.ffn_{part}.weight");
        let has = |part: &str| weights.has(&name(part));
        let routed = ["gate_inp", "gate_exps", "up_exps", "down_exps", "gate_up_exps", "gate.0"].into_iter().any(has);
        let parts: &[&str] = match () {
            () if !routed => &["gate", "up", "down"],
            () if has("gate_up_exps") => &["gate_inp", "gate_up_exps", "down_exps"],
            () if has("gate.0") => &["gate_inp", "gate.0", "up.0", "down.0"],
            () => &["gate_inp", "gate_exps", "up_exps", "down_exps"],
        };
        match parts.iter().find(|part| !has(part)) {
            Some(part) => Err(Error::MissingTensor { name: name(part) }),
            None if routed => Ok(experts.clone()),
            None => Ok(gated(activation)),
        }
    };
    (0..h.block_count).map(of_layer).collect()
}

/// As [`experts`], for a feed-forward part that is not of experts alone.
///
/// # Errors
/// When a key is missing or impossible.
pub(super) fn routed(h: &Hparams, activation: Activation, gating: Gating, normalize: bool) -> Result<Experts, Error> {
    let count = h.positive(keys::EXPERT_COUNT)?;
    let used = h.positive(keys::EXPERT_USED_COUNT)?;
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
    Ok(Experts {
        count,
        used,
        activation,
        gate: Gate::Separate,
        gating,
        normalize,
        weight_scale,
        groups,
        weighted_input: false,
        output_scale: 1.0,
    })
}

/// The choice by groups that the keys describe. A group is as good as its best expert where a softmax weighs them, as
/// its two best together where sigmoids do.
fn groups(h: &Hparams, experts: usize, used: usize, gating: Gating) -> Result<Option<Groups>, Error> {
    let count = h.count_or(keys::EXPERT_GROUP_COUNT, 1)?;
    // Looked at also where there is one group: what stands there is a number.
    h.count_or(keys::EXPERT_GROUP_USED_COUNT, 0)?;
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

/// Attention of layer `index` over all positions, scaled by the root of the head's length.
#[allow(clippy::cast_precision_loss, reason = "lengths are far below 2^24")]
pub(super) fn attention(h: &Hparams, index: usize, rope: Option<RopeSpec>) -> AttentionMixer {
    AttentionMixer {
        heads: h.head_count[index],
        kv_heads: h.head_count_kv[index],
        k_dim: h.key_length,
        v_dim: h.value_length,
        scale: 1.0 / (h.key_length as f32).sqrt(),
        softcap: None,
        max_alibi: None,
        causal: true,
        window: None,
        chunk: None,
        clamp: None,
        rope,
        qk_norm: NormKind::Rms,
        plain_qk_norm: false,
        norm_after_rope: false,
        value_norm: false,
        output_gate: false,
        gate: OutputGate::Sigmoid,
        value_scale: 1.0,
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
    let base = freq_base(h)?;
    let mut frequencies = frequencies(base, dims);
    if let Some(factors) = rope_factors(weights, "rope_freqs.weight", dims / 2)? {
        frequencies.iter_mut().zip(factors).for_each(|(f, factor)| *f /= factor);
    }
    let magnitude = scale(h, &mut frequencies, base, edges)?;
    Ok(RopeSpec::new(style, &frequencies, magnitude))
}

/// The rotary embedding of the layers whose attention slides, in families where these never have any scaling. Their base
/// is `rope.freq_base_swa`, or `default`.
///
/// # Errors
/// When a key is unfit.
pub(super) fn sliding_rope(h: &Hparams, style: RopeStyle, default: SlidingBase) -> Result<RopeSpec, Error> {
    let length = h.count_or(keys::KEY_LENGTH_SWA, h.key_length)?;
    let dims = h.count_or(keys::ROPE_DIMENSION_COUNT_SWA, rotary_length(h)?.min(length))?;
    if dims == 0 || dims > length || !dims.is_multiple_of(2) {
        return Err(h.bad_key(keys::ROPE_DIMENSION_COUNT_SWA, "an even number from 2 to attention.key_length_swa"));
    }
    Ok(RopeSpec::new(style, &frequencies(sliding_base(h, default)?, dims), 1.0))
}

/// As [`sliding_rope`], in families where these layers are scaled as all others and have their base where the file says no
/// other.
///
/// # Errors
/// When a key is unfit.
pub(super) fn scaled_sliding_rope(h: &Hparams, style: RopeStyle, edges: YarnEdges) -> Result<RopeSpec, Error> {
    let base = sliding_base(h, SlidingBase::Same)?;
    let mut frequencies = frequencies(base, rotary_length(h)?);
    let magnitude = scale(h, &mut frequencies, base, edges)?;
    Ok(RopeSpec::new(style, &frequencies, magnitude))
}

/// The rotary base of layers whose attention slides, where a file has no `rope.freq_base_swa`. As in llama.cpp, it
/// depends on the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SlidingBase {
    /// 10,000, whatever the base of the other layers.
    TenThousand,
    /// The base of the other layers.
    Same,
}

fn sliding_base(h: &Hparams, default: SlidingBase) -> Result<f64, Error> {
    let base = match default {
        SlidingBase::TenThousand => FREQ_BASE,
        SlidingBase::Same => h.positive_f32_or(keys::ROPE_FREQ_BASE, FREQ_BASE)?,
    };
    h.positive_f32_or(keys::ROPE_FREQ_BASE_SWA, base).map(f64::from)
}

/// Refuses a file of a family with one rotary base for all layers that states another one for those whose attention
/// slides: llama.cpp passes over it.
///
/// # Errors
/// When the bases differ.
pub(super) fn one_rope_base(h: &Hparams) -> Result<(), Error> {
    let (all, sliding) = (freq_base(h)?, sliding_base(h, SlidingBase::Same)?);
    if all.to_bits() == sliding.to_bits() {
        return Ok(());
    }
    Err(h.bad_key(keys::ROPE_FREQ_BASE_SWA, "the base of all layers, rope.freq_base"))
}

fn freq_base(h: &Hparams) -> Result<f64, Error> {
    h.positive_f32_or(keys::ROPE_FREQ_BASE, FREQ_BASE).map(f64::from)
}

/// The tensor `name`, by whose elements frequencies are divided.
fn rope_factors(weights: &dyn Tensors, name: &str, pairs: usize) -> Result<Option<Vec<f64>>, Error> {
    let Some(factors) = weights.vector(name, pairs)? else { return Ok(None) };
    match factors.iter().find(|factor| !(factor.is_finite() && **factor > 0.0)) {
        Some(&found) => Err(Error::BadRopeFactor { name: name.to_owned(), found }),
        None => Ok(Some(factors.into_iter().map(f64::from).collect())),
    }
}

/// The window of each layer that has one: of those that the file says, else of all but every `period`-th. Without
/// `attention.sliding_window` no layer has one.
///
/// # Errors
/// When a key is unfit.
pub(super) fn windows(h: &Hparams, period: Option<usize>) -> Result<Vec<Option<usize>>, Error> {
    windows_or(h, 0, period)
}

/// As [`windows`], with the family's `default` of `attention.sliding_window`.
///
/// # Errors
/// When a key is unfit.
pub(super) fn windows_or(h: &Hparams, default: usize, period: Option<usize>) -> Result<Vec<Option<usize>>, Error> {
    windows_by_place(h, default, period, |layer| layer + 1)
}

/// As [`windows`], where the first layer of each period has no window, not the last.
///
/// # Errors
/// When a key is unfit.
pub(super) fn windows_after_the_first(h: &Hparams, period: usize) -> Result<Vec<Option<usize>>, Error> {
    windows_by_place(h, 0, Some(period), |layer| layer)
}

/// Layers whose `place` is a multiple of the period have no window.
fn windows_by_place(
    h: &Hparams,
    default: usize,
    period: Option<usize>,
    place: impl Fn(usize) -> usize,
) -> Result<Vec<Option<usize>>, Error> {
    let window = Some(h.count_or(keys::SLIDING_WINDOW, default)?).filter(|&n| n > 0);
    let every_but = |period: Option<usize>| -> Vec<bool> {
        (0..h.block_count).map(|i| period.is_none_or(|period| !place(i).is_multiple_of(period))).collect()
    };
    let slides = match h.get(keys::SLIDING_WINDOW_PATTERN) {
        Some(Value::Array(_)) => h.bools_per_block(keys::SLIDING_WINDOW_PATTERN)?.unwrap_or_default(),
        // A number is the period: with 0 all layers slide.
        Some(_) => every_but(Some(h.count(keys::SLIDING_WINDOW_PATTERN)?).filter(|&period| period > 0)),
        None => every_but(period),
    };
    Ok(slides.into_iter().map(|slides| window.filter(|_| slides)).collect())
}

/// For each layer the earlier one whose keys and values it reads: of the last `attention.shared_kv_layers` that is the
/// last one before them of the same kind.
///
/// # Errors
/// When there is none.
pub(super) fn shared_caches(h: &Hparams, slides: &[bool]) -> Result<Vec<Option<usize>>, Error> {
    let shared = h.count_or(keys::SHARED_KV_LAYERS, 0)?;
    let own = h.block_count.checked_sub(shared).filter(|&own| own > 0);
    let own = own.ok_or_else(|| h.bad_key(keys::SHARED_KV_LAYERS, "less than block_count"))?;
    let mut shares = vec![None; own];
    for block in own..h.block_count {
        let last = (0..own).rev().find(|&other| slides[other] == slides[block]);
        let last = last.filter(|&last| h.head_count_kv[last] == h.head_count_kv[block]);
        let last = last.ok_or_else(|| h.bad_key(keys::SHARED_KV_LAYERS, "blocks after one of each kind"))?;
        shares.push(Some(last));
    }
    Ok(shares)
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
    let factors = |name: &str| rope_factors(weights, name, dims / 2);
    let (short, long) = (factors("rope_factors_short.weight")?, factors("rope_factors_long.weight")?);
    let (Some(short), Some(long)) = (short, long) else { return rope(h, weights, style) };
    let base = freq_base(h)?;
    let divided = |factors: Vec<f64>| -> Vec<f64> {
        frequencies(base, dims).into_iter().zip(factors).map(|(f, factor)| f / factor).collect()
    };
    let magnitude = attn_factor(h)?;
    if !matches!(h.str(keys::ROPE_SCALING_TYPE)?, None | Some("none" | "longrope")) {
        return Err(h.bad_key(keys::ROPE_SCALING_TYPE, "none or longrope"));
    }
    let most = original_context_length(h)?;
    Ok(RopeSpec::new(style, &divided(short), magnitude).with_long(most, &divided(long)))
}

/// The factor of the architecture's `key`; none where it is missing or 0, which files have for none.
///
/// # Errors
/// When it is no number.
pub(super) fn factor(h: &Hparams, key: &str) -> Result<Option<f32>, Error> {
    factor_or(h, key, 0.0)
}

/// The factor of the architecture's `key`, which the file must have; 1 where it is 0, which files have for none.
///
/// # Errors
/// When it is missing, or no number.
pub(super) fn required_factor(h: &Hparams, key: &str) -> Result<f32, Error> {
    Ok(Some(h.f32(key)?).filter(|&factor| factor != 0.0).unwrap_or(1.0))
}

/// As [`factor`], or `default` where the key is missing.
///
/// # Errors
/// When it is no number.
pub(super) fn factor_or(h: &Hparams, key: &str, default: f32) -> Result<Option<f32>, Error> {
    Ok(Some(h.f32_or(key, default)?).filter(|&factor| factor != 0.0))
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
    let factor = f64::from(rope_scaling_factor(h)?);
    let magnitude = match h.str(keys::ROPE_SCALING_TYPE)? {
        // Files from before the type was written mean linear scaling.
        None | Some("linear") => {
            frequencies.iter_mut().for_each(|f| *f /= factor);
            1.0
        }
        Some("yarn") => {
            let yarn = Yarn {
                factor,
                original_context_length: original_context_length(h)?,
                beta_fast: f64::from(h.positive_f32_or(keys::ROPE_SCALING_YARN_BETA_FAST, 32.0)?),
                beta_slow: f64::from(h.positive_f32_or(keys::ROPE_SCALING_YARN_BETA_SLOW, 1.0)?),
                edges,
            };
            yarn.interpolate(frequencies, base);
            let own = f64::from(h.f32_or(keys::ROPE_SCALING_YARN_ATTN_FACTOR, 0.0)?);
            if own > 0.0 { own } else { yarn.magnitude() }
        }
        Some("none") => 1.0,
        Some(_) => return Err(h.bad_key(keys::ROPE_SCALING_TYPE, "none, linear or yarn")),
    };
    Ok(magnitude * attn_factor(h)?)
}

/// The growth of the context that rotary scaling stands for: 1 where the file says none. Files of 2023 have it under
/// another name, and 0 means none.
///
/// # Errors
/// When it is negative or no number.
pub(super) fn rope_scaling_factor(h: &Hparams) -> Result<f32, Error> {
    let key = if h.has(keys::ROPE_SCALING_FACTOR) { keys::ROPE_SCALING_FACTOR } else { keys::ROPE_SCALE_LINEAR };
    match h.f32_or(key, 1.0)? {
        0.0 => Ok(1.0),
        factor if factor > 0.0 => Ok(factor),
        _ => Err(h.bad_key(key, "at least 0")),
    }
}

/// The context that the model was first trained on, before rotary scaling: `context_length` where the file does not say
/// it.
///
/// # Errors
/// When it is no such number.
pub(super) fn original_context_length(h: &Hparams) -> Result<usize, Error> {
    Ok(match h.count_or(keys::ROPE_SCALING_ORIGINAL_CONTEXT_LENGTH, 0)? {
        0 => h.context_length,
        length => length,
    })
}

/// The factor of the rotated elements that a file states.
fn attn_factor(h: &Hparams) -> Result<f64, Error> {
    h.positive_f32_or(keys::ROPE_SCALING_ATTN_FACTOR, 1.0).map(f64::from)
}
