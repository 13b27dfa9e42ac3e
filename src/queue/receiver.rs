//! The receiving half of a queue.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytemuck::Pod;

use crate::error::{RecvError, Result, SendError};
use crate::message::Message;
use crate::primitive::{AtomicU64, Ordering, REGISTER_COPY_MAX, load_value_into};
use crate::queue::half::{Half, RingAccess, queue_methods};
use crate::queue::participant::{Role, WaitFor};
use crate::queue::payload::PayloadPool;
use crate::queue::state::QueueState;
use crate::raw::mpmc::Pop;
use crate::region::layout::queue::{control, own};
use crate::region::lifecycle::Registration;
use crate::region::words::Word;
use crate::wait::{Timeout, WaitStrategy};

/// Receives messages from a queue, beside any number of others. Each message is received once.
///
/// When the last sender has left, or the present run of senders was closed, what waits can still be
/// received; then comes [`RecvError::Closed`]. When the last sender's process died,
/// [`RecvError::PeerDied`] comes instead. If another sender comes, its messages come after that. A
/// receiver that comes when all this is over waits for the next sender.
///
/// A receiver may move between threads; for a second one, [`try_clone`](Self::try_clone) it. A forked child cannot use its parent's
/// ([`RecvError::Forked`]).
pub struct Receiver<M: Message + ?Sized = [u8]> {
    half: Half,
    /// Tasks received and not done; others read the word.
    open: u64,
    open_word: Word,
    lost: Word,
    reported: Word,
    reports_losses: bool,
    message: PhantomData<fn() -> M>,
}

impl<M: Message + ?Sized> Receiver<M> {
    pub(crate) fn new(seat: Arc<Registration>, wait: WaitStrategy, reports_losses: bool) -> Self {
        let state = QueueState::of(seat.region());
        Self {
            open: state.participant_word(seat.index(), own::UNFINISHED_TASKS).load(Ordering::Relaxed),
            open_word: state.participant_word(seat.index(), own::UNFINISHED_TASKS),
            lost: state.word(control::LOST),
            reported: state.word(control::REPORTED),
            reports_losses,
            half: Half::new(seat, Role::Receiver, wait),
            message: PhantomData,
        }
    }

    pub(crate) fn half(&self) -> &Half {
        &self.half
    }

    pub(crate) fn half_mut(&mut self) -> &mut Half {
        &mut self.half
    }

    queue_methods!(half);

    /// Closes the present run, if it is open, and throws away what waits; says how many messages
    /// this call threw away. What senders of the next run send meanwhile stays.
    ///
    /// **Blocking**: never. **Errors**: [`Corrupt`](RecvError::Corrupt).
    pub fn close_now(&mut self) -> Result<u64, RecvError> {
        self.half.close_now()
    }

