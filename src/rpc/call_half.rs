//! What callers of values and of byte messages have in common: a cell, and waiting for the reply.
//!
//! Crash, by step: (rpc-call-1) the request is written and Pending (`raw/rpc.rs`), (rpc-call-2) the
//! bit is set, (rpc-call-3) a responder is woken, if one sleeps. Before rpc-call-3 a responder that
//! sleeps finds the request after one LIVENESS_INTERVAL. One that does not sleep finds it before it
//! does if the bit is not set.

use std::fmt;
use std::time::Duration;

use crate::error::{CallError, Result};
use crate::interrupt::Interrupts;
use crate::primitive::{AtomicU64, Ordering};
use crate::raw::event_count::EventCount;
use crate::raw::rpc::{CallState, CallTable, CallerCell, GivenUp, Outcome};
use crate::region::lifecycle::Registration;
use crate::region::participant::ParticipantStatus;
use crate::region::words::Mapped;
use crate::rpc::Behaviour;
use crate::rpc::participant::Participant;
use crate::rpc::state::Role;
use crate::sys::clock::Deadline;
use crate::sys::membarrier;
use crate::wait::{Attempt, Timeout, WaitEnd, WaitState, Waiter};

/// Between two attempts to find a buffer.
const BUFFER_PAUSE: Duration = Duration::from_micros(500);

pub(crate) struct CallHalf {
    table: CallTable<Mapped>,
    caller: usize,
    cell: CallerCell,
    /// What responders sleep on.
    requests: EventCount<Mapped>,
    waiter: ReplyWaiter,
}

/// Waits for a reply.
struct ReplyWaiter {
    participant: Participant,
    table: CallTable<Mapped>,
    caller: usize,
    /// What this caller sleeps on until the next reply is in its buffer.
    answered: EventCount<Mapped>,
}

/// A reply, where it lies.
pub(super) struct Reply<'a> {
    pub(super) words: &'a [AtomicU64],
    /// Of bytes.
    pub(super) length: u64,
}

impl CallHalf {
    pub(super) fn new(registration: Registration, behaviour: Behaviour) -> Self {
        let caller = registration.index();
        let participant = Participant::new(registration, Role::Responder, behaviour);
        let state = participant.state();
        let table = state.table();
        let cell = CallerCell::attach(&table, caller);
        let (requests, answered) = (state.requests(), state.answered(caller, cell.buffer()));
        let waiter = ReplyWaiter { table: state.table(), caller, answered, participant };
        let half = Self { table, caller, cell, requests, waiter };
        let state = half.participant().state();
        if !membarrier::register() {
            half.requests.require_fences();
            (0..state.layout.responders()).for_each(|buffer| state.answered(caller, buffer).require_fences());
        }
        half
    }

    pub(super) fn participant(&self) -> &Participant {
        &self.waiter.participant
    }

