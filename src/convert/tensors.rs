//! The tensors of the output: the source of their rows, the operations on them, and their types.

use std::collections::HashSet;
use std::path::Path;

use half::f16;

use super::Error;
use super::layer_numbers;
use super::layout::Layout;
use super::mistral;
use super::names::{bare_prefix, is_pooler, text_name};
use super::part::{self, Part, index};
use super::stored::{FoundWeight, Scheme, Stored, Tensors};
use crate::TensorType;
use crate::arch::{Config, Hparams, Names, Source, Step, TensorRule, rope_factors};
use crate::formats;
use crate::gguf::{TensorSpec, part_of};
use crate::quantize::FileType;
use crate::safetensors::{self, Checkpoint, Dtype, TensorInfo};

/// How weights are written.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) file_type: FileType,
    /// Whether sums with half-precision weights are rounded to half precision, as the reference does.
    pub(super) half_sums: bool,
    /// Whether the constants that rules add to norms have been added already.
    pub(super) norms_added: bool,
    /// Whether rotary pairs are side by side already.
    pub(super) pairs: bool,
}

/// How one tensor of the output is computed.
pub(super) struct OutputTensor {
    pub(super) spec: TensorSpec,
    rows: u64,
    half_sums: bool,
    from: From,
}

enum From {
    /// Weights of the checkpoint, each of which gives `part_rows` rows.
    Parts {
        parts: Vec<Stored>,
        part_rows: u64,
        layout: Layout,
        /// The steps that change numbers.
        arithmetic: Vec<Step>,
    },
    Values(Vec<f32>),
}

/// All tensors of the output.
pub(super) struct OutputTensors {
    pub(super) tensors: Vec<OutputTensor>,
    /// Number of tensors of the checkpoint that are not part of the text model.
    pub(super) skipped: usize,
    /// Number of tensors of MTP layers that are left out.
    pub(super) predicting: usize,
}

/// The output matrix in most checkpoints.
const OUTPUT: &str = "lm_head.weight";

/// Whether a tensor, by its name in rules, belongs to an MTP layer that is not converted.
fn is_left_out(name: &str, hparams: &Hparams) -> bool {
    if name.starts_with("mtp.") || name.starts_with("model.mtp_") {
        return hparams.next_n == 0;
    }
    let block = name.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
    block.is_some_and(|block| block >= hparams.block_count + hparams.next_n)
}

