//! A value that any process may load and store whole.
//!
//! ```text
//! words
//!      0  committed
//!      1  writing
//!      2  buffers         of one word each, if the value is no longer
//!     16  lock state
//!     17  lock event
//!     32  changed         event
//!     33  backoff request
//!     48  buffers         of longer values
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{self, SyncError};
use crate::object::fairness::wait_for;
#[cfg(feature = "async")]
use crate::object::future::wait_for_async;
use crate::object::kind::{Description, Kind, ObjectKind, ObjectWords};
use crate::object::lock::{self, LockGuard, ObjectLock};
use crate::object::seq_cell::{self, BackoffRequest, SeqCell};
use crate::object::spec::{Buffers, ObjectSpec};
use crate::object::{Handle, object};
use crate::primitive::{AtomicU64, Ordering};
use crate::raw::event_count::EventCount;
use crate::raw::robust_lock::History;
use crate::region::words::Mapped;
use crate::types::{InvalidValue, Shareable, Unchecked};
use crate::wait::source::{Source, sealed::Watch};
use crate::wait::{Attempt, Timeout};

/// A value in shared memory.
///
/// Readers do not lock and never wait: not for a writer, and not for one that is stopped or was
/// killed in the middle of a store. Such a store has not happened. Writers take turns, and a
/// [`writer`](Self::writer) takes all of them.
///
/// ```
/// use tombolo::sync::Value;
///
/// let price = Value::new([101.25_f64, 300.0])?;
/// price.store(&[101.5, 200.0])?;
/// price.update(|[_, volume]| *volume += 100.0)?;
/// assert_eq!(price.load()?, [101.5, 300.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Each handle remembers the version that it has seen last, for
/// [`wait_for_change`](Self::wait_for_change). A clone begins with what the original has seen.
///
/// # Large values
///
/// Calls that take or return a `T` by value keep it on the stack, some several times. From about
/// 64 KiB on use those that take a reference: [`new_from`](Self::new_from),
/// [`create_new_from`](Self::create_new_from), [`open_or_create_from`](Self::open_or_create_from),
/// [`load_into`](Self::load_into), [`store`](Self::store), [`update_into`](Self::update_into) and
/// [`wait_for_change_into`](Self::wait_for_change_into). `bytemuck::zeroed_box` makes a value in a
/// `Box`:
///
/// ```
/// use tombolo::bytemuck::zeroed_box;
/// use tombolo::sync::Value;
///
/// type Frame = [u8; 3 << 20];
/// let mut frame: Box<Frame> = zeroed_box();
/// let shown = Value::<Frame>::new_from(&frame)?;
/// shown.update_into(&mut frame, |frame| frame[0] = 7)?;
/// shown.load_into(&mut frame)?;
/// assert_eq!(frame[0], 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Implementation: four buffers and a version, after Boehm's seqlock, in `raw/seqlock.rs`; the
/// writers' lock is in `raw/robust_lock.rs`.
pub struct Value<T> {
    lock: ObjectLock,
    inner: Arc<Inner<T>>,
    /// The version that this handle loaded, stored or waited for last.
    seen: AtomicU64,
}

struct Inner<T> {
    cell: SeqCell<T>,
    changed: EventCount<Mapped>,
    backoff: BackoffRequest,
}

impl<T: Shareable> Source for Value<T> {}

impl<T: Shareable> Watch for Value<T> {
    fn is_ready(&mut self, attempt: Attempt) -> bool {
        self.inner.cell.version() != self.seen.load(Ordering::Relaxed)
            || attempt == Attempt::Full && self.lock.handle.check_process().is_err()
    }

    fn event(&self, index: usize) -> Option<&EventCount<Mapped>> {
        (index == 0).then_some(&self.inner.changed)
    }
}

impl<T: Shareable> Value<T> {
    pub(crate) fn from_handle(handle: Handle) -> Self {
        let inner = Inner {
            cell: SeqCell::new(&handle, 0),
            changed: handle.event(words::CHANGED),
            backoff: BackoffRequest::new(handle.word(words::BACKOFF)),
        };
        let seen = AtomicU64::new(inner.cell.version());
        Self { lock: ObjectLock::new(handle, words::LOCK), inner: Arc::new(inner), seen }
    }

