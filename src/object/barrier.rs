//! A meeting of processes.
//!
//! ```text
//! words
//!      0  state
//!      1  event
//!     16  arrivals  a word for each participant
//! ```

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{self, SyncError};
use crate::object::fairness::wait_for;
#[cfg(feature = "async")]
use crate::object::future::wait_for_async;
use crate::object::kind::{Description, ELEMENTS_OFFSET, EVENT, Kind, ObjectKind, ObjectWords, STATE};
use crate::object::spec::ObjectSpec;
use crate::object::{Handle, object};
use crate::raw::barrier::{self, Arrival, Outcome};
use crate::raw::event_count::EventCount;
use crate::region::words::Mapped;
use crate::wait::{Timeout, WaitEnd};

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

    /// Waits until all parties have arrived, as [`wait`](Self::wait) does, without blocking the
    /// thread.
    ///
    /// The task arrives when the future is first polled. A future that is dropped after that, and
    /// before it is ready, breaks the barrier, as a timeout does. Works with any executor.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Self::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// use tombolo::sync::Barrier;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let start = Barrier::new(2)?;
    /// let other = start.clone();
    /// let task = tokio::spawn(async move { other.wait_async().await });
    /// let own = start.wait_async().await?;
    /// let theirs = task.await??;
    /// assert!(own.is_leader() != theirs.is_leader());
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    #[cfg(feature = "async")]
    #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
    pub async fn wait_async(&self) -> Result<BarrierWaitResult, SyncError> {
        let party = match self.arrive()? {
            Arrived::Last(result) => return Ok(result),
            Arrived::Waiting(party) => party,
        };
        let (check_parties, attempt) = (|| self.check_parties(), || party.outcome());
        let outcome = wait_for_async(&self.handle, &self.inner.event, check_parties, attempt).await;
        party.end(outcome)
    }

    fn wait_until(&self, until: Timeout) -> Result<BarrierWaitResult, SyncError> {
        let party = match self.arrive()? {
            Arrived::Last(result) => return Ok(result),
            Arrived::Waiting(party) => party,
        };
        let (check_parties, attempt) = (|| self.check_parties(), || party.outcome());
        let outcome = wait_for(&self.handle, &self.inner.event, until, check_parties, attempt);
        party.end(outcome)
    }

    fn arrive(&self) -> Result<Arrived<'_>, SyncError> {
        self.handle.check_process()?;
        match self.inner.barrier.arrive(self.handle.participant)? {
            Arrival::Released => {
                self.inner.event.notify(u32::MAX);
                Ok(Arrived::Last(BarrierWaitResult { index: self.parties() - 1, is_leader: true }))
            }
            Arrival::Broken { by } => Err(SyncError::BarrierBroken { pid: by }),
            Arrival::Waiting { generation, index } => {
                Ok(Arrived::Waiting(Party { barrier: self, generation, index: index as usize }))
            }
        }
    }

    /// Asks the kernel about the parties. One that left breaks the barrier itself, so no answer
    /// ends the wait.
    fn check_parties(&self) -> Option<WaitEnd> {
        self.handle.membership.check_liveness(self.inner.barrier.participants());
        None
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

enum Arrived<'a> {
    Last(BarrierWaitResult),
    Waiting(Party<'a>),
}

/// A party that has arrived. If it is dropped before all have, the barrier is broken.
struct Party<'a> {
    barrier: &'a Barrier,
    generation: u64,
    index: usize,
}

impl Party<'_> {
    /// None: not all have arrived.
    fn outcome(&self) -> Result<Option<BarrierWaitResult>, SyncError> {
        match self.barrier.inner.barrier.outcome(self.generation) {
            Outcome::Open => Ok(None),
            Outcome::Released => Ok(Some(BarrierWaitResult { index: self.index, is_leader: false })),
            Outcome::Broken { by } => Err(SyncError::BarrierBroken { pid: by }),
        }
    }

    /// Breaks the barrier. Returns false if all have arrived, or it broke, just now.
    fn abort(&self) -> bool {
        let Inner { barrier, event } = &*self.barrier.inner;
        let is_broken = barrier.abort(Some(self.generation), std::process::id().into());
        if is_broken {
            event.notify(u32::MAX);
        }
        is_broken
    }

    /// Ends with this outcome of the wait.
    fn end(self, outcome: Result<BarrierWaitResult, SyncError>) -> Result<BarrierWaitResult, SyncError> {
        let party = ManuallyDrop::new(self);
        outcome.or_else(|error| {
            if !matches!(error, SyncError::BarrierBroken { .. }) && party.abort() {
                return Err(error);
            }
            party.outcome()?.ok_or(error)
        })
    }
}

impl Drop for Party<'_> {
    fn drop(&mut self) {
        // A forked child has not arrived.
        if self.barrier.handle.is_from_this_process() {
            self.abort();
        }
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
