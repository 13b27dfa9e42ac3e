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

/// Socket option since Linux 6.16: whether packets with descriptors can be sent to this socket.
const SO_PASSRIGHTS: libc::c_int = 83;

/// Sets whether others can send descriptors to a socket, and to those that it accepts. If not, they
/// get EPERM. Closing a descriptor can block for as long as its sender chose: a socket with
/// SO_LINGER does. An older kernel does not know the option, which is no error here.
pub(crate) fn permit_descriptors(socket: impl AsFd, is_permitted: bool) {
    // The numbers of Linux for these architectures are others.
    if cfg!(any(target_arch = "sparc", target_arch = "sparc64")) {
        return;
    }
    let value = libc::c_int::from(is_permitted);
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    let descriptor = socket.as_fd().as_raw_fd();
    // SAFETY: an integer of that length, which is read.
    unsafe { libc::setsockopt(descriptor, libc::SOL_SOCKET, SO_PASSRIGHTS, (&raw const value).cast(), length) };
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
    /// It is none: the peer has ended, and everything was received.
    pub(crate) is_end: bool,
}

/// Copies the next packet, if one is there, and leaves it in the socket for [`drop_packet`]. So it
/// is not lost if its descriptors find no room in this process's table. At most `most` descriptors
/// and one or two more are copied.
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
    let may_be_end = received.bytes == 0 && descriptors.is_empty() && !is_truncated;
    let is_end = may_be_end && is_at_end(&socket)?;
    Ok(Some(Packet { length: received.bytes, descriptors, is_truncated, is_end }))
}

/// Returns whether a socket whose next packet is empty, or is none, has come to its end.
fn is_at_end(socket: impl AsFd) -> io::Result<bool> {
    // In this order: after a hang-up nothing comes any more.
    let mut polled = [PollFd::new(&socket, PollFlags::RDHUP)];
    retry_on_intr(|| rustix::event::poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })))?;
    let has_hung_up = polled.iter().any(|polled| !polled.revents().is_empty());
    Ok(has_hung_up && rustix::io::ioctl_fionread(&socket)? == 0)
}

/// Removes the next packet, and closes the kernel's copies of its descriptors. Returns its length.
pub(crate) fn drop_packet(socket: impl AsFd) -> io::Result<usize> {
    // Without room for descriptors none arrives.
    let receive = || retry_on_intr(|| net::recv(&socket, &mut [0_u8; 1], RecvFlags::TRUNC | RecvFlags::DONTWAIT));
    // As in `peek_packet`: the peer may have ended since.
    let received = match receive() {
        Err(Errno::CONNRESET) => receive(),
        received => received,
    };
    Ok(received?.1)
}

/// Removes all packets of a socket that receives nothing more.
pub(crate) fn drop_packets(socket: impl AsFd) {
    // The empty ones do not end it.
    while matches!(drop_packet(&socket), Ok(length) if length > 0 || !is_at_end(&socket).unwrap_or(true)) {}
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

/// Blocks until one of these sockets is ready, has ended or failed, until the deadline, or for a
/// moment. Returns the indices of those that are. A signal is an error.
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
    rustix::event::poll(&mut polled, Some(&rest))?;
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
    match net::getpeername(&socket) {
        // The system had chosen the wanted port for this side: nobody listens there.
        Ok(peer) if peer == Some(net::getsockname(&socket)?) => Err(Errno::CONNREFUSED.into()),
        Ok(_) => Ok(true),
        Err(Errno::NOTCONN) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Listens at the first of these addresses that this machine has. If that one is in use, the others
/// are not tried: clients would connect to the first one, which is another program's.
pub(crate) fn listen_tcp(addresses: &[SocketAddr]) -> io::Result<ForkGuardedFd> {
    let mut outcome = Err(io::ErrorKind::NotFound.into());
    for address in addresses {
        outcome = ForkGuardedFd::new(|| {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(listener.into())
        });
        match &outcome {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {}
            _ => break,
        }
    }
    outcome
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

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> [OwnedFd; 2] {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap().into()
    }

    fn next(socket: &OwnedFd) -> Option<Packet> {
        peek_packet(socket, &mut [0; 8], 1).unwrap()
    }

    /// The peer closes with a packet unread: the next call gets ECONNRESET, whichever that is.
    #[test]
    fn packet_peeked_before_peer_ended_is_dropped() {
        let [peer, socket] = pair();
        assert!(send_packet(&peer, b"one", &[peer.as_fd()]).unwrap());
        assert!(send_packet(&socket, b"unread", &[]).unwrap());
        assert_eq!(next(&socket).unwrap().length, 3);
        drop(peer);
        assert_eq!(drop_packet(&socket).unwrap(), 3);
        assert!(next(&socket).unwrap().is_end, "it is there again");
    }

    #[test]
    fn packet_empty_is_not_the_end() {
        let [peer, socket] = pair();
        for file in [None, Some(peer.as_fd())] {
            assert!(send_packet(&peer, b"", file.as_slice()).unwrap());
            assert!(!next(&socket).unwrap().is_end);
            assert_eq!(drop_packet(&socket).unwrap(), 0);
            assert!(next(&socket).is_none());
        }
        assert!(send_packet(&peer, b"", &[]).unwrap());
        assert!(send_packet(&peer, b"last", &[]).unwrap());
        drop(peer);
        assert!(!next(&socket).unwrap().is_end, "something is behind it");
        drop_packet(&socket).unwrap();
        assert!(!next(&socket).unwrap().is_end);
        drop_packet(&socket).unwrap();
        assert!(next(&socket).unwrap().is_end);
    }

    #[test]
    fn packets_dropped_peer_ended_or_alive_none_is_left() {
        for ends in [true, false] {
            let [peer, socket] = pair();
            for bytes in [b"".as_slice(), b"one", b"", b"two"] {
                assert!(send_packet(&peer, bytes, &[]).unwrap());
            }
            assert!(send_packet(&socket, b"unread", &[]).unwrap());
            shut_down_receiving(&socket);
            let kept = (!ends).then_some(peer);
            drop_packets(&socket);
            assert!(next(&socket).unwrap().is_end);
            drop(kept);
        }
    }

    /// Without a listener a port of the range for clients can connect to itself.
    #[test]
    fn tcp_socket_connected_to_itself_is_refused() {
        let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        net::connect(&socket, &local_address(&socket).unwrap()).unwrap();
        assert_eq!(connect_outcome(&socket).unwrap_err().raw_os_error(), Some(libc::ECONNREFUSED));
    }

    #[test]
    fn tcp_first_address_in_use_does_not_listen_at_the_second() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let first = taken.local_addr().unwrap();
        let second = SocketAddr::from(([127, 0, 0, 2], first.port()));
        let error = listen_tcp(&[first, second]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
        // This machine has no such address.
        let foreign = SocketAddr::from(([192, 0, 2, 1], 0));
        let listening = listen_tcp(&[foreign, SocketAddr::from(([127, 0, 0, 1], 0))]).unwrap();
        assert!(local_address(&listening).unwrap().ip().is_loopback());
    }
}
