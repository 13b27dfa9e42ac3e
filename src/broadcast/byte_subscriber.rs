//! The subscriber of a broadcast of byte messages.

use std::time::{Duration, Instant};

use crate::broadcast::BytePublisher;
use crate::broadcast::membership::join;
use crate::broadcast::slots::{Buffer, Front, SLOTS_PER_CLOCK_CHECK, load_front, timed_out};
use crate::broadcast::state::Role;
use crate::broadcast::subscribe_half::SubscribeHalf;
use crate::broadcast::subscriber::subscriber_methods;
use crate::error::{RecvError, Result};
use crate::message::{Messages, sealed::Receive};
use crate::options::expect_joined;
use crate::raw::Corrupt;
use crate::region::lifecycle::Registration;
use crate::wait::source::source;
use crate::wait::{Timeout, WaitStrategy};

/// Receives every byte message of a broadcast, from when it joined.
///
/// See [`Subscriber`](crate::broadcast::Subscriber), which does the same with values.
#[derive(Debug)]
pub struct ByteSubscriber {
    pub(super) half: SubscribeHalf,
    max_message_bytes: u64,
}

/// Where a message is.
pub(super) enum Received {
    Copied(usize),
    InFrame { frame: u64, length: usize },
}

impl ByteSubscriber {
    pub(super) fn new(registration: Registration, wait: WaitStrategy, waits_for_successor: bool) -> Self {
        let half = SubscribeHalf::new(registration, wait, waits_for_successor);
        Self { max_message_bytes: half.state().layout.max_message_bytes, half }
    }

    /// Receives one message into `message`, whose old content it replaces. Returns its length in
    /// bytes.
    ///
    /// # Blocking
    /// As [`Subscriber::recv`](crate::broadcast::Subscriber::recv).
    ///
    /// # Errors
    /// Those of [`Subscriber::recv`](crate::broadcast::Subscriber::recv), and
    /// [`OutOfMemory`](RecvError::OutOfMemory). [`Lagged`](RecvError::Lagged) counts slots. After
    /// an error the content of `message` is unspecified.
    pub fn recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.recv_within(message, Timeout::UNLIMITED)
    }

    /// Like [`recv`](Self::recv), but returns [`Empty`](RecvError::Empty) instead of blocking.
    pub fn try_recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.recv_within(message, Timeout::NonBlocking)
    }

    /// Like [`recv`](Self::recv), but returns [`TimedOut`](RecvError::TimedOut) after `timeout`.
    pub fn recv_timeout(&mut self, message: &mut Vec<u8>, timeout: Duration) -> Result<usize, RecvError> {
        self.recv_within(message, Timeout::after(timeout))
    }

    /// Like [`recv`](Self::recv), but returns [`TimedOut`](RecvError::TimedOut) at `deadline`. With
    /// `None` it never does.
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
    /// length that is needed. The message can be received again then.
    pub fn recv_into(&mut self, mut buffer: &mut [u8]) -> Result<usize, RecvError> {
        self.recv_within(&mut buffer, Timeout::UNLIMITED)
    }

    /// Like [`recv_into`](Self::recv_into), but returns [`Empty`](RecvError::Empty) instead of
    /// blocking.
    pub fn try_recv_into(&mut self, mut buffer: &mut [u8]) -> Result<usize, RecvError> {
        self.recv_within(&mut buffer, Timeout::NonBlocking)
    }

    /// Receives one message into each of `messages`, as long as messages are there. Returns how
    /// many.
    ///
    /// # Blocking
    /// Blocks until there is at least one.
    ///
    /// # Errors
    /// Those of [`recv`](Self::recv), if they concern the first message. Otherwise the next call
    /// returns them.
    pub fn recv_many(&mut self, messages: &mut [Vec<u8>]) -> Result<usize, RecvError> {
        let mut timeout = Timeout::UNLIMITED;
        let mut count = 0;
        for message in messages {
            if count > 0 && !self.half.poll(Timeout::NonBlocking).unwrap_or(false) {
                break;
            }
            match self.recv_within(message, timeout) {
                Ok(_) => count += 1,
                Err(error) if count == 0 => return Err(error),
                Err(error) => {
                    // The other errors come again by themselves.
                    if matches!(error, RecvError::Lagged { .. } | RecvError::OutOfMemory) {
                        self.half.postponed = Some(error);
                    }
                    break;
                }
            }
            timeout = Timeout::NonBlocking;
        }
        Ok(count)
    }

    subscriber_methods!(BytePublisher);

    fn recv_within(&mut self, buffer: &mut impl Buffer, timeout: Timeout) -> Result<usize, RecvError> {
        if let Some(error) = self.half.postponed.take() {
            return Err(error);
        }
        let (frame, length) = match self.recv_front(buffer, timeout)? {
            Received::Copied(length) => return Ok(length),
            Received::InFrame { frame, length } => (frame, length),
        };
        match buffer.reserve(length) {
            Ok(target) => self.half.lease(frame)?.load(target),
            Err(Front::BufferTooSmall { needed }) => return Err(RecvError::BufferTooSmall { needed }), // it stays
            Err(_) => {
                self.half.lease(frame)?; // it is dropped
                return Err(RecvError::OutOfMemory);
            }
        }
        Ok(length)
    }

    /// Receives the next message into `buffer` if it lies in slots, or finds it in a frame, where
    /// it stays.
    pub(super) fn recv_front(&mut self, buffer: &mut impl Buffer, timeout: Timeout) -> Result<Received, RecvError> {
        let (max_length, mut rest) = (self.max_message_bytes, None);
        loop {
            return match self.half.read(1, timeout, |published| load_front(&published, max_length, buffer))? {
                Front::Message(length) => Ok(Received::Copied(length)),
                Front::Frame { frame, length } => Ok(Received::InFrame { frame, length }),
                Front::Rest => {
                    let left = rest.get_or_insert_with(|| self.half.state().layout.max_rest());
                    if *left == 0 {
                        return Err(Corrupt.into());
                    }
                    *left -= 1;
                    // A long rest must not take the call past its deadline.
                    if left.is_multiple_of(SLOTS_PER_CLOCK_CHECK) && timeout.is_past() {
                        return Err(timed_out(timeout));
                    }
                    continue;
                }
                Front::OutOfMemory => Err(RecvError::OutOfMemory),
                Front::BufferTooSmall { needed } => Err(RecvError::BufferTooSmall { needed }),
            };
        }
    }
}

impl Receive for ByteSubscriber {
    type Message = Vec<u8>;

    fn receive(&mut self, timeout: Timeout) -> Result<Vec<u8>, RecvError> {
        let mut message = Vec::new();
        self.recv_within(&mut message, timeout)?;
        Ok(message)
    }
}

impl IntoIterator for ByteSubscriber {
    type Item = Result<Vec<u8>, RecvError>;
    type IntoIter = Messages<Self>;

    fn into_iter(self) -> Messages<Self> {
        Messages::blocking(self)
    }
}

impl IntoIterator for &mut ByteSubscriber {
    type Item = Result<Vec<u8>, RecvError>;
    type IntoIter = Messages<Self>;

    fn into_iter(self) -> Messages<Self> {
        Messages::blocking(self)
    }
}

source!([] ByteSubscriber, half);
