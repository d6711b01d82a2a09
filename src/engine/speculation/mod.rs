//! Speculative decoding: tokens that may come next are drafted cheaply, and the model evaluates all of them in one pass.
//!
//! A pass with a few rows reads the weights once and takes little longer than a pass with one row. Each row's logits have the
//! same bits as in a pass of its own, and [`Generation::next`](super::Generation::next) chooses a token from them with the same
//! sampler state as without drafts. A drafted token is accepted if it is the token that was chosen. After the first one that is
//! not, the remaining rows are ignored. So the text is the same for every sampler, seed, constraint and draft; only the time
//! differs.
//!
//! To add a way of drafting: a file here with a [`Drafter`], and a line in [`Speculation::new`].

mod draft_length;
mod lookup;
mod model;
mod prediction;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::Error;
use crate::cpu::{PagePool, Prediction, Sequence, SequenceOptions};
use crate::kernels::Pool;
use crate::model::Model;
use crate::tokenizer::Tokenizer;
use draft_length::{AcceptanceRates, Forecast, PassTimes};

/// Settings of speculative decoding. By default there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpeculationOptions {
    /// Whether to draft what followed the same tokens earlier in prompt and answer.
    pub lookup: bool,
    /// A smaller model whose likeliest tokens are drafted; with [`Self::lookup`], only where the lookup finds nothing.
    pub model: Option<DraftModel>,
    /// The model's own layer that predicts further tokens (MTP); with the others, only where these draft nothing.
    pub own: Option<OwnLayer>,
    /// Maximum tokens of a draft; values above [`Self::LONGEST`] are treated as that.
    pub max_tokens: usize,
    /// Minimum tokens of a draft: drafted even if it is not expected to save time. A drafter may still find fewer.
    pub min_tokens: usize,
}

impl SpeculationOptions {
    /// The longest draft, in tokens.
    pub const LONGEST: usize = 256;

    /// Bytes that speculation takes besides the state of a text that fills the context: `empty` is an empty sequence of the
    /// model, with these options.
    pub(super) fn bytes(&self, empty: &Sequence, options: SequenceOptions) -> usize {
        let draft = |draft: &DraftModel| {
            let sequence = draft.0.decoder().sequence(options);
            sequence.bytes_at(options.context_length).saturating_add(sequence.rollback_bytes())
        };
        let is_on = self.lookup || self.model.is_some() || self.own.is_some();
        self.model.as_ref().map_or(0, draft).saturating_add(if is_on { empty.rollback_bytes() } else { 0 })
    }
}

impl Default for SpeculationOptions {
    fn default() -> Self {
        Self { lookup: false, model: None, own: None, max_tokens: 16, min_tokens: 0 }
    }
}

/// A model that drafts for another one with the same vocabulary.
#[derive(Clone)]
pub struct DraftModel(Arc<Model>);

impl DraftModel {
    /// A model that drafts for `model`.
    ///
    /// # Errors
    /// [`Error::DraftVocabulary`] when the vocabularies differ, [`Error::NoLogits`] when `draft` cannot generate text.
    pub fn new(draft: Arc<Model>, model: &Model) -> Result<Self, Error> {
        if !draft.decoder().has_logits() || !draft.decoder().is_causal() {
            return Err(Error::NoLogits);
        }
        check_same_vocabulary(draft.tokenizer(), model.tokenizer())?;
        Ok(Self(draft))
    }

    /// The draft model itself.
    #[must_use]
    pub fn model(&self) -> &Arc<Model> {
        &self.0
    }
}

impl std::fmt::Debug for DraftModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("DraftModel").finish_non_exhaustive()
    }
}

impl PartialEq for DraftModel {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for DraftModel {}

/// The layer of a model that predicts further tokens (MTP).
#[derive(Clone)]
pub struct OwnLayer(Arc<Prediction>);

impl OwnLayer {
    /// The layer of `model`.
    ///
    /// # Errors
    /// [`Error::NoPrediction`] when its file has none, or not all tensors of it in the right shapes.
    pub fn of(model: &Model) -> Result<Self, Error> {
        let found = model.prediction().map_err(|error| Error::NoPrediction { why: error.to_string() })?;
        Ok(Self(found.clone()))
    }

    /// Lets a sequence of the model keep what the layer needs, with memory from `pages`.
    pub(super) fn follow(&self, sequence: &mut Sequence, options: SequenceOptions, pages: &PagePool) {
        sequence.predict_with(&self.0, options, pages);
    }
}

impl std::fmt::Debug for OwnLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OwnLayer").finish_non_exhaustive()
    }
}

