//! How a caller or a responder joins, and leaves.
//!
//! Crash, by step. Steps 1 to 3 are those of region/lifecycle.rs: in the third the record becomes
//! JOINED. The fourth is: (rpc-join-4a) what it found is stored, (rpc-join-4b) a caller withdraws
//! the request of its predecessor, a responder makes those of its predecessor Died and wakes their
//! callers, and withdraws the requests of callers that are gone, (rpc-join-4c) of a caller: the end
//! of the places that have been used is moved behind its own, (rpc-join-4d) the change is counted
//! and everybody is woken. Before rpc-join-4b is done the record says JOINED and the lock is free,
//! so it is a death, and the next one does it again.
//!
//! To leave: (rpc-leave-1) a responder drops the request that it has, a caller gives its own up,
//! (rpc-leave-2) the record is LEFT, (rpc-leave-3) the change is counted, (rpc-leave-4) everybody
//! is woken. Before rpc-leave-2 the others see a death. After it they see that it left, a sleeper
//! after one LIVENESS_INTERVAL. A process that exits leaves in the same steps, but for rpc-leave-1:
//! a thread may still be about to reply, or waits for a reply. What is not answered when the
//! process is gone is settled or withdrawn as that of a dead one.

use crate::error::Result;
use crate::primitive::Ordering;
use crate::region::Region;
use crate::region::layout::participant as record;
use crate::region::layout::rpc::control;
use crate::region::lifecycle::Registration;
use crate::region::participant::{LEFT, ParticipantStatus};
use crate::region::words::Word;
use crate::rpc::HOOKS;
use crate::rpc::state::{Role, RpcState};

pub(super) fn join(region: Region, role: Role) -> Result<Option<Registration>> {
    let places = RpcState::of(&region).with_role(role);
    let candidates = |region: &Region| {
        let participants = region.participants();
        let mut candidates: Vec<usize> = places.clone().collect();
        // The free ones first. Of the others each may be dead. Each is looked at once: a sort may
        // panic if the answer changes meanwhile.
        candidates.sort_by_cached_key(|&index| participants.is_occupied(index));
        candidates
    };
    Registration::join(
        region,
        places.clone(),
        candidates,
        |_| {},
        0,
        &HOOKS,
        |region, index| {
            let state = RpcState::of(region);
            state.store_since(index, role); // rpc-join-4a
            match index.checked_sub(state.layout.callers()) {
                Some(responder) => {
                    state.settle_all(responder); // rpc-join-4b
                    state.withdraw_all_of_gone(); // rpc-join-4b
                }
                None => {
                    state.table().reset(index); // rpc-join-4b
                    // rpc-join-4c. No other process joins meanwhile.
                    let end = state.word(control::CALLERS_END);
                    let place = index as u64 + 1;
                    if end.load(Ordering::Relaxed) < place {
                        end.store(place, Ordering::Release); // edge: rpc-members
                    }
                }
            }
            role.count_join(state); // rpc-join-4d
            state.wake_all();
            Ok(())
        },
    )
}

impl RpcState<'_> {
    /// Stores what a participant finds when it joins: 0 if a peer is there, else how many have
    /// joined before, plus 1.
    fn store_since(self, index: usize, role: Role) {
        let joined = self.joins(role.peer());
        let end = self.end_of(role.peer(), |index| self.region.participants().status(index));
        let since = end.map_or(0, |_| joined.wrapping_add(1));
        // edge: rpc-since
        self.record_word(index, record::SINCE).store(since, Ordering::Release);
    }

    pub(super) fn record_word(self, index: usize, word: usize) -> Word {
        self.region.word(self.region.layout().participant(index) + word)
    }

    /// Tells the others that a participant leaves.
    fn leave(self, index: usize) {
        self.region.participants().set_state(index, LEFT); // rpc-leave-2
        self.increment(control::MEMBERSHIP_EPOCH); // rpc-leave-3
        self.wake_all(); // rpc-leave-4
    }

    /// How many participants of a role there are. One that died and was not noticed is counted.
    pub(super) fn count(self, role: Role) -> usize {
        let participants = self.region.participants();
        self.with_role(role).filter(|&index| participants.is_occupied(index)).count()
    }

    /// Whether a live process has that role.
    pub(super) fn is_present(self, role: Role) -> bool {
        let participants = self.region.participants();
        let is_alive = |index: usize| participants.status(index) == ParticipantStatus::Alive;
        self.with_role(role).any(|index| participants.is_occupied(index) && is_alive(index))
    }
}

/// For a process that exits while it has a handle.
pub(super) fn announce_exit(registration: &Registration) {
    RpcState::of(registration.region()).leave(registration.index());
}

/// For a handle that is dropped.
pub(super) fn leave(registration: &Registration) {
    if registration.region().is_from_this_process() && !registration.is_transferred() {
        announce_exit(registration);
    }
}
