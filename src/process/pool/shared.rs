//! What the threads of a pool and its users share: the jobs that wait, and the workers.
//!
//! The jobs wait in memory of this process, each worker has a pipe of its own, and a job is taken
//! out of a pipe by one worker only. So a worker that dies or is stopped holds nothing that others
//! need, and this process knows which jobs it had.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::pipe::BytePipe;
use crate::process::Process;
use crate::process::pool::PoolStats;
use crate::process::pool::error::{JobError, WorkerDeath};
use crate::process::pool::results::{Outcome, Results};
use crate::sys::clock::Deadline;
use crate::sys::fork::Generation;

/// After how long an idle thread asks whether its worker lives.
const IDLE_CHECK: Duration = Duration::from_millis(100);

/// How many workers may die between a job's way to them and its beginning. Such a death is hardly
/// the job's fault, unless there is no memory for its arguments.
const MAX_LOSSES: u32 = 10;

/// Starts the worker of the thread with this index, which gets this end of its pipe.
pub(super) type StartWorker = Box<dyn Fn(usize, BytePipe) -> Result<Process> + Send + Sync>;

pub(super) struct Shared {
    generation: Generation,
    pub(super) settings: Settings,
    state: Mutex<State>,
    /// There are jobs, or the phase is another one.
    changed: Condvar,
    /// A thread has ended.
    ended: Condvar,
}

pub(super) struct Settings {
    pub(super) start: StartWorker,
    pub(super) processes: usize,
    pub(super) max_jobs_per_worker: Option<u64>,
    pub(super) max_attempts: u32,
}

/// A job that has no result yet.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) message: Vec<u8>,
    pub(super) results: Arc<Results>,
    pub(super) number: u64,
    /// How many workers have died while they ran it.
    deaths: u32,
    /// How many workers have died before they began it.
    losses: u32,
}

impl Job {
    pub(super) fn new(message: Vec<u8>, results: &Arc<Results>, number: u64) -> Self {
        Self { message, results: Arc::clone(results), number, deaths: 0, losses: 0 }
    }
}

/// Jobs that one worker gets at once. All are of one handle, or of one call of `map`.
pub(super) type Chunk = VecDeque<Job>;

#[derive(Clone, Debug)]
enum Phase {
    Open,
    /// No more jobs are accepted.
    Closed,
    /// Nothing runs any more, for this reason.
    Ended(JobError),
}

struct State {
    phase: Phase,
    queue: VecDeque<Chunk>,
    /// The worker of each thread.
    processes: Vec<Option<Arc<Process>>>,
    threads: usize,
    /// Without the jobs that wait.
    stats: PoolStats,
}

/// What a thread is to do next.
pub(super) enum Next {
    Chunk(Chunk),
    /// Nothing for a while: look whether the worker lives.
    Idle,
    End,
}

impl Shared {
    pub(super) fn new(settings: Settings) -> Self {
        let processes = (0..settings.processes).map(|_| None).collect();
        Self {
            generation: Generation::current(),
            settings,
            state: Mutex::new(State {
                phase: Phase::Open,
                queue: VecDeque::new(),
                processes,
                threads: 0,
                stats: PoolStats::default(),
            }),
            changed: Condvar::new(),
            ended: Condvar::new(),
        }
    }

    /// Returns whether the pool is this process's. Only then may anything else be called: in a
    /// forked child the lock may be held by a thread that is not there.
    pub(super) fn is_from_this_process(&self) -> bool {
        self.generation.is_current()
    }

    /// Submits jobs. Returns whether the pool accepts them. If not, they have ended.
    pub(super) fn enqueue(&self, chunk: Chunk) -> bool {
        let refusal = if self.is_from_this_process() {
            let mut state = self.lock();
            match &state.phase {
                Phase::Open => {
                    state.queue.push_back(chunk);
                    drop(state);
                    self.changed.notify_one();
                    return true;
                }
                Phase::Closed => JobError::Closed,
                Phase::Ended(error) => error.clone(),
            }
        } else {
            JobError::Forked
        };
        self.refuse([chunk], &refusal);
        false
    }

