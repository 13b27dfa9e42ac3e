//! What the endpoints of values and of byte messages share: one direction of a pipe, seen by its
//! sender and by its receiver.

use std::fmt;
use std::time::Duration;

use crate::error::{RecvError, Result, SendError};
use crate::pipe::codec::{Found, RingReader, RingWriter};
use crate::pipe::connection::{self, Connection};
use crate::pipe::store_policy::StorePolicy;
use crate::raw::Corrupt;
use crate::raw::event_count::EventCount;
use crate::raw::spsc::ProducerChange;
use crate::region::words::Mapped;
use crate::sys::clock::{Deadline, deadline_after};
use crate::wait::source::sealed::Watch;
use crate::wait::{Attempt, Timeout, Waiter};

/// A sender's side of one direction.
pub(crate) struct SendHalf<W> {
    pub(crate) connection: Connection,
    pub(crate) writer: W,
    pub(crate) stores: StorePolicy,
}

impl<W: RingWriter> SendHalf<W> {
    pub(crate) fn new(connection: Connection, ring: usize) -> Result<Self> {
        let region = connection.region();
        let (_, words) = connection::layout(region).data(ring);
        let (writer, stores) = (W::attach(region, ring)?, StorePolicy::new(words * size_of::<u64>()));
        Ok(Self { writer, stores, connection })
    }

    /// What each call checks first: two loads of lines that are in the cache.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), SendError> {
        self.connection.check_holder::<SendError>()?;
        if self.connection.peer_event.peer_has_left() && self.connection.peer_has_closed() {
            return Err(SendError::Closed);
        }
        Ok(())
    }

    /// Blocks until there may be room, if the timeout allows it.
    pub(crate) fn wait_for_room(
        &mut self,
        timeout: Timeout,
        mut has_room: impl FnMut(&mut W) -> Result<bool, Corrupt>,
    ) -> Result<(), SendError> {
        let Timeout::At(deadline) = timeout else { return self.recheck() };
        self.connection.wait_for(self.writer.position(), deadline, |attempt| {
            let has_room = attempt.should_try(|| self.writer.has_advanced()) && has_room(&mut self.writer)?;
            Ok(has_room.then_some(()))
        })
    }

    /// As [`Watch`] says, and so are the next three.
    pub(crate) fn is_ready(
        &mut self,
        attempt: Attempt,
        mut has_room: impl FnMut(&mut W) -> Result<bool, Corrupt>,
    ) -> bool {
        let has_room = has_room(&mut self.writer).unwrap_or(true);
        // Whatever the error, a call returns it at once.
        has_room || attempt == Attempt::Full && (self.check().is_err() || self.connection.has_ended())
    }

    pub(crate) fn check_liveness(&mut self, deadline: Deadline) {
        self.connection.remember_death(deadline);
    }

    pub(crate) fn event(&self, index: usize) -> Option<&EventCount<Mapped>> {
        (index == 0).then_some(&self.connection.wait_event)
    }

    pub(crate) fn before_sleep(&mut self) {
        self.connection.wait_state().take_back();
    }

    /// After an attempt that failed and must not block. Ok: try again.
    #[cold]
    fn recheck(&mut self) -> Result<(), SendError> {
        match self.connection.end_of_try() {
            Some(end) => Err(self.connection.report_end(end).into()),
            None if self.connection.listen_after_try() => Ok(()),
            None => Err(SendError::Full),
        }
    }
}

/// A receiver's side of one direction.
pub(crate) struct RecvHalf<R> {
    pub(crate) connection: Connection,
    pub(crate) reader: R,
}

impl<R: RingReader> RecvHalf<R> {
    pub(crate) fn new(connection: Connection, ring: usize) -> Result<Self> {
        let reader = R::attach(connection.region(), ring)?;
        Ok(Self { connection, reader })
    }

