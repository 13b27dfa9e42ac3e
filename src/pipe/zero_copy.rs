//! Messages that are read and written where they lie in the ring, without a copy.
//!
//! A slice of shared memory is sound only while no process changes the bytes behind it, and no
//! check can keep a hostile peer from doing that. So these types come from `unsafe` methods, whose
//! caller vouches for all processes that can write the region.
//!
//! Invariant: `raw/spsc` I2 keeps producer and consumer on disjoint positions. A reservation or a
//! peek borrows its half exclusively, so each side has one slice at a time, over its own positions.

#![allow(unsafe_code)]

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use bytemuck::Pod;

use crate::error::{Error, ErrorKind, RecvError, Result, SendError};
use crate::pipe::{ByteReceiver, ByteSender, Receiver, Sender};
use crate::primitive::WORD;
use crate::raw::Corrupt;
use crate::raw::spsc::record_ring::Reservation;
use crate::raw::spsc::value_ring::stride;
use crate::region::words::Words;
use crate::types::Shareable;
use crate::wait::Timeout;
use crate::wait::source::source;

/// `length` bytes from word `start` on, if the ring has them.
fn bytes(words: &Words, start: usize, length: usize) -> Option<NonNull<[u8]>> {
    if start > words.len() || length > (words.len() - start) * WORD {
        return None;
    }
    // SAFETY: in range, as just checked.
    let first = unsafe { words.start().add(start * WORD) };
    Some(NonNull::slice_from_raw_parts(first, length))
}

fn check_gapless<T>() -> Result<()> {
    if stride::<T>() * WORD == size_of::<T>() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidOptions,
        "use values of this type in place",
        format_args!("a size of {} bytes", size_of::<T>()),
        "a multiple of 8",
        "pad the type, or copy it in and out",
    ))
}

/// The forms of a call that block for a limited time. `$within` takes the limit.
macro_rules! limited_forms {
    (
        $call:literal as $try:ident, $timeout:ident, $deadline:ident;
        $within:ident(&mut self $(, $argument:ident)?) -> Result<$Lent:ty, $Error:ident>, $none:ident
    ) => {
        #[doc = concat!("Like [`", $call, "`](Self::", $call, "), but returns")]
        #[doc = concat!("[`", stringify!($none), "`](", stringify!($Error), "::", stringify!($none), ")")]
        /// instead of blocking.
        #[inline]
        pub fn $try(&mut self $(, $argument: usize)?) -> Result<$Lent, $Error> {
            self.$within($($argument,)? Timeout::NonBlocking)
        }

        #[doc = concat!("Like [`", $call, "`](Self::", $call, "), but returns")]
        #[doc = concat!("[`TimedOut`](", stringify!($Error), "::TimedOut)")]
        /// after `timeout`.
        #[inline]
        pub fn $timeout(&mut self $(, $argument: usize)?, timeout: Duration) -> Result<$Lent, $Error> {
            self.$within($($argument,)? Timeout::after(timeout))
        }

        #[doc = concat!("Like [`", $call, "`](Self::", $call, "), but returns")]
        #[doc = concat!("[`TimedOut`](", stringify!($Error), "::TimedOut)")]
        /// at `deadline`. With `None` it never does.
        #[inline]
        pub fn $deadline(&mut self $(, $argument: usize)?, deadline: Option<Instant>) -> Result<$Lent, $Error> {
            self.$within($($argument,)? Timeout::At(deadline))
        }
    };
}

/// A [`Sender`] that lets you make values in the ring itself.
#[derive(Debug)]
pub struct ZeroCopySender<T: Shareable + Pod>(Sender<T>);

/// A [`Receiver`] that lets you read values in the ring itself.
#[derive(Debug)]
pub struct ZeroCopyReceiver<T: Shareable + Pod>(Receiver<T>);

