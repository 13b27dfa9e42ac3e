//! The two halves of a queue.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable)]

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytemuck::Pod;

use crate::error::{Error, RecvError, Result, SendError};
use crate::lanes::{Ear, Lane, Part};
use crate::layout::{lane, queue};
use crate::liveness::Seat;
use crate::message::Message;
use crate::options::fresh;
use crate::parcels::{Label, Parcels};
use crate::raw::mpmc::{BATCH, Pop, Push, Ring};
use crate::region::{Mapped, Word};
use crate::sync::{AtomicU64, Ordering, load_bytes, store_bytes};
use crate::sys::{Deadline, deadline_after};
use crate::wait::{Stop, Wait, Waiter};

/// What a queue looked like at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStats {
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
    /// Sending handles, of live processes or of ones whose death was not noticed yet.
    pub senders: u64,
    /// Receiving handles, likewise.
    pub receivers: u64,
    /// Whether it was closed.
    pub is_closed: bool,
}

/// How long an operation may take.
#[derive(Clone, Copy)]
enum Until {
    Now,
    Deadline(Deadline),
}

impl Until {
    const EVER: Self = Self::Deadline(None);

    fn after(timeout: Duration) -> Self {
        Self::Deadline(deadline_after(timeout))
    }
}

/// What both halves have.
pub(crate) struct Half {
    lane: Lane,
    gate: Gate,
}

/// The ring and the pool, apart from the lane that waits for them.
struct Gate {
    ring: Ring<Mapped>,
    parcels: Parcels,
    seat: Arc<Seat>,
    dropped: Word,
}

impl Half {
    fn new(seat: Arc<Seat>, part: Part, wait: Wait) -> Self {
        let lane = Lane::new(Arc::clone(&seat), part, wait);
        let parcels = Parcels::new(seat.region(), seat.index());
        let gate = Gate { ring: lane.ring(), parcels, dropped: seat.region().queue_word(queue::DROPPED), seat };
        Self { lane, gate }
    }

    /// A handle of its own on the same queue.
    fn another(&self, part: Part) -> Result<Arc<Seat>> {
        if !self.lane.is_ours() {
            return Err(Error::forked("take part in a queue"));
        }
        fresh(self.lane.region().reopen()?.join_lane(part)?).map(Arc::new)
    }

    /// Attempts until it works, `until` passes, or everybody of the other part is gone and a last attempt was in vain.
    #[inline]
    fn attempt<R, E: From<Stop>>(
        &mut self,
        ear: Ear,
        until: Until,
        mut action: impl FnMut(&mut Gate) -> Result<Option<R>, E>,
    ) -> Result<Option<R>, E> {
        match action(&mut self.gate)? {
            None => self.attempt_again(ear, until, action),
            done => Ok(done),
        }
    }

    #[cold]
    #[inline(never)]
    fn attempt_again<R, E: From<Stop>>(
        &mut self,
        ear: Ear,
        until: Until,
        mut action: impl FnMut(&mut Gate) -> Result<Option<R>, E>,
    ) -> Result<Option<R>, E> {
        match until {
            Until::Now => match self.lane.stop() {
                Some(end) => match action(&mut self.gate)? {
                    None => Err(self.lane.report(end).into()),
                    done => Ok(done),
                },
                None => Ok(None),
            },
            Until::Deadline(deadline) => self.lane.wait(ear, deadline, || action(&mut self.gate)).map(Some),
        }
    }

    pub(crate) fn lane(&self) -> &Lane {
        &self.lane
    }

    pub(crate) fn lane_mut(&mut self) -> &mut Lane {
        &mut self.lane
    }

