//! The places of a batcher's requests. Each remembers the text that was computed in it last, for those who take its state out, put
//! another one in, or remove it. The states themselves are in the prefix cache.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use super::prefix_cache::common;
use super::updates::Signal;
use crate::cpu::Sequence;

/// A request goes on in the place whose text it begins with by more than one part in so many.
const SIMILAR: usize = 10;

/// What is wanted of a slot. The answer comes when no request is in it.
pub(super) struct SlotCommand {
    pub(super) slot: usize,
    /// Only texts of requests with the same salt are seen.
    pub(super) salt: u64,
    pub(super) action: SlotAction,
}

pub(super) enum SlotAction {
    /// Gives a copy of its state; `None` if it has none, or none any more.
    Copy(SyncSender<Option<SlotState>>),
    /// Evicts stored prefixes until there are so many bytes for a state that is being made.
    MakeRoom(usize, SyncSender<Held>),
    /// Puts a state in its place.
    Put(SlotState, SyncSender<()>),
    /// Removes its state, and tells its tokens.
    Erase(SyncSender<usize>),
}

/// A state outside of the thread that computes.
pub(super) struct SlotState {
    pub(super) tokens: Vec<u32>,
    pub(super) sequence: Sequence,
    /// Dropped after the sequence.
    pub(super) _held: Held,
}

/// Says that memory is held outside of the thread that computes, which is told when it is given back.
pub(super) struct Held {
    one: Option<Arc<()>>,
    signal: Arc<Signal>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.one = None;
        self.signal.set();
    }
}

/// Counts the states outside.
pub(super) struct Outside {
    all: Arc<()>,
    signal: Arc<Signal>,
}

impl Outside {
    pub(super) fn new(signal: Arc<Signal>) -> Self {
        Self { all: Arc::default(), signal }
    }

    pub(super) fn hold(&self) -> Held {
        Held { one: Some(self.all.clone()), signal: self.signal.clone() }
    }

    pub(super) fn is_empty(&self) -> bool {
        Arc::strong_count(&self.all) == 1
    }
}

#[derive(Clone, Default)]
struct Slot {
    salt: u64,
    /// The text whose state it has; empty where nobody may see it.
    tokens: Vec<u32>,
    /// Time of its last use; 0 for never.
    used: u64,
}

/// All places.
pub(super) struct Slots {
    all: Vec<Slot>,
    clock: u64,
}

impl Slots {
    pub(super) fn new(count: usize) -> Self {
        Self { all: vec![Slot::default(); count], clock: 0 }
    }

    /// The place for a request that begins with `tokens`, of those that are free: that whose text it goes on from, or else the one
    /// that is unused for longest.
    pub(super) fn best(&self, salt: u64, tokens: &[u32], is_free: impl Fn(usize) -> bool) -> Option<usize> {
        let similar = |slot: &Slot| {
            let shared = if slot.salt == salt { common(&slot.tokens, tokens) } else { 0 };
            if shared * SIMILAR > tokens.len() { shared } else { 0 }
        };
        let free = (0..self.all.len()).filter(|&i| is_free(i));
        free.min_by_key(|&i| (usize::MAX - similar(&self.all[i]), self.all[i].used))
    }

    /// A request or a state takes the place; what was in it is forgotten. `tokens` are the text that others may see.
    pub(super) fn set(&mut self, slot: usize, salt: u64, tokens: &[u32]) {
        self.clock += 1;
        if let Some(slot) = self.all.get_mut(slot) {
            *slot = Slot { salt, tokens: tokens.to_vec(), used: self.clock };
        }
    }

    /// The text of a place, for those with its salt.
    pub(super) fn text(&self, slot: usize, salt: u64) -> &[u32] {
        self.all.get(slot).filter(|slot| slot.salt == salt).map_or(&[], |slot| &slot.tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_goes_on_where_its_text_is_or_where_nobody_was_for_longest() {
        let mut slots = Slots::new(3);
        let all = |_| true;
        assert_eq!(slots.best(0, &[1, 2, 3], all), Some(0));
        slots.set(0, 0, &[1, 2, 3]);
        assert_eq!(slots.best(0, &[9, 9], all), Some(1));
        slots.set(1, 5, &[1, 2, 3, 4]);
        // The text of another salt is not seen.
        assert_eq!(slots.best(0, &[1, 2, 3, 4, 5], all), Some(0));
        assert_eq!(slots.best(5, &[1, 2, 3, 4, 5], all), Some(1));
        assert_eq!(slots.best(5, &[1, 2, 3, 4, 5], |i| i != 1), Some(2));
        slots.set(2, 0, &[7]);
        // A tenth of the text alone is no reason.
        let long: Vec<u32> = (7..17).collect();
        assert_eq!(slots.best(0, &long, all), Some(0));
        assert_eq!(slots.best(0, &long[..9], all), Some(2));
        assert_eq!(slots.best(0, &[1], |_| false), None);
        assert_eq!((slots.text(1, 5).len(), slots.text(1, 0).len(), slots.text(9, 0).len()), (4, 0, 0));
    }

    #[test]
    fn who_holds_a_state_outside_is_counted() {
        let outside = Outside::new(Arc::default());
        let held = outside.hold();
        assert!(!outside.is_empty());
        drop(held);
        assert!(outside.is_empty());
        // The thread was told: this does not wait for ever.
        outside.signal.wait();
    }
}
