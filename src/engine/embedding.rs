//! Embeddings: one vector per text, pooled from the hidden states of its tokens. Used by `gguf embed` and the server.

use std::sync::Arc;

use super::Error;
use super::session::check_tokens;
use crate::cpu::{KvType, Part, Rows, Run, Sequence, SequenceOptions};
use crate::kernels::Pool;
use crate::model::Model;
use crate::network::Pooling;

/// Maximum tokens of a forward pass: as many texts as fit, or a piece of a long one.
const BATCH: usize = 512;

/// A text's tokens, and where the second one begins, if it is two.
pub(super) type Text<'t> = (&'t [u32], usize);

/// Settings of an [`Embedder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbeddingOptions {
    /// The pooling. With `None`, that of the file; if the file has none, the mean for encoders, and the last token for causal
    /// models.
    pub pooling: Option<Pooling>,
    /// Whether vectors are normalized to length 1.
    pub normalize: bool,
    /// Type of keys and values.
    pub kv_type: KvType,
}

impl Default for EmbeddingOptions {
    fn default() -> Self {
        Self { pooling: None, normalize: true, kv_type: KvType::F32 }
    }
}

/// Computes embeddings of tokenized texts.
pub struct Embedder {
    model: Arc<Model>,
    pool: Arc<Pool>,
    pooling: Pooling,
    normalize: bool,
    kv_type: KvType,
}

impl Embedder {
    /// An embedder with `model`.
    ///
    /// # Errors
    /// [`Error::Ranks`] for models whose pooling is a classifier's scores.
    pub fn new(model: Arc<Model>, pool: Arc<Pool>, options: EmbeddingOptions) -> Result<Self, Error> {
        let decoder = model.decoder();
        let usual = if decoder.is_causal() { Pooling::Last } else { Pooling::Mean };
        let pooling = options.pooling.or(decoder.pooling()).unwrap_or(usual);
        if pooling == Pooling::Rank {
            return Err(Error::Ranks);
        }
        let EmbeddingOptions { normalize, kv_type, .. } = options;
        Ok(Self { model, pool, pooling, normalize, kv_type })
    }

    /// The pooling.
    #[must_use]
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// Elements of a vector.
    #[must_use]
    pub fn length(&self) -> usize {
        self.model.decoder().embedding_length()
    }

    /// Maximum tokens of a text.
    #[must_use]
    pub fn context_length(&self) -> usize {
        let trained = self.model.hparams().context_length;
        self.model.decoder().learned_positions().map_or(trained, |limit| trained.min(limit))
    }

    /// Checks that a text can be embedded.
    ///
    /// # Errors
    /// [`Error::NoTokens`], [`Error::ContextFull`] and [`Error::UnknownToken`].
    pub fn check(&self, tokens: &[u32]) -> Result<(), Error> {
        check_tokens(self.model.decoder(), tokens, 0, self.context_length())
    }

    /// The embedding of each text, `[length]`; without pooling, the hidden state of each of its tokens, `[tokens, length]`.
    /// Several texts are evaluated in one pass; the numbers are the same alone or together.
    ///
    /// # Errors
    /// As [`Self::check`], for the first text that cannot be embedded; [`Error::NotANumber`] when the model computes NaN or
    /// infinity.
    pub fn embed<T: AsRef<[u32]>>(&self, texts: &[T]) -> Result<Vec<Vec<f32>>, Error> {
        self.embed_until(texts, &|| false)
    }

