//! What: a bounded first-in-first-out ring for many producers and many consumers, none of which
//! waits for another. A participant that stops in the middle of an operation costs the others one
//! slot until it goes on. One that dies there costs one slot until somebody repairs.
//!
//! This file has the bytes and the usual case: one message, nothing in the way. The rest is in
//! - `slot.rs`: the words of a slot, and the states of its skip mark;
//! - `tail.rs`: the tail word, and the runs of producers;
//! - `claim.rs`: claiming positions, one or several at a time;
//! - `quarantine.rs`: skipping a participant that does not complete, and returning its slot;
//! - `repair.rs`: completing what the dead had claimed, with the table of crashes;
//! - `retry.rs`: bounds of loops.
//!
//! Bytes: head and tail, each on a cache line of its own; the slots; a skip mark for each slot; an
//! intent for each participant.
//!
//! ```text
//!  tail   63     62      55 54                                  0
//!        ┌────────┬──────────┬────────────────────────────────────┐
//!        │ CLOSED │ run      │ positions given to producers       │
//!        └────────┴──────────┴────────────────────────────────────┘
//!        positions last for 11 years at 10^8 a second
//!  head   positions given to consumers, or skipped
//!  slot   63                    2 1      0
//!        ┌──────────────────────┬────────┐
//!        │ position             │ state  │ payload ...
//!        └──────────────────────┴────────┘
//!        the slot of position p is slot p mod capacity
//!        state: 0 Free            for the producer of that position
//!               1 Ready           holds the message of that position
//!  mark   63                    2 1      0
//!        ┌──────────────────────┬────────┐
//!        │ generation           │ state  │
//!        └──────────────────────┴────────┘
//!        generation: 2 p + 2 while position p waits for the slot's last consumer,
//!                    2 p + 3 while it waits for its producer
//!        state: 0 Proposed        somebody is about to skip that position, and checks once more
//!               1 SkippedUnread   skipped: a consumer has claimed the slot and not completed
//!               2 SkippedUnsent   skipped: a producer has claimed the slot and not completed
//!               3 Settled         not skipped, or in service again
//!  intent 63                    6 5      0
//!        ┌──────────────────────┬────────┐
//!        │ position + 1         │ count  │  what is left of the participant's claim; 0: nothing
//!        └──────────────────────┴────────┘
//! ```
//!
//! The ring starts with slot i Free for position i, and all other words zero.
//!
//! Invariants
//! - I1: a position is claimed by one CAS of head or tail, so by one participant at most. The
//!   participant's intent names the position before the claim and until it is completed, and no
//!   longer: the intent shrinks after each position of a batch.
//! - I2: only the claimer writes to a claimed slot, and it does so by plain stores. If the claimer
//!   is dead, the repairer does that in its place.
//! - I3: a control word only grows, and so does a mark: no value comes twice. So a CAS of a mark
//!   that succeeds has missed nothing, and a control word that was read between two equal readings
//!   of its mark belongs to that mark.
//! - I4: position p is skipped if and only if its slot's mark is SkippedUnread or SkippedUnsent for
//!   p or a later position, or the slot serves a later lap. The mark is raised to tail's position
//!   before tail moves past it.
//! - I5: while a slot is quarantined (its mark is SkippedUnread or SkippedUnsent) nobody claims it,
//!   whatever its control word says. Its claimer, or repair, ends that with Settled.
//! - I6: of a claimer that completes and a skipper, exactly one prevails. E6 makes at least one see
//!   the other, and the CAS of the mark from Proposed decides. A participant that takes a slot into
//!   use resolves a Proposed first.
//! - I7: head <= tail. Empty is the answer only if no message is complete. Full is the answer only
//!   if no slot is free between tail and the first position that waits for a consumer or is being
//!   sent. A slot that is returned behind tail serves again on tail's next lap. (A process without
//!   asymmetric fences skips nobody: it may find Empty, or Full, behind a claimer that is stopped.)
//! - I8: a slot is skipped only for something gained by it: a free slot beyond, or a complete
//!   message behind. So tail does not run away from head, and a producer is disturbed only if
//!   somebody else makes progress.
//! - I9: a claim of tail, and a change of the run, is one CAS of the whole word. So nothing is
//!   claimed for a run that is closed, and nobody closes another run than the open one. A run's
//!   number is used again only if no producer of that run is left.
//!
//! Edges
//! - E1: a producer publishes: it stores Ready (Release) · a consumer loads the slot (Acquire): the
//!   payload is visible.
//! - E2: a consumer or a repairer releases the slot: it stores Free (Release) · a producer loads
//!   the slot (Acquire): the payload was read.
//! - E3: the intent, then the claim's CAS of head or tail (Release) · load of that (Acquire), then
//!   of the intents: a participant that sees a claim sees whose it may be. Every write to either
//!   reads it, so the edge reaches through later ones.
//! - E4: a claim completed, then the intent cleared, or shrunk to the rest of the batch (Release) ·
//!   `find_holders` loads the intent (Acquire), and then reads the slot again: a repairer
//!   that sees no claimer sees what it did. Another claim of the slot changes it first.
//! - E5: a repairer stores `pending_lost`, then `pending_position` (Release) · the next repairer
//!   loads `pending_position` (Acquire).
//! - E6: claimer: store the slot, light fence, load the mark · skipper: store Proposed, heavy
//!   fence, load the slot. A reader of a slot is like the claimer: load the slot, light fence, load
//!   the mark. So if a skipper has not seen a slot completed, every load that does sees the mark.
//! - E7: `return_slot` stores the slot, then Settled (Release) · load of the mark (Acquire), then
//!   of the slot.
//! - E8: `join` announces the run, then tail is CASed into it (Release) · load of tail (Acquire),
//!   then of what was announced: a participant that sees a run begun sees its producer.
//!
//! Crash: at any step, what is claimed is known from the intents (E3), and everything else goes on.
//! `repair.rs` lists the steps: C1 to C5 of a claimer, N1, N2 and X1 of a run, P1 of a skipper, R1
//! to R5 of a repairer.
//!
//! Source: Vyukov's bounded queue (a sequence number in each slot). Marks, intents and repair are
//! our own; docs/decisions/0008-skip-marks.md says why marks are words of their own.

