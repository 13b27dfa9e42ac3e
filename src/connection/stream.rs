//! Messages over TCP, after the handshake.
//!
//! Bytes: a message is fragments of up to [`MAX_FRAGMENT`] bytes, and a commit.
//!
//! | kind, 1 byte | followed by | what it means |
//! |---|---|---|
//! | 0 `DATA` | a length of 3 bytes, little-endian, and that many bytes | a fragment |
//! | 1 `COMMIT` | | the message is whole |
//! | 2 `ABORT` | | the message was given up: what came of it is dropped |
//! | 3 `END` | | the sender has left |
//!
//! Invariants
//! - I1: what a header announces is at most [`MAX_FRAGMENT`], and memory is taken when bytes have
//!   come, not when they are announced.
//! - I2: a message is sent if and only if its commit is, which is one byte. After a call that
//!   returns otherwise, `unsent` holds the rest of the fragment and an abort, which go first.
//!
//! Crash: a stream that ends without END is a death, as is one that the kernel gives up because the
//! other machine does not answer.

use std::io;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::connection::waiting;
use crate::error::{Interrupted, RecvError, SendError};
use crate::sys::clock::deadline_after;
use crate::sys::fork::ForkGuardedFd;
use crate::sys::socket::{self, Readiness};
use crate::wait::Timeout;

pub(super) const MAX_FRAGMENT: usize = 64 << 10;

const HEADER: usize = 4;

const DATA: u8 = 0;
const COMMIT: u8 = 1;
const ABORT: u8 = 2;
const END: u8 = 3;

/// How long a sender that is dropped tries to send the rest and that it has left.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(200);

/// The most bytes that are received and dropped before a socket is closed. With unread ones left,
/// the kernel breaks the stream off, and drops what it has not sent yet.
const MAX_DISCARDED: usize = 16 << 20;

/// A socket that is closed without breaking the stream off.
#[derive(Debug)]
pub(super) struct StreamSocket(ForkGuardedFd);

impl StreamSocket {
    pub(super) fn new(socket: ForkGuardedFd) -> Arc<Self> {
        Arc::new(Self(socket))
    }
}

