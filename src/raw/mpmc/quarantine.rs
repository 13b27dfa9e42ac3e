//! What: skipping a position whose claimer does not complete, so that the others go on without its
//! slot (quarantine), and returning the slot when the claimer goes on, or is dead.
//!
//! A skipper proposes to skip, passes a heavy fence, and loads the slot once more. A claimer
//! completes, passes a light fence, and loads the mark. At least one of them sees the other, and
//! the CAS of the mark decides (I6). `slot.rs` has the states of the mark.
//!
//! Edges: E6 between the two, E7 where a slot is returned; see `mod.rs`.
//!
//! Crash: steps P1 and C5 of `repair.rs`.

use super::retry::{RetryBudget, SPIN_LIMIT};
use super::slot::{Control, Generation, SkipMark, SkipState, Slot, SlotState, Snapshot};
use super::tail::Tail;
use super::{Drain, Ring, RingWords};
use crate::primitive::{AtomicU64, has_light_fence, heavy_fence, spin_loop};
use crate::raw::{Corrupt, Memory};

/// What a claimer finds when it completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Completion {
    Done,
    /// Others have skipped the position. A message was not sent; the slot is back in service.
    Skipped,
}

impl Slot<'_> {
    /// Skips `generation`, whose claimer was seen not to have completed, unless it just has.
    #[cold]
    fn propose_skip(self, seen: Snapshot, generation: Generation, skipped: SkipState) {
        let proposed = SkipMark::proposed(generation);
        if seen.mark != proposed && !(seen.mark.predates(generation) && self.swap_mark(seen.mark, proposed)) {
            return;
        }
        // P1. Without a heavy fence E6 does not hold: leave the decision to others.
        if heavy_fence() {
            let is_unchanged = self.load_control() == seen.control; // E6
            let decision = if is_unchanged { skipped } else { SkipState::Settled };
            self.swap_mark(proposed, SkipMark::new(generation, decision));
        }
    }

    /// Ends a proposal to skip a slot that was completed.
    #[cold]
    pub(super) fn resolve(self, seen: Snapshot) {
        self.swap_mark(seen.mark, SkipMark::settled(seen.mark.generation()));
    }

    /// Whether the slot can be claimed for `position` now; resolves a proposal that is in the way.
    #[cold]
    pub(super) fn try_resolve(self, position: u64, state: SlotState) -> Result<bool, Corrupt> {
        let snapshot = self.snapshot()?;
        if snapshot.is_proposed(position, state) {
            self.resolve(snapshot);
        }
        Ok(snapshot.is_claimable(position, state))
    }
}

impl<M: Memory> RingWords<M> {
    /// Ends a claim: the slot is in `state` for `position` now.
    #[inline(always)]
    pub(super) fn complete(&self, slot: Slot<'_>, position: u64, state: SlotState) -> Result<Completion, Corrupt> {
        if slot.finish(position, state) {
            Ok(Completion::Done)
        } else {
            self.complete_slow(Control::new(position, state))
        }
    }

    /// Finds out whether a claim that has just ended, with the control word `done`, had been
    /// skipped; if so, returns the slot.
    #[cold]
    pub(super) fn complete_slow(&self, done: Control) -> Result<Completion, Corrupt> {
        let (position, generation) = (done.position(), Generation::before_control(done));
        let slot = self.slot(position)?;
        for _ in 0..SPIN_LIMIT {
            let Snapshot { control, mark } = slot.snapshot()?;
            if mark.is_quarantined() {
                // Nobody else touches the slot of this claim (I5). If it has changed, the mark is
                // about a later one.
                if mark.state() != done.if_skipped() || control != done {
                    return Ok(Completion::Done);
                }
                self.return_slot(position, mark)?;
                return Ok(Completion::Skipped);
            }
            if mark != SkipMark::proposed(generation) || slot.swap_mark(mark, SkipMark::settled(generation)) {
                return Ok(Completion::Done);
            }
        }
        Err(Corrupt)
    }

