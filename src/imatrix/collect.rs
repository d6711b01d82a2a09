//! Runs a text through a model and sums the squares of the inputs of its products, by the procedure of llama-imatrix: chunks of
//! the length of the context, each evaluated separately, with the begin-of-text token in place of the first token if the model
//! uses one.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use super::{Entry, Error, ImportanceMatrix};
use crate::cpu::{Inputs, KvType, Observer, Run};
use crate::gguf::TensorInfo;
use crate::kernels::Pool;
use crate::model::Model;
use crate::perplexity::{self, Scores};

/// Columns that a thread sums at once: their sums stay in the first-level cache for all rows.
const COLUMNS: usize = 256;

/// Options of collecting a matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Tokens of a chunk.
    pub context: usize,
    /// Tokens of a forward pass; as many chunks as fit share it.
    pub batch: usize,
    /// Chunks to skip at the beginning of the text.
    pub first_chunk: usize,
    /// Maximum chunks.
    pub chunks: Option<usize>,
    /// Whether the output matrix is included.
    pub process_output: bool,
    /// Whether control tokens in the text are recognized.
    pub parse_special: bool,
    /// Whether the perplexity of the text is measured as well; without it the output matrix is not computed.
    pub perplexity: bool,
    /// Type of cached keys and values.
    pub kv_type: KvType,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            context: 512,
            batch: 2048,
            first_chunk: 0,
            chunks: None,
            process_output: false,
            parse_special: false,
            perplexity: true,
            kv_type: KvType::F16,
        }
    }
}

/// The progress of collecting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Chunks done, including skipped ones.
    pub done: usize,
    /// All chunks, including skipped ones.
    pub total: usize,
    /// The perplexity of the chunks so far, and its standard error.
    pub perplexity: Option<(f64, f64)>,
}

/// Collects the sums of a text.
pub struct Collector<'a> {
    model: &'a Model,
    pool: &'a Pool,
    options: Options,
    base: ImportanceMatrix,
    dataset: Option<String>,
    chunks: Vec<Vec<u32>>,
    done: usize,
    scores: Scores,
    sums: Observed<'a>,
}

impl<'a> Collector<'a> {
    /// Starts with `text` (without one newline at its end), which is named `dataset`, and the sums of `base`. `tensors` are the
    /// model's tensors: those of layers that are used in products are collected, and the output matrix if it is wanted.
    ///
    /// # Errors
    /// When there is too little text, it cannot be encoded, or `base` has another shape for a tensor.
    pub fn new(
        model: &'a Model,
        pool: &'a Pool,
        tensors: &[TensorInfo],
        (text, dataset): (&str, Option<String>),
        base: &ImportanceMatrix,
        options: Options,
    ) -> Result<Self, Error> {
        let mut chunks = perplexity::chunks(model, text, options.context, options.parse_special)?;
        let (all, first) = (chunks.len(), options.first_chunk);
        if first >= all {
            return Err(Error::NothingLeft { chunks: all, context: options.context, first });
        }
        chunks.truncate(first.saturating_add(options.chunks.unwrap_or(all)));
        let output = if options.process_output { "output.weight" } else { "blk." };
        let wanted = tensors.iter().filter(|t| t.name.starts_with("blk.") || t.name == output);
        let wanted: HashMap<String, Shape> = wanted.map(|t| (t.name.clone(), Shape::of(t))).collect();
        let mut merged = ImportanceMatrix::new(u32::try_from(options.context).unwrap_or(u32::MAX));
        merged.merge(base)?;
        for (name, entry) in &merged.entries {
            let expected = wanted.get(name).map_or(entry.sums.len(), |shape| shape.cols * shape.matrices);
            if entry.sums.len() != expected {
                let found = entry.sums.len();
                return Err(Error::Mismatch { name: name.clone(), what: "sums", expected, found });
            }
        }
        let sums = Observed { pool, wanted, entries: Mutex::default() };
        Ok(Self { model, pool, options, base: merged, dataset, chunks, done: first, scores: Scores::default(), sums })
    }

