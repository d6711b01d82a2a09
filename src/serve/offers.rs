//! The models that a server offers: loaded at the start or on demand, within a memory limit.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::blocking::blocking;
use super::failure::Failure;
use super::fields::Fields;
use super::keep_alive::KeepAlive;
use super::models::{Profile, ServedModel, now};
use crate::engine::prompter::names_tools;
use crate::engine::{BatcherStatus, ThinkingStyle};
use crate::gguf::{Metadata, Reader, Value, keys};
use crate::modelfile::Setup;
use crate::quantize::file_type_name_of;
use crate::stores::Located;

/// Minimum bytes for a model's caches.
const LEAST_CACHE: u64 = 64 << 20;
/// How often a model on demand is looked at while it is in use.
const LOOK: Duration = Duration::from_millis(50);

/// Loads a model, with this many bytes for its caches; or returns the reason why it cannot.
pub type Load = Box<dyn Fn(u64) -> Result<ServedModel, String> + Send + Sync>;

/// Facts from a model's header.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) architecture: String,
    pub(super) parameters: u64,
    pub(super) weight_bytes: u64,
    /// The name of its file type (`Q4_K_M`).
    pub(super) file_type: &'static str,
    /// Context length that it was trained on.
    pub(super) context_length: u64,
    pub(super) embedding_length: u64,
    pub(super) vocab_size: u64,
    /// What it can do, as far as the header says.
    abilities: Abilities,
}

/// What a model can do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Abilities {
    /// It makes embeddings alone.
    pub(super) only_embeds: bool,
    /// Its template marks what it thinks.
    pub(super) thinks: bool,
    /// Its template has words for tools.
    pub(super) calls_tools: bool,
}

impl Facts {
    fn of(reader: &Reader) -> Self {
        let metadata = reader.metadata();
        let text = |key: &str| metadata.get(key).and_then(Value::as_str).unwrap_or_default();
        let architecture = text(keys::GENERAL_ARCHITECTURE).to_owned();
        let own = |key: &str| metadata.get(&format!("{architecture}.{key}"));
        let number = |key: &str| own(key).and_then(Value::as_u64).unwrap_or(0);
        let template = text(keys::TOKENIZER_CHAT_TEMPLATE);
        let tokens = metadata.get(keys::TOKENIZER_TOKENS).and_then(Value::as_array);
        Self {
            parameters: reader.parameters(),
            weight_bytes: reader.tensors().iter().map(|tensor| tensor.bytes()).fold(0, u64::saturating_add),
            file_type: file_type_name_of(metadata).unwrap_or("unknown"),
            context_length: number("context_length"),
            embedding_length: number("embedding_length"),
            vocab_size: tokens.map_or(0, |tokens| tokens.len() as u64),
            abilities: Abilities {
                only_embeds: own("attention.causal").and_then(Value::as_bool) == Some(false),
                thinks: ThinkingStyle::of_template(template).is_some(),
                calls_tools: names_tools(template),
            },
            architecture,
        }
    }
}

/// An offered model.
pub struct Offer {
    pub(super) id: String,
    /// Further names for clients.
    aliases: Vec<String>,
    /// Names and tags that lists of models show.
    pub(super) labels: Labels,
    /// Its file; none for one in memory.
    pub(super) path: Option<PathBuf>,
    pub(super) facts: Facts,
    /// Where it was found, with what it was made with besides its file.
    pub(super) source: Option<Located>,
    /// Time at which it was offered, in seconds since 1970.
    pub(super) created: u64,
    /// Loads it; `None` for a model that stays loaded.
    load: Option<Load>,
    /// Whether it was loaded at the start, and sleeps when it is idle.
    sleeps: bool,
    state: Mutex<State>,
}

/// What lists of models show of an offer besides its facts.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    /// Its chosen names, among them the id.
    pub aliases: Vec<String>,
    /// Words for clients, which mean nothing to the server.
    pub tags: Vec<String>,
}

struct State {
    model: Option<Arc<ServedModel>>,
    /// What is known of it since it was first loaded.
    profile: Option<Arc<Profile>>,
    /// The figures of the batchers that have ended with it. A model that sleeps keeps those of its last moment.
    ended: BatcherStatus,
    /// Time of its last use.
    used: Instant,
    /// How long it stays loaded after that.
    keep: KeepAlive,
}

impl Offer {
    /// A loaded model that stays loaded.
    #[must_use]
    pub fn loaded(reader: &Reader, aliases: Vec<String>, model: ServedModel) -> Self {
        let (id, path) = (model.id.clone(), model.path.clone());
        Self::new(id, aliases, path, reader, None, Some(Arc::new(model)))
    }

