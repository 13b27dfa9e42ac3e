//! Descriptors among the sources of a selector.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use crate::sys::poll::{PollFd, PollFlags, Polled, poll};
use crate::wait::Attempt;
use crate::wait::source::{Source, sealed::Watch};

/// A descriptor as a source: a socket, a pipe, a signalfd, a pidfd.
///
/// It is ready when the call that it waits for would not block, even if that call would return an
/// error. A regular file is always ready. If the process may have no descriptors any more
/// (`RLIMIT_NOFILE` is 0) the kernel does not check any, and all are ready.
///
/// It may be another thread that reads first. A read that shall not block then needs a descriptor
/// that is nonblocking.
///
/// ```
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
///
/// use tombolo::pipe;
/// use tombolo::select::{Descriptor, Selector};
///
/// let (_tx, mut rx) = pipe::Options::<u64>::new().create()?;
/// let (mut theirs, ours) = UnixStream::pair()?;
/// let mut ours = Descriptor::readable(ours);
/// theirs.write_all(b"x")?;
/// assert_eq!(Selector::new().wait(&mut [&mut rx, &mut ours]), Ok(1));
/// ours.get_mut().read_exact(&mut [0])?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Descriptor<F> {
    descriptor: F,
    events: PollFlags,
}

impl<F: AsFd> Descriptor<F> {
    /// Waits until there is something to read, or the end. A pidfd, such as a
    /// `process::Process`, is readable when the process has ended.
    pub fn readable(descriptor: F) -> Self {
        Self { descriptor, events: PollFlags::IN }
    }

    /// Waits until something can be written.
    pub fn writable(descriptor: F) -> Self {
        Self { descriptor, events: PollFlags::OUT }
    }

    /// Returns a reference to the descriptor, to read or write.
    pub fn get_ref(&self) -> &F {
        &self.descriptor
    }

    /// Returns a mutable reference to the descriptor, to read or write.
    pub fn get_mut(&mut self) -> &mut F {
        &mut self.descriptor
    }

    /// Returns the descriptor.
    pub fn into_inner(self) -> F {
        self.descriptor
    }

    fn poll_fd(&self) -> PollFd<'_> {
        PollFd::from_borrowed_fd(self.descriptor.as_fd(), self.events)
    }
}

impl<F: AsFd> Source for Descriptor<F> {}

impl<F: AsFd> Watch for Descriptor<F> {
    fn is_ready(&mut self, attempt: Attempt) -> bool {
        if attempt == Attempt::Probe {
            return false; // it takes a system call
        }
        if self.descriptor.as_fd().as_raw_fd() < 0 {
            return true; // one of the parent process, which poll would pass over
        }
        let mut polled = [self.poll_fd()];
        let outcome = poll(&mut polled, Duration::ZERO);
        let [polled] = polled;
        outcome == Polled::Refused || !polled.revents().is_empty()
    }

    fn descriptor(&self) -> Option<PollFd<'_>> {
        Some(self.poll_fd())
    }
}
