//! The receiving half of a pipe.

use std::fmt;
use std::time::{Duration, Instant};

use bytemuck::Pod;

use crate::error::{RecvError, Result};
use crate::message::sealed::Look;
use crate::message::{Message, Progress, RecvBuffer};
use crate::pipe::connection::Connection;
use crate::raw::Ready;
use crate::raw::spsc::ProducerChange;
use crate::sys::{Deadline, deadline_after};
use crate::wait::Waiter;

/// Receives messages from one [`Sender`](crate::pipe::Sender), in order, each whole and once.
///
/// When the sender has left, what it sent can still be received; then comes [`RecvError::Closed`]. When
/// its process died, what it sent can still be received; then comes [`RecvError::PeerDied`], and if another process takes
/// the dead one's place, its messages after that.
///
/// A receiver may move between threads. A forked child cannot use its parent's ([`RecvError::Forked`]).
pub struct Receiver<M: Message + ?Sized = [u8]> {
    link: Connection,
    pub(crate) reader: M::Reader,
}

impl<M: Message + ?Sized> Receiver<M> {
    pub(crate) fn new(link: Connection, ring: usize) -> Result<Self> {
        let reader = M::reader(link.seat().region(), ring)?;
        Ok(Self { link, reader })
    }

    pub(crate) fn link(&self) -> &Connection {
        &self.link
    }

