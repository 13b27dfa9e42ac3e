//! The sending half of a pipe.

use std::fmt;
use std::time::{Duration, Instant};

use bytemuck::Pod;

use crate::error::{Result, SendError};
use crate::message::Message;
use crate::pipe::connection::{self, Connection};
use crate::pipe::store_policy::StorePolicy;
use crate::sys::{Deadline, deadline_after};
use crate::wait::Waiter;
use crate::wait::poll_backoff::TYPICAL_RECORD_WORDS;

/// Sends messages to one [`Receiver`](crate::pipe::Receiver), in order, each whole.
///
/// Sending publishes at once and never loses a message: it is delivered, or the call says why not. Dropping the
/// sender is an end of stream for the receiver, after everything that was sent.
///
/// A sender may move between threads. A forked child cannot use its parent's ([`SendError::Forked`]).
pub struct Sender<M: Message + ?Sized = [u8]> {
    link: Connection,
    pub(crate) writer: M::Writer,
    stores: StorePolicy,
    limit: u64,
}

impl<M: Message + ?Sized> Sender<M> {
    pub(crate) fn new(link: Connection, ring: usize) -> Result<Self> {
        let region = link.seat().region();
        let (_, words) = connection::layout(region).data(ring);
        let limit = region.layout().max_message_bytes();
        let writer = M::writer(region, ring)?;
        Ok(Self { writer, stores: StorePolicy::new(words * size_of::<u64>()), limit, link })
    }

    pub(crate) fn link(&self) -> &Connection {
        &self.link
    }

    /// What every call checks first: two loads of lines that are in the cache.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), SendError> {
        if !self.link.is_from_this_process() {
            return Err(SendError::Forked);
        }
        if self.link.peer_has_left() {
            return Err(SendError::Closed);
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn published(&self) {
        self.link.ring();
    }

    /// Why an attempt that must not wait failed.
    #[cold]
    fn refusal(&mut self) -> SendError {
        match self.link.end_of_try() {
            Some(end) => self.link.report_end(end).into(),
            None => SendError::Full,
        }
    }
}

impl<T: Pod> Sender<T> {
    /// Sends one value.
    ///
    /// **Blocking**: while the ring is full, without end; a full ring parks by `futex` as [`WaitStrategy`](crate::WaitStrategy) says.
    /// With room: no system call.
    ///
    /// **Errors**: [`Closed`](SendError::Closed), [`PeerDied`](SendError::PeerDied), [`Corrupt`](SendError::Corrupt),
    /// [`Forked`](SendError::Forked), [`LockLost`](SendError::LockLost); the value was not sent.
    ///
    /// ```
    /// let (mut tx, mut rx) = tombolo::pipe::Options::<[f32; 3]>::new().create()?;
    /// tx.send(&[1.0, 2.0, 3.0])?;
    /// assert_eq!(rx.recv()?, [1.0, 2.0, 3.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// **Source**: Lamport's ring with cached indices, see `raw/spsc.rs`.
    #[inline]
    pub fn send(&mut self, value: &T) -> Result<(), SendError> {
        self.send_deadline(value, None)
    }

    /// Like [`send`](Self::send), but waits no longer than `timeout`, then [`TimedOut`](SendError::TimedOut).
    #[inline]
    pub fn send_timeout(&mut self, value: &T, timeout: Duration) -> Result<(), SendError> {
        match self.try_send(value) {
            Err(SendError::Full) => self.send_deadline(value, deadline_after(timeout)),
            done => done,
        }
    }

    /// Like [`send`](Self::send), but never waits: [`Full`](SendError::Full).
    #[inline]
    pub fn try_send(&mut self, value: &T) -> Result<(), SendError> {
        if self.push(value)? { Ok(()) } else { Err(self.refusal()) }
    }

    /// Like [`send`](Self::send), but waits until `deadline` at most; none is for ever.
    #[inline]
    pub fn send_deadline(&mut self, value: &T, deadline: Option<Instant>) -> Result<(), SendError> {
        while !self.push(value)? {
            self.await_room(deadline)?;
        }
        Ok(())
    }

