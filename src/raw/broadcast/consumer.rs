//! What: the reading side of a track. It copies messages, and then looks whether they were
//! overwritten meanwhile. It stores nothing but its own cursor, if it has one: one without reads a
//! mapping that it cannot write.
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
use crate::primitive::{AtomicU64, Ordering, fence, spin_loop};
use crate::raw::pacing::Pacer;
use crate::raw::{Corrupt, Memory};

/// What a read has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read<R> {
    Message(R),
    Empty,
    /// This number of messages was overwritten before they were read. The next read goes on behind
    /// them.
    Lagged(u64),
    /// The cursor was evicted.
    Evicted,
}

/// The slots from a position on that are published.
pub(crate) struct Published<'a, M: Memory> {
    track: &'a Track<M>,
    position: u64,
    count: u64,
}

impl<M: Memory> Published<'_, M> {
    /// How many there are. At least 1.
    #[inline(always)]
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The words of one of them. Their values may be those of another message, until the read has
    /// succeeded.
    #[inline(always)]
    pub(crate) fn slot(&self, number: u64) -> Option<&[AtomicU64]> {
        if number < self.count { self.track.slot(self.position.wrapping_add(number)) } else { None }
    }

    /// The position of the first.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// One of them.
    pub(super) fn one(&self, number: u64) -> Option<Self> {
        let position = self.position.wrapping_add(number);
        (number < self.count).then_some(Self { track: self.track, position, count: 1 })
    }
}

/// How a consumer learns that it was overtaken.
enum Guard<M: Memory> {
    /// By begun. The cursor only shows to others how far it is.
    Begun(Option<(Cursor<M>, CursorState)>),
    /// By its cursor, which holds the publisher back.
    Cursor(Cursor<M>, CursorState),
}

pub(crate) struct Consumer<M: Memory> {
    track: Track<M>,
    guard: Guard<M>,
    /// The position to read next.
    position: u64,
    /// Can be stale.
    tail: u64,
    pacer: Pacer,
}

impl<M: Memory> Consumer<M> {
    /// Reads from `position` on, for which the cursor was activated.
    pub(crate) fn new(track: Track<M>, cursor: Cursor<M>, state: CursorState, position: u64, is_gated: bool) -> Self {
        let guard = if is_gated { Guard::Cursor(cursor, state) } else { Guard::Begun(Some((cursor, state))) };
        let pacer = Pacer::for_ring(track.capacity, track.stride);
        Self { track, guard, position, tail: position, pacer }
    }

    /// Reads without a cursor, at most `replay` messages behind the tail.
    pub(crate) fn observer(track: Track<M>, replay: u64) -> Self {
        // Relaxed: `read` loads it again before it reads a message.
        let position = track.tail.load(Ordering::Relaxed).saturating_sub(replay);
        let pacer = Pacer::for_ring(track.capacity, track.stride);
        Self { track, guard: Guard::Begun(None), position, tail: position, pacer }
    }

    #[inline]
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn capacity(&self) -> u64 {
        self.track.capacity
    }

    /// Whether publishers do not wait for this cursor any more.
    pub(super) fn is_evicted(&self) -> bool {
        matches!(&self.guard, Guard::Cursor(cursor, state) if cursor.has_changed(*state))
    }

    /// Loads tail and returns it.
    pub(super) fn reload_tail(&mut self) -> Result<u64, Corrupt> {
        self.refresh().map(|_| self.tail)
    }

    #[allow(dead_code, reason = "used by models")]
    pub(crate) fn cursor(&self) -> Option<(&Cursor<M>, CursorState)> {
        match &self.guard {
            Guard::Cursor(cursor, state) | Guard::Begun(Some((cursor, state))) => Some((cursor, *state)),
            Guard::Begun(None) => None,
        }
    }

    /// Messages that were published and not read yet.
    pub(crate) fn len(&self) -> u64 {
        // Relaxed: a number that is old as soon as it is returned.
        let len = self.track.tail.load(Ordering::Relaxed).saturating_sub(self.position);
        len.min(self.track.capacity)
    }

