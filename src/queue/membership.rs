//! How a sender or a receiver joins a queue.
//!
//! Crash, by step: as in region/lifecycle.rs, where join-3 makes the record JOINED. Here join-4 is
//! (queue-join-4a) what it found before join-3, (queue-join-4b) a sender's run announced, then begun
//! (`raw/mpmc` N1, N2), (queue-join-4c) the role's count goes up, before an open run is looked for
//! again. Before join-3 nobody notices a death, from join-3 on it is repaired like any.

use std::cell::Cell;

use crate::error::{Error, ErrorKind, Result};
use crate::primitive::Ordering;
use crate::queue::HOOKS;
use crate::queue::participant::{Arrival, Basis, JoinSnapshot, Role};
use crate::queue::state::{MAX_SKIPPED, QueueState};
use crate::raw::mpmc::RingWords;
use crate::raw::mpmc::tail::RUNS;
use crate::region::Region;
use crate::region::layout::participant;
use crate::region::layout::queue::{control, own};
use crate::region::lifecycle::Registration;
use crate::region::participant::LEFT;
use crate::region::repair::{Budget, MAX_CHECKS, RepairScan};
use crate::region::words::Mapped;

/// Joins a queue. Dead participants are repaired first; of many, some.
pub(crate) fn join(region: Region, role: Role, arrival: Arrival) -> Result<Option<Registration>> {
    let queue = QueueState::of(&region);
    // Each newcomer scans the next ones, so that all of them are scanned by somebody.
    let joined = queue.word(role.of(control::JOINED)).load(Ordering::Relaxed) as usize; // any start will do
    let cursor = joined.wrapping_mul(MAX_CHECKS) % queue.layout.participants();
    queue.repair_some(&mut RepairScan { cursor, ..RepairScan::default() }, None, &Budget::bounded());
    let found = Cell::new(None);
    let free = |region: &Region| {
        let queue = QueueState::of(region);
        let free = region.participants().free(|| {
            queue.repair(None);
        });
        // Before anybody can see the newcomer: a peer that saw it, and has left since, was there.
        let words = queue.ring_words();
        found.set(Some(match arrival {
            Arrival::Cloned(found) => found,
            Arrival::Called => JoinSnapshot { phase: words.load_tail().phase(), since: None },
            Arrival::Found { sibling } => queue.snapshot(&words, role.other(), sibling),
        }));
        free
    };
    Registration::join(region, free, role.code(), &HOOKS, |region, index| {
        let queue = QueueState::of(region);
        let word = |at| queue.participant_word(index, at);
        word(own::UNFINISHED_TASKS).store(0, Ordering::Relaxed); // no other process reads it before it counts
        let words = queue.ring_words();
        let found = found.take().unwrap_or(JoinSnapshot { phase: words.load_tail().phase(), since: None });
        let since = found.since.map_or(0, |joined| joined.wrapping_add(1));
        word(participant::SINCE).store(since, Ordering::Relaxed); // queue-join-4a
        match arrival {
            Arrival::Cloned(_) if role == Role::Sender => {
                word(participant::RUN).store(found.phase, Ordering::Release);
                if words.load_tail().phase() == found.phase {
                    queue.count_up(role.of(control::JOINED)); // queue-join-4c
                }
            }
            _ if role == Role::Sender => {
                queue.join_run(&words, index).inspect_err(|_| region.participants().set_state(index, LEFT))?
            }
            _ => {
                word(participant::RUN).store(found.phase, Ordering::Release);
                queue.count_up(role.of(control::JOINED)); // queue-join-4c
            }
        }
        queue.count_up(control::MEMBERSHIP_EPOCH);
        Ok(())
    })
}

impl QueueState<'_> {
    /// What a newcomer finds of the other role, beside the lane that its handle has already.
    fn snapshot(self, words: &RingWords<Mapped>, other: Role, sibling: Option<usize>) -> JoinSnapshot {
        let basis @ Basis { came, now } = self.basis(other);
        let is_alone = !self.able_to(other, now).any(|index| Some(index) != sibling);
        words.advance_over_skipped(MAX_SKIPPED);
        // Whoever sent something and has left meanwhile was there.
        let is_over = is_alone && (other == Role::Receiver || words.len() == 0 && self.basis(other) == basis);
        let siblings = u64::from(sibling.is_some());
        JoinSnapshot { phase: now.phase(), since: is_over.then(|| came.wrapping_sub(siblings)) }
    }

    /// Makes a sender one of the run that is open, or begins the next.
    fn join_run(self, words: &RingWords<Mapped>, index: usize) -> Result<()> {
        let came = Role::Sender.of(control::JOINED);
        let next = |last: u64| {
            let mut is_used = [false; RUNS as usize];
            // A thread of a process that ends may still be sending.
            let is_sender =
                |&lane: &usize| self.region.participants().is_occupied(lane) && self.role(lane) == Role::Sender;
            for lane in (0..self.layout.participants()).filter(is_sender).filter(|&lane| lane != index) {
                is_used[self.run(lane) as usize] = true;
            }
            (1..RUNS).map(|ahead| (last + ahead) % RUNS).find(|&run| !is_used[run as usize])
        };
        let mut begins = false;
        let joined = words.join(next, |run, is_new| {
            begins = is_new;
            self.participant_word(index, participant::RUN).store(run, Ordering::Release); // queue-join-4b
            if !is_new {
                self.count_up(came); // queue-join-4c
            }
        });
        let doing = format_args!("join {}", self.region.display_name()).to_string();
        match joined {
            // Not earlier: a receiver that waits for this run would hear the end of the last one.
            Ok(Some(_)) if begins => self.count_up(came), // queue-join-4c
            Ok(Some(_)) => {}
            Ok(None) => {
                let found = format_args!("senders of {} closed runs, all still there", RUNS - 1).to_string();
                let remedy = "drop senders that were closed: each run whose senders are there takes up a number";
                return Err(Error::new(
                    ErrorKind::TooManyParticipants,
                    doing,
                    found,
                    "a free number for the next run",
                    remedy,
                ));
            }
            Err(_) => {
                let found = "a run that changes without end";
                return Err(Error::new(ErrorKind::Corrupt, doing, found, "one that lasts", "make the queue anew"));
            }
        }
        Ok(())
    }
}
