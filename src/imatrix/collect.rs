//! Runs a text through a model and sums up what goes into its products, by llama-imatrix's procedure: chunks of a context
//! each, every one with a fresh memory and the begin-of-text token in place of its first where the model wants one.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use super::{Entry, Error, ImportanceMatrix};
use crate::cpu::{Inputs, KvType, Observer, Run};
use crate::gguf::TensorInfo;
use crate::kernels::Pool;
use crate::model::Model;
use crate::perplexity::{self, Scores};

/// Columns that a thread sums up at once: the sums stay in its nearest cache while all rows pass.
const COLUMNS: usize = 256;

/// How a matrix is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Tokens of a chunk.
    pub context: usize,
    /// Tokens of a forward pass; as many chunks as fit share it.
    pub batch: usize,
    /// Chunks of the text that are left out at its beginning.
    pub first_chunk: usize,
    /// Most chunks.
    pub chunks: Option<usize>,
    /// The output matrix is a tensor like the others.
    pub process_output: bool,
    /// Control tokens in the text are such, and not text.
    pub parse_special: bool,
    /// The perplexity of the text is measured too; without it nothing is computed of the output matrix.
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

/// How far the text is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Chunks done, those left out included.
    pub done: usize,
    /// All chunks, those left out included.
    pub total: usize,
    /// The perplexity of the chunks so far, and its standard error.
    pub perplexity: Option<(f64, f64)>,
}

/// A text on its way through a model.
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
    /// Begins with `text` (without one newline at its end), which is called `dataset`, and what `base` knows already.
    /// `tensors` are the model's: those of them that products meet are summed up, the ones of layers, and the output
    /// matrix if it is wanted.
    ///
    /// # Errors
    /// When there is too little text, it cannot be encoded, or `base` knows other shapes of a tensor.
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

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let perplexity = (self.scores.count() > 0).then(|| (self.scores.perplexity(), self.scores.stderr()));
        Progress { done: self.done, total: self.chunks.len(), perplexity }
    }

    /// Takes the next chunks through the model, as many as fit a forward pass. Returns whether there were any.
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

    /// What is known so far.
    ///
    /// # Errors
    /// When what was known before has another number of matrices in a tensor.
    pub fn matrix(&self) -> Result<ImportanceMatrix, Error> {
        let mut matrix = self.base.clone();
        matrix.merge(&self.sums.matrix(self.dataset.clone()))?;
        Ok(matrix)
    }

    /// The first position whose prediction counts for the perplexity.
    fn first_scored(&self) -> usize {
        self.options.context / 2
    }

    /// The negative log-likelihoods of the tokens that the second half of each chunk predicts. With `all`, also the other
    /// rows meet the output matrix.
    fn score(&self, run: Run<'_>, group: &[Vec<u32>], mut rows: Vec<f32>, all: bool) -> Vec<f64> {
        let (context, first) = (self.options.context, self.first_scored());
        let cols = self.model.decoder().embedding_length();
        let scored = |position: usize| (first..context - 1).contains(&(position % context));
        if !all {
            let kept = rows.chunks_exact(cols).enumerate().filter(|(position, _)| scored(*position));
            rows = kept.flat_map(|(_, row)| row).copied().collect();
        }
        // Nothing follows the last token of a chunk: its score does not count.
        let next = |chunk: &Vec<u32>, i: usize| chunk.get(i + 1).copied().unwrap_or(0);
        let targets = group.iter().flat_map(|chunk| (0..context).map(|i| next(chunk, i)));
        let targets: Vec<u32> =
            targets.enumerate().filter(|(position, _)| all || scored(*position)).map(|(_, token)| token).collect();
        let scores = perplexity::score(self.model, run, &mut rows, &targets);
        let counted = |position: usize| !all || scored(position);
        scores.into_iter().enumerate().filter(|(position, _)| counted(*position)).map(|(_, score)| score).collect()
    }
}

/// What the observer has to know of a tensor.
struct Shape {
    cols: usize,
    matrices: usize,
    /// Experts meet other rows each; heads meet the same number of rows all.
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

/// The sums, in double precision: so that the last of a million rows counts as much as the first.
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
        // The number of tokens in a chunk is that of the matrix this is added to.
        ImportanceMatrix {
            datasets: dataset.into_iter().collect(),
            chunks: 0,
            chunk_size: Some(1),
            entries: entries.iter().map(entry).collect(),
        }
    }
}