    pub(crate) fn stats(&self) -> QueueStats {
        let words = self.gate.ring.words();
        let region = self.lane.region();
        let count = |index| region.queue_word(index).load(Ordering::Acquire);
        QueueStats {
            queued: words.len(),
            capacity: words.capacity,
            quarantined: words.quarantined(),
            lost: count(queue::LOST),
            dropped: count(queue::DROPPED),
            pooled: self.gate.parcels.taken(),
            senders: region.lanes_of(Part::Sender).count() as u64,
            receivers: region.lanes_of(Part::Receiver).count() as u64,
            is_closed: words.is_closed(),
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.gate.ring.words().len()
    }

    pub(crate) fn close(&self) -> Result<(), SendError> {
        if !self.lane.is_ours() {
            return Err(SendError::Forked);
        }
        if self.lane.close(self.gate.ring.words()) { Ok(()) } else { Err(SendError::Closed) }
    }

    pub(crate) fn close_now(&mut self) -> Result<u64, RecvError> {
        if self.close() == Err(SendError::Forked) {
            return Err(RecvError::Forked);
        }
        let gate = &mut self.gate;
        let mut dropped = 0;
        // No more can have been sent before the queue was closed, whatever the region says.
        while dropped < gate.ring.words().capacity {
            match gate.ring.pop_many(BATCH, |_, payload| gate.parcels.lose(gate.seat.region(), payload))? {
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
        if !self.lane.is_ours() {
            return Err(SendError::Forked);
        }
        let region = self.gate.seat.region();
        let words = self.gate.ring.words();
        self.lane.wait(Ear::Done, deadline, || Ok(region.is_idle(words).then_some(())))
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
            self.$half().lane().region().layout().capacity as usize
        }

        /// What the queue looks like now.
        pub fn stats(&self) -> $crate::queue_ends::QueueStats {
            self.$half().stats()
        }

        /// Closes the queue for everybody: nothing more can be sent, what waits can be received.
        ///
        /// **Blocking**: never. **Errors**: [`Closed`](SendError::Closed), if it was closed; [`Forked`](SendError::Forked).
        pub fn close(&self) -> Result<(), SendError> {
            self.$half().close()
        }
    };
}

pub(crate) use queue_methods;

/// Sends messages into a queue, beside any number of others. Each message goes to one receiver.
///
/// Sending publishes at once, in the order of this handle's calls. With room it is no system call, and no other process, stopped
/// or dead, can delay it. Dropping the last sender is an end of stream for the receivers, after everything that was sent.
///
/// A sender may move between threads; for a second one, [`try_clone`](Self::try_clone) it. A forked child cannot use its parent's
/// ([`SendError::Forked`]).
pub struct QueueSender<M: Message + ?Sized = [u8]> {
    half: Half,
    message: PhantomData<fn(&M)>,
}

impl<M: Message + ?Sized> QueueSender<M> {
    pub(crate) fn new(seat: Arc<Seat>, wait: Wait) -> Self {
        Self { half: Half::new(seat, Part::Sender, wait), message: PhantomData }
    }

    pub(crate) fn half(&self) -> &Half {
        &self.half
    }

    pub(crate) fn half_mut(&mut self) -> &mut Half {
        &mut self.half
    }

    queue_methods!(half);

    /// Another sender of the same queue, for another thread, or to be handed to another process.
    ///
    /// **Blocking**: up to 5 s, if another process was stopped while joining. **Errors**: all lanes are taken
    /// ([`LanesTaken`](crate::ErrorKind::LanesTaken)), no descriptors.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Self::new(self.half.another(Part::Sender)?, self.half.lane.wait_mode()))
    }

    /// A receiver of the same queue. Else like [`try_clone`](Self::try_clone).
    pub fn receiver(&self) -> Result<QueueReceiver<M>> {
        Ok(QueueReceiver::new(self.half.another(Part::Receiver)?, self.half.lane.wait_mode(), false))
    }

    /// Waits until everything that was sent has been received, and every receiver has called
    /// [`task_done`](QueueReceiver::task_done) for each message it received.
    ///
    /// A task whose receiver left, or died, is not waited for.
    ///
    /// **Blocking**: without end. **Errors**: [`Closed`](SendError::Closed) and [`PeerDied`](SendError::PeerDied), if the last
    /// receiver is gone before.
    pub fn join(&mut self) -> Result<(), SendError> {
        self.half.join(None)
    }

    /// Like [`join`](Self::join), but waits no longer than `timeout`, then [`TimedOut`](SendError::TimedOut).
    pub fn join_timeout(&mut self, timeout: Duration) -> Result<(), SendError> {
        self.half.join(deadline_after(timeout))
    }

    /// One attempt after another, and a wake-up for the receivers.
    #[inline]
    fn deliver(
        &mut self,
        until: Until,
        mut push: impl FnMut(&mut Gate) -> Result<Push, SendError>,
    ) -> Result<u64, SendError> {
        if !self.half.lane.is_ours() {
            return Err(SendError::Forked);
        }
        let sent = self.half.attempt(Ear::Room, until, |gate| match push(gate)? {
            Push::Done(count) => Ok(Some(count)),
            Push::Full => Ok(None),
            Push::Closed => Err(SendError::Closed),
        })?;
        let sent = sent.ok_or(SendError::Full)?;
        self.half.lane.sent(sent);
        Ok(sent)
    }
}

impl<T: Pod> QueueSender<T> {
    /// Sends one value.
    ///
    /// **Blocking**: while the queue is full, without end; parks by `futex` as [`Wait`] says. With room: no system call.
    ///
    /// **Errors**: [`Closed`](SendError::Closed) (the queue was closed, or is full and the last receiver has left),
    /// [`PeerDied`](SendError::PeerDied) (full, and the last receiver's process died), [`Corrupt`](SendError::Corrupt),
    /// [`Forked`](SendError::Forked), [`LockLost`](SendError::LockLost); the value was not sent.
    ///
    /// ```
    /// let (mut tx, mut rx) = tombolo::QueueOptions::values::<[u32; 2]>().channel()?;
    /// tx.send(&[1, 2])?;
    /// assert_eq!(rx.recv()?, [1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// **Source**: Vyukov's bounded queue with quarantine, see `raw/mpmc.rs`.
    #[inline]
    pub fn send(&mut self, value: &T) -> Result<(), SendError> {
        self.send_one(value, Until::EVER)
    }