    /// Whether there is something to receive within `timeout`: a message, the beginning of one that is streaming through the
    /// ring, or the end of the stream.
    ///
    /// **Blocking**: up to `timeout`; with none, never. **Errors**: [`Corrupt`](RecvError::Corrupt),
    /// [`Forked`](RecvError::Forked). A peer that left or died counts as something: the next receive says which.
    pub fn poll(&mut self, timeout: Duration) -> Result<bool, RecvError> {
        self.check()?;
        let deadline = deadline_after(timeout);
        loop {
            let found = match self.reader.look()? {
                Some(found) => Ok(found),
                None => self.link.wait_for::<_, RecvError>(self.reader.position(), deadline, |effort| {
                    if !effort.should_try(|| self.reader.glance()) {
                        return Ok(None);
                    }
                    Ok(self.reader.look()?)
                }),
            };
            match found {
                Ok(Ready::Successor(succession)) if self.link.owed(succession).is_none() => self.reader.succeed(),
                Ok(_) | Err(RecvError::Closed | RecvError::PeerDied | RecvError::LockLost) => return Ok(true),
                Err(RecvError::TimedOut) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    #[inline]
    pub(crate) fn check(&self) -> Result<(), RecvError> {
        if self.link.is_from_this_process() { Ok(()) } else { Err(RecvError::Forked) }
    }

    #[inline]
    pub(crate) fn released(&self) {
        self.link.ring();
    }

    /// Waits until `take` finds what it looks for.
    #[inline(always)]
    fn await_with<R>(
        &mut self,
        deadline: Deadline,
        mut take: impl FnMut(&mut M::Reader) -> Result<Option<R>, RecvError>,
    ) -> Result<R, RecvError> {
        loop {
            let found = self.link.wait_for::<_, RecvError>(self.reader.position(), deadline, |effort| {
                if !effort.should_try(|| self.reader.glance()) {
                    return Ok(None);
                }
                let found = take(&mut self.reader)?.map(Ok);
                Ok(found.or_else(|| self.reader.successor().map(Err)))
            })?;
            self.released(); // of what was taken, or of the skipped end of the ring
            match found {
                Ok(found) => return Ok(found),
                Err(succession) => self.succeed(succession)?,
            }
        }
    }

    /// Returns when there is a message.
    pub(crate) fn await_message(&mut self, deadline: Deadline) -> Result<(), RecvError> {
        self.await_with(deadline, |reader| Ok(matches!(reader.look()?, Some(Ready::Message)).then_some(())))
    }

    /// After a fruitless attempt that was not to wait: whether to try again.
    #[cold]
    fn look_again(&mut self) -> Result<(), RecvError> {
        let end = match self.reader.look()? {
            Some(Ready::Message) => return Ok(()),
            Some(Ready::Successor(succession)) => return self.succeed(succession),
            None => self.link.end_of_try(),
        };
        match end {
            Some(_) if self.reader.look()?.is_some() => Ok(()), // sent before the end
            Some(end) => Err(self.link.report_end(end).into()),
            None => Err(RecvError::Empty),
        }
    }

    /// Passes on to the producer's successor, unless the caller must first be told how the last one ended.
    fn succeed(&mut self, succession: ProducerChange) -> Result<(), RecvError> {
        self.reader.succeed();
        self.link.owed(succession).map_or(Ok(()), |stop| Err(stop.into()))
    }
}

impl<T: Pod> Receiver<T> {
    /// Receives one value.
    ///
    /// **Blocking**: while the ring is empty, without end; an empty ring parks by `futex` as [`WaitStrategy`](crate::WaitStrategy) says.
    /// With a message there: no system call.
    ///
    /// **Errors**: [`Closed`](RecvError::Closed), [`PeerDied`](RecvError::PeerDied), [`Corrupt`](RecvError::Corrupt),
    /// [`Forked`](RecvError::Forked), [`LockLost`](RecvError::LockLost).
    ///
    /// ```
    /// let (mut tx, mut rx) = tombolo::pipe::Options::<u32>::new().create()?;
    /// tx.send(&1)?;
    /// drop(tx);
    /// assert_eq!(rx.recv(), Ok(1));
    /// assert_eq!(rx.recv(), Err(tombolo::RecvError::Closed));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// **Source**: Lamport's ring with cached indices, see `raw/spsc.rs`.
    #[inline]
    pub fn recv(&mut self) -> Result<T, RecvError> {
        self.recv_deadline(None)
    }

    /// Like [`recv`](Self::recv), but waits no longer than `timeout`, then [`TimedOut`](RecvError::TimedOut).
    #[inline]
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvError> {
        match self.try_recv() {
            Err(RecvError::Empty) => self.recv_deadline(deadline_after(timeout)),
            done => done,
        }
    }

    /// Like [`recv`](Self::recv), but never waits: [`Empty`](RecvError::Empty).
    #[inline]
    pub fn try_recv(&mut self) -> Result<T, RecvError> {
        let mut value = T::zeroed();
        while !self.pop(&mut value)? {
            self.look_again()?;
        }
        Ok(value)
    }

    /// Like [`recv`](Self::recv), but waits until `deadline` at most; none is for ever.
    #[inline]
    pub fn recv_deadline(&mut self, deadline: Option<Instant>) -> Result<T, RecvError> {
        let mut value = T::zeroed();
        if !self.pop(&mut value)? {
            self.await_with(deadline, |reader| Ok(reader.pop(&mut value)?.then_some(())))?;
        }
        Ok(value)
    }

    /// Like [`recv`](Self::recv), into a value that is there already: for large types it saves copies.
    ///
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
        if !self.pop(value)? {
            self.await_with(None, |reader| Ok(reader.pop(value)?.then_some(())))?;
        }
        Ok(())
    }

    /// Receives as many values as there are and `values` holds; says how many.
    ///
    /// **Blocking**: until there is at least one. **Errors**: as for [`recv`](Self::recv).
    #[inline]
    pub fn recv_many(&mut self, values: &mut [T]) -> Result<usize, RecvError> {
        loop {
            match self.pop_many(values)? {
                0 if !values.is_empty() => self.await_message(None)?,
                count => return Ok(count),
            }
        }
    }

    /// Like [`recv_many`](Self::recv_many), but never waits: [`Empty`](RecvError::Empty).
    #[inline]
    pub fn try_recv_many(&mut self, values: &mut [T]) -> Result<usize, RecvError> {
        loop {
            match self.pop_many(values)? {
                0 if !values.is_empty() => self.look_again()?,
                count => return Ok(count),
            }
        }
    }

    /// The values to come, up to the end of the stream or the death of the sender; [`recv`](Self::recv) tells the two apart.
    pub fn iter(&mut self) -> impl Iterator<Item = T> {
        std::iter::from_fn(|| self.recv().ok())
    }

    #[inline]
    fn pop(&mut self, value: &mut T) -> Result<bool, RecvError> {
        self.check()?;
        let popped = self.reader.pop(value)?;
        if popped {
            self.released();
        }
        Ok(popped)
    }

    #[inline]
    fn pop_many(&mut self, values: &mut [T]) -> Result<usize, RecvError> {
        self.check()?;
        let count = self.reader.pop_many(values)?;
        if count > 0 {
            self.released();
        }
        Ok(count)
    }
}

/// Parts that a call which must not wait reads at most: a peer could send them as fast as we read.
const STEPS: usize = 1024;

impl Receiver<[u8]> {
    /// Receives one message into `message`, whose old content it replaces; says how many bytes.
    ///
    /// **Blocking**: until a whole message is there, without end; an empty ring parks by `futex` as
    /// [`WaitStrategy`](crate::WaitStrategy) says. With a message there: no system call, and no allocation once `message` is large enough.
    ///
    /// **Errors**: [`Closed`](RecvError::Closed), [`PeerDied`](RecvError::PeerDied), [`Corrupt`](RecvError::Corrupt),
    /// [`OutOfMemory`](RecvError::OutOfMemory), [`Forked`](RecvError::Forked), [`LockLost`](RecvError::LockLost).
    ///
    /// **Source**: length-prefixed records in Lamport's ring, see `raw/records.rs`.
    #[inline]
    pub fn recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.receive(message, None)
    }

    /// Like [`recv`](Self::recv), but waits no longer than `timeout`, then [`TimedOut`](RecvError::TimedOut). The part of a
    /// large message that has come by then is kept for the next call.
    pub fn recv_timeout(&mut self, message: &mut Vec<u8>, timeout: Duration) -> Result<usize, RecvError> {
        self.receive(message, deadline_after(timeout))
    }

    /// Like [`recv`](Self::recv), but waits until `deadline` at most; none is for ever.
    pub fn recv_deadline(&mut self, message: &mut Vec<u8>, deadline: Option<Instant>) -> Result<usize, RecvError> {
        self.receive(message, deadline)
    }

    /// Like [`recv`](Self::recv), but never waits: [`Empty`](RecvError::Empty).
    pub fn try_recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.try_receive(message)
    }

