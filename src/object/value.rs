//! A value that any process may load and store whole.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytemuck::Pod;

use crate::error::SyncError;
use crate::object::lock::{Handle, Held, ObjectLock};
use crate::object::object;
use crate::object::seq_cell::{BackoffRequest, SeqCell};
use crate::object::table::{ObjectKind, ObjectSpec, value};
use crate::primitive::{AtomicU64, Ordering};
use crate::raw::event_count::EventCount;
use crate::raw::robust_lock::History;
use crate::region::words::Mapped;
use crate::wait::Timeout;

/// A value of a plain type, in shared memory.
///
/// Readers do not lock and do not wait: neither for a writer, nor for one that is stopped or was killed in the middle of a store, whose
/// value then does not exist. Writers take turns; a [`writer`](Self::writer) takes all turns.
///
/// ```
/// let price = tombolo::Value::new([101.25_f64, 300.0])?;
/// price.store(&[101.5, 200.0])?;
/// price.update(|[_, volume]| *volume += 100.0)?;
/// assert_eq!(price.load()?, [101.5, 300.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// **Source**: four buffers and a version, after Boehm's seqlock, see `raw/cell.rs`; the writers' lock: `raw/lock.rs`.
pub struct Value<T> {
    latch: ObjectLock,
    shared: Arc<Parts<T>>,
    /// The version that this handle loaded, stored or waited for last.
    seen: AtomicU64,
}

struct Parts<T> {
    kept: SeqCell<T>,
    news: EventCount<Mapped>,
    plea: BackoffRequest,
}

impl<T: Pod> Value<T> {
    pub(crate) fn from_handle(handle: Handle) -> Self {
        let parts = Parts {
            kept: SeqCell::new(&handle, 0),
            news: handle.event(value::NEWS),
            plea: BackoffRequest::new(handle.word(value::PLEA)),
        };
        let seen = parts.kept.cell().map_or(0, |cell| cell.version());
        Self { latch: ObjectLock::new(handle, value::LOCK), shared: Arc::new(parts), seen: AtomicU64::new(seen) }
    }

    /// The value that was stored last.
    ///
    /// **Blocking**: never, no system call. A writer at full speed on another core can spoil attempts; then it is asked for a
    /// pause. **Errors**: [`Corrupt`](SyncError::Corrupt).
    #[inline(always)]
    pub fn load(&self) -> Result<T, SyncError> {
        let (value, version) = self.shared.load()?;
        self.seen.store(version, Ordering::Relaxed); // private
        Ok(value)
    }