impl PartialEq for OwnLayer {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for OwnLayer {}

/// Fails if two vocabularies differ. One may have up to 1 % more tokens than the other, since some models pad their vocabulary.
fn check_same_vocabulary(draft: &Tokenizer, model: &Tokenizer) -> Result<(), Error> {
    let (draft, model) = (draft.vocab(), model.vocab());
    let differs = |what: String| Err(Error::DraftVocabulary { what });
    if draft.model != model.model {
        return differs(format!("a tokenizer of the kind {:?}, not {:?}", draft.model, model.model));
    }
    let text = |token: &[u8]| String::from_utf8_lossy(token).into_owned();
    let pairs = draft.tokens.iter().zip(&model.tokens).enumerate();
    if let Some((id, (a, b))) = pairs.into_iter().find(|(_, (a, b))| a != b) {
        return differs(format!("token {id} is {:?}, not {:?}", text(a), text(b)));
    }
    let (a, b) = (draft.tokens.len(), model.tokens.len());
    let longer = a.max(b);
    if a.min(b) + longer / 100 < longer {
        return differs(format!("{a} tokens, not {b}"));
    }
    Ok(())
}

/// A text for which a draft is wanted.
pub(super) struct DraftRequest<'t> {
    /// Identifies the text from pass to pass, so that drafters can keep a state for it.
    pub(super) text_id: u64,
    /// Stored states are used for texts with the same salt only.
    pub(super) salt: u64,
    /// Whether drafters may store the text's state for later texts.
    pub(super) store: bool,
    /// Prompt and answer so far; at least one token.
    pub(super) tokens: &'t [u32],
    /// How many of them, at the end, the next pass has to evaluate.
    pub(super) rows: usize,
    /// Maximum tokens of the draft.
    pub(super) max_tokens: usize,
    /// The model's state of the text, without its last `rows` tokens.
    pub(super) sequence: &'t mut Sequence,
}

/// How sure a drafter is of a token, from 0 to [`CONFIDENCES`] - 1. How often tokens of each confidence are accepted is
/// measured.
pub(super) type Confidence = usize;
/// Number of different [`Confidence`]s.
const CONFIDENCES: usize = 16;

/// Tokens that may come next in a text.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    /// The tokens. They are in the vocabulary.
    pub(super) tokens: Vec<u32>,
    /// For each token, how sure the drafter is of it if those before it are accepted.
    confidences: Vec<Confidence>,
    /// Index of the drafter.
    drafter: usize,
}

impl Draft {
    fn push(&mut self, token: u32, confidence: Confidence) {
        self.tokens.push(token);
        self.confidences.push(confidence.min(CONFIDENCES - 1));
    }

    fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
        self.confidences.truncate(len);
    }
}

/// A way of drafting.
trait Drafter: Send {
    /// The share of tokens of this confidence that is expected to be accepted before anything has been measured.
    fn default_rate(&self, confidence: Confidence) -> f64;

    /// Drafts up to [`DraftRequest::max_tokens`] tokens for each request whose draft is still empty.
    /// `worth(request, confidences, seconds)` says whether one more token of that request is expected to save time, given the
    /// confidences of its draft so far and the seconds that drafting the token takes. `evict()` frees memory of states that are
    /// stored for later; it returns false if there are none.
    fn draft(
        &mut self,
        pool: &Pool,
        requests: &mut [DraftRequest<'_>],
        drafts: &mut [Draft],
        worth: &mut dyn FnMut(usize, &[Confidence], f64) -> bool,
        evict: &mut dyn FnMut() -> bool,
    );

    /// Ends the texts whose ids are not among these.
    fn retain(&mut self, texts: &HashSet<u64>);

    /// Frees a state that is stored for later texts. Returns false if there is none.
    fn evict(&mut self) -> bool {
        false
    }

    /// Frees the states of the current texts, which get no more drafts from this drafter. Returns false if there are none.
    fn release(&mut self) -> bool {
        false
    }
}

/// The drafters, and what has been measured of them.
pub(super) struct Speculation {
    drafters: Vec<Box<dyn Drafter>>,
    /// Acceptance rates of each drafter over all texts. A new text starts with these.
    rates: Vec<AcceptanceRates>,
    /// Acceptance rates of each drafter, by text.
    text_rates: HashMap<u64, Vec<AcceptanceRates>>,
    pass_times: PassTimes,
    max_tokens: usize,
    min_tokens: usize,
}

impl Speculation {
    /// The drafters that the options ask for; `None` if they ask for none. The drafts are for a model with `vocab_size` tokens
    /// whose sequences have the options `sequence`. States come from the pool `pages`.
    pub(super) fn new(
        options: &SpeculationOptions,
        vocab_size: usize,
        sequence: SequenceOptions,
        pages: &PagePool,
    ) -> Option<Self> {
        let mut drafters: Vec<Box<dyn Drafter>> = Vec::new();
        if options.lookup {
            drafters.push(Box::new(lookup::Lookup::default()));
        }
        if let Some(draft) = &options.model {
            drafters.push(Box::new(model::ModelDrafter::new(draft.0.clone(), vocab_size, sequence, pages)));
        }
        if let Some(own) = &options.own {
            drafters.push(Box::new(prediction::PredictionDrafter::new(own.0.clone(), vocab_size)));
        }
        if drafters.is_empty() || options.max_tokens == 0 {
            return None;
        }
        let rates = drafters.iter().map(|drafter| AcceptanceRates::new(|c| drafter.default_rate(c))).collect();
        let max_tokens = options.max_tokens.min(SpeculationOptions::LONGEST);
        let min_tokens = options.min_tokens.min(max_tokens);
        let (text_rates, pass_times) = (HashMap::new(), PassTimes::default());
        Some(Self { drafters, rates, text_rates, pass_times, max_tokens, min_tokens })
    }

