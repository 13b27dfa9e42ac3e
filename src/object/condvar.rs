//! Waiting for a condition under a mutex.
//!
//! ```text
//! words
//!      1  event
//! ```

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use bytemuck::Pod;

use crate::error::{LockError, SyncError};
use crate::object::fairness::wait_for;
use crate::object::kind::{EVENT, Kind, ObjectKind};
use crate::object::mutex::{LockResult, MutexGuard};
use crate::object::spec::ObjectSpec;
use crate::object::{Handle, object};
use crate::raw::event_count::EventCount;
use crate::region::words::Mapped;
use crate::wait::Timeout;

/// A condition variable: waits, without a [`Mutex`](crate::sync::Mutex) that this thread has, until somebody tells of a change.
///
/// The mutex may be any, in any namespace. A wait may end for no reason, and one without a timeout does so every 20 ms (90 ms after a
/// while): if a waiter is killed with its notification, or a notifier just before it, the others look by themselves. So look again, as the
/// `_while` calls do.
///
/// ```
/// let (stock, changed) = (tombolo::Mutex::new(0_u32)?, tombolo::Condvar::new()?);
/// let (store, restocked) = (stock.clone(), changed.clone());
/// std::thread::spawn(move || {
///     *store.lock().unwrap() += 1;
///     restocked.notify_one().unwrap();
/// });
/// let mut stock = changed.wait_while(stock.lock().unwrap(), |stock| *stock == 0).unwrap();
/// *stock -= 1;
/// # drop(stock);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// **Source**: an event count, see `raw/event.rs`.
#[derive(Clone)]
pub struct Condvar {
    handle: Handle,
    event: Arc<EventCount<Mapped>>,
}

impl Condvar {
    pub(crate) fn from_handle(handle: Handle) -> Self {
        Self { event: Arc::new(handle.event(EVENT)), handle }
    }

    /// Gives the mutex back (and commits what was changed), waits until notified, and takes it again.
    ///
    /// **Blocking**: without end, parks by `futex`; then as [`Mutex::lock`](crate::sync::Mutex::lock). **Errors**: as there, for the mutex.
    pub fn wait<'a, T: Pod>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        self.wait_until(guard, Timeout::NEVER, true)
            .map(|(guard, _)| guard)
            .map_err(|error| error.map(|(guard, _)| guard))
    }

    /// Like [`wait`](Self::wait), but for no longer than `timeout`; true: that had passed. The mutex is taken again in any case.
    pub fn wait_timeout<'a, T: Pod>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, bool)> {
        self.wait_until(guard, Timeout::after(timeout), false)
    }

    /// Waits as often as `condition` holds. With a death of the mutex's owner to tell of, it comes back while it still may.
    pub fn wait_while<'a, T: Pod>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&T) -> bool,
    ) -> LockResult<MutexGuard<'a, T>> {
        while condition(&guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// Like [`wait_while`](Self::wait_while), but for no longer than `timeout`; true: that had passed, and the condition holds still.
    pub fn wait_timeout_while<'a, T: Pod>(
        &self,
        mut guard: MutexGuard<'a, T>,
        timeout: Duration,
        mut condition: impl FnMut(&T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, bool)> {
        let until = Timeout::after(timeout);
        while condition(&guard) {
            let late;
            (guard, late) = self.wait_until(guard, until, true)?;
            if late {
                let holds = condition(&guard);
                return Ok((guard, holds));
            }
        }
        Ok((guard, false))
    }

    /// Waits until notified, or until the time is over. If `allow_spurious`, it may also return after
    /// a liveness interval.
    fn wait_until<'a, T: Pod>(
        &self,
        guard: MutexGuard<'a, T>,
        until: Timeout,
        allow_spurious: bool,
    ) -> LockResult<(MutexGuard<'a, T>, bool)> {
        self.handle.check_process().map_err(LockError::from)?;
        let mutex = guard.mutex();
        // Before the mutex is free: whoever changes something after that finds us listening.
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
        match mutex.lock() {
            Ok(guard) => Ok((guard, timed_out)),
            Err(error) => Err(error.map(|guard| (guard, timed_out))),
        }
    }

    /// Wakes one who waits, if there is any.
    ///
    /// **Blocking**: never; a system call if somebody waits. **Errors**: [`Forked`](SyncError::Forked).
    pub fn notify_one(&self) -> Result<(), SyncError> {
        self.notify(1)
    }

    /// Wakes all who wait. Else like [`notify_one`](Self::notify_one).
    pub fn notify_all(&self) -> Result<(), SyncError> {
        self.notify(u32::MAX)
    }

    fn notify(&self, count: u32) -> Result<(), SyncError> {
        self.handle.check_process()?;
        self.event.notify(count);
        Ok(())
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