    /// Like [`send`](Self::send), but waits no longer than `timeout`, then [`TimedOut`](SendError::TimedOut).
    pub fn send_timeout(&mut self, value: &T, timeout: Duration) -> Result<(), SendError> {
        self.send_one(value, Until::after(timeout))
    }

    /// Like [`send`](Self::send), but waits until `deadline` at most; none is for ever.
    pub fn send_deadline(&mut self, value: &T, deadline: Option<Instant>) -> Result<(), SendError> {
        self.send_one(value, Until::Deadline(deadline))
    }

    /// Like [`send`](Self::send), but never waits: [`Full`](SendError::Full).
    #[inline]
    pub fn try_send(&mut self, value: &T) -> Result<(), SendError> {
        self.send_one(value, Until::Now)
    }

    /// Sends values from the front of `values`; says how many.
    ///
    /// **Blocking**: until at least one could be sent. Sends what there is room for, up to 63 at once, which nobody else's can come
    /// between; call it again with the rest. An error means that none was sent.
    #[inline]
    pub fn send_many(&mut self, values: &[T]) -> Result<usize, SendError> {
        self.send_some(values, Until::EVER)
    }

    /// Like [`send_many`](Self::send_many), but never waits: [`Full`](SendError::Full).
    #[inline]
    pub fn try_send_many(&mut self, values: &[T]) -> Result<usize, SendError> {
        self.send_some(values, Until::Now)
    }

    #[inline]
    fn send_one(&mut self, value: &T, until: Until) -> Result<(), SendError> {
        self.deliver(until, |gate| Ok(gate.ring.push(|payload| store_bytes(payload, bytemuck::bytes_of(value)))?))?;
        Ok(())
    }