    /// Returns the value that was stored last.
    ///
    /// # Blocking
    ///
    /// Never, and makes no system call. A writer at full speed on another core can make it retry.
    /// It is asked to pause then.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`](SyncError::InvalidValue), [`Corrupt`](SyncError::Corrupt).
    #[inline(always)]
    pub fn load(&self) -> Result<T, SyncError> {
        let (value, version) = self.inner.load()?;
        self.seen.store(version, Ordering::Relaxed); // private
        Ok(value)
    }

    /// Loads the value into `value`, which is faster than [`load`](Self::load) from a few hundred
    /// bytes on. After an error `value` holds anything.
    ///
    /// # Blocking
    ///
    /// Like [`load`](Self::load).
    ///
    /// # Errors
    ///
    /// [`InvalidValue`](SyncError::InvalidValue), [`Corrupt`](SyncError::Corrupt).
    ///
    /// # Examples
    ///
    /// ```
    /// use tombolo::sync::Value;
    ///
    /// let frame = Value::new([7_u8; 4096])?;
    /// let mut copy = [0; 4096];
    /// frame.load_into(&mut copy)?;
    /// assert_eq!(copy, [7; 4096]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn load_into(&self, value: &mut T) -> Result<(), SyncError> {
        let version = self.inner.cell.load_into(value, |retries| self.inner.backoff.on_retry(retries))?;
        self.seen.store(version, Ordering::Relaxed); // private
        Ok(())
    }

    /// Replaces the value.
    ///
    /// # Blocking
    ///
    /// While another thread or process stores, updates, or holds the [`writer`](Self::writer). Does
    /// not wait for a process that was killed. Makes no system call if there is no other writer,
    /// and nobody waits for a change.
    ///
    /// # Errors
    ///
    /// - [`WouldDeadlock`](SyncError::WouldDeadlock) if this thread holds the writer.
    /// - [`Forked`](SyncError::Forked), [`Corrupt`](SyncError::Corrupt),
    ///   [`LockLost`](SyncError::LockLost).
    #[inline]
    pub fn store(&self, value: &T) -> Result<(), SyncError> {
        self.store_until(value, Timeout::UNLIMITED)
    }

    /// Attempts to replace the value without waiting.
    ///
    /// # Errors
    ///
    /// Those of [`store`](Self::store), and [`WouldBlock`](SyncError::WouldBlock).
    #[inline]
    pub fn try_store(&self, value: &T) -> Result<(), SyncError> {
        self.store_until(value, Timeout::NonBlocking)
    }

    /// Replaces the value, and waits no longer than `timeout` for other writers.
    ///
    /// # Errors
    ///
    /// Those of [`store`](Self::store), and [`TimedOut`](SyncError::TimedOut).
    pub fn store_timeout(&self, value: &T, timeout: Duration) -> Result<(), SyncError> {
        self.store_until(value, Timeout::after(timeout))
    }

    #[inline]
    fn store_until(&self, value: &T, until: Timeout) -> Result<(), SyncError> {
        let version = {
            let _guard = self.lock(until)?;
            self.inner.store(value)?
        };
        self.seen.store(version, Ordering::Relaxed); // private
        self.inner.notify_changed();
        Ok(())
    }

    /// Changes the value while no other writer can. Returns the new value.
    ///
    /// If `change` panics, the value stays as it was.
    ///
    /// # Blocking
    ///
    /// Like [`store`](Self::store).
    ///
    /// # Errors
    ///
    /// Those of [`store`](Self::store), and [`InvalidValue`](SyncError::InvalidValue).
    ///
    /// # Examples
    ///
    /// ```
    /// use tombolo::sync::Value;
    ///
    /// let hits = Value::new(0_u64)?;
    /// assert_eq!(hits.update(|hits| *hits += 1)?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn update(&self, change: impl FnOnce(&mut T)) -> Result<T, SyncError> {
        self.update_until(Timeout::UNLIMITED, change)
    }

    /// Attempts to change the value without waiting.
    ///
    /// # Errors
    ///
    /// Those of [`update`](Self::update), and [`WouldBlock`](SyncError::WouldBlock).
    pub fn try_update(&self, change: impl FnOnce(&mut T)) -> Result<T, SyncError> {
        self.update_until(Timeout::NonBlocking, change)
    }

    /// Changes the value, and waits no longer than `timeout` for other writers.
    ///
    /// # Errors
    ///
    /// Those of [`update`](Self::update), and [`TimedOut`](SyncError::TimedOut).
    pub fn update_timeout(&self, timeout: Duration, change: impl FnOnce(&mut T)) -> Result<T, SyncError> {
        self.update_until(Timeout::after(timeout), change)
    }

    fn update_until(&self, until: Timeout, change: impl FnOnce(&mut T)) -> Result<T, SyncError> {
        let mut value = match Unchecked::zeroed().check() {
            Ok(zeros) => zeros,
            Err(InvalidValue) => self.load()?, // replaced by the value under the lock
        };
        self.update_into_until(&mut value, until, change)?;
        Ok(value)
    }

    /// Like [`update`](Self::update), but the copy that `change` gets is `value`, which holds the
    /// new value afterwards. After an error or a panic it holds anything.
    ///
    /// # Blocking
    ///
    /// Like [`store`](Self::store).
    ///
    /// # Errors
    ///
    /// Those of [`store`](Self::store).
    pub fn update_into(&self, value: &mut T, change: impl FnOnce(&mut T)) -> Result<(), SyncError> {
        self.update_into_until(value, Timeout::UNLIMITED, change)
    }

    /// Attempts to [`update_into`](Self::update_into) without waiting.
    ///
    /// # Errors
    ///
    /// Those of [`store`](Self::store), and [`WouldBlock`](SyncError::WouldBlock).
    pub fn try_update_into(&self, value: &mut T, change: impl FnOnce(&mut T)) -> Result<(), SyncError> {
        self.update_into_until(value, Timeout::NonBlocking, change)
    }

    /// Like [`update_into`](Self::update_into), but waits no longer than `timeout` for other
    /// writers.
    ///
    /// # Errors
    ///
    /// Those of [`store`](Self::store), and [`TimedOut`](SyncError::TimedOut).
    pub fn update_into_timeout(
        &self,
        value: &mut T,
        timeout: Duration,
        change: impl FnOnce(&mut T),
    ) -> Result<(), SyncError> {
        self.update_into_until(value, Timeout::after(timeout), change)
    }

    fn update_into_until(&self, value: &mut T, until: Timeout, change: impl FnOnce(&mut T)) -> Result<(), SyncError> {
        let guard = self.lock(until)?;
        self.inner.cell.load_locked_into(value)?;
        change(value);
        self.lock.handle.check_process()?; // `change` may have forked
        let version = self.inner.store(value)?;
        drop(guard);
        self.seen.store(version, Ordering::Relaxed); // private
        self.inner.notify_changed();
        Ok(())
    }

    /// Returns how often the value was stored since it was created.
    pub fn version(&self) -> u64 {
        self.inner.cell.version()
    }

    /// Waits until the value is of another version than this handle has seen, and loads it.
    ///
    /// A handle has seen the version that it loaded, stored or waited for last. A new handle has
    /// seen the version that it was opened with, and so has one made by
    /// [`with_wait`](Self::with_wait).
    ///
    /// # Blocking
    ///
    /// No longer than `timeout`. [`Duration::MAX`] means without limit. Parks by `futex`.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](SyncError::TimedOut), [`InvalidValue`](SyncError::InvalidValue),
    /// [`Corrupt`](SyncError::Corrupt), [`Forked`](SyncError::Forked).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use tombolo::sync::Value;
    ///
    /// let value = Value::new(1)?;
    /// let reader = value.clone();
    /// std::thread::spawn(move || value.store(&2));
    /// assert_eq!(reader.wait_for_change(Duration::from_secs(60))?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_for_change(&self, timeout: Duration) -> Result<T, SyncError> {
        self.wait_for_unseen(timeout)?;
        self.load()
    }

    /// Like [`wait_for_change`](Self::wait_for_change), but loads into `value`, which is unchanged
    /// if the time is up.
    ///
    /// # Blocking
    ///
    /// Like [`wait_for_change`](Self::wait_for_change).
    ///
    /// # Errors
    ///
    /// Those of [`wait_for_change`](Self::wait_for_change).
    pub fn wait_for_change_into(&self, value: &mut T, timeout: Duration) -> Result<(), SyncError> {
        self.wait_for_unseen(timeout)?;
        self.load_into(value)
    }

    /// Waits as [`wait_for_change`](Self::wait_for_change) does, without limit and without blocking
    /// the thread, and loads the value.
    ///
    /// What this handle has seen counts when the future is first polled. A future that is dropped
    /// before it is ready has seen nothing. Works with any executor.
    ///
    /// # Errors
    ///
    /// Those of [`wait_for_change`](Self::wait_for_change), but for
    /// [`TimedOut`](SyncError::TimedOut).
    ///
    /// # Examples
    ///
    /// ```
    /// use tombolo::sync::{SyncError, Value};
    ///
    /// let value = Value::new(1)?;
    /// let reader = value.clone();
    /// std::thread::spawn(move || value.store(&2));
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// assert_eq!(reader.wait_for_change_async().await?, 2);
    /// # Ok::<(), SyncError>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "async")]
    #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
    pub async fn wait_for_change_async(&self) -> Result<T, SyncError> {
        let seen = self.seen.load(Ordering::Relaxed);
        let has_changed = || Ok((self.inner.cell.version() != seen).then_some(()));
        wait_for_async(&self.lock.handle, &self.inner.changed, || None, has_changed).await?;
        self.load()
    }

    fn wait_for_unseen(&self, timeout: Duration) -> Result<(), SyncError> {
        let handle = &self.lock.handle;
        handle.check_process()?;
        let seen = self.seen.load(Ordering::Relaxed);
        // Nobody in particular is waited for, so nobody's death matters.
        let has_changed = || Ok((self.inner.cell.version() != seen).then_some(()));
        wait_for(handle, &self.inner.changed, Timeout::after(timeout), || None, has_changed)
    }

    /// Becomes the only writer until the return value is dropped. Its stores are the fastest,
    /// because they take no lock.
    ///
    /// # Blocking
    ///
    /// Like [`store`](Self::store).
    ///
    /// # Errors
    ///
    /// Those of [`store`](Self::store).
    pub fn writer(&self) -> Result<ValueWriter<'_, T>, SyncError> {
        Ok(ValueWriter { value: self, guard: self.lock(Timeout::UNLIMITED)? })
    }

    /// Attempts to become the only writer without waiting.
    ///
    /// # Errors
    ///
    /// Those of [`store`](Self::store), and [`WouldBlock`](SyncError::WouldBlock).
    pub fn try_writer(&self) -> Result<ValueWriter<'_, T>, SyncError> {
        Ok(ValueWriter { value: self, guard: self.lock(Timeout::NonBlocking)? })
    }

    #[inline]
    fn lock(&self, timeout: Timeout) -> Result<LockGuard<'_>, SyncError> {
        let mut guard = LockGuard::lock(&self.lock, timeout)?;
        guard.history = History::default(); // a writer that died left a whole value
        Ok(guard)
    }
}

