//! Waiting for a condition under a mutex.
//!
//! ```text
//! words
//!      1  event
//! ```

use std::cell::Cell;
#[cfg(feature = "async")]
use std::future::Future;
#[cfg(feature = "async")]
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{LockError, SyncError};
use crate::object::fairness::wait_for;
#[cfg(feature = "async")]
use crate::object::future::wait_for_async;
use crate::object::kind::{EVENT, Kind, ObjectKind};
use crate::object::mutex::{LockResult, MutexGuard};
use crate::object::spec::ObjectSpec;
use crate::object::{Handle, object};
use crate::raw::event_count::EventCount;
use crate::region::words::Mapped;
use crate::types::Shareable;
use crate::wait::Timeout;
#[cfg(feature = "async")]
use crate::wait::WaitEnd;

/// A condition variable: releases a [`Mutex`](crate::sync::Mutex) and waits until it is notified of
/// a change.
///
/// It works with any mutex, in any namespace.
///
/// A wait may end without a notification. One without a timeout does so every 20 ms (90 ms after a
/// while), in case a process was killed between a change and its notification, or between its own
/// wake-up and what it would have done. So check the condition again, as the `_while` calls do.
///
/// ```
/// use tombolo::sync::{Condvar, LockError, Mutex, SyncError};
///
/// let (stock, changed) = (Mutex::new(0_u32)?, Condvar::new()?);
/// let (store, restocked) = (stock.clone(), changed.clone());
/// std::thread::spawn(move || -> Result<(), SyncError> {
///     *store.lock().or_else(LockError::into_guard)? += 1;
///     restocked.notify_one()
/// });
/// let stock = stock.lock().or_else(LockError::into_guard)?;
/// let mut stock = changed.wait_while(stock, |stock| *stock == 0).or_else(LockError::into_guard)?;
/// *stock -= 1;
/// # drop(stock);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Implementation: `raw/event_count.rs`.
#[derive(Clone)]
pub struct Condvar {
    handle: Handle,
    event: Arc<EventCount<Mapped>>,
}

/// Whether a wait ended because its time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult {
    timed_out: bool,
}

impl WaitTimeoutResult {
    /// Returns whether the time was over.
    pub fn timed_out(&self) -> bool {
        self.timed_out
    }
}

impl Condvar {
    pub(crate) fn from_handle(handle: Handle) -> Self {
        Self { event: Arc::new(handle.event(EVENT)), handle }
    }

