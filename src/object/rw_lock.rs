//! A lock for one writer or any number of readers, between processes.
//!
//! ```text
//! words
//!      0  state         the lock
//!      1  event
//!      2  committed
//!      3  writing
//!     16  readers gone  event
//!     32  readers       16 bits for each participant
//!    ...  buffers
//! ```

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::error::{self, SyncError};
use crate::object::fairness::wait_for;
#[cfg(feature = "async")]
use crate::object::future::wait_for_async;
use crate::object::kind::{Description, Kind, ObjectKind, ObjectWords, STATE};
use crate::object::lock::{self, LockGuard, ObjectLock};
use crate::object::member::LocalState;
use crate::object::mutex::words::{BUFFERS, CELL};
use crate::object::mutex::{LockResult, with_history};
use crate::object::seq_cell::{self, SeqCell};
use crate::object::spec::{Buffers, ObjectSpec};
use crate::object::{Handle, object};
use crate::raw::event_count::EventCount;
use crate::raw::reader_counts::{MAX_READERS, ReaderCounts, TooManyReaders, TryEnter};
use crate::raw::robust_lock::History;
use crate::region::layout::PADDING_WORDS;
use crate::region::repair::Budget;
use crate::region::words::Mapped;
use crate::types::Shareable;
use crate::wait::{Timeout, WaitEnd};

/// A lock between processes for one writer or any number of readers, and the value that it
/// protects.
///
/// As with a [`Mutex`](crate::sync::Mutex) the guards hold *copies* of the value, and that of a
/// writer is committed whole. A read guard shows the value as it was when the lock was acquired. If
/// you only need the value, a [`Value`](crate::sync::Value) is faster, and its readers never wait.
/// This lock also keeps other things unchanged while they are read.
///
/// ```
/// use tombolo::sync::{LockError, RwLock};
///
/// let routes = RwLock::new([7_u32; 4])?;
/// {
///     let one = routes.read().or_else(LockError::into_guard)?;
///     let another = routes.read().or_else(LockError::into_guard)?;
///     assert_eq!(one[0], another[3]);
/// }
/// routes.write().or_else(LockError::into_guard)?[2] = 9;
/// assert_eq!(*routes.read().or_else(LockError::into_guard)?, [7, 7, 9, 7]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Death
///
/// If a reader is killed, its read locks are released. If a writer is killed, the next writer and
/// every reader until then get [`OwnerDied`](crate::sync::LockError::OwnerDied).
///
/// # Fairness
///
/// A writer waits for the readers that hold the lock, and lets no further ones in meanwhile. A
/// reader that finds a writer waits as a writer would, in the order that a
/// [`Mutex`](crate::sync::Mutex#fairness) keeps.
///
/// Implementation: `raw/reader_counts.rs`, `raw/robust_lock.rs`.
pub struct RwLock<T> {
    lock: ObjectLock,
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    cell: SeqCell<T>,
    readers: ReaderCounts<Mapped>,
    readers_gone: EventCount<Mapped>,
}

impl<T: Shareable> RwLock<T> {
    pub(crate) fn from_handle(handle: Handle) -> Self {
        let inner = Inner {
            cell: SeqCell::new(&handle, CELL),
            readers: readers(&handle.object()),
            readers_gone: handle.event(words::READERS_GONE),
        };
        Self { lock: ObjectLock::new(handle, STATE), inner: Arc::new(inner) }
    }

