//! The subscriber of a broadcast of values.

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use crate::broadcast::Publisher;
use crate::broadcast::membership::join;
use crate::broadcast::snapshot::Snapshot;
use crate::broadcast::state::Role;
use crate::broadcast::subscribe_half::SubscribeHalf;
use crate::error::{RecvError, Result};
use crate::message::{Messages, sealed::Receive};
use crate::options::expect_joined;
use crate::primitive::load_value_into;
use crate::raw::Corrupt;
use crate::raw::broadcast::latest::split_slot;
use crate::region::lifecycle::Registration;
use crate::types::{InvalidValue, Shareable, Unchecked, load_checked};
use crate::wait::source::source;
use crate::wait::{Timeout, WaitStrategy};

/// Receives every value of a broadcast, from when it joined.
///
/// What happens to a subscriber that is too slow is up to the broadcast: see
/// [`Policy`](crate::broadcast::Policy). It never misses a value without being told.
///
/// When the last publisher has left or died, it receives what is left and then
/// [`Closed`](RecvError::Closed) or [`PeerDied`](RecvError::PeerDied). If another publisher joins,
/// calls wait for that one's values again. A subscriber that joins when no publisher is there waits
/// for the next one.
///
/// The values of one publisher come in order. Those of several publishers come as they are found,
/// each publisher in turn.
///
/// A subscriber may move between threads. For a second thread, [`try_clone`](Self::try_clone) it.
/// A forked child cannot use the subscriber of its parent ([`RecvError::Forked`]).
pub struct Subscriber<T: Shareable> {
    pub(super) half: SubscribeHalf,
    message: PhantomData<fn() -> T>,
}

/// The methods that subscribers of values and of byte messages share.
macro_rules! subscriber_methods {
    ($Publisher:ty) => {
        /// Blocks until there is a message to receive. Returns false if there is none after
        /// `timeout`.
        ///
        /// # Errors
        /// [`Closed`](RecvError::Closed), [`PeerDied`](RecvError::PeerDied),
        /// [`LockLost`](RecvError::LockLost), [`NameRemoved`](RecvError::NameRemoved) or
        /// [`Forked`](RecvError::Forked).
        pub fn poll(&mut self, timeout: Duration) -> Result<bool, RecvError> {
            self.half.poll(Timeout::after(timeout))
        }

        /// Returns how many messages were published and not received yet, at most the capacity for
        /// each publisher. Of byte messages: how many slots they take up.
        pub fn len(&self) -> usize {
            self.half.len() as usize
        }

        /// Returns how many messages had been published before the first one that this subscriber
        /// receives: those for which it joined too late. Of byte messages: how many slots. After
        /// [`rejoin`](Self::rejoin), or after it was passed to this process, it counts up to where
        /// it began again.
        pub fn published_before(&self) -> u64 {
            self.half.published_before()
        }

        /// Returns whether there is nothing to receive.
        pub fn is_empty(&self) -> bool {
            self.len() == 0
        }

        /// Begins again with the next message, after [`Evicted`](RecvError::Evicted) or at any
        /// other time. Returns how many messages were published since the last one that it
        /// received, and are never received now. Of byte messages: how many slots. Those that a
        /// snapshot had count, too.
        ///
        /// # Blocking
        /// Never.
        ///
        /// # Errors
        /// [`Corrupt`](RecvError::Corrupt), [`Forked`](RecvError::Forked).
        pub fn rejoin(&mut self) -> Result<u64, RecvError> {
            self.half.rejoin()
        }

        /// Makes another subscriber of the same broadcast. It receives what is published from now
        /// on.
        ///
        /// # Blocking
        /// Blocks for up to 5 s if another process was stopped while it joined or left.
        ///
        /// # Errors
        /// The broadcast has as many subscribers as it can
        /// ([`TooManyParticipants`](crate::ErrorKind::TooManyParticipants)): see
        /// [`max_subscribers`](crate::broadcast::Options::max_subscribers). Or there is no free
        /// descriptor.
        pub fn try_clone(&self) -> Result<Self> {
            let registration = expect_joined(join(self.half.reopen()?, Role::Subscriber, 0)?)?;
            Ok(Self::new(registration, self.half.wait_strategy(), self.half.waits_for_successor()))
        }

        /// Makes a publisher of the same broadcast.
        ///
        /// # Blocking
        /// As [`try_clone`](Self::try_clone).
        ///
        /// # Errors
        /// The broadcast has as many publishers as it can
        /// ([`TooManyParticipants`](crate::ErrorKind::TooManyParticipants)), or there is no free
        /// descriptor.
        pub fn publisher(&self) -> Result<$Publisher> {
            let registration = expect_joined(join(self.half.reopen()?, Role::Publisher, 0)?)?;
            <$Publisher>::new(registration, self.half.wait_strategy())
        }

        /// Returns an iterator that blocks for each message, until the stream ends.
        pub fn iter(&mut self) -> Messages<&mut Self> {
            Messages::blocking(self)
        }

        /// Returns an iterator over the messages that are there, which does not block.
        pub fn try_iter(&mut self) -> Messages<&mut Self> {
            Messages::non_blocking(self)
        }
    };
}

