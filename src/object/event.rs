//! A flag to wait for.
//!
//! ```text
//! words
//!      0  flag
//!      1  event
//! ```

use std::sync::Arc;
use std::time::Duration;

use crate::error::SyncError;
use crate::object::fairness::wait_for;
use crate::object::kind::{Description, EVENT, Kind, ObjectKind, ObjectWords, STATE};
use crate::object::spec::ObjectSpec;
use crate::object::{Handle, object};
use crate::primitive::Ordering;
use crate::raw::event_count::EventCount;
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
    inner: Arc<Inner>,
}

struct Inner {
    flag: Word,
    event: EventCount<Mapped>,
}

impl Event {
    pub(crate) fn from_handle(handle: Handle) -> Self {
        let inner = Inner { flag: handle.word(STATE), event: handle.event(EVENT) };
        Self { handle, inner: Arc::new(inner) }
    }

    /// Whether it is set.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.inner.flag.load(Ordering::Acquire) != 0 // edge: event-flag
    }

    /// Sets it, and wakes all who wait. A signal handler may do that.
    ///
    /// **Blocking**: never; a system call if somebody waits. **Errors**: [`Forked`](SyncError::Forked).
    #[inline]
    pub fn set(&self) -> Result<(), SyncError> {
        self.handle.check_process()?;
        self.inner.flag.store(1, Ordering::Release); // edge: event-flag
        self.inner.event.notify(u32::MAX);
        Ok(())
    }

    /// Clears it. Else like [`set`](Self::set).
    #[inline]
    pub fn clear(&self) -> Result<(), SyncError> {
        self.handle.check_process()?;
        self.inner.flag.store(0, Ordering::Release); // edge: event-flag
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
        self.handle.check_process()?;
        if self.is_set() {
            return Ok(());
        }
        // Nobody in particular is waited for, so nobody's death matters.
        wait_for(&self.handle, &self.inner.event, until, || None, || Ok(self.is_set().then_some(())))
    }
}

object!(Event, ObjectSpec::without_value(ObjectKind::Event, 0), |this| &this.handle);

pub(super) struct EventKind;

impl Kind for EventKind {
    fn name(&self) -> &'static str {
        "event"
    }

    fn footprint(&self, _: &ObjectSpec, _: usize) -> Option<usize> {
        Some(EVENT + 1)
    }

    fn describe(&self, object: &ObjectWords<'_>) -> Description {
        let is_set = object.word(STATE).load(Ordering::Acquire) != 0; // edge: snapshot
        let state = if is_set { "set" } else { "clear" }.to_string();
        Description { state, ..Description::default() }
    }
}
