//! What receivers of values and of byte messages have in common: a half of the queue, the tasks of
//! the messages that they received, and reports of lost messages.

use std::fmt;

use crate::error::{RecvError, TaskDoneError};
use crate::primitive::{AtomicU64, Ordering};
use crate::queue::half::Half;
use crate::queue::participant::{Role, WaitFor};
use crate::queue::payload::PayloadPool;
use crate::queue::state::QueueState;
use crate::queue::tasks::UnfinishedTasks;
use crate::raw::mpmc::Pop;
use crate::region::Region;
use crate::region::layout::queue::control;
use crate::region::lifecycle::Registration;
use crate::region::words::Word;
use crate::wait::{Timeout, WaitStrategy};

/// A receiver's half of a queue.
pub(crate) struct RecvHalf {
    pub(crate) half: Half,
    tasks: UnfinishedTasks,
    losses: LossReports,
}

impl RecvHalf {
    pub(super) fn new(registration: Registration, wait: WaitStrategy, reports_lost_messages: bool) -> Self {
        let state = QueueState::of(registration.region());
        Self {
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
        let Self { half: Half { participant, ring, payload, .. }, tasks, losses } = self;
        if !participant.is_here() || losses.is_due() {
            return Ok(None);
        }
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
        let Self { half, tasks, losses } = self;
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

    /// Accounts for messages that were received and cannot be read.
    #[cold]
    pub(super) fn count_unreadable(&mut self, count: u64) {
        let participant = &self.half.participant;
        participant.notify_block_freed(); // they may have had blocks
        // Relaxed: a statistic.
        participant.state().word(control::DROPPED).fetch_add(count, Ordering::Relaxed);
        self.tasks.forget(count); // nobody can do such a task
        participant.notify_tasks_done();
    }

    pub(super) fn task_done(&mut self) -> Result<(), TaskDoneError> {
        self.half.participant.check_holder::<TaskDoneError>()?;
        if self.tasks.finish()? {
            self.half.participant.notify_tasks_done();
        }
        Ok(())
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
