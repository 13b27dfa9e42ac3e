//! The sending half of a queue.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytemuck::Pod;

use crate::error::{Result, SendError};
use crate::message::Message;
use crate::primitive::{AtomicU64, WORD, store_value};
use crate::queue::half::{Half, RingAccess, queue_methods};
use crate::queue::participant::{Role, WaitFor};
use crate::queue::payload::{Label, PayloadPool};
use crate::raw::mpmc::{MAX_BATCH, Push};
use crate::region::lifecycle::Registration;
use crate::sys::clock::deadline_after;
use crate::wait::{Timeout, WaitStrategy};

/// Sends messages into a queue, beside any number of others. Each message goes to one receiver.
///
/// Sending publishes at once, in the order of this handle's calls. With room it is no system call, and no other process, stopped
/// or dead, can delay it. Dropping the last sender is an end of stream for the receivers, after everything that was sent.
///
/// A sender may move between threads; for a second one, [`try_clone`](Self::try_clone) it. A forked child cannot use its parent's
/// ([`SendError::Forked`]).
pub struct Sender<M: Message + ?Sized = [u8]> {
    half: Half,
    message: PhantomData<fn(&M)>,
}

impl<M: Message + ?Sized> Sender<M> {
    pub(crate) fn new(seat: Arc<Registration>, wait: WaitStrategy) -> Self {
        Self { half: Half::new(seat, Role::Sender, wait), message: PhantomData }
    }

    pub(crate) fn half(&self) -> &Half {
        &self.half
    }

    pub(crate) fn half_mut(&mut self) -> &mut Half {
        &mut self.half
    }

    queue_methods!(half);

    /// Another sender of the same queue and of the same run, for another thread, or to be handed to
    /// another process.
    ///
    /// **Blocking**: up to 5 s, if another process was stopped while joining. **Errors**: all lanes are taken
    /// ([`TooManyParticipants`](crate::ErrorKind::TooManyParticipants)), no descriptors.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Self::new(self.half.another(Role::Sender)?, self.half.lane.wait_mode()))
    }

    /// Waits until everything that was sent has been received, and every receiver has called
    /// [`task_done`](crate::queue::Receiver::task_done) for each message it received.
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

    /// Sends one message that `fill` writes, of about so many words, if nothing is in the way. False: see what [`deliver`](Self::deliver) makes of it.
    #[inline(always)]
    fn deliver_at_once(&mut self, words: usize, fill: impl FnOnce(&[AtomicU64])) -> Result<bool, SendError> {
        let Half { lane, gate } = &mut self.half;
        let sent = lane.is_from_this_process() && gate.ring.try_push_uncontended(words, fill)?;
        if sent {
            lane.sent(1);
        }
        Ok(sent)
    }

    /// One attempt after another, and a wake-up for the receivers.
    #[inline]
    fn deliver(
        &mut self,
        until: Timeout,
        mut push: impl FnMut(&mut RingAccess) -> Result<Push, SendError>,
    ) -> Result<u64, SendError> {
        if !self.half.lane.is_from_this_process() {
            return Err(SendError::Forked);
        }
        let sent = self.half.attempt(WaitFor::Slot, until, |gate| match push(gate)? {
            Push::Done(count) => Ok(Some(count)),
            Push::Full => Ok(None),
            Push::Closed => Err(SendError::Closed),
        })?;
        let sent = sent.ok_or(SendError::Full)?;
        self.half.lane.sent(sent);
        Ok(sent)
    }
}

impl<T: Pod> Sender<T> {
    /// Sends one value.
    ///
    /// **Blocking**: while the queue is full, without end; parks by `futex` as [`WaitStrategy`] says. With room: no system call.
    ///
    /// **Errors**: [`Closed`](SendError::Closed) (its run was closed, or the queue is full and the
    /// last receiver has left),
    /// [`PeerDied`](SendError::PeerDied) (full, and the last receiver's process died), [`Corrupt`](SendError::Corrupt),
    /// [`Forked`](SendError::Forked), [`LockLost`](SendError::LockLost); the value was not sent.
    ///
    /// ```
    /// let (mut tx, mut rx) = tombolo::queue::Options::<[u32; 2]>::new().create_channel()?;
    /// tx.send(&[1, 2])?;
    /// assert_eq!(rx.recv()?, [1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// **Source**: Vyukov's bounded queue with quarantine, see `raw/mpmc.rs`.
    #[inline]
    pub fn send(&mut self, value: &T) -> Result<(), SendError> {
        self.send_one(value, Timeout::NEVER)
    }

