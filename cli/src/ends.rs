//! What a transfer goes through: an end of a pipe, or of a queue.

use std::time::Duration;

use tombolo::{End, QueueReceiver, QueueSender, Receiver, RecvError, SendError, Sender};

use crate::place::PIECE_LEN;
use crate::rendezvous::Rendezvous;

pub trait SendEnd: End {
    /// Whoever must not be gone before the end.
    const RECEIVER: &'static str;

    /// Bytes of a file that are best sent as one message.
    fn piece_len(&self) -> usize;

    fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<(), SendError>;

    /// Leaves nothing behind. A receiver that is there must not take this for the end of the stream, so the sender is
    /// not closed: it ends as if its process had been killed.
    fn break_off(self, rendezvous: &Rendezvous);
}

pub trait RecvEnd: End {
    /// Whoever makes the end.
    const SENDER: &'static str;

    fn recv_timeout(&mut self, message: &mut Vec<u8>, timeout: Duration) -> Result<usize, RecvError>;

    fn try_recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError>;
}

impl SendEnd for Sender {
    const RECEIVER: &'static str = "the receiver";

    fn piece_len(&self) -> usize {
        self.inline_max_len()
    }

    fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.send_timeout(message, timeout)
    }

    fn break_off(self, rendezvous: &Rendezvous) {
        rendezvous.remove_name();
        let _ = self.abandon(); // fails for half an end only
    }
}

impl SendEnd for QueueSender {
    const RECEIVER: &'static str = "the last receiver";

    fn piece_len(&self) -> usize {
        self.max_message_len().clamp(1, PIECE_LEN)
    }

    fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.send_timeout(message, timeout)
    }

    fn break_off(self, rendezvous: &Rendezvous) {
        // The name is the others' as long as there are any. So be dead first: of all who break off at once, the last one finds
        // nobody, and takes it away.
        rendezvous.remove_name_after(|| drop(self.abandon()));
    }
}

impl RecvEnd for Receiver {
    const SENDER: &'static str = "the sender";

    fn recv_timeout(&mut self, message: &mut Vec<u8>, timeout: Duration) -> Result<usize, RecvError> {
        self.recv_timeout(message, timeout)
    }

    fn try_recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.try_recv(message)
    }
}

impl RecvEnd for QueueReceiver {
    const SENDER: &'static str = "the last sender";

    fn recv_timeout(&mut self, message: &mut Vec<u8>, timeout: Duration) -> Result<usize, RecvError> {
        self.recv_timeout(message, timeout)
    }

    fn try_recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.try_recv(message)
    }
}
