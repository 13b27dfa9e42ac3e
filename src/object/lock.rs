//! An object's lock: a robust lock, an event count for its waiters, and the thread that holds it.
//!
//! The lock word knows the process that owns the lock. Which of its threads does is known to that
//! process only.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::error::SyncError;
use crate::object::Handle;
use crate::object::fairness::{Contended, wait_fairly};
#[cfg(feature = "async")]
use crate::object::future::wait_fairly_async;
use crate::object::kind::{Description, EVENT, ObjectWords};
use crate::primitive::Ordering;
use crate::raw::event_count::EventCount;
use crate::raw::robust_lock::{History, RobustLock};
use crate::region::words::Mapped;
use crate::sys::process;
use crate::wait::{Timeout, WaitEnd};

/// An object's lock, as this process's threads take it.
#[derive(Clone)]
pub(crate) struct ObjectLock {
    pub(crate) handle: Handle,
    inner: Arc<Inner>,
}

struct Inner {
    word: RobustLock<Mapped>,
    event: EventCount<Mapped>,
}

impl ObjectLock {
    /// The lock whose word is at `offset`, with its event behind it.
    pub(crate) fn new(handle: Handle, offset: usize) -> Self {
        let inner = Inner { word: RobustLock::new(handle.word(offset)), event: handle.event(offset + EVENT) };
        Self { handle, inner: Arc::new(inner) }
    }

    #[inline(always)]
    pub(crate) fn word(&self) -> &RobustLock<Mapped> {
        &self.inner.word
    }

    /// Whether this thread holds it.
    #[inline]
    pub(crate) fn is_held_by_this_thread(&self) -> bool {
        // Relaxed: only this thread's own store is of interest.
        self.handle.local.holder.load(Ordering::Relaxed) == process::thread_token()
            && self.word().owner() == Some(self.handle.participant)
    }

    /// Locks. Returns what became of earlier owners.
    #[inline(always)]
    pub(crate) fn lock(&self, timeout: Timeout) -> Result<History, SyncError> {
        if !self.handle.generation.is_current() {
            return Err(SyncError::Forked);
        }
        // The CAS comes first: a load of the event before it would fetch the line twice.
        let history = match self.inner.word.try_lock(self.handle.participant)? {
            Some(history) if !self.inner.event.no_barging() => history,
            Some(history) => self.yield_and_lock(history, timeout)?,
            None => self.lock_slow(timeout)?,
        };
        self.note_holder();
        Ok(history)
    }

    /// Unlocks what this newcomer got although waiters are to go first, and waits.
    #[cold]
    fn yield_and_lock(&self, history: History, timeout: Timeout) -> Result<History, SyncError> {
        self.unlock_and_notify(history);
        self.lock_slow(timeout)
    }

    #[cold]
    fn lock_slow(&self, timeout: Timeout) -> Result<History, SyncError> {
        if self.is_held_by_this_thread() {
            return Err(SyncError::WouldDeadlock);
        }
        wait_fairly(&self.handle, &self, timeout)
    }

    /// Locks for a task. The thread that polls the future last is the one that holds the lock then.
    /// It may hold it for another task already, so that does not end the wait.
    #[cfg(feature = "async")]
    pub(crate) async fn lock_async(&self) -> Result<History, SyncError> {
        let first = || if self.inner.event.no_barging() { Ok(None) } else { self.try_take() };
        let history = wait_fairly_async(&self.handle, self, first).await?;
        self.note_holder();
        Ok(history)
    }

    /// Notes that this thread holds it.
    #[inline(always)]
    pub(crate) fn note_holder(&self) {
        self.handle.local.holder.store(process::thread_token(), Ordering::Relaxed); // read by this thread only
    }

    /// Unlocks, for the holder. `history` is what the next owner learns.
    #[inline(always)]
    pub(crate) fn unlock(&self, history: History) {
        // A forked child holds nothing of its parent's.
        if self.handle.is_from_this_process() {
            self.handle.local.holder.store(0, Ordering::Relaxed); // read by this thread only
            self.unlock_and_notify(history);
        }
    }

    #[inline(always)]
    fn unlock_and_notify(&self, history: History) {
        self.inner.word.unlock(self.handle.participant, history);
        self.inner.event.notify(1);
    }

