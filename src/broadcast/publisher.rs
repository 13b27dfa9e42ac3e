//! The publisher of a broadcast of values.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use crate::broadcast::Subscriber;
use crate::broadcast::membership::join;
use crate::broadcast::publish_half::PublishHalf;
use crate::broadcast::slow::SlowSubscriber;
use crate::broadcast::state::Role;
use crate::error::{Result, SendError};
use crate::options::expect_joined;
use crate::primitive::store_value;
use crate::types::{Shareable, bits_of, slice_bits_of};
use crate::wait::Timeout;
use crate::wait::source::source;

/// Publishes values to all [`Subscriber`]s of a broadcast.
///
/// Each publisher has a ring of its own, so publishers do not wait for each other. Subscribers
/// receive the values of one publisher in order. When you drop the last publisher, they receive
/// what is left and then [`Closed`](crate::RecvError::Closed).
///
/// The algorithm is a seqlock over a ring (`raw/broadcast`).
///
/// A publisher may move between threads. A forked child cannot use the publisher of its parent
/// ([`SendError::Forked`]).
pub struct Publisher<T: Shareable> {
    pub(super) half: PublishHalf,
    message: PhantomData<fn(T)>,
}

/// The methods that publishers of values and of byte messages share.
macro_rules! publisher_methods {
    ($Subscriber:ty) => {
        /// Returns the subscriber that is farthest behind this publisher. `None` if there is none.
        ///
        /// If publishing blocks or times out, this is the subscriber that it waits for.
        pub fn slowest(&self) -> Option<SlowSubscriber> {
            self.half.slowest()
        }

        /// Evicts the subscriber that is farthest behind, and returns which one that was. It gets
        /// [`Evicted`](crate::RecvError::Evicted), and can rejoin.
        ///
        /// In a lossless broadcast this puts an end to the waiting for a process that is stopped:
        /// call it when publishing has timed out. `None` if there is no subscriber, if it has just
        /// left, or in a lossy broadcast.
        pub fn evict_slowest(&mut self) -> Option<SlowSubscriber> {
            self.half.evict_slowest()
        }

        /// Returns how many subscribers receive what is published now. One that died and was not
        /// noticed yet is counted, one that was evicted is not, nor are
        /// [observers](crate::broadcast::Options::observer).
        pub fn subscribers(&self) -> usize {
            self.half.subscribers()
        }

        /// Blocks until there are `count` [subscribers](Self::subscribers). A message that is
        /// published before a subscriber is there goes to it only as
        /// [history](crate::broadcast::Options::history).
        ///
        /// # Errors
        /// [`TimedOut`](SendError::TimedOut), [`Forked`](SendError::Forked).
        pub fn wait_for_subscribers(&mut self, count: usize, timeout: Duration) -> Result<(), SendError> {
            self.half.wait_for_subscribers(count, timeout)
        }

        /// Makes another publisher of the same broadcast, with a ring of its own.
        ///
        /// # Blocking
        /// Blocks for up to 5 s if another process was stopped while it joined or left.
        ///
        /// # Errors
        /// The broadcast has as many publishers as it can
        /// ([`TooManyParticipants`](crate::ErrorKind::TooManyParticipants)): see
        /// [`max_publishers`](crate::broadcast::Options::max_publishers). Or there is no free
        /// descriptor.
        pub fn try_clone(&self) -> Result<Self> {
            let registration = expect_joined(join(self.half.reopen()?, Role::Publisher, 0)?)?;
            Self::new(registration, self.half.wait_strategy())
        }

        /// Makes a subscriber of the same broadcast. It receives what is published from now on.
        ///
        /// # Blocking
        /// As [`try_clone`](Self::try_clone).
        ///
        /// # Errors
        /// As [`try_clone`](Self::try_clone).
        pub fn subscriber(&self) -> Result<$Subscriber> {
            let registration = expect_joined(join(self.half.reopen()?, Role::Subscriber, 0)?)?;
            Ok(<$Subscriber>::new(registration, self.half.wait_strategy(), false))
        }
    };
}

pub(super) use publisher_methods;

impl<T: Shareable> Publisher<T> {
    pub(super) fn new(
        registration: crate::region::lifecycle::Registration,
        wait: crate::wait::WaitStrategy,
    ) -> Result<Self> {
        Ok(Self { half: PublishHalf::new(registration, wait)?, message: PhantomData })
    }

