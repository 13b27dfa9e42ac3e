//! Sockets: packets with descriptors over Unix sockets, bytes over any, and the peer's credentials.
//!
//! All sockets here are non-blocking. [`wait`] blocks.

#![allow(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType,
};

use super::clock::Deadline;
use super::fork::ForkGuardedFd;

/// Descriptors that one packet can carry: SCM_MAX_FD of the kernel.
pub(crate) const MAX_DESCRIPTORS: usize = 253;

/// A wait looks this often whether its descriptor is still what it was. Polling a number that
/// something else in this process has closed would not end.
const RECHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Where a Unix socket is bound.
pub(crate) enum UnixName<'a> {
    Path(&'a Path),
    Abstract(&'a [u8]),
}

impl UnixName<'_> {
    fn address(&self) -> io::Result<SocketAddrUnix> {
        Ok(match self {
            Self::Path(path) => SocketAddrUnix::new(*path)?,
            Self::Abstract(name) => SocketAddrUnix::new_abstract_name(name)?,
        })
    }

    /// Returns an error if no socket can have this name.
    pub(crate) fn check(&self) -> io::Result<()> {
        self.address().map(drop)
    }
}

/// A Unix socket that keeps the boundaries of packets.
pub(crate) fn packet_socket() -> io::Result<ForkGuardedFd> {
    ForkGuardedFd::new(|| {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
    })
}

/// Binds a Unix socket. A socket file has the mode from the beginning, without what the umask
/// forbids.
pub(crate) fn bind(socket: impl AsFd, name: &UnixName<'_>, mode: u32) -> io::Result<()> {
    // The file that bind(2) makes has the mode of the socket.
    rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(mode))?;
    Ok(net::bind(socket, &name.address()?)?)
}

pub(crate) fn listen(socket: impl AsFd, backlog: u32) -> io::Result<()> {
    Ok(net::listen(socket, i32::try_from(backlog).unwrap_or(i32::MAX))?)
}

/// Accepts a connection, if one is there.
pub(crate) fn accept(socket: impl AsFd) -> io::Result<Option<ForkGuardedFd>> {
    let accepted = ForkGuardedFd::new(|| {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(retry_on_intr(|| net::accept_with(&socket, flags))?)
    });
    match accepted {
        Ok(socket) => Ok(Some(socket)),
        // It was cut off before it could be accepted.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ECONNABORTED)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Connects to a Unix socket. Fails with EAGAIN if its backlog is full.
pub(crate) fn connect(socket: impl AsFd, name: &UnixName<'_>) -> io::Result<()> {
    let address = name.address()?;
    Ok(retry_on_intr(|| net::connect(&socket, &address))?)
}

fn retry_on_intr<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            outcome => return outcome,
        }
    }
}

/// Sends one packet with descriptors, whole or not at all. Returns false if there is no room.
pub(crate) fn send_packet(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<bool> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = SendFlags::NOSIGNAL;
    match retry_on_intr(|| net::sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, flags)) {
        Ok(_) => Ok(true),
        Err(Errno::AGAIN) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The next packet of a socket.
pub(crate) struct Packet {
    /// Its length. It may be longer than the buffer.
    pub(crate) length: usize,
    /// Close-on-exec.
    pub(crate) descriptors: Vec<OwnedFd>,
    /// Whether the kernel left descriptors out: there were too many, or this process can have no
    /// more.
    pub(crate) is_truncated: bool,
}

/// Copies the next packet, if one is there, and leaves it in the socket for [`drop_packet`]. So it
/// is not lost if its descriptors find no room in this process's table. At most `most` descriptors
/// and one or two more are copied. Length 0 is the end of the stream.
pub(crate) fn peek_packet(socket: impl AsFd, buffer: &mut [u8], most: usize) -> io::Result<Option<Packet>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let space = space.get_mut(..rustix::cmsg_space!(ScmRights(most))).unwrap_or_default();
    let mut control = RecvAncillaryBuffer::new(space);
    let flags = RecvFlags::PEEK | RecvFlags::TRUNC | RecvFlags::CMSG_CLOEXEC;
    let mut receive = || retry_on_intr(|| net::recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, flags));
    // A peer that closed without having read everything leaves this error, once, before what it
    // had sent.
    let received = match receive() {
        Err(Errno::CONNRESET) => receive(),
        received => received,
    };
    let received = match received {
        Err(Errno::AGAIN) => return Ok(None),
        received => received?,
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(arrived) = message {
            descriptors.extend(arrived);
        }
    }
    let is_truncated = received.flags.contains(ReturnFlags::CTRUNC);
    Ok(Some(Packet { length: received.bytes, descriptors, is_truncated }))
}

/// Removes the next packet, and closes the kernel's copies of its descriptors. Returns its length.
pub(crate) fn drop_packet(socket: impl AsFd) -> io::Result<usize> {
    // Without room for descriptors none arrives.
    let (_, length) = retry_on_intr(|| net::recv(&socket, &mut [0_u8; 1], RecvFlags::TRUNC | RecvFlags::DONTWAIT))?;
    Ok(length)
}

