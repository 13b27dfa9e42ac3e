//! The receiving endpoint of a pipe of values.

use std::fmt;
use std::time::{Duration, Instant};

use crate::error::{RecvError, Result};
use crate::message::Messages;
use crate::message::sealed::Receive;
use crate::pipe::half::RecvHalf;
use crate::pipe::peer::peer_methods;
use crate::raw::Corrupt;
use crate::raw::spsc::value_ring::SlotReader;
use crate::region::words::Mapped;
use crate::types::{InvalidValue, Shareable, Unchecked, load_checked, slice_bits_of_mut};
use crate::wait::Timeout;
use crate::wait::source::source;

/// Receives values from one [`Sender`](crate::pipe::Sender), in order, each once.
///
/// # How a stream ends
///
/// When the sender has left or died, you first receive all that it sent. After that each call
/// returns at once: `recv`, `try_recv` and their variants return [`RecvError::Closed`] if it left,
/// and [`RecvError::PeerDied`] if its process died. [`poll`](Self::poll) returns true.
///
/// That changes when another sender joins: then calls wait for what that one sends. You get the end
/// of the first one in any case, before the first value of the next. An [iterator](Self::iter) ends
/// for good. Take a new one to go on.
///
/// The end of a sender is for the receiver that was there, and for one that still finds messages of
/// it. A receiver that joins later waits for the next sender, as it would under a new name.
///
/// There are two ways to go on with the next sender. Neither needs a pause in a loop:
///
/// - Open the receiver with
///   [`wait_for_successor`](crate::pipe::Options::wait_for_successor). Then it does not return ends
///   at all.
/// - Wait for the next sender where an end was returned:
///
/// ```no_run
/// use std::time::Duration;
/// use tombolo::{RecvError, pipe};
///
/// let mut rx = pipe::Options::<u64>::new().receiver("prices")?;
/// loop {
///     match rx.recv() {
///         Ok(price) => println!("{price}"),
///         Err(RecvError::PeerDied) => rx.wait_for_peer(Duration::from_secs(60))?,
///         Err(RecvError::Closed) => break,
///         Err(error) => return Err(error.into()),
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The algorithm is Lamport's ring with cached positions (`raw/spsc`).
///
/// A receiver may move between threads. A forked child cannot use the receiver of its parent
/// ([`RecvError::Forked`]).
pub struct Receiver<T: Shareable> {
    pub(crate) half: RecvHalf<SlotReader<Mapped, T::Bits>>,
}

