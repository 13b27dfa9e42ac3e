//! Reading and writing messages where they lie, without a copy.
//!
//! A slice into shared memory is only sound while nobody changes the bytes behind it, and no check can keep a hostile
//! peer from doing that. So these types come from `unsafe` constructors, whose caller vouches for every
//! process on the region.
//!
//! Invariant: `raw/spsc.rs` I2 keeps producer and consumer on disjoint positions; a reservation or a peek
//! borrows its half exclusively, so there is one slice at a time for each side, over its own positions.

#![allow(unsafe_code)]

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use bytemuck::Pod;

use crate::error::{Error, ErrorKind, RecvError, Result, SendError};
use crate::message::Message;
use crate::pipe::receiver::Receiver;
use crate::pipe::sender::Sender;
use crate::primitive::WORD;
use crate::raw::spsc::record_ring::Slot;
use crate::raw::spsc::value_ring::stride;
use crate::region::words::Words;

/// `length` bytes from word `start` on, if the ring has them.
fn bytes(words: &Words, start: usize, length: usize) -> Option<NonNull<[u8]>> {
    if start > words.len() || length > (words.len() - start) * WORD {
        return None;
    }
    // SAFETY: in range, as just checked.
    let first = unsafe { words.start().add(start * WORD) };
    Some(NonNull::slice_from_raw_parts(first, length))
}

/// A [`Sender`] whose messages are made in the ring itself.
#[derive(Debug)]
pub struct ZeroCopySender<M: Message + ?Sized = [u8]>(Sender<M>);

/// A [`Receiver`] whose messages are looked at in the ring itself.
#[derive(Debug)]
pub struct ZeroCopyReceiver<M: Message + ?Sized = [u8]>(Receiver<M>);

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

impl<T: Pod> Sender<T> {
    /// Gives in-place access to the ring.
    ///
    /// **Errors**: the size of `T` is no multiple of 8.
    ///
    /// # Safety
    /// Every process that can write this region uses it through this library only, for as long as this sender lives.
    ///
    /// ```
    /// let (tx, rx) = tombolo::pipe::Options::<[u64; 4]>::new().create()?;
    /// // SAFETY: both ends are ours.
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

impl<T: Pod> Receiver<T> {
    /// Gives in-place access to the ring.
    ///
    /// **Errors**: the size of `T` is no multiple of 8.
    ///
    /// # Safety
    /// Every process that can write this region uses it through this library only, for as long as this receiver lives.
    pub unsafe fn into_zero_copy(self) -> Result<ZeroCopyReceiver<T>> {
        check_gapless::<T>().map(|()| ZeroCopyReceiver(self))
    }
}

impl Sender<[u8]> {
    /// Gives in-place access to the ring.
    ///
    /// # Safety
    /// Every process that can write this region uses it through this library only, for as long as this sender lives.
    pub unsafe fn into_zero_copy(self) -> ZeroCopySender<[u8]> {
        ZeroCopySender(self)
    }
}

impl Receiver<[u8]> {
    /// Gives in-place access to the ring.
    ///
    /// # Safety
    /// Every process that can write this region uses it through this library only, for as long as this receiver lives.
    pub unsafe fn into_zero_copy(self) -> ZeroCopyReceiver<[u8]> {
        ZeroCopyReceiver(self)
    }
}

impl<M: Message + ?Sized> ZeroCopySender<M> {
    /// Back to copying.
    pub fn into_inner(self) -> Sender<M> {
        self.0
    }
}

impl<M: Message + ?Sized> ZeroCopyReceiver<M> {
    /// Back to copying.
    pub fn into_inner(self) -> Receiver<M> {
        self.0
    }
}

impl<T: Pod> ZeroCopySender<T> {
    /// Up to `count` free slots in a row, at least one, holding whatever values were there. Fewer at the end of the ring.
    /// [`commit`](WriteChunk::commit) sends them; dropping them sends nothing.
    ///
    /// **Blocking**: while the ring is full. **Errors**: as for [`Sender::send`].
    #[inline]
    pub fn reserve(&mut self, count: usize) -> Result<WriteChunk<'_, T>, SendError> {
        self.0.check()?;
        loop {
            let (start, free) = self.0.writer.reserve(count as u64)?;
            if free > 0 || count == 0 {
                return self.slots(start, free as usize);
            }
            self.0.await_room(None)?;
        }
    }

