//! The thread of this process that each worker has: it starts the worker, gives it jobs, receives
//! their results, and starts another one in its place.

use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, RecvError};
use crate::pipe::{self, BytePipe};
use crate::process::Process;
use crate::process::error::{Panic, ProcessError};
use crate::process::pool::error::{JobError, WorkerDeath};
use crate::process::pool::message::{LastPanics, Reply};
use crate::process::pool::shared::{Chunk, IDLE_CHECK, Next, Shared};

/// How many workers in a row may end before they get a job.
const MAX_STARTS: u32 = 8;

/// A worker that was ready for so long has started well, also if it got no job.
const GOOD_START: Duration = Duration::from_secs(10);

/// How long to wait before the next attempt to start a worker, at first. It doubles.
const START_PAUSE: Duration = Duration::from_millis(10);

/// How long a worker may take to end that was told so, or whose end of the pipe is closed.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// The ring for each direction. Longer messages stream through it.
const RING_BYTES: usize = 256 << 10;

/// How many replies are taken at once, if they are there.
const REPLIES: usize = 64;

/// The longest arguments or result, with what travels beside them.
pub(super) const MAX_MESSAGE_BYTES: usize = 1 << 30;

struct Worker {
    process: Arc<Process>,
    pipe: BytePipe,
    ready_at: Instant,
    /// How many jobs it may take yet.
    jobs_left: u64,
    /// It has received a chunk.
    has_taken: bool,
    /// The last panics that it has told of, and survived.
    survived: LastPanics,
}

/// The worker ends.
struct Died;

/// The workers in a row that have ended before they got a job.
#[derive(Default)]
struct Starts {
    failed: u32,
    /// How the last one ended.
    reason: String,
}

impl Starts {
    fn fail(&mut self, reason: String) {
        *self = Self { failed: self.failed + 1, reason };
    }
}

/// Tells the others that the thread has ended, also by a panic.
struct ThreadEnd<'a> {
    shared: &'a Shared,
    failure: Option<String>,
}

impl Drop for ThreadEnd<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            // Its worker, and what that had to do, are lost.
            self.shared.end(JobError::PoolFailed("a thread of the pool panicked".to_string()));
        }
        self.shared.thread_ends(self.failure.take());
    }
}

pub(super) fn run(shared: &Shared, index: usize) {
    let mut end = ThreadEnd { shared, failure: None };
    let mut starts = Starts::default();
    end.failure = loop {
        let mut worker = match start(shared, index, &mut starts) {
            Ok(Some(worker)) => worker,
            Ok(None) => break None,
            Err(reason) => break Some(reason),
        };
        let fed = feed(shared, &mut worker);
        if worker.has_taken || worker.ready_at.elapsed() >= GOOD_START {
            starts = Starts::default();
        } else if fed.is_err() {
            starts.fail(worker.reason());
        }
        if fed.is_ok() {
            worker.retire();
        }
        shared.unregister(index);
    };
}

