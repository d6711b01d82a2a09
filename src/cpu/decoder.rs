//! A transformer put together from a [`ModelSpec`] and its tensors, and its forward pass.

use super::altup::Streams;
use super::batch::Batch;
use super::classifier::Head;
use super::layer::Layer;
use super::prediction::{self, ModelParts, Prediction};
use super::rows::for_rows;
use super::{Linear, Norm, PagePool, Part, Run, Sequence, SequenceOptions, Weights};
use crate::kernels::{Activations, List, Matrix, Pool, Scratch, Store, vector};
use crate::network::{Classifier, Error, LayerInputs, Mixer, ModelSpec, NormSpec, Pooling, Tensors};

/// A model that can be run.
pub struct Decoder {
    spec: ModelSpec,
    token_embedding: Matrix,
    position_embedding: Option<Matrix>,
    /// The embeddings of the first two types of tokens: all are of the first but those of the second of two texts.
    token_types: Vec<Vec<f32>>,
    embedding_norm: Option<Norm>,
    layer_inputs: Option<LayerInputWeights>,
    streams: Option<Streams>,
    layers: Vec<Layer>,
    /// See [`Self::last_stateful_layer`].
    last_stateful_layer: usize,
    output_norm: Option<Norm>,
    output: Option<Linear>,
    classifier: Option<Head>,
    /// Linear maps of pooled hidden states, one after the other.
    dense: Vec<Linear>,
    causal: bool,
}

