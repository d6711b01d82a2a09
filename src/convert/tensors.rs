//! Each tensor of the output: where its rows come from, what is done to them, and in which type they are written.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use half::f16;

use super::Error;
use crate::TensorType;
use crate::arch::{Config, Hparams, Source, Step, TensorRule, rope_factors};
use crate::gguf::TensorSpec;
use crate::kernels;
use crate::quant;
use crate::quantize::FileType;
use crate::safetensors::{self, Checkpoint, Dtype, TensorInfo};

/// How weights are to be written.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) file_type: FileType,
    /// Whether sums with half-precision weights are rounded to half precision, as the reference does.
    pub(super) half_sums: bool,
}

/// How one tensor is made.
pub(super) struct Making {
    pub(super) spec: TensorSpec,
    rows: u64,
    half_sums: bool,
    from: From,
}

enum From {
    /// Tensors of the checkpoint, of `part_rows` rows each.
    Parts {
        parts: Vec<TensorInfo>,
        part_rows: u64,
        steps: Vec<Step>,
    },
    Values(Vec<f32>),
}

/// All tensors of the output.
pub(super) struct Made {
    pub(super) making: Vec<Making>,
    /// Tensors of the checkpoint that belong to no text.
    pub(super) skipped: usize,
}

/// Prefixes of the text model within multimodal checkpoints, and one that some checkpoints of a family lack.
const TEXT_PREFIXES: [(&str, &str); 5] = [
    ("transformer.", ""),
    ("model.language_model.", "model."),
    ("language_model.model.", "model."),
    ("language_model.", ""),
    ("text_model.", ""),
];

/// Parts of names of tensors that belong to images, sound or training, not to text.
const NOT_TEXT: [&str; 10] = [
    "visual.",
    "vision",
    "audio",
    "multi_modal_projector.",
    "mm_projector",
    "image_newline",
    "mtp.",
    ".rotary_emb.inv_freq",
    ".attention.masked_bias",
    ".attn.masked_bias",
];

/// The name of a checkpoint's tensor as rules call it; none for what is no part of the text model.
fn text_name(name: &str) -> Option<String> {
    if NOT_TEXT.iter().any(|part| name.contains(part))
        || name.ends_with(".attention.bias") && !name.contains("self_attn")
        || name.ends_with(".attn.bias")
    {
        return None;
    }
    let renamed = TEXT_PREFIXES.iter().find_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from)?)));
    Some(renamed.unwrap_or_else(|| name.to_owned()))
}

pub(super) fn plan(
    path: &Path,
    config: &Config,
    hparams: &Hparams,
    checkpoint: &Checkpoint,
    rules: &[TensorRule],
    target: Target,
) -> Result<Made, Error> {
    let mut by_name: HashMap<String, (usize, &TensorInfo)> = HashMap::new();
    let mut ordered: Vec<&TensorInfo> = checkpoint.tensors().iter().collect();
    ordered.sort_by_key(|tensor| checkpoint.file_number(tensor));
    let mut skipped = 0;
    for (place, tensor) in ordered.into_iter().enumerate() {
        match text_name(&tensor.name) {
            Some(name) => drop(by_name.insert(name, (place, tensor))),
            None => skipped += 1,
        }
    }
    let mut used: HashMap<&str, ()> = HashMap::new();
    let mut missing = Vec::new();
    let mut making: Vec<(usize, Making)> = Vec::new();
    for rule in rules {
        let has = |source: &&Source| match source {
            Source::RopeFactors => true,
            Source::Checkpoint { names, .. } => names.iter().all(|name| by_name.contains_key(name)),
        };
        match rule.sources.iter().find(has) {
            Some(Source::RopeFactors) => {
                if let Some(values) = rope_factors(config, hparams, &rule.name) {
                    let spec = spec(&rule.name, &rule.shape, TensorType::F32);
                    making.push((0, Making { spec, rows: 1, half_sums: false, from: From::Values(values) }));
                }
            }
            Some(Source::Checkpoint { names, steps }) => {
                let found: Vec<(usize, &TensorInfo)> =
                    names.iter().filter_map(|name| by_name.get(name)).copied().collect();
                let place = found.iter().map(|(place, _)| place + 1).max().unwrap_or(0);
                let parts: Vec<TensorInfo> = found.into_iter().map(|(_, tensor)| tensor.clone()).collect();
                making.push((place, Making::new(path, rule, parts, steps, target)?));
                used.extend(names.iter().map(|name| (name.as_str(), ())));
            }
            None if rule.required => missing.extend(first_missing(&rule.sources, &by_name)),
            None => {}
        }
    }
    if let Some(name) = missing.first() {
        return Err(Error::MissingTensor { path: path.to_owned(), name: name.clone(), more: missing.len() - 1 });
    }
    let mut left: Vec<&String> = by_name.keys().filter(|name| !used.contains_key(name.as_str())).collect();
    // An output matrix that repeats the embedding may be left out, and tied models often carry it.
    left.retain(|name| *name != "lm_head.weight");
    left.sort();
    if let Some(name) = left.first() {
        return Err(Error::LeftOver { path: path.to_owned(), name: (*name).clone(), more: left.len() - 1 });
    }
    // The order of the checkpoint; what is made of several tensors comes with the last of them.
    making.sort_by_key(|(place, _)| *place);
    Ok(Made { making: making.into_iter().map(|(_, making)| making).collect(), skipped })
}

