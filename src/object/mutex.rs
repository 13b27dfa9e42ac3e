//! Mutual exclusion between processes, and what it protects.
//!
//! ```text
//! words
//!      0  state      the lock
//!      1  event
//!      2  committed
//!      3  writing
//!      4  buffers    if they fit
//!     16  buffers    of longer values
//! ```

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytemuck::Pod;

use crate::error::{self, LockError, SyncError};
use crate::object::kind::{Description, Kind, ObjectKind, ObjectWords, STATE};
use crate::object::lock::{self, LockGuard, ObjectLock};
use crate::object::seq_cell::{self, SeqCell};
use crate::object::spec::{Buffers, ObjectSpec};
use crate::object::{Handle, object};
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
    lock: ObjectLock,
    cell: Arc<SeqCell<T>>,
}

/// What a lock call answers.
pub type LockResult<G> = Result<G, LockError<G>>;

/// Returns the guard, as an error if an earlier owner died or poisoned the lock.
#[inline(always)]
pub(crate) fn with_history<G>(guard: G, history: History) -> LockResult<G> {
    match history {
        History { poisoned: true, .. } => Err(LockError::Poisoned(guard)),
        History { died: true, .. } => Err(LockError::OwnerDied(guard)),
        _ => Ok(guard),
    }
}

impl<T: Pod> Mutex<T> {
    pub(crate) fn from_handle(handle: Handle) -> Self {
        let cell = Arc::new(SeqCell::new(&handle, words::CELL));
        Self { lock: ObjectLock::new(handle, STATE), cell }
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
        let (guard, history, value) = LockGuard::lock_then(&self.lock, until, || self.cell.load_locked())?;
        with_history(MutexGuard { mutex: self, value, is_dirty: false, was_panicking, guard }, history)
    }

    /// Gives back a lock whose guard was [leaked](MutexGuard::leak).
    ///
    /// **Blocking**: never. **Errors**: [`NotOwner`](SyncError::NotOwner) if this thread has no such lock.
    pub fn unlock(&self) -> Result<(), SyncError> {
        if !self.lock.take_kept()? {
            return Err(SyncError::NotOwner);
        }
        let poisoned = self.lock.word().past().poisoned;
        self.lock.unlock(History { died: false, poisoned });
        Ok(())
    }

    /// Whether anybody has it now.
    pub fn is_locked(&self) -> bool {
        self.lock.word().owner().is_some()
    }
}

impl<T> Clone for Mutex<T> {
    fn clone(&self) -> Self {
        Self { lock: self.lock.clone(), cell: Arc::clone(&self.cell) }
    }
}

object!(Mutex<T>, ObjectSpec::of::<T>(ObjectKind::Mutex, 0), |this| &this.lock.handle);

/// The lock of a [`Mutex`], until dropped; then what was changed is committed, unless a panic does it.
pub struct MutexGuard<'a, T: Pod> {
    mutex: &'a Mutex<T>,
    value: T,
    is_dirty: bool,
    was_panicking: bool,
    guard: LockGuard<'a>,
}