    /// Acquires the lock for reading. A thread that reads already may do so again.
    ///
    /// # Blocking
    ///
    /// Like [`Mutex::lock`](crate::sync::Mutex::lock), while another thread writes or waits to
    /// write.
    ///
    /// # Errors
    ///
    /// Those of [`Mutex::lock`](crate::sync::Mutex::lock).
    /// [`WouldDeadlock`](SyncError::WouldDeadlock) if this thread writes,
    /// [`LimitExceeded`](SyncError::LimitExceeded) if this process has too many read guards.
    ///
    /// For `?` add [`or_else(LockError::into_guard)`](crate::sync#lock-errors-and-).
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        self.read_until(Timeout::UNLIMITED)
    }

    /// Attempts to acquire the lock for reading without waiting.
    ///
    /// # Errors
    ///
    /// Those of [`read`](Self::read), and [`WouldBlock`](SyncError::WouldBlock).
    pub fn try_read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        self.read_until(Timeout::NonBlocking)
    }

    /// Acquires the lock for reading, and waits no longer than `timeout` for it.
    ///
    /// # Errors
    ///
    /// Those of [`read`](Self::read), and [`TimedOut`](SyncError::TimedOut).
    pub fn read_timeout(&self, timeout: Duration) -> LockResult<RwLockReadGuard<'_, T>> {
        self.read_until(Timeout::after(timeout))
    }

    /// Acquires the lock for reading as [`read`](Self::read) does, without blocking the thread.
    ///
    /// The guard is the thread's, and the futures of this lock are like those of
    /// [`Mutex::lock_async`](crate::sync::Mutex::lock_async).
    ///
    /// # Errors
    ///
    /// Those of [`read`](Self::read), without [`WouldDeadlock`](SyncError::WouldDeadlock).
    ///
    /// # Examples
    ///
    /// ```
    /// use tombolo::sync::{LockError, RwLock};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let routes = RwLock::new([7_u32; 4])?;
    /// routes.write_async().await.or_else(LockError::into_guard)?[2] = 9;
    /// assert_eq!(*routes.read_async().await.or_else(LockError::into_guard)?, [7, 7, 9, 7]);
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    #[cfg(feature = "async")]
    #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
    pub async fn read_async(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        self.lock.handle.check_process()?;
        let history = match self.try_enter()? {
            Some(history) => history,
            None => self.enter_by(LockGuard::of_locked(&self.lock, self.lock.lock_async().await?))?,
        };
        self.read_guard(history)
    }

    fn read_until(&self, until: Timeout) -> LockResult<RwLockReadGuard<'_, T>> {
        self.lock.handle.check_process()?;
        let history = match self.try_enter()? {
            Some(history) => history,
            None => self.enter_by(LockGuard::lock(&self.lock, until)?)?,
        };
        self.read_guard(history)
    }

    /// Returns the guard of a thread that has entered.
    #[inline(always)]
    fn read_guard(&self, history: History) -> LockResult<RwLockReadGuard<'_, T>> {
        let token = ReadToken { lock: self, thread: PhantomData };
        let value = self.inner.cell.load_locked()?;
        with_history(RwLockReadGuard { value, _token: token }, history)
    }

    /// Enters, unless there is a writer, a waiting one, or one that died.
    fn try_enter(&self) -> Result<Option<History>, SyncError> {
        let (local, participant) = (self.local(), self.lock.handle.participant);
        if is_reading(local) {
            self.count_in()?;
            return Ok(Some(History { died: false, ..self.lock.word().history() }));
        }
        match self.inner.readers.try_enter(participant, self.lock.word()).map_err(crowded)? {
            TryEnter::Entered => {
                enter(local);
                return Ok(Some(History::default()));
            }
            TryEnter::ContendedAndCounted => self.inner.readers_gone.notify(u32::MAX),
            TryEnter::Contended => {}
        }
        Ok(None)
    }

    /// Enters when it is the turn of this reader, which has queued as a writer would.
    fn enter_by(&self, guard: LockGuard<'_>) -> Result<History, SyncError> {
        self.count_in()?;
        // A reader cannot repair the value, so the next writer learns the same.
        Ok(guard.history)
    }

    /// Enters, while this thread owns the lock or reads already.
    fn count_in(&self) -> Result<(), SyncError> {
        self.inner.readers.count_in(self.lock.handle.participant).map_err(crowded)?;
        enter(self.local());
        Ok(())
    }

    /// Acquires the lock for writing.
    ///
    /// # Blocking
    ///
    /// Like [`Mutex::lock`](crate::sync::Mutex::lock), while another thread reads or writes.
    ///
    /// # Errors
    ///
    /// Those of [`Mutex::lock`](crate::sync::Mutex::lock).
    /// [`WouldDeadlock`](SyncError::WouldDeadlock) if this thread reads or writes.
    ///
    /// For `?` add [`or_else(LockError::into_guard)`](crate::sync#lock-errors-and-).
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.write_until(Timeout::UNLIMITED)
    }

    /// Attempts to acquire the lock for writing without waiting.
    ///
    /// # Errors
    ///
    /// Those of [`write`](Self::write), and [`WouldBlock`](SyncError::WouldBlock).
    pub fn try_write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.write_until(Timeout::NonBlocking)
    }

    /// Acquires the lock for writing, and waits no longer than `timeout` for it.
    ///
    /// # Errors
    ///
    /// Those of [`write`](Self::write), and [`TimedOut`](SyncError::TimedOut).
    pub fn write_timeout(&self, timeout: Duration) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.write_until(Timeout::after(timeout))
    }

    /// Acquires the lock for writing as [`write`](Self::write) does, without blocking the thread.
    ///
    /// The guard is the thread's, and the futures of this lock are like those of
    /// [`Mutex::lock_async`](crate::sync::Mutex::lock_async). One that waits for readers lets no
    /// further ones in: poll it or drop it. Until then a call that blocks returns
    /// [`WouldDeadlock`](SyncError::WouldDeadlock) in the thread that polled it last.
    ///
    /// # Errors
    ///
    /// Those of [`write`](Self::write), without [`WouldDeadlock`](SyncError::WouldDeadlock).
    ///
    /// # Examples
    ///
    /// See [`read_async`](Self::read_async).
    #[cfg(feature = "async")]
    #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
    pub async fn write_async(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        let history = self.lock.lock_async().await?;
        let turn = WriteTurn { lock: &self.lock, history };
        let are_gone = || {
            self.lock.note_holder(); // a call that blocks here would wait for this task
            Ok(self.inner.readers.is_empty().then_some(()))
        };
        let check_readers = || self.check_readers();
        wait_for_async(&self.lock.handle, &self.inner.readers_gone, check_readers, are_gone).await?;
        mem::forget(turn);
        self.write_guard(history)
    }

    fn write_until(&self, until: Timeout) -> LockResult<RwLockWriteGuard<'_, T>> {
        let handle = &self.lock.handle;
        handle.check_process()?;
        if is_reading(self.local()) {
            return Err(SyncError::WouldDeadlock.into());
        }
        let history = self.lock.lock(until)?;
        let readers = &self.inner.readers;
        if !readers.is_empty() {
            let turn = WriteTurn { lock: &self.lock, history };
            let are_gone = || Ok(readers.is_empty().then_some(()));
            wait_for(handle, &self.inner.readers_gone, until, || self.check_readers(), are_gone)?;
            mem::forget(turn);
        }
        self.write_guard(history)
    }

    /// The guard of a thread that has locked, and found no readers.
    #[inline(always)]
    fn write_guard(&self, history: History) -> LockResult<RwLockWriteGuard<'_, T>> {
        let was_panicking = thread::panicking();
        let (guard, history, value) = LockGuard::locked_then(&self.lock, history, || self.inner.cell.load_locked())?;
        with_history(RwLockWriteGuard { lock: self, value, is_dirty: false, was_panicking, guard }, history)
    }
}

