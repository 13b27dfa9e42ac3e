//! The sending half of a queue of values.

use std::borrow::Borrow;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use crate::error::{JoinError, RecvError, Result, SendError};
use crate::primitive::{WORD, store_value};
use crate::queue::dead_letter::DeadLetters;
use crate::queue::half::{Half, queue_methods};
use crate::queue::participant::Role;
use crate::queue::peer::peer_methods;
use crate::queue::receiver::{Receiver, read_dead_letter};
use crate::region::lifecycle::Registration;
use crate::types::{Shareable, bits_of};
use crate::wait::source::source;
use crate::wait::{Timeout, WaitStrategy};

/// Sends values into a queue, together with any number of other senders. Each message goes to one
/// receiver.
///
/// Each call publishes at once, and the messages of one handle arrive in the order of its calls.
/// While there is room, sending makes no system call, and no other process can delay it, be it
/// stopped or dead. When the last sender is dropped, receivers get everything that was sent and
/// then [`RecvError::Closed`](crate::RecvError::Closed).
///
/// You can move a sender to another thread. For a second thread, [`try_clone`](Self::try_clone) it.
/// A forked child cannot use the senders of its parent ([`SendError::Forked`]).
#[derive(Debug)]
pub struct Sender<T: Shareable> {
    pub(super) half: Half,
    message: PhantomData<fn(&T)>,
}

/// The methods that senders of values and of byte messages share.
macro_rules! sender_methods {
    ($Receiver:ty) => {
        pub(crate) fn new(registration: Registration, wait: WaitStrategy) -> Self {
            Self::from_half(Half::new(registration, Role::Sender, wait))
        }

        queue_methods!(half);

        peer_methods!(half, "receiver", "receivers");

        /// Makes another sender of the same queue and of the same run, for another thread or
        /// process.
        ///
        /// # Blocking
        /// Blocks for up to 5 s if another process was stopped while it joined or left.
        ///
        /// # Errors
        /// The queue has as many participants as it can
        /// ([`TooManyParticipants`](crate::ErrorKind::TooManyParticipants)), or there is no free
        /// descriptor.
        pub fn try_clone(&self) -> Result<Self> {
            let mut clone = Self::new(self.half.clone_as(Role::Sender)?, self.half.participant.wait_strategy());
            clone.half.tasks_lost_before = self.half.tasks_lost_before;
            Ok(clone)
        }

        /// Makes a receiver of the same queue.
        ///
        /// # Blocking
        /// As [`try_clone`](Self::try_clone).
        ///
        /// # Errors
        /// As [`try_clone`](Self::try_clone).
        pub fn receiver(&self) -> Result<$Receiver> {
            Ok(<$Receiver>::new(self.half.clone_as(Role::Receiver)?, self.half.participant.wait_strategy(), false))
        }

        /// Waits until everything that was sent was received, and receivers have called
        /// [`task_done`](crate::queue::Receiver::task_done) for each message.
        ///
        /// A message whose receiver dies or leaves before `task_done` is not delivered again. Its
        /// task is lost, and this tells you: once all other tasks are done, it returns
        /// [`TasksLost`](JoinError::TasksLost). You can send again what was not answered, and join
        /// again. Receive the answers that wait first, and expect that one comes twice.
        ///
        /// If answers come back through a queue, it needs room for all of them, or a thread that
        /// receives them meanwhile.
        ///
        /// A handle reports what was lost since it was opened, or taken over from another process;
        /// a clone reports what its original would. [`stats`](Self::stats) counts all.
        ///
        /// Messages that `close_now` discarded, or that a receiver took and could not read, count
        /// as done; `dropped` of the statistics counts them.
        ///
        /// # Blocking
        /// Blocks until then, also for receivers that are stopped.
        ///
        /// # Errors
        /// - [`TasksLost`](JoinError::TasksLost): nothing is left to wait for, and not everything
        ///   was done. Each handle returns this once for each task.
        /// - [`Closed`](JoinError::Closed) or [`PeerDied`](JoinError::PeerDied): the last receiver
        ///   left or died before everything was received.
        /// - [`Forked`](JoinError::Forked), [`LockLost`](JoinError::LockLost),
        ///   [`NameRemoved`](JoinError::NameRemoved).
        ///
        /// # Examples
        /// ```
        /// use tombolo::queue::{self, JoinError};
        ///
        /// let (mut jobs, mut worker) = queue::Options::<u64>::new().create_channel()?;
        /// jobs.send(1)?;
        /// worker.recv()?;
        /// worker.task_done()?;
        /// assert_eq!(jobs.join(), Ok(()));
        ///
        /// jobs.send(2)?;
        /// worker.recv()?;
        /// drop(worker); // or its process is killed
        /// assert_eq!(jobs.join(), Err(JoinError::TasksLost { count: 1 }));
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        pub fn join(&mut self) -> Result<(), JoinError> {
            self.join_until(None)
        }

        /// Like [`join`](Self::join), but returns [`TimedOut`](JoinError::TimedOut) after
        /// `timeout`.
        pub fn join_timeout(&mut self, timeout: Duration) -> Result<(), JoinError> {
            self.join_until($crate::sys::clock::deadline_after(timeout))
        }

        fn join_until(&mut self, deadline: $crate::sys::clock::Deadline) -> Result<(), JoinError> {
            self.half.join(&mut None, $crate::wait::Timeout::At(deadline)).map(Option::unwrap_or_default)
        }
    };
}

