//! What senders and receivers have in common: a participant, the ring, the payload pool; and how to
//! attempt an operation on them until it succeeds.

use std::fmt;
use std::mem;
use std::sync::Arc;

use crate::error::{JoinError, RecvError, Result, SendError};
use crate::options::expect_joined;
use crate::primitive::{AtomicU64, Ordering};
use crate::queue::OnDeath;
use crate::queue::membership::{self, Origin};
use crate::queue::participant::{QueueParticipant, Role, WaitFor};
use crate::queue::payload::{PayloadHeader, PayloadPool};
use crate::queue::state::QueueState;
use crate::queue::stats::Stats;
use crate::raw::event_count::EventCount;
use crate::raw::mpmc::{MAX_BATCH, Pop, Push, Ring};
use crate::region::layout::queue::control;
use crate::region::lifecycle::Registration;
use crate::region::words::Mapped;
use crate::sys::clock::Deadline;
use crate::wait::source::sealed::Watch;
use crate::wait::{Attempt, Timeout, WaitEnd, WaitStrategy, Waiter};

/// One half of a queue: what a sender has, and most of what a receiver has.
pub struct Half {
    pub(crate) participant: QueueParticipant,
    pub(super) ring: Ring<Mapped>,
    pub(super) payload: PayloadPool,
    /// A sender's: lost tasks that `join` does not report any more.
    pub(super) tasks_lost_before: u64,
}

impl Half {
    pub(super) fn new(registration: Registration, role: Role, wait: WaitStrategy) -> Self {
        let participant = QueueParticipant::new(Arc::new(registration), role, wait);
        let payload = PayloadPool::new(participant.region(), participant.index());
        let tasks_lost_before = if role == Role::Sender { participant.state().tasks_lost() } else { 0 };
        Self { ring: participant.ring(), payload, participant, tasks_lost_before }
    }

    /// Joins the same queue once more.
    pub(crate) fn clone_as(&self, role: Role) -> Result<Registration> {
        let registration = self.participant.registration();
        self.participant.holder().check_for(registration, "take part in a queue")?;
        let is_clone = role == self.participant.role();
        let origin = if is_clone { Origin::Cloned(self.participant.snapshot()) } else { Origin::FromPeer };
        expect_joined(membership::join(self.participant.region().reopen()?, role, origin)?)
    }

    /// Attempts an operation until it succeeds, the time is up, or all peers have ended and a last
    /// attempt failed, too. Returns `None` only if the call must not block.
    #[inline]
    pub(super) fn attempt<R, E: From<WaitEnd>>(
        &mut self,
        wait_for: WaitFor,
        timeout: Timeout,
        mut operation: impl FnMut(&Registration, &mut Ring<Mapped>, &mut PayloadPool) -> Result<Option<R>, E>,
    ) -> Result<Option<R>, E> {
        match operation(self.participant.registration(), &mut self.ring, &mut self.payload)? {
            None => self.attempt_slow(wait_for, timeout, operation),
            done => Ok(done),
        }
    }

    #[cold]
    #[inline(never)]
    fn attempt_slow<R, E: From<WaitEnd>>(
        &mut self,
        wait_for: WaitFor,
        timeout: Timeout,
        mut operation: impl FnMut(&Registration, &mut Ring<Mapped>, &mut PayloadPool) -> Result<Option<R>, E>,
    ) -> Result<Option<R>, E> {
        let Self { participant, ring, payload, .. } = self;
        let registration = Arc::clone(participant.registration());
        match timeout {
            Timeout::NonBlocking => loop {
                if let Some(end) = participant.end_or_backoff(wait_for) {
                    match operation(&registration, ring, payload)? {
                        None if participant.is_final(&end) => return Err(participant.report_end(end).into()),
                        None => {}
                        done => return Ok(done),
                    }
                }
                if !participant.listen_after_try() {
                    return Ok(None);
                }
                if let Some(done) = operation(&registration, ring, payload)? {
                    return Ok(Some(done));
                }
            },
            Timeout::At(deadline) => participant
                .wait(wait_for, deadline, |attempt| {
                    if !attempt.should_try(|| wait_for.probe(ring.words(), payload)) {
                        return Ok(None);
                    }
                    operation(&registration, ring, payload)
                })
                .map(Some),
        }
    }

    /// Sends one message, which `fill` writes, if nothing is in the way. Returns false if nothing
    /// was sent: [`push_blocking`](Self::push_blocking) finds out why. The next messages are likely
    /// to need `prefetch_words` of the payload.
    #[inline(always)]
    pub(super) fn push_fast(
        &mut self,
        prefetch_words: usize,
        fill: impl FnOnce(&[AtomicU64]),
    ) -> Result<bool, SendError> {
        let is_fast = !self.redelivers() && self.participant.is_here();
        let sent = is_fast && self.ring.try_push_uncontended(prefetch_words, fill)?;
        if sent {
            self.participant.notify_sent(1);
        }
        Ok(sent)
    }