    /// Like [`send`](Self::send), but waits no longer than `timeout`, then [`TimedOut`](SendError::TimedOut).
    pub fn send_timeout(&mut self, value: &T, timeout: Duration) -> Result<(), SendError> {
        self.send_one(value, Timeout::after(timeout))
    }

    /// Like [`send`](Self::send), but waits until `deadline` at most; none is for ever.
    pub fn send_deadline(&mut self, value: &T, deadline: Option<Instant>) -> Result<(), SendError> {
        self.send_one(value, Timeout::At(deadline))
    }

    /// Like [`send`](Self::send), but never waits: [`Full`](SendError::Full). The first time after a run of messages it lets
    /// about a microsecond pass before it says so; in a stream see [`WaitStrategy`](crate::WaitStrategy).
    #[inline]
    pub fn try_send(&mut self, value: &T) -> Result<(), SendError> {
        self.send_one(value, Timeout::NonBlocking)
    }

    /// Sends values from the front of `values`; says how many.
    ///
    /// **Blocking**: until at least one could be sent. Sends what there is room for, up to 63 at once, which nobody else's can come
    /// between; call it again with the rest. An error means that none was sent.
    #[inline]
    pub fn send_many(&mut self, values: &[T]) -> Result<usize, SendError> {
        self.send_some(values, Timeout::NEVER)
    }

    /// Like [`send_many`](Self::send_many), but never waits: [`Full`](SendError::Full).
    #[inline]
    pub fn try_send_many(&mut self, values: &[T]) -> Result<usize, SendError> {
        self.send_some(values, Timeout::NonBlocking)
    }

    #[inline]
    fn send_one(&mut self, value: &T, until: Timeout) -> Result<(), SendError> {
        let sent = self.deliver_at_once(size_of::<T>().div_ceil(WORD), |payload| store_value(payload, value))?;
        if sent { Ok(()) } else { self.send_slowly(value, until) }
    }

    #[cold]
    #[inline(never)]
    fn send_slowly(&mut self, value: &T, until: Timeout) -> Result<(), SendError> {
        self.deliver(until, |gate| Ok(gate.ring.push_many(1, |_, payload| store_value(payload, value))?))?;
        Ok(())
    }

    #[inline]
    fn send_some(&mut self, values: &[T], until: Timeout) -> Result<usize, SendError> {
        if values.is_empty() {
            return Ok(0);
        }
        let sent = self.deliver(until, |gate| {
            Ok(gate.ring.push_many(values.len() as u64, |index, payload| {
                if let Some(value) = values.get(index as usize) {
                    store_value(payload, value);
                }
            })?)
        })?;
        Ok(sent as usize)
    }
}

