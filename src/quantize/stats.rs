//! The errors of quantizing: differences between the numbers that are written and those that were read.
//!
//! Sums are in double precision, in eight lanes within a block, block by block and slab by slab, so that their order does
//! not depend on threads.

#![allow(clippy::cast_precision_loss, reason = "counts become divisors")]

use super::{Plan, PlannedTensor};
use crate::TensorType;
use crate::gguf::layer_of;

const LANES: usize = 8;
/// Elements of a block for formats of plain numbers, which have no blocks.
const PLAIN_BLOCK: usize = 32;

/// Sums over some elements of a tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ErrorSums {
    elements: u64,
    source: f64,
    written: f64,
    product: f64,
    error: f64,
    max: f64,
    max_at: u64,
    /// Mean of the squared errors of the worst block.
    worst: f64,
    worst_first: u64,
}

impl ErrorSums {
    /// Adds elements from number `first` on: `x` of the source, `y` as written in blocks of `ty`.
    pub(super) fn add(&mut self, x: &[f32], y: &[f32], first: u64, ty: TensorType) {
        let block = block_len(ty);
        let mut at = first;
        for (x, y) in x.chunks(block).zip(y.chunks(block)) {
            let [source, written, product, error, max] = sums(x, y);
            self.source += source;
            self.written += written;
            self.product += product;
            self.error += error;
            let mean = error / x.len() as f64;
            if mean > self.worst {
                (self.worst, self.worst_first) = (mean, at);
            }
            if max > self.max {
                let place = x.iter().zip(y).position(|(x, y)| difference(*x, *y) >= max).unwrap_or(0);
                (self.max, self.max_at) = (max, at + place as u64);
            }
            at += x.len() as u64;
        }
        self.elements += x.len() as u64;
    }

    /// Adds the sums of the elements that follow.
    pub(super) fn append(&mut self, other: &Self) {
        self.elements += other.elements;
        self.source += other.source;
        self.written += other.written;
        self.product += other.product;
        self.error += other.error;
        if other.max > self.max {
            (self.max, self.max_at) = (other.max, other.max_at);
        }
        if other.worst > self.worst {
            (self.worst, self.worst_first) = (other.worst, other.worst_first);
        }
    }
}

fn block_len(ty: TensorType) -> usize {
    if ty.is_quantized() { ty.block_len() } else { PLAIN_BLOCK }
}

fn difference(x: f32, y: f32) -> f64 {
    (f64::from(x) - f64::from(y)).abs()
}

/// Squares of both, products, squared errors, and the largest error.
fn sums(x: &[f32], y: &[f32]) -> [f64; 5] {
    let mut lanes = [[0.0; LANES]; 5];
    let mut add = |x: &[f32; LANES], y: &[f32; LANES]| {
        for i in 0..LANES {
            let (x, y) = (f64::from(x[i]), f64::from(y[i]));
            let error = x - y;
            lanes[0][i] += x * x;
            lanes[1][i] += y * y;
            lanes[2][i] += x * y;
            lanes[3][i] += error * error;
            lanes[4][i] = if error.abs() > lanes[4][i] { error.abs() } else { lanes[4][i] };
        }
    };
    let ((x, x_tail), (y, y_tail)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    x.iter().zip(y).for_each(|(x, y)| add(x, y));
    if !x_tail.is_empty() {
        let (mut x, mut y) = ([0.0; LANES], [0.0; LANES]);
        x[..x_tail.len()].copy_from_slice(x_tail);
        y[..y_tail.len()].copy_from_slice(y_tail);
        add(&x, &y);
    }
    let sum = |lanes: [f64; LANES]| lanes.iter().sum();
    let max = lanes[4].iter().copied().fold(0.0, f64::max);
    [sum(lanes[0]), sum(lanes[1]), sum(lanes[2]), sum(lanes[3]), max]
}

/// The errors of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorError {
    /// Number of the tensor in the plan.
    pub tensor: usize,
    /// Its name.
    pub name: String,
    /// Type it was read in.
    pub source_type: TensorType,
    /// Type it was written in.
    pub ty: TensorType,
    /// Number of elements.
    pub elements: u64,
    /// Root of the mean squared error.
    pub rmse: f64,
    /// The same over the root of the mean square of the source; zero where both are.
    pub relative_rmse: f64,
    /// Cosine of the angle between source and what is written; one where both are zero.
    pub cosine: f64,
    /// Largest error, absolute.
    pub max_error: f64,
    /// Number of the element that has it.
    pub max_at: u64,
    /// Number of the block with the largest mean squared error, counted in blocks of the type.
    pub worst_block: u64,
    /// Root of the mean squared error of that block.
    pub worst_rmse: f64,
    sums: ErrorSums,
}

impl TensorError {
    pub(super) fn new(tensor: usize, planned: &PlannedTensor, sums: ErrorSums) -> Self {
        let n = sums.elements.max(1) as f64;
        Self {
            tensor,
            name: planned.spec.name.clone(),
            source_type: planned.source_type,
            ty: planned.spec.ty,
            elements: sums.elements,
            rmse: (sums.error / n).sqrt(),
            relative_rmse: relative(&sums),
            cosine: cosine(&sums),
            max_error: sums.max,
            max_at: sums.max_at,
            worst_block: sums.worst_first / block_len(planned.spec.ty) as u64,
            worst_rmse: sums.worst.sqrt(),
            sums,
        }
    }

