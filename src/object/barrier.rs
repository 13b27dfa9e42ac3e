//! A meeting of processes.
//!
//! ```text
//! words
//!      0  state
//!      1  event
//!     16  arrivals  a word for each participant
//! ```

use std::sync::Arc;
use std::time::Duration;

use crate::error::{self, SyncError};
use crate::object::fairness::wait_for;
use crate::object::kind::{Description, ELEMENTS_OFFSET, EVENT, Kind, ObjectKind, ObjectWords, STATE};
use crate::object::spec::ObjectSpec;
use crate::object::{Handle, object};
use crate::raw::barrier::{self, Arrival, Outcome};
use crate::raw::event_count::EventCount;
use crate::region::words::Mapped;
use crate::wait::Timeout;

/// Lets a number of parties, processes or threads, wait for each other, again and again.
///
/// A party that gives up waiting breaks the barrier. So does a process that dies while it waits,
/// unless the last party arrives before that is noticed. All parties that wait or arrive then get
/// [`BarrierBroken`](SyncError::BarrierBroken) with the process that broke it, until the barrier is
/// [`reset`](Self::reset).
///
/// The death of a process that has not arrived yet is not noticed. Use a timeout where that
/// matters.
///
/// A waiter that sleeps through a reset and six further generations returns as if its own had been
/// complete.
///
/// ```
/// use tombolo::sync::Barrier;
///
/// let start = Barrier::new(2)?;
/// let other = start.clone();
/// let thread = std::thread::spawn(move || other.wait());
/// let own = start.wait()?;
/// let theirs = thread.join().unwrap()?;
/// assert!(own.is_leader() != theirs.is_leader());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Implementation: `raw/barrier.rs`.
#[derive(Clone)]
pub struct Barrier {
    handle: Handle,
    inner: Arc<Inner>,
}

struct Inner {
    barrier: barrier::Barrier<Mapped>,
    event: EventCount<Mapped>,
}

/// What [`Barrier::wait`] returns when all parties have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult {
    index: usize,
    is_leader: bool,
}

impl BarrierWaitResult {
    /// Returns how many parties arrived earlier.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Returns whether this party arrived last. In each generation exactly one did.
    pub fn is_leader(&self) -> bool {
        self.is_leader
    }
}

impl Barrier {
    pub(crate) fn from_handle(handle: Handle) -> Self {
        let inner = Inner { barrier: raw_barrier(&handle.object()), event: handle.event(EVENT) };
        Self { handle, inner: Arc::new(inner) }
    }

    /// Waits until all parties have arrived.
    ///
    /// # Blocking
    ///
    /// Without limit. Parks by `futex`. The last party makes a system call if others sleep.
    ///
    /// # Errors
    ///
    /// [`BarrierBroken`](SyncError::BarrierBroken), [`Forked`](SyncError::Forked),
    /// [`Corrupt`](SyncError::Corrupt).
    pub fn wait(&self) -> Result<BarrierWaitResult, SyncError> {
        self.wait_until(Timeout::UNLIMITED)
    }

