//! Permits that processes take and give.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::SyncError;
use crate::object::lock::Handle;
use crate::object::object;
use crate::object::table::{EVENT, MANY, ObjectKind, ObjectSpec, STATE, permits};
use crate::primitive::Ordering;
use crate::raw::event_count::EventCount;
use crate::raw::pool::Pool;
use crate::raw::semaphore::{self, MAX_PERMITS};
use crate::region::words::Mapped;
use crate::wait::{Timeout, WaitEnd};

/// Looks for permits that other threads move behind us, before they are not there.
const ROUNDS: u32 = 32;

/// Where those who wait sleep: apart, because a permit may be of no use to one who wants several.
struct Ears {
    one: EventCount<Mapped>,
    several: EventCount<Mapped>,
}

impl Ears {
    fn new(handle: &Handle) -> Self {
        Self { one: handle.event(EVENT), several: handle.event(permits::SEVERAL) }
    }

    /// Waits for so many permits, in turn. Who wants several bars nobody, which would keep from others what is of no use to itself.
    fn wait(
        &self,
        handle: &Handle,
        count: u64,
        until: Timeout,
        is_free: impl Fn() -> bool,
        ask: impl FnMut() -> Option<WaitEnd>,
        attempt: impl FnMut() -> Result<Option<()>, SyncError>,
    ) -> Result<(), SyncError> {
        let ear = if count > 1 { &self.several } else { &self.one };
        handle.attempt_in_turn(ear, &self.one, until, is_free, ask, attempt)
    }

    /// So many permits can be taken.
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
    parts: Arc<(semaphore::Semaphore<Mapped>, Ears)>,
}

impl Semaphore {
    pub(crate) fn from_handle(handle: Handle) -> Self {
        let parts = (semaphore::Semaphore::new(handle.word(STATE)), Ears::new(&handle));
        Self { handle, parts: Arc::new(parts) }
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
        self.handle.check_ours()?;
        let (permits, ears) = &*self.parts;
        let count = u64::from(count);
        if (count == 0 || !ears.no_barging()) && permits.try_acquire(count)? {
            return Ok(());
        }
        if count > MAX_PERMITS {
            return Err(SyncError::LimitExceeded { count, limit: MAX_PERMITS });
        }
        let is_free = || permits.available() != Ok(0);
        ears.wait(&self.handle, count, until, is_free, || None, || Ok(permits.try_acquire(count)?.then_some(())))
    }

    /// Gives so many permits, whoever took them. A signal handler may do that.
    ///
    /// **Blocking**: never; a system call if somebody waits. **Errors**: [`TooMany`](SyncError::LimitExceeded) if there would be more than 2^31 - 1,
    /// [`Forked`](SyncError::Forked), [`Corrupt`](SyncError::Corrupt).
    #[inline]
    pub fn release(&self, count: u32) -> Result<(), SyncError> {
        self.handle.check_ours()?;
        let (permits, ears) = &*self.parts;
        if !permits.release(count.into())? {
            return Err(SyncError::LimitExceeded {
                count: permits.available()? + u64::from(count),
                limit: MAX_PERMITS,
            });
        }
        ears.notify(count);
        Ok(())
    }

    /// Permits that can be taken now; others change that at any time.
    pub fn available(&self) -> Result<u32, SyncError> {
        Ok(self.parts.0.available()? as u32)
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

object!(Semaphore, ObjectSpec::bare(ObjectKind::Semaphore, 0), |this| &this.handle);

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
    parts: Arc<(Pool<Mapped>, Ears)>,
}

impl BoundedSemaphore {
    pub(crate) fn from_handle(handle: Handle) -> Self {
        let bound = handle.plan.count as usize;
        let parts = (Pool::new(handle.words(MANY, bound)), Ears::new(&handle));
        Self { handle, parts: Arc::new(parts) }
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
        self.handle.check_ours()?;
        let count = u64::from(count);
        if (count == 0 || !self.parts.1.no_barging()) && self.take(count) {
            return Ok(());
        }
        self.acquire_slowly(count, until)
    }

    #[cold]
    fn acquire_slowly(&self, count: u64, until: Timeout) -> Result<(), SyncError> {
        let (permits, ears) = &*self.parts;
        let bound = self.handle.plan.count;
        if count > bound {
            return Err(SyncError::LimitExceeded { count, limit: bound });
        }
        // One who cannot be told dead may still give a permit back; so may the others.
        let ask = || self.handle.member.ask(permits.participants()).filter(|_| false);
        let is_free = || permits.allocated() < bound;
        ears.wait(&self.handle, count, until, is_free, ask, || Ok(self.take(count).then_some(())))
    }

    /// Takes all of so many, or none.
    #[inline]
    fn take(&self, count: u64) -> bool {
        let (permits, ears) = &*self.parts;
        let (lane, bound) = (self.handle.member.lane(), self.handle.plan.count);
        let Some(local) = self.handle.member.local(self.handle.object) else { return false };
        if count > 1 && bound.saturating_sub(permits.allocated()) < count {
            return false;
        }
        let mut taken = 0;
        let mut hint = local.hint.load(Ordering::Relaxed); // where to look first
        while taken < count {
            let token = permits.allocate_at(lane, hint).or_else(|| permits.allocate(lane, 0, bound, hint));
            let Some(token) = token else { break };
            hint = token.block;
            taken += 1;
        }
        if taken == count {
            local.hint.store(hint, Ordering::Relaxed); // a hint
            return true;
        }
        if taken > 0 {
            let _ = self.give(taken);
            ears.notify(taken as u32);
        }
        false
    }

    /// Gives back so many of this process's; how many it had.
    #[inline]
    fn give(&self, count: u64) -> u64 {
        let permits = &self.parts.0;
        let lane = self.handle.member.lane();
        let hint = self.handle.member.local(self.handle.object).map_or(0, |local| local.hint.load(Ordering::Relaxed));
        // Where the last one was taken is one of ours, most likely.
        let first = permits.owned_at(lane, hint).is_some_and(|token| permits.free(token));
        if first && count == 1 { 1 } else { self.give_more(count, u64::from(first)) }
    }

    /// Whether this process has so many, as far as can be seen while its other threads take and give.
    fn has(&self, count: usize) -> bool {
        let lane = self.handle.member.lane();
        (0..ROUNDS).any(|_| self.parts.0.owned_by(lane).take(count).count() == count)
    }

    #[cold]
    fn give_more(&self, count: u64, mut given: u64) -> u64 {
        let permits = &self.parts.0;
        // Other threads take and give meanwhile: what they moved behind us is found by going round.
        for _ in 0..ROUNDS {
            for token in permits.owned_by(self.handle.member.lane()) {
                if given == count {
                    return given;
                }
                given += u64::from(permits.free(token));
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
        self.handle.check_ours()?;
        if count == 0 {
            return Ok(());
        }
        let wanted = u64::from(count);
        if count > 1 && !self.has(count as usize) {
            return Err(SyncError::NotOwner);
        }
        let given = self.give(wanted);
        self.parts.1.notify(given as u32);
        if given == wanted { Ok(()) } else { Err(SyncError::NotOwner) }
    }

    /// Permits that can be taken now; others change that at any time.
    pub fn available(&self) -> u32 {
        self.handle.plan.count.saturating_sub(self.parts.0.allocated()) as u32
    }

    /// All permits.
    pub fn bound(&self) -> u32 {
        self.handle.plan.count as u32
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

object!(BoundedSemaphore, ObjectSpec::bare(ObjectKind::BoundedSemaphore, 0), |this| &this.handle);

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