pub(super) fn plan(
    path: &Path,
    config: &Config,
    hparams: &Hparams,
    checkpoint: &Checkpoint,
    rules: &[TensorRule],
    target: Target,
) -> Result<OutputTensors, Error> {
    let scheme = Scheme::of(path, config)?;
    let mut by_name = Tensors::new();
    let mut ordered: Vec<&TensorInfo> = checkpoint.tensors().iter().collect();
    ordered.retain(|tensor| !layer_numbers::is_one(hparams, &tensor.name));
    ordered.sort_by_key(|tensor| checkpoint.file_number(tensor));
    let (mut skipped, mut predicting) = (0, 0);
    let turned = |rule: &TensorRule| rule.sources.iter().any(Source::interleaves);
    // Mistral's own checkpoints have the rotary pairs of a head side by side, as GGUF files do.
    let own = checkpoint.tensor(mistral::EMBEDDING).is_some() && rules.iter().any(turned);
    let target = Target { pairs: own, ..target };
    let prefix = if own { None } else { bare_prefix(rules, checkpoint) };
    for (place, tensor) in ordered.into_iter().enumerate() {
        let name = if own { Some(mistral::usual_name(&tensor.name)) } else { text_name(&tensor.name) };
        match name.map(|name| prefix.map_or(name.clone(), |prefix| prefix.of(name))) {
            Some(name) if is_left_out(&name, hparams) => predicting += 1,
            Some(name) => drop(by_name.insert(name, (place, tensor))),
            None => skipped += 1,
        }
    }
    // A tied model that has an output matrix nevertheless keeps it, as in the reference converter.
    let untied = config.tied() == Some(false);
    let mut used: HashSet<String> = HashSet::new();
    let mut missing = Vec::new();
    let mut outputs: Vec<(usize, OutputTensor)> = Vec::new();
    let mut together = 0;
    for rule in rules {
        let mut lacking = None;
        let mut made = None;
        for source in &rule.sources {
            match source {
                Source::RopeFactors => {
                    let values = rope_factors(config, hparams, &rule.name);
                    made = values.map(|values| {
                        let spec = spec(&rule.name, &rule.shape, TensorType::F32);
                        (0, OutputTensor { spec, rows: 1, half_sums: false, from: From::Values(values) })
                    });
                }
                Source::Checkpoint { names, steps, .. } => match find_all(path, &scheme, &by_name, names)? {
                    Ok(found) => {
                        let place = found.iter().map(|found| found.place + 1).max().unwrap_or(0);
                        let take = |FoundWeight { stored, names, .. }| {
                            used.extend(names);
                            stored
                        };
                        let parts: Vec<Stored> = found.into_iter().map(take).collect();
                        let steps: Result<Vec<Step>, _> = steps.iter().map(|step| step.resolved(config)).collect();
                        let steps = steps.map_err(|source| Error::Architecture { path: path.to_owned(), source })?;
                        made = Some((place, OutputTensor::new(path, rule, parts, &steps, target)?));
                    }
                    Err(name) => lacking = lacking.or(Some(name)),
                },
            }
            if made.is_some() {
                break;
            }
        }
        match made {
            Some(made) => {
                outputs.push(made);
                together = if rule.together { together + 1 } else { 0 };
                place_together(&mut outputs, together);
            }
            None if rule.required || rule.name == "output.weight" && untied => missing.extend(lacking),
            None => {}
        }
    }
    let mut left: Vec<&String> = by_name.keys().filter(|name| !used.contains(name.as_str())).collect();
    // Tied models often have an output matrix that repeats the embedding; it may be left out.
    left.retain(|name| *name != OUTPUT);
    skipped += left.iter().filter(|name| is_pooler(name)).count();
    left.retain(|name| !is_pooler(name));
    left.sort();
    if let Some(name) = missing.first() {
        // Tensors of experts are expected even if other experts are missing.
        let known = |name: &str| {
            rules.iter().flat_map(|rule| &rule.sources).any(|source| match source {
                Source::Checkpoint { names, .. } => names.iter().any(|known| known == name),
                Source::RopeFactors => false,
            })
        };
        left.retain(|name| !known(name));
        let (name, more) = (name.clone(), missing.len() - 1);
        return Err(Error::MissingTensor {
            path: path.to_owned(),
            name,
            more,
            left: left.first().map(|s| (*s).clone()),
        });
    }
    if let Some(name) = left.first() {
        return Err(Error::LeftOver { path: path.to_owned(), name: (*name).clone(), more: left.len() - 1 });
    }
    // Tensors that are in a GGUF format already come first, then the order of the checkpoint. A tensor that is made from several is
    // placed with the last of them.
    outputs.sort_by_key(|(place, tensor)| (!tensor.is_native(), *place));
    Ok(OutputTensors { tensors: outputs.into_iter().map(|(_, tensor)| tensor).collect(), skipped, predicting })
}

/// Moves the last `count` tensors to the place of the last of them.
fn place_together(outputs: &mut [(usize, OutputTensor)], count: usize) {
    let first = outputs.len() - count;
    let last = outputs[first..].iter().map(|(place, _)| *place).max().unwrap_or(0);
    outputs[first..].iter_mut().for_each(|(place, _)| *place = last);
}

/// The weights of these names, or the first name that is missing.
fn find_all(
    path: &Path,
    scheme: &Scheme,
    tensors: &Tensors<'_>,
    names: &Names,
) -> Result<Result<Vec<FoundWeight>, String>, Error> {
    let mut all = Vec::new();
    for name in names.iter() {
        match scheme.find(path, tensors, &name)? {
            Some(found) => all.push(found),
            None => return Ok(Err(name)),
        }
    }
    Ok(Ok(all))
}

fn spec(name: &str, shape: &[usize], ty: TensorType) -> TensorSpec {
    TensorSpec { name: name.to_owned(), shape: shape.iter().map(|&n| n as u64).collect(), ty }
}

/// The smallest type that represents all weights of a checkpoint exactly. Vectors do not count, since they are written in
/// single precision; quantized weights count as single precision.
pub(super) fn exact_type(checkpoint: &Checkpoint) -> FileType {
    let matrices = checkpoint.tensors().iter().filter(|tensor| tensor.shape.len() > 1);
    let mut types = matrices.map(|tensor| match tensor.dtype {
        Dtype::F16 => FileType::F16,
        Dtype::BF16 => FileType::BF16,
        _ => FileType::F32,
    });
    let first = types.next().unwrap_or(FileType::F32);
    if types.all(|ty| ty == first) { first } else { FileType::F32 }
}

