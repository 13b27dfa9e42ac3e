//! Repair of what dead participants of a queue have left behind.
//!
//! Crash, by step: (queue-repair-1) the claims (`raw/mpmc`), (queue-repair-2) the payload pool
//! (`raw/pool.rs`), what is to be delivered again (`queue/redelivery.rs`), the tasks
//! (`queue/tasks.rs`), (queue-repair-3) the exit is recorded,
//! (queue-repair-4) the record is REPAIRED and can be used again. Then the change is counted and
//! everybody is woken. Another repairer may do each step again.

use std::cell::{Cell, RefCell};

use crate::primitive::Ordering;
use crate::queue::payload::PayloadPool;
use crate::queue::state::{MAX_SKIPPED, QueueState};
use crate::raw::mpmc::RingWords;
use crate::raw::mpmc::repair::{Repair, RepairLog};
use crate::region::layout::queue::{control, own};
use crate::region::participant::{JOINED, ParticipantStatus, REPAIRED};
use crate::region::repair::{Budget, RepairOutcome, RepairScan};
use crate::region::trace;
use crate::region::words::Mapped;

/// The most dead participants that are repaired together: their intents are read once for all of
/// them.
const MAX_GROUP: usize = 64;

impl QueueState<'_> {
    /// Repairs the dead if no other process takes part: messages that they had claimed and not sent
    /// must not keep the name. The number of checks is bounded, not the time, so that the result
    /// does not depend on pauses of this thread.
    pub(super) fn repair_as_last(self, scan: &mut RepairScan, own: usize, words: &RingWords<Mapped>) {
        if !self.region.participants().has_others(own) {
            self.repair_some(scan, Some(own), &Budget::bounded());
        }
        words.advance_over_skipped(MAX_SKIPPED);
    }

    /// Repairs all dead participants. Returns how many. `own` is the participant that this
    /// description holds: the kernel does not tell whether it is alive.
    pub(crate) fn repair(self, own: Option<usize>) -> usize {
        let mut scan = RepairScan::default();
        let (mut repaired, mut scanned) = (0, 0);
        while scanned < self.layout.participants() {
            let outcome = self.repair_some(&mut scan, own, &Budget::unlimited());
            repaired += outcome.repaired;
            scanned += outcome.scanned;
            if outcome.scanned == 0 {
                break; // another process is repairing
            }
        }
        repaired
    }

    /// Like [`repair`](Self::repair), from where the last scan stopped, and as far as the budget
    /// allows.
    pub(super) fn repair_some(self, scan: &mut RepairScan, own: Option<usize>, budget: &Budget) -> RepairOutcome {
        let participants = self.region.participants();
        let (mut dead, scanned) = scan.find_dead(self.region, own, MAX_GROUP, budget);
        let pending_position = self.word(control::PENDING_POSITION);
        if dead.is_empty() && pending_position.load(Ordering::Relaxed) == 0 {
            scan.advance(self.region, scanned);
            return RepairOutcome { repaired: 0, scanned };
        }
        let Some(_repair_lock) = participants.try_lock_repair() else { return RepairOutcome::default() };
        let words = self.ring_words();
        let pending_lost = self.word(control::PENDING_LOST);
        let log = RepairLog { lost: self.word(control::LOST), pending_position, pending_lost };
        let (found_before, budget) = (scan.statuses.found, budget.renewed());
        let statuses = RefCell::new(&mut scan.statuses);
        let status = |index| statuses.borrow_mut().status(self.region, index, &budget);
        // One pass over all intents is always allowed. Otherwise repair would not progress where a
        // pass takes longer than the budget.
        let free_words = Cell::new(2 * self.layout.participants() + 4 * MAX_GROUP);
        let repair = Repair {
            words: &words,
            log: &log,
            intents: &|index| (index < self.layout.participants()).then(|| self.participant_word(index, own::INTENT)),
            is_alive: &|index| match Some(index) == own {
                true => Some(true),
                false => {
                    status(index).map(|status| matches!(status, ParticipantStatus::Alive | ParticipantStatus::LockLost))
                }
            },
            spend: &|words| {
                let left = free_words.get();
                free_words.set(left.saturating_sub(words));
                budget.may_scan(words) || left >= words
            },
        };
        // A region that is too damaged to repair stays as it is. The calls that meet the damage
        // report it.
        if repair.resume().is_err() {
            scan.advance(self.region, scanned);
            return RepairOutcome { repaired: 0, scanned };
        }
        // Check again under the lock: another process may have repaired some of them, and new ones
        // may have joined. The answers are cached.
        dead.retain(|&index| status(index) == Some(ParticipantStatus::Dead));
        let payload = PayloadPool::new(self.region, 0);
        budget.may_scan(self.layout.all_blocks() as usize); // once for all of them
        let (mut repaired, mut rest) = (0, &*dead);
        let has_requeued = Cell::new(false);
        // Where the next scan has to go on, if this one runs out of budget.
        let mut next = None;
        while !rest.is_empty() && next.is_none() {
            let (group, later) = rest.split_at(repair.group_len(rest).min(rest.len()));
            let is_released = repair.release_dead_or_keep(group, |message| match payload.redelivery() {
                // queue-requeue-1
                Some(redelivery) => match redelivery.requeue_claimed(message) {
                    Some(is_requeued) => {
                        has_requeued.set(has_requeued.get() || is_requeued);
                        false
                    }
                    None => true,
                },
                None => {
                    payload.discard(self.region, message);
                    true
                }
            }); // queue-repair-1
            for (&index, is_released) in group.iter().zip(is_released) {
                if next.is_some() || repaired > 0 && !budget.may_scan(1) {
                    next = next.or(Some(index));
                    continue;
                }
                // queue-requeue-2, queue-requeue-3
                let has_held = self.requeue_held(index, payload.blocks_of_dead(index));
                has_requeued.set(has_requeued.get() || has_held);
                payload.free_unsent(self.region, &words, index); // queue-repair-2
                if is_released {
                    self.lose_tasks(index); // queue-task-1 to queue-task-4
                    // A participant that is LEAVING has recorded its exit itself.
                    if participants.state(index) == JOINED {
                        self.store_exit(index, REPAIRED); // queue-repair-3
                    }
                    participants.set_state(index, REPAIRED); // queue-repair-4
                    trace::repaired(self.region, index);
                    repaired += 1;
                }
            }
            if budget.is_spent() {
                // The same group again as long as each scan finds out something new. Otherwise the
                // next.
                let progressed = repaired > 0 || statuses.borrow().found > found_before;
                next = next.or(if progressed { group.first() } else { later.first() }.copied());
                break;
            }
            rest = later;
        }
        // What one had may be received even if it cannot be released yet.
        if repaired > 0 || has_requeued.get() {
            words.advance_over_skipped(MAX_SKIPPED);
            self.increment(control::MEMBERSHIP_EPOCH);
            self.wake_all();
        }
        let count = self.layout.participants();
        let scanned = next.map_or(scanned, |next| (next + count - scan.scan_from) % count);
        scan.advance(self.region, scanned);
        RepairOutcome { repaired, scanned }
    }
}
