//! A pipeline that produces items on many threads and consumes them in order, without waiting for whole batches and with a
//! bounded number of finished items.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};
use std::thread;

use rayon::ThreadPoolBuilder;

/// How many items are in progress at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Width {
    /// Threads that produce.
    pub(super) threads: usize,
    /// Items that may be begun and not yet taken up.
    pub(super) window: usize,
}

/// Makes the items `0..count` on a pool of threads and gives them to `consume`, which runs on this thread, in order.
/// Items that are made at the same time have a state each, made by `state`.
///
/// # Errors
/// The first error in the order of items, or that of `consume`. Then no further item is begun.
///
/// # Panics
/// Where `produce` or `consume` does, and where no thread can be started.
pub(super) fn ordered<S: Send, T: Send, E: Send>(
    count: usize,
    width: Width,
    state: impl Fn() -> S + Sync,
    produce: impl Fn(&mut S, usize) -> Result<T, E> + Sync,
    mut consume: impl FnMut(usize, T) -> Result<(), E>,
) -> Result<(), E> {
    let threads = width.threads.clamp(1, count.max(1));
    let pool = ThreadPoolBuilder::new().num_threads(threads).build().expect("threads of the system");
    let (window, stopped) = (width.window.max(1), AtomicBool::new(false));
    let states: Mutex<Vec<S>> = Mutex::default();
    let states = || states.lock().unwrap_or_else(PoisonError::into_inner);
    let make = |item| {
        let spare = states().pop();
        let mut of_item = spare.unwrap_or_else(&state);
        let made = produce(&mut of_item, item);
        states().push(of_item);
        made
    };
    // `in_place`: the body runs on this thread. `fifo`: what is written next is made next.
    pool.in_place_scope_fifo(|scope| {
        let stop = StopOnDrop(&stopped);
        let (sender, results) = mpsc::channel();
        let begin = |item| {
            let (sender, make, stopped) = (sender.clone(), &make, &stopped);
            scope.spawn_fifo(move |_| {
                if !stopped.load(Ordering::Relaxed) {
                    // Nobody listens any more where another item has failed.
                    let _ = sender.send((item, catch_unwind(AssertUnwindSafe(|| make(item)))));
                }
            });
        };
        (0..window.min(count)).for_each(begin);
        let mut early: VecDeque<Option<thread::Result<Result<T, E>>>> = VecDeque::new();
        for next in 0..count {
            while !matches!(early.front(), Some(Some(_))) {
                let (item, result) = results.recv().expect("this thread holds a sender");
                if early.len() <= item - next {
                    early.resize_with(item - next + 1, || None);
                }
                early[item - next] = Some(result);
            }
            let result = early.pop_front().flatten().expect("just seen");
            let item = result.unwrap_or_else(|panic| resume_unwind(panic))?;
            if next + window < count {
                begin(next + window);
            }
            consume(next, item)?;
        }
        drop(stop);
        Ok(())
    })
}

/// No further item is begun, also after a panic.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
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
