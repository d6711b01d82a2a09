//! The state of one sequence: KV caches and states of recurrences.

use std::sync::Arc;

use super::kv::{Limit, Pages};
use super::selective_scan::scan_state_len;
use super::{CausalConv, KvCache, KvSpec, KvType, OutOfPages, PagePool, RecurrenceSpec, Run};
use crate::kernels::lines::numbers_mut;
use crate::network::{Mixer, ModelSpec};

/// The state of one sequence: a cache or a recurrent state for each layer.
///
/// Cloning is cheap: the clone shares the pages of all layers until one of the two writes to them.
#[derive(Clone)]
pub struct Sequence {
    pub(super) len: usize,
    pub(super) context_length: usize,
    /// The first position of the second of two texts.
    pub(super) second_text: usize,
    pub(super) layers: Vec<LayerState>,
    /// The length that the sequence may still be rolled back to: sliding windows keep what is seen from there.
    rollback_len: Option<usize>,
    /// What is kept to predict further tokens, if anything.
    pub(super) prediction: Option<Box<PredictionState>>,
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

/// The state of one layer: either, both or nothing.
#[derive(Clone, Default)]
pub(super) struct LayerState {
    /// Keys and values.
    pub(super) cache: Option<KvCache>,
    /// What a recurrence carries on.
    pub(super) recurrent: Option<Recurrent>,
}

/// The state of a recurrence: no page before the first token, then one, shared by clones until one of them is advanced.
#[derive(Clone)]
pub(super) struct Recurrent {
    pages: Pages,
    /// Elements of both parts of a [`Memory`].
    lens: (usize, usize),
}

/// The state of a recurrence.
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

    /// Takes a page of its own.
    fn reserve(&mut self, limit: Limit) -> Result<(), OutOfPages> {
        if self.pages.len() == 0 { self.pages.push(limit) } else { self.pages.make_own(0, limit) }
    }

    pub(super) fn pages(&self) -> &Pages {
        &self.pages
    }

    pub(super) fn pages_mut(&mut self) -> &mut Pages {
        &mut self.pages
    }

    /// The state for writing; it is copied first if others hold it, too.
    pub(super) fn writable(&mut self) -> Memory<'_> {
        // There is no error without a limit.
        let _ = self.reserve(Limit::None);
        let (conv, state) = self.lens;
        let page = self.pages.own(0).unwrap_or_default();
        let (conv, state) = numbers_mut(&mut page[..4 * (conv + state)]).split_at_mut(conv);
        Memory { conv, state }
    }
}

impl LayerState {
    /// What a layer with this mixer starts with, in a model whose residual stream has `cols` elements.
    fn start(mixer: &Mixer, cols: usize, options: SequenceOptions, pool: &PagePool) -> Self {
        let cached = |spec: KvSpec| Self { cache: Some(KvCache::within(pool, spec)), recurrent: None };
        let carried = |conv, state| Self { cache: None, recurrent: Some(Recurrent::new(pool, conv, state)) };
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
                cached(KvSpec { heads: 1, k_dim: spec.key_length(), v_dim: spec.kv_rank, ty, window: None })
            }
            Mixer::DeltaNet(spec) => recurrent(spec.into(), spec.taps),
            Mixer::KimiDelta(spec) => recurrent(spec.into(), spec.taps),
            Mixer::Mamba1(spec) => carried(CausalConv::state_len_of(spec.channels, spec.taps), scan_state_len(spec)),
            Mixer::Mamba2(spec) => recurrent(spec.into(), spec.taps),
            Mixer::ShortConv(spec) => carried(CausalConv::state_len_of(cols, spec.taps), 0),
            Mixer::AttentionAndMamba2(attention, mamba) => Self {
                recurrent: Self::start(&Mixer::Mamba2(*mamba), cols, options, pool).recurrent,
                ..Self::start(&Mixer::Attention(attention.clone()), cols, options, pool)
            },
        }
    }
}

impl Sequence {
    /// An empty sequence of a model that this describes, whose memory comes from `pool`.
    #[must_use]
    pub fn new(model: &ModelSpec, options: SequenceOptions, pool: &PagePool) -> Self {
        let start = |mixer| LayerState::start(mixer, model.embedding_length, options, pool);
        let layers = model.layers.iter().map(|layer| start(&layer.mixer)).collect();
        let context_length = options.context_length;
        Self { len: 0, context_length, second_text: usize::MAX, layers, rollback_len: None, prediction: None }
    }

    /// A sequence of a model without layers.
    #[cfg(test)]
    pub(crate) fn without_layers() -> Self {
        Self {
            len: 0,
            context_length: 0,
            second_text: usize::MAX,
            layers: vec![],
            rollback_len: None,
            prediction: None,
        }
    }

    /// Says that from `position` on the sequence is the second of two texts, for models that tell them apart by types of
    /// tokens.
    pub fn set_second_text(&mut self, position: usize) {
        self.second_text = position;
    }