impl Sender<[u8]> {
    /// Sends one message, of any length from 0 up to the queue's limit. Short ones lie in the slot, longer ones in the queue's pool.
    ///
    /// **Blocking**: while the queue or its pool is full, without end; parks by `futex` as [`WaitStrategy`] says. With room:
    /// no system call up to the length of a block, few beyond.
    ///
    /// **Errors**: [`TooLarge`](SendError::TooLarge), [`OutOfMemory`](SendError::OutOfMemory) (beyond the length of a
    /// block, if the file system, the system or a control group of this process has too little), and as for values:
    /// [`Closed`](SendError::Closed), [`PeerDied`](SendError::PeerDied), [`Corrupt`](SendError::Corrupt),
    /// [`Forked`](SendError::Forked), [`LockLost`](SendError::LockLost); the message was not sent.
    ///
    /// ```
    /// let (mut tx, mut rx) = tombolo::Options::bytes().create_channel()?;
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
        self.send_one(message, Timeout::NEVER)
    }

    /// Like [`send`](Self::send), but waits no longer than `timeout`, then [`TimedOut`](SendError::TimedOut).
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.send_one(message, Timeout::after(timeout))
    }

    /// Like [`send`](Self::send), but waits until `deadline` at most; none is for ever.
    pub fn send_deadline(&mut self, message: &[u8], deadline: Option<Instant>) -> Result<(), SendError> {
        self.send_one(message, Timeout::At(deadline))
    }

    /// Like [`send`](Self::send), but never waits: [`Full`](SendError::Full). The first time after a run of messages it lets
    /// about a microsecond pass before it says so; in a stream see [`WaitStrategy`](crate::WaitStrategy).
    #[inline]
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.send_one(message, Timeout::NonBlocking)
    }

    /// Sends messages from the front of `messages`; says how many.
    ///
    /// **Blocking**: until at least one could be sent. Sends what there is room for, up to 63 short ones at once, which nobody else's can
    /// come between; a longer one goes alone. Call it again with the rest. An error means that none was sent.
    pub fn send_many<B: AsRef<[u8]>>(&mut self, messages: &[B]) -> Result<usize, SendError> {
        let longest = self.half.gate.parcels.inline_bytes();
        // Here and not within the claim: `as_ref` is the caller's code.
        let mut short = [&[][..]; MAX_BATCH as usize];
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
                let sent = self.deliver(Timeout::NEVER, |gate| {
                    Ok(gate.ring.push_many(count as u64, |index, payload| {
                        if let Some(message) = short.get(index as usize) {
                            PayloadPool::fill_inline(message, payload);
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
    pub fn max_message_bytes(&self) -> usize {
        self.half.gate.parcels.limit()
    }

    #[inline]
    fn send_one(&mut self, message: &[u8], until: Timeout) -> Result<(), SendError> {
        if message.len() > self.half.gate.parcels.inline_bytes() {
            return self.send_long(message, until);
        }
        let words = 1 + message.len().div_ceil(WORD);
        let sent = self.deliver_at_once(words, |payload| PayloadPool::fill_inline(message, payload))?;
        if sent { Ok(()) } else { self.send_slowly(Label::inline(message), message, until) }
    }

    #[inline(never)]
    fn send_long(&mut self, message: &[u8], until: Timeout) -> Result<(), SendError> {
        let limit = self.max_message_bytes();
        if message.len() > limit {
            return Err(SendError::TooLarge { length: message.len(), limit });
        }
        let Half { lane, gate } = &mut self.half;
        let stowed =
            if lane.is_from_this_process() { gate.parcels.stow_at_once(gate.seat.index(), message) } else { None };
        let label = match stowed {
            Some(label) => label,
            None => self.stow(message, until)?,
        };
        let sent = match self.deliver_at_once(Label::POOLED_WORDS, |payload| label.write(payload)) {
            Ok(false) => self.send_slowly(label, message, until),
            done => done.map(drop),
        };
        if sent.is_err() {
            self.half.gate.parcels.unstow(self.half.gate.seat.region(), label);
            self.half.lane.gave_back();
        }
        sent
    }

    #[cold]
    #[inline(never)]
    fn send_slowly(&mut self, label: Label, message: &[u8], until: Timeout) -> Result<(), SendError> {
        self.deliver(until, |gate| {
            Ok(gate.ring.push_many(1, |_, payload| PayloadPool::fill(label, message, payload))?)
        })?;
        Ok(())
    }

    /// Puts a message into the pool.
    #[cold]
    fn stow(&mut self, message: &[u8], until: Timeout) -> Result<Label, SendError> {
        if !self.half.lane.is_from_this_process() {
            return Err(SendError::Forked);
        }
        let stowed = self.half.attempt(WaitFor::Block, until, |gate| {
            if gate.ring.is_closed() {
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

impl<M: Message + ?Sized> fmt::Debug for Sender<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("half", &self.half).finish_non_exhaustive()
    }
}