pub(super) use sender_methods;

impl<T: Shareable> Sender<T> {
    fn from_half(half: Half) -> Self {
        Self { half, message: PhantomData }
    }

    sender_methods!(Receiver<T>);

    /// Sends one value. Takes the value, or a reference to it.
    ///
    /// # Blocking
    /// Blocks while the queue is full, as the [`WaitStrategy`](crate::WaitStrategy) says. While
    /// there is room, it makes no system call.
    ///
    /// # Errors
    /// Nothing was sent:
    /// - [`Closed`](SendError::Closed): this sender's run was closed, or the queue is full and the
    ///   last receiver has left.
    /// - [`PeerDied`](SendError::PeerDied): the queue is full and the last receiver died.
    /// - [`Corrupt`](SendError::Corrupt), [`Forked`](SendError::Forked),
    ///   [`LockLost`](SendError::LockLost), [`NameRemoved`](SendError::NameRemoved).
    ///
    /// # Examples
    /// ```
    /// let (mut tx, mut rx) = tombolo::queue::Options::<[u32; 2]>::new().create_channel()?;
    /// tx.send([1, 2])?;
    /// assert_eq!(rx.recv()?, [1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn send(&mut self, value: impl Borrow<T>) -> Result<(), SendError> {
        self.send_within(value.borrow(), || Timeout::UNLIMITED)
    }

    /// Like [`send`](Self::send), but returns [`Full`](SendError::Full) instead of blocking.
    ///
    /// The first call that fails after successful ones pauses for about a microsecond, see
    /// [`WaitStrategy`](crate::WaitStrategy).
    #[inline]
    pub fn try_send(&mut self, value: impl Borrow<T>) -> Result<(), SendError> {
        self.send_within(value.borrow(), || Timeout::NonBlocking)
    }

    /// Like [`send`](Self::send), but returns [`TimedOut`](SendError::TimedOut) after `timeout`.
    #[inline]
    pub fn send_timeout(&mut self, value: impl Borrow<T>, timeout: Duration) -> Result<(), SendError> {
        self.send_within(value.borrow(), || Timeout::after(timeout))
    }

    /// Like [`send`](Self::send), but returns [`TimedOut`](SendError::TimedOut) at `deadline`. With
    /// `None` it never does.
    #[inline]
    pub fn send_deadline(&mut self, value: impl Borrow<T>, deadline: Option<Instant>) -> Result<(), SendError> {
        self.send_within(value.borrow(), || Timeout::At(deadline))
    }

    /// Sends values from the front of `values`. Returns how many were sent.
    ///
    /// They are sent together, up to 63 at once: no message of another sender comes between them.
    /// Call it again with the rest. A queue that [redelivers](crate::queue#redelivery) sends them
    /// one after the other.
    ///
    /// # Blocking
    /// Blocks until at least one could be sent.
    ///
    /// # Errors
    /// As for [`send`](Self::send). Nothing was sent.
    #[inline]
    pub fn send_many(&mut self, values: &[T]) -> Result<usize, SendError> {
        self.send_batch(values, Timeout::UNLIMITED)
    }

    /// Like [`send_many`](Self::send_many), but never blocks: returns [`Full`](SendError::Full)
    /// instead.
    #[inline]
    pub fn try_send_many(&mut self, values: &[T]) -> Result<usize, SendError> {
        self.send_batch(values, Timeout::NonBlocking)
    }

    #[inline]
    fn send_within(&mut self, value: &T, timeout: impl FnOnce() -> Timeout) -> Result<(), SendError> {
        let sent =
            self.half.push_fast(size_of::<T>().div_ceil(WORD), |payload| store_value(payload, bits_of(value)))?;
        if sent { Ok(()) } else { self.send_slow(value, timeout()) }
    }

    #[cold]
    #[inline(never)]
    fn send_slow(&mut self, value: &T, timeout: Timeout) -> Result<(), SendError> {
        if self.half.redelivers() {
            return self.half.push_value(timeout, |words| store_value(words, bits_of(value)));
        }
        self.half.push_blocking(1, timeout, |_, payload| store_value(payload, bits_of(value))).map(drop)
    }

    /// Returns the messages that were delivered as often as the queue allows. See
    /// [`Receiver::dead_letters`].
    pub fn dead_letters(&mut self) -> Result<DeadLetters<'_, T>, RecvError> {
        DeadLetters::of(&self.half, read_dead_letter)
    }

    #[cold]
    fn send_each(&mut self, values: &[T], timeout: Timeout) -> Result<usize, SendError> {
        for (index, value) in values.iter().enumerate() {
            let sent = self.send_slow(value, if index == 0 { timeout } else { Timeout::NonBlocking });
            if index > 0 && sent.is_err() {
                return Ok(index); // the next call finds out why
            }
            sent?;
        }
        Ok(values.len())
    }

    #[inline]
    fn send_batch(&mut self, values: &[T], timeout: Timeout) -> Result<usize, SendError> {
        if values.is_empty() {
            return Ok(0);
        }
        if self.half.redelivers() {
            return self.send_each(values, timeout);
        }
        let sent = self.half.push_blocking(values.len() as u64, timeout, |index, payload| {
            if let Some(value) = values.get(index as usize) {
                store_value(payload, bits_of(value));
            }
        })?;
        Ok(sent as usize)
    }
}

source!([T: Shareable] Sender<T>, half);
