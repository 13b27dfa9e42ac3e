//! What: a ring that one publisher writes and any number of subscribers read. Each subscriber sees
//! every message from where it joined, or knows how many it missed. Several publishers have a ring,
//! a **track**, each.
//!
//! Bytes: two words of positions, `capacity` slots of `stride` words, a power of two. Position p is
//! in slot `p mod capacity`. For each subscriber there is a cursor of two words (`cursor.rs`).
//!
//! ```text
//!  publisher's line   +0 tail    positions published; never wraps
//!  another line       +0 begun   positions that are published, or may be being written
//! ```
//!
//! Invariants
//! - I1: tail <= begun <= tail + capacity. Both only grow.
//! - I2: the slot of position p is written while begun > p, and not again before
//!   begun > p + capacity.
//! - I3: tail is above p only after the message at p is whole.
//! - I4: where publishers wait for subscribers: begun <= c + capacity for each active cursor c, and
//!   begun <= tail - history + capacity. So what an active subscriber has not read, and the history
//!   that a newcomer may ask for, is not overwritten.
//! - I5: a position is accepted only if it did not move back and keeps I1. Anything else is
//!   `Corrupt`.
//! - I6: begun may be ahead of what is being written, so that it is stored once for several
//!   messages. It is stored before the first of them, so I2 holds for each.
//!
//! Edges
//! - E1: `publish`: store tail, Release · `read`: load tail, Acquire. The message is visible before
//!   its position.
//! - E2: `begin`: store begun, or take an active cursor out (E5); fence Release; payload · `read`:
//!   payload, fence Acquire, load begun, or the state of the own cursor. A subscriber that sees any
//!   payload of a later lap sees that it was overtaken.
//! - E3: `begin`: store begun, Release, after the tail before · `read`: load begun, Acquire, then
//!   tail. A subscriber that goes on behind `begun - capacity` sees a tail that is not behind it.
//! - E4 to E7: `cursor.rs`. E8, E9: `latest.rs`. E10, E11: `frames.rs`.
//!
//! Crash
//! - publisher, after it stored begun, before tail: the messages do not exist. The successor starts
//!   at the same position, and keeps begun at least where it is: the slots up to there may be
//!   overwritten in part.
//! - publisher, after tail: they are published.
//! - subscriber: nothing but its cursor (`cursor.rs`).
//!
//! Source: the seqlock with several buffers of `raw/seqlock.rs`, whose committed version is tail,
//! whose writing version is begun, and whose buffers are the slots. Cursors that gate the publisher
//! are LMAX Disruptor's gating sequences.

pub(crate) mod consumer;
pub(crate) mod cursor;
pub(crate) mod frames;
pub(crate) mod latest;
pub(crate) mod producer;

use crate::primitive::{AtomicU64, Ordering, fence};
use crate::raw::Memory;

/// The shared words of one track.
pub(crate) struct Track<M: Memory> {
    pub(crate) tail: M::Word,
    pub(crate) begun: M::Word,
    pub(crate) slots: M::Words,
    /// A power of two.
    pub(crate) capacity: u64,
    /// Words of a slot.
    pub(crate) stride: usize,
}

impl<M: Memory> Track<M> {
    /// For readers. Of memory that cannot be written, only relaxed loads are allowed: so a fence.
    #[inline(always)]
    fn load_tail(&self) -> u64 {
        let tail = self.tail.load(Ordering::Relaxed); // ordered by the fence
        fence(Ordering::Acquire); // E1
        tail
    }

    #[inline(always)]
    fn load_begun(&self) -> u64 {
        let begun = self.begun.load(Ordering::Relaxed); // ordered by the fence
        fence(Ordering::Acquire); // E3
        begun
    }

    /// About one word of each cache line of the slot at a position.
    #[inline(always)]
    fn lines(&self, position: u64) -> impl Iterator<Item = usize> {
        let start = (position & self.capacity.wrapping_sub(1)) as usize * self.stride;
        (start..start + self.stride).step_by(8)
    }

    /// How many slots ahead to prefetch: sixteen cache lines. `u64::MAX` for the smallest slots, of
    /// which several share a line, for long ones, which the processor sees as a stream, and for a
    /// short ring, which seldom has room for that many.
    fn slots_ahead(&self) -> u64 {
        match self.stride {
            stride @ 4..=32 if self.capacity >= 4 * (128 / stride as u64).max(16) => 128 / stride as u64,
            _ => u64::MAX,
        }
    }

    /// The words of a position's slot.
    #[inline(always)]
    pub(crate) fn slot(&self, position: u64) -> Option<&[AtomicU64]> {
        debug_assert!(self.capacity.is_power_of_two());
        let start = (position & self.capacity.wrapping_sub(1)) as usize * self.stride;
        self.slots.get(start..start + self.stride)
    }
}
