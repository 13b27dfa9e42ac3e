//! A lock for one writer or any number of readers, between processes.

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytemuck::Pod;

use crate::error::SyncError;
use crate::object::lock::{Handle, Held, ObjectLock};
use crate::object::member::Local;
use crate::object::mutex::{LockResult, told};
use crate::object::object;
use crate::object::seq_cell::SeqCell;
use crate::object::table::{ObjectKind, ObjectSpec, STATE, mutex, rw_lock};
use crate::raw::event_count::EventCount;
use crate::raw::reader_counts::{MAX_READERS, ReaderCounts, TryEnter};
use crate::raw::robust_lock::History;
use crate::region::repair::Budget;
use crate::region::words::Mapped;
use crate::wait::Timeout;

/// A lock between processes for one writer or any number of readers, and the value that it protects.
///
/// As in a [`Mutex`](crate::sync::Mutex) the guards hold copies, and a writer's is committed whole. For the value alone a
/// [`Value`](crate::sync::Value) is quicker, whose readers wait for nobody; this one also keeps other things still while they are read.
///
/// Readers are known by their processes: those that are killed are let go. A writer that is killed is told of as by a mutex, to the next
/// writer, and to all who read before it.
///
/// Fairness: a writer waits for the readers that are in, and lets no further ones in meanwhile; a reader that finds a writer queues as a writer
/// would. The queue is a mutex's.
///
/// ```
/// let routes = tombolo::RwLock::new([7_u32; 4])?;
/// {
///     let (one, another) = (routes.read().unwrap(), routes.read().unwrap());
///     assert_eq!(one[0], another[3]);
/// }
/// routes.write().unwrap()[2] = 9;
/// assert_eq!(*routes.read().unwrap(), [7, 7, 9, 7]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// **Source**: `raw/readers.rs`, `raw/lock.rs`.
pub struct RwLock<T> {
    latch: ObjectLock,
    shared: Arc<Parts<T>>,
}

struct Parts<T> {
    kept: SeqCell<T>,
    readers: ReaderCounts<Mapped>,
    drained: EventCount<Mapped>,
}

impl<T: Pod> RwLock<T> {
    pub(crate) fn from_handle(handle: Handle) -> Self {
        let words = ReaderCounts::<Mapped>::words(handle.lanes());
        let parts = Parts {
            kept: SeqCell::new(&handle, mutex::CELL),
            readers: ReaderCounts::new(handle.words(rw_lock::READERS, words)),
            drained: handle.event(rw_lock::DRAINED),
        };
        Self { latch: ObjectLock::new(handle, STATE), shared: Arc::new(parts) }
    }

    /// Waits until nobody writes or waits to, and reads. A thread that reads already may read once more.
    ///
    /// **Blocking**: as [`Mutex::lock`](crate::sync::Mutex::lock). **Errors**: likewise; [`WouldDeadlock`](SyncError::WouldDeadlock) if this thread
    /// writes.
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        self.read_until(Timeout::NEVER)
    }

    /// Like [`read`](Self::read), but never waits: [`WouldBlock`](SyncError::WouldBlock).
    pub fn try_read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        self.read_until(Timeout::NonBlocking)
    }

    /// Like [`read`](Self::read), but waits no longer than `timeout`, then [`TimedOut`](SyncError::TimedOut).
    pub fn read_timeout(&self, timeout: Duration) -> LockResult<RwLockReadGuard<'_, T>> {
        self.read_until(Timeout::after(timeout))
    }

    fn read_until(&self, until: Timeout) -> LockResult<RwLockReadGuard<'_, T>> {
        let past = self.enter(until)?;
        // From here on dropping lets go.
        let inside = Inside { lock: self, thread: PhantomData };
        let value = self.shared.kept.load_held()?;
        told(RwLockReadGuard { value, _inside: inside }, past)
    }

    fn enter(&self, until: Timeout) -> Result<History, SyncError> {
        self.latch.handle.check_ours()?;
        let (local, lane) = (self.local()?, self.latch.handle.member.lane());
        let crowded = |_| SyncError::LimitExceeded { count: MAX_READERS + 1, limit: MAX_READERS };
        if reads(local) {
            self.shared.readers.count_in(lane).map_err(crowded)?;
            begin(local);
            return Ok(History { died: false, ..self.latch.lock().history() });
        }
        match self.shared.readers.try_enter(lane, self.latch.lock()).map_err(crowded)? {
            TryEnter::Entered => {
                begin(local);
                return Ok(History::default());
            }
            TryEnter::ContendedAndCounted => self.shared.drained.notify(u32::MAX),
            TryEnter::Contended => {}
        }
        // Somebody writes, wants to, or died: as one more writer in the queue.
        let held = Held::acquire(&self.latch, until)?;
        self.shared.readers.count_in(lane).map_err(crowded)?;
        begin(local);
        // Who reads cannot mend anything, so what there is to know stays for who writes.
        Ok(held.past)
    }

    /// Waits until nobody else is in, and writes.
    ///
    /// **Blocking**: as [`Mutex::lock`](crate::sync::Mutex::lock), for readers as well. **Errors**: likewise;
    /// [`WouldDeadlock`](SyncError::WouldDeadlock) if this thread reads or writes.
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.write_until(Timeout::NEVER)
    }

    /// Like [`write`](Self::write), but never waits: [`WouldBlock`](SyncError::WouldBlock).
    pub fn try_write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.write_until(Timeout::NonBlocking)
    }

    /// Like [`write`](Self::write), but waits no longer than `timeout`, then [`TimedOut`](SyncError::TimedOut).
    pub fn write_timeout(&self, timeout: Duration) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.write_until(Timeout::after(timeout))
    }

    fn write_until(&self, until: Timeout) -> LockResult<RwLockWriteGuard<'_, T>> {
        let handle = &self.latch.handle;
        handle.check_ours()?;
        if reads(self.local()?) {
            return Err(SyncError::WouldDeadlock.into());
        }
        let readers = &self.shared.readers;
        let was_panicking = thread::panicking();
        let (held, past, value) = Held::acquire_and(&self.latch, until, || {
            if !readers.is_empty() {
                // Of one who has read and left meanwhile, or was repaired, there is nothing to say.
                let still = |lane, stop| {
                    readers.participants().any(|reader| reader == lane) && handle.member.ask([lane]) == Some(stop)
                };
                let ask = || {
                    let budget = Budget::until(None);
                    let some = handle.member.some_of(readers.participants());
                    let asked = |lane| Some((lane, handle.member.ask_within([lane], &budget)?));
                    let mut stops = some.into_iter().filter_map(asked);
                    stops.find_map(|(lane, stop)| still(lane, stop).then_some(stop))
                };
                handle.attempt(&self.shared.drained, until, ask, || Ok(readers.is_empty().then_some(())))?;
            }
            self.shared.kept.load_held()
        })?;
        told(RwLockWriteGuard { lock: self, value, is_dirty: false, was_panicking, held }, past)
    }
}

