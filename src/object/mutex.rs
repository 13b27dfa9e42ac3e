//! Mutual exclusion between processes, and what it protects.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytemuck::Pod;

use crate::error::{LockError, SyncError};
use crate::object::lock::{Handle, Held, ObjectLock};
use crate::object::object;
use crate::object::seq_cell::SeqCell;
use crate::object::table::{ObjectKind, ObjectSpec, STATE, mutex};
use crate::primitive::Ordering;
use crate::raw::robust_lock::History;
use crate::wait::Timeout;

/// A lock between processes, and the value that it protects.
///
/// The guard holds a copy of the value, and commits it, whole, when it is dropped. So a process that is killed with the lock leaves the
/// value as it was last committed, and the next owner is told ([`OwnerDied`](LockError::OwnerDied)) in case other things that the lock
/// guards need mending. A panic that unwinds through the guard leaves the value as it was, too.
///
/// Locking again what this thread has locked is an error ([`WouldDeadlock`](SyncError::WouldDeadlock)), not a deadlock.
///
/// Fairness: newcomers overtake those who wait, but only until one of them has waited for a millisecond. Then they stand back until one is served,
/// or leaves for a millisecond what is free. Those who sleep are woken in the order in which they lay down; one that polls
/// ([`WaitStrategy::Spin`](crate::WaitStrategy::Spin)) leaves them one chance before its own.
///
/// ```
/// let account = tombolo::Mutex::new([100_i64, 0])?;
/// {
///     let mut balances = account.lock().unwrap();
///     balances[0] -= 30;
///     balances[1] += 30;
/// }
/// assert_eq!(*account.lock().unwrap(), [70, 30]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// **Source**: `raw/lock.rs`; the value: `raw/cell.rs`.
pub struct Mutex<T> {
    latch: ObjectLock,
    kept: Arc<SeqCell<T>>,
}

/// What a lock call answers.
pub type LockResult<G> = Result<G, LockError<G>>;

/// Adds what became of earlier owners to a guard.
#[inline(always)]
pub(crate) fn told<G>(guard: G, past: History) -> LockResult<G> {
    match past {
        History { poisoned: true, .. } => Err(LockError::Poisoned(guard)),
        History { died: true, .. } => Err(LockError::OwnerDied(guard)),
        _ => Ok(guard),
    }
}

impl<T: Pod> Mutex<T> {
    pub(crate) fn from_handle(handle: Handle) -> Self {
        let kept = Arc::new(SeqCell::new(&handle, mutex::CELL));
        Self { latch: ObjectLock::new(handle, STATE), kept }
    }

    /// Waits for the lock and takes it.
    ///
    /// **Blocking**: while another thread or process has it, without end; parks by `futex`. One that was killed does not
    /// count, within 20 ms (90 ms after a while). Uncontended: no system call.
    ///
    /// **Errors**: with the guard [`OwnerDied`](LockError::OwnerDied) and [`Poisoned`](LockError::Poisoned); without it
    /// [`WouldDeadlock`](SyncError::WouldDeadlock), [`Forked`](SyncError::Forked), [`Corrupt`](SyncError::Corrupt),
    /// [`LockLost`](SyncError::LockLost).
    #[inline(always)]
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        self.lock_until(Timeout::NEVER)
    }

    /// Like [`lock`](Self::lock), but never waits: [`WouldBlock`](SyncError::WouldBlock).
    #[inline(always)]
    pub fn try_lock(&self) -> LockResult<MutexGuard<'_, T>> {
        self.lock_until(Timeout::NonBlocking)
    }

    /// Like [`lock`](Self::lock), but waits no longer than `timeout`, then [`TimedOut`](SyncError::TimedOut).
    pub fn lock_timeout(&self, timeout: Duration) -> LockResult<MutexGuard<'_, T>> {
        self.lock_until(Timeout::after(timeout))
    }

    #[inline(always)]
    pub(crate) fn lock_until(&self, until: Timeout) -> LockResult<MutexGuard<'_, T>> {
        let was_panicking = thread::panicking();
        let (held, past, value) = Held::acquire_and(&self.latch, until, || self.kept.load_held())?;
        told(MutexGuard { mutex: self, value, is_dirty: false, was_panicking, held }, past)
    }

    /// Gives back a lock whose guard was [leaked](MutexGuard::leak).
    ///
    /// **Blocking**: never. **Errors**: [`NotOwner`](SyncError::NotOwner) if this thread has no such lock.
    pub fn unlock(&self) -> Result<(), SyncError> {
        if !self.latch.reclaim()? {
            return Err(SyncError::NotOwner);
        }
        let poisoned = self.latch.lock().history().poisoned;
        self.latch.release(History { died: false, poisoned });
        Ok(())
    }

    /// Whether anybody has it now.
    pub fn is_locked(&self) -> bool {
        self.latch.lock().owner().is_some()
    }
}

