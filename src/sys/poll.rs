//! Waiting for descriptors.

use std::time::Duration;

pub(crate) use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

/// How a call of [`poll`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Polled {
    /// What is ready has events, if anything is.
    Looked,
    /// A signal was caught before anything was ready.
    Interrupted,
    /// The kernel did not look: there are more descriptors than the process may have, or there is
    /// no memory.
    Refused,
}

/// Sleeps until a descriptor is ready, for at most `limit`. May wake early for no reason. One that
/// is closed is ready.
pub(crate) fn poll(descriptors: &mut [PollFd<'_>], limit: Duration) -> Polled {
    let limit = Timespec::try_from(limit).ok();
    match rustix::event::poll(descriptors, limit.as_ref()) {
        Ok(_) => Polled::Looked,
        Err(Errno::INTR) => Polled::Interrupted,
        Err(_) => Polled::Refused,
    }
}
