//! What responders to values and to byte messages have in common: taking requests, waiting for
//! them, and answering.

use std::fmt;

use crate::error::{RecvError, ReplyError};
use crate::primitive::{AtomicU64, Ordering};
use crate::raw::event_count::EventCount;
use crate::raw::rpc::{CallTable, Outcome, Rotation, Taken};
use crate::region::layout::rpc::control;
use crate::region::lifecycle::Registration;
use crate::region::words::{Mapped, Word};
use crate::rpc::Behaviour;
use crate::rpc::participant::Participant;
use crate::rpc::state::Role;
use crate::sys::clock::Deadline;
use crate::sys::membarrier;
use crate::wait::source::sealed::Watch;
use crate::wait::{Attempt, Timeout, WaitEnd, WaitState, Waiter};

/// After that many requests a responder looks at all callers, whatever their bits say.
const FULL_LOOK: u32 = 256;

/// Requests in a row that may be given up while they are copied. After that many a responder looks
/// at its deadline again.
const RETRY_BUDGET: usize = 64;

pub(crate) struct RespondHalf {
    requests: Requests,
    /// The request that was received last, until it is answered.
    held: Option<Taken>,
    /// What the callers sleep on, with the buffer.
    answered: Vec<Option<(usize, EventCount<Mapped>)>>,
    pub(super) waiter: RequestWaiter,
}

/// The requests of all callers, as one responder takes them.
struct Requests {
    table: CallTable<Mapped>,
    responder: usize,
    rotation: Rotation,
    callers_end: Word,
    taken: u32,
}

impl Requests {
    /// Takes one request. A probe looks only at callers whose bits are set.
    #[inline]
    fn take<R, E>(
        &mut self,
        attempt: Attempt,
        mut copy: impl FnMut(&[AtomicU64]) -> Result<R, E>,
    ) -> Option<(Taken, Result<R, E>)> {
        for _ in 0..RETRY_BUDGET {
            let taken = if attempt == Attempt::Probe && !self.taken.is_multiple_of(FULL_LOOK) {
                self.rotation.take_active(&self.table, self.responder)?
            } else {
                self.take_any()?
            };
            self.taken = self.taken.wrapping_add(1);
            let copied = copy(self.table.request(taken.caller));
            // Otherwise the caller has given up, and there may be others.
            if self.table.is_current(&taken) {
                return Some((taken, copied));
            }
        }
        None
    }

    #[cold]
    fn take_any(&mut self) -> Option<Taken> {
        // edge: rpc-members
        let callers = self.callers_end.load(Ordering::Acquire) as usize;
        self.rotation.take_any(&self.table, self.responder, callers)
    }

    /// Whether there is a request.
    fn has_pending(&self) -> bool {
        // edge: rpc-members
        let callers = self.callers_end.load(Ordering::Acquire) as usize;
        (0..callers.min(self.table.callers)).any(|caller| self.table.is_pending(caller))
    }

    /// Whether there may be a request.
    #[inline]
    fn probe(&self) -> bool {
        self.table.next_active(0, self.table.callers).is_some()
    }
}

/// Waits for a request.
pub(super) struct RequestWaiter {
    pub(super) participant: Participant,
    requests: EventCount<Mapped>,
    table: CallTable<Mapped>,
}

impl RespondHalf {
    pub(super) fn new(registration: Registration, behaviour: Behaviour) -> Self {
        let participant = Participant::new(registration, Role::Caller, behaviour);
        let state = participant.state();
        let half = Self {
            requests: Requests {
                table: state.table(),
                responder: participant.registration().index().saturating_sub(state.layout.callers()),
                rotation: Rotation::default(),
                callers_end: state.word(control::CALLERS_END),
                taken: 0,
            },
            held: None,
            answered: (0..state.layout.callers()).map(|_| None).collect(),
            waiter: RequestWaiter { requests: state.requests(), table: state.table(), participant },
        };
        let state = half.participant().state();
        if !membarrier::register() {
            half.waiter.requests.require_fences();
            let buffers = (0..state.layout.callers())
                .flat_map(|caller| (0..state.layout.responders()).map(move |buffer| (caller, buffer)));
            buffers.for_each(|(caller, buffer)| state.answered(caller, buffer).require_fences());
        }
        half
    }

    pub(super) fn participant(&self) -> &Participant {
        &self.waiter.participant
    }

    pub(super) fn has_request(&self) -> bool {
        self.held.is_some()
    }