pub(super) use subscriber_methods;

impl<T: Shareable> Subscriber<T> {
    pub(super) fn new(registration: Registration, wait: WaitStrategy, waits_for_successor: bool) -> Self {
        Self { half: SubscribeHalf::new(registration, wait, waits_for_successor), message: PhantomData }
    }

    /// Receives one value.
    ///
    /// # Blocking
    /// Blocks until there is one, as the [`WaitStrategy`](crate::WaitStrategy) says. While there
    /// are values, it makes no system call, unless a publisher sleeps.
    ///
    /// # Errors
    /// - [`Lagged`](RecvError::Lagged): values were overwritten before this subscriber read them.
    ///   The next call goes on behind them.
    /// - [`Evicted`](RecvError::Evicted): the broadcast does not wait for this subscriber any more.
    ///   Call [`rejoin`](Self::rejoin), or drop it.
    /// - [`Closed`](RecvError::Closed), [`PeerDied`](RecvError::PeerDied): the last publisher has
    ///   left, or died, and everything was received.
    /// - [`LockLost`](RecvError::LockLost), [`NameRemoved`](RecvError::NameRemoved),
    ///   [`InvalidValue`](RecvError::InvalidValue), [`Corrupt`](RecvError::Corrupt) or
    ///   [`Forked`](RecvError::Forked).
    ///
    /// # Examples
    /// ```
    /// use tombolo::RecvError;
    /// use tombolo::broadcast::{Options, Policy};
    ///
    /// let options = Options::<u64>::new().capacity(4).policy(Policy::Lossy);
    /// let (mut publisher, mut subscriber) = options.create()?;
    /// (0..6).try_for_each(|number| publisher.publish(number))?;
    /// assert_eq!(subscriber.recv(), Err(RecvError::Lagged { missed: 2 }));
    /// assert_eq!(subscriber.recv(), Ok(2));
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
        self.recv_within(Timeout::after(timeout))
    }

    /// Like [`recv`](Self::recv), but returns [`TimedOut`](RecvError::TimedOut) at `deadline`. With
    /// `None` it never does.
    #[inline]
    pub fn recv_deadline(&mut self, deadline: Option<Instant>) -> Result<T, RecvError> {
        self.recv_within(Timeout::At(deadline))
    }

    /// Like [`recv`](Self::recv), but receives into a value that exists already. For a value that
    /// is [too large for the stack](crate#large-values).
    ///
    /// # Blocking
    /// As [`recv`](Self::recv).
    ///
    /// # Errors
    /// As for [`recv`](Self::recv). The value may have changed then: a publisher may overwrite what
    /// is being copied. Of a type that needs checks it is unchanged.
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

    /// Receives as many values of one publisher as there are and fit into `values`. Returns how
    /// many.
    ///
    /// # Blocking
    /// Blocks until there is at least one.
    ///
    /// # Errors
    /// As for [`recv`](Self::recv). With [`InvalidValue`](RecvError::InvalidValue) all of them are
    /// dropped.
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

    /// Receives one value with its key, in a broadcast with
    /// [`keys`](crate::broadcast::Options::keys).
    ///
    /// # Blocking
    /// As [`recv`](Self::recv).
    ///
    /// # Errors
    /// As for [`recv`](Self::recv), and [`NoKeys`](RecvError::NoKeys).
    #[inline]
    pub fn recv_key(&mut self) -> Result<(usize, T), RecvError> {
        self.recv_key_within(Timeout::UNLIMITED)
    }

    /// Like [`recv_key`](Self::recv_key), but returns [`Empty`](RecvError::Empty) instead of
    /// blocking.
    #[inline]
    pub fn try_recv_key(&mut self) -> Result<(usize, T), RecvError> {
        self.recv_key_within(Timeout::NonBlocking)
    }

    /// Like [`recv_key`](Self::recv_key), but returns [`TimedOut`](RecvError::TimedOut) after
    /// `timeout`.
    #[inline]
    pub fn recv_key_timeout(&mut self, timeout: Duration) -> Result<(usize, T), RecvError> {
        self.recv_key_within(Timeout::after(timeout))
    }

    /// Like [`recv_key`](Self::recv_key), but returns [`TimedOut`](RecvError::TimedOut) at
    /// `deadline`. With `None` it never does.
    #[inline]
    pub fn recv_key_deadline(&mut self, deadline: Option<Instant>) -> Result<(usize, T), RecvError> {
        self.recv_key_within(Timeout::At(deadline))
    }

    /// Returns the latest value of each key, in a broadcast with
    /// [`keys`](crate::broadcast::Options::keys). Calls that receive go on behind it.
    ///
    /// After it you receive what is newer than the snapshot, and nothing that is in it. What was
    /// published before and is not in it is older than what is there for the same key and
    /// publisher, and is not delivered any more: so the numbers of the messages that you receive
    /// may jump. If a call returns [`Lagged`](RecvError::Lagged), another snapshot has what was
    /// missed.
    ///
    /// Each value is the latest of its key. The values of different keys need not have been the
    /// latest at one and the same time. [`len`](Self::len) and [`poll`](Self::poll) also count
    /// values that will not be delivered because the snapshot has them.
    ///
    /// # Blocking
    /// Never. It copies all keys of all publishers, and makes no system call, unless a publisher
    /// sleeps.
    ///
    /// # Errors
    /// [`NoKeys`](RecvError::NoKeys), [`Evicted`](RecvError::Evicted): call
    /// [`rejoin`](Self::rejoin) first, [`OutOfMemory`](RecvError::OutOfMemory),
    /// [`InvalidValue`](RecvError::InvalidValue), [`Corrupt`](RecvError::Corrupt) or
    /// [`Forked`](RecvError::Forked). Then nothing has changed: receive as before, or try again.
    ///
    /// # Examples
    /// ```
    /// let (mut publisher, _first) = tombolo::broadcast::Options::<f64>::new().keys(500).create()?;
    /// publisher.publish_key(7, 101.25)?;
    /// publisher.publish_key(7, 101.5)?;
    /// let mut late = publisher.subscriber()?;
    /// let snapshot = late.snapshot()?;
    /// assert_eq!(snapshot.get(7), Some(&101.5));
    /// publisher.publish_key(9, 55.0)?;
    /// assert_eq!(late.recv_key()?, (9, 55.0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn snapshot(&mut self) -> Result<Snapshot<T>, RecvError> {
        self.half.snapshot()
    }

    subscriber_methods!(Publisher<T>);

    #[inline(always)]
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
        let key_words = self.half.key_words();
        self.half.read(1, timeout, |published| {
            let slot = published.slot(0).and_then(|slot| slot.get(key_words..));
            load_value_into(slot.ok_or(Corrupt)?, value);
            Ok((1, ()))
        })
    }

    #[inline(always)]
    fn recv_key_within(&mut self, timeout: Timeout) -> Result<(usize, T), RecvError> {
        let keys = self.half.keys().ok_or(RecvError::NoKeys)?;
        let mut value = Unchecked::<T>::zeroed();
        let key = self.half.read(1, timeout, |published| {
            let (key, words) = split_slot(published.slot(0).ok_or(Corrupt)?)?;
            load_value_into(words, value.bits_mut());
            Ok((1, key))
        })?;
        if key >= keys {
            return Err(Corrupt.into());
        }
        Ok((key as usize, value.check::<RecvError>()?))
    }

    #[inline]
    fn recv_many_within(&mut self, values: &mut [T], timeout: Timeout) -> Result<usize, RecvError> {
        if values.is_empty() {
            return Ok(0);
        }
        let key_words = self.half.key_words();
        let read = self.half.read(values.len() as u64, timeout, |published| {
            let count = published.count().min(values.len() as u64);
            let mut is_valid = Ok(());
            for (number, value) in (0..count).zip(&mut *values) {
                let slot = published.slot(number).and_then(|slot| slot.get(key_words..)).ok_or(Corrupt)?;
                let loaded = load_checked(value, |bits| {
                    load_value_into(slot, bits);
                    Ok(())
                });
                is_valid = is_valid.and(loaded);
            }
            Ok((count, is_valid.map(|()| count as usize)))
        })?;
        read.map_err(|invalid: InvalidValue| invalid.into())
    }
}

impl<T: Shareable> Receive for Subscriber<T> {
    type Message = T;

    #[inline]
    fn receive(&mut self, timeout: Timeout) -> Result<T, RecvError> {
        self.recv_within(timeout)
    }
}

impl<T: Shareable> IntoIterator for Subscriber<T> {
    type Item = Result<T, RecvError>;
    type IntoIter = Messages<Self>;

    fn into_iter(self) -> Messages<Self> {
        Messages::blocking(self)
    }
}

impl<T: Shareable> IntoIterator for &mut Subscriber<T> {
    type Item = Result<T, RecvError>;
    type IntoIter = Messages<Self>;

    fn into_iter(self) -> Messages<Self> {
        Messages::blocking(self)
    }
}

impl<T: Shareable> fmt::Debug for Subscriber<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber").field("half", &self.half).finish()
    }
}

source!([T: Shareable] Subscriber<T>, half);