    #[inline]
    fn slots(&mut self, start: usize, count: usize) -> Result<WriteChunk<'_, T>, SendError> {
        let mut bytes = bytes(self.0.writer.data(), start, count * size_of::<T>()).ok_or(SendError::Corrupt)?;
        // SAFETY: free positions are the producer's alone (module invariant), and `WriteChunk` keeps `self` borrowed.
        let values = bytemuck::cast_slice_mut(unsafe { bytes.as_mut() });
        Ok(WriteChunk { sender: &mut self.0, values })
    }
}

/// Free slots of a ring, to be filled. They are the ring itself: a process that is forked meanwhile
/// must not write to them, or the parent sends what the child wrote.
#[derive(Debug)]
pub struct WriteChunk<'a, T: Pod> {
    sender: &'a mut Sender<T>,
    values: &'a mut [T],
}

impl<T: Pod> WriteChunk<'_, T> {
    /// Sends the first `count` of them (all, if there are fewer). In a process that was forked
    /// meanwhile: nothing, they are the parent's to send.
    #[inline]
    pub fn commit(self, count: usize) {
        if !self.sender.link().is_from_this_process() {
            return;
        }
        self.sender.writer.ring.publish(count.min(self.values.len()) as u64);
        self.sender.published();
    }
}

impl<T: Pod> Deref for WriteChunk<'_, T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        self.values
    }
}

impl<T: Pod> DerefMut for WriteChunk<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        self.values
    }
}

impl<T: Pod> ZeroCopyReceiver<T> {
    /// Up to `count` values in a row, at least one. Fewer at the end of the ring.
    /// [`release`](ReadChunk::release) takes them off; dropping them leaves them for the next call.
    ///
    /// **Blocking**: while the ring is empty. **Errors**: as for [`Receiver::recv`].
    #[inline]
    pub fn peek(&mut self, count: usize) -> Result<ReadChunk<'_, T>, RecvError> {
        self.0.check()?;
        loop {
            let (start, ready) = self.0.reader.peek(count as u64)?;
            if ready > 0 || count == 0 {
                return self.values(start, ready as usize);
            }
            self.0.await_message(None)?;
        }
    }

    #[inline]
    fn values(&mut self, start: usize, count: usize) -> Result<ReadChunk<'_, T>, RecvError> {
        let bytes = bytes(self.0.reader.data(), start, count * size_of::<T>()).ok_or(RecvError::Corrupt)?;
        // SAFETY: published positions are the consumer's alone (module invariant), and `ReadChunk` keeps `self` borrowed.
        let values = bytemuck::cast_slice(unsafe { bytes.as_ref() });
        Ok(ReadChunk { receiver: &mut self.0, values })
    }
}

/// Values in a ring.
#[derive(Debug)]
pub struct ReadChunk<'a, T: Pod> {
    receiver: &'a mut Receiver<T>,
    values: &'a [T],
}

impl<T: Pod> ReadChunk<'_, T> {
    /// Takes all of them off the ring. In a process that was forked meanwhile: none, they are the
    /// parent's to take.
    #[inline]
    pub fn release(self) {
        let count = self.values.len();
        self.release_first(count);
    }

    /// Takes the first `count` of them off the ring. In a process that was forked meanwhile: none,
    /// as [`release`](Self::release).
    #[inline]
    pub fn release_first(self, count: usize) {
        if !self.receiver.link().is_from_this_process() {
            return;
        }
        self.receiver.reader.ring.release(count.min(self.values.len()) as u64);
        self.receiver.released();
    }
}

impl<T: Pod> Deref for ReadChunk<'_, T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        self.values
    }
}

