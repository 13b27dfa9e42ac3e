//! Waiting for senders and receivers of queues without blocking.

#[cfg(feature = "async")]
use std::future::Future;
#[cfg(feature = "async")]
use std::task::Poll;

#[cfg(feature = "async")]
use crate::error::{JoinError, RecvError};
#[cfg(feature = "async")]
use crate::message::sealed::Receive;
#[cfg(feature = "async")]
use crate::message::{receive_methods, send_methods};
#[cfg(feature = "async")]
use crate::queue::Task;
use crate::queue::{ByteReceiver, ByteSender, Receiver, Sender};
use crate::types::Shareable;
#[cfg(feature = "async")]
use crate::wait::{Timeout, poll_until_ready, unless_empty};
use crate::wait::{Waiter, pollable};

pollable!([T: Shareable] Receiver<T>, inner.half.participant, "a value or an end may be there", "[`Empty`](crate::error::RecvError::Empty)");
pollable!([] ByteReceiver, inner.half.participant, "a message or an end may be there", "[`Empty`](crate::error::RecvError::Empty)");
pollable!([T: Shareable] Sender<T>, half.participant, "there may be room, or an end", "[`Full`](crate::error::SendError::Full)");
pollable!([] ByteSender, half.participant, "there may be room, or an end", "[`Full`](crate::error::SendError::Full)");

#[cfg(feature = "async")]
receive_methods!(value [T: Shareable] Receiver<T>, T);
#[cfg(feature = "async")]
receive_methods!(bytes [] ByteReceiver);
#[cfg(feature = "async")]
send_methods!(value [T: Shareable] Sender<T>, T);
#[cfg(feature = "async")]
send_methods!(bytes [] ByteSender, "As [`send`](Self::send).");

/// The `async` method that receives a task.
#[cfg(feature = "async")]
macro_rules! task_methods {
    ([$($parameters:tt)*] $Receiver:ty) => {
        #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
        impl<$($parameters)*> $Receiver {
            /// Receives one message as a [`Task`], as [`recv_task`](Self::recv_task) does, without
            /// blocking the thread.
            ///
            /// A future that is dropped before it is ready has received nothing. If the future that
            /// works on the task is dropped, the message is given back. Works with any executor.
            ///
            /// # Errors
            /// As [`recv`](Self::recv).
            ///
            /// # Examples
            /// ```
            /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
            /// let (mut jobs, mut worker) = tombolo::queue::Options::<u64>::new().create_channel()?;
            /// jobs.send(7)?;
            /// let job = worker.recv_task_async().await?;
            /// assert_eq!(*job, 7);
            /// job.done()?;
            /// jobs.join()?;
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// # })?;
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub async fn recv_task_async(&mut self) -> Result<Task<'_, Self>, RecvError> {
                let attempt = |rx: &mut &mut Self| unless_empty(rx.receive(Timeout::NonBlocking));
                let message = poll_until_ready(&mut *self, attempt).await?;
                Ok(Task::of(self, message))
            }
        }
    };
}

#[cfg(feature = "async")]
task_methods!([T: Shareable] Receiver<T>);
#[cfg(feature = "async")]
task_methods!([] ByteReceiver);

/// The `async` method that waits for all tasks.
#[cfg(feature = "async")]
macro_rules! join_methods {
    ([$($parameters:tt)*] $Sender:ty) => {
        #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
        impl<$($parameters)*> $Sender {
            /// Waits for all tasks as [`join`](Self::join) does, without blocking the thread.
            ///
            /// A future that is dropped before it is ready has reported nothing. Works with any
            /// executor.
            ///
            /// # Errors
            /// As [`join`](Self::join).
            ///
            /// # Examples
            /// ```
            /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
            /// let (mut jobs, mut worker) = tombolo::queue::Options::<u64>::new().create_channel()?;
            /// jobs.send_async(1).await?;
            /// worker.recv_async().await?;
            /// worker.task_done()?;
            /// jobs.join_async().await?;
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// # })?;
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn join_async(&mut self) -> impl Future<Output = Result<(), JoinError>> {
                let mut end = None;
                poll_until_ready(self, move |tx| match tx.half.join(&mut end, Timeout::NonBlocking) {
                    Ok(None) => Poll::Pending,
                    Ok(Some(())) => Poll::Ready(Ok(())),
                    Err(error) => Poll::Ready(Err(error)),
                })
            }
        }
    };
}

#[cfg(feature = "async")]
join_methods!([T: Shareable] Sender<T>);
#[cfg(feature = "async")]
join_methods!([] ByteSender);
