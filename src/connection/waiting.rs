//! Waiting for sockets, as long as nothing interrupts the thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::error::Interrupted;
use crate::interrupt::Interrupts;
use crate::sys::clock::Deadline;
use crate::sys::socket::{self, Readiness};

/// Blocks until a socket is ready, has ended, or failed, until the deadline, or for a moment. The
/// caller looks what has happened.
pub(super) fn wait(socket: impl AsFd, readiness: Readiness, deadline: Deadline) -> io::Result<()> {
    wait_any(&[socket.as_fd()], readiness, deadline).map(drop)
}

/// The same for several sockets. Returns the indices of those that are ready, have ended or failed.
pub(super) fn wait_any(sockets: &[BorrowedFd<'_>], readiness: Readiness, deadline: Deadline) -> io::Result<Vec<usize>> {
    let interrupts = Interrupts::of_this_thread();
    if interrupts.take() {
        return Err(Interrupted.into());
    }
    match socket::wait_any(sockets, readiness, interrupts.soon(deadline)) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            interrupts.note_signal();
            Ok(Vec::new())
        }
        outcome => outcome,
    }
}
