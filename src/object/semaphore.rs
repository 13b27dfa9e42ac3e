//! Permits that processes take and give.
//!
//! ```text
//! words
//!      0  available
//!      1  event
//!      2  multi-permit event
//! ```

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{self, SyncError};
use crate::object::fairness::{Contended, wait_fairly};
use crate::object::kind::{Description, EVENT, Kind, ObjectKind, ObjectWords, STATE};
use crate::object::spec::ObjectSpec;
use crate::object::{Handle, object};
use crate::primitive::Ordering;
use crate::raw::event_count::EventCount;
use crate::raw::semaphore::{self, MAX_PERMITS};
use crate::region::words::Mapped;
use crate::wait::source::{Source, sealed::Watch};
use crate::wait::{Attempt, Timeout, WaitEnd};

/// What waiters sleep on. Those that want several permits sleep apart: one permit may be of no use
/// to them. They never set the NO_BARGING bit, which would keep single permits from others.
pub(super) struct WaitQueues {
    pub(super) one: EventCount<Mapped>,
    several: EventCount<Mapped>,
}

impl WaitQueues {
    pub(super) fn new(handle: &Handle) -> Self {
        Self { one: handle.event(EVENT), several: handle.event(words::MULTI_PERMIT_EVENT) }
    }

    /// What a waiter for `count` permits sleeps on.
    pub(super) fn event(&self, count: u64) -> &EventCount<Mapped> {
        if count > 1 { &self.several } else { &self.one }
    }

    /// Call when `count` more permits can be taken.
    #[inline]
    pub(super) fn notify(&self, count: u32) {
        self.one.notify(count);
        self.several.notify(u32::MAX);
    }

    #[inline]
    pub(super) fn no_barging(&self) -> bool {
        self.one.no_barging()
    }
}

