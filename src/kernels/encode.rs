//! Encoding of tensor formats, in the fastest version that this CPU has.

use crate::TensorType;
use crate::quant;

/// Encodes whole blocks of `ty`.
///
/// # Panics
/// If there is no codec for `ty`, or lengths do not agree.
pub fn encode(ty: TensorType, x: &[f32], out: &mut [u8]) {
    let codec = quant::codec(ty).unwrap_or_else(|| panic!("no codec for {ty}"));
    (codec.encode)(x, out);
}
