//! What: the publishing side of a track: how many positions it may write, and writing them.
//!
//! Bytes: those of `mod.rs` and `cursor.rs`.
//!
//! Invariants: those of `mod.rs` and `cursor.rs`.
//!
//! Edges: those of `mod.rs` and `cursor.rs`.
//!
//! Crash: as in `mod.rs` and `cursor.rs`.
//!
//! Source: as in `mod.rs`.

use super::Track;
use super::cursor::{Cursor, CursorState};
use crate::primitive::{AtomicU64, Ordering, fence, prefetch_to_write, spin_loop};
use crate::raw::pacing::Pacer;
use crate::raw::{Corrupt, Memory};

/// What publishers do about subscribers that do not keep up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// They overwrite what was not read.
    Open,
    /// They wait.
    Wait,
    /// They evict a subscriber rather than let it be more than this many positions behind.
    Evict { lag: u64 },
}

/// Looks at one cursor in a scan. It changes while its subscriber joins, a few times.
const MAX_LOOKS: u32 = 100;

/// The subscriber that is farthest behind.
#[allow(dead_code, reason = "used by models")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slowest {
    /// Its number among those that were looked at.
    pub(crate) index: usize,
    /// Its state when it was looked at, for [`Cursor::evict`].
    pub(crate) state: CursorState,
    /// How many messages it has not read.
    pub(crate) lag: u64,
}

/// Nobody gets there by publishing. A publisher that began at the end would wait for ever.
const LAST_POSITION: u64 = u64::MAX / 4;

/// How far begun is stored ahead of what is written. So it is stored once for several messages, and
/// subscribers that load it after each message find it in their cache. They lose that many messages
/// of the capacity. A short ring has none to spare.
fn lead(capacity: u64) -> u64 {
    if capacity < 256 { 0 } else { (capacity / 16).min(64) }
}

pub(crate) struct Producer<M: Memory> {
    track: Track<M>,
    gate: Gate,
    /// Messages that are kept for newcomers. Less than the capacity.
    history: u64,
    /// Exact: nobody else writes it.
    tail: u64,
    begun: u64,
    /// How far begun is stored ahead.
    lead: u64,
    /// Positions before this one may be written, as far as is known.
    limit: u64,
    batch_limit: u64,
    pacer: Pacer,
    slots_ahead: u64,
    /// Begun may be moved up to here: what must stay is not overwritten.
    begun_limit: u64,
}

impl<M: Memory> Producer<M> {
    /// Goes on where the last publisher of the track stopped.
    pub(crate) fn attach(track: Track<M>, gate: Gate, history: u64) -> Result<Self, Corrupt> {
        // Relaxed: they came with the right to publish.
        let (tail, begun) = (track.tail.load(Ordering::Relaxed), track.begun.load(Ordering::Relaxed));
        if begun.wrapping_sub(tail) > track.capacity || tail > LAST_POSITION {
            return Err(Corrupt); // I5
        }
        let limit = if gate == Gate::Open { u64::MAX } else { 0 };
        let batch_limit = match gate {
            // More would leave less than half of the messages to those that are not waited for.
            Gate::Open => (track.capacity / 2).max(1),
            Gate::Wait => track.capacity.wrapping_sub(history),
            Gate::Evict { lag } => track.capacity.wrapping_sub(history).min(lag),
        };
        let lead = lead(track.capacity);
        let slots_ahead = track.slots_ahead();
        let pacer = Pacer::for_ring(track.capacity, track.stride);
        Ok(Self { track, gate, history, tail, begun, lead, limit, begun_limit: limit, batch_limit, slots_ahead, pacer })
    }

    #[inline]
    pub(crate) fn position(&self) -> u64 {
        self.tail
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.track.capacity
    }

    /// The words of the slot to write next.
    pub(super) fn next_slot(&self) -> Option<&[AtomicU64]> {
        self.track.slot(self.tail)
    }

    /// Publishes the message that the last publisher has written there.
    pub(super) fn publish_written(&mut self) {
        let end = self.tail.wrapping_add(1);
        self.store_begun(end); // for a correct predecessor it is there already
        self.tail = end;
        self.track.tail.store(end, Ordering::Release); // E1
    }

    pub(super) fn track(&self) -> &Track<M> {
        &self.track
    }

