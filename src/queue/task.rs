//! One message with its task: to be finished, or given back.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};

use crate::error::{RecvError, TaskDoneError};
use crate::message::sealed::Receive;
use crate::queue::task_iter::sealed::FinishTask;
use crate::wait::Timeout;

/// A message that was received and whose task is not done.
///
/// Made by [`recv_task`](crate::queue::Receiver::recv_task). It dereferences to the message.
/// [`done`](Self::done) finishes the task. Dropped without that, by a panic for instance, the
/// message is given back at once if the queue [redelivers](crate::queue#redelivery). In other
/// queues the task stays unfinished, as if the message had come from `recv`.
#[must_use = "a message that is dropped without `done` is given back"]
pub struct Task<'a, R: Receive + FinishTask> {
    message: R::Message,
    open: OpenTask<'a, R>,
}

/// Gives the message back when it is dropped.
struct OpenTask<'a, R: FinishTask>(&'a mut R);

impl<'a, R: Receive + FinishTask> Task<'a, R> {
    pub(super) fn receive(receiver: &'a mut R, timeout: Timeout) -> Result<Self, RecvError> {
        let message = receiver.receive(timeout)?;
        Ok(Self::of(receiver, message))
    }

    /// The task of the message that was received last.
    pub(super) fn of(receiver: &'a mut R, message: R::Message) -> Self {
        Self { message, open: OpenTask(receiver) }
    }

    /// Returns how often the message was delivered, this time included. 1 unless the queue
    /// redelivers. A receiver that died while it received the message counts, too.
    pub fn deliveries(&self) -> u32 {
        self.open.0.deliveries()
    }

    /// Returns whether the message was delivered before: its task may be done already, or half
    /// done.
    pub fn is_redelivered(&self) -> bool {
        self.deliveries() > 1
    }

    /// Finishes the task, as [`task_done`](crate::queue::Receiver::task_done) does for a message
    /// that came from `recv`. Returns the message.
    ///
    /// # Blocking
    /// Never.
    ///
    /// # Errors
    /// [`Forked`](TaskDoneError::Forked) in a forked child: the task is its parent's.
    /// [`NoTask`](TaskDoneError::NoTask) in a damaged region.
    pub fn done(self) -> Result<R::Message, TaskDoneError> {
        let Self { message, open } = self;
        ManuallyDrop::new(open).0.finish_task()?;
        Ok(message)
    }

    /// Gives the message to another receiver, or to this one again. The same as dropping the task.
    pub fn give_back(self) {}
}

impl<R: FinishTask> Drop for OpenTask<'_, R> {
    fn drop(&mut self) {
        self.0.give_back_task();
    }
}

impl<R: Receive + FinishTask> Deref for Task<'_, R> {
    type Target = R::Message;

    fn deref(&self) -> &R::Message {
        &self.message
    }
}

impl<R: Receive + FinishTask> DerefMut for Task<'_, R> {
    fn deref_mut(&mut self) -> &mut R::Message {
        &mut self.message
    }
}

impl<R: Receive<Message: fmt::Debug> + FinishTask> fmt::Debug for Task<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("message", &self.message)
            .field("deliveries", &self.deliveries())
            .finish_non_exhaustive()
    }
}