/// Starts a worker and waits until it is ready. `None`: it is not needed any more.
fn start(shared: &Shared, index: usize, starts: &mut Starts) -> Result<Option<Worker>, String> {
    while starts.failed < MAX_STARTS {
        if starts.failed > 0 {
            shared.pause(START_PAUSE * 2_u32.pow(starts.failed - 1));
        }
        if !shared.needs_worker() {
            return Ok(None);
        }
        let (pipe, process) = match spawn(shared, index) {
            Ok((pipe, process)) => (pipe, Arc::new(process)),
            Err(error) => {
                let reason = error.to_string();
                if is_permanent(error.kind()) {
                    shared.end(JobError::PoolFailed(reason));
                    return Ok(None);
                }
                starts.fail(reason);
                continue;
            }
        };
        let jobs_left = shared.settings.max_jobs_per_worker.unwrap_or(u64::MAX);
        let mut worker = Worker {
            process,
            pipe,
            ready_at: Instant::now(),
            jobs_left,
            has_taken: false,
            survived: LastPanics::default(),
        };
        if !shared.register(index, &worker.process) {
            worker.kill();
            return Ok(None);
        }
        match worker.receive_first(shared) {
            Ok(Some(Reply::Ready)) => {
                worker.ready_at = Instant::now();
                return Ok(Some(worker));
            }
            Ok(None) => {
                worker.kill();
                shared.unregister(index);
                return Ok(None);
            }
            Ok(Some(Reply::InitializerFailed(text))) => {
                let _ = worker.reap();
                shared.unregister(index);
                shared.end(JobError::PoolFailed(format!("the initializer failed: {text}")));
                return Ok(None);
            }
            _ => {
                let reason = worker.reason();
                shared.unregister(index);
                if shared.is_ended() {
                    return Ok(None);
                }
                if let Err(ProcessError::NotStarted(_) | ProcessError::NotInitialised(_)) = worker.process.join() {
                    shared.end(JobError::PoolFailed(reason));
                    return Ok(None);
                }
                starts.fail(reason);
            }
        }
    }
    Err(format!("{MAX_STARTS} workers in a row ended before they got a job; the last one: {}", starts.reason))
}

fn spawn(shared: &Shared, index: usize) -> Result<(BytePipe, Process), Error> {
    let options = pipe::Options::bytes().capacity_bytes(RING_BYTES).max_message_bytes(MAX_MESSAGE_BYTES);
    let (pipe, other) = options.create_duplex()?;
    // It runs code of the program: the closure for the options, and Serialize.
    let started = panic::catch_unwind(AssertUnwindSafe(|| (shared.settings.start)(index, other)));
    let process = started.unwrap_or_else(|payload| {
        // Dropping it runs code of the program, which may panic.
        mem::forget(payload);
        Err(Error::new(
            ErrorKind::InvalidOptions,
            "start a worker of a process pool",
            "a panic in `worker_options`, or while the arguments of the initializer were serialised",
            "code that does not panic",
            "see standard error for the panic",
        ))
    });
    Ok((pipe, process?))
}

/// Whether the next attempt would fail in the same way.
fn is_permanent(kind: ErrorKind) -> bool {
    use ErrorKind::{InvalidName, InvalidOptions, NotInitialised, NotSerializable, Permission};
    matches!(kind, InvalidName | InvalidOptions | NotInitialised | NotSerializable | Permission)
}

/// Gives the worker jobs until it may take no more, or until there are none.
fn feed(shared: &Shared, worker: &mut Worker) -> Result<(), Died> {
    while worker.jobs_left > 0 {
        match shared.next(worker.jobs_left) {
            Next::Chunk(mut chunk) => {
                let count = chunk.len() as u64;
                let mut was_taken = false;
                let ran = worker.run(shared, &mut chunk, &mut was_taken);
                worker.has_taken |= was_taken;
                if ran.is_err() {
                    let death = worker.death();
                    count_death(shared);
                    shared.take_back(chunk, death, was_taken);
                    return Err(Died);
                }
                worker.jobs_left = worker.jobs_left.saturating_sub(count);
            }
            Next::Idle if worker.process.is_alive() => {}
            Next::Idle => {
                let _ = worker.reap();
                count_death(shared);
                return Err(Died);
            }
            Next::End => return Ok(()),
        }
    }
    shared.count(|stats| stats.workers_retired += 1);
    Ok(())
}

/// Those that the pool kills do not count.
fn count_death(shared: &Shared) {
    if !shared.is_ended() {
        shared.count(|stats| stats.workers_died += 1);
    }
}

