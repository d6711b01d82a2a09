//! The error of every tensor in every type: numbers are encoded and decoded again, and the squared differences are weighted by
//! the importance of their columns.

use super::choices::Open;
use crate::TensorType;
use crate::formats;
use crate::quantize::slab::{encode_as, granule};
use crate::quantize::stream::{Width, ordered};
use crate::quantize::{Error, Plan, PlannedTensor, Source};

/// Number of weights that are measured; of a larger tensor, rows spread over all of it.
const SAMPLE: u64 = 1 << 20;
/// Approximate number of weights in a piece.
const PIECE: u64 = 16 << 10;
const LANES: usize = 8;

/// Some whole rows of a tensor.
#[derive(Clone, Copy)]
struct Piece {
    /// Number among the open tensors.
    open: usize,
    first: u64,
    elements: u64,
}

/// Sums over a piece: the squares of the numbers, and of the errors in each type.
struct Sums {
    squares: f64,
    errors: Vec<f64>,
}

/// Measures the errors of all candidates. Pieces are summed in order, whatever thread has measured them.
pub(super) fn measure(
    source: &dyn Source,
    plan: &Plan,
    open: &mut [Open],
    threads: usize,
    progress: &dyn Fn(u64, u64) -> bool,
) -> Result<(), Error> {
    let pieces: Vec<Piece> = (0..open.len()).flat_map(|number| cut(source, plan, open, number)).collect();
    let total = pieces.iter().map(|piece| piece.elements).sum();
    let mut squares = vec![0.0; open.len()];
    let mut errors: Vec<Vec<f64>> = open.iter().map(|open| vec![0.0; open.candidates.len()]).collect();
    let mut done = 0;
    let work = |worker: &mut Worker, item: usize| worker.measure(source, plan, open, pieces[item]);
    ordered(pieces.len(), Width { threads, window: 4 * threads }, Worker::default, work, |item, sums| {
        let piece = pieces[item];
        squares[piece.open] += sums.squares;
        for (error, more) in errors[piece.open].iter_mut().zip(sums.errors) {
            *error += more;
        }
        done += piece.elements;
        if progress(done, total) { Ok(()) } else { Err(Error::Stopped) }
    })?;
    for ((open, errors), squares) in open.iter_mut().zip(errors).zip(squares) {
        for (candidate, error) in open.candidates.iter_mut().zip(errors) {
            candidate.error = if squares > 0.0 { error / squares } else { 0.0 };
        }
    }
    Ok(())
}

/// The pieces of a tensor that are measured: all, or as many as make up the sample, evenly spread.
fn cut(source: &dyn Source, plan: &Plan, open: &[Open], number: usize) -> Vec<Piece> {
    let tensor = open[number].tensor(plan);
    let granule = granule(source, tensor);
    let piece = granule * (PIECE / granule).max(1);
    let count = tensor.elements().div_ceil(piece);
    let wanted = count.min(SAMPLE.div_ceil(piece).max(1));
    // The middle of each of `wanted` equal parts.
    let numbers = (0..wanted).map(|i| ((2 * i + 1) * count / (2 * wanted)).min(count - 1));
    numbers
        .map(|at| Piece { open: number, first: at * piece, elements: piece.min(tensor.elements() - at * piece) })
        .collect()
}

/// Buffers of one thread.
#[derive(Default)]
struct Worker {
    bytes: Vec<u8>,
    numbers: Vec<f32>,
    again: Vec<f32>,
}

impl Worker {
    fn measure(&mut self, source: &dyn Source, plan: &Plan, open: &[Open], piece: Piece) -> Result<Sums, Error> {
        let Piece { open: number, first, elements } = piece;
        let (open, tensor) = (&open[number], open[number].tensor(plan));
        let from = tensor.source_type;
        let len = |ty: TensorType| ty.bytes_for(elements).and_then(|n| usize::try_from(n).ok()).expect("whole blocks");
        self.bytes.resize(len(from), 0);
        source.read(tensor.source, from.bytes_for(first).unwrap_or(0), &mut self.bytes)?;
        let count = usize::try_from(elements).expect("a piece fits memory");
        self.numbers.resize(count, 0.0);
        self.again.resize(count, 0.0);
        formats::decode(from, &self.bytes, &mut self.numbers);
        let squares = weighted(tensor, first, &self.numbers, None);
        let mut errors = Vec::with_capacity(open.candidates.len());
        for candidate in &open.candidates {
            if candidate.ty == from {
                errors.push(0.0);
                continue;
            }
            self.bytes.resize(len(candidate.ty), 0);
            encode_as(candidate.ty, tensor, first, &self.numbers, &mut self.bytes);
            formats::decode(candidate.ty, &self.bytes, &mut self.again);
            errors.push(weighted(tensor, first, &self.numbers, Some(&self.again)));
        }
        // NaN and infinity are refused, with their place, when the file is written.
        let finite = |x: f64| if x.is_finite() { x } else { f64::MAX };
        Ok(Sums {
            squares: if squares.is_finite() { squares } else { 0.0 },
            errors: errors.into_iter().map(finite).collect(),
        })
    }
}

/// The sum of squares of whole rows, or of their differences from `others`, weighted by the importance of the columns.
fn weighted(tensor: &PlannedTensor, first: u64, numbers: &[f32], others: Option<&[f32]>) -> f64 {
    let Some(importance) = &tensor.importance else { return squares(numbers, others, None) };
    let cols = usize::try_from(tensor.cols()).expect("a row fits memory");
    let rows_per_matrix = tensor.spec.shape.get(1).copied().unwrap_or(1).max(1);
    let mut sum = 0.0;
    for (number, row) in numbers.chunks(cols).enumerate() {
        let matrix = (first / tensor.cols() + number as u64) / rows_per_matrix;
        let matrix = usize::try_from(matrix).expect("fits memory") * cols;
        let others = others.map(|others| &others[number * cols..][..row.len()]);
        sum += squares(row, others, Some(&importance[matrix..matrix + cols]));
    }
    sum
}

/// Sums in lanes, in double precision.
fn squares(x: &[f32], y: Option<&[f32]>, weights: Option<&[f32]>) -> f64 {
    let mut lanes = [0.0; LANES];
    for (i, x) in x.iter().enumerate() {
        let difference = f64::from(*x) - y.map_or(0.0, |y| f64::from(y[i]));
        lanes[i % LANES] += difference * difference * weights.map_or(1.0, |weights| f64::from(weights[i]));
    }
    lanes.iter().sum()
}
