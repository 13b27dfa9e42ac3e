//! The handles that send and receive.

use std::borrow::Borrow;
use std::time::Duration;

use crate::endpoint::Endpoint;
use crate::error::{JoinError, RecvError, Result, SendError, TaskDoneError};
use crate::message::Messages;
use crate::queue::dead_letter::DeadLetters;
use crate::queue::endpoints::sealed::Attach;
use crate::queue::half::queue_methods;
use crate::queue::task::Task;
use crate::queue::task_iter::Tasks;
use crate::queue::{ByteReceiver, ByteSender, Receiver, Sender};
use crate::types::Shareable;
use crate::wait::source::source;

/// A handle that sends and receives values: a [`Sender`] and a [`Receiver`].
///
/// The receiver does not count its own sender as a peer: when every other sender has left, it gets
/// [`RecvError::Closed`].
#[derive(Debug)]
pub struct Queue<T: Shareable> {
    pub(super) tx: Sender<T>,
    pub(super) rx: Receiver<T>,
}

/// A handle that sends and receives byte messages: a [`ByteSender`] and a [`ByteReceiver`].
///
/// Otherwise it is like a [`Queue`] of values.
#[derive(Debug)]
pub struct ByteQueue {
    pub(super) tx: ByteSender,
    pub(super) rx: ByteReceiver,
}

/// The methods that handles of values and of byte messages share.
macro_rules! handle_methods {
    ($Sender:ty, $Receiver:ty) => {
        /// Returns the two halves, for two threads or processes.
        pub fn split(mut self) -> ($Sender, $Receiver) {
            self.tx.half_mut().participant.set_sibling(None);
            self.rx.half_mut().participant.set_sibling(None);
            (self.tx, self.rx)
        }

        // The receiver's: it can close every run.
        queue_methods!(rx.inner.half);

        /// Closes the open run of senders, and discards what is queued. See
        /// [`Receiver::close_now`].
        pub fn close_now(&mut self) -> Result<u64, RecvError> {
            self.rx.close_now()
        }

        /// Makes another sender of the same queue. See [`Sender::try_clone`].
        pub fn sender(&self) -> Result<$Sender> {
            self.tx.try_clone()
        }

        /// Makes another receiver of the same queue. See [`Receiver::try_clone`].
        pub fn receiver(&self) -> Result<$Receiver> {
            self.rx.try_clone()
        }

        /// Tells that the task of one message is done. See [`Receiver::task_done`].
        pub fn task_done(&mut self) -> Result<(), TaskDoneError> {
            self.rx.task_done()
        }

        /// Receives one message as a [`Task`], which is finished or given back. See
        /// [`Receiver::recv_task`].
        pub fn recv_task(&mut self) -> Result<Task<'_, $Receiver>, RecvError> {
            self.rx.recv_task()
        }

        /// Receives one message as a [`Task`], without blocking. See [`Receiver::try_recv_task`].
        pub fn try_recv_task(&mut self) -> Result<Task<'_, $Receiver>, RecvError> {
            self.rx.try_recv_task()
        }

        /// Returns how often the message that was received last was delivered. See
        /// [`Receiver::deliveries`].
        pub fn deliveries(&self) -> u32 {
            self.rx.deliveries()
        }

        /// Blocks until everything was received, and every task is done or lost. See
        /// [`Sender::join`].
        pub fn join(&mut self) -> Result<(), JoinError> {
            self.tx.join()
        }

        /// Like [`join`](Self::join), but waits for at most `timeout`. See
        /// [`Sender::join_timeout`].
        pub fn join_timeout(&mut self, timeout: Duration) -> Result<(), JoinError> {
            self.tx.join_timeout(timeout)
        }

        /// Returns the name under which the queue was opened, if it has one.
        pub fn name(&self) -> Option<&str> {
            self.tx.name()
        }

        /// Returns an iterator that blocks for each message. See [`Receiver::iter`].
        pub fn iter(&mut self) -> Messages<&mut $Receiver> {
            self.rx.iter()
        }

        /// Returns an iterator that blocks for each message, and finishes the task of the one
        /// before. See [`Receiver::tasks`].
        pub fn tasks(&mut self) -> Tasks<'_, $Receiver> {
            self.rx.tasks()
        }

        /// Returns an iterator over the messages that are there. See [`Receiver::try_iter`].
        pub fn try_iter(&mut self) -> Messages<&mut $Receiver> {
            self.rx.try_iter()
        }
    };
}

impl<T: Shareable> Queue<T> {
    handle_methods!(Sender<T>, Receiver<T>);

