//! What receivers of values and of byte messages have in common: a half of the queue, the tasks of
//! the messages that they received, and reports of lost messages.

use std::collections::VecDeque;
use std::fmt;
use std::mem;

use crate::error::{RecvError, TaskDoneError};
use crate::primitive::{AtomicU64, Ordering};
use crate::queue::half::Half;
use crate::queue::participant::{Role, WaitFor};
use crate::queue::payload::PayloadPool;
use crate::queue::redelivery::Redelivery;
use crate::queue::state::QueueState;
use crate::queue::tasks::UnfinishedTasks;
use crate::raw::event_count::EventCount;
use crate::raw::mpmc::Pop;
use crate::raw::pool::BlockRef;
use crate::raw::redelivery::delivery_count;
use crate::region::Region;
use crate::region::layout::queue::control;
use crate::region::lifecycle::Registration;
use crate::region::words::{Mapped, Word};
use crate::sys::clock::Deadline;
use crate::wait::source::sealed::Watch;
use crate::wait::{Attempt, Timeout, WaitStrategy, Waiter};

/// A receiver's half of a queue.
pub(crate) struct RecvHalf {
    pub(crate) half: Half,
    tasks: UnfinishedTasks,
    /// In a queue that redelivers: what was received and is not done.
    held: Held,
    /// Also there: what the next call is to return.
    deferred: Option<RecvError>,
    /// How often the message that was received last was delivered.
    deliveries: u32,
    losses: LossReports,
}

/// Messages that a receiver holds, in the order of receiving. Most receivers hold one at a time.
struct Held {
    last: Option<BlockRef>,
    earlier: VecDeque<BlockRef>,
}

impl Held {
    fn of(held: Vec<BlockRef>) -> Self {
        let mut earlier = VecDeque::from(held);
        Self { last: earlier.pop_back(), earlier }
    }

    #[inline]
    fn push(&mut self, held: BlockRef) {
        if let Some(last) = self.last.replace(held) {
            self.earlier.push_back(last);
        }
    }

    #[inline]
    fn take_last(&mut self) -> Option<BlockRef> {
        let next = if self.earlier.is_empty() { None } else { self.earlier.pop_back() };
        mem::replace(&mut self.last, next)
    }

    #[inline]
    fn take_oldest(&mut self) -> Option<BlockRef> {
        if self.earlier.is_empty() { self.last.take() } else { self.earlier.pop_front() }
    }
}

impl RecvHalf {
    pub(super) fn new(registration: Registration, wait: WaitStrategy, reports_lost_messages: bool) -> Self {
        let state = QueueState::of(registration.region());
        let index = registration.index();
        let held = Redelivery::of(state, index).map(|redelivery| redelivery.held_by(index));
        Self {
            held: Held::of(held.unwrap_or_default()),
            deferred: None,
            deliveries: 0,
            tasks: UnfinishedTasks::of(state, registration.index()),
            losses: LossReports {
                is_wanted: reports_lost_messages,
                lost: state.word(control::LOST),
                reported: state.word(control::REPORTED),
            },
            half: Half::new(registration, Role::Receiver, wait),
        }
    }

    pub(super) fn reports_lost_messages(&self) -> bool {
        self.losses.is_wanted
    }

    /// Receives one message, which `take` reads, if nothing is in the way. Returns `None` if
    /// nothing was received: [`pop_blocking`](Self::pop_blocking) finds out why.
    #[inline(always)]
    pub(super) fn pop_fast<R>(
        &mut self,
        take: impl FnOnce(&Region, &PayloadPool, &[AtomicU64]) -> R,
    ) -> Result<Option<R>, RecvError> {
        let Self { half, tasks, losses, .. } = self;
        if half.redelivers() || !half.participant.is_here() || losses.is_due() {
            return Ok(None);
        }
        let Half { participant, ring, payload, .. } = half;
        let received = ring.try_pop_uncontended(|message| {
            let taken = take(participant.region(), payload, message);
            tasks.begin();
            taken
        })?;
        if received.is_some() {
            participant.notify_received(1);
        }
        Ok(received)
    }

