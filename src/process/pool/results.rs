//! Where the results of jobs wait for those that submitted them.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
#[cfg(feature = "async")]
use std::task::{Poll, Waker};

use crate::interrupt::Interrupts;
use crate::process::pool::error::JobError;
use crate::process::pool::shared::sleep_on;
#[cfg(feature = "async")]
use crate::process::wakers::TaskNumber;
use crate::process::wakers::Wakers;
use crate::sys::clock::Deadline;
use crate::sys::fork::Generation;
use crate::wait::Timeout;

/// The serialised result of a job, or why it has none.
pub(super) type Outcome = Result<Arc<Vec<u8>>, JobError>;

/// The results of one handle, or of one call of `map`, by the numbers of their jobs.
#[derive(Debug)]
pub(super) struct Results {
    generation: Generation,
    pub(super) waiting: Waiting,
    finished: Mutex<Finished>,
    changed: Condvar,
}

/// The jobs that wait. It is accessed under the lock of the pool only, and has a lock of its own
/// because it is not in that one.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<WaitingState>);

#[derive(Debug, Default)]
struct WaitingState {
    count: u64,
    is_discarded: bool,
}

impl Waiting {
    pub(super) fn add(&self, jobs: u64) {
        self.state().count += jobs;
    }

    pub(super) fn remove(&self, jobs: u64) {
        self.state().count -= jobs;
    }

    pub(super) fn is_none(&self) -> bool {
        self.state().count == 0
    }

    /// From now on no worker gets these jobs. Returns how many waited.
    pub(super) fn discard(&self) -> u64 {
        let mut state = self.state();
        state.is_discarded = true;
        mem::take(&mut state.count)
    }

    pub(super) fn is_discarded(&self) -> bool {
        self.state().is_discarded
    }

    fn state(&self) -> MutexGuard<'_, WaitingState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Finished {
    outcomes: BTreeMap<u64, Outcome>,
    /// What the thread that sleeps waits for, so that others do not wake it.
    wanted: Option<Wanted>,
    /// Tasks that wait for any result.
    wakers: Wakers,
    /// Nobody is left that would take results.
    is_abandoned: bool,
}

/// Which result a call waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Any,
    Number(u64),
}

impl Results {
    pub(super) fn new() -> Self {
        Self {
            generation: Generation::current(),
            waiting: Waiting::default(),
            finished: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    pub(super) fn push(&self, outcomes: impl IntoIterator<Item = (u64, Outcome)>) {
        let mut finished = self.lock();
        if !finished.is_abandoned {
            finished.outcomes.extend(outcomes);
        }
        let wakes_thread = finished.wanted.is_some_and(|wanted| finished.has(wanted));
        if wakes_thread {
            finished.wanted = None; // it is woken once
        }
        let wakers = mem::take(&mut finished.wakers);
        drop(finished);
        if wakes_thread {
            self.changed.notify_all();
        }
        wakers.wake();
    }

    /// Takes a result. Blocks until there is one.
    pub(super) fn take(&self, wanted: Wanted) -> Result<(u64, Outcome), JobError> {
        let mut finished = self.wait(wanted, None)?;
        let taken = match wanted {
            Wanted::Any => finished.outcomes.pop_first(),
            Wanted::Number(number) => finished.outcomes.remove_entry(&number),
        };
        taken.ok_or(JobError::Closed)
    }

    /// The only result. It stays.
    pub(super) fn get(&self, deadline: Deadline) -> Outcome {
        let finished = self.wait(Wanted::Any, deadline)?;
        finished.outcomes.values().next().cloned().unwrap_or(Err(JobError::Closed))
    }

    /// The only result, if there is one. Otherwise the task is woken when there is.
    #[cfg(feature = "async")]
    pub(super) fn poll(&self, task: &TaskNumber, waker: Waker) -> Poll<Outcome> {
        // First: as in `wait`.
        if !self.generation.is_current() {
            return Poll::Ready(Err(JobError::Forked));
        }
        let mut finished = self.lock();
        if let Some(outcome) = finished.outcomes.values().next() {
            return Poll::Ready(outcome.clone());
        }
        let before = finished.wakers.insert(task, waker);
        drop(finished);
        drop(before);
        Poll::Pending
    }

    /// The task waits no more.
    #[cfg(feature = "async")]
    pub(super) fn forget_task(&self, task: &TaskNumber) {
        if self.generation.is_current() {
            let waker = self.lock().wakers.remove(task);
            drop(waker);
        }
    }

    fn wait(&self, wanted: Wanted, deadline: Deadline) -> Result<MutexGuard<'_, Finished>, JobError> {
        // First: in a forked child the lock may be held by a thread that is not there.
        if !self.generation.is_current() {
            return Err(JobError::Forked);
        }
        let interrupts = Interrupts::of_this_thread();
        let mut finished = self.lock();
        while !finished.has(wanted) {
            finished.wanted = Some(wanted);
            if Timeout::At(deadline).is_past() {
                return Err(JobError::TimedOut);
            }
            if interrupts.take() {
                return Err(JobError::Interrupted);
            }
            finished = sleep_on(&self.changed, finished, interrupts.soon(deadline));
        }
        finished.wanted = None;
        Ok(finished)
    }

    /// Returns whether there is this result. In a forked child: false.
    pub(super) fn is_ready(&self, wanted: Wanted) -> bool {
        self.generation.is_current() && self.lock().has(wanted)
    }

    /// From now on results are dropped.
    pub(super) fn abandon(&self) {
        let mut finished = self.lock();
        finished.is_abandoned = true;
        finished.outcomes.clear();
    }

    /// Nothing in here panics under the lock.
    fn lock(&self) -> MutexGuard<'_, Finished> {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Finished {
    fn has(&self, wanted: Wanted) -> bool {
        match wanted {
            Wanted::Any => !self.outcomes.is_empty(),
            Wanted::Number(number) => self.outcomes.contains_key(&number),
        }
    }
}
