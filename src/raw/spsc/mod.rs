//! What: the two positions of a bounded ring with one producer and one consumer. What unit they
//! count (values, or words of records) and what lies at a position is up to `value_ring.rs` and
//! `record_ring.rs`.
//!
//! Bytes: each side writes one cache line, and only reads the other's.
//!
//! ```text
//!  producer's line   +0 tail   positions published; never wraps (5e11 years at 1 GHz)
//!                    +8 owner word, +16 start, +24 start   (see owner.rs)
//!  consumer's line   +0 head   positions released
//!                    +8 owner word, +16 start, +24 start
//! ```
//!
//! Invariants
//! - I1: head <= tail <= head + capacity, at every instant, as the owner of either knows
//!   them.
//! - I2: the producer touches only positions in tail .. head + capacity, the consumer only those in
//!   head .. tail.
//! - I3: an owner never reads its own position back: the shared copy is for the other side and for
//!   a successor. An owner's copy of the other's position may be stale, which only makes the owner
//!   see fewer free positions or fewer messages.
//! - I4: a foreign position is accepted only if it moved forwards and keeps I1. Anything else is
//!   `Corrupt`, or nothing new for `probe`.
//!
//! Edges
//! - E1: `publish`: store tail, Release · `readable`, `probe`: load tail, Acquire. The payload is
//!   visible before its position.
//! - E2: `release`: store head, Release · `writable`: load head, Acquire. The payload was read
//!   before its position is reused.
//! - E3: a producer stores its owner word before its first tail · `readable`, `probe`: load tail,
//!   then owner word. A consumer that sees a successor's message sees that it is a successor's.
//!
//! Crash
//! - producer, before it stores tail: its message never existed. The successor starts at the same
//!   position.
//! - producer, after that: published and delivered.
//! - consumer, before it stores head: nobody has received the message. The successor gets it.
//! - consumer, after that: delivered, to a process that is gone.
//!
//! Source: Lamport's ring. Cached foreign positions are from Lee, Bu and Chandranmenon
//! (MCRingBuffer, 2009).

pub(crate) mod record_ring;
pub(crate) mod value_ring;

use crate::primitive::{Ordering, spin_loop};
use crate::raw::owner::{Owner, OwnerState};
use crate::raw::pacing::Pacer;
use crate::raw::{Corrupt, Memory};

/// The shared words of one ring: its head and tail.
pub(crate) struct Positions<M: Memory> {
    pub(crate) tail: M::Word,
    pub(crate) head: M::Word,
}

/// The step from one producer to the next: all messages of the first are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerChange {
    /// The producer that is over. Its epoch is 0 if there was none before `next`.
    pub(crate) ended: OwnerState,
    pub(crate) next: OwnerState,
}

/// The find below which a side of a ring of that capacity is too close behind the other.
fn pacing_threshold(capacity: u64) -> u64 {
    (capacity / 16).min(64)
}

/// Attempts to read an owner word that keeps changing. No correct producers change that often.
const MAX_RETRIES: u32 = 1000;

pub(crate) struct Producer<M: Memory> {
    shared: Positions<M>,
    capacity: u64,
    /// Exact: nobody else writes it.
    tail: u64,
    /// Can be stale, and is never ahead of the consumer's own.
    head: u64,
    pacer: Pacer,
}

impl<M: Memory> Producer<M> {
    /// Resumes where the last producer stopped.
    pub(crate) fn attach(shared: Positions<M>, capacity: u64) -> Result<Self, Corrupt> {
        let (tail, head) = attach(&shared, capacity)?;
        Ok(Self { shared, capacity, tail, head, pacer: Pacer::default() })
    }

    #[inline]
    pub(crate) fn position(&self) -> u64 {
        self.tail
    }

    #[inline]
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Returns how many positions from [`position`](Self::position) on may be written. Loads the
    /// consumer's position only if fewer than `want` are cached.
    #[inline]
    pub(crate) fn writable(&mut self, want: u64) -> Result<u64, Corrupt> {
        let cached = self.capacity.wrapping_sub(self.tail.wrapping_sub(self.head));
        if cached >= want { Ok(cached) } else { self.refresh() }
    }

    /// Returns how many positions may be written as far as is known without asking the consumer.
    #[inline]
    pub(crate) fn cached(&self) -> u64 {
        self.capacity.wrapping_sub(self.tail.wrapping_sub(self.head))
    }

    /// Returns whether the consumer has released anything since its position was last loaded.
    #[inline]
    pub(crate) fn has_advanced(&self) -> bool {
        self.shared.head.load(Ordering::Relaxed) != self.head // only compared; E2 is `writable`'s
    }

    pub(crate) fn enable_pacing(&mut self) {
        self.pacer = Pacer::new(pacing_threshold(self.capacity));
    }

    #[cold]
    #[inline(never)]
    fn refresh(&mut self) -> Result<u64, Corrupt> {
        let head = self.shared.head.load(Ordering::Acquire); // E2
        if head.wrapping_sub(self.head) > self.tail.wrapping_sub(self.head) {
            return Err(Corrupt); // I4
        }
        let pause = self.pacer.observe(head.wrapping_sub(self.head));
        self.head = head;
        (0..pause).for_each(|_| spin_loop());
        Ok(self.cached())
    }

    /// Publishes `count` written positions.
    #[inline]
    pub(crate) fn publish(&mut self, count: u64) {
        debug_assert!(count <= self.cached());
        self.tail = self.tail.wrapping_add(count);
        self.shared.tail.store(self.tail, Ordering::Release); // E1
    }
}

