//! One job that was submitted.

use std::fmt;
#[cfg(feature = "async")]
use std::future::Future;
use std::marker::PhantomData;
#[cfg(feature = "async")]
use std::pin::Pin;
use std::sync::Arc;
#[cfg(feature = "async")]
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use crate::process::pool::error::JobError;
use crate::process::pool::map::decode;
use crate::process::pool::results::{Results, Wanted};
use crate::process::pool::shared::Shared;
#[cfg(feature = "async")]
use crate::process::wakers::TaskNumber;
use crate::sys::clock::{Deadline, deadline_after};

/// A job that was submitted, and its result.
///
/// Dropping it does not cancel the job.
pub struct JobHandle<R> {
    pub(super) shared: Arc<Shared>,
    /// Of this job only.
    pub(super) results: Arc<Results>,
    pub(super) result: PhantomData<fn() -> R>,
}

impl<R: DeserializeOwned> JobHandle<R> {
    /// Blocks until the job has ended, and returns its result. Each call deserialises it anew.
    ///
    /// # Blocking
    /// Until a worker has run the job, or the pool ends. As long as all workers are stopped or
    /// busy, it waits.
    ///
    /// # Errors
    /// See [`JobError`].
    pub fn join(&self) -> Result<R, JobError> {
        self.join_until(None)
    }

    /// Like [`join`](Self::join), but returns [`TimedOut`](JobError::TimedOut) after `timeout`.
    pub fn join_timeout(&self, timeout: Duration) -> Result<R, JobError> {
        self.join_until(deadline_after(timeout))
    }

    /// Returns the result if there is one already.
    pub fn try_join(&self) -> Option<Result<R, JobError>> {
        match self.join_until(Some(Instant::now())) {
            Err(JobError::TimedOut) => None,
            result => Some(result),
        }
    }

    /// Waits as [`join`](Self::join) does, without blocking the thread.
    ///
    /// Works with any executor. A future that is dropped changes nothing: the job goes on.
    ///
    /// # Errors
    /// See [`JobError`].
    ///
    /// # Examples
    /// ```
    /// use tombolo::process::{self, ProcessPool};
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     process::init();
    ///     tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    ///         let pool = ProcessPool::new()?;
    ///         let job = pool.submit(|number: u64| number + 1, 1);
    ///         assert_eq!(job.join_async().await?, 2);
    ///         Ok(())
    ///     })
    /// }
    /// ```
    #[cfg(feature = "async")]
    #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
    pub fn join_async(&self) -> impl Future<Output = Result<R, JobError>> {
        JobJoin { handle: self, task: TaskNumber::new() }
    }

    fn join_until(&self, deadline: Deadline) -> Result<R, JobError> {
        self.results.get(deadline).and_then(|bytes| decode(&bytes))
    }
}

impl<R> JobHandle<R> {
    /// Returns whether the job has ended. In a forked child of this process: false.
    pub fn is_finished(&self) -> bool {
        self.results.is_ready(Wanted::Any)
    }

    /// Ends the job with [`Cancelled`](JobError::Cancelled) if no worker has it yet. Returns
    /// whether it was so. A job that runs is not stopped: it has no time limit, and only
    /// [`terminate`](super::ProcessPool::terminate) or a drop of the pool ends it.
    pub fn cancel(&self) -> bool {
        self.shared.is_from_this_process() && self.shared.cancel(&self.results)
    }
}

impl<R> fmt::Debug for JobHandle<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobHandle").field("is_finished", &self.is_finished()).finish_non_exhaustive()
    }
}

/// Waits for the result of a job.
#[cfg(feature = "async")]
struct JobJoin<'a, R> {
    handle: &'a JobHandle<R>,
    task: TaskNumber,
}

#[cfg(feature = "async")]
impl<R: DeserializeOwned> Future for JobJoin<'_, R> {
    type Output = Result<R, JobError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = self.handle.results.poll(&self.task, context.waker().clone());
        outcome.map(|bytes| decode(&bytes?))
    }
}

#[cfg(feature = "async")]
impl<R> Drop for JobJoin<'_, R> {
    fn drop(&mut self) {
        self.handle.results.forget_task(&self.task);
    }
}
