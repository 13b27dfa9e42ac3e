//! The sending endpoint of a pipe of byte messages.

use std::time::{Duration, Instant};

use crate::error::{Result, SendError};
use crate::pipe::connection::Connection;
use crate::pipe::half::SendHalf;
use crate::pipe::peer::peer_methods;
use crate::raw::event_count::EventCount;
use crate::raw::spsc::record_ring::RecordWriter;
use crate::region::words::Mapped;
use crate::sys::clock::Deadline;
use crate::wait::source::{Source, sealed::Watch};
use crate::wait::{Attempt, Timeout};

/// Sends byte messages to one [`ByteReceiver`](crate::pipe::ByteReceiver), in order, each whole.
///
/// A message is published at once and never lost: it is delivered, or the call returns why not.
/// When you drop the sender, the receiver gets what was sent and then
/// [`Closed`](crate::RecvError::Closed).
///
/// The algorithm is Lamport's ring with length-prefixed records (`raw/spsc`).
///
/// A sender may move between threads. A forked child cannot use the sender of its parent
/// ([`SendError::Forked`]).
#[derive(Debug)]
pub struct ByteSender {
    pub(crate) half: SendHalf<RecordWriter<Mapped>>,
    /// The longest message of the pipe.
    limit: u64,
    /// The length of the last message for which a `try_` call found no room.
    refused: u64,
}

impl ByteSender {
    pub(crate) fn new(connection: Connection, ring: usize) -> Result<Self> {
        let limit = connection.region().layout().max_message_bytes();
        Ok(Self { half: SendHalf::new(connection, ring)?, limit, refused: 0 })
    }