    /// Another receiver of the same queue, for another thread, or to be handed to another process.
    ///
    /// **Blocking**: up to 5 s, if another process was stopped while joining. **Errors**: all lanes are taken
    /// ([`TooManyParticipants`](crate::ErrorKind::TooManyParticipants)), no descriptors.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Self::new(self.half.another(Role::Receiver)?, self.half.lane.wait_mode(), self.reports_losses))
    }

    /// Reports the task of one message that this handle received as done, for [`Sender::join`](crate::queue::Sender::join).
    ///
    /// **Blocking**: never. **Errors**: [`NoTask`](RecvError::NoTask), if it was called as often as a message was received;
    /// [`Forked`](RecvError::Forked).
    pub fn task_done(&mut self) -> Result<(), RecvError> {
        if !self.half.lane.is_from_this_process() {
            return Err(RecvError::Forked);
        }
        self.open = self.open.checked_sub(1).ok_or(RecvError::NoTask)?;
        self.open_word.store(self.open, Ordering::Release);
        if self.open == 0 {
            self.half.lane.did_task();
        }
        Ok(())
    }

    /// Receives one message, of which `take` makes something, if nothing is in the way. None: see what [`collect`](Self::collect) makes
    /// of it.
    #[inline(always)]
    fn collect_at_once<R>(
        &mut self,
        take: impl FnOnce(&PayloadPool, &Registration, &[AtomicU64]) -> R,
    ) -> Result<Option<R>, RecvError> {
        let Self { half: Half { lane, gate }, open, open_word, lost, reported, reports_losses, .. } = self;
        if !lane.is_from_this_process()
            || *reports_losses && lost.load(Ordering::Relaxed) > reported.load(Ordering::Relaxed)
        {
            return Ok(None);
        }
        let RingAccess { ring, parcels, seat, .. } = gate;
        let received = ring.try_pop_uncontended(|payload| {
            open_task(open, open_word);
            take(parcels, seat, payload)
        })?;
        if received.is_some() {
            lane.received(1);
        }
        Ok(received)
    }

    /// One attempt after another, and a wake-up for the senders. `take` is shown each message that this handle has claimed.
    #[inline]
    fn collect(
        &mut self,
        count: u64,
        until: Timeout,
        mut take: impl FnMut(&PayloadPool, &Registration, u64, &[AtomicU64]),
    ) -> Result<u64, RecvError> {
        if !self.half.lane.is_from_this_process() {
            return Err(RecvError::Forked);
        }
        let Self { half, open, open_word, lost, reported, reports_losses, .. } = self;
        let outcome = half.attempt(WaitFor::Message, until, |gate| {
            if *reports_losses && has_news(lost, reported) {
                return Err(RecvError::MessageLost);
            }
            let RingAccess { ring, parcels, seat, .. } = gate;
            let popped = ring.pop_many(count, |index, payload| {
                open_task(open, open_word);
                take(parcels, seat, index, payload);
            })?;
            match popped {
                Pop::Done(count) => Ok(Some(count)),
                // Whether it is this receiver's end, too, is for its lane to say.
                Pop::Empty | Pop::Drained => Ok(None),
            }
        });
        if outcome == Err(RecvError::MessageLost) {
            half.lane.sent(1); // a wake-up for a message may have brought us here
        }
        let received = outcome?.ok_or(RecvError::Empty)?;
        half.lane.received(received);
        Ok(received)
    }
}

/// Call within the claim: at no time is a message neither queued, nor claimed, nor an open task.
#[inline(always)]
fn open_task(open: &mut u64, open_word: &Word) {
    *open = open.saturating_add(1); // what it began with may be a lie
    open_word.store(*open, Ordering::Release);
}

