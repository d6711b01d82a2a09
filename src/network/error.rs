//! Errors of building a network.

/// A tensor that does not fit the network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor that the network needs.
    #[error("tensor {name} is missing")]
    MissingTensor {
        /// Its name.
        name: String,
    },
    /// A tensor of the wrong shape.
    #[error("tensor {name}: {}x{} (rows x columns), expected {}x{}", found[0], found[1], expected[0], expected[1])]
    BadShape {
        /// Its name.
        name: String,
        /// Rows and columns found.
        found: [usize; 2],
        /// Rows and columns expected.
        expected: [usize; 2],
    },
}
