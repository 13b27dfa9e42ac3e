//! The receiving half of a queue of values.

use std::marker::PhantomData;
use std::time::{Duration, Instant};

use crate::error::{RecvError, Result, SendError, TaskDoneError};
use crate::message::{Messages, sealed::Receive};
use crate::primitive::{REGISTER_COPY_MAX, load_value_into};
use crate::queue::dead_letter::DeadLetters;
use crate::queue::half::{Half, queue_methods};
use crate::queue::participant::Role;
use crate::queue::peer::peer_methods;
use crate::queue::recv_half::RecvHalf;
use crate::queue::sender::Sender;
use crate::queue::task::Task;
use crate::queue::task_iter::{Tasks, sealed::FinishTask};
use crate::raw::pool::BlockRef;
use crate::region::lifecycle::Registration;
use crate::types::{InvalidValue, Shareable, Unchecked, load_checked};
use crate::wait::source::source;
use crate::wait::{Timeout, WaitStrategy};

/// Receives values from a queue, together with any number of other receivers. Each message is
/// received once.
///
/// When the last sender has left, or the open run of senders was closed, receivers get what is
/// still queued and then [`RecvError::Closed`]. When the last sender died, they get
/// [`RecvError::PeerDied`] instead. If another sender joins, its messages come after that. A
/// receiver that joins when all this is over waits for the next sender.
///
/// You can move a receiver to another thread. For a second thread, [`try_clone`](Self::try_clone)
/// it. A forked child cannot use the receivers of its parent ([`RecvError::Forked`]).
#[derive(Debug)]
pub struct Receiver<T: Shareable> {
    pub(super) inner: RecvHalf,
    message: PhantomData<fn() -> T>,
}

