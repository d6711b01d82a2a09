//! A pipeline that produces items on many threads and consumes them in order, without waiting for whole batches and with a
//! bounded number of finished items.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How many items are in progress at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Width {
    /// Threads that produce.
    pub(super) threads: usize,
    /// Items that may be claimed but not yet consumed.
    pub(super) window: usize,
}

/// Produces the items `0..count` on threads and passes them in order to `consume`, which runs on this thread. Every thread has
/// a state, created by `state`.
///
/// # Errors
/// The first error in the order of items, or that of `consume`. No further item is begun then.
pub(super) fn ordered<S, T: Send, E: Send>(
    count: usize,
    width: Width,
    state: impl Fn() -> S + Sync,
    produce: impl Fn(&mut S, usize) -> Result<T, E> + Sync,
    mut consume: impl FnMut(usize, T) -> Result<(), E>,
) -> Result<(), E> {
    let line = Line {
        count,
        window: width.window.max(1),
        queue: Mutex::new(Queue { ready: VecDeque::new(), first: 0, next: 0, stopped: false }),
        ready: Condvar::new(),
        room: Condvar::new(),
    };
    let line = &line;
    std::thread::scope(|scope| {
        for _ in 0..width.threads.clamp(1, count.max(1)) {
            scope.spawn(|| {
                let _watch = Watch(line);
                let mut state = state();
                while let Some(item) = line.claim() {
                    line.deliver(item, produce(&mut state, item));
                }
            });
        }
        // The threads must end even if `consume` panics.
        let _watch = Stop(line);
        while let Some((item, result)) = line.take() {
            consume(item, result?)?;
        }
        Ok(())
    })
}

struct Line<T, E> {
    count: usize,
    window: usize,
    queue: Mutex<Queue<T, E>>,
    /// The first item of the queue is ready.
    ready: Condvar,
    /// There is room for a further item.
    room: Condvar,
}

struct Queue<T, E> {
    /// Results of the items from `first` on; `None` for unfinished items.
    ready: VecDeque<Option<Result<T, E>>>,
    first: usize,
    next: usize,
    stopped: bool,
}

impl<T, E> Line<T, E> {
    fn lock(&self) -> MutexGuard<'_, Queue<T, E>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next item to work on; `None` when there is nothing left to do.
    fn claim(&self) -> Option<usize> {
        let mut queue = self.lock();
        while !queue.stopped && queue.next < self.count && queue.next >= queue.first + self.window {
            queue = self.room.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if queue.stopped || queue.next >= self.count {
            return None;
        }
        queue.next += 1;
        queue.ready.push_back(None);
        Some(queue.next - 1)
    }

    fn deliver(&self, item: usize, result: Result<T, E>) {
        let mut queue = self.lock();
        if result.is_err() {
            // Earlier items are in progress; later ones are not needed.
            queue.next = self.count;
        }
        let place = item - queue.first;
        queue.ready[place] = Some(result);
        if place == 0 {
            self.ready.notify_one();
        }
    }

    /// The next result in order; `None` after the last.
    fn take(&self) -> Option<(usize, Result<T, E>)> {
        let mut queue = self.lock();
        loop {
            if queue.stopped || queue.first == self.count {
                return None;
            }
            if let Some(result) = queue.ready.front_mut().and_then(Option::take) {
                queue.ready.pop_front();
                queue.first += 1;
                self.room.notify_one();
                return Some((queue.first - 1, result));
            }
            queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn stop(&self) {
        self.lock().stopped = true;
        self.ready.notify_all();
        self.room.notify_all();
    }
}

/// Ends everything when its thread panics.
struct Watch<'a, T, E>(&'a Line<T, E>);

impl<T, E> Drop for Watch<'_, T, E> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}

/// Ends everything.
struct Stop<'a, T, E>(&'a Line<T, E>);

impl<T, E> Drop for Stop<'_, T, E> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::{Width, ordered};

    const WIDTHS: [Width; 4] = [
        Width { threads: 1, window: 1 },
        Width { threads: 2, window: 3 },
        Width { threads: 7, window: 4 },
        Width { threads: 3, window: 1000 },
    ];

    /// Delays some items so that they finish out of order.
    fn late(item: usize) {
        if item.is_multiple_of(5) {
            std::thread::sleep(Duration::from_micros(300));
        }
    }

    #[test]
    fn items_come_in_order_and_never_too_many() {
        for width in WIDTHS {
            let (begun, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let mut items = Vec::new();
            let result: Result<(), ()> = ordered(
                100,
                width,
                || 0,
                |_, item| {
                    let ahead = begun.fetch_add(1, Ordering::SeqCst) + 1 - taken.load(Ordering::SeqCst);
                    // An item counts as taken once it is consumed: one more may have left the queue.
                    assert!(ahead <= width.window + 1, "{ahead} items, {width:?}");
                    late(item);
                    Ok(item * 2)
                },
                |item, twice| {
                    assert_eq!(twice, item * 2);
                    items.push(item);
                    taken.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                },
            );
            assert_eq!(result, Ok(()));
            assert!(items.iter().copied().eq(0..100), "{width:?}");
        }
    }

    #[test]
    fn the_first_error_in_order_counts() {
        for width in WIDTHS {
            let produce = |_: &mut (), item| {
                late(item);
                if item >= 40 { Err(item) } else { Ok(()) }
            };
            assert_eq!(ordered(100, width, || (), produce, |_, ()| Ok(())), Err(40), "{width:?}");
            let stopped =
                ordered(100, width, || (), |(), _| Ok(()), |item, ()| if item == 7 { Err(item) } else { Ok(()) });
            assert_eq!(stopped, Err(7));
        }
    }

    #[test]
    fn no_items_are_no_work() {
        let nothing: Result<(), ()> = ordered(0, WIDTHS[1], || (), |(), _| Ok(()), |_, ()| panic!("an item"));
        assert_eq!(nothing, Ok(()));
    }

    #[test]
    fn panics_end_all_threads() {
        for width in WIDTHS {
            let run = |produce_at: usize, consume_at: usize| {
                catch_unwind(AssertUnwindSafe(|| {
                    let produce = |_: &mut (), item| {
                        assert_ne!(item, produce_at);
                        Ok::<_, ()>(())
                    };
                    ordered(
                        100,
                        width,
                        || (),
                        produce,
                        |item, ()| {
                            assert_ne!(item, consume_at);
                            Ok(())
                        },
                    )
                }))
            };
            assert!(run(30, 1000).is_err() && run(1000, 30).is_err() && run(1000, 1000).is_ok());
        }
    }
}
