//! The twin of `src/sync.rs` for real threads: the same models, on the machine as it is.

use std::sync::atomic::Ordering as O;

pub(crate) use std::hint::spin_loop;
pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{Ordering, fence};
pub(crate) use std::thread;

#[path = "sync_common.rs"]
mod common;
pub(crate) use common::*;

thread_local! {
    static LIFE: std::cell::Cell<usize> = const { std::cell::Cell::new(usize::MAX) };
}

pub(crate) fn with_life<R>(action: impl FnOnce(&std::cell::Cell<usize>) -> R) -> R {
    LIFE.with(action)
}

/// A real sleeper may look around any number of times.
pub(crate) const BOUNDS_ACCESSES: bool = false;

/// Runs a model often, and hopes for the scheduler's imagination.
pub(crate) fn model(body: impl Fn() + Send + Sync + 'static) {
    for _ in 0..100 {
        body();
    }
}

/// Whether membarrier(2) is refused. Other tests may run meanwhile, in which it is all the same.
static REFUSED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Runs a model in which membarrier(2) is refused to those who have registered for it.
pub(crate) fn model_without_membarrier(body: impl Fn() + Send + Sync + 'static) {
    REFUSED.store(true, O::SeqCst);
    model(body);
    REFUSED.store(false, O::SeqCst);
}

pub(crate) fn light_fence() {
    fence(O::SeqCst);
}

pub(crate) fn heavy_fence() -> bool {
    fence(O::SeqCst);
    !REFUSED.load(O::SeqCst)
}

pub(crate) fn has_light_fence() -> bool {
    true
}

pub(crate) fn load_in_order(word: &AtomicU64) -> u64 {
    word.load(O::SeqCst)
}

pub(crate) struct AtomicU64(std::sync::atomic::AtomicU64);

impl AtomicU64 {
    pub(crate) fn new(value: u64) -> Self {
        Self(std::sync::atomic::AtomicU64::new(value))
    }

    pub(crate) fn payload(value: u64) -> Self {
        Self::new(value)
    }

    pub(crate) fn load(&self, ordering: Ordering) -> u64 {
        tick();
        self.0.load(ordering)
    }

    pub(crate) fn store(&self, value: u64, ordering: Ordering) {
        tick();
        self.0.store(value, ordering);
    }

    pub(crate) fn fetch_add(&self, value: u64, ordering: Ordering) -> u64 {
        tick();
        self.0.fetch_add(value, ordering)
    }

    pub(crate) fn fetch_sub(&self, value: u64, ordering: Ordering) -> u64 {
        tick();
        self.0.fetch_sub(value, ordering)
    }

    pub(crate) fn fetch_or(&self, value: u64, ordering: Ordering) -> u64 {
        tick();
        self.0.fetch_or(value, ordering)
    }

    pub(crate) fn fetch_and(&self, value: u64, ordering: Ordering) -> u64 {
        tick();
        self.0.fetch_and(value, ordering)
    }

    pub(crate) fn compare_exchange(&self, old: u64, new: u64, yes: Ordering, no: Ordering) -> Result<u64, u64> {
        tick();
        self.0.compare_exchange(old, new, yes, no)
    }
}

pub(crate) struct AtomicU32(std::sync::atomic::AtomicU32);

impl AtomicU32 {
    pub(crate) fn new(value: u32) -> Self {
        Self(std::sync::atomic::AtomicU32::new(value))
    }

    pub(crate) fn load(&self, ordering: Ordering) -> u32 {
        tick();
        self.0.load(ordering)
    }

    pub(crate) fn fetch_add(&self, value: u32, ordering: Ordering) -> u32 {
        tick();
        self.0.fetch_add(value, ordering)
    }

    pub(crate) fn fetch_or(&self, value: u32, ordering: Ordering) -> u32 {
        tick();
        self.0.fetch_or(value, ordering)
    }

    pub(crate) fn fetch_and(&self, value: u32, ordering: Ordering) -> u32 {
        tick();
        self.0.fetch_and(value, ordering)
    }

    pub(crate) fn compare_exchange(&self, old: u32, new: u32, yes: Ordering, no: Ordering) -> Result<u32, u32> {
        tick();
        self.0.compare_exchange(old, new, yes, no)
    }
}

/// Waking for no reason is allowed, so a sleep may as well be a pause.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, _: std::time::Duration) {
    tick();
    if word.0.load(O::SeqCst) == expected {
        thread::yield_now();
    }
}

pub(crate) fn futex_wake(_: &AtomicU32, _: u32) -> usize {
    tick();
    0
}
