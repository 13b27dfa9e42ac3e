//! `std::io` over byte messages, for code that reads or writes a stream.

use std::io::{self, Read, Write};

use crate::error::{RecvError, SendError};
use crate::pipe::{ByteReceiver, ByteSender};

/// A [`ByteSender`] as [`io::Write`]. Each write is one message. It buffers nothing.
///
/// # Examples
/// ```
/// use std::io::{Read, Write};
/// use tombolo::pipe::{self, io};
///
/// let (tx, rx) = pipe::Options::bytes().create()?;
/// let mut writer = io::Writer::new(tx);
/// writeln!(writer, "a line")?;
/// drop(writer);
/// let mut text = String::new();
/// io::Reader::new(rx).read_to_string(&mut text)?;
/// assert_eq!(text, "a line\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Writer(ByteSender);

impl Writer {
    /// Wraps a sender.
    pub fn new(sender: ByteSender) -> Self {
        Self(sender)
    }

    /// Returns the sender.
    pub fn into_inner(self) -> ByteSender {
        self.0
    }
}

impl Write for Writer {
    /// Sends as much of `bytes` as fits into one piece of the ring. An empty write sends nothing.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (piece, _) = bytes.split_at(bytes.len().min(self.0.max_inline_bytes()));
        if !piece.is_empty() {
            self.0.send(piece)?;
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0.half.check() {
            // What was written has been sent. If the receiver has left, the next write returns it.
            Ok(()) | Err(SendError::Closed) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A [`ByteReceiver`] as [`io::Read`]: the bytes of all messages in a row.
///
/// When the sender has left, the stream ends. When it died, a read returns
/// [`io::ErrorKind::ConnectionReset`].
#[derive(Debug)]
pub struct Reader {
    receiver: ByteReceiver,
    message: Vec<u8>,
    /// How many bytes of `message` were read already.
    read: usize,
}

impl Reader {
    /// Wraps a receiver.
    pub fn new(receiver: ByteReceiver) -> Self {
        Self { receiver, message: Vec::new(), read: 0 }
    }

    /// Returns the receiver. The rest of a message that was read in part is lost.
    pub fn into_inner(self) -> ByteReceiver {
        self.receiver
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        // An empty message has no bytes, and is not the end.
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
        let mut rest = self.message.get(self.read..).unwrap_or_default();
        let count = rest.read(buffer)?;
        self.read += count;
        Ok(count)
    }
}
