//! What a cache of keys and values holds.

/// Type of cached keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvType {
    /// Four bytes a number.
    F32,
    /// Two bytes a number: the usual choice.
    F16,
    /// Thirty-four bytes for 32 numbers.
    Q8_0,
}

/// What a cache holds for each position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvSpec {
    /// Key-value heads.
    pub heads: usize,
    /// Length of a key head.
    pub k_dim: usize,
    /// Length of a value head.
    pub v_dim: usize,
    /// Type of the numbers.
    pub ty: KvType,
    /// Positions that a query sees, itself included; older pages are dropped.
    pub window: Option<usize>,
}