/// The calls that acquire permits, and the permit that they return. For a type with `acquire_until`
/// and `release`.
macro_rules! permits {
    ($semaphore:ident, $permit:ident) => {
        impl $semaphore {
            /// Acquires a permit. It is released when the return value is dropped.
            ///
            /// # Blocking
            ///
            /// Until there is a permit, without limit. Parks by `futex`. Makes no system call if
            /// there is one.
            ///
            /// # Errors
            ///
            /// [`Forked`](SyncError::Forked), [`Corrupt`](SyncError::Corrupt).
            #[inline]
            pub fn acquire(&self) -> Result<$permit<'_>, SyncError> {
                self.acquire_many(1)
            }

            /// Attempts to acquire a permit without waiting.
            ///
            /// # Errors
            ///
            /// Those of [`acquire`](Self::acquire), and [`WouldBlock`](SyncError::WouldBlock).
            #[inline]
            pub fn try_acquire(&self) -> Result<$permit<'_>, SyncError> {
                self.try_acquire_many(1)
            }

            /// Acquires a permit, and waits no longer than `timeout` for it.
            ///
            /// # Errors
            ///
            /// Those of [`acquire`](Self::acquire), and [`TimedOut`](SyncError::TimedOut).
            pub fn acquire_timeout(&self, timeout: Duration) -> Result<$permit<'_>, SyncError> {
                self.acquire_many_timeout(1, timeout)
            }

            /// Acquires `count` permits, all at once. They are released together when the return
            /// value is dropped.
            ///
            /// # Blocking
            ///
            /// Until there are as many, without limit. Parks by `futex`. Makes no system call if
            /// there are enough. Keeps no permits while it waits, so callers that want fewer may
            /// come first.
            ///
            /// # Errors
            ///
            /// Those of [`acquire`](Self::acquire), and [`LimitExceeded`](SyncError::LimitExceeded)
            /// if there can never be as many.
            #[inline]
            pub fn acquire_many(&self, count: u32) -> Result<$permit<'_>, SyncError> {
                self.permit(count, Timeout::UNLIMITED)
            }

            /// Attempts to acquire `count` permits, all or none, without waiting.
            ///
            /// # Errors
            ///
            /// Those of [`acquire_many`](Self::acquire_many), and
            /// [`WouldBlock`](SyncError::WouldBlock).
            #[inline]
            pub fn try_acquire_many(&self, count: u32) -> Result<$permit<'_>, SyncError> {
                self.permit(count, Timeout::NonBlocking)
            }

            /// Acquires `count` permits, all or none, and waits no longer than `timeout` for them.
            ///
            /// # Errors
            ///
            /// Those of [`acquire_many`](Self::acquire_many), and
            /// [`TimedOut`](SyncError::TimedOut).
            pub fn acquire_many_timeout(&self, count: u32, timeout: Duration) -> Result<$permit<'_>, SyncError> {
                self.permit(count, Timeout::after(timeout))
            }

            /// Acquires a permit as [`acquire`](Self::acquire) does, without blocking the thread.
            ///
            /// A future that is dropped before it is ready has acquired nothing. Works with any
            /// executor. Tasks and threads get permits in the same order. A task has its turn when
            /// it is polled: the others wait up to a millisecond longer for one that is not.
            ///
            /// # Errors
            ///
            /// Those of [`acquire`](Self::acquire).
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use tombolo::sync::", stringify!($semaphore), ";")]
            ///
            /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
            #[doc = concat!("let slots = ", stringify!($semaphore), "::new(1)?;")]
            /// let permit = slots.acquire_async().await?;
            /// assert!(slots.try_acquire().is_err());
            /// drop(permit);
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// # })?;
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            #[cfg(feature = "async")]
            #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
            pub async fn acquire_async(&self) -> Result<$permit<'_>, SyncError> {
                self.acquire_many_async(1).await
            }

            /// Acquires `count` permits as [`acquire_many`](Self::acquire_many) does, without
            /// blocking the thread. See [`acquire_async`](Self::acquire_async).
            ///
            /// # Errors
            ///
            /// Those of [`acquire_many`](Self::acquire_many).
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use tombolo::sync::", stringify!($semaphore), ";")]
            ///
            /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
            #[doc = concat!("let slots = ", stringify!($semaphore), "::new(4)?;")]
            /// let permits = slots.acquire_many_async(3).await?;
            /// assert!(slots.try_acquire_many(2).is_err());
            /// drop(permits);
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// # })?;
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            #[cfg(feature = "async")]
            #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
            pub async fn acquire_many_async(&self, count: u32) -> Result<$permit<'_>, SyncError> {
                let first = || {
                    let has_acquired = self.try_first(count.into())?;
                    self.check_limit(count.into())?;
                    Ok(has_acquired.then_some(()))
                };
                let wait = self.waiting_for(count.into());
                $crate::object::future::wait_fairly_async(&self.handle, wait, first).await?;
                Ok($permit { semaphore: self, count })
            }

            #[inline]
            fn permit(&self, count: u32, timeout: Timeout) -> Result<$permit<'_>, SyncError> {
                self.acquire_until(count, timeout)?;
                Ok($permit { semaphore: self, count })
            }
        }

        #[doc = concat!("Permits of a [`", stringify!($semaphore), "`], released when this is dropped.")]
        ///
        /// A forked child that drops its copy releases nothing.
        #[must_use = "bind it to a name such as `_permit`: `let _` releases it at once"]
        pub struct $permit<'a> {
            semaphore: &'a $semaphore,
            count: u32,
        }

        impl $permit<'_> {
            /// Keeps the permits without this value. To give them back later use
            #[doc = concat!("[`", stringify!($semaphore), "::release`].")]
            pub fn forget(self) {
                mem::forget(self);
            }
        }

        impl Drop for $permit<'_> {
            #[inline]
            fn drop(&mut self) {
                // Fails in a forked child, which has no permits, on a corrupt region, and if
                // somebody released permits that this value holds.
                let _ = self.semaphore.release(self.count);
            }
        }

        impl fmt::Debug for $permit<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($permit)).field("count", &self.count).finish_non_exhaustive()
            }
        }
    };
}

pub(super) use permits;

/// A number of permits that any process may take and any may give, like a `sem_t`.
///
/// Permits have no owners. Those that a process held when it was killed are lost. Where that
/// matters use a [`BoundedSemaphore`](crate::sync::BoundedSemaphore).
///
/// Callers that want one permit get it in the order that a [`Mutex`](crate::sync::Mutex#fairness)
/// keeps.
///
/// ```
/// use tombolo::sync::{Semaphore, SyncError};
///
/// let slots = Semaphore::new(2)?;
/// let permit = slots.acquire()?;
/// assert_eq!(slots.available()?, 1);
/// assert_eq!(slots.try_acquire_many(2).unwrap_err(), SyncError::WouldBlock);
/// drop(permit);
///
/// // A permit that one process takes, and another gives.
/// slots.acquire()?.forget();
/// slots.release(1)?;
/// assert_eq!(slots.available()?, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Implementation: Dijkstra's semaphore in `raw/semaphore.rs`.
#[derive(Clone)]
pub struct Semaphore {
    handle: Handle,
    inner: Arc<SemaphoreInner>,
}

struct SemaphoreInner {
    permits: semaphore::Semaphore<Mapped>,
    queues: WaitQueues,
}

/// A wait for permits of a semaphore.
struct SemaphoreWait<'a> {
    inner: &'a SemaphoreInner,
    count: u64,
}