mod claim;
mod quarantine;
pub(crate) mod repair;
mod retry;
mod slot;
pub(crate) mod tail;

use crate::primitive::{AtomicU64, Ordering, fence, prefetch_to_write, spin_loop};
use crate::raw::pacing::PositionPacer;
use crate::raw::{Corrupt, Memory};
use quarantine::Completion;
use slot::{Slot, SlotState};
use tail::{Run, Tail};

/// The most messages that one claim sends or receives.
pub(crate) const MAX_BATCH: u64 = claim::COUNT_MASK;

/// How many slots ahead of the one that is written cache lines are prefetched.
const PREFETCH_DISTANCE: u64 = 8;

/// Slots of more words are not paced.
const PACING_STRIDE_LIMIT: usize = 16;

/// The words that all participants share.
pub(crate) struct RingWords<M: Memory> {
    pub(crate) tail: M::Word,
    pub(crate) head: M::Word,
    pub(crate) slots: M::Words,
    /// One for each slot.
    pub(crate) marks: M::Words,
    /// A power of two, at least 2.
    pub(crate) capacity: u64,
    /// Words of a slot, its control word included.
    pub(crate) stride: usize,
}

/// What came of an attempt to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Push {
    /// That many messages were sent.
    Done(u64),
    Full,
    Closed,
}

/// What came of an attempt to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pop {
    /// That many messages were received.
    Done(u64),
    Empty,
    /// Empty, and nothing more will be sent in the run that was open.
    Drained,
}

/// What is left when no producer is there that could send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drain {
    /// Nothing, and nothing will come.
    Empty,
    Message,
    /// A message may be on its way, and this process must not skip it.
    Stuck,
}

/// One participant's access to the ring.
pub(crate) struct Ring<M: Memory> {
    words: RingWords<M>,
    /// The producer's own.
    run: Run,
    intent: M::Word,
    /// How often a claimed slot is read before it is skipped.
    spins_before_skip: u32,
    prefetch_distance: u64,
    /// Slots whose position has none of these bits begin a cache line, more or less.
    prefetch_mask: u64,
    /// Keeps a consumer away from the producers.
    tail_pacer: PositionPacer,
    /// Keeps a producer away from the consumers.
    head_pacer: PositionPacer,
}

impl<M: Memory> Ring<M> {
    /// `intent` is this participant's alone, and zero. A producer gives the run that it has joined.
    /// A claimed slot is read `spins_before_skip` times before it is skipped.
    pub(crate) fn new(words: RingWords<M>, run: u64, intent: M::Word, spins_before_skip: u32) -> Self {
        // In a ring that is hardly longer somebody is at that slot already.
        let prefetch_distance = if words.capacity > 4 * PREFETCH_DISTANCE { PREFETCH_DISTANCE } else { 0 };
        let prefetch_mask = match words.stride {
            ..=2 => 3,
            3..=4 => 1,
            _ => 0,
        };
        // Slots that share no cache line are not in each other's way, and large ones hardly are.
        let is_paced = words.stride <= PACING_STRIDE_LIMIT && !words.stride.is_multiple_of(8);
        let pacer = || if is_paced { PositionPacer::new(words.capacity) } else { PositionPacer::disabled() };
        let (tail_pacer, head_pacer) = (pacer(), pacer());
        Self {
            words,
            run: Run::new(run),
            intent,
            spins_before_skip,
            prefetch_distance,
            prefetch_mask,
            tail_pacer,
            head_pacer,
        }
    }