impl<T> RwLock<T> {
    fn local(&self) -> Result<&Local, SyncError> {
        self.latch.handle.member.local(self.latch.handle.object).ok_or(SyncError::Corrupt)
    }

    fn leave(&self) {
        let handle = &self.latch.handle;
        let Ok(local) = self.local() else { return };
        end(local);
        if handle.member.is_from_this_process() && self.shared.readers.count_out(handle.member.lane()) {
            self.shared.drained.notify(u32::MAX);
        }
    }
}

thread_local! {
    /// The locks under which this thread reads, each as often as it does.
    static READING: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Whether this thread reads there already. (While it ends, and its memory of that is gone: no. So below.)
fn reads(local: &Local) -> bool {
    READING.try_with(|reading| reading.borrow().contains(&local.id)).unwrap_or(false)
}

fn begin(local: &Local) {
    let _ = READING.try_with(|reading| reading.borrow_mut().push(local.id));
}

fn end(local: &Local) {
    let _ = READING.try_with(|reading| {
        let mut reading = reading.borrow_mut();
        if let Some(place) = reading.iter().rposition(|&other| other == local.id) {
            reading.swap_remove(place);
        }
    });
}

impl<T> Clone for RwLock<T> {
    fn clone(&self) -> Self {
        Self { latch: self.latch.clone(), shared: Arc::clone(&self.shared) }
    }
}

object!(RwLock<T>, ObjectSpec::of::<T>(ObjectKind::RwLock, 0), |this| &this.latch.handle);

/// The value of a [`RwLock`], which nobody writes until this is dropped.
pub struct RwLockReadGuard<'a, T> {
    value: T,
    _inside: Inside<'a, T>,
}

/// One reader, until dropped.
struct Inside<'a, T> {
    lock: &'a RwLock<T>,
    /// The lock is the thread's.
    thread: PhantomData<*const ()>,
}

impl<T> Drop for Inside<'_, T> {
    fn drop(&mut self) {
        self.lock.leave();
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

/// The value of a [`RwLock`], which nobody else reads or writes until this is dropped; then what was changed is committed, unless a panic
/// does it.
pub struct RwLockWriteGuard<'a, T: Pod> {
    lock: &'a RwLock<T>,
    value: T,
    is_dirty: bool,
    was_panicking: bool,
    held: Held<'a>,
}

impl<T: Pod> RwLockWriteGuard<'_, T> {
    /// See [`MutexGuard::poison`](crate::sync::MutexGuard::poison).
    pub fn poison(&mut self) {
        self.held.past.poisoned = true;
    }

    /// See [`MutexGuard::clear_poison`](crate::sync::MutexGuard::clear_poison).
    pub fn clear_poison(&mut self) {
        self.held.past.poisoned = false;
    }

    /// Unlocks, and leaves the value as it was.
    pub fn discard(mut self) {
        self.is_dirty = false;
    }
}

impl<T: Pod> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Pod> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.is_dirty = true;
        &mut self.value
    }
}

impl<T: Pod> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        let is_unwinding = thread::panicking() && !self.was_panicking;
        if self.is_dirty && !is_unwinding && self.held.latch.handle.member.is_from_this_process() {
            // As a mutex's.
            let _ = self.lock.shared.kept.store(&self.value);
        }
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RwLockWriteGuard").field(&self.value).finish()
    }
}