    /// Receives one message into `buffer`; says how many bytes.
    ///
    /// **Blocking**: as for [`recv`](Self::recv). **Errors**: as for `recv`, and [`TooSmall`](RecvError::BufferTooSmall) with the
    /// length that is needed; the message stays where it is.
    ///
    /// ```
    /// use tombolo::RecvError;
    ///
    /// let (mut tx, mut rx) = tombolo::Options::bytes().create()?;
    /// tx.send(b"twelve bytes")?;
    /// assert_eq!(rx.recv_into(&mut [0; 4]), Err(RecvError::BufferTooSmall { needed: 12 }));
    /// let mut buffer = [0; 16];
    /// assert_eq!(rx.recv_into(&mut buffer), Ok(12));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn recv_into(&mut self, mut buffer: &mut [u8]) -> Result<usize, RecvError> {
        self.receive(&mut buffer, None)
    }

    /// Like [`recv_into`](Self::recv_into), but waits no longer than `timeout`, then [`TimedOut`](RecvError::TimedOut).
    pub fn recv_into_timeout(&mut self, mut buffer: &mut [u8], timeout: Duration) -> Result<usize, RecvError> {
        self.receive(&mut buffer, deadline_after(timeout))
    }

    /// Like [`recv_into`](Self::recv_into), but never waits: [`Empty`](RecvError::Empty).
    pub fn try_recv_into(&mut self, mut buffer: &mut [u8]) -> Result<usize, RecvError> {
        self.try_receive(&mut buffer)
    }

    /// Receives one message into each of `messages`, as long as there are any; says how many.
    ///
    /// **Blocking**: until there is at least one. **Errors**: as for [`recv`](Self::recv); none was received then.
    pub fn recv_many(&mut self, messages: &mut [Vec<u8>]) -> Result<usize, RecvError> {
        let Some((first, rest)) = messages.split_first_mut() else { return Ok(0) };
        self.recv(first)?;
        let mut count = 1;
        for message in rest {
            // An end, or an error, is the next call's.
            match self.step(message) {
                Ok(Progress::Done(_)) => count += 1,
                _ => break,
            }
        }
        Ok(count)
    }

    /// The messages to come, up to the end of the stream or the death of the sender; [`recv`](Self::recv) tells the two apart,
    /// and tells of a [`Lost`](RecvError::MessageLost) message, which is passed over here.
    pub fn iter(&mut self) -> impl Iterator<Item = Vec<u8>> {
        std::iter::from_fn(|| {
            let mut message = Vec::new();
            loop {
                match self.recv(&mut message) {
                    Ok(_) => return Some(message),
                    Err(RecvError::MessageLost) => {}
                    Err(_) => return None,
                }
            }
        })
    }

    #[inline]
    fn receive(&mut self, target: &mut impl RecvBuffer, deadline: Deadline) -> Result<usize, RecvError> {
        loop {
            match self.step(target)? {
                Progress::Done(length) => return Ok(length),
                Progress::Empty => self.await_message(deadline)?,
                // A peer can feed us parts for ever.
                Progress::More if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                    return Err(RecvError::TimedOut);
                }
                Progress::More => {}
            }
        }
    }

    fn try_receive(&mut self, target: &mut impl RecvBuffer) -> Result<usize, RecvError> {
        for _ in 0..STEPS {
            match self.step(target)? {
                Progress::Done(length) => return Ok(length),
                Progress::Empty => self.look_again()?,
                Progress::More => {}
            }
        }
        Err(RecvError::Empty)
    }

    #[inline]
    fn step(&mut self, target: &mut impl RecvBuffer) -> Result<Progress, RecvError> {
        self.check()?;
        let step = self.reader.step(target);
        if step != Ok(Progress::Empty) {
            self.released();
        }
        step
    }
}

impl<M: Message + ?Sized> fmt::Debug for Receiver<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("link", &self.link).finish_non_exhaustive()
    }
}