    /// Receives up to `count` messages, which `take` reads, and blocks while there is none. Returns
    /// how many were received.
    #[inline]
    pub(super) fn pop_blocking(
        &mut self,
        count: u64,
        timeout: Timeout,
        mut take: impl FnMut(&Region, &PayloadPool, u64, &[AtomicU64]),
    ) -> Result<u64, RecvError> {
        let Self { half, tasks, losses, .. } = self;
        half.participant.check_holder::<RecvError>()?;
        let outcome = half.attempt(WaitFor::Message, timeout, |registration, ring, payload| {
            if losses.is_due() && losses.take() {
                return Err(RecvError::MessageLost);
            }
            let popped = ring.pop_many(count, |index, message| {
                take(registration.region(), payload, index, message);
                tasks.begin();
            })?;
            match popped {
                Pop::Done(count) => Ok(Some(count)),
                // Whether it is an end for this receiver, too, depends on when it joined.
                Pop::Empty | Pop::Drained => Ok(None),
            }
        });
        if outcome == Err(RecvError::MessageLost) {
            // This receiver may have been woken for a message that it now leaves to another.
            half.participant.pass_on_wake_up();
        }
        let received = outcome?.ok_or(RecvError::Empty)?;
        half.participant.notify_received(received);
        Ok(received)
    }

    /// Receives one message of a queue that redelivers, which `read` copies out of its block.
    /// Blocks while there is none.
    #[inline]
    pub(super) fn receive_held<R>(
        &mut self,
        timeout: Timeout,
        read: impl FnOnce(&Region, &PayloadPool, BlockRef) -> Result<R, RecvError>,
    ) -> Result<R, RecvError> {
        if let Some(reason) = self.deferred.take() {
            return Err(reason);
        }
        let block = match self.hold_uncontended()? {
            Some(block) => block,
            None => self.hold_next(timeout)?,
        };
        self.held.push(block);
        self.deliveries = delivery_count(block.owner) as u32;
        let Half { participant, payload, .. } = &self.half;
        let message = read(participant.region(), payload, block);
        match message {
            Err(RecvError::OutOfMemory) => self.give_back_last_task(),
            Err(_) => self.count_unreadable(1),
            Ok(_) => {}
        }
        message
    }

    /// Call when a batch ends with this error behind messages that were received. The next call
    /// returns it, if it would not find it again.
    #[cold]
    pub(super) fn defer(&mut self, reason: RecvError) {
        use RecvError::{Corrupt, InvalidValue, MessageLost, OutOfMemory};
        let is_once = matches!(reason, Corrupt | InvalidValue | MessageLost | OutOfMemory);
        self.deferred = is_once.then_some(reason);
    }

    /// Holds the next message if nothing is in the way. `None`: [`hold_next`](Self::hold_next)
    /// finds out why.
    #[inline]
    fn hold_uncontended(&mut self) -> Result<Option<BlockRef>, RecvError> {
        let Self { half: Half { participant, ring, payload, .. }, losses, .. } = self;
        let Some(redelivery) = payload.redelivery() else { return Ok(None) };
        if !participant.is_here() || losses.is_due() || redelivery.probe() {
            return Ok(None);
        }
        let index = participant.index();
        let Some(held) = ring.try_pop_uncontended(|slot| redelivery.hold(index, slot))? else { return Ok(None) };
        participant.notify_received(1);
        held.map(Some).ok_or(RecvError::Corrupt)
    }

    /// Holds the next message: one that is to be delivered again, or else the first of the ring.
    #[cold]
    #[inline(never)]
    fn hold_next(&mut self, timeout: Timeout) -> Result<BlockRef, RecvError> {
        let Self { half, losses, .. } = self;
        half.participant.check_holder::<RecvError>()?;
        let mut has_popped = false;
        let outcome = half.attempt(WaitFor::Message, timeout, |registration, ring, payload| {
            if losses.is_due() && losses.take() {
                return Err(RecvError::MessageLost);
            }
            let (index, redelivery) = (registration.index(), payload.redelivery().ok_or(RecvError::Corrupt)?);
            if let Some(block) = redelivery.take_requeued(index) {
                return Ok(Some(block));
            }
            let mut held = None;
            match ring.pop(|slot| held = redelivery.hold(index, slot))? {
                Pop::Done(_) => {
                    has_popped = true;
                    held.map(Some).ok_or(RecvError::Corrupt)
                }
                Pop::Empty | Pop::Drained => Ok(None),
            }
        });
        if outcome == Err(RecvError::MessageLost) {
            half.participant.pass_on_wake_up();
        }
        if has_popped {
            half.participant.notify_received(1);
        } else if matches!(outcome, Ok(Some(_))) {
            half.participant.count_received();
        }
        outcome?.ok_or(RecvError::Empty)
    }

