//! Something to be done by one process, once.

use std::sync::Arc;
use std::time::Duration;

use crate::error::SyncError;
use crate::object::lock::{Handle, Held, ObjectLock};
use crate::object::object;
use crate::object::table::{ObjectKind, ObjectSpec, STATE, once};
use crate::primitive::Ordering;
use crate::raw::event_count::EventCount;
use crate::raw::robust_lock::History;
use crate::region::words::{Mapped, Word};
use crate::wait::Timeout;

/// Something that is to be done once, by whichever process comes first; the others wait until it is done.
///
/// Whoever is killed, or panics, in the middle has not done it: the next one does it.
///
/// ```
/// let set_up = tombolo::Once::new()?;
/// let mut times = 0;
/// set_up.call_once(|| times += 1)?;
/// set_up.call_once(|| times += 1)?;
/// assert_eq!(times, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// **Source**: a lock and a flag, see `raw/lock.rs`.
#[derive(Clone)]
pub struct Once {
    latch: ObjectLock,
    parts: Arc<(Word, EventCount<Mapped>)>,
}

impl Once {
    pub(crate) fn from_handle(handle: Handle) -> Self {
        let parts = (handle.word(once::DONE), handle.event(once::FINISHED));
        Self { latch: ObjectLock::new(handle, STATE), parts: Arc::new(parts) }
    }

    /// Whether it is done; then what was done is visible.
    #[inline]
    pub fn is_completed(&self) -> bool {
        self.parts.0.load(Ordering::Acquire) != 0
    }

    /// Does it, or waits until another has.
    ///
    /// **Blocking**: while another is at it, without end; parks by `futex`. Once done: no system call. **Errors**:
    /// [`WouldDeadlock`](SyncError::WouldDeadlock) (this thread is at it), [`Forked`](SyncError::Forked), [`Corrupt`](SyncError::Corrupt),
    /// [`LockLost`](SyncError::LockLost).
    #[inline]
    pub fn call_once(&self, action: impl FnOnce()) -> Result<(), SyncError> {
        if self.is_completed() { Ok(()) } else { self.call(action) }
    }

    #[cold]
    fn call(&self, action: impl FnOnce()) -> Result<(), SyncError> {
        let mut held = Held::acquire(&self.latch, Timeout::NEVER)?;
        held.past = History::default(); // who died has not done it: that is all there is to know
        if !self.is_completed() {
            action();
            self.latch.handle.check_ours()?; // it may have forked
            self.parts.0.store(1, Ordering::Release);
            drop(held);
            self.parts.1.notify(u32::MAX);
        }
        Ok(())
    }

    /// Waits until somebody has done it.
    ///
    /// **Blocking**: without end; parks by `futex`. **Errors**: [`Forked`](SyncError::Forked).
    pub fn wait(&self) -> Result<(), SyncError> {
        self.wait_until(Timeout::NEVER)
    }

    /// Like [`wait`](Self::wait), but waits no longer than `timeout`, then [`TimedOut`](SyncError::TimedOut).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), SyncError> {
        self.wait_until(Timeout::after(timeout))
    }

    fn wait_until(&self, until: Timeout) -> Result<(), SyncError> {
        self.latch.handle.check_ours()?;
        self.latch.handle.attempt(&self.parts.1, until, || None, || Ok(self.is_completed().then_some(())))
    }
}

object!(Once, ObjectSpec::bare(ObjectKind::Once, 0), |this| &this.latch.handle);
