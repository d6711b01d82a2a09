//! Alternating updates: a residual stream of several, of which each layer computes with one.

/// Alternating updates (`AltUp`). A layer predicts all streams from all of them, computes with the active one, and
/// corrects each by what that has brought. The tensors `altup_proj` and `altup_unembd_proj` make the streams of the
/// embeddings and bring them back to one; those of a layer are `altup_router`, `altup_router_norm`,
/// `altup_predict_coef`, `altup_correct_coef` and `altup_correct_scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AltUp {
    /// Number of streams.
    pub streams: usize,
    /// The one that layers compute with.
    pub active: usize,
}
