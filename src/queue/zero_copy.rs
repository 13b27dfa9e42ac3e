//! Byte messages that are written and read where they lie in a block, without a copy.
//!
//! A slice of shared memory is sound only while no process changes the bytes behind it, and no
//! check can keep a hostile peer from doing that. So these types come from `unsafe` methods, whose
//! caller vouches for all processes that can write the region.
//!
//! Invariant: a block is in one message, or one participant's alone (`raw/pool.rs` I1, I2). An
//! `OwnedBlock` is the only holder of its reference. There is one in each `FrameMut`, until the
//! message is sent, and one in each `Frame`. Nobody frees it for its participant, which stays as
//! long as it exists, and nobody writes to it but the holder of a `FrameMut`.
//!
//! There is no mutable access to the endpoint inside: another one could be swapped in, of a region
//! for which nobody vouches.

#![allow(unsafe_code)]

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, JoinError, RecvError, Result, SendError, TaskDoneError};
use crate::primitive::WORD;
use crate::queue::half::Half;
use crate::queue::owned_block::OwnedBlock;
use crate::queue::payload::{PayloadHeader, PayloadPool, TakenMessage};
use crate::queue::{ByteReceiver, ByteSender};
use crate::raw::Corrupt;
use crate::raw::pool::BlockRef;
use crate::wait::Timeout;
use crate::wait::source::source;

/// Bytes of a block that this participant owns.
struct BlockBytes(NonNull<[u8]>);

// SAFETY: an address and a length. What is there is reached by a `Frame` or `FrameMut` only.
unsafe impl Send for BlockBytes {}
// SAFETY: as above.
unsafe impl Sync for BlockBytes {}

/// The first `length` bytes of a block, if it has them.
fn bytes(pool: &PayloadPool, block: BlockRef, length: usize) -> Option<BlockBytes> {
    let (words, start) = pool.block_start(block.block)?;
    if length > pool.max_block_message_bytes() || start > words.len() || length > (words.len() - start) * WORD {
        return None;
    }
    // SAFETY: in range, as just checked.
    let first = unsafe { words.start().add(start * WORD) };
    Some(BlockBytes(NonNull::slice_from_raw_parts(first, length)))
}

fn check_blocks(half: &Half) -> Result<()> {
    if half.redelivers() {
        return Err(Error::new(
            ErrorKind::InvalidOptions,
            "use messages in place",
            "a queue that redelivers",
            "one that does not",
            "copy messages in and out, or make the queue without `on_death`",
        ));
    }
    if half.payload.max_block_message_bytes() > 0 {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidOptions,
        "use messages in place",
        "a queue without blocks",
        "one that has them",
        "make it with `blocks`, or copy messages in and out",
    ))
}

/// A [`ByteSender`] that lets you write messages in shared memory itself.
#[derive(Debug)]
pub struct ZeroCopyByteSender(ByteSender);

/// A [`ByteReceiver`] that lets you read messages in shared memory itself.
#[derive(Debug)]
pub struct ZeroCopyByteReceiver(ByteReceiver);

impl ByteSender {
    /// Returns a sender with direct access to the [blocks](crate::queue#frames) of the queue.
    ///
    /// # Errors
    /// The queue has no blocks, or it [redelivers](crate::queue#redelivery).
    ///
    /// # Safety
    /// As long as the returned sender exists, every process that can write the region uses it
    /// through this library only.
    ///
    /// # Examples
    /// ```
    /// use tombolo::queue::{Blocks, Options};
    ///
    /// const FRAME: usize = 3 << 20;
    /// let options = Options::bytes().capacity(4).blocks(Blocks { count: 4, bytes: FRAME }).max_message_bytes(FRAME);
    /// let (tx, rx) = options.create_channel()?;
    /// // SAFETY: both endpoints belong to this process.
    /// let (mut tx, mut rx) = unsafe { (tx.into_zero_copy()?, rx.into_zero_copy()?) };
    ///
    /// let mut frame = tx.loan(FRAME)?;
    /// frame.fill(7);
    /// frame.send()?;
    ///
    /// let frame = rx.recv_frame()?;
    /// assert_eq!((frame.len(), frame[FRAME - 1]), (FRAME, 7));
    /// drop(frame); // now another message can lie there
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn into_zero_copy(self) -> Result<ZeroCopyByteSender> {
        check_blocks(&self.half).map(|()| ZeroCopyByteSender(self))
    }
}

impl ByteReceiver {
    /// Returns a receiver with direct access to the [blocks](crate::queue#frames) of the queue.
    ///
    /// # Errors
    /// The queue has no blocks, or it [redelivers](crate::queue#redelivery).
    ///
    /// # Safety
    /// As long as the returned receiver or a [`Frame`] of it exists, every process that can write
    /// the region uses it through this library only.
    pub unsafe fn into_zero_copy(self) -> Result<ZeroCopyByteReceiver> {
        check_blocks(&self.inner.half).map(|()| ZeroCopyByteReceiver(self))
    }
}

