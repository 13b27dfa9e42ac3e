//! What: one word on which processes sleep until another has changed something elsewhere in the region; it wakes as many as
//! the change is of use to. A notifier that finds nobody waiting pays for two loads of a line that it has in its cache.
//!
//! Bytes: one futex word.
//!
//! ```text
//!  31                      4   3      2      1      0
//! ┌─────────────────────────┬──────┬──────┬──────┬───────┐
//! │ epoch                   │NO_BARGING│PEER_LEFT│FENCES│WAITERS│
//! └─────────────────────────┴──────┴──────┴──────┴───────┘
//! ```
//!
//! Invariants
//! - I1: while someone sleeps on the word or is about to (between `listen` and `wait`), WAITERS is set, or the epoch has moved
//!   since its ticket, so that the kernel refuses the sleep.
//! - I2: WAITERS is cleared only when the kernel has said that nobody sleeps, and with a new epoch; whoever slipped in between that
//!   answer and the clearing is woken after it. A killed sleeper thus leaves at most one idle system call.
//! - I3: PEER_LEFT is set by the listening side for the notifying side to see on its way: "I have left".
//! - I4: FENCES, once set, stays: some process here cannot take part in asymmetric fences, or not
//!   any more.
//! - I5: NO_BARGING asks newcomers to leave what there is to those who have waited. It is a request: set by who has waited long in vain,
//!   cleared by who gets something, or has set it and gives up. Nobody heeds it for long, so a killed waiter's is a short delay.
//!
//! Edges
//! - E1: notifier: change, fence, load word · listener: set WAITERS, fence, look for the change. A
//!   fence pair: at least one of the two sees the other. The notifier's fence is `light`, the
//!   listener's `heavy`. Where the listener's fails it sets FENCES, and the notifier's is a real
//!   one from when it sees that.
//! - E2: hang-up: `mark_peer_left` (Release) · `peer_has_left` (Relaxed load, then the caller reads the role word with
//!   Acquire; the bit itself carries no data).
//!
//! Crash
//! - notifier dies after the change, before the wake: the sleeper's slice ends and it looks.
//! - notifier dies after bumping the epoch: as above.
//! - listener dies after setting WAITERS: I2, the next notifier makes one idle call and clears it.
//! - sleeper dies after it was woken, before it took what it was woken for: that waits for the next notifier, or the end of
//!   another sleeper's slice.
//! - a peer writes garbage here: wake-ups come late (next slice) or for nothing; nothing else depends on the word.
//!
//! Source: the event count of Vyukov and of folly's EventCount, with the waiter count replaced by a bit because a
//! count leaks with each killed waiter; the asymmetric fence is membarrier(2), FENCES its fallback.

use crate::primitive::{Ordering, fence, futex_wait, futex_wake, heavy_fence, light_fence};
use crate::raw::Memory;
use std::time::Duration;

const WAITERS: u32 = 1;
const FENCES: u32 = 2;
const PEER_LEFT: u32 = 4;
const NO_BARGING: u32 = 8;
const EPOCH: u32 = 16;

/// The state of the word at the time of [`EventCount::listen`]; a sleep on an outdated ticket returns at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key(u32);

pub(crate) struct EventCount<M: Memory> {
    word: M::Futex,
}

impl<M: Memory> EventCount<M> {
    pub(crate) fn new(word: M::Futex) -> Self {
        Self { word }
    }

    /// Call after a change of use to `count` listeners, if there are so many.
    #[inline]
    pub(crate) fn notify(&self, count: u32) {
        light_fence(); // E1
        // Relaxed: only the bits matter, the fence orders them.
        if self.word.load(Ordering::Relaxed) & (WAITERS | FENCES) != 0 {
            self.notify_slow(count);
        }
    }

    #[cold]
    fn notify_slow(&self, count: u32) {
        fence(Ordering::SeqCst); // E1, for listeners that cannot issue the heavy half
        let word = self.word.load(Ordering::Relaxed);
        if word & WAITERS != 0 {
            // Such a listener cannot do everything that others can: let those look, too.
            self.wake(if word & FENCES != 0 { u32::MAX } else { count });
        }
    }

    /// Wakes up to `count` listeners, whatever the word says.
    pub(crate) fn wake(&self, count: u32) {
        fence(Ordering::SeqCst); // E1: one who announces itself after this sees the change
        // Relaxed, here and below: the kernel's own lock orders the word against its sleepers.
        let bumped = self.word.fetch_add(EPOCH, Ordering::Relaxed).wrapping_add(EPOCH);
        if futex_wake(&self.word, count) == 0 {
            // A new epoch: who listened meanwhile, and counts on the bit, must not take the word for unchanged.
            let cleared = (bumped & !WAITERS).wrapping_add(EPOCH);
            if self.word.compare_exchange(bumped, cleared, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                // I2: a listener may have gone to sleep on `bumped` after the kernel's answer.
                futex_wake(&self.word, u32::MAX);
            }
        }
    }

    /// Announces a sleep. After this, look once more for the change, and only then [`wait`](Self::wait).
    pub(crate) fn listen(&self) -> Key {
        let before = self.word.fetch_or(WAITERS, Ordering::Relaxed);
        // E1
        if heavy_fence() || before & FENCES != 0 {
            return Key(before | WAITERS);
        }
        // Refused after the registration (a sandbox closed in). From now on notifiers use a fence
        // here (I4). WAITERS again: a notifier may have cleared it meanwhile.
        let before = self.word.fetch_or(WAITERS | FENCES, Ordering::Relaxed);
        fence(Ordering::SeqCst); // E1
        Key(before | WAITERS | FENCES)
    }

    /// Sleeps until notified, or for no reason, or for `slice` at most.
    pub(crate) fn wait(&self, ticket: Key, slice: Duration) {
        futex_wait(&self.word, ticket.0, slice);
    }

    /// Whether the epoch is another than that of the ticket: somebody was woken, if not necessarily this listener.
    pub(crate) fn has_advanced_since(&self, ticket: Key) -> bool {
        (self.word.load(Ordering::Relaxed) ^ ticket.0) / EPOCH != 0
    }

    /// Whether somebody sleeps, or has not been missed yet.
    pub(crate) fn has_waiters(&self) -> bool {
        self.word.load(Ordering::Relaxed) & WAITERS != 0
    }

    /// Whether newcomers are asked to stand back.
    #[inline]
    pub(crate) fn no_barging(&self) -> bool {
        self.word.load(Ordering::Relaxed) & NO_BARGING != 0
    }

    /// Asks newcomers to stand back, or lets them in again.
    pub(crate) fn bar(&self, barred: bool) {
        // Relaxed: nothing is ordered by it.
        if barred {
            self.word.fetch_or(NO_BARGING, Ordering::Relaxed);
        } else {
            self.word.fetch_and(!NO_BARGING, Ordering::Relaxed);
        }
    }

    /// Makes every notifier use a real fence, for a process that has no membarrier.
    pub(crate) fn require_fences(&self) {
        self.word.fetch_or(FENCES, Ordering::SeqCst);
    }

    /// The listening side leaves (or, with a successor, has come back).
    pub(crate) fn mark_peer_left(&self, gone: bool) {
        if gone {
            self.word.fetch_or(PEER_LEFT, Ordering::Release); // E2
        } else {
            self.word.fetch_and(!PEER_LEFT, Ordering::Release); // E2
        }
    }

    #[inline]
    pub(crate) fn peer_has_left(&self) -> bool {
        self.word.load(Ordering::Relaxed) & PEER_LEFT != 0 // E2
    }
}
