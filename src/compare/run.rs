//! The pass over the text: the base and every model evaluate it chunk by chunk.

use std::mem;
use std::time::{Duration, Instant};

use super::base_file::encode;
use super::scores::BaseRow;
use super::{BaseFile, BaseHeader, BaseScore, BaseWriter, Error, Score, Statistics};
use crate::cpu::{KvType, Part, Rows, SequenceOptions};
use crate::kernels::Pool;
use crate::model::Model;
use crate::perplexity::{self, begun, check_context, hidden};

/// Maximum bytes of a model's logits in memory; those of the base take three times as many.
const MAX_LOGITS_BYTES: usize = 32 << 20;

/// Tokens of the prompt before the measurement of generation speed.
const PROMPT: usize = 32;

/// Options of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Tokens of a chunk; ignored if a file of logits is read, which has its own.
    pub context: usize,
    /// Tokens of a forward pass; as many chunks as fit share it.
    pub batch: usize,
    /// Maximum chunks.
    pub chunks: Option<usize>,
    /// Type of cached keys and values.
    pub kv_type: KvType,
}

impl Default for Options {
    fn default() -> Self {
        Self { context: 512, batch: 2048, chunks: None, kv_type: KvType::F16 }
    }
}

/// A model and its name in messages.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The name.
    pub name: &'a str,
    /// The model.
    pub model: &'a Model,
}

/// The base of a comparison.
#[derive(Clone, Copy)]
pub enum Base<'a> {
    /// A model, which is run on a text (without one newline at its end).
    Model(Subject<'a>, &'a str),
    /// The logits of a model with their text.
    File(&'a BaseFile),
}

/// The progress of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// Chunks done.
    pub done: usize,
    /// All chunks.
    pub total: usize,
    /// Mean divergence of each model so far.
    pub kl: Vec<f64>,
}

/// Tokens and the time that they took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Speed {
    /// Tokens.
    pub tokens: usize,
    /// Their time.
    pub time: Duration,
}

impl Speed {
    /// Tokens per second; zero if there are none.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a rate")]
    pub fn rate(&self) -> f64 {
        if self.tokens == 0 { 0.0 } else { self.tokens as f64 / self.time.as_secs_f64().max(1e-9) }
    }
}

/// The results of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Figures of the whole text.
    pub statistics: Statistics,
    /// Figures of each position.
    pub scores: Vec<Score>,
    /// Speed of evaluating the text, with the output matrix for the scored half.
    pub prompt: Speed,
}

/// The results of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Tokens of a chunk.
    pub context: usize,
    /// The text in whole chunks, `[chunks, context]`.
    pub tokens: Vec<u32>,
    /// Figures of the base at each position.
    pub base: Vec<BaseScore>,
    /// Speed of the base; no tokens if its logits were read from a file.
    pub base_prompt: Speed,
    /// The results of each model.
    pub models: Vec<Measured>,
}

impl Outcome {
    /// The first position of a chunk that is scored.
    #[must_use]
    pub fn first(&self) -> usize {
        self.context / 2
    }

    /// Scored positions of a chunk.
    #[must_use]
    pub fn per_chunk(&self) -> usize {
        self.context - 1 - self.first()
    }

    /// The index in [`tokens`](Self::tokens) of the token that a scored position predicts.
    #[must_use]
    pub fn target(&self, position: usize) -> usize {
        position / self.per_chunk() * self.context + self.first() + 1 + position % self.per_chunk()
    }
}

/// A model that is being evaluated.
struct Running<'a> {
    subject: Subject<'a>,
    /// Hidden states of the current chunks, `[positions, embedding]`.
    hidden: Vec<f32>,
    scores: Vec<Score>,
    kl: f64,
    prompt: Speed,
}