    /// Receives one request, which `copy` gets: its length and its payload. If it returns an error,
    /// the request is dropped.
    #[inline]
    pub(super) fn recv<R>(
        &mut self,
        timeout: Timeout,
        mut copy: impl FnMut(&[AtomicU64]) -> Result<R, RecvError>,
    ) -> Result<R, RecvError> {
        self.participant().check_here::<RecvError>()?;
        self.drop_held();
        let found = match self.requests.take(Attempt::Probe, &mut copy) {
            Some(found) => found,
            None => self.recv_slow(timeout, &mut copy)?,
        };
        self.held = Some(found.0);
        if found.1.is_err() {
            self.drop_held();
        }
        found.1
    }

    #[inline(never)]
    fn recv_slow<R>(
        &mut self,
        timeout: Timeout,
        mut copy: impl FnMut(&[AtomicU64]) -> Result<R, RecvError>,
    ) -> Result<(Taken, Result<R, RecvError>), RecvError> {
        let Self { requests, waiter, .. } = self;
        match timeout {
            Timeout::NonBlocking => loop {
                let end = waiter.end_of_try();
                match (requests.take(Attempt::Full, &mut copy), end) {
                    (Some(found), _) => return Ok(found),
                    (None, Some(end)) if waiter.is_final(&end) => return Err(end.into()),
                    (None, _) if waiter.listen_after_try() => {}
                    (None, _) => return Err(RecvError::Empty),
                }
            },
            Timeout::At(deadline) => waiter.wait_for(0, deadline, |attempt| {
                if attempt.should_try(|| requests.probe()) { Ok(requests.take(attempt, &mut copy)) } else { Ok(None) }
            }),
        }
    }

    /// Answers the request that was received last. `fill` gets the words of the reply.
    #[inline]
    pub(super) fn reply(
        &mut self,
        outcome: Outcome,
        fill: impl FnOnce(&CallTable<Mapped>, &Taken),
    ) -> Result<(), ReplyError> {
        if !self.participant().is_here() {
            // It cannot have been passed on with a request.
            return Err(ReplyError::Forked);
        }
        let Some(taken) = self.held.take() else { return Err(ReplyError::GivenUp) };
        let table = &self.requests.table;
        if !table.begin_reply(&taken) {
            return Err(ReplyError::GivenUp);
        }
        fill(table, &taken);
        table.finish(&taken, outcome);
        match self.answered.get(taken.caller) {
            Some(Some((buffer, event))) if *buffer == taken.buffer() => event.notify(1),
            _ => self.notify_slow(&taken),
        }
        Ok(())
    }

    #[cold]
    fn notify_slow(&mut self, taken: &Taken) {
        let event = self.participant().state().answered(taken.caller, taken.buffer());
        event.notify(1);
        if let Some(place) = self.answered.get_mut(taken.caller) {
            *place = Some((taken.buffer(), event));
        }
    }

    /// Tells the caller of the request that was received last that there will be no reply.
    pub(super) fn drop_held(&mut self) {
        if self.held.is_some() {
            // An error: the caller has given up.
            let _ = self.reply(Outcome::Dropped, |_, _| {});
        }
    }
}

impl Waiter for RequestWaiter {
    type End = WaitEnd;

    fn peer_end(&mut self) -> Option<WaitEnd> {
        self.participant.recorded_end()
    }

    fn check_liveness(&mut self, _: Deadline) -> Option<WaitEnd> {
        self.participant.check()
    }

    fn is_final(&mut self, end: &WaitEnd) -> bool {
        self.participant.is_final(*end)
    }

    fn event(&self) -> &EventCount<Mapped> {
        &self.requests
    }

    fn wait_state(&mut self) -> &mut WaitState {
        self.participant.wait_state()
    }

    /// Here and not before the sleep, so that the bits of busy callers stay.
    fn on_wake(&mut self) {
        self.table.clear_idle();
    }
}

impl Watch for RespondHalf {
    fn is_ready(&mut self, attempt: Attempt) -> bool {
        if attempt == Attempt::Probe {
            return self.requests.probe();
        }
        self.requests.has_pending() || !self.participant().is_here() || self.waiter.has_ended()
    }

    fn check_liveness(&mut self, deadline: Deadline) {
        self.waiter.remember_death(deadline);
    }

    fn event(&self, index: usize) -> Option<&EventCount<Mapped>> {
        (index == 0).then_some(&self.waiter.requests)
    }

    fn before_sleep(&mut self) {
        self.waiter.wait_state().take_back();
    }

    fn on_wake(&mut self) {
        Waiter::on_wake(&mut self.waiter);
    }
}

impl Drop for RespondHalf {
    fn drop(&mut self) {
        self.drop_held(); // rpc-leave-1
    }
}

impl fmt::Debug for RespondHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RespondHalf").field("registration", self.participant().registration()).finish_non_exhaustive()
    }
}
