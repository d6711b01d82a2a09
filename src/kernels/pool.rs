//! A pool of threads that lives as long as the engine and runs one parallel region after another.
//!
//! A token takes about five regions per layer, so a region must begin and end within a microsecond. Waiting threads
//! therefore spin for a moment before they sleep, and a thread that wakes too late is not waited for. The caller works too.
#![allow(unsafe_code, reason = "a region's closure is lent to threads that outlive the borrow")]

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, yield_now};
use std::time::{Duration, Instant};

use super::scratch::List;
use crate::simd::Isa;

/// How long a thread spins before it sleeps.
const SPIN: Duration = Duration::from_micros(50);

/// The low bits of [`Shared::state`] count the workers inside the region; the next one says that it is open.
const WORKERS: u64 = (1 << 15) - 1;
const OPEN: u64 = 1 << 15;
const GENERATION: u64 = 1 << 16;

thread_local! {
    /// Whether this thread is inside a region. A nested region runs on the thread that starts it.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// A value on cache lines of its own, so that writing it does not slow down readers of neighbouring values.
#[repr(align(128))]
struct Padded<T>(T);

#[derive(Clone, Copy)]
struct Job {
    task: *const (dyn Fn(usize) + Sync),
    tasks: usize,
}

struct Shared {
    /// The region's generation, whether it is open, and the number of workers inside it.
    state: Padded<AtomicU64>,
    next: Padded<AtomicUsize>,
    /// Written by the caller while no worker is inside; read by workers inside.
    job: UnsafeCell<Option<Job>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Threads that sleep on `wake`, or are about to.
    sleepers: Padded<AtomicUsize>,
    sleep: Mutex<()>,
    wake: Condvar,
    stop: AtomicU64,
}

// SAFETY: `job` is written by the one caller that holds `Pool::region`, before it opens the region with release
// ordering and after the last worker has left; workers read it only between entering and leaving.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is to a `Sync` closure, which may be called from any thread.
unsafe impl Send for Shared {}

/// Number and waiting time of a pool's regions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Regions {
    /// Parallel regions run.
    pub count: u64,
    /// Time that the caller has waited for other threads at the end of regions.
    pub waiting: Duration,
}

/// A team of threads.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    isa: Isa,
    region: Mutex<Regions>,
}