    pub(super) fn begun_limit(&self) -> u64 {
        self.begun_limit.min(self.tail.saturating_add(self.track.capacity)) // I1, I4
    }

    pub(super) fn begun(&self) -> u64 {
        self.begun
    }

    /// The most positions that are written at once.
    #[allow(dead_code, reason = "used by models")]
    pub(crate) fn batch_limit(&self) -> u64 {
        self.batch_limit
    }

    /// How many positions may be written at once, as far as is known without a look at the cursors.
    #[inline]
    pub(crate) fn room(&self) -> u64 {
        self.limit.saturating_sub(self.tail).min(self.batch_limit)
    }

    /// Looks at the cursors of all subscribers, evicts those that would lag too much after `want`
    /// more messages, and returns the slowest of the rest. [`room`](Self::room) is what there is
    /// then. Calls `on_evict` for each that was evicted.
    #[cold]
    pub(crate) fn scan(
        &mut self,
        cursors: &[Cursor<M>],
        want: u64,
        mut on_evict: impl FnMut(usize),
    ) -> Option<Slowest> {
        let (tail, capacity) = (self.tail, self.track.capacity);
        let mut slowest: Option<Slowest> = None;
        fence(Ordering::SeqCst); // E6
        for (index, cursor) in cursors.iter().enumerate() {
            for _ in 0..MAX_LOOKS {
                let Some((state, next)) = cursor.protected() else { break }; // E4, E5, E6
                // A correct subscriber is not ahead of tail, nor more than the capacity behind.
                let lag = tail.saturating_sub(next).min(capacity);
                let is_slow = matches!(self.gate, Gate::Evict { lag: limit } if lag.saturating_add(want) > limit);
                if is_slow && cursor.evict(state) {
                    on_evict(index);
                    break;
                }
                if !is_slow {
                    if slowest.is_none_or(|slowest| lag > slowest.lag) {
                        slowest = Some(Slowest { index, state, lag });
                    }
                    break;
                }
                // It is just joining, and has found its position: look again. One that changes
                // without end is no correct one, and nobody waits for it.
            }
        }
        let kept = self.history.min(tail);
        let behind = slowest.map_or(kept, |slowest| slowest.lag.max(kept));
        let ahead = match self.gate {
            Gate::Open => u64::MAX - tail,
            Gate::Wait => capacity - behind,
            // Look again before anybody can lag more than it may.
            Gate::Evict { lag } => {
                (capacity - behind).min(lag.saturating_sub(slowest.map_or(0, |slowest| slowest.lag)))
            }
        };
        let found = tail.saturating_add(ahead).saturating_sub(self.limit);
        self.limit = tail.saturating_add(ahead);
        self.begun_limit = if self.gate == Gate::Open { u64::MAX } else { tail.saturating_add(capacity - behind) };
        (0..self.pacer.observe(found)).for_each(|_| spin_loop());
        slowest
    }

    /// Writes and publishes `count` messages together. `fill` gets the number of each, and its
    /// slot. The caller has checked that there is room.
    #[inline(always)]
    pub(crate) fn publish(&mut self, count: u64, mut fill: impl FnMut(u64, &[AtomicU64])) -> Result<(), Corrupt> {
        debug_assert!(count <= self.room());
        let end = self.tail.wrapping_add(count);
        self.store_begun(end);
        fence(Ordering::Release); // E2
        if count == 1 && self.room() > self.slots_ahead {
            let lines = self.track.lines(self.tail.wrapping_add(self.slots_ahead));
            lines.for_each(|word| prefetch_to_write(&self.track.slots, word));
        }
        for number in 0..count {
            fill(number, self.track.slot(self.tail.wrapping_add(number)).ok_or(Corrupt)?);
        }
        self.tail = end;
        self.track.tail.store(end, Ordering::Release); // E1
        Ok(())
    }

    /// Moves begun to `end`, or further ahead, if it is not there yet.
    #[inline(always)]
    pub(super) fn store_begun(&mut self, end: u64) {
        if end > self.begun {
            // Never back: a predecessor may have overwritten more, and frames may have been freed.
            self.begun = end.saturating_add(self.lead).min(self.begun_limit());
            self.track.begun.store(self.begun, Ordering::Release); // E3
        }
    }
}
