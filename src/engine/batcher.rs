//! Many requests to one model at once: a thread that computes in steps, each of which takes a row of every unfinished answer and
//! some rows of prompts.
//!
//! A request's text does not depend on what else is computed: a logit has the same bits in every batch and split, and each request
//! has a sampler of its own. So requests may come and go, share states with earlier ones, and lose theirs when memory is short.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::logprobs::Logprobs;
use super::prefix_cache::{PrefixCache, common};
use super::session::check_tokens;
use super::slots::{Outside, SlotAction, SlotCommand, SlotState, Slots};
use super::speculation::{Draft, DraftRequest, Speculation};
use super::updates::{Sender, Signal, Update, Updates, Usage, channel, lock};
use super::{
    Error, Event, Generation, GenerationOptions, Sampler, SamplerOptions, SessionOptions, SpeculationOptions, Stop,
};
use crate::cpu::{OutOfPages, PagePool, Part, RollbackPoint, Rows, Run, Sequence, SequenceOptions};
use crate::kernels::Pool;
use crate::model::Model;

/// How long a step may take that holds up the answers of others.
const STEP: Duration = Duration::from_millis(150);
/// How long a layer may take when a step holds up nobody: a request that is given up ends between two layers.
const LAYER: Duration = Duration::from_millis(150);
/// Rows of prompts in a step, at least.
const LEAST_ROWS: usize = 16;
/// Tokens that a request waits for another to read rather than read them as well.
const WORTH_WAITING: usize = 32;

/// Settings of a [`Batcher`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatcherOptions {
    /// Context, cache and most prompt rows a step.
    pub session: SessionOptions,
    /// Requests that are computed at once, at most.
    pub parallel: usize,
    /// Requests that may wait besides.
    pub queue: usize,
    /// Bytes for the caches of all sequences and of stored prefixes. One whole context is always held.
    pub cache_bytes: usize,
    /// Settings of speculative decoding, which changes no text.
    pub speculation: SpeculationOptions,
}

impl Default for BatcherOptions {
    fn default() -> Self {
        let (session, speculation) = (SessionOptions::default(), SpeculationOptions::default());
        Self { session, parallel: 16, queue: 64, cache_bytes: 1 << 30, speculation }
    }
}

/// An answer that is wanted.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The prompt; at least one token.
    pub prompt: Vec<u32>,
    /// How tokens are chosen.
    pub sampler: SamplerOptions,
    /// When it ends.
    pub generation: GenerationOptions,
    /// For each token, its probability and those of so many of the likeliest.
    pub logprobs: Option<usize>,
    /// These probabilities are those after all samplers, from which tokens are drawn, not those of the model itself.
    pub after_samplers: bool,
    /// States of earlier requests are used by those of the same salt alone.
    pub salt: u64,
    /// Does not use states of earlier requests.
    pub no_cache: bool,
    /// Maximum tokens of a draft, if less than that of the batcher; 0 for no drafts.
    pub draft_limit: Option<usize>,
    /// The slot that it wants: it waits until that is free.
    pub slot: Option<usize>,
}

/// A request that is being computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotStatus {
    /// Which of the places it has, from 0.
    pub slot: usize,
    /// Tokens of its prompt.
    pub prompt_tokens: usize,
    /// Tokens of its answer so far.
    pub answer_tokens: usize,
    /// Whether its prompt has been read.
    pub is_generating: bool,
    /// Bytes of its cache, including shared pages.
    pub cache_bytes: usize,
}

/// What a [`Batcher`] does, and has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatcherStatus {
    /// Requests that are being computed.
    pub active: Vec<SlotStatus>,
    /// Requests that wait.
    pub waiting: usize,
    /// Bytes of all caches, those that are shared once.
    pub cache_bytes: usize,
    /// Bytes that caches have taken from the system, those included that are kept for later use.
    pub cache_reserved: usize,
    /// Bytes that all caches may take.
    pub cache_budget: usize,
    /// Prefixes that are held for later requests.
    pub prefixes: usize,
    /// Requests that have ended, cancelled ones included.
    pub requests: u64,
    /// Tokens of prompts that were evaluated.
    pub prompt_tokens: u64,
    /// Tokens of prompts that were known from earlier requests.
    pub cached_tokens: u64,
    /// Tokens of answers.
    pub answer_tokens: u64,
    /// Tokens that were drafted.
    pub drafted_tokens: u64,
    /// Drafted tokens that were accepted.
    pub accepted_tokens: u64,
    /// Drafts of one or more tokens that were evaluated.
    pub drafts: u64,
    /// Time of steps that read prompts.
    pub prompt_time: Duration,
    /// Time of steps that only generate.
    pub answer_time: Duration,
    /// Steps.
    pub steps: u64,
    /// Requests that took part in them, summed over the steps.
    pub step_requests: u64,
    /// Requests whose state had to make room for others, and was computed again.
    pub preempted: u64,
    /// The most tokens that a request has come to hold.
    pub most_tokens: usize,
}

