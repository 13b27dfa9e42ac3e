//! What: a flag that ends the sleeps of one thread, whatever event it sleeps on. Others set it,
//! also in a signal handler. It stays set until a wait ends because of it, or somebody takes it
//! back.
//!
//! Bytes: one futex word, in private memory: 0 or 1. The thread sleeps on it and on the event's
//! word at once, see [`EventCount::wait_unless`](super::event_count::EventCount::wait_unless).
//!
//! Invariants
//! - I1: the word is 1 from `set` until a `take` that returns true. So a `set` before the sleep
//!   prevents it: the kernel compares both words. One during the sleep ends it, by the wake-up that
//!   follows the store.
//! - I2: one `take` returns true for a `set`, or for several in a row.
//! - I3: a wait that ends because of it, after a sleep, notifies one more of those that sleep on
//!   the event. The kernel may have spent a wake-up on this sleep although the flag ended it: it
//!   looks at one word after the other.
//!
//! Edges
//! - E1: `set`: Release · `take`: Acquire. What was done before `set` is visible to the thread
//!   whose wait it ended.
//!
//! Crash: the memory is private. A process that is killed between being woken and I3 is the sleeper
//! of `event_count.rs` that was killed after it was woken.
//!
//! Source: thread interruption of Java (JSR 133, 17.2.3), whose flag is sticky, too.

use std::time::Duration;

use crate::primitive::{AtomicU32, Ordering, futex_wait_signalled, futex_wake};
use crate::raw::Memory;
use crate::raw::event_count::EventCount;

pub(crate) struct Interrupt {
    word: AtomicU32,
}

impl Interrupt {
    pub(crate) const CLEAR: u32 = 0;
    const SET: u32 = 1;

    pub(crate) fn new() -> Self {
        Self { word: AtomicU32::new(Self::CLEAR) }
    }

    /// Ends the sleep of the thread, or the next one. Only atomics and one system call.
    pub(crate) fn set(&self) {
        self.word.store(Self::SET, Ordering::Release); // E1
        futex_wake(&self.word, u32::MAX);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.word.load(Ordering::Relaxed) != Self::CLEAR // a hint
    }

    /// Clears the flag. Returns whether it was set.
    pub(crate) fn take(&self) -> bool {
        // E1. Relaxed: of a flag that is clear nothing follows.
        let clear = || self.word.compare_exchange(Self::SET, Self::CLEAR, Ordering::Acquire, Ordering::Relaxed);
        self.is_set() && clear().is_ok()
    }

    /// Whether a wait for this event ends here. If so, another waiter may have its wake-up.
    pub(crate) fn ends_wait<M: Memory>(&self, event: &EventCount<M>, has_slept: bool) -> bool {
        let is_ended = self.take();
        if is_ended && has_slept {
            event.notify(1); // I3
        }
        is_ended
    }

    /// Sleeps until the flag is set, for at most `limit`. Returns whether a signal was caught.
    pub(crate) fn sleep(&self, limit: Duration) -> bool {
        futex_wait_signalled(&self.word, Self::CLEAR, limit)
    }

    /// What [`EventCount`] sleeps on, besides its own word.
    pub(super) fn word(&self) -> &AtomicU32 {
        &self.word
    }
}