    #[inline]
    fn send_some(&mut self, values: &[T], until: Until) -> Result<usize, SendError> {
        if values.is_empty() {
            return Ok(0);
        }
        let sent = self.deliver(until, |gate| {
            Ok(gate.ring.push_many(values.len() as u64, |index, payload| {
                if let Some(value) = values.get(index as usize) {
                    store_bytes(payload, bytemuck::bytes_of(value));
                }
            })?)
        })?;
        Ok(sent as usize)
    }
}

impl QueueSender<[u8]> {
    /// Sends one message, of any length from 0 up to the queue's limit. Short ones lie in the slot, longer ones in the queue's pool.
    ///
    /// **Blocking**: while the queue or its pool is full, without end; parks by `futex` as [`Wait`] says. With room:
    /// no system call up to the length of a block, two beyond.
    ///
    /// **Errors**: [`TooLarge`](SendError::TooLarge), [`OutOfMemory`](SendError::OutOfMemory), and as for values:
    /// [`Closed`](SendError::Closed), [`PeerDied`](SendError::PeerDied), [`Corrupt`](SendError::Corrupt),
    /// [`Forked`](SendError::Forked), [`LockLost`](SendError::LockLost); the message was not sent.
    ///
    /// ```
    /// let (mut tx, mut rx) = tombolo::QueueOptions::bytes().channel()?;
    /// tx.send(b"")?;
    /// tx.send(&[7; 1 << 20])?;
    /// let mut message = Vec::new();
    /// assert_eq!(rx.recv(&mut message)?, 0);
    /// assert_eq!(rx.recv(&mut message)?, 1 << 20);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// **Source**: Vyukov's bounded queue with quarantine, see `raw/mpmc.rs`; the pool: `raw/pool.rs`.
    #[inline]
    pub fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.send_one(message, Until::EVER)
    }

    /// Like [`send`](Self::send), but waits no longer than `timeout`, then [`TimedOut`](SendError::TimedOut).
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.send_one(message, Until::after(timeout))
    }

    /// Like [`send`](Self::send), but waits until `deadline` at most; none is for ever.
    pub fn send_deadline(&mut self, message: &[u8], deadline: Option<Instant>) -> Result<(), SendError> {
        self.send_one(message, Until::Deadline(deadline))
    }

    /// Like [`send`](Self::send), but never waits: [`Full`](SendError::Full).
    #[inline]
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.send_one(message, Until::Now)
    }

    /// Sends messages from the front of `messages`; says how many.
    ///
    /// **Blocking**: until at least one could be sent. Sends what there is room for, up to 63 short ones at once, which nobody else's can
    /// come between; a longer one goes alone. Call it again with the rest. An error means that none was sent.
    pub fn send_many<B: AsRef<[u8]>>(&mut self, messages: &[B]) -> Result<usize, SendError> {
        let longest = self.half.gate.parcels.inline_len().min(self.max_message_len());
        // Here and not within the claim: `as_ref` is the caller's code.
        let mut short = [&[][..]; BATCH as usize];
        let mut count = 0;
        for (place, message) in short.iter_mut().zip(messages) {
            *place = message.as_ref();
            if place.len() > longest {
                break;
            }
            count += 1;
        }
        match short.get(..count) {
            Some(short @ [_, ..]) => {
                let sent = self.deliver(Until::EVER, |gate| {
                    Ok(gate.ring.push_many(count as u64, |index, payload| {
                        if let Some(message) = short.get(index as usize) {
                            Parcels::fill(Label::inline(message), message, payload);
                        }
                    })?)
                })?;
                Ok(sent as usize)
            }
            _ => match short.first() {
                Some(long) if !messages.is_empty() => self.send(long).map(|()| 1),
                _ => Ok(0),
            },
        }
    }

    /// The longest message, in bytes.
    pub fn max_message_len(&self) -> usize {
        self.half.gate.parcels.limit()
    }

    #[inline]
    fn send_one(&mut self, message: &[u8], until: Until) -> Result<(), SendError> {
        let limit = self.max_message_len();
        if message.len() > limit {
            return Err(SendError::TooLarge { length: message.len(), limit });
        }
        let is_short = message.len() <= self.half.gate.parcels.inline_len();
        let label = if is_short { Label::inline(message) } else { self.stow(message, until)? };
        let sent = self.deliver(until, |gate| Ok(gate.ring.push(|payload| Parcels::fill(label, message, payload))?));
        if sent.is_err() && label.is_pooled() {
            self.half.gate.parcels.unstow(self.half.gate.seat.region(), label);
            self.half.lane.gave_back();
        }
        sent.map(drop)
    }

    /// Puts a message into the pool.
    #[cold]
    fn stow(&mut self, message: &[u8], until: Until) -> Result<Label, SendError> {
        if !self.half.lane.is_ours() {
            return Err(SendError::Forked);
        }
        let stowed = self.half.attempt(Ear::Place, until, |gate| {
            if gate.ring.words().is_closed() {
                return Err(SendError::Closed);
            }
            gate.parcels.stow(gate.seat.region(), gate.seat.index(), message)
        });
        if stowed == Err(SendError::OutOfMemory) {
            self.half.lane.gave_back();
        }
        let stowed = stowed?;
        stowed.ok_or(SendError::Full)
    }
}