    /// Takes memory of its own for `n` more tokens, so that a forward pass over them takes none. Without it, a forward pass
    /// takes what it needs, whatever the pool's budget.
    ///
    /// # Errors
    /// When the pool's budget is used up. The sequence is then as it was.
    pub fn reserve(&mut self, n: usize) -> Result<(), OutOfPages> {
        if n == 0 {
            return Ok(());
        }
        let reserved = self.layers.iter_mut().try_for_each(|layer| {
            layer.cache.as_mut().map_or(Ok(()), |cache| cache.reserve(n, Limit::Budget))?;
            layer.recurrent.as_mut().map_or(Ok(()), |recurrent| recurrent.reserve(Limit::Budget))
        });
        let reserved = reserved.and_then(|()| self.reserve_draft(n));
        if reserved.is_err() {
            self.unreserve();
        }
        reserved
    }

    /// Gives back memory that was reserved and holds no token yet.
    pub(super) fn unreserve(&mut self) {
        let is_empty = self.len == 0;
        if let Some(state) = &mut self.prediction {
            state.sequence.unreserve();
        }
        for layer in &mut self.layers {
            if let Some(cache) = &mut layer.cache {
                cache.unreserve();
            }
            if let Some(recurrent) = layer.recurrent.as_mut().filter(|_| is_empty) {
                recurrent.pages.truncate(0);
            }
        }
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
        let fits = self.layers.iter().all(|layer| {
            // The only earlier state of a recurrence that is known is the first.
            (layer.recurrent.is_none() || len == 0) && layer.cache.as_ref().is_none_or(|cache| cache.can_truncate(len))
        });
        if !fits {
            return false;
        }
        self.len = len;
        for layer in &mut self.layers {
            if let Some(cache) = &mut layer.cache {
                cache.truncate(len);
            }
            if let Some(recurrent) = &mut layer.recurrent {
                recurrent.pages.truncate(0);
            }
        }
        // Other tokens are noticed when they come.
        if let Some(state) = self.prediction.as_mut().filter(|_| len == 0) {
            state.clear(0);
        }
        true
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
        let own = self.sum(|cache| cache.bytes_after(len), |recurrent| recurrent.pages.page_bytes());
        own.saturating_add(self.predicting(|sequence| sequence.bytes_after(len)))
    }

    /// Peak bytes of this sequence while it grows to `len` tokens, up to 512 at a time.
    #[must_use]
    pub fn bytes_at(&self, len: usize) -> usize {
        let own = self.sum(|cache| cache.bytes_at(len), |recurrent| recurrent.pages.page_bytes());
        own.saturating_add(self.predicting(|sequence| sequence.bytes_at(len)))
    }

    /// Bytes that a [rollback point](Self::rollback_point) holds besides the sequence, once that has grown: its recurrent states.
    #[must_use]
    pub fn rollback_bytes(&self) -> usize {
        self.sum(|_| 0, |recurrent| recurrent.pages.page_bytes())
    }

    /// Bytes that this sequence has to take from its pool to grow to `len` tokens: those that it lacks, and copies of pages
    /// that others hold as well.
    #[must_use]
    pub fn bytes_to_take(&self, len: usize) -> usize {
        let lacking = self.bytes_at(len).saturating_sub(self.bytes());
        let copy = |recurrent: &Recurrent| if recurrent.pages.is_shared(0) { recurrent.pages.page_bytes() } else { 0 };
        let predicting = self.predicting(|sequence| sequence.sum(KvCache::bytes_to_copy, copy));
        lacking + self.sum(KvCache::bytes_to_copy, copy) + predicting
    }

    /// Bytes that this sequence holds, including shared pages.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let own = self.sum(KvCache::bytes, |recurrent| recurrent.pages.bytes());
        own.saturating_add(self.predicting(|sequence| sequence.bytes()))
    }

    /// A number of the entries for predictions; 0 where there are none.
    fn predicting(&self, of: impl Fn(&Self) -> usize) -> usize {
        self.prediction.as_ref().map_or(0, |state| of(&state.sequence))
    }

    /// Whether the sequence keeps what is needed to predict further tokens.
    #[must_use]
    pub fn predicts(&self) -> bool {
        self.prediction.is_some()
    }

    fn sum(&self, cache: impl Fn(&KvCache) -> usize, recurrent: impl Fn(&Recurrent) -> usize) -> usize {
        let cached = |layer: &LayerState| layer.cache.as_ref().map_or(0, &cache);
        let carried = |layer: &LayerState| layer.recurrent.as_ref().map_or(0, &recurrent);
        self.layers.iter().flat_map(|layer| [cached(layer), carried(layer)]).fold(0, usize::saturating_add)
    }
}

