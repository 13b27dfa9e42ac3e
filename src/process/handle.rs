//! A child of this process, by its pidfd: a descriptor that means this process and no later one
//! with the same pid.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, pidfd_send_signal, waitid,
};

use crate::primitive::{AtomicU64, Ordering};
use crate::sys::clock::Deadline;
use crate::sys::fork::ForkGuardedFd;

#[derive(Debug)]
pub(super) struct Child {
    /// Tells it from all others of this process.
    number: u64,
    pidfd: ForkGuardedFd,
    /// The writing end of the pipe by which a daemon is killed. Nobody else has one.
    _kills_at_end: Option<ForkGuardedFd>,
}

/// What became of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Running,
    /// It has ended and is no zombie. `None`: something else got its status, or has closed the
    /// pidfd.
    Ended(Option<ExitStatus>),
}

impl Child {
    /// Takes a child that nobody has waited for.
    pub(super) fn new(pid: u32, kills_at_end: Option<ForkGuardedFd>) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = ForkGuardedFd::new(|| match pidfd_open(pid, PidfdFlags::empty()) {
            // It has ended, and its status was taken at once, as by a SIGCHLD that is ignored. A
            // pipe without a writer tells those that poll the same.
            Err(Errno::SRCH) => Ok(io::pipe()?.0.into()),
            opened => Ok(opened?),
        })?;
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed); // Relaxed: unique is enough
        Ok(Self { number, pidfd, _kills_at_end: kills_at_end })
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn pidfd(&self) -> &ForkGuardedFd {
        &self.pidfd
    }

    pub(super) fn is_from_this_process(&self) -> bool {
        self.pidfd.is_from_this_process()
    }

    /// Reaps the child if it has ended. A second call finds the status gone.
    pub(super) fn try_wait(&self) -> Wait {
        loop {
            match waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
                Ok(None) => return Wait::Running,
                Ok(Some(status)) => return Wait::Ended(Some(exit_status(&status))),
                Err(Errno::INTR) => {}
                Err(_) if self.has_ended().is_ok_and(|has_ended| !has_ended) => return Wait::Running,
                Err(_) => return Wait::Ended(None),
            }
        }
    }

    fn has_ended(&self) -> io::Result<bool> {
        self.poll(Some(Instant::now()), || {})
    }

    /// Blocks until the child has ended, or until the deadline. Returns whether it has ended.
    pub(super) fn poll(&self, deadline: Deadline, on_signal: impl Fn()) -> io::Result<bool> {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            // The clock cannot get there: no limit.
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            let pidfd = self.pidfd.as_fd();
            // `poll` would ignore it, and wait forever.
            if pidfd.as_raw_fd() < 0 {
                return Err(Errno::BADF.into());
            }
            match poll(&mut [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)], timeout.as_ref()) {
                Ok(0) if deadline.is_some_and(|deadline| deadline > Instant::now()) => {}
                Ok(count) => return Ok(count > 0),
                Err(Errno::INTR) => on_signal(),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends a signal. One that has ended gets none, and that is no error.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) => Ok(()),
            Err(_) if self.has_ended().is_ok_and(|has_ended| has_ended) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// As `waitpid` would give it, see wait(2).
fn exit_status(status: &WaitIdStatus) -> ExitStatus {
    const DUMPED: i32 = 0x80;
    let signal = status.terminating_signal().unwrap_or(0);
    let code = status.exit_status().unwrap_or(0);
    ExitStatus::from_raw(code << 8 | signal | if status.dumped() { DUMPED } else { 0 })
}