    /// As [`Self::embed`], until `stop` returns true; it is called before each layer of a pass.
    ///
    /// # Errors
    /// As [`Self::embed`], and [`Error::Cancelled`] when it was stopped.
    pub fn embed_until<T: AsRef<[u32]>>(
        &self,
        texts: &[T],
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Vec<f32>>, Error> {
        let texts: Vec<Text<'_>> = texts.iter().map(|text| (text.as_ref(), usize::MAX)).collect();
        let run = self.model.run(&self.pool);
        let mut vectors = self.pooled(&texts, stop)?;
        for vector in &mut vectors {
            if self.pooling != Pooling::None {
                *vector = self.model.decoder().embedding(run, std::mem::take(vector));
            }
            if self.normalize {
                vector.chunks_exact_mut(self.length()).for_each(to_unit_length);
            }
        }
        Ok(vectors)
    }

    /// As [`Self::embed_until`], of texts of which each may be two: the pooled hidden states as they are.
    pub(super) fn pooled(&self, texts: &[Text<'_>], stop: &(dyn Fn() -> bool + Sync)) -> Result<Vec<Vec<f32>>, Error> {
        let run = Run { stop: Some(stop), ..self.model.run(&self.pool) };
        texts.iter().try_for_each(|(text, _)| self.check(text))?;
        let mut vectors = Vec::with_capacity(texts.len());
        let mut rest = texts;
        while !rest.is_empty() {
            let mut tokens = 0;
            let fits = rest.iter().take_while(|(text, _)| {
                tokens += text.len();
                tokens <= BATCH
            });
            let count = fits.count().max(1);
            let (now, later) = rest.split_at(count);
            rest = later;
            if count == 1 && self.model.decoder().is_causal() {
                vectors.push(self.by_pieces(run, now[0])?);
            } else {
                vectors.extend(self.together(run, now)?);
            }
        }
        if vectors.iter().flatten().any(|x| !x.is_finite()) {
            return Err(Error::NotANumber);
        }
        Ok(vectors)
    }

    /// The vectors of texts that are evaluated in one pass.
    fn together(&self, run: Run<'_>, texts: &[Text<'_>]) -> Result<Vec<Vec<f32>>, Error> {
        let mut sequences: Vec<Sequence> = texts.iter().map(|text| self.sequence(*text)).collect();
        let parts = sequences.iter_mut().zip(texts);
        let rows = self.rows();
        let mut parts: Vec<_> = parts.map(|(sequence, (tokens, _))| Part { sequence, tokens, logits: rows }).collect();
        let states = self.states(run, &mut parts)?;
        let mut rest = &states[..];
        let vectors = texts.iter().map(|(text, _)| {
            let rows = if rows == Rows::Last { 1 } else { text.len() };
            let (own, others) = rest.split_at(rows * self.length());
            rest = others;
            let mut pooled = Pooled::new(self.pooling, self.length());
            pooled.add(own);
            pooled.finish()
        });
        Ok(vectors.collect())
    }

    /// Hidden states of a pass; an error when it was stopped.
    fn states(&self, run: Run<'_>, parts: &mut [Part<'_>]) -> Result<Vec<f32>, Error> {
        let states = self.model.decoder().normed(run, parts);
        if states.is_empty() { Err(Error::Cancelled) } else { Ok(states) }
    }

    /// The vector of a text whose tokens see none after them: piece by piece, however long it is.
    fn by_pieces(&self, run: Run<'_>, text: Text<'_>) -> Result<Vec<f32>, Error> {
        let mut sequence = self.sequence(text);
        let mut pooled = Pooled::new(self.pooling, self.length());
        for piece in text.0.chunks(BATCH) {
            let mut parts = [Part { sequence: &mut sequence, tokens: piece, logits: self.rows() }];
            pooled.add(&self.states(run, &mut parts)?);
        }
        Ok(pooled.finish())
    }

    fn rows(&self) -> Rows {
        if self.pooling == Pooling::Last { Rows::Last } else { Rows::From(0) }
    }

    /// A sequence for a text.
    fn sequence(&self, (tokens, second): Text<'_>) -> Sequence {
        let options = SequenceOptions { kv_type: self.kv_type, context_length: tokens.len() };
        let mut sequence = self.model.decoder().sequence(options);
        sequence.set_second_text(second);
        sequence
    }
}

/// The pooling of hidden states to one vector.
struct Pooled {
    pooling: Pooling,
    length: usize,
    rows: usize,
    values: Vec<f32>,
}

impl Pooled {
    fn new(pooling: Pooling, length: usize) -> Self {
        Self { pooling, length, rows: 0, values: Vec::new() }
    }

    /// Adds the next hidden states, `[rows, length]`.
    fn add(&mut self, states: &[f32]) {
        for row in states.chunks_exact(self.length) {
            match self.pooling {
                Pooling::None => self.values.extend_from_slice(row),
                Pooling::Last => self.values = row.to_vec(),
                Pooling::Mean if self.rows > 0 => self.values.iter_mut().zip(row).for_each(|(sum, x)| *sum += x),
                Pooling::Mean | Pooling::Cls | Pooling::Rank if self.rows == 0 => self.values = row.to_vec(),
                Pooling::Mean | Pooling::Cls | Pooling::Rank => {}
            }
            self.rows += 1;
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "a text has fewer than 2^24 tokens")]
    fn finish(mut self) -> Vec<f32> {
        if self.pooling == Pooling::Mean {
            let count = self.rows.max(1) as f32;
            self.values.iter_mut().for_each(|sum| *sum /= count);
        }
        self.values
    }
}

/// Normalizes a vector to length 1; a vector of zeros does not change.
#[allow(clippy::cast_possible_truncation, reason = "rounded at last")]
pub fn to_unit_length(vector: &mut [f32]) {
    let square: f64 = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    if square > 0.0 {
        let factor = (1.0 / square.sqrt()) as f32;
        vector.iter_mut().for_each(|x| *x *= factor);
    }
}