/// The type of a tensor in the file: vectors, norms and routers are written in single precision.
fn output_type(name: &str, shape: &[usize], file_type: FileType) -> TensorType {
    const PLAIN: [&str; 12] = [
        "altup_correct_coef",
        "altup_predict_coef",
        "ffn_gate_inp",
        "ffn_gate_inp_shexp",
        "indexer.proj",
        "ssm_conv1d",
        "ssm_conv1d_q",
        "ssm_conv1d_k",
        "ssm_conv1d_v",
        "shortconv.conv",
        "position_embd",
        "token_types",
    ];
    let plain = part_of(name).strip_suffix(".weight").is_none_or(|part| PLAIN.contains(&part));
    if shape.len() <= 1 || name.ends_with("_norm.weight") || plain {
        return TensorType::F32;
    }
    file_type.default_type()
}

impl OutputTensor {
    fn new(path: &Path, rule: &TensorRule, parts: Vec<Stored>, steps: &[Step], target: Target) -> Result<Self, Error> {
        let kept = |step: &&Step| !(target.pairs && matches!(step, Step::InterleaveHalves { .. }));
        let steps: &[Step] = &steps.iter().filter(kept).cloned().collect::<Vec<_>>();
        let count = parts.len().max(1) as u64;
        let rows: u64 = rule.shape.iter().skip(1).map(|&n| n as u64).product();
        let cols = rule.shape.first().map_or(1, |&n| n as u64);
        // For steps, the elements of a vector are rows.
        let layout = match rule.shape.get(1) {
            None => Layout::new(steps, cols, 1, cols),
            Some(&matrix) => Layout::new(steps, rows / count, cols, matrix as u64),
        };
        let named = output_type(&rule.name, &rule.shape, target.file_type);
        let mut ty = if rule.in_file_type { target.file_type.default_type() } else { named };
        for part in &parts {
            check_shape(path, rule, part, &layout, parts.len() > 1)?;
            match part.ty() {
                // MXFP4 is a GGUF format already and is copied.
                Some(TensorType::MXFP4) if layout.keeps_rows_whole() => ty = TensorType::MXFP4,
                None | Some(TensorType::MXFP4) => {
                    let (name, dtype) = (part.tensor().name.clone(), part.tensor().dtype);
                    return Err(Error::BadType { path: path.to_owned(), name, dtype });
                }
                Some(_) => {}
            }
        }
        let changes = |step: &&Step| match step {
            Step::Add(_) => !target.norms_added,
            Step::NegExp | Step::Scale { .. } => true,
            _ => false,
        };
        let arithmetic = steps.iter().filter(changes).cloned().collect();
        let from = From::Parts { parts, part_rows: rows / count, layout, arithmetic };
        Ok(Self { spec: spec(&rule.name, &rule.shape, ty), rows, half_sums: target.half_sums, from })
    }

    /// Its numbers, if they follow from the settings alone.
    pub(super) fn values(&self) -> Option<&[f32]> {
        match &self.from {
            From::Values(values) => Some(values),
            From::Parts { .. } => None,
        }
    }

    fn cols(&self) -> usize {
        self.spec.shape.first().map_or(1, |&n| index(n))
    }

    /// Whether it has a quantized format that is copied to the file.
    fn is_native(&self) -> bool {
        self.spec.ty == TensorType::MXFP4
    }

    /// The unit of reads in elements: rows, and many of them if each read needs the whole tensor.
    pub(super) fn granule(&self) -> u64 {
        const TRANSPOSED: u64 = 1 << 20;
        let cols = (self.cols() as u64).max(1);
        match &self.from {
            From::Parts { layout, .. } if layout.transposes() && self.spec.shape.len() > 1 => {
                (TRANSPOSED / cols).max(1) * cols
            }
            _ => cols,
        }
    }

