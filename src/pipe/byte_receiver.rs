//! The receiving endpoint of a pipe of byte messages.

use std::time::{Duration, Instant};

use crate::error::{RecvError, Result};
use crate::message::Messages;
use crate::message::sealed::Receive;
use crate::pipe::codec::{Progress, Reassembler, RecvBuffer};
use crate::pipe::half::RecvHalf;
use crate::pipe::peer::peer_methods;
use crate::wait::Timeout;
use crate::wait::source::source;

/// Fragments that a call reads at most if it must not block: a peer could send them as fast as the
/// call reads them.
const MAX_FRAGMENTS_PER_TRY: usize = 1024;

/// Receives byte messages from one [`ByteSender`](crate::pipe::ByteSender), in order, each whole
/// and once.
///
/// When the sender has left or died, you first receive all that it sent. After that each call
/// returns [`RecvError::Closed`] or [`RecvError::PeerDied`] at once, until another sender joins:
/// see [`Receiver`](crate::pipe::Receiver#how-a-stream-ends).
///
/// The algorithm is Lamport's ring with length-prefixed records (`raw/spsc`).
///
/// A receiver may move between threads. A forked child cannot use the receiver of its parent
/// ([`RecvError::Forked`]).
#[derive(Debug)]
pub struct ByteReceiver {
    pub(crate) half: RecvHalf<Reassembler>,
}

