//! Permits that processes take and give.
//!
//! ```text
//! words
//!      0  available               of a bounded semaphore: unused
//!      1  event
//!      2  multi-permit event
//!     16  owners                  a word for each permit of a bounded semaphore
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{self, SyncError};
use crate::object::fairness::{Contended, wait_fairly};
use crate::object::kind::{Description, ELEMENTS_OFFSET, EVENT, Kind, ObjectKind, ObjectWords, STATE};
use crate::object::spec::ObjectSpec;
use crate::object::{Handle, object};
use crate::primitive::Ordering;
use crate::raw::event_count::EventCount;
use crate::raw::pool::Pool;
use crate::raw::semaphore::{self, MOST};
use crate::region::words::Mapped;
use crate::wait::{Timeout, WaitEnd};

/// Scans for this process's permits, which other threads may move behind a scan.
const MAX_SCANS: u32 = 32;

/// What waiters sleep on. Those that want several permits sleep apart: one permit may be of no use to
/// them. They never set the NO_BARGING bit, which would keep single permits from others.
struct WaitQueues {
    one: EventCount<Mapped>,
    several: EventCount<Mapped>,
}

impl WaitQueues {
    fn new(handle: &Handle) -> Self {
        Self { one: handle.event(EVENT), several: handle.event(words::MULTI_PERMIT_EVENT) }
    }

    /// What a waiter for `count` permits sleeps on.
    fn event(&self, count: u64) -> &EventCount<Mapped> {
        if count > 1 { &self.several } else { &self.one }
    }

    /// Call when `count` more permits can be taken.
    #[inline]
    fn notify(&self, count: u32) {
        self.one.notify(count);
        self.several.notify(u32::MAX);
    }

    #[inline]
    fn no_barging(&self) -> bool {
        self.one.no_barging()
    }
}

/// A number of permits that any process may take and any may give, as `sem_t` has.
///
/// Nobody owns permits, so those that a process took before it was killed stay taken: where that matters use a
/// [`BoundedSemaphore`]. Fairness: as a [`Mutex`](crate::sync::Mutex)'s, for one permit. Who wants several at once waits until there are so many, keeps
/// none meanwhile, and can be overtaken by those who want fewer.
///
/// ```
/// let slots = tombolo::Semaphore::new(2)?;
/// slots.acquire(1)?;
/// assert_eq!(slots.available()?, 1);
/// assert_eq!(slots.try_acquire(2), Err(tombolo::SyncError::WouldBlock));
/// slots.release(1)?;
/// let permit = slots.permit()?; // given back when dropped
/// # drop(permit);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// **Source**: Dijkstra's, see `raw/semaphore.rs`.
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

impl Semaphore {
    pub(crate) fn from_handle(handle: Handle) -> Self {
        let permits = semaphore::Semaphore::new(handle.word(STATE));
        let inner = SemaphoreInner { permits, queues: WaitQueues::new(&handle) };
        Self { handle, inner: Arc::new(inner) }
    }

    /// Takes so many permits, all at once.
    ///
    /// **Blocking**: until there are so many, without end; parks by `futex`. With enough: no system call.
    /// **Errors**: [`TooMany`](SyncError::LimitExceeded), [`Forked`](SyncError::Forked), [`Corrupt`](SyncError::Corrupt).
    #[inline]
    pub fn acquire(&self, count: u32) -> Result<(), SyncError> {
        self.acquire_until(count, Timeout::NEVER)
    }

    /// Like [`acquire`](Self::acquire), but never waits: [`WouldBlock`](SyncError::WouldBlock).
    #[inline]
    pub fn try_acquire(&self, count: u32) -> Result<(), SyncError> {
        self.acquire_until(count, Timeout::NonBlocking)
    }

    /// Like [`acquire`](Self::acquire), but waits no longer than `timeout`, then [`TimedOut`](SyncError::TimedOut).
    pub fn acquire_timeout(&self, count: u32, timeout: Duration) -> Result<(), SyncError> {
        self.acquire_until(count, Timeout::after(timeout))
    }

    #[inline]
    fn acquire_until(&self, count: u32, until: Timeout) -> Result<(), SyncError> {
        self.handle.check_process()?;
        let SemaphoreInner { permits, queues } = &*self.inner;
        let count = u64::from(count);
        if (count == 0 || !queues.no_barging()) && permits.try_acquire(count)? {
            return Ok(());
        }
        if count > MOST {
            return Err(SyncError::LimitExceeded { count, limit: MOST });
        }
        wait_fairly(&self.handle, &SemaphoreWait { inner: &self.inner, count }, until)
    }

