//! Messages in frames that are written and read where they lie, without a copy.
//!
//! A slice of shared memory is sound only while no process changes the bytes behind it, and no
//! check can keep a hostile peer from doing that. So these types come from `unsafe` methods, whose
//! caller vouches for all processes that can write the region.
//!
//! Invariant: the publisher takes a frame only while no subscriber has a lease of it, and none uses
//! one before the frame is published (`raw/broadcast/frames.rs` I1). A loan borrows its publisher,
//! so there is one slice over a frame that can be written. A `Frame` has a lease until it is
//! dropped. An observer copies frames without a lease, as atomic words of a mapping of its own, and
//! discards what it finds overwritten.

#![allow(unsafe_code)]

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use crate::broadcast::byte_subscriber::Received;
use crate::broadcast::frames::Lease;
use crate::broadcast::state::BroadcastState;
use crate::broadcast::{BytePublisher, ByteSubscriber};
use crate::error::{Error, ErrorKind, RecvError, Result, SendError};
use crate::primitive::WORD;
use crate::raw::Corrupt;
use crate::region::words::Words;
use crate::wait::Timeout;
use crate::wait::source::source;

/// The first `length` bytes of a frame, if it has them.
fn bytes(frame: &Words, length: usize) -> Option<NonNull<[u8]>> {
    (length <= frame.len() * WORD).then(|| NonNull::slice_from_raw_parts(frame.start(), length))
}

fn check_frames(state: BroadcastState<'_>) -> Result<()> {
    if state.layout.geometry.frames > 0 {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidOptions,
        "use messages in place",
        "a broadcast without frames",
        "one that has them",
        "make it with `frames`, or copy messages in and out",
    ))
}

/// A [`BytePublisher`] that lets you write messages in shared memory itself.
#[derive(Debug)]
pub struct ZeroCopyBytePublisher(BytePublisher);

/// A [`ByteSubscriber`] that lets you read messages in shared memory itself.
#[derive(Debug)]
pub struct ZeroCopyByteSubscriber(ByteSubscriber);

impl BytePublisher {
    /// Returns a publisher with direct access to its [frames](crate::broadcast#frames).
    ///
    /// # Errors
    /// The broadcast has no frames.
    ///
    /// # Safety
    /// As long as the returned publisher exists, every process that can write the region uses it
    /// through this library only.
    pub unsafe fn into_zero_copy(self) -> Result<ZeroCopyBytePublisher> {
        check_frames(self.half.state()).map(|()| ZeroCopyBytePublisher(self))
    }
}

impl ByteSubscriber {
    /// Returns a subscriber with direct access to the [frames](crate::broadcast#frames).
    ///
    /// # Errors
    /// The broadcast has no frames.
    ///
    /// # Safety
    /// As long as the returned subscriber or a [`Frame`] of it exists, every process that can write
    /// the region uses it through this library only.
    pub unsafe fn into_zero_copy(self) -> Result<ZeroCopyByteSubscriber> {
        check_frames(self.half.state()).map(|()| ZeroCopyByteSubscriber(self))
    }
}

impl ZeroCopyBytePublisher {
    /// Returns the publisher that copies.
    pub fn into_inner(self) -> BytePublisher {
        self.0
    }

    /// The publisher that copies, for its other methods.
    pub fn get_ref(&self) -> &BytePublisher {
        &self.0
    }

    /// The publisher that copies, for its other methods.
    ///
    /// # Safety
    /// If it is replaced by another one, as by [`std::mem::swap`], what
    /// [`into_zero_copy`](BytePublisher::into_zero_copy) asks for holds for that one.
    pub unsafe fn get_mut(&mut self) -> &mut BytePublisher {
        &mut self.0
    }

    /// Returns a free frame for a message of `length` bytes, with arbitrary old bytes in it.
    ///
    /// [`publish`](FrameMut::publish) publishes it. Dropping it publishes nothing. The frame begins
    /// at a multiple of 128 bytes in memory, for the publisher and for subscribers. An open loan
    /// takes up one place of the ring.
    ///
    /// # Blocking
    /// Blocks while there is no room in a ring that is gated, as
    /// [`publish`](crate::broadcast::Publisher::publish), and while there is no free frame: see
    /// [Frames](crate::broadcast#frames). [`slowest`](BytePublisher::slowest) and
    /// [`frame_holders`](BytePublisher::frame_holders) tell for whom it waits. A subscriber that
    /// was killed is noticed within 20 ms.
    ///
    /// # Errors
    /// As [`BytePublisher::publish`].
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

