//! A region for requests, as words: its cells and buffers, and its participants.

use crate::primitive::Ordering;
use crate::raw::event_count::EventCount;
use crate::raw::rpc::CallTable;
use crate::region::Region;
use crate::region::layout::Layout;
use crate::region::layout::rpc::{RpcLayout, control};
use crate::region::participant::ParticipantStatus;
use crate::region::trace;
use crate::region::words::{Mapped, Word};
use crate::wait::WaitEnd;

/// A view of a region that is for requests.
#[derive(Clone, Copy)]
pub(crate) struct RpcState<'a> {
    pub(crate) region: &'a Region,
    pub(crate) layout: &'a RpcLayout,
}

impl<'a> RpcState<'a> {
    /// The caller has checked that the region is for requests.
    pub(crate) fn of(region: &'a Region) -> Self {
        match region.layout() {
            Layout::Rpc(layout) => Self { region, layout },
            other => unreachable!("{} opened as a place for requests", other.kind()),
        }
    }

    /// A word of the control block.
    pub(super) fn word(self, index: usize) -> Word {
        self.region.word(RpcLayout::CONTROL + index)
    }

    /// What responders sleep on.
    pub(super) fn requests(self) -> EventCount<Mapped> {
        EventCount::new(self.region.futex(RpcLayout::CONTROL + control::REQUESTS))
    }

    /// What those sleep on that wait for somebody to join.
    pub(super) fn joined(self) -> EventCount<Mapped> {
        EventCount::new(self.region.futex(RpcLayout::CONTROL + control::JOINED))
    }

    /// What a caller sleeps on while it waits for a reply in that buffer.
    pub(super) fn answered(self, caller: usize, buffer: usize) -> EventCount<Mapped> {
        EventCount::new(self.region.futex(self.layout.buffer_event(caller, buffer)))
    }

    pub(crate) fn table(self) -> CallTable<Mapped> {
        let words = |(start, length)| self.region.words(start, length);
        CallTable {
            cells: words(self.layout.cells()),
            cell_stride: self.layout.cell_stride(),
            buffers: words(self.layout.buffers()),
            buffer_stride: self.layout.buffer_stride(),
            active: words(self.layout.active()),
            callers: self.layout.callers(),
            responders: self.layout.responders(),
        }
    }

    /// The participants of a role.
    pub(crate) fn with_role(self, role: Role) -> std::ops::Range<usize> {
        let callers = self.layout.callers();
        match role {
            Role::Caller => 0..callers,
            Role::Responder => callers..callers + self.layout.responders(),
        }
    }

    pub(super) fn membership_epoch(self) -> u64 {
        self.word(control::MEMBERSHIP_EPOCH).load(Ordering::Acquire) // edge: rpc-members
    }

    /// How many have joined in that role so far.
    pub(super) fn joins(self, role: Role) -> u64 {
        self.word(role.joined_word()).load(Ordering::Acquire) // edge: rpc-members
    }

    pub(super) fn increment(self, index: usize) {
        self.word(index).fetch_add(1, Ordering::AcqRel); // edge: rpc-members
    }

    /// How all participants of a role ended. `None` if there is one. `status` answers for each.
    pub(super) fn end_of(self, role: Role, mut status: impl FnMut(usize) -> ParticipantStatus) -> Option<WaitEnd> {
        let mut end = WaitEnd::Closed;
        let participants = self.region.participants();
        for index in self.with_role(role).filter(|&index| participants.is_occupied(index)) {
            match status(index) {
                ParticipantStatus::Alive => return None,
                ParticipantStatus::LockLost => end = WaitEnd::LockLost,
                ParticipantStatus::Dead if end == WaitEnd::Closed => end = WaitEnd::PeerDied,
                _ => {}
            }
        }
        Some(end)
    }

    /// Whether the process that is a responder, or was, is gone.
    pub(super) fn is_gone(self, responder: usize) -> bool {
        if responder >= self.layout.responders() {
            return true;
        }
        let status = self.region.participants().status(self.layout.callers() + responder);
        !matches!(status, ParticipantStatus::Alive | ParticipantStatus::LockLost)
    }

    /// Tells the callers whose requests a responder had that it is gone. No process takes its place
    /// meanwhile.
    pub(super) fn settle_all(self, responder: usize) {
        let table = self.table();
        for caller in 0..self.layout.callers() {
            if let Some(buffer) = table.settle(caller, responder) {
                self.answered(caller, buffer).wake(u32::MAX);
            }
        }
    }

    /// Whether a caller's process is gone, and its request is not answered.
    fn has_request_of_gone(self, caller: usize) -> bool {
        let table = self.table();
        let is_open = || table.is_pending(caller) || table.responder_of(caller).is_some();
        let status = || self.region.participants().status(caller);
        is_open() && matches!(status(), ParticipantStatus::Left | ParticipantStatus::Dead)
    }

    /// Withdraws the requests of callers that are gone: by a responder that joins, since they may
    /// be of any age.
    pub(super) fn withdraw_all_of_gone(self) {
        let end = self.word(control::CALLERS_END).load(Ordering::Acquire) as usize; // edge: rpc-members
        for caller in (0..self.layout.callers().min(end)).filter(|&caller| self.has_request_of_gone(caller)) {
            self.region.participants().while_vacant(caller, || self.table().reset(caller));
        }
    }

    /// Settles and withdraws the requests of those that are gone. Returns how many of them had one.
    pub(crate) fn repair(self) -> usize {
        let (participants, table) = (self.region.participants(), self.table());
        let mut repaired = 0;
        // A caller that left has a request if its process exited while it waited.
        let is_gone = |&index: &usize| {
            participants.is_dead(index, None) || index < self.layout.callers() && self.has_request_of_gone(index)
        };
        for index in (0..participants.len()).filter(is_gone) {
            participants.while_vacant(index, || {
                let had_request = match index.checked_sub(self.layout.callers()) {
                    Some(responder) => {
                        let mut callers = 0..self.layout.callers();
                        let had_request = callers.any(|caller| table.responder_of(caller) == Some(responder));
                        self.settle_all(responder);
                        had_request
                    }
                    None => {
                        let had_request = table.is_pending(index) || table.responder_of(index).is_some();
                        table.reset(index);
                        had_request
                    }
                };
                if had_request {
                    trace::repaired(self.region, index);
                    repaired += 1;
                }
            });
        }
        repaired
    }

    /// Wakes everybody, since somebody has joined or left.
    pub(super) fn wake_all(self) {
        self.requests().wake(u32::MAX);
        self.joined().wake(u32::MAX);
        let table = self.table();
        for caller in 0..self.layout.callers() {
            let buffer = table.load_claim(caller).buffer();
            if buffer < self.layout.responders() {
                self.answered(caller, buffer).notify(u32::MAX);
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Caller,
    Responder,
}

impl Role {
    pub(super) fn peer(self) -> Self {
        match self {
            Self::Caller => Self::Responder,
            Self::Responder => Self::Caller,
        }
    }

    fn joined_word(self) -> usize {
        match self {
            Self::Caller => control::CALLERS_JOINED,
            Self::Responder => control::RESPONDERS_JOINED,
        }
    }

    pub(super) fn count_join(self, state: RpcState<'_>) {
        state.increment(self.joined_word());
        state.increment(control::MEMBERSHIP_EPOCH);
    }
}