impl<'a, T: Pod> MutexGuard<'a, T> {
    pub(crate) fn mutex(&self) -> &'a Mutex<T> {
        self.mutex
    }

    /// Declares what the lock guards beyond mending: from now on every owner is told [`Poisoned`](LockError::Poisoned).
    pub fn poison(&mut self) {
        self.guard.history.poisoned = true;
    }

    /// Takes a poisoning back.
    pub fn clear_poison(&mut self) {
        self.guard.history.poisoned = false;
    }

    /// Commits what was changed, and keeps the lock without a guard, until [`Mutex::unlock`].
    pub fn leak(self) {
        self.commit();
        self.guard.lock.keep_locked(self.guard.history);
        std::mem::forget(self);
    }

    fn commit(&self) {
        if self.is_dirty && self.guard.lock.handle.is_from_this_process() {
            // Only a region that is too short for its own layout has no cell; then there is nothing to commit to.
            let _ = self.mutex.cell.store(&self.value);
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
    lock: ObjectLock,
    cell: Arc<SeqCell<T>>,
}

impl<T: Pod> ReentrantMutex<T> {
    pub(crate) fn from_handle(handle: Handle) -> Self {
        let cell = Arc::new(SeqCell::new(&handle, words::CELL));
        Self { lock: ObjectLock::new(handle, STATE), cell }
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
        self.lock.handle.check_process()?;
        let history = if self.lock.is_held_by_this_thread() {
            self.depth(|depth| depth + 1);
            History { died: false, ..self.lock.word().past() }
        } else {
            self.lock.lock(until)?
        };
        with_history(ReentrantMutexGuard { mutex: self, thread: PhantomData }, history)
    }

    /// Gives back what a [leaked](ReentrantMutexGuard::leak) guard kept. Else like [`Mutex::unlock`].
    pub fn unlock(&self) -> Result<(), SyncError> {
        if !self.lock.take_kept()? {
            return Err(SyncError::NotOwner);
        }
        self.unlock_once();
        Ok(())
    }
}

impl<T> ReentrantMutex<T> {
    /// Changes how often the lock is taken beyond once. Only its thread does. Returns how often it was.
    fn depth(&self, change: impl FnOnce(u64) -> u64) -> u64 {
        let depth = &self.lock.handle.local.depth;
        let before = depth.load(Ordering::Relaxed);
        depth.store(change(before), Ordering::Relaxed);
        before
    }

    fn unlock_once(&self) {
        if self.depth(|depth| depth.saturating_sub(1)) == 0 {
            let poisoned = self.lock.word().past().poisoned;
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

/// The lock of a [`ReentrantMutex`], until the last such guard of its thread is dropped.
pub struct ReentrantMutexGuard<'a, T> {
    mutex: &'a ReentrantMutex<T>,
    /// The lock is the thread's.
    thread: PhantomData<*const ()>,
}

impl<T: Pod> ReentrantMutexGuard<'_, T> {
    /// The value.
    pub fn get(&self) -> Result<T, SyncError> {
        self.mutex.cell.load_locked()
    }

    /// Replaces the value, at once.
    pub fn set(&self, value: &T) -> Result<(), SyncError> {
        self.mutex.lock.handle.check_process()?;
        self.mutex.cell.store(value).map(drop)
    }
}

impl<T> ReentrantMutexGuard<'_, T> {
    /// Keeps the lock without this guard, until [`ReentrantMutex::unlock`].
    pub fn leak(self) {
        let lock = &self.mutex.lock;
        lock.keep_locked(History { died: false, ..lock.word().past() });
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

/// The words of a mutex.
pub(super) mod words {
    use crate::raw::seqlock::CONTROL;

    /// Of the value: a seqlock. A read-write lock has it in the same place.
    pub(in crate::object) const CELL: usize = 2;
    pub(super) const SHORT_BUFFERS_OFFSET: usize = CELL + CONTROL;
    pub(in crate::object) const BUFFERS_OFFSET: usize = 16;
    pub(in crate::object) const BUFFERS: usize = 2;
}

/// A mutex, re-entrant or not: their words are the same.
pub(super) struct MutexKind {
    pub(super) name: &'static str,
}

impl Kind for MutexKind {
    fn name(&self) -> &'static str {
        self.name
    }

    fn check(&self, spec: &ObjectSpec) -> error::Result<()> {
        spec.expect_alignment()?;
        spec.expect_no_count()
    }

    fn footprint(&self, spec: &ObjectSpec, participants: usize) -> Option<usize> {
        Some(self.buffers(spec, participants)?.end()?.max(words::BUFFERS_OFFSET))
    }

    fn buffers(&self, spec: &ObjectSpec, _: usize) -> Option<Buffers> {
        let is_short = words::SHORT_BUFFERS_OFFSET + words::BUFFERS * spec.value_words() <= words::BUFFERS_OFFSET;
        let offset = if is_short { words::SHORT_BUFFERS_OFFSET } else { words::BUFFERS_OFFSET };
        Some(Buffers { offset, stride: spec.version_stride(), count: words::BUFFERS })
    }

    fn release_dead(&self, object: &ObjectWords<'_>, participants: &[usize]) {
        lock::release_dead(object, STATE, participants);
    }

    fn describe(&self, object: &ObjectWords<'_>) -> Description {
        Description { value: seq_cell::describe(object, words::CELL), ..lock::describe(object, STATE) }
    }
}
