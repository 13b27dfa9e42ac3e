//! The sending endpoint of a pipe of values.

use std::borrow::Borrow;
use std::fmt;
use std::time::{Duration, Instant};

use crate::error::{Result, SendError};
use crate::pipe::half::SendHalf;
use crate::pipe::peer::peer_methods;
use crate::pipe::store_policy::LARGE;
use crate::raw::event_count::EventCount;
use crate::raw::spsc::value_ring::SlotWriter;
use crate::raw::spsc::value_ring::StoreKind::Temporal;
use crate::region::words::Mapped;
use crate::sys::clock::Deadline;
use crate::types::{Shareable, bits_of, slice_bits_of};
use crate::wait::source::{Source, sealed::Watch};
use crate::wait::{Attempt, Timeout};

/// Sends values to one [`Receiver`](crate::pipe::Receiver), in order.
///
/// A value is published at once and never lost: it is delivered, or the call returns why not. When
/// you drop the sender, the receiver gets what was sent and then
/// [`Closed`](crate::RecvError::Closed).
///
/// The algorithm is Lamport's ring with cached positions (`raw/spsc`).
///
/// A sender may move between threads. A forked child cannot use the sender of its parent
/// ([`SendError::Forked`]).
pub struct Sender<T: Shareable> {
    pub(crate) half: SendHalf<SlotWriter<Mapped, T::Bits>>,
}

impl<T: Shareable> Sender<T> {
    /// Sends one value. Takes the value, or a reference to it.
    ///
    /// # Blocking
    /// Blocks while the ring is full, as the [`WaitStrategy`](crate::WaitStrategy) says. If there
    /// is room, it makes no system call, unless the receiver sleeps.
    ///
    /// # Errors
    /// - [`Closed`](SendError::Closed) as soon as the receiver has left.
    /// - [`PeerDied`](SendError::PeerDied) if the receiver was killed, but only when the ring is
    ///   full. Until then values are queued for its successor, as they are for a receiver that has
    ///   not come yet. [`peer_status`](Self::peer_status) returns what became of it.
    /// - [`LockLost`](SendError::LockLost), [`NameRemoved`](SendError::NameRemoved),
    ///   [`Corrupt`](SendError::Corrupt) or [`Forked`](SendError::Forked).
    ///
    /// The value was not sent then.
    ///
    /// # Examples
    /// ```
    /// let (mut tx, mut rx) = tombolo::pipe::Options::<[f32; 3]>::new().create()?;
    /// tx.send([1.0, 2.0, 3.0])?;
    /// assert_eq!(rx.recv()?, [1.0, 2.0, 3.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn send(&mut self, value: impl Borrow<T>) -> Result<(), SendError> {
        self.send_within(value.borrow(), Timeout::UNLIMITED)
    }

    /// Like [`send`](Self::send), but returns [`Full`](SendError::Full) instead of blocking.
    #[inline]
    pub fn try_send(&mut self, value: impl Borrow<T>) -> Result<(), SendError> {
        self.send_within(value.borrow(), Timeout::NonBlocking)
    }

    /// Like [`send`](Self::send), but returns [`TimedOut`](SendError::TimedOut) after `timeout`.
    #[inline]
    pub fn send_timeout(&mut self, value: impl Borrow<T>, timeout: Duration) -> Result<(), SendError> {
        let value = value.borrow();
        match self.send_within(value, Timeout::NonBlocking) {
            // Only now is it worth reading the clock.
            Err(SendError::Full) => self.send_within(value, Timeout::after(timeout)),
            done => done,
        }
    }

    /// Like [`send`](Self::send), but returns [`TimedOut`](SendError::TimedOut) at `deadline`. With
    /// `None` it never does.
    #[inline]
    pub fn send_deadline(&mut self, value: impl Borrow<T>, deadline: Option<Instant>) -> Result<(), SendError> {
        self.send_within(value.borrow(), Timeout::At(deadline))
    }

    /// Sends values from the front of `values` and publishes them together. Returns how many.
    ///
    /// # Blocking
    /// Blocks until at least one value could be sent. It sends as many as there is room for: call
    /// it again with the rest.
    ///
    /// # Errors
    /// Those of [`send`](Self::send). No value was sent.
    ///
    /// # Examples
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
        self.send_many_within(values, Timeout::UNLIMITED)
    }

    /// Like [`send_many`](Self::send_many), but returns [`Full`](SendError::Full) instead of
    /// blocking.
    #[inline]
    pub fn try_send_many(&mut self, values: &[T]) -> Result<usize, SendError> {
        self.send_many_within(values, Timeout::NonBlocking)
    }

    peer_methods!(half, [half]);

    #[inline(always)]
    fn send_within(&mut self, value: &T, timeout: Timeout) -> Result<(), SendError> {
        loop {
            self.half.check()?;
            let size = size_of::<T>();
            let stores = if size < LARGE { Temporal } else { self.half.stores.choose(size) };
            if self.half.writer.push(bits_of(value), stores)? {
                self.half.connection.peer_event.notify(1);
                return Ok(());
            }
            self.wait_for_room(timeout)?;
        }
    }

    #[inline]
    fn send_many_within(&mut self, values: &[T], timeout: Timeout) -> Result<usize, SendError> {
        loop {
            self.half.check()?;
            let count =
                self.half.writer.push_many(slice_bits_of(values), self.half.stores.choose(size_of_val(values)))?;
            if count > 0 {
                self.half.connection.peer_event.notify(1);
            }
            if count > 0 || values.is_empty() {
                return Ok(count);
            }
            self.wait_for_room(timeout)?;
        }
    }

    #[cold]
    pub(crate) fn wait_for_room(&mut self, timeout: Timeout) -> Result<(), SendError> {
        self.half.wait_for_room(timeout, |writer| Ok(writer.ring.writable(1)? > 0))
    }
}

impl<T: Shareable> Source for Sender<T> {}

impl<T: Shareable> Watch for Sender<T> {
    fn is_ready(&mut self, attempt: Attempt) -> bool {
        self.half.is_ready(attempt, |writer| Ok(writer.ring.writable(1)? > 0))
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

impl<T: Shareable> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("half", &self.half).finish()
    }
}