/// A [`ByteSender`] that lets you make messages in the ring itself.
#[derive(Debug)]
pub struct ZeroCopyByteSender(ByteSender);

/// A [`ByteReceiver`] that lets you read messages in the ring itself.
#[derive(Debug)]
pub struct ZeroCopyByteReceiver(ByteReceiver);

impl<T: Shareable + Pod> Sender<T> {
    /// Returns a sender with direct access to the ring.
    ///
    /// # Errors
    /// The size of `T` is not a multiple of 8.
    ///
    /// # Safety
    /// As long as the returned sender exists, every process that can write the region uses it
    /// through this library only.
    ///
    /// # Examples
    /// ```
    /// let (tx, rx) = tombolo::pipe::Options::<[u64; 4]>::new().create()?;
    /// // SAFETY: both endpoints belong to this process.
    /// let (mut tx, mut rx) = unsafe { (tx.into_zero_copy()?, rx.into_zero_copy()?) };
    ///
    /// let mut slots = tx.reserve(2)?;
    /// slots[0] = [1; 4];
    /// slots[1][0] = 2;
    /// slots.commit(2);
    ///
    /// let values = rx.peek(8)?;
    /// assert_eq!((values.len(), values[1][0]), (2, 2));
    /// values.release();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn into_zero_copy(self) -> Result<ZeroCopySender<T>> {
        check_gapless::<T>().map(|()| ZeroCopySender(self))
    }
}

impl<T: Shareable + Pod> Receiver<T> {
    /// Returns a receiver with direct access to the ring.
    ///
    /// # Errors
    /// The size of `T` is not a multiple of 8.
    ///
    /// # Safety
    /// As long as the returned receiver exists, every process that can write the region uses it
    /// through this library only.
    pub unsafe fn into_zero_copy(self) -> Result<ZeroCopyReceiver<T>> {
        check_gapless::<T>().map(|()| ZeroCopyReceiver(self))
    }
}

impl ByteSender {
    /// Returns a sender with direct access to the ring.
    ///
    /// # Safety
    /// As long as the returned sender exists, every process that can write the region uses it
    /// through this library only.
    pub unsafe fn into_zero_copy(self) -> ZeroCopyByteSender {
        ZeroCopyByteSender(self)
    }
}

impl ByteReceiver {
    /// Returns a receiver with direct access to the ring.
    ///
    /// # Safety
    /// As long as the returned receiver exists, every process that can write the region uses it
    /// through this library only.
    pub unsafe fn into_zero_copy(self) -> ZeroCopyByteReceiver {
        ZeroCopyByteReceiver(self)
    }
}

impl<T: Shareable + Pod> ZeroCopySender<T> {
    /// Returns the sender that copies.
    pub fn into_inner(self) -> Sender<T> {
        self.0
    }

    /// Returns up to `count` free slots in a row, at least one, with arbitrary old values in them.
    ///
    /// [`commit`](WriteChunk::commit) sends them. Dropping them sends nothing. At the end of the
    /// ring there are fewer than `count`. The slots are aligned as `T` is.
    ///
    /// # Blocking
    /// Blocks while the ring is full.
    ///
    /// # Errors
    /// As [`Sender::send`].
    #[inline]
    pub fn reserve(&mut self, count: usize) -> Result<WriteChunk<'_, T>, SendError> {
        self.reserve_within(count, Timeout::UNLIMITED)
    }

    limited_forms!(
        "reserve" as try_reserve, reserve_timeout, reserve_deadline;
        reserve_within(&mut self, count) -> Result<WriteChunk<'_, T>, SendError>, Full
    );

    #[inline]
    fn reserve_within(&mut self, count: usize, timeout: Timeout) -> Result<WriteChunk<'_, T>, SendError> {
        self.0.half.check()?;
        loop {
            let (start, free) = self.0.half.writer.reserve(count as u64)?;
            if free > 0 || count == 0 {
                return self.chunk(start, free as usize);
            }
            self.0.wait_for_room(timeout)?;
        }
    }

    #[inline]
    fn chunk(&mut self, start: usize, count: usize) -> Result<WriteChunk<'_, T>, SendError> {
        let length = count * size_of::<T>();
        let mut bytes = bytes(self.0.half.writer.data(), start, length).ok_or(Corrupt)?;
        // SAFETY: free positions are the producer's alone (module invariant), and `WriteChunk`
        // keeps `self` borrowed.
        let values = bytemuck::cast_slice_mut(unsafe { bytes.as_mut() });
        Ok(WriteChunk { sender: &mut self.0, values })
    }
}

