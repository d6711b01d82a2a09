//! The layer of a model that predicts one more token (multi-token prediction: MTP, NextN).
//!
//! For the hidden state `h` of position `t` after the final norm and the token at `t + 1`, its input is
//! `eh_proj [enorm(embedding), hnorm(h)]`. An ordinary layer follows, then a norm; the result is the hidden state of
//! position `t + 1` as far as the layer can know it, and the output matrix makes of it the logits of the token at `t + 2`.
//! From its own result and the likeliest token it goes on to the next one. Source: the report on DeepSeek V3
//! (arXiv:2412.19437, section 2.2), and the order of the two halves and the norm before in vLLM and llama.cpp.
//!
//! [`Decoder::forward`](super::Decoder::forward) hands the hidden states to sequences that
//! [predict](Sequence::predict_with); [`Prediction::draft`] is called by drafters.

use std::sync::Arc;

use super::batch::Batch;
use super::layer::Layer;
use super::rows::for_rows;
use super::sequence::{PredictionState, ReadHiddenStates};
use super::{Linear, Norm, PagePool, Part, Rows, Run, Sequence, SequenceOptions, Weights};
use crate::kernels::{Activations, Matrix, Store};
use crate::network::{Error, ModelSpec};

/// Hidden states of this many positions wait at most for the next draft. More of them, those of prompts, become entries at once.
const MOST_WAITING: usize = 64;

/// What the layer has of the model.
pub(super) struct ModelParts<'a> {
    pub(super) spec: &'a ModelSpec,
    pub(super) token_embedding: &'a Matrix,
    pub(super) output_norm: Option<&'a Norm>,
    pub(super) output: Option<&'a Linear>,
}

/// The layer with its weights.
pub struct Prediction {
    /// A model of this layer alone.
    spec: ModelSpec,
    token_embedding: Matrix,
    embedding_norm: Norm,
    hidden_norm: Norm,
    projection: Linear,
    layer: Layer,
    output_norm: Option<Norm>,
    output: Linear,
}

/// A text whose next token is predicted.
pub struct DraftText<'a> {
    /// The state, which predicts with the same layer.
    pub sequence: &'a mut Sequence,
    /// The text, and the tokens that were drafted so far.
    pub tokens: &'a [u32],
}

impl Prediction {
    /// Loads the layer; `None` where the network has none.
    pub(super) fn load(model: &ModelParts<'_>, weights: &Weights) -> Result<Option<Self>, Error> {
        let (Some(layer), Some(output)) = (&model.spec.prediction, model.output) else { return Ok(None) };
        let (cols, vocab) = (model.spec.embedding_length, model.spec.vocab_size);
        let index = model.spec.layers.len();
        let name = |part: &str| format!("blk.{index}.nextn.{part}");
        let norm = |part: &str| Norm::load(weights, &name(part), cols, model.spec.norm);
        let own_norm = weights.get(&format!("{}.weight", name("shared_head_norm"))).is_some();
        let own_embedding = format!("{}.weight", name("embed_tokens"));
        Ok(Some(Self {
            token_embedding: match weights.get(&own_embedding) {
                Some(_) => weights.matrix(&own_embedding, vocab, cols)?,
                None => model.token_embedding.clone(),
            },
            embedding_norm: norm("enorm")?,
            hidden_norm: norm("hnorm")?,
            projection: Linear::load(weights, &name("eh_proj"), cols, 2 * cols)?,
            layer: Layer::load(weights, index, model.spec, layer)?.with_state(0),
            output_norm: if own_norm { Some(norm("shared_head_norm")?) } else { model.output_norm.cloned() },
            output: Linear::load_optional(weights, &name("shared_head_head"), vocab, cols)?
                .unwrap_or_else(|| output.clone()),
            spec: ModelSpec { layers: vec![layer.clone()], prediction: None, ..model.spec.clone() },
        }))
    }