    /// Sends up to `count` messages, which `fill` writes, and blocks while none can be sent.
    /// Returns how many were sent.
    #[inline]
    pub(super) fn push_blocking(
        &mut self,
        count: u64,
        timeout: Timeout,
        mut fill: impl FnMut(u64, &[AtomicU64]),
    ) -> Result<u64, SendError> {
        self.participant.check_holder::<SendError>()?;
        let sent = self.attempt(WaitFor::Slot, timeout, |_, ring, _| match ring.push_many(count, &mut fill)? {
            Push::Done(count) => Ok(Some(count)),
            Push::Full => Ok(None),
            Push::Closed => Err(SendError::Closed),
        })?;
        let sent = sent.ok_or(SendError::Full)?;
        self.participant.notify_sent(sent);
        Ok(sent)
    }

    /// Sends a message that lies in a block, in a queue that redelivers. If that fails, the block
    /// is free.
    pub(super) fn push_reference(&mut self, header: PayloadHeader, timeout: Timeout) -> Result<(), SendError> {
        let Self { ring, payload, .. } = self;
        if ring.try_push_uncontended(0, |slot| payload.write_reference(header, slot)) == Ok(true) {
            self.participant.notify_sent(1);
            return Ok(());
        }
        let sent = self.attempt(WaitFor::Slot, timeout, |_, ring, payload| {
            match ring.push(|slot| payload.write_reference(header, slot))? {
                Push::Done(_) => Ok(Some(())),
                Push::Full => Ok(None),
                Push::Closed => Err(SendError::Closed),
            }
        });
        match sent {
            Ok(Some(())) => {
                self.participant.notify_sent(1);
                Ok(())
            }
            not_sent => {
                self.payload.free(self.participant.region(), header);
                self.participant.notify_block_freed();
                Err(not_sent.err().unwrap_or(SendError::Full))
            }
        }
    }

    /// Sends one value, in a queue that redelivers.
    pub(super) fn push_value(&mut self, timeout: Timeout, write: impl Fn(&[AtomicU64])) -> Result<(), SendError> {
        self.participant.check_holder::<SendError>()?;
        let Self { participant, ring, payload, .. } = self;
        if !ring.is_closed()
            && let Some(header) = payload.write_value(participant.index(), &write)?
        {
            return self.push_reference(header, timeout);
        }
        let written = self.attempt(WaitFor::Block, timeout, |registration, ring, payload| {
            if ring.is_closed() {
                return Err(SendError::Closed);
            }
            payload.write_value(registration.index(), &write)
        })?;
        self.push_reference(written.ok_or(SendError::Full)?, timeout)
    }

    /// Whether messages of the dead are delivered again.
    #[inline]
    pub(super) fn redelivers(&self) -> bool {
        self.payload.redelivery().is_some()
    }

    pub(crate) fn on_death(&self) -> OnDeath {
        OnDeath::of(self.participant.state().layout.geometry.deliveries)
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats::read(self.participant.state())
    }

    pub(crate) fn len(&self) -> u64 {
        self.ring.words().len()
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.ring.words().capacity
    }

    /// Closes the open run. Returns the position where it ends.
    pub(crate) fn close(&self) -> Result<u64, SendError> {
        self.participant.check_holder::<SendError>()?;
        self.participant.close()
    }

    /// Closes the open run and discards what is queued. Returns how many messages this call
    /// discarded.
    pub(crate) fn close_now(&mut self) -> Result<u64, RecvError> {
        let end = match self.close() {
            Ok(end) => end,
            Err(SendError::Forked) => return Err(RecvError::Forked),
            Err(_) => self.ring.words().load_tail().position(),
        };
        let Self { participant, ring, payload, .. } = self;
        let region = participant.region();
        let dropped_word = participant.state().word(control::DROPPED);
        let mut dropped = 0;
        // Before the run was closed no more than this can have been sent, whatever the region says.
        while dropped < ring.words().capacity {
            match ring.pop_before(end, MAX_BATCH, |_, message| {
                payload.discard_claimed(region, participant.index(), message)
            })? {
                Pop::Done(count) => {
                    // Relaxed: a statistic.
                    dropped_word.fetch_add(count, Ordering::Relaxed);
                    dropped += count;
                }
                Pop::Empty | Pop::Drained => break,
            }
        }
        if let Some(redelivery) = payload.redelivery() {
            let free = |block| {
                payload.finish(region, block);
            };
            let count = participant.state().discard_requeued(redelivery, participant.index(), free);
            // Relaxed: a statistic.
            dropped_word.fetch_add(count, Ordering::Relaxed);
            dropped += count;
        }
        participant.notify_block_freed();
        participant.notify_tasks_done(); // there may be nothing left to wait for
        Ok(dropped)
    }

