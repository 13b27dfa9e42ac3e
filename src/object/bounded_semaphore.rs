//! Permits that belong to the processes that took them.
//!
//! ```text
//! words
//!      1  event
//!      2  multi-permit event
//!     16  owners              a word for each permit
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{self, SyncError};
use crate::object::fairness::{Contended, wait_fairly};
use crate::object::kind::{Description, ELEMENTS_OFFSET, EVENT, Kind, ObjectKind, ObjectWords};
use crate::object::semaphore::{WaitQueues, permits, words};
use crate::object::spec::ObjectSpec;
use crate::object::{Handle, object};
use crate::primitive::Ordering;
use crate::raw::event_count::EventCount;
use crate::raw::pool::Pool;
use crate::region::words::Mapped;
use crate::sys::clock::Deadline;
use crate::wait::source::{Source, sealed::Watch};
use crate::wait::{Attempt, Timeout, WaitEnd};

/// Scans for this process's permits, which other threads may move behind a scan.
const MAX_SCANS: u32 = 32;

/// A fixed number of permits, each owned by the process that took it.
///
/// A process cannot release more than it took; its threads share what they took. When a process is
/// killed its permits come back: within 20 ms (90 ms after a while) if somebody waits for them,
/// otherwise when somebody next tries to acquire one, or joins.
///
/// Callers that want one permit get it in the order that a [`Mutex`](crate::sync::Mutex#fairness)
/// keeps.
///
/// ```
/// use tombolo::sync::{BoundedSemaphore, SyncError};
///
/// let slots = BoundedSemaphore::new(2)?;
/// let permits = slots.acquire_many(2)?;
/// assert_eq!(slots.available(), 0);
/// drop(permits);
/// assert_eq!(slots.release(1), Err(SyncError::NotOwner));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Implementation: an owner word for each permit, in `raw/pool.rs`.
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
        self.semaphore.inner.permits.allocated() < self.semaphore.handle.spec.count
    }

    fn try_take(&self) -> Result<Option<()>, SyncError> {
        Ok(self.semaphore.try_take(self.count).then_some(()))
    }

    /// Whatever one owner's state is, it or another may still return a permit.
    fn check_liveness(&self) -> Option<WaitEnd> {
        self.semaphore.handle.membership.check_liveness(self.semaphore.inner.permits.participants());
        None
    }
}

impl Source for BoundedSemaphore {}

impl Watch for BoundedSemaphore {
    fn is_ready(&mut self, attempt: Attempt) -> bool {
        self.inner.permits.allocated() < self.handle.spec.count
            || attempt == Attempt::Full && self.handle.check_process().is_err()
    }

    /// Repair of a dead owner releases its permits.
    fn check_liveness(&mut self, _: Deadline) {
        self.handle.membership.check_liveness(self.inner.permits.participants());
    }

    fn event(&self, index: usize) -> Option<&EventCount<Mapped>> {
        (index == 0).then_some(&self.inner.queues.one)
    }
}

permits!(BoundedSemaphore, BoundedPermit);

impl BoundedSemaphore {
    pub(crate) fn from_handle(handle: Handle) -> Self {
        let inner = BoundedInner { permits: permits(&handle.object()), queues: WaitQueues::new(&handle) };
        Self { handle, inner: Arc::new(inner) }
    }

    #[inline]
    fn acquire_until(&self, count: u32, until: Timeout) -> Result<(), SyncError> {
        let count = u64::from(count);
        if self.try_first(count)? {
            return Ok(());
        }
        self.acquire_slow(count, until)
    }

    #[cold]
    fn acquire_slow(&self, count: u64, timeout: Timeout) -> Result<(), SyncError> {
        self.check_limit(count)?;
        wait_fairly(&self.handle, &self.waiting_for(count), timeout)
    }

    /// The attempt of a newcomer.
    #[inline]
    fn try_first(&self, count: u64) -> Result<bool, SyncError> {
        self.handle.check_process()?;
        Ok((count == 0 || !self.inner.queues.no_barging()) && self.try_take(count))
    }

    fn check_limit(&self, count: u64) -> Result<(), SyncError> {
        let limit = self.handle.spec.count;
        if count > limit { Err(SyncError::LimitExceeded { count, limit }) } else { Ok(()) }
    }

    fn waiting_for(&self, count: u64) -> BoundedWait<'_> {
        BoundedWait { semaphore: self, count }
    }

    /// Takes `count` permits, or none.
    #[inline]
    fn try_take(&self, count: u64) -> bool {
        let BoundedInner { permits, queues } = &*self.inner;
        let (participant, bound) = (self.handle.participant, self.handle.spec.count);
        if count > 1 && bound.saturating_sub(permits.allocated()) < count {
            return false;
        }
        let mut taken = 0;
        let mut hint = self.handle.local.hint.load(Ordering::Relaxed); // where to begin
        while taken < count {
            let permit =
                permits.allocate_at(participant, hint).or_else(|| permits.allocate(participant, 0, bound, hint));
            let Some(permit) = permit else { break };
            hint = permit.block;
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
        let first = permits.owned_at(self.handle.participant, hint).is_some_and(|permit| permits.free(permit));
        if first && count == 1 { 1 } else { self.give_back_scan(count, u64::from(first)) }
    }

    /// Whether this process has `count` permits, as far as that can be seen while its other threads
    /// take and give back.
    fn holds(&self, count: usize) -> bool {
        let own = || self.inner.permits.owned_by(self.handle.participant);
        (0..MAX_SCANS).any(|_| own().take(count).count() == count)
    }

    #[cold]
    fn give_back_scan(&self, count: u64, mut given: u64) -> u64 {
        let permits = &self.inner.permits;
        // Other threads may move permits behind a scan: the next one finds them.
        for _ in 0..MAX_SCANS {
            for permit in permits.owned_by(self.handle.participant) {
                if given == count {
                    return given;
                }
                given += u64::from(permits.free(permit));
            }
        }
        given
    }

    /// Releases permits that this process took and [forgot](BoundedPermit::forget).
    ///
    /// # Blocking
    ///
    /// Never. Makes a system call if somebody waits.
    ///
    /// # Errors
    ///
    /// - [`NotOwner`](SyncError::NotOwner) if this process has fewer. None is released then, unless
    ///   threads of this process race for the last ones.
    /// - [`Forked`](SyncError::Forked).
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

    /// Returns how many permits can be acquired now. Others change that at any time.
    pub fn available(&self) -> u32 {
        self.handle.spec.count.saturating_sub(self.inner.permits.allocated()) as u32
    }

    /// Returns how many permits there are in all.
    pub fn bound(&self) -> u32 {
        self.handle.spec.count as u32
    }
}

object!(BoundedSemaphore, ObjectSpec::without_value(ObjectKind::BoundedSemaphore, 0), |this| &this.handle);

/// Permits of a bounded semaphore.
const MAX_BOUND: u64 = 1 << 16;

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
        let returned = permits(object).free_all(|owner| participants.contains(&owner));
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
        let state = format!("{} of {count} permits left", count.saturating_sub(permits.allocated()));
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
