//! The tensors of the checkpoint, and the rows of the file's tensors from which they are made. The rules of the family say how a
//! tensor of the file is made from a checkpoint; [`Layout`] gives the origin of each element, which is inverted here.

use std::collections::HashMap;

use rayon::prelude::*;

use super::class::Class;
use super::error::{Error, TensorProblem};
use super::source::Source;
use crate::arch::{self, Family, LayerNumber, Names, Step, TensorRule};
use crate::convert::layout::Layout;
use crate::formats;
use crate::gguf::TensorInfo;
use crate::tensor_type::TensorType;

/// Elements that are computed at once.
const PIECE: usize = 1 << 22;

/// A tensor of the checkpoint.
pub(super) struct Tensor<'a> {
    pub(super) name: String,
    /// Dimensions, the slowest-running one first.
    pub(super) shape: Vec<u64>,
    cols: usize,
    /// Whether it is computed as a whole instead of row by row.
    whole: bool,
    /// For each row its part and the row in it; empty if the tensor is computed as a whole.
    rows: Vec<(u32, u32)>,
    parts: Vec<Part<'a>>,
}

/// A range of rows of a tensor of the file that is part of a checkpoint's tensor.
struct Part<'a> {
    from: From<'a>,
    /// The first of the rows.
    first: u64,
    /// Rows and columns as steps count them; a vector has its elements as rows, and one column.
    rows: u64,
    cols: u64,
    layout: Layout,
    /// The steps that change numbers.
    arithmetic: Vec<Step>,
    shape: Vec<u64>,
    /// Whether the checkpoint's tensor has rows that mean nothing, and that no file has.
    padded: bool,
}

/// Where the numbers of a part are.
enum From<'a> {
    Tensor(&'a TensorInfo),
    /// A key of the file has this one number.
    Key {
        key: &'static str,
        number: f32,
    },
}

/// The checkpoint's tensors, in the order of the family's rules.
///
/// # Errors
/// When a tensor of the file has no counterpart, or rows of a tensor are missing.
pub(super) fn plan<'a>(source: &Source<'a>, class: &Class) -> Result<Vec<Tensor<'a>>, Error> {
    let header = &source.header;
    let failed = |error| Error::Model { path: source.path(), source: error };
    let family = class.family(header.family).map_err(failed)?;
    let rules = family.tensors(&header.hparams).map_err(failed)?;
    let order: HashMap<&str, usize> = rules.iter().enumerate().map(|(i, rule)| (rule.name.as_str(), i)).collect();
    let mut found: Vec<(usize, &'a TensorInfo)> = Vec::new();
    for (name, tensor) in &header.tensors {
        let place = order.get(name.as_str()).copied();
        found.push((place.ok_or_else(|| fault(source, name, TensorProblem::Foreign))?, *tensor));
    }
    found.sort_by_key(|(place, _)| *place);
    let mut names: Vec<String> = Vec::new();
    let mut parts: HashMap<String, Vec<Part<'a>>> = HashMap::new();
    for (place, tensor) in found {
        let rule = &rules[place];
        if formats::codec(tensor.ty).is_none() {
            return Err(fault(source, &rule.name, TensorProblem::Type { ty: tensor.ty }));
        }
        // Tensors computed from the configuration are not in a checkpoint.
        let Some(from @ arch::Source::Checkpoint { names: of, .. }) = class.source(&rule.sources) else { continue };
        for (i, name) in of.iter().enumerate() {
            let part = part(source, rule, tensor, from, i as u64)?;
            let name = class.full_name(name);
            if !parts.contains_key(&name) {
                names.push(name.clone());
            }
            parts.entry(name).or_default().push(part);
        }
    }
    let tensors = names.into_iter().map(|name| {
        let parts = parts.remove(&name).unwrap_or_default();
        Tensor::new(source, name, parts)
    });
    tensors.chain(layer_numbers(source, family).map_err(failed)?.into_iter().map(Ok)).collect()
}

