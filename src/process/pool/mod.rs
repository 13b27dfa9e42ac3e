//! A pool of processes that run jobs: functions of this program.
//!
//! ```
//! use tombolo::process::{self, ProcessPool};
//!
//! fn count_primes(limit: u32) -> usize {
//!     (2..limit).filter(|n| (2..*n).all(|d| n % d != 0)).count()
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     process::init(); // first in main: in a worker, this runs the jobs and exits
//!
//!     let pool = ProcessPool::new()?;
//!     for count in pool.map(count_primes, [10, 100, 1000]) {
//!         println!("{}", count?);
//!     }
//!     let job = pool.submit(count_primes, 20);
//!     assert_eq!(job.join()?, 8);
//!     Ok(())
//! }
//! ```
//!
//! # Jobs
//!
//! A job is any `fn` of the main program with one argument, or a closure that captures nothing.
//! Several arguments are a tuple. Argument and result are values that serde can serialise and
//! deserialise, up to 1 GiB each. They own what they hold: no `&str`, no `&Path`, no other
//! references. So give `map` an iterator of values, and clone or move what you have.
//! Endpoints, namespaces and objects cannot be among them: pass namespaces and objects to the
//! [initializer](Builder::initializer), or open them by name.
//!
//! A job that returns a `Result` has two: of the pool, and within it of the function.
//!
//! ```
//! use tombolo::process::{self, ProcessPool};
//!
//! fn parse((text, radix): (String, u32)) -> Result<u64, String> {
//!     u64::from_str_radix(&text, radix).map_err(|error| error.to_string())
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     process::init();
//!
//!     let pool = ProcessPool::new()?;
//!     let texts = ["ff".to_string(), "none".to_string()];
//!     for result in pool.map(parse, texts.iter().map(|text| (text.clone(), 16))) {
//!         match result? {
//!             Ok(number) => assert_eq!(number, 255),
//!             Err(reason) => println!("not a number: {reason}"),
//!         }
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # What can go wrong
//!
//! Each job ends with its result or a [`JobError`].
//!
//! - Dropping the pool kills jobs that were submitted. [`join`](ProcessPool::join) it, or their
//!   handles, first.
//! - A job that runs cannot be stopped and has no time limit. Only
//!   [`terminate`](ProcessPool::terminate) and a drop of the pool end it.
//! - A job that panics ends with that panic. Its worker goes on. (With `panic = "abort"` it dies.)
//! - A worker that dies, however that happens, is replaced. The job that it ran is given to another
//!   one: a job can run more than once, and its result comes once. A job whose workers die
//!   [three times](Builder::max_attempts) ends with [`WorkerDied`](JobError::WorkerDied). The rest
//!   of its chunk does not wait for it.
//! - A stopped worker keeps its jobs. The others go on.
//! - An initializer that fails, and workers that cannot be started, end the pool: see
//!   [`PoolFailed`](JobError::PoolFailed). So do workers that end by themselves, eight in a row,
//!   before they get a job. If only some cannot be started the others do the work.
//! - If this process ends or is killed, the kernel kills the workers.
//!
//! # How it works
//!
//! The jobs wait in memory of this process. Each worker has a pipe of its own, and a thread of this
//! process that sends it a chunk of jobs and receives the results. So nothing that a worker does
//! holds up another one.

mod builder;
mod error;
mod handle;
mod map;
mod message;
mod results;
mod shared;
mod supervisor;
mod worker;

use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Result;
use crate::interrupt::Interrupts;
use crate::process::function::JobFunction;
use crate::sys::clock::{Deadline, deadline_after};

pub use builder::Builder;
pub use error::{JobError, WorkerDeath};
pub use handle::JobHandle;
pub use map::{Map, MapUnordered};

use results::Results;
use shared::{Chunk, Job, Shared};

/// A pool of processes that run functions of this program. See the [module](self).
///
/// All methods can be called from any thread. Dropping the pool [terminates](Self::terminate) it.
pub struct ProcessPool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What a pool has done so far, and has yet to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Jobs that no worker has.
    pub waiting: u64,
    /// Jobs that were given to workers and have not ended.
    pub running: u64,
    /// Jobs that have returned a result.
    pub succeeded: u64,
    /// Jobs that have ended with another error than `Cancelled`.
    pub failed: u64,
    /// Jobs that were cancelled.
    pub cancelled: u64,
    /// How often a job was given back because its worker had died.
    pub redelivered: u64,
    /// Workers that were ready and have died.
    pub workers_died: u64,
    /// Workers that have ended after [`max_jobs_per_worker`](Builder::max_jobs_per_worker).
    pub workers_retired: u64,
}

impl ProcessPool {
    /// Makes a pool with the default options of a [`Builder`]. Fails like [`Builder::build`].
    pub fn new() -> Result<Self> {
        Builder::new().build()
    }

