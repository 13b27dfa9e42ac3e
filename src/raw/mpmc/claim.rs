//! What: claims of one position or of several in a row, by way of an intent, and the batches that
//! are sent and received with them.
//!
//! Edges: E3 and E4 where an intent is stored; see `mod.rs`.
//!
//! Crash: steps C1 to C4 of `repair.rs`.

use super::quarantine::Completion;
use super::retry::{RetryBudget, SPIN_LIMIT};
use super::slot::SlotState;
use super::tail::Run;
use super::{MAX_BATCH, Pop, Push, Ring, RingWords};
use crate::primitive::{AtomicU64, Ordering};
use crate::raw::{Corrupt, Memory};

const COUNT_BITS: u32 = 6;
/// The count that fits beside a position in an intent.
pub(super) const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// The word that names what a participant claims.
#[derive(Clone, Copy)]
pub(super) struct Intent(u64);

impl Intent {
    pub(super) const NONE: Self = Self(0);

    #[inline(always)]
    fn of(claim: Claim) -> Self {
        debug_assert!((1..=MAX_BATCH).contains(&claim.count));
        Self(claim.first.wrapping_add(1) << COUNT_BITS | claim.count)
    }

    pub(super) fn load(word: &AtomicU64) -> Self {
        Self(word.load(Ordering::Acquire)) // E4
    }

    /// Release even before a claim: it may stand in the place of one that was cleared.
    #[inline(always)]
    pub(super) fn store(self, word: &AtomicU64) {
        word.store(self.0, Ordering::Release); // E3, E4
    }

    /// Without its first position: from the next one on, and one less.
    #[inline(always)]
    fn shrunk(self) -> Self {
        Self(self.0.wrapping_add(1 << COUNT_BITS).wrapping_sub(1))
    }

    /// The positions that it names; of none the count is 0.
    pub(super) fn claim(self) -> Claim {
        match (self.0 >> COUNT_BITS).checked_sub(1) {
            Some(first) => Claim { first, count: self.0 & COUNT_MASK },
            None => Claim { first: 0, count: 0 },
        }
    }
}

/// Positions in a row.
#[derive(Clone, Copy)]
pub(super) struct Claim {
    pub(super) first: u64,
    pub(super) count: u64,
}

impl<M: Memory> Ring<M> {
    /// The first position that an intent names: while one is filled or read, that position.
    #[inline]
    #[allow(dead_code, reason = "not used by models")]
    pub(crate) fn claimed_position(intent: &AtomicU64) -> u64 {
        // Relaxed: the participant's own.
        Intent(intent.load(Ordering::Relaxed)).claim().first
    }

    /// Whether an intent, of another participant perhaps, names a position before `end`.
    #[allow(dead_code, reason = "not used by all models")]
    pub(crate) fn claimed_before(intent: &AtomicU64, end: u64) -> bool {
        let claim = Intent::load(intent).claim();
        claim.count > 0 && claim.first < end
    }

    /// Claims positions from `first` on. `end` is head or tail; `expected` is its word while it is
    /// at `first`.
    #[inline(always)]
    pub(super) fn claim(&self, end: &AtomicU64, expected: u64, first: u64, count: u64) -> bool {
        Intent::of(Claim { first, count }).store(&self.intent); // C1
        let is_claimed = RingWords::<M>::advance(end, expected, count); // C2
        if !is_claimed {
            // At once: a participant that is stopped before its next attempt must not keep slots
            // from being repaired.
            self.clear_intent();
        }
        is_claimed
    }

    #[inline(always)]
    pub(super) fn clear_intent(&self) {
        Intent::NONE.store(&self.intent);
    }

    /// Takes the first position, which is completed, out of the intent.
    #[inline(always)]
    fn shrink_intent(&self, intent: Intent) -> Intent {
        let rest = intent.shrunk();
        rest.store(&self.intent);
        rest
    }

    /// Sends up to `count` messages with one claim, in order. `fill` gets the number of each, and
    /// writes it.
    #[inline(always)]
    pub(crate) fn push_many(&mut self, count: u64, mut fill: impl FnMut(u64, &[AtomicU64])) -> Result<Push, Corrupt> {
        if count == 0 {
            return Ok(Push::Done(0));
        }
        for _ in 0..SPIN_LIMIT {
            let claim = match self.claim_free(count)? {
                Ok(claim) => claim,
                Err(refused) => return Ok(refused),
            };
            let (mut sent, mut rest) = (0, Intent::of(claim));
            while sent < claim.count {
                let position = claim.first.wrapping_add(sent);
                let slot = self.words.slot(position)?;
                fill(sent, slot.payload); // C3
                if self.words.complete(slot, position, SlotState::Ready)? == Completion::Skipped {
                    break; // C4
                }
                sent += 1;
                rest = self.shrink_intent(rest);
            }
            // The messages behind a skipped one must not overtake it: abandon them too.
            for position in (claim.first.wrapping_add(sent)..claim.first.wrapping_add(claim.count)).skip(1) {
                rest = self.shrink_intent(rest);
                self.words.abandon(position)?;
            }
            self.clear_intent();
            if sent > 0 {
                return Ok(Push::Done(sent));
            }
        }
        Err(Corrupt)
    }

    /// Receives up to `count` messages with one claim, in order. `take` gets the number of each,
    /// and reads it.
    #[inline(always)]
    pub(crate) fn pop_many(&mut self, count: u64, take: impl FnMut(u64, &[AtomicU64])) -> Result<Pop, Corrupt> {
        self.pop_before(u64::MAX, count, take)
    }