    /// Bytes of temporary memory of [`Self::read`] besides the buffer of `elements` elements.
    pub(super) fn scratch_bytes(&self, elements: u64) -> u64 {
        let From::Parts { parts, layout, arithmetic, .. } = &self.from else { return 0 };
        let cols = self.cols() as u64;
        let of_part = |stored: &Stored| {
            let from = stored.ty().unwrap_or(TensorType::F32);
            let numbers = size_of::<f32>() as u64 + from.bytes_for(32).unwrap_or(0) / 32;
            let changed = if from == self.spec.ty && arithmetic.is_empty() { 0 } else { numbers };
            changed * elements + part::scratch_bytes(stored, layout, elements / cols.max(1), cols)
        };
        parts.iter().map(of_part).max().unwrap_or(0)
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
                formats::encode(self.spec.ty, values, None, buffer);
                Ok(())
            }
            From::Parts { parts, part_rows, layout, arithmetic } => {
                let mut done = 0;
                while done < rows {
                    let row = first + done;
                    let (part, at) = (row / part_rows, row % part_rows);
                    let count = (part_rows - at).min(rows - done);
                    let out = &mut buffer[index(done) * row_bytes..index(done + count) * row_bytes];
                    let part = Part { stored: &parts[index(part)], layout, checkpoint };
                    self.read_part(&part, arithmetic, at, out)?;
                    done += count;
                }
                Ok(())
            }
        }
    }

    /// Rows of one part, from row `first` on.
    fn read_part(
        &self,
        part: &Part<'_>,
        arithmetic: &[Step],
        first: u64,
        out: &mut [u8],
    ) -> Result<(), safetensors::Error> {
        let cols = self.cols();
        let from = part.stored.ty().unwrap_or(TensorType::F32);
        let (cols, first, rows) = if self.spec.shape.len() == 1 {
            (1, 0, cols)
        } else {
            (cols, first, out.len() / self.spec.ty.row_bytes(cols))
        };
        let held = if part.layout.padded {
            part.stored.shape().first().map_or(0, |rows| rows.saturating_sub(first))
        } else {
            u64::MAX
        };
        let held = rows.min(usize::try_from(held).unwrap_or(usize::MAX));
        if from == self.spec.ty && arithmetic.is_empty() {
            let (own, missing) = out.split_at_mut(held * from.row_bytes(cols));
            missing.fill(0);
            return if held > 0 { part.read(first, cols, own) } else { Ok(()) };
        }
        let mut bytes = vec![0; rows * from.row_bytes(cols)];
        if held > 0 {
            part.read(first, cols, &mut bytes[..held * from.row_bytes(cols)])?;
        }
        let mut numbers = vec![0.0; rows * cols];
        formats::decode(from, &bytes, &mut numbers);
        for step in arithmetic {
            match step {
                Step::Add(offset) => numbers.iter_mut().for_each(|x| *x += offset),
                Step::NegExp => numbers.iter_mut().for_each(|x| *x = -x.exp()),
                Step::Scale { rows, by } => {
                    let of_rows = |row: usize| rows.as_ref().is_none_or(|rows| rows.contains(&(index(first) + row)));
                    let rows = numbers.chunks_exact_mut(cols.max(1)).enumerate().filter(|(row, _)| of_rows(*row));
                    rows.for_each(|(_, row)| row.iter_mut().for_each(|x| *x *= by));
                }
                _ => continue,
            }
            if self.half_sums && from == TensorType::F16 {
                numbers.iter_mut().for_each(|x| *x = f16::from_f32(*x).to_f32());
            }
        }
        formats::encode(self.spec.ty, &numbers, None, out);
        Ok(())
    }
}

/// Checks that a weight has the shape of the rule, or the shape before the rule's steps.
fn check_shape(path: &Path, rule: &TensorRule, part: &Stored, layout: &Layout, stacked: bool) -> Result<(), Error> {
    let shape = part.shape();
    let mut expected: Vec<u64> = rule.shape.iter().rev().map(|&n| n as u64).skip(usize::from(stacked)).collect();
    let fits = if layout.reshaped {
        shape.iter().product::<u64>() == layout.source_rows * layout.source_cols
    } else if layout.same_shape && !layout.padded {
        let plain = |shape: &[u64]| shape.iter().copied().filter(|&n| n != 1).collect::<Vec<_>>();
        plain(&shape) == plain(&expected)
    } else {
        expected = vec![layout.source_rows, layout.source_cols];
        let cols = if rule.shape.len() == 1 { 1 } else { shape.last().copied().unwrap_or(1) };
        let rows = shape.iter().product::<u64>() / cols.max(1);
        cols == layout.source_cols
            && (rows == layout.source_rows
                || layout.at_least && rows > layout.source_rows
                || layout.padded && rows < layout.source_rows)
    };
    if fits {
        return Ok(());
    }
    let name = part.tensor().name.clone();
    Err(Error::BadShape { path: path.to_owned(), name, found: shape, expected })
}