impl<T: Shareable> Inner<T> {
    #[inline(always)]
    fn load(&self) -> Result<(T, u64), SyncError> {
        self.cell.load(|retries| self.backoff.on_retry(retries))
    }

    #[inline(always)]
    fn store(&self, value: &T) -> Result<u64, SyncError> {
        let version = self.cell.store(value);
        self.backoff.pause_if_requested(version, size_of::<T>());
        Ok(version)
    }

    #[inline]
    fn notify_changed(&self) {
        self.changed.notify(u32::MAX);
    }
}

/// A clone has seen the same version. What it sees from then on is its own.
impl<T> Clone for Value<T> {
    fn clone(&self) -> Self {
        let seen = AtomicU64::new(self.seen.load(Ordering::Relaxed));
        Self { lock: self.lock.clone(), inner: Arc::clone(&self.inner), seen }
    }
}

object!(Value<T>, ObjectSpec::of::<T>(ObjectKind::Value, 0), |this| &this.lock.handle);

/// The only writer of a [`Value`], until this is dropped.
///
/// If its process is killed, the next writer takes over. The value stays as it was stored last.
#[must_use = "bind it to a name such as `_writer`: `let _` lets other writers store at once"]
pub struct ValueWriter<'a, T> {
    value: &'a Value<T>,
    guard: LockGuard<'a>,
}