    /// What each call checks first.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), RecvError> {
        self.connection.check_holder()
    }

    /// Blocks until there is something to receive. False: the time is up.
    pub(crate) fn poll(&mut self, timeout: Duration) -> Result<bool, RecvError> {
        self.check()?;
        let deadline = deadline_after(timeout);
        loop {
            let found = match self.reader.find()? {
                Some(found) => Ok(found),
                None => self.connection.wait_for::<_, RecvError>(self.reader.position(), deadline, |attempt| {
                    if !attempt.should_try(|| self.reader.probe()) {
                        return Ok(None);
                    }
                    Ok(self.reader.find()?)
                }),
            };
            match found {
                Ok(Found::NextProducer(change)) if self.connection.unreported_end(change).is_none() => {
                    self.reader.switch_producer();
                }
                Ok(_) | Err(RecvError::Closed | RecvError::PeerDied | RecvError::LockLost) => return Ok(true),
                Err(RecvError::TimedOut) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// Blocks until `pop` succeeds.
    #[inline(always)]
    pub(crate) fn wait_until_popped<V>(
        &mut self,
        deadline: Deadline,
        mut pop: impl FnMut(&mut R) -> Result<Option<V>, RecvError>,
    ) -> Result<V, RecvError> {
        loop {
            let found = self.connection.wait_for::<_, RecvError>(self.reader.position(), deadline, |attempt| {
                if !attempt.should_try(|| self.reader.probe()) {
                    return Ok(None);
                }
                let popped = pop(&mut self.reader)?.map(Ok);
                Ok(popped.or_else(|| self.reader.next_producer().map(Err)))
            })?;
            self.connection.peer_event.notify(1); // of what was popped, or of the skipped end of the ring
            match found {
                Ok(popped) => return Ok(popped),
                Err(change) => self.switch_producer(change)?,
            }
        }
    }

    /// Blocks until there is a message, if the timeout allows it.
    pub(crate) fn wait_for_message(&mut self, timeout: Timeout) -> Result<(), RecvError> {
        match timeout {
            Timeout::NonBlocking => self.recheck(),
            Timeout::At(deadline) => self
                .wait_until_popped(deadline, |reader| Ok(matches!(reader.find()?, Some(Found::Message)).then_some(()))),
        }
    }

    /// After an attempt that found nothing and must not block. Ok: try again.
    #[cold]
    pub(crate) fn recheck(&mut self) -> Result<(), RecvError> {
        let end = match self.reader.find()? {
            Some(Found::Message) => return Ok(()),
            Some(Found::NextProducer(change)) => return self.switch_producer(change),
            None => self.connection.end_of_try(),
        };
        match end {
            Some(_) if self.reader.find()?.is_some() => Ok(()), // sent before the end
            Some(end) => Err(self.connection.report_end(end).into()),
            None if self.connection.listen_after_try() => Ok(()),
            None => Err(RecvError::Empty),
        }
    }

    /// Goes on with the next producer, unless the caller must first get the end of the last one.
    fn switch_producer(&mut self, change: ProducerChange) -> Result<(), RecvError> {
        self.reader.switch_producer();
        self.connection.unreported_end(change).map_or(Ok(()), |end| Err(end.into()))
    }
}

impl<R: RingReader> Watch for RecvHalf<R> {
    fn is_ready(&mut self, attempt: Attempt) -> bool {
        if attempt == Attempt::Probe {
            return self.reader.probe();
        }
        if self.check().is_err() {
            return true;
        }
        loop {
            match self.reader.find() {
                Ok(Some(Found::NextProducer(change))) if self.connection.unreported_end(change).is_none() => {
                    self.reader.switch_producer();
                }
                Ok(None) => return self.connection.has_ended(),
                Ok(Some(_)) | Err(Corrupt) => return true,
            }
        }
    }

    fn check_liveness(&mut self, deadline: Deadline) {
        self.connection.remember_death(deadline);
    }

    fn event(&self, index: usize) -> Option<&EventCount<Mapped>> {
        (index == 0).then_some(&self.connection.wait_event)
    }

    fn before_sleep(&mut self) {
        self.connection.wait_state().take_back();
    }
}

impl<W> fmt::Debug for SendHalf<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.connection.fmt(f)
    }
}

impl<R> fmt::Debug for RecvHalf<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.connection.fmt(f)
    }
}