impl Running<'_> {
    /// Evaluates the scored positions of these chunks, except for the output matrix.
    fn evaluate(&mut self, pool: &Pool, group: &[Vec<u32>], options: &Options) {
        let (context, start) = (options.context, Instant::now());
        let positions = context / 2..context - 1;
        self.hidden =
            hidden(self.subject.model, self.subject.model.run(pool), group, positions, options.batch, options.kv_type);
        self.prompt.tokens += group.len() * context;
        self.prompt.time += start.elapsed();
    }

    /// The logits of positions of the current chunks, from `first` on, as many as `logits` has room for.
    fn logits(&mut self, pool: &Pool, first: usize, logits: &mut [f32]) {
        let (decoder, start) = (self.subject.model.decoder(), Instant::now());
        let (cols, rows) = (decoder.embedding_length(), logits.len() / decoder.vocab_size());
        decoder.logits(self.subject.model.run(pool), &mut self.hidden[first * cols..(first + rows) * cols], logits);
        self.prompt.time += start.elapsed();
    }
}

/// The source of the base's distributions.
enum Source<'a> {
    Model(Running<'a>),
    File(&'a BaseFile),
}

/// A base and models that evaluate a text, several chunks at a time.
///
/// Memory: at most 128 MiB of logits, whatever the text and the vocabulary, and the hidden states of a forward pass of each
/// model.
pub struct Comparison<'a> {
    pool: &'a Pool,
    options: Options,
    tokens: Vec<u32>,
    chunks: Vec<Vec<u32>>,
    done: usize,
    source: Source<'a>,
    base: Vec<BaseScore>,
    models: Vec<Running<'a>>,
    writer: Option<BaseWriter<'a>>,
}