impl<T: Shareable> Receiver<T> {
    /// Receives one value.
    ///
    /// # Blocking
    /// Blocks while the ring is empty, as the [`WaitStrategy`](crate::WaitStrategy) says. If a
    /// value is there, it makes no system call, unless the sender sleeps.
    ///
    /// # Errors
    /// [`Closed`](RecvError::Closed), [`PeerDied`](RecvError::PeerDied),
    /// [`LockLost`](RecvError::LockLost), [`NameRemoved`](RecvError::NameRemoved),
    /// [`Corrupt`](RecvError::Corrupt), [`InvalidValue`](RecvError::InvalidValue) or
    /// [`Forked`](RecvError::Forked).
    ///
    /// # Examples
    /// ```
    /// let (mut tx, mut rx) = tombolo::pipe::Options::<u32>::new().create()?;
    /// tx.send(1)?;
    /// drop(tx);
    /// assert_eq!(rx.recv(), Ok(1));
    /// assert_eq!(rx.recv(), Err(tombolo::RecvError::Closed));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn recv(&mut self) -> Result<T, RecvError> {
        self.recv_within(Timeout::UNLIMITED)
    }

    /// Like [`recv`](Self::recv), but returns [`Empty`](RecvError::Empty) instead of blocking.
    #[inline]
    pub fn try_recv(&mut self) -> Result<T, RecvError> {
        self.recv_within(Timeout::NonBlocking)
    }

    /// Like [`recv`](Self::recv), but returns [`TimedOut`](RecvError::TimedOut) after `timeout`.
    #[inline]
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvError> {
        match self.try_recv() {
            // Only now is it worth reading the clock.
            Err(RecvError::Empty) => self.recv_within(Timeout::after(timeout)),
            done => done,
        }
    }

    /// Like [`recv`](Self::recv), but returns [`TimedOut`](RecvError::TimedOut) at `deadline`. With
    /// `None` it never does.
    #[inline]
    pub fn recv_deadline(&mut self, deadline: Option<Instant>) -> Result<T, RecvError> {
        self.recv_within(Timeout::At(deadline))
    }

    /// Like [`recv`](Self::recv), but receives into a value that exists already. For large types
    /// this saves copies, and a value that is [too large for the stack](crate#large-values) can be
    /// in a `Box`.
    ///
    /// # Blocking
    /// As [`recv`](Self::recv).
    ///
    /// # Errors
    /// Those of [`recv`](Self::recv). The value is unchanged.
    ///
    /// # Examples
    /// ```
    /// let (mut tx, mut rx) = tombolo::pipe::Options::<[u64; 512]>::new().create()?;
    /// tx.send(&[7; 512])?;
    /// let mut page = [0; 512];
    /// rx.recv_into(&mut page)?;
    /// assert_eq!(page, [7; 512]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn recv_into(&mut self, value: &mut T) -> Result<(), RecvError> {
        self.recv_into_within(value, Timeout::UNLIMITED)
    }

    /// Like [`recv_into`](Self::recv_into), but returns [`Empty`](RecvError::Empty) instead of
    /// blocking.
    #[inline]
    pub fn try_recv_into(&mut self, value: &mut T) -> Result<(), RecvError> {
        self.recv_into_within(value, Timeout::NonBlocking)
    }

    /// Like [`recv_into`](Self::recv_into), but returns [`TimedOut`](RecvError::TimedOut) after
    /// `timeout`.
    #[inline]
    pub fn recv_into_timeout(&mut self, value: &mut T, timeout: Duration) -> Result<(), RecvError> {
        self.recv_into_within(value, Timeout::after(timeout))
    }

    /// Like [`recv_into`](Self::recv_into), but returns [`TimedOut`](RecvError::TimedOut) at
    /// `deadline`. With `None` it never does.
    #[inline]
    pub fn recv_into_deadline(&mut self, value: &mut T, deadline: Option<Instant>) -> Result<(), RecvError> {
        self.recv_into_within(value, Timeout::At(deadline))
    }

    /// Receives as many values as are there, at most as many as `values` holds. Returns how many.
    ///
    /// # Blocking
    /// Blocks until there is at least one value.
    ///
    /// # Errors
    /// Those of [`recv`](Self::recv). Values before an invalid one are received first.
    #[inline]
    pub fn recv_many(&mut self, values: &mut [T]) -> Result<usize, RecvError> {
        self.recv_many_within(values, Timeout::UNLIMITED)
    }

    /// Like [`recv_many`](Self::recv_many), but returns [`Empty`](RecvError::Empty) instead of
    /// blocking.
    #[inline]
    pub fn try_recv_many(&mut self, values: &mut [T]) -> Result<usize, RecvError> {
        self.recv_many_within(values, Timeout::NonBlocking)
    }

    /// Blocks until there is something to receive: a value, or the end of the sender, which the
    /// next `recv` returns. Returns false when `timeout` has passed.
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

    /// Returns an iterator that blocks for each value, until the sender has left. See [`Messages`]
    /// for other ways in which it ends.
    ///
    /// # Examples
    /// ```
    /// let (mut tx, mut rx) = tombolo::pipe::Options::<u32>::new().create()?;
    /// tx.send_many(&[1, 2, 3])?;
    /// drop(tx);
    /// assert_eq!(rx.iter().collect::<Result<Vec<_>, _>>()?, [1, 2, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn iter(&mut self) -> Messages<&mut Self> {
        Messages::blocking(self)
    }

    /// Returns an iterator over the values that are there already.
    pub fn try_iter(&mut self) -> Messages<&mut Self> {
        Messages::non_blocking(self)
    }

    peer_methods!(half, [half]);

    #[inline]
    fn recv_within(&mut self, timeout: Timeout) -> Result<T, RecvError> {
        let mut value = Unchecked::<T>::zeroed();
        self.recv_bits_within(value.bits_mut(), timeout)?;
        value.check()
    }

    #[inline(always)]
    fn recv_into_within(&mut self, value: &mut T, timeout: Timeout) -> Result<(), RecvError> {
        load_checked(value, |bits| self.recv_bits_within(bits, timeout))
    }

    #[inline(always)]
    fn recv_bits_within(&mut self, value: &mut T::Bits, timeout: Timeout) -> Result<(), RecvError> {
        while !self.recv_fast(value)? {
            let Timeout::At(deadline) = timeout else {
                self.half.recheck()?;
                continue;
            };
            return self.half.wait_until_popped(deadline, |reader| Ok(reader.pop(value)?.then_some(())));
        }
        Ok(())
    }

    /// Receives a value if one is there.
    #[inline]
    fn recv_fast(&mut self, value: &mut T::Bits) -> Result<bool, RecvError> {
        self.half.check()?;
        let was_there = self.half.reader.pop(value)?;
        if was_there {
            self.half.connection.peer_event.notify(1);
        }
        Ok(was_there)
    }

    #[inline]
    fn recv_many_within(&mut self, values: &mut [T], timeout: Timeout) -> Result<usize, RecvError> {
        loop {
            self.half.check()?;
            let (count, invalid) = match slice_bits_of_mut(values) {
                Some(bits) => (self.half.reader.pop_many(bits)?, None),
                None => self.pop_valid(values)?,
            };
            if count > 0 || invalid.is_some() {
                self.half.connection.peer_event.notify(1);
            }
            if let Some(invalid) = invalid {
                return Err(invalid.into());
            }
            if count > 0 || values.is_empty() {
                return Ok(count);
            }
            self.half.wait_for_message(timeout)?;
        }
    }

    /// Pops values up to the first invalid one, which is popped alone. Returns how many there were.
    fn pop_valid(&mut self, values: &mut [T]) -> Result<(usize, Option<InvalidValue>), Corrupt> {
        for (index, value) in values.iter_mut().enumerate() {
            let mut next = Unchecked::<T>::zeroed();
            let may_pop = |bits: &T::Bits| index == 0 || T::is_valid(bits);
            if !self.half.reader.pop_if(next.bits_mut(), may_pop)? {
                return Ok((index, None));
            }
            match next.check() {
                Ok(next) => *value = next,
                Err(invalid) => return Ok((0, Some(invalid))),
            }
        }
        Ok((values.len(), None))
    }
}

source!([T: Shareable] Receiver<T>, half);

impl<T: Shareable> Receive for Receiver<T> {
    type Message = T;

    #[inline]
    fn receive(&mut self, timeout: Timeout) -> Result<T, RecvError> {
        self.recv_within(timeout)
    }
}

impl<T: Shareable> IntoIterator for Receiver<T> {
    type Item = Result<T, RecvError>;
    type IntoIter = Messages<Self>;

    fn into_iter(self) -> Messages<Self> {
        Messages::blocking(self)
    }
}

impl<T: Shareable> IntoIterator for &mut Receiver<T> {
    type Item = Result<T, RecvError>;
    type IntoIter = Messages<Self>;

    fn into_iter(self) -> Messages<Self> {
        Messages::blocking(self)
    }
}

impl<T: Shareable> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("half", &self.half).finish()
    }
}
