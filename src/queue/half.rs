//! What both halves of a queue have: a lane, the ring, the pool; and attempts upon them.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, RecvError, Result, SendError};
use crate::options::expect_joined;
use crate::primitive::Ordering;
use crate::queue::membership;
use crate::queue::participant::{Arrival, QueueParticipant, Role, WaitFor};
use crate::queue::payload::PayloadPool;
use crate::queue::state::QueueState;
use crate::raw::mpmc::{MAX_BATCH, Pop, Ring};
use crate::region::layout::queue::control;
use crate::region::lifecycle::Registration;
use crate::region::words::{Mapped, Word};
use crate::sys::clock::Deadline;
use crate::wait::{Timeout, WaitEnd, WaitStrategy, Waiter};

/// What a queue looked like at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Messages that wait.
    pub queued: u64,
    /// Messages that can wait.
    pub capacity: u64,
    /// Slots out of service, until the processes that are in the middle of using them go on, or are repaired.
    pub quarantined: u64,
    /// Messages that died with the processes that had begun to receive them.
    pub lost: u64,
    /// Messages that were thrown away by `close_now`, or for lack of memory.
    pub dropped: u64,
    /// Large messages in the pool.
    pub pooled: u64,
    /// Bytes of memory for messages longer than a block: of those that wait, and what the queue keeps for the next ones,
    /// 64 MiB at most.
    pub extents_bytes: u64,
    /// Sending handles of whatever run, of live processes or of ones whose death was not noticed yet.
    pub senders: u64,
    /// Receiving handles, likewise.
    pub receivers: u64,
    /// Whether a run was closed, and no sender has begun the next one.
    pub is_closed: bool,
}

/// What both halves have.
pub(crate) struct Half {
    pub(crate) lane: QueueParticipant,
    pub(crate) gate: RingAccess,
}

/// The ring and the pool, apart from the lane that waits for them.
pub(crate) struct RingAccess {
    pub(crate) ring: Ring<Mapped>,
    pub(crate) parcels: PayloadPool,
    pub(crate) seat: Arc<Registration>,
    pub(crate) dropped: Word,
}

impl Half {
    pub(crate) fn new(seat: Arc<Registration>, role: Role, wait: WaitStrategy) -> Self {
        let lane = QueueParticipant::new(Arc::clone(&seat), role, wait);
        let parcels = PayloadPool::new(seat.region(), seat.index());
        let gate = RingAccess {
            ring: lane.ring(),
            parcels,
            dropped: QueueState::of(seat.region()).word(control::DROPPED),
            seat,
        };
        Self { lane, gate }
    }

    /// A handle of its own on the same queue.
    pub(crate) fn another(&self, role: Role) -> Result<Arc<Registration>> {
        if !self.lane.is_from_this_process() {
            return Err(Error::forked("take role in a queue"));
        }
        let arrival = if role == self.lane.role() { Arrival::Cloned(self.lane.past()) } else { Arrival::Called };
        expect_joined(membership::join(self.lane.region().reopen()?, role, arrival)?).map(Arc::new)
    }

    /// Attempts until it works, `until` passes, or everybody of the other role is gone and a last attempt was in vain.
    #[inline]
    pub(crate) fn attempt<R, E: From<WaitEnd>>(
        &mut self,
        ear: WaitFor,
        until: Timeout,
        mut action: impl FnMut(&mut RingAccess) -> Result<Option<R>, E>,
    ) -> Result<Option<R>, E> {
        match action(&mut self.gate)? {
            None => self.attempt_again(ear, until, action),
            done => Ok(done),
        }
    }