impl<T> Clone for Mutex<T> {
    fn clone(&self) -> Self {
        Self { latch: self.latch.clone(), kept: Arc::clone(&self.kept) }
    }
}

object!(Mutex<T>, ObjectSpec::of::<T>(ObjectKind::Mutex, 0), |this| &this.latch.handle);

/// The lock of a [`Mutex`], until dropped; then what was changed is committed, unless a panic does it.
pub struct MutexGuard<'a, T: Pod> {
    mutex: &'a Mutex<T>,
    value: T,
    is_dirty: bool,
    was_panicking: bool,
    held: Held<'a>,
}

impl<'a, T: Pod> MutexGuard<'a, T> {
    pub(crate) fn mutex(&self) -> &'a Mutex<T> {
        self.mutex
    }

    /// Declares what the lock guards beyond mending: from now on every owner is told [`Poisoned`](LockError::Poisoned).
    pub fn poison(&mut self) {
        self.held.past.poisoned = true;
    }

    /// Takes a poisoning back.
    pub fn clear_poison(&mut self) {
        self.held.past.poisoned = false;
    }

    /// Commits what was changed, and keeps the lock without a guard, until [`Mutex::unlock`].
    pub fn leak(self) {
        self.commit();
        self.held.latch.leak(self.held.past);
        std::mem::forget(self);
    }

    fn commit(&self) {
        if self.is_dirty && self.held.latch.handle.member.is_from_this_process() {
            // Only a region that is too short for its own layout has no cell; then there is nothing to commit to.
            let _ = self.mutex.kept.store(&self.value);
        }
    }

    /// Unlocks, and leaves the value as it was.
    pub fn discard(mut self) {
        self.is_dirty = false;
    }
}

impl<T: Pod> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Pod> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.is_dirty = true;
        &mut self.value
    }
}

impl<T: Pod> Drop for MutexGuard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.was_panicking || !thread::panicking() {
            self.commit();
        }
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MutexGuard").field(&self.value).finish()
    }
}

/// A lock between processes that its thread may take again, and the value that it protects.
///
/// ```
/// let depth = tombolo::ReentrantMutex::new(0_u32)?;
/// let outer = depth.lock().unwrap();
/// let inner = depth.lock().unwrap();
/// inner.set(&1)?;
/// assert_eq!(outer.get()?, 1);
/// # drop(inner);
/// # drop(outer);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Else it is a [`Mutex`], but that each [`set`](ReentrantMutexGuard::set) commits.
pub struct ReentrantMutex<T> {
    latch: ObjectLock,
    kept: Arc<SeqCell<T>>,
}

impl<T: Pod> ReentrantMutex<T> {
    pub(crate) fn from_handle(handle: Handle) -> Self {
        let kept = Arc::new(SeqCell::new(&handle, mutex::CELL));
        Self { latch: ObjectLock::new(handle, STATE), kept }
    }

