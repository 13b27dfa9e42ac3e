//! Functions of this program that run in processes of their own.
//!
//! ```
//! use tombolo::pipe::{self, Sender};
//! use tombolo::process::{self, Process};
//!
//! fn square((mut tx, number): (Sender<u64>, u64)) {
//!     let _ = tx.send(number * number);
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     process::init(); // first in main: in a child, this calls the function and exits
//!
//!     let (tx, mut rx) = pipe::Options::<u64>::new().create()?;
//!     let worker = Process::spawn(square, (tx, 12))?;
//!     assert_eq!(rx.recv()?, 144);
//!     worker.join()?;
//!     Ok(())
//! }
//! ```
//!
//! # What happens
//!
//! The program is executed again. No thread and no lock of this process is copied. `main` runs up
//! to [`init`], which calls the function and exits. The child executes the very file that this
//! process runs, even if another one has its name by now, and compares the builds before it calls
//! anything.
//!
//! # Functions
//!
//! A function is any `fn` of the main program with one argument, or a closure that captures
//! nothing. Several arguments are a tuple. Functions of shared libraries are refused.
//!
//! A function returns what `main` can: nothing, a `Result`, an
//! [`ExitCode`](std::process::ExitCode). Other results go through a pipe or a queue.
//!
//! # Arguments
//!
//! The arguments are values that serde can serialise and deserialise, in the format of postcard, of
//! any length. (serde takes a `Vec<u8>` byte by byte; `serde_bytes` is faster.) Endpoints of pipes,
//! queues and broadcasts, namespaces and objects may be among them, at any depth. An endpoint moves
//! to the child, and the peer never mistakes that for a death: see
//! [`spawn`](crate::spawn#what-the-peer-sees). If an `Arc` among the arguments keeps a handle of it
//! here, calls on that return [`Passed`](crate::SendError::Passed). The child has the endpoints
//! with default options; for others pass a name. If the process cannot be spawned they are closed,
//! or stay with the handle that was kept. A child that cannot deserialise its arguments does not
//! call the function, and [`Process::join`] returns why. To a process that runs already such values
//! go by `give_object` of a connection, with the feature `connection`.
//!
//! # How it ends
//!
//! - [`Process::join`] returns `Ok` if the exit code is 0, and otherwise what happened. A panic
//!   comes back with its message and place. Of an `Err` that the function has returned only the
//!   exit code comes back, 1: its text is on the standard error of the child.
//! - A [`Process`] that is dropped runs on. It does not become a zombie.
//! - When this process ends, its children run on, unless they are
//!   [daemons](Builder::daemon). (Python's `multiprocessing` would wait for them.) Join those that
//!   must finish.
//!
//! # Tests
//!
//! In a test binary `main` is the test harness, so a test calls [`init`]. Write this once, anywhere
//! in the binary, and spawn from any test:
//!
//! ```
//! tombolo::process::init_in_tests!();
//!
//! #[test]
//! fn worker_finishes() {
//!     fn work(number: u64) {
//!         assert_eq!(number, 7);
//!     }
//!     tombolo::process::Process::spawn(work, 7).unwrap().join().unwrap();
//! }
//! ```
//!
//! A binary with `harness = false` calls [`init`] in its `main`, as a program does.
//!
//! # Other programs
//!
//! A child that is another program gets endpoints by
//! [`CommandExt::pass`](crate::spawn::CommandExt).

#![allow(clippy::test_attr_in_doctest, reason = "it shows how a test spawns")]

mod builder;
mod error;
mod function;
mod handle;
mod init;
#[cfg(feature = "async")]
mod join;
pub mod pool;
mod reaper;
mod report;
mod start;
mod wakers;

use std::fmt;
#[cfg(feature = "async")]
use std::future::Future;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{ChildStderr, ChildStdin, ChildStdout, ExitStatus, Termination};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::interrupt::Interrupts;
use crate::sys::clock::{Deadline, deadline_after};
use crate::sys::fork::ForkGuardedFd;
use crate::wait::Timeout;

pub use builder::Builder;
pub use error::{Panic, ProcessError};
pub use init::init;
#[doc(hidden)]
pub use init::register_test;
pub use pool::ProcessPool;

use builder::Spawned;
use handle::{Child, Wait};
use report::{Place, State};