impl ByteReceiver {
    /// Receives one message into `message`, whose old content it replaces. Returns its length in
    /// bytes.
    ///
    /// # Blocking
    /// Blocks until a whole message is there, as the [`WaitStrategy`](crate::WaitStrategy) says. If
    /// one is there, it makes no system call, unless the sender sleeps, and it does not allocate
    /// once `message` is large enough.
    ///
    /// # Errors
    /// [`Closed`](RecvError::Closed), [`PeerDied`](RecvError::PeerDied),
    /// [`MessageLost`](RecvError::MessageLost), [`LockLost`](RecvError::LockLost),
    /// [`NameRemoved`](RecvError::NameRemoved), [`OutOfMemory`](RecvError::OutOfMemory),
    /// [`Corrupt`](RecvError::Corrupt) or [`Forked`](RecvError::Forked).
    #[inline]
    pub fn recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.recv_within(message, Timeout::UNLIMITED)
    }

    /// Like [`recv`](Self::recv), but returns [`Empty`](RecvError::Empty) instead of blocking.
    pub fn try_recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.recv_within(message, Timeout::NonBlocking)
    }

    /// Like [`recv`](Self::recv), but returns [`TimedOut`](RecvError::TimedOut) after `timeout`.
    /// The part of a large message that has come by then is kept for the next call.
    pub fn recv_timeout(&mut self, message: &mut Vec<u8>, timeout: Duration) -> Result<usize, RecvError> {
        self.recv_within(message, Timeout::after(timeout))
    }

    /// Like [`recv_timeout`](Self::recv_timeout), but returns at `deadline`. With `None` it never
    /// times out.
    pub fn recv_deadline(&mut self, message: &mut Vec<u8>, deadline: Option<Instant>) -> Result<usize, RecvError> {
        self.recv_within(message, Timeout::At(deadline))
    }

    /// Receives one message into `buffer`. Returns its length in bytes.
    ///
    /// # Blocking
    /// As [`recv`](Self::recv).
    ///
    /// # Errors
    /// Those of [`recv`](Self::recv), and [`BufferTooSmall`](RecvError::BufferTooSmall) with the
    /// length that is needed. The message stays in the pipe then.
    ///
    /// # Examples
    /// ```
    /// use tombolo::RecvError;
    ///
    /// let (mut tx, mut rx) = tombolo::pipe::Options::bytes().create()?;
    /// tx.send(b"twelve bytes")?;
    /// assert_eq!(rx.recv_into(&mut [0; 4]), Err(RecvError::BufferTooSmall { needed: 12 }));
    /// let mut buffer = [0; 16];
    /// assert_eq!(rx.recv_into(&mut buffer), Ok(12));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn recv_into(&mut self, mut buffer: &mut [u8]) -> Result<usize, RecvError> {
        self.recv_within(&mut buffer, Timeout::UNLIMITED)
    }

    /// Like [`recv_into`](Self::recv_into), but returns [`Empty`](RecvError::Empty) instead of
    /// blocking.
    pub fn try_recv_into(&mut self, mut buffer: &mut [u8]) -> Result<usize, RecvError> {
        self.recv_within(&mut buffer, Timeout::NonBlocking)
    }

    /// Like [`recv_into`](Self::recv_into), but returns [`TimedOut`](RecvError::TimedOut) after
    /// `timeout`.
    pub fn recv_into_timeout(&mut self, mut buffer: &mut [u8], timeout: Duration) -> Result<usize, RecvError> {
        self.recv_within(&mut buffer, Timeout::after(timeout))
    }

    /// Like [`recv_into`](Self::recv_into), but returns [`TimedOut`](RecvError::TimedOut) at
    /// `deadline`. With `None` it never does.
    pub fn recv_into_deadline(&mut self, mut buffer: &mut [u8], deadline: Option<Instant>) -> Result<usize, RecvError> {
        self.recv_within(&mut buffer, Timeout::At(deadline))
    }

    /// Receives one message into each of `messages`, as long as messages are there. Returns how
    /// many.
    ///
    /// # Blocking
    /// Blocks until there is at least one message.
    ///
    /// # Errors
    /// Those of [`recv`](Self::recv). No message was received then.
    pub fn recv_many(&mut self, messages: &mut [Vec<u8>]) -> Result<usize, RecvError> {
        let Some((first, rest)) = messages.split_first_mut() else { return Ok(0) };
        self.recv(first)?;
        let mut count = 1;
        for message in rest {
            // The next call returns an end, or an error.
            match self.step(message) {
                Ok(Progress::Done(_)) => count += 1,
                _ => break,
            }
        }
        Ok(count)
    }

    /// Blocks until there is something to receive: a message, the beginning of one that streams
    /// through the ring, or the end of the sender, which the next `recv` returns. Returns false
    /// when `timeout` has passed.
    ///
    /// # Blocking
    /// Up to `timeout`.
    ///
    /// # Errors
    /// [`Corrupt`](RecvError::Corrupt), [`NameRemoved`](RecvError::NameRemoved) or
    /// [`Forked`](RecvError::Forked).
    pub fn poll(&mut self, timeout: Duration) -> Result<bool, RecvError> {
        self.half.poll(timeout)
    }

    /// Returns an iterator that blocks for each message, until the sender has left. See
    /// [`Messages`] for other ends.
    pub fn iter(&mut self) -> Messages<&mut Self> {
        Messages::blocking(self)
    }

    /// Returns an iterator over the messages that are there already.
    pub fn try_iter(&mut self) -> Messages<&mut Self> {
        Messages::non_blocking(self)
    }

    peer_methods!(half, [half]);

    #[inline]
    fn recv_within(&mut self, buffer: &mut impl RecvBuffer, timeout: Timeout) -> Result<usize, RecvError> {
        for step in 1.. {
            match (self.step(buffer)?, timeout) {
                (Progress::Done(length), _) => return Ok(length),
                (_, Timeout::NonBlocking) if step >= MAX_FRAGMENTS_PER_TRY => break,
                (Progress::Empty, _) => self.half.wait_for_message(timeout)?,
                // A peer could send fragments without end.
                (Progress::More, Timeout::At(_)) if timeout.is_past() => return Err(RecvError::TimedOut),
                (Progress::More, _) => {}
            }
        }
        Err(RecvError::Empty)
    }

    /// Reads one record.
    #[inline]
    fn step(&mut self, buffer: &mut impl RecvBuffer) -> Result<Progress, RecvError> {
        self.half.check()?;
        let progress = self.half.reader.step(buffer);
        if progress != Ok(Progress::Empty) {
            self.half.connection.peer_event.notify(1);
        }
        progress
    }
}

source!([] ByteReceiver, half);

impl Receive for ByteReceiver {
    type Message = Vec<u8>;

    fn receive(&mut self, timeout: Timeout) -> Result<Vec<u8>, RecvError> {
        let mut message = Vec::new();
        self.recv_within(&mut message, timeout)?;
        Ok(message)
    }
}

impl IntoIterator for ByteReceiver {
    type Item = Result<Vec<u8>, RecvError>;
    type IntoIter = Messages<Self>;

    fn into_iter(self) -> Messages<Self> {
        Messages::blocking(self)
    }
}

impl IntoIterator for &mut ByteReceiver {
    type Item = Result<Vec<u8>, RecvError>;
    type IntoIter = Messages<Self>;

    fn into_iter(self) -> Messages<Self> {
        Messages::blocking(self)
    }
}