impl BatcherStatus {
    /// The figures after those of `earlier`, a batcher that has ended: what is counted goes on from there.
    #[must_use]
    pub fn after(self, earlier: &Self) -> Self {
        Self {
            requests: self.requests + earlier.requests,
            prompt_tokens: self.prompt_tokens + earlier.prompt_tokens,
            cached_tokens: self.cached_tokens + earlier.cached_tokens,
            answer_tokens: self.answer_tokens + earlier.answer_tokens,
            drafted_tokens: self.drafted_tokens + earlier.drafted_tokens,
            accepted_tokens: self.accepted_tokens + earlier.accepted_tokens,
            drafts: self.drafts + earlier.drafts,
            prompt_time: self.prompt_time + earlier.prompt_time,
            answer_time: self.answer_time + earlier.answer_time,
            steps: self.steps + earlier.steps,
            step_requests: self.step_requests + earlier.step_requests,
            preempted: self.preempted + earlier.preempted,
            most_tokens: self.most_tokens.max(earlier.most_tokens),
            ..self
        }
    }
}

/// A request on its way.
struct Job {
    /// The prompt, then the answer.
    tokens: Vec<u32>,
    prompt_tokens: usize,
    cached_tokens: usize,
    generation: Generation,
    /// What has been evaluated of the tokens.
    sequence: Sequence,
    logprobs: Option<usize>,
    after_samplers: bool,
    salt: u64,
    no_cache: bool,
    draft_limit: usize,
    /// Identifies the text for drafters.
    text_id: u64,
    /// The draft that the current step evaluates, and the end of the text before it.
    draft: Draft,
    rollback: Option<RollbackPoint>,
    /// Tokens of the answer that were evaluated, and have to be again: a rejected draft took a recurrent state back before them.
    rolled_back: usize,
    drafted: usize,
    accepted: usize,
    /// The prompt's state has been stored.
    stored: bool,
    slot: usize,
    wanted_slot: Option<usize>,
    updates: Sender,
    began: Option<Instant>,
    answering: Option<Instant>,
}

impl Job {
    /// Tokens that are to be evaluated.
    fn pending(&self) -> usize {
        self.tokens.len() - self.sequence.len()
    }

    /// How many tokens the next steps read before anything else happens. The state of a prompt is stored for the next request; a
    /// state that cannot go back is stored before the last token, so that the same prompt finds its use for it.
    fn goal(&self) -> usize {
        let before_last = self.prompt_tokens - 1;
        if !self.stored && !self.sequence.goes_back() && self.sequence.len() < before_last {
            before_last
        } else {
            self.tokens.len()
        }
    }

    fn tell_progress(&self) {
        let (done, cached, total) = (self.sequence.len(), self.cached_tokens, self.prompt_tokens);
        self.updates.send(Update::Reading { done, cached, total, slot: self.slot });
    }

    fn is_generating(&self) -> bool {
        self.answering.is_some() && self.pending() <= 1 + self.rolled_back
    }

    fn usage(&self) -> Usage {
        let now = Instant::now();
        let began = self.began.unwrap_or(now);
        let answering = self.answering.unwrap_or(now);
        Usage {
            prompt_tokens: self.prompt_tokens,
            cached_tokens: self.cached_tokens,
            answer_tokens: self.generation.tokens().len(),
            drafted_tokens: self.drafted,
            accepted_tokens: self.accepted,
            prompt_time: answering - began,
            answer_time: now - answering,
        }
    }
}

/// What both sides see.
struct Shared {
    inbox: Mutex<Inbox>,
    signal: Arc<Signal>,
}

#[derive(Default)]
struct Inbox {
    waiting: VecDeque<Job>,
    commands: Vec<SlotCommand>,
    /// The thread is to end, or has ended.
    stopped: bool,
    status: BatcherStatus,
}

/// A model, and the thread that computes its answers.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use gguf_toolkit::engine::{Batcher, BatcherOptions, Request, Update};
/// # use gguf_toolkit::kernels::Pool;
/// # use gguf_toolkit::model::Model;
/// # fn run(model: Model, prompt: Vec<u32>) -> Result<(), gguf_toolkit::engine::Error> {
/// let batcher = Batcher::new(Arc::new(model), Arc::new(Pool::new(4)), BatcherOptions::default());
/// for update in batcher.submit(Request { prompt, ..Request::default() })? {
///     match update {
///         Update::Token { text, .. } | Update::End { text, .. } => print!("{text}"),
///         Update::Failed(error) => return Err(error),
///         _ => {}
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Batcher {
    model: Arc<Model>,
    pool: Arc<Pool>,
    shared: Arc<Shared>,
    context_length: usize,
    /// A sequence without tokens, whose memory is from the pool of all.
    empty: Sequence,
    options: BatcherOptions,
    thread: Option<JoinHandle<()>>,
}

