//! The error of each tensor of a model relative to its base.

use super::Error;
use crate::gguf::{Reader, TensorInfo, layer_of, part_of};
use crate::inspect::{DataDifference, tensor_difference};
use crate::kernels::Pool;

/// The error of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorError {
    /// The tensor's name.
    pub name: String,
    /// The layer that it belongs to, if any.
    pub layer: Option<usize>,
    /// Its part of the layer: the name without `blk.N.` and `.weight`.
    pub part: String,
    /// Number of elements.
    pub elements: u64,
    /// Root of the mean squared error, as a share of the root mean square of the base's tensor.
    pub relative_rmse: f64,
}

/// The errors of all tensors of `model` that `base` has with the same shape but other bytes, in the order of the base.
///
/// # Errors
/// When a tensor cannot be read.
pub fn tensor_errors(base: &Reader, model: &Reader, pool: &Pool) -> Result<Vec<TensorError>, Error> {
    let pairs: Vec<(&TensorInfo, &TensorInfo)> = base
        .tensors()
        .iter()
        .filter_map(|tensor| Some((tensor, model.tensor(&tensor.name)?)))
        .filter(|(a, b)| a.shape == b.shape)
        .collect();
    let mut found: Vec<Option<Result<_, _>>> = pairs.iter().map(|_| None).collect();
    let each = pairs.iter().zip(&mut found).collect();
    pool.run_each(each, &|(&(a, b), found): (&(&TensorInfo, &TensorInfo), &mut Option<_>)| {
        *found = Some(tensor_difference((base, a), (model, b)));
    });
    let mut errors = Vec::new();
    for ((tensor, _), found) in pairs.into_iter().zip(found) {
        if let Some(difference) = found.transpose()?.flatten() {
            errors.push(error(tensor, &difference));
        }
    }
    Ok(errors)
}

fn error(tensor: &TensorInfo, difference: &DataDifference) -> TensorError {
    let (layer, part) = place(&tensor.name);
    let relative_rmse = if difference.relative_rmse.is_finite() { difference.relative_rmse } else { 1.0 };
    TensorError { name: tensor.name.clone(), layer, part, elements: difference.elements, relative_rmse }
}

/// Layer and part of a tensor's name.
fn place(name: &str) -> (Option<usize>, String) {
    let part = part_of(name);
    (layer_of(name), part.strip_suffix(".weight").unwrap_or(part).to_owned())
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn names_have_a_layer_and_a_part() {
        assert_eq!(place("blk.12.ffn_up.weight"), (Some(12), "ffn_up".into()));
        assert_eq!(place("token_embd.weight"), (None, "token_embd".into()));
        assert_eq!(place("blk.0.attn_q.bias"), (Some(0), "attn_q.bias".into()));
    }
}
