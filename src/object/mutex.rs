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
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::error::{self, LockError, SyncError};
use crate::object::kind::{Description, Kind, ObjectKind, ObjectWords, STATE};
use crate::object::lock::{self, LockGuard, ObjectLock};
use crate::object::seq_cell::{self, SeqCell};
use crate::object::spec::{Buffers, ObjectSpec};
use crate::object::{Handle, object};
use crate::raw::robust_lock::History;
use crate::types::Shareable;
use crate::wait::Timeout;

/// A lock between processes, and the value that it protects.
///
/// The guard holds a *copy* of the value. If it was changed, it is committed, whole, when the guard
/// is dropped. So a large `T` costs a copy for each lock and another for each commit.
///
/// The copy is on the stack. From about 64 KiB on use a
/// [`ReentrantMutex`](crate::sync::ReentrantMutex), whose guard has
/// [`get_into`](crate::sync::ReentrantMutexGuard::get_into) and `set`, or a
/// [`Value`](crate::sync::Value) and [`update_into`](crate::sync::Value::update_into).
///
/// Locking again what this thread has locked is an error,
/// [`WouldDeadlock`](SyncError::WouldDeadlock).
///
/// ```
/// use tombolo::sync::{LockError, Mutex};
///
/// let account = Mutex::new([100_i64, 0])?;
/// {
///     let mut balances = account.lock().or_else(LockError::into_guard)?;
///     balances[0] -= 30;
///     balances[1] += 30;
/// }
/// assert_eq!(*account.lock().or_else(LockError::into_guard)?, [70, 30]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Death and panics
///
/// If a process is killed while it holds the lock, the value stays as it was last committed. The
/// next owner gets [`OwnerDied`](LockError::OwnerDied), in case other things that the lock protects
/// have to be repaired. A panic that unwinds through the guard leaves the value as it was, too.
/// [`LockError::into_guard`] takes the lock in any case. See
/// [Lock errors and `?`](crate::sync#lock-errors-and-).
///
/// # Fairness
///
/// A new caller may take the lock before those that wait, until one of them has waited for a
/// millisecond. From then on new callers wait until one that waits has got the lock, or until the
/// lock was free for a millisecond. Sleeping callers are woken in the order in which they fell
/// asleep. One that spins ([`WaitStrategy::Spin`](crate::WaitStrategy::Spin)) lets a sleeping one
/// go first once.
///
/// Implementation: `raw/robust_lock.rs`, and for the value `raw/seqlock.rs`.
pub struct Mutex<T> {
    lock: ObjectLock,
    cell: Arc<SeqCell<T>>,
}

/// What a lock call returns.
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

impl<T: Shareable> Mutex<T> {
    pub(crate) fn from_handle(handle: Handle) -> Self {
        let cell = Arc::new(SeqCell::new(&handle, words::CELL));
        Self { lock: ObjectLock::new(handle, STATE), cell }
    }