    /// Publishes one value. Takes the value, or a reference to it.
    ///
    /// # Blocking
    /// In a lossless broadcast blocks while the ring is full of values that some subscriber has not
    /// read, as the [`WaitStrategy`](crate::WaitStrategy) says. [`slowest`](Self::slowest) tells
    /// which one. A subscriber that was killed is noticed within 20 ms. Otherwise, and without
    /// subscribers, it never blocks. It makes no system call, unless a subscriber sleeps.
    ///
    /// # Errors
    /// [`LockLost`](SendError::LockLost), [`Corrupt`](SendError::Corrupt),
    /// [`Forked`](SendError::Forked), or [`KeyMissing`](SendError::KeyMissing) if the broadcast has
    /// [`keys`](crate::broadcast::Options::keys). The value was not published then.
    ///
    /// # Examples
    /// ```
    /// let (mut publisher, mut first) = tombolo::broadcast::Options::<f64>::new().create()?;
    /// let mut second = publisher.subscriber()?;
    /// publisher.publish(101.25)?;
    /// assert_eq!([first.recv()?, second.recv()?], [101.25, 101.25]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn publish(&mut self, value: impl Borrow<T>) -> Result<(), SendError> {
        self.publish_within(value.borrow(), Timeout::UNLIMITED)
    }

    /// Like [`publish`](Self::publish), but returns [`Full`](SendError::Full) instead of blocking.
    #[inline]
    pub fn try_publish(&mut self, value: impl Borrow<T>) -> Result<(), SendError> {
        self.publish_within(value.borrow(), Timeout::NonBlocking)
    }

    /// Like [`publish`](Self::publish), but returns [`TimedOut`](SendError::TimedOut) after
    /// `timeout`.
    #[inline]
    pub fn publish_timeout(&mut self, value: impl Borrow<T>, timeout: Duration) -> Result<(), SendError> {
        self.publish_within(value.borrow(), Timeout::after(timeout))
    }

    /// Like [`publish`](Self::publish), but returns [`TimedOut`](SendError::TimedOut) at
    /// `deadline`. With `None` it never does.
    #[inline]
    pub fn publish_deadline(&mut self, value: impl Borrow<T>, deadline: Option<Instant>) -> Result<(), SendError> {
        self.publish_within(value.borrow(), Timeout::At(deadline))
    }

    /// Publishes values from the front of `values`, together. Returns how many.
    ///
    /// # Blocking
    /// Blocks until at least one value could be published. It publishes as many as there is room
    /// for: call it again with the rest.
    ///
    /// # Errors
    /// Those of [`publish`](Self::publish). No value was published.
    #[inline]
    pub fn publish_many(&mut self, values: &[T]) -> Result<usize, SendError> {
        self.publish_many_within(values, Timeout::UNLIMITED)
    }

    /// Like [`publish_many`](Self::publish_many), but returns [`Full`](SendError::Full) instead of
    /// blocking.
    #[inline]
    pub fn try_publish_many(&mut self, values: &[T]) -> Result<usize, SendError> {
        self.publish_many_within(values, Timeout::NonBlocking)
    }

    /// Publishes one value of a key, in a broadcast with [`keys`](crate::broadcast::Options::keys).
    /// The value becomes the latest of that key, for
    /// [`Subscriber::snapshot`](crate::broadcast::Subscriber::snapshot).
    ///
    /// # Blocking
    /// As [`publish`](Self::publish).
    ///
    /// # Errors
    /// Those of [`publish`](Self::publish), and [`InvalidKey`](SendError::InvalidKey) if there is
    /// no such key. The value was not published then.
    ///
    /// # Examples
    /// ```
    /// let (mut publisher, mut subscriber) = tombolo::broadcast::Options::<f64>::new().keys(500).create()?;
    /// publisher.publish_key(7, 101.25)?;
    /// assert_eq!(subscriber.recv_key()?, (7, 101.25));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn publish_key(&mut self, key: usize, value: impl Borrow<T>) -> Result<(), SendError> {
        self.publish_key_within(key, value.borrow(), Timeout::UNLIMITED)
    }

    /// Like [`publish_key`](Self::publish_key), but returns [`Full`](SendError::Full) instead of
    /// blocking.
    #[inline]
    pub fn try_publish_key(&mut self, key: usize, value: impl Borrow<T>) -> Result<(), SendError> {
        self.publish_key_within(key, value.borrow(), Timeout::NonBlocking)
    }

    /// Like [`publish_key`](Self::publish_key), but returns [`TimedOut`](SendError::TimedOut) after
    /// `timeout`.
    #[inline]
    pub fn publish_key_timeout(
        &mut self,
        key: usize,
        value: impl Borrow<T>,
        timeout: Duration,
    ) -> Result<(), SendError> {
        self.publish_key_within(key, value.borrow(), Timeout::after(timeout))
    }

    /// Like [`publish_key`](Self::publish_key), but returns [`TimedOut`](SendError::TimedOut) at
    /// `deadline`. With `None` it never does.
    #[inline]
    pub fn publish_key_deadline(
        &mut self,
        key: usize,
        value: impl Borrow<T>,
        deadline: Option<Instant>,
    ) -> Result<(), SendError> {
        self.publish_key_within(key, value.borrow(), Timeout::At(deadline))
    }

    publisher_methods!(Subscriber<T>);

    #[inline(always)]
    fn publish_within(&mut self, value: &T, timeout: Timeout) -> Result<(), SendError> {
        if self.half.has_keys() {
            return Err(SendError::KeyMissing);
        }
        self.half.publish(1, 1, timeout, |_, slot| store_value(slot, bits_of(value))).map(drop)
    }

    #[inline(always)]
    fn publish_key_within(&mut self, key: usize, value: &T, timeout: Timeout) -> Result<(), SendError> {
        self.half.publish_key(key, timeout, |words| store_value(words, bits_of(value)))
    }

    #[inline]
    fn publish_many_within(&mut self, values: &[T], timeout: Timeout) -> Result<usize, SendError> {
        if self.half.has_keys() {
            return Err(SendError::KeyMissing);
        }
        let Some(least) = values.len().checked_sub(1).map(|_| 1) else { return Ok(0) };
        let bits = slice_bits_of(values);
        let fill = |number: u64, slot: &[crate::primitive::AtomicU64]| {
            if let Some(bits) = bits.get(number as usize) {
                store_value(slot, bits);
            }
        };
        self.half.publish(least, values.len() as u64, timeout, fill).map(|count| count as usize)
    }
}

impl<T: Shareable> fmt::Debug for Publisher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("half", &self.half).finish()
    }
}

source!([T: Shareable] Publisher<T>, half);