impl Batcher {
    /// Starts the thread.
    #[must_use]
    pub fn new(model: Arc<Model>, pool: Arc<Pool>, options: BatcherOptions) -> Self {
        let wanted = options.session.context_length.unwrap_or_else(|| model.hparams().context_length);
        let context_length = model.decoder().learned_positions().map_or(wanted, |limit| wanted.min(limit)).max(1);
        let shared = Arc::new(Shared { inbox: Mutex::default(), signal: Arc::default() });
        let sequence_options = SequenceOptions { kv_type: options.session.kv_type, context_length };
        let own = options.speculation.own.as_ref();
        let mut sequence = model.decoder().sequence(sequence_options);
        if let Some(own) = own {
            own.follow(&mut sequence, sequence_options, &PagePool::unlimited());
        }
        let drafts = options.speculation.bytes(&sequence, sequence_options);
        let whole = sequence.bytes_at(context_length).saturating_add(drafts);
        let pages = PagePool::new(options.cache_bytes.max(whole));
        let mut empty = model.decoder().sequence_within(&pages, sequence_options);
        if let Some(own) = own {
            own.follow(&mut empty, sequence_options, &pages);
        }
        let vocab_size = model.decoder().vocab_size();
        let speculation = Speculation::new(&options.speculation, vocab_size, sequence_options, &pages);
        lock(&shared.inbox).status.cache_budget = pages.budget();
        let worker = Worker {
            model: model.clone(),
            pool: pool.clone(),
            shared: shared.clone(),
            most_rows: options.session.batch_size.max(1),
            parallel: options.parallel.max(1),
            pages,
            context_length,
            empty: empty.clone(),
            active: Vec::new(),
            cache: PrefixCache::default(),
            slots: Slots::new(options.parallel.max(1)),
            outside: Outside::new(shared.signal.clone()),
            speculation,
            texts: 0,
            row_seconds: 0.001,
            step_seconds: 0.0,
        };
        let thread = std::thread::Builder::new().name("batcher".to_owned()).spawn(move || worker.run());
        // Without a thread every request learns that the engine has stopped.
        lock(&shared.inbox).stopped = thread.is_err();
        Self { model, pool, shared, context_length, empty, options, thread: thread.ok() }
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The threads that compute.
    #[must_use]
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Most tokens of a request, prompt and answer.
    #[must_use]
    pub fn context_length(&self) -> usize {
        self.context_length
    }

    /// The settings.
    #[must_use]
    pub fn options(&self) -> &BatcherOptions {
        &self.options
    }

    /// Whether the thread computes.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !lock(&self.shared.inbox).stopped
    }

    /// What it does now.
    #[must_use]
    pub fn status(&self) -> BatcherStatus {
        let inbox = lock(&self.shared.inbox);
        BatcherStatus { waiting: inbox.waiting.len(), ..inbox.status.clone() }
    }

    /// Asks for an answer. Its updates come as they are computed; dropping them cancels it.
    ///
    /// # Errors
    /// [`Error::NoTokens`], [`Error::UnknownToken`] and [`Error::ContextFull`] for prompts that cannot be evaluated,
    /// [`Error::NoLogits`] for models that predict no tokens, [`Error::NoSlot`], [`Error::QueueFull`], and [`Error::Stopped`].
    pub fn submit(&self, request: Request) -> Result<Updates, Error> {
        let (decoder, context_length) = (self.model.decoder(), self.context_length);
        if !decoder.has_logits() {
            return Err(Error::NoLogits);
        }
        check_tokens(decoder, &request.prompt, 0, context_length)?;
        self.check_slot(request.slot.unwrap_or(0))?;
        let sampler = Sampler::for_model(request.sampler, self.model.tokenizer());
        let mut generation = Generation::new(self.model.clone(), sampler, request.generation);
        generation.accept_prompt(&request.prompt);
        let (sender, updates) = channel(self.shared.signal.clone());
        let job = Job {
            prompt_tokens: request.prompt.len(),
            cached_tokens: 0,
            tokens: request.prompt,
            generation,
            sequence: self.empty.clone(),
            logprobs: request.logprobs,
            after_samplers: request.after_samplers,
            salt: request.salt,
            no_cache: request.no_cache,
            draft_limit: request.draft_limit.unwrap_or(usize::MAX),
            text_id: 0,
            draft: Draft::default(),
            rollback: None,
            rolled_back: 0,
            drafted: 0,
            accepted: 0,
            stored: false,
            slot: 0,
            wanted_slot: request.slot,
            updates: sender,
            began: None,
            answering: None,
        };
        let mut inbox = lock(&self.shared.inbox);
        if inbox.stopped {
            return Err(Error::Stopped);
        }
        let free = self.options.parallel.max(1).saturating_sub(inbox.status.active.len());
        if inbox.waiting.len() >= self.options.queue + free {
            return Err(Error::QueueFull { waiting: inbox.waiting.len() });
        }
        inbox.waiting.push_back(job);
        drop(inbox);
        self.shared.signal.set();
        Ok(updates)
    }