    /// Finishes a message that this handle holds.
    #[inline]
    fn finish_held(&self, block: Option<BlockRef>) -> Result<(), TaskDoneError> {
        let Half { participant, payload, .. } = &self.half;
        let is_finished = block.is_some_and(|block| payload.finish(participant.region(), block));
        if !is_finished {
            return Err(TaskDoneError::NoTask);
        }
        participant.notify_block_freed();
        participant.notify_finished();
        Ok(())
    }

    /// Finishes the task of the message that was received last.
    pub(super) fn finish_last_task(&mut self) -> Result<(), TaskDoneError> {
        if !self.half.redelivers() {
            return self.task_done();
        }
        self.half.participant.check_holder::<TaskDoneError>()?;
        let last = self.held.take_last();
        self.finish_held(last)
    }

    /// Gives the message that was received last to another receiver, if the queue redelivers.
    pub(super) fn give_back_last_task(&mut self) {
        let Half { participant, payload, .. } = &self.half;
        let Some(redelivery) = payload.redelivery().filter(|_| participant.is_here()) else { return };
        let Some(block) = self.held.take_last() else { return };
        if redelivery.deliveries().requeue(block) {
            participant.pass_on_wake_up();
        } else {
            participant.notify_finished(); // a dead letter
        }
    }

    /// How often the message that was received last was delivered.
    pub(super) fn deliveries(&self) -> u32 {
        if self.half.redelivers() { self.deliveries } else { 1 }
    }

    /// Accounts for messages that were received and cannot be read.
    #[cold]
    pub(super) fn count_unreadable(&mut self, count: u64) {
        if self.half.redelivers() {
            let last = self.held.take_last();
            let _ = self.finish_held(last);
        }
        let participant = &self.half.participant;
        participant.notify_block_freed(); // they may have had blocks
        // Relaxed: a statistic.
        participant.state().word(control::DROPPED).fetch_add(count, Ordering::Relaxed);
        self.tasks.forget(count); // nobody can do such a task
        participant.notify_tasks_done();
    }

    #[inline]
    pub(super) fn task_done(&mut self) -> Result<(), TaskDoneError> {
        self.half.participant.check_holder::<TaskDoneError>()?;
        match self.tasks.finish() {
            Ok(true) => self.half.participant.notify_tasks_done(),
            Ok(false) => {}
            Err(error) => return self.finish_oldest_held(error),
        }
        Ok(())
    }

    /// Finishes the message that was received first, if the queue redelivers: there no tasks are
    /// counted.
    fn finish_oldest_held(&mut self, error: TaskDoneError) -> Result<(), TaskDoneError> {
        if !self.half.redelivers() {
            return Err(error);
        }
        let oldest = self.held.take_oldest();
        self.finish_held(oldest)
    }
}

impl Watch for RecvHalf {
    fn is_ready(&mut self, attempt: Attempt) -> bool {
        let Self { half, losses, deferred, .. } = self;
        let Half { participant, ring, payload, .. } = half;
        if attempt == Attempt::Probe {
            return WaitFor::Message.probe(ring.words(), payload);
        }
        let is_ready = !participant.is_here()
            || deferred.is_some()
            || losses.is_due()
            || payload.redelivery().is_some_and(Redelivery::probe)
            || ring.can_pop().unwrap_or(true);
        if is_ready {
            return true;
        }
        participant.set_waiting_for(WaitFor::Message);
        participant.has_ended()
    }

    fn check_liveness(&mut self, deadline: Deadline) {
        self.half.participant.set_waiting_for(WaitFor::Message);
        self.half.participant.remember_death(deadline);
    }

    fn event(&self, index: usize) -> Option<&EventCount<Mapped>> {
        self.half.participant.event_of_role(index)
    }

    fn before_sleep(&mut self) {
        self.half.participant.wait_state().take_back();
    }
}

/// Reports each lost message to one of the receivers that want to know.
struct LossReports {
    is_wanted: bool,
    lost: Word,
    reported: Word,
}

impl LossReports {
    /// Whether a report may be due.
    #[inline(always)]
    fn is_due(&self) -> bool {
        // Relaxed: `take` decides.
        self.is_wanted && self.lost.load(Ordering::Relaxed) > self.reported.load(Ordering::Relaxed)
    }

    /// Returns whether messages were lost that were not reported. Tail they are.
    #[cold]
    fn take(&self) -> bool {
        // edge: queue-lost
        let (lost, reported) = (self.lost.load(Ordering::Acquire), self.reported.load(Ordering::Relaxed));
        let exchange = || self.reported.compare_exchange(reported, lost, Ordering::Relaxed, Ordering::Relaxed);
        lost > reported && exchange().is_ok()
    }
}

impl fmt::Debug for RecvHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.half.fmt(f)
    }
}
