//! The sending half of a queue of byte messages.

use std::time::{Duration, Instant};

use crate::error::{JoinError, RecvError, Result, SendError};
use crate::primitive::WORD;
use crate::queue::byte_receiver::{ByteReceiver, read_dead_letter};
use crate::queue::dead_letter::DeadLetters;
use crate::queue::half::{Half, queue_methods};
use crate::queue::owned_block::OwnedBlock;
use crate::queue::participant::{Role, WaitFor};
use crate::queue::payload::{PayloadHeader, PayloadPool};
use crate::queue::peer::peer_methods;
use crate::queue::sender::sender_methods;
use crate::raw::mpmc::MAX_BATCH;
use crate::region::lifecycle::Registration;
use crate::wait::source::source;
use crate::wait::{Timeout, WaitStrategy};

/// Sends byte messages of any length into a queue, together with any number of other senders.
///
/// Otherwise it is like a [`Sender`](crate::queue::Sender) of values.
#[derive(Debug)]
pub struct ByteSender {
    pub(super) half: Half,
}

impl ByteSender {
    fn from_half(half: Half) -> Self {
        Self { half }
    }

    sender_methods!(ByteReceiver);

    /// Returns the length of the longest message, in bytes.
    pub fn max_message_bytes(&self) -> usize {
        self.half.payload.max_message_bytes()
    }

    /// Sends one message: a slice or a vector of bytes, or a string.
    ///
    /// # Blocking
    /// Blocks while the queue is full, or no block is free that the message fits into, as the
    /// [`WaitStrategy`](crate::WaitStrategy) says. Otherwise it makes no system call for a message
    /// up to the length of a block, and one or two for a longer one.
    ///
    /// # Errors
    /// As for [values](crate::queue::Sender::send), and
    /// - [`TooLarge`](SendError::TooLarge): it is longer than
    ///   [`max_message_bytes`](Self::max_message_bytes).
    /// - [`OutOfMemory`](SendError::OutOfMemory): there is no memory for a message that is longer
    ///   than a block.
    #[inline]
    pub fn send(&mut self, message: impl AsRef<[u8]>) -> Result<(), SendError> {
        self.send_within(message.as_ref(), || Timeout::UNLIMITED)
    }

    /// Like [`send`](Self::send), but returns [`Full`](SendError::Full) instead of blocking.
    /// [`Stats::shortage`](crate::queue::Stats::shortage) tells whether the ring is full or the
    /// memory for messages of that length.
    ///
    /// The first call that fails after successful ones pauses for about a microsecond, see
    /// [`WaitStrategy`](crate::WaitStrategy).
    #[inline]
    pub fn try_send(&mut self, message: impl AsRef<[u8]>) -> Result<(), SendError> {
        self.send_within(message.as_ref(), || Timeout::NonBlocking)
    }

    /// Like [`send`](Self::send), but returns [`TimedOut`](SendError::TimedOut) after `timeout`.
    #[inline]
    pub fn send_timeout(&mut self, message: impl AsRef<[u8]>, timeout: Duration) -> Result<(), SendError> {
        self.send_within(message.as_ref(), || Timeout::after(timeout))
    }

    /// Like [`send`](Self::send), but returns [`TimedOut`](SendError::TimedOut) at `deadline`. With
    /// `None` it never does.
    #[inline]
    pub fn send_deadline(&mut self, message: impl AsRef<[u8]>, deadline: Option<Instant>) -> Result<(), SendError> {
        self.send_within(message.as_ref(), || Timeout::At(deadline))
    }