    /// Gives so many permits, whoever took them. A signal handler may do that.
    ///
    /// **Blocking**: never; a system call if somebody waits. **Errors**: [`TooMany`](SyncError::LimitExceeded) if there would be more than 2^31 - 1,
    /// [`Forked`](SyncError::Forked), [`Corrupt`](SyncError::Corrupt).
    #[inline]
    pub fn release(&self, count: u32) -> Result<(), SyncError> {
        self.handle.check_process()?;
        let SemaphoreInner { permits, queues } = &*self.inner;
        if !permits.release(count.into())? {
            return Err(SyncError::LimitExceeded { count: permits.available()? + u64::from(count), limit: MOST });
        }
        queues.notify(count);
        Ok(())
    }

    /// Permits that can be taken now; others change that at any time.
    pub fn available(&self) -> Result<u32, SyncError> {
        Ok(self.inner.permits.available()? as u32)
    }

    /// Takes one permit, and gives it back when dropped. Else like [`acquire`](Self::acquire).
    pub fn permit(&self) -> Result<Permit<'_, Self>, SyncError> {
        self.acquire(1)?;
        Ok(Permit { semaphore: self })
    }

    /// Like [`permit`](Self::permit), but never waits: [`WouldBlock`](SyncError::WouldBlock).
    pub fn try_permit(&self) -> Result<Permit<'_, Self>, SyncError> {
        self.try_acquire(1)?;
        Ok(Permit { semaphore: self })
    }
}

object!(Semaphore, ObjectSpec::without_value(ObjectKind::Semaphore, 0), |this| &this.handle);

/// A fixed number of permits, each of which the process that took it owns.
///
/// Giving back more than this process took is an error. When a process is killed its permits come back: within 20 ms (90 ms after a while) if
/// somebody waits for them, else when somebody next tries, or joins. Threads of one process share what they took.
///
/// Fairness: as [`Semaphore`].
///
/// ```
/// let slots = tombolo::BoundedSemaphore::new(2)?;
/// slots.acquire(2)?;
/// slots.release(2)?;
/// assert_eq!(slots.release(1), Err(tombolo::SyncError::NotOwner));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// **Source**: one owner word for each permit, see `raw/pool.rs`.
#[derive(Clone)]
pub struct BoundedSemaphore {
    handle: Handle,
    inner: Arc<BoundedInner>,
}

struct BoundedInner {
    permits: Pool<Mapped>,
    queues: WaitQueues,
}

/// A wait for permits of a bounded semaphore.
struct BoundedWait<'a> {
    semaphore: &'a BoundedSemaphore,
    count: u64,
}

impl Contended for BoundedWait<'_> {
    type Taken = ();

    fn event(&self) -> &EventCount<Mapped> {
        self.semaphore.inner.queues.event(self.count)
    }

    fn fair_event(&self) -> &EventCount<Mapped> {
        &self.semaphore.inner.queues.one
    }

    fn is_free(&self) -> bool {
        self.semaphore.inner.permits.taken() < self.semaphore.handle.spec.count
    }

    fn try_take(&self) -> Result<Option<()>, SyncError> {
        Ok(self.semaphore.try_take(self.count).then_some(()))
    }

    /// Whatever one owner's state is, it or another may still return a permit.
    fn check_liveness(&self) -> Option<WaitEnd> {
        self.semaphore.handle.membership.check_liveness(self.semaphore.inner.permits.lanes());
        None
    }
}

impl BoundedSemaphore {
    pub(crate) fn from_handle(handle: Handle) -> Self {
        let inner = BoundedInner { permits: permits(&handle.object()), queues: WaitQueues::new(&handle) };
        Self { handle, inner: Arc::new(inner) }
    }

    /// Takes so many permits, all at once.
    ///
    /// **Blocking**: until there are so many, without end; parks by `futex`. With enough: no system call.
    /// **Errors**: [`TooMany`](SyncError::LimitExceeded) if there are never so many, [`Forked`](SyncError::Forked).
    #[inline]
    pub fn acquire(&self, count: u32) -> Result<(), SyncError> {
        self.acquire_until(count, Timeout::NEVER)
    }