impl<M: Message + ?Sized> fmt::Debug for QueueSender<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueSender").field("half", &self.half).finish_non_exhaustive()
    }
}

/// Receives messages from a queue, beside any number of others. Each message is received once.
///
/// When the last sender has left, or the queue was closed, what waits can still be received; then comes [`RecvError::Closed`]. When
/// the last sender's process died, likewise [`RecvError::PeerDied`]. If another sender comes, its messages after that.
///
/// A receiver may move between threads; for a second one, [`try_clone`](Self::try_clone) it. A forked child cannot use its parent's
/// ([`RecvError::Forked`]).
pub struct QueueReceiver<M: Message + ?Sized = [u8]> {
    half: Half,
    /// Tasks received and not done; others read the word.
    open: u64,
    open_word: Word,
    lost: Word,
    reported: Word,
    reports_losses: bool,
    message: PhantomData<fn() -> M>,
}

impl<M: Message + ?Sized> QueueReceiver<M> {
    pub(crate) fn new(seat: Arc<Seat>, wait: Wait, reports_losses: bool) -> Self {
        let region = seat.region();
        Self {
            open: region.lane_word(seat.index(), lane::OPEN).load(Ordering::Relaxed),
            open_word: region.lane_word(seat.index(), lane::OPEN),
            lost: region.queue_word(queue::LOST),
            reported: region.queue_word(queue::REPORTED),
            reports_losses,
            half: Half::new(seat, Part::Receiver, wait),
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

    /// Closes the queue for everybody and throws away what waits; says how many messages this call threw away.
    ///
    /// **Blocking**: never. **Errors**: [`Corrupt`](RecvError::Corrupt).
    pub fn close_now(&mut self) -> Result<u64, RecvError> {
        self.half.close_now()
    }

    /// Another receiver of the same queue, for another thread, or to be handed to another process.
    ///
    /// **Blocking**: up to 5 s, if another process was stopped while joining. **Errors**: all lanes are taken
    /// ([`LanesTaken`](crate::ErrorKind::LanesTaken)), no descriptors.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Self::new(self.half.another(Part::Receiver)?, self.half.lane.wait_mode(), self.reports_losses))
    }

    /// A sender of the same queue. Else like [`try_clone`](Self::try_clone).
    pub fn sender(&self) -> Result<QueueSender<M>> {
        Ok(QueueSender::new(self.half.another(Part::Sender)?, self.half.lane.wait_mode()))
    }

    /// Reports the task of one message that this handle received as done, for [`QueueSender::join`].
    ///
    /// **Blocking**: never. **Errors**: [`NoTask`](RecvError::NoTask), if it was called as often as a message was received;
    /// [`Forked`](RecvError::Forked).
    pub fn task_done(&mut self) -> Result<(), RecvError> {
        if !self.half.lane.is_ours() {
            return Err(RecvError::Forked);
        }
        self.open = self.open.checked_sub(1).ok_or(RecvError::NoTask)?;
        self.open_word.store(self.open, Ordering::Release);
        if self.open == 0 {
            self.half.lane.did_task();
        }
        Ok(())
    }

    /// One attempt after another, and a wake-up for the senders. `take` is shown each message that this handle has claimed.
    #[inline]
    fn collect(
        &mut self,
        count: u64,
        until: Until,
        mut take: impl FnMut(&Parcels, &Seat, u64, &[AtomicU64]),
    ) -> Result<u64, RecvError> {
        if !self.half.lane.is_ours() {
            return Err(RecvError::Forked);
        }
        let Self { half, open, open_word, lost, reported, reports_losses, .. } = self;
        let outcome = half.attempt(Ear::Message, until, |gate| {
            if *reports_losses && has_news(lost, reported) {
                return Err(RecvError::Lost);
            }
            let Gate { ring, parcels, seat, .. } = gate;
            let popped = ring.pop_many(count, |index, payload| {
                // Within the claim: at no time is the message neither queued, nor claimed, nor an open task.
                *open = open.saturating_add(1); // what it began with may be a lie
                open_word.store(*open, Ordering::Release);
                take(parcels, seat, index, payload);
            })?;
            match popped {
                Pop::Done(count) => Ok(Some(count)),
                Pop::Empty => Ok(None),
                Pop::Drained => Err(RecvError::Closed),
            }
        });
        if outcome == Err(RecvError::Lost) {
            half.lane.sent(1); // a wake-up for a message may have brought us here
        }
        let received = outcome?.ok_or(RecvError::Empty)?;
        half.lane.received(received);
        Ok(received)
    }
}

/// Whether messages were lost that no receiver was told of; the caller is being told now.
#[cold]
fn has_news(lost: &Word, reported: &Word) -> bool {
    let (now, before) = (lost.load(Ordering::Acquire), reported.load(Ordering::Relaxed));
    now > before && reported.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

impl<T: Pod> QueueReceiver<T> {
    /// Receives one value.
    ///
    /// **Blocking**: while the queue is empty, without end; parks by `futex` as [`Wait`] says. With a message there: no
    /// system call.
    ///
    /// **Errors**: [`Closed`](RecvError::Closed), [`PeerDied`](RecvError::PeerDied), [`Corrupt`](RecvError::Corrupt),
    /// [`Forked`](RecvError::Forked), [`LockLost`](RecvError::LockLost), and [`Lost`](RecvError::Lost) if asked for.
    ///
    /// ```
    /// let (mut tx, mut rx) = tombolo::QueueOptions::values::<u64>().channel()?;
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
        self.recv_one(Until::EVER)
    }

    /// Like [`recv`](Self::recv), but waits no longer than `timeout`, then [`TimedOut`](RecvError::TimedOut).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvError> {
        self.recv_one(Until::after(timeout))
    }