    fn loan_within(&mut self, length: usize, timeout: Timeout) -> Result<FrameMut<'_>, SendError> {
        let limit = self.0.half.state().layout.max_message_bytes as usize;
        if length > limit {
            return Err(SendError::TooLarge { length, limit });
        }
        let frame = self.0.half.take_frame(timeout)?;
        let mut bytes = bytes(&self.0.half.frame(frame)?, length).ok_or(Corrupt)?;
        // SAFETY: the frame is the publisher's alone until it is published (module invariant), and
        // `FrameMut` keeps `self` borrowed, which has the mapping.
        Ok(FrameMut { bytes: unsafe { bytes.as_mut() }, publisher: &mut self.0, frame })
    }
}

/// A frame that is on loan from a publisher, to be filled.
///
/// It is shared memory itself. A process that is forked meanwhile must not write to it, or the
/// parent publishes what the child wrote.
#[must_use = "nothing is published until `publish` is called"]
pub struct FrameMut<'a> {
    publisher: &'a mut BytePublisher,
    bytes: &'a mut [u8],
    frame: u64,
}

impl FrameMut<'_> {
    /// Publishes the message. Never blocks.
    ///
    /// # Errors
    /// [`Forked`](SendError::Forked), [`Corrupt`](SendError::Corrupt).
    pub fn publish(self) -> Result<(), SendError> {
        let length = self.bytes.len();
        self.publish_first(length)
    }

    /// Publishes the first `length` bytes, or all if there are fewer, as one message. See
    /// [`publish`](Self::publish).
    pub fn publish_first(self, length: usize) -> Result<(), SendError> {
        self.publisher.half.publish_frame(self.frame, length.min(self.bytes.len()))
    }
}

impl Deref for FrameMut<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

impl DerefMut for FrameMut<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes
    }
}

impl fmt::Debug for FrameMut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameMut").field("frame", &self.frame).field("len", &self.len()).finish_non_exhaustive()
    }
}

impl ZeroCopyByteSubscriber {
    /// Returns the subscriber that copies.
    pub fn into_inner(self) -> ByteSubscriber {
        self.0
    }

    /// The subscriber that copies, for its other methods.
    pub fn get_ref(&self) -> &ByteSubscriber {
        &self.0
    }

    /// The subscriber that copies, for its other methods.
    ///
    /// # Safety
    /// If it is replaced by another one, as by [`std::mem::swap`], what
    /// [`into_zero_copy`](ByteSubscriber::into_zero_copy) asks for holds for that one.
    pub unsafe fn get_mut(&mut self) -> &mut ByteSubscriber {
        &mut self.0
    }

    /// Receives the next message, where it lies. A short message lies in a slot, and is copied.
    ///
    /// The publisher does not fill the frame again before the [`Frame`] is dropped. You can hold
    /// several, and drop them in any order, but a publisher without a free frame waits.
    ///
    /// # Blocking
    /// As [`Subscriber::recv`](crate::broadcast::Subscriber::recv).
    ///
    /// # Errors
    /// As [`ByteSubscriber::recv`].
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

    fn recv_frame_within(&mut self, timeout: Timeout) -> Result<Frame, RecvError> {
        let mut copied = Vec::new();
        let content = match self.0.recv_front(&mut copied, timeout)? {
            Received::Copied(_) => Content::Copied(copied),
            Received::InFrame { frame, length } => {
                let lease = self.0.half.lease(frame)?;
                let bytes = bytes(&lease.words, length).ok_or(Corrupt)?;
                Content::Leased { bytes, _lease: lease }
            }
        };
        Ok(Frame { content })
    }
}

/// A message of a broadcast, in shared memory. As long as it exists the publisher does not fill its
/// frame again.
///
/// It may outlive its subscriber, whose place in the broadcast it keeps. It may move between
/// threads. A process that is forked meanwhile must not read it: the parent may give it back.
pub struct Frame {
    content: Content,
}

enum Content {
    Copied(Vec<u8>),
    Leased { bytes: NonNull<[u8]>, _lease: Lease },
}

// SAFETY: bytes that nobody writes while it exists, and a lease, which is a hold on atomics.
unsafe impl Send for Frame {}
// SAFETY: as above.
unsafe impl Sync for Frame {}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.content {
            Content::Copied(bytes) => bytes,
            // SAFETY: in a frame that nobody writes while there is a lease (module invariant). The
            // lease has the mapping.
            Content::Leased { bytes, .. } => unsafe { bytes.as_ref() },
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

source!([] ZeroCopyBytePublisher, 0);
source!([] ZeroCopyByteSubscriber, 0);
