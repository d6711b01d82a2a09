//! Keys that have a number for each layer, which a checkpoint has as tensors of one element each.

use std::path::Path;

use super::Error;
use super::names::text_name;
use super::stored::numbers;
use crate::arch::{self, Config, Family, Hparams, LayerNumber};
use crate::gguf::{Array, Metadata, Value};
use crate::safetensors::{Checkpoint, TensorInfo};

/// The number of the layer that a tensor is of, and its name there.
fn place(name: &str) -> Option<(usize, String)> {
    let name = text_name(name)?;
    let rest = name.strip_prefix("model.").unwrap_or(&name).strip_prefix("layers.")?;
    let (layer, part) = rest.split_once('.')?;
    Some((layer.parse().ok()?, part.to_owned()))
}

/// Whether the tensor `name` becomes part of a key.
pub(super) fn is_one(hparams: &Hparams, name: &str) -> bool {
    let of_family = arch::by_name(&hparams.architecture).map_or(&[][..], Family::layer_numbers);
    !of_family.is_empty() && place(name).is_some_and(|(_, part)| of_family.iter().any(|known| known.tensor == part))
}

/// Adds the family's keys of this kind to `metadata`.
///
/// # Errors
/// When a layer's tensor is missing, is not of one number, or cannot be read.
pub(super) fn read(
    path: &Path,
    family: &Family,
    config: &Config,
    checkpoint: &Checkpoint,
    metadata: &mut Metadata,
) -> Result<(), Error> {
    if family.layer_numbers().is_empty() {
        return Ok(());
    }
    let blocks = config.block_count().map_err(|source| Error::Architecture { path: path.to_owned(), source })?;
    for LayerNumber { key, tensor: part, .. } in family.layer_numbers() {
        let mut of_layers: Vec<Option<&TensorInfo>> = vec![None; blocks];
        for tensor in checkpoint.tensors() {
            if let Some((layer, found)) = place(&tensor.name)
                && found == *part
                && layer < blocks
            {
                of_layers[layer] = Some(tensor);
            }
        }
        let mut values = Vec::with_capacity(blocks);
        for (layer, tensor) in of_layers.into_iter().enumerate() {
            let missing = || {
                let (path, name) = (path.to_owned(), format!("model.layers.{layer}.{part}"));
                Error::MissingTensor { path, name, more: 0, left: None }
            };
            values.push(number(path, checkpoint, tensor.ok_or_else(missing)?)?);
        }
        metadata.set(*key, Value::Array(Array::from(&values[..])));
    }
    Ok(())
}

fn number(path: &Path, checkpoint: &Checkpoint, tensor: &TensorInfo) -> Result<f32, Error> {
    let (path, name) = (path.to_owned(), tensor.name.clone());
    if tensor.shape.iter().product::<u64>() != 1 {
        return Err(Error::BadShape { path, name, found: tensor.shape.clone(), expected: vec![1] });
    }
    if super::stored::number_type(tensor.dtype).is_none() {
        return Err(Error::BadType { path, name, dtype: tensor.dtype });
    }
    Ok(numbers(checkpoint, tensor, 0, 1)?[0])
}
