//! Who runs: this process's identity, and whether another's is still true.

#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

/// A process, told apart from a later one with the same number. `pid == 0` is nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) pid: u64,
    /// Clock ticks between boot and the start of the process.
    pub(crate) started: u64,
    /// The inode of its PID namespace: a pid means nothing outside.
    pub(crate) namespace: u64,
}

impl Identity {
    pub(crate) const NOBODY: Self = Self { pid: 0, started: 0, namespace: 0 };

    pub(crate) fn of_self() -> Self {
        let pid = u64::from(std::process::id());
        Self { pid, started: stat(pid).map_or(0, |stat| stat.started), namespace: own_namespace() }
    }

    /// True only if that very process provably runs: seen from the same namespace, started at the recorded
    /// time, and not already on its way out (an exiting process has given up its memory before its locks).
    pub(crate) fn provably_runs(self) -> bool {
        self.pid != 0
            && self.namespace != 0
            && self.namespace == own_namespace()
            && stat(self.pid).is_some_and(|stat| stat.started == self.started && stat.has_memory)
    }
}

struct Stat {
    started: u64,
    has_memory: bool,
}

/// Fields 22 (starttime) and 23 (vsize) of `/proc/PID/stat`, see proc(5).
fn stat(pid: u64) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name, field 2, is in parentheses and may itself hold spaces and parentheses.
    let mut rest = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let started = rest.nth(22 - 3)?.parse().ok()?;
    let has_memory = rest.next()? != "0";
    Some(Stat { started, has_memory })
}

fn own_namespace() -> u64 {
    // A process never changes its own PID namespace, and a forked child keeps its parent's answer
    // only if the namespace was not changed for children; those re-attach with their own record anyway.
    static NAMESPACE: OnceLock<u64> = OnceLock::new();
    *NAMESPACE.get_or_init(|| fs::metadata("/proc/self/ns/pid").map_or(0, |meta| meta.ino()))
}

/// Whether this program runs with more rights than whoever started it, who chose its environment: set-user-ID,
/// set-group-ID or capabilities of its file.
pub(crate) fn has_a_foreign_environment() -> bool {
    // SAFETY: reads a number that the kernel gave this process.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// The cores of the machine, not those that this thread may run on: a peer is elsewhere, however we are pinned.
pub(crate) fn online_cores() -> usize {
    // SAFETY: reads a number.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }).unwrap_or(1)
}

/// A number that no other living thread of this process has; never 0.
#[inline]
pub(crate) fn thread() -> u64 {
    thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| std::ptr::from_ref(here) as u64)
}

/// Makes the child of `command` keep these descriptors, and only the child: they stay close-on-exec here.
pub(crate) fn inherit(command: &mut Command, descriptors: Vec<RawFd>) {
    let keep = move || {
        for &descriptor in &descriptors {
            // SAFETY: fcntl is async-signal-safe; a bad number is an error, not a danger.
            if unsafe { libc::fcntl(descriptor, libc::F_SETFD, 0) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec it only calls fcntl.
    unsafe { command.pre_exec(keep) };
}

/// How a descriptor is announced to a child: its number, and which file it is.
pub(crate) fn inheritance(file: impl AsFd) -> io::Result<String> {
    let facts = rustix::fs::fstat(&file)?;
    Ok(format!("{}:{}:{}", file.as_fd().as_raw_fd(), facts.st_dev, facts.st_ino))
}

/// Takes ownership of a descriptor that this process inherited as announced; each once.
pub(crate) fn claim_inherited(announced: &str) -> Option<OwnedFd> {
    static CLAIMED: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

    let descriptor: RawFd = announced.split(':').next()?.parse().ok()?;
    let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: fcntl on a number; what it does not know it refuses.
    let flags = unsafe { libc::fcntl(descriptor, libc::F_GETFD) };
    // What this process opened itself is close-on-exec; what it inherited is not.
    if descriptor <= libc::STDERR_FILENO || flags < 0 || flags & libc::FD_CLOEXEC != 0 || claimed.contains(&descriptor)
    {
        return None;
    }
    // SAFETY: open, as just seen; borrowed for the question only.
    let file = unsafe { BorrowedFd::borrow_raw(descriptor) };
    if inheritance(file).ok()? != announced {
        return None; // the announcement was for our parent, and the number has come to mean something else
    }
    // SAFETY: as for F_GETFD.
    if unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return None;
    }
    claimed.insert(descriptor);
    // SAFETY: open, inherited for us, and claimed by nobody else here.
    Some(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
