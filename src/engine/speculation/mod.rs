//! Speculation: tokens that may come next are drafted cheaply, and the model evaluates all of them in one pass.
//!
//! A pass with a few rows reads the weights once and takes little longer than one with a single row. Each row's logits have the bits
//! that they would have alone, and [`Generation::next`](super::Generation::next) takes its token by them with the state that it would
//! have alone: a drafted token is kept where it is the one that was taken, and the rows after the first that is not are never looked
//! at. So the text is the same for any sampler, seed, constraint and draft; only the time differs.
//!
//! A [`Drafter`] is a file here, and an entry in [`Speculation::new`].

mod lookup;
mod model;
mod worth;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::Error;
use crate::cpu::SequenceOptions;
use crate::kernels::Pool;
use crate::model::Model;
use crate::tokenizer::Tokenizer;
use worth::{Costs, Forecast, Odds};

/// Whether, and how, answers are drafted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpeculationOptions {
    /// Drafts what followed the same tokens earlier in prompt and answer.
    pub lookup: bool,
    /// Drafts what a smaller model finds likeliest; with [`Self::lookup`], where that finds nothing.
    pub model: Option<DraftModel>,
    /// Most tokens of a draft.
    pub most: usize,
    /// Tokens that are drafted whether that is worth its time or not, as far as a drafter has as many.
    pub least: usize,
}

impl Default for SpeculationOptions {
    fn default() -> Self {
        Self { lookup: false, model: None, most: 16, least: 0 }
    }
}

/// A model that drafts for another one, whose vocabulary it has.
#[derive(Clone)]
pub struct DraftModel(Arc<Model>);

impl DraftModel {
    /// Lets `draft` draft for `model`.
    ///
    /// # Errors
    /// [`Error::DraftVocabulary`] when a token of both is not the same text in both, [`Error::NoLogits`] when `draft` predicts none.
    pub fn new(draft: Arc<Model>, model: &Model) -> Result<Self, Error> {
        if !draft.decoder().has_logits() || !draft.decoder().is_causal() {
            return Err(Error::NoLogits);
        }
        same_vocabulary(draft.tokenizer(), model.tokenizer())?;
        Ok(Self(draft))
    }

    /// The model that drafts.
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

/// Fails where two tokenizers differ. One may have more tokens than the other: some families pad theirs.
fn same_vocabulary(draft: &Tokenizer, model: &Tokenizer) -> Result<(), Error> {
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
    let most = a.max(b);
    if a.min(b) + most / 100 < most {
        return differs(format!("{a} tokens, not {b}"));
    }
    Ok(())
}

/// A text that is to be gone on with.
pub(super) struct Text<'t> {
    /// Which one: drafters remember it.
    pub(super) id: u64,
    /// What drafters remember of it serves texts of the same salt alone.
    pub(super) salt: u64,
    /// Drafters may keep its state for later texts.
    pub(super) store: bool,
    /// Prompt and answer; at least one token.
    pub(super) tokens: &'t [u32],
    /// Those of them, at the end, that the next pass evaluates.
    pub(super) rows: usize,
    /// Most tokens to draft.
    pub(super) most: usize,
}

/// How sure a drafter is of a token, from 0 to [`CONFIDENCES`] - 1; what that is worth is learned.
pub(super) type Confidence = usize;
/// Number of steps of a [`Confidence`].
const CONFIDENCES: usize = 16;

/// What may come next in a text.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    /// The tokens. They are in the vocabulary.
    pub(super) tokens: Vec<u32>,
    /// How sure of each, given those before it.
    confidences: Vec<Confidence>,
    /// Whose they are.
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

/// What drafts tokens.
trait Drafter: Send {
    /// The share of right tokens among those of a confidence, before anything is known of a text.
    fn usual(&self, confidence: Confidence) -> f64;