    /// Makes a request, which `fill` writes: its length and its payload. Blocks until there is the
    /// reply, which `read` copies.
    #[inline]
    pub(super) fn call<R>(
        &mut self,
        deadline: Deadline,
        fill: impl Fn(&[AtomicU64]),
        read: impl FnOnce(Reply<'_>) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        self.participant().check_here::<CallError>()?;
        let outcome = match self.call_once(deadline, &fill) {
            Err(CallError::ResponderDied) if self.participant().behaviour.retries => self.retry(deadline, &fill)?,
            outcome => outcome?,
        };
        match outcome {
            Outcome::Replied => {
                let (caller, buffer) = (self.caller, self.cell.buffer());
                let length = self.table.reply_length(caller, buffer);
                // Relaxed: as the reply.
                let length = length.map_or(0, |length| length.load(Ordering::Relaxed));
                read(Reply { words: self.table.reply(caller, buffer), length })
            }
            Outcome::Dropped => Err(CallError::Dropped),
            Outcome::TooLarge => Err(CallError::ReplyTooLarge),
        }
    }

    /// Makes a request again whose responder died, and again if the next one dies, too.
    #[cold]
    fn retry(&mut self, deadline: Deadline, fill: &impl Fn(&[AtomicU64])) -> Result<Outcome, CallError> {
        loop {
            if is_past(deadline) {
                return Err(CallError::ResponderDied);
            }
            return match self.call_once(deadline, fill) {
                Err(CallError::ResponderDied) => continue,
                // Not this time, but it may have been executed before.
                Err(CallError::TimedOut { .. }) => Err(CallError::TimedOut { taken: true }),
                Err(CallError::Interrupted { .. }) => Err(CallError::Interrupted { taken: true }),
                Err(error) if !error.may_have_been_executed() => Err(CallError::ResponderDied),
                outcome => outcome,
            };
        }
    }

    #[inline]
    fn call_once(&mut self, deadline: Deadline, fill: &impl Fn(&[AtomicU64])) -> Result<Outcome, CallError> {
        if !self.cell.has_buffer() {
            self.find_buffer(deadline)?;
        }
        self.cell.publish(&self.table, fill); // rpc-call-1
        self.table.set_active(self.caller); // rpc-call-2
        self.requests.notify(1); // rpc-call-3
        let Self { table, cell, waiter, .. } = self;
        waiter
            .wait_for(0, deadline, |attempt| {
                if !attempt.should_try(|| cell.probe(table)) {
                    return Ok(None);
                }
                match cell.answer(table)? {
                    None if attempt == Attempt::Full && cell.state(table)? == CallState::Died => {
                        Err(CallError::ResponderDied)
                    }
                    answer => Ok(answer),
                }
            })
            .or_else(|error| self.give_up(error))
    }

    /// After a call that failed: what became of the request.
    #[cold]
    fn give_up(&mut self, error: CallError) -> Result<Outcome, CallError> {
        let given_up = self.cell.give_up(&self.table);
        match (error, given_up) {
            (CallError::Corrupt, _) => {}
            (_, GivenUp::Answered) => return self.cell.answer(&self.table)?.ok_or(CallError::Corrupt),
            (_, GivenUp::Died) => return Err(CallError::ResponderDied),
            (CallError::TimedOut { .. }, GivenUp::Taken) => return Err(CallError::TimedOut { taken: true }),
            (CallError::Interrupted { .. }, GivenUp::Taken) => return Err(CallError::Interrupted { taken: true }),
            // It left, or its process exited, without an answer. Or one took the request at this
            // very moment: it may be executed, which the error says, too.
            (error, GivenUp::Taken) if !error.may_have_been_executed() => return Err(CallError::ResponderDied),
            _ => {}
        }
        Err(error)
    }

    /// Waits until a responder that was about to reply to an earlier request has done so.
    #[cold]
    fn find_buffer(&mut self, deadline: Deadline) -> Result<(), CallError> {
        let interrupts = Interrupts::of_this_thread();
        loop {
            let Self { cell, table, waiter, .. } = self;
            let state = waiter.participant.state();
            if cell.find_buffer(table, |responder| state.is_gone(responder)) {
                waiter.answered = state.answered(waiter.caller, cell.buffer());
                return Ok(());
            }
            if is_past(deadline) {
                return Err(CallError::TimedOut { taken: false });
            }
            if interrupts.take() {
                return Err(CallError::Interrupted { taken: false });
            }
            if let Some(end) = waiter.participant.check() {
                return Err(end.into());
            }
            interrupts.sleep(BUFFER_PAUSE);
        }
    }
}

fn is_past(deadline: Deadline) -> bool {
    Timeout::At(deadline).is_past()
}

impl Waiter for ReplyWaiter {
    type End = WaitEnd;

    fn peer_end(&mut self) -> Option<WaitEnd> {
        self.participant.recorded_end()
    }

    fn check_liveness(&mut self, _: Deadline) -> Option<WaitEnd> {
        let Some(responder) = self.table.responder_of(self.caller) else { return self.participant.check() };
        let state = self.participant.state();
        if responder >= state.layout.responders() {
            return None; // the attempt finds that it is corrupt
        }
        let (participants, index) = (state.region.participants(), state.layout.callers() + responder);
        match participants.status(index) {
            ParticipantStatus::Alive => {}
            ParticipantStatus::LockLost => return Some(WaitEnd::LockLost),
            // Without holding the place of the dead one: while it is held, that one looks alive.
            // The request is still that one's, since a successor has nothing of this caller that it
            // did not settle before. Other callers have nothing to settle: a responder has one
            // request at a time, and a caller that looks for a buffer asks whether it is gone.
            _ => _ = self.table.settle(self.caller, responder),
        }
        None
    }

    fn is_final(&mut self, end: &WaitEnd) -> bool {
        self.participant.is_final(*end)
    }

    fn report_end(&mut self, end: WaitEnd) -> WaitEnd {
        end
    }

    fn event(&self) -> &EventCount<Mapped> {
        &self.answered
    }

    fn wait_state(&mut self) -> &mut WaitState {
        self.participant.wait_state()
    }
}

impl fmt::Debug for CallHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallHalf").field("registration", self.participant().registration()).finish_non_exhaustive()
    }
}