    /// Attempts until every message was received, and every task is done or lost. With redelivery
    /// the messages up to `end` count, which the first attempt chooses. Returns `None` only if the
    /// call must not block.
    pub(crate) fn join(&mut self, end: &mut Option<u64>, timeout: Timeout) -> Result<Option<()>, JoinError> {
        self.participant.check_holder::<JoinError>()?;
        let end = *end.get_or_insert_with(|| self.ring.words().load_tail().position());
        let letters = self.attempt(WaitFor::TasksDone, timeout, |registration, ring, payload| {
            let (state, words) = (QueueState::of(registration.region()), ring.words());
            Ok::<_, JoinError>(match payload.redelivery() {
                Some(_) => state.dead_letters_if_done(words, end),
                None => state.is_idle(words).then_some(0),
            })
        })?;
        match letters {
            None => return Ok(None),
            Some(0) => {}
            Some(count) => return Err(JoinError::DeadLetters { count }),
        }
        if self.payload.redelivery().is_some() {
            return Ok(Some(()));
        }
        let lost = self.participant.state().tasks_lost();
        match lost.saturating_sub(mem::replace(&mut self.tasks_lost_before, lost)) {
            0 => Ok(Some(())),
            count => Err(JoinError::TasksLost { count }),
        }
    }
}

/// Of a sender. A receiver's half has its own.
impl Watch for Half {
    fn is_ready(&mut self, attempt: Attempt) -> bool {
        let Self { participant, ring, payload, .. } = self;
        let needs_block = participant.waits_for_block() || payload.redelivery().is_some();
        if attempt == Attempt::Probe {
            return !needs_block && ring.words().probe_free();
        }
        if !participant.is_here() {
            return true;
        }
        if ring.can_push().unwrap_or(true) && (!needs_block || ring.is_closed() || payload.has_free()) {
            participant.set_waiting_for(WaitFor::Slot); // the next message may be another one
            payload.forget_wanted();
            return true;
        }
        participant.has_ended()
    }

    fn check_liveness(&mut self, deadline: Deadline) {
        self.participant.remember_death(deadline);
    }

    fn event(&self, index: usize) -> Option<&EventCount<Mapped>> {
        self.participant.event_of_role(index)
    }

    fn before_sleep(&mut self) {
        self.participant.wait_state().take_back();
    }
}

impl fmt::Debug for Half {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.participant.fmt(f)
    }
}

/// The methods of every handle of a queue. `$half`: the path to the half that answers for it.
macro_rules! queue_methods {
    ($($half:ident).+) => {
        /// Returns the number of queued messages. Other participants change it at any time. Those
        /// that are to be [delivered again](crate::queue#redelivery) are not counted: see
        /// [`Stats::requeued`](crate::queue::Stats::requeued).
        pub fn len(&self) -> usize {
            self.$($half).+.len() as usize
        }

        /// Returns whether no message is queued. There may be one that is to be
        /// [delivered again](crate::queue#redelivery).
        pub fn is_empty(&self) -> bool {
            self.len() == 0
        }

        /// Returns whether every slot is taken. A message longer than a slot needs a free block or
        /// extent, too: [`Stats::shortage`](crate::queue::Stats::shortage) looks at both.
        pub fn is_full(&self) -> bool {
            self.len() >= self.capacity()
        }

        /// Returns how many messages can be queued: the number of slots. If the options ask for
        /// fewer [`extents`](crate::queue::Options::extents), fewer long messages can be.
        pub fn capacity(&self) -> usize {
            self.$($half).+.capacity() as usize
        }

        /// Returns the state of the queue at this moment.
        pub fn stats(&self) -> $crate::queue::Stats {
            self.$($half).+.stats()
        }

        /// Returns what becomes of a message whose receiver dies, as
        /// [chosen](crate::queue::Options::on_death) when the queue was made.
        pub fn on_death(&self) -> $crate::queue::OnDeath {
            self.$($half).+.on_death()
        }

        /// Closes the open run of senders: none of them can send any more. What is queued can still
        /// be received.
        ///
        /// A sender that joins later, by name or through
        /// [`Receiver::sender`](crate::queue::Receiver::sender), begins the next run. Its messages
        /// come after what is queued. A sender belongs to the run that was open when it joined, and
        /// so do its clones. It can close no other run than its own; a receiver closes whichever is
        /// open.
        ///
        /// # Blocking
        /// Never.
        ///
        /// # Errors
        /// [`Closed`](SendError::Closed) if the run was closed already,
        /// [`Forked`](SendError::Forked), [`Corrupt`](SendError::Corrupt).
        pub fn close(&self) -> Result<(), SendError> {
            self.$($half).+.close().map(drop)
        }
    };
}

pub(super) use queue_methods;