    /// Drafts up to [`Text::most`] tokens for each text whose draft is empty. `worth` says of a text by its index, with the
    /// confidences so far, whether one more token would be worth the time of drafting it.
    fn draft(
        &mut self,
        pool: &Pool,
        texts: &[Text<'_>],
        drafts: &mut [Draft],
        worth: &mut dyn FnMut(usize, &[Confidence], f64) -> bool,
    );

    /// Forgets the texts that are not among these.
    fn retain(&mut self, texts: &HashSet<u64>);

    /// Lets go of a state that no text needs now. False where there is none.
    fn evict(&mut self) -> bool {
        false
    }

    /// As [`Sequence::visit_memory`](crate::cpu::Sequence::visit_memory), of all states.
    fn visit_memory(&self, _visit: &mut dyn FnMut(usize, usize)) {}

    /// Bytes that the state of a text of so many tokens takes.
    fn bytes_at(&self, _len: usize) -> usize {
        0
    }
}

/// Drafters, and what is known of their worth.
pub(super) struct Speculation {
    drafters: Vec<Box<dyn Drafter>>,
    /// Of all texts, for each drafter: what a new text begins with.
    odds: Vec<Odds>,
    /// Of each text.
    texts: HashMap<u64, Vec<Odds>>,
    costs: Costs,
    most: usize,
    least: usize,
}

impl Speculation {
    /// What the options ask for; `None` when that is nothing. Drafts are for a model of `vocab_size` tokens, whose sequences are
    /// made with `sequence`.
    pub(super) fn new(options: &SpeculationOptions, vocab_size: usize, sequence: SequenceOptions) -> Option<Self> {
        let mut drafters: Vec<Box<dyn Drafter>> = Vec::new();
        if options.lookup {
            drafters.push(Box::new(lookup::Lookup::default()));
        }
        if let Some(draft) = &options.model {
            drafters.push(Box::new(model::ModelDrafter::new(draft.0.clone(), vocab_size, sequence)));
        }
        if drafters.is_empty() || options.most == 0 {
            return None;
        }
        let odds = drafters.iter().map(|drafter| Odds::new(|confidence| drafter.usual(confidence))).collect();
        let (most, least) = (options.most, options.least.min(options.most));
        Some(Self { drafters, odds, texts: HashMap::new(), costs: Costs::default(), most, least })
    }

    /// Drafts for the texts that one pass goes on with.
    pub(super) fn draft(&mut self, pool: &Pool, texts: &[Text<'_>]) -> Vec<Draft> {
        let mut drafts = vec![Draft::default(); texts.len()];
        let texts: Vec<Text<'_>> = texts.iter().map(|text| Text { most: text.most.min(self.most), ..*text }).collect();
        let rows = texts.iter().map(|text| text.rows).sum();
        let mut forecast = Forecast::new(&self.costs, rows, texts.len());
        for (index, drafter) in self.drafters.iter_mut().enumerate() {
            let known = &mut self.texts;
            let mut odds = |id: u64| known.entry(id).or_insert_with(|| self.odds.clone())[index].clone();
            let own: Vec<Odds> = texts.iter().map(|text| odds(text.id)).collect();
            let missing: Vec<bool> = drafts.iter().map(|draft| draft.tokens.is_empty()).collect();
            // What each draft adds to the rows is settled when all are there.
            let mut trial = forecast.clone();
            let mut refused = vec![false; texts.len()];
            let least = self.least;
            drafter.draft(pool, &texts, &mut drafts, &mut |text, confidences, seconds| {
                let worth =
                    confidences.len() < least || trial.is_worth(own[text].reach(confidences), &own[text], seconds);
                refused[text] |= !worth;
                worth
            });
            for (i, draft) in drafts.iter_mut().enumerate().filter(|(i, _)| missing[*i]) {
                draft.drafter = index;
                draft.truncate(texts[i].most);
                let len = forecast.best(&own[i], &draft.confidences, least);
                if let Some(all) = known.get_mut(&texts[i].id) {
                    // What is never tried is never learned: it becomes usual again.
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

    /// Learns that the first `right` tokens of a text's draft were right, and, where `judged`, that the next one was not.
    pub(super) fn learn(&mut self, text: u64, draft: &Draft, right: usize, judged: bool) {
        let own = self.texts.get_mut(&text).map(|all| &mut all[draft.drafter]);
        for odds in own.into_iter().chain(self.odds.get_mut(draft.drafter)) {
            odds.learn(&draft.confidences, right, judged);
        }
    }

    /// Learns how long a pass with so many rows took.
    pub(super) fn timed(&mut self, rows: usize, took: Duration) {
        self.costs.learn(rows, took.as_secs_f64());
    }

    /// Forgets the texts that are not among these.
    pub(super) fn retain(&mut self, texts: &HashSet<u64>) {
        self.texts.retain(|id, _| texts.contains(id));
        self.drafters.iter_mut().for_each(|drafter| drafter.retain(texts));
    }

    /// Lets go of a state that no text needs now. False where there is none.
    pub(super) fn evict(&mut self) -> bool {
        self.drafters.iter_mut().any(|drafter| drafter.evict())
    }

    /// The memory of all states, as [`Sequence::visit_memory`](crate::cpu::Sequence::visit_memory) tells it.
    pub(super) fn visit_memory(&self, visit: &mut dyn FnMut(usize, usize)) {
        self.drafters.iter().for_each(|drafter| drafter.visit_memory(visit));
    }

    /// Bytes that the states of a text of so many tokens take.
    pub(super) fn bytes_at(&self, len: usize) -> usize {
        self.drafters.iter().map(|drafter| drafter.bytes_at(len)).sum()
    }
}
