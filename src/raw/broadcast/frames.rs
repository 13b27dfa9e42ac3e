//! What: frames, which hold the large messages of a track. The publisher fills a frame in place,
//! and all subscribers read it in place. A slot of the track names the frame of its message. A
//! subscriber that reads a frame has a **lease** of it. The publisher fills no frame that has one.
//!
//! Bytes: for each frame one bit for each subscriber, its lease.
//!
//! ```text
//!           63        1    0      127       65   64
//!          ┌────┬─ ─┬────┬────┐  ┌────┬─ ─┬────┬────┐
//!  frame 0 │    │   │    │    │  │    │   │    │    │   a word for 64 subscribers
//!          └────┴─ ─┴────┴────┘  └────┴─ ─┴────┴────┘
//! ```
//!
//! Invariants
//! - I1: while the publisher fills a frame, no slot of the positions from begun - capacity up to
//!   tail names it, and it had no lease when the publisher took it. A lease that is set later is
//!   cleared without having been used.
//! - I2: the leases of a subscriber are set and cleared by the holder of its participant's kernel
//!   lock alone. Of a dead subscriber that is a process that takes the lock for this.
//! - I3: the publisher may move begun further ahead than it writes, to free frames: up to
//!   tail + capacity, and no further than I4 of `mod.rs` allows.
//!
//! Edges
//! - E10: `take`: begun stored, or a cursor evicted, full fence, load leases · `lease`: set lease,
//!   full fence, load begun, or the state of the own cursor. Either the subscriber sees that it was
//!   overtaken, or the publisher sees the lease.
//! - E11: `clear`: frame read, then clear lease, Release · `take`: load leases, Acquire. The frame
//!   was read before it is filled again.
//!
//! A gated subscriber moves its cursor after it has set the lease. So a publisher that sees the
//! cursor moved (E4) sees the lease.
//!
//! Crash
//! - publisher, before it stores tail: no slot names the frame, and it has no lease. It is free.
//! - subscriber, after it has set a lease: the lease stays. A publisher that finds no free frame,
//!   or a newcomer in the same place, clears it.
//! - process that clears the leases of a dead subscriber: some are cleared. The next one clears the
//!   rest.
//!
//! Source: hazard pointers (Michael 2004): a reader announces what it reads, and looks again. A bit
//! for each reader replaces the list, and can be cleared for a dead one.

use super::Track;
use super::consumer::{Consumer, Read};
use super::producer::Producer;
use crate::primitive::{AtomicU64, Ordering, fence};
use crate::raw::{Corrupt, Memory};

const BITS: usize = u64::BITS as usize;

/// The leases of a track's frames.
pub(crate) struct Leases<M: Memory> {
    pub(crate) words: M::Words,
    /// Words of a frame.
    pub(crate) stride: usize,
    /// Frames.
    pub(crate) count: u64,
}

impl<M: Memory> Leases<M> {
    fn of_frame(&self, frame: u64) -> &[AtomicU64] {
        let start = (frame as usize).saturating_mul(self.stride);
        self.words.get(start..start.saturating_add(self.stride)).unwrap_or_default()
    }

    /// The word and the bit of a lease. `None` if there is no such frame.
    fn bit(&self, frame: u64, subscriber: usize) -> Option<(&AtomicU64, u64)> {
        if frame >= self.count {
            return None;
        }
        Some((self.of_frame(frame).get(subscriber / BITS)?, 1 << (subscriber % BITS)))
    }

    /// Sets a lease that is not set.
    fn set(&self, frame: u64, subscriber: usize) -> Result<(), Corrupt> {
        let (word, bit) = self.bit(frame, subscriber).ok_or(Corrupt)?;
        let before = word.fetch_or(bit, Ordering::Relaxed); // E10: ordered by the fence
        fence(Ordering::SeqCst); // E10
        if before & bit == 0 { Ok(()) } else { Err(Corrupt) }
    }

    /// Gives a frame back. Then the publisher may wait for it.
    pub(crate) fn clear(&self, frame: u64, subscriber: usize) {
        if let Some((word, bit)) = self.bit(frame, subscriber) {
            word.fetch_and(!bit, Ordering::Release); // E11
        }
    }

    /// Clears all leases of a subscriber. The caller holds the lock of its participant.
    pub(crate) fn clear_all(&self, subscriber: usize) {
        (0..self.count)
            .filter(|&frame| self.is_held(frame, subscriber))
            .for_each(|frame| self.clear(frame, subscriber));
    }

    fn is_held(&self, frame: u64, subscriber: usize) -> bool {
        // Relaxed: for the holder of the participant's lock, or a number that is old at once.
        self.bit(frame, subscriber).is_some_and(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0)
    }

    /// How many frames have a lease.
    #[allow(dead_code, reason = "not used by models")]
    pub(crate) fn leased(&self) -> u64 {
        (0..self.count).filter(|&frame| self.is_leased(frame)).count() as u64
    }

    /// How many frames a subscriber holds.
    pub(crate) fn held(&self, subscriber: usize) -> u64 {
        (0..self.count).filter(|&frame| self.is_held(frame, subscriber)).count() as u64
    }

