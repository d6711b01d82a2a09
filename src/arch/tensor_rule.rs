//! One tensor of an architecture: what it is called, its shape, and how a checkpoint makes it.

/// A tensor that a model of the family has.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorRule {
    /// Name in the file.
    pub name: String,
    /// Shape in GGUF order: the dimension that is contiguous first.
    pub shape: Vec<usize>,
    /// Whether a model without it is refused.
    pub required: bool,
    /// Where conversion takes it from.
    pub source: Source,
}

/// Where a tensor comes from at conversion.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// From tensors of the checkpoint: several are stacked along a new slowest dimension (experts), then each
    /// step is applied in turn.
    Checkpoint {
        /// Names in the checkpoint, without any multimodal prefix.
        names: Vec<String>,
        /// Changes, in order.
        steps: Vec<Step>,
    },
    /// From `config.json` alone (rotary frequency factors).
    Config,
}

/// A change of a checkpoint's tensor on its way into a file. Rows count along the slowest dimension.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Rows of each head go from two halves to interleaved pairs, as llama's rotary embedding wants them.
    InterleaveHalves {
        /// Heads that the rows make up.
        heads: usize,
    },
    /// Only these rows of a fused tensor.
    Rows {
        /// First row.
        start: usize,
        /// Number of rows.
        count: usize,
    },
    /// Adds a constant to every element (norms stored as an offset from one).
    Add(f32),
    /// `-exp(x)` of every element (state-space decay).
    NegExp,
    /// Swaps the last two dimensions.
    Transpose,
}