    /// Ends the claim of a producer that does not publish: the slot is quarantined for a moment.
    #[cold]
    pub(super) fn abandon(&self, position: u64) -> Result<(), Corrupt> {
        let slot = self.slot(position)?;
        let generation = Generation::unpublished(position);
        let unsent = SkipMark::new(generation, SkipState::SkippedUnsent);
        for _ in 0..SPIN_LIMIT {
            let mark = slot.snapshot()?.mark;
            if mark.is_quarantined() {
                return self.return_slot(position, mark);
            }
            if mark.generation() > generation || mark == SkipMark::settled(generation) {
                return Err(Corrupt);
            }
            if slot.swap_mark(mark, unsent) {
                return self.return_slot(position, unsent);
            }
        }
        Err(Corrupt)
    }

    /// Returns a quarantined slot to service: its claimer goes on, or is dead. `position` is any
    /// one of the slot.
    #[cold]
    pub(super) fn return_slot(&self, position: u64, mut mark: SkipMark) -> Result<(), Corrupt> {
        let slot = self.slot(position)?;
        for _ in 0..SPIN_LIMIT {
            if !mark.is_quarantined() || !self.is_same_slot(mark.position(), position) {
                return Err(Corrupt);
            }
            slot.store_control(Control::free(self.next_lap(mark.position()))); // C5
            if slot.swap_mark(mark, SkipMark::settled(mark.generation())) {
                return Ok(());
            }
            mark = slot.snapshot()?.mark; // raised
        }
        Err(Corrupt)
    }

    /// Skips what is being sent, for a consumer that knows of no producer to wait for.
    #[cold]
    pub(crate) fn drain(&self) -> Result<Drain, Corrupt> {
        let mut budget = self.retry_budget();
        loop {
            let head = self.load_head();
            budget.spend(head)?;
            if head >= self.load_tail().position() {
                return Ok(Drain::Empty);
            }
            let slot = self.slot(head)?;
            let snapshot = slot.snapshot()?;
            if snapshot.is_skipped_at(head) {
                Self::skip(&self.head, head, &mut budget);
            } else if snapshot.is_claimable(head, SlotState::Ready) || snapshot.is_proposed(head, SlotState::Ready) {
                return Ok(Drain::Message);
            } else if snapshot.control == Control::free(head) && !snapshot.mark.is_quarantined() {
                if has_light_fence() {
                    slot.propose_skip(snapshot, Generation::unpublished(head), SkipState::SkippedUnsent);
                }
                if slot.snapshot()? == snapshot {
                    return Ok(Drain::Stuck);
                }
            }
        }
    }

    /// Moves head or tail, whose word is `expected`, over one position that is skipped.
    fn skip(end: &AtomicU64, expected: u64, budget: &mut RetryBudget) {
        if Self::advance(end, expected, 1) {
            budget.spend_skip();
        }
    }

    /// Moves head over up to `limit` positions that are skipped, for consumers that may not come
    /// soon.
    pub(crate) fn advance_over_skipped(&self, limit: u64) {
        for _ in 0..self.capacity.min(limit) {
            let head = self.load_head();
            let is_skipped = head < self.load_tail().position()
                && self.snapshot(head).is_ok_and(|snapshot| snapshot.is_skipped_at(head));
            if !is_skipped || !Self::advance(&self.head, head, 1) {
                return;
            }
        }
    }

    /// The number of slots that are quarantined.
    pub(crate) fn quarantined(&self) -> u64 {
        (0..self.capacity).filter(|&at| self.snapshot(at).is_ok_and(|slot| slot.mark.is_quarantined())).count() as u64
    }

    pub(super) fn snapshot(&self, position: u64) -> Result<Snapshot, Corrupt> {
        self.slot(position)?.snapshot()
    }
}

