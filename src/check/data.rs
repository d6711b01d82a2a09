//! Checks the numbers of tensors: NaN, infinities, magnitudes that no trained weight has, matrices of zeros.

use rayon::prelude::*;

use super::{Finding, Findings};
use crate::gguf::{Reader, TensorInfo};
use crate::inspect::{Decoder, PIECE};
use crate::printable::printable;

/// A magnitude beyond that of trained weights: products with it exceed the range of half precision.
const ABSURD: f32 = 1e5;

/// Checks all tensors.
pub(super) fn check(reader: &Reader, progress: &(dyn Fn(u64) + Sync), findings: &mut Findings) {
    let of_tensor = |tensor: &TensorInfo| {
        let found = tensor_findings(reader, tensor);
        progress(tensor.bytes());
        found
    };
    let all: Vec<Vec<Finding>> = reader.tensors().par_iter().with_max_len(1).map(of_tensor).collect();
    findings.0.extend(all.into_iter().flatten());
}

fn tensor_findings(reader: &Reader, tensor: &TensorInfo) -> Vec<Finding> {
    let name = printable(&tensor.name).limit(80).to_string();
    let mut found = Findings::default();
    let mut decoder = match Decoder::new(reader, tensor) {
        Ok(decoder) => decoder,
        Err(error) => {
            found.error("data.read", format!("tensor {name}: {error}"));
            return found.0;
        }
    };
    let mut piece = vec![0.0; PIECE];
    let mut first = 0;
    // Number of elements, and index of the first.
    let (mut nan, mut infinite, mut absurd) = ((0_u64, 0), (0_u64, 0), (0_u64, (0, 0.0)));
    let mut nothing = true;
    while first < tensor.elements() {
        let numbers = match decoder.read(first, &mut piece) {
            Ok(numbers) => numbers,
            Err(error) => {
                found.error("data.read", format!("tensor {name}: {error}"));
                return found.0;
            }
        };
        for (i, &x) in (first..).zip(numbers) {
            let note = |(count, at): (u64, u64)| (count + 1, if count == 0 { i } else { at });
            if x.is_nan() {
                nan = note(nan);
            } else if x.is_infinite() {
                infinite = note(infinite);
            } else if x.abs() > ABSURD {
                absurd = (absurd.0 + 1, if absurd.0 == 0 { (i, x) } else { absurd.1 });
            }
            nothing &= x == 0.0;
        }
        first += numbers.len() as u64;
    }
    if nan.0 > 0 {
        found.error("data.nan", format!("tensor {name}: {} elements are NaN, the first is element {}", nan.0, nan.1));
    }
    if infinite.0 > 0 {
        let (count, at) = infinite;
        found
            .error("data.infinite", format!("tensor {name}: {count} elements are infinite, the first is element {at}"));
    }
    if absurd.0 > 0 {
        let (count, (at, value)) = absurd;
        let place = match u64::try_from(tensor.ty.block_len()) {
            Ok(len) if len > 1 => format!("element {at} (block {}, whose scale is absurd)", at / len),
            _ => format!("element {at}"),
        };
        let text = format!("tensor {name}: {count} elements are beyond {ABSURD:e}, the first is {place}: {value:e}");
        found.warning("data.magnitude", text);
    }
    let is_matrix = tensor.shape.iter().filter(|&&n| n > 1).count() > 1;
    if nothing && is_matrix && tensor.elements() > 0 {
        found.warning("data.zeros", format!("tensor {name}: all {} elements are zero", tensor.elements()));
    }
    found.0
}