impl<T: Shareable> ValueWriter<'_, T> {
    /// Replaces the value.
    ///
    /// # Blocking
    ///
    /// Never. Makes a system call if somebody waits for a change.
    ///
    /// # Errors
    ///
    /// [`Forked`](SyncError::Forked), [`Corrupt`](SyncError::Corrupt).
    #[inline]
    pub fn store(&mut self, value: &T) -> Result<(), SyncError> {
        self.guard.lock.handle.check_process()?;
        let version = self.value.inner.store(value)?;
        self.value.seen.store(version, Ordering::Relaxed); // private
        self.value.inner.notify_changed();
        Ok(())
    }

    /// Changes the value and returns the new one. Blocks and fails like [`store`](Self::store).
    pub fn update(&mut self, change: impl FnOnce(&mut T)) -> Result<T, SyncError> {
        let mut value = self.value.inner.cell.load_locked()?;
        change(&mut value);
        self.store(&value)?;
        Ok(value)
    }

    /// Like [`update`](Self::update), but the copy that `change` gets is `value`, which holds the
    /// new value afterwards.
    pub fn update_into(&mut self, value: &mut T, change: impl FnOnce(&mut T)) -> Result<(), SyncError> {
        self.value.inner.cell.load_locked_into(value)?;
        change(value);
        self.store(value)
    }
}