    /// Like [`recv`](Self::recv), but waits until `deadline` at most; none is for ever.
    pub fn recv_deadline(&mut self, deadline: Option<Instant>) -> Result<T, RecvError> {
        self.recv_one(Until::Deadline(deadline))
    }

    /// Like [`recv`](Self::recv), but never waits: [`Empty`](RecvError::Empty).
    #[inline]
    pub fn try_recv(&mut self) -> Result<T, RecvError> {
        self.recv_one(Until::Now)
    }

    /// Receives as many values as there are and `values` holds, up to 63 at once; says how many.
    ///
    /// **Blocking**: until there is at least one. **Errors**: as for [`recv`](Self::recv).
    #[inline]
    pub fn recv_many(&mut self, values: &mut [T]) -> Result<usize, RecvError> {
        self.recv_some(values, Until::EVER)
    }

    /// Like [`recv_many`](Self::recv_many), but never waits: [`Empty`](RecvError::Empty).
    #[inline]
    pub fn try_recv_many(&mut self, values: &mut [T]) -> Result<usize, RecvError> {
        self.recv_some(values, Until::Now)
    }

    /// The values to come, up to the end of the stream; [`recv`](Self::recv) tells which end. A report of losses is passed over.
    pub fn iter(&mut self) -> impl Iterator<Item = T> {
        std::iter::from_fn(|| {
            loop {
                match self.recv() {
                    Err(RecvError::Lost) => {}
                    outcome => return outcome.ok(),
                }
            }
        })
    }

    #[inline]
    fn recv_one(&mut self, until: Until) -> Result<T, RecvError> {
        let mut value = T::zeroed();
        self.collect(1, until, |_, _, _, payload| load_bytes(payload, bytemuck::bytes_of_mut(&mut value)))?;
        Ok(value)
    }

