//! What connects the two processes: pipes of tombolo's, or of the kernel's. Each is used as well as it can be.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::process::{ChildStdin, ChildStdout};

use bytemuck::{bytes_of, bytes_of_mut};
use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size};
use tombolo::{Pipe, Receiver, Sender};

use super::MESSAGE_LEN;

/// A small message.
pub type Packet = [u64; 8];

/// The side that sends and asks.
pub trait Near {
    fn send_file(&mut self, message: &[u8]) -> io::Result<()>;
    fn send_value(&mut self, value: &Packet) -> io::Result<()>;
    fn send(&mut self, packet: &Packet) -> io::Result<()>;
    fn recv(&mut self) -> io::Result<Packet>;
}

/// The side that receives and answers.
pub trait Far {
    /// Receives into the front of `buffer`, at least one byte; says how many.
    fn recv_file(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
    fn recv_value(&mut self) -> io::Result<Packet>;
    fn send(&mut self, packet: &Packet) -> io::Result<()>;
    fn recv(&mut self) -> io::Result<Packet>;
}

pub struct TomboloNear {
    pub file: Sender,
    pub values: Sender<Packet>,
    pub talk: Pipe<Packet>,
}

impl Near for TomboloNear {
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

pub struct TomboloFar {
    pub file: Receiver,
    pub values: Receiver<Packet>,
    pub talk: Pipe<Packet>,
}

impl Far for TomboloFar {
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

/// Each message is one write: like tombolo's, it is there for the far side at once.
pub struct PipeNear {
    to: ChildStdin,
    from: ChildStdout,
}

impl PipeNear {
    /// Also says how many bytes the pipe holds.
    pub fn new(to: ChildStdin, from: ChildStdout) -> (Self, usize) {
        // As large as the system allows without privileges; if it refuses, the usual size has to do.
        let _ = fcntl_setpipe_size(to.as_fd(), MESSAGE_LEN);
        let size = fcntl_getpipe_size(to.as_fd()).unwrap_or(0);
        (Self { to, from }, size)
    }
}

impl Near for PipeNear {
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

/// Reads as much as there is, and hands it out piece by piece.
pub struct PipeFar {
    input: BufReader<File>,
    output: File,
}

impl PipeFar {
    pub fn new(input: File, output: File) -> Self {
        Self { input: BufReader::with_capacity(64 << 10, input), output }
    }
}

impl Far for PipeFar {
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