impl<T> RwLock<T> {
    fn local(&self) -> &LocalState {
        &self.lock.handle.local
    }

    /// Asks the kernel about the readers. Returns an end if waiting for one is of no use.
    fn check_readers(&self) -> Option<WaitEnd> {
        let (readers, membership) = (&self.inner.readers, &self.lock.handle.membership);
        let budget = Budget::until(None);
        membership.sample(readers.participants()).into_iter().find_map(|reader| {
            let end = membership.check_liveness_within([reader], &budget)?;
            // A reader that has left meanwhile, or was repaired, is no reason to stop.
            let still_reads = readers.participants().any(|other| other == reader);
            (still_reads && membership.check_liveness([reader]) == Some(end)).then_some(end)
        })
    }

    fn stop_reading(&self) {
        let handle = &self.lock.handle;
        exit(self.local());
        if handle.is_from_this_process() && self.inner.readers.count_out(handle.participant) {
            self.inner.readers_gone.notify(u32::MAX);
        }
    }
}

fn crowded(_: TooManyReaders) -> SyncError {
    SyncError::LimitExceeded { count: MAX_READERS + 1, limit: MAX_READERS }
}

/// The lock of a writer that waits for the readers to go. Unlocks when dropped. It is no thread's,
/// as a guard would be.
struct WriteTurn<'a> {
    lock: &'a ObjectLock,
    history: History,
}

impl Drop for WriteTurn<'_> {
    fn drop(&mut self) {
        self.lock.unlock(self.history);
    }
}

thread_local! {
    /// The locks that this thread reads under, each as often as it does.
    static READING: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Whether this thread reads there already. False while its thread-locals are being destroyed; the
/// other two then do nothing.
fn is_reading(local: &LocalState) -> bool {
    READING.try_with(|reading| reading.borrow().contains(&local.id)).unwrap_or(false)
}

fn enter(local: &LocalState) {
    let _ = READING.try_with(|reading| reading.borrow_mut().push(local.id));
}

fn exit(local: &LocalState) {
    let _ = READING.try_with(|reading| {
        let mut reading = reading.borrow_mut();
        if let Some(index) = reading.iter().rposition(|&other| other == local.id) {
            reading.swap_remove(index);
        }
    });
}

impl<T> Clone for RwLock<T> {
    fn clone(&self) -> Self {
        Self { lock: self.lock.clone(), inner: Arc::clone(&self.inner) }
    }
}

object!(RwLock<T>, ObjectSpec::of::<T>(ObjectKind::RwLock, 0), |this| &this.lock.handle);

/// A copy of the value of a [`RwLock`]. Until this is dropped nobody writes.
#[must_use = "bind it to a name such as `_guard`: `let _` releases the lock at once"]
pub struct RwLockReadGuard<'a, T> {
    value: T,
    _token: ReadToken<'a, T>,
}

