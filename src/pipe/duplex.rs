//! The endpoints that send and receive.

use std::borrow::Borrow;
use std::fmt;
use std::time::Duration;

use crate::error::{RecvError, SendError};
use crate::pipe::peer::peer_methods;
use crate::pipe::{ByteReceiver, ByteSender, Receiver, Sender};
use crate::types::Shareable;
use crate::wait::source::source;

/// An endpoint of a duplex pipe of values: a [`Sender`] and a [`Receiver`] that leave together.
///
/// When you drop it, the other endpoint gets what was sent and then [`RecvError::Closed`]. When its
/// process dies, the other endpoint gets what was sent and then [`RecvError::PeerDied`].
pub struct Pipe<T: Shareable> {
    /// The outgoing direction.
    pub tx: Sender<T>,
    /// The incoming direction.
    pub rx: Receiver<T>,
}

impl<T: Shareable> Pipe<T> {
    /// Returns the two directions, for two threads. Each ends when its half is dropped.
    pub fn split(self) -> (Sender<T>, Receiver<T>) {
        (self.tx, self.rx)
    }

    peer_methods!(rx.half, [tx.half, rx.half]);

    /// Blocks until there is something to receive. See [`Receiver::poll`].
    pub fn poll(&mut self, timeout: Duration) -> Result<bool, RecvError> {
        self.rx.poll(timeout)
    }

    /// Sends one value. See [`Sender::send`].
    pub fn send(&mut self, value: impl Borrow<T>) -> Result<(), SendError> {
        self.tx.send(value)
    }

    /// Sends one value, and waits for at most `timeout`. See [`Sender::send_timeout`].
    pub fn send_timeout(&mut self, value: impl Borrow<T>, timeout: Duration) -> Result<(), SendError> {
        self.tx.send_timeout(value, timeout)
    }

    /// Receives one value. See [`Receiver::recv`].
    pub fn recv(&mut self) -> Result<T, RecvError> {
        self.rx.recv()
    }

    /// Receives one value, and waits for at most `timeout`. See [`Receiver::recv_timeout`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvError> {
        self.rx.recv_timeout(timeout)
    }
}

impl<T: Shareable> fmt::Debug for Pipe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe").field("tx", &self.tx).field("rx", &self.rx).finish()
    }
}

/// An endpoint of a duplex pipe of byte messages: a [`ByteSender`] and a [`ByteReceiver`] that
/// leave together.
///
/// It ends like a [`Pipe`] of values.
#[derive(Debug)]
pub struct BytePipe {
    /// The outgoing direction.
    pub tx: ByteSender,
    /// The incoming direction.
    pub rx: ByteReceiver,
}

impl BytePipe {
    /// Returns the two directions, for two threads. Each ends when its half is dropped.
    pub fn split(self) -> (ByteSender, ByteReceiver) {
        (self.tx, self.rx)
    }

    peer_methods!(rx.half, [tx.half, rx.half]);

    /// Blocks until there is something to receive. See [`ByteReceiver::poll`].
    pub fn poll(&mut self, timeout: Duration) -> Result<bool, RecvError> {
        self.rx.poll(timeout)
    }

    /// Sends one message. See [`ByteSender::send`].
    pub fn send(&mut self, message: impl AsRef<[u8]>) -> Result<(), SendError> {
        self.tx.send(message)
    }

    /// Sends one message, and waits for at most `timeout`. See [`ByteSender::send_timeout`].
    pub fn send_timeout(&mut self, message: impl AsRef<[u8]>, timeout: Duration) -> Result<(), SendError> {
        self.tx.send_timeout(message, timeout)
    }

    /// Receives one message. See [`ByteReceiver::recv`].
    pub fn recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.rx.recv(message)
    }

    /// Receives one message, and waits for at most `timeout`. See [`ByteReceiver::recv_timeout`].
    pub fn recv_timeout(&mut self, message: &mut Vec<u8>, timeout: Duration) -> Result<usize, RecvError> {
        self.rx.recv_timeout(message, timeout)
    }

    /// Receives one message into a buffer. See [`ByteReceiver::recv_into`].
    pub fn recv_into(&mut self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        self.rx.recv_into(buffer)
    }
}

source!([T: Shareable] Pipe<T>, rx);
source!([] BytePipe, rx);