/// Lets the children of a test binary in. Write it once, anywhere in the binary.
///
/// It is a test, which calls [`init`](crate::process::init), and an initialiser, which tells
/// [`Process::spawn`](crate::process::Process::spawn) how the harness runs that test. What the
/// harness prints before that does not reach the standard output of the child.
#[macro_export]
#[doc(hidden)]
macro_rules! __init_in_tests {
    () => {
        #[test]
        fn tombolo_process() {
            $crate::process::init();
        }

        const _: () = {
            extern "C" fn register() {
                $crate::process::register_test(::core::concat!(::core::module_path!(), "::tombolo_process"));
            }

            #[used]
            // SAFETY: the C library calls what is here as a C function, which may ignore its
            // arguments, and this one needs nothing of Rust's runtime.
            #[unsafe(link_section = ".init_array")]
            static AT_LOAD: extern "C" fn() = register;
        };
    };
}

#[doc(inline)]
pub use __init_in_tests as init_in_tests;

/// A process that runs a function of this program.
///
/// All methods can be called from any thread, and several threads can wait at once. Dropping it
/// does not end the process.
pub struct Process {
    name: Option<String>,
    pid: u32,
    /// None only while it is dropped.
    child: Option<Child>,
    /// What the child reports.
    file: ForkGuardedFd,
    ended: Mutex<Option<Ended>>,
    /// The child's standard input, if the builder made it a pipe.
    pub stdin: Option<ChildStdin>,
    /// The child's standard output, if the builder made it a pipe.
    pub stdout: Option<ChildStdout>,
    /// The child's standard error, if the builder made it a pipe.
    pub stderr: Option<ChildStderr>,
}

/// What is known of a process that has ended.
#[derive(Clone, Debug)]
struct Ended {
    status: Option<ExitStatus>,
    outcome: Result<(), ProcessError>,
}

impl Process {
    /// Runs `function(arguments)` in a new process, with the default options of a [`Builder`].
    ///
    /// # Blocking
    /// Until the child executes the program. It waits for nothing that the child does then.
    ///
    /// # Errors
    /// - [`NotInitialised`](crate::ErrorKind::NotInitialised) if `main` has not called [`init`].
    /// - [`NotSerializable`](crate::ErrorKind::NotSerializable) if serde cannot serialise the
    ///   arguments.
    /// - [`InvalidOptions`](crate::ErrorKind::InvalidOptions) if the function is in a shared
    ///   library, or an endpoint among the arguments cannot be passed, as in
    ///   [`CommandExt::pass`](crate::spawn::CommandExt::pass).
    /// - [`Permission`](crate::ErrorKind::Permission) if this program has more rights than the user
    ///   that started it: the environment of its children is not to be trusted then.
    /// - [`Io`](crate::ErrorKind::Io) and others of the operating system: no process, no
    ///   descriptor, no memory, no `/proc`.
    ///
    /// The endpoints among the arguments are closed then. The function may have begun all the same
    /// if there was no descriptor for the new process; it is killed.
    pub fn spawn<A, R>(function: fn(A) -> R, arguments: A) -> Result<Self>
    where
        A: Serialize + DeserializeOwned,
        R: Termination,
    {
        Builder::new().spawn(function, arguments)
    }

    fn new(name: Option<String>, child: Child, file: ForkGuardedFd, spawned: Spawned) -> Self {
        let Spawned { pid, stdin, stdout, stderr } = spawned;
        Self { name, pid, child: Some(child), file, ended: Mutex::new(None), stdin, stdout, stderr }
    }

    /// The name that the builder gave it.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Its number. Once it has ended and was waited for, another process may get the same.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Blocks until the process has ended. Each call returns the same, however often it is called.
    ///
    /// A child that reads its standard input to the end waits for [`stdin`](Self::stdin) to be
    /// dropped, if that is a pipe. One that writes more than fits a pipe waits for its reader.
    ///
    /// When the descriptor of the process ([`AsFd`]) is readable, this returns at once.
    ///
    /// # Blocking
    /// Until the process has ended. A stopped process has not.
    ///
    /// # Errors
    /// Any exit code but 0 is one. See [`ProcessError`].
    pub fn join(&self) -> Result<(), ProcessError> {
        self.join_until(None)
    }