    /// Commits a change and releases the mutex, waits until notified, and locks the mutex again.
    ///
    /// # Blocking
    ///
    /// Until notified, or spuriously; parks by `futex`. Then like
    /// [`Mutex::lock`](crate::sync::Mutex::lock).
    ///
    /// # Errors
    ///
    /// Those of [`Mutex::lock`](crate::sync::Mutex::lock).
    pub fn wait<'a, T: Shareable>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        self.wait_until(guard, Timeout::UNLIMITED, true)
            .map(|(guard, _)| guard)
            .map_err(|error| error.map(|(guard, _)| guard))
    }

    /// Commits a change and releases the mutex, waits until notified but no longer than `timeout`,
    /// and locks the mutex again.
    ///
    /// # Blocking
    ///
    /// Until notified, or until the time is over. Then like
    /// [`Mutex::lock`](crate::sync::Mutex::lock), which the timeout does not limit.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Self::wait). The time being over is no error.
    pub fn wait_timeout<'a, T: Shareable>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        self.wait_until(guard, Timeout::after(timeout), false)
    }

    /// Waits while `condition` holds.
    ///
    /// # Blocking
    ///
    /// Like [`wait`](Self::wait), until `condition` returns false.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Self::wait). If an owner of the mutex died, it returns with that although
    /// the condition may still hold.
    pub fn wait_while<'a, T: Shareable>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&T) -> bool,
    ) -> LockResult<MutexGuard<'a, T>> {
        while condition(&guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// Waits while `condition` holds, and no longer than `timeout`. The result
    /// [timed out](WaitTimeoutResult::timed_out) if the condition still holds.
    ///
    /// # Blocking
    ///
    /// Like [`wait_timeout`](Self::wait_timeout), until `condition` returns false.
    ///
    /// # Errors
    ///
    /// Those of [`wait_while`](Self::wait_while). The time being over is no error.
    pub fn wait_timeout_while<'a, T: Shareable>(
        &self,
        mut guard: MutexGuard<'a, T>,
        timeout: Duration,
        mut condition: impl FnMut(&T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let timeout = Timeout::after(timeout);
        while condition(&guard) {
            let result;
            (guard, result) = self.wait_until(guard, timeout, true)?;
            if result.timed_out {
                let timed_out = condition(&guard);
                return Ok((guard, WaitTimeoutResult { timed_out }));
            }
        }
        Ok((guard, WaitTimeoutResult { timed_out: false }))
    }

    /// Commits a change and releases the mutex in this call. The future waits until notified, and
    /// locks the mutex again, as [`wait`](Self::wait) does, without blocking the thread.
    ///
    /// The guard is the thread's, and the future is like that of
    /// [`Mutex::lock_async`](crate::sync::Mutex::lock_async). If it is dropped the mutex is not
    /// locked again, and a notification that it was woken for goes to another waiter. Several tasks
    /// of one process may be woken by one notification, so check the condition again. In a task
    /// that can move to another thread the scope of the guard ends before the `.await`, as below.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Self::wait), without [`WouldDeadlock`](SyncError::WouldDeadlock).
    ///
    /// # Examples
    ///
    /// ```
    /// use tombolo::sync::{Condvar, LockError, Mutex, SyncError};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # tokio::runtime::Builder::new_multi_thread().build()?.block_on(async {
    /// let (stock, changed) = (Mutex::new(0_u32)?, Condvar::new()?);
    /// let (store, restocked) = (stock.clone(), changed.clone());
    /// let buyer = tokio::spawn(async move {
    ///     loop {
    ///         let change = {
    ///             let mut stock = store.lock_async().await.or_else(LockError::into_guard)?;
    ///             if *stock > 0 {
    ///                 *stock -= 1;
    ///                 return Ok::<_, SyncError>(());
    ///             }
    ///             restocked.wait_async(stock)
    ///         };
    ///         drop(change.await.or_else(LockError::into_guard)?);
    ///     }
    /// });
    /// *stock.lock_async().await.or_else(LockError::into_guard)? += 1;
    /// changed.notify_one()?;
    /// buyer.await??;
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    #[cfg(feature = "async")]
    #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
    pub fn wait_async<'a, T: Shareable>(
        &'a self,
        guard: MutexGuard<'a, T>,
    ) -> impl Future<Output = LockResult<MutexGuard<'a, T>>> {
        let (mutex, key) = (guard.mutex(), self.event.listen()); // first: as in `wait_until`
        drop(guard);
        async move {
            let is_notified = || Ok(self.event.has_advanced_since(key).then_some(()));
            // A process that changed something may have died before it could notify.
            let ends_once = || Some(WaitEnd::TimedOut);
            match wait_for_async(&self.handle, &self.event, ends_once, is_notified).await {
                Ok(()) | Err(SyncError::TimedOut) => {}
                Err(error) => return Err(error.into()),
            }
            let notification = Notification(self);
            let locked = mutex.lock_async().await;
            mem::forget(notification);
            locked
        }
    }

    /// Waits until notified, or until the time is over. If `allow_spurious`, it may also return
    /// after a liveness interval.
    fn wait_until<'a, T: Shareable>(
        &self,
        guard: MutexGuard<'a, T>,
        until: Timeout,
        allow_spurious: bool,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        self.handle.check_process().map_err(LockError::from)?;
        let mutex = guard.mutex();
        // Before the mutex is free: a process that changes something after that finds us listening.
        let key = self.event.listen();
        drop(guard);
        // A process that changed something may have died before it could notify.
        let is_over = Cell::new(false);
        let check_liveness = || {
            is_over.set(allow_spurious);
            None
        };
        let woken = wait_for(&self.handle, &self.event, until, check_liveness, || {
            Ok((is_over.get() || self.event.has_advanced_since(key)).then_some(()))
        });
        let timed_out = match woken {
            Ok(()) => !self.event.has_advanced_since(key) && until.is_past(),
            Err(SyncError::TimedOut) => true,
            Err(error) => return Err(error.into()),
        };
        let result = WaitTimeoutResult { timed_out };
        match mutex.lock() {
            Ok(guard) => Ok((guard, result)),
            Err(error) => {
                if matches!(error, LockError::Failed(SyncError::Interrupted)) && !timed_out {
                    self.event.notify(1); // another waiter gets what this one was woken for
                }
                Err(error.map(|guard| (guard, result)))
            }
        }
    }

    /// Wakes one thread that waits, in any process.
    ///
    /// # Blocking
    ///
    /// Never. Makes a system call if somebody waits.
    ///
    /// # Errors
    ///
    /// [`Forked`](SyncError::Forked).
    pub fn notify_one(&self) -> Result<(), SyncError> {
        self.notify(1)
    }

    /// Wakes all threads that wait, in any process. Blocks and fails like
    /// [`notify_one`](Self::notify_one).
    pub fn notify_all(&self) -> Result<(), SyncError> {
        self.notify(u32::MAX)
    }

    fn notify(&self, count: u32) -> Result<(), SyncError> {
        self.handle.check_process()?;
        self.event.notify(count);
        Ok(())
    }
}

/// What a task was woken for. Another waiter gets it if the task ends before it has the mutex.
#[cfg(feature = "async")]
struct Notification<'a>(&'a Condvar);

#[cfg(feature = "async")]
impl Drop for Notification<'_> {
    fn drop(&mut self) {
        let _ = self.0.notify_one(); // fails in a forked child
    }
}

object!(Condvar, ObjectSpec::without_value(ObjectKind::Condvar, 0), |this| &this.handle);

pub(super) struct CondvarKind;

impl Kind for CondvarKind {
    fn name(&self) -> &'static str {
        "condition variable"
    }

    fn footprint(&self, _: &ObjectSpec, _: usize) -> Option<usize> {
        Some(EVENT + 1)
    }
}
