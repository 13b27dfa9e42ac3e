//! What: how far a subscriber of a track has read. Where publishers wait for subscribers, or take
//! slow ones out, an active cursor holds the publisher back.
//!
//! Bytes: two words, on a line of the subscriber's own.
//!
//! ```text
//!         63          2     1       0
//!        ┌─────────────┬──────────────┐
//! state  │ epoch       │ FREE, …      │   0 FREE  1 ACTIVE  2 EVICTED
//!        ├─────────────┴──────────────┤
//! next   │ position to read next      │
//!        └────────────────────────────┘
//! ```
//!
//! Invariants
//! - I1: the holder of the participant's kernel lock alone stores `next`, and makes the cursor
//!   active, each time with a new epoch, and with another one when it has found its position.
//! - I2: anybody can evict an active cursor, by a compare-and-swap of the state that it has read.
//!   Nobody else makes it active again.
//! - I3: an active cursor of the current epoch protects the positions from `next` on, once
//!   `activate` has returned.
//!
//! Edges
//! - E4: `advance`: store next, Release · `protected`: load next, Acquire. The payload was read
//!   before it is overwritten.
//! - E5: `activate`, `free`: store next or read, then compare-and-swap of state, Release ·
//!   `protected`: load state, Acquire, then next. With a state, a position of that epoch is seen,
//!   and what a subscriber that has left read was read before it is overwritten.
//! - E6: `activate`: state, full fence, load tail · publisher: tail, full fence, load state. Either
//!   the publisher sees the cursor, or the newcomer sees the tail up to which it was not seen.
//! - E7: to evict a dead subscriber: load state, full fence, ask the kernel about its lock, then
//!   compare-and-swap. A newcomer that has got the lock meanwhile has changed the state, or finds
//!   it changed and tries again.
//!
//! Crash
//! - subscriber, at any instant: its cursor stays active and holds the publisher back, until that,
//!   or anybody else, asks the kernel and evicts it.
//! - evicting process: the state has changed, or not.
//!
//! Source: next to the gating sequences of LMAX Disruptor, with an epoch against confusion of a
//! subscriber with its successor.

use crate::primitive::{AtomicU64, Ordering, fence};
use crate::raw::{Corrupt, Memory};

const STATE: u64 = 0b11;
const FREE: u64 = 0;
const ACTIVE: u64 = 1;
const EVICTED: u64 = 2;
const EPOCH: u64 = STATE + 1;

/// Attempts to activate a cursor that others keep changing. A correct publisher evicts a newcomer
/// only if it publishes as many messages as a subscriber may lag, in the middle of an attempt.
const MAX_ATTEMPTS: u32 = 100;

/// A cursor's state, as loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CursorState(u64);

impl CursorState {
    pub(crate) fn is_active(self) -> bool {
        self.0 & STATE == ACTIVE
    }

    /// The state in which the cursor of the same subscriber is active, whatever became of it.
    pub(crate) fn as_active(self) -> Self {
        self.with(ACTIVE)
    }

    /// Active, as nobody has seen it before.
    fn in_next_epoch(self) -> Self {
        Self(self.0.wrapping_add(EPOCH)).with(ACTIVE) // E7
    }

    fn with(self, state: u64) -> Self {
        Self(self.0 & !STATE | state)
    }
}

/// One subscriber's cursor in one track.
pub(crate) struct Cursor<M: Memory> {
    pub(crate) state: M::Word,
    pub(crate) next: M::Word,
}

impl<M: Memory> Cursor<M> {
    pub(crate) fn state(&self) -> CursorState {
        CursorState(self.state.load(Ordering::Acquire)) // E5
    }

    /// The position to read next. It may be invalid.
    pub(crate) fn next(&self) -> u64 {
        self.next.load(Ordering::Acquire) // E4
    }

    /// Makes the cursor active, at most `replay` messages behind the tail. From then on nothing is
    /// overwritten from its position on, if the publisher keeps that much history. Returns the
    /// state, by which to tell later whether it was evicted, and the position.
    ///
    /// The caller holds the lock of the participant.
    pub(crate) fn activate(&self, tail: &AtomicU64, replay: u64) -> Result<(CursorState, u64), Corrupt> {
        // Relaxed: `read` loads it again before it reads a message.
        let start = || tail.load(Ordering::Relaxed).saturating_sub(replay);
        for _ in 0..MAX_ATTEMPTS {
            let seen = self.state();
            // Relaxed: published by the state.
            self.next.store(start(), Ordering::Relaxed);
            let joining = seen.in_next_epoch();
            if !self.swap(seen, joining) {
                continue;
            }
            fence(Ordering::SeqCst); // E6
            let next = start();
            self.advance(next);
            // That position can be far ahead of the first one. Nobody may evict the newcomer as
            // slow because of the first one, so what was seen of it must not be the state now.
            let active = joining.in_next_epoch();
            if self.swap(joining, active) {
                return Ok((active, next));
            }
        }
        Err(Corrupt)
    }

    #[inline]
    pub(crate) fn advance(&self, next: u64) {
        self.next.store(next, Ordering::Release); // E4
    }

    /// What the cursor protects, if it is active: its state, and the position to read next.
    pub(crate) fn protected(&self) -> Option<(CursorState, u64)> {
        let state = self.state();
        state.is_active().then(|| (state, self.next()))
    }

    /// Takes the cursor out of service, if it still has that state. Returns whether it did.
    pub(crate) fn evict(&self, seen: CursorState) -> bool {
        self.swap(seen, seen.with(EVICTED)) // E7
    }

    /// Frees the cursor: its subscriber leaves.
    pub(crate) fn free(&self, own: CursorState) {
        self.swap(own, own.with(FREE));
    }

    fn swap(&self, seen: CursorState, new: CursorState) -> bool {
        // E5. Relaxed if it fails: then nothing was read.
        self.state.compare_exchange(seen.0, new.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Whether the cursor has a state other than that. For its subscriber, after the copy of a
    /// payload and an acquire fence (E2).
    #[inline(always)]
    pub(crate) fn has_changed(&self, own: CursorState) -> bool {
        self.state.load(Ordering::Relaxed) != own.0 // E2: ordered by the fence
    }
}
