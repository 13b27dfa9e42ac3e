//! A descriptor for event loops, readable while a call on its endpoint may succeed.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};

use crate::raw::event_count::EventCount;
use crate::region::words::Mapped;
use crate::sys::eventfd;
use crate::sys::fork::ForkGuardedFd;

/// A descriptor that is readable while a call on its endpoint may succeed, or return an end.
///
/// Register it with an event loop: epoll, mio, tokio's `AsyncFd`, Python's `add_reader`. It can be
/// level-triggered or edge-triggered. When it is readable call `try_recv` (or `try_send`) until
/// that returns [`Empty`](crate::RecvError::Empty) (or [`Full`](crate::SendError::Full)). Only that
/// makes it unreadable. Do not read or write the descriptor yourself.
///
/// It may be readable although there is nothing to take: at first, when another receiver took it,
/// and now and then so that you notice a death. While it is readable, senders make no system call
/// for it, however many messages they send.
///
/// A message that is for any of several receivers makes the descriptor of only one of them
/// readable. So call `try_recv` when yours is. If the descriptor is dropped instead, another
/// receiver is woken.
///
/// Drop it when you no longer wait for it. It is closed in a forked child.
///
/// # Examples
/// ```
/// use tombolo::RecvError;
///
/// let (mut tx, mut rx) = tombolo::pipe::Options::<u64>::new().create()?;
/// let readiness = rx.readiness()?; // register it with an event loop
/// assert_eq!(rx.try_recv(), Err(RecvError::Empty)); // now it is not readable
/// tx.send(7)?; // now it is readable
/// # drop(readiness);
/// assert_eq!(rx.try_recv(), Ok(7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Readiness(Arc<ReadinessFd>);

impl Readiness {
    pub(super) fn new(fd: Arc<ReadinessFd>) -> Self {
        Self(fd)
    }
}

impl AsFd for Readiness {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}

impl AsRawFd for Readiness {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// The descriptor itself, which the endpoint and the waiter thread find as long as the user has it.
pub(super) struct ReadinessFd {
    fd: ForkGuardedFd,
    /// The event whose wake-up was spent on this descriptor, until its endpoint has tried to take
    /// something.
    owed: Mutex<Option<Arc<EventCount<Mapped>>>>,
}

impl ReadinessFd {
    /// Makes one that is readable.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { fd: ForkGuardedFd::new(eventfd::create)?, owed: Mutex::new(None) })
    }

    /// Makes it readable. `owed`: a wake-up was spent on that.
    pub(super) fn signal(&self, owed: Option<Arc<EventCount<Mapped>>>) {
        if owed.is_some() {
            *self.owed.lock().unwrap_or_else(PoisonError::into_inner) = owed;
        }
        eventfd::signal(&self.fd);
    }

    /// Makes it unreadable. Its endpoint has tried, after it has begun to listen.
    pub(super) fn reset(&self) {
        *self.owed.lock().unwrap_or_else(PoisonError::into_inner) = None;
        eventfd::reset(&self.fd);
    }
}

impl Drop for ReadinessFd {
    fn drop(&mut self) {
        let owed = self.owed.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(event) = owed.filter(|_| self.fd.is_from_this_process()) {
            event.notify(1);
        }
    }
}

impl std::fmt::Debug for ReadinessFd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.fd.fmt(f)
    }
}