impl ZeroCopySender<[u8]> {
    /// Room for one message of `length` bytes, at most [`max_inline_bytes`](Sender::max_inline_bytes), holding whatever was there.
    /// [`commit`](WriteMessage::commit) sends it; dropping it sends nothing.
    ///
    /// **Blocking**: while the ring is full. **Errors**: as for [`Sender::send`].
    ///
    /// ```
    /// let (tx, rx) = tombolo::Options::bytes().create()?;
    /// // SAFETY: both ends are ours.
    /// let (mut tx, mut rx) = unsafe { (tx.into_zero_copy(), rx.into_zero_copy()) };
    /// let mut room = tx.reserve(100)?;
    /// room[..5].copy_from_slice(b"short");
    /// room.commit(5);
    /// let message = rx.peek()?;
    /// assert_eq!(&*message, b"short");
    /// message.release();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reserve(&mut self, length: usize) -> Result<WriteMessage<'_>, SendError> {
        self.0.check()?;
        let limit = self.0.max_inline_bytes();
        if length > limit {
            return Err(SendError::TooLarge { length, limit });
        }
        let slot = loop {
            match self.0.writer.reserve(0, length as u64)? {
                Some(slot) => break slot,
                None => self.0.await_record(length as u64)?,
            }
        };
        let mut bytes = bytes(self.0.writer.data(), slot.start, length).ok_or(SendError::Corrupt)?;
        // SAFETY: free positions are the producer's alone (module invariant), and `WriteMessage` keeps `self` borrowed.
        Ok(WriteMessage { bytes: unsafe { bytes.as_mut() }, sender: &mut self.0, slot })
    }
}

/// Room for one message in a ring. It is the ring itself: a process that is forked meanwhile must not
/// write to it, or the parent sends what the child wrote.
#[derive(Debug)]
pub struct WriteMessage<'a> {
    sender: &'a mut Sender<[u8]>,
    bytes: &'a mut [u8],
    slot: Slot,
}

impl WriteMessage<'_> {
    /// Sends the first `length` bytes (all, if there are fewer) as one message. In a process that
    /// was forked meanwhile: nothing, it is the parent's to send.
    pub fn commit(self, length: usize) {
        if !self.sender.link().is_from_this_process() {
            return;
        }
        let words = self.sender.writer.seal(0, self.slot, length.min(self.bytes.len()) as u64);
        self.sender.writer.ring.publish(words);
        self.sender.published();
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

impl ZeroCopyReceiver<[u8]> {
    /// The next message. [`release`](ReadMessage::release) takes it off the ring; dropping it leaves it for the next call.
    ///
    /// **Blocking**: while the ring is empty. **Errors**: as for [`Receiver::recv`], and
    /// [`TooSmall`](RecvError::BufferTooSmall) for a message that streams through the ring: copy that one.
    pub fn peek(&mut self) -> Result<ReadMessage<'_>, RecvError> {
        self.0.check()?;
        let (start, length) = loop {
            match self.0.reader.peek()? {
                Some(found) => break found,
                None => self.0.await_message(None)?,
            }
        };
        let bytes = bytes(self.0.reader.records.data(), start, length).ok_or(RecvError::Corrupt)?;
        // SAFETY: published positions are the consumer's alone (module invariant), and `ReadMessage` keeps `self` borrowed.
        Ok(ReadMessage { bytes: unsafe { bytes.as_ref() }, receiver: &mut self.0 })
    }
}

/// A message in a ring.
#[derive(Debug)]
pub struct ReadMessage<'a> {
    receiver: &'a mut Receiver<[u8]>,
    bytes: &'a [u8],
}

impl ReadMessage<'_> {
    /// Takes it off the ring. In a process that was forked meanwhile: nothing, it is the parent's
    /// to take.
    pub fn release(self) {
        if !self.receiver.link().is_from_this_process() {
            return;
        }
        self.receiver.reader.records.release(self.bytes.len());
        self.receiver.released();
    }
}

impl Deref for ReadMessage<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
    }
}