/// A layer that makes entries of hidden states.
pub(super) trait ReadHiddenStates: Send + Sync {
    /// Makes entries of all waiting hidden states whose next tokens are known.
    fn read_waiting(&self, run: Run<'_>, state: &mut PredictionState);
}

/// The state of a layer that predicts further tokens ([`Prediction`](super::Prediction)). It has an entry (a key and a value) for each position from `base` on whose
/// hidden state and next token it has seen.
///
/// It goes by the tokens that it is given, not by the length of the sequence: after a rejected draft, the hidden states of the
/// tokens that were accepted stay, also where the sequence itself had to go back further.
#[derive(Clone)]
pub(super) struct PredictionState {
    pub(super) layer: Arc<dyn ReadHiddenStates>,
    /// Elements of a hidden state.
    cols: usize,
    /// The entries; position 0 of this is `base`.
    pub(super) sequence: Sequence,
    /// The first position with an entry. It is not 0 if the hidden states before it were never seen (a session that was restored).
    pub(super) base: usize,
    /// The tokens from `base` on, at least those that entries are made of.
    pub(super) tokens: Vec<u32>,
    /// Hidden states after the norm, `[positions, embedding]`, of the positions behind the last entry.
    pub(super) hidden: Vec<f32>,
    /// Number of entries before those of a draft.
    pub(super) text_entries: Option<usize>,
}

impl PredictionState {
    /// The state of `layer`, with hidden states of `cols` elements and `sequence`, which is empty, for its entries.
    pub(super) fn new(layer: Arc<dyn ReadHiddenStates>, cols: usize, sequence: Sequence) -> Self {
        Self { layer, cols, sequence, base: 0, tokens: Vec::new(), hidden: Vec::new(), text_entries: None }
    }

    /// The first position from `base` on whose hidden state is not known, counted from `base`.
    fn known(&self) -> usize {
        self.sequence.len() + self.hidden.len() / self.cols
    }

    /// Number of entries that can be made of the waiting hidden states.
    pub(super) fn readable(&self) -> usize {
        self.known().min(self.tokens.len().saturating_sub(1)) - self.sequence.len()
    }

    /// Forgets all, and begins at position `base`.
    fn clear(&mut self, base: usize) {
        self.sequence.truncate(0);
        self.tokens.clear();
        self.hidden.clear();
        self.text_entries = None;
        self.base = base;
    }

    /// Forgets the tokens from the `len`-th after `base` on. The hidden state of the last one that stays is lost if it has become
    /// an entry: zeros stand for it, which can only make drafts worse.
    fn truncate(&mut self, len: usize) {
        if len >= self.tokens.len() {
            return;
        }
        let cols = self.cols;
        self.tokens.truncate(len);
        if self.sequence.len() < len {
            self.hidden.truncate((len - self.sequence.len()) * cols);
            return;
        }
        self.sequence.truncate(len.saturating_sub(1));
        self.hidden.clear();
        self.hidden.resize(len.min(1) * cols, 0.0);
    }

    /// Takes the hidden states `rows`, `[tokens, embedding]`, of `tokens` from position `first` on.
    pub(super) fn append(&mut self, first: usize, tokens: &[u32], rows: &[f32]) {
        self.end_draft();
        if first < self.base || self.base + self.known() < first || self.tokens.is_empty() {
            self.clear(first);
        }
        let cols = self.cols;
        for (at, (&token, row)) in (first - self.base..).zip(tokens.iter().zip(rows.chunks_exact(cols))) {
            if self.tokens.get(at).is_some_and(|&known| known != token) {
                self.truncate(at);
            }
            if at == self.tokens.len() {
                self.tokens.push(token);
            }
            if at == self.known() {
                self.hidden.extend_from_slice(row);
            }
        }
    }

    /// Removes the entries of a draft.
    fn end_draft(&mut self) {
        let Some(entries) = self.text_entries.take() else { return };
        self.sequence.truncate(entries);
        self.tokens.truncate(entries + 1);
        self.hidden.clear();
    }
}

impl Sequence {
    /// Whether the token after `text` can be predicted: the hidden states of all tokens but the last are known. What was
    /// computed for another text is forgotten.
    pub fn can_predict(&mut self, text: &[u32]) -> bool {
        let Some(state) = self.prediction.as_deref_mut() else { return false };
        state.end_draft();
        let own = text.get(state.base..).unwrap_or_default();
        let same = state.tokens.iter().zip(own).take_while(|(a, b)| a == b).count();
        state.truncate(same);
        state.known() + 1 == own.len() && !state.hidden.is_empty()
    }

    /// Takes memory for a draft of `n` tokens after `text`.
    ///
    /// # Errors
    /// When the pool's budget is used up.
    pub fn reserve_draft(&mut self, n: usize) -> Result<(), OutOfPages> {
        self.prediction.as_deref_mut().map_or(Ok(()), |state| {
            let waiting = state.hidden.len() / state.cols;
            state.sequence.reserve(waiting + n)
        })
    }

    /// Forgets the tokens of a draft.
    pub fn end_draft(&mut self) {
        if let Some(state) = self.prediction.as_deref_mut() {
            state.end_draft();
        }
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
    /// The first token that is computed to the end: all of them where the sequence predicts further tokens.
    pub(super) fn first_computed(&self) -> usize {
        if self.sequence.predicts() { 0 } else { self.first_wanted() }
    }

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
    /// Context length of the sequence. This is no limit: models with other rotary frequencies for long contexts choose them by
    /// this length, for the whole sequence.
    pub context_length: usize,
}