    /// As [`load`](Self::load), in place: quicker from a few hundred bytes on. What `value` holds after an error is not defined.
    ///
    /// ```
    /// let frame = tombolo::Value::new([7_u8; 4096])?;
    /// let mut copy = [0; 4096];
    /// frame.load_into(&mut copy)?;
    /// assert_eq!(copy, [7; 4096]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn load_into(&self, value: &mut T) -> Result<(), SyncError> {
        let version = self.shared.kept.load_into(value, |laps| self.shared.plea.lapped(laps))?;
        self.seen.store(version, Ordering::Relaxed); // private
        Ok(())
    }

    /// Replaces the value.
    ///
    /// **Blocking**: while another writer is in the middle of storing, updating, or holds the [`writer`](Self::writer). A writer that
    /// was killed does not count. Uncontended, and if nobody waits for a change: no system call. **Errors**: [`Forked`](SyncError::Forked),
    /// [`Corrupt`](SyncError::Corrupt), [`LockLost`](SyncError::LockLost), [`WouldDeadlock`](SyncError::WouldDeadlock) (this thread is the
    /// writer).
    #[inline]
    pub fn store(&self, value: &T) -> Result<(), SyncError> {
        self.store_until(value, Timeout::NEVER)
    }

    /// Like [`store`](Self::store), but never waits: [`WouldBlock`](SyncError::WouldBlock).
    #[inline]
    pub fn try_store(&self, value: &T) -> Result<(), SyncError> {
        self.store_until(value, Timeout::NonBlocking)
    }

    /// Like [`store`](Self::store), but waits no longer than `timeout`, then [`TimedOut`](SyncError::TimedOut).
    pub fn store_timeout(&self, value: &T, timeout: Duration) -> Result<(), SyncError> {
        self.store_until(value, Timeout::after(timeout))
    }

    #[inline]
    fn store_until(&self, value: &T, until: Timeout) -> Result<(), SyncError> {
        let version = {
            let _held = self.hold(until)?;
            self.shared.store(value)?
        };
        self.seen.store(version, Ordering::Relaxed); // private
        self.shared.tell();
        Ok(())
    }

    /// Changes the value, with no other writer in between; what it became.
    ///
    /// **Blocking** and **Errors**: as [`store`](Self::store). A panic of `change` leaves the value as it was.
    ///
    /// ```
    /// let hits = tombolo::Value::new(0_u64)?;
    /// assert_eq!(hits.update(|hits| *hits += 1)?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn update(&self, change: impl FnOnce(&mut T)) -> Result<T, SyncError> {
        self.update_until(change, Timeout::NEVER)
    }

    /// Like [`update`](Self::update), but never waits: [`WouldBlock`](SyncError::WouldBlock).
    pub fn try_update(&self, change: impl FnOnce(&mut T)) -> Result<T, SyncError> {
        self.update_until(change, Timeout::NonBlocking)
    }

    /// Like [`update`](Self::update), but waits no longer than `timeout`, then [`TimedOut`](SyncError::TimedOut).
    pub fn update_timeout(&self, change: impl FnOnce(&mut T), timeout: Duration) -> Result<T, SyncError> {
        self.update_until(change, Timeout::after(timeout))
    }

    fn update_until(&self, change: impl FnOnce(&mut T), until: Timeout) -> Result<T, SyncError> {
        let held = self.hold(until)?;
        let mut value = self.shared.kept.load_held()?;
        change(&mut value);
        self.latch.handle.check_ours()?; // `change` may have forked
        let version = self.shared.store(&value)?;
        drop(held);
        self.seen.store(version, Ordering::Relaxed); // private
        self.shared.tell();
        Ok(value)
    }

    /// How often the value was stored, since it was made.
    pub fn version(&self) -> u64 {
        self.shared.kept.cell().map_or(0, |cell| cell.version())
    }

    /// Waits until the value is another version than the one that this handle last loaded, stored or waited for, and loads it. A new
    /// handle, also one that is to wait in another way, begins with what it finds.
    ///
    /// **Blocking**: no longer than `timeout`, then [`TimedOut`](SyncError::TimedOut); parks by `futex`. **Errors**: that,
    /// [`Corrupt`](SyncError::Corrupt), [`Forked`](SyncError::Forked).
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let value = tombolo::Value::new(1)?;
    /// let reader = value.clone();
    /// std::thread::spawn(move || value.store(&2));
    /// assert_eq!(reader.wait_for_change(Duration::from_secs(60))?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_for_change(&self, timeout: Duration) -> Result<T, SyncError> {
        let handle = &self.latch.handle;
        handle.check_ours()?;
        let seen = self.seen.load(Ordering::Relaxed);
        // Nobody in particular is waited for, so nobody's death matters.
        handle.attempt(
            &self.shared.news,
            Timeout::after(timeout),
            || None,
            || Ok((self.shared.kept.cell()?.version() != seen).then_some(())),
        )?;
        self.load()
    }

    /// Becomes the only writer, until dropped. Its stores are the fastest: they take no lock.
    ///
    /// **Blocking** and **Errors**: as [`store`](Self::store).
    pub fn writer(&self) -> Result<ValueWriter<'_, T>, SyncError> {
        Ok(ValueWriter { value: self, held: self.hold(Timeout::NEVER)? })
    }

    /// Like [`writer`](Self::writer), but never waits: [`WouldBlock`](SyncError::WouldBlock).
    pub fn try_writer(&self) -> Result<ValueWriter<'_, T>, SyncError> {
        Ok(ValueWriter { value: self, held: self.hold(Timeout::NonBlocking)? })
    }

    #[inline]
    fn hold(&self, until: Timeout) -> Result<Held<'_>, SyncError> {
        let mut held = Held::acquire(&self.latch, until)?;
        held.past = History::default(); // whoever died left a whole value
        Ok(held)
    }
}

impl<T: Pod> Parts<T> {
    #[inline(always)]
    fn load(&self) -> Result<(T, u64), SyncError> {
        self.kept.load(|laps| self.plea.lapped(laps))
    }

    #[inline(always)]
    fn store(&self, value: &T) -> Result<u64, SyncError> {
        let version = self.kept.store(value)?;
        self.plea.heed(version, size_of::<T>());
        Ok(version)
    }

    #[inline]
    fn tell(&self) {
        self.news.notify(u32::MAX);
    }
}

/// The same value; what it waits for next is its own.
impl<T> Clone for Value<T> {
    fn clone(&self) -> Self {
        let seen = AtomicU64::new(self.seen.load(Ordering::Relaxed));
        Self { latch: self.latch.clone(), shared: Arc::clone(&self.shared), seen }
    }
}

object!(Value<T>, ObjectSpec::of::<T>(ObjectKind::Value, 0), |this| &this.latch.handle);

/// The only writer of a [`Value`], until dropped.
///
/// If its process dies, the next writer takes over; the value stays as last stored.
pub struct ValueWriter<'a, T> {
    value: &'a Value<T>,
    held: Held<'a>,
}

impl<T: Pod> ValueWriter<'_, T> {
    /// Replaces the value.
    ///
    /// **Blocking**: never; a system call if somebody waits for a change. **Errors**: [`Forked`](SyncError::Forked),
    /// [`Corrupt`](SyncError::Corrupt).
    #[inline]
    pub fn store(&mut self, value: &T) -> Result<(), SyncError> {
        self.held.latch.handle.check_ours()?;
        let version = self.value.shared.store(value)?;
        self.value.seen.store(version, Ordering::Relaxed); // private
        self.value.shared.tell();
        Ok(())
    }

    /// Changes the value; what it became.
    pub fn update(&mut self, change: impl FnOnce(&mut T)) -> Result<T, SyncError> {
        let mut value = self.value.shared.kept.load_held()?;
        change(&mut value);
        self.store(&value)?;
        Ok(value)
    }
}

impl<T> fmt::Debug for ValueWriter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValueWriter").field("handle", &self.held.latch.handle).finish()
    }
}