/// The first tensor that the first source lacks.
fn first_missing(sources: &[Source], by_name: &HashMap<String, (usize, &TensorInfo)>) -> Option<String> {
    let Some(Source::Checkpoint { names, .. }) = sources.first() else { return None };
    names.iter().find(|name| !by_name.contains_key(*name)).cloned()
}

fn spec(name: &str, shape: &[usize], ty: TensorType) -> TensorSpec {
    TensorSpec { name: name.to_owned(), shape: shape.iter().map(|&n| n as u64).collect(), ty }
}

/// The type of a tensor in the file: what is small, or a norm, or routes, stays in single precision.
fn output_type(name: &str, shape: &[usize], file_type: FileType) -> TensorType {
    const PLAIN: [&str; 5] = ["ffn_gate_inp", "ffn_gate_inp_shexp", "ssm_conv1d", "shortconv.conv", "position_embd"];
    let stem = name.strip_suffix(".weight");
    let last =
        stem.map(|stem| stem.strip_prefix("blk.").and_then(|s| s.split_once('.')).map_or(stem, |(_, part)| part));
    let plain = last.is_none_or(|part| PLAIN.contains(&part));
    if shape.len() <= 1 || name.ends_with("_norm.weight") || plain {
        return TensorType::F32;
    }
    file_type.default_type()
}

impl Making {
    fn new(
        path: &Path,
        rule: &TensorRule,
        parts: Vec<TensorInfo>,
        steps: &[Step],
        target: Target,
    ) -> Result<Self, Error> {
        let mut expected: Vec<u64> = rule.shape.iter().rev().map(|&n| n as u64).collect();
        if parts.len() > 1 {
            expected.remove(0);
        }
        if steps.contains(&Step::Transpose) {
            let n = expected.len();
            expected.swap(n - 1, n - 2);
        }
        let rows_of_fused = steps.iter().any(|step| matches!(step, Step::Rows { .. }));
        for part in &parts {
            let plain = |shape: &[u64]| shape.iter().copied().filter(|&n| n != 1).collect::<Vec<_>>();
            let fits = if rows_of_fused {
                part.shape.get(1..) == expected.get(1..) && part.shape.first() >= expected.first()
            } else {
                plain(&part.shape) == plain(&expected)
            };
            if !fits {
                let (name, found) = (part.name.clone(), part.shape.clone());
                return Err(Error::BadShape { path: path.to_owned(), name, found, expected });
            }
            if number_type(part.dtype).is_none() {
                return Err(Error::BadType { path: path.to_owned(), name: part.name.clone(), dtype: part.dtype });
            }
        }
        let rows: u64 = rule.shape.iter().skip(1).map(|&n| n as u64).product();
        let ty = output_type(&rule.name, &rule.shape, target.file_type);
        let part_rows = rows / parts.len().max(1) as u64;
        let from = From::Parts { parts, part_rows, steps: steps.to_vec() };
        Ok(Self { spec: spec(&rule.name, &rule.shape, ty), rows, half_sums: target.half_sums, from })
    }

    fn cols(&self) -> usize {
        self.spec.shape.first().map_or(1, |&n| usize::try_from(n).unwrap_or(usize::MAX))
    }

    /// Fills `buffer` with whole rows of the output from `offset_bytes` on.
    pub(super) fn read(
        &self,
        checkpoint: &Checkpoint,
        offset_bytes: u64,
        buffer: &mut [u8],
    ) -> Result<(), safetensors::Error> {
        let row_bytes = self.spec.ty.row_bytes(self.cols());
        let first = offset_bytes / row_bytes as u64;
        let rows = (buffer.len() / row_bytes) as u64;
        match &self.from {
            From::Values(values) => {
                debug_assert_eq!((first, rows, self.rows), (0, 1, 1));
                kernels::encode(self.spec.ty, values, buffer);
                Ok(())
            }
            From::Parts { parts, part_rows, steps } => {
                let mut done = 0;
                while done < rows {
                    let row = first + done;
                    let (part, at) = (row / part_rows, row % part_rows);
                    let count = (part_rows - at).min(rows - done);
                    let index = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
                    let out = &mut buffer[index(done) * row_bytes..index(done + count) * row_bytes];
                    self.read_part(checkpoint, &parts[index(part)], *part_rows, steps, at, out)?;
                    done += count;
                }
                Ok(())
            }
        }
    }

