//! A lock for one writer or any number of readers, between processes.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable)]

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytemuck::Pod;

use crate::error::SyncError;
use crate::kept::Kept;
use crate::latch::{Handle, Held, Latch};
use crate::members::Local;
use crate::mutex::{LockResult, told};
use crate::object::object;
use crate::raw::event::Event;
use crate::raw::lock::Past;
use crate::raw::readers::{Entry, READERS_MOST, Readers};
use crate::region::Mapped;
use crate::table::{ObjectKind, Plan, STATE, mutex, rw_lock};
use crate::verdicts::Budget;
use crate::wait::Until;

/// A lock between processes for one writer or any number of readers, and the value that it protects.
///
/// As in a [`Mutex`](crate::Mutex) the guards hold copies, and a writer's is committed whole. For the value alone a
/// [`Value`](crate::Value) is quicker, whose readers wait for nobody; this one also keeps other things still while they are read.
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
    latch: Latch,
    shared: Arc<Parts<T>>,
}

struct Parts<T> {
    kept: Kept<T>,
    readers: Readers<Mapped>,
    drained: Event<Mapped>,
}

impl<T: Pod> RwLock<T> {
    pub(crate) fn from_handle(handle: Handle) -> Self {
        let words = Readers::<Mapped>::words(handle.lanes());
        let parts = Parts {
            kept: Kept::new(&handle, mutex::CELL),
            readers: Readers::new(handle.words(rw_lock::READERS, words)),
            drained: handle.event(rw_lock::DRAINED),
        };
        Self { latch: Latch::new(handle, STATE), shared: Arc::new(parts) }
    }

    /// Waits until nobody writes or waits to, and reads. A thread that reads already may read once more.
    ///
    /// **Blocking**: as [`Mutex::lock`](crate::Mutex::lock). **Errors**: likewise; [`Relocked`](SyncError::Relocked) if this thread
    /// writes.
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        self.read_until(Until::EVER)
    }

    /// Like [`read`](Self::read), but never waits: [`WouldBlock`](SyncError::WouldBlock).
    pub fn try_read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        self.read_until(Until::Now)
    }

    /// Like [`read`](Self::read), but waits no longer than `timeout`, then [`TimedOut`](SyncError::TimedOut).
    pub fn read_timeout(&self, timeout: Duration) -> LockResult<RwLockReadGuard<'_, T>> {
        self.read_until(Until::after(timeout))
    }

    fn read_until(&self, until: Until) -> LockResult<RwLockReadGuard<'_, T>> {
        let past = self.enter(until)?;
        // From here on dropping lets go.
        let inside = Inside { lock: self, thread: PhantomData };
        let value = self.shared.kept.load_held()?;
        told(RwLockReadGuard { value, _inside: inside }, past)
    }

    fn enter(&self, until: Until) -> Result<Past, SyncError> {
        self.latch.handle.check_ours()?;
        let (local, lane) = (self.local()?, self.latch.handle.member.lane());
        let crowded = |_| SyncError::TooMany { count: READERS_MOST + 1, limit: READERS_MOST };
        if reads(local) {
            self.shared.readers.mark(lane).map_err(crowded)?;
            begin(local);
            return Ok(Past { died: false, ..self.latch.lock().past() });
        }
        match self.shared.readers.try_enter(lane, self.latch.lock()).map_err(crowded)? {
            Entry::Entered => {
                begin(local);
                return Ok(Past::default());
            }
            Entry::Withdrawn => self.shared.drained.notify(u32::MAX),
            Entry::Refused => {}
        }
        // Somebody writes, wants to, or died: as one more writer in the queue.
        let held = Held::acquire(&self.latch, until)?;
        self.shared.readers.mark(lane).map_err(crowded)?;
        begin(local);
        // Who reads cannot mend anything, so what there is to know stays for who writes.
        Ok(held.past)
    }

    /// Waits until nobody else is in, and writes.
    ///
    /// **Blocking**: as [`Mutex::lock`](crate::Mutex::lock), for readers as well. **Errors**: likewise;
    /// [`Relocked`](SyncError::Relocked) if this thread reads or writes.
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.write_until(Until::EVER)
    }

    /// Like [`write`](Self::write), but never waits: [`WouldBlock`](SyncError::WouldBlock).
    pub fn try_write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.write_until(Until::Now)
    }

    /// Like [`write`](Self::write), but waits no longer than `timeout`, then [`TimedOut`](SyncError::TimedOut).
    pub fn write_timeout(&self, timeout: Duration) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.write_until(Until::after(timeout))
    }

    fn write_until(&self, until: Until) -> LockResult<RwLockWriteGuard<'_, T>> {
        let handle = &self.latch.handle;
        handle.check_ours()?;
        if reads(self.local()?) {
            return Err(SyncError::Relocked.into());
        }
        let readers = &self.shared.readers;
        let was_panicking = thread::panicking();
        let (held, past, value) = Held::acquire_and(&self.latch, until, || {
            if !readers.is_empty() {
                // Of one who has read and left meanwhile, or was repaired, there is nothing to say.
                let still = |lane, stop| {
                    readers.lanes().any(|reader| reader == lane) && handle.member.ask([lane]) == Some(stop)
                };
                let ask = || {
                    let budget = Budget::until(None);
                    let some = handle.member.some_of(readers.lanes());
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
        if handle.member.is_ours() && self.shared.readers.leave(handle.member.lane()) {
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

object!(RwLock<T>, Plan::of::<T>(ObjectKind::RwLock, 0), |this| &this.latch.handle);

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
    /// See [`MutexGuard::poison`](crate::MutexGuard::poison).
    pub fn poison(&mut self) {
        self.held.past.poisoned = true;
    }

    /// See [`MutexGuard::heal`](crate::MutexGuard::heal).
    pub fn heal(&mut self) {
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
        if self.is_dirty && !is_unwinding && self.held.latch.handle.member.is_ours() {
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
