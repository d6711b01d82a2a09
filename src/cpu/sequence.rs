//! The state of one sequence: KV caches and states of recurrences.

use std::sync::Arc;

use super::selective_scan::scan_state_len;
use super::{CausalConv, KvCache, KvSpec, KvType, RecurrenceSpec};
use crate::network::{Mixer, ModelSpec};

/// The state of one sequence: a cache or a recurrent state for each layer.
///
/// Cloning is cheap: the clone shares caches and states until one of the two writes to them.
#[derive(Clone)]
pub struct Sequence {
    pub(super) len: usize,
    pub(super) context_length: usize,
    /// The first position of the second of two texts.
    pub(super) second_text: usize,
    pub(super) layers: Vec<LayerState>,
    /// The length that the sequence may still be rolled back to: sliding windows keep what is seen from there.
    rollback_len: Option<usize>,
}

/// A state to which a sequence can be rolled back: see [`Sequence::rollback_point`].
pub struct RollbackPoint {
    len: usize,
    /// The recurrent state of each layer that has one.
    recurrent: Vec<Option<Recurrent>>,
}

impl RollbackPoint {
    /// Number of tokens that the sequence had.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a length, not a collection")]
    pub fn len(&self) -> usize {
        self.len
    }
}

/// What one layer remembers: either, both or nothing.
#[derive(Clone, Default)]
pub(super) struct LayerState {
    /// Keys and values.
    pub(super) cache: Option<KvCache>,
    /// What a recurrence carries on.
    pub(super) recurrent: Option<Recurrent>,
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

impl LayerState {
    /// What a layer with this mixer starts with, in a model whose residual stream has `cols` elements.
    fn start(mixer: &Mixer, cols: usize, options: SequenceOptions) -> Self {
        let cached = |spec: KvSpec| Self { cache: Some(KvCache::new(spec)), recurrent: None };
        let carried = |conv: usize, state: usize| Self { cache: None, recurrent: Some(Recurrent::new(conv, state)) };
        let recurrent = |spec: RecurrenceSpec, taps: usize| {
            carried(CausalConv::state_len_of(spec.mixed_len(), taps), spec.state_len())
        };
        let ty = options.kv_type;
        match mixer {
            Mixer::None => Self::default(),
            Mixer::Attention(spec) if spec.shares_kv_of.is_some() => Self::default(),
            Mixer::Attention(spec) => cached(KvSpec {
                heads: spec.kv_heads,
                k_dim: spec.k_dim,
                v_dim: spec.v_dim,
                ty,
                // The sequence is there as a whole when anything is seen of it.
                // A chunk's first position is the earliest that any position of it sees.
                window: spec.window.or(spec.chunk).filter(|_| spec.causal),
            }),
            Mixer::Latent(spec) => {
                let (rank, rope) = (spec.kv_rank, spec.rope_dim);
                cached(KvSpec { heads: 1, k_dim: rank + rope, v_dim: rank, ty, window: None })
            }
            Mixer::DeltaNet(spec) => recurrent(spec.into(), spec.taps),
            Mixer::KimiDelta(spec) => recurrent(spec.into(), spec.taps),
            Mixer::Mamba1(spec) => carried(CausalConv::state_len_of(spec.channels, spec.taps), scan_state_len(spec)),
            Mixer::Mamba2(spec) => recurrent(spec.into(), spec.taps),
            Mixer::ShortConv(spec) => carried(CausalConv::state_len_of(cols, spec.taps), 0),
            Mixer::AttentionAndMamba2(attention, mamba) => Self {
                recurrent: Self::start(&Mixer::Mamba2(*mamba), cols, options).recurrent,
                ..Self::start(&Mixer::Attention(attention.clone()), cols, options)
            },
        }
    }

    /// Bytes of its recurrence, which stay the same however many tokens it has seen.
    fn recurrent_bytes(&self) -> usize {
        self.recurrent.as_ref().map_or(0, Recurrent::bytes)
    }
}

impl Sequence {
    /// An empty sequence of a model that this describes.
    #[must_use]
    pub fn new(model: &ModelSpec, options: SequenceOptions) -> Self {
        let start = |mixer| LayerState::start(mixer, model.embedding_length, options);
        let layers = model.layers.iter().map(|layer| start(&layer.mixer)).collect();
        Self { len: 0, context_length: options.context_length, second_text: usize::MAX, layers, rollback_len: None }
    }