impl Drop for StreamSocket {
    fn drop(&mut self) {
        let (started, mut discarded, mut buffer) = (Instant::now(), 0, [0; 16 << 10]);
        while discarded < MAX_DISCARDED && started.elapsed() < LEAVE_TIMEOUT {
            match socket::recv(&self.0, &mut buffer) {
                Ok(Some(count)) if count > 0 => discarded += count,
                _ => break,
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct StreamSender {
    socket: Arc<StreamSocket>,
    limit: u64,
    /// What must be sent before anything else: the rest of a fragment, and that its message was
    /// given up.
    unsent: Vec<u8>,
    has_failed: bool,
}

impl StreamSender {
    pub(super) fn new(socket: Arc<StreamSocket>, limit: u64) -> Self {
        Self { socket, limit, unsent: Vec::new(), has_failed: false }
    }

    pub(super) fn send(&mut self, message: &[u8], timeout: Timeout) -> Result<(), SendError> {
        if !self.socket.0.is_from_this_process() {
            return Err(SendError::Forked);
        }
        let limit = match timeout {
            Timeout::NonBlocking => self.limit.min(MAX_FRAGMENT as u64),
            Timeout::At(_) => self.limit,
        };
        if message.len() as u64 > limit {
            return Err(SendError::TooLarge { length: message.len(), limit: limit as usize });
        }
        if self.has_failed {
            return Err(SendError::PeerDied);
        }
        self.send_unsent(timeout)?;
        let mut rest = message;
        let mut is_first = true;
        loop {
            let (fragment, others) = rest.split_at(rest.len().min(MAX_FRAGMENT));
            let commit: &[u8] = if others.is_empty() { &[COMMIT] } else { &[] };
            self.send_fragment(fragment, commit, is_first, timeout)?;
            (rest, is_first) = (others, false);
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// Sends a fragment, and the commit if it is the last one. If the time is up before that, the
    /// message is given up.
    fn send_fragment(
        &mut self,
        bytes: &[u8],
        commit: &[u8],
        is_first: bool,
        timeout: Timeout,
    ) -> Result<(), SendError> {
        let [low, middle, high, _] = (bytes.len() as u32).to_le_bytes();
        let header = [DATA, low, middle, high];
        let before_commit = HEADER + bytes.len();
        let mut sent = 0;
        while sent < before_commit + commit.len() {
            let from = |part: &'_ [u8], start: usize| part.len().min(sent.saturating_sub(start));
            let parts = [
                header.get(from(&header, 0)..).unwrap_or_default(),
                bytes.get(from(bytes, HEADER)..).unwrap_or_default(),
                commit,
            ];
            match socket::send(&self.socket.0, parts) {
                Ok(Some(count)) => sent += count,
                Ok(None) => {
                    if let Err(error) = self.wait_for_room(timeout) {
                        if sent > 0 || !is_first {
                            self.unsent.extend(header.iter().chain(bytes).skip(sent));
                            self.unsent.push(ABORT);
                        }
                        return Err(error);
                    }
                }
                Err(error) => return Err(self.fail(&error)),
            }
        }
        Ok(())
    }

    fn send_unsent(&mut self, timeout: Timeout) -> Result<(), SendError> {
        while !self.unsent.is_empty() {
            match socket::send(&self.socket.0, [&self.unsent, &[], &[]]) {
                Ok(Some(count)) => drop(self.unsent.drain(..count)),
                Ok(None) => self.wait_for_room(timeout)?,
                Err(error) => return Err(self.fail(&error)),
            }
        }
        Ok(())
    }

    fn wait_for_room(&mut self, timeout: Timeout) -> Result<(), SendError> {
        let Timeout::At(deadline) = timeout else { return Err(SendError::Full) };
        if timeout.is_past() {
            return Err(SendError::TimedOut);
        }
        match waiting::wait(&self.socket.0, Readiness::Writable, deadline) {
            Err(error) if Interrupted::is_in(&error) => Err(SendError::Interrupted),
            waited => waited.map_err(|error| self.fail(&error)),
        }
    }

    /// What an error of the socket means: the stream is broken.
    fn fail(&mut self, error: &io::Error) -> SendError {
        self.has_failed = true;
        match error.raw_os_error() {
            // Something in this process has closed the descriptor.
            Some(libc::EBADF) => SendError::Closed,
            _ => SendError::PeerDied,
        }
    }
}

impl Drop for StreamSender {
    fn drop(&mut self) {
        if !self.socket.0.is_from_this_process() {
            return;
        }
        if !self.has_failed {
            self.unsent.push(END);
            let _ = self.send_unsent(Timeout::At(deadline_after(LEAVE_TIMEOUT)));
        }
        socket::shut_down_sending(&self.socket.0);
    }
}

#[derive(Debug)]
pub(super) struct StreamReceiver {
    socket: Arc<StreamSocket>,
    limit: u64,
    /// Bytes that have come and are not taken apart yet: those from `start` on.
    arrived: Vec<u8>,
    start: usize,
    /// What has come of the next message.
    message: Vec<u8>,
    /// Bytes that are still to come of the present fragment.
    missing: usize,
    /// The message is whole.
    is_whole: bool,
    end: Option<RecvError>,
}

impl StreamReceiver {
    pub(super) fn new(socket: Arc<StreamSocket>, limit: u64) -> Self {
        Self {
            socket,
            limit,
            arrived: Vec::new(),
            start: 0,
            message: Vec::new(),
            missing: 0,
            is_whole: false,
            end: None,
        }
    }

    /// Receives a message in place of what `message` holds. Returns its length.
    pub(super) fn recv(&mut self, message: &mut Vec<u8>, timeout: Timeout) -> Result<usize, RecvError> {
        self.wait_for_message(timeout)?;
        self.is_whole = false;
        mem::swap(&mut self.message, message);
        self.message.clear();
        Ok(message.len())
    }

    pub(super) fn recv_into(&mut self, buffer: &mut [u8], timeout: Timeout) -> Result<usize, RecvError> {
        self.wait_for_message(timeout)?;
        let needed = self.message.len();
        let room = buffer.get_mut(..needed).ok_or(RecvError::BufferTooSmall { needed })?;
        room.copy_from_slice(&self.message);
        self.message.clear();
        self.is_whole = false;
        Ok(needed)
    }

    /// Blocks until there is a message, or the end of the peer. False: the time is up.
    pub(super) fn poll(&mut self, timeout: Duration) -> Result<bool, RecvError> {
        match self.wait_for_message(Timeout::after(timeout)) {
            Ok(()) | Err(RecvError::Closed | RecvError::PeerDied) => Ok(true),
            Err(RecvError::TimedOut) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn wait_for_message(&mut self, timeout: Timeout) -> Result<(), RecvError> {
        if !self.socket.0.is_from_this_process() {
            return Err(RecvError::Forked);
        }
        let mut receipts = 0;
        loop {
            if self.take_apart()? {
                return Ok(());
            }
            if let Some(end) = self.end {
                return Err(end);
            }
            if self.receive()? {
                // A peer could send as fast as a call that must not block receives.
                receipts += 1;
                if receipts < MAX_RECEIPTS_PER_CHECK {
                    continue;
                }
                receipts = 0;
                if !timeout.is_past() {
                    continue;
                }
            }
            match timeout {
                Timeout::NonBlocking => return Err(RecvError::Empty),
                Timeout::At(_) if timeout.is_past() => return Err(RecvError::TimedOut),
                Timeout::At(deadline) => match waiting::wait(&self.socket.0, Readiness::Readable, deadline) {
                    Ok(()) => {}
                    Err(error) if Interrupted::is_in(&error) => return Err(RecvError::Interrupted),
                    Err(error) => return Err(self.fail(&error)),
                },
            }
        }
    }

    /// Receives what has come. Returns whether anything has.
    fn receive(&mut self) -> Result<bool, RecvError> {
        // Also if the end of a header is missing: that can be so each time.
        self.arrived.drain(..self.start);
        self.start = 0;
        let kept = self.arrived.len();
        self.arrived.try_reserve(MAX_FRAGMENT + HEADER).map_err(|_| RecvError::OutOfMemory)?;
        self.arrived.resize(kept + MAX_FRAGMENT + HEADER, 0);
        let received = socket::recv(&self.socket.0, self.arrived.get_mut(kept..).unwrap_or_default());
        let count = received.as_ref().ok().copied().flatten().unwrap_or(0);
        self.arrived.truncate(kept + count);
        match received {
            Ok(Some(0)) => {
                self.end = Some(RecvError::PeerDied);
                Ok(true)
            }
            Ok(Some(_)) => Ok(true),
            Ok(None) => Ok(false),
            Err(error) => Err(self.fail(&error)),
        }
    }

    /// Takes apart what has arrived, up to the end of a message. Returns whether there is one.
    fn take_apart(&mut self) -> Result<bool, RecvError> {
        while !self.is_whole && self.end.is_none_or(|end| end == RecvError::PeerDied) {
            let rest = self.arrived.get(self.start..).unwrap_or_default();
            if self.missing > 0 {
                let bytes = rest.get(..self.missing.min(rest.len())).unwrap_or_default();
                if bytes.is_empty() {
                    break;
                }
                self.message.try_reserve(bytes.len()).map_err(|_| RecvError::OutOfMemory)?;
                self.message.extend_from_slice(bytes);
                self.start += bytes.len();
                self.missing -= bytes.len();
                continue;
            }
            let taken = match *rest {
                [DATA, low, middle, high, ..] => {
                    let length = u32::from_le_bytes([low, middle, high, 0]) as usize;
                    let is_accepted = length <= MAX_FRAGMENT && (self.message.len() + length) as u64 <= self.limit;
                    if !is_accepted {
                        self.end = Some(RecvError::Corrupt);
                    }
                    self.missing = length;
                    HEADER
                }
                [] | [DATA, ..] => break,
                [COMMIT, ..] => {
                    self.is_whole = true;
                    1
                }
                [ABORT, ..] => {
                    self.message.clear();
                    self.message.shrink_to(MAX_FRAGMENT);
                    1
                }
                [END, ..] => {
                    self.end = Some(RecvError::Closed);
                    1
                }
                // No correct peer sends that.
                _ => {
                    self.end = Some(RecvError::Corrupt);
                    1
                }
            };
            self.start += taken;
        }
        Ok(self.is_whole)
    }

    fn fail(&mut self, error: &io::Error) -> RecvError {
        let end = match error.raw_os_error() {
            // Something in this process has closed the descriptor.
            Some(libc::EBADF) => RecvError::Closed,
            _ => RecvError::PeerDied,
        };
        *self.end.insert(end)
    }
}

/// Receipts between two looks at the clock: about 1 MiB.
const MAX_RECEIPTS_PER_CHECK: u32 = 16;

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const LIMIT: u64 = 100_000;

    /// The receiver at one end of a stream, and a peer that sends whatever it likes.
    fn receiver() -> (StreamReceiver, TcpStream) {
        let connect = || {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let peer = TcpStream::connect(listener.local_addr()?)?;
            let (socket, _) = listener.accept()?;
            socket.set_nonblocking(true)?;
            Ok((ForkGuardedFd::new(|| Ok(socket.into()))?, peer))
        };
        let (socket, peer) = connect().unwrap_or_else(|error: io::Error| panic!("{error}"));
        (StreamReceiver::new(StreamSocket::new(socket), LIMIT), peer)
    }

    fn send(peer: &mut TcpStream, bytes: &[u8]) {
        peer.write_all(bytes).unwrap_or_else(|error| panic!("{error}"));
    }

    fn recv(rx: &mut StreamReceiver, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        rx.recv(message, Timeout::UNLIMITED)
    }

    fn fragment(length: usize) -> Vec<u8> {
        let [low, middle, high, _] = (length as u32).to_le_bytes();
        let mut bytes = vec![DATA, low, middle, high];
        bytes.resize(HEADER + length, 7);
        bytes
    }

    #[test]
    fn stream_bytes_that_no_peer_sends_are_corrupt() {
        let too_long = [fragment(MAX_FRAGMENT), fragment(MAX_FRAGMENT)].concat();
        let cases: [&[u8]; 5] = [
            &[4],
            &[0xff; 100],
            &[DATA, 0xff, 0xff, 0xff],
            &[DATA, 1, 0, 1], // one byte more than a fragment
            &too_long,
        ];
        for bytes in cases {
            let (mut rx, mut peer) = receiver();
            send(&mut peer, bytes);
            let mut message = Vec::new();
            assert_eq!(recv(&mut rx, &mut message), Err(RecvError::Corrupt), "{:?}", bytes.get(..4));
            // It stays so, whatever comes.
            send(&mut peer, &[COMMIT]);
            assert_eq!(recv(&mut rx, &mut message), Err(RecvError::Corrupt));
            assert_eq!(rx.recv(&mut message, Timeout::NonBlocking), Err(RecvError::Corrupt));
        }
    }

    #[test]
    fn stream_length_that_is_announced_takes_no_memory_before_its_bytes_come() {
        let (mut rx, mut peer) = receiver();
        let announced = fragment(MAX_FRAGMENT);
        send(&mut peer, &announced[..HEADER + 10]);
        let moment = Timeout::after(Duration::from_millis(50));
        assert_eq!(rx.recv(&mut Vec::new(), moment), Err(RecvError::TimedOut));
        assert!(rx.message.capacity() <= 64, "{}", rx.message.capacity());
        send(&mut peer, &announced[HEADER + 10..]);
        send(&mut peer, &[COMMIT]);
        assert_eq!(recv(&mut rx, &mut Vec::new()), Ok(MAX_FRAGMENT));
    }

    #[test]
    fn stream_whose_bytes_end_in_headers_takes_no_memory() {
        let (mut rx, mut peer) = receiver();
        send(&mut peer, &[DATA]);
        for _ in 0..100 {
            assert_eq!(rx.recv(&mut Vec::new(), Timeout::NonBlocking), Err(RecvError::Empty));
            send(&mut peer, &[0, 0, 0, ABORT, DATA]);
        }
        assert!(rx.arrived.len() < 2 * HEADER, "{}", rx.arrived.len());
        send(&mut peer, &[1, 0, 0, 7, COMMIT]);
        assert_eq!(recv(&mut rx, &mut Vec::new()), Ok(1));
    }

    #[test]
    fn stream_that_does_not_end_one_call_takes_a_part_of_it() {
        let (mut rx, mut peer) = receiver();
        rx.limit = u64::MAX;
        let sending = std::thread::spawn(move || {
            let bytes = fragment(MAX_FRAGMENT);
            while peer.write_all(&bytes).is_ok() {}
        });
        let mut taken = 0;
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(10));
            assert_eq!(rx.recv(&mut Vec::new(), Timeout::NonBlocking), Err(RecvError::Empty));
            let came = rx.message.len() - taken;
            assert!(came <= 17 * MAX_FRAGMENT, "{came} bytes in one call");
            taken += came;
        }
        assert!(taken > MAX_FRAGMENT);
        socket::shut_down_receiving(&rx.socket.0);
        drop(rx);
        sending.join().unwrap_or_else(|_| panic!("sender"));
    }

    #[test]
    fn stream_message_given_up_leaves_its_memory() {
        let (mut rx, mut peer) = receiver();
        rx.limit = 100 * MAX_FRAGMENT as u64;
        let sending = std::thread::spawn(move || {
            for _ in 0..20 {
                send(&mut peer, &fragment(MAX_FRAGMENT));
            }
            send(&mut peer, &[ABORT, DATA, 1, 0, 0, 7, COMMIT]);
            peer
        });
        let mut message = Vec::new();
        assert_eq!(recv(&mut rx, &mut message), Ok(1));
        assert!(message.capacity() <= 2 * MAX_FRAGMENT, "{}", message.capacity());
        drop(sending.join());
    }

    /// What is given up takes nothing of the limit, and is never received.
    #[test]
    fn stream_message_given_up_is_dropped() {
        let (mut rx, mut peer) = receiver();
        for _ in 0..3 {
            send(&mut peer, &fragment(MAX_FRAGMENT));
            send(&mut peer, &[ABORT]);
        }
        send(&mut peer, &fragment(5));
        send(&mut peer, &[COMMIT, END]);
        let mut message = Vec::new();
        assert_eq!(recv(&mut rx, &mut message), Ok(5));
        assert_eq!(recv(&mut rx, &mut message), Err(RecvError::Closed));
    }

    #[test]
    fn stream_cut_in_the_middle_is_a_death() {
        let whole = [fragment(5), vec![COMMIT, END]].concat();
        for count in 0..whole.len() {
            let (mut rx, mut peer) = receiver();
            send(&mut peer, &whole[..count]);
            drop(peer);
            let mut message = Vec::new();
            if count > HEADER + 5 {
                assert_eq!(recv(&mut rx, &mut message), Ok(5));
            }
            assert_eq!(recv(&mut rx, &mut message), Err(RecvError::PeerDied), "after {count} bytes");
        }
    }
}