impl Worker {
    /// Has a chunk run. Those jobs stay in it that got no result.
    fn run(&mut self, shared: &Shared, chunk: &mut Chunk, was_taken: &mut bool) -> Result<(), Died> {
        // A send to one that has died would succeed.
        if !self.process.is_alive() {
            return Err(Died);
        }
        let messages: Vec<&[u8]> = chunk.iter().map(|job| &*job.message).chain([&[][..]]).collect();
        self.send(&messages)?;
        let mut replies = [const { Vec::new() }; REPLIES];
        while !chunk.is_empty() {
            let count = self.pipe.rx.recv_many(&mut replies).map_err(|_| Died)?;
            let mut ended = Vec::with_capacity(count);
            let replies = replies.iter_mut().take(count).map(mem::take);
            let taken = replies.map(Reply::decode).try_for_each(|reply| {
                let outcome = match reply {
                    Some(Reply::Taken) if !*was_taken => {
                        *was_taken = true;
                        return Ok(());
                    }
                    Some(Reply::Returned(result)) => Ok(Arc::new(result)),
                    Some(Reply::Panicked(panic)) => {
                        self.survived.own = Some(panic.clone());
                        Err(JobError::Panicked(panic))
                    }
                    Some(Reply::ArgumentsRefused(reason)) => Err(JobError::Arguments(reason)),
                    Some(Reply::ResultRefused(reason)) => Err(JobError::Result(reason)),
                    Some(Reply::Survived(panics)) => {
                        self.survived = panics;
                        return Ok(());
                    }
                    // No worker sends this here.
                    Some(Reply::Ready | Reply::Taken | Reply::InitializerFailed(_)) | None => return Err(Died),
                };
                ended.push((chunk.pop_front().ok_or(Died)?, outcome));
                Ok(())
            });
            shared.finish(ended);
            taken?;
        }
        Ok(())
    }

    fn send(&mut self, mut messages: &[&[u8]]) -> Result<(), Died> {
        while !messages.is_empty() {
            // A message that is too large was refused when it was submitted.
            let count = self.pipe.tx.send_many(messages).map_err(|_| Died)?;
            messages = messages.get(count..).unwrap_or_default();
        }
        Ok(())
    }

    /// Receives what a worker tells after its initializer, which may take as long as it likes.
    /// `None`: the worker is not needed any more.
    ///
    /// An error that is no death ends the worker as well: what it says next has no meaning.
    fn receive_first(&mut self, shared: &Shared) -> Result<Option<Reply>, Died> {
        let mut message = Vec::new();
        loop {
            match self.pipe.recv_timeout(&mut message, IDLE_CHECK) {
                Ok(_) => return Reply::decode(message).map(Some).ok_or(Died),
                Err(RecvError::TimedOut) if shared.needs_worker() => {}
                Err(RecvError::TimedOut) => return Ok(None),
                Err(_) => return Err(Died),
            }
        }
    }

    fn reap(&self) -> Result<(), ProcessError> {
        reap(&self.process)
    }

    fn kill(&self) {
        let _ = self.process.kill();
        let _ = self.process.join();
    }

    /// Returns how a worker has ended that got no job.
    fn reason(&self) -> String {
        self.reap().map_or_else(|error| error.to_string(), |()| "a worker exited by itself".to_string())
    }

    fn death(&self) -> WorkerDeath {
        let panic = match self.reap() {
            // The report has the last panics, also those that did not end the worker.
            Err(ProcessError::Panicked(panic)) if !self.has_survived(&panic) => Some(panic),
            _ => None,
        };
        WorkerDeath { status: self.process.exit_status(), panic, attempts: 0 }
    }

    fn has_survived(&self, panic: &Panic) -> bool {
        let LastPanics { own, other } = &self.survived;
        [own, other].into_iter().flatten().any(|survived| survived == panic)
    }

    /// Ends a worker that waits for jobs.
    fn retire(self) {
        let Self { process, pipe, .. } = self;
        drop(pipe);
        let _ = reap(&process);
    }
}

/// Waits for a worker that ends, or whose end of the pipe is closed. One that lives on is killed.
fn reap(process: &Process) -> Result<(), ProcessError> {
    if let Err(ProcessError::TimedOut) = process.join_timeout(END_PATIENCE) {
        let _ = process.kill();
    }
    process.join()
}
