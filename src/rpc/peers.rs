//! What a caller knows of the responders, and a responder of the callers: whether one is there, and
//! how the last one ended.

use std::sync::Arc;
use std::time::Duration;

use crate::primitive::Ordering;
use crate::raw::event_count::EventCount;
use crate::region::layout::participant as record;
use crate::region::lifecycle::Registration;
use crate::region::participant::ParticipantStatus;
use crate::region::trace;
use crate::region::words::Mapped;
use crate::rpc::state::{Role, RpcState};
use crate::sys::clock::{Deadline, deadline_after};
use crate::wait::{WaitEnd, WaitState, WaitStrategy, Waiter};

pub(super) struct Peers {
    pub(super) registration: Arc<Registration>,
    pub(super) role: Role,
    pub(super) waits_for_successor: bool,
    /// If no peer was there when this participant joined: how many had been.
    joined_before: Option<u64>,
    /// How all peers ended, if they did, and the membership epoch of that.
    end: Option<WaitEnd>,
    end_of: Option<u64>,
}

impl Peers {
    /// `role`: that of the peers.
    pub(super) fn new(registration: &Arc<Registration>, role: Role, waits_for_successor: bool) -> Self {
        let state = RpcState::of(registration.region());
        // edge: rpc-since
        let since = state.record_word(registration.index(), record::SINCE).load(Ordering::Acquire);
        let registration = Arc::clone(registration);
        Self { registration, role, waits_for_successor, joined_before: since.checked_sub(1), end: None, end_of: None }
    }

    pub(super) fn state(&self) -> RpcState<'_> {
        RpcState::of(self.registration.region())
    }

    /// How all peers ended. `None` if there is one, or if the first is still to come.
    fn find_end(&self, status: impl FnMut(usize) -> ParticipantStatus) -> Option<WaitEnd> {
        let state = self.state();
        let joined = state.joins(self.role);
        if self.waits_for_successor || self.joined_before == Some(joined) {
            return None;
        }
        let end = state.end_of(self.role, status);
        // Otherwise one may have joined behind the scan.
        end.filter(|_| state.joins(self.role) == joined)
    }

    /// The end that the peers recorded.
    pub(super) fn recorded_end(&mut self) -> Option<WaitEnd> {
        let epoch = self.state().membership_epoch();
        if self.end_of != Some(epoch) {
            self.end_of = Some(epoch);
            // Without asking the kernel: a peer that did not leave counts as alive.
            self.end = self.find_end(|_| ParticipantStatus::Alive);
        }
        self.end
    }

    /// The end that the kernel reports.
    pub(super) fn check(&mut self) -> Option<WaitEnd> {
        let region = self.registration.region();
        let epoch = self.state().membership_epoch();
        let has_lost_name = region.has_lost_name();
        let end = self.find_end(|index| region.participants().status(index));
        // Until somebody joins or leaves, further calls need not ask again.
        if end.is_some() && end != Some(WaitEnd::LockLost) {
            if end == Some(WaitEnd::PeerDied) && (self.end, self.end_of) != (end, Some(epoch)) {
                trace::peers_died(region, self.state().with_role(self.role));
            }
            (self.end, self.end_of) = (end, Some(epoch));
        }
        let participants = region.participants();
        let is_gone =
            |index| index == self.registration.index() || participants.status(index) == ParticipantStatus::Dead;
        let is_alone = || participants.registered().all(is_gone);
        end.or_else(|| (has_lost_name && is_alone()).then_some(WaitEnd::NameRemoved))
    }

    /// Whether an end still holds: a peer may have joined since.
    pub(super) fn is_final(&self, end: WaitEnd) -> bool {
        matches!(end, WaitEnd::LockLost | WaitEnd::NameRemoved) || self.end_of == Some(self.state().membership_epoch())
    }

    /// Blocks until a peer is there.
    pub(super) fn wait_for_one(&self, wait: WaitStrategy, timeout: Duration) -> Result<(), WaitEnd> {
        let deadline = deadline_after(timeout);
        let mut waiter = JoinWaiter { event: self.state().joined(), state: WaitState::for_one_wait(wait) };
        waiter.wait_for(0, deadline, |attempt| {
            let may_be = || self.state().count(self.role) > 0;
            Ok((attempt.should_try(may_be) && self.state().is_present(self.role)).then_some(()))
        })
    }
}

/// Waits for somebody to join.
struct JoinWaiter {
    event: EventCount<Mapped>,
    state: WaitState,
}

impl Waiter for JoinWaiter {
    type End = WaitEnd;

    fn peer_end(&mut self) -> Option<WaitEnd> {
        None
    }

    fn check_liveness(&mut self, _: Deadline) -> Option<WaitEnd> {
        None
    }

    fn report_end(&mut self, end: WaitEnd) -> WaitEnd {
        end
    }

    fn event(&self) -> &EventCount<Mapped> {
        &self.event
    }

    fn wait_state(&mut self) -> &mut WaitState {
        &mut self.state
    }
}