    /// Sends one message, of any length from 0 up to the limit of the pipe: a slice or a vector of
    /// bytes, or a string.
    ///
    /// A message longer than [`max_inline_bytes`](Self::max_inline_bytes) streams through the ring
    /// while the receiver reads it.
    ///
    /// # Blocking
    /// Blocks while the ring is full, as the [`WaitStrategy`](crate::WaitStrategy) says. If there
    /// is room, it makes no system call, unless the receiver sleeps.
    ///
    /// # Errors
    /// [`TooLarge`](SendError::TooLarge), [`Closed`](SendError::Closed),
    /// [`PeerDied`](SendError::PeerDied) if the receiver was killed and the ring is full,
    /// [`LockLost`](SendError::LockLost), [`NameRemoved`](SendError::NameRemoved),
    /// [`Corrupt`](SendError::Corrupt) or [`Forked`](SendError::Forked). The message was not sent.
    ///
    /// # Examples
    /// ```
    /// let (mut tx, mut rx) = tombolo::pipe::Options::bytes().create()?;
    /// tx.send(b"")?;
    /// tx.send("boundaries are kept")?;
    /// let mut message = Vec::new();
    /// assert_eq!(rx.recv(&mut message)?, 0);
    /// assert_eq!(rx.recv(&mut message)?, 19);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn send(&mut self, message: impl AsRef<[u8]>) -> Result<(), SendError> {
        self.send_within(message.as_ref(), Timeout::UNLIMITED)
    }

    /// Like [`send`](Self::send), but returns [`Full`](SendError::Full) instead of blocking.
    ///
    /// A message longer than [`max_inline_bytes`](Self::max_inline_bytes) cannot be sent without
    /// blocking. It is [`TooLarge`](SendError::TooLarge) here.
    pub fn try_send(&mut self, message: impl AsRef<[u8]>) -> Result<(), SendError> {
        let message = message.as_ref();
        self.check_length(message, self.max_inline_bytes() as u64)?;
        self.send_outlined(message, Timeout::NonBlocking)
    }

    /// Like [`send`](Self::send), but returns [`TimedOut`](SendError::TimedOut) after `timeout`.
    /// The receiver then drops the part of a large message that was sent already.
    pub fn send_timeout(&mut self, message: impl AsRef<[u8]>, timeout: Duration) -> Result<(), SendError> {
        self.send_outlined(message.as_ref(), Timeout::after(timeout))
    }

    /// Like [`send_timeout`](Self::send_timeout), but returns at `deadline`. With `None` it never
    /// times out.
    pub fn send_deadline(&mut self, message: impl AsRef<[u8]>, deadline: Option<Instant>) -> Result<(), SendError> {
        self.send_outlined(message.as_ref(), Timeout::At(deadline))
    }

    /// Sends messages from the front of `messages` and publishes them together. Returns how many.
    ///
    /// # Blocking
    /// Blocks until at least one message could be sent. It sends as many as there is room for: call
    /// it again with the rest. A message longer than [`max_inline_bytes`](Self::max_inline_bytes)
    /// is sent alone.
    ///
    /// # Errors
    /// Those of [`send`](Self::send). No message was sent.
    pub fn send_many<B: AsRef<[u8]>>(&mut self, messages: &[B]) -> Result<usize, SendError> {
        self.half.check()?;
        let mut words = 0;
        let mut count = 0;
        for message in messages {
            let message = message.as_ref();
            if message.len() > self.max_inline_bytes() {
                break;
            }
            let stores = self.half.stores.choose(message.len());
            let Some(written) = self.half.writer.write(words, message, stores)? else { break };
            words += written;
            count += 1;
        }
        match messages.first() {
            Some(first) if count == 0 => self.send(first.as_ref()).map(|()| 1),
            Some(_) => {
                self.half.writer.ring.publish(words);
                self.half.connection.peer_event.notify(1);
                Ok(count)
            }
            None => Ok(0),
        }
    }

    /// The longest message, in bytes, that goes through the ring in one piece.
    #[inline]
    pub fn max_inline_bytes(&self) -> usize {
        self.half.writer.max_inline_bytes().min(self.limit) as usize
    }

    peer_methods!(half, [half]);

    /// Leaves `send` the only place in the caller's crate where the next function is called, so
    /// that it is inlined there.
    #[inline(never)]
    fn send_outlined(&mut self, message: &[u8], timeout: Timeout) -> Result<(), SendError> {
        self.send_within(message, timeout)
    }

    #[inline]
    fn send_within(&mut self, message: &[u8], timeout: Timeout) -> Result<(), SendError> {
        self.check_length(message, self.limit)?;
        if message.len() as u64 > self.half.writer.max_inline_bytes() {
            return self.send_large(message, timeout);
        }
        while !self.send_fast(message)? {
            self.wait_for_room(message.len() as u64, timeout)?;
        }
        Ok(())
    }

    #[inline]
    fn check_length(&self, message: &[u8], limit: u64) -> Result<(), SendError> {
        if message.len() as u64 > limit {
            return Err(SendError::TooLarge { length: message.len(), limit: limit as usize });
        }
        Ok(())
    }

    /// Sends the message in one record if there is room.
    #[inline]
    fn send_fast(&mut self, message: &[u8]) -> Result<bool, SendError> {
        self.half.check()?;
        let has_room = self.half.writer.push(message, self.half.stores.choose(message.len()))?;
        if has_room {
            self.half.connection.peer_event.notify(1);
        }
        Ok(has_room)
    }

    /// Blocks until there is room for a message of this length in one record.
    #[cold]
    pub(crate) fn wait_for_room(&mut self, length: u64, timeout: Timeout) -> Result<(), SendError> {
        self.refused = length;
        self.half.wait_for_room(timeout, |writer| Ok(writer.reserve(0, length)?.is_some()))
    }

    /// Sends a message in fragments, while the receiver reads them.
    #[cold]
    fn send_large(&mut self, message: &[u8], timeout: Timeout) -> Result<(), SendError> {
        self.half.check()?;
        while !self.half.writer.begin_fragmented(message.len() as u64)? {
            self.half.wait_for_room(timeout, |writer| Ok(writer.ring.writable(1)? > 0))?;
        }
        self.half.connection.peer_event.notify(1);
        let mut rest = message;
        while !rest.is_empty() {
            self.half.check()?;
            match self.half.writer.push_fragment(rest, self.half.stores.choose(rest.len()))? {
                Some(count) => {
                    self.half.connection.peer_event.notify(1);
                    rest = rest.get(count..).unwrap_or_default();
                }
                None => {
                    let wanted = self.half.writer.fragment_words(rest.len());
                    self.half.wait_for_room(timeout, |writer| Ok(writer.ring.writable(wanted)? >= wanted))?;
                }
            }
        }
        Ok(())
    }
}

impl Source for ByteSender {}

impl Watch for ByteSender {
    fn is_ready(&mut self, attempt: Attempt) -> bool {
        let Self { half, refused, .. } = self;
        let is_ready = half.is_ready(attempt, |writer| {
            if *refused > writer.max_inline_bytes() {
                return Ok(writer.ring.writable(1)? > 0);
            }
            Ok(writer.reserve(0, *refused)?.is_some())
        });
        if is_ready && attempt == Attempt::Full {
            *refused = 0; // the next message may be another one
        }
        is_ready
    }

    fn check_liveness(&mut self, deadline: Deadline) {
        self.half.check_liveness(deadline);
    }

    fn event(&self, index: usize) -> Option<&EventCount<Mapped>> {
        self.half.event(index)
    }

    fn before_sleep(&mut self) {
        self.half.before_sleep();
    }
}