    /// Like [`acquire`](Self::acquire), but never waits: [`WouldBlock`](SyncError::WouldBlock).
    #[inline]
    pub fn try_acquire(&self, count: u32) -> Result<(), SyncError> {
        self.acquire_until(count, Timeout::NonBlocking)
    }

    /// Like [`acquire`](Self::acquire), but waits no longer than `timeout`, then [`TimedOut`](SyncError::TimedOut).
    pub fn acquire_timeout(&self, count: u32, timeout: Duration) -> Result<(), SyncError> {
        self.acquire_until(count, Timeout::after(timeout))
    }

    #[inline]
    fn acquire_until(&self, count: u32, until: Timeout) -> Result<(), SyncError> {
        self.handle.check_process()?;
        let count = u64::from(count);
        if (count == 0 || !self.inner.queues.no_barging()) && self.try_take(count) {
            return Ok(());
        }
        self.acquire_slow(count, until)
    }

    #[cold]
    fn acquire_slow(&self, count: u64, timeout: Timeout) -> Result<(), SyncError> {
        let bound = self.handle.spec.count;
        if count > bound {
            return Err(SyncError::LimitExceeded { count, limit: bound });
        }
        wait_fairly(&self.handle, &BoundedWait { semaphore: self, count }, timeout)
    }

    /// Takes `count` permits, or none.
    #[inline]
    fn try_take(&self, count: u64) -> bool {
        let BoundedInner { permits, queues } = &*self.inner;
        let (participant, bound) = (self.handle.participant, self.handle.spec.count);
        if count > 1 && bound.saturating_sub(permits.taken()) < count {
            return false;
        }
        let mut taken = 0;
        let mut hint = self.handle.local.hint.load(Ordering::Relaxed); // where to look first
        while taken < count {
            let permit = permits.take_at(participant, hint).or_else(|| permits.take(participant, 0, bound, hint));
            let Some(permit) = permit else { break };
            hint = permit.place;
            taken += 1;
        }
        if taken == count {
            self.handle.local.hint.store(hint, Ordering::Relaxed); // a hint
            return true;
        }
        if taken > 0 {
            let _ = self.give_back(taken);
            queues.notify(taken as u32);
        }
        false
    }

    /// Gives back up to `count` permits of this process. Returns how many it had.
    #[inline]
    fn give_back(&self, count: u64) -> u64 {
        let permits = &self.inner.permits;
        let hint = self.handle.local.hint.load(Ordering::Relaxed);
        // The permit that was taken last is most likely this process's.
        let first = permits.at(self.handle.participant, hint).is_some_and(|permit| permits.give_back(permit));
        if first && count == 1 { 1 } else { self.give_back_scan(count, u64::from(first)) }
    }

    /// Whether this process has `count` permits, as far as that can be seen while its other threads
    /// take and give back.
    fn holds(&self, count: usize) -> bool {
        let own = || self.inner.permits.of(self.handle.participant);
        (0..MAX_SCANS).any(|_| own().take(count).count() == count)
    }

    #[cold]
    fn give_back_scan(&self, count: u64, mut given: u64) -> u64 {
        let permits = &self.inner.permits;
        // Other threads may move permits behind a scan: the next one finds them.
        for _ in 0..MAX_SCANS {
            for permit in permits.of(self.handle.participant) {
                if given == count {
                    return given;
                }
                given += u64::from(permits.give_back(permit));
            }
        }
        given
    }

    /// Gives back so many permits that this process took.
    ///
    /// **Blocking**: never; a system call if somebody waits. **Errors**: [`NotOwner`](SyncError::NotOwner) if it has fewer: then none is given
    /// back (unless threads of this process race for the last ones), [`Forked`](SyncError::Forked).
    #[inline]
    pub fn release(&self, count: u32) -> Result<(), SyncError> {
        self.handle.check_process()?;
        if count == 0 {
            return Ok(());
        }
        let wanted = u64::from(count);
        if count > 1 && !self.holds(count as usize) {
            return Err(SyncError::NotOwner);
        }
        let given = self.give_back(wanted);
        self.inner.queues.notify(given as u32);
        if given == wanted { Ok(()) } else { Err(SyncError::NotOwner) }
    }

    /// Permits that can be taken now; others change that at any time.
    pub fn available(&self) -> u32 {
        self.handle.spec.count.saturating_sub(self.inner.permits.taken()) as u32
    }

    /// All permits.
    pub fn bound(&self) -> u32 {
        self.handle.spec.count as u32
    }