impl<'a> Comparison<'a> {
    /// Starts a comparison. Chunks begin with the begin-of-text token if the base uses one (the first model, if the base's logits
    /// are read from a file).
    ///
    /// # Errors
    /// When there is nothing to compare, the models have other vocabularies, or the text is too short or cannot be encoded.
    pub fn new(base: Base<'a>, models: &[Subject<'a>], pool: &'a Pool, options: &Options) -> Result<Self, Error> {
        let first = *models.first().ok_or(Error::NoModels)?;
        let mut options = options.clone();
        let fresh = |subject: Subject<'a>| Running {
            subject,
            hidden: Vec::new(),
            scores: Vec::new(),
            kl: 0.0,
            prompt: Speed::default(),
        };
        let (leader, mut tokens, source) = match base {
            Base::Model(subject, text) => {
                let failed = |source| Error::Text { model: subject.name.to_owned(), source };
                check_context(subject.model, options.context).map_err(failed)?;
                let tokens = perplexity::tokens(subject.model, text, options.context, false).map_err(failed)?;
                (subject, tokens, Source::Model(fresh(subject)))
            }
            Base::File(file) => {
                options.context = file.header().context;
                check_vocabulary_size(first, "the file of logits", file.header().vocab_size)?;
                (first, file.header().tokens.clone(), Source::File(file))
            }
        };
        for &model in models {
            let failed = |source| Error::Text { model: model.name.to_owned(), source };
            check_context(model.model, options.context).map_err(failed)?;
            check_vocabulary(model, leader)?;
        }
        let whole = (tokens.len() / options.context).min(options.chunks.unwrap_or(usize::MAX));
        if whole == 0 {
            return Err(Error::NoChunks);
        }
        tokens.truncate(whole * options.context);
        let chunks = begun(leader.model, &tokens, options.context);
        let models = models.iter().map(|&model| fresh(model)).collect();
        Ok(Self { pool, options, tokens, chunks, done: 0, source, base: Vec::new(), models, writer: None })
    }

    /// The head for a file of the base's logits.
    #[must_use]
    pub fn header(&self) -> BaseHeader {
        let vocab_size = self.models.first().map_or(0, |model| model.subject.model.decoder().vocab_size());
        BaseHeader { context: self.options.context, vocab_size, tokens: self.tokens.clone() }
    }

    /// Writes the base's logits to `out` during the pass. Nothing is written if they are read from a file.
    ///
    /// # Errors
    /// When writing fails.
    pub fn write_base(&mut self, out: &'a mut dyn std::io::Write) -> Result<(), Error> {
        self.writer = Some(BaseWriter::new(out, &self.header())?);
        Ok(())
    }

    /// The progress so far.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub fn progress(&self) -> Progress {
        let count = self.base.len().max(1) as f64;
        let kl = self.models.iter().map(|model| model.kl / count).collect();
        Progress { done: self.done, total: self.chunks.len(), kl }
    }

    /// Evaluates the next chunks with all models, as many as fit a forward pass. Returns whether there were any.
    ///
    /// # Errors
    /// When a model computes NaN or infinity, or the base's logits cannot be read or written.
    pub fn advance(&mut self) -> Result<bool, Error> {
        let together = (self.options.batch / self.options.context).max(1);
        let end = (self.done + together).min(self.chunks.len());
        if self.done == end {
            return Ok(false);
        }
        let first = self.options.context / 2;
        let group = mem::take(&mut self.chunks);
        let own = &group[self.done..end];
        if let Source::Model(base) = &mut self.source {
            base.evaluate(self.pool, own, &self.options);
        }
        for model in &mut self.models {
            model.evaluate(self.pool, own, &self.options);
        }
        let targets: Vec<u32> = own.iter().flat_map(|chunk| &chunk[first + 1..]).copied().collect();
        self.chunks = group;
        self.score(&targets)?;
        self.done = end;
        Ok(true)
    }

    /// Scores the positions of the current chunks, some at a time.
    fn score(&mut self, targets: &[u32]) -> Result<(), Error> {
        let vocab = self.vocab_size();
        let together = (MAX_LOGITS_BYTES / (vocab * size_of::<f32>())).clamp(1, targets.len());
        let mut logits = vec![0.0; together * vocab];
        let mut rows = vec![BaseRow::default(); together];
        for (block, targets) in targets.chunks(together).enumerate() {
            let (first, logits) = (block * together, &mut logits[..targets.len() * vocab]);
            let rows = &mut rows[..targets.len()];
            self.base_rows(first, targets, logits, rows)?;
            self.base.extend(rows.iter().map(BaseRow::score));
            for model in &mut self.models {
                model.logits(self.pool, first, logits);
                let mut scores = vec![Score::default(); targets.len()];
                let each = logits.chunks_exact(vocab).zip(targets).zip(&*rows).zip(&mut scores).collect();
                self.pool.run_each(each, &|(((logits, &target), row), score): (((&[f32], &u32), &BaseRow), _)| {
                    *score = row.compare(logits, target);
                });
                model.kl += scores.iter().map(|score| f64::from(score.kl)).sum::<f64>();
                model.scores.extend(scores);
            }
        }
        self.check_finite(targets.len())
    }

    /// The base's distributions at positions of the current chunks, from `first` on.
    fn base_rows(
        &mut self,
        first: usize,
        targets: &[u32],
        logits: &mut [f32],
        rows: &mut [BaseRow],
    ) -> Result<(), Error> {
        let vocab = logits.len() / targets.len();
        match &mut self.source {
            Source::File(file) => file.read(self.base.len(), targets, rows),
            Source::Model(base) => {
                base.logits(self.pool, first, logits);
                let each = logits.chunks_exact(vocab).zip(targets).zip(rows).collect();
                self.pool.run_each(each, &|((logits, &target), row): ((&[f32], &u32), &mut BaseRow)| {
                    row.set_logits(logits, target);
                });
                if let Some(writer) = &mut self.writer {
                    let mut encoded = vec![Vec::new(); targets.len()];
                    let each = logits.chunks_exact(vocab).zip(&mut encoded).collect();
                    self.pool.run_each(each, &|(logits, bytes): (&[f32], &mut Vec<u8>)| *bytes = encode(logits));
                    encoded.iter().try_for_each(|row| writer.write(row))?;
                }
                Ok(())
            }
        }
    }

    /// Tokens of the vocabulary, which all models have.
    fn vocab_size(&self) -> usize {
        self.models[0].subject.model.decoder().vocab_size()
    }

    /// Checks that the last `count` scores are finite.
    fn check_finite(&self, count: usize) -> Result<(), Error> {
        let start = self.base.len() - count;
        let (first, context) = (self.options.context / 2, self.options.context);
        let failed = |name: &str, at: usize| Error::NotFinite {
            model: name.to_owned(),
            chunk: self.done + at / (context - 1 - first) + 1,
            position: first + at % (context - 1 - first),
        };
        if let Some(at) = self.base[start..].iter().position(|score| !score.nll.is_finite()) {
            let name = match &self.source {
                Source::Model(base) => base.subject.name,
                Source::File(_) => "the file of logits",
            };
            return Err(failed(name, at));
        }
        for model in &self.models {
            let finite = |score: &Score| score.nll.is_finite() && score.kl.is_finite();
            if let Some(at) = model.scores[start..].iter().position(|score| !finite(score)) {
                return Err(failed(model.subject.name, at));
            }
        }
        Ok(())
    }

    /// The results so far.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        let Self { options, mut tokens, done, source, base, models, .. } = self;
        tokens.truncate(done * options.context);
        let base_prompt = match source {
            Source::Model(base) => base.prompt,
            Source::File(_) => Speed::default(),
        };
        let models = models.into_iter().map(|model| Measured {
            statistics: Statistics::new(&base, &model.scores),
            scores: model.scores,
            prompt: model.prompt,
        });
        Outcome { context: options.context, tokens, base_prompt, models: models.collect(), base }
    }
}