    /// Keeps the lock when its guard goes.
    pub(crate) fn keep_locked(&self, history: History) {
        // A forked child holds nothing of its parent's. That may have unlocked it by now.
        if self.handle.is_from_this_process() {
            self.word().set_history(self.handle.participant, history);
            self.handle.local.kept.fetch_add(1, Ordering::Relaxed); // read by this thread only
        }
    }

    /// Whether this thread holds the lock without a guard. That is then up to the caller to unlock.
    pub(crate) fn take_kept(&self) -> Result<bool, SyncError> {
        self.handle.check_process()?;
        let fewer = |kept: u64| kept.checked_sub(1);
        // Relaxed: read by this thread only.
        let take = || self.handle.local.kept.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).is_ok();
        Ok(self.is_held_by_this_thread() && take())
    }
}

impl Contended for &ObjectLock {
    type Taken = History;

    fn event(&self) -> &EventCount<Mapped> {
        &self.inner.event
    }

    fn fair_event(&self) -> &EventCount<Mapped> {
        &self.inner.event
    }

    fn is_free(&self) -> bool {
        self.word().owner().is_none()
    }

    fn try_take(&self) -> Result<Option<History>, SyncError> {
        // A load before the CAS, which would take the line away from the owner.
        if self.is_free() { Ok(self.word().try_lock(self.handle.participant)?) } else { Ok(None) }
    }

    fn check_liveness(&self) -> Option<WaitEnd> {
        let owner = self.word().owner();
        let check = || self.handle.membership.check_liveness(owner);
        // An owner that has unlocked and left meanwhile is no reason to stop.
        check().filter(|&end| self.word().owner() == owner && check() == Some(end))
    }
}

/// Unlocks when dropped.
pub(crate) struct LockGuard<'a> {
    pub(crate) lock: &'a ObjectLock,
    /// What the next owner learns.
    pub(crate) history: History,
    /// The lock is the thread's.
    thread: PhantomData<*const ()>,
}

impl<'a> LockGuard<'a> {
    #[inline(always)]
    pub(crate) fn lock(lock: &'a ObjectLock, timeout: Timeout) -> Result<Self, SyncError> {
        Ok(Self::of_locked(lock, lock.lock(timeout)?))
    }

    /// The guard of a thread that has just locked.
    #[inline(always)]
    pub(crate) fn of_locked(lock: &'a ObjectLock, history: History) -> Self {
        Self { lock, history, thread: PhantomData }
    }

    /// As the thread that has just locked, does what can fail next. If it does, unlocks. The
    /// history that the caller is to report comes along: the next owner does not learn of that
    /// death any more.
    ///
    /// The guard is built last: one that moves through memory in pieces costs as much as the lock.
    #[inline(always)]
    pub(crate) fn locked_then<R>(
        lock: &'a ObjectLock,
        history: History,
        next: impl FnOnce() -> Result<R, SyncError>,
    ) -> Result<(Self, History, R), SyncError> {
        match next() {
            Ok(done) => Ok((Self::of_locked(lock, History { died: false, ..history }), history, done)),
            Err(error) => {
                lock.unlock(history);
                Err(error)
            }
        }
    }
}

impl Drop for LockGuard<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.lock.unlock(self.history);
    }
}

/// Takes the lock at `offset` from dead participants.
pub(super) fn release_dead(object: &ObjectWords<'_>, offset: usize, participants: &[usize]) {
    let lock = object.lock(offset);
    for &participant in participants {
        if lock.release_dead(participant) {
            object.event(offset + EVENT).wake(1);
        }
    }
}

/// The state of a lock that nobody holds.
pub(super) const FREE: &str = "free";

/// Describes the lock at `offset`.
pub(super) fn describe(object: &ObjectWords<'_>, offset: usize) -> Description {
    let lock = object.lock(offset);
    let (owner, history) = (lock.owner(), lock.history());
    let state = match owner {
        _ if history.poisoned => "poisoned",
        _ if history.died => "an owner died",
        Some(_) => "",
        None => FREE,
    };
    Description { owner, state: state.to_string(), ..Description::default() }
}
