//! What a model remembers of one sequence.

use std::sync::Arc;

use super::{CausalConv, KvCache, KvSpec, KvType, RecurrenceSpec};
use crate::network::{Mixer, ModelSpec};

/// The state of one sequence: a cache or a recurrent state for each layer.
///
/// A clone is cheap where states are caches: it shares their layers until one of both writes.
#[derive(Clone)]
pub struct Sequence {
    pub(super) len: usize,
    pub(super) context_length: usize,
    pub(super) layers: Vec<LayerState>,
    /// Length that the sequence may have to go back to: windows keep what is seen from there.
    held: Option<usize>,
}

/// What a sequence goes back to after tokens that were tried: see [`Sequence::hold`].
pub struct Held {
    len: usize,
    /// The state of each layer that has a recurrent one.
    recurrent: Vec<Option<Recurrent>>,
}

impl Held {
    /// Tokens of the sequence when it was held.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a length, not a collection")]
    pub fn len(&self) -> usize {
        self.len
    }
}

/// What one layer remembers.
#[derive(Clone)]
pub(super) enum LayerState {
    /// Nothing of its own.
    None,
    /// Keys and values.
    Cache(KvCache),
    /// What a recurrence carries on.
    Recurrent(Recurrent),
}

/// The state of a recurrence, shared by clones until one of them goes on.
#[derive(Clone)]
pub(super) struct Recurrent(Arc<Memory>);

/// The numbers that a recurrence carries from position to position.
#[derive(Clone)]
pub(super) struct Memory {
    /// The latest inputs of its convolution.
    pub(super) conv: Vec<f32>,
    /// Its state.
    pub(super) state: Vec<f32>,
}

impl Recurrent {
    fn new(conv: usize, state: usize) -> Self {
        Self(Arc::new(Memory { conv: vec![0.0; conv], state: vec![0.0; state] }))
    }

    fn bytes(&self) -> usize {
        4 * (self.0.conv.len() + self.0.state.len())
    }

    /// This sequence's own copy.
    pub(super) fn writable(&mut self) -> &mut Memory {
        Arc::make_mut(&mut self.0)
    }
}

/// What a layer needs remembered.
enum StateSpec {
    None,
    Cache(KvSpec),
    /// Elements of both parts of a [`Memory`].
    Recurrent {
        conv: usize,
        state: usize,
    },
}

impl StateSpec {
    /// What a layer with this mixer needs, in a model whose residual stream has `cols` elements.
    fn of(mixer: &Mixer, cols: usize, options: SequenceOptions) -> Self {
        let ty = options.kv_type;
        let recurrent = |spec: RecurrenceSpec, taps: usize| Self::Recurrent {
            conv: CausalConv::state_len_of(spec.mixed_len(), taps),
            state: spec.state_len(),
        };
        match mixer {
            Mixer::Attention(spec) if spec.shares_kv_of.is_some() => Self::None,
            Mixer::Attention(spec) => Self::Cache(KvSpec {
                heads: spec.kv_heads,
                k_dim: spec.k_dim,
                v_dim: spec.v_dim,
                ty,
                // The sequence is there as a whole when anything is seen of it.
                window: spec.window.filter(|_| spec.causal),
            }),
            Mixer::Latent(spec) => {
                let (rank, rope) = (spec.kv_rank, spec.rope_dim);
                Self::Cache(KvSpec { heads: 1, k_dim: rank + rope, v_dim: rank, ty, window: None })
            }
            Mixer::DeltaNet(spec) => recurrent(spec.into(), spec.taps),
            Mixer::Mamba2(spec) => recurrent(spec.into(), spec.taps),
            Mixer::ShortConv(spec) => Self::Recurrent { conv: CausalConv::state_len_of(cols, spec.taps), state: 0 },
        }
    }

    fn start(&self) -> LayerState {
        match self {
            Self::None => LayerState::None,
            Self::Cache(spec) => LayerState::Cache(KvCache::new(spec.clone())),
            Self::Recurrent { conv, state } => LayerState::Recurrent(Recurrent::new(*conv, *state)),
        }
    }
}

impl Sequence {
    /// An empty sequence of a model that this describes.
    #[must_use]
    pub fn new(model: &ModelSpec, options: SequenceOptions) -> Self {
        let start = |mixer| StateSpec::of(mixer, model.embedding_length, options).start();
        let layers = model.layers.iter().map(|layer| start(&layer.mixer)).collect();
        Self { len: 0, context_length: options.context_length, layers, held: None }
    }

    /// Counts `n` tokens as seen, and drops what no later one can see.
    pub(super) fn advance(&mut self, n: usize) {
        self.len += n;
        self.drop_unseen();
    }

    fn drop_unseen(&mut self) {
        let from = self.held.unwrap_or(self.len).min(self.len);
        for layer in &mut self.layers {
            if let LayerState::Cache(cache) = layer {
                cache.drop_unseen(from);
            }
        }
    }

    /// Makes sure that the sequence can go back to where it is now, with [`Self::go_back`]: before tokens are tried that may turn
    /// out wrong. Recurrent states are copied when they are next written; caches are not, but windows keep what they would drop.
    #[must_use]
    pub fn hold(&mut self) -> Held {
        self.held = Some(self.len);
        let recurrent = |layer: &LayerState| match layer {
            LayerState::Recurrent(recurrent) => Some(recurrent.clone()),
            LayerState::None | LayerState::Cache(_) => None,
        };
        Held { len: self.len, recurrent: self.layers.iter().map(recurrent).collect() }
    }

