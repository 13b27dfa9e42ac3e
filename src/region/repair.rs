//! What the repair after dead participants may cost one call, and what the kernel has answered so
//! far.
//!
//! Each liveness check is one or two system calls, and a read of /proc if the lock is free. With
//! thousands of participants, or of locks through which the kernel has to search, that adds up to
//! seconds, and a hostile peer can make every participant worth a check. So each call checks for a
//! while only, and the next one goes on where it stopped.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::region::Region;
use crate::region::participant::{JOINED, LEAVING, ParticipantStatus, VACANT};
use crate::sys::clock::Deadline;

/// How long one call may spend.
const MAX_TIME: Duration = Duration::from_millis(1);

/// The least, even when the deadline is near or over. Otherwise a process that never waits for long
/// would never finish a repair.
const MIN_TIME: Duration = Duration::from_micros(200);

/// Participants that one call checks.
pub(crate) const MAX_CHECKS: usize = 64;

/// Shared words that are scanned between two readings of the clock.
const WORDS_PER_CLOCK_CHECK: usize = 256;

#[cfg(feature = "__test-hooks")]
thread_local! {
    /// Shared words that this thread has scanned, for tests.
    pub(crate) static SCANNED: Cell<u64> = const { Cell::new(0) };
}

/// What one call may still spend on repair after dead participants.
pub(crate) struct Budget {
    end: Option<Instant>,
    limit: usize,
    checks_left: Cell<usize>,
    words: Cell<usize>,
    is_unused: Cell<bool>,
    is_spent: Cell<bool>,
}

impl Budget {
    fn new(end: Option<Instant>, limit: usize) -> Self {
        Self {
            end,
            limit,
            checks_left: Cell::new(limit),
            words: Cell::new(0),
            is_unused: Cell::new(true),
            is_spent: Cell::new(false),
        }
    }

    /// For a call that must return by the deadline.
    pub(crate) fn until(deadline: Deadline) -> Self {
        let now = Instant::now();
        let end = deadline.map_or(now + MAX_TIME, |deadline| deadline.min(now + MAX_TIME));
        Self::new(Some(end.max(now + MIN_TIME)), MAX_CHECKS)
    }

    /// For a call that may take long, with a bounded number of checks.
    pub(crate) fn bounded() -> Self {
        Self::new(None, MAX_CHECKS)
    }

    /// For a call that does everything.
    pub(crate) fn unlimited() -> Self {
        Self::new(None, usize::MAX)
    }

    /// The same number of checks again, in the remaining time, of which there is always a little.
    pub(crate) fn renewed(&self) -> Self {
        Self::new(self.end.map(|end| end.max(Instant::now() + MIN_TIME)), self.limit)
    }

    /// Whether anything was refused.
    pub(crate) fn is_spent(&self) -> bool {
        self.is_spent.get()
    }

    fn is_late(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end)
    }

    /// Whether the kernel may be asked about one more index. The first time it may in any case: so
    /// each call gets on.
    pub(crate) fn may_check(&self) -> bool {
        let is_first = self.is_unused.replace(false);
        let left = self.checks_left.get();
        if left == 0 || !is_first && self.is_late() {
            self.is_spent.set(true);
            return false;
        }
        self.checks_left.set(left - 1);
        true
    }

    /// Whether that many more shared words may be scanned.
    pub(crate) fn may_scan(&self, words: usize) -> bool {
        #[cfg(feature = "__test-hooks")]
        SCANNED.set(SCANNED.get() + words as u64);
        let since = self.words.get() + words;
        if since < WORDS_PER_CLOCK_CHECK {
            self.words.set(since);
            return true;
        }
        self.words.set(0);
        let late = self.is_late();
        self.is_spent.set(late || self.is_spent.get());
        !late
    }
}

/// What the kernel answered about one participant.
#[derive(Clone, Copy)]
struct Answer {
    /// Identifies the process: how many had joined there before.
    joins: u64,
    status: ParticipantStatus,
    round: u64,
}

/// What the kernel answered about the participants of a region. That one is alive is remembered for
/// one round only. That one is dead stays true: no process joins there before the repair, and one
/// that joins after it is another one.
#[derive(Default)]
pub(crate) struct StatusCache {
    participants: Vec<Option<Answer>>,
    round: u64,
    /// Deaths found so far.
    pub(crate) found: u64,
}

impl StatusCache {
    /// From here on every participant that lived may have died.
    pub(crate) fn next_round(&mut self, region: &Region) {
        self.round += 1;
        self.participants.resize(region.participants().len(), None);
    }

    /// A participant's status. None: the budget does not allow a check.
    pub(crate) fn status(&mut self, region: &Region, index: usize, budget: &Budget) -> Option<ParticipantStatus> {
        match region.participants().state(index) {
            JOINED | LEAVING => {}
            VACANT => return Some(ParticipantStatus::Vacant),
            // Left, or repaired: no process is there.
            _ => return Some(ParticipantStatus::Left),
        }
        let joins = region.participants().joins(index);
        let cached = self.participants.get(index).copied().flatten().filter(|cached| {
            cached.joins == joins && (cached.round == self.round || cached.status == ParticipantStatus::Dead)
        });
        if let Some(cached) = cached {
            return Some(cached.status);
        }
        if !budget.may_check() {
            return None;
        }
        let status = region.participants().status(index);
        if !region.participants().is_occupied(index) || region.participants().joins(index) != joins {
            return Some(ParticipantStatus::Alive); // one has just joined or left: another time
        }
        self.found += u64::from(status == ParticipantStatus::Dead);
        if let Some(place) = self.participants.get_mut(index) {
            *place = Some(Answer { joins, status, round: self.round });
        }
        Some(status)
    }
}

/// Where one participant's search for dead ones has got to.
#[derive(Default)]
pub(crate) struct RepairScan {
    pub(crate) statuses: StatusCache,
    pub(crate) scan_from: usize,
}

/// What one step of it did.
#[derive(Clone, Copy, Default)]
pub(crate) struct RepairOutcome {
    /// Participants repaired.
    pub(crate) repaired: usize,
    /// Participants scanned.
    pub(crate) scanned: usize,
}

impl RepairScan {
    /// The next dead participants, up to `limit`, and how many participants that scans. `own` is
    /// left out.
    pub(crate) fn find_dead(
        &mut self,
        region: &Region,
        own: Option<usize>,
        limit: usize,
        budget: &Budget,
    ) -> (Vec<usize>, usize) {
        let participants = region.participants().len();
        self.statuses.next_round(region);
        self.scan_from = if self.scan_from < participants { self.scan_from } else { 0 };
        let (mut dead, mut scanned) = (Vec::new(), 0);
        while scanned < participants && dead.len() < limit && budget.may_scan(1) {
            let index = (self.scan_from + scanned) % participants;
            if Some(index) != own {
                match self.statuses.status(region, index, budget) {
                    None => break,
                    Some(ParticipantStatus::Dead) => dead.push(index),
                    Some(_) => {}
                }
            }
            scanned += 1;
        }
        (dead, scanned)
    }

    /// The next search begins that many participants further.
    pub(crate) fn advance(&mut self, region: &Region, scanned: usize) {
        self.scan_from = (self.scan_from + scanned) % region.participants().len().max(1);
    }
}
