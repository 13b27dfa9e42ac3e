//! How a publisher or a subscriber joins a broadcast, and leaves it.
//!
//! Crash, by step. Steps 1 to 3 are those of region/lifecycle.rs: in the third the record becomes
//! JOINED. The fourth is
//! - of a publisher: (broadcast-join-4a) the number of publishers is incremented. Its place in the
//!   ring follows from the track alone.
//! - of a subscriber: (broadcast-join-4b) what it found is stored, (broadcast-join-4c) the leases
//!   of its predecessor are cleared, (broadcast-join-4d) its cursors are made active, one for each
//!   track. Before that those of its predecessor may be active, and hold publishers back until one
//!   asks the kernel.
//!
//! To leave: (broadcast-leave-1) a subscriber frees its cursors, (broadcast-leave-2) the record is
//! LEFT, (broadcast-leave-3) the change is counted, (broadcast-leave-4) everybody is woken. Before
//! broadcast-leave-2 the others see a death. After it they see that it left, a sleeper after one
//! LIVENESS_INTERVAL. While the process has frames of a subscriber that has left, it keeps the lock
//! of the participant, so that nobody clears their leases.

use std::cell::RefCell;

use crate::broadcast::HOOKS;
use crate::broadcast::state::{BroadcastState, Role};
use crate::error::{Error, ErrorKind, Result};
use crate::primitive::Ordering;
use crate::raw::Corrupt;
use crate::region::Region;
use crate::region::layout::broadcast::control;
use crate::region::layout::participant as record;
use crate::region::lifecycle::Registration;
use crate::region::participant::{LEFT, ParticipantStatus, VACANT};
use crate::region::words::Word;

/// Joins a broadcast. A subscriber gets up to `replay` earlier messages of each track.
pub(super) fn join(region: Region, role: Role, replay: u64) -> Result<Option<Registration>> {
    let places = BroadcastState::of(&region).with_role(role);
    // The dead keep their places. To find them, the kernel is asked about each that is taken. That
    // takes long if there are many, so it is not done while others can neither join nor leave.
    let dead = RefCell::new(Vec::new());
    let find_dead = |region: &Region| {
        let participants = region.participants();
        let is_alive = |index| participants.status(index) == ParticipantStatus::Alive;
        let found = places.clone().filter(|&index| participants.is_occupied(index) && !is_alive(index));
        dead.replace(found.collect());
    };
    if role == Role::Publisher {
        find_dead(&region);
    }
    let candidates = |region: &Region| {
        let participants = region.participants();
        let free = places.clone().filter(|&index| !participants.is_occupied(index));
        let mut candidates: Vec<usize> = free.chain(dead.borrow().iter().copied()).collect();
        if role == Role::Publisher {
            // First a place that was used: a publisher that was restarted goes on in its own, where
            // its history and its latest values are. Each is looked at once: a sort may panic if
            // the answer changes meanwhile.
            candidates.sort_by_cached_key(|&index| (participants.state(index) == VACANT, index));
        }
        candidates
    };
    Registration::join(region, places.clone(), candidates, find_dead, 0, &HOOKS, |region, index| {
        let state = BroadcastState::of(region);
        match role {
            Role::Publisher => {
                state.increment(control::PUBLISHERS_JOINED); // broadcast-join-4a
                state.increment(control::MEMBERSHIP_EPOCH);
                Ok(())
            }
            Role::Subscriber => {
                state.store_since(index);
                state.clear_leases(index);
                state.activate_cursors(index, replay).map_err(|Corrupt| state.corrupt("join"))
            }
        }
    })
}

impl BroadcastState<'_> {
    /// Stores what a subscriber finds when it joins: 0 if a publisher is there, else how many have
    /// joined before, plus 1.
    fn store_since(self, index: usize) {
        let joined = self.publishers_joined();
        let end = self.publishers_end(|index| self.region.participants().status(index));
        let since = end.map_or(0, |_| joined.wrapping_add(1));
        // edge: broadcast-since
        self.record_word(index, record::SINCE).store(since, Ordering::Release); // broadcast-join-4b
    }

    /// Makes the cursors of a subscriber active, up to `replay` messages behind.
    pub(super) fn activate_cursors(self, index: usize, replay: u64) -> Result<(), Corrupt> {
        let replay = replay.min(self.layout.geometry.history);
        for track in 0..self.layout.publishers() {
            let cursor = self.cursor(track, index - self.layout.publishers());
            cursor.activate(&self.tail(track), replay)?; // broadcast-join-4d
            self.room(track).wake(u32::MAX); // a publisher may wait for a subscriber
        }
        Ok(())
    }

    /// Clears the leases of a subscriber, whose lock the caller holds.
    fn clear_leases(self, index: usize) {
        let subscriber = index - self.layout.publishers();
        (0..self.layout.publishers()).for_each(|track| self.leases(track).clear_all(subscriber)); // broadcast-join-4c
    }

    pub(super) fn record_word(self, index: usize, word: usize) -> Word {
        self.region.word(self.region.layout().participant(index) + word)
    }

    pub(super) fn corrupt(self, action: &str) -> Error {
        Error::new(
            ErrorKind::Corrupt,
            format_args!("{action} {}", self.region.display_name()),
            "positions that no correct participant writes",
            "valid ones",
            "remove the broadcast and make it again",
        )
    }

    /// The cursors of a subscriber, freed. Those that were evicted stay so.
    fn free_cursors(self, index: usize) {
        for track in 0..self.layout.publishers() {
            let cursor = self.cursor(track, index - self.layout.publishers());
            if let Some((state, _)) = cursor.protected() {
                cursor.free(state);
            }
        }
    }

    /// Tells the others that a participant leaves.
    fn leave(self, index: usize) {
        if self.with_role(Role::Subscriber).contains(&index) {
            self.free_cursors(index); // broadcast-leave-1
        }
        self.region.participants().set_state(index, LEFT); // broadcast-leave-2
        self.increment(control::MEMBERSHIP_EPOCH); // broadcast-leave-3
        self.wake_all(); // broadcast-leave-4
    }
}

/// For a process that exits while it has a handle.
pub(super) fn announce_exit(registration: &Registration) {
    BroadcastState::of(registration.region()).leave(registration.index());
}

/// For a handle that is dropped.
pub(super) fn leave(registration: &Registration) {
    if registration.region().is_from_this_process() && !registration.is_transferred() {
        announce_exit(registration);
    }
}
