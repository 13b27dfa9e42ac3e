//! What: the two indices of a bounded ring with one producer and one consumer. Which unit they count (slots of a
//! type, words of a byte stream) and what lies at a position is the business of `slots.rs` and `records.rs`.
//!
//! Bytes: each side writes one line and only reads the other's.
//!
//! ```text
//!  producer's line   +0 tail   positions published; never wraps, so 5e11 years at 1 GHz ..
//!                    +8 role, +16 from, +24 from   (see role.rs)
//!  consumer's line   +0 head   positions released
//!                    +8 role, +16 from, +24 from
//! ```
//!
//! Invariants
//! - I1: head <= tail <= head + capacity, at every instant, as the owner of either index knows them.
//! - I2: the producer touches positions in tail .. head + capacity only, the consumer those in head .. tail only.
//! - I3: an owner never reads its own index back: the shared copy is for the other side (and for a successor).
//!   The copy of the other's index may be stale, which only makes a side believe in less room or fewer messages.
//! - I4: a foreign index is believed only if it moved forwards and keeps I1; anything else is `Corrupt` (for a glance: nothing new).
//!
//! Edges
//! - E1: `publish` stores tail (Release) · `ready` and `glance` load it (Acquire): the payload is visible before its position.
//! - E2: `release` stores head (Release) · `room` loads it (Acquire): the payload was read before its position is reused.
//! - E3: the producer's role word is stored before its first tail · `ready` and `glance` load tail, then role: who sees a
//!   successor's message sees that it is a successor's.
//!
//! Crash
//! - producer dies before the store of tail: its record was never there; the successor begins at the same position.
//! - producer dies after it: published, delivered.
//! - consumer dies before the store of head: nobody has had the record; the successor gets it.
//! - consumer dies after it: delivered, to a process that is gone.
//!
//! Source: Lamport's ring; cached foreign indices from Lee, Bu and Chandranmenon (MCRingBuffer, 2009).

pub(crate) mod record_ring;
pub(crate) mod value_ring;

use crate::primitive::{Ordering, spin_loop};
use crate::raw::owner::{Owner, View};
use crate::raw::pacing::Pacer;
use crate::raw::{Corrupt, Memory};

/// The shared words of one ring's indices.
pub(crate) struct Indices<M: Memory> {
    pub(crate) tail: M::Word,
    pub(crate) head: M::Word,
}

/// One producer's messages are read, and another has taken its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerChange {
    /// The one that is over; of epoch 0, if we came first of all.
    pub(crate) ended: View,
    pub(crate) view: View,
}

/// What is a little in a ring of that capacity.
fn few(capacity: u64) -> u64 {
    (capacity / 16).min(64)
}

/// Looks at a role that keeps changing hands, which only a lie does.
const PATIENCE: u32 = 1000;

pub(crate) struct Producer<M: Memory> {
    shared: Indices<M>,
    capacity: u64,
    /// Exact: nobody else writes it.
    tail: u64,
    /// Can be stale, is never ahead of the consumer's.
    head: u64,
    heels: Pacer,
}

impl<M: Memory> Producer<M> {
    /// Goes on where the last producer stopped.
    pub(crate) fn adopt(shared: Indices<M>, capacity: u64) -> Result<Self, Corrupt> {
        let (tail, head) = adopt(&shared, capacity)?;
        Ok(Self { shared, capacity, tail, head, heels: Pacer::default() })
    }

    #[inline]
    pub(crate) fn position(&self) -> u64 {
        self.tail
    }

    #[inline]
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// How many positions from [`position`](Self::position) on may be written. Asks the consumer's line only when
    /// fewer than `want` are known of.
    #[inline]
    pub(crate) fn room(&mut self, want: u64) -> Result<u64, Corrupt> {
        let known = self.known();
        if known >= want { Ok(known) } else { self.refresh() }
    }

    /// What [`room`](Self::room) says without asking.
    #[inline]
    pub(crate) fn known(&self) -> u64 {
        self.capacity.wrapping_sub(self.used())
    }

    /// Whether the consumer has gone on since [`room`](Self::room) asked.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        self.shared.head.load(Ordering::Relaxed) != self.head // E2 is `room`'s
    }

    pub(crate) fn keep_off(&mut self) {
        self.heels = Pacer::keep_off(few(self.capacity));
    }

    #[inline]
    fn used(&self) -> u64 {
        self.tail.wrapping_sub(self.head)
    }

    #[cold]
    #[inline(never)]
    fn refresh(&mut self) -> Result<u64, Corrupt> {
        let head = self.shared.head.load(Ordering::Acquire); // E2
        if head.wrapping_sub(self.head) > self.used() {
            return Err(Corrupt); // I4
        }
        let pause = self.heels.found(head.wrapping_sub(self.head));
        self.head = head;
        (0..pause).for_each(|_| spin_loop());
        Ok(self.known())
    }

    /// Hands `count` written positions to the consumer.
    #[inline]
    pub(crate) fn publish(&mut self, count: u64) {
        self.tail = self.tail.wrapping_add(count);
        self.shared.tail.store(self.tail, Ordering::Release); // E1
    }
}

pub(crate) struct Consumer<M: Memory> {
    shared: Indices<M>,
    producer: Owner<M>,
    capacity: u64,
    /// Exact: nobody else writes it.
    head: u64,
    /// Can be stale, is never ahead of the producer's, nor past a boundary.
    tail: u64,
    /// The producer whose messages we are reading.
    reading: View,
    /// A later producer has come, and its messages begin here.
    boundary: Option<(u64, View)>,
    heels: Pacer,
}