    /// Asks for something about a slot, which is done when no request is in it.
    ///
    /// # Errors
    /// [`Error::NoSlot`], [`Error::QueueFull`] and [`Error::Stopped`].
    pub(super) fn command(&self, command: SlotCommand) -> Result<(), Error> {
        self.check_slot(command.slot)?;
        let mut inbox = lock(&self.shared.inbox);
        if inbox.stopped {
            return Err(Error::Stopped);
        }
        if inbox.commands.len() >= self.options.queue.max(1) {
            return Err(Error::QueueFull { waiting: inbox.commands.len() });
        }
        inbox.commands.push(command);
        drop(inbox);
        self.shared.signal.set();
        Ok(())
    }

    fn check_slot(&self, slot: usize) -> Result<(), Error> {
        let slots = self.options.parallel.max(1);
        if slot < slots { Ok(()) } else { Err(Error::NoSlot { slot, slots }) }
    }

    /// A sequence without tokens, whose memory is that of all.
    pub(super) fn empty_sequence(&self) -> Sequence {
        self.empty.clone()
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        lock(&self.shared.inbox).stopped = true;
        self.shared.signal.set();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported where it happened.
            let _ = thread.join();
        }
    }
}

/// The thread that computes.
struct Worker {
    model: Arc<Model>,
    pool: Arc<Pool>,
    shared: Arc<Shared>,
    most_rows: usize,
    parallel: usize,
    /// The memory of all sequences and stored prefixes.
    pages: PagePool,
    context_length: usize,
    /// A sequence without tokens.
    empty: Sequence,
    active: Vec<Job>,
    cache: PrefixCache,
    slots: Slots,
    /// States that are being written or read by others.
    outside: Outside,
    speculation: Option<Speculation>,
    /// Number of text ids given out.
    texts: u64,
    /// Seconds that a row of a prompt takes, and a step without any: running averages.
    row_seconds: f64,
    step_seconds: f64,
}

/// Whatever ends the thread, nobody waits for it.
struct Stopping(Arc<Shared>);

impl Drop for Stopping {
    fn drop(&mut self) {
        let mut inbox = lock(&self.0.inbox);
        inbox.stopped = true;
        let waiting = (std::mem::take(&mut inbox.waiting), std::mem::take(&mut inbox.commands));
        drop(inbox);
        drop(waiting);
    }
}

impl Worker {
    fn run(mut self) {
        let _stopping = Stopping(self.shared.clone());
        loop {
            self.forget_cancelled();
            self.obey();
            self.admit();
            if let Some(speculation) = &mut self.speculation {
                speculation.retain(&self.active.iter().map(|job| job.text_id).collect());
            }
            let mut plan = self.plan();
            self.reserve(&mut plan);
            self.publish();
            if lock(&self.shared.inbox).stopped {
                return;
            }
            if plan.iter().all(|&rows| rows == 0) {
                // All have ended, or wait for their readers.
                self.shared.signal.wait();
            } else {
                self.step(&plan);
            }
        }
    }

    /// Drops the requests that nobody waits for any more.
    fn forget_cancelled(&mut self) {
        let before = self.active.len();
        self.active.retain(|job| job.updates.is_open());
        let mut inbox = lock(&self.shared.inbox);
        let waiting = inbox.waiting.len();
        inbox.waiting.retain(|job| job.updates.is_open());
        let cancelled = before - self.active.len() + waiting - inbox.waiting.len();
        inbox.status.requests += cancelled as u64;
    }