    /// Sends one message, which `fill` writes, if nothing is in the way. False: nothing was sent,
    /// and [`push_many`](Self::push_many) finds out why. The next messages are likely to need
    /// `prefetch_words` of the payload, too.
    #[inline(always)]
    pub(crate) fn try_push_uncontended(
        &mut self,
        prefetch_words: usize,
        fill: impl FnOnce(&[AtomicU64]),
    ) -> Result<bool, Corrupt> {
        let mut tail = self.words.load_tail();
        if self.head_pacer.is_due(self.run.position(tail)) {
            tail = self.pace_behind_head(tail);
        }
        let position = self.run.position(tail);
        let slot = self.words.slot(position)?;
        if Run::is_over(position) || !slot.is_claimable(position, SlotState::Free) {
            return Ok(false);
        }
        if position & self.prefetch_mask == 0 {
            self.words.prefetch_slot(position.wrapping_add(self.prefetch_distance), 1 + prefetch_words);
        }
        if !self.claim(&self.words.tail, self.run.word(position), position, 1) {
            return Ok(false);
        }
        fill(slot.payload); // C3
        let completion = self.words.complete(slot, position, SlotState::Ready)?; // C4
        self.clear_intent();
        Ok(completion == Completion::Done)
    }

    /// Receives one message, of which `take` makes something, if nothing is in the way. `None`:
    /// nothing was received, and [`pop_many`](Self::pop_many) finds out why.
    #[inline(always)]
    pub(crate) fn try_pop_uncontended<R>(
        &mut self,
        take: impl FnOnce(&[AtomicU64]) -> R,
    ) -> Result<Option<R>, Corrupt> {
        let mut position = self.words.load_head();
        if self.tail_pacer.is_due(position) {
            position = self.pace_behind_tail(position);
        }
        let slot = self.words.slot(position)?;
        if !slot.is_claimable(position, SlotState::Ready) || !self.claim(&self.words.head, position, position, 1) {
            return Ok(None);
        }
        let taken = take(slot.payload); // C3
        self.words.complete(slot, self.words.next_lap(position), SlotState::Free)?; // C4
        self.clear_intent();
        Ok(Some(taken))
    }

    /// Sends one message, which `fill` writes. It is called again if the producer was skipped.
    #[inline]
    #[allow(dead_code, reason = "used by models and fuzzers")]
    pub(crate) fn push(&mut self, mut fill: impl FnMut(&[AtomicU64])) -> Result<Push, Corrupt> {
        if self.try_push_uncontended(0, &mut fill)? {
            Ok(Push::Done(1))
        } else {
            self.push_many(1, |_, payload| fill(payload))
        }
    }

    /// Receives one message, which `take` reads.
    #[inline]
    #[allow(dead_code, reason = "used by models and fuzzers")]
    pub(crate) fn pop(&mut self, mut take: impl FnMut(&[AtomicU64])) -> Result<Pop, Corrupt> {
        if self.try_pop_uncontended(&mut take)?.is_some() {
            Ok(Pop::Done(1))
        } else {
            self.pop_many(1, |_, payload| take(payload))
        }
    }

    /// Where tail is after the pause that a load of head may call for.
    #[cold]
    #[inline(never)]
    fn pace_behind_head(&mut self, tail: Tail) -> Tail {
        // Relaxed: it decides about a pause only.
        let end = self.words.head.load(Ordering::Relaxed).wrapping_add(self.words.capacity);
        (0..self.head_pacer.observe_end(tail.position(), end)).for_each(|_| spin_loop());
        self.words.load_tail()
    }

    /// Where head is after the pause that a load of tail may call for.
    #[cold]
    #[inline(never)]
    fn pace_behind_tail(&mut self, position: u64) -> u64 {
        let end = Tail::load_relaxed(&self.words.tail).position();
        (0..self.tail_pacer.observe_end(position, end)).for_each(|_| spin_loop());
        self.words.load_head()
    }

    pub(crate) fn words(&self) -> &RingWords<M> {
        &self.words
    }

    /// Whether this producer's run is over.
    pub(crate) fn is_closed(&self) -> bool {
        Run::is_over(self.run.position(Tail::load_relaxed(&self.words.tail)))
    }
}

