//! The stand-in for `src/primitive.rs` on real threads: the same models, on the machine as it is.

use std::cell::Cell;
use std::sync::atomic::Ordering as O;

pub(crate) use std::hint::spin_loop;
pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{Ordering, fence};
pub(crate) use std::thread;

mod bytes;
mod common;
pub(crate) use bytes::*;
use common::{atomic_methods, count_access};
pub(crate) use common::{futex_wait_either, futex_wait_signalled, kill_after};

thread_local! {
    static REMAINING_ACCESSES: Cell<usize> = const { Cell::new(usize::MAX) };
}

pub(crate) fn with_budget<R>(action: impl FnOnce(&Cell<usize>) -> R) -> R {
    REMAINING_ACCESSES.with(action)
}

/// A real sleeper may wake and look again any number of times.
pub(crate) const BOUNDS_ACCESSES: bool = false;

/// Runs a model many times, in whatever interleavings the machine's scheduler produces.
pub(crate) fn model(body: impl Fn() + Send + Sync + 'static) {
    for _ in 0..100 {
        body();
    }
}

pub(crate) use model as large_model;

/// Whether membarrier(2) is refused. Tests that run at the same time see it, too: it makes no
/// difference to them.
static REFUSED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Runs a model in which membarrier(2) is refused to processes that have registered for it.
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

    fn access(&self) -> &std::sync::atomic::AtomicU64 {
        count_access();
        &self.0
    }

    atomic_methods!(u64);
}

pub(crate) struct AtomicU32(std::sync::atomic::AtomicU32);

impl AtomicU32 {
    pub(crate) fn new(value: u32) -> Self {
        Self(std::sync::atomic::AtomicU32::new(value))
    }

    fn access(&self) -> &std::sync::atomic::AtomicU32 {
        count_access();
        &self.0
    }

    atomic_methods!(u32);
}

/// A futex may wake for no reason, so this only yields.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, _: std::time::Duration) {
    count_access();
    if word.0.load(O::SeqCst) == expected {
        thread::yield_now();
    }
}

/// Likewise.
pub(crate) fn futex_wait_any<'a>(
    mut words: impl Iterator<Item = (&'a AtomicU32, u32)>,
    _: std::time::Duration,
) -> bool {
    count_access();
    if words.all(|(word, expected)| word.0.load(O::SeqCst) == expected) {
        thread::yield_now();
    }
    true
}

pub(crate) fn futex_wake(_: &AtomicU32, _: u32) -> usize {
    count_access();
    0
}