/// The tensors of one number each that files have as keys.
fn layer_numbers<'a>(source: &Source<'a>, family: &Family) -> Result<Vec<Tensor<'a>>, arch::Error> {
    let mut tensors = Vec::new();
    for LayerNumber { key, tensor, shape } in family.layer_numbers() {
        for (layer, number) in source.header.hparams.layer_numbers(key)?.into_iter().enumerate() {
            let shape: Vec<u64> = shape.iter().map(|&n| n as u64).collect();
            let from = From::Key { key, number };
            let layout = Layout::new(&[], 1, 1, 1);
            let part = Part {
                from,
                first: 0,
                rows: 1,
                cols: 1,
                layout,
                arithmetic: Vec::new(),
                shape: shape.clone(),
                padded: false,
            };
            let name = format!("model.layers.{layer}.{tensor}");
            tensors.push(Tensor { name, shape, cols: 1, whole: true, rows: Vec::new(), parts: vec![part] });
        }
    }
    Ok(tensors)
}

fn fault(source: &Source<'_>, name: &str, problem: TensorProblem) -> Error {
    Error::Tensor { path: source.path(), name: name.to_owned(), problem }
}

/// Part `i` of the tensors that a tensor of the file is made `from`.
fn part<'a>(
    source: &Source<'_>,
    rule: &TensorRule,
    tensor: &'a TensorInfo,
    from: &arch::Source,
    i: u64,
) -> Result<Part<'a>, Error> {
    let arch::Source::Checkpoint { names, steps, shape: stored } = from else {
        return Err(fault(source, &rule.name, TensorProblem::Foreign));
    };
    let (count, stacked) = match names {
        Names::One(_) => (1, false),
        Names::Numbered { count, .. } => (*count as u64, *count > 1),
    };
    let dims: Vec<u64> = rule.shape.iter().map(|&n| n as u64).collect();
    // For steps, the elements of a vector are rows.
    let (rows, cols, matrix) = match dims[..] {
        [len] => (len, 1, len),
        _ => (dims[1..].iter().product::<u64>() / count.max(1), dims[0], dims[1]),
    };
    let layout = Layout::new(steps, rows, cols, matrix);
    let mut shape: Vec<u64> = dims.iter().rev().copied().skip(usize::from(stacked)).collect();
    if let Some(stored) = stored {
        shape = stored.iter().map(|&n| n as u64).collect();
        if shape.iter().product::<u64>() != layout.source_rows * layout.source_cols {
            return Err(fault(source, &rule.name, TensorProblem::Reshaped));
        }
    } else if layout.reshaped {
        return Err(fault(source, &rule.name, TensorProblem::Reshaped));
    } else if !layout.same_shape {
        shape = match shape[..] {
            [_] => vec![layout.source_rows],
            [_, _] => vec![layout.source_rows, layout.source_cols],
            _ => vec![shape[0], layout.source_rows / shape[0].max(1), layout.source_cols],
        };
    }
    let padded = stored.is_some() && layout.at_least;
    let arithmetic = steps.iter().filter(|step| matches!(step, Step::Add(_) | Step::NegExp)).cloned().collect();
    Ok(Part { from: From::Tensor(tensor), first: i * rows, rows, cols, layout, arithmetic, shape, padded })
}

impl<'a> Tensor<'a> {
    fn new(source: &Source<'_>, name: String, parts: Vec<Part<'a>>) -> Result<Self, Error> {
        // If rules select ranges of rows, the last range shows their number.
        let largest = parts.iter().max_by_key(|part| part.shape.iter().product::<u64>());
        let mut shape = largest.map(|part| part.shape.clone()).unwrap_or_default();
        let (total, cols) = largest.map_or((0, 0), |part| (part.layout.source_rows, part.layout.source_cols));
        let whole = parts
            .iter()
            .any(|part| part.padded || !part.layout.keeps_rows_whole() || part.is_vector() || part.cols != cols);
        let lacks = || {
            let first = parts.first().map_or("", Part::name);
            fault(source, first, TensorProblem::MissingRows { source_name: name.clone() })
        };
        // Where a rule states the shape, rows that no file has mean nothing, and are zeros.
        let partly = parts.iter().any(|part| part.padded);
        let there = parts.iter().map(|part| part.rows * part.cols).sum::<u64>();
        if there > total * cols || there < total * cols && !partly {
            return Err(lacks());
        }
        let mut rows = Vec::new();
        if !whole {
            const NONE: (u32, u32) = (u32::MAX, u32::MAX);
            rows = vec![NONE; size(total)];
            for (number, part) in (0..).zip(&parts) {
                for row in 0..part.rows {
                    let at = size(part.layout.source(row, 0).0);
                    let free = rows.get_mut(at).filter(|place| **place == NONE).ok_or_else(lacks)?;
                    *free = (number, u32::try_from(row).unwrap_or(u32::MAX));
                }
            }
        }
        if shape.is_empty() {
            shape = vec![total];
        }
        Ok(Self { name, shape, cols: size(cols), whole, rows, parts })
    }

