//! Waiting for descriptors.

use std::time::Duration;

pub(crate) use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

/// Sleeps until a descriptor is ready, for at most `limit`. May wake early for no reason. A
/// descriptor that is ready has events then; one that is closed is ready. Returns whether a signal
/// ended it.
pub(crate) fn poll(descriptors: &mut [PollFd<'_>], limit: Duration) -> bool {
    let limit = Timespec::try_from(limit).ok();
    // Another error is a lack of memory. The caller looks again.
    rustix::event::poll(descriptors, limit.as_ref()) == Err(Errno::INTR)
}