    /// Says that from `position` on the sequence is the second of two texts, for models that tell them apart by types of
    /// tokens.
    pub fn set_second_text(&mut self, position: usize) {
        self.second_text = position;
    }

    /// Adds `n` to the length, and drops keys and values that no later position can see.
    pub(super) fn advance(&mut self, n: usize) {
        self.len += n;
        self.drop_unseen();
    }

    fn drop_unseen(&mut self) {
        let from = self.rollback_len.unwrap_or(self.len).min(self.len);
        for cache in self.layers.iter_mut().filter_map(|layer| layer.cache.as_mut()) {
            cache.drop_unseen(from);
        }
    }

    /// Makes sure that the sequence can be rolled back to its present length with [`Self::roll_back`], for tokens that may be
    /// rejected. A recurrent state is copied when it is next written; KV caches are not copied, but sliding windows keep what they
    /// would drop.
    #[must_use]
    pub fn rollback_point(&mut self) -> RollbackPoint {
        self.rollback_len = Some(self.len);
        RollbackPoint { len: self.len, recurrent: self.layers.iter().map(|layer| layer.recurrent.clone()).collect() }
    }

    /// Removes the tokens from position `len` on, which must not lie before the rollback point. The states of a recurrence in
    /// between are not known: unless all tokens stay, a model with a recurrent layer goes back to the rollback point itself.
    /// Returns the new length of the sequence.
    ///
    /// # Panics
    /// When `len` lies before `point`, or `point` is not the latest one of this sequence.
    pub fn roll_back(&mut self, point: RollbackPoint, len: usize) -> usize {
        assert!(self.rollback_len == Some(point.len) && len >= point.len, "no rollback point for position {len}");
        let is_recurrent = point.recurrent.iter().any(Option::is_some);
        let len = if is_recurrent && len < self.len { point.len } else { len.min(self.len) };
        if len < self.len {
            for (layer, recurrent) in self.layers.iter_mut().zip(point.recurrent) {
                if let Some(cache) = &mut layer.cache {
                    assert!(cache.truncate(len), "the windows hold what position {len} sees");
                }
                layer.recurrent = recurrent;
            }
            self.len = len;
        }
        self.rollback_len = None;
        self.drop_unseen();
        len
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
        let fits = layers.iter_mut().all(|layer| {
            let recurs = layer.recurrent.as_mut().is_some_and(|recurrent| {
                // The only earlier state that is known is the first.
                *recurrent = Recurrent::new(recurrent.0.conv.len(), recurrent.0.state.len());
                true
            });
            (!recurs || len == 0) && layer.cache.as_mut().is_none_or(|cache| cache.truncate(len))
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
        self.layers.iter().all(|layer| {
            layer.recurrent.is_none() && layer.cache.as_ref().is_none_or(|cache| cache.spec().window.is_none())
        })
    }

    /// Bytes that a sequence of `len` tokens holds, whatever this one holds now.
    #[must_use]
    pub fn bytes_after(&self, len: usize) -> usize {
        let cached = |layer: &LayerState| layer.cache.as_ref().map_or(0, |cache| cache.bytes_after(len));
        self.layers.iter().map(|layer| cached(layer) + layer.recurrent_bytes()).sum()
    }

    /// Peak bytes of this sequence while it grows to `len` tokens, a few hundred at a time.
    #[must_use]
    pub fn bytes_at(&self, len: usize) -> usize {
        let cached = |layer: &LayerState| layer.cache.as_ref().map_or(0, |cache| cache.bytes_at(len));
        self.layers.iter().map(|layer| cached(layer) + layer.recurrent_bytes()).sum()
    }

    /// Calls `visit` with the address and the bytes of each piece of memory that this sequence holds. Clones share pieces,
    /// which then have the same address.
    pub fn visit_memory(&self, visit: &mut dyn FnMut(usize, usize)) {
        for layer in &self.layers {
            if let Some(cache) = &layer.cache {
                cache.visit_memory(visit);
            }
            if let Some(recurrent) = &layer.recurrent {
                visit(Arc::as_ptr(&recurrent.0).addr(), recurrent.bytes());
            }
        }
    }

    /// Bytes that this sequence holds, shared layers included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let cached = |layer: &LayerState| layer.cache.as_ref().map_or(0, |cache| cache.bytes());
        self.layers.iter().map(|layer| cached(layer) + layer.recurrent_bytes()).sum()
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
