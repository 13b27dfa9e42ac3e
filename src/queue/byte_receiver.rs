//! The receiving half of a queue of byte messages.

use std::slice;
use std::time::{Duration, Instant};

use crate::error::{RecvError, Result, SendError, TaskDoneError};
use crate::message::{Messages, sealed::Receive};
use crate::primitive::AtomicU64;
use crate::queue::byte_sender::ByteSender;
use crate::queue::dead_letter::DeadLetters;
use crate::queue::half::{Half, queue_methods};
use crate::queue::participant::Role;
use crate::queue::payload::{PayloadError, PayloadPool, TakenMessage};
use crate::queue::peer::peer_methods;
use crate::queue::receiver::receiver_methods;
use crate::queue::recv_half::RecvHalf;
use crate::queue::task::Task;
use crate::queue::task_iter::{Tasks, sealed::FinishTask};
use crate::raw::pool::BlockRef;
use crate::region::Region;
use crate::region::lifecycle::Registration;
use crate::wait::source::source;
use crate::wait::{Timeout, WaitStrategy};

/// Receives byte messages from a queue, together with any number of other receivers.
///
/// Otherwise it is like a [`Receiver`](crate::queue::Receiver) of values.
#[derive(Debug)]
pub struct ByteReceiver {
    pub(super) inner: RecvHalf,
}

impl ByteReceiver {
    pub(crate) fn new(registration: Registration, wait: WaitStrategy, reports_lost_messages: bool) -> Self {
        Self { inner: RecvHalf::new(registration, wait, reports_lost_messages) }
    }

    receiver_methods!(ByteSender);