    /// A loaded model that is let go of when it has been idle for the time of [`ServerOptions`](super::ServerOptions), and that
    /// `load` loads again for the next request.
    #[must_use]
    pub fn sleeping(reader: &Reader, aliases: Vec<String>, model: ServedModel, load: Load) -> Self {
        let (id, path) = (model.id.clone(), model.path.clone());
        let sleeping = Self::new(id, aliases, path, reader, Some(load), Some(Arc::new(model)));
        Self { sleeps: true, ..sleeping }
    }

    /// With names and tags for lists of models.
    #[must_use]
    pub fn labelled(self, labels: Labels) -> Self {
        Self { labels, ..self }
    }

    /// A model that `load` loads on demand.
    #[must_use]
    pub fn on_demand(reader: &Reader, id: String, aliases: Vec<String>, load: Load) -> Self {
        Self::new(id, aliases, Some(reader.path().to_owned()), reader, Some(load), None)
    }

    fn new(
        id: String,
        aliases: Vec<String>,
        path: Option<PathBuf>,
        reader: &Reader,
        load: Option<Load>,
        model: Option<Arc<ServedModel>>,
    ) -> Self {
        let profile = model.as_ref().map(|model| model.profile.clone());
        let (used, keep) = (Instant::now(), KeepAlive::Forever);
        let state = Mutex::new(State { model, profile, ended: BatcherStatus::default(), used, keep });
        let (facts, labels) = (Facts::of(reader), Labels::default());
        Self { id, aliases, labels, path, facts, source: None, created: now(), load, sleeps: false, state }
    }

    /// The same with where it was found, and what it was made with.
    #[must_use]
    pub fn found(mut self, located: Located, setup: &Setup) -> Self {
        if let Some(template) = &setup.template {
            self.facts.abilities.thinks = ThinkingStyle::of_template(template).is_some();
            self.facts.abilities.calls_tools = names_tools(template);
        }
        self.source = Some(located);
        self
    }

    /// Begins the time that a model stays loaded.
    pub(super) fn begin(&self, keep: KeepAlive) {
        let mut state = self.lock();
        (state.used, state.keep) = (Instant::now(), keep);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name by which clients know it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Bytes of its tensors.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        self.facts.weight_bytes
    }

    /// The model, if it is loaded.
    #[must_use]
    pub fn model(&self) -> Option<Arc<ServedModel>> {
        self.lock().model.clone()
    }

    /// Reads something of the model, if it is loaded. This is no use of it: it may go to sleep meanwhile.
    pub(super) fn look<T>(&self, read: impl FnOnce(&ServedModel) -> T) -> Option<T> {
        self.lock().model.as_deref().map(read)
    }

    /// What is known of the model since it was first loaded.
    fn profile(&self) -> Option<Arc<Profile>> {
        self.lock().profile.clone()
    }

    /// The figures of its engine since the server's start.
    pub(super) fn figures(&self) -> BatcherStatus {
        let state = self.lock();
        match &state.model {
            Some(model) => model.batcher().status().after(&state.ended),
            None => state.ended.clone(),
        }
    }

    /// What it can do: a model that is loaded may have another template than its file.
    pub(super) fn abilities(&self) -> Abilities {
        let state = self.lock();
        let Some(model) = &state.model else { return self.facts.abilities };
        Abilities {
            only_embeds: !model.batcher().model().decoder().has_logits(),
            thinks: model.prompter.thinking.is_some(),
            calls_tools: model.prompter.takes_tools,
        }
    }

    /// Whether it is loaded when it is asked for.
    pub(super) fn is_on_demand(&self) -> bool {
        self.load.is_some()
    }

    /// Remaining time that it stays loaded without requests; `None` if it always stays or is not loaded.
    pub(super) fn time_left(&self) -> Option<Duration> {
        let state = self.lock();
        match state.keep {
            KeepAlive::For(time) if state.model.is_some() && self.load.is_some() => {
                Some(time.saturating_sub(state.used.elapsed()))
            }
            _ => None,
        }
    }

    /// Whether `name` is one of its names; in Ollama's names, the default tag is `latest`.
    fn is_called(&self, name: &str) -> bool {
        let plain = |name: &str| name.strip_suffix(":latest").unwrap_or(name).to_ascii_lowercase();
        std::iter::once(&self.id).chain(&self.aliases).any(|own| plain(own) == plain(name))
    }

    /// Bytes of its weights and caches.
    fn bytes(&self) -> u64 {
        self.look(|model| self.facts.weight_bytes + model.batcher().options().cache_bytes as u64).unwrap_or(0)
    }

