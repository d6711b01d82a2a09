//! What a network's description may depend on in a file's tensors.

use super::Error;

/// The tensors of a file, as far as a network's description depends on them: which exist, and the values of small ones (rotary
/// factors).
pub trait Tensors {
    /// Whether there is a tensor `name`.
    fn has(&self, name: &str) -> bool;

    /// All elements of the tensor `name` as floats, or `None` if there is no such tensor.
    ///
    /// # Errors
    /// When its number of elements is not `len`.
    fn vector(&self, name: &str, len: usize) -> Result<Option<Vec<f32>>, Error>;
}
