//! A flag to wait for.
//!
//! ```text
//! words
//!      0  flag
//!      1  event
//! ```

#[cfg(feature = "async")]
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::error::SyncError;
use crate::object::fairness::wait_for;
#[cfg(feature = "async")]
use crate::object::future::wait_for_async;
use crate::object::kind::{Description, EVENT, Kind, ObjectKind, ObjectWords, STATE};
use crate::object::spec::ObjectSpec;
use crate::object::{Handle, object};
use crate::primitive::Ordering;
use crate::raw::event_count::EventCount;
use crate::region::words::{Mapped, Word};
use crate::wait::source::{Source, sealed::Watch};
use crate::wait::{Attempt, Timeout};

/// A flag that any process may set and clear, and wait for.
///
/// What was done before the flag was set is visible to those that see it set. The death of a
/// process that would have set it is not noticed. Use a timeout where that matters.
///
/// ```
/// use tombolo::sync::Event;
///
/// let ready = Event::new()?;
/// let worker = ready.clone();
/// std::thread::spawn(move || worker.set());
/// ready.wait()?;
/// assert!(ready.is_set());
/// ready.clear()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Implementation: a word and an event count, `raw/event_count.rs`.
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

    /// Returns whether the flag is set. A signal handler may call this.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.inner.flag.load(Ordering::Acquire) != 0 // edge: event-flag
    }

    /// Sets the flag and wakes those that wait. A signal handler may call this.
    ///
    /// # Blocking
    ///
    /// Never. Makes a system call if somebody waits.
    ///
    /// # Errors
    ///
    /// [`Forked`](SyncError::Forked).
    #[inline]
    pub fn set(&self) -> Result<(), SyncError> {
        self.handle.check_process()?;
        self.inner.flag.store(1, Ordering::Release); // edge: event-flag
        self.inner.event.notify(u32::MAX);
        Ok(())
    }

    /// Clears the flag.
    ///
    /// # Blocking
    ///
    /// Never, and makes no system call.
    ///
    /// # Errors
    ///
    /// [`Forked`](SyncError::Forked).
    #[inline]
    pub fn clear(&self) -> Result<(), SyncError> {
        self.handle.check_process()?;
        self.inner.flag.store(0, Ordering::Release); // edge: event-flag
        Ok(())
    }

    /// Waits until the flag is set. If it is cleared again at once, a waiter may miss that.
    ///
    /// # Blocking
    ///
    /// Without limit. Parks by `futex`. Makes no system call if the flag is set.
    ///
    /// # Errors
    ///
    /// [`Forked`](SyncError::Forked).
    #[inline]
    pub fn wait(&self) -> Result<(), SyncError> {
        self.wait_until(Timeout::UNLIMITED)
    }

    /// Waits until the flag is set, and no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Self::wait), and [`TimedOut`](SyncError::TimedOut).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), SyncError> {
        self.wait_until(Timeout::after(timeout))
    }

    /// Waits until the flag is set as [`wait`](Self::wait) does, without blocking the thread. Works
    /// with any executor.
    ///
    /// # Errors
    ///
    /// [`Forked`](SyncError::Forked).
    ///
    /// # Examples
    ///
    /// ```
    /// use tombolo::sync::{Event, SyncError};
    ///
    /// let ready = Event::new()?;
    /// let worker = ready.clone();
    /// std::thread::spawn(move || worker.set());
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// ready.wait_async().await?;
    /// # Ok::<(), SyncError>(())
    /// # })?;
    /// assert!(ready.is_set());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "async")]
    #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
    pub fn wait_async(&self) -> impl Future<Output = Result<(), SyncError>> {
        let is_set = || Ok(self.is_set().then_some(()));
        wait_for_async(&self.handle, &self.inner.event, || None, is_set)
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

impl Source for Event {}

impl Watch for Event {
    fn is_ready(&mut self, attempt: Attempt) -> bool {
        self.is_set() || attempt == Attempt::Full && self.handle.check_process().is_err()
    }

    fn event(&self, index: usize) -> Option<&EventCount<Mapped>> {
        (index == 0).then_some(&self.inner.event)
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