    /// Time of its last use; `None` if it is in use, not loaded, or always stays.
    fn idle_since(&self) -> Option<Instant> {
        let mut state = self.lock();
        let model = state.model.as_ref().filter(|_| self.load.is_some())?;
        // Every running request holds the model.
        if Arc::strong_count(model) > 1 {
            state.used = Instant::now();
            return None;
        }
        Some(state.used)
    }

    /// Removes the model, unless it is in use.
    fn take(&self) -> Option<Arc<ServedModel>> {
        self.idle_since()?;
        let mut state = self.lock();
        let model = state.model.take_if(|model| Arc::strong_count(model) == 1)?;
        let mut last = model.batcher().status().after(&state.ended);
        (last.waiting, last.active) = (0, Vec::new());
        if !self.sleeps {
            (last.cache_bytes, last.cache_reserved, last.cache_budget, last.prefixes) = (0, 0, 0, 0);
        }
        state.ended = last;
        Some(model)
    }

    /// When it has to be looked at again to know whether it is over; `None` where only a request changes that.
    fn next_look(&self) -> Option<Duration> {
        let Some(since) = self.idle_since() else {
            // Nobody says when the last request that holds it has ended.
            return (self.is_on_demand() && self.lock().model.is_some()).then_some(LOOK);
        };
        let keep = self.lock().keep.time()?;
        Some(keep.saturating_sub(since.elapsed()))
    }

    /// Whether it has been idle for as long as it is kept.
    fn is_over(&self) -> bool {
        let idle = self.idle_since();
        let keep = self.lock().keep;
        idle.zip(keep.time()).is_some_and(|(since, time)| since.elapsed() >= time)
    }

    /// The file's metadata.
    pub(super) async fn metadata<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Metadata) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        if let Some(model) = self.model() {
            return Ok(read(model.metadata()));
        }
        let path = self.path.clone().unwrap_or_default();
        let open = move || Reader::open(&path).map(|reader| read(reader.metadata()));
        // The OS error contains the path, which clients must not see.
        blocking(move || open().map_err(|_| Failure::server("the file cannot be read"))).await
    }
}

/// All offered models.
pub(super) struct Models {
    /// Those of the start, and those that have come since then.
    pub(super) offers: RwLock<Vec<Arc<Offer>>>,
    /// Whether unknown names mean the first model.
    pub(super) any_name: bool,
    /// Maximum bytes of all models.
    pub(super) memory: u64,
    /// How long a model on demand stays loaded by default.
    pub(super) keep_alive: KeepAlive,
    /// Time of the server's start, in seconds since 1970.
    pub(super) since: u64,
    /// Held while a model is loaded, so that one is loaded at a time.
    pub(super) loading: Arc<tokio::sync::Mutex<()>>,
    /// Is called whenever a model on demand is asked for.
    pub(super) asked: tokio::sync::Notify,
    /// The figures of all models when `/metrics` was last asked for.
    pub(super) scraped: Mutex<BatcherStatus>,
}