impl ZeroCopyByteSender {
    /// Returns the sender that copies.
    pub fn into_inner(self) -> ByteSender {
        self.0
    }

    /// The sender that copies, for its other methods, such as [`stats`](ByteSender::stats).
    pub fn get_ref(&self) -> &ByteSender {
        &self.0
    }

    /// The longest message that fits into a block, in bytes.
    pub fn max_frame_bytes(&self) -> usize {
        self.0.half.payload.max_block_message_bytes()
    }

    /// Returns a free block for a message of `length` bytes, with arbitrary old bytes in it.
    ///
    /// [`send`](FrameMut::send) sends it. Dropping it sends nothing and frees the block. The block
    /// begins at a multiple of 8 bytes in memory, for the sender and for the receiver; if the
    /// length of blocks is a multiple of 64 or 128, at a multiple of that.
    ///
    /// # Blocking
    /// Blocks while no block is free, as the [`WaitStrategy`](crate::WaitStrategy) says.
    /// [`Stats::used_blocks`](crate::queue::Stats::used_blocks) tells how many are in use. What a
    /// process had that was killed is free again within 20 ms.
    ///
    /// # Errors
    /// As [`ByteSender::send`]. [`TooLarge`](SendError::TooLarge): the message is longer than
    /// [`max_frame_bytes`](Self::max_frame_bytes).
    pub fn loan(&mut self, length: usize) -> Result<FrameMut<'_>, SendError> {
        self.loan_within(length, Timeout::UNLIMITED)
    }

    /// Like [`loan`](Self::loan), but returns [`Full`](SendError::Full) instead of blocking.
    pub fn try_loan(&mut self, length: usize) -> Result<FrameMut<'_>, SendError> {
        self.loan_within(length, Timeout::NonBlocking)
    }

    /// Like [`loan`](Self::loan), but returns [`TimedOut`](SendError::TimedOut) after `timeout`.
    pub fn loan_timeout(&mut self, length: usize, timeout: Duration) -> Result<FrameMut<'_>, SendError> {
        self.loan_within(length, Timeout::after(timeout))
    }

    /// Like [`loan`](Self::loan), but returns [`TimedOut`](SendError::TimedOut) at `deadline`. With
    /// `None` it never does.
    pub fn loan_deadline(&mut self, length: usize, deadline: Option<Instant>) -> Result<FrameMut<'_>, SendError> {
        self.loan_within(length, Timeout::At(deadline))
    }

    /// Sends a message by copying it. See [`ByteSender::send`].
    pub fn send(&mut self, message: impl AsRef<[u8]>) -> Result<(), SendError> {
        self.0.send(message)
    }

    /// Blocks until everything was received, and every task is done or lost. See
    /// [`Sender::join`](crate::queue::Sender::join).
    pub fn join(&mut self) -> Result<(), JoinError> {
        self.0.join()
    }

    /// Like [`join`](Self::join), but waits for at most `timeout`. See
    /// [`Sender::join_timeout`](crate::queue::Sender::join_timeout).
    pub fn join_timeout(&mut self, timeout: Duration) -> Result<(), JoinError> {
        self.0.join_timeout(timeout)
    }

    fn loan_within(&mut self, length: usize, timeout: Timeout) -> Result<FrameMut<'_>, SendError> {
        let limit = self.max_frame_bytes();
        if length > limit {
            return Err(SendError::TooLarge { length, limit });
        }
        let block = self.0.allocate_block(timeout)?;
        let found = block.block_ref().and_then(|block| bytes(&self.0.half.payload, block, length));
        Ok(FrameMut { bytes: found.ok_or(Corrupt)?, block, sender: &mut self.0 })
    }
}

/// A block that is on loan from a queue, to be filled.
///
/// It is shared memory itself. A process that is forked meanwhile must not write to it, or the
/// parent sends what the child wrote.
#[must_use = "nothing is sent until `send` is called"]
pub struct FrameMut<'a> {
    bytes: BlockBytes,
    block: OwnedBlock,
    sender: &'a mut ByteSender,
}

