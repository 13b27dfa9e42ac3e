//! A socket on which a handshake runs: messages one by one, of a Unix socket as its packets, of TCP
//! with two bytes of length before each.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::connection::handshake::{MAX_LEN, Transport};
use crate::sys::fork::ForkGuardedFd;
use crate::sys::socket;

const PREFIX: usize = 2;

/// A packet of the handshake has one at most. A peer that sends more does not get them all into the
/// table of this process.
const HANDSHAKE_DESCRIPTORS: usize = 16;

pub(super) struct Channel {
    pub(super) socket: ForkGuardedFd,
    /// What has come of the next message, with its length. `None`: a Unix socket.
    stream: Option<Vec<u8>>,
}

impl Channel {
    pub(super) fn unix(socket: ForkGuardedFd) -> Self {
        Self { socket, stream: None }
    }

    pub(super) fn tcp(socket: ForkGuardedFd) -> Self {
        Self { socket, stream: Some(Vec::new()) }
    }

    pub(super) fn transport(&self) -> Transport {
        if self.is_unix() { Transport::Unix } else { Transport::Tcp }
    }

    pub(super) fn is_unix(&self) -> bool {
        self.stream.is_none()
    }

    /// Sends a message. A handshake is shorter than the buffer of any socket.
    pub(super) fn send(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let is_sent = if self.is_unix() {
            socket::send_packet(&self.socket, message, descriptors)?
        } else {
            let prefix = (message.len() as u16).to_le_bytes();
            socket::send(&self.socket, [&prefix, message, &[]])? == Some(PREFIX + message.len())
        };
        if is_sent { Ok(()) } else { Err(io::Error::new(io::ErrorKind::BrokenPipe, "the socket takes nothing")) }
    }

    /// Receives the next message, if it has come, with its descriptors. Takes nothing from the
    /// socket that belongs to what follows.
    pub(super) fn recv(&mut self) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
        match &mut self.stream {
            None => recv_packet(&self.socket),
            Some(arrived) => Ok(recv_prefixed(&self.socket, arrived)?.map(|message| (message, Vec::new()))),
        }
    }
}

/// Receives a packet. If its descriptors find no room it stays there.
pub(super) fn recv_packet(socket: &ForkGuardedFd) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let received = peek_packet(socket, HANDSHAKE_DESCRIPTORS)?;
    if received.is_some() {
        socket::drop_packet(socket)?;
    }
    Ok(received)
}

/// The same, with about as many descriptors at most, but the packet stays there in any case.
pub(super) fn peek_packet(socket: &ForkGuardedFd, most: usize) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut buffer = [0; MAX_LEN];
    let Some(packet) = socket::peek_packet(socket, &mut buffer, most)? else { return Ok(None) };
    if packet.is_end {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // As many as there may be: the peer sent more. Fewer: this process's table had no room.
    if packet.is_truncated && packet.descriptors.len() < most {
        return Err(io::Error::from_raw_os_error(libc::EMFILE));
    }
    Ok(Some((buffer.get(..packet.length.min(MAX_LEN)).unwrap_or_default().to_vec(), packet.descriptors)))
}

fn recv_prefixed(socket: impl AsFd, arrived: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    loop {
        let wanted = match arrived.first_chunk::<PREFIX>() {
            None => PREFIX,
            Some(prefix) => PREFIX + usize::from(u16::from_le_bytes(*prefix)),
        };
        if wanted > PREFIX + MAX_LEN {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "what is no message of the handshake of tombolo"));
        }
        if arrived.len() >= PREFIX && arrived.len() == wanted {
            return Ok(Some(arrived.split_off(PREFIX))).inspect(|_| arrived.clear());
        }
        let mut buffer = [0; MAX_LEN + PREFIX];
        let rest = buffer.get_mut(..wanted - arrived.len()).unwrap_or_default();
        match socket::recv(&socket, rest)? {
            None => return Ok(None),
            Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(count) => arrived.extend(rest.iter().take(count)),
        }
    }
}