    /// Number of its elements.
    pub(super) fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Whether its numbers are keys of the file.
    pub(super) fn is_of_keys(&self) -> bool {
        self.parts.iter().all(|part| matches!(part.from, From::Key { .. }))
    }

    /// Computes the tensor in type `ty`, piece by piece.
    ///
    /// # Errors
    /// When the file cannot be read, a number is out of the type's range, or `write` fails.
    pub(super) fn make(
        &self,
        source: &Source<'_>,
        ty: TensorType,
        write: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.whole {
            let numbers = self.moved(source)?;
            for piece in numbers.chunks(PIECE) {
                write(&self.encoded(source, piece, ty)?)?;
            }
            return Ok(());
        }
        let per_piece = (PIECE / self.cols.max(1)).max(1);
        for rows in self.rows.chunks(per_piece) {
            let mut numbers = vec![0.0; rows.len() * self.cols];
            let mut done = 0;
            for run in rows.chunk_by(|a, b| a.0 == b.0 && a.1 + 1 == b.1) {
                let (part, row) = (&self.parts[run[0].0 as usize], u64::from(run[0].1));
                part.read(source, row, &mut numbers[done..done + run.len() * self.cols])?;
                done += run.len() * self.cols;
            }
            write(&self.encoded(source, &numbers, ty)?)?;
        }
        Ok(())
    }

    /// All numbers of the tensor, in checkpoint order.
    fn moved(&self, source: &Source<'_>) -> Result<Vec<f32>, Error> {
        let mut all = vec![0.0; size(self.elements())];
        for part in &self.parts {
            let mut numbers = vec![0.0; size(part.rows * part.cols)];
            part.read(source, 0, &mut numbers)?;
            for (row, numbers) in (0..).zip(numbers.chunks_exact(size(part.cols))) {
                for (col, &number) in (0..).zip(numbers) {
                    let (row, col) = part.layout.source(row, col);
                    all[size(row) * self.cols + size(col)] = number;
                }
            }
        }
        Ok(all)
    }

    fn encoded(&self, source: &Source<'_>, numbers: &[f32], ty: TensorType) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; ty.row_bytes(numbers.len())];
        let rows = numbers.par_chunks(1 << 16).zip(bytes.par_chunks_mut(ty.row_bytes(1 << 16)));
        rows.for_each(|(numbers, bytes)| formats::encode(ty, numbers, None, bytes));
        if ty == TensorType::F16
            && let Some(&value) = numbers.iter().find(|x| x.is_finite() && x.abs() >= 65_520.0)
        {
            return Err(fault(source, &self.name, TensorProblem::OutOfRange { value, ty }));
        }
        Ok(bytes)
    }
}

impl Part<'_> {
    /// What it is called in the file.
    fn name(&self) -> &str {
        match &self.from {
            From::Tensor(tensor) => &tensor.name,
            From::Key { key, .. } => key,
        }
    }

    /// Whether the file has it as one row.
    fn is_vector(&self) -> bool {
        match &self.from {
            From::Tensor(tensor) => tensor.shape.len() < 2,
            From::Key { .. } => true,
        }
    }

    /// Whole rows from row `first` of the part on, with the numbers of the checkpoint.
    fn read(&self, source: &Source<'_>, first: u64, out: &mut [f32]) -> Result<(), Error> {
        let tensor = match &self.from {
            From::Tensor(tensor) => *tensor,
            From::Key { number, .. } => {
                out.fill(*number);
                return Ok(());
            }
        };
        let ty = tensor.ty;
        let cols = size(tensor.cols());
        // A vector is one row of the file.
        let first = if self.is_vector() { 0 } else { self.first + first };
        let row_bytes = ty.row_bytes(cols);
        let mut bytes = vec![0; out.len() / cols.max(1) * row_bytes];
        source.reader.read_at(tensor, first * row_bytes as u64, &mut bytes)?;
        let rows = bytes.par_chunks(row_bytes.max(1)).zip(out.par_chunks_mut(cols.max(1)));
        rows.with_min_len((1 << 16) / cols.max(1)).for_each(|(bytes, out)| {
            formats::decode(ty, bytes, out);
            self.arithmetic.iter().rev().for_each(|step| step.undo_arithmetic(out));
        });
        Ok(())
    }
}

/// A size as an index. A size that does not fit gives an index out of range.
fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