    /// Rows of one part, from row `first` on.
    fn read_part(
        &self,
        checkpoint: &Checkpoint,
        part: &TensorInfo,
        part_rows: u64,
        steps: &[Step],
        first: u64,
        out: &mut [u8],
    ) -> Result<(), safetensors::Error> {
        let index = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let cols = self.cols();
        let from = number_type(part.dtype).unwrap_or(TensorType::F32);
        // Vectors are one row; their steps take its elements for rows.
        let (cols, part_rows, first, rows) = if self.spec.shape.len() == 1 {
            (1, cols as u64, 0, cols)
        } else {
            (cols, part_rows, first, out.len() / self.spec.ty.row_bytes(cols))
        };
        let row_bytes = from.row_bytes(cols);
        let mut bytes = vec![0; rows * row_bytes];
        if steps.contains(&Step::Transpose) {
            let mut whole = vec![0; index(part.bytes())];
            checkpoint.read_at(part, 0, &mut whole)?;
            let size = from.block_bytes();
            for (i, out) in bytes.chunks_exact_mut(size).enumerate() {
                let (row, col) = (index(first) + i / cols, i % cols);
                let at = (col * index(part_rows) + row) * size;
                out.copy_from_slice(&whole[at..at + size]);
            }
        } else {
            read_rows(checkpoint, part, steps, part_rows, first, row_bytes, &mut bytes)?;
        }
        let arithmetic = steps.iter().any(|step| matches!(step, Step::Add(_) | Step::NegExp));
        if from == self.spec.ty && !arithmetic {
            out.copy_from_slice(&bytes);
            return Ok(());
        }
        let mut numbers = vec![0.0; rows * cols];
        quant::decode(from, &bytes, &mut numbers);
        for step in steps {
            match step {
                Step::Add(offset) => numbers.iter_mut().for_each(|x| *x += offset),
                Step::NegExp => numbers.iter_mut().for_each(|x| *x = -x.exp()),
                _ => continue,
            }
            if self.half_sums && from == TensorType::F16 {
                numbers.iter_mut().for_each(|x| *x = f16::from_f32(*x).to_f32());
            }
        }
        kernels::encode(self.spec.ty, &numbers, out);
        Ok(())
    }
}

/// Reads rows in the order that the steps ask for.
fn read_rows(
    checkpoint: &Checkpoint,
    part: &TensorInfo,
    steps: &[Step],
    part_rows: u64,
    first: u64,
    row_bytes: usize,
    bytes: &mut [u8],
) -> Result<(), safetensors::Error> {
    let index = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let offset =
        steps.iter().map(|step| if let Step::Rows { start, .. } = step { *start as u64 } else { 0 }).sum::<u64>();
    let heads =
        steps.iter().find_map(|step| if let Step::InterleaveHalves { heads } = step { Some(*heads) } else { None });
    for step in steps {
        if let Step::RowsOfEach { of, ranges } = step {
            return read_ranges(checkpoint, part, (*of, ranges), part_rows, first, row_bytes, bytes);
        }
    }
    let Some(heads) = heads else {
        return checkpoint.read_at(part, (offset + first) * row_bytes as u64, bytes);
    };
    let head = part_rows / heads as u64;
    let rows = (bytes.len() / row_bytes) as u64;
    // Rows move within their head: whole heads are read, and dealt out.
    let (from, to) = (first / head * head, (first + rows).div_ceil(head) * head);
    let mut block = vec![0; index(to - from) * row_bytes];
    checkpoint.read_at(part, (offset + from) * row_bytes as u64, &mut block)?;
    for (i, out) in bytes.chunks_exact_mut(row_bytes).enumerate() {
        let row = first + i as u64;
        let within = row % head;
        let source = row - within + within / 2 + within % 2 * (head / 2);
        let at = index(source - from) * row_bytes;
        out.copy_from_slice(&block[at..at + row_bytes]);
    }
    Ok(())
}

/// Reads rows of each group, range by range.
fn read_ranges(
    checkpoint: &Checkpoint,
    part: &TensorInfo,
    (of, ranges): (usize, &[Range<usize>]),
    part_rows: u64,
    first: u64,
    row_bytes: usize,
    bytes: &mut [u8],
) -> Result<(), safetensors::Error> {
    let kept: u64 = ranges.iter().map(|range| range.len() as u64).sum();
    let groups = part_rows / kept.max(1);
    let end = first + (bytes.len() / row_bytes) as u64;
    let mut rest = bytes;
    let mut row = 0;
    for range in ranges {
        for group in 0..groups {
            // The part of this run that is wanted.
            let (from, to) = (row.max(first), (row + range.len() as u64).min(end));
            if from < to {
                let len = usize::try_from(to - from).unwrap_or(usize::MAX) * row_bytes;
                let (now, later) = std::mem::take(&mut rest).split_at_mut(len);
                let source = group * of as u64 + range.start as u64 + (from - row);
                checkpoint.read_at(part, source * row_bytes as u64, now)?;
                rest = later;
            }
            row += range.len() as u64;
        }
    }
    Ok(())
}

/// The tensor type with the layout of `dtype`, for types that hold weights.
fn number_type(dtype: Dtype) -> Option<TensorType> {
    match dtype {
        Dtype::F32 => Some(TensorType::F32),
        Dtype::F16 => Some(TensorType::F16),
        Dtype::BF16 => Some(TensorType::BF16),
        _ => None,
    }
}
