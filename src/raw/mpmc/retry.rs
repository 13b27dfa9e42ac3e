//! What: bounds of loops that end by themselves unless a peer writes invalid words.
//!
//! Edges, Crash: none.

use super::RingWords;
use crate::raw::{Corrupt, Memory};

/// Rounds of a loop of which correct peers cause a few.
pub(super) const SPIN_LIMIT: u64 = 1 << 16;

/// Rounds in which neither head nor tail moves. Correct peers cause a few: a slot comes into
/// service, is proposed to be skipped, is skipped.
const STANDSTILL_LIMIT: u64 = 1 << 10;

/// What a skip of one's own takes from the budget, in rounds. Correct peers leave about a lap of
/// them; invalid words would pay for no more than 2^12.
const SKIP_COST: u64 = 1 << 4;

/// What a loop that follows head or tail may still take: many rounds while others move it, few
/// that skip a slot, and few in which it does not move.
pub(super) struct RetryBudget {
    left: u64,
    /// Rounds since it moved.
    standstill: u64,
    position: Option<u64>,
}

impl RetryBudget {
    /// Takes one more round, with head or tail where it is now.
    #[inline(always)]
    pub(super) fn spend(&mut self, position: u64) -> Result<(), Corrupt> {
        let stands = self.position.replace(position) == Some(position);
        self.standstill = if stands { self.standstill + 1 } else { 0 };
        self.left = self.left.saturating_sub(1);
        if self.left == 0 || self.standstill == STANDSTILL_LIMIT { Err(Corrupt) } else { Ok(()) }
    }

    /// Takes what a skip costs.
    pub(super) fn spend_skip(&mut self) {
        self.left = self.left.saturating_sub(SKIP_COST);
    }
}

impl<M: Memory> RingWords<M> {
    /// For a loop of which each round is somebody's progress, or skips a slot: four laps of them
    /// and more.
    pub(super) fn retry_budget(&self) -> RetryBudget {
        RetryBudget { left: SPIN_LIMIT + 4 * SKIP_COST * self.capacity, standstill: 0, position: None }
    }
}
