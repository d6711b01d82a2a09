//! Updates about an answer of a [`Batcher`](super::Batcher): a bounded channel that threads and async tasks can read.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::logprobs::Logprobs;
use super::{Error, Stop};

/// Maximum unread updates. A request whose reader falls behind is not computed until it has caught up.
const CAPACITY: usize = 64;

/// Tokens and times of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them that were taken from the prefix cache.
    pub cached_tokens: usize,
    /// Tokens of the answer.
    pub answer_tokens: usize,
    /// Tokens that were drafted for it.
    pub drafted_tokens: usize,
    /// Drafted tokens that were accepted.
    pub accepted_tokens: usize,
    /// Time for the prompt, without the time in the queue.
    pub prompt_time: Duration,
    /// Time for the answer's tokens.
    pub answer_time: Duration,
}

/// An update about a request.
#[derive(Debug)]
#[non_exhaustive]
pub enum Update {
    /// The prompt has been started, or a part of it has been evaluated.
    Reading {
        /// Tokens that are evaluated or cached.
        done: usize,
        /// Those of them that were taken from the prefix cache.
        cached: usize,
        /// Tokens of the prompt.
        total: usize,
        /// The slot that computes it.
        slot: usize,
    },
    /// A token of the answer.
    Token {
        /// Its id.
        token: u32,
        /// Text that is complete now; may be empty.
        text: String,
        /// Its probability, if that was requested.
        logprobs: Option<Logprobs>,
    },
    /// The answer has ended; this is the last update.
    End {
        /// The reason.
        reason: Stop,
        /// The rest of its text.
        text: String,
        /// The stop text that ended it.
        stop_text: Option<String>,
        /// Its tokens and times.
        usage: Usage,
    },
    /// The answer has failed; this is the last update.
    Failed(Error),
}

/// Wakes the computing thread. A call before it waits is not lost.
#[derive(Default)]
pub(super) struct Signal {
    set: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    pub(super) fn set(&self) {
        *lock(&self.set) = true;
        self.changed.notify_all();
    }

    pub(super) fn wait(&self) {
        let mut set = lock(&self.set);
        while !*set {
            set = self.changed.wait(set).unwrap_or_else(PoisonError::into_inner);
        }
        *set = false;
    }
}

/// Locks a mutex, even if it is poisoned.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct State {
    queue: VecDeque<Update>,
    waker: Option<Waker>,
    sender_gone: bool,
    receiver_gone: bool,
}

#[derive(Default)]
struct Channel {
    state: Mutex<State>,
    ready: Condvar,
}

/// A channel whose reader notifies `signal` when it has made room and when it is dropped.
pub(super) fn channel(signal: Arc<Signal>) -> (Sender, Updates) {
    let channel = Arc::new(Channel::default());
    (Sender { channel: channel.clone() }, Updates { channel, signal })
}

/// The sending end.
pub(super) struct Sender {
    channel: Arc<Channel>,
}

impl Sender {
    /// Whether the reader still exists.
    pub(super) fn is_open(&self) -> bool {
        !lock(&self.channel.state).receiver_gone
    }

    /// Whether there is room for the updates of a step.
    pub(super) fn has_room(&self) -> bool {
        lock(&self.channel.state).queue.len() < CAPACITY
    }

    pub(super) fn send(&self, update: Update) {
        let mut state = lock(&self.channel.state);
        // Of a prompt's progress, the first report (of what is cached) and the latest are kept.
        let is_later = |update: &Update| matches!(update, Update::Reading { done, cached, .. } if done > cached);
        if is_later(&update) && state.queue.back().is_some_and(is_later) {
            state.queue.pop_back();
        }
        state.queue.push_back(update);
        self.wake(state);
    }

    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let waker = state.waker.take();
        drop(state);
        self.channel.ready.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut state = lock(&self.channel.state);
        state.sender_gone = true;
        self.wake(state);
    }
}

/// The updates of one request, in order. Dropping it cancels the request.
pub struct Updates {
    channel: Arc<Channel>,
    signal: Arc<Signal>,
}

impl Updates {
    fn pop(&self, state: &mut State) -> Option<Update> {
        let was_full = state.queue.len() >= CAPACITY;
        let update = state.queue.pop_front();
        if was_full {
            self.signal.set();
        }
        update
    }

    /// The next update, for tasks: `None` after the last one.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Update>> {
        let mut state = lock(&self.channel.state);
        match self.pop(&mut state) {
            Some(update) => Poll::Ready(Some(update)),
            None if state.sender_gone => Poll::Ready(None),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The next update, for tasks: `None` after the last one.
    pub async fn receive(&mut self) -> Option<Update> {
        poll_fn(|context| self.poll_next(context)).await
    }
}

/// The updates, for threads: waits for each.
impl Iterator for Updates {
    type Item = Update;

    fn next(&mut self) -> Option<Update> {
        let mut state = lock(&self.channel.state);
        loop {
            match self.pop(&mut state) {
                Some(update) => return Some(update),
                None if state.sender_gone => return None,
                None => state = self.channel.ready.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl Drop for Updates {
    fn drop(&mut self) {
        let mut state = lock(&self.channel.state);
        state.receiver_gone = true;
        state.queue.clear();
        drop(state);
        self.signal.set();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_once_and_a_full_channel_has_no_room() {
        let (sender, mut updates) = channel(Arc::default());
        for done in 1..4 {
            sender.send(Update::Reading { done, cached: 1, total: 3, slot: 0 });
        }
        assert!(matches!(updates.next(), Some(Update::Reading { done: 1, .. })));
        assert!(matches!(updates.next(), Some(Update::Reading { done: 3, .. })));
        let token = || Update::Token { token: 1, text: String::new(), logprobs: None };
        (0..CAPACITY).for_each(|_| sender.send(token()));
        assert!(!sender.has_room());
        updates.signal.set();
        updates.signal.wait();
        updates.next().expect("a token");
        assert!(sender.has_room());
        // The reader has signalled that there is room, so this does not wait forever.
        updates.signal.wait();
        let signal = updates.signal.clone();
        drop(updates);
        signal.wait();
        assert!(!sender.is_open());
    }

    #[test]
    fn a_reader_learns_that_nothing_comes_any_more() {
        let (sender, updates) = channel(Arc::default());
        let reader = std::thread::spawn(move || updates.count());
        sender.send(Update::Failed(Error::Stopped));
        drop(sender);
        assert_eq!(reader.join().expect("ends"), 1);
    }
}
