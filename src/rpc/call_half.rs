//! What callers of values and of byte messages have in common: a cell, and waiting for the reply.
//!
//! Crash, by step: (rpc-call-1) the request is written and Pending (`raw/rpc.rs`), (rpc-call-2) the
//! bit is set, (rpc-call-3) a responder is woken, if one sleeps. Before rpc-call-3 a responder that
//! sleeps finds the request after one LIVENESS_INTERVAL. One that does not sleep finds it before it
//! does if the bit is not set.

use std::fmt;
use std::time::{Duration, Instant};

use crate::error::CallError;
use crate::interrupt::Interrupts;
use crate::primitive::{AtomicU64, Ordering};
use crate::raw::Corrupt;
use crate::raw::event_count::EventCount;
use crate::raw::rpc::{CallState, CallTable, CallerCell, GivenUp, Outcome};
use crate::region::lifecycle::Registration;
use crate::region::participant::ParticipantStatus;
use crate::region::trace;
use crate::region::words::Mapped;
use crate::rpc::Behaviour;
use crate::rpc::participant::Participant;
use crate::rpc::state::Role;
use crate::sys::clock::Deadline;
use crate::sys::membarrier;
use crate::wait::source::sealed::Watch;
use crate::wait::{Attempt, Timeout, WaitEnd, WaitState, Waiter};

/// Between two attempts to find a buffer.
const BUFFER_PAUSE: Duration = Duration::from_micros(500);

pub(crate) struct CallHalf {
    table: CallTable<Mapped>,
    caller: usize,
    cell: CallerCell,
    /// What responders sleep on.
    requests: EventCount<Mapped>,
    pub(super) waiter: ReplyWaiter,
    stage: Stage,
    /// Whether a responder died with the request, which is made again.
    is_repeated: bool,
}

/// How far the request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// There is none.
    Idle,
    /// It is in the cell. No buffer is free for its reply.
    Written,
    /// It is made, and not finished.
    Published,
}

/// Waits for a reply.
pub(super) struct ReplyWaiter {
    pub(super) participant: Participant,
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
        let half = Self { table, caller, cell, requests, waiter, stage: Stage::Idle, is_repeated: false };
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

    /// Whether a request was started and is not finished.
    pub(super) fn has_request(&self) -> bool {
        self.stage != Stage::Idle
    }

