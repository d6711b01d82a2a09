//! Estimates the speed of a model: for some tenths of a second, products with one token and layers with a short prompt are
//! computed in the model's own shapes and types with synthetic weights, and the times are extrapolated to the whole model.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "rates, of which three digits are shown, and counts far below 2^52"
)]

use std::time::{Duration, Instant};

use super::Fit;
use crate::TensorType;
use crate::bytes::Bytes;
use crate::cpu::{Decoder, KvType, Part, Rows, Run, SequenceOptions, Weights};
use crate::gguf::TensorInfo;
use crate::kernels::{Activations, Limits, Matrix, Pool, Product, Store, matmul};
use crate::memory;
use crate::model::Products;
use crate::network::ModelSpec;

/// Maximum bytes of synthetic weights: more than fit a cache.
const MOST_WEIGHTS: u64 = 160 << 20;
/// A byte that decodes to ordinary numbers in every type when it is repeated.
const FILL: u8 = 0x3f;
/// Time for measuring each limit of the machine.
const LIMIT_TIME: Duration = Duration::from_millis(15);
/// Time for measuring products with one token, and for layers with many.
const PRODUCT_TIME: Duration = Duration::from_millis(150);
/// Tokens of a short prompt.
const TOKENS: usize = 128;
/// Alignment of tensors, as in files.
const ALIGNMENT: usize = 64;
/// The assumed share of the machine's limit for prompts, if layers cannot be measured.
const PRODUCT_SHARE: f64 = 0.6;
/// The assumed share of the limit of floats for attention.
const ATTENTION_SHARE: f64 = 0.75;

/// The facts about this machine on which a model's speed and memory depend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// Bytes that this process can still get; `None` if the system does not report it.
    pub available: Option<u64>,
    /// Threads.
    pub threads: usize,
    /// Bytes read per second.
    pub bytes_read: f64,
    /// Seconds for a generated token, without reading the cache.
    token: f64,
    /// Seconds for a token of a short prompt.
    prompt_token: f64,
    /// Products of attention per second.
    attention: f64,
}

impl Machine {
    /// Measures the speed of this machine with the model's products, which takes some tenths of a second.
    #[must_use]
    pub fn measure(fit: &Fit, pool: &Pool) -> Self {
        let work = fit.outline.work(KvType::F16);
        let size = (work.weight_bytes as u64).clamp(1 << 20, MOST_WEIGHTS);
        let weights = Bytes::from(vec![FILL; usize::try_from(size).unwrap_or(1 << 20)]);
        let limits = Limits::measure_within(pool, std::slice::from_ref(&weights), LIMIT_TIME);
        let token = token_seconds(pool, &weights, &fit.matrices());
        let seconds = |products: &Products| -> f64 {
            let of_type = |(&ty, products): (&TensorType, &f64)| products / (limits.products(ty) * PRODUCT_SHARE);
            products.weights.iter().map(of_type).sum()
        };
        Self {
            available: memory::available(),
            threads: pool.threads(),
            bytes_read: limits.bytes_read,
            token,
            prompt_token: layer_seconds(fit, pool, &weights).unwrap_or_else(|| seconds(&work.each)),
            attention: limits.float_products * ATTENTION_SHARE,
        }
    }

    /// Tokens per second for a prompt of `tokens` tokens, in an empty session.
    #[must_use]
    pub fn prompt_speed(&self, fit: &Fit, tokens: usize) -> f64 {
        let n = tokens as f64;
        // The attention of a short prompt is included in the measurement of layers.
        let seen = n * (n - TOKENS as f64).max(0.0) / 2.0;
        let attention = seen * fit.outline.work(KvType::F16).each.attention / self.attention;
        n / (n * self.prompt_token + self.token + attention)
    }

    /// Generated tokens per second, after `depth` other tokens.
    #[must_use]
    pub fn answer_speed(&self, fit: &Fit, depth: usize, kv_type: KvType) -> f64 {
        self.answer_speed_of_share(fit, depth, kv_type, 1.0)
    }

    /// As [`answer_speed`](Self::answer_speed), of the same model with weights of other types, `share` times as many bytes: an
    /// answer takes about the time in which its weights are read.
    #[must_use]
    pub fn answer_speed_of_share(&self, fit: &Fit, depth: usize, kv_type: KvType, share: f64) -> f64 {
        let sequence = fit.outline.sequence(SequenceOptions { kv_type, context_length: depth });
        // Whole pages are allocated, but only positions in use are read.
        let cache = sequence.bytes_after(depth) as f64;
        1.0 / (self.token * share + cache / self.bytes_read)
    }
}

impl Fit {
    /// The matrices that a generated token is multiplied with, and the share of each that is used (for experts).
    fn matrices(&self) -> Vec<(&TensorInfo, f64)> {
        let layers = self.outline.all_layer_tensors().filter(|tensor| tensor.rows() > 1);
        self.outline
            .output()
            .into_iter()
            .chain(layers)
            .map(|tensor| (tensor, self.outline.used_share(tensor)))
            .collect()
    }
}