impl Contended for SemaphoreWait<'_> {
    type Taken = ();

    fn event(&self) -> &EventCount<Mapped> {
        self.inner.queues.event(self.count)
    }

    fn fair_event(&self) -> &EventCount<Mapped> {
        &self.inner.queues.one
    }

    fn is_free(&self) -> bool {
        self.inner.permits.available() != Ok(0)
    }

    fn try_take(&self) -> Result<Option<()>, SyncError> {
        Ok(self.inner.permits.try_acquire(self.count)?.then_some(()))
    }

    /// Permits have no owners.
    fn check_liveness(&self) -> Option<WaitEnd> {
        None
    }
}

impl Source for Semaphore {}

impl Watch for Semaphore {
    fn is_ready(&mut self, attempt: Attempt) -> bool {
        self.inner.permits.available() != Ok(0) || attempt == Attempt::Full && self.handle.check_process().is_err()
    }

    fn event(&self, index: usize) -> Option<&EventCount<Mapped>> {
        (index == 0).then_some(&self.inner.queues.one)
    }
}

permits!(Semaphore, Permit);

impl Semaphore {
    pub(crate) fn from_handle(handle: Handle) -> Self {
        let permits = semaphore::Semaphore::new(handle.word(STATE));
        let inner = SemaphoreInner { permits, queues: WaitQueues::new(&handle) };
        Self { handle, inner: Arc::new(inner) }
    }

    #[inline]
    fn acquire_until(&self, count: u32, until: Timeout) -> Result<(), SyncError> {
        let count = u64::from(count);
        if self.try_first(count)? {
            return Ok(());
        }
        self.check_limit(count)?;
        wait_fairly(&self.handle, &self.waiting_for(count), until)
    }

    /// The attempt of a newcomer.
    #[inline]
    fn try_first(&self, count: u64) -> Result<bool, SyncError> {
        self.handle.check_process()?;
        let SemaphoreInner { permits, queues } = &*self.inner;
        Ok((count == 0 || !queues.no_barging()) && permits.try_acquire(count)?)
    }

    fn check_limit(&self, count: u64) -> Result<(), SyncError> {
        if count > MAX_PERMITS { Err(SyncError::LimitExceeded { count, limit: MAX_PERMITS }) } else { Ok(()) }
    }

    fn waiting_for(&self, count: u64) -> SemaphoreWait<'_> {
        SemaphoreWait { inner: &self.inner, count }
    }

    /// Adds permits, of any process. A signal handler may call this.
    ///
    /// # Blocking
    ///
    /// Never. Makes a system call if somebody waits.
    ///
    /// # Errors
    ///
    /// - [`LimitExceeded`](SyncError::LimitExceeded) if there would be more than 2^31 - 1 permits.
    /// - [`Forked`](SyncError::Forked), [`Corrupt`](SyncError::Corrupt).
    #[inline]
    pub fn release(&self, count: u32) -> Result<(), SyncError> {
        self.handle.check_process()?;
        let SemaphoreInner { permits, queues } = &*self.inner;
        if !permits.release(count.into())? {
            return Err(SyncError::LimitExceeded {
                count: permits.available()? + u64::from(count),
                limit: MAX_PERMITS,
            });
        }
        queues.notify(count);
        Ok(())
    }

    /// Returns how many permits can be acquired now. Others change that at any time.
    ///
    /// # Blocking
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](SyncError::Corrupt).
    pub fn available(&self) -> Result<u32, SyncError> {
        Ok(self.inner.permits.available()? as u32)
    }
}

object!(Semaphore, ObjectSpec::without_value(ObjectKind::Semaphore, 0), |this| &this.handle);

/// The words of a semaphore.
pub(crate) mod words {
    /// For waiters that want more than one permit.
    pub(crate) const MULTI_PERMIT_EVENT: usize = 2;
}

pub(super) struct SemaphoreKind;

impl Kind for SemaphoreKind {
    fn name(&self) -> &'static str {
        "semaphore"
    }

    fn check(&self, spec: &ObjectSpec) -> error::Result<()> {
        spec.expect_no_value()?;
        if spec.count > MAX_PERMITS {
            spec.expect_count("number of permits", MAX_PERMITS, "begin with fewer")
        } else {
            Ok(())
        }
    }

    fn footprint(&self, _: &ObjectSpec, _: usize) -> Option<usize> {
        Some(words::MULTI_PERMIT_EVENT + 1)
    }

    fn describe(&self, object: &ObjectWords<'_>) -> Description {
        // edge: snapshot
        let state = format!("{} permits left", object.word(STATE).load(Ordering::Acquire));
        Description { state, ..Description::default() }
    }

    fn type_name(&self, _: &ObjectSpec, count: Option<u64>) -> String {
        match count {
            Some(count) => format!("a semaphore that began with {count} permits"),
            None => "a semaphore".to_string(),
        }
    }
}
