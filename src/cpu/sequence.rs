//! The state of one sequence: KV caches and states of recurrences.

use std::sync::Arc;

use super::{CausalConv, KvCache, KvSpec, KvType, RecurrenceSpec};
use crate::network::{Mixer, ModelSpec};

/// The state of one sequence: a cache or a recurrent state for each layer.
///
/// Cloning is cheap: the clone shares caches and states until one of the two writes to them.
#[derive(Clone)]
pub struct Sequence {
    pub(super) len: usize,
    pub(super) context_length: usize,
    pub(super) layers: Vec<LayerState>,
}

/// The state of one layer.
#[derive(Clone)]
pub(super) enum LayerState {
    /// No state.
    None,
    /// Keys and values.
    Cache(KvCache),
    /// The state of a recurrence.
    Recurrent(Recurrent),
}

/// The state of a recurrence, shared by clones until one of them is advanced.
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

/// The kind and size of state that a layer needs.
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
    /// The state of a layer with this mixer, in a model whose residual stream has `cols` elements.
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
                // Without a causal mask, all positions are present before any is read.
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
        Self { len: 0, context_length: options.context_length, layers }
    }

    /// Adds `n` to the length, and drops keys and values that no later position can see.
    pub(super) fn advance(&mut self, n: usize) {
        self.len += n;
        for layer in &mut self.layers {
            if let LayerState::Cache(cache) = layer {
                cache.drop_unseen();
            }
        }
    }

    /// Number of tokens that the state has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the state has no token.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Removes all tokens from position `len` on. Returns false, and changes nothing, if that is not possible: a recurrent state can
    /// only go back to the start, and a sliding window not before what it has dropped.
    pub fn truncate(&mut self, len: usize) -> bool {
        if len >= self.len {
            return true;
        }
        let mut layers = self.layers.clone();
        let fits = layers.iter_mut().all(|layer| match layer {
            LayerState::None => true,
            LayerState::Cache(cache) => cache.truncate(len),
            LayerState::Recurrent(recurrent) => {
                // The only earlier state that is known is the initial one.
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

    /// Bytes that a sequence of `len` tokens holds, whatever this one holds now.
    #[must_use]
    pub fn bytes_after(&self, len: usize) -> usize {
        let bytes = |layer: &LayerState| match layer {
            LayerState::Cache(cache) => cache.bytes_after(len),
            LayerState::Recurrent(recurrent) => recurrent.bytes(),
            LayerState::None => 0,
        };
        self.layers.iter().map(bytes).sum()
    }

    /// Peak bytes of this sequence while it grows to `len` tokens, a few hundred at a time.
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
    /// The tokens whose logits are wanted.
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
    /// Context length of the sequence. This is no limit: models with other rotary frequencies for long contexts choose them by
    /// this length, for the whole sequence.
    pub context_length: usize,
}