impl Decoder {
    /// Loads the tensors that `spec` needs.
    ///
    /// # Errors
    /// When one is missing or of another shape.
    pub fn load(spec: ModelSpec, weights: &Weights) -> Result<Self, Error> {
        let (embedding, vocab) = (spec.embedding_length, spec.vocab_size);
        let token_embedding = weights.matrix("token_embd.weight", vocab, embedding)?;
        let output = match Linear::load_optional(weights, "output", vocab, embedding)? {
            _ if !spec.logits => None,
            Some(output) => Some(output),
            None => Some(Linear::from_matrix("token_embd.weight", token_embedding.clone())),
        };
        let layers: Vec<_> = spec
            .layers
            .iter()
            .enumerate()
            .map(|(i, layer)| Layer::load(weights, i, &spec, layer))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            token_embedding,
            position_embedding: weights.get("position_embd.weight").cloned(),
            token_types: first_rows(weights, "token_types.weight", embedding)?,
            embedding_norm: embedding_norm(weights, &spec)?,
            layer_inputs: spec
                .layer_inputs
                .map(|inputs| LayerInputWeights::load(weights, &spec, inputs))
                .transpose()?,
            streams: spec.altup.map(|altup| Streams::load(weights, &spec, altup)).transpose()?,
            last_stateful_layer: spec.last_stateful_layer(),
            causal: layers.iter().all(Layer::is_causal),
            layers,
            output_norm: spec.output_norm.map(|name| Norm::load(weights, name, embedding, spec.norm)).transpose()?,
            output,
            dense: dense(weights, embedding)?,
            classifier: spec.classifier.map(|head| Head::load(weights, &spec, head)).transpose()?,
            spec,
        })
    }

    /// What it was put together from.
    #[must_use]
    pub(crate) fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The layer that predicts further tokens, with its weights from the same tensors; `None` where the network has none.
    ///
    /// # Errors
    /// When a tensor is missing or of another shape.
    pub fn prediction(&self, weights: &Weights) -> Result<Option<Prediction>, Error> {
        let (spec, token_embedding) = (&self.spec, &self.token_embedding);
        let (output_norm, output) = (self.output_norm.as_ref(), self.output.as_ref());
        Prediction::load(&ModelParts { spec, token_embedding, output_norm, output }, weights)
    }

    /// Number of tokens that logits are over.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.spec.vocab_size
    }

    /// The last layer that keeps a state of a sequence. After it, only rows whose logits are wanted are computed.
    #[must_use]
    pub fn last_stateful_layer(&self) -> usize {
        self.last_stateful_layer
    }

    /// Number of positions with a learned embedding, for models that have these.
    #[must_use]
    pub fn learned_positions(&self) -> Option<usize> {
        self.position_embedding.as_ref().map(Matrix::rows)
    }

    /// Whether the model predicts tokens; encoders have hidden states alone.
    #[must_use]
    pub fn has_logits(&self) -> bool {
        self.output.is_some()
    }

    /// Whether the hidden state of a token never depends on later tokens. Otherwise a sequence is evaluated in one pass.
    #[must_use]
    pub fn is_causal(&self) -> bool {
        self.causal
    }

    /// How the hidden states of a text become its embedding, if the model's file says so.
    #[must_use]
    pub fn pooling(&self) -> Option<Pooling> {
        self.spec.pooling
    }

    /// The embedding that a pooled row of [`Self::normed`] becomes, as long as that: the same, but for models with linear
    /// maps behind the pooling.
    #[must_use]
    pub fn embedding(&self, run: Run<'_>, pooled: Vec<f32>) -> Vec<f32> {
        self.dense.iter().fold(pooled, |row, map| {
            let mut out = vec![0.0; map.rows()];
            map.apply(run, &Activations::new(&row, row.len()), Store::Set, &mut out);
            out
        })
    }

    /// The head that scores texts, where the model has one.
    #[must_use]
    pub fn classifier(&self) -> Option<&Classifier> {
        self.classifier.as_ref().map(Head::spec)
    }

    /// The scores, `[rows, scores]`, of pooled rows of [`Self::normed`]; none where there is no [`Self::classifier`].
    #[must_use]
    pub fn scores(&self, run: Run<'_>, pooled: &[f32]) -> Vec<f32> {
        self.classifier.as_ref().map_or_else(Vec::new, |head| head.apply(run, pooled))
    }

    /// An empty sequence with memory of its own.
    #[must_use]
    pub fn sequence(&self, options: SequenceOptions) -> Sequence {
        self.sequence_within(&PagePool::unlimited(), options)
    }

    /// An empty sequence whose memory comes from `pool`.
    #[must_use]
    pub fn sequence_within(&self, pool: &PagePool, options: SequenceOptions) -> Sequence {
        Sequence::new(&self.spec, options, pool)
    }

    /// Runs the parts' tokens and returns the wanted logits, `[rows, vocab]`, part after part.
    ///
    /// The results do not depend on how a sequence is split into calls, parts and threads. A pass that [`Run::stop`] has ended
    /// returns nothing.
    ///
    /// # Panics
    /// When a part is empty, a token is outside the vocabulary, a position outside [`Self::learned_positions`], the model
    /// has no logits ([`Self::has_logits`]), or it is not causal and a part continues a sequence.
    pub fn forward(&self, run: Run<'_>, parts: &mut [Part<'_>]) -> Vec<f32> {
        let cols = self.spec.embedding_length;
        let predicts = parts.iter().any(|part| part.sequence.predicts());
        let mut rows = self.through_layers(run, parts, |part| part.first_computed());
        self.apply_output_norm(run.pool, &mut rows);
        if predicts && !rows.is_empty() {
            let kept = prediction::follow(run, parts, &mut rows, cols);
            rows.truncate(kept);
        }
        let mut logits = vec![0.0; rows.len() / cols * self.spec.vocab_size];
        self.logits_of_normed(run, &rows, &mut logits);
        logits
    }

    /// Like [`Self::forward`], but stops before the final norm. Returns the input of [`Self::logits`], `[rows, embedding]`.
    ///
    /// # Panics
    /// As [`Self::forward`], but for logits.
    pub fn hidden(&self, run: Run<'_>, parts: &mut [Part<'_>]) -> Vec<f32> {
        self.through_layers(run, parts, |part| part.first_wanted())
    }

    /// As [`Self::hidden`], with the rows of each part from the one on that `first` says.
    fn through_layers(&self, run: Run<'_>, parts: &mut [Part<'_>], first: impl Fn(&Part<'_>) -> usize) -> Vec<f32> {
        for part in parts.iter() {
            assert!(!part.tokens.is_empty(), "a part without tokens");
            assert!(self.causal || part.sequence.is_empty(), "a sequence that is evaluated in one pass");
        }
        let mut batch = Batch::new(run, parts);
        let mut x = self.embed(run.pool, batch.parts, batch.rope.positions());
        let wanted = batch.rows_from(first);
        if let Some(inputs) = &self.layer_inputs {
            batch.layer_inputs = inputs.compute(&batch, &x, self.spec.embedding_length);
        }
        if let Some(streams) = &self.streams {
            x = streams.spread(run, &x);
        }
        for (i, layer) in self.layers.iter().enumerate() {
            if run.stop.is_some_and(|stop| stop()) {
                return Vec::new();
            }
            batch.output_rows =
                Some(&*wanted).filter(|wanted| i == self.last_stateful_layer && wanted.len() < batch.rows());
            layer.apply(&mut batch, &mut x);
            if x.is_empty() {
                break;
            }
        }
        for part in batch.parts.iter_mut() {
            part.sequence.advance(part.tokens.len());
        }
        match &self.streams {
            Some(streams) if !x.is_empty() => streams.gather(run, &x),
            _ => x,
        }
    }

    fn embed(&self, pool: &Pool, parts: &[Part<'_>], positions: &[usize]) -> Vec<f32> {
        let cols = self.spec.embedding_length;
        let tokens = tokens_of(parts);
        let mut seconds = List::with_capacity(tokens.len());
        for part in parts {
            seconds.extend(std::iter::repeat_n(part.sequence.second_text, part.tokens.len()));
        }
        let mut x = vec![0.0; tokens.len() * cols];
        let scale = self.spec.embedding_scale;
        for_rows(pool, &mut x, cols, |i, row| {
            self.token_embedding.decode_row(tokens[i] as usize, row);
            if scale != 1.0 {
                row.iter_mut().for_each(|v| *v *= scale);
            }
            if let Some(table) = &self.position_embedding {
                let mut position = Scratch::new(cols);
                table.decode_row(positions[i], &mut position);
                vector::add(row, &position);
            }
            let of_second = self.token_types.get(1).filter(|_| positions[i] >= seconds[i]);
            if let Some(embedding) = of_second.or(self.token_types.first()) {
                vector::add(row, embedding);
            }
            if let Some(norm) = &self.embedding_norm {
                norm.apply_row(row);
            }
        });
        x
    }

    /// The hidden states after the final norm, `[rows, embedding]`, of the wanted rows, part after part. Embeddings of texts are
    /// pooled from these.
    ///
    /// # Panics
    /// As [`Self::hidden`].
    pub fn normed(&self, run: Run<'_>, parts: &mut [Part<'_>]) -> Vec<f32> {
        let mut rows = self.hidden(run, parts);
        self.apply_output_norm(run.pool, &mut rows);
        rows
    }

    /// Logits, `[rows, vocab]`, of rows of [`Self::hidden`]: norm (in place), output matrix, scale and soft cap.
    ///
    /// # Panics
    /// When `logits` has another number of rows, or the model has none.
    pub fn logits(&self, run: Run<'_>, rows: &mut [f32], logits: &mut [f32]) {
        self.apply_output_norm(run.pool, rows);
        self.logits_of_normed(run, rows, logits);
    }

    fn apply_output_norm(&self, pool: &Pool, rows: &mut [f32]) {
        if let Some(norm) = &self.output_norm {
            norm.apply(pool, rows);
        }
    }

    /// Logits, `[rows, vocab]`, of rows of [`Self::normed`].
    fn logits_of_normed(&self, run: Run<'_>, rows: &[f32], logits: &mut [f32]) {
        let (cols, vocab) = (self.spec.embedding_length, self.spec.vocab_size);
        assert_eq!(rows.len() / cols, logits.len() / vocab);
        if rows.is_empty() {
            return;
        }
        let Some(output) = &self.output else { panic!("a model without logits") };
        output.apply(run, &Activations::new(rows, cols), Store::Set, logits);
        let (scale, cap) = (self.spec.logit_scale, self.spec.logit_softcap);
        if scale != 1.0 || cap.is_some() {
            for_rows(run.pool, logits, vocab, |_, row| {
                row.iter_mut().for_each(|v| *v = cap.map_or(*v * scale, |cap| cap * (*v * scale / cap).tanh()));
            });
        }
    }

    /// Whether sequences with these context lengths have different rotary frequencies, so that the cache of one is of no use to
    /// the other.
    #[must_use]
    pub fn differ_by_context(&self, a: usize, b: usize) -> bool {
        let ropes = self.spec.layers.iter().filter_map(|layer| match &layer.mixer {
            Mixer::Attention(spec) | Mixer::AttentionAndMamba2(spec, _) => spec.rope.as_ref(),
            Mixer::Latent(spec) => spec.rope.as_ref(),
            Mixer::None
            | Mixer::DeltaNet(_)
            | Mixer::KimiDelta(_)
            | Mixer::Mamba1(_)
            | Mixer::Mamba2(_)
            | Mixer::ShortConv(_) => None,
        });
        ropes.into_iter().any(|rope| rope.frequencies_within(a) != rope.frequencies_within(b))
    }

    /// Length of a row of [`Self::hidden`].
    #[must_use]
    pub fn embedding_length(&self) -> usize {
        self.spec.embedding_length
    }
}