    /// Returns up to `limit` jobs of the next chunk. Blocks while there are none, for a while.
    pub(super) fn next(&self, limit: u64) -> Next {
        let mut state = self.lock();
        let deadline = Instant::now() + IDLE_CHECK;
        loop {
            // Nothing waits in a pool that has ended.
            let chunk = state.queue.pop_front();
            match (&state.phase, chunk) {
                (Phase::Ended(_), _) => return Next::End,
                (_, Some(mut chunk)) => {
                    let rest = chunk.split_off(chunk.len().min(usize::try_from(limit).unwrap_or(usize::MAX)));
                    if !rest.is_empty() {
                        state.queue.push_front(rest);
                    }
                    state.stats.running += chunk.len() as u64;
                    return Next::Chunk(chunk);
                }
                (Phase::Closed, None) => return Next::End,
                (Phase::Open, None) => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::Idle;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends jobs of one chunk that run.
    pub(super) fn finish(&self, ended: Vec<(Job, Outcome)>) {
        self.count(|stats| stats.running -= ended.len() as u64);
        self.conclude(ended);
    }

    /// Ends jobs of one chunk that do not run.
    fn conclude(&self, ended: Vec<(Job, Outcome)>) {
        let Some(results) = ended.first().map(|(job, _)| Arc::clone(&job.results)) else { return };
        self.count(|stats| {
            for (_, outcome) in &ended {
                match outcome {
                    Ok(_) => stats.succeeded += 1,
                    Err(JobError::Cancelled) => stats.cancelled += 1,
                    Err(_) => stats.failed += 1,
                }
            }
        });
        results.push(ended.into_iter().map(|(job, outcome)| (job.number, outcome)));
    }

    /// Takes back the jobs of a worker that died. If it had taken them it died in the first one.
    /// That job goes alone from now on, so that the others do not wait while it kills more workers.
    pub(super) fn take_back(&self, chunk: Chunk, death: WorkerDeath, was_taken: bool) {
        self.count(|stats| stats.running -= chunk.len() as u64);
        let (abandoned, mut chunk): (Chunk, Chunk) = chunk.into_iter().partition(|job| job.results.is_abandoned());
        self.refuse([abandoned], &JobError::Cancelled);
        let mut again = VecDeque::new();
        if let Some(mut job) = chunk.pop_front() {
            *(if was_taken { &mut job.deaths } else { &mut job.losses }) += 1;
            if job.deaths < self.settings.max_attempts && job.losses < MAX_LOSSES {
                again.push_back(Chunk::from([job]));
            } else {
                let death = WorkerDeath { attempts: job.deaths, ..death };
                self.conclude(vec![(job, Err(JobError::WorkerDied(death)))]);
            }
        }
        again.push_back(chunk);
        let mut state = self.lock();
        if let Phase::Ended(error) = &state.phase {
            let error = error.clone();
            drop(state);
            return self.refuse(again, &error);
        }
        for chunk in again.into_iter().rev().filter(|chunk| !chunk.is_empty()) {
            state.stats.redelivered += chunk.len() as u64;
            state.queue.push_front(chunk);
        }
        drop(state);
        self.changed.notify_all();
    }

    fn refuse(&self, chunks: impl IntoIterator<Item = Chunk>, error: &JobError) {
        for chunk in chunks {
            self.conclude(chunk.into_iter().map(|job| (job, Err(error.clone()))).collect());
        }
    }

    /// Ends the jobs of these results that have not begun. Returns how many.
    pub(super) fn cancel(&self, results: &Arc<Results>) -> usize {
        let mut cancelled = VecDeque::new();
        let mut state = self.lock();
        for chunk in mem::take(&mut state.queue) {
            let (these, others): (Chunk, Chunk) = chunk.into_iter().partition(|job| Arc::ptr_eq(&job.results, results));
            cancelled.push_back(these);
            if !others.is_empty() {
                state.queue.push_back(others);
            }
        }
        drop(state);
        let count = cancelled.iter().map(VecDeque::len).sum();
        self.refuse(cancelled, &JobError::Cancelled);
        count
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut PoolStats)) {
        change(&mut self.lock().stats);
    }

    pub(super) fn stats(&self) -> PoolStats {
        let state = self.lock();
        PoolStats { waiting: state.queue.iter().map(|chunk| chunk.len() as u64).sum(), ..state.stats }
    }

    /// Returns the pids of the workers.
    pub(super) fn workers(&self) -> Vec<u32> {
        self.lock().processes.iter().flatten().map(|process| process.pid()).collect()
    }

    /// Notes the worker of a thread. Returns whether it may go on.
    pub(super) fn register(&self, index: usize, process: &Arc<Process>) -> bool {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Ended(_)) {
            return false;
        }
        if let Some(place) = state.processes.get_mut(index) {
            *place = Some(Arc::clone(process));
        }
        true
    }

    pub(super) fn unregister(&self, index: usize) {
        if let Some(place) = self.lock().processes.get_mut(index) {
            *place = None;
        }
    }

    pub(super) fn close(&self) {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Open) {
            state.phase = Phase::Closed;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Ends all jobs and kills all workers.
    pub(super) fn end(&self, reason: JobError) {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Ended(_)) {
            return;
        }
        state.phase = Phase::Ended(reason.clone());
        let queue = mem::take(&mut state.queue);
        for process in state.processes.iter().flatten() {
            // It has ended, or the thread notices that it has not.
            let _ = process.kill();
        }
        drop(state);
        self.changed.notify_all();
        self.refuse(queue, &reason);
    }

    pub(super) fn is_ended(&self) -> bool {
        matches!(self.lock().phase, Phase::Ended(_))
    }

    /// Returns whether a thread needs a worker now.
    pub(super) fn needs_worker(&self) -> bool {
        let state = self.lock();
        match state.phase {
            Phase::Open => true,
            Phase::Closed => !state.queue.is_empty(),
            Phase::Ended(_) => false,
        }
    }

    /// Sleeps, less if the pool ends meanwhile.
    pub(super) fn pause(&self, time: Duration) {
        let deadline = Instant::now() + time;
        let mut state = self.lock();
        while !matches!(state.phase, Phase::Ended(_)) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(super) fn thread_begins(&self) {
        self.lock().threads += 1;
    }

    /// `failure`: it could not start a worker. If no other thread is left that is the end of the
    /// pool.
    pub(super) fn thread_ends(&self, failure: Option<String>) {
        let mut state = self.lock();
        state.threads -= 1;
        let is_last = state.threads == 0;
        let has_jobs = !state.queue.is_empty();
        drop(state);
        if is_last && (failure.is_some() || has_jobs) {
            self.end(failure.map_or(JobError::Closed, JobError::PoolFailed));
        }
        self.ended.notify_all();
    }

    /// Blocks until all threads have ended, or until the deadline.
    pub(super) fn wait_for_threads(&self, deadline: Deadline) -> Result<(), JobError> {
        let mut state = self.lock();
        while state.threads > 0 {
            state = match deadline {
                None => self.ended.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(JobError::TimedOut);
                    }
                    self.ended.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        match &state.phase {
            Phase::Ended(error @ JobError::PoolFailed(_)) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Nothing in here panics under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