    /// Waits for the lock and takes it, once more if this thread has it.
    ///
    /// **Blocking** and **Errors**: as [`Mutex::lock`], but never [`WouldDeadlock`](SyncError::WouldDeadlock).
    pub fn lock(&self) -> LockResult<ReentrantMutexGuard<'_, T>> {
        self.lock_until(Timeout::NEVER)
    }

    /// Like [`lock`](Self::lock), but never waits: [`WouldBlock`](SyncError::WouldBlock).
    pub fn try_lock(&self) -> LockResult<ReentrantMutexGuard<'_, T>> {
        self.lock_until(Timeout::NonBlocking)
    }

    /// Like [`lock`](Self::lock), but waits no longer than `timeout`, then [`TimedOut`](SyncError::TimedOut).
    pub fn lock_timeout(&self, timeout: Duration) -> LockResult<ReentrantMutexGuard<'_, T>> {
        self.lock_until(Timeout::after(timeout))
    }

    fn lock_until(&self, until: Timeout) -> LockResult<ReentrantMutexGuard<'_, T>> {
        self.latch.handle.check_ours()?;
        let past = if self.latch.is_held_here() {
            self.depth(|depth| depth + 1);
            History { died: false, ..self.latch.lock().history() }
        } else {
            self.latch.acquire(until)?
        };
        told(ReentrantMutexGuard { mutex: self, thread: PhantomData }, past)
    }

    /// Gives back what a [leaked](ReentrantMutexGuard::leak) guard kept. Else like [`Mutex::unlock`].
    pub fn unlock(&self) -> Result<(), SyncError> {
        if !self.latch.reclaim()? {
            return Err(SyncError::NotOwner);
        }
        self.give_back();
        Ok(())
    }
}

impl<T> ReentrantMutex<T> {
    /// Changes how often the lock is taken beyond once; only its thread does. How often it was.
    fn depth(&self, change: impl FnOnce(u64) -> u64) -> u64 {
        self.latch.handle.member.local(self.latch.handle.object).map_or(0, |local| {
            let before = local.depth.load(Ordering::Relaxed);
            local.depth.store(change(before), Ordering::Relaxed);
            before
        })
    }

    fn give_back(&self) {
        if self.depth(|depth| depth.saturating_sub(1)) == 0 {
            let poisoned = self.latch.lock().history().poisoned;
            self.latch.release(History { died: false, poisoned });
        }
    }
}

impl<T> Clone for ReentrantMutex<T> {
    fn clone(&self) -> Self {
        Self { latch: self.latch.clone(), kept: Arc::clone(&self.kept) }
    }
}

object!(ReentrantMutex<T>, ObjectSpec::of::<T>(ObjectKind::ReentrantMutex, 0), |this| &this.latch.handle);

/// The lock of a [`ReentrantMutex`], until the last such guard of its thread is dropped.
pub struct ReentrantMutexGuard<'a, T> {
    mutex: &'a ReentrantMutex<T>,
    /// The lock is the thread's.
    thread: PhantomData<*const ()>,
}

impl<T: Pod> ReentrantMutexGuard<'_, T> {
    /// The value.
    pub fn get(&self) -> Result<T, SyncError> {
        self.mutex.kept.load_held()
    }

    /// Replaces the value, at once.
    pub fn set(&self, value: &T) -> Result<(), SyncError> {
        self.mutex.latch.handle.check_ours()?;
        self.mutex.kept.store(value).map(drop)
    }
}

impl<T> ReentrantMutexGuard<'_, T> {
    /// Keeps the lock without this guard, until [`ReentrantMutex::unlock`].
    pub fn leak(self) {
        let latch = &self.mutex.latch;
        latch.leak(History { died: false, ..latch.lock().history() });
        std::mem::forget(self);
    }
}

impl<T> Drop for ReentrantMutexGuard<'_, T> {
    fn drop(&mut self) {
        self.mutex.give_back();
    }
}

impl<T> fmt::Debug for ReentrantMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let handle = &self.mutex.latch.handle;
        f.debug_struct("ReentrantMutexGuard").field("handle", handle).finish_non_exhaustive()
    }
}
