//! Something to be done by one process, once.
//!
//! ```text
//! words
//!      0  state     the lock
//!      1  event
//!      2  done
//!      3  completed  event of done
//! ```

#[cfg(feature = "async")]
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::error::SyncError;
use crate::object::fairness::wait_for;
#[cfg(feature = "async")]
use crate::object::future::wait_for_async;
use crate::object::kind::{Description, Kind, ObjectKind, ObjectWords, STATE};
use crate::object::lock::{self, LockGuard, ObjectLock};
use crate::object::spec::ObjectSpec;
use crate::object::{Handle, object};
use crate::primitive::Ordering;
use crate::raw::event_count::EventCount;
use crate::raw::robust_lock::History;
use crate::region::words::{Mapped, Word};
use crate::wait::Timeout;

/// Runs an action once, in the process that comes first. The others wait until it is done.
///
/// If the process is killed in the middle, or the action panics, it is not done: the next caller
/// runs it.
///
/// ```
/// use tombolo::sync::Once;
///
/// let set_up = Once::new()?;
/// let mut times = 0;
/// set_up.call_once(|| times += 1)?;
/// set_up.call_once(|| times += 1)?;
/// assert_eq!(times, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Implementation: a lock and a flag, `raw/robust_lock.rs`.
#[derive(Clone)]
pub struct Once {
    lock: ObjectLock,
    inner: Arc<Inner>,
}

struct Inner {
    done: Word,
    completed: EventCount<Mapped>,
}

impl Once {
    pub(crate) fn from_handle(handle: Handle) -> Self {
        let inner = Inner { done: handle.word(words::DONE), completed: handle.event(words::COMPLETED) };
        Self { lock: ObjectLock::new(handle, STATE), inner: Arc::new(inner) }
    }

    /// Returns whether the action is done. If so, what it did is visible.
    #[inline]
    pub fn is_completed(&self) -> bool {
        self.inner.done.load(Ordering::Acquire) != 0 // edge: once-done
    }

    /// Runs the action if it is not done, or waits until another thread or process has run it.
    ///
    /// # Blocking
    ///
    /// While another runs it, without limit. Parks by `futex`. Makes no system call once it is
    /// done.
    ///
    /// # Errors
    ///
    /// - [`WouldDeadlock`](SyncError::WouldDeadlock) if this thread is running it.
    /// - [`Forked`](SyncError::Forked), [`Corrupt`](SyncError::Corrupt),
    ///   [`LockLost`](SyncError::LockLost).
    #[inline]
    pub fn call_once(&self, action: impl FnOnce()) -> Result<(), SyncError> {
        if self.is_completed() { Ok(()) } else { self.call_slow(action) }
    }

    #[cold]
    fn call_slow(&self, action: impl FnOnce()) -> Result<(), SyncError> {
        self.lock.lock(Timeout::UNLIMITED)?;
        self.call_locked(action)
    }

    /// Runs the action as the thread that has just locked, if it is not done.
    fn call_locked(&self, action: impl FnOnce()) -> Result<(), SyncError> {
        // A process that died has not done it, which is all there is to know.
        let guard = LockGuard::of_locked(&self.lock, History::default());
        if !self.is_completed() {
            action();
            self.lock.handle.check_process()?; // it may have forked
            self.inner.done.store(1, Ordering::Release); // edge: once-done
            drop(guard);
            self.inner.completed.notify(u32::MAX);
        }
        Ok(())
    }

    /// Runs the action as [`call_once`](Self::call_once) does, without blocking the thread while
    /// another one runs it. The action itself runs in the call that polls the future.
    ///
    /// If the future is dropped before it is ready the action has not run. Works with any executor.
    ///
    /// # Errors
    ///
    /// Those of [`call_once`](Self::call_once). If the action polls such a future itself, that
    /// waits forever.
    ///
    /// # Examples
    ///
    /// ```
    /// use tombolo::sync::Once;
    ///
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let set_up = Once::new()?;
    /// let mut times = 0;
    /// set_up.call_once_async(|| times += 1).await?;
    /// set_up.wait_async().await?;
    /// assert_eq!(times, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "async")]
    #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
    pub async fn call_once_async(&self, action: impl FnOnce()) -> Result<(), SyncError> {
        if self.is_completed() {
            return Ok(());
        }
        self.lock.lock_async().await?;
        self.call_locked(action)
    }

    /// Waits until the action is done, without blocking the thread. See
    /// [`call_once_async`](Self::call_once_async).
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Self::wait).
    ///
    /// # Examples
    ///
    /// See [`call_once_async`](Self::call_once_async).
    #[cfg(feature = "async")]
    #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
    pub fn wait_async(&self) -> impl Future<Output = Result<(), SyncError>> {
        let is_completed = || Ok(self.is_completed().then_some(()));
        wait_for_async(&self.lock.handle, &self.inner.completed, || None, is_completed)
    }

    /// Waits until the action is done.
    ///
    /// # Blocking
    ///
    /// Without limit. Parks by `futex`.
    ///
    /// # Errors
    ///
    /// [`Forked`](SyncError::Forked).
    pub fn wait(&self) -> Result<(), SyncError> {
        self.wait_until(Timeout::UNLIMITED)
    }

    /// Waits until the action is done, and no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Self::wait), and [`TimedOut`](SyncError::TimedOut).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), SyncError> {
        self.wait_until(Timeout::after(timeout))
    }

    fn wait_until(&self, until: Timeout) -> Result<(), SyncError> {
        self.lock.handle.check_process()?;
        let is_completed = || Ok(self.is_completed().then_some(()));
        wait_for(&self.lock.handle, &self.inner.completed, until, || None, is_completed)
    }
}

object!(Once, ObjectSpec::without_value(ObjectKind::Once, 0), |this| &this.lock.handle);

/// The words of a once.
pub(crate) mod words {
    pub(super) const DONE: usize = 2;
    pub(crate) const COMPLETED: usize = 3;
}

pub(super) struct OnceKind;

impl Kind for OnceKind {
    fn name(&self) -> &'static str {
        "once"
    }

    fn footprint(&self, _: &ObjectSpec, _: usize) -> Option<usize> {
        Some(words::COMPLETED + 1)
    }

    fn release_dead(&self, object: &ObjectWords<'_>, participants: &[usize]) {
        lock::release_dead(object, STATE, participants);
    }

    fn describe(&self, object: &ObjectWords<'_>) -> Description {
        let description = lock::describe(object, STATE);
        let state = match description.owner {
            // edge: snapshot
            _ if object.word(words::DONE).load(Ordering::Acquire) != 0 => "done".to_string(),
            None => "not done".to_string(),
            Some(_) => return description,
        };
        Description { state, ..description }
    }
}
