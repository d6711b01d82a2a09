//! What a model remembers of one sequence.

use super::kv::{Limit, Pages};
use super::{CausalConv, KvCache, KvSpec, KvType, OutOfPages, PagePool, RecurrenceSpec};
use crate::kernels::lines::numbers_mut;
use crate::network::{Mixer, ModelSpec};

/// The state of one sequence: a cache or a recurrent state for each layer.
///
/// A clone is cheap: it shares the pages of all layers until one of both writes to one.
#[derive(Clone)]
pub struct Sequence {
    pub(super) len: usize,
    pub(super) context_length: usize,
    pub(super) layers: Vec<LayerState>,
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

/// The state of a recurrence: no page before the first token, then one, shared by clones until one of them goes on.
#[derive(Clone)]
pub(super) struct Recurrent {
    pages: Pages,
    /// Elements of both parts of a [`Memory`].
    lens: (usize, usize),
}

/// The numbers that a recurrence carries from position to position.
pub(super) struct Memory<'a> {
    /// The latest inputs of its convolution.
    pub(super) conv: &'a mut [f32],
    /// Its state.
    pub(super) state: &'a mut [f32],
}

impl Recurrent {
    fn new(pool: &PagePool, conv: usize, state: usize) -> Self {
        Self { pages: Pages::new(pool, 4 * (conv + state)), lens: (conv, state) }
    }

    /// Has a page of its own.
    fn reserve(&mut self, limit: Limit) -> Result<(), OutOfPages> {
        if self.pages.len() == 0 { self.pages.push(limit) } else { self.pages.make_own(0, limit) }
    }

    pub(super) fn pages(&self) -> &Pages {
        &self.pages
    }

    pub(super) fn pages_mut(&mut self) -> &mut Pages {
        &mut self.pages
    }

    /// This sequence's own copy.
    pub(super) fn writable(&mut self) -> Memory<'_> {
        // Without a limit there is no error.
        let _ = self.reserve(Limit::None);
        let (conv, state) = self.lens;
        let page = self.pages.own(0).unwrap_or_default();
        let (conv, state) = numbers_mut(&mut page[..4 * (conv + state)]).split_at_mut(conv);
        Memory { conv, state }
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

    fn start(&self, pool: &PagePool) -> LayerState {
        match self {
            Self::None => LayerState::None,
            Self::Cache(spec) => LayerState::Cache(KvCache::within(pool, spec.clone())),
            Self::Recurrent { conv, state } => LayerState::Recurrent(Recurrent::new(pool, *conv, *state)),
        }
    }
}

impl Sequence {
    /// An empty sequence of a model that this describes, whose memory comes from `pool`.
    #[must_use]
    pub fn new(model: &ModelSpec, options: SequenceOptions, pool: &PagePool) -> Self {
        let start = |mixer| StateSpec::of(mixer, model.embedding_length, options).start(pool);
        let layers = model.layers.iter().map(|layer| start(&layer.mixer)).collect();
        Self { len: 0, context_length: options.context_length, layers }
    }

    /// Has memory of its own for `n` more tokens, of which a forward pass then takes none. Without it, a forward pass takes
    /// what it needs, whatever the pool's budget.
    ///
    /// # Errors
    /// When the pool's budget is used up. Then the sequence is what it was.
    pub fn reserve(&mut self, n: usize) -> Result<(), OutOfPages> {
        if n == 0 {
            return Ok(());
        }
        let reserved = self.layers.iter_mut().try_for_each(|layer| match layer {
            LayerState::None => Ok(()),
            LayerState::Cache(cache) => cache.reserve(n, Limit::Budget),
            LayerState::Recurrent(recurrent) => recurrent.reserve(Limit::Budget),
        });
        if reserved.is_err() {
            self.unreserve();
        }
        reserved
    }

    /// Lets go of memory that was reserved and holds no token yet.
    pub(super) fn unreserve(&mut self) {
        for layer in &mut self.layers {
            match layer {
                LayerState::None => {}
                LayerState::Cache(cache) => cache.unreserve(),
                LayerState::Recurrent(recurrent) if self.len == 0 => recurrent.pages.truncate(0),
                LayerState::Recurrent(_) => {}
            }
        }
    }

    /// Counts `n` tokens as seen, and drops what no later one can see.
    pub(super) fn advance(&mut self, n: usize) {
        self.len += n;
        for layer in &mut self.layers {
            if let LayerState::Cache(cache) = layer {
                cache.drop_unseen();
            }
        }
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
        let fits = self.layers.iter().all(|layer| match layer {
            LayerState::None => true,
            LayerState::Cache(cache) => cache.can_truncate(len),
            // The only earlier state that is known is the first.
            LayerState::Recurrent(_) => len == 0,
        });
        if !fits {
            return false;
        }
        self.len = len;
        for layer in &mut self.layers {
            match layer {
                LayerState::None => {}
                LayerState::Cache(cache) => drop(cache.truncate(len)),
                LayerState::Recurrent(recurrent) => recurrent.pages.truncate(0),
            }
        }
        true
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
        self.sum(|cache| cache.bytes_after(len), |recurrent| recurrent.pages.page_bytes())
    }

    /// Most bytes that this sequence would hold on its way to `len` tokens, taken up to 512 at a time.
    #[must_use]
    pub fn bytes_at(&self, len: usize) -> usize {
        self.sum(|cache| cache.bytes_at(len), |recurrent| recurrent.pages.page_bytes())
    }

    /// Bytes that this sequence has to take from its pool on its way to `len` tokens: those that it lacks, and copies of
    /// pages that others hold as well.
    #[must_use]
    pub fn bytes_to_take(&self, len: usize) -> usize {
        let lacking = self.bytes_at(len).saturating_sub(self.bytes());
        let copy = |recurrent: &Recurrent| if recurrent.pages.is_shared(0) { recurrent.pages.page_bytes() } else { 0 };
        lacking + self.sum(KvCache::bytes_to_copy, copy)
    }

    /// Bytes that this sequence holds, pages that it shares included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.sum(KvCache::bytes, |recurrent| recurrent.pages.bytes())
    }

    fn sum(&self, cache: impl Fn(&KvCache) -> usize, recurrent: impl Fn(&Recurrent) -> usize) -> usize {
        let bytes = |layer: &LayerState| match layer {
            LayerState::None => 0,
            LayerState::Cache(own) => cache(own),
            LayerState::Recurrent(own) => recurrent(own),
        };
        self.layers.iter().map(bytes).fold(0, usize::saturating_add)
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
    /// Types of cached keys and values.
    pub kv_type: KvType,
    /// Positions that the sequence may come to hold. No limit: it says which frequencies rotate the sequence, in
    /// models that have others for long contexts, and those of the whole sequence are the same.
    pub context_length: usize,
}