/// The methods that receivers of values and of byte messages share.
macro_rules! receiver_methods {
    ($Sender:ty) => {
        queue_methods!(inner.half);

        peer_methods!(inner.half, "sender", "senders");

        /// Closes the open run, if there is one, and discards what is queued. Returns how many
        /// messages this call has discarded. Messages that senders of the next run send meanwhile
        /// are kept.
        ///
        /// # Blocking
        /// Never.
        ///
        /// # Errors
        /// [`Forked`](RecvError::Forked), [`Corrupt`](RecvError::Corrupt).
        pub fn close_now(&mut self) -> Result<u64, RecvError> {
            self.inner.half.close_now()
        }

        /// Makes another receiver of the same queue, for another thread or process.
        ///
        /// # Blocking
        /// Blocks for up to 5 s if another process was stopped while it joined or left.
        ///
        /// # Errors
        /// The queue has as many participants as it can
        /// ([`TooManyParticipants`](crate::ErrorKind::TooManyParticipants)), or there is no free
        /// descriptor.
        pub fn try_clone(&self) -> Result<Self> {
            let registration = self.inner.half.clone_as(Role::Receiver)?;
            let reports_lost_messages = self.inner.reports_lost_messages();
            Ok(Self::new(registration, self.inner.half.participant.wait_strategy(), reports_lost_messages))
        }

        /// Makes a sender of the same queue. It belongs to the open run, or begins the next one.
        ///
        /// # Blocking
        /// As [`try_clone`](Self::try_clone).
        ///
        /// # Errors
        /// As [`try_clone`](Self::try_clone).
        pub fn sender(&self) -> Result<$Sender> {
            let registration = self.inner.half.clone_as(Role::Sender)?;
            Ok(<$Sender>::new(registration, self.inner.half.participant.wait_strategy()))
        }

        /// Tells [`Sender::join`](crate::queue::Sender::join) that the task of one message that
        /// this handle received is done.
        ///
        /// Call it when the work is done, and not before: if this process dies, or drops the
        /// handle, `join` reports the tasks that it had not done. The iterator
        /// [`tasks`](Self::tasks) calls it for you.
        ///
        /// # Blocking
        /// Never.
        ///
        /// If the queue [redelivers](crate::queue#redelivery), this finishes the oldest message
        /// that this handle has received by `recv` and not finished.
        ///
        /// # Errors
        /// [`NoTask`](TaskDoneError::NoTask) if it was called once for each message already, or the
        /// message was received by another handle; [`Forked`](TaskDoneError::Forked).
        pub fn task_done(&mut self) -> Result<(), TaskDoneError> {
            self.inner.task_done()
        }

        /// Receives one message as a [`Task`], which is finished by [`Task::done`], or given back.
        ///
        /// # Blocking
        /// As [`recv`](Self::recv).
        ///
        /// # Errors
        /// As [`recv`](Self::recv).
        ///
        /// # Examples
        /// ```
        /// use tombolo::queue::{self, OnDeath};
        ///
        /// let options = queue::Options::<u64>::new().on_death(OnDeath::Redeliver { times: 3 });
        /// let (mut jobs, mut worker) = options.create_channel()?;
        /// jobs.send(7)?;
        /// drop(worker.recv_task()?); // or its process is killed
        ///
        /// let job = worker.recv_task()?;
        /// assert_eq!((*job, job.deliveries(), job.is_redelivered()), (7, 2, true));
        /// job.done()?;
        /// assert_eq!(jobs.join(), Ok(()));
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        pub fn recv_task(&mut self) -> Result<Task<'_, Self>, RecvError> {
            Task::receive(self, Timeout::UNLIMITED)
        }

        /// Like [`recv_task`](Self::recv_task), but returns [`Empty`](RecvError::Empty) instead of
        /// blocking.
        pub fn try_recv_task(&mut self) -> Result<Task<'_, Self>, RecvError> {
            Task::receive(self, Timeout::NonBlocking)
        }

        /// Like [`recv_task`](Self::recv_task), but returns [`TimedOut`](RecvError::TimedOut) after
        /// `timeout`.
        pub fn recv_task_timeout(&mut self, timeout: Duration) -> Result<Task<'_, Self>, RecvError> {
            Task::receive(self, Timeout::after(timeout))
        }

        /// Returns how often the message that this handle has received last was delivered, that
        /// time included. 1 unless the queue [redelivers](crate::queue#redelivery); 0 before the
        /// first.
        pub fn deliveries(&self) -> u32 {
            self.inner.deliveries()
        }

        /// Returns an iterator that blocks for each message, until the stream ends, and calls
        /// [`task_done`](Self::task_done) for a message when the next one is asked for.
        ///
        /// So a body that panics, returns or breaks leaves its task unfinished, and `join` reports
        /// it once the receiver is gone. To finish it after all, call `task_done`. A body that goes
        /// on with the next message has finished, whatever came of it.
        ///
        /// # Examples
        /// ```
        /// use tombolo::queue::{self, JoinError};
        ///
        /// let (mut jobs, mut worker) = queue::Options::<u64>::new().create_channel()?;
        /// jobs.send_many(&[1, 2, 3])?;
        /// for job in worker.tasks() {
        ///     if job? == 3 {
        ///         break; // 1 and 2 are done
        ///     }
        /// }
        /// drop(worker);
        /// assert_eq!(jobs.join(), Err(JoinError::TasksLost { count: 1 }));
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        pub fn tasks(&mut self) -> Tasks<'_, Self> {
            Tasks::new(self)
        }

        /// Returns an iterator that blocks for each message, until the stream ends. It finishes
        /// none of them: if the queue [redelivers](crate::queue#redelivery), use
        /// [`tasks`](Self::tasks).
        pub fn iter(&mut self) -> Messages<&mut Self> {
            Messages::blocking(self)
        }

        /// Returns an iterator over the messages that are there, which does not block.
        pub fn try_iter(&mut self) -> Messages<&mut Self> {
            Messages::non_blocking(self)
        }
    };
}

pub(super) use receiver_methods;

