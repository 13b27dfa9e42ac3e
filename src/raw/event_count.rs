//! What: a word on which processes sleep until another one has changed something elsewhere in the
//! region. A notifier wakes as many as can use the change. If nobody waits, notifying costs two
//! loads of a cache line that the notifier already has.
//!
//! Bytes: one futex word.
//!
//! ```text
//!  31           4      3           2         1       0
//! ┌──────────────┬────────────┬───────────┬────────┬─────────┐
//! │ wake count   │ NO_BARGING │ PEER_LEFT │ FENCES │ WAITERS │
//! └──────────────┴────────────┴───────────┴────────┴─────────┘
//! ```
//!
//! Invariants
//! - I1: while a listener sleeps on the word or is about to (between `listen` and `wait`), WAITERS
//!   is set, or the wake count has advanced since its key. In the second case the kernel refuses
//!   the sleep.
//! - I2: WAITERS is cleared only when the kernel has answered that nobody sleeps, and together with
//!   an advance of the wake count. A listener that fell asleep between the answer and the clearing
//!   is woken after it. So a killed sleeper costs at most one needless system call.
//! - I3: the listening side sets PEER_LEFT when it leaves. The notifying side sees it in passing.
//! - I4: FENCES, once set, stays. It means that some process here cannot take part in asymmetric
//!   fences, or no longer can.
//! - I5: NO_BARGING asks new callers to let waiters go first. It is a request only. A waiter sets
//!   it after a while without success. It is cleared on success, or when that waiter gives up.
//!   Others honour it only for a short time, so the bit of a killed waiter is a short delay.
//! - I6: a listener to several events that takes what one of them announced passes on the wake-ups
//!   of the others (`pass_on`), of each whose wake count has advanced since its key. It owes that
//!   once it has called `wait_any`, whatever ended the sleep: one that was refused because of a
//!   later word may have got a wake-up at an earlier one. A listener that gives up owes it for all.
//!
//! Edges
//! - E1: notifier: change, fence, load word · listener: set WAITERS, fence, check for the change.
//!   At least one of the two sees the other. The notifier's fence is `light`, the listener's
//!   `heavy`. A listener whose heavy fence fails sets FENCES. A notifier that sees FENCES uses a
//!   full fence.
//! - E2: `set_peer_left`: Release · `peer_has_left`: load, Relaxed. The bit carries no data: the
//!   caller then loads the owner word with Acquire.
//!
//! Crash
//! - notifier, after the change, before the wake-up: the sleep times out, and the sleeper checks.
//! - notifier, after it has advanced the wake count: the same.
//! - listener, after it has set WAITERS: the next notifier makes one needless call and clears it
//!   (I2).
//! - sleeper, after it was woken, before it took what it was woken for: the next notifier wakes
//!   another, or another sleep times out.
//! - listener to several events, before it has passed on a wake-up: the same, at each of them.
//! - a peer writes an invalid word: wake-ups are late (until a sleep times out) or needless.
//!   Nothing else depends on the word.
//!
//! Source: the event count of Vyukov and of folly. A bit replaces the count of waiters, because
//! each killed waiter would leave the count too high. The asymmetric fence is membarrier(2), with
//! FENCES as its fallback.

use crate::primitive::{
    Ordering, fence, futex_wait, futex_wait_any, futex_wait_either, futex_wake, heavy_fence, light_fence,
};
use crate::raw::Memory;
use crate::raw::interrupt::Interrupt;
use std::time::Duration;

const WAITERS: u32 = 1;
const FENCES: u32 = 2;
const PEER_LEFT: u32 = 4;
const NO_BARGING: u32 = 8;
const WAKE: u32 = 16;

/// The word at the time of [`EventCount::listen`]. A sleep with an outdated key returns at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key(u32);

impl Key {
    /// What the word is expected to be.
    pub(crate) fn value(self) -> u32 {
        self.0
    }
}

pub struct EventCount<M: Memory> {
    word: M::Futex,
}

impl<M: Memory> EventCount<M> {
    pub(crate) fn new(word: M::Futex) -> Self {
        Self { word }
    }

