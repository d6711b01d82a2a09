//! How fast a model would run: for some tenths of a second, products with one token and layers with a short prompt are
//! computed in the model's own shapes and types, with weights that are made up, and times are carried over to the whole.

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

/// Most bytes of made-up weights: more than caches hold.
const MOST_WEIGHTS: u64 = 160 << 20;
/// A byte that makes ordinary numbers of every type when it is repeated.
const FILL: u8 = 0x3f;
/// How long each of the machine's limits is measured.
const LIMIT_TIME: Duration = Duration::from_millis(15);
/// How long products with one token, and layers with many, are measured.
const PRODUCT_TIME: Duration = Duration::from_millis(150);
/// Tokens of a short prompt.
const TOKENS: usize = 128;
/// Where tensors begin, as in files.
const ALIGNMENT: usize = 64;
/// The share of the machine's limit that prompts reach, where their layers cannot be measured.
const PRODUCT_SHARE: f64 = 0.6;
/// The share of the limit of floats that attention reaches.
const ATTENTION_SHARE: f64 = 0.75;

/// This machine, as far as a model's speed and memory depend on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// Bytes that this process can still get; `None` where the system does not say.
    pub available: Option<u64>,
    /// Threads.
    pub threads: usize,
    /// Bytes read a second.
    pub bytes_read: f64,
    /// Seconds for a token of an answer, but for the cache.
    token: f64,
    /// Seconds for a token of a short prompt.
    prompt_token: f64,
    /// Products of attention a second.
    attention: f64,
}

impl Machine {
    /// Measures how fast this machine is with the model's products: some tenths of a second.
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

    /// Tokens a second of a prompt of `tokens` tokens, in a session that has seen nothing.
    #[must_use]
    pub fn prompt_speed(&self, fit: &Fit, tokens: usize) -> f64 {
        let n = tokens as f64;
        // What a short prompt sees is measured with its layers.
        let seen = n * (n - TOKENS as f64).max(0.0) / 2.0;
        let attention = seen * fit.outline.work(KvType::F16).each.attention / self.attention;
        n / (n * self.prompt_token + self.token + attention)
    }

    /// Tokens a second of an answer, after `depth` other tokens.
    #[must_use]
    pub fn answer_speed(&self, fit: &Fit, depth: usize, kv_type: KvType) -> f64 {
        let sequence = fit.outline.sequence(SequenceOptions { kv_type, context_length: depth });
        // Pages are whole; the positions in them are what is read.
        let cache = sequence.bytes_after(depth) as f64;
        1.0 / (self.token + cache / self.bytes_read)
    }
}

impl Fit {
    /// The matrices that a token of an answer meets, and the share of each: of experts, those that it uses.
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

/// Seconds for the products of one token with all matrices: with as many as time allows, one after the other, and the
/// rest by their bytes.
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

/// Seconds that a token of a prompt takes in all layers: each kind of layer is put together with made-up weights and
/// computes a short prompt, as far as time allows. `None` where weights are too large for that.
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
    // The first run also touches new memory.
    let seconds = run(TOKENS).min(run(TOKENS));
    Some(seconds / TOKENS as f64)
}

/// The first rows of a tensor, made of the bytes from `at` on, or from the first on where they end before.
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