    /// Like [`pop_many`](Self::pop_many), but no message at position `limit` or later.
    #[inline(always)]
    pub(crate) fn pop_before(
        &mut self,
        limit: u64,
        count: u64,
        mut take: impl FnMut(u64, &[AtomicU64]),
    ) -> Result<Pop, Corrupt> {
        if count == 0 {
            return Ok(Pop::Done(0));
        }
        let claim = match self.claim_ready(limit, count)? {
            Ok(claim) => claim,
            Err(refused) => return Ok(refused),
        };
        let mut rest = Intent::of(claim);
        for index in 0..claim.count {
            let position = claim.first.wrapping_add(index);
            let slot = self.words.slot(position)?;
            take(index, slot.payload); // C3
            self.words.complete(slot, self.words.next_lap(position), SlotState::Free)?; // C4
            rest = self.shrink_intent(rest);
        }
        self.clear_intent();
        Ok(Pop::Done(claim.count))
    }

    /// Claims up to `count` free positions in a row.
    #[inline(always)]
    fn claim_free(&mut self, count: u64) -> Result<Result<Claim, Push>, Corrupt> {
        let (mut budget, mut known_free) = (self.words.retry_budget(), 0);
        loop {
            let position = match self.find_free(&mut budget, &mut known_free)? {
                Ok(position) => position,
                Err(refused) => return Ok(Err(refused)),
            };
            let count = self.count_claimable(position, SlotState::Free, count)?;
            if self.claim(&self.words.tail, self.run.word(position), position, count) {
                return Ok(Ok(Claim { first: position, count }));
            }
        }
    }

    /// Whether a push would find a free slot, or another answer than that there is none. Skips what
    /// a push skips.
    #[allow(dead_code, reason = "not used by models")]
    pub(crate) fn can_push(&self) -> Result<bool, Corrupt> {
        let found = self.find_free(&mut self.words.retry_budget(), &mut 0)?;
        Ok(!matches!(found, Err(Push::Full)))
    }

    /// Whether a pop would find a message. Skips what a pop skips.
    #[allow(dead_code, reason = "not used by models")]
    pub(crate) fn can_pop(&self) -> Result<bool, Corrupt> {
        Ok(self.find_ready(u64::MAX, &mut self.words.retry_budget(), &mut 0)?.is_ok())
    }

    /// Finds the position that a push can claim.
    #[inline(always)]
    fn find_free(&self, budget: &mut RetryBudget, known_free: &mut u64) -> Result<Result<u64, Push>, Corrupt> {
        loop {
            let tail = self.words.load_tail();
            let position = self.run.position(tail);
            budget.spend(position)?;
            if Run::is_over(position) {
                return Ok(Err(Push::Closed));
            }
            if self.is_claimable(position, SlotState::Free)? {
                return Ok(Ok(position));
            } else if !self.skip_unread(position, known_free, budget)? && self.words.load_tail() == tail {
                return Ok(Err(Push::Full));
            }
        }
    }

    /// Claims up to `count` messages in a row, before a position.
    #[inline(always)]
    fn claim_ready(&mut self, limit: u64, count: u64) -> Result<Result<Claim, Pop>, Corrupt> {
        let (mut budget, mut known_ready) = (self.words.retry_budget(), 0);
        loop {
            let position = match self.find_ready(limit, &mut budget, &mut known_ready)? {
                Ok(position) => position,
                Err(refused) => return Ok(Err(refused)),
            };
            let count = self.count_claimable(position, SlotState::Ready, count.min(limit.wrapping_sub(position)))?;
            if self.claim(&self.words.head, position, position, count) {
                return Ok(Ok(Claim { first: position, count }));
            }
        }
    }

    /// Finds the position of the message that a pop can claim, before a position.
    #[inline(always)]
    fn find_ready(
        &self,
        limit: u64,
        budget: &mut RetryBudget,
        known_ready: &mut u64,
    ) -> Result<Result<u64, Pop>, Corrupt> {
        loop {
            let position = self.words.load_head();
            budget.spend(position)?;
            if position >= limit {
                return Ok(Err(Pop::Empty));
            }
            if self.is_claimable(position, SlotState::Ready)? {
                return Ok(Ok(position));
            }
            let tail = self.words.load_tail();
            if tail.position() <= position {
                return Ok(Err(if tail.is_closed() { Pop::Drained } else { Pop::Empty }));
            }
            // If nothing is complete yet, skipping would only take the slot from its producer.
            if !self.skip_unsent(position, tail, known_ready, budget)? && self.words.load_head() == position {
                return Ok(Err(Pop::Empty));
            }
        }
    }

    #[inline(always)]
    fn is_claimable(&self, position: u64, state: SlotState) -> Result<bool, Corrupt> {
        let slot = self.words.slot(position)?;
        // A slot that was skipped, or proposed to be, may be claimable all the same.
        Ok(slot.is_claimable(position, state) || slot.probe(position, state) && slot.try_resolve(position, state)?)
    }

    /// How many slots in a row, up to `limit`, are in `state` for their positions; the first is
    /// known to be. That does not change while head, or tail, stays where it is: only a claim leads
    /// out of it.
    #[inline(always)]
    fn count_claimable(&self, first: u64, state: SlotState, limit: u64) -> Result<u64, Corrupt> {
        let limit = limit.min(self.words.capacity).min(MAX_BATCH);
        let mut count = 1;
        while count < limit {
            let position = first.wrapping_add(count);
            if !self.words.slot_state(position)?.is_claimable(position, state) {
                break;
            }
            count += 1;
        }
        Ok(count)
    }
}