    /// Waits until all parties have arrived. If that takes longer than `timeout`, breaks the
    /// barrier for all of them.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Self::wait), and [`TimedOut`](SyncError::TimedOut).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<BarrierWaitResult, SyncError> {
        self.wait_until(Timeout::after(timeout))
    }

    fn wait_until(&self, until: Timeout) -> Result<BarrierWaitResult, SyncError> {
        self.handle.check_process()?;
        let Inner { barrier, event } = &*self.inner;
        let (generation, index) = match barrier.arrive(self.handle.participant)? {
            Arrival::Released => {
                event.notify(u32::MAX);
                return Ok(BarrierWaitResult { index: self.parties() - 1, is_leader: true });
            }
            Arrival::Broken { by } => return Err(SyncError::BarrierBroken { pid: by }),
            Arrival::Waiting { generation, index } => (generation, index as usize),
        };
        let attempt = || match barrier.outcome(generation) {
            Outcome::Open => Ok(None),
            Outcome::Released => Ok(Some(BarrierWaitResult { index, is_leader: false })),
            Outcome::Broken { by } => Err(SyncError::BarrierBroken { pid: by }),
        };
        // A party that left breaks the barrier itself, so no answer ends the wait.
        let check_liveness = || {
            self.handle.membership.check_liveness(barrier.participants());
            None
        };
        wait_for(&self.handle, event, until, check_liveness, attempt).or_else(|error| {
            if !matches!(error, SyncError::BarrierBroken { .. })
                && barrier.abort(Some(generation), std::process::id().into())
            {
                event.notify(u32::MAX);
                return Err(error);
            }
            // All have arrived, or it broke, just now.
            attempt()?.ok_or(error)
        })
    }

    /// Breaks the barrier for those that wait and those that arrive, until it is reset.
    ///
    /// # Blocking
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// [`Forked`](SyncError::Forked).
    pub fn abort(&self) -> Result<(), SyncError> {
        self.handle.check_process()?;
        self.inner.barrier.abort(None, std::process::id().into());
        self.inner.event.notify(u32::MAX);
        Ok(())
    }

    /// Makes a broken barrier usable again. Those that still wait get
    /// [`BarrierBroken`](SyncError::BarrierBroken) with process 0.
    ///
    /// # Blocking
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// [`Forked`](SyncError::Forked).
    pub fn reset(&self) -> Result<(), SyncError> {
        self.handle.check_process()?;
        self.inner.barrier.reset();
        self.inner.event.notify(u32::MAX);
        Ok(())
    }

    /// Returns how many parties have to arrive.
    pub fn parties(&self) -> usize {
        self.handle.spec.count as usize
    }

    /// Returns how many parties have arrived and wait.
    pub fn waiting(&self) -> usize {
        self.inner.barrier.state().arrived as usize
    }

    /// Returns whether the barrier is broken.
    pub fn is_broken(&self) -> bool {
        self.inner.barrier.state().broken_by.is_some()
    }
}

object!(Barrier, ObjectSpec::without_value(ObjectKind::Barrier, 0), |this| &this.handle);

fn raw_barrier(object: &ObjectWords<'_>) -> barrier::Barrier<Mapped> {
    let arrivals = object.words(ELEMENTS_OFFSET, object.participants());
    barrier::Barrier::new(object.word(STATE), arrivals, object.spec.count)
}

pub(super) struct BarrierKind;

impl Kind for BarrierKind {
    fn name(&self) -> &'static str {
        "barrier"
    }

    fn check(&self, spec: &ObjectSpec) -> error::Result<()> {
        spec.expect_no_value()?;
        spec.expect_count("number of parties", barrier::MAX_PARTIES, "count the processes that are to meet")
    }

    fn footprint(&self, _: &ObjectSpec, participants: usize) -> Option<usize> {
        ELEMENTS_OFFSET.checked_add(participants)
    }

    fn release_dead(&self, object: &ObjectWords<'_>, participants: &[usize]) {
        let barrier = raw_barrier(object);
        for &participant in participants {
            if barrier.release_dead(participant, object.region.participants().pid(participant)) {
                object.event(EVENT).wake(u32::MAX);
            }
        }
    }

    fn describe(&self, object: &ObjectWords<'_>) -> Description {
        let barrier = raw_barrier(object);
        let generation = barrier.state();
        let users = if generation.arrived > 0 { barrier.participants().collect() } else { Vec::new() };
        let state = match generation.broken_by {
            None => format!("{} of {} have arrived", generation.arrived, object.spec.count),
            Some(by) => format!("broken by process {by}"),
        };
        Description { users, state, ..Description::default() }
    }

    fn length(&self, spec: &ObjectSpec) -> Option<u64> {
        Some(spec.count)
    }

    fn type_name(&self, _: &ObjectSpec, count: Option<u64>) -> String {
        match count {
            Some(count) => format!("a barrier for {count} parties"),
            None => "a barrier".to_string(),
        }
    }
}
