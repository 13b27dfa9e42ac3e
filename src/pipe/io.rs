//! `std::io` over byte messages, for code that wants a stream.

use std::io::{self, Read, Write};

use crate::error::{RecvError, SendError};
use crate::pipe::receiver::Receiver;
use crate::pipe::sender::Sender;

/// A [`Sender`] as [`io::Write`]: each write is a message. Nothing is held back, so there is nothing to flush.
///
/// ```
/// use std::io::{Read, Write};
///
/// let (tx, rx) = tombolo::Options::bytes().create()?;
/// let mut writer = tombolo::Writer::new(tx);
/// writeln!(writer, "a line")?;
/// drop(writer);
/// let mut text = String::new();
/// tombolo::Reader::new(rx).read_to_string(&mut text)?;
/// assert_eq!(text, "a line\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Writer(Sender);

impl Writer {
    /// Wraps a sender.
    pub fn new(sender: Sender) -> Self {
        Self(sender)
    }

    /// Back to messages.
    pub fn into_inner(self) -> Sender {
        self.0
    }
}

impl Write for Writer {
    /// Sends as much of `bytes` as goes through the ring in one piece. An empty write sends nothing.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(self.0.max_inline_bytes())];
        if !piece.is_empty() {
            self.0.send(piece)?;
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0.check() {
            // What was written has been sent; whether anybody reads it is the next write's concern.
            Ok(()) | Err(SendError::Closed) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A [`Receiver`] as [`io::Read`]: the bytes of all messages in a row. A sender that left is the end of the stream; one that
/// died is [`io::ErrorKind::ConnectionReset`].
#[derive(Debug)]
pub struct Reader {
    receiver: Receiver,
    message: Vec<u8>,
    /// What of `message` has been read already.
    read: usize,
}

impl Reader {
    /// Wraps a receiver.
    pub fn new(receiver: Receiver) -> Self {
        Self { receiver, message: Vec::new(), read: 0 }
    }

    /// Back to messages. What is left of the message being read is lost.
    pub fn into_inner(self) -> Receiver {
        self.receiver
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        // Empty messages are no bytes, and not the end either.
        while self.read == self.message.len() {
            self.read = 0;
            self.message.clear();
            match self.receiver.recv_into(buffer) {
                Ok(0) => {}
                Ok(count) => return Ok(count),
                Err(RecvError::BufferTooSmall { .. }) => {
                    self.receiver.recv(&mut self.message)?;
                }
                Err(RecvError::Closed) => return Ok(0),
                Err(error) => return Err(error.into()),
            }
        }
        let rest = &self.message[self.read..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.read += count;
        Ok(count)
    }
}
