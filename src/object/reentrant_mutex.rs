//! A mutex that its thread may lock again. Its words are those of a
//! [`mutex`](crate::object::mutex).

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use crate::error::SyncError;
use crate::object::kind::{ObjectKind, STATE};
use crate::object::lock::ObjectLock;
use crate::object::mutex::{LockResult, with_history, words};
use crate::object::seq_cell::SeqCell;
use crate::object::spec::ObjectSpec;
use crate::object::{Handle, object};
use crate::primitive::Ordering;
use crate::raw::robust_lock::History;
use crate::types::Shareable;
use crate::wait::Timeout;

/// A lock between processes that its thread may lock again, and the value that it protects.
///
/// It is like a [`Mutex`](crate::sync::Mutex), with one difference: the guards hold no copy of the
/// value, and each [`set`](ReentrantMutexGuard::set) commits.
///
/// It has no futures, unlike a mutex: to tasks that share a thread it would not be a lock, because
/// each of them could lock again what another one holds.
///
/// ```
/// use tombolo::sync::{LockError, ReentrantMutex};
///
/// let depth = ReentrantMutex::new(0_u32)?;
/// let outer = depth.lock().or_else(LockError::into_guard)?;
/// let inner = depth.lock().or_else(LockError::into_guard)?;
/// inner.set(&1)?;
/// assert_eq!(outer.get()?, 1);
/// # drop(inner);
/// # drop(outer);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ReentrantMutex<T> {
    lock: ObjectLock,
    cell: Arc<SeqCell<T>>,
}

impl<T: Shareable> ReentrantMutex<T> {
    pub(crate) fn from_handle(handle: Handle) -> Self {
        let cell = Arc::new(SeqCell::new(&handle, words::CELL));
        Self { lock: ObjectLock::new(handle, STATE), cell }
    }

    /// Acquires the lock, once more if this thread holds it.
    ///
    /// # Blocking
    ///
    /// Like [`Mutex::lock`](crate::sync::Mutex::lock).
    ///
    /// # Errors
    ///
    /// Those of [`Mutex::lock`](crate::sync::Mutex::lock), without
    /// [`WouldDeadlock`](SyncError::WouldDeadlock).
    ///
    /// For `?` add [`or_else(LockError::into_guard)`](crate::sync#lock-errors-and-).
    pub fn lock(&self) -> LockResult<ReentrantMutexGuard<'_, T>> {
        self.lock_until(Timeout::UNLIMITED)
    }

    /// Attempts to acquire the lock without waiting.
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Self::lock), and [`WouldBlock`](SyncError::WouldBlock).
    pub fn try_lock(&self) -> LockResult<ReentrantMutexGuard<'_, T>> {
        self.lock_until(Timeout::NonBlocking)
    }

    /// Acquires the lock, and waits no longer than `timeout` for it.
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Self::lock), and [`TimedOut`](SyncError::TimedOut).
    pub fn lock_timeout(&self, timeout: Duration) -> LockResult<ReentrantMutexGuard<'_, T>> {
        self.lock_until(Timeout::after(timeout))
    }

    fn lock_until(&self, until: Timeout) -> LockResult<ReentrantMutexGuard<'_, T>> {
        self.lock.handle.check_process()?;
        let history = if self.lock.is_held_by_this_thread() {
            self.depth(|depth| depth + 1);
            History { died: false, ..self.lock.word().history() }
        } else {
            self.lock.lock(until)?
        };
        with_history(ReentrantMutexGuard { mutex: self, thread: PhantomData }, history)
    }

    /// Releases once what [`ReentrantMutexGuard::keep_locked`] kept.
    ///
    /// # Blocking
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// [`NotOwner`](SyncError::NotOwner) if this thread has no such lock.
    pub fn unlock(&self) -> Result<(), SyncError> {
        if !self.lock.take_kept()? {
            return Err(SyncError::NotOwner);
        }
        self.unlock_once();
        Ok(())
    }
}

impl<T> ReentrantMutex<T> {
    /// Changes how often the lock is taken beyond once. Only its thread does. Returns how often it
    /// was.
    fn depth(&self, change: impl FnOnce(u64) -> u64) -> u64 {
        let depth = &self.lock.handle.local.depth;
        let before = depth.load(Ordering::Relaxed);
        depth.store(change(before), Ordering::Relaxed);
        before
    }

    fn unlock_once(&self) {
        if self.depth(|depth| depth.saturating_sub(1)) == 0 {
            let poisoned = self.lock.word().history().poisoned;
            self.lock.unlock(History { died: false, poisoned });
        }
    }
}

impl<T> Clone for ReentrantMutex<T> {
    fn clone(&self) -> Self {
        Self { lock: self.lock.clone(), cell: Arc::clone(&self.cell) }
    }
}

object!(ReentrantMutex<T>, ObjectSpec::of::<T>(ObjectKind::ReentrantMutex, 0), |this| &this.lock.handle);

/// The lock of a [`ReentrantMutex`]. It is released when the last such guard of the thread is
/// dropped.
#[must_use = "bind it to a name such as `_guard`: `let _` releases the lock at once"]
pub struct ReentrantMutexGuard<'a, T> {
    mutex: &'a ReentrantMutex<T>,
    /// The lock is the thread's.
    thread: PhantomData<*const ()>,
}

impl<T: Shareable> ReentrantMutexGuard<'_, T> {
    /// Returns the value.
    ///
    /// # Blocking
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`](SyncError::InvalidValue), [`Corrupt`](SyncError::Corrupt).
    pub fn get(&self) -> Result<T, SyncError> {
        self.mutex.cell.load_locked()
    }

    /// Copies the value into `value`, which may be too large for the stack.
    ///
    /// # Blocking
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](SyncError::Corrupt).
    pub fn get_into(&self, value: &mut T) -> Result<(), SyncError> {
        self.mutex.cell.load_locked_into(value)
    }

    /// Replaces the value, at once. A process that is killed later does not undo this.
    ///
    /// # Blocking
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// [`Forked`](SyncError::Forked), [`Corrupt`](SyncError::Corrupt).
    pub fn set(&self, value: &T) -> Result<(), SyncError> {
        self.mutex.lock.handle.check_process()?;
        self.mutex.cell.store(value);
        Ok(())
    }
}

impl<T> ReentrantMutexGuard<'_, T> {
    /// Keeps the lock without this guard, until [`ReentrantMutex::unlock`].
    pub fn keep_locked(self) {
        let lock = &self.mutex.lock;
        lock.keep_locked(History { died: false, ..lock.word().history() });
        std::mem::forget(self);
    }
}

impl<T> Drop for ReentrantMutexGuard<'_, T> {
    fn drop(&mut self) {
        self.mutex.unlock_once();
    }
}

impl<T> fmt::Debug for ReentrantMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let handle = &self.mutex.lock.handle;
        f.debug_struct("ReentrantMutexGuard").field("handle", handle).finish_non_exhaustive()
    }
}