impl<M: Memory> Ring<M> {
    /// For a producer at `tail` whose slot is not free: skips the position, if a consumer of an
    /// earlier lap has not returned the slot and a slot beyond is free. The mark says so before
    /// tail moves (I4). False: the ring is full.
    #[cold]
    pub(super) fn skip_unread(
        &self,
        tail: u64,
        known_free: &mut u64,
        budget: &mut RetryBudget,
    ) -> Result<bool, Corrupt> {
        let slot = self.words.slot(tail)?;
        let snapshot = slot.snapshot()?;
        if snapshot.is_skipped_at(tail) {
            RingWords::<M>::skip(&self.words.tail, self.run.word(tail), budget);
        } else if snapshot.mark.is_quarantined() {
            if !self.has_free_after(tail, known_free)? {
                return Ok(false);
            }
            slot.swap_mark(snapshot.mark, snapshot.mark.raised(Generation::unreleased(tail)));
        } else if snapshot.control.position() != tail.wrapping_sub(self.words.capacity) {
            spin_loop(); // it has just come into service, tail was outdated, or this is invalid
        } else if !snapshot.control.is_ready() || !has_light_fence() || !self.has_free_after(tail, known_free)? {
            return Ok(false);
        } else if self.is_still_claimed(slot, snapshot)? {
            slot.propose_skip(snapshot, Generation::unreleased(tail), SkipState::SkippedUnread);
        }
        Ok(true)
    }

    /// For a consumer at `head`, before tail, whose slot is not ready: skips the position, if its
    /// producer has not completed and either a message behind is complete or no producer is left.
    /// False: the ring is empty.
    #[cold]
    pub(super) fn skip_unsent(
        &self,
        head: u64,
        tail: Tail,
        known_ready: &mut u64,
        budget: &mut RetryBudget,
    ) -> Result<bool, Corrupt> {
        let slot = self.words.slot(head)?;
        let snapshot = slot.snapshot()?;
        if snapshot.is_skipped_at(head) {
            RingWords::<M>::skip(&self.words.head, head, budget);
        } else if snapshot.mark.is_quarantined() || snapshot.control != Control::free(head) {
            spin_loop(); // it has just come into service, head was outdated, or this is invalid
        } else if !has_light_fence()
            || !tail.is_closed() && !self.has_complete_after(head, tail.position(), known_ready)?
        {
            return Ok(false);
        } else if self.is_still_claimed(slot, snapshot)? {
            slot.propose_skip(snapshot, Generation::unpublished(head), SkipState::SkippedUnsent);
        }
        Ok(true)
    }

    /// Whether a slot is free from `tail` on, before the first position that waits for a consumer
    /// or is being sent. `known_free` remembers where, so that skipping many positions does not
    /// check all the others each time.
    fn has_free_after(&self, tail: u64, known_free: &mut u64) -> Result<bool, Corrupt> {
        if *known_free > tail && self.words.snapshot(*known_free)?.is_claimable(*known_free, SlotState::Free) {
            return Ok(true);
        }
        let head = self.words.load_head();
        for position in tail..tail.wrapping_add(self.words.capacity) {
            let found = self.words.snapshot(position)?;
            if found.is_claimable(position, SlotState::Free) || found.is_proposed(position, SlotState::Free) {
                *known_free = position;
                return Ok(true);
            }
            let is_taken = found.control.is_ready() && found.control.position() < head;
            if !is_taken && !found.mark.is_quarantined() && !found.is_skipped_at(position) {
                return Ok(false);
            }
        }
        Ok(false)
    }

    /// Whether a message is complete behind the position `head`, before `end`. `known_ready`
    /// remembers where.
    fn has_complete_after(&self, head: u64, end: u64, known_ready: &mut u64) -> Result<bool, Corrupt> {
        if *known_ready > head && self.words.snapshot(*known_ready)?.is_claimable(*known_ready, SlotState::Ready) {
            return Ok(true);
        }
        for position in head.wrapping_add(1)..end.min(head.wrapping_add(self.words.capacity)) {
            if self.words.snapshot(position)?.is_claimable(position, SlotState::Ready) {
                *known_ready = position;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Waits a while for the claimer of a slot. True: it has not gone on.
    #[cold]
    fn is_still_claimed(&self, slot: Slot<'_>, seen: Snapshot) -> Result<bool, Corrupt> {
        for _ in 0..self.spins_before_skip {
            if slot.snapshot()? != seen {
                return Ok(false);
            }
            spin_loop();
        }
        Ok(true)
    }
}