    /// The progress so far.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let perplexity = (self.scores.count() > 0).then(|| (self.scores.perplexity(), self.scores.stderr()));
        Progress { done: self.done, total: self.chunks.len(), perplexity }
    }

    /// Evaluates the next chunks, as many as fit a forward pass. Returns whether there were any.
    ///
    /// # Errors
    /// When the model computes NaN or infinity.
    pub fn advance(&mut self) -> Result<bool, Error> {
        let together = (self.options.batch / self.options.context).max(1);
        let end = (self.done + together).min(self.chunks.len());
        if self.done == end {
            return Ok(false);
        }
        let group = &self.chunks[self.done..end];
        let run = Run { observer: Some(&self.sums), ..self.model.run(self.pool) };
        let (context, batch) = (self.options.context, self.options.batch);
        let rows = perplexity::hidden(self.model, run, group, 0..context, batch, self.options.kv_type);
        let output = self.options.process_output && self.sums.wanted.contains_key("output.weight");
        if output || self.options.perplexity {
            let scores = self.score(if output { run } else { self.model.run(self.pool) }, group, rows, output);
            for (i, nll) in scores.into_iter().enumerate() {
                if !nll.is_finite() {
                    return Err(perplexity::not_finite(i, self.done, self.first_scored(), context).into());
                }
                if self.options.perplexity {
                    self.scores.add(nll);
                }
            }
        }
        self.sums.check_finite()?;
        self.done = end;
        Ok(true)
    }

    /// The matrix so far.
    ///
    /// # Errors
    /// When the base has another number of matrices for a tensor.
    pub fn matrix(&self) -> Result<ImportanceMatrix, Error> {
        let mut matrix = self.base.clone();
        matrix.merge(&self.sums.matrix(self.dataset.clone()))?;
        Ok(matrix)
    }

    /// The first position whose prediction counts for the perplexity.
    fn first_scored(&self) -> usize {
        self.options.context / 2
    }

    /// The negative log-likelihoods of the tokens that the second half of each chunk predicts. With `all`, the output matrix is
    /// computed for the other rows as well.
    fn score(&self, run: Run<'_>, group: &[Vec<u32>], mut rows: Vec<f32>, all: bool) -> Vec<f64> {
        let (context, first) = (self.options.context, self.first_scored());
        let cols = self.model.decoder().embedding_length();
        let scored = |position: usize| (first..context - 1).contains(&(position % context));
        if !all {
            let kept = rows.chunks_exact(cols).enumerate().filter(|(position, _)| scored(*position));
            rows = kept.flat_map(|(_, row)| row).copied().collect();
        }
        // No token follows the last one of a chunk, so its score does not count.
        let next = |chunk: &Vec<u32>, i: usize| chunk.get(i + 1).copied().unwrap_or(0);
        let targets = group.iter().flat_map(|chunk| (0..context).map(|i| next(chunk, i)));
        let targets: Vec<u32> =
            targets.enumerate().filter(|(position, _)| all || scored(*position)).map(|(_, token)| token).collect();
        let scores = perplexity::score(self.model, run, &mut rows, &targets);
        let counted = |position: usize| !all || scored(position);
        scores.into_iter().enumerate().filter(|(position, _)| counted(*position)).map(|(_, score)| score).collect()
    }
}

/// The shape of a tensor for the observer.
struct Shape {
    cols: usize,
    matrices: usize,
    /// Number of counts: one for each expert, since experts have different rows; one for all heads.
    counts: usize,
}

impl Shape {
    fn of(tensor: &TensorInfo) -> Self {
        let size = |dimension: usize| {
            tensor.shape.get(dimension).copied().and_then(|size| usize::try_from(size).ok()).unwrap_or(1)
        };
        let matrices = size(2);
        Self { cols: size(0), matrices, counts: if tensor.name.contains("_exps") { matrices } else { 1 } }
    }
}

/// Sums of squares and counts of rows, by tensor.
type Sums = BTreeMap<String, (Vec<f64>, Vec<u64>)>;

/// The sums, in double precision so that the last of a million rows counts as much as the first.
struct Observed<'a> {
    pool: &'a Pool,
    wanted: HashMap<String, Shape>,
    entries: Mutex<Sums>,
}

impl Observer for Observed<'_> {
    fn product(&self, name: &str, index: Option<usize>, input: &Inputs<'_>) {
        let Some(shape) = self.wanted.get(name) else { return };
        let (cols, matrix) = (input.cols(), index.unwrap_or(0));
        if cols != shape.cols || matrix >= shape.matrices {
            return;
        }
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if !entries.contains_key(name) {
            let nothing = (vec![0.0; cols * shape.matrices], vec![0; shape.counts]);
            entries.insert(name.to_owned(), nothing);
        }
        let Some((sums, counts)) = entries.get_mut(name) else { return };
        let rows: Vec<&[f32]> = input.rows().collect();
        if let Some(count) = counts.get_mut(matrix) {
            *count += rows.len() as u64;
        }
        let pieces: Vec<(usize, &mut [f64])> =
            sums[matrix * cols..(matrix + 1) * cols].chunks_mut(COLUMNS).enumerate().collect();
        self.pool.run_each(pieces, &|(piece, sums): (usize, &mut [f64])| {
            let first = piece * COLUMNS;
            for row in &rows {
                for (sum, &x) in sums.iter_mut().zip(&row[first..]) {
                    *sum += f64::from(x) * f64::from(x);
                }
            }
        });
    }
}

impl Observed<'_> {
    fn check_finite(&self) -> Result<(), Error> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        match entries.iter().find(|(_, (sums, _))| sums.iter().any(|sum| !sum.is_finite())) {
            Some((name, _)) => Err(Error::NotFinite { name: name.clone() }),
            None => Ok(()),
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "files hold single precision")]
    fn matrix(&self, dataset: Option<String>) -> ImportanceMatrix {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = |(name, (sums, counts)): (&String, &(Vec<f64>, Vec<u64>))| {
            (name.clone(), Entry { sums: sums.iter().map(|&sum| sum as f32).collect(), counts: counts.clone() })
        };
        // The number of tokens in a chunk is taken from the matrix that this is added to.
        ImportanceMatrix {
            datasets: dataset.into_iter().collect(),
            chunks: 0,
            chunk_size: Some(1),
            entries: entries.iter().map(entry).collect(),
        }
    }
}