    /// Whether there is something to read. The cheapest check, for polling.
    #[inline(always)]
    pub(crate) fn probe(&self) -> bool {
        self.tail != self.position || self.track.tail.load(Ordering::Relaxed) != self.position // E1 is `read`'s
    }

    /// Reads messages. `copy` gets what is published, and returns how many slots it has used, and
    /// what it read. It must accept any words: only after it has returned it is known whether they
    /// are those of the messages.
    #[inline(always)]
    pub(crate) fn read<R>(
        &mut self,
        copy: impl FnOnce(Published<'_, M>) -> Result<(u64, R), Corrupt>,
    ) -> Result<Read<R>, Corrupt> {
        self.read_many(1, copy)
    }

    /// The same. Loads tail if fewer than `want` slots are known to be published.
    #[inline(always)]
    pub(crate) fn read_many<R>(
        &mut self,
        want: u64,
        copy: impl FnOnce(Published<'_, M>) -> Result<(u64, R), Corrupt>,
    ) -> Result<Read<R>, Corrupt> {
        if self.tail.wrapping_sub(self.position) < want && !self.refresh()? {
            return Ok(Read::Empty);
        }
        let count = self.tail.wrapping_sub(self.position).min(self.track.capacity);
        let copied = copy(Published { track: &self.track, position: self.position, count });
        fence(Ordering::Acquire); // E2
        if let Some(overtaken) = self.overtaken()? {
            return Ok(overtaken);
        }
        let (used, read) = copied?;
        self.advance(used.min(count));
        Ok(Read::Message(read))
    }

    /// Whether the slots from the position on may have been overwritten. If so, goes on behind
    /// them.
    #[inline(always)]
    pub(super) fn overtaken<R>(&mut self) -> Result<Option<Read<R>>, Corrupt> {
        match &self.guard {
            Guard::Cursor(cursor, state) => Ok(cursor.has_changed(*state).then_some(Read::Evicted)),
            Guard::Begun(_) => {
                let begun = self.track.load_begun(); // E2, E3
                let is_overtaken = begun.wrapping_sub(self.position) > self.track.capacity;
                if is_overtaken { self.skip_overwritten(begun).map(Some) } else { Ok(None) }
            }
        }
    }

    /// Loads tail. Returns whether anything is published.
    #[cold]
    #[inline(never)]
    fn refresh(&mut self) -> Result<bool, Corrupt> {
        let tail = self.track.load_tail(); // E1
        if tail < self.tail {
            return Err(Corrupt); // I5
        }
        let is_overtaken = tail.wrapping_sub(self.position) > self.track.capacity;
        if is_overtaken && matches!(&self.guard, Guard::Cursor(cursor, state) if !cursor.has_changed(*state)) {
            return Err(Corrupt); // I4
        }
        let pause = self.pacer.observe(tail - self.tail);
        self.tail = tail;
        (0..pause).for_each(|_| spin_loop());
        Ok(tail != self.position)
    }

    /// Goes on with the oldest message that is not being overwritten.
    #[cold]
    fn skip_overwritten<R>(&mut self, begun: u64) -> Result<Read<R>, Corrupt> {
        let oldest = begun.wrapping_sub(self.track.capacity);
        let tail = self.track.load_tail(); // E1, E3
        if oldest < self.position || tail < oldest || tail < self.tail {
            return Err(Corrupt); // I5
        }
        let missed = oldest - self.position;
        self.tail = tail;
        self.advance(missed);
        Ok(Read::Lagged(missed))
    }

    #[inline(always)]
    pub(super) fn advance(&mut self, count: u64) {
        self.position = self.position.wrapping_add(count);
        if let Guard::Cursor(cursor, _) | Guard::Begun(Some((cursor, _))) = &self.guard {
            cursor.advance(self.position);
        }
    }
}