impl<M: Memory> Consumer<M> {
    /// Goes on where the last consumer stopped.
    pub(crate) fn adopt(shared: Indices<M>, producer: Owner<M>, capacity: u64) -> Result<Self, Corrupt> {
        for _ in 0..PATIENCE {
            let origin = producer.origin();
            let (tail, head) = adopt(&shared, capacity)?;
            match origin {
                // Tail was loaded before the second look: it holds no later producer's messages.
                Some((view, from)) if producer.view() == view => {
                    let in_queue = from != head && from.wrapping_sub(head) <= tail.wrapping_sub(head);
                    let boundary = in_queue.then_some((from, view));
                    // Before a boundary we are still reading the one before.
                    let (tail, reading) = if in_queue { (from, view.previous()) } else { (tail, view) };
                    return Ok(Self {
                        shared,
                        producer,
                        capacity,
                        head,
                        tail,
                        reading,
                        boundary,
                        heels: Pacer::default(),
                    });
                }
                _ => spin_loop(),
            }
        }
        Err(Corrupt)
    }

    #[inline]
    pub(crate) fn position(&self) -> u64 {
        self.head
    }

    #[inline]
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// How many positions from [`position`](Self::position) on may be read. Asks the producer's line only when
    /// fewer than `want` are known of. Stops short of a successor's messages until [`succeed`](Self::succeed).
    #[inline]
    pub(crate) fn ready(&mut self, want: u64) -> Result<u64, Corrupt> {
        let known = self.known();
        if known >= want { Ok(known) } else { self.refresh() }
    }

    /// Whether there is anything to read, by the quickest look, for who polls: with one branch, the processor has begun to read it before
    /// the index is there. Successors and lies are for [`ready`](Self::ready) to find.
    #[inline(always)]
    pub(crate) fn glance(&mut self) -> bool {
        let tail = self.shared.tail.load(Ordering::Acquire); // E1, E3
        // The second is enough while nobody lies about the role.
        let is_same = self.boundary.is_none() & (self.producer.view().epoch() == self.reading.epoch()); // E3
        if is_same & self.is_credible(tail) {
            self.tail = tail;
        }
        self.known() > 0
    }

    pub(crate) fn keep_off(&mut self) {
        self.heels = Pacer::keep_off(few(self.capacity));
    }

    /// What [`ready`](Self::ready) says without asking.
    #[inline]
    pub(crate) fn known(&self) -> u64 {
        self.tail.wrapping_sub(self.head)
    }

    #[cold]
    #[inline(never)]
    fn refresh(&mut self) -> Result<u64, Corrupt> {
        if self.boundary.is_some() {
            return Ok(self.known()); // one producer at a time
        }
        let tail = self.shared.tail.load(Ordering::Acquire); // E1, E3
        let view = self.producer.view(); // E3
        if view.epoch() != self.reading.epoch() {
            return self.find_boundary();
        }
        let pause = self.heels.found(tail.wrapping_sub(self.tail));
        self.believe(tail)?;
        (0..pause).for_each(|_| spin_loop());
        Ok(self.known())
    }

    /// Another producer has come: all that the old one published lies before its first position.
    #[cold]
    fn find_boundary(&mut self) -> Result<u64, Corrupt> {
        // While producers are changing there is nothing to say yet.
        if let Some((view, from)) = self.producer.origin() {
            self.believe(from)?;
            self.boundary = Some((from, view));
        }
        Ok(self.known())
    }

    #[inline]
    fn believe(&mut self, tail: u64) -> Result<(), Corrupt> {
        if !self.is_credible(tail) {
            return Err(Corrupt); // I4
        }
        self.tail = tail;
        Ok(())
    }

    #[inline(always)]
    fn is_credible(&self, tail: u64) -> bool {
        tail.wrapping_sub(self.tail) <= self.capacity.wrapping_sub(self.known())
    }

    /// With everything of the old producer read: who it was, and how its successor came, if there is one.
    pub(crate) fn successor(&self) -> Option<ProducerChange> {
        self.boundary
            .filter(|(from, _)| *from == self.head)
            .map(|(_, view)| ProducerChange { ended: self.reading, view })
    }

    /// Passes on to the successor.
    pub(crate) fn succeed(&mut self) {
        if let Some(succession) = self.successor() {
            self.boundary = None;
            self.reading = succession.view;
        }
    }

    /// Gives `count` positions, read or skipped, back to the producer.
    #[inline]
    pub(crate) fn release(&mut self, count: u64) {
        self.head = self.head.wrapping_add(count);
        self.shared.head.store(self.head, Ordering::Release); // E2
    }
}

/// The indices as the predecessor left them. One of the two is now ours and stands still; the other moves only
/// within I1 around it, so any pair of readings is a valid one.
fn adopt<M: Memory>(shared: &Indices<M>, capacity: u64) -> Result<(u64, u64), Corrupt> {
    let head = shared.head.load(Ordering::Acquire); // E2
    let tail = shared.tail.load(Ordering::Acquire); // E1
    if tail.wrapping_sub(head) > capacity {
        return Err(Corrupt); // I4
    }
    Ok((tail, head))
}