    /// The subscribers that hold frames.
    pub(crate) fn holders(&self) -> impl Iterator<Item = usize> {
        (0..self.stride).flat_map(move |word| {
            // Relaxed: the caller asks the kernel about each.
            let load = |frame| self.of_frame(frame).get(word).map_or(0, |word| word.load(Ordering::Relaxed));
            let bits = (0..self.count).fold(0, |bits, frame| bits | load(frame));
            (0..BITS).filter(move |bit| bits >> bit & 1 != 0).map(move |bit| word * BITS + bit)
        })
    }

    fn is_leased(&self, frame: u64) -> bool {
        self.of_frame(frame).iter().any(|word| word.load(Ordering::Acquire) != 0) // E10, E11
    }
}

/// The frames of a track, as its publisher sees them.
pub(crate) struct FramePool<M: Memory> {
    leases: Leases<M>,
    /// For each frame: where the last position whose slot named it ends. 0: none did.
    ends: Vec<u64>,
}

impl<M: Memory> FramePool<M> {
    /// Goes on where the last publisher of the track stopped. `frame_of` returns which frame a slot
    /// names.
    pub(crate) fn attach(
        leases: Leases<M>,
        producer: &Producer<M>,
        frame_of: impl Fn(&[AtomicU64]) -> Option<u64>,
    ) -> Self {
        let mut ends = vec![0; leases.count as usize];
        if leases.count > 0 {
            producer.for_each_published(|end, slot| {
                let end_of = frame_of(slot).and_then(|frame| ends.get_mut(frame as usize));
                if let Some(found) = end_of {
                    *found = end;
                }
            });
        }
        Self { leases, ends }
    }

    pub(crate) fn leases(&self) -> &Leases<M> {
        &self.leases
    }

    /// Takes a frame that no slot names and nobody reads. If there is none, gives up the oldest
    /// messages for one, as far as the gate allows. It stays free until it is
    /// [published](Self::publish). The caller has checked that there is room.
    pub(crate) fn take(&mut self, producer: &mut Producer<M>) -> Option<u64> {
        if !producer.begin(producer.position().saturating_add(1)) {
            return None;
        }
        loop {
            fence(Ordering::SeqCst); // E10
            let (mut free, mut oldest) = (None::<(u64, u64)>, None::<u64>);
            for (frame, &end) in (0..).zip(&self.ends) {
                if self.leases.is_leased(frame) {
                    continue;
                }
                if end == 0 || producer.is_given_up(end) {
                    // The one that was used last: it may still be in a cache.
                    free = free.max(Some((end, frame)));
                } else if oldest.is_none_or(|oldest| end < oldest) {
                    oldest = Some(end);
                }
            }
            match free {
                Some((_, frame)) => return Some(frame),
                None if producer.give_up(oldest?) => {}
                None => return None,
            }
        }
    }

    /// Publishes a message that lies in a frame that was taken. `fill` writes the slot, which names
    /// the frame.
    pub(crate) fn publish(
        &mut self,
        producer: &mut Producer<M>,
        frame: u64,
        mut fill: impl FnMut(&[AtomicU64]),
    ) -> Result<(), Corrupt> {
        let end = self.ends.get_mut(frame as usize).ok_or(Corrupt)?;
        producer.publish(1, |_, slot| fill(slot))?;
        *end = producer.position();
        Ok(())
    }
}

impl<M: Memory> Consumer<M> {
    /// Sets a lease of the frame that the next slot names, as a read has found, and goes on behind
    /// that slot.
    pub(crate) fn lease(&mut self, leases: &Leases<M>, subscriber: usize, frame: u64) -> Result<Read<()>, Corrupt> {
        leases.set(frame, subscriber)?;
        let overtaken = self.overtaken();
        if let Ok(None) = overtaken {
            self.advance(1);
            return Ok(Read::Message(()));
        }
        leases.clear(frame, subscriber);
        overtaken.map(|overtaken| overtaken.unwrap_or(Read::Empty))
    }
}

impl<M: Memory> Producer<M> {
    /// Moves begun to `end`, if it is not there yet. Returns false if that would overwrite what
    /// must stay.
    fn begin(&mut self, end: u64) -> bool {
        if end > self.begun_limit() {
            return false; // I3
        }
        self.store_begun(end);
        true
    }

    /// Gives up the message of the position that ends at `end`. Returns false if it must stay.
    fn give_up(&mut self, end: u64) -> bool {
        self.begin(end.saturating_add(self.capacity()))
    }

    /// Whether the message of the position that ends at `end` was given up.
    fn is_given_up(&self, end: u64) -> bool {
        self.begun() >= end.saturating_add(self.capacity())
    }

    /// Calls `action` with each slot that can be read, and the end of its position.
    fn for_each_published(&self, mut action: impl FnMut(u64, &[AtomicU64])) {
        for position in self.begun().saturating_sub(self.capacity())..self.position() {
            if let Some(slot) = Track::slot(self.track(), position) {
                action(position.saturating_add(1), slot);
            }
        }
    }
}
