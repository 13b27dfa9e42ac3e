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

/// A number of parties, processes or threads, that wait for each other, again and again.
///
/// Who comes and dies while others wait breaks the barrier (unless the last one comes before that is noticed), as does who gives up waiting: everybody who waits, or comes, is told
/// [`Broken`](SyncError::BarrierBroken) and by whom, until it is [`reset`](Self::reset). The death of one who has not come yet is
/// not noticed: use a timeout where that matters. (One that sleeps through six further meetings after a reset is told that its own took place.)
///
/// ```
/// let start = tombolo::Barrier::new(2)?;
/// let other = start.clone();
/// let thread = std::thread::spawn(move || other.wait());
/// let own = start.wait()?;
/// let theirs = thread.join().unwrap()?;
/// assert!(own.is_leader() != theirs.is_leader());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// **Source**: `raw/barrier.rs`.
#[derive(Clone)]
pub struct Barrier {
    handle: Handle,
    inner: Arc<Inner>,
}

struct Inner {
    barrier: barrier::Barrier<Mapped>,
    event: EventCount<Mapped>,
}

/// That all parties have met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult {
    index: usize,
    is_leader: bool,
}

impl BarrierWaitResult {
    /// Which one to come this was, from 0 up.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Whether this was the last one to come; one in each meeting is.
    pub fn is_leader(&self) -> bool {
        self.is_leader
    }
}

impl Barrier {
    pub(crate) fn from_handle(handle: Handle) -> Self {
        let inner = Inner { barrier: raw_barrier(&handle.object()), event: handle.event(EVENT) };
        Self { handle, inner: Arc::new(inner) }
    }

    /// Comes, and waits until all have.
    ///
    /// **Blocking**: without end; parks by `futex`. The last one makes a system call if others sleep.
    /// **Errors**: [`Broken`](SyncError::BarrierBroken), [`Forked`](SyncError::Forked), [`Corrupt`](SyncError::Corrupt).
    pub fn wait(&self) -> Result<BarrierWaitResult, SyncError> {
        self.wait_until(Timeout::NEVER)
    }

    /// Like [`wait`](Self::wait), but for no longer than `timeout`: then it breaks the barrier for all, and answers
    /// [`TimedOut`](SyncError::TimedOut).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<BarrierWaitResult, SyncError> {
        self.wait_until(Timeout::after(timeout))
    }

    fn wait_until(&self, until: Timeout) -> Result<BarrierWaitResult, SyncError> {
        self.handle.check_process()?;
        let Inner { barrier, event } = &*self.inner;
        let (generation, index) = match barrier.arrive(self.handle.participant)? {
            Arrival::Met => {
                event.notify(u32::MAX);
                return Ok(BarrierWaitResult { index: self.parties() - 1, is_leader: true });
            }
            Arrival::Broken { by } => return Err(SyncError::BarrierBroken { pid: by }),
            Arrival::Waits { generation, index } => (generation, index as usize),
        };
        let attempt = || match barrier.outcome(generation) {
            Outcome::Open => Ok(None),
            Outcome::Met => Ok(Some(BarrierWaitResult { index, is_leader: false })),
            Outcome::Broken { by } => Err(SyncError::BarrierBroken { pid: by }),
        };
        // A party that left breaks the barrier itself, so no answer ends the wait.
        let check_liveness = || {
            self.handle.membership.check_liveness(barrier.lanes());
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

    /// Breaks the barrier, for those who wait and those who come, until it is reset.
    ///
    /// **Blocking**: never. **Errors**: [`Forked`](SyncError::Forked).
    pub fn abort(&self) -> Result<(), SyncError> {
        self.handle.check_process()?;
        self.inner.barrier.abort(None, std::process::id().into());
        self.inner.event.notify(u32::MAX);
        Ok(())
    }

    /// Makes a broken barrier whole. Those who wait are told [`Broken`](SyncError::BarrierBroken), by process 0.
    ///
    /// **Blocking**: never. **Errors**: [`Forked`](SyncError::Forked).
    pub fn reset(&self) -> Result<(), SyncError> {
        self.handle.check_process()?;
        self.inner.barrier.reset();
        self.inner.event.notify(u32::MAX);
        Ok(())
    }

    /// How many it takes.
    pub fn parties(&self) -> usize {
        self.handle.spec.count as usize
    }

    /// How many have come and wait.
    pub fn waiting(&self) -> usize {
        self.inner.barrier.state().came as usize
    }

    /// Whether it is broken.
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
            if barrier.bury(participant, object.region.participants().pid(participant)) {
                object.event(EVENT).wake(u32::MAX);
            }
        }
    }

    fn describe(&self, object: &ObjectWords<'_>) -> Description {
        let barrier = raw_barrier(object);
        let generation = barrier.state();
        let users = if generation.came > 0 { barrier.lanes().collect() } else { Vec::new() };
        let state = match generation.broken_by {
            None => format!("{} of {} have come", generation.came, object.spec.count),
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