impl<M: Memory> RingWords<M> {
    /// Makes every slot of zeroed memory Free for its first position. Nobody else is there yet.
    pub(crate) fn format(&self) {
        for position in 0..self.capacity {
            if let Ok(slot) = self.slot(position) {
                slot.format(position);
            }
        }
    }

    /// The slot of a position, which may be any number.
    #[inline(always)]
    fn slot(&self, position: u64) -> Result<Slot<'_>, Corrupt> {
        let index = self.slot_index(position);
        let start = self.slot_start(index);
        let words = self.slots.get(start..start + self.stride).and_then(|words| words.split_first());
        let (Some((control, payload)), Some(mark)) = (words, self.marks.get(index)) else { return Err(Corrupt) };
        Ok(Slot { control, payload, mark })
    }

    /// The same, but without the payload: cheaper, for a look at the state.
    #[inline(always)]
    fn slot_state(&self, position: u64) -> Result<Slot<'_>, Corrupt> {
        let index = self.slot_index(position);
        let words = (self.slots.get(self.slot_start(index)), self.marks.get(index));
        let (Some(control), Some(mark)) = words else { return Err(Corrupt) };
        Ok(Slot { control, payload: &[], mark })
    }

    #[inline(always)]
    fn slot_index(&self, position: u64) -> usize {
        debug_assert!(self.capacity.is_power_of_two() && self.marks.len() as u64 >= self.capacity);
        (position & self.capacity.wrapping_sub(1)) as usize
    }

    /// Where a slot's words begin.
    #[inline(always)]
    fn slot_start(&self, index: usize) -> usize {
        debug_assert!(self.stride > 0 && index < self.slots.len() / self.stride);
        index.wrapping_mul(self.stride)
    }

    /// The next position of the same slot.
    #[inline(always)]
    fn next_lap(&self, position: u64) -> u64 {
        position.wrapping_add(self.capacity)
    }

    /// Whether two positions are of the same slot.
    fn is_same_slot(&self, one: u64, other: u64) -> bool {
        self.slot_index(one) == self.slot_index(other)
    }

    /// Fetches the cache lines of a slot's first and last of `words`, to be written. An atomic
    /// read-modify-write waits for all stores before it, so a line that is fetched only when it is
    /// written holds up the next claim.
    #[inline(always)]
    fn prefetch_slot(&self, position: u64, words: usize) {
        let first = self.slot_start(self.slot_index(position));
        prefetch_to_write(&self.slots, first);
        prefetch_to_write(&self.slots, first.wrapping_add(words).wrapping_sub(1));
    }

    #[inline(always)]
    fn load_head(&self) -> u64 {
        self.head.load(Ordering::Acquire) // E3
    }

    /// Moves an end of the ring, head or tail. False: it has moved already.
    #[inline(always)]
    fn advance(end: &AtomicU64, from: u64, by: u64) -> bool {
        // Relaxed if it fails: then it is read again.
        end.compare_exchange(from, from.wrapping_add(by), Ordering::AcqRel, Ordering::Relaxed).is_ok() // E3
    }

    /// Whether the slot at head looks ready: one load, and no proof of the contrary.
    #[inline]
    pub(crate) fn probe_ready(&self) -> bool {
        // Relaxed: only a hint.
        self.probe(self.head.load(Ordering::Relaxed), SlotState::Ready)
    }

    /// Whether the slot at tail looks free: one load, and no proof of the contrary.
    #[inline]
    pub(crate) fn probe_free(&self) -> bool {
        self.probe(Tail::load_relaxed(&self.tail).position(), SlotState::Free)
    }

    #[inline]
    fn probe(&self, position: u64, state: SlotState) -> bool {
        self.slot(position).is_ok_and(|slot| slot.probe(position, state))
    }

    /// The position that the next consumer claims.
    #[allow(dead_code, reason = "not used by all models")]
    pub(crate) fn head_position(&self) -> u64 {
        self.load_head()
    }

    /// Positions between head and tail: messages, and what is being sent or skipped.
    pub(crate) fn len(&self) -> u64 {
        let head = self.load_head();
        self.load_tail().position().saturating_sub(head).min(self.capacity)
    }

    /// Shows the payload of every message that is in the ring, claimed by a consumer or not. What
    /// changes meanwhile may be shown or not.
    pub(crate) fn for_each_message(&self, mut show: impl FnMut(&[AtomicU64])) -> Result<(), Corrupt> {
        for index in 0..self.capacity {
            let slot = self.slot(index)?;
            if slot.snapshot()?.holds_message() {
                show(slot.payload);
                // If a later user's words were shown, what the message's consumer did is visible.
                fence(Ordering::Acquire);
            }
        }
        Ok(())
    }
}