    /// Reads the last tokens of texts and returns the logits of the token after each text, `[texts, vocab]`. Every text
    /// must be one that its sequence [can predict](Sequence::can_predict), or one of the last call with one more token. After
    /// the last token of a draft, [`Sequence::end_draft`] must follow.
    pub fn draft(&self, run: Run<'_>, texts: &mut [DraftText<'_>]) -> Vec<f32> {
        let mut states = Vec::with_capacity(texts.len());
        for text in texts.iter_mut() {
            let Some(state) = text.sequence.prediction.as_deref_mut() else { continue };
            let known = state.tokens.len();
            state.tokens.extend(&text.tokens[(state.base + known).min(text.tokens.len())..]);
            states.push(state);
        }
        let hidden = self.read(run, &mut states, Rows::Last);
        for (state, row) in states.iter_mut().zip(hidden.chunks_exact(self.spec.embedding_length)) {
            state.text_entries.get_or_insert(state.sequence.len());
            state.hidden.extend_from_slice(row);
        }
        let mut logits = vec![0.0; hidden.len() / self.spec.embedding_length * self.spec.vocab_size];
        if !hidden.is_empty() {
            self.output.apply(run, &Activations::new(&hidden, self.spec.embedding_length), Store::Set, &mut logits);
        }
        logits
    }

    /// Makes entries of all waiting hidden states whose next tokens are known. Returns the wanted results after the norm.
    fn read(&self, run: Run<'_>, states: &mut [&mut PredictionState], wanted: Rows) -> Vec<f32> {
        let cols = self.spec.embedding_length;
        let counts: Vec<usize> = states.iter().map(|state| state.readable()).collect();
        let rows: usize = counts.iter().sum();
        // `[rows, 2 * embedding]`: of each position the embedding of the next token, and the hidden state.
        let mut tokens = Vec::with_capacity(rows);
        let mut input = vec![0.0; rows * 2 * cols];
        let mut halves = input.chunks_exact_mut(cols).skip(1).step_by(2);
        for (state, &count) in states.iter().zip(&counts) {
            tokens.extend_from_slice(&state.tokens[state.sequence.len() + 1..][..count]);
            state.hidden.chunks_exact(cols).take(count).zip(&mut halves).for_each(|(row, to)| to.copy_from_slice(row));
        }
        for_rows(run.pool, &mut input, 2 * cols, |i, row| {
            let (embedding, hidden) = row.split_at_mut(cols);
            self.token_embedding.decode_row(tokens[i] as usize, embedding);
            embedding.iter_mut().for_each(|v| *v *= self.spec.embedding_scale);
            self.embedding_norm.apply_row(embedding);
            self.hidden_norm.apply_row(hidden);
        });
        let mut x = vec![0.0; rows * cols];
        if rows > 0 {
            self.projection.apply(run, &Activations::new(&input, 2 * cols), Store::Set, &mut x);
        }
        let mut rest = &*tokens;
        let mut parts = Vec::with_capacity(states.len());
        for (state, &count) in states.iter_mut().zip(&counts).filter(|(_, count)| **count > 0) {
            let (own, others) = rest.split_at(count);
            rest = others;
            state.hidden.drain(..count * cols);
            parts.push(Part { sequence: &mut state.sequence, tokens: own, logits: wanted });
        }
        self.apply(run, &mut parts, &mut x);
        if let Some(norm) = &self.output_norm {
            norm.apply(run.pool, &mut x);
        }
        x
    }

    /// Takes `x`, `[rows, embedding]`, through the layer, and leaves the wanted rows.
    fn apply(&self, run: Run<'_>, parts: &mut [Part<'_>], x: &mut Vec<f32>) {
        if parts.is_empty() {
            return;
        }
        let mut batch = Batch::new(run, parts);
        let wanted = batch.rows_from(|part| part.first_wanted());
        batch.output_rows = Some(&*wanted).filter(|wanted| wanted.len() < batch.rows());
        self.layer.apply(&mut batch, x);
        for part in parts.iter_mut() {
            part.sequence.advance(part.tokens.len());
        }
    }
}

impl Sequence {
    /// Lets the sequence keep what `layer` needs to predict further tokens, from its next token on. `options` are those of the
    /// sequence, and memory comes from `pool`.
    pub fn predict_with(&mut self, layer: &Arc<Prediction>, options: SequenceOptions, pool: &PagePool) {
        let sequence = Self::new(&layer.spec, options, pool);
        self.prediction = Some(Box::new(PredictionState::new(layer.clone(), layer.spec.embedding_length, sequence)));
    }
}

impl ReadHiddenStates for Prediction {
    fn read_waiting(&self, run: Run<'_>, state: &mut PredictionState) {
        self.read(run, &mut [state], Rows::None);
    }
}

/// Hands the hidden states after the norm of all rows of parts that predict to their sequences, which have these tokens
/// already, and moves the wanted rows of all parts to the front of `rows`. Returns the number of their elements.
pub(super) fn follow(run: Run<'_>, parts: &mut [Part<'_>], rows: &mut [f32], cols: usize) -> usize {
    let (mut at, mut kept) = (0, 0);
    for part in parts.iter_mut() {
        let first = part.first_wanted();
        let (mut from, to) = (at, at + (part.tokens.len() - part.first_computed()) * cols);
        if let Some(state) = part.sequence.prediction.as_deref_mut() {
            let start = part.sequence.len - part.tokens.len();
            state.append(start, part.tokens, &rows[from..to]);
            if state.hidden.len() > MOST_WAITING * cols {
                state.layer.clone().read_waiting(run, state);
            }
            from += first * cols;
        }
        rows.copy_within(from..to, kept);
        kept += to - from;
        at = to;
    }
    kept
}