/// The tokens of all parts, one after the other.
fn tokens_of(parts: &[Part<'_>]) -> Scratch<u32> {
    let mut tokens = Scratch::new(parts.iter().map(|part| part.tokens.len()).sum());
    let mut rest = &mut *tokens;
    for part in parts {
        let (own, others) = rest.split_at_mut(part.tokens.len());
        own.copy_from_slice(part.tokens);
        rest = others;
    }
    tokens
}

/// The first two rows of the tensor `name`, as far as they are there.
fn first_rows(weights: &Weights, name: &str, cols: usize) -> Result<Vec<Vec<f32>>, Error> {
    let Some(matrix) = weights.get(name) else { return Ok(Vec::new()) };
    if matrix.rows() > 0 && matrix.cols() != cols {
        let (found, expected) = ([matrix.rows(), matrix.cols()], [matrix.rows(), cols]);
        return Err(Error::BadShape { name: name.to_owned(), found, expected });
    }
    let row = |index| {
        let mut row = vec![0.0; cols];
        matrix.decode_row(index, &mut row);
        row
    };
    Ok((0..matrix.rows().min(2)).map(row).collect())
}

/// The two linear maps behind the pooling, where they are there.
fn dense(weights: &Weights, cols: usize) -> Result<Vec<Linear>, Error> {
    let Some(wide) = weights.get("dense_2.weight").map(Matrix::rows) else { return Ok(Vec::new()) };
    Ok(vec![Linear::load(weights, "dense_2", wide, cols)?, Linear::load(weights, "dense_3", cols, wide)?])
}

/// The norm of the embeddings, if its tensor exists and no other norm uses that name.
fn embedding_norm(weights: &Weights, spec: &ModelSpec) -> Result<Option<Norm>, Error> {
    let name = "token_embd_norm";
    if spec.output_norm == Some(name) || !weights.has(&format!("{name}.weight")) {
        return Ok(None);
    }
    Norm::load(weights, name, spec.embedding_length, spec.norm).map(Some)
}

/// The per-layer token embeddings of families that have them (Gemma's per-layer inputs).
struct LayerInputWeights {
    spec: LayerInputs,
    layers: usize,
    tokens: Matrix,
    projection: Linear,
    norm: Norm,
}

impl LayerInputWeights {
    fn load(w: &Weights, spec: &ModelSpec, inputs: LayerInputs) -> Result<Self, Error> {
        let (layers, all) = (spec.layers.len(), spec.layers.len() * inputs.length);
        Ok(Self {
            spec: inputs,
            layers,
            tokens: w.matrix("per_layer_token_embd.weight", spec.vocab_size, all)?,
            projection: Linear::load(w, "per_layer_model_proj", all, spec.embedding_length)?,
            norm: Norm::load(w, "per_layer_proj_norm", inputs.length, NormSpec { ..spec.norm })?,
        })
    }

    /// `(norm(projection(x) / sqrt(embedding)) + sqrt(length) * embedding(token)) / sqrt(2)`, as
    /// `[rows, layers, length]`.
    fn compute(&self, batch: &Batch<'_, '_>, x: &[f32], cols: usize) -> Vec<f32> {
        let all = self.layers * self.spec.length;
        let mut out = vec![0.0; batch.rows() * all];
        self.projection.apply(batch.run, &Activations::new(x, cols), Store::Set, &mut out);
        let tokens = tokens_of(batch.parts);
        #[allow(clippy::cast_precision_loss, reason = "lengths are far below 2^24")]
        let (shrink, grow) = (1.0 / (cols as f32).sqrt(), (self.spec.length as f32).sqrt());
        for_rows(batch.run.pool, &mut out, all, |i, row| {
            row.iter_mut().for_each(|v| *v *= shrink);
            self.norm.apply_row(row);
            let mut own = Scratch::new(all);
            self.tokens.decode_row(tokens[i] as usize, &mut own);
            for (v, e) in row.iter_mut().zip(&*own) {
                *v = (*v + e * grow) * std::f32::consts::FRAC_1_SQRT_2;
            }
        });
        out
    }
}