impl FrameMut<'_> {
    /// Sends the message.
    ///
    /// # Blocking
    /// Blocks while the queue is full. If it has at least as many slots as blocks, and nothing else
    /// is sent, there is always a slot, but for those of processes that are stopped.
    ///
    /// # Errors
    /// As [`ByteSender::send`]. Then the message is gone.
    pub fn send(self) -> Result<(), SendError> {
        self.send_within(usize::MAX, Timeout::UNLIMITED)
    }

    /// Sends the first `length` bytes, or all if there are fewer, as one message. See
    /// [`send`](Self::send).
    pub fn send_first(self, length: usize) -> Result<(), SendError> {
        self.send_within(length, Timeout::UNLIMITED)
    }

    /// Like [`send`](Self::send), but returns [`Full`](SendError::Full) instead of blocking.
    pub fn try_send(self) -> Result<(), SendError> {
        self.send_within(usize::MAX, Timeout::NonBlocking)
    }

    /// Like [`send`](Self::send), but returns [`TimedOut`](SendError::TimedOut) after `timeout`.
    pub fn send_timeout(self, timeout: Duration) -> Result<(), SendError> {
        self.send_within(usize::MAX, Timeout::after(timeout))
    }

    fn send_within(mut self, length: usize, timeout: Timeout) -> Result<(), SendError> {
        let block = self.block.block_ref().ok_or(Corrupt)?;
        let header = PayloadHeader::in_block(length.min(self.len()), block);
        self.sender.send_in_pool(header, timeout)?;
        self.block.set_sent();
        Ok(())
    }
}

impl Deref for FrameMut<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the block is this frame's alone until it is sent (module invariant), which
        // consumes the frame.
        unsafe { self.bytes.0.as_ref() }
    }
}

impl DerefMut for FrameMut<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { self.bytes.0.as_mut() }
    }
}

impl fmt::Debug for FrameMut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameMut").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl ZeroCopyByteReceiver {
    /// Returns the receiver that copies.
    pub fn into_inner(self) -> ByteReceiver {
        self.0
    }

    /// The receiver that copies, for its other methods, such as [`stats`](ByteReceiver::stats).
    pub fn get_ref(&self) -> &ByteReceiver {
        &self.0
    }

    /// Receives the next message, where it lies. A message that lies in a slot or in an extent is
    /// copied.
    ///
    /// You can hold several, and drop them in any order. Each takes up its block until then.
    ///
    /// # Blocking
    /// As [`ByteReceiver::recv`].
    ///
    /// # Errors
    /// As [`ByteReceiver::recv`].
    pub fn recv_frame(&mut self) -> Result<Frame, RecvError> {
        self.recv_frame_within(Timeout::UNLIMITED)
    }

    /// Like [`recv_frame`](Self::recv_frame), but returns [`Empty`](RecvError::Empty) instead of
    /// blocking.
    pub fn try_recv_frame(&mut self) -> Result<Frame, RecvError> {
        self.recv_frame_within(Timeout::NonBlocking)
    }

    /// Like [`recv_frame`](Self::recv_frame), but returns [`TimedOut`](RecvError::TimedOut) after
    /// `timeout`.
    pub fn recv_frame_timeout(&mut self, timeout: Duration) -> Result<Frame, RecvError> {
        self.recv_frame_within(Timeout::after(timeout))
    }

    /// Like [`recv_frame`](Self::recv_frame), but returns [`TimedOut`](RecvError::TimedOut) at
    /// `deadline`. With `None` it never does.
    pub fn recv_frame_deadline(&mut self, deadline: Option<Instant>) -> Result<Frame, RecvError> {
        self.recv_frame_within(Timeout::At(deadline))
    }

    /// Tells that the task of one message is done. See
    /// [`Receiver::task_done`](crate::queue::Receiver::task_done).
    pub fn task_done(&mut self) -> Result<(), TaskDoneError> {
        self.0.task_done()
    }

    fn recv_frame_within(&mut self, timeout: Timeout) -> Result<Frame, RecvError> {
        let content = match self.0.take(timeout)? {
            TakenMessage::Copied { message, .. } => Content::Copied(message),
            TakenMessage::InBlock { block, length } => {
                let half = &self.0.inner.half;
                let owned = OwnedBlock::new(half.participant.registration(), block);
                let bytes = bytes(&half.payload, block, length).ok_or(Corrupt)?;
                Content::InBlock { bytes, _block: owned }
            }
        };
        Ok(Frame { content })
    }
}

/// A message of a queue, in shared memory. As long as it exists nobody writes to its block.
///
/// It may outlive its receiver, whose place in the queue it keeps. It may move between threads. If
/// its process is killed, its block is free as soon as that is noticed. A process that is forked
/// meanwhile must not read it: the parent may drop it.
pub struct Frame {
    content: Content,
}

enum Content {
    Copied(Vec<u8>),
    InBlock { bytes: BlockBytes, _block: OwnedBlock },
}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.content {
            Content::Copied(bytes) => bytes,
            // SAFETY: in a block that is this frame's alone, and in a mapping that the block keeps
            // (module invariant).
            Content::InBlock { bytes, .. } => unsafe { bytes.0.as_ref() },
        }
    }
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("len", &self.len()).finish_non_exhaustive()
    }
}

source!([] ZeroCopyByteSender, 0);
source!([] ZeroCopyByteReceiver, 0);