    #[inline]
    fn recv_some(&mut self, values: &mut [T], until: Until) -> Result<usize, RecvError> {
        let received = self.collect(values.len() as u64, until, |_, _, index, payload| {
            if let Some(value) = values.get_mut(index as usize) {
                load_bytes(payload, bytemuck::bytes_of_mut(value));
            }
        })?;
        Ok(received as usize)
    }
}

impl QueueReceiver<[u8]> {
    /// Receives one message into `message`, whose old content it replaces; says how many bytes.
    ///
    /// **Blocking**: while the queue is empty, without end; parks by `futex` as [`Wait`] says. With a message there: no
    /// system call up to the length of a block, two beyond, and no allocation once `message` is large enough.
    ///
    /// **Errors**: as for values, and [`OutOfMemory`](RecvError::OutOfMemory).
    ///
    /// **Source**: Vyukov's bounded queue with quarantine, see `raw/mpmc.rs`; the pool: `raw/pool.rs`.
    #[inline]
    pub fn recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.recv_one(message, Until::EVER)
    }

    /// Like [`recv`](Self::recv), but waits no longer than `timeout`, then [`TimedOut`](RecvError::TimedOut).
    pub fn recv_timeout(&mut self, message: &mut Vec<u8>, timeout: Duration) -> Result<usize, RecvError> {
        self.recv_one(message, Until::after(timeout))
    }

    /// Like [`recv`](Self::recv), but waits until `deadline` at most; none is for ever.
    pub fn recv_deadline(&mut self, message: &mut Vec<u8>, deadline: Option<Instant>) -> Result<usize, RecvError> {
        self.recv_one(message, Until::Deadline(deadline))
    }

    /// Like [`recv`](Self::recv), but never waits: [`Empty`](RecvError::Empty).
    #[inline]
    pub fn try_recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.recv_one(message, Until::Now)
    }

    /// Receives one message into each of `messages`, as long as there are any, up to 63 at once; says how many.
    ///
    /// **Blocking**: until there is at least one. **Errors**: as for [`recv`](Self::recv).
    pub fn recv_many(&mut self, messages: &mut [Vec<u8>]) -> Result<usize, RecvError> {
        self.receive(messages, Until::EVER)
    }

    /// The messages to come, up to the end of the stream; [`recv`](Self::recv) tells which end. A report of losses is passed over.
    pub fn iter(&mut self) -> impl Iterator<Item = Vec<u8>> {
        std::iter::from_fn(|| {
            let mut message = Vec::new();
            loop {
                match self.recv(&mut message) {
                    Ok(_) => return Some(message),
                    Err(RecvError::Lost) => {}
                    Err(_) => return None,
                }
            }
        })
    }

    #[inline]
    fn recv_one(&mut self, message: &mut Vec<u8>, until: Until) -> Result<usize, RecvError> {
        self.receive(std::slice::from_mut(message), until)?;
        Ok(message.len())
    }

    #[inline]
    fn receive(&mut self, messages: &mut [Vec<u8>], until: Until) -> Result<usize, RecvError> {
        let mut pooled = false;
        let mut opened = 0;
        let mut failed = None;
        let received = self.collect(messages.len() as u64, until, |parcels, seat, _, payload| {
            let Some(message) = messages.get_mut(opened) else { return };
            pooled |= Label::read(payload).is_pooled();
            match parcels.open(seat.region(), payload, message) {
                Ok(_) => opened += 1,
                Err(error) => failed = Some(error),
            }
        })?;
        if pooled {
            self.half.lane.gave_back();
        }
        if failed.is_some() {
            let gone = received - opened as u64;
            self.half.gate.dropped.fetch_add(gone, Ordering::Relaxed);
            // Nobody can do such a task.
            self.open = self.open.saturating_sub(gone);
            self.open_word.store(self.open, Ordering::Release);
            self.half.lane.did_task();
        }
        match failed {
            Some(error) if opened == 0 => Err(error),
            _ => Ok(opened),
        }
    }
}

impl<M: Message + ?Sized> fmt::Debug for QueueReceiver<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueReceiver").field("half", &self.half).finish_non_exhaustive()
    }
}