    /// Does what is wanted of the slots that no request is in.
    fn obey(&mut self) {
        let mut inbox = lock(&self.shared.inbox);
        let is_free = |command: &mut SlotCommand| self.active.iter().all(|job| job.slot != command.slot);
        let commands: Vec<SlotCommand> = inbox.commands.extract_if(.., is_free).collect();
        drop(inbox);
        for SlotCommand { slot, salt, action } in commands {
            // Who does not wait for the answer any more misses nothing.
            match action {
                SlotAction::Copy(reply) => {
                    let tokens = self.slots.text(slot, salt).to_vec();
                    let sequence = self.cache.exact(salt, &tokens);
                    let state = |sequence| SlotState { tokens, sequence, _held: self.outside.hold() };
                    let _ = reply.send(sequence.map(state));
                }
                SlotAction::MakeRoom(bytes, reply) => {
                    while self.pages.used().saturating_add(bytes) > self.pages.budget() && self.evict() {}
                    let _ = reply.send(self.outside.hold());
                }
                SlotAction::Put(state, reply) => {
                    self.slots.set(slot, salt, &state.tokens);
                    self.cache.insert(salt, &state.tokens, state.sequence);
                    let _ = reply.send(());
                }
                SlotAction::Erase(reply) => {
                    let tokens = self.slots.text(slot, salt).to_vec();
                    if !tokens.is_empty() {
                        self.cache.forget(salt, &tokens);
                        self.slots.set(slot, salt, &[]);
                    }
                    let _ = reply.send(tokens.len());
                }
            }
        }
    }

    /// The slot for a request: the one that it wants, if that is free, or else the best one that is.
    fn slot_for(&self, job: &Job) -> Option<usize> {
        let is_free = |slot: usize| self.active.iter().all(|other| other.slot != slot);
        match job.wanted_slot {
            Some(slot) => Some(slot).filter(|slot| is_free(*slot)),
            None => self.slots.best(job.salt, &job.tokens, is_free),
        }
    }

    /// Takes waiting requests, the first come first, while there are places and memory for them. One whose prompt begins as one
    /// that is just being read waits for that, and one that wants a slot for the slot, and the next has its turn.
    fn admit(&mut self) {
        let shared = self.shared.clone();
        let mut next = 0;
        while self.active.len() < self.parallel {
            let mut inbox = lock(&shared.inbox);
            let Some(job) = inbox.waiting.get(next) else { return };
            let Some(slot) = self.slot_for(job).filter(|_| !self.is_being_read(job)) else {
                next += 1;
                continue;
            };
            let Some(mut job) = inbox.waiting.remove(next) else { return };
            drop(inbox);
            if !job.no_cache
                && job.sequence.is_empty()
                && let Some(sequence) = self.cache.find(job.salt, &job.tokens)
            {
                job.sequence = sequence;
            }
            let fits = |pages: &PagePool| {
                let needed = job.sequence.bytes_to_take(job.tokens.len() + 1);
                pages.used().saturating_add(needed) <= pages.budget()
            };
            while !fits(&self.pages) && self.evict() {}
            if !fits(&self.pages) && !self.active.is_empty() {
                job.sequence = self.empty.clone();
                lock(&shared.inbox).waiting.insert(next, job);
                return;
            }
            job.slot = slot;
            // Until it ends, nobody else sees its text.
            self.slots.set(slot, job.salt, &[]);
            if job.began.is_none() {
                job.began = Some(Instant::now());
                job.cached_tokens = job.sequence.len();
                lock(&shared.inbox).status.cached_tokens += job.cached_tokens as u64;
                job.tell_progress();
            }
            self.texts += 1;
            job.text_id = self.texts;
            self.active.push(job);
        }
    }

    /// Whether a request would read what another one is reading already.
    fn is_being_read(&self, job: &Job) -> bool {
        if job.no_cache || !job.sequence.is_empty() {
            return false;
        }
        let mut readers = self.active.iter().filter(|other| !other.stored && other.salt == job.salt && !other.no_cache);
        let most = job.tokens.len() - 1;
        readers.any(|other| {
            let goal = other.goal();
            let shared = common(&other.tokens[..goal], &job.tokens).min(most);
            let usable = other.sequence.goes_back() || shared == goal;
            usable && shared >= self.cache.longest(job.salt, &job.tokens) + WORTH_WAITING
        })
    }

    /// Reserves memory for the planned rows of every request. When the budget is used up, stored prefixes are evicted, the least
    /// recently used first; then draft models lose their states; then the youngest request is preempted: its state is dropped, and
    /// computed again when there is room. A request that is alone reads fewer rows.
    fn reserve(&mut self, plan: &mut Vec<usize>) {
        self.replace_prefixes(plan);
        let mut i = 0;
        while i < self.active.len() {
            match self.active[i].sequence.reserve(plan[i]) {
                Ok(()) => i += 1,
                Err(_) if self.evict() || self.speculation.as_mut().is_some_and(Speculation::release) => {}
                Err(_) if self.active.len() > 1 => {
                    plan.truncate(self.active.len() - 1);
                    self.preempt();
                }
                Err(_) if plan[i] > 1 => plan[i] /= 2,
                // It goes on when others have given back what they hold.
                Err(_) if !self.outside.is_empty() => {
                    plan[i] = 0;
                    i += 1;
                }
                Err(error) => {
                    plan.truncate(i);
                    self.give_up(error);
                }
            }
        }
    }

