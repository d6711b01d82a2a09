//! What a description may ask of a file's tensors.

use super::Error;

/// The tensors of a file, as far as a network's description depends on them: whether one is there, and the values of
/// small ones (rotary factors).
pub trait Tensors {
    /// Whether there is a tensor `name`.
    fn has(&self, name: &str) -> bool;

    /// All elements of the tensor `name` as floats, when it is there.
    ///
    /// # Errors
    /// When it has not `len` elements.
    fn vector(&self, name: &str, len: usize) -> Result<Option<Vec<f32>>, Error>;
}