/// Free slots of a ring, to be filled.
///
/// They are the ring itself. A process that is forked meanwhile must not write to them, or the
/// parent sends what the child wrote.
#[derive(Debug)]
#[must_use = "nothing is sent until it is committed"]
pub struct WriteChunk<'a, T: Shareable + Pod> {
    sender: &'a mut Sender<T>,
    values: &'a mut [T],
}

impl<T: Shareable + Pod> WriteChunk<'_, T> {
    /// Sends the first `count` values, or all if there are fewer.
    ///
    /// In a process that was forked meanwhile it does nothing: the values are the parent's to send.
    #[inline]
    pub fn commit(self, count: usize) {
        let half = &mut self.sender.half;
        if half.connection.is_here() {
            half.writer.ring.publish(count.min(self.values.len()) as u64);
            half.connection.peer_event.notify(1);
        }
    }
}

impl<T: Shareable + Pod> Deref for WriteChunk<'_, T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        self.values
    }
}

impl<T: Shareable + Pod> DerefMut for WriteChunk<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        self.values
    }
}

impl<T: Shareable + Pod> ZeroCopyReceiver<T> {
    /// Returns the receiver that copies.
    pub fn into_inner(self) -> Receiver<T> {
        self.0
    }

    /// Returns up to `count` values in a row, at least one.
    ///
    /// [`release`](ReadChunk::release) removes them from the ring. Dropping them leaves them for
    /// the next call. At the end of the ring there are fewer than `count`.
    ///
    /// # Blocking
    /// Blocks while the ring is empty.
    ///
    /// # Errors
    /// As [`Receiver::recv`].
    #[inline]
    pub fn peek(&mut self, count: usize) -> Result<ReadChunk<'_, T>, RecvError> {
        self.peek_within(count, Timeout::UNLIMITED)
    }

    limited_forms!(
        "peek" as try_peek, peek_timeout, peek_deadline;
        peek_within(&mut self, count) -> Result<ReadChunk<'_, T>, RecvError>, Empty
    );

    /// Blocks until [`peek`](Self::peek) would return at once. Returns false when `timeout` has
    /// passed. See [`Receiver::poll`].
    pub fn poll(&mut self, timeout: Duration) -> Result<bool, RecvError> {
        self.0.poll(timeout)
    }

    #[inline]
    fn peek_within(&mut self, count: usize, timeout: Timeout) -> Result<ReadChunk<'_, T>, RecvError> {
        self.0.half.check()?;
        loop {
            let (start, ready) = self.0.half.reader.peek(count as u64)?;
            if ready > 0 || count == 0 {
                return self.chunk(start, ready as usize);
            }
            self.0.half.wait_for_message(timeout)?;
        }
    }

    #[inline]
    fn chunk(&mut self, start: usize, count: usize) -> Result<ReadChunk<'_, T>, RecvError> {
        let length = count * size_of::<T>();
        let bytes = bytes(self.0.half.reader.data(), start, length).ok_or(Corrupt)?;
        // SAFETY: published positions are the consumer's alone (module invariant), and `ReadChunk`
        // keeps `self` borrowed.
        let values = bytemuck::cast_slice(unsafe { bytes.as_ref() });
        Ok(ReadChunk { receiver: &mut self.0, values })
    }
}