/// Whether messages were lost that no receiver was told of; the caller is being told now.
#[cold]
fn has_news(lost: &Word, reported: &Word) -> bool {
    let (now, before) = (lost.load(Ordering::Acquire), reported.load(Ordering::Relaxed));
    now > before && reported.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

impl<T: Pod> Receiver<T> {
    /// Receives one value.
    ///
    /// **Blocking**: while the queue is empty, without end; parks by `futex` as [`WaitStrategy`] says. With a message there: no
    /// system call.
    ///
    /// **Errors**: [`Closed`](RecvError::Closed), [`PeerDied`](RecvError::PeerDied), [`Corrupt`](RecvError::Corrupt),
    /// [`Forked`](RecvError::Forked), [`LockLost`](RecvError::LockLost), and [`Lost`](RecvError::MessageLost) if asked for.
    ///
    /// ```
    /// let (mut tx, mut rx) = tombolo::queue::Options::<u64>::new().create_channel()?;
    /// let mut second = rx.try_clone()?;
    /// tx.send(&1)?;
    /// tx.send(&2)?;
    /// drop(tx);
    /// assert_eq!(rx.recv(), Ok(1));
    /// assert_eq!(second.recv(), Ok(2));
    /// assert_eq!(rx.recv(), Err(tombolo::RecvError::Closed));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// **Source**: Vyukov's bounded queue with quarantine, see `raw/mpmc.rs`.
    #[inline]
    pub fn recv(&mut self) -> Result<T, RecvError> {
        self.recv_one(Timeout::NEVER)
    }

    /// Like [`recv`](Self::recv), but waits no longer than `timeout`, then [`TimedOut`](RecvError::TimedOut).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvError> {
        self.recv_one(Timeout::after(timeout))
    }

    /// Like [`recv`](Self::recv), but waits until `deadline` at most; none is for ever.
    pub fn recv_deadline(&mut self, deadline: Option<Instant>) -> Result<T, RecvError> {
        self.recv_one(Timeout::At(deadline))
    }

    /// Like [`recv`](Self::recv), but never waits: [`Empty`](RecvError::Empty). The first time after a run of messages it lets
    /// about a microsecond pass before it says so; in a stream see [`WaitStrategy`](crate::WaitStrategy).
    #[inline]
    pub fn try_recv(&mut self) -> Result<T, RecvError> {
        self.recv_one(Timeout::NonBlocking)
    }

    /// Receives as many values as there are and `values` holds, up to 63 at once; says how many.
    ///
    /// **Blocking**: until there is at least one. **Errors**: as for [`recv`](Self::recv).
    #[inline]
    pub fn recv_many(&mut self, values: &mut [T]) -> Result<usize, RecvError> {
        self.recv_some(values, Timeout::NEVER)
    }

    /// Like [`recv_many`](Self::recv_many), but never waits: [`Empty`](RecvError::Empty).
    #[inline]
    pub fn try_recv_many(&mut self, values: &mut [T]) -> Result<usize, RecvError> {
        self.recv_some(values, Timeout::NonBlocking)
    }

    /// The values to come, up to the end of the stream; [`recv`](Self::recv) tells which end. A report of losses is passed over.
    pub fn iter(&mut self) -> impl Iterator<Item = T> {
        std::iter::from_fn(|| {
            loop {
                match self.recv() {
                    Err(RecvError::MessageLost) => {}
                    outcome => return outcome.ok(),
                }
            }
        })
    }

    #[inline]
    fn recv_one(&mut self, until: Timeout) -> Result<T, RecvError> {
        let mut value = T::zeroed();
        if self.collect_at_once(|_, _, payload| load_value_into(payload, &mut value))?.is_some() {
            return Ok(value);
        }
        if size_of::<T>() <= REGISTER_COPY_MAX {
            return self.recv_late(until); // a value whose address goes nowhere stays in registers
        }
        self.recv_slowly(&mut value, until)?;
        Ok(value)
    }

    #[cold]
    #[inline(never)]
    fn recv_late(&mut self, until: Timeout) -> Result<T, RecvError> {
        let mut value = T::zeroed();
        self.recv_slowly(&mut value, until)?;
        Ok(value)
    }

    #[cold]
    #[inline(never)]
    fn recv_slowly(&mut self, value: &mut T, until: Timeout) -> Result<(), RecvError> {
        self.collect(1, until, |_, _, _, payload| load_value_into(payload, value)).map(drop)
    }

    #[inline]
    fn recv_some(&mut self, values: &mut [T], until: Timeout) -> Result<usize, RecvError> {
        let received = self.collect(values.len() as u64, until, |_, _, index, payload| {
            if let Some(value) = values.get_mut(index as usize) {
                load_value_into(payload, value);
            }
        })?;
        Ok(received as usize)
    }
}