/// Sends bytes to a stream, as many as there is room for. `None`: there is no room.
pub(crate) fn send(socket: impl AsFd, parts: [&[u8]; 3]) -> io::Result<Option<usize>> {
    let parts = parts.map(IoSlice::new);
    let mut control = SendAncillaryBuffer::default();
    match retry_on_intr(|| net::sendmsg(&socket, &parts, &mut control, SendFlags::NOSIGNAL)) {
        Ok(count) => Ok(Some(count)),
        Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Receives bytes of a stream. 0: its end. `None`: there are none yet.
pub(crate) fn recv(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match retry_on_intr(|| net::recv(&socket, &mut *buffer, RecvFlags::empty())) {
        Ok((count, _)) => Ok(Some(count)),
        Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Ends the outgoing direction, so that the peer gets the end of the stream.
pub(crate) fn shut_down_sending(socket: impl AsFd) {
    let _ = net::shutdown(socket, Shutdown::Write);
}

/// Ends the incoming direction, so that the peer's next packet is refused.
pub(crate) fn shut_down_receiving(socket: impl AsFd) {
    let _ = net::shutdown(socket, Shutdown::Read);
}

/// What a wait waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    Readable,
    Writable,
}

/// Blocks until a socket is ready, has ended, or failed, until the deadline, or for a moment. The
/// caller looks what has happened.
pub(crate) fn wait(socket: impl AsFd, readiness: Readiness, deadline: Deadline) -> io::Result<()> {
    wait_any(&[socket.as_fd()], readiness, deadline).map(drop)
}

/// The same for several sockets. Returns the indices of those that are ready, have ended or failed.
pub(crate) fn wait_any(sockets: &[BorrowedFd<'_>], readiness: Readiness, deadline: Deadline) -> io::Result<Vec<usize>> {
    let flags = if readiness == Readiness::Readable { PollFlags::IN } else { PollFlags::OUT };
    // A descriptor that is no longer ours is -100 here, which poll(2) would pass over.
    if sockets.iter().any(|socket| socket.as_raw_fd() < 0) {
        return Err(Errno::BADF.into());
    }
    let mut polled: Vec<PollFd<'_>> = sockets.iter().map(|socket| PollFd::from_borrowed_fd(*socket, flags)).collect();
    let rest = deadline.map_or(RECHECK_INTERVAL, |deadline| deadline.saturating_duration_since(Instant::now()));
    let rest = rest.min(RECHECK_INTERVAL);
    let rest = Timespec { tv_sec: 0, tv_nsec: rest.subsec_nanos().into() };
    match rustix::event::poll(&mut polled, Some(&rest)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let is_ready = |(_, polled): &(usize, &PollFd<'_>)| !polled.revents().is_empty();
    Ok(polled.iter().enumerate().filter(is_ready).map(|(index, _)| index).collect())
}

/// Which process is at the other end of a Unix socket: for a client the one that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// 0 if this process cannot see it: it is in another PID namespace.
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Returns whose socket this one is connected to, as the kernel recorded it at that time. Not by
/// rustix, whose type has no pid 0.
pub(crate) fn peer_credentials(socket: impl AsFd) -> io::Result<Credentials> {
    let mut found = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    let descriptor = socket.as_fd().as_raw_fd();
    // SAFETY: the struct is there to be filled, and has that length.
    let done = unsafe {
        libc::getsockopt(descriptor, libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut found).cast(), &mut length)
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Credentials { pid: found.pid.cast_unsigned(), uid: found.uid, gid: found.gid })
}

/// Begins to connect to a port of TCP. The socket is writable when it has, or has failed: see
/// [`connect_outcome`].
pub(crate) fn begin_tcp_connection(address: SocketAddr) -> io::Result<ForkGuardedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = ForkGuardedFd::new(|| {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(net::socket_with(family, SocketType::STREAM, flags, None)?)
    })?;
    match net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// Returns whether a socket is connected by now, or why it is not.
pub(crate) fn connect_outcome(socket: impl AsFd) -> io::Result<bool> {
    net::sockopt::socket_error(&socket)??;
    match net::getpeername(socket) {
        Ok(_) => Ok(true),
        Err(Errno::NOTCONN) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Listens at the first of these addresses that is free.
pub(crate) fn listen_tcp(addresses: &[SocketAddr]) -> io::Result<ForkGuardedFd> {
    ForkGuardedFd::new(|| {
        let listener = TcpListener::bind(addresses)?;
        listener.set_nonblocking(true)?;
        Ok(listener.into())
    })
}

pub(crate) fn local_address(socket: impl AsFd) -> io::Result<SocketAddr> {
    Ok(net::getsockname(socket)?.try_into()?)
}

pub(crate) fn peer_address(socket: impl AsFd) -> io::Result<SocketAddr> {
    Ok(net::getpeername(socket)?.ok_or(Errno::NOTCONN)?.try_into()?)
}

/// For a connection over TCP: messages leave at once, and a peer whose machine is gone is noticed.
pub(crate) fn set_up_tcp(socket: impl AsFd) -> io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_tcp_nodelay(&socket, true)?;
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, Duration::from_secs(10))?;
    sockopt::set_tcp_keepintvl(&socket, Duration::from_secs(5))?;
    sockopt::set_tcp_keepcnt(&socket, 3)?;
    Ok(())
}

pub(crate) fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        done += retry_on_intr(|| rustix::rand::getrandom(&mut *rest, rustix::rand::GetRandomFlags::empty()))?;
    }
    Ok(bytes)
}
