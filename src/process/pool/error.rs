//! Why a job has no result.

use std::fmt;
use std::process::ExitStatus;

use crate::process::error::Panic;

/// Why a job has no result.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobError {
    /// The job panicked. Its worker goes on.
    Panicked(Panic),
    /// Each worker that took the job died, and the job may not run once more:
    /// [`max_attempts`](super::Builder::max_attempts).
    WorkerDied(WorkerDeath),
    /// The arguments cannot be serialised or deserialised, or are longer than a message can be, or
    /// the function is in a shared library. The text says which.
    Arguments(String),
    /// The result cannot be serialised or deserialised, or is longer than a message can be. The
    /// text says which.
    Result(String),
    /// The job was [cancelled](super::JobHandle::cancel) while no worker had it.
    Cancelled,
    /// The pool was closed before the job was submitted, or terminated or dropped before it ended.
    Closed,
    /// The pool has no workers and gets none: an initializer failed, or workers cannot be started.
    /// The text says why.
    PoolFailed(String),
    /// The timeout is over.
    TimedOut,
    /// The thread was [interrupted](crate::InterruptHandle) while it waited. The job goes on.
    Interrupted,
    /// The handle belongs to the process that forked this one.
    Forked,
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(panic) => write!(f, "the job panicked: {panic}"),
            Self::WorkerDied(death) => death.fmt(f),
            Self::Arguments(reason) => write!(f, "the arguments of the job did not arrive: {reason}"),
            Self::Result(reason) => write!(f, "the result of the job did not arrive: {reason}"),
            Self::Cancelled => f.write_str("the job was cancelled while no worker had it"),
            Self::Closed => f.write_str("the pool was closed or terminated; keep it until its jobs are done"),
            Self::PoolFailed(reason) => write!(f, "the pool has no workers: {reason}"),
            Self::TimedOut => f.write_str("the timeout is over"),
            Self::Interrupted => f.write_str("the thread was interrupted while it waited"),
            Self::Forked => f.write_str("the pool belongs to the process that forked this one; build another one here"),
        }
    }
}

/// The message, not the fields: this is what a `main` that returns an error prints.
impl fmt::Debug for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for JobError {}

/// How the last worker of a job died.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerDeath {
    /// Its exit code, or the signal that killed it. `None` if something else in this process took
    /// the status.
    pub status: Option<ExitStatus>,
    /// The panic by which it aborted.
    pub panic: Option<Panic>,
    /// How often the job was begun.
    pub attempts: u32,
}

impl fmt::Display for WorkerDeath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.attempts {
            0 | 1 => f.write_str("the worker of the job died")?,
            attempts => write!(f, "all {attempts} workers that took the job died, the last one")?,
        }
        match (&self.status, &self.panic) {
            (Some(status), None) => write!(f, " with {status}"),
            (_, Some(panic)) => write!(f, ": {panic}"),
            (None, None) => f.write_str(" with a status that something else in this process took"),
        }
    }
}
