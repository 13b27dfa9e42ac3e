//! What a transfer goes through: one endpoint of a pipe, of a queue or of a broadcast.

use std::time::Duration;

use tombolo::broadcast::{BytePublisher, ByteSubscriber, SlowSubscriber};
use tombolo::pipe::{ByteReceiver, ByteSender};
use tombolo::queue;
use tombolo::{Endpoint, RecvError, SendError};

use super::rendezvous::Rendezvous;
use crate::failure::print_message;
use crate::location::BLOCK_LEN;

pub trait SendEndpoint: Endpoint {
    /// The receiver that must stay until the end, as errors name it.
    const RECEIVER: &'static str;

    /// The number of bytes of a file that are best sent as one message.
    fn chunk_len(&self) -> usize;

    fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<(), SendError>;

    /// The subscriber that a blocked publisher waits for.
    fn slowest(&self) -> Option<SlowSubscriber> {
        None
    }

    /// Leaves before the end of the stream and cleans up the name.
    ///
    /// Closing the sender would tell the receivers that the stream is complete. So it is abandoned:
    /// to them it looks as if this process had been killed.
    ///
    /// The name stays as long as others use it. If several abort at once, each is marked dead
    /// before it checks, so the last one sees that nobody is left and removes the name.
    fn abort(self, rendezvous: &Rendezvous) {
        rendezvous.remove_name_after(|| drop(self.abandon())); // fails only for half of a duplex pipe
    }
}

pub trait RecvEndpoint: Endpoint {
    /// The sender that ends the stream, as errors name it.
    const SENDER: &'static str;

    fn recv_timeout(&mut self, message: &mut Vec<u8>, timeout: Duration) -> Result<usize, RecvError>;

    fn try_recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError>;

    /// How many messages had been sent before those that this receiver gets, if it does not get all
    /// that were not received by another one.
    fn sent_before(&self) -> u64 {
        0
    }

    /// Begins again with the next message, after it was evicted. Returns how many it has missed.
    fn rejoin(&mut self) -> Result<u64, RecvError> {
        Err(RecvError::Evicted)
    }
}

impl SendEndpoint for ByteSender {
    const RECEIVER: &'static str = "the receiver";

    fn chunk_len(&self) -> usize {
        self.max_inline_bytes()
    }

    fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.send_timeout(message, timeout)
    }
}

impl SendEndpoint for queue::ByteSender {
    const RECEIVER: &'static str = "the last receiver";

    fn chunk_len(&self) -> usize {
        self.max_message_bytes().clamp(1, BLOCK_LEN)
    }

    fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.send_timeout(message, timeout)
    }
}

impl SendEndpoint for BytePublisher {
    const RECEIVER: &'static str = "the last subscriber";

    fn chunk_len(&self) -> usize {
        self.max_message_bytes().clamp(1, BLOCK_LEN)
    }

    fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.publish_timeout(message, timeout)
    }

    fn slowest(&self) -> Option<SlowSubscriber> {
        self.slowest()
    }
}

impl RecvEndpoint for ByteReceiver {
    const SENDER: &'static str = "the sender";

    fn recv_timeout(&mut self, message: &mut Vec<u8>, timeout: Duration) -> Result<usize, RecvError> {
        self.recv_timeout(message, timeout)
    }

    fn try_recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.try_recv(message)
    }
}

impl RecvEndpoint for queue::ByteReceiver {
    const SENDER: &'static str = "the last sender";

    fn recv_timeout(&mut self, message: &mut Vec<u8>, timeout: Duration) -> Result<usize, RecvError> {
        done(self.recv_timeout(message, timeout), self)
    }

    fn try_recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        done(self.try_recv(message), self)
    }
}

impl RecvEndpoint for ByteSubscriber {
    const SENDER: &'static str = "the last publisher";

    fn recv_timeout(&mut self, message: &mut Vec<u8>, timeout: Duration) -> Result<usize, RecvError> {
        self.recv_timeout(message, timeout)
    }

    fn try_recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.try_recv(message)
    }

    fn sent_before(&self) -> u64 {
        self.published_before()
    }

    fn rejoin(&mut self) -> Result<u64, RecvError> {
        self.rejoin()
    }
}

/// There is no more to be done for a message than to write it.
fn done(received: Result<usize, RecvError>, rx: &mut queue::ByteReceiver) -> Result<usize, RecvError> {
    if received.is_ok() {
        let _ = rx.task_done(); // fails only in a forked child
    }
    received
}

/// Prints which of the options that the library knows could not be honoured.
pub fn print_warnings(endpoint: &impl Endpoint) {
    for warning in endpoint.warnings() {
        print_message(format_args!("note: {warning}"));
    }
}
