//! Repair: what dead participants of a queue left behind.
//!
//! Crash, by step: (queue-repair-1) the claims (`raw/mpmc`), (queue-repair-2) the pool
//! (`raw/pool.rs`), (queue-repair-3) how the role's last one ended, (queue-repair-4) REPAIRED,
//! (queue-repair-5) the change counted, everybody woken. The participant is nobody's before
//! queue-repair-4. Each step may be done again by another repairer.

use std::cell::{Cell, RefCell};

use crate::primitive::Ordering;
use crate::queue::payload::PayloadPool;
use crate::queue::state::{MAX_SKIPPED, QueueState};
use crate::raw::mpmc::RingWords;
use crate::raw::mpmc::repair::{Repair, RepairLog};
use crate::region::layout::queue::{control, own};
use crate::region::participant::{JOINED, ParticipantStatus, REPAIRED};
use crate::region::repair::{Budget, RepairOutcome, RepairScan};
use crate::region::words::Mapped;

/// Dead participants that are repaired together at most: all intents are read once for all of them.
const MAX_GROUP: usize = 64;

impl QueueState<'_> {
    /// Repairs the dead if nobody else is there: what they left unsent must not keep the name. The
    /// number of questions bounds it, not the clock, so a pause of this thread changes nothing.
    pub(super) fn clear_up_as_last(self, scan: &mut RepairScan, own: usize, words: &RingWords<Mapped>) {
        if !self.region.participants().has_others(own) {
            self.repair_some(scan, Some(own), &Budget::bounded());
        }
        words.advance_over_skipped(MAX_SKIPPED);
    }

    /// Puts right all that dead participants left behind; says how many count serve again. `own` is the lane that this
    /// description holds, about which the kernel would not tell us.
    pub(crate) fn repair(self, own: Option<usize>) -> usize {
        let mut scan = RepairScan::default();
        let (mut repaired, mut scanned) = (0, 0);
        while scanned < self.layout.participants() {
            let outcome = self.repair_some(&mut scan, own, &Budget::unlimited());
            repaired += outcome.repaired;
            scanned += outcome.scanned;
            if outcome.scanned == 0 {
                break; // somebody else repairs
            }
        }
        repaired
    }

    /// As [`repair`](Self::repair), from where the last look has got, as far as the budget allows.
    pub(super) fn repair_some(self, scan: &mut RepairScan, own: Option<usize>, budget: &Budget) -> RepairOutcome {
        let (mut dead, scanned) = scan.find_dead(self.region, own, MAX_GROUP, budget);
        let verdict = self.word(control::PENDING_POSITION);
        if dead.is_empty() && verdict.load(Ordering::Relaxed) == 0 {
            scan.advance(self.region, scanned);
            return RepairOutcome { repaired: 0, scanned };
        }
        let Some(_held) = self.region.participants().try_lock_repair() else { return RepairOutcome::default() };
        let words = self.ring_words();
        let log = RepairLog {
            lost: self.word(control::LOST),
            pending_position: verdict,
            pending_lost: self.word(control::PENDING_LOST),
        };
        let (found, budget) = (scan.statuses.found, budget.renewed());
        let statuses = RefCell::new(&mut scan.statuses);
        let standing = |index| statuses.borrow_mut().status(self.region, index, &budget);
        let granted = Cell::new(2 * self.layout.participants() + 4 * MAX_GROUP);
        let repair = Repair {
            words: &words,
            log: &log,
            intents: &|index| (index < self.layout.participants()).then(|| self.participant_word(index, own::INTENT)),
            is_alive: &|index| match Some(index) == own {
                true => Some(true),
                false => standing(index)
                    .map(|standing| matches!(standing, ParticipantStatus::Alive | ParticipantStatus::LockLost)),
            },
            // One pass over all count is had in any case: otherwise repair would never get on where that
            // takes longer than the budget.
            spend: &|words| {
                let left = granted.get();
                granted.set(left.saturating_sub(words));
                budget.may_scan(words) || left >= words
            },
        };
        // A region so damaged that it cannot be repaired stays as it is; whoever meets the damage says so.
        if repair.resume().is_err() {
            scan.advance(self.region, scanned);
            return RepairOutcome { repaired: 0, scanned };
        }
        // Again, with the right to: somebody may have repaired some of them meanwhile, and others have come. It is no question any more.
        dead.retain(|&index| standing(index) == Some(ParticipantStatus::Dead));
        let parcels = PayloadPool::new(self.region, 0);
        budget.may_scan(self.layout.all_blocks() as usize); // once for all of them
        let (mut repaired, mut rest) = (0, &*dead);
        // Where to go on next time, if this takes too long.
        let mut next = None;
        while !rest.is_empty() && next.is_none() {
            let (group, later) = rest.split_at(repair.group_len(rest).min(rest.len()));
            let whole = repair.release_dead(group, |payload| parcels.lose(self.region, payload)); // queue-repair-1
            for (&index, whole) in group.iter().zip(whole) {
                if next.is_some() || repaired > 0 && !budget.may_scan(1) {
                    next = next.or(Some(index));
                    continue;
                }
                parcels.reclaim(self.region, &words, index); // queue-repair-2
                if whole {
                    // One that was LEAVING has said itself how it ended.
                    if self.region.participants().state(index) == JOINED {
                        self.store_exit(index, REPAIRED); // queue-repair-3
                    }
                    self.region.participants().set_state(index, REPAIRED); // queue-repair-4
                    repaired += 1;
                }
            }
            if budget.is_spent() {
                // Once more the same ones, as long as each time something new is found out; else the ones after them.
                let gets_on = repaired > 0 || statuses.borrow().found > found;
                next = next.or(if gets_on { group.first() } else { later.first() }.copied());
                break;
            }
            rest = later;
        }
        if repaired > 0 {
            words.advance_over_skipped(MAX_SKIPPED);
            self.count_up(control::MEMBERSHIP_EPOCH); // queue-repair-5
            self.wake_all();
        }
        let count = self.layout.participants();
        let scanned = next.map_or(scanned, |next| (next + count - scan.cursor) % count);
        scan.advance(self.region, scanned);
        RepairOutcome { repaired, scanned }
    }
}