impl Receiver<[u8]> {
    /// Receives one message into `message`, whose old content it replaces; says how many bytes.
    ///
    /// **Blocking**: while the queue is empty, without end; parks by `futex` as [`WaitStrategy`] says. With a message there: no
    /// system call up to the length of a block, two beyond, and no allocation once `message` is large enough.
    ///
    /// **Errors**: as for values, and [`OutOfMemory`](RecvError::OutOfMemory).
    ///
    /// **Source**: Vyukov's bounded queue with quarantine, see `raw/mpmc.rs`; the pool: `raw/pool.rs`.
    #[inline]
    pub fn recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.recv_one(message, Timeout::NEVER)
    }

    /// Like [`recv`](Self::recv), but waits no longer than `timeout`, then [`TimedOut`](RecvError::TimedOut).
    pub fn recv_timeout(&mut self, message: &mut Vec<u8>, timeout: Duration) -> Result<usize, RecvError> {
        self.recv_one(message, Timeout::after(timeout))
    }

    /// Like [`recv`](Self::recv), but waits until `deadline` at most; none is for ever.
    pub fn recv_deadline(&mut self, message: &mut Vec<u8>, deadline: Option<Instant>) -> Result<usize, RecvError> {
        self.recv_one(message, Timeout::At(deadline))
    }

    /// Like [`recv`](Self::recv), but never waits: [`Empty`](RecvError::Empty). The first time after a run of messages it lets
    /// about a microsecond pass before it says so; in a stream see [`WaitStrategy`](crate::WaitStrategy).
    #[inline]
    pub fn try_recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.recv_one(message, Timeout::NonBlocking)
    }

    /// Receives one message into each of `messages`, as long as there are any, up to 63 at once; says how many.
    ///
    /// **Blocking**: until there is at least one. **Errors**: as for [`recv`](Self::recv).
    pub fn recv_many(&mut self, messages: &mut [Vec<u8>]) -> Result<usize, RecvError> {
        self.receive(messages, Timeout::NEVER)
    }

    /// The messages to come, up to the end of the stream; [`recv`](Self::recv) tells which end. A report of losses is passed over.
    pub fn iter(&mut self) -> impl Iterator<Item = Vec<u8>> {
        std::iter::from_fn(|| {
            let mut message = Vec::new();
            loop {
                match self.recv(&mut message) {
                    Ok(_) => return Some(message),
                    Err(RecvError::MessageLost) => {}
                    Err(_) => return None,
                }
            }
        })
    }

    #[inline]
    fn recv_one(&mut self, message: &mut Vec<u8>, until: Timeout) -> Result<usize, RecvError> {
        let opened = self.collect_at_once(|parcels, seat, payload| parcels.open(seat.region(), payload, message))?;
        match opened {
            Some(Ok(false)) => {}
            Some(Ok(true)) => self.half.lane.gave_back(),
            Some(Err(reason)) => {
                self.drop_unopened(1);
                return Err(reason.into());
            }
            None => return self.recv_slowly(message, until),
        }
        Ok(message.len())
    }

    #[cold]
    #[inline(never)]
    fn recv_slowly(&mut self, message: &mut Vec<u8>, until: Timeout) -> Result<usize, RecvError> {
        self.receive(std::slice::from_mut(message), until)?;
        Ok(message.len())
    }

    /// Messages that were received, and cannot be opened.
    #[cold]
    fn drop_unopened(&mut self, count: u64) {
        self.half.lane.gave_back(); // they may have had places
        self.half.gate.dropped.fetch_add(count, Ordering::Relaxed);
        // Nobody can do such a task.
        self.open = self.open.saturating_sub(count);
        self.open_word.store(self.open, Ordering::Release);
        self.half.lane.did_task();
    }

    #[inline]
    fn receive(&mut self, messages: &mut [Vec<u8>], until: Timeout) -> Result<usize, RecvError> {
        let mut pooled = false;
        let mut opened = 0;
        let mut failed = None;
        let received = self.collect(messages.len() as u64, until, |parcels, seat, _, payload| {
            let Some(message) = messages.get_mut(opened) else { return };
            match parcels.open(seat.region(), payload, message) {
                Ok(had_place) => {
                    pooled |= had_place;
                    opened += 1;
                }
                Err(reason) => failed = Some(reason),
            }
        })?;
        if pooled {
            self.half.lane.gave_back();
        }
        if failed.is_some() {
            self.drop_unopened(received - opened as u64);
        }
        match failed {
            Some(reason) if opened == 0 => Err(reason.into()),
            _ => Ok(opened),
        }
    }
}

impl<M: Message + ?Sized> fmt::Debug for Receiver<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("half", &self.half).finish_non_exhaustive()
    }
}