    /// Sends one value. See [`Sender::send`].
    pub fn send(&mut self, value: impl Borrow<T>) -> Result<(), SendError> {
        self.tx.send(value)
    }

    /// Sends one value, and waits for at most `timeout`. See [`Sender::send_timeout`].
    pub fn send_timeout(&mut self, value: impl Borrow<T>, timeout: Duration) -> Result<(), SendError> {
        self.tx.send_timeout(value, timeout)
    }

    /// Sends one value, without blocking. See [`Sender::try_send`].
    pub fn try_send(&mut self, value: impl Borrow<T>) -> Result<(), SendError> {
        self.tx.try_send(value)
    }

    /// Sends the first of several values. See [`Sender::send_many`].
    pub fn send_many(&mut self, values: &[T]) -> Result<usize, SendError> {
        self.tx.send_many(values)
    }

    /// Receives one value. See [`Receiver::recv`].
    pub fn recv(&mut self) -> Result<T, RecvError> {
        self.rx.recv()
    }

    /// Receives one value, and waits for at most `timeout`. See [`Receiver::recv_timeout`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvError> {
        self.rx.recv_timeout(timeout)
    }

    /// Receives one value, without blocking. See [`Receiver::try_recv`].
    pub fn try_recv(&mut self) -> Result<T, RecvError> {
        self.rx.try_recv()
    }

    /// Receives into a value. See [`Receiver::recv_into`].
    pub fn recv_into(&mut self, value: &mut T) -> Result<(), RecvError> {
        self.rx.recv_into(value)
    }

    /// Receives into a value, and waits for at most `timeout`. See [`Receiver::recv_into_timeout`].
    pub fn recv_into_timeout(&mut self, value: &mut T, timeout: Duration) -> Result<(), RecvError> {
        self.rx.recv_into_timeout(value, timeout)
    }

    /// Receives into a value, without blocking. See [`Receiver::try_recv_into`].
    pub fn try_recv_into(&mut self, value: &mut T) -> Result<(), RecvError> {
        self.rx.try_recv_into(value)
    }

    /// Returns the messages that were delivered as often as the queue allows. See
    /// [`Receiver::dead_letters`].
    pub fn dead_letters(&mut self) -> Result<DeadLetters<'_, T>, RecvError> {
        self.rx.dead_letters()
    }

    /// Receives several values. See [`Receiver::recv_many`].
    pub fn recv_many(&mut self, values: &mut [T]) -> Result<usize, RecvError> {
        self.rx.recv_many(values)
    }
}

impl ByteQueue {
    handle_methods!(ByteSender, ByteReceiver);

    /// Sends one message. See [`ByteSender::send`].
    pub fn send(&mut self, message: impl AsRef<[u8]>) -> Result<(), SendError> {
        self.tx.send(message)
    }

    /// Sends one message, and waits for at most `timeout`. See [`ByteSender::send_timeout`].
    pub fn send_timeout(&mut self, message: impl AsRef<[u8]>, timeout: Duration) -> Result<(), SendError> {
        self.tx.send_timeout(message, timeout)
    }

    /// Sends one message, without blocking. See [`ByteSender::try_send`].
    pub fn try_send(&mut self, message: impl AsRef<[u8]>) -> Result<(), SendError> {
        self.tx.try_send(message)
    }

    /// Sends the first of several messages. See [`ByteSender::send_many`].
    pub fn send_many<B: AsRef<[u8]>>(&mut self, messages: &[B]) -> Result<usize, SendError> {
        self.tx.send_many(messages)
    }

    /// Receives one message. See [`ByteReceiver::recv`].
    pub fn recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.rx.recv(message)
    }

    /// Receives one message, and waits for at most `timeout`. See [`ByteReceiver::recv_timeout`].
    pub fn recv_timeout(&mut self, message: &mut Vec<u8>, timeout: Duration) -> Result<usize, RecvError> {
        self.rx.recv_timeout(message, timeout)
    }

    /// Receives one message, without blocking. See [`ByteReceiver::try_recv`].
    pub fn try_recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.rx.try_recv(message)
    }

    /// Returns the messages that were delivered as often as the queue allows. See
    /// [`Receiver::dead_letters`].
    pub fn dead_letters(&mut self) -> Result<DeadLetters<'_, Vec<u8>>, RecvError> {
        self.rx.dead_letters()
    }

    /// Receives several messages. See [`ByteReceiver::recv_many`].
    pub fn recv_many(&mut self, messages: &mut [Vec<u8>]) -> Result<usize, RecvError> {
        self.rx.recv_many(messages)
    }
}

source!([T: Shareable] Queue<T>, rx);
source!([] ByteQueue, rx);
