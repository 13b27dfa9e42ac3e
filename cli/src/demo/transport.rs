//! What connects the two processes: tombolo's pipes or a Unix pipe, each used in its fastest way.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::process::{ChildStdin, ChildStdout};

use bytemuck::{bytes_of, bytes_of_mut};
use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size};
use tombolo::pipe::{ByteReceiver, ByteSender, Pipe, Receiver, Sender};

use super::MESSAGE_LEN;

/// A small message.
pub type Packet = [u64; 8];

/// The side that sends and asks.
pub trait Local {
    fn send_file(&mut self, message: &[u8]) -> io::Result<()>;
    fn send_value(&mut self, value: &Packet) -> io::Result<()>;
    fn send(&mut self, packet: &Packet) -> io::Result<()>;
    fn recv(&mut self) -> io::Result<Packet>;
}

/// The side that receives and answers.
pub trait Remote {
    /// Receives at least one byte into the front of `buffer`. Returns how many.
    fn recv_file(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
    fn recv_value(&mut self) -> io::Result<Packet>;
    fn send(&mut self, packet: &Packet) -> io::Result<()>;
    fn recv(&mut self) -> io::Result<Packet>;
}

pub struct TomboloLocal {
    pub file: ByteSender,
    pub values: Sender<Packet>,
    pub talk: Pipe<Packet>,
}

impl Local for TomboloLocal {
    fn send_file(&mut self, message: &[u8]) -> io::Result<()> {
        Ok(self.file.send(message)?)
    }

    fn send_value(&mut self, value: &Packet) -> io::Result<()> {
        Ok(self.values.send(value)?)
    }

    fn send(&mut self, packet: &Packet) -> io::Result<()> {
        Ok(self.talk.send(packet)?)
    }

    fn recv(&mut self) -> io::Result<Packet> {
        Ok(self.talk.recv()?)
    }
}

pub struct TomboloRemote {
    pub file: ByteReceiver,
    pub values: Receiver<Packet>,
    pub talk: Pipe<Packet>,
}

impl Remote for TomboloRemote {
    fn recv_file(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.file.recv_into(buffer)?)
    }

    fn recv_value(&mut self) -> io::Result<Packet> {
        Ok(self.values.recv()?)
    }

    fn send(&mut self, packet: &Packet) -> io::Result<()> {
        Ok(self.talk.send(packet)?)
    }

    fn recv(&mut self) -> io::Result<Packet> {
        Ok(self.talk.recv()?)
    }
}

/// Sends each message with one write, so that the remote side gets it at once, as with tombolo.
pub struct PipeLocal {
    to: ChildStdin,
    from: ChildStdout,
}

impl PipeLocal {
    /// Also returns the pipe's capacity in bytes.
    pub fn new(to: ChildStdin, from: ChildStdout) -> (Self, usize) {
        // If the system refuses this size, the default one is used.
        let _ = fcntl_setpipe_size(to.as_fd(), MESSAGE_LEN);
        let size = fcntl_getpipe_size(to.as_fd()).unwrap_or(0);
        (Self { to, from }, size)
    }
}

impl Local for PipeLocal {
    fn send_file(&mut self, message: &[u8]) -> io::Result<()> {
        self.to.write_all(message)
    }

    fn send_value(&mut self, value: &Packet) -> io::Result<()> {
        self.to.write_all(bytes_of(value))
    }

    fn send(&mut self, packet: &Packet) -> io::Result<()> {
        self.to.write_all(bytes_of(packet))
    }

    fn recv(&mut self) -> io::Result<Packet> {
        let mut packet = Packet::default();
        self.from.read_exact(bytes_of_mut(&mut packet))?;
        Ok(packet)
    }
}

/// Reads as much as there is into a buffer, and returns messages from there.
pub struct PipeRemote {
    input: BufReader<File>,
    output: File,
}

impl PipeRemote {
    pub fn new(input: File, output: File) -> Self {
        Self { input: BufReader::with_capacity(64 << 10, input), output }
    }
}

impl Remote for PipeRemote {
    fn recv_file(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.input.read(buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => Ok(count),
        }
    }

    fn recv_value(&mut self) -> io::Result<Packet> {
        self.recv()
    }

    fn send(&mut self, packet: &Packet) -> io::Result<()> {
        self.output.write_all(bytes_of(packet))
    }

    fn recv(&mut self) -> io::Result<Packet> {
        let mut packet = Packet::default();
        self.input.read_exact(bytes_of_mut(&mut packet))?;
        Ok(packet)
    }
}
