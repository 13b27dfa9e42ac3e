//! How a process is spawned.
//!
//! Crash: the steps are labelled, those of the child in `init.rs` and `sys/child.rs`, too.
//! docs/failure.md says what each leaves behind.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, Stdio, Termination};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};
use crate::process::function::Function;
use crate::process::handle::Child;
use crate::process::init::{VARIABLE, entrance};
use crate::process::start::{PID, Start};
use crate::process::{Process, reaper};
use crate::spawn::Transfer;
use crate::sys::child::{self, Preparation, prepare};
use crate::sys::file;
use crate::sys::fork::{self, ForkGuardedFd};
use crate::sys::posix_spawn::{self, Program};
use crate::sys::process::describe_fd;
use crate::transfer;

/// Where the program is that this process runs, also if another one has its name by now.
const PROGRAM: &str = "/proc/self/exe";

/// Options of a process that is to be spawned: those of [`Command`], a name, and whether it is a
/// daemon.
///
/// With options of [`stdin`](Self::stdin), [`stdout`](Self::stdout), [`stderr`](Self::stderr) or
/// [`command`](Self::command) this process is forked for a moment. That takes longer the more
/// memory it has, tens of milliseconds for each GiB. Otherwise memory does not matter, except in a
/// program that is linked statically, as for the targets of musl: it always forks.
///
/// # Examples
/// ```
/// use std::io::Read;
/// use std::process::Stdio;
/// use tombolo::process;
///
/// fn greet(name: String) {
///     println!("hello {name}");
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     process::init();
///     let builder = process::Builder::new().name("greeter").env("LANG", "C").stdout(Stdio::piped());
///     let mut greeter = builder.spawn(greet, "world".to_string())?;
///     let mut text = String::new();
///     greeter.stdout.take().expect("a pipe").read_to_string(&mut text)?;
///     assert_eq!(text, "hello world\n");
///     greeter.join()?;
///     Ok(())
/// }
/// ```
#[must_use = "nothing runs until `spawn` is called"]
pub struct Builder {
    command: Command,
    name: Option<String>,
    is_daemon: bool,
    clears_environment: bool,
    /// It has options that only `Command` can carry out, which forks then.
    needs_fork: bool,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// Streams, environment and directory are those of this process.
    pub fn new() -> Self {
        Self {
            command: Command::new(PROGRAM),
            name: None,
            is_daemon: false,
            clears_environment: false,
            needs_fork: false,
        }
    }

    /// Names the process, for [`Process::name`], and for `ps` and `top`, which show 15 bytes.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Whether the process is killed when this process is gone, however that ends: it exits, is
    /// killed, or becomes another program. The end of the thread that spawned it does not matter.
    ///
    /// The kernel sends SIGKILL, to a stopped daemon, too, and once `spawn` has returned also
    /// before the daemon has called [`init`](super::init). Two things undo this: a daemon that
    /// closes all descriptors, and a fork of this process by a raw `clone` that outlives it. If
    /// this process closes all its descriptors, its daemons are killed.
    pub fn daemon(mut self, is_daemon: bool) -> Self {
        self.is_daemon = is_daemon;
        self
    }

    /// As [`Command::env`].
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// As [`Command::envs`].
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(mut self, variables: impl IntoIterator<Item = (K, V)>) -> Self {
        self.command.envs(variables);
        self
    }

    /// As [`Command::env_remove`].
    pub fn env_remove(mut self, key: impl AsRef<OsStr>) -> Self {
        self.command.env_remove(key);
        self
    }

    /// As [`Command::env_clear`].
    pub fn env_clear(mut self) -> Self {
        self.command.env_clear();
        self.clears_environment = true;
        self
    }