    /// Forgets the tokens from position `len` on, of those that came after the sequence was held, and lets go of what was held. A
    /// model with recurrent layers knows no states in between: unless all tokens stay, it goes back to where it was held. Returns
    /// the length that the sequence has then.
    ///
    /// # Panics
    /// When `len` lies before the place where the sequence was held, or that is another sequence's.
    pub fn go_back(&mut self, held: Held, len: usize) -> usize {
        assert!(self.held == Some(held.len) && len >= held.len, "{len}: the sequence was not held there");
        let is_recurrent = held.recurrent.iter().any(Option::is_some);
        let len = if is_recurrent && len < self.len { held.len } else { len.min(self.len) };
        if len < self.len {
            for (layer, recurrent) in self.layers.iter_mut().zip(held.recurrent) {
                match (layer, recurrent) {
                    (LayerState::Cache(cache), _) => assert!(cache.truncate(len), "a window has kept what was held"),
                    (layer, Some(recurrent)) => *layer = LayerState::Recurrent(recurrent),
                    _ => {}
                }
            }
            self.len = len;
        }
        self.held = None;
        self.drop_unseen();
        len
    }

    /// Tokens seen.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no token has been seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets all tokens from position `len` on. Returns whether it could: a recurrent state (other than to
    /// the start) and a window that has moved on cannot go back, and then nothing is changed.
    pub fn truncate(&mut self, len: usize) -> bool {
        if len >= self.len {
            return true;
        }
        let mut layers = self.layers.clone();
        let fits = layers.iter_mut().all(|layer| match layer {
            LayerState::None => true,
            LayerState::Cache(cache) => cache.truncate(len),
            LayerState::Recurrent(recurrent) => {
                // The only earlier state that is known is the first.
                *recurrent = Recurrent::new(recurrent.0.conv.len(), recurrent.0.state.len());
                len == 0
            }
        });
        if fits {
            self.layers = layers;
            self.len = len;
        }
        fits
    }

    /// Whether [`Self::truncate`] can go back to every position: no layer has a window or a recurrent state.
    #[must_use]
    pub fn goes_back(&self) -> bool {
        self.layers.iter().all(|layer| match layer {
            LayerState::None => true,
            LayerState::Cache(cache) => cache.spec().window.is_none(),
            LayerState::Recurrent(_) => false,
        })
    }

    /// Bytes that this sequence would hold once it has taken `len` tokens, whatever it holds now.
    #[must_use]
    pub fn bytes_after(&self, len: usize) -> usize {
        let bytes = |layer: &LayerState| match layer {
            LayerState::Cache(cache) => cache.bytes_after(len),
            LayerState::Recurrent(recurrent) => recurrent.bytes(),
            LayerState::None => 0,
        };
        self.layers.iter().map(bytes).sum()
    }

    /// Most bytes that this sequence would hold on its way to `len` tokens, taken a few hundred at a time.
    #[must_use]
    pub fn bytes_at(&self, len: usize) -> usize {
        let bytes = |layer: &LayerState| match layer {
            LayerState::Cache(cache) => cache.bytes_at(len),
            LayerState::Recurrent(recurrent) => recurrent.bytes(),
            LayerState::None => 0,
        };
        self.layers.iter().map(bytes).sum()
    }

    /// Calls `visit` with the address and the bytes of each piece of memory that this sequence holds. Clones share pieces,
    /// which then have the same address.
    pub fn visit_memory(&self, visit: &mut dyn FnMut(usize, usize)) {
        for layer in &self.layers {
            match layer {
                LayerState::None => {}
                LayerState::Cache(cache) => cache.visit_memory(visit),
                LayerState::Recurrent(recurrent) => visit(Arc::as_ptr(&recurrent.0).addr(), recurrent.bytes()),
            }
        }
    }

    /// Bytes that this sequence holds, shared layers included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let bytes = |layer: &LayerState| match layer {
            LayerState::None => 0,
            LayerState::Cache(cache) => cache.bytes(),
            LayerState::Recurrent(recurrent) => recurrent.bytes(),
        };
        self.layers.iter().map(bytes).sum()
    }
}

/// The tokens of one sequence in a batch.
pub struct Part<'a> {
    /// The sequence that they continue.
    pub sequence: &'a mut Sequence,
    /// The next tokens; at least one.
    pub tokens: &'a [u32],
    /// For which of them logits are wanted.
    pub logits: Rows,
}

impl Part<'_> {
    /// The first token whose logits are wanted.
    pub(super) fn first_wanted(&self) -> usize {
        let n = self.tokens.len();
        match self.logits {
            Rows::None => n,
            Rows::Last => n.saturating_sub(1),
            Rows::From(first) => first.min(n),
        }
    }
}

/// Positions of a [`Part`] whose logits are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// None.
    None,
    /// The last.
    Last,
    /// This one (counted from the part's first) and all after it.
    From(usize),
}

/// Settings of a sequence's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceOptions {
    /// Type of cached keys and values.
    pub kv_type: KvType,
    /// Positions that the sequence may come to hold. No limit: it says which frequencies rotate the sequence, in
    /// models that have others for long contexts, and those of the whole sequence are the same.
    pub context_length: usize,
}