    /// Makes room for the planned rows from stored prefixes where there are many, before memory is asked for from the system: or else
    /// memory would follow every coincidence of long prompts, and never come down again.
    fn replace_prefixes(&mut self, plan: &[usize]) {
        let needed = |(job, rows): (&Job, &usize)| match rows {
            0 => 0,
            rows => job.sequence.bytes_to_take(job.sequence.len() + rows),
        };
        let needed: usize = self.active.iter().zip(plan).map(needed).sum();
        while self.cache.is_crowded() && self.pages.reserved() < self.pages.used().saturating_add(needed) {
            self.cache.evict();
        }
    }

    /// Removes a state that is stored for later requests. Returns false if there is none.
    fn evict(&mut self) -> bool {
        self.speculation.as_mut().is_some_and(Speculation::evict) || self.cache.evict()
    }

    /// Drops the state of the youngest request, which waits again.
    fn preempt(&mut self) {
        let Some(mut job) = self.active.pop() else { return };
        job.sequence = self.empty.clone();
        let mut inbox = lock(&self.shared.inbox);
        inbox.status.preempted += 1;
        inbox.waiting.push_front(job);
    }

    /// Ends the only request, for which there is no memory.
    fn give_up(&mut self, error: OutOfPages) {
        let Some(job) = self.active.pop() else { return };
        lock(&self.shared.inbox).status.requests += 1;
        job.updates.send(Update::Failed(error.into()));
        // The next one has its turn.
        self.shared.signal.set();
    }

    /// Rows of each active request in the next step.
    fn plan(&self) -> Vec<usize> {
        let ready = |job: &&Job| job.updates.has_room();
        let generating = self.active.iter().filter(ready).filter(|job| job.is_generating()).count();
        #[allow(clippy::cast_precision_loss, reason = "a model has few layers")]
        let layers = self.model.hparams().block_count.max(1) as f64;
        let time = if generating == 0 { LAYER.mul_f64(layers) } else { STEP };
        let mut left = self.prompt_rows(time);
        let rows = |job: &Job| {
            if !job.updates.has_room() {
                return 0;
            }
            if job.is_generating() {
                return job.pending();
            }
            let rows = (job.goal() - job.sequence.len()).min(left);
            left -= rows;
            rows
        };
        self.active.iter().map(rows).collect()
    }

    /// Rows of prompts that a step of so much time has room for.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
    fn prompt_rows(&self, time: Duration) -> usize {
        let rows = time.as_secs_f64() / self.row_seconds.max(1e-9);
        #[allow(clippy::cast_precision_loss, reason = "hundreds")]
        let rows = rows.clamp(LEAST_ROWS.min(self.most_rows) as f64, self.most_rows as f64);
        rows as usize
    }

    /// Drafts tokens for the answers that a step continues.
    fn draft(&mut self, plan: &[usize]) {
        let Some(speculation) = &mut self.speculation else { return };
        let context_length = self.context_length;
        let continues = |job: &Job, rows: usize| rows > 0 && job.is_generating() && rows == job.pending();
        let mut requests = Vec::new();
        for (job, &rows) in self.active.iter_mut().zip(plan).filter(|(job, rows)| continues(job, **rows)) {
            let max_tokens = job.generation.tokens_left().unwrap_or(usize::MAX).min(job.draft_limit);
            let max_tokens = max_tokens.min(context_length.saturating_sub(job.tokens.len()));
            let (text_id, salt, store) = (job.text_id, job.salt, !job.no_cache);
            let (tokens, sequence) = (&job.tokens[..], &mut job.sequence);
            requests.push(DraftRequest { text_id, salt, store, tokens, rows, max_tokens, sequence });
        }
        let mut drafts = speculation.draft(&self.pool, &mut requests, &mut || self.cache.evict()).into_iter();
        for (job, &rows) in self.active.iter_mut().zip(plan).filter(|(job, rows)| continues(job, **rows)) {
            let draft = drafts.next().unwrap_or_default();
            if draft.tokens.is_empty() {
                continue;
            }
            let end = job.sequence.rollback_point();
            let has_memory = loop {
                match job.sequence.reserve(rows + draft.tokens.len()) {
                    Ok(()) => break true,
                    Err(_) if speculation.evict() || self.cache.evict() => {}
                    Err(_) => break false,
                }
            };
            if has_memory {
                (job.draft, job.rollback) = (draft, Some(end));
            } else {
                job.sequence.roll_back(end, job.sequence.len());
                // This fails only if it did before the step: what it needs was given back a moment ago.
                let _ = job.sequence.reserve(rows);
            }
        }
    }

