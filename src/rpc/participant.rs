//! A caller or a responder of this process: that it is one, and what it knows of its peers, the
//! other role. Whether one is there, and how the last one ended.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{NotHere, Result};
use crate::options::expect_joined;
use crate::primitive::Ordering;
use crate::raw::event_count::EventCount;
use crate::region::layout::participant as record;
use crate::region::lifecycle::{Holder, Registration};
use crate::region::participant::ParticipantStatus;
use crate::region::trace;
use crate::region::words::Mapped;
use crate::rpc::Behaviour;
use crate::rpc::endpoints::sealed::Attach;
use crate::rpc::membership::{self, join};
use crate::rpc::state::{Role, RpcState};
use crate::sys::clock::{Deadline, deadline_after};
use crate::wait::{WaitEnd, WaitState, Waiter};

/// It leaves when this is dropped.
pub(crate) struct Participant {
    holder: Holder,
    registration: Arc<Registration>,
    /// The role of its peers.
    peers: Role,
    pub(super) behaviour: Behaviour,
    state: WaitState,
    /// If no peer was there when this participant joined: how many had been.
    joined_before: Option<u64>,
    /// How all peers ended, if they did, and the membership epoch of that.
    end: Option<WaitEnd>,
    end_of: Option<u64>,
}

impl Participant {
    /// `peers`: their role.
    pub(super) fn new(registration: Registration, peers: Role, behaviour: Behaviour) -> Self {
        let registration = Arc::new(registration);
        let state = RpcState::of(registration.region());
        // edge: rpc-since
        let since = state.record_word(registration.index(), record::SINCE).load(Ordering::Acquire);
        registration.leave_at_exit();
        Self {
            holder: Holder::this_process(),
            registration,
            peers,
            behaviour,
            state: WaitState::for_one_wait(behaviour.wait),
            joined_before: since.checked_sub(1),
            end: None,
            end_of: None,
        }
    }

    pub(crate) fn holder(&self) -> &Holder {
        &self.holder
    }

    pub(crate) fn registration(&self) -> &Arc<Registration> {
        &self.registration
    }

    pub(crate) fn wait_state(&mut self) -> &mut WaitState {
        &mut self.state
    }

    /// Whether this process has it: false in a forked child, and after it was passed on.
    pub(super) fn is_here(&self) -> bool {
        self.holder.is_here(&self.registration)
    }

    /// What each call checks first.
    #[inline]
    pub(super) fn check_here<E: NotHere>(&self) -> Result<(), E> {
        self.holder.check(&self.registration)
    }

    /// See [`check_here`](Self::check_here).
    pub(super) fn check_for(&self, action: &str) -> Result<()> {
        self.holder.check_for(&self.registration, action)
    }

    /// Joins the region once more.
    pub(super) fn join_again<E: Attach>(&self) -> Result<E> {
        self.check_for("join a place for requests")?;
        let registration = expect_joined(join(self.registration.region().reopen()?, E::ROLE)?)?;
        Ok(E::attach(registration, self.behaviour))
    }

    pub(crate) fn state(&self) -> RpcState<'_> {
        RpcState::of(self.registration.region())
    }

    /// How all peers ended. `None` if there is one, or if the first is still to come.
    fn find_end(&self, status: impl FnMut(usize) -> ParticipantStatus) -> Option<WaitEnd> {
        let state = self.state();
        let joined = state.joins(self.peers);
        if self.behaviour.waits_for_successor || self.joined_before == Some(joined) {
            return None;
        }
        let end = state.end_of(self.peers, status);
        // Otherwise one may have joined behind the scan.
        end.filter(|_| state.joins(self.peers) == joined)
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
                trace::peers_died(region, self.state().with_role(self.peers));
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
    pub(super) fn wait_for_peer<E: NotHere + From<WaitEnd>>(&self, timeout: Duration) -> Result<(), E> {
        self.check_here::<E>()?;
        let deadline = deadline_after(timeout);
        let mut waiter =
            JoinWaiter { event: self.state().joined(), state: WaitState::for_one_wait(self.behaviour.wait) };
        waiter.wait_for(0, deadline, |attempt| {
            let may_be = || self.state().count(self.peers) > 0;
            Ok((attempt.should_try(may_be) && self.state().is_present(self.peers)).then_some(()))
        })
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        membership::leave(&self.registration);
    }
}

/// Waits for somebody to join.
struct JoinWaiter {
    event: EventCount<Mapped>,
    state: WaitState,
}

impl Waiter for JoinWaiter {
    type End = WaitEnd;

    fn check_liveness(&mut self, _: Deadline) -> Option<WaitEnd> {
        None
    }

    fn event(&self) -> &EventCount<Mapped> {
        &self.event
    }

    fn wait_state(&mut self) -> &mut WaitState {
        &mut self.state
    }
}