    /// Makes a request, which `fill` writes: its length and its payload. Blocks until there is the
    /// reply, which `read` copies.
    #[inline]
    pub(super) fn call<R>(
        &mut self,
        deadline: Deadline,
        fill: impl FnOnce(&[AtomicU64]),
        read: impl FnOnce(Reply<'_>) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        self.start(fill)?;
        self.complete(Timeout::At(deadline), read)
    }

    /// Makes a request, which `fill` writes. Never blocks.
    #[inline]
    pub(super) fn start(&mut self, fill: impl FnOnce(&[AtomicU64])) -> Result<(), CallError> {
        self.participant().check_here::<CallError>()?;
        if self.has_request() {
            return Err(CallError::Unfinished);
        }
        self.is_repeated = false;
        if self.cell.has_buffer() {
            self.publish(fill);
        } else {
            fill(self.table.request(self.caller));
            self.stage = Stage::Written;
            self.try_publish();
        }
        Ok(())
    }

    /// Finishes the request that was started: `read` copies the reply.
    pub(super) fn finish<R>(
        &mut self,
        timeout: Timeout,
        read: impl FnOnce(Reply<'_>) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        self.participant().check_here::<CallError>()?;
        if self.has_request() {
            return self.complete(timeout, read);
        }
        // Nothing but the next request makes the descriptor readable.
        while matches!(timeout, Timeout::NonBlocking) && self.waiter.listen_after_try() {}
        Err(CallError::NoRequest)
    }

    /// Gives the request up, if there is one. Returns whether it may have been executed.
    pub(super) fn cancel(&mut self) -> bool {
        if !self.has_request() || !self.participant().is_here() {
            return false;
        }
        let was_taken = self.stage == Stage::Published && self.cell.give_up(&self.table) != GivenUp::NotTaken;
        self.stage = Stage::Idle;
        was_taken || self.is_repeated
    }

    #[inline]
    fn publish(&mut self, fill: impl FnOnce(&[AtomicU64])) {
        self.cell.publish(&self.table, fill); // rpc-call-1
        self.table.set_active(self.caller); // rpc-call-2
        self.requests.notify(1); // rpc-call-3
        self.stage = Stage::Published;
    }

    /// Publishes the request that is written. Returns false if each buffer is that of a responder
    /// that was about to reply to an earlier request, and has not done so.
    #[cold]
    fn try_publish(&mut self) -> bool {
        let Self { cell, table, waiter, .. } = self;
        if !cell.has_buffer() {
            let state = waiter.participant.state();
            if !cell.find_buffer(table, |responder| state.is_gone(responder)) {
                return false;
            }
            waiter.answered = state.answered(waiter.caller, cell.buffer());
            waiter.wait_state().take_back(); // it is for the event of another buffer
        }
        self.publish(|_| {});
        true
    }

    #[inline]
    fn complete<R>(
        &mut self,
        timeout: Timeout,
        read: impl FnOnce(Reply<'_>) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        match self.outcome(timeout)? {
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

    /// Waits for the outcome of the request. It is over then, but for
    /// [`NotReady`](CallError::NotReady).
    #[inline]
    fn outcome(&mut self, timeout: Timeout) -> Result<Outcome, CallError> {
        loop {
            let outcome = match timeout {
                Timeout::NonBlocking => self.try_once(),
                Timeout::At(deadline) => self.wait_once(deadline),
            };
            match outcome {
                Err(CallError::NotReady) => return outcome,
                Err(CallError::ResponderDied) if self.repeats(timeout) => {
                    self.is_repeated = true;
                    self.stage = Stage::Written;
                }
                _ => {
                    self.stage = Stage::Idle;
                    return if self.is_repeated { outcome.map_err(after_repeating) } else { outcome };
                }
            }
        }
    }

    /// Whether to make a request again whose responder died.
    fn repeats(&self, timeout: Timeout) -> bool {
        self.participant().behaviour.retries && (matches!(timeout, Timeout::NonBlocking) || !timeout.is_past())
    }

    #[inline]
    fn wait_once(&mut self, deadline: Deadline) -> Result<Outcome, CallError> {
        if self.stage == Stage::Written {
            self.wait_for_buffer(deadline)?;
        }
        let Self { table, cell, waiter, .. } = self;
        waiter.wait_for(0, deadline, |attempt| answer(cell, table, attempt)).or_else(|error| self.give_up(error))
    }

    #[cold]
    fn wait_for_buffer(&mut self, deadline: Deadline) -> Result<(), CallError> {
        let interrupts = Interrupts::of_this_thread();
        while !self.try_publish() {
            if Timeout::At(deadline).is_past() {
                return Err(CallError::TimedOut { taken: false });
            }
            if interrupts.take() {
                return Err(CallError::Interrupted { taken: false });
            }
            if let Some(end) = self.waiter.participant.check() {
                return Err(end.into());
            }
            interrupts.sleep(BUFFER_PAUSE);
        }
        Ok(())
    }

    fn try_once(&mut self) -> Result<Outcome, CallError> {
        if let Ok(Some(outcome)) = self.answer(Attempt::Probe) {
            return Ok(outcome);
        }
        loop {
            let end = self.waiter.end_of_try();
            match (self.answer(Attempt::Full), end) {
                (Ok(Some(outcome)), _) => return Ok(outcome),
                (Err(error), _) => return self.give_up(error),
                (Ok(None), Some(end)) if self.waiter.is_final(&end) => return self.give_up(end.into()),
                (Ok(None), _) if self.waiter.listen_after_try() => {}
                (Ok(None), _) => return Err(CallError::NotReady),
            }
        }
    }

    /// The answer to the request, if it is there. A full attempt makes a request that is only
    /// written.
    fn answer(&mut self, attempt: Attempt) -> Result<Option<Outcome>, CallError> {
        let is_made = self.stage == Stage::Published || attempt == Attempt::Full && self.try_publish();
        if is_made { answer(&self.cell, &self.table, attempt) } else { Ok(None) }
    }

    /// After an attempt or a wait that failed: what became of the request.
    #[cold]
    fn give_up(&mut self, error: CallError) -> Result<Outcome, CallError> {
        if self.stage == Stage::Written {
            return Err(error);
        }
        let given_up = self.cell.give_up(&self.table);
        match (error, given_up) {
            (CallError::Corrupt, _) => {}
            (_, GivenUp::Answered) => return self.cell.answer(&self.table)?.ok_or_else(|| Corrupt.into()),
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
}

/// The answer to the request that was published last.
#[inline]
fn answer(cell: &CallerCell, table: &CallTable<Mapped>, attempt: Attempt) -> Result<Option<Outcome>, CallError> {
    if !attempt.should_try(|| cell.probe(table)) {
        return Ok(None);
    }
    match cell.answer(table)? {
        None if attempt == Attempt::Full && cell.state(table)? == CallState::Died => Err(CallError::ResponderDied),
        answer => Ok(answer),
    }
}

/// What to return of a request that was made again. It may have been executed the first time.
#[cold]
fn after_repeating(error: CallError) -> CallError {
    match error {
        CallError::TimedOut { .. } => CallError::TimedOut { taken: true },
        CallError::Interrupted { .. } => CallError::Interrupted { taken: true },
        error if !error.may_have_been_executed() => CallError::ResponderDied,
        error => error,
    }
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
            status => {
                if self.table.settle(self.caller, responder).is_some() && status == ParticipantStatus::Dead {
                    trace::peer_died(state.region, index);
                }
            }
        }
        None
    }

    fn is_final(&mut self, end: &WaitEnd) -> bool {
        self.participant.is_final(*end)
    }

    fn event(&self) -> &EventCount<Mapped> {
        &self.answered
    }

    fn wait_state(&mut self) -> &mut WaitState {
        self.participant.wait_state()
    }
}

impl Watch for CallHalf {
    fn is_ready(&mut self, attempt: Attempt) -> bool {
        if !self.participant().is_here() {
            return true;
        }
        if !self.has_request() {
            return false;
        }
        self.answer(attempt) != Ok(None) || attempt == Attempt::Full && self.waiter.has_ended()
    }

    fn check_liveness(&mut self, deadline: Deadline) {
        if self.has_request() {
            self.waiter.remember_death(deadline);
        }
    }

    fn event(&self, index: usize) -> Option<&EventCount<Mapped>> {
        (index == 0 && self.has_request()).then_some(&self.waiter.answered)
    }

    /// No event announces that a buffer is free.
    fn due(&self) -> Option<Instant> {
        (self.stage == Stage::Written).then(|| Instant::now() + BUFFER_PAUSE)
    }

    fn before_sleep(&mut self) {
        self.waiter.wait_state().take_back();
    }
}

impl Drop for CallHalf {
    fn drop(&mut self) {
        self.cancel(); // rpc-leave-1
    }
}

impl fmt::Debug for CallHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallHalf").field("registration", self.participant().registration()).finish_non_exhaustive()
    }
}
