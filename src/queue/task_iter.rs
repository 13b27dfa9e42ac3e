//! The iterator over the messages of a queue that finishes their tasks.

use std::iter::FusedIterator;

use crate::error::RecvError;
use crate::message::Messages;
use crate::message::sealed::Receive;

/// The messages of a queue, as an iterator that calls
/// [`task_done`](crate::queue::Receiver::task_done) for each when the next one is asked for.
///
/// Made by [`tasks`](crate::queue::Receiver::tasks). It ends as [`Messages`] do.
#[derive(Debug)]
#[must_use = "an iterator receives nothing until it is used"]
pub struct Tasks<'a, R> {
    messages: Messages<&'a mut R>,
    /// The last message was received and its task is not done.
    is_unfinished: bool,
}

impl<'a, R> Tasks<'a, R> {
    pub(crate) fn new(receiver: &'a mut R) -> Self {
        Self { messages: Messages::blocking(receiver), is_unfinished: false }
    }
}

impl<R: Receive + sealed::FinishTask> Iterator for Tasks<'_, R> {
    type Item = Result<R::Message, RecvError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if std::mem::take(&mut self.is_unfinished) {
            // In a forked child the receiver says so, too.
            let _ = self.messages.receiver_mut().finish_task();
        }
        let next = self.messages.next();
        self.is_unfinished = matches!(next, Some(Ok(_)));
        next
    }
}

impl<R: Receive + sealed::FinishTask> FusedIterator for Tasks<'_, R> {}

pub(crate) mod sealed {
    use crate::error::TaskDoneError;

    /// A receiver whose messages are tasks.
    pub trait FinishTask {
        /// Finishes the task of the message that was received last.
        fn finish_task(&mut self) -> Result<(), TaskDoneError>;

        /// Gives that message back, if the queue redelivers.
        fn give_back_task(&mut self);

        /// How often that message was delivered.
        fn deliveries(&self) -> u32;
    }
}
