//! A flag to wait for.

use std::sync::Arc;
use std::time::Duration;

use crate::error::SyncError;
use crate::object::lock::Handle;
use crate::object::object;
use crate::object::table::{EVENT, ObjectKind, ObjectSpec, STATE};
use crate::primitive::Ordering;
use crate::raw::event_count;
use crate::region::words::{Mapped, Word};
use crate::wait::Timeout;

/// A flag that any process may set and clear, and wait for.
///
/// What was done before it was set is visible to who sees it set. The death of whoever might have set it is not noticed: use a timeout
/// where that matters.
///
/// ```
/// let ready = tombolo::Event::new()?;
/// let worker = ready.clone();
/// std::thread::spawn(move || worker.set());
/// ready.wait()?;
/// assert!(ready.is_set());
/// ready.clear()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// **Source**: a word and an event count, see `raw/event.rs`.
#[derive(Clone)]
pub struct Event {
    handle: Handle,
    parts: Arc<(Word, event_count::EventCount<Mapped>)>,
}

impl Event {
    pub(crate) fn from_handle(handle: Handle) -> Self {
        let parts = (handle.word(STATE), handle.event(EVENT));
        Self { handle, parts: Arc::new(parts) }
    }

    /// Whether it is set.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.parts.0.load(Ordering::Acquire) != 0
    }

    /// Sets it, and wakes all who wait. A signal handler may do that.
    ///
    /// **Blocking**: never; a system call if somebody waits. **Errors**: [`Forked`](SyncError::Forked).
    #[inline]
    pub fn set(&self) -> Result<(), SyncError> {
        self.handle.check_ours()?;
        let (flag, ear) = &*self.parts;
        flag.store(1, Ordering::Release);
        ear.notify(u32::MAX);
        Ok(())
    }

    /// Clears it. Else like [`set`](Self::set).
    #[inline]
    pub fn clear(&self) -> Result<(), SyncError> {
        self.handle.check_ours()?;
        self.parts.0.store(0, Ordering::Release);
        Ok(())
    }

    /// Waits until it is set. If it is cleared again at once, a waiter may miss that it was.
    ///
    /// **Blocking**: without end; parks by `futex`. If it is set: no system call. **Errors**: [`Forked`](SyncError::Forked).
    #[inline]
    pub fn wait(&self) -> Result<(), SyncError> {
        self.wait_until(Timeout::NEVER)
    }

    /// Like [`wait`](Self::wait), but waits no longer than `timeout`, then [`TimedOut`](SyncError::TimedOut).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), SyncError> {
        self.wait_until(Timeout::after(timeout))
    }

    #[inline]
    fn wait_until(&self, until: Timeout) -> Result<(), SyncError> {
        self.handle.check_ours()?;
        if self.is_set() {
            return Ok(());
        }
        // Nobody in particular is waited for, so nobody's death matters.
        self.handle.attempt(&self.parts.1, until, || None, || Ok(self.is_set().then_some(())))
    }
}

object!(Event, ObjectSpec::bare(ObjectKind::Event, 0), |this| &this.handle);