/// Measures the speed of generation: evaluates `tokens` one by one after a short prompt, for at most `most`. Also returns the
/// bytes of a sequence of `context` tokens.
#[must_use]
pub fn answer_speed(
    model: &Model,
    pool: &Pool,
    tokens: &[u32],
    (context, kv_type): (usize, KvType),
    most: Duration,
) -> (Speed, usize) {
    let decoder = model.decoder();
    let mut sequence = decoder.sequence(SequenceOptions { kv_type, context_length: context });
    let (prompt, rest) = tokens.split_at(PROMPT.min(tokens.len()));
    let mut forward = |tokens: &[u32]| {
        decoder.forward(model.run(pool), &mut [Part { sequence: &mut sequence, tokens, logits: Rows::Last }]);
    };
    if !prompt.is_empty() {
        forward(prompt);
    }
    let (start, mut count) = (Instant::now(), 0);
    for token in rest {
        forward(std::slice::from_ref(token));
        count += 1;
        if start.elapsed() > most {
            break;
        }
    }
    let time = start.elapsed();
    (Speed { tokens: count, time }, sequence.bytes_at(context))
}

fn check_vocabulary_size(model: Subject<'_>, base: &str, expected: usize) -> Result<(), Error> {
    let found = model.model.decoder().vocab_size();
    let different = || Error::VocabularySize { model: model.name.into(), base: base.into(), found, expected };
    if found == expected { Ok(()) } else { Err(different()) }
}

/// Checks that both have the same tokens.
fn check_vocabulary(model: Subject<'_>, base: Subject<'_>) -> Result<(), Error> {
    check_vocabulary_size(model, base.name, base.model.decoder().vocab_size())?;
    let (own, others) = (model.model.tokenizer(), base.model.tokenizer());
    let size = |tokenizer: &crate::tokenizer::Tokenizer| u32::try_from(tokenizer.vocab_size()).unwrap_or(u32::MAX);
    if size(own) != size(others) {
        let (found, expected) = (own.vocab_size(), others.vocab_size());
        return Err(Error::VocabularySize { model: model.name.into(), base: base.name.into(), found, expected });
    }
    match (0..size(own)).find(|&token| own.piece(token) != others.piece(token)) {
        None => Ok(()),
        Some(token) => Err(Error::VocabularyToken {
            model: model.name.into(),
            base: base.name.into(),
            token,
            found: format!("{:?}", String::from_utf8_lossy(own.piece(token))),
            expected: format!("{:?}", String::from_utf8_lossy(others.piece(token))),
        }),
    }
}