    /// Like [`join`](Self::join), but returns [`TimedOut`](ProcessError::TimedOut) after `timeout`.
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), ProcessError> {
        self.join_until(deadline_after(timeout))
    }

    /// Waits as [`join`](Self::join) does, without blocking the thread.
    ///
    /// Works with any executor, and beside other calls and futures that wait for the same process.
    /// One thread of this program, `tombolo-reaper`, watches all processes that futures wait for.
    /// It ends with the last of these processes. A future that is dropped changes nothing.
    ///
    /// # Errors
    /// Those of [`join`](Self::join), and [`Io`](ProcessError::Io) if there can be no such thread
    /// or no more descriptors.
    ///
    /// # Examples
    /// ```
    /// use tombolo::process::{self, Process};
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     process::init();
    ///     tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    ///         let worker = Process::spawn(|number: u64| assert_eq!(number, 7), 7)?;
    ///         worker.join_async().await?;
    ///         Ok(())
    ///     })
    /// }
    /// ```
    #[cfg(feature = "async")]
    #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
    pub fn join_async(&self) -> impl Future<Output = Result<(), ProcessError>> {
        join::Join::new(self)
    }

    fn join_until(&self, deadline: Deadline) -> Result<(), ProcessError> {
        let child = self.own_child()?;
        let interrupts = Interrupts::of_this_thread();
        while self.ended().is_none() {
            let until = interrupts.soon(deadline);
            let polled = child.poll(until, || interrupts.note_signal());
            if polled.map_err(|error| ProcessError::Io(error.kind()))? {
                break;
            }
            if Timeout::At(deadline).is_past() {
                return Err(ProcessError::TimedOut);
            }
            if interrupts.take() {
                return Err(ProcessError::Interrupted);
            }
        }
        // It has ended: the kernel has its status by now.
        self.ended().map_or(Err(ProcessError::StatusLost), |ended| ended.outcome)
    }

    /// Returns whether the process runs. A stopped process does. In a forked child of this process:
    /// false.
    pub fn is_alive(&self) -> bool {
        self.own_child().is_ok() && self.ended().is_none()
    }

    /// How the process has ended, if it has: its exit code or the signal that killed it. `None`
    /// also if something else has taken the status.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.ended()?.status
    }

    /// Asks the process to end, by SIGTERM. It may catch that. If the thread that spawned it had
    /// blocked SIGTERM, so has the process, and nothing happens until it unblocks it.
    ///
    /// # Errors
    /// - [`Forked`](crate::ErrorKind::Forked) in a forked child.
    /// - [`Permission`](crate::ErrorKind::Permission) if the process has become another user's.
    ///
    /// It is no error if it has ended. The signal reaches no other process.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// Kills the process, by SIGKILL. Fails like [`terminate`](Self::terminate).
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let action = || format!("send {signal:?} to process {}", self.pid);
        let child = self.own_child().map_err(|_| Error::forked(action()))?;
        child.signal(signal).map_err(|error| Error::io(action(), error, "see whose process it is"))
    }

    fn own_child(&self) -> Result<&Child, ProcessError> {
        self.child.as_ref().filter(|child| child.is_from_this_process()).ok_or(ProcessError::Forked)
    }

    /// What became of the process, if it has ended.
    fn ended(&self) -> Option<Ended> {
        let child = self.own_child().ok()?;
        // Nothing in here panics.
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.is_none() {
            let Wait::Ended(status) = child.try_wait() else { return None };
            *ended = Some(self.conclude(status));
        }
        ended.clone()
    }

    /// Reads the report of a child that has ended.
    fn conclude(&self, status: Option<ExitStatus>) -> Ended {
        let state = State::read(&self.file);
        let own_panic = || report::read_panic(&self.file, Place::Own);
        let is_aborted = status.is_some_and(|status| status.signal() == Some(libc::SIGABRT));
        let status = match (status, state) {
            (None, State::Returned(code)) => Some(ExitStatus::from_raw(i32::from(code) << 8)),
            (status, _) => status,
        };
        let panic = match state {
            State::Panicked => own_panic(),
            State::Aborting(place) if is_aborted => report::read_panic(&self.file, place),
            _ => None,
        };
        let outcome = match (status, state, panic) {
            (_, _, Some(panic)) => Err(ProcessError::Panicked(panic)),
            (_, State::Refused, _) => {
                Err(ProcessError::NotStarted(own_panic().map_or_else(String::new, |reason| reason.message)))
            }
            (None, ..) => Err(ProcessError::StatusLost),
            (Some(status), State::Spawned, _) if status.code().is_some() => Err(ProcessError::NotInitialised(status)),
            (Some(status), ..) if status.success() => Ok(()),
            (Some(status), ..) => Err(ProcessError::Failed(status)),
        };
        Ended { status, outcome }
    }
}

/// A pidfd. It is readable when the process has ended, so it can be polled together with others.
impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.as_ref().map_or(self.file.as_fd(), |child| child.pidfd().as_fd())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let is_watched = || self.own_child().is_ok_and(reaper::watches);
        if (self.is_alive() || is_watched())
            && let Some(child) = self.child.take()
        {
            reaper::take_over(child);
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("name", &self.name).field("pid", &self.pid).finish_non_exhaustive()
    }
}