    /// Submits one job: `function(arguments)`.
    ///
    /// # Blocking
    /// Never. What cannot run has an error as its result.
    pub fn submit<A, R>(&self, function: fn(A) -> R, arguments: A) -> JobHandle<R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let results = Arc::new(Results::new());
        match map::encode(&JobFunction::locate(function), &arguments) {
            Ok(message) => _ = self.shared.enqueue(Chunk::from([Job::new(message, &results, 0)])),
            Err(error) => results.push([(0, Err(error))]),
        }
        JobHandle { shared: Arc::clone(&self.shared), results, result: PhantomData }
    }

    /// Returns an iterator of the results of `function` for all `inputs`, in order.
    ///
    /// It takes of `inputs` only what may be [in flight](Map::in_flight), so they can be endless.
    /// An error is that of one job, and the next job follows. If the pool ends meanwhile, the
    /// iterator returns the error of each job that was submitted, and ends.
    ///
    /// # Examples
    /// ```
    /// use tombolo::process::{self, ProcessPool, pool::JobError};
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     process::init();
    ///     let pool = ProcessPool::new()?;
    ///     let squares: Result<Vec<u64>, JobError> = pool.map(|n: u64| n * n, 0..).take(4).collect();
    ///     assert_eq!(squares?, [0, 1, 4, 9]);
    ///     Ok(())
    /// }
    /// ```
    pub fn map<A, R, I>(&self, function: fn(A) -> R, inputs: I) -> Map<'_, I::IntoIter, A, R>
    where
        I: IntoIterator<Item = A>,
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        Map::new(&self.shared, function, inputs.into_iter())
    }

    /// Like [`map`](Self::map), but returns each result as soon as there is one, with the number of
    /// its input.
    pub fn map_unordered<A, R, I>(&self, function: fn(A) -> R, inputs: I) -> MapUnordered<'_, I::IntoIter, A, R>
    where
        I: IntoIterator<Item = A>,
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        MapUnordered::new(&self.shared, function, inputs.into_iter())
    }

    /// Returns what the pool has done so far. In a forked child of this process: zeros.
    pub fn stats(&self) -> PoolStats {
        if self.shared.is_from_this_process() { self.shared.stats() } else { PoolStats::default() }
    }

    /// Returns the pids of the workers that there are now. A worker may end at any time, and
    /// another process then get its pid.
    pub fn pids(&self) -> Vec<u32> {
        if self.shared.is_from_this_process() { self.shared.workers() } else { Vec::new() }
    }

    /// Accepts no more jobs. Those that were submitted run, and then the workers end.
    pub fn close(&self) {
        if self.shared.is_from_this_process() {
            self.shared.close();
        }
    }

    /// Closes the pool and blocks until all jobs and all workers have ended.
    ///
    /// # Blocking
    /// As long as the jobs take. Without end if a worker is stopped that has one.
    ///
    /// # Errors
    /// [`PoolFailed`](JobError::PoolFailed) if the pool has failed, and
    /// [`Forked`](JobError::Forked). After [`terminate`](Self::terminate) there is none, although
    /// jobs may have been killed: errors of jobs are with the jobs.
    pub fn join(&self) -> Result<(), JobError> {
        self.join_until(None)
    }

    /// Like [`join`](Self::join), but returns [`TimedOut`](JobError::TimedOut) after `timeout`. The
    /// pool is closed then, and its jobs run on.
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), JobError> {
        self.join_until(deadline_after(timeout))
    }

    fn join_until(&self, deadline: Deadline) -> Result<(), JobError> {
        if !self.shared.is_from_this_process() {
            return Err(JobError::Forked);
        }
        self.shared.close();
        self.wait(deadline, &Interrupts::of_this_thread())
    }

    /// Kills all workers, stopped ones, too, and blocks until they are gone. Jobs that have not
    /// ended end with [`Closed`](JobError::Closed).
    pub fn terminate(&self) {
        if self.shared.is_from_this_process() {
            self.shared.end(JobError::Closed);
            let _ = self.wait(None, &Interrupts::NONE);
        }
    }

    fn wait(&self, deadline: Deadline, interrupts: &Interrupts) -> Result<(), JobError> {
        let outcome = self.shared.wait_for_threads(deadline, interrupts);
        if !matches!(outcome, Err(JobError::TimedOut | JobError::Interrupted)) {
            // They have nothing more to do. Nothing in here panics under the lock.
            for thread in mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner)) {
                let _ = thread.join();
            }
        }
        outcome
    }

    fn add_thread(&mut self, thread: JoinHandle<()>) {
        self.threads.get_mut().unwrap_or_else(PoisonError::into_inner).push(thread);
    }
}

impl Drop for ProcessPool {
    fn drop(&mut self) {
        if self.shared.is_from_this_process() {
            self.terminate();
        } else {
            // A forked child has no such threads, so it must not detach them.
            mem::forget(mem::take(self.threads.get_mut().unwrap_or_else(PoisonError::into_inner)));
        }
    }
}

impl fmt::Debug for ProcessPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessPool").field("processes", &self.shared.settings.processes).finish_non_exhaustive()
    }
}