    /// Sends values from the front of `values`, published together; says how many.
    ///
    /// **Blocking**: until at least one could be sent. Sends what there is room for, so call it again with the rest; an
    /// error means that none was sent.
    ///
    /// ```
    /// let (mut tx, mut rx) = tombolo::pipe::Options::<u64>::new().capacity(4).create()?;
    /// assert_eq!(tx.send_many(&[1, 2, 3, 4, 5])?, 4);
    /// let mut values = [0; 8];
    /// assert_eq!(rx.recv_many(&mut values)?, 4);
    /// assert_eq!(values[..4], [1, 2, 3, 4]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn send_many(&mut self, values: &[T]) -> Result<usize, SendError> {
        loop {
            match self.push_many(values)? {
                0 if !values.is_empty() => self.await_room(None)?,
                count => return Ok(count),
            }
        }
    }

    /// Like [`send_many`](Self::send_many), but never waits: [`Full`](SendError::Full).
    #[inline]
    pub fn try_send_many(&mut self, values: &[T]) -> Result<usize, SendError> {
        match self.push_many(values)? {
            0 if !values.is_empty() => Err(self.refusal()),
            count => Ok(count),
        }
    }

    #[inline]
    fn push(&mut self, value: &T) -> Result<bool, SendError> {
        self.check()?;
        let pushed = self.writer.push(value, self.stores.choose(size_of::<T>()))?;
        if pushed {
            self.published();
        }
        Ok(pushed)
    }

    #[inline]
    fn push_many(&mut self, values: &[T]) -> Result<usize, SendError> {
        self.check()?;
        let count = self.writer.push_many(values, self.stores.choose(size_of_val(values)))?;
        if count > 0 {
            self.published();
        }
        Ok(count)
    }

    #[cold]
    pub(crate) fn await_room(&mut self, deadline: Deadline) -> Result<(), SendError> {
        let position = self.writer.ring.position();
        self.link.wait_for(position, deadline, |effort| {
            let has_room = effort.should_try(|| self.writer.ring.has_news()) && self.writer.ring.room(1)? > 0;
            Ok(has_room.then_some(()))
        })
    }
}