impl<T: Shareable> Receiver<T> {
    pub(crate) fn new(registration: Registration, wait: WaitStrategy, reports_lost_messages: bool) -> Self {
        Self { inner: RecvHalf::new(registration, wait, reports_lost_messages), message: PhantomData }
    }

    receiver_methods!(Sender<T>);

    /// Receives one value.
    ///
    /// # Blocking
    /// Blocks while the queue is empty, as the [`WaitStrategy`](crate::WaitStrategy) says. While
    /// there are messages, it makes no system call.
    ///
    /// # Errors
    /// - [`Closed`](RecvError::Closed): all senders have left, or their run was closed, and
    ///   everything that they sent was received. If the queue
    ///   [redelivers](crate::queue#redelivery), no other receiver holds a message, either.
    /// - [`PeerDied`](RecvError::PeerDied): the last sender died, and everything that it sent was
    ///   received.
    /// - [`MessageLost`](RecvError::MessageLost), if the options ask for it.
    /// - [`Corrupt`](RecvError::Corrupt), [`Forked`](RecvError::Forked),
    ///   [`LockLost`](RecvError::LockLost), [`NameRemoved`](RecvError::NameRemoved).
    /// - [`InvalidValue`](RecvError::InvalidValue).
    ///
    /// # Examples
    /// ```
    /// let (mut tx, mut rx) = tombolo::queue::Options::<u64>::new().create_channel()?;
    /// let mut second = rx.try_clone()?;
    /// tx.send(1)?;
    /// tx.send(2)?;
    /// drop(tx);
    /// assert_eq!(rx.recv(), Ok(1));
    /// assert_eq!(second.recv(), Ok(2));
    /// assert_eq!(rx.recv(), Err(tombolo::RecvError::Closed));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn recv(&mut self) -> Result<T, RecvError> {
        self.recv_within(|| Timeout::UNLIMITED)
    }

    /// Like [`recv`](Self::recv), but returns [`Empty`](RecvError::Empty) instead of blocking.
    ///
    /// The first call that fails after successful ones pauses for about a microsecond, see
    /// [`WaitStrategy`](crate::WaitStrategy).
    #[inline]
    pub fn try_recv(&mut self) -> Result<T, RecvError> {
        self.recv_within(|| Timeout::NonBlocking)
    }

    /// Like [`recv`](Self::recv), but returns [`TimedOut`](RecvError::TimedOut) after `timeout`.
    #[inline]
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvError> {
        self.recv_within(|| Timeout::after(timeout))
    }

    /// Like [`recv`](Self::recv), but returns [`TimedOut`](RecvError::TimedOut) at `deadline`. With
    /// `None` it never does.
    #[inline]
    pub fn recv_deadline(&mut self, deadline: Option<Instant>) -> Result<T, RecvError> {
        self.recv_within(|| Timeout::At(deadline))
    }

    /// Like [`recv`](Self::recv), but receives into a value that exists already. For large types
    /// this saves copies, and a value that is [too large for the stack](crate#large-values) can be
    /// in a `Box`.
    ///
    /// # Blocking
    /// As [`recv`](Self::recv).
    ///
    /// # Errors
    /// As for [`recv`](Self::recv). The value is unchanged.
    ///
    /// # Examples
    /// ```
    /// use tombolo::bytemuck::zeroed_box;
    ///
    /// type Frame = [u8; 3 << 20];
    /// let (mut tx, mut rx) = tombolo::queue::Options::<Frame>::new().capacity(2).create_channel()?;
    /// let mut frame: Box<Frame> = zeroed_box();
    /// frame[0] = 7;
    /// tx.send(frame.as_ref())?;
    /// let mut received: Box<Frame> = zeroed_box();
    /// rx.recv_into(&mut received)?;
    /// assert_eq!(received[0], 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn recv_into(&mut self, value: &mut T) -> Result<(), RecvError> {
        self.recv_into_within(value, || Timeout::UNLIMITED)
    }

    /// Like [`recv_into`](Self::recv_into), but returns [`Empty`](RecvError::Empty) instead of
    /// blocking.
    #[inline]
    pub fn try_recv_into(&mut self, value: &mut T) -> Result<(), RecvError> {
        self.recv_into_within(value, || Timeout::NonBlocking)
    }

    /// Like [`recv_into`](Self::recv_into), but returns [`TimedOut`](RecvError::TimedOut) after
    /// `timeout`.
    #[inline]
    pub fn recv_into_timeout(&mut self, value: &mut T, timeout: Duration) -> Result<(), RecvError> {
        self.recv_into_within(value, || Timeout::after(timeout))
    }

    /// Like [`recv_into`](Self::recv_into), but returns [`TimedOut`](RecvError::TimedOut) at
    /// `deadline`. With `None` it never does.
    #[inline]
    pub fn recv_into_deadline(&mut self, value: &mut T, deadline: Option<Instant>) -> Result<(), RecvError> {
        self.recv_into_within(value, || Timeout::At(deadline))
    }

    /// Receives as many values as there are and fit into `values`, up to 63 at once. Returns how
    /// many.
    ///
    /// # Blocking
    /// Blocks until there is at least one.
    ///
    /// # Errors
    /// As for [`recv`](Self::recv). An invalid value behind valid ones is only counted, in
    /// [`Stats::dropped`](crate::queue::Stats::dropped).
    #[inline]
    pub fn recv_many(&mut self, values: &mut [T]) -> Result<usize, RecvError> {
        self.recv_batch(values, Timeout::UNLIMITED)
    }

    /// Like [`recv_many`](Self::recv_many), but returns [`Empty`](RecvError::Empty) instead of
    /// blocking.
    #[inline]
    pub fn try_recv_many(&mut self, values: &mut [T]) -> Result<usize, RecvError> {
        self.recv_batch(values, Timeout::NonBlocking)
    }

    #[inline]
    fn recv_within(&mut self, timeout: impl FnOnce() -> Timeout) -> Result<T, RecvError> {
        let mut value = Unchecked::<T>::zeroed();
        if self.inner.pop_fast(|_, _, payload| load_value_into(payload, value.bits_mut()))?.is_some() {
            return self.check(&mut value);
        }
        if size_of::<T>() <= REGISTER_COPY_MAX {
            // A value whose address is not passed on stays in registers.
            return self.recv_slow_by_value(timeout());
        }
        self.recv_slow(value.bits_mut(), timeout())?;
        self.check(&mut value)
    }

    #[inline]
    fn check(&mut self, value: &mut Unchecked<T>) -> Result<T, RecvError> {
        if !value.is_valid() {
            self.inner.count_unreadable(1);
        }
        value.check()
    }

    #[cold]
    #[inline(never)]
    fn recv_slow_by_value(&mut self, timeout: Timeout) -> Result<T, RecvError> {
        let mut value = Unchecked::zeroed();
        if self.inner.half.redelivers() {
            self.recv_held(value.bits_mut(), timeout)?;
            return self.check(&mut value);
        }
        self.recv_slow(value.bits_mut(), timeout)?;
        self.check(&mut value)
    }

    #[inline]
    fn recv_into_within(&mut self, value: &mut T, timeout: impl FnOnce() -> Timeout) -> Result<(), RecvError> {
        let received =
            load_checked(value, |bits| match self.inner.pop_fast(|_, _, payload| load_value_into(payload, bits))? {
                Some(()) => Ok(()),
                None => self.recv_slow(bits, timeout()),
            });
        if !T::ANY_BITS && received == Err(RecvError::InvalidValue) {
            self.inner.count_unreadable(1);
        }
        received
    }

    #[cold]
    #[inline(never)]
    fn recv_slow(&mut self, value: &mut T::Bits, timeout: Timeout) -> Result<(), RecvError> {
        if self.inner.half.redelivers() {
            return self.recv_held(value, timeout);
        }
        self.inner.pop_blocking(1, timeout, |_, _, _, payload| load_value_into(payload, value)).map(drop)
    }

    fn recv_held(&mut self, value: &mut T::Bits, timeout: Timeout) -> Result<(), RecvError> {
        self.inner.receive_held(timeout, |_, pool, block| {
            load_value_into(pool.value_words(block)?, value);
            Ok(())
        })
    }

    #[cold]
    fn recv_each(&mut self, values: &mut [T], timeout: Timeout) -> Result<usize, RecvError> {
        let mut received = 0;
        for value in values {
            let timeout = if received == 0 { timeout } else { Timeout::NonBlocking };
            match self.recv_into_within(value, || timeout) {
                Ok(()) => received += 1,
                Err(reason) if received == 0 => return Err(reason),
                Err(reason) => {
                    self.inner.defer(reason);
                    break;
                }
            }
        }
        Ok(received)
    }

    /// Returns the messages that were delivered as often as the queue
    /// [allows](crate::queue::OnDeath), and never done. None in a queue that does not redeliver.
    ///
    /// # Blocking
    /// Never.
    ///
    /// # Errors
    /// [`Forked`](RecvError::Forked).
    pub fn dead_letters(&mut self) -> Result<DeadLetters<'_, T>, RecvError> {
        DeadLetters::of(&self.inner.half, read_dead_letter)
    }

    #[inline]
    fn recv_batch(&mut self, values: &mut [T], timeout: Timeout) -> Result<usize, RecvError> {
        if self.inner.half.redelivers() {
            return self.recv_each(values, timeout);
        }
        let mut read = 0;
        let mut failed = None;
        let received = self.inner.pop_blocking(values.len() as u64, timeout, |_, _, _, payload| {
            let Some(value) = values.get_mut(read) else { return };
            match load_checked(value, |bits| {
                load_value_into(payload, bits);
                Ok(())
            }) {
                Ok(()) => read += 1,
                Err(invalid @ InvalidValue) => failed = Some(invalid),
            }
        })?;
        let Some(invalid) = failed else { return Ok(read) };
        self.inner.count_unreadable(received - read as u64);
        if read == 0 { Err(invalid.into()) } else { Ok(read) }
    }
}