    /// As [`Command::current_dir`].
    pub fn current_dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// As [`Command::stdin`]. Of a pipe the other end is in [`Process::stdin`].
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.command.stdin(stdin);
        self.needs_fork = true;
        self
    }

    /// As [`Command::stdout`]. Of a pipe the other end is in [`Process::stdout`].
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.command.stdout(stdout);
        self.needs_fork = true;
        self
    }

    /// As [`Command::stderr`]. Of a pipe the other end is in [`Process::stderr`].
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.command.stderr(stderr);
        self.needs_fork = true;
        self
    }

    /// Returns the command, for the options of
    /// [`CommandExt`](std::os::unix::process::CommandExt): user, group, process group, `pre_exec`.
    /// Its program and its arguments are set by [`spawn`](Self::spawn).
    pub fn command(&mut self) -> &mut Command {
        self.needs_fork = true;
        &mut self.command
    }

    /// Runs `function(arguments)` in a new process. See [`Process::spawn`], which has the default
    /// options.
    pub fn spawn<A, R>(self, function: fn(A) -> R, arguments: A) -> Result<Process>
    where
        A: Serialize + DeserializeOwned,
        R: Termination,
    {
        let function = Function::locate(function)?;
        let (bytes, transfers) = transfer::encode(&arguments)?; // spawn-1
        let spawned = self.start(function, bytes, transfers);
        // Only now: what was not passed has been taken back, and is closed as any endpoint.
        drop(arguments);
        spawned
    }

    fn start(mut self, function: Function, arguments: Vec<u8>, mut transfers: Vec<Transfer>) -> Result<Process> {
        const ACTION: &str = "spawn a process";
        let remedy = "see whether /proc is mounted and the directory exists, and what this process may do";
        let failed = |error| Error::io(ACTION, error, remedy);
        let test = entrance()?.test;
        if self.name.as_ref().is_some_and(|name| name.contains('\0')) {
            return Err(Error::new(
                ErrorKind::InvalidName,
                ACTION,
                format_args!("the name {:?}", self.name.unwrap_or_default()),
                "one without zero bytes",
                "choose another name",
            ));
        }
        reaper::sweep();

        let daemon = if self.is_daemon { Some(Daemon::new().map_err(failed)?) } else { None };
        // The test harness writes lines of its own before it calls `init`. If standard output is
        // closed here, there is nothing to keep them from.
        let null = || file::above_streams(File::options().write(true).open("/dev/null")?.into());
        let silenced = test
            .filter(|_| file::metadata(io::stdout()).is_ok())
            .map(|_| Ok((null()?, null()?)))
            .transpose()
            .map_err(failed)?;
        let stdout = silenced.as_ref().map(|(null, stdout)| (null.as_raw_fd(), stdout.as_raw_fd()));
        let killed_by = daemon.as_ref().map(|daemon| daemon.child.as_raw_fd());
        let descriptors = transfers.iter().map(|transfer| describe_fd(transfer.file()));
        let start = Start {
            function,
            name: self.name.clone(),
            descriptors: descriptors.collect::<io::Result<_>>().map_err(failed)?,
            killed_by: daemon.as_ref().map(|daemon| describe_fd(&daemon.child)).transpose().map_err(failed)?,
            stdout: stdout.map(|(_, stdout)| stdout),
            arguments,
        };
        let file = ForkGuardedFd::new(|| child::create_report("tombolo-process")).map_err(failed)?;
        start.write(&file)?; // spawn-2

        let guarded = transfers.iter().map(Transfer::file).chain([&file]).map(|file| file.as_fd().as_raw_fd());
        let keep: Vec<_> = guarded.collect();
        self.command.arg0(own_name()).env(VARIABLE, describe_fd(&file).map_err(failed)?);
        if let Some(test) = test {
            self.command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
        }
        // In here spawn-3, the child is there, and spawn-4, it has executed the program.
        let spawned = match self.posix_spawn(&keep, killed_by, stdout).map_err(failed)? {
            Some(pid) => {
                // If this process is killed before, the child does the second by itself.
                let _ = file::write_word_at(&file, u64::from(pid), PID);
                let _ = killed_by.map(|pipe| child::is_killed_at_hang_up(pipe, pid));
                Spawned { pid, stdin: None, stdout: None, stderr: None }
            }
            None => {
                let pid_file = file.as_fd().as_raw_fd();
                prepare(&mut self.command, Preparation { keep: keep.clone(), pid_file, killed_by, stdout });
                fork::keeping(&keep, || self.command.spawn()).map_err(failed)?.into()
            }
        };
        let child = Child::new(spawned.pid, daemon.map(|daemon| daemon.parent));
        let child = child.inspect_err(|_| child::kill_and_wait(spawned.pid)).map_err(failed)?;
        transfers.iter_mut().for_each(Transfer::complete);
        drop(transfers); // spawn-5
        Ok(Process::new(self.name, child, file, spawned))
    }

    /// Starts the program without a fork, and returns its pid. `None` if that cannot be done.
    fn posix_spawn(
        &self,
        keep: &[RawFd],
        killed_by: Option<RawFd>,
        stdout: Option<(RawFd, RawFd)>,
    ) -> io::Result<Option<u32>> {
        if self.needs_fork || child::has_children_elsewhere() {
            return Ok(None);
        }
        let mut environment = BTreeMap::new();
        if !self.clears_environment {
            environment.extend(env::vars_os());
        }
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => environment.insert(name.to_os_string(), value.to_os_string()),
                None => environment.remove(name),
            };
        }
        let text = |bytes: &[u8]| CString::new(bytes).map_err(io::Error::from);
        let texts =
            environment.into_iter().map(|(name, value)| text(&[name.as_bytes(), b"=", value.as_bytes()].concat()));
        let environment = texts.collect::<io::Result<Vec<_>>>()?;
        let name = own_name();
        let arguments = [name.as_os_str()].into_iter().chain(self.command.get_args());
        let arguments = arguments.map(|argument| text(argument.as_bytes())).collect::<io::Result<Vec<_>>>()?;
        let directory = self.command.get_current_dir();
        let directory = directory.map(|directory| text(directory.as_os_str().as_bytes())).transpose()?;
        posix_spawn::posix_spawn(&Program {
            path: &text(PROGRAM.as_bytes())?,
            arguments: &arguments,
            environment: &environment,
            directory: directory.as_deref(),
            keep: &keep.iter().copied().chain(killed_by).collect::<Vec<_>>(),
            stdout,
        })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("name", &self.name)
            .field("is_daemon", &self.is_daemon)
            .field("command", &self.command)
            .finish()
    }
}

/// How this program was called.
fn own_name() -> OsString {
    env::args_os().next().unwrap_or_else(|| PROGRAM.into())
}

/// A child that has executed the program.
pub(super) struct Spawned {
    pub(super) pid: u32,
    pub(super) stdin: Option<ChildStdin>,
    pub(super) stdout: Option<ChildStdout>,
    pub(super) stderr: Option<ChildStderr>,
}

impl From<std::process::Child> for Spawned {
    fn from(child: std::process::Child) -> Self {
        Self { pid: child.id(), stdin: child.stdin, stdout: child.stdout, stderr: child.stderr }
    }
}

/// A pipe by whose hang-up a daemon is killed.
struct Daemon {
    child: OwnedFd,
    parent: ForkGuardedFd,
}

impl Daemon {
    fn new() -> io::Result<Self> {
        let mut child = None;
        let parent = ForkGuardedFd::new(|| {
            let (reader, writer) = io::pipe()?;
            child = Some(file::above_streams(reader.into())?);
            Ok(writer.into())
        })?;
        Ok(Self { child: child.ok_or(io::ErrorKind::NotFound)?, parent })
    }
}
