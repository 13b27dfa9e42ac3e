//! A meeting of processes.

use std::sync::Arc;
use std::time::Duration;

use crate::error::SyncError;
use crate::object::lock::Handle;
use crate::object::object;
use crate::object::table::{EVENT, MANY, ObjectKind, ObjectSpec, STATE};
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
    parts: Arc<(barrier::Barrier<Mapped>, EventCount<Mapped>)>,
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
        let marks = handle.words(MANY, handle.lanes());
        let parts = (barrier::Barrier::new(handle.word(STATE), marks, handle.plan.count), handle.event(EVENT));
        Self { handle, parts: Arc::new(parts) }
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
        self.handle.check_ours()?;
        let (barrier, ear) = &*self.parts;
        let member = &self.handle.member;
        let (generation, index) = match barrier.arrive(member.lane())? {
            Arrival::Released => {
                ear.notify(u32::MAX);
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
        // Who came and left is missed as well, and breaks it by its own hand.
        let ask = || member.ask(barrier.participants()).filter(|_| false);
        self.handle.attempt(ear, until, ask, attempt).or_else(|error| {
            if !matches!(error, SyncError::BarrierBroken { .. })
                && barrier.abort(Some(generation), std::process::id().into())
            {
                ear.notify(u32::MAX);
                return Err(error);
            }
            // It met, or broke, just now.
            attempt()?.ok_or(error)
        })
    }

    /// Breaks the barrier, for those who wait and those who come, until it is reset.
    ///
    /// **Blocking**: never. **Errors**: [`Forked`](SyncError::Forked).
    pub fn abort(&self) -> Result<(), SyncError> {
        self.handle.check_ours()?;
        self.parts.0.abort(None, std::process::id().into());
        self.parts.1.notify(u32::MAX);
        Ok(())
    }

    /// Makes a broken barrier whole. Those who wait are told [`Broken`](SyncError::BarrierBroken), by process 0.
    ///
    /// **Blocking**: never. **Errors**: [`Forked`](SyncError::Forked).
    pub fn reset(&self) -> Result<(), SyncError> {
        self.handle.check_ours()?;
        self.parts.0.reset();
        self.parts.1.notify(u32::MAX);
        Ok(())
    }

    /// How many it takes.
    pub fn parties(&self) -> usize {
        self.handle.plan.count as usize
    }

    /// How many have come and wait.
    pub fn waiting(&self) -> usize {
        self.parts.0.state().arrived as usize
    }

    /// Whether it is broken.
    pub fn is_broken(&self) -> bool {
        self.parts.0.state().broken_by.is_some()
    }
}

object!(Barrier, ObjectSpec::bare(ObjectKind::Barrier, 0), |this| &this.handle);
