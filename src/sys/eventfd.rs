//! A descriptor that is readable while its counter is not zero.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

/// Creates one that is readable.
pub(crate) fn create() -> io::Result<OwnedFd> {
    Ok(eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// Makes it readable.
pub(crate) fn signal(descriptor: impl AsFd) {
    // Fails if the counter is at its limit, and then it is readable.
    let _ = rustix::io::write(descriptor, &1_u64.to_ne_bytes());
}

/// Makes it unreadable.
pub(crate) fn reset(descriptor: impl AsFd) {
    // Fails if it is not readable.
    let _ = rustix::io::read(descriptor, &mut [0; 8]);
}
