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
use crate::interrupt::Interrupts;
use crate::pipe::BytePipe;
use crate::process::Process;
use crate::process::pool::PoolStats;
use crate::process::pool::error::{JobError, WorkerDeath};
use crate::process::pool::results::{Outcome, Results};
use crate::sys::clock::Deadline;
use crate::sys::fork::Generation;
use crate::wait::Timeout;

/// After how long an idle thread asks whether its worker lives.
pub(super) const IDLE_CHECK: Duration = Duration::from_millis(100);

/// How many workers may die between a job's way to them and its beginning. Such a death is hardly
/// the job's fault, unless there is no memory for its arguments. As many as `max_attempts`, if that
/// is more.
const MAX_LOSSES: u32 = 10;

/// Starts the worker of the thread with this index, which gets this end of its pipe.
pub(super) type StartWorker = Box<dyn Fn(usize, BytePipe) -> Result<Process> + Send + Sync>;

pub(super) struct Shared {
    generation: Generation,
    pub(super) settings: Settings,
    state: Mutex<State>,
    /// There are jobs, or the phase is another one.
    changed: Condvar,
    /// The pool has ended, for threads that pause: they would take a notification that there are
    /// jobs from one that waits for them.
    interrupted: Condvar,
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
    /// The jobs that wait, and discarded ones.
    queue: VecDeque<Chunk>,
    /// How many in the queue are discarded. If they were taken out one by one, to cancel many would
    /// take time that grows with the square of their number.
    discarded: u64,
    /// The worker of each thread.
    processes: Vec<Option<Arc<Process>>>,
    threads: usize,
    stats: PoolStats,
}

impl State {
    fn push_back(&mut self, chunk: Chunk) {
        self.note_waiting(&chunk);
        self.queue.push_back(chunk);
    }

    fn push_front(&mut self, chunk: Chunk) {
        self.note_waiting(&chunk);
        self.queue.push_front(chunk);
    }

    fn note_waiting(&mut self, chunk: &Chunk) {
        if let Some(job) = chunk.front() {
            job.results.waiting.add(chunk.len() as u64);
        }
        self.stats.waiting += chunk.len() as u64;
    }

    /// Takes the next chunk that is not discarded.
    fn pop(&mut self) -> Option<Chunk> {
        loop {
            let chunk = self.queue.pop_front()?;
            let count = chunk.len() as u64;
            match chunk.front() {
                Some(job) if !job.results.waiting.is_discarded() => {
                    job.results.waiting.remove(count);
                    self.stats.waiting -= count;
                    return Some(chunk);
                }
                _ => self.discarded -= count,
            }
        }
    }

    /// Cancels the jobs of these results that wait. Returns what may be dropped, without the lock.
    fn discard(&mut self, results: &Results) -> VecDeque<Chunk> {
        let count = results.waiting.discard();
        self.stats.waiting -= count;
        self.stats.cancelled += count;
        self.discarded += count;
        if self.discarded <= self.stats.waiting {
            return VecDeque::new();
        }
        // At least half of what is looked at here was discarded since the last time.
        self.discarded = 0;
        let (discarded, queue) = mem::take(&mut self.queue).into_iter().partition(is_discarded);
        self.queue = queue;
        discarded
    }

    /// Ends the pool and kills all workers. Returns the jobs that waited. They have ended, and
    /// their results are to be pushed.
    fn end(&mut self, reason: JobError) -> VecDeque<Chunk> {
        self.phase = Phase::Ended(reason);
        for process in self.processes.iter().flatten() {
            // It has ended, or the thread notices that it has not.
            let _ = process.kill();
        }
        let mut queue = VecDeque::new();
        while let Some(chunk) = self.pop() {
            self.stats.failed += chunk.len() as u64;
            queue.push_back(chunk);
        }
        queue
    }
}

