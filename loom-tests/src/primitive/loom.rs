//! The stand-in for `src/primitive.rs` under loom: its atomics, and a futex made of a mutex and a
//! condition variable.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::Ordering as O;

pub(crate) use loom::sync::atomic::Ordering;
pub(crate) use loom::thread;
pub(crate) use std::sync::Arc;

mod bytes;
mod common;
pub(crate) use bytes::*;
use common::{atomic_methods, count_access};
pub(crate) use common::{futex_wait_either, futex_wait_signalled, kill_after};

loom::thread_local! {
    /// Shared accesses that this thread may still make.
    static REMAINING_ACCESSES: Cell<usize> = Cell::new(usize::MAX);
}

pub(crate) fn with_budget<R>(action: impl FnOnce(&Cell<usize>) -> R) -> R {
    REMAINING_ACCESSES.with(action)
}

/// Sleeps never time out here, so the number of accesses of a thread is bounded.
pub(crate) const BOUNDS_ACCESSES: bool = true;

/// Runs a model over all interleavings within the preemption bound.
pub(crate) fn model(body: impl Fn() + Send + Sync + 'static) {
    check(2, body);
}

/// Like [`model`], for a model that takes a minute: within one preemption, unless TEST_MODELS is
/// "full".
pub(crate) fn large_model(body: impl Fn() + Send + Sync + 'static) {
    let is_full = std::env::var_os("TEST_MODELS").is_some_and(|value| value == "full");
    check(if is_full { 2 } else { 1 }, body);
}

fn check(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(body);
}

pub(crate) fn spin_loop() {
    loom::thread::yield_now();
}

pub(crate) fn fence(ordering: Ordering) {
    count_access();
    loom::sync::atomic::fence(ordering);
}

thread_local! {
    /// Whether this model refuses membarrier(2). All threads of a loom model run in one thread of
    /// the machine.
    static REFUSED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a model in which membarrier(2) is refused to processes that have registered for it.
pub(crate) fn model_without_membarrier(body: impl Fn() + Send + Sync + 'static) {
    REFUSED.set(true);
    model(body);
}

/// With membarrier(2), the pair of a light and a heavy fence orders like two full fences. Without
/// it, a light fence orders nothing.
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

/// loom treats sequentially consistent accesses as acquire and release, but it knows the order of
/// fences.
pub(crate) fn load_in_order(word: &AtomicU64) -> u64 {
    fence(O::SeqCst);
    word.load(O::Acquire)
}

/// A loom atomic with a trace word of its own.
///
/// loom 0.7 remembers only the last access to each atomic when it looks for orders still to be
/// tried. If a thread loads a word and then stores to it, its load hides earlier loads by other
/// threads. Orders in which the store precedes those loads are then never run. A store to the trace
/// word with each access keeps all accesses in conflict.
struct TracedAtomic<T> {
    value: T,
    trace: Option<loom::sync::atomic::AtomicBool>,
}

impl<T> TracedAtomic<T> {
    fn new(value: T) -> Self {
        Self { value, trace: Some(loom::sync::atomic::AtomicBool::new(false)) }
    }

    fn access(&self) -> &T {
        count_access();
        if let Some(trace) = &self.trace {
            trace.store(true, O::Relaxed);
        }
        &self.value
    }
}

pub(crate) struct AtomicU64(TracedAtomic<loom::sync::atomic::AtomicU64>);

impl AtomicU64 {
    pub(crate) fn new(value: u64) -> Self {
        Self(TracedAtomic::new(loom::sync::atomic::AtomicU64::new(value)))
    }

    /// A word that no thread both loads and stores. It needs no trace, which makes models faster.
    pub(crate) fn payload(value: u64) -> Self {
        Self(TracedAtomic { value: loom::sync::atomic::AtomicU64::new(value), trace: None })
    }

    fn access(&self) -> &loom::sync::atomic::AtomicU64 {
        self.0.access()
    }

    atomic_methods!(u64);
}

/// A futex word and its sleepers. Comparing and going to sleep are one step under the lock.
pub(crate) struct AtomicU32 {
    value: TracedAtomic<loom::sync::atomic::AtomicU32>,
    sleepers: loom::sync::Mutex<VecDeque<Sleeper>>,
    wake: loom::sync::Condvar,
}

/// Who sleeps on a word, the first one first.
enum Sleeper {
    /// On this word alone: on its condition variable.
    One,
    /// On several words.
    Several(Arc<SeveralWords>),
}

/// A thread that sleeps on several words, until one of them wakes it.
struct SeveralWords {
    is_woken: loom::sync::Mutex<bool>,
    wake: loom::sync::Condvar,
}

impl AtomicU32 {
    pub(crate) fn new(value: u32) -> Self {
        Self {
            value: TracedAtomic::new(loom::sync::atomic::AtomicU32::new(value)),
            sleepers: loom::sync::Mutex::new(VecDeque::new()),
            wake: loom::sync::Condvar::new(),
        }
    }

    fn access(&self) -> &loom::sync::atomic::AtomicU32 {
        self.value.access()
    }

    atomic_methods!(u32);
}

/// Ignores the time limit. If only the limit would end a sleep, the wake-up was lost, and loom
/// reports a deadlock.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, _: std::time::Duration) {
    count_access();
    let mut sleepers = word.sleepers.lock().unwrap();
    if word.value.value.load(O::Relaxed) != expected {
        return;
    }
    sleepers.push_back(Sleeper::One);
    // The waker takes it off the list. A loom condition variable has no spurious wake-ups.
    drop(word.wake.wait(sleepers).unwrap());
}

/// As futex_waitv(2): enlists on one word after the other, and leaves all of them if one has another
/// value, or once it is awake. Until then each of them may spend a wake-up on it.
pub(crate) fn futex_wait_any<'a>(words: impl Iterator<Item = (&'a AtomicU32, u32)>, _: std::time::Duration) -> bool {
    count_access();
    let own = Arc::new(SeveralWords { is_woken: loom::sync::Mutex::new(false), wake: loom::sync::Condvar::new() });
    let mut enlisted = Vec::new();
    let mut is_refused = false;
    for (word, expected) in words {
        let mut sleepers = word.sleepers.lock().unwrap();
        is_refused = word.value.value.load(O::Relaxed) != expected;
        if is_refused {
            break;
        }
        sleepers.push_back(Sleeper::Several(Arc::clone(&own)));
        enlisted.push(word);
    }
    if !is_refused {
        let mut is_woken = own.is_woken.lock().unwrap();
        while !*is_woken {
            is_woken = own.wake.wait(is_woken).unwrap();
        }
    }
    for word in enlisted {
        let is_other = |sleeper: &Sleeper| !matches!(sleeper, Sleeper::Several(other) if Arc::ptr_eq(other, &own));
        word.sleepers.lock().unwrap().retain(is_other);
    }
    true
}

pub(crate) fn futex_wake(word: &AtomicU32, count: u32) -> usize {
    count_access();
    let mut sleepers = word.sleepers.lock().unwrap();
    let woken = sleepers.len().min(count as usize);
    for sleeper in sleepers.drain(..woken) {
        match sleeper {
            Sleeper::One => word.wake.notify_one(),
            Sleeper::Several(sleeper) => {
                *sleeper.is_woken.lock().unwrap() = true;
                sleeper.wake.notify_one();
            }
        }
    }
    woken
}