impl Pool {
    /// A pool of `threads` threads (at least one), the caller of [`Pool::run`] among them, that uses the
    /// [selected](Isa::selected) instruction set, or the best one if the selection is invalid.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self::with_isa(threads, Isa::active())
    }

    /// A pool whose kernels use `isa`.
    ///
    /// # Panics
    /// If this CPU lacks `isa`.
    #[must_use]
    pub fn with_isa(threads: usize, isa: Isa) -> Self {
        assert!(isa.available(), "this CPU cannot run {isa}");
        let shared = Arc::new(Shared {
            state: Padded(AtomicU64::new(0)),
            next: Padded(AtomicUsize::new(0)),
            job: UnsafeCell::new(None),
            panic: Mutex::new(None),
            sleepers: Padded(AtomicUsize::new(0)),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            stop: AtomicU64::new(0),
        });
        let workers = (1..threads.min(1 << 12))
            .map_while(|i| {
                let shared = Arc::clone(&shared);
                // If the system refuses to start a thread, the pool has one thread fewer; that is no error.
                std::thread::Builder::new().name(format!("gguf-{i}")).spawn(move || work(&shared)).ok()
            })
            .collect();
        Self { shared, workers, isa, region: Mutex::new(Regions::default()) }
    }

    /// Threads that take part in a region.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// The instruction set of the kernels that run here.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Number and waiting time of all regions so far.
    #[must_use]
    pub fn regions(&self) -> Regions {
        *lock(&self.region)
    }

    /// Calls `task` with each of `0..tasks`, on all threads, and returns when all calls have returned.
    ///
    /// Tasks start in order. Inside a task, `run` calls its tasks one after the other.
    ///
    /// # Panics
    /// If a task panics: with its payload, when the other threads have left the region.
    pub fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        if tasks <= 1 || self.workers.is_empty() || INSIDE.get() {
            (0..tasks).for_each(task);
            return;
        }
        let mut regions = lock(&self.region);
        let shared = &*self.shared;
        // SAFETY: only the lifetime is changed; nobody uses the pointer after `close` has seen the last worker leave.
        let task: *const (dyn Fn(usize) + Sync + 'static) = unsafe { std::mem::transmute(task) };
        // SAFETY: the region is closed and empty, and `regions` is locked: nobody else looks at the job.
        unsafe { *shared.job.get() = Some(Job { task, tasks }) };
        shared.next.0.store(0, Ordering::Relaxed);
        let state = shared.state.0.load(Ordering::Relaxed);
        shared.state.0.store((state & !(OPEN | WORKERS)).wrapping_add(GENERATION) | OPEN, Ordering::Release);
        shared.wake_sleepers();
        shared.take_part(Job { task, tasks });
        regions.waiting += shared.close();
        regions.count += 1;
        drop(regions);
        let panic = lock(&shared.panic).take();
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

    /// Calls `task` with each of `items`, on all threads, and returns when all calls have returned.
    ///
    /// # Panics
    /// As [`Self::run`].
    pub fn run_each<T: Send>(&self, items: Vec<T>, task: &(dyn Fn(T) + Sync)) {
        self.run_over(items, task);
    }

    /// As [`Self::run_each`], for the items of any iterator.
    pub(crate) fn run_over<T: Send>(&self, items: impl IntoIterator<Item = T>, task: &(dyn Fn(T) + Sync)) {
        let items: List<_> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
        self.run(items.len(), &|i| {
            let item = lock(&items[i]).take();
            if let Some(item) = item {
                task(item);
            }
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(1, Ordering::Release);
        self.shared.wake_sleepers();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its tasks, so that joining it cannot fail.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn take_part(&self, job: Job) {
        INSIDE.set(true);
        loop {
            let i = self.next.0.fetch_add(1, Ordering::Relaxed);
            if i >= job.tasks {
                break;
            }
            // SAFETY: the caller of `run` keeps the closure alive until every thread has left the region.
            let task = unsafe { &*job.task };
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| task(i))) {
                lock(&self.panic).get_or_insert(payload);
                self.next.0.store(job.tasks, Ordering::Relaxed);
            }
        }
        INSIDE.set(false);
    }

    /// Closes the region for further workers and waits for those inside. Returns how long that took.
    fn close(&self) -> Duration {
        if self.state.0.fetch_and(!OPEN, Ordering::AcqRel) & WORKERS == 0 {
            return Duration::ZERO;
        }
        let start = Instant::now();
        self.wait(|| self.state.0.load(Ordering::Acquire) & WORKERS == 0);
        start.elapsed()
    }

    /// Waits until `done`: spins, then sleeps until somebody calls `wake_sleepers`.
    fn wait(&self, done: impl Fn() -> bool) {
        let start = Instant::now();
        while start.elapsed() < SPIN {
            for _ in 0..16 {
                if done() {
                    return;
                }
                std::hint::spin_loop();
            }
        }
        yield_now();
        let mut guard = lock(&self.sleep);
        self.sleepers.0.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        while !done() {
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.0.fetch_sub(1, Ordering::SeqCst);
    }

    /// Wakes sleeping threads. To be called after the change that they wait for.
    fn wake_sleepers(&self) {
        // Together with the fence in `wait`: either this load sees the sleeper, or the sleeper sees the change.
        fence(Ordering::SeqCst);
        if self.sleepers.0.load(Ordering::SeqCst) > 0 {
            drop(lock(&self.sleep));
            self.wake.notify_all();
        }
    }

    /// Enters the open region, if there is one, and returns its job.
    fn enter(&self) -> Option<Job> {
        let mut state = self.state.0.load(Ordering::Acquire);
        while state & OPEN != 0 {
            match self.state.0.compare_exchange_weak(state, state + 1, Ordering::AcqRel, Ordering::Acquire) {
                // SAFETY: this worker is counted inside the region, so that the caller does not write the job.
                Ok(_) => return unsafe { *self.job.get() },
                Err(now) => state = now,
            }
        }
        None
    }

    fn leave(&self) {
        let before = self.state.0.fetch_sub(1, Ordering::AcqRel);
        if before & (WORKERS | OPEN) == 1 {
            self.wake_sleepers();
        }
    }
}

fn work(shared: &Shared) {
    let mut seen = 0;
    loop {
        let news = || {
            let state = shared.state.0.load(Ordering::Acquire);
            (state & OPEN != 0 && state / GENERATION != seen) || shared.stop.load(Ordering::Acquire) != 0
        };
        shared.wait(news);
        if shared.stop.load(Ordering::Acquire) != 0 {
            return;
        }
        if let Some(job) = shared.enter() {
            // The generation cannot change while this worker is inside.
            seen = shared.state.0.load(Ordering::Acquire) / GENERATION;
            shared.take_part(job);
            shared.leave();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::Pool;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[test]
    fn every_task_runs_once() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads);
            for tasks in [0, 1, 2, 3, 100] {
                let calls: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                for round in 1..=50 {
                    pool.run(tasks, &|i| {
                        calls[i].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(calls.iter().all(|n| n.load(Ordering::Relaxed) == round));
                }
            }
        }
    }

    #[test]
    fn sleeping_threads_come_back() {
        let pool = Pool::new(3);
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(2));
            let sum = AtomicUsize::new(0);
            pool.run(64, &|i| {
                std::thread::sleep(Duration::from_micros(50));
                sum.fetch_add(i, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 63 * 32);
        }
        assert_eq!(pool.regions().count, 5);
    }

    #[test]
    fn a_region_inside_a_task_runs_on_its_thread() {
        let pool = Pool::new(2);
        let sum = AtomicUsize::new(0);
        pool.run(4, &|_| {
            pool.run(3, &|i| {
                sum.fetch_add(i, Ordering::Relaxed);
            });
        });
        assert_eq!(sum.into_inner(), 12);
    }

    #[test]
    fn several_callers_take_turns() {
        let pool = Pool::new(2);
        let sum = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        pool.run(8, &|i| {
                            sum.fetch_add(i, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(sum.into_inner(), 3 * 100 * 28);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.run(10, &|i| assert!(i != 7, "task seven"));
        }));
        let payload = result.expect_err("task seven panics");
        assert!(payload.downcast_ref::<&str>().is_some_and(|text| text.contains("task seven")));
        pool.run(10, &|_| {});
    }
}