/// Values in a ring.
#[derive(Debug)]
#[must_use = "the values stay in the ring until they are released"]
pub struct ReadChunk<'a, T: Shareable + Pod> {
    receiver: &'a mut Receiver<T>,
    values: &'a [T],
}

impl<T: Shareable + Pod> ReadChunk<'_, T> {
    /// Removes all values from the ring.
    ///
    /// In a process that was forked meanwhile it does nothing: the values are the parent's to
    /// release.
    #[inline]
    pub fn release(self) {
        let count = self.values.len();
        self.release_first(count);
    }

    /// Removes the first `count` values from the ring. See [`release`](Self::release).
    #[inline]
    pub fn release_first(self, count: usize) {
        let half = &mut self.receiver.half;
        if half.connection.is_here() {
            half.reader.ring.release(count.min(self.values.len()) as u64);
            half.connection.peer_event.notify(1);
        }
    }
}

impl<T: Shareable + Pod> Deref for ReadChunk<'_, T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        self.values
    }
}

impl ZeroCopyByteSender {
    /// Returns the sender that copies.
    pub fn into_inner(self) -> ByteSender {
        self.0
    }

    /// The longest message, in bytes, that goes through the ring in one piece.
    pub fn max_inline_bytes(&self) -> usize {
        self.0.max_inline_bytes()
    }

    /// Returns room for one message of `length` bytes, with arbitrary old bytes in it. `length` is
    /// at most [`max_inline_bytes`](Self::max_inline_bytes).
    ///
    /// [`commit`](WriteMessage::commit) sends it. Dropping it sends nothing.
    ///
    /// The room begins at a multiple of 8 bytes in memory, in the sender and in the receiver, and
    /// often at no multiple of 16: the header of the message is before it. To have a larger
    /// alignment, use a pipe of values of a type that has it, such as one with
    /// `#[repr(C, align(64))]`.
    ///
    /// # Blocking
    /// Blocks while the ring is full.
    ///
    /// # Errors
    /// As [`ByteSender::send`].
    ///
    /// # Examples
    /// ```
    /// let (tx, rx) = tombolo::pipe::Options::bytes().create()?;
    /// // SAFETY: both endpoints belong to this process.
    /// let (mut tx, mut rx) = unsafe { (tx.into_zero_copy(), rx.into_zero_copy()) };
    /// let mut message = tx.reserve(100)?;
    /// message[..5].copy_from_slice(b"short");
    /// message.commit(5);
    /// let message = rx.peek()?;
    /// assert_eq!(&*message, b"short");
    /// message.release();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reserve(&mut self, length: usize) -> Result<WriteMessage<'_>, SendError> {
        self.reserve_within(length, Timeout::UNLIMITED)
    }

    limited_forms!(
        "reserve" as try_reserve, reserve_timeout, reserve_deadline;
        reserve_within(&mut self, length) -> Result<WriteMessage<'_>, SendError>, Full
    );

    fn reserve_within(&mut self, length: usize, timeout: Timeout) -> Result<WriteMessage<'_>, SendError> {
        self.0.half.check()?;
        let limit = self.0.max_inline_bytes();
        if length > limit {
            return Err(SendError::TooLarge { length, limit });
        }
        let slot = loop {
            match self.0.half.writer.reserve(0, length as u64)? {
                Some(slot) => break slot,
                None => self.0.wait_for_room(length as u64, timeout)?,
            }
        };
        let mut bytes = bytes(self.0.half.writer.data(), slot.start, length).ok_or(Corrupt)?;
        // SAFETY: free positions are the producer's alone (module invariant), and `WriteMessage`
        // keeps `self` borrowed.
        Ok(WriteMessage { bytes: unsafe { bytes.as_mut() }, sender: &mut self.0, slot })
    }
}