impl Models {
    /// The offered models as they are now.
    pub(super) fn offers(&self) -> Vec<Arc<Offer>> {
        self.offers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Offers a further model, in place of one with the same name that is loaded on demand.
    pub(super) fn add(&self, offer: Offer) {
        let mut offers = self.offers.write().unwrap_or_else(PoisonError::into_inner);
        match offers.iter_mut().find(|other| other.id.eq_ignore_ascii_case(&offer.id)) {
            Some(other) if other.is_on_demand() => *other = Arc::new(offer),
            Some(_) => {}
            None => offers.push(Arc::new(offer)),
        }
    }

    /// Offers a model no more. Requests under way keep it.
    pub(super) fn remove(&self, id: &str) {
        let mut offers = self.offers.write().unwrap_or_else(PoisonError::into_inner);
        offers.retain(|offer| offer.id != id);
    }

    /// The first loaded model, which routes without a body refer to; if none is, the first that was.
    pub(super) fn first(&self) -> Result<(Arc<Offer>, Arc<Profile>), Failure> {
        let offers = self.offers();
        let known = || offers.iter().filter_map(|offer| Some((offer.clone(), offer.profile()?)));
        let loaded = known().find(|(offer, _)| offer.look(|_| ()).is_some());
        loaded.or_else(|| known().next()).ok_or_else(|| Failure::unavailable("no model is loaded"))
    }

    /// The offered model with this name.
    pub(super) fn offer(&self, name: &str) -> Result<Arc<Offer>, Failure> {
        let offers = self.offers();
        let exact = offers.iter().find(|offer| offer.id == name);
        let found = exact.or_else(|| offers.iter().find(|offer| offer.is_called(name)));
        let found = found.or(offers.first().filter(|_| self.any_name));
        found.cloned().ok_or_else(|| Failure::model_not_found(name))
    }

    /// The model of a request; the only one, if it names none. It is loaded if necessary, and stays loaded for the time of
    /// `keep_alive`.
    pub(super) async fn wanted(self: &Arc<Self>, fields: Fields<'_>) -> Result<Arc<ServedModel>, Failure> {
        let offer = match (fields.text("model")?, self.offers().as_slice()) {
            (Some(name), _) if !name.is_empty() => self.offer(name)?,
            (_, [only]) => only.clone(),
            (_, [first, ..]) if self.any_name => first.clone(),
            _ => return Err(Failure::field("model", "is needed: this server has several")),
        };
        self.get(&offer, KeepAlive::of(fields)?).await
    }

    /// The model of an offer, loaded if necessary.
    pub(super) async fn get(
        self: &Arc<Self>,
        offer: &Arc<Offer>,
        keep: Option<KeepAlive>,
    ) -> Result<Arc<ServedModel>, Failure> {
        let loaded = || {
            let mut state = offer.lock();
            let model = state.model.clone()?;
            state.used = Instant::now();
            state.keep = keep.unwrap_or(state.keep);
            drop(state);
            if offer.is_on_demand() {
                self.asked.notify_one();
            }
            Some(model)
        };
        if let Some(model) = loaded() {
            return Ok(model);
        }
        let turn = self.loading.clone().lock_owned().await;
        if let Some(model) = loaded() {
            return Ok(model);
        }
        let (models, offer) = (self.clone(), offer.clone());
        // The client may disconnect meanwhile; the model is loaded for later requests.
        let work = move || {
            let _turn = turn;
            models.load(&offer, keep)
        };
        blocking(work).await
    }

    fn load(&self, offer: &Offer, keep: Option<KeepAlive>) -> Result<Arc<ServedModel>, Failure> {
        let Some(load) = &offer.load else { return Err(Failure::server("the model is not loaded")) };
        let weights = offer.facts.weight_bytes;
        let left = self.make_room(&offer.id, weights)?.saturating_sub(weights);
        // Leave room for another model.
        let model = Arc::new(load((left / 2).max(LEAST_CACHE)).map_err(Failure::server)?);
        let mut state = offer.lock();
        state.profile = Some(model.profile.clone());
        state.model = Some(model.clone());
        state.used = Instant::now();
        state.keep = keep.unwrap_or(self.keep_alive);
        drop(state);
        self.asked.notify_one();
        Ok(model)
    }

    /// Unloads idle models, the longest idle first, until a model with these weights fits. Returns the remaining bytes.
    fn make_room(&self, id: &str, weights: u64) -> Result<u64, Failure> {
        let needed = weights.saturating_add(LEAST_CACHE);
        loop {
            let offers = self.offers();
            let used: u64 = offers.iter().map(|offer| offer.bytes()).sum();
            let left = self.memory.saturating_sub(used);
            if left >= needed {
                return Ok(left);
            }
            let idle = offers.iter().filter_map(|offer| Some((offer.idle_since()?, offer)));
            match idle.min_by_key(|(since, _)| *since) {
                Some((_, oldest)) => drop(oldest.take()),
                None if used == 0 => {
                    return Err(Failure::server(format!(
                        "model '{id}' takes {needed} bytes, and models may take {} in all",
                        self.memory
                    )));
                }
                None => return Err(Failure::unavailable(format!("no memory for model '{id}': others are in use"))),
            }
        }
    }

    /// Unloads a model; an error if it always stays or is in use.
    pub(super) async fn unload(&self, offer: &Arc<Offer>) -> Result<(), Failure> {
        if !offer.is_on_demand() {
            return Err(Failure::invalid("the model was loaded at the start, and stays"));
        }
        let offer = offer.clone();
        let work = move || {
            let model = offer.take();
            if model.is_none() && offer.model().is_some() {
                return Err(Failure::unavailable("the model is in use"));
            }
            drop(model);
            Ok(())
        };
        blocking(work).await
    }

    /// How long no model on demand can become one to let go of; `None` until a request comes.
    pub(super) fn next_look(&self) -> Option<Duration> {
        self.offers().iter().filter_map(|offer| offer.next_look()).min()
    }

    /// Takes out the models that nobody has used for as long as they are kept. One that is dropped waits for its thread.
    pub(super) fn take_idle(&self) -> Vec<Arc<ServedModel>> {
        self.offers().iter().filter(|offer| offer.is_over()).filter_map(|offer| offer.take()).collect()
    }
}