    /// Evaluates the planned rows and the drafts after them, and lets every request whose last token has been evaluated take the
    /// next ones.
    fn step(&mut self, plan: &[usize]) {
        self.draft(plan);
        let start = Instant::now();
        let reading = self.active.iter().zip(plan).filter(|(job, _)| !job.is_generating());
        let read: usize = reading.map(|(_, rows)| *rows).sum();
        let goals: Vec<usize> = self.active.iter().map(Job::goal).collect();
        let fed = |(job, &rows): (&Job, &usize)| {
            let done = job.sequence.len();
            [&job.tokens[done..done + rows], &job.draft.tokens].concat()
        };
        let fed: Vec<Vec<u32>> = self.active.iter().zip(plan).map(fed).collect();
        // The number of output rows of each request.
        let mut outputs = Vec::new();
        let (mut parts, mut readers) = (Vec::new(), Vec::new());
        for ((job, &rows), tokens) in self.active.iter_mut().zip(plan).zip(&fed) {
            if rows == 0 {
                outputs.push(0);
                continue;
            }
            let at_end = job.sequence.len() + rows == job.tokens.len();
            outputs.push(if at_end { 1 + job.draft.tokens.len() } else { 0 });
            let logits = if at_end { Rows::From(rows - 1) } else { Rows::None };
            parts.push(Part { sequence: &mut job.sequence, tokens, logits });
            readers.push(&job.updates);
        }
        let stopped = AtomicBool::new(false);
        // A sequence that was left in the middle of a step is of no use: the step ends early when none is wanted any more.
        let stop = || {
            let given_up = readers.iter().all(|updates| !updates.is_open());
            stopped.fetch_or(given_up, Ordering::Relaxed);
            given_up
        };
        let run = Run { stop: Some(&stop), ..self.model.run(&self.pool) };
        let mut logits = self.model.decoder().forward(run, &mut parts);
        drop(parts);
        if stopped.into_inner() {
            return;
        }
        self.count(plan, read, fed.iter().map(Vec::len).sum(), start.elapsed());
        lock(&self.shared.inbox).status.prompt_tokens += read as u64;
        self.take(plan, &goals, &outputs, &mut logits);
    }

    /// Lets requests take tokens by the logits of a step; `outputs` has the number of rows of each.
    fn take(&mut self, plan: &[usize], goals: &[usize], outputs: &[usize], logits: &mut [f32]) {
        let mut rows = logits.chunks_exact_mut(self.model.decoder().vocab_size());
        let (mut counts, mut ended) = ([0; 4], Vec::new());
        let jobs = std::mem::take(&mut self.active);
        for (((mut job, &planned), &goal), &wanted) in jobs.into_iter().zip(plan).zip(goals).zip(outputs) {
            if planned > 0 && !job.stored && job.sequence.len() == goal {
                job.stored = true;
                if !job.no_cache {
                    self.cache.insert(job.salt, &job.tokens[..job.sequence.len()], job.sequence.clone());
                }
            }
            if wanted == 0 {
                if planned > 0 && job.answering.is_none() {
                    job.tell_progress();
                }
                self.active.push(job);
                continue;
            }
            if job.answering.is_none() {
                job.answering = Some(Instant::now());
                job.tell_progress();
            }
            let (before, len) = (job.generation.tokens().len(), job.tokens.len());
            let draft = std::mem::take(&mut job.draft);
            let (accepted, end) = take_tokens(&mut job, &draft.tokens, rows.by_ref().take(wanted), self.context_length);
            if let Some(rollback) = job.rollback.take() {
                job.sequence.roll_back(rollback, len + accepted);
            }
            job.rolled_back = job.pending().saturating_sub(1);
            if let Some(speculation) = &mut self.speculation {
                speculation.learn(job.text_id, &draft, accepted, end.is_none() && accepted < draft.tokens.len());
            }
            let answered = job.generation.tokens().len() - before;
            let own = [answered, draft.tokens.len(), accepted, usize::from(!draft.tokens.is_empty())];
            counts.iter_mut().zip(own).for_each(|(sum, n)| *sum += n as u64);
            match end {
                Some(end) => ended.push((job, end)),
                None => self.active.push(job),
            }
        }
        let mut inbox = lock(&self.shared.inbox);
        let status = &mut inbox.status;
        let sums =
            [&mut status.answer_tokens, &mut status.drafted_tokens, &mut status.accepted_tokens, &mut status.drafts];
        sums.into_iter().zip(counts).for_each(|(sum, n)| *sum += n);
        drop(inbox);
        self.finish(ended);
    }