    #[cold]
    #[inline(never)]
    fn attempt_again<R, E: From<WaitEnd>>(
        &mut self,
        ear: WaitFor,
        until: Timeout,
        mut action: impl FnMut(&mut RingAccess) -> Result<Option<R>, E>,
    ) -> Result<Option<R>, E> {
        match until {
            Timeout::NonBlocking => match self.lane.end_or_backoff() {
                Some(end) => match action(&mut self.gate)? {
                    None if self.lane.is_final(&end) => Err(self.lane.report_end(end).into()),
                    outcome => Ok(outcome),
                },
                None => Ok(None),
            },
            Timeout::At(deadline) => self
                .lane
                .wait(ear, deadline, |effort| {
                    if !effort.should_try(|| ear.glance(self.gate.ring.words())) {
                        return Ok(None);
                    }
                    action(&mut self.gate)
                })
                .map(Some),
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let words = self.gate.ring.words();
        let state = self.lane.state();
        let count = |index| state.word(index).load(Ordering::Acquire);
        Stats {
            queued: words.len(),
            capacity: words.capacity,
            quarantined: words.quarantined(),
            lost: count(control::LOST),
            dropped: count(control::DROPPED),
            pooled: self.gate.parcels.taken(),
            extents_bytes: self.gate.parcels.extents_bytes(state.region),
            senders: state.with_role(Role::Sender).count() as u64,
            receivers: state.with_role(Role::Receiver).count() as u64,
            is_closed: words.is_closed(),
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.gate.ring.words().len()
    }

    /// Says where the run ends that it closed.
    pub(crate) fn close(&self) -> Result<u64, SendError> {
        if !self.lane.is_from_this_process() {
            return Err(SendError::Forked);
        }
        self.lane.close()
    }

    pub(crate) fn close_now(&mut self) -> Result<u64, RecvError> {
        let end = match self.close() {
            Ok(end) => end,
            Err(SendError::Forked) => return Err(RecvError::Forked),
            Err(_) => self.gate.ring.words().load_tail().position(),
        };
        let gate = &mut self.gate;
        let mut dropped = 0;
        // No more can have been sent before the run was closed, whatever the region says.
        while dropped < gate.ring.words().capacity {
            match gate.ring.pop_before(end, MAX_BATCH, |_, payload| gate.parcels.lose(gate.seat.region(), payload))? {
                Pop::Done(count) => {
                    gate.dropped.fetch_add(count, Ordering::Relaxed);
                    dropped += count;
                }
                Pop::Empty | Pop::Drained => break,
            }
        }
        self.lane.gave_back();
        self.lane.did_task(); // there may be nothing left to wait for
        Ok(dropped)
    }

    pub(crate) fn join(&mut self, deadline: Deadline) -> Result<(), SendError> {
        if !self.lane.is_from_this_process() {
            return Err(SendError::Forked);
        }
        let region = self.gate.seat.region();
        let words = self.gate.ring.words();
        self.lane.wait(WaitFor::TasksDone, deadline, |_| Ok(QueueState::of(region).is_idle(words).then_some(())))
    }
}

impl fmt::Debug for Half {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lane.fmt(f)
    }
}

/// What every handle of a queue can say and do.
macro_rules! queue_methods {
    ($half:ident) => {
        /// Messages that wait; others change that at any time.
        pub fn len(&self) -> usize {
            self.$half().len() as usize
        }

        /// Whether no message waits.
        pub fn is_empty(&self) -> bool {
            self.len() == 0
        }

        /// Whether as many messages wait as can.
        pub fn is_full(&self) -> bool {
            self.len() >= self.capacity()
        }

        /// Messages that can wait.
        pub fn capacity(&self) -> usize {
            self.$half().lane.region().layout().capacity() as usize
        }

        /// What the queue looks like now.
        pub fn stats(&self) -> $crate::queue::half::Stats {
            self.$half().stats()
        }

        /// Closes the present run: none of its senders can send any more, what waits can be
        /// received. A sender that comes later (by name, or through
        /// [`Receiver::sender`](crate::queue::Receiver::sender)) begins the next run, behind
        /// what waits.
        ///
        /// A sender belongs to the run that was open when it joined, and so do its clones; it
        /// closes no other run than that one.
        ///
        /// **Blocking**: never. **Errors**: [`Closed`](SendError::Closed), if it was closed;
        /// [`Forked`](SendError::Forked); [`Corrupt`](SendError::Corrupt).
        pub fn close(&self) -> Result<(), SendError> {
            self.$half().close().map(drop)
        }
    };
}

pub(crate) use queue_methods;