    /// Acquires the lock.
    ///
    /// # Blocking
    ///
    /// While another thread or process holds the lock, without limit. Parks by `futex`. An owner
    /// that was killed is noticed within 20 ms (90 ms after a while). Makes no system call if the
    /// lock is free.
    ///
    /// # Errors
    ///
    /// - With the guard: [`OwnerDied`](LockError::OwnerDied), [`Poisoned`](LockError::Poisoned).
    /// - Without: [`WouldDeadlock`](SyncError::WouldDeadlock), [`Forked`](SyncError::Forked),
    ///   [`InvalidValue`](SyncError::InvalidValue), [`Corrupt`](SyncError::Corrupt),
    ///   [`LockLost`](SyncError::LockLost).
    ///
    /// # Examples
    ///
    /// The error can hold the guard, which borrows the lock. So `lock()?` does not compile in a
    /// `main` like this one. [`into_guard`](LockError::into_guard) takes the lock whatever happened
    /// to earlier owners, and leaves an error that `?` accepts:
    ///
    /// ```
    /// use tombolo::sync::{LockError, Mutex};
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let hits = Mutex::new(0_u64)?;
    ///     *hits.lock().or_else(LockError::into_guard)? += 1;
    ///     assert_eq!(*hits.lock().or_else(LockError::into_guard)?, 1);
    ///     Ok(())
    /// }
    /// ```
    #[inline(always)]
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        self.lock_until(Timeout::UNLIMITED)
    }

    /// Attempts to acquire the lock without waiting.
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Self::lock), and [`WouldBlock`](SyncError::WouldBlock).
    #[inline(always)]
    pub fn try_lock(&self) -> LockResult<MutexGuard<'_, T>> {
        self.lock_until(Timeout::NonBlocking)
    }

    /// Acquires the lock, and waits no longer than `timeout` for it.
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Self::lock), and [`TimedOut`](SyncError::TimedOut).
    pub fn lock_timeout(&self, timeout: Duration) -> LockResult<MutexGuard<'_, T>> {
        self.lock_until(Timeout::after(timeout))
    }

    /// Acquires the lock as [`lock`](Self::lock) does, without blocking the thread.
    ///
    /// A future that is dropped before it is ready has acquired nothing. Works with any executor.
    /// Tasks and threads get the lock in [the same order](Self#fairness). A task has its turn when
    /// it is polled: the others wait up to a millisecond longer for one that is not.
    ///
    /// The guard belongs to the thread that polled the future last. So it is not [`Send`], and the
    /// compiler refuses a task that could move to another thread while it holds one: drop the guard
    /// before the next `.await`. A task that stays in its thread, as in tokio's `LocalSet`, may
    /// hold it. Another task of that thread then waits, while [`lock`](Self::lock) returns
    /// [`WouldDeadlock`](SyncError::WouldDeadlock) there. A task that awaits the lock while it
    /// holds it waits forever.
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Self::lock), without [`WouldDeadlock`](SyncError::WouldDeadlock).
    ///
    /// # Examples
    ///
    /// ```
    /// use tombolo::sync::{LockError, Mutex};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # tokio::runtime::Builder::new_multi_thread().build()?.block_on(async {
    /// let hits = Mutex::new(0_u64)?;
    /// let counted = hits.clone();
    /// let task = tokio::spawn(async move {
    ///     *counted.lock_async().await.or_else(LockError::into_guard)? += 1;
    ///     tokio::task::yield_now().await; // the guard is gone
    ///     Ok::<_, tombolo::sync::SyncError>(())
    /// });
    /// task.await??;
    /// assert_eq!(*hits.lock_async().await.or_else(LockError::into_guard)?, 1);
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    ///
    /// A task that might move to another thread with the guard does not compile:
    ///
    /// ```compile_fail
    /// # use tombolo::sync::{LockError, Mutex, SyncError};
    /// # async fn example(hits: Mutex<u64>) {
    /// tokio::spawn(async move {
    ///     let mut hits = hits.lock_async().await.or_else(LockError::into_guard)?;
    ///     tokio::task::yield_now().await;
    ///     *hits += 1;
    ///     Ok::<_, SyncError>(())
    /// });
    /// # }
    /// ```
    #[cfg(feature = "async")]
    #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
    pub async fn lock_async(&self) -> LockResult<MutexGuard<'_, T>> {
        self.guard(self.lock.lock_async().await?)
    }

    #[inline(always)]
    pub(crate) fn lock_until(&self, until: Timeout) -> LockResult<MutexGuard<'_, T>> {
        self.guard(self.lock.lock(until)?)
    }

    /// The guard of a thread that has just locked.
    #[inline(always)]
    fn guard(&self, history: History) -> LockResult<MutexGuard<'_, T>> {
        let was_panicking = thread::panicking();
        let (guard, history, value) = LockGuard::locked_then(&self.lock, history, || self.cell.load_locked())?;
        with_history(MutexGuard { mutex: self, value, is_dirty: false, was_panicking, guard }, history)
    }

    /// Releases a lock that [`MutexGuard::keep_locked`] kept.
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
        let poisoned = self.lock.word().history().poisoned;
        self.lock.unlock(History { died: false, poisoned });
        Ok(())
    }

    /// Returns whether any thread of any process holds the lock now.
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

/// The lock of a [`Mutex`] and a copy of its value.
///
/// When this is dropped a change is committed and the lock is released. If it is dropped by a panic
/// that began under the lock, the change is not committed.
#[must_use = "bind it to a name such as `_guard`: `let _` releases the lock at once"]
pub struct MutexGuard<'a, T: Shareable> {
    mutex: &'a Mutex<T>,
    value: T,
    is_dirty: bool,
    was_panicking: bool,
    guard: LockGuard<'a>,
}

impl<'a, T: Shareable> MutexGuard<'a, T> {
    pub(crate) fn mutex(&self) -> &'a Mutex<T> {
        self.mutex
    }

    /// Marks what the lock protects as unusable. From now on every lock call returns
    /// [`Poisoned`](LockError::Poisoned), until [`clear_poison`](Self::clear_poison).
    pub fn poison(&mut self) {
        self.guard.history.poisoned = true;
    }

    /// Undoes a [`poison`](Self::poison), of this owner or an earlier one.
    pub fn clear_poison(&mut self) {
        self.guard.history.poisoned = false;
    }

    /// Commits a change, and keeps the lock without the guard, until [`Mutex::unlock`].
    pub fn keep_locked(self) {
        self.commit();
        self.guard.lock.keep_locked(self.guard.history);
        std::mem::forget(self);
    }

    fn commit(&self) {
        if self.is_dirty && self.guard.lock.handle.is_from_this_process() {
            // Only a region that is too short for its own layout has no cell; then there is nothing
            // to commit to.
            self.mutex.cell.store(&self.value);
        }
    }

    /// Releases the lock and leaves the value as it was.
    pub fn rollback(mut self) {
        self.is_dirty = false;
    }
}

impl<T: Shareable> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Shareable> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.is_dirty = true;
        &mut self.value
    }
}

impl<T: Shareable> Drop for MutexGuard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.was_panicking || !thread::panicking() {
            self.commit();
        }
    }
}

impl<T: Shareable + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MutexGuard").field(&self.value).finish()
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