/// Stops reading when dropped.
struct ReadToken<'a, T> {
    lock: &'a RwLock<T>,
    /// The lock is the thread's.
    thread: PhantomData<*const ()>,
}

impl<T> Drop for ReadToken<'_, T> {
    fn drop(&mut self) {
        self.lock.stop_reading();
    }
}

impl<T> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RwLockReadGuard").field(&self.value).finish()
    }
}

/// The lock of a [`RwLock`] for writing, and a copy of its value.
///
/// When this is dropped a change is committed and the lock is released. If it is dropped by a panic
/// that began under the lock, the change is not committed.
#[must_use = "bind it to a name such as `_guard`: `let _` releases the lock at once"]
pub struct RwLockWriteGuard<'a, T: Shareable> {
    lock: &'a RwLock<T>,
    value: T,
    is_dirty: bool,
    was_panicking: bool,
    guard: LockGuard<'a>,
}

impl<T: Shareable> RwLockWriteGuard<'_, T> {
    /// Marks what the lock protects as unusable. See
    /// [`MutexGuard::poison`](crate::sync::MutexGuard::poison).
    pub fn poison(&mut self) {
        self.guard.history.poisoned = true;
    }

    /// Undoes a [`poison`](Self::poison), of this writer or an earlier one.
    pub fn clear_poison(&mut self) {
        self.guard.history.poisoned = false;
    }

    /// Releases the lock and leaves the value as it was.
    pub fn rollback(mut self) {
        self.is_dirty = false;
    }
}

impl<T: Shareable> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Shareable> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.is_dirty = true;
        &mut self.value
    }
}

impl<T: Shareable> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        let is_unwinding = thread::panicking() && !self.was_panicking;
        if self.is_dirty && !is_unwinding && self.guard.lock.handle.is_from_this_process() {
            // As a mutex's.
            self.lock.inner.cell.store(&self.value);
        }
    }
}

impl<T: Shareable + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RwLockWriteGuard").field(&self.value).finish()
    }
}

/// The words of a read-write lock. Those of its lock and its value are where a mutex has them.
pub(crate) mod words {
    pub(crate) const READERS_GONE: usize = 16;
    pub(super) const READERS: usize = 32;
}

fn readers(object: &ObjectWords<'_>) -> ReaderCounts<Mapped> {
    let length = ReaderCounts::<Mapped>::words(object.participants());
    ReaderCounts::new(object.words(words::READERS, length))
}

pub(super) struct RwLockKind;

impl Kind for RwLockKind {
    fn name(&self) -> &'static str {
        "read-write lock"
    }

    fn check(&self, spec: &ObjectSpec) -> error::Result<()> {
        spec.expect_alignment()?;
        spec.expect_no_count()
    }

    fn footprint(&self, spec: &ObjectSpec, participants: usize) -> Option<usize> {
        self.buffers(spec, participants)?.end()
    }

    fn buffers(&self, spec: &ObjectSpec, participants: usize) -> Option<Buffers> {
        let readers = ReaderCounts::<Mapped>::words(participants).next_multiple_of(PADDING_WORDS);
        Some(Buffers { offset: words::READERS + readers, stride: spec.version_stride(), count: BUFFERS })
    }

    fn release_dead(&self, object: &ObjectWords<'_>, participants: &[usize]) {
        lock::release_dead(object, STATE, participants);
        let readers = readers(object);
        for &participant in participants {
            if readers.release_dead(participant) {
                object.event(words::READERS_GONE).wake(u32::MAX);
            }
        }
    }

    fn describe(&self, object: &ObjectWords<'_>) -> Description {
        let users: Vec<usize> = readers(object).participants().collect();
        let mut description = lock::describe(object, STATE);
        if description.state == lock::FREE && !users.is_empty() {
            description.state = format!("read by {}", users.len());
        }
        Description { value: seq_cell::describe(object, CELL), users, ..description }
    }
}