/// Room for one message in a ring.
///
/// It is the ring itself. A process that is forked meanwhile must not write to it, or the parent
/// sends what the child wrote.
#[derive(Debug)]
#[must_use = "nothing is sent until it is committed"]
pub struct WriteMessage<'a> {
    sender: &'a mut ByteSender,
    bytes: &'a mut [u8],
    slot: Reservation,
}

impl WriteMessage<'_> {
    /// Sends the first `length` bytes, or all if there are fewer, as one message.
    ///
    /// In a process that was forked meanwhile it does nothing: the message is the parent's to send.
    pub fn commit(self, length: usize) {
        let half = &mut self.sender.half;
        if half.connection.is_here() {
            let words = half.writer.write_headers(0, self.slot, length.min(self.bytes.len()) as u64);
            half.writer.ring.publish(words);
            half.connection.peer_event.notify(1);
        }
    }
}

impl Deref for WriteMessage<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

impl DerefMut for WriteMessage<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes
    }
}

impl ZeroCopyByteReceiver {
    /// Returns the receiver that copies.
    pub fn into_inner(self) -> ByteReceiver {
        self.0
    }

    /// Returns the next message. It begins at a multiple of 8 bytes in memory, see
    /// [`reserve`](ZeroCopyByteSender::reserve).
    ///
    /// [`release`](ReadMessage::release) removes it from the ring. Dropping it leaves it for the
    /// next call.
    ///
    /// # Blocking
    /// Blocks while the ring is empty.
    ///
    /// # Errors
    /// As [`ByteReceiver::recv`], and [`BufferTooSmall`](RecvError::BufferTooSmall) for a message
    /// that streams through the ring. Receive that one with [`into_inner`](Self::into_inner) and
    /// `recv`.
    pub fn peek(&mut self) -> Result<ReadMessage<'_>, RecvError> {
        self.peek_within(Timeout::UNLIMITED)
    }

    limited_forms!(
        "peek" as try_peek, peek_timeout, peek_deadline;
        peek_within(&mut self) -> Result<ReadMessage<'_>, RecvError>, Empty
    );

    /// Blocks until [`peek`](Self::peek) would return at once. Returns false when `timeout` has
    /// passed. See [`ByteReceiver::poll`].
    pub fn poll(&mut self, timeout: Duration) -> Result<bool, RecvError> {
        self.0.poll(timeout)
    }

    fn peek_within(&mut self, timeout: Timeout) -> Result<ReadMessage<'_>, RecvError> {
        self.0.half.check()?;
        let (start, length) = loop {
            match self.0.half.reader.peek()? {
                Some(found) => break found,
                None => self.0.half.wait_for_message(timeout)?,
            }
        };
        let bytes = bytes(self.0.half.reader.records.data(), start, length).ok_or(Corrupt)?;
        // SAFETY: published positions are the consumer's alone (module invariant), and
        // `ReadMessage` keeps `self` borrowed.
        Ok(ReadMessage { bytes: unsafe { bytes.as_ref() }, receiver: &mut self.0 })
    }
}

/// A message in a ring.
#[derive(Debug)]
#[must_use = "the message stays in the ring until it is released"]
pub struct ReadMessage<'a> {
    receiver: &'a mut ByteReceiver,
    bytes: &'a [u8],
}

impl ReadMessage<'_> {
    /// Removes the message from the ring.
    ///
    /// In a process that was forked meanwhile it does nothing: the message is the parent's to
    /// release.
    pub fn release(self) {
        let half = &mut self.receiver.half;
        if half.connection.is_here() {
            half.reader.records.release(self.bytes.len());
            half.connection.peer_event.notify(1);
        }
    }
}

impl Deref for ReadMessage<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

source!([T: Shareable + Pod] ZeroCopySender<T>, 0);
source!([T: Shareable + Pod] ZeroCopyReceiver<T>, 0);
source!([] ZeroCopyByteSender, 0);
source!([] ZeroCopyByteReceiver, 0);