    /// Takes one permit, and gives it back when dropped. Else like [`acquire`](Self::acquire).
    pub fn permit(&self) -> Result<Permit<'_, Self>, SyncError> {
        self.acquire(1)?;
        Ok(Permit { semaphore: self })
    }

    /// Like [`permit`](Self::permit), but never waits: [`WouldBlock`](SyncError::WouldBlock).
    pub fn try_permit(&self) -> Result<Permit<'_, Self>, SyncError> {
        self.try_acquire(1)?;
        Ok(Permit { semaphore: self })
    }
}

object!(BoundedSemaphore, ObjectSpec::without_value(ObjectKind::BoundedSemaphore, 0), |this| &this.handle);

/// One permit, given back when dropped.
pub struct Permit<'a, S: sealed::Release> {
    semaphore: &'a S,
}

mod sealed {
    pub trait Release {
        fn give_back(&self);
    }

    impl Release for super::Semaphore {
        fn give_back(&self) {
            // Fails only in a forked child, which has none, or on a corrupt region.
            let _ = self.release(1);
        }
    }

    impl Release for super::BoundedSemaphore {
        fn give_back(&self) {
            // As above, or if somebody gave back more than was his to give.
            let _ = self.release(1);
        }
    }
}

impl<S: sealed::Release> Drop for Permit<'_, S> {
    fn drop(&mut self) {
        self.semaphore.give_back();
    }
}

impl<S: sealed::Release> fmt::Debug for Permit<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

/// The words of a semaphore.
pub(crate) mod words {
    /// For waiters that want more than one permit.
    pub(crate) const MULTI_PERMIT_EVENT: usize = 2;
}

/// Permits of a bounded semaphore.
const MAX_BOUND: u64 = 1 << 16;

pub(super) struct SemaphoreKind;

impl Kind for SemaphoreKind {
    fn name(&self) -> &'static str {
        "semaphore"
    }

    fn check(&self, spec: &ObjectSpec) -> error::Result<()> {
        spec.expect_no_value()?;
        if spec.count > MOST { spec.expect_count("number of permits", MOST, "begin with fewer") } else { Ok(()) }
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

/// The owners of a bounded semaphore's permits.
fn permits(object: &ObjectWords<'_>) -> Pool<Mapped> {
    Pool::new(object.words(ELEMENTS_OFFSET, object.spec.count as usize))
}

pub(super) struct BoundedSemaphoreKind;

impl Kind for BoundedSemaphoreKind {
    fn name(&self) -> &'static str {
        "bounded semaphore"
    }

    fn check(&self, spec: &ObjectSpec) -> error::Result<()> {
        spec.expect_no_value()?;
        spec.expect_count("number of permits", MAX_BOUND, "give it a permit at least, or use a mutex")
    }

    fn footprint(&self, spec: &ObjectSpec, _: usize) -> Option<usize> {
        ELEMENTS_OFFSET.checked_add(spec.count.try_into().ok()?)
    }

    /// For all participants at once: a pass over the permits of a large semaphore takes long.
    fn release_dead(&self, object: &ObjectWords<'_>, participants: &[usize]) {
        let participants: BTreeSet<usize> = participants.iter().copied().collect();
        let returned = permits(object).give_back_all(|owner| participants.contains(&owner));
        if returned > 0 {
            object.event(EVENT).wake(u32::try_from(returned).unwrap_or(u32::MAX));
            object.event(words::MULTI_PERMIT_EVENT).wake(u32::MAX);
        }
    }

    fn repair_cost(&self, spec: &ObjectSpec, _: usize) -> usize {
        spec.count as usize
    }

    fn steps(&self, spec: &ObjectSpec) -> u64 {
        spec.count
    }

    fn describe(&self, object: &ObjectWords<'_>) -> Description {
        let (permits, count) = (permits(object), object.spec.count);
        let mut users: Vec<usize> = permits.owners().filter(|&owner| owner < object.participants()).collect();
        users.sort_unstable();
        let state = format!("{} of {count} permits left", count.saturating_sub(permits.taken()));
        Description { users, state, ..Description::default() }
    }

    fn length(&self, spec: &ObjectSpec) -> Option<u64> {
        Some(spec.count)
    }

    fn type_name(&self, _: &ObjectSpec, count: Option<u64>) -> String {
        match count {
            Some(count) => format!("a bounded semaphore of {count} permits"),
            None => "a bounded semaphore".to_string(),
        }
    }
}
