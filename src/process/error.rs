//! How a process has ended that did not end well.

use std::fmt;
use std::io;
use std::process::ExitStatus;

/// Why a process has not done what it was to do, or why that is not known.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProcessError {
    /// The function panicked, or the process aborted by a panic.
    Panicked(Panic),
    /// The process ended with another exit code than 0, or was killed by a signal: see
    /// [`ExitStatusExt`](std::os::unix::process::ExitStatusExt).
    Failed(ExitStatus),
    /// The process has ended, and `main` had not called [`init`](super::init).
    NotInitialised(ExitStatus),
    /// The function was not called: its arguments could not be deserialised, or the process was of
    /// another build. The message says which.
    NotStarted(String),
    /// The process runs, and the timeout is over.
    TimedOut,
    /// The process runs, and the thread was [interrupted](crate::InterruptHandle) while it waited.
    Interrupted,
    /// The handle belongs to the process that forked this one.
    Forked,
    /// Something else in this process has waited for this child and got its exit status: `waitpid`
    /// for any child, or a `SIGCHLD` that is ignored. Or it has closed the pidfd of this child,
    /// which may run on then.
    StatusLost,
    /// Any other error of the operating system.
    Io(io::ErrorKind),
}

impl fmt::Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(panic) => panic.fmt(f),
            Self::Failed(status) => write!(f, "the process ended with {status}"),
            Self::NotInitialised(status) => write!(
                f,
                "the process ended with {status} and never called tombolo::process::init(); call it first in main, or, \
                 for tests, write tombolo::process::init_in_tests!() once in the test binary"
            ),
            Self::NotStarted(reason) => write!(f, "the process did not call its function: {reason}"),
            Self::TimedOut => f.write_str("the process runs, and the timeout is over"),
            Self::Interrupted => f.write_str("the process runs, and the thread was interrupted while it waited"),
            Self::Forked => f.write_str("the handle belongs to the process that forked this one, which alone can wait"),
            Self::StatusLost => f.write_str(
                "something else in this process took the exit status, or closed the descriptor; wait for particular \
                 children only, do not ignore SIGCHLD, and close no descriptors of others",
            ),
            Self::Io(kind) => write!(f, "the system cannot wait for the process: {kind}"),
        }
    }
}

/// The message, not the fields: this is what a `main` that returns an error prints.
impl fmt::Debug for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for ProcessError {}

/// A panic of another process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Panic {
    /// The name of the thread, if it has one.
    pub thread: Option<String>,
    /// The source file.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
    /// The message. Of a longer one the first 2048 characters.
    pub message: String,
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { thread, file, line, column, message } = self;
        let thread = thread.as_deref().unwrap_or("<unnamed>");
        write!(f, "thread '{thread}' of the process panicked at {file}:{line}:{column}: {message}")
    }
}