    /// The layer that the tensor belongs to.
    #[must_use]
    pub fn layer(&self) -> Option<usize> {
        layer_of(&self.name)
    }
}

fn relative(sums: &ErrorSums) -> f64 {
    if sums.error > 0.0 { (sums.error / sums.source).sqrt() } else { 0.0 }
}

fn cosine(sums: &ErrorSums) -> f64 {
    let lengths = sums.source.sqrt() * sums.written.sqrt();
    match (sums.source > 0.0, sums.written > 0.0) {
        (true, true) => (sums.product / lengths).clamp(-1.0, 1.0),
        (false, false) => 1.0,
        _ => 0.0,
    }
}

/// The errors of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelError {
    /// Every tensor that got another type, in the order of the plan.
    pub tensors: Vec<TensorError>,
}

/// The errors of several tensors together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TotalError {
    /// The layer; `None` for tensors outside layers.
    pub layer: Option<usize>,
    /// Number of elements.
    pub elements: u64,
    /// Root of the mean squared error.
    pub rmse: f64,
    /// The same over the root of the mean square of the source.
    pub relative_rmse: f64,
    /// Cosine of the angle between source and what is written.
    pub cosine: f64,
}

impl ModelError {
    pub(super) fn new(plan: &Plan, sums: Vec<Option<ErrorSums>>) -> Self {
        let tensors = sums.into_iter().zip(&plan.tensors).enumerate();
        let tensors = tensors.filter_map(|(number, (sums, planned))| Some(TensorError::new(number, planned, sums?)));
        Self { tensors: tensors.collect() }
    }

    /// All tensors together.
    #[must_use]
    pub fn total(&self) -> TotalError {
        total(None, self.tensors.iter())
    }

    /// The errors of the tensors outside layers, if there are any, and of each layer.
    #[must_use]
    pub fn by_layer(&self) -> Vec<TotalError> {
        let mut layers: Vec<Option<usize>> = self.tensors.iter().map(TensorError::layer).collect();
        layers.sort_unstable();
        layers.dedup();
        let of = |layer| total(layer, self.tensors.iter().filter(move |tensor| tensor.layer() == layer));
        layers.into_iter().map(of).collect()
    }
}

fn total<'a>(layer: Option<usize>, tensors: impl Iterator<Item = &'a TensorError>) -> TotalError {
    let mut sums = ErrorSums::default();
    tensors.for_each(|tensor| sums.append(&tensor.sums));
    TotalError {
        layer,
        elements: sums.elements,
        rmse: (sums.error / sums.elements.max(1) as f64).sqrt(),
        relative_rmse: relative(&sums),
        cosine: cosine(&sums),
    }
}

#[cfg(test)]
mod tests {
    use super::{ErrorSums, TensorError};
    use crate::TensorType;
    use crate::gguf::TensorSpec;
    use crate::quantize::{PlannedTensor, Reason};

    fn tensor(sums: ErrorSums) -> TensorError {
        let spec = TensorSpec { name: "blk.7.ffn_up.weight".into(), shape: vec![100], ty: TensorType::Q8_0 };
        let planned = PlannedTensor {
            spec,
            source: 0,
            source_type: TensorType::F32,
            shard: 0,
            reason: Reason::Default,
            importance: None,
            needs_importance: false,
        };
        TensorError::new(0, &planned, sums)
    }

    #[test]
    fn measures_are_those_of_their_definitions() {
        let x: Vec<f32> = (0..100u8).map(|i| f32::from(i) - 40.0).collect();
        let mut y = x.clone();
        y[70] += 3.0;
        y[71] -= 4.0;
        y[5] += 3.5;
        let mut sums = ErrorSums::default();
        // In two parts, the second from element 64 on.
        sums.add(&x[..64], &y[..64], 0, TensorType::Q8_0);
        let mut rest = ErrorSums::default();
        rest.add(&x[64..], &y[64..], 64, TensorType::Q8_0);
        sums.append(&rest);
        let error = tensor(sums);
        let squares = |x: &[f32]| x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
        let product: f64 = x.iter().zip(&y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
        let errors: f64 = 9.0 + 16.0 + 3.5 * 3.5;
        assert!((error.rmse - (errors / 100.0).sqrt()).abs() < 1e-12);
        assert!((error.relative_rmse - (errors / squares(&x)).sqrt()).abs() < 1e-12);
        assert!((error.cosine - product / (squares(&x) * squares(&y)).sqrt()).abs() < 1e-12);
        assert_eq!((error.max_error, error.max_at), (4.0, 71));
        assert_eq!((error.worst_block, error.worst_rmse), (2, (25.0f64 / 32.0).sqrt()));
        assert_eq!((error.elements, error.layer()), (100, Some(7)));
    }

    #[test]
    fn zeros_are_no_error() {
        let mut sums = ErrorSums::default();
        sums.add(&[0.0; 64], &[0.0; 64], 0, TensorType::Q8_0);
        let error = tensor(sums);
        assert_eq!((error.rmse, error.relative_rmse, error.cosine), (0.0, 0.0, 1.0));
        let mut sums = ErrorSums::default();
        sums.add(&[1e-40; 64], &[0.0; 64], 0, TensorType::Q8_0);
        let lost = tensor(sums);
        assert_eq!((lost.relative_rmse, lost.cosine), (1.0, 0.0));
    }
}