impl<T> fmt::Debug for ValueWriter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValueWriter").field("handle", &self.guard.lock.handle).finish()
    }
}

/// The words of a value.
pub(crate) mod words {
    pub(crate) const LOCK: usize = 16;
    pub(crate) const CHANGED: usize = 32;
    pub(crate) const BACKOFF: usize = 33;
    pub(super) const SHORT_BUFFERS_OFFSET: usize = crate::raw::seqlock::CONTROL;
    pub(super) const BUFFERS_OFFSET: usize = 48;
    pub(super) const BUFFERS: usize = 4;
}

const _: () =
    assert!(words::SHORT_BUFFERS_OFFSET + words::BUFFERS <= words::LOCK && words::BACKOFF < words::BUFFERS_OFFSET);

pub(super) struct ValueKind;

impl Kind for ValueKind {
    fn name(&self) -> &'static str {
        "value"
    }

    fn check(&self, spec: &ObjectSpec) -> error::Result<()> {
        spec.expect_value()?;
        spec.expect_no_count()
    }

    fn footprint(&self, spec: &ObjectSpec, participants: usize) -> Option<usize> {
        Some(self.buffers(spec, participants)?.end()?.max(words::BUFFERS_OFFSET))
    }

    fn buffers(&self, spec: &ObjectSpec, _: usize) -> Option<Buffers> {
        let is_short = spec.value_words() <= 1;
        let offset = if is_short { words::SHORT_BUFFERS_OFFSET } else { words::BUFFERS_OFFSET };
        Some(Buffers { offset, stride: spec.version_stride(), count: words::BUFFERS })
    }

    fn release_dead(&self, object: &ObjectWords<'_>, participants: &[usize]) {
        lock::release_dead(object, words::LOCK, participants);
    }

    fn describe(&self, object: &ObjectWords<'_>) -> Description {
        Description { value: seq_cell::describe(object, 0), ..lock::describe(object, words::LOCK) }
    }
}
