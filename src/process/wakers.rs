//! Tasks that wait for the same thing of this process.

use std::collections::BTreeMap;
use std::mem;
use std::task::Waker;

#[cfg(feature = "async")]
use crate::primitive::{AtomicU64, Ordering};
use crate::sys::fork::Generation;
use crate::wait::run_isolated;

/// The task of one future.
#[cfg(feature = "async")]
#[derive(Debug)]
pub(super) struct TaskNumber(u64);

#[cfg(feature = "async")]
impl TaskNumber {
    pub(super) fn new() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed)) // Relaxed: unique is enough
    }
}

/// The wakers of tasks. They are the caller's code, so they are not woken, cloned or dropped under
/// a lock.
#[derive(Debug)]
pub(super) struct Wakers {
    generation: Generation,
    wakers: BTreeMap<u64, Waker>,
}

impl Default for Wakers {
    fn default() -> Self {
        Self { generation: Generation::current(), wakers: BTreeMap::new() }
    }
}

impl Wakers {
    /// Returns the waker that the task had before.
    #[cfg(feature = "async")]
    #[must_use = "it is dropped when nothing is locked"]
    pub(super) fn insert(&mut self, task: &TaskNumber, waker: Waker) -> Option<Waker> {
        self.wakers.insert(task.0, waker)
    }

    #[cfg(feature = "async")]
    #[must_use = "it is dropped when nothing is locked"]
    pub(super) fn remove(&mut self, task: &TaskNumber) -> Option<Waker> {
        self.wakers.remove(&task.0)
    }

    /// Wakes all tasks.
    pub(super) fn wake(mut self) {
        for waker in mem::take(&mut self.wakers).into_values() {
            run_isolated(|| waker.wake());
        }
    }
}

impl Drop for Wakers {
    fn drop(&mut self) {
        // A waker's `drop` may be of a runtime that a forked child has not.
        if !self.generation.is_current() {
            mem::forget(mem::take(&mut self.wakers));
        }
    }
}