    /// Learns how long steps take: this one had `rows` rows, `read` of them of prompts.
    #[allow(clippy::cast_precision_loss, reason = "hundreds")]
    fn count(&mut self, plan: &[usize], read: usize, rows: usize, took: Duration) {
        if let Some(speculation) = self.speculation.as_mut().filter(|_| read == 0) {
            speculation.learn_time(rows, took);
        }
        let requests = plan.iter().filter(|rows| **rows > 0).count();
        let seconds = took.as_secs_f64();
        if read == 0 {
            self.step_seconds += (seconds - self.step_seconds) * 0.2;
        } else if read >= LEAST_ROWS {
            let own = (seconds - self.step_seconds).max(seconds * 0.1) / read as f64;
            self.row_seconds += (own - self.row_seconds) * 0.3;
        }
        let mut inbox = lock(&self.shared.inbox);
        let status = &mut inbox.status;
        *(if read == 0 { &mut status.answer_time } else { &mut status.prompt_time }) += took;
        status.steps += 1;
        status.step_requests += requests as u64;
    }

    /// Keeps the states of requests that have ended for those that go on from them, then tells the ends: who hears of one finds all
    /// in its new place.
    fn finish(&mut self, ended: Vec<(Job, Update)>) {
        if ended.is_empty() {
            return;
        }
        let mut last_updates = Vec::new();
        for (job, end) in ended {
            if !job.no_cache && matches!(end, Update::End { .. }) {
                self.slots.set(job.slot, job.salt, &job.tokens[..job.sequence.len()]);
                self.cache.insert(job.salt, &job.tokens[..job.sequence.len()], job.sequence);
            }
            let mut inbox = lock(&self.shared.inbox);
            inbox.status.requests += 1;
            inbox.status.most_tokens = inbox.status.most_tokens.max(job.tokens.len());
            last_updates.push((job.updates, end));
        }
        self.publish();
        last_updates.into_iter().for_each(|(updates, end)| updates.send(end));
    }

    /// Updates the status.
    fn publish(&self) {
        let slot = |job: &Job| SlotStatus {
            slot: job.slot,
            prompt_tokens: job.prompt_tokens,
            answer_tokens: job.generation.tokens().len(),
            is_generating: job.is_generating(),
            cache_bytes: job.sequence.bytes(),
        };
        let mut inbox = lock(&self.shared.inbox);
        inbox.status.active = self.active.iter().map(slot).collect();
        inbox.status.cache_bytes = self.pages.used();
        inbox.status.cache_reserved = self.pages.reserved();
        inbox.status.prefixes = self.cache.len();
    }
}

/// Takes tokens by these rows of logits, `[1 + draft, vocab]`: after the last token and after each drafted one. The first token
/// that differs from the draft is the last one. Returns how many tokens of the draft were accepted, and the end of the answer if it
/// has ended.
fn take_tokens<'l>(
    job: &mut Job,
    draft: &[u32],
    rows: impl Iterator<Item = &'l mut [f32]>,
    context_length: usize,
) -> (usize, Option<Update>) {
    let (mut accepted, mut end) = (0, None);
    job.drafted += draft.len();
    let mut continues = true;
    for row in rows {
        // The rows after a rejected token belong to another text: they are skipped.
        if !continues {
            continue;
        }
        end = take_token(job, row, context_length);
        continues = end.is_none() && draft.get(accepted) == job.tokens.last();
        if continues {
            accepted += 1;
            job.accepted += 1;
        }
    }
    (accepted, end)
}

/// Takes the next token by the `logits` of the last, and tells it. Returns the end of the answer, when it has come.
fn take_token(job: &mut Job, logits: &mut [f32], context_length: usize) -> Option<Update> {
    // Penalties change the logits.
    let plain = job.logprobs.filter(|_| !job.after_samplers).map(|_| logits.to_vec());
    let event = match job.generation.next(logits) {
        Ok(event) => event,
        Err(error) => return Some(Update::Failed(error)),
    };
    let end = match event {
        Event::Token { token, text } => {
            let logprobs = job.logprobs.map(|top| match &plain {
                Some(plain) => Logprobs::of(plain, token, top),
                None => job.generation.probabilities(token, top),
            });
            job.updates.send(Update::Token { token, text, logprobs });
            if job.tokens.len() < context_length {
                job.tokens.push(token);
                return None;
            }
            job.generation.end(Stop::Context)
        }
        stop @ Event::Stop { .. } => stop,
    };
    let Event::Stop { reason, text } = end else { return None };
    let stop_text = job.generation.stop_text().map(str::to_owned);
    Some(Update::End { reason, text, stop_text, usage: job.usage() })
}