    /// Wakes up to `count` listeners after a change. Costs next to nothing if there are none.
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
        let word = self.word.load(Ordering::Relaxed); // ordered by the fence
        if word & WAITERS != 0 {
            // A process that needs FENCES cannot do everything that others can. Let all check.
            self.wake(if word & FENCES != 0 { u32::MAX } else { count });
        }
    }

    /// Wakes up to `count` listeners, whatever the word says.
    pub(crate) fn wake(&self, count: u32) {
        fence(Ordering::SeqCst); // E1: a listener that announces itself after this sees the change
        // Relaxed: the kernel's own lock orders the word against its sleepers.
        let bumped = self.word.fetch_add(WAKE, Ordering::Relaxed).wrapping_add(WAKE);
        if futex_wake(&self.word, count) == 0 {
            // One more: a listener that came meanwhile relies on the bit, so its sleep must
            // fail.
            let cleared = (bumped & !WAITERS).wrapping_add(WAKE);
            // Relaxed: as for the advance before.
            if self.word.compare_exchange(bumped, cleared, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                // I2: a listener may have gone to sleep on `bumped` after the kernel's answer.
                futex_wake(&self.word, u32::MAX);
            }
        }
    }

    /// Announces a sleep. Check once more for the change after this, and only then
    /// [`wait`](Self::wait).
    pub(crate) fn listen(&self) -> Key {
        let before = self.word.fetch_or(WAITERS, Ordering::Relaxed); // ordered by the fence
        // E1
        if heavy_fence() || before & FENCES != 0 {
            return Key(before | WAITERS);
        }
        // Refused although the process is registered: it has entered a sandbox. From now on
        // notifiers use a full fence here (I4). WAITERS again: a notifier may have cleared it.
        // Relaxed: ordered by the fence below.
        let before = self.word.fetch_or(WAITERS | FENCES, Ordering::Relaxed);
        fence(Ordering::SeqCst); // E1
        Key(before | WAITERS | FENCES)
    }

    /// Announces a sleep on several events at once, as [`listen`](Self::listen) does for each of
    /// them, by one fence for all. Their keys are in `keys` then, in the same order.
    pub(crate) fn listen_to_all<'a>(events: impl Iterator<Item = &'a Self> + Clone, keys: &mut Vec<Key>)
    where
        M: 'a,
    {
        keys.clear();
        // Relaxed: ordered by the fence.
        keys.extend(events.clone().map(|event| Key(event.word.fetch_or(WAITERS, Ordering::Relaxed) | WAITERS)));
        // E1
        if heavy_fence() || keys.iter().all(|key| key.0 & FENCES != 0) {
            return;
        }
        // Refused: as in `listen`.
        for (event, key) in events.zip(keys) {
            let before = event.word.fetch_or(WAITERS | FENCES, Ordering::Relaxed); // ordered by the fence below
            *key = Key(before | WAITERS | FENCES);
        }
        fence(Ordering::SeqCst); // E1
    }

    /// Sleeps until one of several events is notified, for at most `limit`. May wake early for no
    /// reason. Returns false, at once, if the system cannot do that.
    pub(crate) fn wait_any<'a>(
        events: impl Iterator<Item = (&'a Self, Key)>,
        interrupt: Option<&'a Interrupt>,
        limit: Duration,
    ) -> bool
    where
        M: 'a,
    {
        let interrupt = interrupt.map(|interrupt| (interrupt.word(), Interrupt::CLEAR));
        futex_wait_any(events.map(|(event, key)| (&*event.word, key.0)).chain(interrupt), limit)
    }

    /// Wakes another listener, if one was woken since that key and it may have been the caller,
    /// which did not take what this event announced (I6).
    pub(crate) fn pass_on(&self, key: Key) {
        if self.has_advanced_since(key) {
            self.notify(1);
        }
    }

    /// Sleeps until notified, for at most `limit`. May wake early for no reason.
    pub(crate) fn wait(&self, key: Key, limit: Duration) {
        futex_wait(&self.word, key.0, limit);
    }

    /// The same, unless the thread is interrupted, or until it is, or until a signal if asked.
    /// Returns whether a signal ended it. A wait that does not go on after this has to notify: I3
    /// of `interrupt.rs`.
    pub(crate) fn wait_unless(&self, key: Key, interrupt: &Interrupt, limit: Duration, until_signal: bool) -> bool {
        futex_wait_either([(&self.word, key.0), (interrupt.word(), Interrupt::CLEAR)], limit, until_signal)
    }

    /// Returns the word, for a sleep on several of them.
    pub(crate) fn word(&self) -> &M::Futex {
        &self.word
    }

    /// Returns whether the word is still as it was: a sleep with this key would begin.
    pub(crate) fn is_at(&self, key: Key) -> bool {
        self.word.load(Ordering::Relaxed) == key.0 // the kernel compares again
    }

    /// Returns whether the wake count has advanced since the key: a listener was woken, if not
    /// necessarily this one.
    pub(crate) fn has_advanced_since(&self, key: Key) -> bool {
        (self.word.load(Ordering::Relaxed) ^ key.0) / WAKE != 0 // only compared
    }

    /// Returns whether a listener sleeps, or did and nobody has noticed that it is gone.
    pub(crate) fn has_waiters(&self) -> bool {
        self.word.load(Ordering::Relaxed) & WAITERS != 0 // a hint
    }

    /// Returns whether new callers are asked to let waiters go first.
    #[inline]
    pub(crate) fn no_barging(&self) -> bool {
        self.word.load(Ordering::Relaxed) & NO_BARGING != 0 // a request (I5)
    }

    /// Asks new callers to let waiters go first, or takes that back.
    pub(crate) fn set_no_barging(&self, is_set: bool) {
        if is_set {
            self.word.fetch_or(NO_BARGING, Ordering::Relaxed); // orders nothing
        } else {
            self.word.fetch_and(!NO_BARGING, Ordering::Relaxed); // orders nothing
        }
    }

    /// Makes every notifier use a full fence, for a process that has no membarrier.
    pub(crate) fn require_fences(&self) {
        self.word.fetch_or(FENCES, Ordering::SeqCst);
    }

    /// Sets that the listening side has left, or clears it for a successor.
    pub(crate) fn set_peer_left(&self, has_left: bool) {
        if has_left {
            self.word.fetch_or(PEER_LEFT, Ordering::Release); // E2
        } else {
            self.word.fetch_and(!PEER_LEFT, Ordering::Release); // E2
        }
    }

    #[inline]
    pub(crate) fn peer_has_left(&self) -> bool {
        self.word.load(Ordering::Relaxed) & PEER_LEFT != 0 // E2: carries no data
    }
}