pub(crate) struct Consumer<M: Memory> {
    shared: Positions<M>,
    producer: Owner<M>,
    capacity: u64,
    /// Exact: nobody else writes it.
    head: u64,
    /// Can be stale, and is never ahead of the producer's own, nor past a boundary.
    tail: u64,
    /// The producer whose messages are read at present.
    reading: OwnerState,
    /// The position where the messages of a later producer begin, once there is one.
    boundary: Option<(u64, OwnerState)>,
    pacer: Pacer,
}

impl<M: Memory> Consumer<M> {
    /// Resumes where the last consumer stopped.
    pub(crate) fn attach(shared: Positions<M>, producer: Owner<M>, capacity: u64) -> Result<Self, Corrupt> {
        for _ in 0..MAX_RETRIES {
            let before = producer.start_position();
            let (tail, head) = attach(&shared, capacity)?;
            match before {
                // Tail was loaded before the owner was read again: it covers no later producer.
                Some((state, start)) if producer.state() == state => {
                    let is_ahead = start != head && start.wrapping_sub(head) <= tail.wrapping_sub(head);
                    let boundary = is_ahead.then_some((start, state));
                    // Before the boundary are the messages of the producer before.
                    let (tail, reading) = if is_ahead { (start, state.previous()) } else { (tail, state) };
                    let pacer = Pacer::default();
                    return Ok(Self { shared, producer, capacity, head, tail, reading, boundary, pacer });
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

    /// Returns how many positions from [`position`](Self::position) on may be read. Loads the
    /// producer's position only if fewer than `want` are cached. Stops before the messages of the
    /// next producer until [`switch_producer`](Self::switch_producer).
    #[inline]
    pub(crate) fn readable(&mut self, want: u64) -> Result<u64, Corrupt> {
        let cached = self.cached();
        if cached >= want { Ok(cached) } else { self.refresh() }
    }

    /// Returns whether there is anything to read. The cheapest check, for polling: it has one
    /// branch, so the processor begins to read the message before the position has arrived. Leaves
    /// the next producer and invalid positions to [`readable`](Self::readable).
    #[inline(always)]
    pub(crate) fn probe(&mut self) -> bool {
        let tail = self.shared.tail.load(Ordering::Acquire); // E1, E3
        // The boundary only matters if the owner word is invalid and has moved back.
        let is_same = self.boundary.is_none() & (self.producer.state().epoch() == self.reading.epoch()); // E3
        if is_same & self.is_valid(tail) {
            self.tail = tail;
        }
        self.cached() > 0
    }

    pub(crate) fn enable_pacing(&mut self) {
        self.pacer = Pacer::new(pacing_threshold(self.capacity));
    }

    /// Returns how many positions may be read as far as is known without asking the producer.
    #[inline]
    pub(crate) fn cached(&self) -> u64 {
        self.tail.wrapping_sub(self.head)
    }

    #[cold]
    #[inline(never)]
    fn refresh(&mut self) -> Result<u64, Corrupt> {
        if self.boundary.is_some() {
            return Ok(self.cached()); // one producer at a time
        }
        let tail = self.shared.tail.load(Ordering::Acquire); // E1, E3
        let state = self.producer.state(); // E3
        if state.epoch() != self.reading.epoch() {
            return self.find_boundary();
        }
        let pause = self.pacer.observe(tail.wrapping_sub(self.tail));
        self.accept(tail)?;
        (0..pause).for_each(|_| spin_loop());
        Ok(self.cached())
    }

    /// Finds where the messages of the next producer begin. All of the old one's lie before.
    #[cold]
    fn find_boundary(&mut self) -> Result<u64, Corrupt> {
        // While producers are changing there is no boundary yet.
        if let Some((state, start)) = self.producer.start_position() {
            self.accept(start)?;
            self.boundary = Some((start, state));
        }
        Ok(self.cached())
    }

    #[inline]
    fn accept(&mut self, tail: u64) -> Result<(), Corrupt> {
        if !self.is_valid(tail) {
            return Err(Corrupt); // I4
        }
        self.tail = tail;
        Ok(())
    }

    #[inline(always)]
    fn is_valid(&self, tail: u64) -> bool {
        tail.wrapping_sub(self.tail) <= self.capacity.wrapping_sub(self.cached())
    }

    /// Returns the change to the next producer, if there is one and all before it is read.
    pub(crate) fn next_producer(&self) -> Option<ProducerChange> {
        self.boundary
            .filter(|(start, _)| *start == self.head)
            .map(|(_, next)| ProducerChange { ended: self.reading, next })
    }

    /// Begins to read the next producer's messages.
    pub(crate) fn switch_producer(&mut self) {
        if let Some(change) = self.next_producer() {
            self.boundary = None;
            self.reading = change.next;
        }
    }

    /// Gives `count` positions, read or skipped, back to the producer.
    #[inline]
    pub(crate) fn release(&mut self, count: u64) {
        debug_assert!(count <= self.cached());
        self.head = self.head.wrapping_add(count);
        self.shared.head.store(self.head, Ordering::Release); // E2
    }
}

/// Loads the positions as the predecessor left them. One of the two is the caller's now and stands
/// still. The other moves only within I1 around it, so any pair of values is a valid one.
fn attach<M: Memory>(shared: &Positions<M>, capacity: u64) -> Result<(u64, u64), Corrupt> {
    let head = shared.head.load(Ordering::Acquire); // E2
    let tail = shared.tail.load(Ordering::Acquire); // E1
    if tail.wrapping_sub(head) > capacity {
        return Err(Corrupt); // I4
    }
    Ok((tail, head))
}