    /// A draft for each text of the next pass; an empty one where none is expected to save time. `evict()` frees memory of states
    /// that others have stored in the pool of pages; it returns false if there are none.
    pub(super) fn draft(
        &mut self,
        pool: &Pool,
        requests: &mut [DraftRequest<'_>],
        evict: &mut dyn FnMut() -> bool,
    ) -> Vec<Draft> {
        let mut drafts = vec![Draft::default(); requests.len()];
        for request in requests.iter_mut() {
            request.max_tokens = request.max_tokens.min(self.max_tokens);
        }
        let rows = requests.iter().map(|request| request.rows).sum();
        let mut forecast = Forecast::new(&self.pass_times, rows, requests.len());
        for (index, drafter) in self.drafters.iter_mut().enumerate() {
            let text_rates = &mut self.text_rates;
            let mut rates_of = |id: u64| text_rates.entry(id).or_insert_with(|| self.rates.clone())[index].clone();
            let rates: Vec<AcceptanceRates> = requests.iter().map(|request| rates_of(request.text_id)).collect();
            let missing: Vec<bool> = drafts.iter().map(|draft| draft.tokens.is_empty()).collect();
            // While drafting, this counts tokens with their average chances. The lengths are decided afterwards, with all
            // confidences known.
            let mut trial = forecast.clone();
            let mut refused = vec![false; requests.len()];
            let min_tokens = self.min_tokens;
            let mut worth = |i: usize, confidences: &[Confidence], seconds: f64| {
                let worth = confidences.len() < min_tokens
                    || trial.add_if_worth(rates[i].probability(confidences), &rates[i], seconds);
                refused[i] |= !worth;
                worth
            };
            drafter.draft(pool, requests, &mut drafts, &mut worth, evict);
            for (i, draft) in drafts.iter_mut().enumerate().filter(|(i, _)| missing[*i]) {
                draft.drafter = index;
                draft.truncate(requests[i].max_tokens);
                let len = forecast.add_best(&rates[i], &draft.confidences, min_tokens);
                if let Some(all) = text_rates.get_mut(&requests[i].text_id) {
                    // A rate that has become too low to be tried would never be measured again: it slowly returns to its default.
                    let next = draft.confidences.get(len).copied();
                    if next.is_some() || refused[i] {
                        all[index].drift(next);
                    }
                }
                draft.truncate(len);
            }
        }
        drafts
    }

    /// Learns that the first `accepted` tokens of a text's draft were accepted and, if `rejected`, that the next one was not.
    pub(super) fn learn(&mut self, text_id: u64, draft: &Draft, accepted: usize, rejected: bool) {
        let own = self.text_rates.get_mut(&text_id).map(|all| &mut all[draft.drafter]);
        for rates in own.into_iter().chain(self.rates.get_mut(draft.drafter)) {
            rates.learn(&draft.confidences, accepted, rejected);
        }
    }

    /// Learns how long a pass with `rows` rows took.
    pub(super) fn learn_time(&mut self, rows: usize, took: Duration) {
        self.pass_times.learn(rows, took.as_secs_f64());
    }

    /// Ends the texts whose ids are not among these.
    pub(super) fn retain(&mut self, texts: &HashSet<u64>) {
        self.text_rates.retain(|id, _| texts.contains(id));
        self.drafters.iter_mut().for_each(|drafter| drafter.retain(texts));
    }

    /// Frees a state that is stored for later texts. Returns false if there is none.
    pub(super) fn evict(&mut self) -> bool {
        self.drafters.iter_mut().any(|drafter| drafter.evict())
    }

    /// Frees the states of the current texts, where drafters keep some in the pool. Returns false if there are none.
    pub(super) fn release(&mut self) -> bool {
        self.drafters.iter_mut().any(|drafter| drafter.release())
    }
}