fn is_discarded(chunk: &Chunk) -> bool {
    chunk.front().is_none_or(|job| job.results.waiting.is_discarded())
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
                discarded: 0,
                processes,
                threads: 0,
                stats: PoolStats::default(),
            }),
            changed: Condvar::new(),
            interrupted: Condvar::new(),
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
        if !self.is_from_this_process() {
            push_error([chunk], &JobError::Forked);
            return false;
        }
        let mut state = self.lock();
        let refusal = match &state.phase {
            Phase::Open => {
                state.push_back(chunk);
                drop(state);
                self.changed.notify_one();
                return true;
            }
            Phase::Closed => JobError::Closed,
            Phase::Ended(error) => error.clone(),
        };
        state.stats.failed += chunk.len() as u64;
        drop(state);
        push_error([chunk], &refusal);
        false
    }

    /// Returns up to `limit` jobs of the next chunk. Blocks while there are none, for a while.
    pub(super) fn next(&self, limit: u64) -> Next {
        let mut state = self.lock();
        let deadline = Instant::now() + IDLE_CHECK;
        loop {
            // Nothing waits in a pool that has ended.
            let chunk = state.pop();
            match (&state.phase, chunk) {
                (Phase::Ended(_), _) => return Next::End,
                (_, Some(mut chunk)) => {
                    let rest = chunk.split_off(chunk.len().min(usize::try_from(limit).unwrap_or(usize::MAX)));
                    if !rest.is_empty() {
                        state.push_front(rest);
                        // The thread that was notified of the chunk is this one.
                        self.changed.notify_one();
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
        let Some(results) = ended.first().map(|(job, _)| Arc::clone(&job.results)) else { return };
        self.count(|stats| {
            stats.running -= ended.len() as u64;
            for (_, outcome) in &ended {
                *(if outcome.is_ok() { &mut stats.succeeded } else { &mut stats.failed }) += 1;
            }
        });
        results.push(ended.into_iter().map(|(job, outcome)| (job.number, outcome)));
    }

    /// Takes back the jobs of a worker that died. If it had taken them it died in the first one.
    /// That job goes alone from now on, so that the others do not wait while it kills more workers.
    pub(super) fn take_back(&self, mut chunk: Chunk, death: WorkerDeath, was_taken: bool) {
        let mut state = self.lock();
        let count = chunk.len() as u64;
        state.stats.running -= count;
        // First: a pool that ends kills its workers, which says nothing of their jobs.
        if let Phase::Ended(error) = &state.phase {
            let error = error.clone();
            state.stats.failed += count;
            drop(state);
            return push_error([chunk], &error);
        }
        if is_discarded(&chunk) {
            state.stats.cancelled += count;
            return;
        }
        let Some(mut job) = chunk.pop_front() else { return };
        *(if was_taken { &mut job.deaths } else { &mut job.losses }) += 1;
        if !chunk.is_empty() {
            state.stats.redelivered += chunk.len() as u64;
            state.push_front(chunk);
        }
        let max_attempts = self.settings.max_attempts;
        let last = if job.deaths < max_attempts && job.losses < MAX_LOSSES.max(max_attempts) {
            state.stats.redelivered += 1;
            state.push_front(Chunk::from([job]));
            None
        } else {
            state.stats.failed += 1;
            Some(job)
        };
        drop(state);
        self.changed.notify_all();
        if let Some(job) = last {
            let error = JobError::WorkerDied(WorkerDeath { attempts: job.deaths, ..death });
            push_error([Chunk::from([job])], &error);
        }
    }

    /// Ends a job that waits, the only one of these results. Returns whether it was so.
    pub(super) fn cancel(&self, results: &Results) -> bool {
        let mut state = self.lock();
        if results.waiting.is_none() {
            return false;
        }
        let discarded = state.discard(results);
        drop(state);
        drop(discarded);
        results.push([(0, Err(JobError::Cancelled))]);
        true
    }

    /// Nobody takes these results any more: their jobs are not given to a worker again.
    pub(super) fn abandon(&self, results: &Results) {
        results.abandon();
        let mut state = self.lock();
        let discarded = state.discard(results);
        drop(state);
        drop(discarded);
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut PoolStats)) {
        change(&mut self.lock().stats);
    }

    pub(super) fn stats(&self) -> PoolStats {
        self.lock().stats
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
        let queue = state.end(reason.clone());
        drop(state);
        self.notify_end();
        push_error(queue, &reason);
    }

    fn notify_end(&self) {
        self.changed.notify_all();
        self.interrupted.notify_all();
    }

    pub(super) fn is_ended(&self) -> bool {
        matches!(self.lock().phase, Phase::Ended(_))
    }

    /// Returns whether a thread needs a worker now.
    pub(super) fn needs_worker(&self) -> bool {
        let state = self.lock();
        match state.phase {
            Phase::Open => true,
            Phase::Closed => state.stats.waiting > 0,
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
            state = self.interrupted.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
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
        // Under the same lock, so that those that wait for the threads see why.
        let is_failure = state.threads == 0 && (failure.is_some() || state.stats.waiting > 0);
        if is_failure && !matches!(state.phase, Phase::Ended(_)) {
            let reason = failure.map_or(JobError::Closed, JobError::PoolFailed);
            let queue = state.end(reason.clone());
            drop(state);
            push_error(queue, &reason);
        } else {
            drop(state);
        }
        self.ended.notify_all();
    }

    /// Blocks until all threads have ended, until the deadline, or until interrupted.
    pub(super) fn wait_for_threads(&self, deadline: Deadline, interrupts: &Interrupts) -> Result<(), JobError> {
        let mut state = self.lock();
        while state.threads > 0 {
            if Timeout::At(deadline).is_past() {
                return Err(JobError::TimedOut);
            }
            if interrupts.take() {
                return Err(JobError::Interrupted);
            }
            state = sleep_on(&self.ended, state, interrupts.soon(deadline));
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

/// Waits to be notified, or until the deadline.
pub(super) fn sleep_on<'a, T>(changed: &Condvar, guard: MutexGuard<'a, T>, deadline: Deadline) -> MutexGuard<'a, T> {
    match deadline {
        None => changed.wait(guard).unwrap_or_else(PoisonError::into_inner),
        Some(deadline) => {
            let left = deadline.saturating_duration_since(Instant::now());
            changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0
        }
    }
}

/// Gives jobs that have ended this result.
fn push_error(chunks: impl IntoIterator<Item = Chunk>, error: &JobError) {
    for chunk in chunks {
        let Some(results) = chunk.front().map(|job| Arc::clone(&job.results)) else { continue };
        results.push(chunk.into_iter().map(|job| (job.number, Err(error.clone()))));
    }
}