pub(super) fn read_dead_letter<T: Shareable>(half: &Half, letter: BlockRef) -> Result<T, RecvError> {
    let mut value = Unchecked::<T>::zeroed();
    load_value_into(half.payload.value_words(letter)?, value.bits_mut());
    value.check()
}

impl<T: Shareable> Receive for Receiver<T> {
    type Message = T;

    #[inline]
    fn receive(&mut self, timeout: Timeout) -> Result<T, RecvError> {
        self.recv_within(|| timeout)
    }
}

impl<T: Shareable> FinishTask for Receiver<T> {
    #[inline]
    fn finish_task(&mut self) -> Result<(), TaskDoneError> {
        self.inner.finish_last_task()
    }

    fn give_back_task(&mut self) {
        self.inner.give_back_last_task();
    }

    fn deliveries(&self) -> u32 {
        self.inner.deliveries()
    }
}

impl<T: Shareable> IntoIterator for Receiver<T> {
    type Item = Result<T, RecvError>;
    type IntoIter = Messages<Self>;

    /// See [`iter`](Receiver::iter).
    fn into_iter(self) -> Messages<Self> {
        Messages::blocking(self)
    }
}

impl<T: Shareable> IntoIterator for &mut Receiver<T> {
    type Item = Result<T, RecvError>;
    type IntoIter = Messages<Self>;

    /// See [`iter`](Receiver::iter).
    fn into_iter(self) -> Messages<Self> {
        Messages::blocking(self)
    }
}

source!([T: Shareable] Receiver<T>, inner);
