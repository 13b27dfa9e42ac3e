//! How a pool is made.

use std::fmt;
use std::process::Termination;
use std::sync::{Arc, Mutex};
use std::thread;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};
use crate::pipe::BytePipe;
use crate::process::function::Located;
use crate::process::init::entrance;
use crate::process::pool::shared::{Settings, Shared};
use crate::process::pool::worker::{self, InitializerArguments};
use crate::process::pool::{ProcessPool, supervisor};
use crate::process::{self, Process};
use crate::sys::signals::{SignalMask, without_signals};

const ACTION: &str = "build a process pool";

const DEFAULT_MAX_ATTEMPTS: u32 = 3;

/// How many processes Linux can have at once.
const MAX_PROCESSES: u64 = 1 << 22;

/// Spawns a worker with these options.
type SpawnWorker = Box<dyn Fn(process::Builder, BytePipe) -> Result<Process> + Send + Sync>;

/// Options of a pool of processes.
///
/// # Examples
/// ```
/// use tombolo::process::{self, pool};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     process::init();
///     let pool = pool::Builder::new()
///         .processes(2)
///         .worker_options(|index| process::Builder::new().name(format!("worker {index}")))
///         .initializer(|text: String| assert_eq!(text, "once in each worker"), "once in each worker".into())
///         .max_jobs_per_worker(1000)
///         .max_attempts(1) // a job whose worker dies is reported at once
///         .build()?;
///     assert_eq!(pool.submit(|number: u64| number + 1, 1).join()?, 2);
///     Ok(())
/// }
/// ```
#[must_use = "there is no pool until `build` is called"]
pub struct Builder {
    processes: Option<usize>,
    max_jobs_per_worker: Option<u64>,
    max_attempts: u32,
    worker_options: Box<dyn Fn(usize) -> process::Builder + Send + Sync>,
    spawn: SpawnWorker,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// As many workers as the processors that this process may use, each with default options.
    pub fn new() -> Self {
        Self {
            processes: None,
            max_jobs_per_worker: None,
            max_attempts: DEFAULT_MAX_ATTEMPTS,
            worker_options: Box::new(|_| process::Builder::new()),
            spawn: Box::new(|options, pipe| options.spawn(worker::serve::<(), ()>, (pipe, None))),
        }
    }

    /// Sets how many workers there are.
    pub fn processes(mut self, processes: usize) -> Self {
        self.processes = Some(processes);
        self
    }

    /// Sets the options of each worker: name, environment, directory, streams. The closure gets the
    /// index of the worker, from 0. One that replaces another has the same index.
    ///
    /// Workers are always [daemons](process::Builder::daemon). Nobody has the other end of a stream
    /// that is made a pipe: choose `inherit`, `null` or a file.
    pub fn worker_options(mut self, options: impl Fn(usize) -> process::Builder + Send + Sync + 'static) -> Self {
        self.worker_options = Box::new(options);
        self
    }

    /// Has each new worker run `function(arguments)` before its first job. Jobs find what it has
    /// put in statics of the program.
    ///
    /// Namespaces and objects may be among the arguments, and all workers share them. Endpoints may
    /// not: an endpoint has one owner.
    ///
    /// If it panics or returns an error the pool ends: all jobs get
    /// [`PoolFailed`](super::JobError::PoolFailed).
    pub fn initializer<A, R>(mut self, function: fn(A) -> R, arguments: A) -> Self
    where
        A: Serialize + DeserializeOwned + Send + Sync + 'static,
        R: Termination + 'static,
    {
        let arguments = Arc::new(arguments);
        self.spawn = Box::new(move |options, pipe| {
            let arguments = InitializerArguments(Arc::clone(&arguments));
            options.spawn(worker::serve::<A, R>, (pipe, Some((Located(function), arguments))))
        });
        self
    }

    /// Has a worker replaced after it has run `jobs` jobs, so that what they leak does not pile up.
    /// A chunk that is larger is divided.
    pub fn max_jobs_per_worker(mut self, jobs: u64) -> Self {
        self.max_jobs_per_worker = Some(jobs);
        self
    }

    /// Sets how often a job is begun whose workers die: 3 by default. With 1 a job runs at most
    /// once, and the death of its worker is its result. Ten workers, or that number if it is more,
    /// may die before they begin the job.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// Makes the pool. Its workers start.
    ///
    /// They block the signals that the calling thread blocks now. They are in the process group of
    /// this process, so what a terminal sends reaches them, too: Ctrl-C kills workers, unless the
    /// initializer sets a handler.
    ///
    /// # Blocking
    /// Never. That workers cannot start is the result of the jobs.
    ///
    /// # Errors
    /// - [`NotInitialised`](ErrorKind::NotInitialised) if `main` has not called
    ///   [`init`](process::init).
    /// - [`InvalidOptions`](ErrorKind::InvalidOptions) if a number is 0, or if Linux cannot have so
    ///   many processes.
    /// - [`Permission`](ErrorKind::Permission), as for [`Process::spawn`].
    /// - [`Io`](ErrorKind::Io) and others of the operating system: no threads.
    pub fn build(self) -> Result<ProcessPool> {
        entrance()?;
        let processes = match self.processes {
            Some(processes) => processes,
            None => thread::available_parallelism().map_or(1, usize::from),
        };
        let options = [("processes", processes as u64), ("max_attempts", u64::from(self.max_attempts))]
            .into_iter()
            .chain(self.max_jobs_per_worker.map(|jobs| ("max_jobs_per_worker", jobs)));
        for (option, number) in options {
            let expected = match option {
                _ if number == 0 => "1 or more",
                "processes" if number > MAX_PROCESSES => "a number of processes that Linux can have, up to 2^22",
                _ => continue,
            };
            let found = format_args!("{option}: {number}");
            return Err(Error::new(ErrorKind::InvalidOptions, ACTION, found, expected, "set another number"));
        }
        let Self { worker_options, spawn, .. } = self;
        let signals = SignalMask::current();
        let shared = Arc::new(Shared::new(Settings {
            // The threads of the pool block all signals.
            start: Box::new(move |index, pipe| signals.during(|| spawn(worker_options(index).daemon(true), pipe))),
            processes,
            max_jobs_per_worker: self.max_jobs_per_worker,
            max_attempts: self.max_attempts,
        }));
        let mut pool = ProcessPool { shared: Arc::clone(&shared), threads: Mutex::default() };
        for index in 0..processes {
            let shared = Arc::clone(&shared);
            shared.thread_begins();
            let run = {
                let shared = Arc::clone(&shared);
                move || supervisor::run(&shared, index)
            };
            let builder = thread::Builder::new().name(format!("pool-worker-{index}"));
            match without_signals(|| builder.spawn(run)) {
                Ok(thread) => pool.add_thread(thread),
                Err(error) => {
                    shared.thread_ends(None);
                    // The pool is dropped, which ends the others.
                    return Err(Error::io(ACTION, error, "build a pool of fewer processes"));
                }
            }
        }
        Ok(pool)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("processes", &self.processes)
            .field("max_jobs_per_worker", &self.max_jobs_per_worker)
            .field("max_attempts", &self.max_attempts)
            .finish_non_exhaustive()
    }
}
