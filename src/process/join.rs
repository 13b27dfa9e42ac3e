//! The future of a process's end.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::process::error::ProcessError;
use crate::process::wakers::TaskNumber;
use crate::process::{Process, reaper};

/// Waits for a process. The thread of `reaper.rs` wakes its task.
pub(super) struct Join<'a> {
    process: &'a Process,
    task: TaskNumber,
}

impl<'a> Join<'a> {
    pub(super) fn new(process: &'a Process) -> Self {
        Self { process, task: TaskNumber::new() }
    }
}

impl Future for Join<'_> {
    type Output = Result<(), ProcessError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let child = self.process.own_child()?;
        if let Some(ended) = self.process.ended() {
            return Poll::Ready(ended.outcome);
        }
        let watched = reaper::wake_at_end(child, &self.task, context.waker().clone());
        // It may have ended meanwhile. Then its end may have been seen before the task was there.
        match (self.process.ended(), watched) {
            (Some(ended), _) => Poll::Ready(ended.outcome),
            (None, Ok(())) => Poll::Pending,
            (None, Err(error)) => Poll::Ready(Err(ProcessError::Io(error.kind()))),
        }
    }
}

impl Drop for Join<'_> {
    fn drop(&mut self) {
        if let Ok(child) = self.process.own_child() {
            reaper::forget_task(child, &self.task);
        }
    }
}
