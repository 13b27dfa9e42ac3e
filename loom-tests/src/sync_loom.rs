//! The twin of `src/sync.rs` for loom: its atomics, and a futex made of a mutex and a condition variable.

use std::sync::atomic::Ordering as O;

pub(crate) use loom::sync::atomic::Ordering;
pub(crate) use loom::thread;
pub(crate) use std::sync::Arc;

#[path = "sync_common.rs"]
mod common;
pub(crate) use common::*;

loom::thread_local! {
    /// Shared accesses that this thread may still make.
    static LIFE: std::cell::Cell<usize> = std::cell::Cell::new(usize::MAX);
}

pub(crate) fn with_life<R>(action: impl FnOnce(&std::cell::Cell<usize>) -> R) -> R {
    LIFE.with(action)
}

/// How often somebody looks around before it has slept enough is bounded, too.
pub(crate) const BOUNDS_ACCESSES: bool = true;

/// Explores a model.
pub(crate) fn model(body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(body);
}

pub(crate) fn spin_loop() {
    loom::thread::yield_now();
}

pub(crate) fn fence(ordering: Ordering) {
    tick();
    loom::sync::atomic::fence(ordering);
}

thread_local! {
    /// membarrier(2) is refused in this model. (All threads of a model run in one of the
    /// machine's.)
    static REFUSED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Explores a model in which membarrier(2) is refused to those who have registered for it.
pub(crate) fn model_without_membarrier(body: impl Fn() + Send + Sync + 'static) {
    REFUSED.set(true);
    model(body);
}

/// membarrier(2) makes the pair of them order like two of these. Without it, this one orders
/// nothing.
pub(crate) fn light_fence() {
    if !REFUSED.get() {
        fence(O::SeqCst);
    }
}

pub(crate) fn heavy_fence() -> bool {
    fence(O::SeqCst);
    !REFUSED.get()
}

pub(crate) fn has_light_fence() -> bool {
    true
}

/// See `src/sync.rs`: loom takes sequentially consistent accesses for acquiring and releasing ones, but knows the order of fences.
pub(crate) fn load_in_order(word: &AtomicU64) -> u64 {
    fence(O::SeqCst);
    word.load(O::Acquire)
}

/// A loom atomic and a mark of its own.
///
/// loom 0.7 remembers only the last access to each atomic when it looks for orders still to be tried. A thread that loads a
/// word and then stores to it hides behind its own load every load that others made before, and the orders in
/// which the store comes first are never run. Storing to the mark with each access keeps all accesses in conflict.
struct Watched<T> {
    value: T,
    mark: Option<loom::sync::atomic::AtomicBool>,
}

impl<T> Watched<T> {
    fn new(value: T) -> Self {
        Self { value, mark: Some(loom::sync::atomic::AtomicBool::new(false)) }
    }

    fn access(&self) -> &T {
        tick();
        if let Some(mark) = &self.mark {
            mark.store(true, O::Relaxed);
        }
        &self.value
    }
}

pub(crate) struct AtomicU64(Watched<loom::sync::atomic::AtomicU64>);

impl AtomicU64 {
    pub(crate) fn new(value: u64) -> Self {
        Self(Watched::new(loom::sync::atomic::AtomicU64::new(value)))
    }

    /// A word that no thread both loads and stores: it needs no mark, and models are faster for it.
    pub(crate) fn payload(value: u64) -> Self {
        Self(Watched { value: loom::sync::atomic::AtomicU64::new(value), mark: None })
    }

    pub(crate) fn load(&self, ordering: Ordering) -> u64 {
        self.0.access().load(ordering)
    }

    pub(crate) fn store(&self, value: u64, ordering: Ordering) {
        self.0.access().store(value, ordering);
    }

    pub(crate) fn fetch_add(&self, value: u64, ordering: Ordering) -> u64 {
        self.0.access().fetch_add(value, ordering)
    }

    pub(crate) fn fetch_sub(&self, value: u64, ordering: Ordering) -> u64 {
        self.0.access().fetch_sub(value, ordering)
    }

    pub(crate) fn fetch_or(&self, value: u64, ordering: Ordering) -> u64 {
        self.0.access().fetch_or(value, ordering)
    }

    pub(crate) fn fetch_and(&self, value: u64, ordering: Ordering) -> u64 {
        self.0.access().fetch_and(value, ordering)
    }

    pub(crate) fn compare_exchange(&self, old: u64, new: u64, yes: Ordering, no: Ordering) -> Result<u64, u64> {
        self.0.access().compare_exchange(old, new, yes, no)
    }
}

/// A word with its sleepers: a futex needs nothing else, and comparing and going to sleep are one step under the lock.
pub(crate) struct AtomicU32 {
    value: Watched<loom::sync::atomic::AtomicU32>,
    sleepers: loom::sync::Mutex<usize>,
    wake: loom::sync::Condvar,
}

impl AtomicU32 {
    pub(crate) fn new(value: u32) -> Self {
        Self {
            value: Watched::new(loom::sync::atomic::AtomicU32::new(value)),
            sleepers: loom::sync::Mutex::new(0),
            wake: loom::sync::Condvar::new(),
        }
    }

    pub(crate) fn load(&self, ordering: Ordering) -> u32 {
        self.value.access().load(ordering)
    }

    pub(crate) fn fetch_add(&self, value: u32, ordering: Ordering) -> u32 {
        self.value.access().fetch_add(value, ordering)
    }

    pub(crate) fn fetch_or(&self, value: u32, ordering: Ordering) -> u32 {
        self.value.access().fetch_or(value, ordering)
    }

    pub(crate) fn fetch_and(&self, value: u32, ordering: Ordering) -> u32 {
        self.value.access().fetch_and(value, ordering)
    }

    pub(crate) fn compare_exchange(&self, old: u32, new: u32, yes: Ordering, no: Ordering) -> Result<u32, u32> {
        self.value.access().compare_exchange(old, new, yes, no)
    }
}

/// Without a time limit: a model in which only the limit would help is a lost wake-up, and loom reports it as a deadlock.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, _: std::time::Duration) {
    tick();
    let mut sleepers = word.sleepers.lock().unwrap();
    if word.value.value.load(O::Relaxed) != expected {
        return;
    }
    *sleepers += 1;
    // The waker counts us out; a loom condition variable does not wake for nothing.
    drop(word.wake.wait(sleepers).unwrap());
}

pub(crate) fn futex_wake(word: &AtomicU32, count: u32) -> usize {
    tick();
    let mut sleepers = word.sleepers.lock().unwrap();
    let woken = (*sleepers).min(count as usize);
    *sleepers -= woken;
    for _ in 0..woken {
        word.wake.notify_one();
    }
    woken
}
