//! Waiting for descriptors.

use std::time::Duration;

pub(crate) use rustix::event::{PollFd, PollFlags};
use rustix::time::Timespec;

/// Sleeps until a descriptor is ready, for at most `limit`. May wake early for no reason. A
/// descriptor that is ready has events then; one that is closed is ready.
pub(crate) fn poll(descriptors: &mut [PollFd<'_>], limit: Duration) {
    let limit = Timespec::try_from(limit).ok();
    // An error: a signal, or no memory. The caller looks again.
    let _ = rustix::event::poll(descriptors, limit.as_ref());
}
