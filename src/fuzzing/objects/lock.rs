//! The lock that is in several kinds of objects.

use std::time::Duration;

use crate::error::{LockError, SyncError};
use crate::object::mutex::LockResult;
use crate::raw::robust_lock::History;

/// The expected state of a lock. Its owners are the processes 0 and 1.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ExpectedLock {
    pub(super) owner: Option<usize>,
    died: bool,
    pub(super) poisoned: bool,
}

impl ExpectedLock {
    fn history(&self) -> History {
        History { died: self.died && !self.poisoned, poisoned: self.poisoned }
    }

    /// Returns what an attempt to lock must return.
    pub(super) fn lock(&mut self, side: usize, timeout: Option<Duration>) -> Result<History, SyncError> {
        match self.owner {
            Some(owner) if owner == side => Err(SyncError::WouldDeadlock),
            Some(_) => Err(unavailable(timeout)),
            None => {
                self.owner = Some(side);
                Ok(self.history())
            }
        }
    }

    pub(super) fn unlock(&mut self, poisoned: bool) {
        *self = Self { owner: None, died: false, poisoned };
    }

    pub(super) fn release_dead(&mut self, side: usize) {
        if self.owner == Some(side) {
            self.owner = None;
            self.died = true;
        }
    }
}

/// Returns what a call for a lock reports, and the guard.
pub(super) fn outcome<G>(result: LockResult<G>) -> (Result<History, SyncError>, Option<G>) {
    match result {
        Ok(guard) => (Ok(History::default()), Some(guard)),
        Err(LockError::OwnerDied(guard)) => (Ok(History { died: true, poisoned: false }), Some(guard)),
        Err(LockError::Poisoned(guard)) => (Ok(History { died: false, poisoned: true }), Some(guard)),
        Err(LockError::Failed(error)) => (Err(error), None),
    }
}

/// The error of a call that does not get what it asks for.
pub(super) fn unavailable(timeout: Option<Duration>) -> SyncError {
    if timeout.is_some() { SyncError::TimedOut } else { SyncError::WouldBlock }
}