    /// Returns the messages that were delivered as often as the queue allows. See
    /// [`Receiver::dead_letters`](crate::queue::Receiver::dead_letters).
    pub fn dead_letters(&mut self) -> Result<DeadLetters<'_, Vec<u8>>, RecvError> {
        DeadLetters::of(&self.half, read_dead_letter)
    }

    /// Sends messages from the front of `messages`. Returns how many were sent.
    ///
    /// Messages that fit into slots are sent together, up to 63 at once: no message of another
    /// sender comes between them. A longer one is sent alone, and so is every message of a queue
    /// that [redelivers](crate::queue#redelivery). Call it again with the rest.
    ///
    /// # Blocking
    /// Blocks until at least one could be sent.
    ///
    /// # Errors
    /// As for [`send`](Self::send). Nothing was sent.
    pub fn send_many<B: AsRef<[u8]>>(&mut self, messages: &[B]) -> Result<usize, SendError> {
        if self.half.redelivers() {
            return messages.first().map_or(Ok(0), |first| self.send(first).map(|()| 1));
        }
        let inline_bytes = self.half.payload.inline_bytes();
        // Here and not while the slots are claimed: `as_ref` is the caller's code.
        let mut batch = [&[][..]; MAX_BATCH as usize];
        let mut count = 0;
        for (entry, message) in batch.iter_mut().zip(messages) {
            *entry = message.as_ref();
            if entry.len() > inline_bytes {
                break;
            }
            count += 1;
        }
        match batch.get(..count) {
            Some(batch @ [_, ..]) => {
                let sent = self.half.push_blocking(count as u64, Timeout::UNLIMITED, |index, payload| {
                    if let Some(message) = batch.get(index as usize) {
                        PayloadPool::write_inline(message, payload);
                    }
                })?;
                Ok(sent as usize)
            }
            _ => match batch.first() {
                Some(long) if !messages.is_empty() => self.send(long).map(|()| 1),
                _ => Ok(0),
            },
        }
    }

    #[inline]
    fn send_within(&mut self, message: &[u8], timeout: impl FnOnce() -> Timeout) -> Result<(), SendError> {
        if message.len() > self.half.payload.inline_bytes() {
            return self.send_pooled(message, timeout());
        }
        let words = 1 + message.len().div_ceil(WORD);
        let sent = self.half.push_fast(words, |payload| PayloadPool::write_inline(message, payload))?;
        if sent { Ok(()) } else { self.send_slow(PayloadHeader::inline(message), message, timeout()) }
    }

    #[inline(never)]
    fn send_pooled(&mut self, message: &[u8], timeout: Timeout) -> Result<(), SendError> {
        let limit = self.max_message_bytes();
        if message.len() > limit {
            return Err(SendError::TooLarge { length: message.len(), limit });
        }
        let Half { participant, payload, .. } = &mut self.half;
        let written = match participant.is_here() {
            true => payload.write_to_recent_block(participant.index(), message),
            false => None,
        };
        let header = match written {
            Some(header) => header,
            None => self.write_to_pool(message, timeout)?,
        };
        if self.half.redelivers() {
            return self.half.push_reference(header, timeout);
        }
        let sent = self.send_in_pool(header, timeout);
        if sent.is_err() {
            let Half { participant, payload, .. } = &self.half;
            payload.free(participant.region(), header);
            participant.notify_block_freed();
        }
        sent
    }

    /// Sends a message that lies in the pool.
    #[inline]
    pub(super) fn send_in_pool(&mut self, header: PayloadHeader, timeout: Timeout) -> Result<(), SendError> {
        match self.half.push_fast(PayloadHeader::POOLED_WORDS, |payload| header.store(payload)) {
            Ok(false) => self.send_slow(header, &[], timeout),
            done => done.map(drop),
        }
    }

    /// Allocates a block for a message that is to be written in place. Blocks while none is free.
    pub(super) fn allocate_block(&mut self, timeout: Timeout) -> Result<OwnedBlock, SendError> {
        self.half.participant.check_holder::<SendError>()?;
        let block = self.half.attempt(WaitFor::Block, timeout, |registration, ring, payload| {
            if ring.is_closed() {
                return Err(SendError::Closed);
            }
            Ok(payload.allocate_block(registration.index()))
        });
        Ok(OwnedBlock::new(self.half.participant.registration(), block?.ok_or(SendError::Full)?))
    }

    #[cold]
    #[inline(never)]
    fn send_slow(&mut self, header: PayloadHeader, message: &[u8], timeout: Timeout) -> Result<(), SendError> {
        if self.half.redelivers() {
            return self.send_pooled(message, timeout); // an empty message
        }
        self.half.push_blocking(1, timeout, |_, payload| PayloadPool::write_slot(header, message, payload)).map(drop)
    }

    /// Writes a message to the pool, and blocks while no block is free.
    #[cold]
    fn write_to_pool(&mut self, message: &[u8], timeout: Timeout) -> Result<PayloadHeader, SendError> {
        self.half.participant.check_holder::<SendError>()?;
        let written = self.half.attempt(WaitFor::Block, timeout, |registration, ring, payload| {
            if ring.is_closed() {
                return Err(SendError::Closed);
            }
            payload.write(registration.region(), registration.index(), message)
        });
        if written == Err(SendError::OutOfMemory) {
            self.half.participant.notify_block_freed();
        }
        written?.ok_or(SendError::Full)
    }
}

source!([] ByteSender, half);
