//! How a sender or a receiver joins a queue.
//!
//! Crash, by step. Steps 1 to 3 are those of region/lifecycle.rs: in the third the record becomes
//! JOINED. The fourth is
//! - (queue-join-4a) what the newcomer found is stored,
//! - (queue-join-4b) a sender's run is announced, then begun (queue-run-1, queue-run-2 in
//!   `raw/mpmc`),
//! - (queue-join-4c) the number of those that joined in that role is incremented,
//! - (queue-join-4d) those that wait for a peer are woken.
//!
//! Before queue-join-3 nobody notices a death. From then on it is repaired like any other.

use std::cell::Cell;
use std::collections::BTreeSet;

use crate::error::{Error, ErrorKind, Result};
use crate::primitive::Ordering;
use crate::queue::HOOKS;
use crate::queue::participant::Role;
use crate::queue::state::{MAX_SKIPPED, QueueState, RoleVersion};
use crate::raw::mpmc::RingWords;
use crate::raw::mpmc::tail::RUNS;
use crate::region::Region;
use crate::region::layout::participant;
use crate::region::layout::queue::control;
use crate::region::lifecycle::Registration;
use crate::region::participant::LEFT;
use crate::region::repair::{Budget, MAX_CHECKS, RepairScan};
use crate::region::words::Mapped;

/// Where a new participant comes from. It decides what counts as an end of the peers for it.
#[derive(Clone, Copy)]
pub(crate) enum Origin {
    /// A process opened the queue. `sibling` is the other half of the same handle, if it has joined
    /// already.
    Opened { sibling: Option<usize> },
    /// A handle was cloned. The clone goes on from what the original found.
    Cloned(JoinSnapshot),
    /// A handle of the other role made it.
    FromPeer,
}

/// What a participant found when it joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JoinSnapshot {
    /// A sender's run. For a receiver: the open run, or the last one and that it was closed.
    pub(super) phase: u64,
    /// Set if the stream was over: no peer was there, and no message, not even one that another
    /// receiver holds and that may be delivered again. Then it is the number of peers that had
    /// joined until then.
    pub(super) peers_before: Option<u64>,
}

/// Joins a queue. Repairs some of the dead participants first.
pub(crate) fn join(region: Region, role: Role, origin: Origin) -> Result<Option<Registration>> {
    let queue = QueueState::of(&region);
    // Each newcomer scans the next ones, so that together they scan all. Relaxed: any start will
    // do.
    let joins = queue.word(role.word_of(control::JOINED)).load(Ordering::Relaxed) as usize;
    let scan_from = joins.wrapping_mul(MAX_CHECKS) % queue.layout.participants();
    queue.repair_some(&mut RepairScan { scan_from, ..RepairScan::default() }, None, &Budget::bounded());
    let snapshot = Cell::new(None);
    let free = |region: &Region| {
        let queue = QueueState::of(region);
        let free = region.participants().free();
        // Before anybody can see the newcomer: a peer that has seen it, and left since, was there.
        let words = queue.ring_words();
        snapshot.set(Some(match origin {
            Origin::Cloned(snapshot) => snapshot,
            Origin::FromPeer => JoinSnapshot { phase: queue.tail().phase(), peers_before: None },
            Origin::Opened { sibling } => queue.snapshot(&words, role.peer(), sibling),
        }));
        free
    };
    let make_room = |region: &Region| {
        region.participants().make_room(|| {
            QueueState::of(region).repair(None);
        });
    };
    let places = 0..region.layout().participants();
    Registration::join(region, places, free, make_room, role.code(), &HOOKS, |region, index| {
        let queue = QueueState::of(region);
        let word = |at| queue.participant_word(index, at);
        // A record may come from an older build, which does not count them.
        queue.lose_tasks(index);
        let words = queue.ring_words();
        let found = snapshot.take().unwrap_or(JoinSnapshot { phase: queue.tail().phase(), peers_before: None });
        let since = found.peers_before.map_or(0, |joins| joins.wrapping_add(1));
        word(participant::SINCE).store(since, Ordering::Relaxed); // queue-join-4a
        match origin {
            Origin::Cloned(_) if role == Role::Sender => {
                word(participant::RUN).store(found.phase, Ordering::Release); // edge: queue-run
                if queue.tail().phase() == found.phase {
                    queue.increment(role.word_of(control::JOINED)); // queue-join-4c
                }
            }
            _ if role == Role::Sender => {
                queue.join_run(&words, index).inspect_err(|_| region.participants().set_state(index, LEFT))?
            }
            _ => {
                word(participant::RUN).store(found.phase, Ordering::Release); // edge: queue-run
                queue.increment(role.word_of(control::JOINED)); // queue-join-4c
            }
        }
        queue.increment(control::MEMBERSHIP_EPOCH);
        queue.event(control::TASKS_DONE).notify(u32::MAX); // queue-join-4d
        Ok(())
    })
}

impl QueueState<'_> {
    /// What a newcomer finds of its peers. Its own `sibling` is not one of them.
    fn snapshot(self, words: &RingWords<Mapped>, peers: Role, sibling: Option<usize>) -> JoinSnapshot {
        let version @ RoleVersion { joins, tail } = self.role_version(peers);
        let is_alone = !self.active_with_role(peers, tail).any(|index| Some(index) != sibling);
        words.advance_over_skipped(MAX_SKIPPED);
        // What other receivers have may be delivered again. A sender that has sent something and
        // left meanwhile was there.
        let has_messages = || words.len() > 0 || self.may_redeliver_to(None, words);
        let is_over = is_alone && (peers == Role::Receiver || !has_messages() && self.role_version(peers) == version);
        let siblings = u64::from(sibling.is_some());
        JoinSnapshot { phase: tail.phase(), peers_before: is_over.then(|| joins.wrapping_sub(siblings)) }
    }

    /// Makes a sender a member of the open run, or begins the next one.
    fn join_run(self, words: &RingWords<Mapped>, index: usize) -> Result<()> {
        let joins = Role::Sender.word_of(control::JOINED);
        let next = |last: u64| {
            // A thread of a process that exits may still be sending.
            let others = self.occupied_with_role(Role::Sender).filter(|&other| other != index);
            let used: BTreeSet<u64> = others.map(|other| self.run(other)).collect();
            (1..RUNS).map(|ahead| (last + ahead) % RUNS).find(|run| !used.contains(run))
        };
        let mut begins = false;
        let joined = words.join(next, |run, is_new| {
            begins = is_new;
            // edge: queue-run
            self.participant_word(index, participant::RUN).store(run, Ordering::Release); // queue-join-4b
            if !is_new {
                self.increment(joins); // queue-join-4c
            }
        });
        let action = format_args!("join {}", self.region.display_name()).to_string();
        match joined {
            // Not before the run has begun: a receiver that waits for this run would take the end
            // of the last one for its end.
            Ok(Some(_)) if begins => self.increment(joins), // queue-join-4c
            Ok(Some(_)) => {}
            Ok(None) => {
                let found = format_args!("senders of {} closed runs, all still there", RUNS - 1).to_string();
                let remedy = "drop senders that were closed: each run whose senders are there takes up a number";
                return Err(Error::new(
                    ErrorKind::TooManyParticipants,
                    action,
                    found,
                    "a free number for the next run",
                    remedy,
                ));
            }
            Err(_) => {
                let found = "a run that changes without end";
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    action,
                    found,
                    "one that lasts",
                    "remove the queue and make it again",
                ));
            }
        }
        Ok(())
    }
}