/// Seconds for the products of one token with all matrices. As many as time allows are measured; the rest is extrapolated by
/// bytes.
fn token_seconds(pool: &Pool, weights: &Bytes, matrices: &[(&TensorInfo, f64)]) -> f64 {
    let all: f64 = matrices.iter().map(|(tensor, share)| share * tensor.bytes() as f64).sum();
    let mut at = 0;
    let mut best = f64::INFINITY;
    let start = Instant::now();
    while start.elapsed() < PRODUCT_TIME {
        let (mut bytes, mut seconds) = (0.0, 0.0);
        for (tensor, share) in matrices {
            let rows = (tensor.rows() as f64 * share).ceil() as u64;
            let Some(matrix) = made(weights, &mut at, tensor, rows) else { continue };
            seconds += product_seconds(pool, &matrix);
            bytes += matrix.bytes().len() as f64;
            if start.elapsed() >= 2 * PRODUCT_TIME {
                break;
            }
        }
        if bytes == 0.0 {
            return 0.0;
        }
        best = best.min(seconds * all / bytes);
    }
    best
}

/// Seconds for a prompt token in all layers: each kind of layer is built with synthetic weights and evaluates a short prompt, as
/// far as time allows. `None` if the weights are too large for that.
fn layer_seconds(fit: &Fit, pool: &Pool, weights: &Bytes) -> Option<f64> {
    let spec = fit.outline.spec();
    let mut kinds: Vec<(Kind<'_>, usize, Option<f64>)> = Vec::new();
    let start = Instant::now();
    for i in 0..spec.layers.len() {
        let kind = kind(fit, i);
        if let Some((_, count, _)) = kinds.iter_mut().find(|(known, ..)| *known == kind) {
            *count += 1;
            continue;
        }
        let in_time = kinds.is_empty() || start.elapsed() < PRODUCT_TIME;
        let seconds = if in_time { one_layer(fit, pool, weights, i) } else { None };
        kinds.push((kind, 1, seconds));
    }
    let measured: Vec<(usize, f64)> = kinds.iter().filter_map(|(_, count, s)| Some((*count, (*s)?))).collect();
    let layers: usize = measured.iter().map(|(count, _)| count).sum();
    let seconds: f64 = measured.iter().map(|&(count, seconds)| count as f64 * seconds).sum();
    (layers > 0).then(|| seconds * spec.layers.len() as f64 / layers as f64)
}

/// Names (without the layer's number), types and shapes of a layer's tensors.
type Kind<'a> = Vec<(&'a str, TensorType, &'a [u64])>;

fn kind(fit: &Fit, layer: usize) -> Kind<'_> {
    fit.outline.layer_tensors(layer).map(|(part, tensor)| (part, tensor.ty, &tensor.shape[..])).collect()
}

/// Seconds for a token of a prompt in one layer.
fn one_layer(fit: &Fit, pool: &Pool, bytes: &Bytes, layer: usize) -> Option<f64> {
    let spec = fit.outline.spec();
    let mut weights = Weights::default();
    let mut at = 0;
    for (part, tensor) in fit.outline.layer_tensors(layer) {
        let matrix = made(bytes, &mut at, tensor, tensor.rows())?;
        if matrix.rows() as u64 != tensor.rows() {
            return None;
        }
        weights.insert(format!("blk.0.{part}"), matrix);
    }
    weights.insert("token_embd.weight", Matrix::from_f32(spec.embedding_length, &vec![0.5; spec.embedding_length]));
    let spec = ModelSpec {
        vocab_size: 1,
        logits: false,
        output_norm: None,
        layer_inputs: None,
        altup: None,
        classifier: None,
        layers: vec![spec.layers.get(layer)?.clone()],
        prediction: None,
        ..spec.clone()
    };
    let decoder = Decoder::load(spec, &weights).ok()?;
    let run = |tokens: usize| {
        let mut sequence =
            decoder.sequence(SequenceOptions { kv_type: KvType::F16, context_length: fit.context_length() });
        let parts = &mut [Part { sequence: &mut sequence, tokens: &vec![0; tokens], logits: Rows::From(0) }];
        let start = Instant::now();
        decoder.hidden(Run::new(pool), parts);
        start.elapsed().as_secs_f64()
    };
    // The first run includes page faults of new memory.
    let seconds = run(TOKENS).min(run(TOKENS));
    Some(seconds / TOKENS as f64)
}

/// The first rows of a tensor, from the synthetic bytes from `at` on, starting over where they end.
fn made(weights: &Bytes, at: &mut usize, tensor: &TensorInfo, rows: u64) -> Option<Matrix> {
    let row = usize::try_from(tensor.row_bytes()).ok().filter(|&row| row > 0)?;
    let rows = usize::try_from(rows).ok()?.min(weights.len() / row);
    *at = at.next_multiple_of(ALIGNMENT);
    if *at + rows * row > weights.len() {
        *at = 0;
    }
    let bytes = weights.get(*at..*at + rows * row)?;
    *at += rows * row;
    Matrix::new(tensor.ty, rows, usize::try_from(tensor.cols()).ok()?, bytes).ok().filter(|_| rows > 0)
}

/// Seconds for the product with one token, its preparation included.
fn product_seconds(pool: &Pool, matrix: &Matrix) -> f64 {
    let x = vec![0.5; matrix.cols()];
    let mut out = vec![0.0; matrix.rows()];
    let start = Instant::now();
    let x = Activations::new(&x, matrix.cols());
    let product = Product { weights: matrix, bias: None, tokens: None, store: Store::Set, out: &mut out };
    matmul(pool, &x, &mut [product]);
    start.elapsed().as_secs_f64()
}