impl Sender<[u8]> {
    /// Sends one message, of any length from 0 up to the pipe's limit. Longer ones than half the ring stream through it
    /// while the receiver reads.
    ///
    /// **Blocking**: while the ring is full, without end; a full ring parks by `futex` as [`WaitStrategy`](crate::WaitStrategy) says.
    /// With room: no system call.
    ///
    /// **Errors**: [`TooLarge`](SendError::TooLarge), [`Closed`](SendError::Closed), [`PeerDied`](SendError::PeerDied),
    /// [`Corrupt`](SendError::Corrupt), [`Forked`](SendError::Forked), [`LockLost`](SendError::LockLost); the message was not sent.
    ///
    /// ```
    /// let (mut tx, mut rx) = tombolo::Options::bytes().create()?;
    /// tx.send(b"")?;
    /// tx.send(b"boundaries are kept")?;
    /// let mut message = Vec::new();
    /// assert_eq!(rx.recv(&mut message)?, 0);
    /// assert_eq!(rx.recv(&mut message)?, 19);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// **Source**: length-prefixed records in Lamport's ring, see `raw/records.rs`.
    #[inline]
    pub fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.send_deadline(message, None)
    }

    /// Like [`send`](Self::send), but waits no longer than `timeout`, then [`TimedOut`](SendError::TimedOut). A large message
    /// that was sent in part is then given up; the receiver drops the part.
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.send_deadline(message, deadline_after(timeout))
    }

    /// Like [`send`](Self::send), but never waits: [`Full`](SendError::Full). A message longer than
    /// [`max_inline_bytes`](Self::max_inline_bytes) cannot be sent without waiting and is [`TooLarge`](SendError::TooLarge) here.
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.check_length(message, self.writer.inline_max())?;
        if self.push(message)? { Ok(()) } else { Err(self.refusal()) }
    }

    /// Like [`send`](Self::send), but waits until `deadline` at most; none is for ever.
    #[inline]
    pub fn send_deadline(&mut self, message: &[u8], deadline: Option<Instant>) -> Result<(), SendError> {
        self.check_length(message, self.limit)?;
        if message.len() as u64 > self.writer.inline_max() {
            return self.send_large(message, deadline);
        }
        while !self.push(message)? {
            let length = message.len() as u64;
            self.await_room(deadline, |writer| Ok(writer.reserve(0, length)?.is_some()))?;
        }
        Ok(())
    }

    /// Sends messages from the front of `messages`, published together; says how many.
    ///
    /// **Blocking**: until at least one could be sent. Sends what there is room for, so call it again with the rest; an
    /// error means that none was sent. A large message goes alone.
    pub fn send_many<B: AsRef<[u8]>>(&mut self, messages: &[B]) -> Result<usize, SendError> {
        self.check()?;
        let mut words = 0;
        let mut count = 0;
        for message in messages {
            let message = message.as_ref();
            if message.len() > self.max_inline_bytes() {
                break;
            }
            let Some(written) = self.writer.write(words, message, self.stores.choose(message.len()))? else { break };
            words += written;
            count += 1;
        }
        match messages.first() {
            Some(first) if count == 0 => self.send(first.as_ref()).map(|()| 1),
            Some(_) => {
                self.writer.ring.publish(words);
                self.published();
                Ok(count)
            }
            None => Ok(0),
        }
    }

    /// The longest message, in bytes, that goes through the ring in one piece.
    pub fn max_inline_bytes(&self) -> usize {
        self.writer.inline_max().min(self.limit) as usize
    }

    #[inline]
    fn check_length(&self, message: &[u8], limit: u64) -> Result<(), SendError> {
        let limit = limit.min(self.limit);
        if message.len() as u64 > limit {
            return Err(SendError::TooLarge { length: message.len(), limit: limit as usize });
        }
        Ok(())
    }

    #[inline]
    fn push(&mut self, message: &[u8]) -> Result<bool, SendError> {
        self.check()?;
        let pushed = self.writer.push(message, self.stores.choose(message.len()))?;
        if pushed {
            self.published();
        }
        Ok(pushed)
    }

    #[cold]
    fn send_large(&mut self, message: &[u8], deadline: Deadline) -> Result<(), SendError> {
        self.check()?;
        while !self.writer.begin_large(message.len() as u64)? {
            self.await_room(deadline, |writer| Ok(writer.ring.room(1)? > 0))?;
        }
        self.published();
        let mut rest = message;
        while !rest.is_empty() {
            self.check()?;
            match self.writer.push_part(rest, self.stores.choose(rest.len()))? {
                Some(count) => {
                    self.published();
                    rest = rest.get(count..).unwrap_or_default();
                }
                None => {
                    let wanted = self.writer.part_words(rest.len());
                    self.await_room(deadline, |writer| Ok(writer.ring.room(wanted)? >= wanted))?;
                }
            }
        }
        Ok(())
    }

    /// Returns when there is room for a message of so many bytes in one record.
    pub(crate) fn await_record(&mut self, length: u64) -> Result<(), SendError> {
        self.await_room(None, |writer| Ok(writer.reserve(0, length)?.is_some()))
    }

    #[cold]
    fn await_room(
        &mut self,
        deadline: Deadline,
        mut has_room: impl FnMut(&mut <[u8] as crate::message::sealed::PipeCodec>::Writer) -> Result<bool, SendError>,
    ) -> Result<(), SendError> {
        let position = self.writer.ring.position() / TYPICAL_RECORD_WORDS;
        self.link.wait_for(position, deadline, |effort| {
            let has_room = effort.should_try(|| self.writer.ring.has_news()) && has_room(&mut self.writer)?;
            Ok(has_room.then_some(()))
        })
    }
}

impl<M: Message + ?Sized> fmt::Debug for Sender<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("link", &self.link).finish_non_exhaustive()
    }
}
