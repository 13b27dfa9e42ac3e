//! Endpoints that are transferred: to a child, as a descriptor, over a socket.

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};

use tombolo::pipe::{self, BytePipe, ByteSender, Pipe, Receiver, Sender};
use tombolo::spawn;
use tombolo::{Endpoint, ErrorKind, RecvError};

use crate::support::{TestDir, start};
use crate::{comes_back, pipe_to, send_back, small};

pub fn take_twice(_: &[String]) {
    assert_eq!(spawn::take::<BytePipe>("nobody").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(spawn::take::<BytePipe>("in valid").unwrap_err().kind(), ErrorKind::InvalidName);
    let pipe: BytePipe = spawn::take("peer").unwrap();
    assert_eq!(spawn::take::<BytePipe>("peer").unwrap_err().kind(), ErrorKind::NotFound);
    send_back(pipe);
}

#[test]
fn endpoint_taken_twice_is_refused() {
    let _sandbox = TestDir::new();
    let (mut pipe, child) = pipe_to(&small(), "take_twice", &[]);
    comes_back(&mut pipe, 10);
    drop(pipe);
    child.finish();
}

#[test]
fn endpoint_taken_as_another_type_is_refused() {
    let options = pipe::Options::<u64>::new();
    let (tx, mut rx) = options.create().unwrap();
    let copy = |descriptor: &OwnedFd| descriptor.try_clone().unwrap();
    let descriptor = tx.into_fd().unwrap();
    assert_eq!(options.from_fd::<Receiver<u64>>(copy(&descriptor)).unwrap_err().kind(), ErrorKind::WrongType);
    assert_eq!(options.from_fd::<Pipe<u64>>(copy(&descriptor)).unwrap_err().kind(), ErrorKind::WrongType);
    assert_eq!(
        pipe::Options::bytes().from_fd::<ByteSender>(copy(&descriptor)).unwrap_err().kind(),
        ErrorKind::WrongType
    );
    let mut tx: Sender<u64> = options.from_fd(descriptor).unwrap();
    tx.send(1).unwrap();
    assert_eq!(rx.recv(), Ok(1));
}

/// The control message that carries one descriptor.
#[repr(C)]
struct Rights {
    header: libc::cmsghdr,
    descriptor: RawFd,
}

/// Sends or receives one byte with a descriptor.
fn with_rights(rights: &mut Rights, transfer: impl FnOnce(&mut libc::msghdr) -> isize) {
    let mut byte = [b'x'];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: all zeros is a valid msghdr.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_iov = &mut part;
    header.msg_iovlen = 1;
    header.msg_control = std::ptr::from_mut(rights).cast();
    header.msg_controllen = size_of::<Rights>();
    assert_eq!(transfer(&mut header), 1, "{}", io::Error::last_os_error());
}

fn rights(descriptor: RawFd) -> Rights {
    let header = libc::cmsghdr {
        // SAFETY: arithmetic only.
        cmsg_len: unsafe { libc::CMSG_LEN(size_of::<RawFd>() as u32) } as usize,
        cmsg_level: libc::SOL_SOCKET,
        cmsg_type: libc::SCM_RIGHTS,
    };
    Rights { header, descriptor }
}

pub fn receive_from_socket(arguments: &[String]) {
    let socket = UnixStream::connect(&arguments[0]).unwrap();
    let mut received = rights(-1);
    // SAFETY: a valid header that outlives the call.
    with_rights(&mut received, |header| unsafe { libc::recvmsg(socket.as_raw_fd(), header, libc::MSG_CMSG_CLOEXEC) });
    // SAFETY: the kernel has just made it for us.
    let descriptor = unsafe { OwnedFd::from_raw_fd(received.descriptor) };
    send_back(pipe::Options::bytes().from_fd(descriptor).unwrap());
}

#[test]
fn endpoint_sent_over_socket_works() {
    let test_dir = TestDir::new();
    let path = test_dir.file("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let child = start("receive_from_socket", &[path.to_str().unwrap()]);
    let (socket, _) = listener.accept().unwrap();
    let (mut ours, theirs) = small().create_duplex().unwrap();
    let descriptor = theirs.into_fd().unwrap();
    // SAFETY: a valid header that outlives the call.
    with_rights(&mut rights(descriptor.as_raw_fd()), |header| unsafe { libc::sendmsg(socket.as_raw_fd(), header, 0) });
    drop(descriptor);
    comes_back(&mut ours, 10);
    child.kill();
    assert_eq!(ours.recv(&mut Vec::new()), Err(RecvError::PeerDied));
}