    /// Receives one message into `message`, and replaces its content. Returns the length in bytes.
    ///
    /// # Blocking
    /// Blocks while the queue is empty, as the [`WaitStrategy`](crate::WaitStrategy) says. While
    /// there are messages, it makes no system call for one up to the length of a block, and two for
    /// a longer one. It allocates only if `message` has not enough capacity.
    ///
    /// # Errors
    /// As for [values](crate::queue::Receiver::recv), and [`OutOfMemory`](RecvError::OutOfMemory).
    /// Then the message is gone.
    #[inline]
    pub fn recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.recv_within(message, || Timeout::UNLIMITED)
    }

    /// Like [`recv`](Self::recv), but returns [`Empty`](RecvError::Empty) instead of blocking.
    ///
    /// The first call that fails after successful ones pauses for about a microsecond, see
    /// [`WaitStrategy`](crate::WaitStrategy).
    #[inline]
    pub fn try_recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.recv_within(message, || Timeout::NonBlocking)
    }

    /// Like [`recv`](Self::recv), but returns [`TimedOut`](RecvError::TimedOut) after `timeout`.
    #[inline]
    pub fn recv_timeout(&mut self, message: &mut Vec<u8>, timeout: Duration) -> Result<usize, RecvError> {
        self.recv_within(message, || Timeout::after(timeout))
    }

    /// Like [`recv`](Self::recv), but returns [`TimedOut`](RecvError::TimedOut) at `deadline`. With
    /// `None` it never does.
    #[inline]
    pub fn recv_deadline(&mut self, message: &mut Vec<u8>, deadline: Option<Instant>) -> Result<usize, RecvError> {
        self.recv_within(message, || Timeout::At(deadline))
    }

    /// Receives one message into each of `messages`, as many as there are, up to 63 at once.
    /// Returns how many.
    ///
    /// # Blocking
    /// Blocks until there is at least one.
    ///
    /// # Errors
    /// As for [`recv`](Self::recv).
    pub fn recv_many(&mut self, messages: &mut [Vec<u8>]) -> Result<usize, RecvError> {
        self.recv_batch(messages, Timeout::UNLIMITED)
    }

    /// Returns the messages that were delivered as often as the queue allows. See
    /// [`Receiver::dead_letters`](crate::queue::Receiver::dead_letters).
    pub fn dead_letters(&mut self) -> Result<DeadLetters<'_, Vec<u8>>, RecvError> {
        DeadLetters::of(&self.inner.half, read_dead_letter)
    }

    #[inline]
    fn recv_within(&mut self, message: &mut Vec<u8>, timeout: impl FnOnce() -> Timeout) -> Result<usize, RecvError> {
        match self.inner.pop_fast(|region, pool, payload| pool.read(region, payload, message))? {
            Some(Ok(false)) => {}
            Some(Ok(true)) => self.inner.half.participant.notify_block_freed(),
            Some(Err(reason)) => {
                self.inner.count_unreadable(1);
                return Err(reason.into());
            }
            None => return self.recv_slow(message, timeout()),
        }
        Ok(message.len())
    }

    /// Receives one message, and copies it only if it does not lie in a block.
    pub(super) fn take(&mut self, timeout: Timeout) -> Result<TakenMessage, RecvError> {
        let index = self.inner.half.participant.index();
        let taken = match self.inner.pop_fast(|region, pool, payload| pool.take(region, index, payload))? {
            Some(taken) => taken,
            None => {
                let mut taken = Err(PayloadError::Corrupt);
                let take = |region: &Region, pool: &PayloadPool, _, payload: &[AtomicU64]| {
                    taken = pool.take(region, index, payload);
                };
                self.inner.pop_blocking(1, timeout, take)?;
                taken
            }
        };
        if let Ok(TakenMessage::Copied { has_freed_extent: true, .. }) = taken {
            self.inner.half.participant.notify_block_freed();
        }
        if taken.is_err() {
            self.inner.count_unreadable(1);
        }
        Ok(taken?)
    }

    #[cold]
    #[inline(never)]
    fn recv_slow(&mut self, message: &mut Vec<u8>, timeout: Timeout) -> Result<usize, RecvError> {
        if self.inner.half.redelivers() {
            self.recv_held(message, timeout)?;
        } else {
            self.recv_batch(slice::from_mut(message), timeout)?;
        }
        Ok(message.len())
    }

    #[inline]
    fn recv_held(&mut self, message: &mut Vec<u8>, timeout: Timeout) -> Result<(), RecvError> {
        self.inner.receive_held(timeout, |region, pool, block| Ok(pool.copy_message(region, block, message)?))
    }

    fn recv_each(&mut self, messages: &mut [Vec<u8>], timeout: Timeout) -> Result<usize, RecvError> {
        let mut received = 0;
        for message in messages {
            let timeout = if received == 0 { timeout } else { Timeout::NonBlocking };
            match self.recv_held(message, timeout) {
                Ok(()) => received += 1,
                Err(reason) if received == 0 => return Err(reason),
                Err(reason) => {
                    self.inner.defer(reason);
                    break;
                }
            }
        }
        Ok(received)
    }

    #[inline]
    fn recv_batch(&mut self, messages: &mut [Vec<u8>], timeout: Timeout) -> Result<usize, RecvError> {
        if self.inner.half.redelivers() {
            return self.recv_each(messages, timeout);
        }
        let mut has_freed_block = false;
        let mut read = 0;
        let mut failed = None;
        let received = self.inner.pop_blocking(messages.len() as u64, timeout, |region, pool, _, payload| {
            let Some(message) = messages.get_mut(read) else { return };
            match pool.read(region, payload, message) {
                Ok(had_block) => {
                    has_freed_block |= had_block;
                    read += 1;
                }
                Err(reason) => failed = Some(reason),
            }
        })?;
        if has_freed_block {
            self.inner.half.participant.notify_block_freed();
        }
        if failed.is_some() {
            self.inner.count_unreadable(received - read as u64);
        }
        match failed {
            Some(reason) if read == 0 => Err(reason.into()),
            _ => Ok(read),
        }
    }
}

pub(super) fn read_dead_letter(half: &Half, letter: BlockRef) -> Result<Vec<u8>, RecvError> {
    let mut message = Vec::new();
    half.payload.copy_message(half.participant.region(), letter, &mut message)?;
    Ok(message)
}

impl Receive for ByteReceiver {
    type Message = Vec<u8>;

    fn receive(&mut self, timeout: Timeout) -> Result<Vec<u8>, RecvError> {
        let mut message = Vec::new();
        self.recv_within(&mut message, || timeout)?;
        Ok(message)
    }
}

impl FinishTask for ByteReceiver {
    #[inline]
    fn finish_task(&mut self) -> Result<(), TaskDoneError> {
        self.inner.finish_last_task()
    }

    fn give_back_task(&mut self) {
        self.inner.give_back_last_task();
    }

    fn deliveries(&self) -> u32 {
        self.inner.deliveries()
    }
}

impl IntoIterator for ByteReceiver {
    type Item = Result<Vec<u8>, RecvError>;
    type IntoIter = Messages<Self>;

    /// See [`iter`](ByteReceiver::iter).
    fn into_iter(self) -> Messages<Self> {
        Messages::blocking(self)
    }
}

impl IntoIterator for &mut ByteReceiver {
    type Item = Result<Vec<u8>, RecvError>;
    type IntoIter = Messages<Self>;

    /// See [`iter`](ByteReceiver::iter).
    fn into_iter(self) -> Messages<Self> {
        Messages::blocking(self)
    }
}

source!([] ByteReceiver, inner);
